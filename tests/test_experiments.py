"""Every experiment runs in its quick form; what experiments share keeps its promises."""

# ruff: noqa: F401, F811 (files and finished are fixtures)

import json
import runpy
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.layout_engine import ConstrainedLayoutEngine
from test_cli import files, finished, strict_json

import pdip
from pdip.baselines import BASELINES, Baseline, gaussian
from pdip.errors import ComputationError, InputError
from pdip.experiment import Rows
from pdip.experiment_command import perform
from pdip.report.experiment_tables import flat, markdown_table, mean_and_error
from pdip.run_directory import EVALUATED
from pdip.scan import read_images

FOLDER = Path(__file__).parents[1] / "experiments"
EXPERIMENTS = sorted(FOLDER.glob("*.py"))


@dataclass(frozen=True)
class Flat(Baseline):
    """The same std everywhere."""

    std: float = 0.2

    def posterior(self, scan, ray, fit, *, seed=0):
        variance = torch.full((fit.image.numel(),), self.std**2)
        return gaussian(fit.image, variance, fit.network.image_scale)


@dataclass(frozen=True)
class Failing(Baseline):
    """Never has a result."""

    def posterior(self, scan, ray, fit, *, seed=0):
        raise ComputationError("no honest result")


def run(path: Path, monkeypatch, *arguments: str) -> None:
    """The experiment as its command line starts it."""
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    monkeypatch.syspath_prepend(str(FOLDER))
    runpy.run_path(str(path), run_name="__main__")


def written(folder: Path, ending: str) -> dict[Path, bytes]:
    """The files with this ending anywhere in a folder."""
    return {path: path.read_bytes() for path in folder.glob(f"**/*{ending}")}


