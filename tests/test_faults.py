"""Faults of the machine, of a library or of a file: one sentence, exit 1 or 2, and nothing lost."""

# ruff: noqa: F401, F811 (files is a fixture)

import contextlib
import errno
import json
import os
import shutil
from pathlib import Path

import jinja2
import numpy as np
import pytest
import torch
from instrument_files import COUNTS, save_dxchange
from test_cli import files, geometry_keys, reconstruct
from test_pipeline import small_scan

import pdip
from pdip import cli, export, pipeline, run_files, run_report, stack_run
from pdip.commands import compare, doctor
from pdip.commands.resume import resuming_arguments
from pdip.errors import InputError
from pdip.ray import check_pair
from pdip.ray.engine_matrix import MatrixEngine
from pdip.report.canvas import blank_figure
from pdip.run_directory import ARRAYS, RunDirectory

pytestmark = pytest.mark.usefixtures("rough_figures")

TINY = {
    "network": {"scales": 2, "channels": 4},
    "dip": {"max_steps": 3, "restarts": 1, "start": "tv", "noise_std": 0.1},
    "evidence": {"max_evaluations": 1},
}
FLAGS = [
    f"--{section}.{key}={value}" for section, keys in TINY.items() for key, value in keys.items()
]
NO_MEMORY = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"
SHOWN = ("overview.png", "report.html")


@pytest.fixture(scope="module")
def made(files, tmp_path_factory):
    """The folder of a run of three steps, and its result."""
    kept, out = [], tmp_path_factory.mktemp("made") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "reconstruct", lambda *a, **k: kept.append(pipeline.reconstruct(*a, **k))
                      or kept[0])  # fmt: skip
        assert reconstruct(files, out, *FLAGS) == 0
    return out, kept[0]


@pytest.fixture
def done(made, monkeypatch):
    """The result of that run is there at once, and its figures are empty."""
    for module in (cli, stack_run):  # the command of a scan, and of a stack
        monkeypatch.setattr(module, "reconstruct", lambda *a, **k: made[1])
    for name in ("draw_overview", "draw_volume"):
        monkeypatch.setattr(run_files, name, lambda *a: blank_figure(1, 1))


@pytest.fixture
def run(made, tmp_path):
    """A copy of the folder of that run."""
    return shutil.copytree(made[0], tmp_path / "copied")


def sentence(capsys) -> str:
    """The one sentence on stderr, which is no excuse for a fault of pdip itself."""
    err = capsys.readouterr().err
    assert err.count("pdip: ") == 1 and err.endswith("\n"), err[-600:]
    said = err.partition("pdip: ")[2].rstrip()
    assert "unexpected" not in said and "Traceback" not in err and "\n" not in said
    return said


def failing(error):
    def fail(*arguments, **keywords):
        raise error

    return fail


def no_room_for(monkeypatch, *names) -> None:
    """A disk that is full when one of these files is put in its place; without names, always."""
    replace = os.replace

    def full(source, place):
        if not names or os.path.basename(place) in names:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, place)

    monkeypatch.setattr(os, "replace", full)


def read_only(monkeypatch) -> None:
    """A file system on which nothing can be made or written."""
    denied, read = PermissionError(errno.EACCES, os.strerror(errno.EACCES)), Path.open

    def opened(path, mode="r", *arguments, **keywords):
        if set(mode) & set("wax+"):
            raise denied
        return read(path, mode, *arguments, **keywords)

    monkeypatch.setattr(Path, "mkdir", failing(denied))
    monkeypatch.setattr(Path, "open", opened)


def whole(folder) -> bool:
    """Whether no file of a run was left half written."""
    return not [path for path in folder.rglob("*.partly")]


# Memory


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError(NO_MEMORY), MemoryError()])
@pytest.mark.parametrize(
    ("stage", "kept"),
    [
        ("ray_transform", []),
        ("fit_dip", []),
        ("linearise", ["fit.safetensors"]),
        ("optimise_evidence", ["fit.safetensors"]),
        ("pooled_posterior", ["fit.safetensors", "evidence.safetensors"]),
    ],
)
def test_memory_that_runs_out_costs_no_stage_that_was_finished(
    files, made, tmp_path, capsys, monkeypatch, stage, kept, error
):
    out = tmp_path / "run"
    out.mkdir()
    for name in ("settings.yaml", "input.json", *kept):
        shutil.copy(made[0] / name, out)
    monkeypatch.setattr(pipeline, stage, failing(error))
    assert reconstruct(files, out, "--resume", *FLAGS) == 1
    assert "ran out of memory; use --view-step" in sentence(capsys)
    assert {path.name for path in out.glob("*.safetensors")} == set(kept)
    assert all((out / name).read_bytes() == (made[0] / name).read_bytes() for name in kept)


