"""A metric: how far outside of its interval a truth lies on average, in std."""

from torch import Tensor


def mean_excess(mean: Tensor, std: Tensor, truth: Tensor, width: float = 1.96) -> float:
    """``mean max(|x - x̂| / std - width, 0)``: 0 where every truth lies inside.

    Args:
        mean, std, truth: of one shape; std is positive.
        width: half the width of the interval in std.

    Returns:
        not negative; 0.019 for Gaussian errors of the right std.
    """
    z = ((truth - mean) / std).double().abs()
    return float((z - width).clamp(min=0).mean())
