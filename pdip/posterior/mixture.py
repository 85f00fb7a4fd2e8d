"""A mixture of posteriors by its moments, and a posterior read back from a run directory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from pdip.errors import ComputationError, InputError
from pdip.posterior.image_posterior import MAX_DENSE_PIXELS, ImagePosterior, saved, select
from pdip.solvers import Solution
from pdip.typing import Image, Mask

CENTRES = {"network": 0.0, "midpoint": 0.5, "linear": 1.0}
"""What the error bars lie around, by the weight of the linear mean against the network's image."""


@final
class Mixture(ImagePosterior):
    """Equal mixture of posteriors from several fits, by its moments about the image shown.

    ``Cov = (1/R) Σ_r [C_r + (μ_r - x̂)(μ_r - x̂)ᵀ]``: C_r belongs to the linear model's mean μ_r, so
    the error of another image x̂ has that second moment under the mixture; where the network and its
    linear model disagree, neither is certain. Also for a single fit.

    Args:
        posteriors: one for each restart, on the same grid.
        centre: x̂: ``"network"``, the mean x̄ of the networks' images; ``"linear"``, that of the
            linear models' means μ̄; ``"midpoint"`` ``(x̄ + μ̄) / 2``.

    Raises:
        InputError: no posterior, or an unknown ``centre``.
    """

    def __init__(self, posteriors: Sequence[ImagePosterior], *, centre: str = "network"):
        if not posteriors:
            raise InputError("expected at least one posterior for a mixture, got none")
        if centre not in CENTRES:
            raise InputError(f"expected centre {' or '.join(CENTRES)}, got {centre!r}")
        self.posteriors = tuple(posteriors)
        self._means = torch.stack([p.mean for p in posteriors])
        self.mean = self._means.mean(0)
        images = torch.stack([p.image for p in posteriors]).mean(0)
        self.image = torch.lerp(images, self.mean, CENTRES[centre])
        worst = max((p.solution for p in posteriors), key=lambda s: s.worst_residual)
        converged = all(p.solution.converged for p in posteriors)
        self.solution = Solution(worst.value, worst.worst_residual, converged)

    @property
    def _deviations(self) -> Tensor:
        return (self._means - self.image).double()

    def covariance(self, mask: Mask | None = None) -> Tensor:
        spread = self._deviations.flatten(1) if mask is None else self._deviations[:, mask]
        within = sum(p.covariance(mask) for p in self.posteriors)
        return (within + spread.mT @ spread) / len(self.posteriors)

    def std(self) -> Image:
        within = torch.stack([p.std().double().square() for p in self.posteriors]).mean(0)
        return (within + self._deviations.square().mean(0)).sqrt()

    def sample(self, num_samples: int, *, generator: torch.Generator) -> Image:
        device, parts = self.image.device, len(self.posteriors)
        which = torch.randint(parts, (num_samples,), generator=generator, device=device)
        out = self.image.new_empty(num_samples, *self.image.shape)
        for i, posterior in enumerate(self.posteriors):
            count = int((which == i).sum())
            if count:
                draws = posterior.sample(count, generator=generator) - posterior.image
                out[which == i] = self._around(i, draws, generator).to(out)
        return self.image + out

    def _around(self, part: int, draws: Tensor, generator: torch.Generator) -> Tensor:
        """Draws of ``N(0, C_r)`` made draws of ``N(0, C_r + (μ_r - x̂)(μ_r - x̂)ᵀ)``."""
        step = torch.randn(len(draws), 1, 1, generator=generator, device=generator.device)
        return draws + step.to(draws) * self._deviations[part].to(draws)

    def functional_variance(self, weights: Image) -> float:
        within = sum(p.functional_variance(weights) for p in self.posteriors)
        spread = (self._deviations * weights).sum((-2, -1)).square().sum()
        return float(within + spread) / len(self.posteriors)

    def covariance_product(self, image: Image) -> Image:
        within = sum(p.covariance_product(image) for p in self.posteriors)
        along = (self._deviations * image).sum((-2, -1))
        return (within + torch.tensordot(along, self._deviations, 1)) / len(self.posteriors)

    @property
    def std_samples(self) -> int | None:
        draws = [p.std_samples for p in self.posteriors if p.std_samples is not None]
        return sum(draws) if draws else None

    def tensors(self) -> dict[str, Tensor]:
        parts = [p.tensors() for p in self.posteriors]
        out = {"image": self.image, "mean": self.mean, "std": self.std()}
        if "covariance" in parts[0]:
            out["covariance"] = self.covariance()
        else:
            each = -(-len(parts[0]["deviations"]) // len(parts))
            generator = torch.Generator(self.image.device).manual_seed(3)
            around = [
                self._around(i, part["deviations"][:each].to(self.image), generator)
                for i, part in enumerate(parts)
            ]
            out["deviations"] = torch.cat(around)
        return saved(out, self.solution)


@final
class SavedPosterior(ImagePosterior):
    """A posterior kept as numbers: moments and, where it does not fit, samples.

    Args:
        tensors: ``image``, ``mean``, ``std`` and either ``covariance`` (pixels, pixels) or
            ``deviations`` (samples, height, width); ``worst_residual`` and ``converged`` of the
            solves behind them, which count as NaN and not converged where they are not known.

    Raises:
        InputError: a tensor is missing.
        ComputationError: draws are asked of a covariance that is not positive definite.
    """

    def __init__(self, tensors: dict[str, Tensor]):
        missing = {"image", "mean", "std"} - tensors.keys()
        if missing or not tensors.keys() & {"covariance", "deviations"}:
            raise InputError(
                f"expected a saved posterior with image, mean, std and covariance or deviations, "
                f"got {', '.join(sorted(tensors)) or 'nothing'}"
            )
        self.image, self.mean = tensors["image"], tensors["mean"]
        self._tensors = tensors
        self.solution = Solution(
            self.image.new_zeros(0),
            float(tensors.get("worst_residual", math.nan)),
            bool(tensors.get("converged", False)),
        )

    def std(self) -> Image:
        return self._tensors["std"]

    def covariance(self, mask: Mask | None = None) -> Tensor:
        if "covariance" in self._tensors:
            return select(self._tensors["covariance"].double(), mask)
        deviations = self._tensors["deviations"].double()
        chosen = deviations.flatten(1) if mask is None else deviations[:, mask]
        if chosen.shape[1] > MAX_DENSE_PIXELS:
            raise InputError(
                f"expected a mask of at most {MAX_DENSE_PIXELS} pixels, got {chosen.shape[1]}"
            )
        return chosen.mT @ chosen / len(chosen)

    def functional_variance(self, weights: Image) -> float:
        weights = weights.double()
        if "covariance" in self._tensors:
            flat = weights.reshape(-1)
            return float(flat @ self._tensors["covariance"].double() @ flat)
        return float((self._tensors["deviations"].double() * weights).sum((-2, -1)).square().mean())

    def covariance_product(self, image: Image) -> Image:
        if "covariance" in self._tensors:
            product = self._tensors["covariance"].double() @ image.double().reshape(-1)
            return product.reshape(image.shape)
        deviations = self._tensors["deviations"].double()
        along = (deviations * image).sum((-2, -1))
        return torch.tensordot(along, deviations, 1) / len(deviations)

    def sample(self, num_samples: int, *, generator: torch.Generator) -> Image:
        place = {"generator": generator, "device": self.image.device, "dtype": self.image.dtype}
        if "deviations" in self._tensors:
            deviations = self._tensors["deviations"].to(self.image)
            draw = torch.randn(num_samples, len(deviations), **place)
            return self.image + torch.tensordot(draw, deviations, 1) / len(deviations) ** 0.5
        root, info = torch.linalg.cholesky_ex(self._tensors["covariance"].double())
        if bool(info):
            raise ComputationError(
                f"expected a positive definite covariance to draw from, got one whose leading "
                f"minor {int(info)} of {len(root)} is not; add a floor to its diagonal"
            )
        draw = torch.randn(num_samples, len(root), **place).double()
        return self.image + (draw @ root.mT).reshape(-1, *self.image.shape).to(self.image)

    def tensors(self) -> dict[str, Tensor]:
        return dict(self._tensors)
