"""A hyperprior: every hyperparameter is log-normal around a given value."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LogNormal:
    """``log p(φ) = -½ Σ_i ((log φ_i - log φ_0) / s)²`` up to a constant.

    Args:
        centre: log φ_0.
        width: s.
    """

    centre: float = -4.6
    width: float = 2.0

    def log_prob(self, model, num_rays):
        distance = (model.prior.log_hyperparameters - self.centre) / self.width
        return distance.square().sum() / -2
