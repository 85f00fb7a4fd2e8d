"""One problem, measured: what every stage costs, what was predicted, what the others pay."""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import torch

import pdip
from benchmarks.passes import Meter, counted_passes
from benchmarks.problems import Problem
from benchmarks.standard import STEPS, StandardCost, standard_costs
from pdip.passes import Passes, pass_seconds
from pdip.plan import machine_memory
from pdip.stages import StageClock, peak_memory_mb, reset_peak_memory

SEARCH = ("linearise", "evidence")
INFERENCE = (*SEARCH, "posterior", "samples")
CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class StageMeasurement:
    """What one stage cost: times of all threads, largest resident memory of the process."""

    name: str
    passes: Passes
    seconds: float
    cpu_seconds: float
    peak_memory_mb: float


@dataclass(frozen=True)
class Prediction:
    """What :func:`pdip.plan.plan` said of the inference, before it began."""

    passes: Passes
    seconds: float
    memory_mb: float


@dataclass(frozen=True)
class Measurement:
    """One problem, measured.

    Attributes:
        problem: its name.
        rays, pixels, weights: m, d_x and the parameters that are uncertain.
        fit_steps: the fit was cut off there.
        solver: as the plan chose it.
        combinations: of the rays, where the data were compressed.
        evaluations: of the evidence and its gradient.
        jvp_seconds, vjp_seconds: of one pass in a batch.
        stages: in their order; ``samples`` draws what a run directory keeps.
        memory_before_mb: resident memory of the process before the first stage.
        predicted: by the plan, for linearise to samples.
        standard: the standard algorithm's search; empty where it was not asked for.
    """

    problem: str
    rays: int
    pixels: int
    weights: int
    fit_steps: int
    solver: str
    combinations: int | None
    evaluations: int
    jvp_seconds: float
    vjp_seconds: float
    stages: tuple[StageMeasurement, ...]
    memory_before_mb: float
    predicted: Prediction
    standard: tuple[StandardCost, ...]

    def stage(self, name: str) -> StageMeasurement:
        return next(stage for stage in self.stages if stage.name == name)

    @property
    def search_seconds(self) -> float:
        """Our whole search for hyperparameters: Gram bases of the pixels, sketches, Gram bases
        of the data, L-BFGS, and all of it again at new slopes."""
        return sum(self.stage(name).seconds for name in SEARCH)

    @property
    def inference_seconds(self) -> float:
        return sum(self.stage(name).seconds for name in INFERENCE)

    @property
    def inference_passes(self) -> Passes:
        return sum((self.stage(name).passes for name in INFERENCE), Passes())

    @property
    def inference_memory_mb(self) -> float:
        """Peak of linearise to samples, above what the process held before."""
        return max(self.stage(name).peak_memory_mb for name in INFERENCE) - self.memory_before_mb

    def standard_over_ours(self, cost: StandardCost, steps: int) -> float:
        """How many times longer the standard algorithm searches."""
        return cost.total_seconds(steps) / self.search_seconds

    @property
    def least_ratio(self) -> float:
        """Against the cheapest form of the standard algorithm at its fewest steps."""
        return min(self.standard_over_ours(cost, min(STEPS)) for cost in self.standard)


def measure(problem: Problem) -> Measurement:
    """Reconstruct, counting; the growth of the cost needs no more."""
    return _measured(problem, lambda model, scan, meter: ())


def compare(problem: Problem) -> Measurement:
    """Reconstruct, counting, and time one step of the standard algorithm beside it."""
    return _measured(problem, standard_costs)


def _measured(problem: Problem, others) -> Measurement:
    scan = problem.scan()
    reset_peak_memory()
    before = peak_memory_mb()
    with counted_passes() as count:
        meter = Meter(count)
        result = pdip.reconstruct(scan, problem.settings(), observer=meter)
        clock = StageClock(meter)
        with clock.stage("samples"):
            result.posterior.tensors()
        model = result.evidence[0].model
        standard = others(model, scan, meter)
    jvp_seconds, vjp_seconds = pass_seconds(model)
    plan, compression = result.plan, result.compression
    return Measurement(
        problem=problem.name,
        rays=scan.sinogram.numel(),
        pixels=model.image.numel(),
        weights=len(model.jacobian.vector),
        fit_steps=problem.fit_steps,
        solver=type(plan.solver).__name__.lower(),
        combinations=None if compression is None else compression.basis.shape[1],
        evaluations=sum(found.num_evaluations for found in result.evidence),
        jvp_seconds=jvp_seconds,
        vjp_seconds=vjp_seconds,
        stages=_stages({**result.stages, **clock.costs}, meter),
        memory_before_mb=before,
        predicted=Prediction(plan.passes, plan.seconds, plan.memory_bytes / 1e6),
        standard=standard,
    )


def _stages(costs, meter: Meter) -> tuple[StageMeasurement, ...]:
    return tuple(
        StageMeasurement(
            name, meter.passes[name], cost.seconds, meter.cpu_seconds[name], cost.peak_memory_mb
        )
        for name, cost in costs.items()
    )


def machine() -> dict:
    """What the numbers were measured on, and how busy it was."""
    model = platform.processor()
    if CPUINFO.exists():
        lines = CPUINFO.read_text().splitlines()
        model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), "")
    return {
        "processor": model,
        "threads": torch.get_num_threads(),
        "memory_gb": round(machine_memory(torch.device("cpu")) / 1e9, 1),
        "load_average": os.getloadavg()[0],
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
