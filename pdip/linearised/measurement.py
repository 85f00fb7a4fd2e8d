"""What a scan measures of an image, row by row, and the Gram bases of these rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from pdip.errors import ComputationError
from pdip.linearised.features import Features
from pdip.linearised.gram import gram_bases
from pdip.typing import Image, Params

MAX_BYTES = 18_000_000_000
WORKING_MATRICES = 12  # matrices of rows x rows alive beside the bases
CHUNK = 512
PIECE = 128
"""Rows whose products with the Jacobian are computed together."""


@dataclass(frozen=True)
class Compression:
    """Orthonormal combinations ``Qᵀ W^{1/2} y`` of the rays, on which the inference conditions.

    Attributes:
        basis: Q, (m, k) float64.
        index: flat positions of the m rays, ascending.
        weights: W of these rays, (m,) float64.
        rows: ``Qᵀ W^{1/2} A``, (k, height, width).
        left_outside: variance of the signal that Q does not hold, in noise variances, summed
            over all rays; an estimate.
    """

    basis: Tensor
    index: Tensor
    weights: Tensor
    rows: Image
    left_outside: float


@dataclass(frozen=True)
class Measurement:
    """Rows B of what is measured: those of A, or the combinations of a compression.

    Attributes:
        features: of the image, for one slope S.
        ray: A.
        compression: which combinations of rays are used; None for every ray by itself.
        known: products of the first rows with S J_h, computed before in whole pieces.
    """

    features: Features
    ray: object
    compression: Compression | None = None
    known: Params | None = None

    def with_features(self, features: Features) -> Measurement:
        return replace(self, features=features, known=None)

    @cached_property
    def rows(self) -> Image:
        """B as images, (rows, height, width)."""
        if self.compression is not None:
            return self.compression.rows
        count = self.num_rows
        chunks = []
        for chunk in torch.arange(count, device=self.ray.device).split(CHUNK):
            unit = torch.nn.functional.one_hot(chunk, count).to(self.features.image)
            chunks.append(self.ray.adjoint(unit.reshape(-1, *self.ray.range_shape)))
        return torch.cat(chunks)

    @property
    def num_rows(self) -> int:
        if self.compression is not None:
            return self.compression.basis.shape[1]
        return prod(self.ray.range_shape)

    @cached_property
    def gram(self) -> Tensor:
        """``B S J_h P_c J_hᵀ S Bᵀ``: (patterns, rows, rows) float64; one VJP for each row.

        Raises:
            ComputationError: the bases would not fit into memory.
        """
        features = self.features
        self._check_memory()
        if features.latent.pixel_gram is None:
            return gram_bases(self.in_weights, features.latent.prior)
        flat = (self.rows * features.slope).flatten(1).double()
        return torch.stack([flat @ gram @ flat.mT for gram in features.latent.pixel_gram])

    @cached_property
    def in_weights(self) -> Params:
        """``B S J_h``: (rows, params), one VJP for each row that is not known; kept for all that
        needs it again.

        In pieces, as rounding depends on what is computed together: the same bits whether the first
        ones are known or not.
        """
        adjoint, images = self.features.latent.jacobian.adjoint, self.rows * self.features.slope
        known = () if self.known is None else (self.known,)
        rest = images[len(self.known) :] if known else images
        return torch.cat([*known, *(adjoint(piece) for piece in rest.split(PIECE))])

    @cached_property
    def nugget_gram(self) -> Tensor:
        """``B Bᵀ``: (rows, rows) float64."""
        rows = self.rows.flatten(1).double()
        return rows @ rows.mT

    def _check_memory(self) -> None:
        prior, count = self.features.latent.prior, self.num_rows
        patterns = sum(group.num_patterns for group in prior.groups)
        needed = 8 * (patterns + WORKING_MATRICES) * count**2 + 12 * count * sum(prior.sizes)
        if needed > MAX_BYTES:
            raise ComputationError(
                f"expected rows whose exact algebra fits {MAX_BYTES / 1e9:.0f} GB, got {count} "
                f"that need {needed / 1e9:.0f} GB; use the solver 'projected', fewer views "
                "(--view-step) or a smaller network"
            )
