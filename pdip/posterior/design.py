"""Which view to measure next: what a posterior expects to learn from views not yet taken.

The linear model's covariance does not depend on the data, so that views can be chosen one after
another, and the covariance conditioned on them, before any of them is measured (Barbano et al.
2022, Bayesian experimental design for CT with the linearised deep image prior).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from pdip.errors import InputError
from pdip.typing import Image

PerView = Float[Tensor, "views"]


@dataclass(frozen=True)
class CandidateViews:
    """The Gaussian on the rays of all candidate views: ``A Σ Aᵀ = F Fᵀ``.

    All algebra is exact for this covariance and takes place in the k columns of F. Where F holds
    k posterior samples, Σ is their sample covariance: the first choices are as good as
    ``1 / √k``, but it knows k directions only and shrinks by about ``1 - r / k`` too much once
    the chosen views have taught r of them; choose a few views, measure and fit again.

    Attributes:
        root: F, (views, detectors, k) float64, dimensionless.
        noise_variance: σ² of a ray, dimensionless.
    """

    root: Float[Tensor, "views detectors k"]
    noise_variance: float

    @classmethod
    def of(cls, ray, deviations: Image, noise_variance: float) -> CandidateViews:
        """The candidates of a ray transform over all of them.

        Args:
            ray: A, of every candidate view.
            deviations: D with ``Σ = Σ_k d_k d_kᵀ``, (k, height, width), 1/mm: the columns of a
                root of the posterior covariance, or ``(samples - image) / √k``.
            noise_variance: σ² of a ray.

        Raises:
            InputError: a noise variance that is not positive.
        """
        if not noise_variance > 0:
            raise InputError(f"expected a positive noise variance, got {noise_variance}")
        projected = ray.forward(deviations.to(ray.dtype)).double()
        return cls(projected.movedim(0, -1).contiguous(), noise_variance)

    @classmethod
    def sampled(
        cls, posterior, ray, noise_variance: float, *, num_samples: int, generator: torch.Generator
    ) -> CandidateViews:
        """The candidates with samples of a posterior in place of a root of its covariance.

        Args:
            posterior: an :class:`~pdip.posterior.ImagePosterior`.
            ray, noise_variance: as for :meth:`of`.
            num_samples: k, several times the number of directions that the views will teach.
            generator: source of randomness.
        """
        draws = posterior.sample(num_samples, generator=generator)
        return cls.of(ray, (draws - posterior.image) / num_samples**0.5, noise_variance)

    def predictive_variance(self) -> PerView:
        """``tr(A_v Σ A_vᵀ) / detectors + σ²``: mean variance of the rays of each view."""
        return self.root.square().sum(-1).mean(-1) + self.noise_variance

    def information_gain(self) -> PerView:
        """``½ log |I + σ⁻² A_v Σ A_vᵀ|``: nats that each view would tell of the image."""
        return torch.stack([self._spectrum(view)[1].log().sum() for view in self.root]) / 2

    def measured(self, view: int) -> CandidateViews:
        """The same candidates after a view was measured, whatever it showed.

        ``Σ - Σ A_vᵀ (A_v Σ A_vᵀ + σ² I)⁻¹ A_v Σ`` has the root ``F (I - U (1 - e^{-½}) Uᵀ)``
        where U are the eigenvectors of ``I + σ⁻² F_vᵀ F_v`` and e its eigenvalues.
        """
        vectors, values = self._spectrum(self.root[view])
        shrunk = (self.root @ vectors) * (1 - values.rsqrt())
        return replace(self, root=self.root - shrunk @ vectors.mT)

    def _spectrum(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Eigenvectors U (k, r) and eigenvalues e of ``I + σ⁻² F_vᵀ F_v`` that differ from 1."""
        squares, left = torch.linalg.eigh(rows @ rows.mT / self.noise_variance)
        kept = squares > squares[-1] * len(squares) * torch.finfo(squares.dtype).eps
        scale = (squares[kept] * self.noise_variance).sqrt()
        return rows.mT @ left[:, kept] / scale, 1 + squares[kept]


CRITERIA: dict[str, Callable[[CandidateViews], PerView]] = {
    "predictive_variance": CandidateViews.predictive_variance,
    "information_gain": CandidateViews.information_gain,
}
"""What a view is worth, by name."""


def next_views(
    candidates: CandidateViews, count: int, criterion: str, taken: tuple[int, ...] = ()
) -> tuple[int, ...]:
    """The views to measure next, greedily: each is the best given all those before it.

    Args:
        candidates: the Gaussian on their rays.
        count: how many views to choose.
        criterion: a key of :data:`CRITERIA`.
        taken: views that are not to be chosen, such as those measured already.

    Returns:
        indices of views, in the order of choice.

    Raises:
        InputError: an unknown criterion, or fewer than ``count`` views to choose from.
    """
    if criterion not in CRITERIA:
        raise InputError(f"expected a criterion among {', '.join(CRITERIA)}, got {criterion!r}")
    free = len(candidates.root) - len(set(taken))
    if not 1 <= count <= free:
        raise InputError(f"expected to choose 1 to {free} views, got {count}")
    chosen: list[int] = []
    for _ in range(count):
        if chosen:
            candidates = candidates.measured(chosen[-1])
        worth = CRITERIA[criterion](candidates)
        worth[[*taken, *chosen]] = -torch.inf
        chosen.append(int(worth.argmax()))
    return tuple(chosen)
