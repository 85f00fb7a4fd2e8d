"""Network passes that the inference will take: how many, and how long one is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from math import ceil

import torch

from pdip.evidence.optimise import USUAL_EVALUATIONS
from pdip.linearised import LinearGaussianModel
from pdip.linearised.features import MAX_EDGES
from pdip.linearised.measurement import PIECE
from pdip.posterior.posterior import MAX_EXACT_PIXELS, STD_SAMPLES
from pdip.solvers import CG, Projected, Solver
from pdip.solvers.projected import BLOCK, PROBES

RAYS_PER_COMBINATION = 3  # fewer combinations than that are usual where their number is open
ITERATIONS = 12  # of conjugate gradients in a search, as usual


@dataclass(frozen=True)
class Passes:
    """Products with the Jacobian (``jvp``) and with its transpose (``vjp``)."""

    jvp: int = 0
    vjp: int = 0

    def __add__(self, other: Passes) -> Passes:
        return Passes(self.jvp + other.jvp, self.vjp + other.vjp)

    def __mul__(self, count: int) -> Passes:
        return Passes(count * self.jvp, count * self.vjp)


def predicted_passes(model: LinearGaussianModel, num_rays: int, solver: Solver) -> Passes:
    """The passes from the linearised model to the std for one restart, all rounds."""
    pixels, rows = model.image.numel(), usual_rows(solver, num_rays)
    stored = model.features.latent.pixel_gram is not None
    pairs, edges = Passes(1, 1), Passes(vjp=min(MAX_EDGES, model.features.num_edges))
    gram, cross, drawn = Passes(vjp=rows), Passes(jvp=rows), Passes(jvp=STD_SAMPLES)
    variance, kept = drawn, Passes()  # the draws behind the std are kept
    if stored:
        edges = gram = cross = variance = Passes()
    elif pixels <= MAX_EXACT_PIXELS:
        variance, kept = Passes(), drawn
    pixel_bases = Passes(vjp=pixels) if pixels <= MAX_EXACT_PIXELS else Passes()
    first = again = edges + gram
    if solver.compresses:
        left, known, first = pairs * PROBES, 0, edges
        is_full = rows == solver.limit(num_rays)  # else more may come, and those before stay
        again = again + left + (pairs * rows if is_full else Passes())
        for used in [solver.coarse()] * (solver.rounds - 1) + [solver]:
            chosen = usual_rows(used, num_rays)
            found, rows_known = pairs * (chosen - known), known - known % PIECE
            if chosen == known:  # a step of subspace iteration
                found, rows_known = pairs * known if stored else Passes(jvp=known), 0
            new = Passes() if stored else Passes(vjp=chosen - rows_known)
            first, known = first + found + new + left, chosen
    if isinstance(solver, CG):
        columns = solver.num_probes + 1
        evaluation = pairs * (columns * (ITERATIONS + 1)) + Passes(vjp=2 * columns)
        first = first + evaluation * (USUAL_EVALUATIONS * solver.rounds)
        again = again + evaluation * USUAL_EVALUATIONS
        cross = cross + pairs * (ITERATIONS + 1) + gram
    total = Passes(1) + pixel_bases + first + cross + variance + kept
    return total + again + cross + variance if model.slope_varies else total


def usual_rows(solver: Solver, num_rays: int) -> int:
    """The most rows, and where their number is chosen from the decay, a usual one."""
    projected, most = _projected(solver), solver.limit(num_rays)
    if projected is None or projected.rank is not None:
        return most
    return min(most, BLOCK * ceil(num_rays / RAYS_PER_COMBINATION / BLOCK))


def _projected(solver: Solver) -> Projected | None:
    """What compresses the data, if anything does."""
    solver = solver.preconditioner if isinstance(solver, CG) else solver
    return solver if isinstance(solver, Projected) else None


def pass_seconds(model: LinearGaussianModel) -> tuple[float, float]:
    """Seconds of one JVP and of one VJP in a batch, measured on one chunk of each."""
    jacobian = model.jacobian
    count = min(jacobian.chunk_size, 8)
    seconds = []
    for product, shape in (
        (jacobian.forward, jacobian.domain_shape),
        (jacobian.adjoint, tuple(jacobian.range_shape)),
    ):
        vectors = torch.ones(count, *shape, dtype=model.image.dtype, device=model.image.device)
        product(vectors[:1])
        begin = time.perf_counter()
        product(vectors).sum().item()
        seconds.append((time.perf_counter() - begin) / count)
    return seconds[0], seconds[1]
