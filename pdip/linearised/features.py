"""What evidence and hyperprior need of the Jacobian, for every value of the hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from pdip.linearised.gram import gram_bases, variance_bases
from pdip.linearised.jacobian import Jacobian
from pdip.linearised.prior import ParameterPrior
from pdip.typing import Image, Sinogram

MAX_STORED_PIXELS = 1600  # up to here the Gram bases of all pixels are stored
CHUNK = 64
MAX_EDGES = 256  # beyond, the expected total variation is that of so many edges


@dataclass(frozen=True)
class LatentFeatures:
    """What is needed of h alone, before the slope: computed once for all slopes.

    Attributes:
        jacobian: J_h.
        prior: supplies the patterns P_c; its hyperparameters play no role.
        pixel_gram: ``J_h P_c J_hᵀ`` of all pixels, (patterns, pixels, pixels), for small images;
            with it, a new slope costs no network pass. None for larger ones.
    """

    jacobian: Jacobian
    prior: ParameterPrior
    pixel_gram: Tensor | None

    @classmethod
    def of(cls, jacobian: Jacobian, prior: ParameterPrior) -> LatentFeatures:
        pixel_gram = None
        if jacobian.pre_activation.numel() <= MAX_STORED_PIXELS:
            unit = torch.eye(jacobian.pre_activation.numel()).to(jacobian.pre_activation)
            rows = jacobian.adjoint(unit.reshape(-1, *jacobian.range_shape))
            pixel_gram = gram_bases(rows, prior)
        return cls(jacobian, prior, pixel_gram)

    @cached_property
    def double(self) -> LatentFeatures:
        """The same in double precision, without what is stored of the pixels."""
        return LatentFeatures(self.jacobian.double(), self.prior, pixel_gram=None)

    @cached_property
    def params_image(self) -> Image:
        """``J_h θ*``."""
        return self.jacobian.forward(self.jacobian.vector)

    @cached_property
    def pixel_variance(self) -> Tensor:
        """Diagonal of ``J_h P_c J_hᵀ``: (patterns, pixels) float64; one VJP for each pixel."""
        if self.pixel_gram is not None:
            return self.pixel_gram.diagonal(dim1=-2, dim2=-1)
        like = self.jacobian.pre_activation
        parts = []
        for chunk in torch.arange(like.numel(), device=like.device).split(CHUNK):
            unit = torch.nn.functional.one_hot(chunk, like.numel()).to(like)
            rows = self.jacobian.adjoint(unit.reshape(-1, *like.shape))
            parts.append(variance_bases(rows, self.prior))
        return torch.cat(parts, dim=-1)


@dataclass(frozen=True)
class Features:
    """Gram bases of the pixels of small images, variance bases of edges and pixels, for one S.

    Attributes:
        latent: those of h.
        ray: A.
        image: x*.
        slope: S.
    """

    latent: LatentFeatures
    ray: object
    image: Image
    slope: Image

    def with_slope(self, slope: Image) -> Features:
        return replace(self, slope=slope)

    @cached_property
    def double(self) -> Features:
        """The same in double precision, without what is stored of the pixels."""
        return Features(
            latent=self.latent.double,
            ray=self.ray.to(dtype=torch.float64),
            image=self.image.double(),
            slope=self.slope.double(),
        )

    @cached_property
    def params_sinogram(self) -> Sinogram:
        """``A S J_h θ*``."""
        return self.ray.forward(self.slope * self.latent.params_image)

    @cached_property
    def edge_variance(self) -> Tensor:
        """Diagonal of ``D S J_h P_c J_hᵀ S Dᵀ`` with D the edge differences: (patterns, edges)."""
        edges = self.slope.reshape(-1) * self._edges
        latent = self.latent
        if latent.pixel_gram is not None:
            edges = edges.double()
            return torch.stack([((edges @ gram) * edges).sum(-1) for gram in latent.pixel_gram])
        rows = (chunk.reshape(-1, *self.image.shape) for chunk in edges.split(CHUNK))
        parts = [variance_bases(latent.jacobian.adjoint(row), latent.prior) for row in rows]
        return torch.cat(parts, dim=-1)

    @cached_property
    def edge_mean(self) -> Tensor:
        """``D x*``: (edges,) float64."""
        return (self._edges @ self.image.reshape(-1)).double()

    @property
    def edge_weight(self) -> float:
        """Edges of the image for each edge that is used."""
        return self.num_edges / len(self._edges)

    @property
    def num_edges(self) -> int:
        """Pairs of neighbouring pixels."""
        height, width = self.image.shape
        return (height - 1) * width + height * (width - 1)

    @cached_property
    def _edges(self) -> Tensor:
        """Rows of D that are used: (edges, pixels).

        Of more than ``MAX_EDGES`` evenly spread ones in order of ``|D x*|``, on which the share of
        an edge in the expected total variation depends most: with a quarter of the error that as
        many random ones have at 128 x 128.
        """
        height, width = self.image.shape
        number = torch.arange(height * width).reshape(height, width)
        first = torch.cat([number[:-1].flatten(), number[:, :-1].flatten()])
        second = torch.cat([number[1:].flatten(), number[:, 1:].flatten()])
        if self.latent.pixel_gram is None and len(first) > MAX_EDGES:
            image = self.image.reshape(-1).cpu()
            order = (image[second] - image[first]).abs().argsort(stable=True)
            chosen = order[((torch.arange(MAX_EDGES) + 0.5) * len(first) / MAX_EDGES).long()]
            first, second = first[chosen], second[chosen]
        edges = torch.zeros(len(first), height * width)
        edges[torch.arange(len(first)), second] = 1
        edges[torch.arange(len(first)), first] = -1
        return edges.to(self.image)