# The disk, figures and the page


@pytest.mark.parametrize(
    "name",
    ["summary.json", *(pytest.param(name, marks=pytest.mark.slow)
                       for name in (*ARRAYS, "posterior.safetensors", "report.safetensors"))],
)  # fmt: skip
def test_a_disk_full_at_a_file_of_the_result_keeps_those_before(
    files, tmp_path, capsys, monkeypatch, done, name
):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        no_room_for(patch, name)
        assert reconstruct(files, out, *FLAGS) == 1
    said = sentence(capsys)
    assert f"{name} cannot be written (No space left on device)" in said and "--resume" in said
    assert whole(out) and not (out / name).exists() and not (out / "summary.json").exists()
    before = [*ARRAYS, "posterior.safetensors", *SHOWN, "summary.json"]
    if name in before:
        assert all((out / earlier).exists() for earlier in before[: before.index(name)])
    assert reconstruct(files, out, "--resume", *FLAGS) == 0
    assert (out / "summary.json").exists()


@pytest.mark.parametrize(
    ("name", "break_it"),
    [
        pytest.param("report.html", lambda patch: no_room_for(patch, "report.html"),
                     marks=pytest.mark.slow),
        pytest.param("overview.png", lambda patch: no_room_for(patch, "overview.png"),
                     marks=pytest.mark.slow),
        ("report.html", lambda patch: patch.setattr(
            run_report, "run_page", failing(jinja2.UndefinedError("'std' is undefined")))),
        pytest.param("report.html", lambda patch: patch.setattr(
            run_report, "run_page", failing(MemoryError())), marks=pytest.mark.slow),
        pytest.param("overview.png", lambda patch: patch.setattr(
            run_files, "draw_overview", failing(ValueError("no font"))), marks=pytest.mark.slow),
    ],
    ids=["full at the page", "full at the figure", "template", "memory", "figure"],
)  # fmt: skip
def test_what_only_shows_the_result_does_not_cost_it(
    files, tmp_path, capsys, monkeypatch, done, name, break_it
):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        break_it(patch)
        assert reconstruct(files, out, *FLAGS) == 1
    said = sentence(capsys)
    assert name in said and "is complete without it" in said
    assert (f"pdip report {out} writes the page" in said) == (name == "report.html")
    assert whole(out) and not (out / name).exists()
    assert RunDirectory(out).finished and RunDirectory(out).read_json("summary.json")["mean_std"]
    assert cli.main(["export", str(out), "--format", "numpy"]) == 0
    assert cli.main(["report", str(out)]) == 0 and (out / "report.html").exists()


def test_a_page_that_fails_costs_no_slice_of_a_stack(files, tmp_path, capsys, monkeypatch, done):
    with np.load(files / "scan.npz") as fields:
        keys = {key: fields[key] for key in fields if key != "ground_truth"}
    np.savez(tmp_path / "stack.npz", **{**keys, "sinogram": np.stack([keys["sinogram"]] * 2)})
    monkeypatch.setattr(run_report, "run_page", failing(TypeError("no such filter")))
    out = tmp_path / "run"
    assert reconstruct(files, out, *FLAGS, scan=tmp_path / "stack.npz") == 1
    assert "report.html cannot be made (TypeError: no such filter)" in sentence(capsys)
    for folder in (out, out / "slices" / "0000", out / "slices" / "0001"):
        assert {"reconstruction.npy", "std.npy", "summary.json"} <= set(os.listdir(folder))
    assert np.isfinite(np.load(out / "std.npy")).all()


