"""Slices of one object: one geometry, one grid, and a sinogram for each slice, read when asked."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from pdip.errors import InputError
from pdip.scan.binning import grouped
from pdip.scan.checks import positive_int, shown
from pdip.scan.fields import build_geometry, measured, raw_values, with_mask
from pdip.scan.fitting_grid import build_grid
from pdip.scan.geometry import FanBeam, ParallelBeam
from pdip.scan.grid import ImageGrid
from pdip.scan.preprocessing import Preprocessing
from pdip.scan.rotation_axis import RotationAxis
from pdip.scan.scan import Scan, check_grid_size


class Slices(Protocol):
    """An array of three axes, in memory or on disk; indexing it gives one slice."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __getitem__(self, index: int) -> np.ndarray: ...


@dataclass(frozen=True)
class Stack:
    """Slices of one object, each a :class:`Scan` of the same geometry on the same grid.

    Args:
        sinograms: (slices, views, detectors), line integrals or what ``preprocessing`` makes them
            of; each slice is read when asked for.
        geometry: of every slice, before thinning.
        grid: of every slice.
        numbers: the slices to reconstruct, in order, counted from 0 in ``sinograms``.
        weights: of the rays, (slices, views, detectors), or (views, detectors) for all slices, or
            None.
        view_step: a slice keeps views 0, view_step, 2 view_step, ...
        assumptions: plain sentences, the same for all slices.
        preprocessing: how the values of a slice become line integrals.
        rotation_axis: how the axis was found, where it was estimated from a slice.

    Example:
        >>> beam = ParallelBeam([0.0, 60.0, 120.0], 5)
        >>> stack = Stack(np.random.rand(4, 3, 5), beam, beam.inscribed_grid(), (1, 2))
        >>> [scan.sinogram.shape for scan in stack]
        [torch.Size([3, 5]), torch.Size([3, 5])]
    """

    sinograms: Slices
    geometry: ParallelBeam | FanBeam
    grid: ImageGrid
    numbers: tuple[int, ...]
    weights: Slices | None = None
    view_step: int = 1
    assumptions: tuple[str, ...] = ()
    preprocessing: Preprocessing = Preprocessing()
    rotation_axis: RotationAxis | None = None

    def __post_init__(self) -> None:
        _check_shapes(_joined_shape(self.sinograms, self.preprocessing), self.geometry)
        check_grid_size(self.grid, self.geometry)
        positive_int("view step", self.view_step)
        if self.weights is not None:
            self._check_weights()

    def _check_weights(self) -> None:
        shape, found = tuple(self.sinograms.shape), tuple(getattr(self.weights, "shape", ()))
        if found not in (shape, shape[1:]):
            raise InputError(
                f"weights have shape {found} but the sinograms {shape}; give one weight for each "
                "ray, or one (views, detectors) array for all slices."
            )

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Scan]:
        return map(self.scan, self.numbers)

    def scan(self, number: int) -> Scan:
        """Return slice ``number``, counted as in the file, as a scan of its own.

        Raises:
            InputError: the values of this slice cannot be used.
        """
        said: list[str] = []
        preprocessing = self.preprocessing.slice(number, self.sinograms.shape[0])
        sinogram, found = measured(self.sinograms[number], preprocessing, said)
        weights = self.weights
        if weights is not None and len(weights.shape) == 3:
            weights = weights[number]
        said += self.assumptions
        weights = with_mask(found, weights, preprocessing.binning)
        scan = Scan(sinogram, self.geometry, self.grid, weights, tuple(said), found.noise_std)
        return replace(scan, binning=preprocessing.binning).every(self.view_step)

    @property
    def middle(self) -> Scan:
        """Of the slices to reconstruct that can be used, the one nearest to the middle.

        Raises:
            InputError: none of them can be used.
        """
        half = len(self.numbers) // 2
        for place in sorted(range(len(self.numbers)), key=lambda place: abs(place - half)):
            try:
                return self.scan(self.numbers[place])
            except InputError as error:
                refused = error
        raise refused

    def resized(self, image_size: int) -> "Stack":
        """Return the stack on image_size x image_size pixels over the same side."""
        return replace(self, grid=self.grid.resized(image_size))


