"""The tables of results.md, from the numbers in measured/ that experiments and benchmark left.

    python docs/tables.py                                       # writes the tables anew
    python docs/tables.py --add runs/kmnist_calibration.jsonl   # takes in new rows first

A table stands between ``<!-- table: NAME key=value ... -->`` and ``<!-- end of table -->``. New
rows replace those of the same views, noise and method.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # pdip of this checkout

from pdip.report.experiment_tables import grouped, mean_and_error  # noqa: E402

PAGE, MEASURED = HERE / "results.md", HERE / "measured"
METHODS, BENCHMARKS = "kmnist_calibration.json", "benchmarks.json"
MARKED = re.compile(r"(<!-- table: (\w+)([^>]*) -->\n).*?(<!-- end of table -->)", re.DOTALL)
SETTING = ("noise", "views", "method")
JOINT, COVERAGE = "log_likelihood_per_pixel", "coverage_95"
COLUMNS = {
    JOINT: ("joint log-likelihood", 2),
    "better": ("`pdip` better on", 0),
    "marginal": ("marginal log-likelihood", 2),
    COVERAGE: ("coverage 95 %", 3),
    "crps": ("CRPS", 4),
    "energy_score": ("energy score", 2),
    "ause": ("AUSE", 3),
    "psnr": ("PSNR dB", 2),
}
"""Score -> title of its column and digits."""


def summarised(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard error over images of every setting; ``better`` is paired by image.

    Raises:
        ValueError: methods of one setting do not have the same images, or one has no scores.
    """
    found, rows = [], list(rows)
    for row in rows:
        if "failure" in row:
            where = ", ".join(f"{key} {row[key]}" for key in (*SETTING, "image"))
            raise ValueError(f"no scores for {where}: {row['failure']}")
    for (noise, views), setting in grouped(rows, SETTING[:2]).items():
        methods = {name: group for (name,), group in grouped(setting, ("method",)).items()}
        images = {name: sorted(row["image"] for row in group) for name, group in methods.items()}
        if len({tuple(numbers) for numbers in images.values()}) > 1:
            raise ValueError(f"{views} views, noise {noise}: not every method has every image")
        ours = {row["image"]: row[JOINT] for row in methods.get("pdip", ())}
        for name, group in methods.items():
            scores = {
                key: mean_and_error(
                    -row["nll_per_pixel.patch_1"] if key == "marginal" else row[key]
                    for row in group
                )
                for key in COLUMNS
                if key != "better"
            }
            better = sum(ours[row["image"]] > row[JOINT] for row in group) if ours else None
            covered = [row[COVERAGE] for row in group]
            found.append(
                {"noise": noise, "views": views, "method": name, "images": len(group)}
                | {key: [float(f"{value:.4g}") for value in pair] for key, pair in scores.items()}
                | {"better": better, "coverage_range": [min(covered), max(covered)]}
            )
    return found


def methods_table(rows: Sequence[Mapping[str, Any]], noise: str, views: str) -> str:
    """All methods at one number of views and noise, the best joint log-likelihood first."""
    chosen = [row for row in rows if (row["noise"], row["views"]) == (float(noise), int(views))]
    lines = [line(["method", "images", *(title for title, _ in COLUMNS.values())])]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for row in sorted(chosen, key=lambda row: -row[JOINT][0]):
        own = row["method"] == "pdip"
        name = "**`pdip`**" if own else f"`{row['method']}`"
        better = "" if own else f"{row['better']} of {row['images']}"
        cells = (better if key == "better" else cell(row, key) for key in COLUMNS)
        lines.append(line([name, row["images"], *cells]))
    return "\n".join(lines)


def views_table(rows: Sequence[Mapping[str, Any]], noise: str) -> str:
    """``pdip`` by number of views."""
    titles = ["views", "images", "PSNR dB", "joint log-likelihood", "marginal log-likelihood",
              "coverage 95 %", "of single images"]  # fmt: skip
    lines = [line(titles), "|---" * len(titles) + "|"]
    chosen = [row for row in rows if row["method"] == "pdip" and row["noise"] == float(noise)]
    for row in sorted(chosen, key=lambda row: row["views"]):
        cells = [cell(row, key) for key in (JOINT, "marginal", COVERAGE)]
        low, high = row["coverage_range"]
        image = "{:.2f} ± {:.2f}".format(*row["psnr"])
        lines.append(line([row["views"], row["images"], image, *cells, f"{low:.3f} to {high:.3f}"]))
    return "\n".join(lines)


def cell(row: Mapping[str, Any], key: str) -> str:
    """Mean ± standard error of a score; of the image, which methods share, the mean alone."""
    (value, error), digits = row[key], COLUMNS[key][1]
    return f"{value:.{digits}f}" + ("" if key == "psnr" else f" ± {error:.{digits}f}")


def line(cells: Iterable[Any]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"


def search_table(numbers: Mapping[str, Any]) -> str:
    """The search for hyperparameters, and how much longer the standard algorithms take."""
    problems = numbers["problems"]
    others = [cost["name"] for cost in problems[0]["standard"]]
    titles = ["problem", "rays, combinations", "network passes", "ours", *others]
    lines = [line(titles), "|---" * len(titles) + "|"]
    for one in problems:
        made = [stage["passes"] for stage in one["stages"] if stage["name"] in SEARCH]
        ratios = [list(cost["standard_over_ours"].values()) for cost in one["standard"]]
        lines.append(line([
            one["problem"].replace("x", " x "),
            f"{one['rays']}, {one['combinations'] or 'all'}",
            sum(passes["jvp"] + passes["vjp"] for passes in made),
            f"{one['search_seconds']:.0f} s",
            *(f"{low:.0f} to {high:.0f} times as long" for low, high in ratios),
        ]))  # fmt: skip
    return "\n".join(lines)


SEARCH = ("linearise", "evidence")
"""Stages of the search for hyperparameters."""
TABLES = {
    "methods": (METHODS, methods_table),
    "views": (METHODS, views_table),
    "search": (BENCHMARKS, search_table),
}
"""Name of a table -> the file of its numbers, and what writes it."""


def measured() -> dict[str, Any]:
    """The numbers of every file."""
    return {path.name: json.loads(path.read_text()) for path in sorted(MEASURED.glob("*.json"))}


def written(page: str, numbers: Mapping[str, Any]) -> str:
    """A page with its tables made anew."""

    def table(found: re.Match) -> str:
        start, name, keywords, end = found.groups()
        given = dict(word.split("=") for word in keywords.split())
        file, table_of = TABLES[name]
        return f"{start}\n{table_of(numbers[file], **given)}\n\n{end}"

    return MARKED.sub(table, page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--add", type=Path, metavar="ROWS", help="JSON lines of the experiment")
    given = parser.parse_args()
    if given.add is not None:
        rows = json.loads((MEASURED / METHODS).read_text())
        new = summarised(map(json.loads, given.add.read_text().splitlines()))
        names = {tuple(row[key] for key in SETTING) for row in new}
        rows = [row for row in rows if tuple(row[key] for key in SETTING) not in names] + new
        rows.sort(key=lambda row: (row["noise"], row["views"], -row[JOINT][0]))
        text = ",\n".join(map(json.dumps, rows))
        (MEASURED / METHODS).write_text(f"[\n{text}\n]\n")
    PAGE.write_text(written(PAGE.read_text(), measured()))


if __name__ == "__main__":
    main()
