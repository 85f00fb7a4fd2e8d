"""validate, doctor, compare, resume and report as a user meets them."""

# ruff: noqa: F401, F811 (files is a fixture)

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from test_cli import files, reconstruct

from pdip import cli, pipeline
from pdip.commands import doctor
from pdip.commands.compare import FinishedRun, differences, table
from pdip.commands.resume import resuming_arguments
from pdip.errors import InputError
from pdip.report.canvas import blank_figure
from pdip.run_directory import RunDirectory
from pdip.scan import ImageGrid, ParallelBeam, Scan
from pdip.settings import Settings

pytestmark = pytest.mark.usefixtures("rough_figures")

GRID = ImageGrid((8, 8))
SUMMARY = {
    "noise_std": 0.02, "noise_std_by_evidence": 0.021, "log_evidence": 12.5, "mean_std": 0.001,
    "psnr": None, "coverage_95": None, "stages": {"fit": {"seconds": 2.0}},
}  # fmt: skip


def pdip_said(capsys, *arguments) -> tuple[int, str, str]:
    code = cli.main(list(map(str, arguments)))
    return code, *capsys.readouterr()


def finished_folder(path, shift: float = 0.0, grid=GRID, **dip):
    """The folder of a run as far as a comparison reads it."""
    beam = ParallelBeam([0.0, 60.0, 120.0], 9)
    scan = Scan(torch.rand(3, 9, generator=torch.Generator().manual_seed(0)), beam, grid)
    directory = RunDirectory(path)
    directory.begin(scan, {"scan": {}, **Settings(dip=dip).resolved()})
    draw = torch.Generator().manual_seed(1)
    image = torch.rand(grid.shape, generator=draw)
    directory.write_array("reconstruction.npy", image + shift)
    directory.write_array("std.npy", 0.1 + torch.zeros(grid.shape))
    directory.write_json("summary.json", SUMMARY)
    return directory


# compare


@pytest.mark.slow
def test_a_comparison_prints_numbers_and_settings_that_differ_and_draws(tmp_path, capsys):
    first, second = (
        finished_folder(tmp_path / name, shift, max_steps=steps)
        for name, shift, steps in (("a", 0.0, 50), ("b", 0.2, 60))
    )
    figure = tmp_path / "figures" / "both.png"
    code, out, _ = pdip_said(capsys, "compare", first.path, second.path, "--out", figure)
    lines = [line.split() for line in out.splitlines()]
    assert code == 0 and figure.read_bytes().startswith(b"\x89PNG")
    assert ["dip.max_steps", "50", "60"] in lines
    assert sum(line[:1] and line[0].startswith("dip.") for line in lines) == 1
    assert ["mean", "std", "(1/mm)", "0.001", "0.001"] in lines
    assert "PSNR" not in out  # neither had a truth
    assert "RMS difference of the images (1/mm): 0.2" in out
    assert "beyond the joint 95 % interval: 0" in out  # 0.2 < 1.96 sqrt(2) 0.1


