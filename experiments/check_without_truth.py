"""Is the check of the error bars that needs no truth right? Its factor beside the true one.

    python experiments/check_without_truth.py --images FILE --views 20 --count 10

For each scan a reconstruction and `check_calibration`, as `--check-calibration` does it. Beside its
factor of the std, with a 95 % interval, stands what the truth says: the root mean square error over
the claimed one, of the pixels, and of the withheld rays without their noise.
"""

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

import torch

import pdip
from pdip.calibration import nll_per_pixel
from pdip.calibration.recalibration import is_determined
from pdip.experiment import Case, Rows, save_figure
from pdip.experiment_command import experiment_parser, parsed, perform
from pdip.report import draw_factors, factors_table
from pdip.settings import Settings, plain


def ratio(error: torch.Tensor, variance: torch.Tensor) -> float:
    """Root mean square error over the claimed one."""
    return float((error.double().square().mean() / variance.double().mean()).sqrt())


def measured(case: Case, names: list[str], settings: Settings) -> Iterator[dict]:
    """The check of one scan and what the truth says."""
    scan, truth, ray = case.measure()
    try:
        result = pdip.reconstruct(scan, settings)
        check = pdip.check_calibration(scan, settings, result=result)
    except pdip.ComputationError as error:
        yield {"failure": str(error)}
        return
    (factor,) = check.scales.scales
    missed = ray.forward(truth - check.result.image)[check.withheld]
    after = result.std if check.std is None else check.std
    yield {
        "verdict": check.verdict,
        "factor": asdict(factor),
        "determined": is_determined(factor),
        "written": check.std is not None,
        "true_of_pixels": ratio(truth - result.image, result.std.square()),
        "true_of_pixels_in_check": ratio(truth - check.result.image, check.result.std.square()),
        "true_of_rays": ratio(missed, check.rays.signal_variance),
        "log_likelihood": -nll_per_pixel(result.image, result.std, truth),
        "log_likelihood_recalibrated": -nll_per_pixel(result.image, after, truth),
    }


def main() -> None:
    options = parsed(experiment_parser(__doc__, "check_without_truth.jsonl", views=(20,), count=10))
    rows, asked = Rows(options.out), []
    for case in options.cases:
        keys = {"check": {**case.key, "settings": plain(options.settings.resolved())}}
        asked += rows.complete(keys, partial(measured, case, settings=options.settings))
    print(factors_table(asked))
    save_figure(draw_factors(asked), options.out)


if __name__ == "__main__":
    perform(main)
