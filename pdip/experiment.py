"""What experiments share: which scans, rows of JSON that a long run goes on from, figures."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from pdip.errors import InputError
from pdip.evidence import EvidenceFit, optimise_evidence
from pdip.linearised import LinearGaussianModel
from pdip.posterior import relinearise
from pdip.ray import RayTransform, ray_transform
from pdip.report.summary import versions
from pdip.scan import ImageGrid, ImageSet, ParallelBeam, Scan, read_ground_truth, read_images
from pdip.strict_json import strict
from pdip.typing import Image

QUICK = {
    "network": {"scales": 2, "channels": 4},
    "dip": {"max_steps": 40, "restarts": 1, "start": "fbp"},
    "evidence": {"max_evaluations": 10},
}
"""Settings of ``--quick``: every stage runs, none of them well."""


@dataclass(frozen=True)
class Case:
    """One scan of an experiment.

    Attributes:
        images: the set its image is of.
        views: number of views.
        noise: σ over mean|A x|.
        number: of the image.
    """

    images: ImageSet
    views: int
    noise: float
    number: int

    @property
    def key(self) -> dict[str, Any]:
        """What tells the rows of this case from others."""
        return {
            "images": self.images.name,
            "side": max(self.images.grid.shape),
            "views": self.views,
            "noise": self.noise,
            "image": self.number,
        }

    def measure(self) -> tuple[Scan, Image, RayTransform]:
        """The scan, the truth, and the scan's ray transform."""
        ray = ray_transform(self.images.geometry(self.views), self.images.grid)
        scan, truth = self.images.measure(self.number, ray, self.noise)
        return scan, truth, ray_transform(scan.geometry, scan.grid)


QUICK_CASE = Case(read_images(None, side=8), views=4, noise=0.05, number=0)
"""The scan of ``--quick``."""


def seeded(seed: int) -> torch.Generator:
    """A source of randomness on the CPU."""
    return torch.Generator().manual_seed(seed)


def parallel_rays(side: int, views: int) -> RayTransform:
    """Of side x side pixels of 1 mm: parallel views equally spaced over 180 degrees from 0, and a
    detector of elements of 1 mm that sees the whole diagonal."""
    beam = ParallelBeam([180 * view / views for view in range(views)], int(1.45 * side) | 1)
    return ray_transform(beam, ImageGrid((side, side)))


class Rows:
    """Rows of numbers in a file of JSON lines, to which each finished row is appended at once.

    A run that is started again finds the rows it has; several runs may append to one file.

    Args:
        path: the file; its folder is made.

    Raises:
        InputError: a line is not JSON.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = path.read_text().splitlines() if path.exists() else []
        self.rows = [self._row(number, line) for number, line in enumerate(lines, 1)]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)

    def find(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The last row that holds all of ``key``, or None."""
        wanted = strict(dict(key)).items()
        found = (row for row in reversed(self.rows) if all(row.get(k) == v for k, v in wanted))
        return next(found, None)

    def append(self, row: Mapping[str, Any]) -> None:
        """Keep a row; NaN and infinities become null."""
        row = strict(dict(row))
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        self.rows.append(row)

    def complete(
        self,
        keys: Mapping[Any, Mapping[str, Any]],
        measure: Callable[[list], Iterable[Mapping[str, Any]]],
    ) -> list[dict[str, Any]]:
        """The rows of all keys; those that are missing are measured, printed and appended.

        Args:
            keys: name -> what tells its row from others.
            measure: names -> numbers of each, one after another; called once, if at all. A
                result that does not exist is ``{"failure": why}``.
        """
        missing = [name for name, key in keys.items() if self.find(key) is None]
        found = measure(missing) if missing else ()
        for name, numbers in zip(missing, found, strict=True):
            self.append({**keys[name], **numbers, "versions": versions()})
            last = self.rows[-1].items()
            shown = {name: value for name, value in last if not isinstance(value, (dict, list))}
            print(json.dumps(shown), flush=True)
        return [self.find(key) for key in keys.values()]

    def _row(self, number: int, line: str) -> dict[str, Any]:
        try:
            return json.loads(line)
        except json.JSONDecodeError:
            raise InputError(
                f"line {number} of {self.path} is not JSON, as after a run that was killed; delete "
                "the line."
            ) from None


def true_image(path: Path, grid: ImageGrid) -> Image:
    """The truth or reference of a file, on the grid; what is assumed of it is printed.

    Raises:
        InputError: the file has none or cannot be used.
    """
    found = read_ground_truth(path, grid, assumed=lambda said: print(f"assumed: {said}"))
    if found is None:
        raise InputError(
            f"{path} holds neither 'ground_truth' nor 'reference'; name a .npy image or a .npz or "
            "HDF5 file with one of them."
        )
    return found


def settled(model: LinearGaussianModel, scan: Scan, **keywords) -> EvidenceFit:
    """The evidence optimised, the slopes renewed, and optimised again, as the pipeline does.

    Args:
        model: at its starting hyperparameters.
        scan: the scan.
        keywords: of :func:`pdip.optimise_evidence`.
    """
    found = optimise_evidence(model, scan, **keywords)
    again = relinearise(found.model, scan, keywords.get("solver"))
    return found if again is found.model else optimise_evidence(again, scan, **keywords)


def save_figure(figure: Figure, path: Path) -> None:
    """Save a figure beside its rows: as ``.png`` to look at, as ``.pdf`` to print.

    Args:
        figure: the figure.
        path: of the rows; its ending is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.set_dpi(150)
    figure.canvas.print_png(path.with_suffix(".png"))
    figure.set_layout_engine("none")  # laid out already, which is half the time of a drawing
    figure.savefig(path.with_suffix(".pdf"), dpi=150)