@pytest.mark.slow
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_quick_form_leaves_a_figure_and_numbers_that_stand_when_run_again(
    path, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    run(path, monkeypatch, "--quick")
    numbers, figures = written(tmp_path, ".json*"), written(tmp_path, ".png")
    assert numbers and figures and all(len(figure) > 5000 for figure in figures.values())
    for file, content in numbers.items():
        documents = content.splitlines() if file.suffix == ".jsonl" else [content]
        assert documents and all(json.loads(document) for document in documents)
    monkeypatch.setattr(ConstrainedLayoutEngine, "execute", lambda engine, figure: None)
    run(path, monkeypatch, "--quick")
    assert written(tmp_path, ".json*") == numbers


@pytest.mark.slow
def test_a_finished_run_is_evaluated_on_its_own_pixels(files, finished, monkeypatch):
    path, truth = FOLDER / "evaluate_calibration.py", str(files / "truth.npy")
    run(path, monkeypatch, "--result", str(finished), "--ground-truth", truth)
    found, summary = (strict_json(finished / f"{n}.json") for n in ("evaluation", "summary"))
    assert {file.name for file in finished.glob("evaluation.*")} == set(EVALUATED)
    assert found["coverage_95"] == pytest.approx(summary["coverage_95"], abs=1e-6)
    assert found["psnr"] == pytest.approx(summary["psnr"], abs=1e-4)
    assert found["nll_per_pixel"]["joint"] == pytest.approx(
        -summary["log_likelihood_per_pixel"], rel=1e-3
    )


def ending(path: Path, monkeypatch, capsys, *arguments: str) -> tuple[int, str]:
    """Exit code of an experiment that fails, and what it says on stderr."""
    with pytest.raises(SystemExit) as left:
        run(path, monkeypatch, *arguments)
    return left.value.code, capsys.readouterr().err


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_wrong_usage_is_one_sentence(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, said = ending(path, monkeypatch, capsys, "--quick", "--nonsense")
    assert code == 2 and said.count("\n") == 1 and said.startswith("pdip: ") and "--help" in said
    assert not list(tmp_path.iterdir())


UNUSABLE = {
    "no such images": ("noise_levels", ["--images", "nope.npz"], "nope.npz"),
    "no images in the file": ("prior_samples", ["--images", "other.npz"], "'images'"),
    "no view": ("kmnist_calibration", ["--views", "0"], "--views: expected a whole number of 1"),
    "half a view": ("kmnist_starts", ["--views", "2.5"], "'2.5'"),
    "noise below 0": ("samples_vs_exact", ["--noise", "-1"], "--noise: expected a number of 0"),
    "noise is nan": ("tarp", ["--noise", "nan"], "'nan'"),
    "no image of that number": ("evidence_objectives", ["--first", "-1"], "--first"),
    "seed below 0": ("prior_samples", ["--seed", "-1"], "--seed"),
    "no pixel": ("repeated_noise", ["--size", "0"], "--size"),
    "more views than there are": (
        "angle_selection",
        ["--pilot", "40", "--size", "8"],
        "--pilot <= --most",
    ),
    "quick and not": ("limited_angle", ["--quick", "--arcs", "90"], "--quick sets --arcs itself"),
    "no such folder": ("real_scans", ["--data", "nope"], "nope"),
    "no such arcs": ("limited_angle", ["--data", "nope"], "nope"),
    "no such cases": ("kmnist_defaults", ["--data", "nope"], "nope"),
    "no such run": ("evaluate_calibration", ["--result", "nope", "--ground-truth", "t"], "nope"),
    "no reference": ("real_scans", ["--data", "bare", "--scans", "lotus"], "'reference'"),
}


@pytest.mark.parametrize("stem, arguments, named", UNUSABLE.values(), ids=UNUSABLE)
def test_unusable_input_is_one_sentence(stem, arguments, named, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("other.npz", image=np.ones((4, 4)))
    Path("bare", "lotus").mkdir(parents=True)
    geometry = {"geometry": "parallel", "angles": np.arange(4.0), "det_pixel_mm": 1.0}
    np.savez("bare/lotus/lotus_small.npz", sinogram=np.eye(4, 11), **geometry)
    code, said = ending(FOLDER / f"{stem}.py", monkeypatch, capsys, *arguments)
    assert code == 2 and said.count("\n") == 1 and named in said


@pytest.mark.slow
@pytest.mark.parametrize("truth", [np.full((16, 16), np.nan), None, np.ones((5, 7))])
def test_an_unusable_truth_of_a_run_is_one_sentence(
    truth, files, finished, tmp_path, monkeypatch, capsys
):
    if truth is not None:
        np.save(tmp_path / "t.npy", truth)
    path, asked = FOLDER / "evaluate_calibration.py", ["--ground-truth", str(tmp_path / "t.npy")]
    code, said = ending(path, monkeypatch, capsys, "--result", str(finished), *asked)
    assert code == 2 and said.count("\n") == 1 and "t.npy" in said


def test_a_computation_without_a_result_is_one_sentence(capsys):
    def main():
        raise ComputationError("no honest result")

    with pytest.raises(SystemExit) as left:
        perform(main)
    assert left.value.code == 1 and capsys.readouterr().err == "pdip: no honest result\n"


def test_mean_and_error_are_those_of_numpy():
    values = np.random.default_rng(0).normal(size=7)
    mean, error = mean_and_error([*values, None])
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(7))


def test_rows_are_found_again_and_a_damaged_line_is_named(tmp_path):
    path = tmp_path / "rows.jsonl"
    Rows(path).append({"views": 5, "settings": {"a": (1, 2)}, "score": float("nan")})
    again = Rows(path)
    assert again.find({"views": 5, "settings": {"a": (1, 2)}})["score"] is None
    assert again.find({"views": 6}) is None
    path.write_text(path.read_text() + '{"views": ')
    with pytest.raises(InputError, match="line 2"):
        Rows(path)


def test_table_counts_failures_and_leaves_them_out_of_the_mean():
    rows = [{"m": "a", "s": 1.0}, {"m": "a", "s": 9.0, "failure": "none"}, {"m": "b", "s": 2.0}]
    lines = markdown_table(rows, ["m"], ["s"]).splitlines()
    assert lines[2:] == ["| a | 1 + 1 failed | 1 |", "| b | 1 | 2 |"]
    assert flat({"n": {"x": 1}}) == {"n.x": 1}


@pytest.mark.slow
def test_the_main_table_goes_on_and_a_failure_is_a_row(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(BASELINES, "flat", Flat)
    monkeypatch.setitem(BASELINES, "failing", Failing)
    out, path = tmp_path / "out.jsonl", FOLDER / "kmnist_calibration.py"
    methods = ("--methods", "flat", "failing")
    run(path, monkeypatch, "--quick", "--out", str(out), *methods)
    first = out.read_text()
    flat_row, failed = (json.loads(line) for line in first.splitlines())
    assert failed["failure"] == "no honest result" and "coverage_95" not in failed
    assert flat_row["settings"] == {"std": 0.2} and flat_row["versions"]["torch"]
    assert "| 0 + 1 failed |" in capsys.readouterr().out
    run(path, monkeypatch, "--quick", "--out", str(out), *methods)
    assert out.read_text() == first
    run(path, monkeypatch, "--quick", "--out", str(out), "--views", "5", *methods)
    assert out.read_text().startswith(first) and len(out.read_text().splitlines()) == 4


def test_images_of_a_file_are_scanned_with_the_noise_that_is_asked_for(tmp_path):
    truth = (np.random.default_rng(0).random((3, 9, 9)) * 255).astype(np.uint8)
    np.savez(tmp_path / "some.npz", images=truth, labels=np.arange(3))
    images = read_images(tmp_path / "some.npz")
    ray = pdip.ray_transform(images.geometry(30), images.grid)
    scan, found = images.measure(2, ray, 0.1)
    assert torch.equal(found, torch.as_tensor(truth[2] / 255).float())
    clean = ray.forward(found)
    ratio = float((scan.sinogram - clean).std() / clean.abs().mean())
    assert abs(ratio - 0.1) < 4 * 0.1 / (2 * clean.numel()) ** 0.5
    assert torch.equal(images.measure(2, ray, 0.1)[0].sinogram, scan.sinogram)
    with pytest.raises(InputError, match="0 to 2"):
        images.measure(3, ray, 0.1)


def test_the_geometry_of_28_pixels_is_that_of_the_comparison():
    geometry = read_images(None).geometry(20)
    assert geometry.shape == (20, 41)
    assert geometry.detector_pitch_mm == pytest.approx(28 * 2**0.5 / 41)


def test_a_stored_case_is_used_at_its_own_noise_only(tmp_path):
    images = np.ones((1, 8, 8)) * np.arange(8)
    np.savez(tmp_path / "set.npz", images=images)
    (tmp_path / "cases").mkdir()
    geometry = read_images(tmp_path / "set.npz").geometry(4)
    stored = np.arange(44.0).reshape(4, 11)
    np.savez(
        tmp_path / "cases" / "k4_0.npz", sinogram=stored, geometry="parallel",
        angles=np.deg2rad(geometry.angles_deg), det_pixel_mm=geometry.detector_pitch_mm,
        image_shape=(8, 8), pixel_mm=1.0, ground_truth=images[0],
    )  # fmt: skip
    found = read_images(tmp_path / "set.npz")
    ray = pdip.ray_transform(geometry, found.grid)
    for noise, taken in ((0.05, True), (0.1, False)):
        scan, truth = found.measure(0, ray, noise)
        assert np.allclose(scan.sinogram, stored) == taken
        assert np.array_equal(truth, images[0])


@pytest.mark.parametrize("content", [{"image": np.ones((2, 4, 4))}, {"images": np.ones((4, 4))}])
def test_a_file_without_images_is_refused(tmp_path, content):
    np.savez(tmp_path / "set.npz", **content)
    with pytest.raises(InputError, match="images"):
        read_images(tmp_path / "set.npz")


@pytest.mark.slow
def test_rows_of_other_settings_are_not_taken_for_those_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for points in ("5,9", "5,9,12"):
        over = ["--over", f"dip.max_steps={points}"]
        run(FOLDER / "selection.py", monkeypatch, "--quick", *over)
    lines = Path("runs/quick/selection.jsonl").read_text().splitlines()
    assert [len(json.loads(line)["compared"]) for line in lines] == [2, 2, 3, 3, 3]
