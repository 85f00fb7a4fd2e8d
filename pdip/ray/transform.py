"""The ray transform A: image (1/mm) -> sinogram of line integrals, with its adjoint."""

from typing import final

import torch
from torch import Tensor

from pdip.errors import ComputationError, InputError, out_of_memory
from pdip.ray.autograd import LinearMap
from pdip.ray.choice import choose_engine
from pdip.ray.engine import PROJECTORS, Engine, build_engine
from pdip.typing import Image, Sinogram

PAIR_TOLERANCE = 0.1
"""Relative difference from which on forward and adjoint do not belong together."""


@final
class RayTransform:
    """``y = A x`` and ``x = Aᵀ y`` on any leading batch axes, differentiable in every mode.

    Made by :func:`ray_transform`. Calling it is :meth:`forward`; ``ray.T`` is the adjoint.
    """

    def __init__(self, geometry, grid, engine: Engine, engine_reason: str) -> None:
        self.geometry = geometry
        self.grid = grid
        self.engine = engine
        self.engine_reason = engine_reason
        self.domain_shape: tuple[int, int] = tuple(grid.shape)
        self.range_shape: tuple[int, int] = tuple(geometry.shape)

    @property
    def dtype(self) -> torch.dtype:
        return self.engine.dtype

    @property
    def device(self) -> torch.device:
        return self.engine.device

    @property
    def engine_name(self) -> str:
        return self.engine.name

    @property
    def T(self) -> "AdjointRayTransform":
        """The adjoint as an operator: ``ray.T(sinogram)``; ``ray.T.T`` is ``ray``."""
        return AdjointRayTransform(self)

    def forward(self, image: Image) -> Sinogram:
        """Line integrals ``A x``.

        Args:
            image: attenuation, (*batch, height, width), 1/mm.

        Returns:
            Sinogram, (*batch, views, detectors), dimensionless.

        Raises:
            InputError: the image has another shape, precision or device than the transform.
        """
        self._check("image", image, self.domain_shape)
        return LinearMap.apply(image, self._raw_forward, self._raw_adjoint)

    def adjoint(self, sinogram: Sinogram) -> Image:
        """Backprojection ``Aᵀ y``, with ``<A x, y> = <x, Aᵀ y>`` to :func:`adjoint_mismatch`.

        Args:
            sinogram: (*batch, views, detectors).

        Returns:
            Image, (*batch, height, width), in mm times the unit of the sinogram.

        Raises:
            InputError: the sinogram has another shape, precision or device than the transform.
        """
        self._check("sinogram", sinogram, self.range_shape)
        return LinearMap.apply(sinogram, self._raw_adjoint, self._raw_forward)

    def __call__(self, image: Image) -> Sinogram:
        return self.forward(image)

    def dense(self) -> Tensor:
        """A as a dense tensor, (views * detectors, height * width), mm; for small problems."""
        pixels = self.domain_shape[0] * self.domain_shape[1]
        basis = torch.eye(pixels, dtype=self.dtype, device=self.device)
        columns = self._raw_forward(basis.unflatten(1, self.domain_shape))
        return columns.flatten(1).T.contiguous()

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "RayTransform":
        """The same transform on another device or in another precision.

        Args:
            device: new device; the present one when omitted.
            dtype: torch.float32 or torch.float64; the present one when omitted.

        Raises:
            InputError: the dtype is neither of the two, or the engine cannot run there.
        """
        device = self.device if device is None else placed(device)
        dtype = self.dtype if dtype is None else checked_dtype(dtype)
        return RayTransform(
            self.geometry, self.grid, self.engine.to(device, dtype), self.engine_reason
        )

    def __repr__(self) -> str:
        precision = str(self.dtype).removeprefix("torch.")
        return (
            f"RayTransform({self.domain_shape} -> {self.range_shape}, engine={self.engine_name!r}, "
            f"projector={self.engine.projector!r}, {precision}, {self.device})"
        )

    def _raw_forward(self, images: Tensor) -> Tensor:
        flat = images.reshape(-1, *self.domain_shape)
        return self.engine.forward(flat).reshape(*images.shape[:-2], *self.range_shape)

    def _raw_adjoint(self, sinograms: Tensor) -> Tensor:
        flat = sinograms.reshape(-1, *self.range_shape)
        return self.engine.adjoint(flat).reshape(*sinograms.shape[:-2], *self.domain_shape)

    def _check(self, what: str, values: Tensor, shape: tuple[int, int]) -> None:
        if tuple(values.shape[-2:]) != shape:
            hint = "; was it transposed?" if tuple(values.shape[-2:]) == shape[::-1] else ""
            raise InputError(
                f"{what} has shape {tuple(values.shape)} but the ray transform expects its last "
                f"two axes to be {shape}{hint}"
            )
        if values.dtype != self.dtype or values.device != self.device:
            raise InputError(
                f"{what} is {values.dtype} on {values.device} but the ray transform is "
                f"{self.dtype} on {self.device}; convert one of them with .to(...)"
            )


@final
class AdjointRayTransform:
    """``Aᵀ`` as an operator in its own right; made by :attr:`RayTransform.T`."""

    def __init__(self, transposed: RayTransform) -> None:
        self.T = transposed
        self.domain_shape = transposed.range_shape
        self.range_shape = transposed.domain_shape

    def forward(self, sinogram: Sinogram) -> Image:
        """``Aᵀ y``; see :meth:`RayTransform.adjoint`."""
        return self.T.adjoint(sinogram)

    def adjoint(self, image: Image) -> Sinogram:
        """``A x``; see :meth:`RayTransform.forward`."""
        return self.T.forward(image)

    def __call__(self, sinogram: Sinogram) -> Image:
        return self.T.adjoint(sinogram)


