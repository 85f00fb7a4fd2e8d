"""The measured rays as the evidence sees them: flat, in float64, without rays of weight zero."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pdip.linearised.model import LinearGaussianModel
from pdip.typing import Image, Scalar


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

    def covariance(self, model: LinearGaussianModel) -> Tensor:
        """``K`` of the used rays: (m, m) float64."""
        signal = model.signal_covariance()
        if self.num_rays < len(signal):
            signal = signal[self.index][:, self.index]
        return signal + torch.diag(model.noise_variance.to(self.weights) / self.weights)
