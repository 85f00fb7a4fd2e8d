"""What the inference will cost, said before it starts, and the solver that fits the machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from pdip.errors import InputError
from pdip.evidence.optimise import USUAL_EVALUATIONS
from pdip.linearised import LinearGaussianModel
from pdip.linearised.measurement import WORKING_MATRICES
from pdip.passes import Passes, pass_seconds, predicted_passes, usual_rows
from pdip.posterior.image_posterior import MAX_DENSE_PIXELS
from pdip.posterior.posterior import STD_SAMPLES
from pdip.solvers import CG, Cholesky, Projected, Solver

MAX_EXACT_RAYS = 1000
MEMORY_SHARE = 0.7  # of the machine's memory, for matrices and rows
LEAST_RANK = 256  # a smaller projection leaves too much of most scans outside
FLOPS = 2e10  # of dense float64 algebra a second, for one core
CGROUP_MEMORY = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Plan:
    """How hyperparameters and posterior are computed, and a prediction of the cost.

    Attributes:
        solver: what solves and takes determinants.
        passes: network passes of all restarts.
        seconds: of these passes and of the dense algebra, predicted from one timed chunk.
        memory_bytes: of the largest matrices alive at once, at most.
        sentence: all that for a reader.
    """

    solver: Solver
    passes: Passes
    seconds: float
    memory_bytes: float
    sentence: str


def plan(
    model: LinearGaussianModel, num_rays: int, *, restarts: int = 1, solver: Solver | None = None
) -> Plan:
    """Choose the solver from rays, pixels, weights and memory, and predict its cost.

    Exact algebra up to 1 000 rays; beyond, compressed data of as many combinations as fit into
    memory; conjugate gradients where too few of them do.

    Args:
        model: one restart's; a few of its passes are timed.
        num_rays: m, rays of positive weight.
        restarts: models that are treated alike.
        solver: the one to use whatever it costs; None to choose.
    """
    weights, patterns = model.jacobian.domain_shape[0], len(model.prior.coefficients())
    solver, why, memory = foreseen(
        weights, patterns, num_rays, model.image.numel(), model.image.device, solver
    )
    rows, most = usual_rows(solver, num_rays), solver.limit(num_rays)
    passes = predicted_passes(model, num_rays, solver) * restarts
    jvp, vjp = pass_seconds(model)
    searches = (2 if model.slope_varies else 1) * solver.rounds * restarts
    algebra = searches * USUAL_EVALUATIONS * (rows**3 + 3 * patterns * rows**2) / FLOPS
    algebra /= torch.get_num_threads()
    seconds = jvp * passes.jvp + vjp * passes.vjp + algebra
    combinations = f", {most} combinations at most" if most < num_rays else ""
    name = type(solver).__name__.lower()
    sentence = (
        f"{name} for {num_rays} rays{combinations} ({why}): about {passes.jvp + passes.vjp} "
        f"network passes, {in_words(seconds)}, and at most {memory / 1e9:.1f} GB of matrices"
    )
    return Plan(solver, passes, seconds, memory, sentence)


def foreseen(
    weights: int,
    patterns: int,
    num_rays: int,
    pixels: int,
    device: torch.device,
    solver: Solver | None = None,
) -> tuple[Solver, str, float]:
    """What is known before anything is fitted.

    Args:
        weights: p, of the network's prior.
        patterns: of that prior.
        num_rays: m, rays of positive weight.
        pixels: of the image.
        device: whose memory holds the matrices.
        solver: the one to use whatever it costs; None to choose.

    Returns:
        the solver, why it is that one, and bytes of the largest matrices alive at once, at most.
    """
    why = "as asked"

    def needed(rows: int) -> float:
        return matrices_bytes(rows, num_rays, pixels, weights, patterns)

    if solver is None:
        solver, why = _chosen(num_rays, needed, MEMORY_SHARE * machine_memory(device))
    return solver, why, needed(solver.limit(num_rays))


def check_memory(solver: Solver | None, num_rays: int, pixels: int, device: torch.device) -> None:
    """Refuse what no network can make fit, before anything is computed.

    Raises:
        InputError: the matrices would need more memory than there is.
    """
    memory = machine_memory(device)
    if isinstance(solver, Cholesky) and not isinstance(solver, Projected):
        least = rows_bytes(num_rays, 0, 0)
        if least > memory:
            raise InputError(
                f"expected rays whose exact algebra fits into {memory / 1e9:.0f} GB, got "
                f"{num_rays} that need more than {least / 1e9:.0f} GB; use --solver projected or "
                "--view-step"
            )
    least = matrices_bytes(min(LEAST_RANK, num_rays), num_rays, pixels, 0, 0)
    if least > MEMORY_SHARE * memory:
        raise InputError(
            f"expected a scan whose posterior fits into {MEMORY_SHARE * memory / 1e9:.0f} GB, got "
            f"{pixels} pixels and {num_rays} rays that need more than {least / 1e9:.0f} GB; use "
            "--binning, --image-size or --view-step"
        )


def matrices_bytes(rows: int, num_rays: int, pixels: int, weights: int, patterns: int) -> float:
    """Memory from the search for hyperparameters to the draws that are kept, at most.

    Args:
        rows: of data that are conditioned on, or combinations of them.
        num_rays: rays of positive weight.
        pixels: of the image.
        weights, patterns: of the prior; 0 for what is needed whatever they are.
    """
    cross = 16 * rows * pixels
    combined = 8 * num_rays * rows if rows < num_rays else 0
    drawn = 4 * STD_SAMPLES * pixels if pixels > MAX_DENSE_PIXELS else 0
    return rows_bytes(rows, weights, patterns) + cross + combined + drawn


def _chosen(num_rays: int, needed: Callable[[int], float], budget: float) -> tuple[Solver, str]:
    if num_rays <= MAX_EXACT_RAYS and needed(num_rays) <= budget:
        return Cholesky(), "exact"
    most = Projected().limit(num_rays)
    fitting = most
    while fitting > 1 and needed(fitting) > budget:
        fitting //= 2
    if fitting == most:
        return Projected(), "too many rays for exact algebra"
    if fitting >= LEAST_RANK:
        return Projected(largest_rank=fitting), "what memory holds"
    return CG(preconditioner=Projected(largest_rank=fitting)), "memory holds few combinations"


def rows_bytes(rows: int, weights: int, patterns: int) -> float:
    """Memory of the Gram bases of ``rows`` rows and of the rows themselves."""
    return 8 * (patterns + WORKING_MATRICES) * rows**2 + 12 * rows * weights


def machine_memory(device: torch.device) -> float:
    """Memory of the device, or of the machine as far as this process may use it, bytes."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    try:
        return min(memory, float(CGROUP_MEMORY.read_text()))
    except (OSError, ValueError):  # no such limit
        return memory


def in_words(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
