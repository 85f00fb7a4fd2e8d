"""The linear Gaussian model around a fit: ``x = x* + S J_h (θ - θ*) + nugget``, ``θ ~ N(0, Σ)``."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from linear_operator.operators import LinearOperator
from torch import Tensor

from pdip.errors import InputError
from pdip.linearised.covariance import MatrixFreeCovariance
from pdip.linearised.features import Features, LatentFeatures
from pdip.linearised.jacobian import Jacobian
from pdip.linearised.measurement import Compression, Measurement
from pdip.linearised.prior import ParameterPrior
from pdip.typing import Image, Params, Scalar

ACTIVATIONS = ("before", "through")


@dataclass(frozen=True)
class LinearGaussianModel:
    """A Gaussian-process prior on images whose covariance is that of the linearised network.

    ``h = h* + J_h (θ - θ*)`` before the output activation, ``x = x* + S (h - h*) + n`` after it,
    ``y = A x + η`` with ``n ~ N(0, τ² I)`` (optional) and ``η ~ N(0, σ² W⁻¹)``.

    Attributes:
        jacobian: J_h, of the network before its output activation.
        ray: A.
        prior: ``p(θ)`` with its hyperparameters.
        image: x*, (height, width), 1/mm.
        slope: S, the diagonal as an image.
        activation: ``"before"``: the posterior of h is carried through the activation by its
            moments; ``"through"``: S is the derivative at h* and x is Gaussian throughout.
        features: what the evidence needs of J on images, computed once for this slope.
        measurement: what it needs of J on the rays, or on combinations of them.
        log_noise_variance: ``log σ²``, float64.
        log_nugget_variance: ``log τ²`` or None.
    """

    jacobian: Jacobian
    ray: object
    prior: ParameterPrior
    image: Image
    slope: Image
    activation: str
    features: Features
    measurement: Measurement
    log_noise_variance: Scalar
    log_nugget_variance: Scalar | None = None

    @property
    def noise_variance(self) -> Scalar:
        return self.log_noise_variance.exp()

    @property
    def nugget_variance(self) -> Scalar:
        """τ², zero without a nugget."""
        if self.log_nugget_variance is None:
            return torch.zeros_like(self.log_noise_variance)
        return self.log_nugget_variance.exp()

    @property
    def slope_varies(self) -> bool:
        """Whether the slope depends on h: S is then chosen anew once a posterior is known."""
        return self.activation == "before" and self.jacobian.network.activation.name != "none"

    @property
    def names(self) -> tuple[str, ...]:
        """One name for each entry of ``log_hyperparameters``."""
        nugget = () if self.log_nugget_variance is None else ("log_nugget_variance",)
        return (*self.prior.names, *nugget, "log_noise_variance")

    @property
    def log_hyperparameters(self) -> Tensor:
        """All hyperparameters on log scale: (h,) float64."""
        parts = [self.prior.log_hyperparameters, self.log_noise_variance.reshape(1)]
        if self.log_nugget_variance is not None:
            parts.insert(1, self.log_nugget_variance.reshape(1))
        return torch.cat(parts)

    def at(self, log_hyperparameters: Tensor) -> LinearGaussianModel:
        """The same model with other hyperparameters; differentiable in them."""
        count = len(self.prior.log_hyperparameters)
        nugget = None if self.log_nugget_variance is None else log_hyperparameters[count]
        return replace(
            self,
            prior=self.prior.at(log_hyperparameters[:count]),
            log_nugget_variance=nugget,
            log_noise_variance=log_hyperparameters[-1],
        )

    def with_slope(self, slope: Image) -> LinearGaussianModel:
        """The same model with another S; the features are computed anew."""
        features = self.features.with_slope(slope)
        measurement = self.measurement.with_features(features)
        return replace(self, slope=slope, features=features, measurement=measurement)

    def compressed(
        self, compression: Compression | None, known: Params | None = None
    ) -> LinearGaussianModel:
        """The same model, its data reduced to combinations of rays; None for every ray.

        Args:
            compression: the combinations.
            known: products of the first of them with ``S J_h``, in whole pieces.
        """
        measurement = Measurement(self.features, self.ray, compression, known)
        return replace(self, measurement=measurement)

    def double(self) -> LinearGaussianModel:
        """The same model with its network passes in double precision."""
        exact = self.features.double
        return replace(
            self,
            jacobian=exact.latent.jacobian,
            ray=exact.ray,
            image=exact.image,
            slope=exact.slope,
            features=exact,
        )

    def signal_covariance(self) -> Tensor:
        """``B (S J_h Σ J_hᵀ S + τ² I) Bᵀ`` assembled from the Gram bases: (rows, rows) float64.

        The rows B are those of A, or the combinations of the model's compression.
        """
        signal = torch.tensordot(self.prior.coefficients(), self.measurement.gram, 1)
        if self.log_nugget_variance is None:
            return signal
        return signal + self.nugget_variance * self.measurement.nugget_gram

    def image_covariance(self) -> LinearOperator:
        """``S J_h Σ J_hᵀ S + τ² I`` on flat images, matrix-free; no gradient in φ."""
        return ImageCovariance(self.slope, model=self.at(self.log_hyperparameters.detach()))

    def sinogram_covariance(self, weights: Tensor | None = None) -> LinearOperator:
        """``K = A (S J_h Σ J_hᵀ S + τ² I) Aᵀ + σ² W⁻¹`` on flat sinograms, matrix-free.

        No gradient in φ.

        Args:
            weights: W, (views, detectors); None for the identity.

        Raises:
            InputError: a weight is not positive: the noise of that ray has no finite variance.
        """
        if weights is None:
            weights = torch.ones(self.ray.range_shape)
        if not bool((weights > 0).all()):
            raise InputError(
                f"expected positive weights, got {int((weights <= 0).sum())} that are not; leave "
                "these rays out of the covariance"
            )
        flat = weights.to(self.image).reshape(-1)
        return SinogramCovariance(flat, model=self.at(self.log_hyperparameters.detach()))


class ImageCovariance(MatrixFreeCovariance):
    """``S J_h Σ J_hᵀ S + τ² I`` of a :class:`LinearGaussianModel`."""

    def __init__(self, slope: Image, *, model: LinearGaussianModel):
        super().__init__(slope, model=model)
        self.slope = slope
        self.model = model
        self.side = model.image.numel()
        self.like = model.image

    def _apply(self, vectors: Tensor) -> Tensor:
        model = self.model
        images = vectors.reshape(-1, *model.image.shape)
        weights = model.prior.covariance_apply(model.jacobian.adjoint(images * self.slope))
        signal = self.slope * model.jacobian.forward(weights)
        return (signal + model.nugget_variance.to(images) * images).reshape(vectors.shape)


class SinogramCovariance(MatrixFreeCovariance):
    """``A ImageCovariance Aᵀ + σ² W⁻¹`` of a :class:`LinearGaussianModel`."""

    def __init__(self, weights: Tensor, *, model: LinearGaussianModel):
        super().__init__(weights, model=model)
        self.model = model
        self.weights = weights
        self.side = weights.numel()
        self.like = model.image

    def _apply(self, vectors: Tensor) -> Tensor:
        ray = self.model.ray
        images = ray.adjoint(vectors.reshape(-1, *ray.range_shape))
        signal = ImageCovariance(self.model.slope, model=self.model)._apply(images.flatten(1))
        forward = ray.forward(signal.reshape(images.shape)).reshape(vectors.shape)
        return forward + self.model.noise_variance.to(vectors) / self.weights * vectors


def linearise(
    fit,
    ray,
    prior: ParameterPrior,
    *,
    activation: str = "before",
    nugget_std: float | None = None,
) -> LinearGaussianModel:
    """Linearise the network of a fit in its weights.

    Args:
        fit: a :class:`~pdip.dip.DIPFit`; its noise level is the model's starting value.
        ray: the ray transform of the fit.
        prior: which parameters are uncertain, and how.
        activation: ``"before"`` or ``"through"`` the output activation.
        nugget_std: starting value of τ in 1/mm, None for a model without a nugget.

    Raises:
        InputError: an unknown ``activation``, or a nugget that is not positive and finite.
    """
    if activation not in ACTIVATIONS:
        raise InputError(f"expected activation 'before' or 'through', got {activation!r}")
    if nugget_std is not None and not 0 < nugget_std < math.inf:
        raise InputError(f"expected a positive, finite nugget_std, got {nugget_std}")
    jacobian = Jacobian(fit.network, fit.network_input, fit.params, prior.parameters)
    slope = jacobian.slope
    image = fit.network.image(jacobian.pre_activation)
    features = Features(LatentFeatures.of(jacobian, prior), ray, image, slope)
    return LinearGaussianModel(
        jacobian=jacobian,
        ray=ray,
        prior=prior,
        image=image,
        slope=slope,
        activation=activation,
        features=features,
        measurement=Measurement(features, ray),
        log_noise_variance=torch.tensor(2 * math.log(fit.noise_std), dtype=torch.float64),
        log_nugget_variance=(
            None if nugget_std is None else torch.tensor(2 * math.log(nugget_std)).double()
        ),
    )
