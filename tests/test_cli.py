"""The command as a user meets it: files, lines, sentences and exit codes."""

import json
import shutil
import subprocess
import sys
from base64 import b64encode
from html import unescape

import numpy as np
import pytest
import torch
import yaml
from test_pipeline import QUICK, small_scan

import pdip
from pdip import cli, pipeline, terminal
from pdip.errors import ComputationError, InputError
from pdip.report.words import warnings_of
from pdip.run_directory import RunDirectory
from pdip.run_files import tell_warnings
from pdip.run_report import rebuilt
from pdip.scan import geometry_from_dict

pytestmark = pytest.mark.usefixtures("rough_figures")

WRITTEN = {
    "reconstruction.npy", "std.npy", "posterior_mean.npy", "posterior.safetensors", "summary.json",
    "overview.png", "settings.yaml", "input.json", "fit.safetensors", "evidence.safetensors",
    "report.html", "report.safetensors",
}  # fmt: skip
PROMISED = {
    "psnr", "ssim", "relative_l2", "log_likelihood_per_pixel", "log_likelihood_kind",
    "coverage_95", "noise_std", "log_evidence", "stop_reason", "assumptions", "solver", "stages",
    "versions",
}  # fmt: skip


def geometry_keys(geometry, grid) -> dict:
    """What a ``.npz`` scan holds beside the sinogram."""
    return {**geometry.to_dict(), "image_shape": grid.shape, "pixel_mm": grid.pixel_mm}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A scan with truth (.npz), the bare sinogram (.npy), the truth and quick settings."""
    folder = tmp_path_factory.mktemp("files")
    scan, truth = small_scan()
    sinogram = scan.sinogram.numpy()
    np.save(folder / "scan.npy", sinogram)
    np.save(folder / "truth.npy", truth.numpy())
    keys = geometry_keys(scan.geometry, scan.grid)
    np.savez(folder / "scan.npz", sinogram=sinogram, ground_truth=truth.numpy(), **keys)
    quick = {
        **QUICK,
        "dip": {**QUICK["dip"], "max_steps": 40, "start": "fbp"},
        "evidence": {**QUICK["evidence"], "max_evaluations": 10},
    }
    (folder / "quick.yaml").write_text(yaml.safe_dump(quick))
    return folder


def reconstruct(files, out, *arguments, scan="scan.npz") -> int:
    return cli.main(
        ["reconstruct", "--sinogram", str(files / scan), "--out", str(out),
         "--config", str(files / "quick.yaml"), *arguments]
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "finished"
    assert reconstruct(files, out) == 0
    return out


def strict_json(path) -> dict:
    def refuse(constant):
        raise AssertionError(f"{constant} in {path.name}")

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.mark.slow
def test_a_run_writes_its_files_and_nothing_else(finished):
    assert {path.name for path in finished.iterdir()} == WRITTEN
    for name in ("reconstruction.npy", "std.npy", "posterior_mean.npy"):
        array = np.load(finished / name)
        assert array.dtype == np.float32 and array.shape == (16, 16)
        assert np.isfinite(array).all()
    assert (finished / "overview.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_page_of_a_run_is_made_again_from_its_folder_alone(finished, files, tmp_path):
    folder = tmp_path / "moved"
    shutil.copytree(finished, folder)
    for name in ("report.html", "fit.safetensors", "evidence.safetensors"):
        (folder / name).unlink()
    assert rebuilt(RunDirectory(folder)) == 1
    assert (folder / "report.html").read_bytes() == (finished / "report.html").read_bytes()
    png = b"\x89PNG of an axis"
    (folder / "rotation_axis.png").write_bytes(png)
    assert rebuilt(RunDirectory(folder)) == 1
    assert b64encode(png).decode() in (folder / "report.html").read_text()
    (folder / "report.safetensors").unlink()
    with pytest.raises(InputError, match="earlier pdip .* --resume"):
        rebuilt(RunDirectory(folder))
    (folder / "summary.json").unlink()
    with pytest.raises(InputError, match="no finished run"):
        rebuilt(RunDirectory(folder))


@pytest.mark.slow
def test_the_page_has_the_residual_and_the_truth_of_the_scan(finished, files):
    tensors, record = RunDirectory(finished).read_tensors("report.safetensors")
    scan = pdip.read_scan(files / "scan.npz")
    image = torch.from_numpy(np.load(finished / "reconstruction.npy"))
    ray = pdip.ray_transform(scan.geometry, scan.grid)
    assert torch.allclose(tensors["residual"], scan.sinogram - ray.forward(image), atol=1e-5)
    assert np.array_equal(tensors["truth"].numpy(), np.load(files / "truth.npy"))
    assert geometry_from_dict(record["geometry"]) == scan.geometry
    numbers = strict_json(finished / "summary.json")
    assert len(record["fits"]) == len(record["searches"]) == len(numbers["restarts"])
    assert record["fits"][0]["step"]


@pytest.mark.slow
def test_warnings_of_a_run_are_kept_for_its_page(files, tmp_path, monkeypatch):
    def warn(scan, settings, *, observer, checkpoints):
        observer.warned("a checkpoint was damaged")
        return original(scan, settings, observer=observer, checkpoints=checkpoints)

    original = cli.reconstruct
    monkeypatch.setattr(cli, "reconstruct", warn)
    assert reconstruct(files, tmp_path / "run", "--dip.max_steps", "5") == 0
    assert strict_json(tmp_path / "run" / "summary.json")["warnings"] == [
        "a checkpoint was damaged"
    ]
    assert "A checkpoint was damaged." in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.slow
def test_the_last_line_of_a_run_says_what_its_page_warns_of(files, tmp_path, capsys):
    assert reconstruct(files, tmp_path / "run", "--dip.max_steps", "1") == 0
    *_, written, last = capsys.readouterr().out.splitlines()
    told = warnings_of(strict_json(tmp_path / "run" / "summary.json"))
    assert told[0].startswith("A fit left a residual of ") and written.startswith("written: ")
    assert last.startswith(f"warnings: {len(told)}, at the top of the page")
    assert last.endswith(f": {told[0]}")
    page = unescape((tmp_path / "run" / "report.html").read_text())
    assert all(sentence in page for sentence in told)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_one_line_has_the_number_of_warnings_and_no_warning_no_line(tmp_path, capsys, count):
    found = ["it is <odd>", "it is late"][:count]
    directory = RunDirectory(tmp_path)
    directory.write_json(
        "summary.json", {"assumptions": [], "warnings": found, "solver": {"converged": True}}
    )
    tell_warnings(directory, terminal.Terminal())
    first = {0: "", 1: ": It is <odd>.\n", 2: "; the first: It is <odd>.\n"}[count]
    begun = f"warnings: {count}, at the top of the page" if count else ""
    assert capsys.readouterr().out == begun + first


def test_summary_holds_what_is_promised(finished):
    numbers = strict_json(finished / "summary.json")
    assert numbers.keys() >= PROMISED
    assert numbers["log_likelihood_kind"] == "joint"
    assert 0 <= numbers["coverage_95"] <= 1
    assert numbers["noise_std"] == 0.1
    noise_std = RunDirectory(finished).read_tensors("report.safetensors")[0]["ray_noise_std"]
    assert numbers["typical_noise_std"] == np.median(noise_std[noise_std.isfinite()])
    assert numbers["solver"]["worst_residual"] < 1e-6
    assert set(numbers["stages"]) == {"ray", "fit", "linearise", "plan", "evidence", "posterior"}
    assert all({"seconds", "peak_memory_mb"} <= cost.keys() for cost in numbers["stages"].values())
    assert numbers["versions"]["torch"]


def test_summary_agrees_with_the_arrays(finished, files):
    numbers = strict_json(finished / "summary.json")
    image, std = np.load(finished / "reconstruction.npy"), np.load(finished / "std.npy")
    truth = np.load(files / "truth.npy")
    error = image.astype(float) - truth
    expected = 10 * np.log10(np.ptp(truth.astype(float)) ** 2 / np.mean(error**2))
    assert numbers["psnr"] == pytest.approx(expected, abs=1e-4)
    assert numbers["coverage_95"] == pytest.approx(np.mean(abs(error) < 1.959964 * std), abs=0.01)


@pytest.mark.slow
def test_settings_file_repeats_the_run(finished, files, tmp_path):
    again = tmp_path / "again"
    assert cli.main(
        ["reconstruct", "--sinogram", str(files / "scan.npz"), "--out", str(again),
         "--config", str(finished / "settings.yaml")]
    ) == 0  # fmt: skip
    for name in ("reconstruction.npy", "std.npy"):
        assert np.array_equal(np.load(again / name), np.load(finished / name))


@pytest.mark.slow
def test_the_command_is_there_without_a_path_to_it():
    said = subprocess.run([sys.executable, "-m", "pdip", "--version"], capture_output=True)
    assert said.returncode == 0 and said.stdout.startswith(b"pdip ")


@pytest.mark.slow
def test_a_run_does_not_load_the_compiler_of_torch(files, tmp_path):
    """Which takes seconds, and which torch.func.vjp, the class torch.optim.Adam and a bias without
    a tangent ask for; a projection makes all passes."""
    run = ["reconstruct", "--sinogram", str(files / "scan.npz"), "--out", str(tmp_path / "run")]
    given = [*run, "--config", str(files / "quick.yaml"), "--evidence.solver", "projected"]
    code = f"import sys; from pdip import cli; assert cli.main({given}) == 0"
    code += "; assert 'torch._dynamo' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.slow
def test_one_line_per_stage_on_stdout_and_progress_on_stderr(files, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(terminal, "SECONDS_BETWEEN_LINES", 0.0)
    assert reconstruct(files, tmp_path / "run", "--dip.max_steps", "30", scan="scan.npy") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    for stage in ("ray: ", "fit: ", "linearise: ", "plan: ", "evidence: ", "posterior: "):
        assert sum(line.startswith(stage) for line in lines) == 1
    said = [line for line in lines if line.startswith("assumed: ")]
    assert len(said) == len(set(said)) >= 4
    numbers = strict_json(tmp_path / "run" / "summary.json")
    assert [f"assumed: {sentence}" for sentence in numbers["assumptions"]] == said
    assert "fit:" in err and "\r" not in err  # no terminal: lines for a log, each with time left
    assert all("%" in line and "<" in line for line in err.splitlines())
    assert numbers["psnr"] is numbers["coverage_95"] is None


@pytest.mark.slow
def test_ground_truth_file_is_for_scores_only(files, tmp_path, finished):
    arguments = ["--ground-truth", str(files / "truth.npy"), "--geometry", str(files / "g.yaml")]
    (files / "g.yaml").write_text(
        "geometry: parallel\nfirst_deg: 0\nstep_deg: 20\ndet_pixel_mm: 1\ncor: 11\n"
        "image_shape: [16, 16]\npixel_mm: 1\n"
    )
    assert reconstruct(files, tmp_path / "run", *arguments, scan="scan.npy") == 0
    numbers = strict_json(tmp_path / "run" / "summary.json")
    assert numbers["psnr"] == strict_json(finished / "summary.json")["psnr"]


@pytest.mark.slow
def test_a_truth_on_other_pixels_is_an_assumption_or_refused(files, tmp_path, capsys):
    np.save(tmp_path / "truth.npy", np.load(files / "truth.npy").repeat(2, 0).repeat(2, 1))
    asked = ["--ground-truth", str(tmp_path / "truth.npy")]
    assert reconstruct(files, tmp_path / "run", *asked) == 0
    numbers = strict_json(tmp_path / "run" / "summary.json")
    [said] = [sentence for sentence in numbers["assumptions"] if "ground truth" in sentence]
    assert capsys.readouterr().out.count(f"assumed: {said}\n") == 1
    np.save(tmp_path / "truth.npy", np.ones((5, 7)))
    assert reconstruct(files, tmp_path / "wide", *asked) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "aspect ratio" in err
    assert not (tmp_path / "wide").exists()
    np.save(tmp_path / "truth.npy", np.zeros((16, 16)))
    assert reconstruct(files, tmp_path / "empty", *asked) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "is 0 in every pixel, which gives no scores" in err
    assert not (tmp_path / "empty").exists()


def test_a_box_before_the_first_row_is_told_what_a_box_is(finished, capsys):
    assert cli.main(["roi", str(finished), "--box", "-3:-1,0:5"]) == 2
    err = capsys.readouterr().err
    assert "'-3:-1,0:5'" in err and "expected one argument" not in err


def test_roi_answers_from_the_files_alone(finished, files, capsys, monkeypatch):
    monkeypatch.setattr(pipeline, "fit_dip", None)
    mask = np.zeros((16, 16), bool)
    mask[4:9, 3:8] = True
    np.save(files / "mask.npy", mask)
    answers = []
    for region in (["--box", "4:9,3:8"], ["--mask", str(files / "mask.npy")]):
        assert cli.main(["roi", str(finished), *region]) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    mean, _, std = answers[0].split()[:3]
    image, rounding = np.load(finished / "reconstruction.npy"), float(std) / 20
    assert float(mean) == pytest.approx(image[mask].mean(), abs=rounding)
    pixel_std = np.load(finished / "std.npy")[mask]
    assert 0 < float(std) <= 1.05 * pixel_std.max()
    assert "1/mm" in answers[0] and "25 pixels" in answers[0]


def test_roi_of_one_pixel_is_that_pixel(finished, capsys):
    assert cli.main(["roi", str(finished), "--box", "5:6,7:8"]) == 0
    mean, _, std = capsys.readouterr().out.split()[:3]
    image, rounding = np.load(finished / "reconstruction.npy"), float(std) / 20
    assert float(mean) == pytest.approx(image[5, 7], abs=rounding)
    assert float(std) == pytest.approx(np.load(finished / "std.npy")[5, 7], rel=0.06)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("interrupted", "skipped"), [("linearise", ["fit"]), ("pooled_posterior", ["fit", "evidence"])]
)
def test_an_interrupted_run_goes_on_where_it_stopped(
    files, tmp_path, capsys, monkeypatch, finished, interrupted, skipped
):
    def interrupt(*arguments, **keywords):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, interrupted, interrupt)
        assert reconstruct(files, tmp_path / "run") == 1
    error = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert "--resume" in error and str(tmp_path / "run") in error
    assert not (tmp_path / "run" / "summary.json").exists()

    with monkeypatch.context() as patch:
        if "fit" in skipped:
            patch.setattr(pipeline, "fit_dip", None)
        if "evidence" in skipped:
            patch.setattr(pipeline, "optimise_evidence", None)
        assert reconstruct(files, tmp_path / "run", "--resume") == 0
    out = capsys.readouterr().out
    assert [line.split(":")[0] for line in out.splitlines() if "read back" in line] == skipped
    assert np.array_equal(
        np.load(tmp_path / "run" / "reconstruction.npy"), np.load(finished / "reconstruction.npy")
    )
    before, after = (
        strict_json(folder / "summary.json") for folder in (finished, tmp_path / "run")
    )
    assert after["log_evidence"] == pytest.approx(before["log_evidence"], rel=1e-9)


def test_resuming_another_run_says_what_differs(finished, files, capsys):
    assert reconstruct(files, finished, "--resume", "--dip.tv_weight", "0.7") == 2
    assert "dip.tv_weight was None and is now 0.7" in capsys.readouterr().err


def test_a_finished_run_is_not_overwritten_unasked(finished, files, capsys):
    before = (finished / "summary.json").read_bytes()
    assert reconstruct(files, finished) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (finished / "summary.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--sinogram", "none.npy"], "does not exist"),
        (["--ground-truth", "none.npy"], "does not exist"),
        (["--config", "none.yaml"], "does not exist"),
        (["--geometry", "none.yaml"], "does not exist"),
        (["--view-step", "0"], "view step"),
        (["--view-step", "many"], "--view-step must be a whole number"),
        (["--image-size", "-4"], "image"),
        (["--noise-std", "loud"], "--noise-std must be a finite number"),
        (["--noise-std", "-1"], "noise_std"),
        (["--device", "cuda:99"], "device"),
        (["--device", "abacus"], "device 'abacus'"),
        (["--dip.tv_wieght", "1"], "nearest: '--dip.tv_weight'"),
        (["--dip.tv_wieght=1"], "nearest: '--dip.tv_weight'"),
        (["--sinogrm", "x"], "nearest: '--sinogram'"),
        (["--evidence.objective", "best"], "must be one of network_weights"),
        (["--network.scales", "0"], "scale"),
        (["--network.norm", "batch"], "norm"),
        (["--linearise.activation", "after"], "activation"),
        (["--resume", "--overwrite"], "not allowed with"),
        (["stray"], "unexpected argument 'stray'"),
        (["--out"], "expected one argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_sentence_exit_2_and_no_folder(
    files, tmp_path, capsys, arguments, words
):
    assert reconstruct(files, tmp_path / "run", *arguments) == 2
    error = capsys.readouterr().err.replace("\r", "\n").splitlines()
    sentence = error[-1]
    assert sentence.startswith("pdip: ") and words in sentence
    assert "Traceback" not in "".join(error)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["roi"], ["roi", "nowhere", "--box", "0:1,0:1"]]
)
def test_wrong_commands_exit_2_with_one_line(arguments, capsys):
    assert cli.main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1


def test_help_exits_0(capsys):
    for arguments in (["--help"], ["reconstruct", "--help"], ["roi", "--help"]):
        assert cli.main(arguments) == 0
    assert "--dip.tv_weight" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [ComputationError("the fit\ndied."), RuntimeError("odd"), MemoryError(), OSError(28, "full")],
)
def test_failures_exit_1_with_one_sentence(files, tmp_path, capsys, monkeypatch, error):
    def fail(*arguments, **keywords):
        raise error

    monkeypatch.setattr(pipeline, "fit_dip", fail)
    assert reconstruct(files, tmp_path / "run") == 1
    last = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("pdip: ") and last.endswith(".")


def test_roi_in_other_units_is_the_same_region(finished, capsys):
    def answered(*unit):
        assert cli.main(["roi", str(finished), "--box", "2:5,3:6", *unit]) == 0
        value, _, std, name, *_ = capsys.readouterr().out.split()
        return float(value), float(std), name

    mean, std, _ = answered()
    assert answered("--unit", "1/cm") == (
        pytest.approx(10 * mean, abs=std),
        pytest.approx(10 * std, rel=0.1),
        "1/cm",
    )
    water = answered("--unit", "HU", "--water", "0.02")
    rounding = 1000 * std / 0.02 / 10
    assert water[0] == pytest.approx(1000 * (mean / 0.02 - 1), abs=rounding) and water[2] == "HU"
    assert cli.main(["roi", str(finished), "--box", "2:5,3:6", "--unit", "HU"]) == 2
    assert "attenuation of water" in capsys.readouterr().err
    asked = ["roi", str(finished), "--box", "2:5,3:6", "--unit", "HU", "--water", "0.2"]
    assert cli.main(asked) == 0 and "warning: water attenuates 0.2" in capsys.readouterr().err
