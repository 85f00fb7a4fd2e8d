"""Units of attenuation: images are kept in 1/mm and shown in others."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pdip.errors import InputError

UNITS = ("1/mm", "1/cm", "HU")
WATER_20_KEV = 0.081
"""Attenuation of water in 1/mm (NIST XCOM: 0.8096 cm2/g); more is rarer than a value in 1/cm."""


@dataclass(frozen=True)
class Unit:
    """``value = scale · x + offset`` of an attenuation x in 1/mm; a std is scaled alone.

    Attributes:
        name: of :data:`UNITS`.
        scale, offset: of the linear map.

    Example:
        >>> Unit.of("1/cm")(0.02, 0.001)
        (0.2, 0.01)
        >>> Unit.of("HU", water=0.02)(0.02, 0.001)
        (0.0, 50.0)
    """

    name: str
    scale: float
    offset: float = 0.0

    @classmethod
    def of(cls, name: str, water: float | None = None) -> "Unit":
        """The unit of that name; ``HU = 1000 (x / water - 1)``.

        Args:
            name: 1/mm, 1/cm or HU.
            water: attenuation of water in 1/mm at the energy of the scan, for HU alone.

        Raises:
            InputError: an unknown name, or HU without water or with one that is no attenuation.
        """
        if name not in UNITS:
            raise InputError(f"the unit must be one of {', '.join(UNITS)}, got {name[:80]!r}.")
        if name != "HU":
            if water is not None:
                raise InputError(f"the attenuation of water is for HU, but the unit is {name}.")
            return cls(name, {"1/mm": 1.0, "1/cm": 10.0}[name])
        if water is None:
            raise InputError(
                "HU need the attenuation of water at the scan's energy; give it in 1/mm, for "
                "example --water 0.0206."
            )
        if not 0 < water < 1:
            raise InputError(
                f"the attenuation of water must lie between 0 and 1 1/mm, got {water:g}."
            )
        return cls(name, 1000.0 / water, -1000.0)

    @property
    def doubt(self) -> str:
        """What to say where the attenuation of water looks like one in 1/cm; empty else."""
        water = 1000.0 / self.scale
        if self.name != "HU" or water <= WATER_20_KEV:
            return ""
        return (
            f"water attenuates {water:g} 1/mm below 20 keV only; if that is in 1/cm, give --water "
            f"{water / 10:g}."
        )

    @property
    def formula(self) -> str:
        """How a value x in 1/mm becomes one in this unit, such as ``HU = 48543.7 x - 1000``."""
        shift = f" - {-self.offset:g}" if self.offset else ""
        return f"{self.name} = {self.scale:.9g} x{shift} with x in 1/mm"

    def __call__(self, value, std) -> tuple:
        """A value and its std, numbers or tensors, in this unit."""
        return self.scale * value + self.offset, self.scale * std

    def map(self, values: np.ndarray, spread: bool = False) -> "MapInUnit":
        """An image or volume in 1/mm, or the std of one (``spread``), in this unit."""
        return MapInUnit(values, self.name, self.scale, 0.0 if spread else self.offset)


@dataclass(frozen=True)
class MapInUnit:
    """``scale · values + offset`` in float32, computed for what is indexed alone.

    Attributes:
        values: (height, width) or (pages, height, width) in 1/mm, perhaps on the disk.
        unit: name of what indexing gives.
        scale, offset: of the linear map.
    """

    values: np.ndarray
    unit: str
    scale: float
    offset: float

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the values."""
        return self.values.shape

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index) -> np.ndarray:
        part = np.asarray(self.values[index])
        return (self.scale * part.astype(np.float64) + self.offset).astype(np.float32)

    @property
    def pages(self) -> Iterator[np.ndarray]:
        """The image, or those of a volume, one after another."""
        if len(self.shape) == 2:
            yield self[:]
        else:
            yield from (self[page] for page in range(len(self)))