@pytest.mark.parametrize("command", ["tiff", "hdf5", "numpy", "compare", "report"])
@pytest.mark.parametrize("fault", ["full", pytest.param("read-only", marks=pytest.mark.slow)])
def test_commands_on_a_run_leave_it_as_it_is_where_nothing_can_be_written(
    run, tmp_path, capsys, monkeypatch, command, fault
):
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    new = tmp_path / "new"
    arguments = {
        "compare": ["compare", run, run, "--out", new / "a.png"],
        "report": ["report", run],
    }.get(command, ["export", run, "--format", command, "--out", new])
    monkeypatch.setattr(compare, "draw_comparison", lambda *a: blank_figure(1, 1))
    if fault == "full":
        no_room_for(monkeypatch)
    else:
        read_only(monkeypatch)
    assert cli.main(list(map(str, arguments))) == 1
    said = sentence(capsys)
    assert "No space left on device" in said or "Permission denied" in said
    assert "make room" in said and "--resume" not in said  # which these commands do not have
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
    assert whole(tmp_path) and not (new.exists() and os.listdir(new))


def test_a_folder_that_may_not_be_written_is_refused_before_anything_is_computed(
    files, tmp_path, capsys, monkeypatch
):
    read_only(monkeypatch)
    monkeypatch.setattr(cli, "reconstruct", None)
    assert reconstruct(files, tmp_path / "run") == 2
    assert "cannot be written (Permission denied); name another --out" in sentence(capsys)


# Folders of runs


@pytest.mark.slow
@pytest.mark.parametrize("name", ["summary.json", "input.json", "settings.yaml", "std.npy",
                                  "report.safetensors", "posterior.safetensors"])  # fmt: skip
@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b'{"a": 1}', b"null", b"\xff\x00", None])
def test_damaged_folders_of_runs_are_refused_by_every_command(
    run, capsys, monkeypatch, name, content
):
    (run / name).unlink()
    if content is not None:
        (run / name).write_bytes(content)
    commands = [["export", run, "--format", "numpy", "--out", run / "new"], ["report", run],
                ["compare", run, run, "--out", run / "c.png"],
                ["roi", run, "--box", "1:3,1:3"]]  # fmt: skip
    monkeypatch.setattr(compare, "draw_comparison", lambda *a: blank_figure(1, 1))
    codes = []
    for command in commands:
        codes.append(cli.main(list(map(str, command))))
        if codes[-1]:
            sentence(capsys)
        capsys.readouterr()
    assert set(codes) <= {0, 2}
    assert 2 in codes or (name, content) == ("settings.yaml", b"{}")  # no section but the defaults
    with contextlib.suppress(InputError):
        resuming_arguments(RunDirectory(run))


# Libraries


@pytest.mark.parametrize(
    "garbage",
    [
        lambda values: values * torch.nan,
        lambda values: values * 0,
        lambda values: values[..., 1:],
        lambda values: values * torch.inf,
    ],
    ids=["nan", "zeros", "shape", "inf"],
)
@pytest.mark.parametrize("method", ["forward", "adjoint"])
def test_an_engine_that_returns_garbage_gives_no_result(
    files, tmp_path, capsys, monkeypatch, garbage, method
):
    right = getattr(MatrixEngine, method)
    monkeypatch.setattr(MatrixEngine, method, lambda self, values: garbage(right(self, values)))
    assert reconstruct(files, tmp_path / "run", *FLAGS) == 1
    said = sentence(capsys)
    assert said.startswith("the ray engine does not compute what it should (")
    assert "pdip doctor" in said and "--ray.engine" in said


def test_engines_that_work_pass():
    beams = (pdip.ParallelBeam([0.0, 50.0, 100.0], 11), pdip.FanBeam([0.0, 120.0, 240.0], 13, 1.5,
             40.0, 20.0))  # fmt: skip
    for beam in beams:
        check_pair(pdip.ray_transform(beam, pdip.ImageGrid((8, 8))))


@pytest.mark.slow
def test_a_solver_that_does_not_converge_gives_no_result_and_keeps_the_fit(files, tmp_path, capsys):
    solver = "{name: cg, max_iterations: 1, preconditioner: {name: projected, rank: 2}}"
    out = tmp_path / "run"
    assert reconstruct(files, out, *FLAGS, "--solver", solver) == 1
    said = sentence(capsys)
    assert "ended after 1 products with a relative residual" in said and "max_iterations" in said
    assert (out / "fit.safetensors").exists() and not (out / "std.npy").exists()


