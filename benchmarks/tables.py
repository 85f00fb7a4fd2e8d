"""The measurements as plain text."""

from collections.abc import Sequence

from benchmarks.measure import INFERENCE, Measurement
from benchmarks.standard import STEPS
from pdip.passes import Passes


def report(machine: dict, problems: Sequence[Measurement], growth: Sequence[Measurement]) -> str:
    """Everything that was measured; the growth only where it was."""
    parts = [
        "pdip benchmark on " + ", ".join(f"{key} {value}" for key, value in machine.items()),
        stages_table(problems),
        plan_table(problems),
        standard_table(problems),
    ]
    return "\n\n".join(parts + ([growth_table(growth)] if growth else []))


def stages_table(measurements: Sequence[Measurement]) -> str:
    """What every stage cost."""
    title = (
        "Stages (one restart; the fit is cut off, as the benchmark is about inference; peak is the "
        "process's resident memory)"
    )
    header = ["problem", "stage", "JVP", "VJP", "seconds", "CPU s", "peak GB"]
    rows = []
    for one in measurements:
        combinations = f", {one.combinations} combinations" if one.combinations else ""
        rows.append([f"{one.problem}: {one.rays} rays, {one.weights} weights", "", *[""] * 5])
        rows.append([f"  {one.solver}{combinations}, {one.evaluations} evaluations", *[""] * 6])
        for stage in one.stages:
            name = f"fit, {one.fit_steps} steps" if stage.name == "fit" else stage.name
            passes, peak = stage.passes, gigabytes(stage.peak_memory_mb)
            times = [f"{stage.seconds:.2f}", f"{stage.cpu_seconds:.2f}"]
            rows.append(["", name, str(passes.jvp), str(passes.vjp), *times, peak])
    return title + "\n" + aligned(header, rows)


def plan_table(measurements: Sequence[Measurement]) -> str:
    """What the plan said of the inference, and what it was."""
    title = f"Plan: predicted / actual, {' + '.join(INFERENCE)} (memory above that before the fit)"
    header = ["problem", "solver", "JVP", "VJP", "seconds", "GB"]
    rows = []
    for one in measurements:
        said, made = one.predicted, one.inference_passes
        rows.append(
            [
                one.problem,
                one.solver,
                f"{said.passes.jvp} / {made.jvp}",
                f"{said.passes.vjp} / {made.vjp}",
                f"{said.seconds:.1f} / {one.inference_seconds:.1f}",
                f"{gigabytes(said.memory_mb)} / {gigabytes(one.inference_memory_mb)}",
            ]
        )
    return title + "\n" + aligned(header, rows)


def standard_table(measurements: Sequence[Measurement]) -> str:
    """The search for hyperparameters against the standard algorithm's."""
    fewest, most = STEPS
    title = (
        "Search for hyperparameters against the standard algorithm (ours: linearise + evidence, "
        f"measured whole; standard: one step measured, times {fewest} and {most} steps)"
    )
    header = ["problem", "algorithm", "JVP/step", "VJP/step", "s/step", "total", "standard / ours"]
    rows, notes = [], []
    for one in measurements:
        made = sum((one.stage(name).passes for name in ("linearise", "evidence")), Passes())
        ours = [f"{made.jvp} in all", f"{made.vjp} in all", "", duration(one.search_seconds), "1"]
        rows.append([one.problem, "pdip", *ours])
        for cost in one.standard:
            totals = [duration(cost.total_seconds(steps)) for steps in STEPS]
            ratios = [f"{one.standard_over_ours(cost, steps):.0f}" for steps in STEPS]
            passes = [str(cost.step_passes.jvp), str(cost.step_passes.vjp)]
            step = f"{cost.step_seconds:.3g}"
            rows.append(["", cost.name, *passes, step, " - ".join(totals), " - ".join(ratios)])
            notes.append(f"{one.problem}, {cost.name}: {cost.how}.")
        notes.append(
            f"{one.problem}: at least {one.least_ratio:.0f} times faster than either form."
        )
    return "\n".join([title, aligned(header, rows), *notes])


def growth_table(measurements: Sequence[Measurement]) -> str:
    """How the cost grows with rays, pixels and weights."""
    title = "Growth (one change at a time from the base)"
    header = ["problem", "rays", "pixels", "weights", "ms/JVP", "ms/VJP", "solver", "combinations",
              "passes", "search s", "inference s", "peak GB"]  # fmt: skip
    rows = []
    for one in measurements:
        made = one.inference_passes
        rows.append(
            [
                one.problem,
                *(str(count) for count in (one.rays, one.pixels, one.weights)),
                f"{1e3 * one.jvp_seconds:.2f}",
                f"{1e3 * one.vjp_seconds:.2f}",
                one.solver,
                str(one.combinations or "-"),
                str(made.jvp + made.vjp),
                f"{one.search_seconds:.1f}",
                f"{one.inference_seconds:.1f}",
                gigabytes(one.memory_before_mb + one.inference_memory_mb),
            ]
        )
    return title + "\n" + aligned(header, rows)


def aligned(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest entry, numbers to the right."""
    lines = [header, *rows]
    widths = [max(len(line[c]) for line in lines if any(line[1:])) for c in range(len(header))]
    texts = []
    for line in lines:
        cells = [
            cell.ljust(width) if c < 2 else cell.rjust(width)
            for c, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        texts.append("  ".join(cells).rstrip())
    return "\n".join([texts[0], "-" * len(texts[0]), *texts[1:]])


def gigabytes(megabytes: float) -> str:
    return f"{megabytes / 1e3:.2f}"


def duration(seconds: float) -> str:
    """In the unit that suits it."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
