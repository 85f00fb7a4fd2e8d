"""Results of a finished run in the formats of other programs."""

from collections.abc import Callable
from pathlib import Path

from pdip.errors import InputError
from pdip.folder import Folder
from pdip.report.export_numpy import write_npz
from pdip.report.export_tiff import write_tiff
from pdip.run_directory import ARRAYS, BOUNDS, INPUT, RECALIBRATED, SETTINGS, SUMMARY, RunDirectory
from pdip.scan import ImageGrid
from pdip.scan.npy import read_npy, regular_file
from pdip.units import MapInUnit, Unit

QUANTITIES = {
    "reconstruction": "linear attenuation coefficient",
    "std": "standard deviation of the reconstruction",
    "posterior_mean": "mean of the linear model",
    "std_recalibrated": "standard deviation times the factor that withheld rays ask for",
    "bounds_95": "lower and upper bound of the 95 % interval",
}
"""Name of an array of a run -> what it is."""


def export(
    directory: RunDirectory, kind: str, out: Path, unit: Unit, overwrite: bool
) -> list[Path]:
    """Write the images of a finished run, with pixel size, unit, the numbers of the slices of a
    stack and where they come from.

    Args:
        directory: of the run.
        kind: one of :data:`EXPORTS`.
        out: folder for the files.
        unit: of the values.
        overwrite: replace files that are there.

    Returns:
        the files.

    Raises:
        InputError: no finished run, or files of these names are there.
        OutputError: a file cannot be written.
    """
    if not directory.finished:
        raise InputError(
            f"{directory.path} holds no finished run ({SUMMARY}); name another folder."
        )
    maps = {}
    for name in (*ARRAYS, RECALIBRATED, BOUNDS):
        if name in ARRAYS or (directory.path / name).exists():
            path = regular_file(directory.path / name)
            name = name.removesuffix(".npy")
            maps[name] = unit.map(read_npy(path)["sinogram"], spread=name.startswith("std"))
    with directory.understood():
        changed = {} if unit.scale == 1 else {"conversion": unit.formula}
        slices = [row["slice"] for row in directory.read_json(SUMMARY).get("slices", ())]
        fills = EXPORTS[kind](maps, directory.grid(), slices, changed | provenance(directory))
    place = Folder(out)
    present = [name for name in fills if (out / name).exists()]
    if present and not overwrite:
        raise InputError(f"{out / present[0]} is there already; give --overwrite or another --out.")
    place.make()
    for name, fill in fills.items():
        place.write(name, fill)
    return [out / name for name in fills]


def provenance(directory: RunDirectory) -> dict:
    """Where the results of a run come from: software, scan, settings, what was assumed."""
    summary, made_of = directory.read_json(SUMMARY), directory.read_json(INPUT)
    source = {"scan": "sinogram", "geometry_file": "geometry", "slice": "slice"}
    hashed = {"sinogram_sha256": "sinogram", "geometry_sha256": "geometry"}
    return {
        "software": f"pdip {summary['versions']['pdip']}",
        **{
            name: str(summary["source"][key])
            for name, key in source.items()
            if summary["source"].get(key) is not None
        },
        **{name: made_of[key] for name, key in hashed.items() if key in made_of},
        "assumptions": summary["assumptions"],
        "settings": (directory.path / SETTINGS).read_text(encoding="utf-8"),
    }


def _tiff(
    maps: dict[str, MapInUnit], grid: ImageGrid, slices: list[int], made: dict
) -> dict[str, Callable]:
    """One file for each image."""

    def fill(name: str) -> Callable:
        told = {"quantity": QUANTITIES[name], "units": maps[name].unit}
        told |= {"pixel_mm": grid.pixel_mm, **made}
        return lambda stream: write_tiff(stream, maps[name], grid.pixel_mm, slices, told)

    return {f"{name}.tif": fill(name) for name in maps}


def _hdf5(
    maps: dict[str, MapInUnit], grid: ImageGrid, slices: list[int], made: dict
) -> dict[str, Callable]:
    """One file."""
    from pdip.report.export_hdf5 import write_hdf5

    return {"result.h5": lambda stream: write_hdf5(stream, maps, grid, slices, QUANTITIES, made)}


def _numpy(
    maps: dict[str, MapInUnit], grid: ImageGrid, slices: list[int], made: dict
) -> dict[str, Callable]:
    """One file."""
    return {"result.npz": lambda stream: write_npz(stream, maps, grid.pixel_mm, slices, made)}


EXPORTS = {"tiff": _tiff, "hdf5": _hdf5, "numpy": _numpy}
"""Name of a format -> file names with what fills them, from maps, their pixels, the numbers of the
slices (of a stack) and where they come from."""
