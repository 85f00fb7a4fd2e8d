"""Exported results hold the arrays of the run, their units and pixels, and where they come from."""

import json

import h5py
import numpy as np
import pytest
import tifffile
import yaml

from pdip.cli import main
from pdip.scan import ImageGrid

pytestmark = pytest.mark.usefixtures("rough_figures")

GRID = ImageGrid((4, 5), 0.5)
SLICES = [1, 3, 8]
RNG = np.random.default_rng(3)


def finished_run(folder, shape=GRID.shape, **more):
    """The files of a run that has come to its end."""
    folder.mkdir()
    maps = {name: RNG.uniform(size=shape) for name in ("reconstruction", "std", "posterior_mean")}
    maps = {name: values.astype(np.float32) for name, values in {**maps, **more}.items()}
    for name, values in maps.items():
        np.save(folder / f"{name}.npy", values)
    summary = {
        "source": {"sinogram": "scan.h5", "geometry": None, "ground_truth": "t.npy"},
        "versions": {"pdip": "1.2"},
        "assumptions": ["The axis is in the middle, σ is estimated."],
    }
    if len(shape) == 3:
        summary["slices"] = [{"slice": number} for number in SLICES]
    (folder / "summary.json").write_text(json.dumps(summary))
    grid = {"shape": list(GRID.shape), "pixel_mm": GRID.pixel_mm}
    (folder / "input.json").write_text(json.dumps({"sinogram": "abc", "grid": grid}))
    (folder / "settings.yaml").write_text("dip:\n  seed: 7\n")
    return maps


def exported(tmp_path, kind, **run):
    maps = finished_run(tmp_path / "run", **run)
    assert main(["export", str(tmp_path / "run"), "--format", kind]) == 0
    return maps


def check_provenance(found) -> None:
    assert found["software"] == "pdip 1.2" and found["scan"] == "scan.h5"
    assert found["sinogram_sha256"] == "abc" and "truth" not in str(found)
    assert found["assumptions"] == ["The axis is in the middle, σ is estimated."]
    assert yaml.safe_load(found["settings"]) == {"dip": {"seed": 7}}


@pytest.mark.parametrize("shape", [GRID.shape, (3, *GRID.shape)])
def test_tiff_pages_have_values_pixel_size_and_description(tmp_path, shape):
    bounds = {"bounds_95": RNG.uniform(size=(2, 4, 5))} if len(shape) == 2 else {}  # of one scan
    maps = exported(tmp_path, "tiff", shape=shape, **bounds)
    for name, values in maps.items():
        with tifffile.TiffFile(tmp_path / "run" / f"{name}.tif") as file:
            assert len(file.pages) == (1 if values.ndim == 2 else len(values))
            found = np.stack([page.asarray() for page in file.pages])
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found.reshape(values.shape), values)
            page = file.pages[0]
            per_unit, unit = page.resolution, page.tags["ResolutionUnit"].value
            assert tifffile.RESUNIT(unit).name == "CENTIMETER"
            assert [10 / number for number in per_unit] == pytest.approx([GRID.pixel_mm] * 2)
            told = json.loads(page.description)
        assert (told["units"], told["pixel_mm"]) == ("1/mm", GRID.pixel_mm)
        check_provenance(told)


@pytest.mark.parametrize("kind", ["tiff", "hdf5", "numpy"])
def test_exports_of_a_stack_say_which_slices_they_hold(tmp_path, kind):
    exported(tmp_path, kind, shape=(3, *GRID.shape))
    if kind == "tiff":
        for name in ("reconstruction", "std"):
            with tifffile.TiffFile(tmp_path / "run" / f"{name}.tif") as file:
                assert json.loads(file.pages[0].description)["slices"] == SLICES
                names = [page.tags["PageName"].value for page in file.pages]
                assert names == ["slice 1", "slice 3", "slice 8"]
    elif kind == "hdf5":
        with h5py.File(tmp_path / "run" / "result.h5") as file:
            data = file["entry/data"]
            assert list(data.attrs["axes"]) == ["slice", "y", "x"]
            assert data["slice"][()].tolist() == SLICES
    else:
        with np.load(tmp_path / "run" / "result.npz", allow_pickle=False) as found:
            assert found["slices"].tolist() == SLICES


