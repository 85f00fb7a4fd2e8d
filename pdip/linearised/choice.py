"""What the choice of hyperparameters changes of a model, as tensors to keep and to take over."""

import hashlib

from torch import Tensor

from pdip.keeper import part_of, record_of, tensors_of
from pdip.linearised.measurement import Compression
from pdip.linearised.model import LinearGaussianModel


def choice_of(model: LinearGaussianModel) -> dict[str, Tensor]:
    """Hyperparameters, slope and compression of a model, by name."""
    compression = model.measurement.compression
    rows = {} if compression is None else tensors_of(compression)
    return {
        "log_hyperparameters": model.log_hyperparameters.detach(),
        "slope": model.slope,
        **{f"compression.{name}": value for name, value in rows.items()},
    }


def with_choice(model: LinearGaussianModel, choice: dict[str, Tensor]) -> LinearGaussianModel:
    """The model with what :func:`choice_of` gave of another one around the same fit."""
    slope = choice["slope"].to(model.slope)
    if not slope.equal(model.slope):
        model = model.with_slope(slope)
    rows = part_of(choice, "compression.")
    if rows:
        model = model.compressed(record_of(Compression, rows, model.image.device))
    elif model.measurement.compression is not None:
        model = model.compressed(None)
    return model.at(choice["log_hyperparameters"].to(model.log_hyperparameters))


def name_of(model: LinearGaussianModel) -> str:
    """A name that only models around the same weights share."""
    return hashlib.sha256(model.jacobian.vector.cpu().numpy().tobytes()).hexdigest()[:16]
