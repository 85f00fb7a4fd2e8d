"""Time pdip on this machine, and the standard algorithm beside it.

    python -m benchmarks            every size and the growth of the cost, below 20 min on 2 cores
    python -m benchmarks --quick    28 x 28 alone, a minute

Prints the tables and saves all numbers as JSON. Meant for a machine that does nothing else.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path

from benchmarks.measure import Measurement, compare, machine, measure
from benchmarks.problems import GROWTH, PROBLEMS, QUICK, Problem
from benchmarks.standard import STEPS
from benchmarks.tables import report


def each(
    work: Callable[[Problem], Measurement], problems: Sequence[Problem]
) -> tuple[Measurement, ...]:
    """Every problem in a process of its own, so that none inherits the memory of another."""
    found = []
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as processes:
        for problem in problems:
            print(f"benchmark: {problem.name} ...", file=sys.stderr, flush=True)
            found.append(processes.submit(work, problem).result())
    return tuple(found)


def record(one: Measurement) -> dict:
    """A measurement and what follows from it, as plain data."""
    standard = [
        asdict(cost)
        | {
            "total_seconds": {str(n): cost.total_seconds(n) for n in STEPS},
            "standard_over_ours": {str(n): one.standard_over_ours(cost, n) for n in STEPS},
        }
        for cost in one.standard
    ]
    return asdict(one) | {
        "standard": standard,
        "search_seconds": one.search_seconds,
        "inference_seconds": one.inference_seconds,
        "inference_passes": asdict(one.inference_passes),
        "inference_memory_mb": one.inference_memory_mb,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--quick", action="store_true", help="28 x 28 alone, a minute")
    parser.add_argument("--out", type=Path, default=Path("runs/bench.json"), help="the JSON file")
    arguments = parser.parse_args()
    on = machine()
    problems = each(compare, QUICK if arguments.quick else PROBLEMS)
    growth = each(measure, () if arguments.quick else GROWTH)
    print(report(on, problems, growth))
    numbers = {
        "machine": on,
        "problems": [record(one) for one in problems],
        "growth": [record(one) for one in growth],
    }
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(numbers, indent=2) + "\n")
    print(f"\nsaved {arguments.out}")


if __name__ == "__main__":
    main()