@pytest.mark.parametrize("shape", [GRID.shape, (3, *GRID.shape)])
def test_hdf5_is_nexus_with_errors_and_axes(tmp_path, shape):
    maps = exported(tmp_path, "hdf5", shape=shape)
    with h5py.File(tmp_path / "run" / "result.h5") as file:
        data = file[file.attrs["default"]][file[file.attrs["default"]].attrs["default"]]
        assert data.attrs["NX_class"] == "NXdata" and data.attrs["signal"] == "reconstruction"
        for name, values in maps.items():
            np.testing.assert_array_equal(data[name][()], values)
            assert data[name].attrs["units"] == "1/mm"
        np.testing.assert_array_equal(data["reconstruction_errors"][()], maps["std"])
        x, y = GRID.centres_mm()
        np.testing.assert_array_equal(data["x"][()], x)
        np.testing.assert_array_equal(data["y"][()], y)
        assert list(data.attrs["axes"])[-2:] == ["y", "x"]
        assert len(data.attrs["axes"]) == len(shape)
        found = {}
        for key, item in file["entry/pdip"].items():
            text = item.asstr()[()]
            found[key] = text.tolist() if isinstance(text, np.ndarray) else text
        check_provenance(found)


def test_numpy_archive_is_one_that_numpy_loads(tmp_path):
    maps = exported(tmp_path, "numpy")
    with np.load(tmp_path / "run" / "result.npz", allow_pickle=False) as found:
        for name, values in maps.items():
            np.testing.assert_array_equal(found[name], values)
        assert found["pixel_mm"] == GRID.pixel_mm and found["units"] == "1/mm"
        check_provenance(json.loads(str(found["provenance"])))


@pytest.mark.parametrize("kind", ["tiff", "hdf5", "numpy"])
def test_hounsfield_units_move_values_and_only_stretch_their_std(tmp_path, kind):
    maps = finished_run(tmp_path / "run", bounds_95=RNG.uniform(size=(2, 4, 5)))
    run, out = str(tmp_path / "run"), tmp_path / "out"
    assert main(["export", run, "--format", kind, "--unit", "HU"]) == 2
    asked = ["--unit", "HU", "--water", "0.02", "--out", str(out)]
    assert main(["export", run, "--format", kind, *asked]) == 0
    found = {}
    if kind == "tiff":
        for name in maps:
            with tifffile.TiffFile(out / f"{name}.tif") as file:
                found[name] = np.stack([page.asarray() for page in file.pages]).squeeze()
                told = json.loads(file.pages[0].description)
                assert told["units"] == "HU"
                assert told["conversion"] == "HU = 50000 x - 1000 with x in 1/mm"
    elif kind == "hdf5":
        with h5py.File(out / "result.h5") as file:
            for name in maps:
                found[name] = file["entry/data"][name][()]
                assert file["entry/data"][name].attrs["units"] == "HU"
    else:
        with np.load(out / "result.npz") as file:
            found = {name: file[name] for name in maps}
            assert file["units"] == "HU"
    for name, values in maps.items():
        moved = 1000 * (values.astype(float) / 0.02 - (name != "std"))
        np.testing.assert_allclose(found[name], moved, rtol=1e-6, atol=1e-3)


def test_files_that_are_there_are_replaced_only_when_that_is_said(tmp_path, capsys):
    exported(tmp_path, "numpy")
    command = ["export", str(tmp_path / "run"), "--format", "numpy"]
    assert main(command) == 2 and "--overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert main([*command, "--out", str(tmp_path / "new" / "folder")]) == 0
    assert (tmp_path / "new" / "folder" / "result.npz").is_file()


def test_a_folder_without_a_finished_run_is_refused(tmp_path, capsys):
    assert main(["export", str(tmp_path), "--format", "tiff"]) == 2
    assert "no finished run" in capsys.readouterr().err
    finished_run(tmp_path / "run")
    (tmp_path / "run" / "std.npy").write_bytes(b"damaged")
    assert main(["export", str(tmp_path / "run"), "--format", "tiff"]) == 2
    assert "std.npy is not an array" in capsys.readouterr().err


def test_a_new_run_in_the_folder_takes_the_exports_of_the_old_one_away(tmp_path):
    from pdip.run_directory import RunDirectory
    from pdip.scan import ParallelBeam, Scan

    exported(tmp_path, "tiff")
    beam = ParallelBeam([0.0, 60.0], 5)
    scan = Scan(RNG.uniform(size=(2, 5)), beam, beam.inscribed_grid())
    RunDirectory(tmp_path / "run").begin(scan, {}, overwrite=True)
    assert not list((tmp_path / "run").glob("*.tif"))