def ray_transform(
    geometry,
    grid,
    *,
    engine: str = "auto",
    projector: str = "linear",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> RayTransform:
    """The ray transform of a scan geometry on an image grid.

    >>> from pdip.scan import ImageGrid, ParallelBeam
    >>> ray = ray_transform(ParallelBeam([0.0, 90.0], 5), ImageGrid((4, 4)))
    >>> ray.forward(torch.ones(4, 4)).shape
    torch.Size([2, 5])

    Args:
        geometry: ``ParallelBeam`` or ``FanBeam`` of :mod:`pdip.scan`.
        grid: ``ImageGrid`` centred on the rotation axis; row 0 has the largest y.
        engine: "matrix" (sparse matrix of ASTRA, exact adjoint, any device), "astra_cuda" (ASTRA's
            GPU projectors, no matrix, approximate adjoint), "diffct" (optional, exact adjoint),
            "odl" (optional, an independent check), "tomosipo" (optional, GPU), or "auto": the best
            one here, with the reason and any adjoint mismatch in ``ray.engine_reason``.
        projector: how a ray weighs pixels: "linear" interpolation between pixel centres, "line"
            intersection length, or "strip" area of overlap over the detector pitch. In a fan beam
            "linear" means "line", as no linear CPU projector exists there; ``ray.engine_reason``
            says so. Engine "diffct" knows "line", engine "odl" ODL's default ("linear"), engines
            "astra_cuda" and "tomosipo" know "linear", which they have in both beams.
        device: where tensors live.
        dtype: torch.float32 or torch.float64.

    Raises:
        InputError: unknown engine, projector or dtype, or an engine that cannot be used here.
    """
    if projector not in PROJECTORS:
        raise InputError(
            f"ray projector '{projector}' is unknown; expected one of: {', '.join(PROJECTORS)}"
        )
    device, dtype = placed(device), checked_dtype(dtype)
    keywords = {"projector": projector, "device": device, "dtype": dtype}
    name, reason = choose_engine(engine, geometry, grid, **keywords)
    built = build_engine(name, geometry, grid, **keywords)
    if built.projector != projector:
        reason += f"; projector '{projector}' is {built.projector} here"
    ray = RayTransform(geometry, grid, built, reason)
    if not built.exact_adjoint:
        mismatch = adjoint_mismatch(ray, torch.Generator(device).manual_seed(0))
        ray.engine_reason += f"; forward and back projection are adjoint to {mismatch:.0e}"
    return ray


def adjoint_mismatch(ray: RayTransform, generator: torch.Generator) -> float:
    """The dot test: ``|<A x, y> - <x, Aᵀ y>| / (|A x| |y|)`` for Gaussian x and y, in float64 sums.

    Rounding size (1e-16 in float64, 1e-7 in float32) says that the adjoint is exact. The engines
    "astra_cuda" and "tomosipo" are not exact: they project along rays and backproject to pixels.

    Args:
        ray: the transform to test.
        generator: random generator on the transform's device.

    Returns:
        The relative mismatch, dimensionless, >= 0.
    """
    normal = {"generator": generator, "dtype": ray.dtype, "device": ray.device}
    image = torch.randn(ray.domain_shape, **normal)
    sinogram = torch.randn(ray.range_shape, **normal)
    projected, backprojected = ray.forward(image).double(), ray.adjoint(sinogram).double()
    image, sinogram = image.double(), sinogram.double()
    difference = (projected * sinogram).sum() - (image * backprojected).sum()
    return float(difference.abs() / (projected.norm() * sinogram.norm()))


def check_pair(ray: RayTransform) -> None:
    """Pass where forward and adjoint are numbers and belong together: ``|A x|² = <x, Aᵀ A x>``.

    A fault of a driver or a library would else be blamed on the scan. Here x is uniform on [0, 1],
    for which the engines without an exact adjoint are within a few percent, too.

    Raises:
        ComputationError: they do not, or cannot be computed.
    """
    draw = torch.Generator(ray.device).manual_seed(0)
    image = torch.rand(ray.domain_shape, generator=draw, dtype=ray.dtype, device=ray.device)
    try:
        projected = ray.forward(image)
        energy = float(projected.double().square().sum())
        again = float((image.double() * ray.adjoint(projected).double()).sum())
    except RuntimeError as error:
        if isinstance(error, ComputationError) or out_of_memory(error):
            raise
        found = f"{type(error).__name__}: {error}"
    else:
        if energy > 0 and abs(again - energy) <= PAIR_TOLERANCE * energy:
            return
        found = f"|A x|^2 = {energy:.4g} but <x, A^T A x> = {again:.4g}"
    raise ComputationError(
        f"the ray engine does not compute what it should ({found}); see what pdip doctor says of "
        "it, or choose another with --ray.engine."
    )


def placed(device: torch.device | str) -> torch.device:
    """The device that tensors report: "cuda" is the present GPU, such as "cuda:0"."""
    place = torch.device(device)
    if place.type == "cuda" and place.index is None and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return place


def checked_dtype(dtype: torch.dtype) -> torch.dtype:
    """``dtype`` when it is one the engines compute in."""
    if dtype not in (torch.float32, torch.float64):
        raise InputError(f"ray transform dtype is {dtype}; expected torch.float32 or torch.float64")
    return dtype
