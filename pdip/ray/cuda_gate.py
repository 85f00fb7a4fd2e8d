"""Whether ASTRA's CUDA projectors can be trusted in this process, and whether they wrote.

Without a usable GPU a 2-D CUDA projector returns without touching its output, a 3-D one kills the
process, and ASTRA 2.5 drops the error of a failed projection. Hence three gates: ASTRA must report
a GPU, a self-test in a process of its own must pass, and every output starts as NaN and is checked.
"""

import os
import signal
import subprocess
import sys
from functools import cache

import torch
from torch import Tensor

from pdip.errors import ComputationError, InputError

SELF_TEST = (sys.executable, "-m", "pdip.cuda_selftest")
SELF_TEST_SECONDS = 180


@cache
def astra_cuda_fault(device: torch.device) -> str | None:
    """Why ASTRA's CUDA projectors cannot be used on tensors of ``device``; None where they can.

    The self-test costs a few seconds and is made once per process and device.
    """
    import astra

    if not astra.use_cuda():
        return "ASTRA finds no CUDA GPU on this machine"
    return self_test_fault((*SELF_TEST, str(device)))


def self_test_fault(command: tuple[str, ...]) -> str | None:
    """Run the self-test in a process of its own; half a sentence says how it failed."""
    search_path = os.pathsep.join(path or os.getcwd() for path in sys.path)
    try:
        done = subprocess.run(
            command,
            env=os.environ | {"PYTHONPATH": search_path},
            capture_output=True,
            text=True,
            timeout=SELF_TEST_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"its self-test did not end within {SELF_TEST_SECONDS} s"
    if done.returncode == 0:
        return None
    if done.returncode < 0:
        return f"its self-test was killed by {signal.Signals(-done.returncode).name}"
    said = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
    return f"its self-test failed ({said})"


def require_astra_cuda(engine: str, device: torch.device) -> None:
    """Pass where ASTRA's CUDA projectors work.

    Raises:
        InputError: they do not; the sentence says why and what to use.
    """
    fault = astra_cuda_fault(device)
    if fault is not None:
        raise InputError(f"ray engine '{engine}' cannot be used: {fault}; use engine 'matrix'")


def unwritten(shape: tuple[int, ...], device: torch.device) -> Tensor:
    """A float32 output of NaN for an ASTRA projector to fill."""
    return torch.full(shape, torch.nan, dtype=torch.float32, device=device)


def check_written(output: Tensor, values: Tensor, engine: str) -> None:
    """Pass where a projector wrote every element of ``output``; NaN in ``values`` may pass through.

    Raises:
        ComputationError: some elements are NaN although no input is.
    """
    missing = int(output.isnan().sum())
    if missing and not bool(values.isnan().any()):
        raise ComputationError(
            f"ray engine '{engine}' left {missing} of {output.numel()} values of its result "
            "unwritten; free GPU memory, or use engine 'matrix'"
        )
