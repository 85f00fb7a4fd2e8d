"""The measurement: a sinogram, the geometry it was taken with and the grid to reconstruct on."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from pdip.errors import InputError
from pdip.scan.checks import finite_real, positive_int
from pdip.scan.geometry import FanBeam, ParallelBeam
from pdip.scan.grid import ImageGrid
from pdip.scan.rotation_axis import RotationAxis
from pdip.typing import Sinogram

GRID_TO_FIELD_OF_VIEW = (0.02, 50.0)
"""Image side over field of view that is believed; outside, pixel and pitch differ in unit."""


@dataclass(frozen=True)
class Scan:
    """What was measured: y = A x + noise, noise ~ N(0, sigma^2 / weights).

    Args:
        sinogram: line integrals (dimensionless), (views, detectors), float32 or float64.
        geometry: where the rays run; its ``shape`` is the sinogram's.
        grid: the pixels to reconstruct.
        weights: one non-negative number per ray, (views, detectors), or None for equal rays;
            proportional to the inverse noise variance. A ray of weight 0 is not used.
        assumptions: plain sentences, one for each thing assumed for the user.
        noise_std: sigma of a ray of weight 1 where it is known, as it is of counted photons; None
            where it has to be estimated.
        rotation_axis: how the axis was found, where it was estimated from the scan.
        binning: detector elements of the file that are one of the scan's; an axis that is told
            counts those of the file.

    Raises:
        InputError: a shape, value or unit does not fit; the sentence says what to do.

    Example:
        >>> beam = ParallelBeam([0.0, 60.0, 120.0], 5)
        >>> Scan(torch.rand(3, 5), beam, beam.inscribed_grid()).sinogram.shape
        torch.Size([3, 5])
    """

    sinogram: Sinogram
    geometry: ParallelBeam | FanBeam
    grid: ImageGrid
    weights: Sinogram | None = None
    assumptions: tuple[str, ...] = ()
    noise_std: float | None = None
    rotation_axis: RotationAxis | None = None
    binning: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.geometry, (ParallelBeam, FanBeam)):
            raise InputError(
                f"geometry must be a ParallelBeam or a FanBeam, got {type(self.geometry).__name__}."
            )
        if not isinstance(self.grid, ImageGrid):
            raise InputError(f"grid must be an ImageGrid, got {type(self.grid).__name__}.")
        sinogram = rays_tensor("sinogram", self.sinogram)
        check_shape("sinogram", sinogram, self.geometry)
        check_finite("sinogram", sinogram)
        if sinogram.numel() > 1 and bool((sinogram == sinogram.flatten()[0]).all()):
            raise InputError(
                f"the sinogram is constant ({sinogram.flatten()[0].item():g} everywhere) and "
                "holds no image; check which array was saved."
            )
        object.__setattr__(self, "sinogram", sinogram)
        object.__setattr__(self, "assumptions", tuple(self.assumptions))
        if self.weights is not None:
            object.__setattr__(self, "weights", self._checked_weights())
        if self.noise_std is not None and not finite_real("noise_std", self.noise_std) > 0:
            raise InputError(f"noise_std must be positive, got {self.noise_std:g}.")
        check_grid_size(self.grid, self.geometry)

    def _checked_weights(self) -> torch.Tensor:
        weights = rays_tensor("weights", self.weights).to(self.sinogram)
        check_shape("weights", weights, self.geometry)
        check_finite("weights", weights)
        if bool((weights < 0).any()) or not bool((weights > 0).any()):
            raise InputError(
                "weights must not be negative and not all zero; give the inverse noise variance "
                "of each ray up to a factor."
            )
        return weights

    def select(self, view_indices: Sequence[int] | np.ndarray) -> "Scan":
        """Return the scan of the views listed, in that order.

        Raises:
            InputError: no view is listed, or one does not exist.
        """
        geometry = self.geometry.select(view_indices)
        rows = torch.as_tensor(np.array(view_indices), device=self.sinogram.device)
        weights = None if self.weights is None else self.weights[rows]
        return replace(self, sinogram=self.sinogram[rows], geometry=geometry, weights=weights)

    def every(self, view_step: int) -> "Scan":
        """Return views 0, view_step, 2 view_step, ...; 1 is the scan itself.

        Raises:
            InputError: view_step is not a positive whole number.
        """
        view_step = positive_int("view step", view_step)
        return self.select(range(0, self.geometry.num_views, view_step))


def check_grid_size(grid: ImageGrid, geometry: ParallelBeam | FanBeam) -> None:
    """Raise InputError where pixel and pitch cannot both be in mm."""
    low, high = GRID_TO_FIELD_OF_VIEW
    side, seen = max(grid.size_mm), max(geometry.covering_grid(1).size_mm)
    if not low <= side / seen <= high:
        raise InputError(
            f"the image is {side:.3g} mm wide but the field of view {seen:.3g} mm; "
            "give pixel and detector sizes both in mm."
        )
    if grid.pixel_mm > seen / 2:
        raise InputError(
            f"a pixel is {grid.pixel_mm:.3g} mm wide but the field of view {seen:.3g} mm; "
            "give pixel and detector sizes both in mm."
        )


def rays_tensor(name: str, values) -> torch.Tensor:
    """Return the array or tensor ``values`` as a floating tensor without gradient."""
    try:
        tensor = torch.as_tensor(values).detach()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"the {name} must be a tensor of numbers, got {type(values).__name__}."
        ) from None
    if tensor.is_complex() or tensor.dtype == torch.bool:
        raise InputError(f"the {name} must hold real numbers, got {tensor.dtype}.")
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.to(torch.float32)
    return tensor


def check_shape(name: str, rays: torch.Tensor, geometry: ParallelBeam | FanBeam) -> None:
    """Raise InputError unless ``rays`` is (views, detectors) of the geometry."""
    if rays.ndim != 2:
        raise InputError(
            f"the {name} must have two axes (views, detectors), got shape {tuple(rays.shape)}"
            + ("; select one slice of a 3-D scan." if rays.ndim > 2 else ".")
        )
    rows, columns = rays.shape
    views, detectors = geometry.shape
    if rows != views:
        asked = "; was it transposed?" if columns == views else "; give one angle for each row."
        raise InputError(f"{name} has {rows} rows but the geometry lists {views} angles{asked}")
    if columns != detectors:
        raise InputError(
            f"{name} has {columns} columns but the geometry has {detectors} detectors; "
            "give one detector element for each column."
        )


def used_values(scan: Scan) -> np.ndarray:
    """The sinogram in float64, NaN where a ray has no weight: (views, detectors)."""
    values = scan.sinogram.double().numpy()
    return values if scan.weights is None else np.where(scan.weights.numpy() > 0, values, np.nan)


def check_finite(name: str, rays: torch.Tensor) -> None:
    """Raise InputError naming the first ray that is NaN or infinite."""
    bad = ~torch.isfinite(rays)
    if bool(bad.any()):
        view, detector = torch.nonzero(bad)[0].tolist()
        raise InputError(
            f"{name} has {int(bad.sum())} values that are NaN or infinite, the first at view "
            f"{view}, detector {detector}; "
            + (
                "give a ray that is not to be used the weight 0."
                if name == "weights"
                else "mend dead pixels before taking the logarithm."
            )
        )