def test_the_slice_of_a_comparison_is_that_of_the_runs_that_are_stacks(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("pdip.commands.compare.draw_comparison", lambda *_: blank_figure(1, 1))
    for name in ("single", "stack/slices/0001", "stack/slices/0003", "other/slices/0003"):
        finished_folder(tmp_path / name, shift=float(name[-1] == "3"))
    single, stack, other = (tmp_path / name for name in ("single", "stack", "other"))

    def compared(*arguments):
        code, out, err = pdip_said(capsys, "compare", *arguments, "--out", tmp_path / "f.png")
        apart = [line for line in out.splitlines() if line.startswith("RMS difference")]
        return code, apart[0].split(": ")[1] if apart else err

    for pair in ((single, stack), (stack, single)):
        assert compared(*pair, "--slice", "1") == (0, "0")
        assert compared(*pair, "--slice", "3") == (0, "1")
        code, said = compared(*pair)
        assert code == 2 and "name one of them with --slice N" in said
    assert compared(stack, other, "--slice", "3") == (0, "0")
    code, said = compared(single, single, "--slice", "1")
    assert code == 2 and "leave --slice out" in said
    code, said = compared(stack, other, "--slice", "1")
    assert code == 2 and "(3); name one of them" in said


def test_a_check_does_not_make_a_run_slower():
    """Its seconds stand in a row of their own, and in none where neither run was checked."""
    stages = {"fit": {"seconds": 2.0}, "posterior": {"seconds": 1.0}}
    check = {f"check: {name}": {"seconds": 10.0} for name in stages}
    image, grid = np.ones((4, 4)), ImageGrid((4, 4))
    bare = FinishedRun("a", image, 0.1 * image, grid, {"stages": stages}, {}, {})
    checked = replace(bare, name="b", summary={"stages": stages | check})
    rows = [line.split("  ") for line in table(bare, checked)]
    rows = {row[0]: [part.strip() for part in row[1:] if part] for row in rows}
    assert rows["seconds"] == ["3.0", "3.0"]
    assert rows["seconds of the calibration check"] == ["–", "20.0"]
    assert "check" not in " ".join(table(bare, bare))


@pytest.mark.parametrize(("factor", "share"), [(0.99, 0.0), (1.01, 1.0)])
def test_a_pixel_counts_from_the_joint_interval_on(factor, share):
    std_a, std_b = np.full((4, 4), 0.3, np.float32), np.full((4, 4), 0.4, np.float32)
    apart = factor * 1.959964 * math.hypot(0.3, 0.4)
    runs = [
        FinishedRun(name, image, std, ImageGrid((4, 4)), SUMMARY, {}, {})
        for name, image, std in (
            ("a", np.ones((4, 4)), std_a), ("b", np.ones((4, 4)) + apart, std_b),
        )
    ]  # fmt: skip
    found = differences(*runs)
    assert found["share of pixels beyond the joint 95 % interval"] == share
    assert found["RMS difference of the images (1/mm)"] == pytest.approx(apart)


def test_runs_of_independent_errors_differ_beyond_the_joint_interval_in_5_percent():
    draw = np.random.default_rng(0)
    shape, std = (400, 400), 0.1
    images = [1 + std * draw.normal(size=shape) for _ in range(2)]
    runs = [
        FinishedRun(n, image, np.full(shape, std), ImageGrid(shape), SUMMARY, {}, {})
        for n, image in zip("ab", images, strict=True)
    ]
    share = differences(*runs)["share of pixels beyond the joint 95 % interval"]
    assert abs(share - 0.05) < 4 * math.sqrt(0.05 * 0.95 / images[0].size)


@pytest.mark.parametrize("key", ["sinogram", "weights", "geometry"])
def test_runs_of_different_data_are_named(key):
    summary = {"stages": {}, "log_evidence": 1.0}
    image, grid = np.ones((4, 4)), ImageGrid((4, 4))
    first = FinishedRun("a", image, 0.1 * image, grid, summary, {}, {"sinogram": "1", key: "2"})
    other = replace(first, made_of={**first.made_of, key: "3"})
    said = "evidences do not compare"
    assert said not in " ".join(table(first, first))
    assert f"the scans differ ({key})" in " ".join(table(first, other))


def test_runs_of_other_pixels_or_without_an_end_are_refused_in_a_sentence(tmp_path, capsys):
    first = finished_folder(tmp_path / "a")
    second = finished_folder(tmp_path / "b", grid=ImageGrid((8, 8), 0.5))
    code, _, err = pdip_said(capsys, "compare", first.path, second.path)
    assert code == 2 and err.count("\n") == 1
    assert "same pixels" in err and "8 x 8 pixels of 0.5 mm" in err
    (first.path / "summary.json").unlink()
    code, _, err = pdip_said(capsys, "compare", first.path, second.path)
    assert code == 2 and "no finished run" in err
    assert pdip_said(capsys, "compare", second.path, second.path, "--out", tmp_path)[0] == 2
    assert pdip_said(capsys, "compare", tmp_path / "c", second.path)[0] == 2


# resume


def begun(path, **command) -> RunDirectory:
    directory = finished_folder(path)
    (path / "summary.json").unlink()
    stored = json.loads((path / "input.json").read_text())
    (path / "input.json").write_text(json.dumps(stored | ({"command": command} if command else {})))
    return directory


def test_a_run_goes_on_with_its_own_settings_and_files(tmp_path):
    scan = tmp_path / "scan.npz"
    scan.touch()
    directory = begun(
        tmp_path / "run", name="reconstruct", sinogram=str(scan), check_calibration=True
    )
    assert resuming_arguments(directory) == [
        "reconstruct", "--resume", "--out", str(directory.path),
        "--config", str(directory.path / "settings.yaml"), "--sinogram", str(scan),
        "--check-calibration",
    ]  # fmt: skip
    (directory.path / "summary.json").write_text("{}")
    assert "--check-calibration" in resuming_arguments(directory)  # the check is not done
    (directory.path / "summary.json").write_text('{"calibration": {}}')
    assert resuming_arguments(directory) == []
    unchecked = begun(tmp_path / "other", name="reconstruct", sinogram=str(scan))
    (unchecked.path / "summary.json").write_text("{}")
    assert resuming_arguments(unchecked) == []
    assert resuming_arguments(unchecked, check=True)[-1] == "--check-calibration"


def test_what_cannot_be_gone_on_with_is_told_why(tmp_path, capsys):
    gone = begun(tmp_path / "gone", name="reconstruct", sinogram=str(tmp_path / "scan.npz"))
    select = begun(tmp_path / "select", name="select", sinogram="scan.npz")
    earlier = begun(tmp_path / "earlier")
    for folder, words in (
        (gone.path, "not there any more"), (select.path, "pdip select"),
        (earlier.path, "does not say how"), (tmp_path / "nothing", "holds no run"),
    ):  # fmt: skip
        code, _, err = pdip_said(capsys, "resume", folder)
        assert code == 2 and words in err and err.count("\n") == 1


@pytest.mark.slow
def test_resume_ends_as_the_run_would_have_and_refuses_changed_input(
    files, tmp_path, monkeypatch, capsys
):
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("scan.npz", "quick.yaml"):
        (moved / name).write_bytes((files / name).read_bytes())
    monkeypatch.chdir(moved)  # the paths that are given are relative

    def interrupt(*arguments, **keywords):
        raise KeyboardInterrupt

    given = ["--sinogram", "scan.npz", "--config", "quick.yaml", "--dip.max_steps", "30"]
    assert cli.main(["reconstruct", *given, "--out", str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "linearise", interrupt)
        assert cli.main(["reconstruct", *given, "--out", str(tmp_path / "run")]) == 1
    (moved / "quick.yaml").unlink()
    monkeypatch.chdir(tmp_path)
    content = (moved / "scan.npz").read_bytes()
    with np.load(moved / "scan.npz") as fields:
        other = dict(fields) | {"sinogram": 2 * fields["sinogram"]}
    np.savez(moved / "scan.npz", **other)
    capsys.readouterr()
    code, _, err = pdip_said(capsys, "resume", "run")
    assert code == 2 and "the sinogram differs" in err.splitlines()[-1]
    (moved / "scan.npz").write_bytes(content)
    code, out, _ = pdip_said(capsys, "resume", "run")
    assert code == 0 and "fit: read back" in out
    for name in ("reconstruction.npy", "std.npy"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    code, out, _ = pdip_said(capsys, "resume", "run")
    assert code == 0 and out.startswith("finished: ")
    (tmp_path / "run" / "report.html").unlink()
    code, out, _ = pdip_said(capsys, "report", "run")
    assert code == 0 and "report.html" in out and (tmp_path / "run" / "report.html").exists()


# validate


def validate(files, *arguments, scan="scan.npz") -> int:
    return cli.main(
        ["validate", "--sinogram", str(files / scan), "--config", str(files / "quick.yaml"),
         *map(str, arguments)]
    )  # fmt: skip


def test_a_valid_scan_is_described_and_nothing_is_computed_or_written(
    files, tmp_path, capsys, monkeypatch
):
    for name in ("fit_dip", "ray_transform"):
        monkeypatch.setattr(pipeline, name, None)
    assert validate(files, "--out", tmp_path / "run", "--check-calibration") == 0
    said = dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())
    assert "from 9 views over 160° with 23 rays each (parallel beam)" in said["scan"]
    assert said["beam"] == "parallel" and said["angles"].endswith(", counter-clockwise")
    assert said["axis"].endswith("counted from 0 (the middle is 11)")
    assert "207 of 207 rays" in said["values"] and said["truth"] == "for scores only"
    assert "'matrix'" in said["ray"] and said["solver"].startswith("cholesky for 207 rays (exact)")
    assert "withholds" in said["check"] and "new" in said["folder"] and "valid" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_assumptions_solver_and_memory_are_those_of_the_reconstruction(files, tmp_path, capsys):
    assert validate(files, "--out", tmp_path / "run", scan="scan.npy") == 0
    lines = capsys.readouterr().out.splitlines()
    told = {line for line in lines if line.startswith("assumed: ")}
    [solver] = [line.removeprefix("solver: ") for line in lines if line.startswith("solver: ")]
    assert reconstruct(files, tmp_path / "run", "--dip.max_steps", "3", scan="scan.npy") == 0
    done = capsys.readouterr().out.splitlines()
    assert told and told <= set(done)
    said = dict(line.split(": ", 1) for line in done if not line.startswith("assumed"))
    assert f"{said['linearise'].split(',')[0]}, " in solver  # as many weights
    assert said["plan"].split(":")[0] == solver.split(",")[0]
    assert f"at most {said['plan'].split('at most ')[1]}" in solver


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--geometry", "none.yaml"], "does not exist"),
        (["--ground-truth", "none.npy"], "does not exist"),
        (["--dip.tv_wieght", "1"], "nearest: '--dip.tv_weight'"),
        (["--network.scales", "0"], "scale"),
        (["--slices", "0:2"], "holds a single scan"),
        (["--device", "cuda:99"], "device"),
        (["--ray.engine", "abacus"], "must be one of"),
        (["--calibration.withhold", "views", "--view-step", "3", "--check-calibration"], "rays"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_reconstruct_refuses_validate_refuses_in_the_same_sentence(
    files, tmp_path, capsys, arguments, words
):
    codes, sentences = [], []
    for command in (validate, lambda f, *a: reconstruct(f, tmp_path / "run", *a)):
        codes.append(command(files, *arguments))
        sentences.append(capsys.readouterr().err.splitlines()[-1])
    assert codes == [2, 2] and sentences[0] == sentences[1] and words in sentences[0]


@pytest.mark.parametrize("size, words", [(6, "7.5 detector elements wide; --binning 5"), (24, "")])
def test_elements_finer_than_pixels_are_named_with_how_many_fit(tmp_path, capsys, size, words):
    np.save(tmp_path / "fine.npy", np.random.default_rng(0).uniform(1, 2, (6, 45)))
    given = ["--sinogram", str(tmp_path / "fine.npy"), "--image-size", str(size)]
    assert cli.main(["validate", *given, "--out", str(tmp_path / "run")]) == 0
    out = capsys.readouterr().out
    assert words in out and ("would join" in out) == bool(words)


def test_a_folder_that_cannot_be_made_is_refused(files, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert validate(files, "--out", tmp_path / "file" / "run") == 2
    assert "cannot be written (Not a directory); name another --out" in capsys.readouterr().err
    assert validate(files, "--out", tmp_path / "new" / "run") == 0
    assert not (tmp_path / "new").exists()


def test_a_folder_that_is_taken_is_refused_before_anything_is_read(files, tmp_path, capsys):
    finished_folder(tmp_path / "run")
    assert validate(files, "--out", tmp_path / "run") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert validate(files, "--out", tmp_path / "run", "--overwrite") == 0
    assert "holds a run" in capsys.readouterr().out


def test_a_stack_is_described_by_its_first_usable_slice_and_those_without_a_result_are_named(
    files, tmp_path, capsys, monkeypatch
):
    with np.load(files / "scan.npz") as fields:
        keys = {key: fields[key] for key in fields if key != "ground_truth"}
    good = keys["sinogram"]
    air, dead = np.ones_like(good), np.full_like(good, np.nan)
    for name, slices in (("part", [air, good, air, good, air, dead]), ("air", [air, air])):
        np.savez(tmp_path / f"{name}.npz", **{**keys, "sinogram": np.stack(slices)})
    given = ["--config", files / "quick.yaml", "--out", tmp_path / "run"]
    code, out, _ = pdip_said(capsys, "validate", "--sinogram", tmp_path / "part.npz", *given)
    assert code == 0 and "scan: 6 slices (0 to 5), each: " in out
    assert "All were read; what follows is of slice 1." in out
    refused = [line for line in out.splitlines() if line.startswith("no result: ")]
    assert len(refused) == 2
    assert refused[0].startswith("no result: slices 0, 2, 4: the sinogram is constant")
    assert refused[1].startswith("no result: slice 5: ") and "NaN" in refused[1]
    with monkeypatch.context() as few:
        few.setattr("pdip.commands.validate.MOST_READ", 2)
        _, out, _ = pdip_said(capsys, "validate", "--sinogram", tmp_path / "part.npz", *given)
    assert "One of 3 was read; what follows is of slice 3." in out
    assert "no result: slice 0: the sinogram is constant" in out and "slice 5" not in out
    code, out, _ = pdip_said(
        capsys, "validate", "--sinogram", tmp_path / "part.npz", "--slices", "1:4:2", *given
    )
    assert code == 0 and "no result" not in out
    code, _, err = pdip_said(capsys, "validate", "--sinogram", tmp_path / "air.npz", *given)
    assert code == 2 and "constant" in err


# doctor


def test_doctor_names_every_engine_and_why_it_is_not_there(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "ENGINES", ("matrix", "tomosipo"))
    code, out, _ = pdip_said(capsys, "doctor")
    assert code == 0
    said = dict(line.split(": ", 1) for line in out.splitlines() if ": " in line)
    assert said["engine matrix"].count("works (dot test") == 2
    assert "works" not in said["engine tomosipo"]
    assert {"torch", "astra-toolbox", "machine", "cuda"} <= said.keys()


@pytest.mark.parametrize("mismatch", [0.5, math.nan])
def test_a_broken_projector_is_found_by_the_dot_test(capsys, monkeypatch, mismatch):
    monkeypatch.setattr(doctor, "ENGINES", ("matrix",))
    monkeypatch.setattr(doctor, "adjoint_mismatch", lambda ray, generator: mismatch)
    code, out, err = pdip_said(capsys, "doctor")
    assert code == 1 and "broken (dot test" in out and "engine matrix broken" in err


def test_a_package_that_cannot_be_imported_is_broken_and_named(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "ENGINES", ())
    monkeypatch.setattr(doctor, "required_packages", lambda: ["torch", "no-such-package"])
    code, out, err = pdip_said(capsys, "doctor")
    assert code == 1 and "pip install no-such-package" in out and "no-such-package broken" in err


@pytest.mark.slow
def test_every_engine_that_is_here_passes_its_dot_test():
    for name in ("matrix", "odl", "diffct"):
        finding = doctor.engine(name)
        assert finding.sentence.count("works (dot test") == 2 and not finding.broken
