"""Other ways to an error bar, to compare with: same inputs, same outputs, same noise treatment."""

from pdip.baselines.baseline import Baseline, gaussian

__all__ = ["Baseline", "gaussian"]