def stack_from_fields(
    fields: dict, slices: str | int | None, view_step: int, assumptions: tuple[str, ...] = ()
) -> Stack:
    """Build a stack from the keys of a file.

    Args:
        fields: as for :func:`pdip.scan.fields.scan_from_fields`, ``sinogram`` or ``counts`` of
            three axes, ``flat`` and ``dark`` (frames, detectors) or with an axis of slices first.
        slices: as for :func:`slice_numbers`.
        view_step: of every slice.
        assumptions: sentences made before.

    Raises:
        InputError: a key is missing, contradicts another or has an unusable value.
    """
    said, preprocessing = list(assumptions), Preprocessing.of(fields)
    sinograms = raw_values(fields, preprocessing, "(slices, views, detectors)")
    shape = tuple(sinograms.shape)
    if len(shape) != 3 or sinograms.dtype.kind not in "iuf":
        raise InputError(
            f"expected a stack of three axes (slices, views, detectors), got {sinograms.dtype} of "
            f"shape {shape}; read a single sinogram with pdip.read_scan."
        )
    if 0 in shape:
        raise InputError(f"the stack is empty, its shape is {shape}.")
    numbers = slice_numbers(slices, shape[0])
    shape = _joined_shape(sinograms, preprocessing)
    geometry = build_geometry(fields, shape[1:], said)
    _check_shapes(shape, geometry)
    grid = build_grid(fields, lambda: _summed(sinograms, numbers, preprocessing), geometry, said)
    weights = fields.get("weights")
    return Stack(sinograms, geometry, grid, numbers, weights, view_step, tuple(said), preprocessing)


def slice_numbers(slices: str | int | None, count: int) -> tuple[int, ...]:
    """Return the slices that a text such as ``10:20`` means, as NumPy would take them.

    Args:
        slices: one number (negative from the end), ``start:stop`` or ``start:stop:step`` with
            parts left out as in NumPy, or None for all.
        count: slices there are.

    Raises:
        InputError: another text, no slice, or a slice that does not exist.

    Example:
        >>> slice_numbers("2:8:3", 10), slice_numbers("-1", 10)
        ((2, 5), (9,))
    """
    if slices is None:
        return tuple(range(count))
    parts = str(slices).replace(" ", "").split(":")
    if len(parts) > 3 or not all(re.fullmatch(r"(-?\d{1,9})?", part) for part in parts):
        parts = [""]
    if parts == [""]:
        raise InputError(f"slices must be a number or a range such as 10:20, got {shown(slices)}.")
    bounds = [int(part) if part else None for part in parts]
    for bound in bounds[:2]:
        last = count - (len(bounds) == 1)
        if bound is not None and not -count <= bound <= last:
            raise InputError(
                f"slices {shown(slices)} reach outside of the stack, which has slices 0 to "
                f"{count - 1}."
            )
    if len(bounds) == 1:
        return (bounds[0] % count,)
    if bounds[2:] == [0]:
        raise InputError("the step of slices must not be 0.")
    numbers = tuple(range(count)[slice(*bounds)])
    if not numbers:
        raise InputError(f"slices {shown(slices)} name no slice; give a start before the stop.")
    return numbers


def _joined_shape(sinograms: Slices, how: Preprocessing) -> tuple[int, ...]:
    """(slices, views, detectors) of what the stack becomes."""
    *rest, detectors = sinograms.shape
    return (*rest, detectors // how.binning)


def _check_shapes(shape: tuple[int, ...], geometry: ParallelBeam | FanBeam) -> None:
    """Raise InputError unless ``shape`` is (slices, *geometry.shape); a wrong order is named."""
    if shape[1:] == geometry.shape:
        return
    views, detectors = geometry.shape
    if shape[1] != views and views in shape:
        raise InputError(
            f"the stack has shape {shape} but the geometry lists {views} angles, as many as axis "
            f"{shape.index(views)} is long; the axes must be (slices, views, detectors), so "
            "reorder them with numpy.moveaxis."
        )
    if shape[2] == detectors:
        raise InputError(
            f"the stack has {shape[1]} views but the geometry lists {views} angles; give one angle "
            "for each view, or reorder the axes to (slices, views, detectors)."
        )
    raise InputError(
        f"each slice of the stack is {shape[1]} x {shape[2]} but the geometry has {views} views x "
        f"{detectors} detectors; the axes must be (slices, views, detectors)."
    )


def _summed(sinograms: Slices, numbers: tuple[int, ...], how: Preprocessing) -> np.ndarray:
    """Sum over slices, one at a time; a slice that holds no finite values adds nothing. Of counts,
    whose logarithms take long, the slice in the middle stands for all."""
    total = np.zeros(_joined_shape(sinograms, how)[1:])
    if how.data_kind != "line_integrals":
        middle = numbers[len(numbers) // 2]
        try:
            own = how.slice(middle, sinograms.shape[0])
            return measured(sinograms[middle], own, [])[0].double().numpy()
        except InputError:
            return total
    for number in numbers:
        with np.errstate(all="ignore"):
            values = np.asarray(sinograms[number]).astype(np.float32).astype(np.float64)
        if np.isfinite(values).all():
            total += grouped(values, how.binning).mean(-1)
    return total
