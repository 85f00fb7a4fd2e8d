"""The check of a scan's own error bars: what it withholds, writes, says, and keeps."""

# ruff: noqa: F401, F811 (files is a fixture)

import shutil
from dataclasses import replace
from html import unescape
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_cli import PROMISED, WRITTEN, files, reconstruct, strict_json

from pdip import cli, pipeline, run_files
from pdip.calibration_check import region_numbers
from pdip.check_design import CheckDesign
from pdip.checkpoints import Checkpoints
from pdip.errors import ComputationError, InputError
from pdip.report.canvas import blank_figure
from pdip.run_directory import RunDirectory
from pdip.run_report import rebuilt
from pdip.scan import ImageGrid, ParallelBeam, Scan
from pdip.settings import Settings
from pdip.stages import Observer

pytestmark = pytest.mark.usefixtures("rough_figures")

RUN = ("--dip.restarts", "1", "--dip.max_steps", "30")
BRIEF = (*RUN, "--check-calibration")
ADDED = {"calibration.png", "bounds_95.npy", "check_fit.safetensors", "check_evidence.safetensors"}


def scan_of(views, weights=None):
    sinogram = torch.rand(views, 7, generator=torch.Generator().manual_seed(0))
    angles = [180.0 * view / views for view in range(views)]
    return Scan(sinogram, ParallelBeam(angles, 7), ImageGrid((5, 5)), weights)


@pytest.fixture(scope="module")
def checked(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "checked"
    assert reconstruct(files, out, *BRIEF, "--calibration.withhold", "views") == 0
    return out


@pytest.mark.parametrize(("views", "count"), [(10, 3), (20, 4), (60, 12)])
def test_views_are_withheld_evenly_from_ten_on(views, count):
    scan = scan_of(views)
    withheld = CheckDesign().withheld(scan)
    assert torch.equal(withheld.any(1), withheld.all(1)) and int(withheld.any(1).sum()) == count
    gaps = withheld.any(1).nonzero()[:, 0].diff()
    assert int(gaps.max() - gaps.min()) <= 1
    rest = CheckDesign().without(scan, withheld)
    assert torch.equal(rest.sinogram, scan.sinogram[~withheld.any(1)])


def test_rays_are_withheld_at_random_from_few_views_and_never_those_without_weight():
    weights = torch.ones(9, 7)
    weights[:, :3] = 0
    scan, design = scan_of(9, weights), CheckDesign(share=0.4)
    withheld = design.withheld(scan)
    assert not bool(withheld[:, :3].any()) and 0 < int(withheld.sum()) < 36
    rest = design.without(scan, withheld)
    assert torch.equal(rest.weights == 0, withheld | (weights == 0))
    assert torch.equal(withheld, design.withheld(scan))
    assert not torch.equal(withheld, replace(design, seed=1).withheld(scan))


def test_what_cannot_be_withheld_is_refused():
    with pytest.raises(InputError, match="--calibration.withhold rays"):
        CheckDesign(withhold="views").withheld(scan_of(4))
    with pytest.raises(InputError, match="share"):
        CheckDesign(share=0.0)
    with pytest.raises(InputError, match="one of auto, views, rays"):
        Settings(calibration={"withhold": "detectors"})
    with pytest.raises(InputError, match="share must lie above 0 and not above 0.5, got 0.9"):
        Settings(calibration={"share": 0.9})


def test_rays_of_a_single_view_are_refused_as_nothing_shows_how_views_differ():
    with pytest.raises(InputError, match="rays of at least 2 views.*give more views"):
        CheckDesign().withheld(scan_of(1))


def test_views_without_weight_are_none_that_could_be_withheld():
    weights = torch.zeros(10, 7)
    weights[[1, 5, 8]] = 1
    scan = scan_of(10, weights)
    found = CheckDesign().withheld(scan)
    assert 0 < int(found.sum()) < 21 and not found[weights == 0].any()
    with pytest.raises(InputError, match="at least 6 views.*got 3.*--calibration.withhold rays"):
        CheckDesign(withhold="views").withheld(scan)
    weights = torch.ones(12, 7)
    weights[3] = weights[7] = 0
    found = CheckDesign().withheld(scan_of(12, weights))
    assert found.any(1).nonzero()[:, 0].tolist() == [1, 6, 10]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("--calibration.share", "0.9", "--check-calibration"), "share must lie above 0"),
     (("--calibration.share", "0.9"), "share must lie above 0"),
     (("--calibration.samples", "3"), "samples must be at least 16"),
     (("--view-step", "3", "--calibration.withhold", "views", "--check-calibration"),
      "--calibration.withhold rays")],
)  # fmt: skip
def test_a_check_that_cannot_be_is_refused_before_anything_is_computed(
    files, tmp_path, capsys, monkeypatch, arguments, words
):
    monkeypatch.setattr(cli, "reconstruct", None)
    assert reconstruct(files, tmp_path / "run", *arguments) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_the_command_adds_the_check_to_the_files_of_the_run(checked):
    names = {path.name for path in checked.iterdir()}
    assert names - {"std_recalibrated.npy"} == WRITTEN | ADDED
    numbers = strict_json(checked / "summary.json")
    assert numbers.keys() >= PROMISED | {"calibration"}
    found = numbers["calibration"]
    assert found.keys() >= {"held_out", "leave_one_out", "whiteness", "recalibration", "verdict"}
    narrow = [told for told in numbers["warnings"] if told.endswith(f"{found['verdict']}.")]
    assert len(narrow) == found["too_narrow"]
    assert found["held_out"]["num_views"] == 3 and found["held_out"]["num_rays"] == 69
    assert {"check: fit", "check: evidence", "check: score"} <= numbers["stages"].keys()
    for kind in ("predicted", "noise_only"):
        assert 0 <= found["held_out"][kind]["coverage"]["0.95"]["value"] <= 1
    assert {"rays", "views"} <= found["leave_one_out"].keys()
    assert {"detectors", "views"} <= found["whiteness"].keys()


