"""Covariances as operators: square, symmetric, given by their action on vectors."""

from __future__ import annotations

from abc import abstractmethod

import torch
from linear_operator.operators import LinearOperator
from torch import Tensor

from pdip.typing import Params


class MatrixFreeCovariance(LinearOperator):
    """A covariance that is never stored.

    A ``LinearOperator`` takes only tensors as positional arguments, hence records by keyword.

    Attributes:
        side: number of rows and of columns.
        like: a tensor of the operator's dtype, on its device.
    """

    side: int
    like: Tensor

    @abstractmethod
    def _apply(self, vectors: Tensor) -> Tensor:
        """The product with each of the vectors (j, side)."""

    def _size(self):
        return torch.Size((self.side, self.side))

    def _transpose_nonbatch(self):
        return self

    @property
    def dtype(self):
        return self.like.dtype

    @property
    def device(self):
        return self.like.device

    def _matmul(self, rhs: Tensor) -> Tensor:
        columns = rhs if rhs.ndim == 2 else rhs[:, None]
        product = self._apply(columns.mT).mT
        return product if rhs.ndim == 2 else product[:, 0]


class ParameterCovariance(MatrixFreeCovariance):
    """Σ of a :class:`~pdip.linearised.ParameterPrior`, block by block."""

    def __init__(self, log_hyperparameters: Tensor, *, prior):
        super().__init__(log_hyperparameters, prior=prior)
        self.prior = prior
        self.side = sum(prior.sizes)
        self.like = log_hyperparameters

    def _apply(self, vectors: Params) -> Params:
        return self.prior.covariance_apply(vectors)
