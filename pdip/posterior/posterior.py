"""The posterior of the linear Gaussian model given the scan."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cached_property
from typing import final

import torch
from torch import Tensor

from pdip.errors import ComputationError, InputError
from pdip.evidence.data import Data
from pdip.evidence.marginal import MatrixFree
from pdip.linearised import LinearGaussianModel, statistical_linearisation
from pdip.posterior.image_posterior import (
    MAX_DENSE_PIXELS,
    RESOLUTION,
    ImagePosterior,
    positive_definite,
    saved,
    select,
)
from pdip.solvers import CG, Cholesky, Solution, Solver
from pdip.typing import Image, Mask

STD_SAMPLES = 1024
MAX_EXACT_PIXELS = 6400  # up to here the prior variance of every pixel is computed exactly
CHUNK = 64


@final
class Posterior(ImagePosterior):
    """``p(x | y)`` of a :class:`~pdip.linearised.LinearGaussianModel`, Gaussian on images.

    ``Cov = Kxx - Kxy K⁻¹ Kyx`` with ``Kxy = (S J Σ Jᵀ S + τ² I) Aᵀ``. With the model's activation
    ``"before"``, the posterior of h is carried through the activation by its moments: S becomes
    ``E[s'(h)]`` under the posterior of each h, and the variance that no slope explains is added
    to each pixel. No pixel's std is below 5e-3 of the image scale.

    Exact up to 6 400 pixels; beyond, the std is that of 1 024 samples (relative error 2.2 %).

    Args:
        model: the model at the hyperparameters to use.
        scan: the scan.
        solver: how K is solved. None: exactly, on the combinations of data that the model was
            optimised with, or on all data. A solver that compresses data the model has not
            compressed does so now and keeps what is compressed already; one that does not goes
            back to all data. :class:`~pdip.solvers.CG` adds its search directions to the
            combinations, so that the mean is that of all data to its tolerance, and what it did
            not compute stays in the variance.
        progress: called with (JVPs made, JVPs) after each chunk of those behind mean and std, where
            the image is too large for its dense algebra.

    Raises:
        ComputationError: a solve that did not converge, but for :class:`~pdip.solvers.CG`, whose
            ``solution`` says so: it makes the std wider.
    """

    def __init__(
        self,
        model: LinearGaussianModel,
        scan,
        solver: Solver | None = None,
        *,
        progress: Callable[[int, int], None] | None = None,
    ):
        self._progress = progress
        self.data = Data.of(scan, model.ray)
        with torch.no_grad():
            residual = self.data.residual_of_zero_weights(model)
            model = self._conditioned(model, solver, residual)
            self.model = model
            self._factor = (solver or Cholesky()).factorise(self.data.covariance(model))
            inside, _ = self.data.reduce(model, residual)
            self.solution = self._factor.solve(inside[:, None])
            if not self.solution.converged:
                raise ComputationError(
                    f"the solve for the posterior mean ended with a relative residual of "
                    f"{self.solution.worst_residual:.1e}; raise the noise level"
                )
            if isinstance(solver, CG):
                self.solution = self._certified(residual, solver.tolerance)
            self.image = model.image
            self.mean = self._linear_mean()

    def _conditioned(self, model, solver: Solver | None, residual) -> LinearGaussianModel:
        """The model with the rows to condition on."""
        compressed = model.measurement.compression is not None
        if solver is not None and solver.compresses != compressed:
            model = self.data.observed(model, solver)
        if not isinstance(solver, CG):
            return model
        found = MatrixFree(model, self.data, solver).solve(residual)
        return self.data.extended(model, found.directions)

    def _certified(self, residual: Tensor, tolerance: float) -> Solution:
        """The solution on combinations of rays with its true residual on all of them."""
        used = self.data.basis(self.model) @ self.solution.value
        whitened = (self.data.weights.sqrt() * residual)[:, None]
        rest = MatrixFree(self.model, self.data, CG()).apply(used) - whitened
        worst = float(rest.norm() / whitened.norm())
        return replace(self.solution, worst_residual=worst, converged=worst <= tolerance)

    def _linear_mean(self) -> Image:
        h = self.model.jacobian.pre_activation - self.model.features.latent.params_image
        update = (self._cross @ self.solution.value)[:, 0].reshape(h.shape)
        h = h + update.to(h)
        if self.model.activation == "before":
            image = self.model.jacobian.network.image(h)
        else:
            image = self.image + self.model.slope * (h - self.model.jacobian.pre_activation)
        return image + self._nugget_mean

    @property
    def _nugget_mean(self) -> Tensor | float:
        """``E[n | y] = τ² Aᵀ K⁻¹ r``, 0 without a nugget."""
        if self.model.log_nugget_variance is None:
            return 0.0
        rows = self.data.rows(self.model).flatten(1).double()
        mean = self.model.nugget_variance * (rows.mT @ self.solution.value)
        return mean.reshape(self.image.shape).to(self.image)

    @cached_property
    def _cross(self) -> Tensor:
        """``Cov[h, y] = J Σ Jᵀ S Bᵀ``: (pixels, k) float64, one JVP a row at most."""
        model, features = self.model, self.model.features
        slope = model.slope.reshape(-1)
        rows = self.data.rows(model)
        if features.latent.pixel_gram is not None:
            latent = torch.tensordot(model.prior.coefficients(), features.latent.pixel_gram, 1)
            return latent @ (rows.flatten(1) * slope).double().mT
        columns, made = [], 0
        for chunk in self.data.rows_in_weights(model).split(CHUNK):
            weights = model.prior.covariance_apply(chunk)
            columns.append(model.jacobian.forward(weights).flatten(1).mT.double())
            made += len(chunk)
            self._tell(made, 0)
        return torch.cat(columns, dim=1)

    def _tell(self, rows: int, draws: int) -> None:
        """Report the JVPs made of the rows and of the draws behind the std."""
        if self._progress is not None and draws <= (self.std_samples or 0):
            total = len(self.data.rows_in_weights(self.model)) + (self.std_samples or 0)
            self._progress(rows + draws, total)

    @cached_property
    def _whitened(self) -> Tensor:
        """``L⁻¹ Cov[y, h]``: (k, pixels)."""
        return self._factor.whiten(self._cross.mT)

    @cached_property
    def pre_activation_variance(self) -> Image:
        """Posterior variance of each h, exact or from samples."""
        model, shape = self.model, self.image.shape
        if self.image.numel() <= MAX_EXACT_PIXELS:
            prior = model.prior.coefficients() @ model.features.latent.pixel_variance
            return (prior - self._whitened.square().sum(0)).clamp(min=0).reshape(shape)
        return _mean_square(h for h, _ in self._draws)

    @cached_property
    def _pushed(self) -> tuple[Image, Image, Image]:
        """``E[s(h)]``, the slope and the unexplained variance of x given h, all float64."""
        model = self.model
        if model.activation == "through":
            slope = model.slope.double()
            return self.image.double(), slope, torch.zeros_like(slope)
        return statistical_linearisation(
            model.jacobian.network.image,
            model.jacobian.pre_activation.double(),
            self.pre_activation_variance,
        )

    @property
    def _floor(self) -> float:
        return (RESOLUTION * self.model.jacobian.network.image_scale) ** 2

    @cached_property
    def _dense(self) -> Tensor:
        model, features = self.model, self.model.features
        if features.latent.pixel_gram is None:
            raise InputError(
                f"expected at most {MAX_DENSE_PIXELS} pixels for a full covariance, got "
                f"{self.image.numel()}; ask for a smaller mask, a functional, or samples"
            )
        _, slope, unexplained = (part.reshape(-1) for part in self._pushed)
        latent = torch.tensordot(model.prior.coefficients(), features.latent.pixel_gram, 1)
        prior = slope[:, None] * latent * slope
        prior.diagonal().add_(model.nugget_variance.to(prior))
        whitened = self._whitened * slope + self._whitened_nugget
        prior.sub_(whitened.mT @ whitened)
        prior.diagonal().clamp_(min=0).add_(unexplained + self._floor)
        return positive_definite((prior + prior.mT) / 2, self._floor)

    @cached_property
    def _whitened_nugget(self) -> Tensor | float:
        """``L⁻¹ Cov[y, n] = τ² L⁻¹ A``: (k, pixels), 0 without a nugget."""
        if self.model.log_nugget_variance is None:
            return 0.0
        rows = self.data.rows(self.model).flatten(1).double()
        return self.model.nugget_variance * self._factor.whiten(rows)

    def covariance(self, mask: Mask | None = None) -> Tensor:
        if self.model.features.latent.pixel_gram is not None:
            return select(self._dense, mask)
        count = self.image.numel() if mask is None else int(mask.sum())
        if count > MAX_DENSE_PIXELS:
            raise InputError(
                f"expected a mask of at most {MAX_DENSE_PIXELS} pixels for a covariance, got "
                f"{count}; choose a smaller region, a functional, or samples"
            )
        chosen = torch.ones_like(self.image).bool() if mask is None else mask
        index = chosen.reshape(-1).nonzero()[:, 0].to(self.image.device)
        unit = torch.nn.functional.one_hot(index, self.image.numel()).double()
        return self._form(unit)

    def functional_variance(self, weights: Image) -> float:
        return float(self._form(weights.reshape(1, -1).double())[0, 0])

    def _form(self, functionals: Tensor) -> Tensor:
        """``B Cov Bᵀ`` for rows B (k, pixels), one VJP each where the image is not small."""
        model = self.model
        if model.features.latent.pixel_gram is not None:
            return functionals @ self._dense @ functionals.mT
        _, slope, unexplained = (part.reshape(-1) for part in self._pushed)
        sloped = functionals * slope
        rows = model.jacobian.adjoint(sloped.reshape(-1, *self.image.shape).to(self.image))
        prior = (rows @ model.prior.covariance_apply(rows).mT).double()
        diagonal = model.nugget_variance + unexplained + self._floor
        whitened = self._whitened @ sloped.mT
        if model.log_nugget_variance is not None:
            whitened = whitened + self._whitened_nugget @ functionals.mT
        return prior + (functionals * diagonal) @ functionals.mT - whitened.mT @ whitened

    def covariance_product(self, image: Image) -> Image:
        if self.model.features.latent.pixel_gram is not None:
            return (self._dense @ image.double().reshape(-1)).reshape(image.shape)
        model, image = self.model, image.double()
        _, slope, unexplained = self._pushed
        weights = model.jacobian.adjoint((slope * image).to(self.image))
        latent = model.jacobian.forward(model.prior.covariance_apply(weights)).double()
        whitened = (self._whitened @ (slope * image).reshape(-1)).double()
        diagonal = model.nugget_variance + unexplained + self._floor
        nugget = self._whitened_nugget
        if model.log_nugget_variance is not None:
            whitened = whitened + nugget @ image.reshape(-1)
        explained = slope * (whitened @ self._whitened).reshape(image.shape)
        if model.log_nugget_variance is not None:
            explained = explained + (whitened @ nugget).reshape(image.shape)
        return slope * latent + diagonal * image - explained

    @property
    def std_samples(self) -> int | None:
        return STD_SAMPLES if self.image.numel() > MAX_EXACT_PIXELS else None

    def std(self) -> Image:
        return self._std

    @cached_property
    def _std(self) -> Image:
        if self.model.features.latent.pixel_gram is not None:
            return self._dense.diagonal().sqrt().reshape(self.image.shape)
        _, slope, unexplained = self._pushed
        if self.model.log_nugget_variance is None:
            variance = slope.square() * self.pre_activation_variance
        elif self.image.numel() <= MAX_EXACT_PIXELS:
            flat = slope.reshape(-1)
            prior = self.model.prior.coefficients() @ self.model.features.latent.pixel_variance
            whitened = self._whitened * flat + self._whitened_nugget
            variance = flat.square() * prior + self.model.nugget_variance
            variance = (variance - whitened.square().sum(0)).clamp(min=0).reshape(slope.shape)
        else:
            variance = _mean_square(slope * h + nugget for h, nugget in self._draws)
        return (variance + unexplained + self._floor).sqrt()

    def sample(self, num_samples: int, *, generator: torch.Generator) -> Image:
        """Matheron's rule: a draw from the prior, corrected by its own simulated residual.

        ``x + Kxy K⁻¹ (ε - A x)`` with ``x ~ N(0, Kxx)``, ``ε ~ N(0, σ² W⁻¹)``: one JVP a draw.
        """
        parts = self._sample_parts(num_samples, generator)
        return self.image + self._deviations(*parts, generator)

    def _deviations(self, h: Tensor, nugget: Tensor | float, generator) -> Tensor:
        """Draws of ``x - image`` from draws of ``h - E[h]`` and of the nugget."""
        _, slope, unexplained = self._pushed
        extra = torch.randn(h.shape, generator=generator, device=h.device, dtype=h.dtype)
        extra = (unexplained + self._floor).sqrt().to(h) * extra
        return slope.to(h) * h + nugget + extra

    @cached_property
    def _draws(self) -> list[tuple[Tensor, Tensor | float]]:
        """Draws of h and of the nugget for the std and for what is kept of the posterior."""
        generator, draws = torch.Generator(self.image.device).manual_seed(0), []
        for made in range(CHUNK, STD_SAMPLES + 1, CHUNK):
            draws.append(self._sample_parts(CHUNK, generator))
            self._tell(len(self.data.rows_in_weights(self.model)), made)
        return draws

    def _sample_parts(self, num_samples: int, generator) -> tuple[Tensor, Tensor | float]:
        """Posterior draws of ``h - E[h]`` and of the nugget, (num_samples, height, width) each."""
        model, shape = self.model, (num_samples, *self.image.shape)
        place = {"generator": generator, "device": self.image.device, "dtype": self.image.dtype}
        weights = torch.randn(num_samples, *model.jacobian.domain_shape, **place)
        h = model.jacobian.forward(model.prior.root_apply(weights))
        nugget = 0.0
        image = model.slope * h
        if model.log_nugget_variance is not None:
            nugget = model.nugget_variance.sqrt().to(h) * torch.randn(shape, **place)
            image = image + nugget
        measured = self.data.measure(model, image)
        noise = torch.randn(measured.shape, generator=generator, device=h.device)
        white = self._factor.whiten((noise * self.data.noise_std(model) - measured).mT)
        h = h + (white.mT @ self._whitened).reshape(shape).to(h)
        if model.log_nugget_variance is not None:
            nugget = nugget + (white.mT @ self._whitened_nugget).reshape(shape).to(h)
        return h, nugget

    def tensors(self) -> dict[str, Tensor]:
        out = {"image": self.image, "mean": self.mean, "std": self.std()}
        if self.model.features.latent.pixel_gram is not None:
            out["covariance"] = self.covariance()
        else:
            generator = torch.Generator(self.image.device).manual_seed(2)
            deviations = self.image.new_empty(STD_SAMPLES, *self.image.shape)
            for place, parts in zip(deviations.split(CHUNK), self._draws, strict=True):
                place.copy_(self._deviations(*parts, generator))
            out["deviations"] = deviations
        return saved(out, self.solution)


def _mean_square(draws: Iterable[Tensor]) -> Tensor:
    """Mean over all draws of their squares, (height, width) float64."""
    return sum(draw.double().square().sum(0) for draw in draws) / STD_SAMPLES


def relinearise(model: LinearGaussianModel, scan, solver: Solver | None = None):
    """The model with the slopes ``E[s'(h)]`` of its own posterior in place of ``s'(h*)``.

    A slope update in the spirit of posterior linearisation (García-Fernández et al. 2015), which
    would also move the centre and add the unexplained variance to K: a saturated pixel whose h is
    unsure gets a slope again. The hyperparameters should be optimised anew afterwards.
    The same model where the slope does not depend on h: with activation ``"through"``, or for a
    network without output activation.
    """
    if not model.slope_varies:
        return model
    slope = Posterior(model, scan, solver)._pushed[1]
    return model.with_slope(slope.to(model.image))