@pytest.mark.slow
def test_the_page_says_what_the_check_found_and_has_its_bounds_and_figure(checked, tmp_path):
    page = (checked / "report.html").read_text()
    found = strict_json(checked / "summary.json")["calibration"]
    assert all(said in unescape(page) for said in (found["verdict"][1:], found["grounds"]))
    assert "data:image/png;base64," in page
    half = found["recalibration"]["conformal"]["quantile"]
    assert f'"half_width": {half}' in page
    shutil.copytree(checked, tmp_path / "moved")
    (tmp_path / "moved" / "report.html").unlink()
    rebuilt(RunDirectory(tmp_path / "moved"))
    assert (tmp_path / "moved" / "report.html").read_text() == page


@pytest.mark.slow
def test_the_recalibrated_std_is_the_raw_one_times_its_factor_where_there_is_one(checked):
    found = strict_json(checked / "summary.json")["calibration"]["recalibration"]
    lower, upper = np.load(checked / "bounds_95.npy")
    std, quantile = np.load(checked / "std.npy"), found["conformal"]["quantile"]
    assert np.allclose(upper - lower, 2 * quantile * std, rtol=1e-4)
    assert np.allclose((upper + lower) / 2, np.load(checked / "reconstruction.npy"), atol=1e-6)
    path = checked / "std_recalibrated.npy"
    grounds = strict_json(checked / "summary.json")["calibration"]["grounds"]
    assert path.exists() == found["applied"] == ("std_recalibrated.npy holds" in grounds)
    if path.exists():
        ratio = np.load(path) / np.load(checked / "std.npy")
        assert np.allclose(ratio, found["scales"][0]["value"], rtol=1e-5)


@pytest.mark.slow
def test_a_check_that_is_cut_short_costs_no_reconstruction(files, tmp_path, monkeypatch, capsys):
    out, fits, whole = tmp_path / "run", [], pipeline.fit_dip

    def counted(*arguments, **keywords):
        fits.append(1)
        return whole(*arguments, **keywords)

    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "fit_dip", counted)
    with monkeypatch.context() as patch:
        patch.setattr(cli, "check_calibration", interrupted)
        assert reconstruct(files, out, *BRIEF) == 1
    assert {path.name for path in out.iterdir()} >= WRITTEN and len(fits) == 1
    before = (out / "std.npy").read_bytes()
    capsys.readouterr()
    assert reconstruct(files, out, *BRIEF, "--resume") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(fits) == 2 and (out / "std.npy").read_bytes() == before
    assert sum(line.startswith("calibration: the ") for line in lines) == 1
    assert any(line.startswith("check: withholds ") and "as long" in line for line in lines)
    assert reconstruct(files, out, *BRIEF, "--resume") == 0 and len(fits) == 2
    assert any("check: fit: read back" in line for line in capsys.readouterr().out.splitlines())


