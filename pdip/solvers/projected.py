"""Condition on a few combinations of the data that hold nearly all of its signal."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pdip.errors import InputError
from pdip.solvers.cholesky import Cholesky

BLOCK = 128
PROBES = 16
FEW_RAYS = 4096  # up to here the algebra of all rays would be affordable, and that of a part is
LARGEST_RANK = 1024
COARSER = 4  # times fewer combinations in the rounds before the last
ORTHONORMAL = 1e-10
RANK_TOLERANCE = 1e-14  # a column shorter than this part of the longest is rounding


@dataclass(frozen=True)
class Projected(Cholesky):
    """Exact algebra on ``Qᵀ y`` with an orthonormal Q that spans the range of the signal.

    The data are the combinations that Q keeps; what lies outside counts as noise in the evidence
    and is ignored by the posterior, whose variance is therefore never below the exact one at the
    same hyperparameters (computation-aware: Wenger et al. 2022). Q is a randomised range of the
    signal's covariance at the starting hyperparameters, found in blocks of which each looks
    outside of those before (Halko et al. 2011, sec. 4.4), and one step of subspace iteration
    further in every later round.

    Args:
        rank: number of combinations k; None: blocks of 128 until ``outside`` is met.
        outside: the signal variance that may be left outside of Q, for each ray and relative to
            the noise variance, when the rank is chosen.
        largest_rank: the most combinations that are tried; None: as many as ``outside`` takes up
            to 4 096 rays, 1 024 beyond.
        rounds: searches for hyperparameters, each on a new Q. Those before the last, which only say
            where the last one begins, have at most a quarter of the combinations.
        seed: of the random combinations that Q starts from.
        tolerance: as for :class:`Cholesky`.

    Raises:
        InputError: a number out of range.
    """

    rank: int | None = None
    outside: float = 0.002
    largest_rank: int | None = None
    rounds: int = 2
    seed: int = 0

    compresses = True

    def __post_init__(self):
        ranks = [rank for rank in (self.rank, self.largest_rank) if rank is not None]
        if min([*ranks, self.rounds]) < 1:
            raise InputError(
                f"expected a positive rank, largest_rank and rounds, got rank={self.rank}, "
                f"largest_rank={self.largest_rank} and rounds={self.rounds}"
            )
        if len(ranks) == 2:
            raise InputError(
                f"expected a rank or a largest_rank, got rank={self.rank} and "
                f"largest_rank={self.largest_rank}; leave out one"
            )
        if not self.outside > 0:
            raise InputError(f"expected a positive share left outside, got {self.outside}")

    def coarse(self) -> Projected:
        if self.rank is not None:
            return replace(self, rank=math.ceil(self.rank / COARSER))
        return replace(self, largest_rank=math.ceil((self.largest_rank or LARGEST_RANK) / COARSER))

    def limit(self, num_rays: int) -> int:
        open_limit = num_rays if num_rays <= FEW_RAYS else LARGEST_RANK
        return min(num_rays, self.rank or self.largest_rank or open_limit)

    def compress(
        self,
        signal: Callable[[Tensor], Tensor],
        size: int,
        noise_variance: float,
        guess: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> tuple[Tensor, float]:
        """Q for the signal's covariance S, given by its action on columns (m, j).

        Args:
            signal: ``V -> S V``, symmetric positive semidefinite, on whitened rays.
            size: m.
            noise_variance: σ².
            guess: ``S Q`` of an earlier Q (m, k); the new one holds its range, up to the rank
                that is asked for.
            device: where the signal lives.

        Returns:
            Q, (m, k) float64, and the variance outside of it, summed over rays, in units of σ².
        """
        generator = torch.Generator().manual_seed(self.seed)
        most = self.limit(size)
        basis = torch.zeros(size, 0, dtype=torch.float64, device=device)

        def probes(count: int) -> Tensor:
            """Random directions outside of the basis: rounding is relative to what is left."""
            draw = torch.randn(size, count, generator=generator, dtype=torch.float64)
            return outside(basis, draw.to(basis))

        if guess is not None:
            basis = orthonormal(guess[:, :most])
        while True:
            count, images, left = basis.shape[1], [], math.inf
            if count == size:
                return basis, 0.0
            if count:  # what is seen of the rest by these probes is the beginning of the next block
                directions = probes(PROBES)
                images = [signal(directions)]
                left = self._trace(directions, images[0]) / noise_variance
            if count >= most or (self.rank is None and left <= self.outside * size):
                return basis, left
            block = min(BLOCK, most - count)
            if block > PROBES * len(images):
                images.append(signal(probes(block - PROBES * len(images))))
            basis = extended(basis, torch.cat(images, dim=1)[:, :block])
            if basis.shape[1] == count:  # nothing of the signal is left
                return basis, left

    @staticmethod
    def _trace(probes: Tensor, images: Tensor) -> float:
        """Hutchinson's estimate of the trace of what maps probes to images."""
        return max(float((probes * images).sum()) / probes.shape[1], 0.0)


def outside(basis: Tensor, columns: Tensor) -> Tensor:
    """The part of columns that is orthogonal to a basis."""
    columns = columns - basis @ (basis.mT @ columns)
    return columns - basis @ (basis.mT @ columns)


def orthonormal(columns: Tensor) -> Tensor:
    """An orthonormal basis of the range of columns, which are left as they are if they are one."""
    unit = torch.eye(columns.shape[1]).to(columns)
    if torch.allclose(columns.mT @ columns, unit, rtol=0.0, atol=ORTHONORMAL):
        return columns
    return extended(columns[:, :0], columns)


def extended(basis: Tensor, images: Tensor) -> Tensor:
    """The basis with the range of more columns, orthonormal; columns it holds already are left
    out."""
    if not images.shape[1]:
        return basis
    new = outside(basis, images)
    vectors, triangle = torch.linalg.qr(new)
    kept = triangle.diagonal().abs() > RANK_TOLERANCE * images.norm(dim=0).max()
    vectors = torch.linalg.qr(outside(basis, vectors[:, kept]))[0]
    return torch.cat([basis, vectors], dim=1)
