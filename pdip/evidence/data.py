"""The measured rays as the evidence sees them: flat, in float64, without rays of weight zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from pdip.errors import InputError
from pdip.linearised.measurement import PIECE, Compression
from pdip.linearised.model import LinearGaussianModel
from pdip.solvers import Solver
from pdip.solvers.projected import extended
from pdip.typing import Image, Params, Scalar

CHUNK = 64


@dataclass(frozen=True)
class Data:
    """Rays of positive weight.

    Attributes:
        ray: A.
        sinogram: y of all rays, (views, detectors).
        index: flat positions of the rays used, (m,).
        weights: their weights, (m,) float64.
    """

    ray: object
    sinogram: Tensor
    index: Tensor
    weights: Tensor

    @classmethod
    def of(cls, scan, ray) -> Data:
        sinogram = scan.sinogram.to(dtype=ray.dtype, device=ray.device)
        weights = torch.ones_like(sinogram) if scan.weights is None else scan.weights.to(sinogram)
        index = weights.reshape(-1).nonzero()[:, 0]
        return cls(ray, sinogram, index, weights.reshape(-1)[index].double())

    def without(self, held_out: Tensor) -> Data:
        """The same data less the rays marked in (views, detectors)."""
        keep = ~held_out.reshape(-1).to(self.index.device)[self.index]
        return replace(self, index=self.index[keep], weights=self.weights[keep])

    def double(self, ray) -> Data:
        """The same data for a ray transform in double precision."""
        return replace(self, ray=ray, sinogram=self.sinogram.double())

    @property
    def num_rays(self) -> int:
        return len(self.index)

    def select(self, sinogram: Tensor) -> Tensor:
        """The used rays of a sinogram: (views, detectors) to (m,) float64."""
        return sinogram.reshape(-1)[self.index].double()

    def residual(self, image: Image) -> Tensor:
        """``y - A x``: (m,) float64."""
        return self.select(self.sinogram - self.ray.forward(image))

    def squared_residual(self, image: Image) -> Scalar:
        """``‖W^{1/2}(y - A x)‖²``, differentiable in the image."""
        return (self.weights * self.residual(image).square()).sum()

    def residual_of_zero_weights(self, model: LinearGaussianModel) -> Tensor:
        """``y - A (x* - S J_h θ*)``: (m,) float64."""
        return self.residual(model.image) + self.select(model.features.params_sinogram)

    def observed(
        self,
        model,
        solver: Solver,
        *groups: Data,
        tell: Callable[[str], None] = lambda text: None,
    ) -> LinearGaussianModel:
        """The model with the rows that ``solver`` conditions on, chosen at its hyperparameters.

        Args:
            model: if it is compressed already, the new combinations begin with its own, or with the
                range of the signal under them where no more are to come.
            solver: says whether data are compressed, and how.
            groups: parts of these data that are not to be mixed; none for the data as a whole.
            tell: called with a text as the products with the signal's covariance go on.
        """
        if not solver.compresses:
            return model if model.measurement.compression is None else model.compressed(None)
        bases, kept, left, count = [], 0, 0.0, 0

        def done(columns: int) -> None:
            nonlocal count
            count += columns
            tell(f"{count} combinations of rays tried")

        for part in groups or (self,):
            guess, kept = part._beginning(model, solver)
            basis, outside = solver.compress(
                partial(part.signal, model, done=done),
                part.num_rays,
                float(model.noise_variance),
                guess,
                self.weights.device,
            )
            place = torch.searchsorted(self.index, part.index)
            bases.append(basis.new_zeros(self.num_rays, basis.shape[1]).index_copy(0, place, basis))
            left += outside
        if kept < model.measurement.num_rows or len(bases) > 1:
            kept = 0  # not the first rows of the model: each part begins with its own
        return self._compressed(model, torch.cat(bases, dim=1), left, kept)

    def extended(self, model, columns: Tensor) -> LinearGaussianModel:
        """A compressed model with more combinations (m, j) of these rays among its own."""
        before = model.measurement.compression
        every = replace(self, index=before.index, weights=before.weights)
        place = torch.searchsorted(before.index, self.index)
        columns = columns.new_zeros(every.num_rays, columns.shape[1]).index_copy(0, place, columns)
        basis = extended(before.basis, columns)
        return every._compressed(model, basis, before.left_outside, before.basis.shape[1])

    def _compressed(
        self, model, basis: Tensor, left_outside: float, kept: int
    ) -> LinearGaussianModel:
        """The model on other combinations, of which the first ``kept`` are the first of its own:
        what was computed of them in whole pieces is not computed again, and would be the same."""
        before, kept = model.measurement, kept - kept % PIECE
        rows = self.backproject(basis[:, kept:])
        known = None
        if kept:
            rows = torch.cat([before.rows[:kept], rows])
            stored = model.features.latent.pixel_gram is not None  # no pass would be needed
            known = None if stored else before.in_weights[:kept]
        compression = Compression(basis, self.index, self.weights, rows, left_outside)
        return model.compressed(compression, known)

    def _beginning(self, model, solver: Solver) -> tuple[Tensor | None, int]:
        """What new combinations of these rays begin with, and how many of the model's own that are.

        Those of the model, or where no more are to come the signal's covariance times them (one
        step of subspace iteration); None where it has none.
        """
        if model.measurement.compression is None or not len(used := self._rows_used(model)):
            return None, 0
        if len(used) < solver.limit(self.num_rays):
            return self.basis(model), len(used)
        return self._signal_of_rows(model), 0

    def rows(self, model: LinearGaussianModel) -> Tensor:
        """What the used data measure of an image, row by row: (k, height, width)."""
        return _part(model.measurement.rows, self._rows_used(model))

    def rows_in_weights(self, model: LinearGaussianModel) -> Params:
        """:meth:`rows` times ``S J_h``: (k, params)."""
        return _part(model.measurement.in_weights, self._rows_used(model))

    def measure(self, model: LinearGaussianModel, images: Image) -> Tensor:
        """What the rows see of images (j, height, width): (j, k) float64."""
        if model.measurement.compression is None:
            return self.ray.forward(images).flatten(1)[:, self.index].double()
        return (images.flatten(1) @ self.rows(model).flatten(1).mT).double()

    def basis(self, model: LinearGaussianModel) -> Tensor:
        """The compression's combinations of these rays, (m, k) float64.

        Raises:
            InputError: every combination also holds rays that are not used.
        """
        compression = model.measurement.compression
        if not len(self._rows_used(model)):
            raise InputError(
                "expected a compression that keeps withheld rays apart, got one that mixes all; "
                "compress the model with the objective that withholds them"
            )
        place, used = torch.searchsorted(compression.index, self.index), self._rows_used(model)
        return _part(_part(compression.basis, place).mT, used).mT

    def covariance(self, model: LinearGaussianModel) -> Tensor:
        """``K`` of the used rows: (k, k) float64."""
        used = self._rows_used(model)
        signal = _part(_part(model.signal_covariance(), used).mT, used)
        return signal + torch.diag(self.noise_std(model).square())

    def noise_std(self, model: LinearGaussianModel) -> Tensor:
        """``σ W^{-1/2}`` of each ray, or σ of each combination: (k,) float64."""
        std = (model.log_noise_variance / 2).exp()
        if model.measurement.compression is not None:
            return std.to(self.weights).expand(len(self._rows_used(model)))
        return std.to(self.weights) * self.weights.rsqrt()

    def reduce(self, model: LinearGaussianModel, residual: Tensor) -> tuple[Tensor, Tensor]:
        """A residual of the rays (m,) as that of the rows (k,), and the squared whitened norm of
        what no row holds."""
        if model.measurement.compression is None:
            return residual, residual.new_zeros(())
        whitened = self.weights.sqrt() * residual
        inside = self.basis(model).mT @ whitened
        return inside, (whitened.square().sum() - inside.square().sum()).clamp(min=0)

    def _rows_used(self, model) -> Tensor:
        """Positions of the rows that hold used rays only.

        Raises:
            InputError: the model's data were compressed for other rays or weights.
        """
        compression = model.measurement.compression
        if compression is None:
            return self.index
        used = torch.isin(compression.index, self.index)
        if int(used.sum()) < self.num_rays or not torch.equal(
            compression.weights[used], self.weights
        ):
            raise InputError(
                "expected the rays and weights that the model's data were compressed for, got "
                "others; start from a model that is not compressed: model.compressed(None)"
            )
        return (compression.basis[~used] == 0).all(0).nonzero()[:, 0]

    def signal(
        self,
        model: LinearGaussianModel,
        columns: Tensor,
        done: Callable[[int], None] = lambda columns: None,
    ) -> Tensor:
        """``W^{1/2} A (S J Σ Jᵀ S + τ² I) Aᵀ W^{1/2}`` on columns (m, j) float64.

        ``done`` is called with their number as some columns are done.
        """
        covariance = model.image_covariance()
        parts = []
        for chunk in columns.split(CHUNK, dim=1):
            images = covariance @ self.backproject(chunk).flatten(1).mT
            parts.append(self._whitened(images.mT.reshape(-1, *self.ray.domain_shape)))
            done(len(parts[-1]))
        return torch.cat(parts).mT

    def _signal_of_rows(self, model: LinearGaussianModel) -> Tensor:
        """The signal's covariance times the combinations that the model has of these rays, (m, k);
        one JVP for each, as their rows are known."""
        basis, parts = self.basis(model), []
        if model.features.latent.pixel_gram is not None:
            return self.signal(model, basis)
        for chunk in self.rows_in_weights(model).split(CHUNK):
            images = model.slope * model.jacobian.forward(model.prior.covariance_apply(chunk))
            parts.append(self._whitened(images))
        signal = torch.cat(parts).mT
        if model.log_nugget_variance is not None:
            signal = signal + model.nugget_variance * self._whitened(self.backproject(basis)).mT
        return signal

    def _whitened(self, images: Image) -> Tensor:
        """``W^{1/2} A x`` of the used rays for images (j, height, width): (j, m) float64."""
        return self.ray.forward(images).flatten(1)[:, self.index].double() * self.weights.sqrt()

    def backproject(self, columns: Tensor) -> Tensor:
        """``Aᵀ W^{1/2}`` of columns (m, j): (j, height, width)."""
        flat = self.sinogram.new_zeros(columns.shape[1], self.sinogram.numel())
        flat[:, self.index] = (self.weights.sqrt()[:, None] * columns).mT.to(flat)
        return self.ray.adjoint(flat.reshape(-1, *self.sinogram.shape))


def _part(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]`` at ascending positions, without a copy where these are all."""
    return values if len(index) == len(values) else values[index]