@pytest.mark.slow
def test_a_run_is_resumed_with_other_settings_of_the_check(
    checked, files, tmp_path, monkeypatch, capsys
):
    out, fits, whole = tmp_path / "run", [], pipeline.fit_dip
    shutil.copytree(checked, out)

    def counted(*arguments, **keywords):
        fits.append(1)
        return whole(*arguments, **keywords)

    def resumed(*arguments):
        fits.clear()
        assert reconstruct(files, out, *RUN, "--resume", *arguments) == 0
        numbers = strict_json(out / "summary.json")
        return numbers["calibration"], numbers["stages"].keys()

    monkeypatch.setattr(pipeline, "fit_dip", counted)
    views, regions = ("--calibration.withhold", "views"), ("--calibration.regions", "object")
    first = strict_json(out / "summary.json")["calibration"]
    found, _ = resumed("--check-calibration", *views, *regions)
    assert not fits and "air" in found["grounds"]
    assert found["held_out"]["gain"] == pytest.approx(first["held_out"]["gain"], rel=1e-5)
    assert len(found["recalibration"]["regions"]["scales"]) == 2
    assert "regions: object" in (out / "settings.yaml").read_text()
    kept, stages = resumed(*views)
    assert not fits and kept == found and "check: fit" in stages
    assert (out / "check_fit.safetensors").exists()
    other, _ = resumed("--check-calibration", "--calibration.withhold", "rays")
    assert len(fits) == 1 and other["held_out"]["num_views"] == 9
    assert other["settings"]["withhold"] == "rays"


@pytest.mark.parametrize(
    ("changed", "kept"), [({"regions": "object"}, True), ({"share": 0.3}, False)]
)
def test_a_resumed_check_keeps_its_stages_while_it_withholds_the_same_rays(tmp_path, changed, kept):
    def begun(**given):
        settings = Settings(calibration=given).resolved()
        RunDirectory(tmp_path).begin(scan_of(9), settings, resume=True)

    begun()
    names = ["fit.safetensors", "check_fit.safetensors", "unfinished/check_evidence.safetensors"]
    (tmp_path / "unfinished").mkdir()
    for name in names:
        (tmp_path / name).touch()
    begun(**changed)
    assert [(tmp_path / name).exists() for name in names] == [True, kept, kept]


def test_what_a_check_does_not_find_is_not_left_from_an_earlier_one(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write_json("summary.json", {"stages": {}})
    for name in ("std_recalibrated.npy", "bounds_95.npy"):
        directory.write_array(name, torch.ones(2, 2))
    nothing = SimpleNamespace(
        std=None, bounds=torch.zeros(2, 2, 2), stages={}, verdict="none", grounds="None."
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_files, "draw_check", lambda check: blank_figure(1, 1))
        patch.setattr(run_files, "check_summary", lambda check: {"too_narrow": False})
        patch.setattr(run_files, "write_report", lambda directory, numbers: None)
        run_files.write_check(directory, nothing, Observer())
        assert np.load(tmp_path / "bounds_95.npy").shape == (2, 2, 2)
        nothing.bounds = None
        run_files.write_check(directory, nothing, Observer())
    assert {path.name for path in tmp_path.iterdir()} == {"summary.json", "calibration.png"}


@pytest.mark.slow
def test_a_check_that_fails_leaves_the_result(files, tmp_path, monkeypatch, capsys):
    def failing(*arguments, **keywords):
        raise ComputationError("no honest result")

    monkeypatch.setattr(cli, "check_calibration", failing)
    assert reconstruct(files, tmp_path / "run", *BRIEF) == 1
    assert (tmp_path / "run" / "std.npy").exists()
    assert "no honest result" in capsys.readouterr().err


def test_a_stack_is_refused_before_anything_is_computed(files, tmp_path, capsys):
    np.save(tmp_path / "stack.npy", np.random.default_rng(0).random((2, 9, 23)))
    arguments = ["reconstruct", "--sinogram", str(tmp_path / "stack.npy"), "--check-calibration"]
    assert cli.main([*arguments, "--out", str(tmp_path / "run")]) == 2
    assert "--check-calibration checks a single scan" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_regions_split_the_image_at_its_threshold_and_the_std_at_its_median():
    image = torch.tensor([[0.0, 0.0], [0.9, 1.0]])
    assert region_numbers("object", image, image).tolist() == [[0, 0], [1, 1]]
    assert region_numbers("none", image, image).tolist() == [[0, 0], [0, 0]]
    std = torch.tensor([[4.0, 1.0], [3.0, 2.0]])
    assert region_numbers("std", image, std).tolist() == [[1, 0], [1, 0]]