@pytest.mark.slow
def test_an_engine_that_cannot_be_tried_is_no_fault_of_the_doctor(capsys, monkeypatch):
    monkeypatch.setattr(doctor, "ENGINES", ("matrix",))
    monkeypatch.setattr(doctor, "ray_transform", failing(RuntimeError("driver too old")))
    assert cli.main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert "driver too old" in out and "engine matrix broken" in err


# Counts, axis and rows, by the command that computes nothing


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Counts of a scan, its flats and a detector file."""
    folder = tmp_path_factory.mktemp("measured")
    line = small_scan()[0].sinogram.numpy()
    counts = np.random.default_rng(0).poisson(1000 * np.exp(-line / line.max()))
    np.save(folder / "counts.npy", counts)
    np.save(folder / "one.npy", counts[:1])
    np.save(folder / "line.npy", line)
    np.save(folder / "two.npy", line[:2])
    np.save(folder / "constant.npy", 1 + 0 * line)
    np.save(folder / "flats.npy", np.full((3, 23), 1000.0))
    np.save(folder / "short.npy", np.full((3, 22), 1000.0))
    np.save(folder / "text.npy", np.array(["a", "b"]))
    np.save(folder / "empty.npy", np.zeros((0, 23)))
    save_dxchange(folder / "rows.h5")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scan", "arguments", "words"),
    [
        ("counts.npy", "--data-kind counts", "give the key 'flat'"),
        ("counts.npy", "--data-kind counts --scan.flat short.npy", "there are 23 detector"),
        ("counts.npy", "--data-kind counts --scan.flat empty.npy", "has shape (0, 23)"),
        ("counts.npy", "--data-kind counts --scan.flat text.npy", "expected real numbers"),
        ("counts.npy", "--data-kind counts --scan.flat none.npy", "does not exist"),
        ("counts.npy", "--data-kind counts --scan.flat 0", "check flat, dark and their order"),
        ("counts.npy", "--data-kind counts --scan.flat 1e3 --scan.dark 2e3", "flat, dark"),
        ("counts.npy", "--data-kind counts --scan.flat 500", "exchanged?"),
        ("counts.npy", "--data-kind counts --scan.flat 1e3 --scan.gain 0", "gain must be positive"),
        ("counts.npy", "--data-kind photons", "must be one of counts"),
        ("two.npy", "--cor auto", "from 2 views, expected at least 8"),
        ("constant.npy", "--cor auto", "constant"),
        ("line.npy", "--cor autom", "detector index or auto"),
        ("line.npy", "--cor 99", "must hit the detector (0 to 22)"),
        ("rows.h5", "", "name one with --row"),
        ("rows.h5", "--row 3", "there are rows 0 to 2"),
        ("rows.h5", "--row x", "--row must be a whole number, got 'x'"),
        ("rows.h5", "--rows 5:9", "reach outside"),
        ("rows.h5", "--rows 2:1", "name no slice"),
        ("rows.h5", "--row 0 --rows 0:2", "names one slice"),
    ],
)  # fmt: skip
def test_counts_axes_and_rows_that_do_not_fit_are_refused(
    measured, tmp_path, capsys, monkeypatch, scan, arguments, words
):
    monkeypatch.chdir(measured)
    out = ["--out", str(tmp_path / "run")]
    assert cli.main(["validate", "--sinogram", scan, *out, *arguments.split()]) == 2
    assert words in sentence(capsys) and not (tmp_path / "run").exists()


def test_a_single_view_of_counts_is_read(measured, tmp_path):
    given = ["--data-kind", "counts", "--scan.flat", str(measured / "flats.npy")]
    given += ["--out", str(tmp_path / "run")]
    assert cli.main(["validate", "--sinogram", str(measured / "one.npy"), *given]) == 0


def test_views_that_all_have_one_angle_are_refused(measured, tmp_path, capsys):
    scan, _ = small_scan()
    keys = geometry_keys(scan.geometry, scan.grid) | {"angles_deg": np.full(9, 30.0)}
    np.savez(tmp_path / "scan.npz", sinogram=scan.sinogram.numpy(), **keys)
    assert cli.main(["validate", "--sinogram", str(tmp_path / "scan.npz")]) == 2
    assert "all 9 views have the angle 30; check angles_deg" in sentence(capsys)
