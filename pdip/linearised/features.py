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
MAX_EDGES = 512  # beyond, the expected total variation is that of so many random edges


@dataclass(frozen=True)
class Features:
    """Gram bases of the pixels of small images, variance bases of edges and pixels, for one S.

    Attributes:
        jacobian: J_h.
        ray: A.
        prior: supplies the patterns P_c; its hyperparameters play no role.
        image: x*.
        slope: S.
        pixel_gram: ``J_h P_c J_hᵀ`` of all pixels, (patterns, pixels, pixels), for small images;
            with it, a new slope costs no network pass. None for larger ones.
    """

    jacobian: Jacobian
    ray: object
    prior: ParameterPrior
    image: Image
    slope: Image
    pixel_gram: Tensor | None

    @classmethod
    def of(cls, jacobian, ray, prior, slope, image) -> Features:
        pixels, pixel_gram = image.numel(), None
        if pixels <= MAX_STORED_PIXELS:
            unit = torch.eye(pixels, dtype=image.dtype, device=image.device)
            pixel_gram = gram_bases(jacobian.adjoint(unit.reshape(-1, *image.shape)), prior)
        return cls(jacobian, ray, prior, image, slope, pixel_gram)

    def with_slope(self, slope: Image) -> Features:
        return replace(self, slope=slope)

    @cached_property
    def double(self) -> Features:
        """The same in double precision, without what is stored of the pixels."""
        return Features(
            jacobian=self.jacobian.double(),
            ray=self.ray.to(dtype=torch.float64),
            prior=self.prior,
            image=self.image.double(),
            slope=self.slope.double(),
            pixel_gram=None,
        )

    @cached_property
    def params_sinogram(self) -> Sinogram:
        """``A S J_h θ*``."""
        return self.ray.forward(self.slope * self.params_image)

    @cached_property
    def params_image(self) -> Image:
        """``J_h θ*``."""
        return self.jacobian.forward(self.jacobian.vector)

    @cached_property
    def pixel_variance(self) -> Tensor:
        """Diagonal of ``J_h P_c J_hᵀ``: (patterns, pixels) float64; one VJP for each pixel."""
        if self.pixel_gram is not None:
            return self.pixel_gram.diagonal(dim1=-2, dim2=-1)
        pixels = self.image.numel()
        parts = []
        for chunk in torch.arange(pixels, device=self.image.device).split(64):
            unit = torch.nn.functional.one_hot(chunk, pixels).to(self.image)
            rows = self.jacobian.adjoint(unit.reshape(-1, *self.image.shape))
            parts.append(variance_bases(rows, self.prior))
        return torch.cat(parts, dim=-1)

    @cached_property
    def edge_variance(self) -> Tensor:
        """Diagonal of ``D S J_h P_c J_hᵀ S Dᵀ`` with D the edge differences: (patterns, edges)."""
        edges = self.slope.reshape(-1) * self._edges
        if self.pixel_gram is not None:
            edges = edges.double()
            return torch.stack([((edges @ gram) * edges).sum(-1) for gram in self.pixel_gram])
        parts = [
            variance_bases(self.jacobian.adjoint(chunk.reshape(-1, *self.image.shape)), self.prior)
            for chunk in edges.split(64)
        ]
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
        """Rows of D that are used: (edges, pixels)."""
        height, width = self.image.shape
        number = torch.arange(height * width).reshape(height, width)
        first = torch.cat([number[:-1].flatten(), number[:, :-1].flatten()])
        second = torch.cat([number[1:].flatten(), number[:, 1:].flatten()])
        if self.pixel_gram is None and len(first) > MAX_EDGES:
            generator = torch.Generator().manual_seed(0)
            chosen = torch.randperm(len(first), generator=generator)[:MAX_EDGES]
            first, second = first[chosen], second[chosen]
        edges = torch.zeros(len(first), height * width)
        edges[torch.arange(len(first)), second] = 1
        edges[torch.arange(len(first)), first] = -1
        return edges.to(self.image)
