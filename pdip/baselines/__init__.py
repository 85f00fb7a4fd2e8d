"""Other ways to an error bar, to compare with: same inputs, same outputs, same noise treatment."""

from pdip.baselines.baseline import Baseline, gaussian

BASELINES: dict[str, type[Baseline]] = {}
"""Name -> its class; one line for each."""

__all__ = ["BASELINES", "Baseline", "gaussian"]
