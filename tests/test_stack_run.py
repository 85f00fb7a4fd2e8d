"""Runs of stacks: each slice a run of its own, from its neighbour's fit, and the volumes."""

import json
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from html import unescape
from itertools import count

import numpy as np
import pytest
import test_cli
import torch
import yaml
from test_cli import geometry_keys
from test_dip import disc_scan, small_fit
from test_pipeline import QUICK
from test_ranks import THREADS, processes

import pdip
from pdip import cli, pipeline, stack_run
from pdip.checkpoints import DirectoryKeeper
from pdip.dip import UNet, fit_dip, start, training
from pdip.dip.restarts import train_restarts
from pdip.dip.stopping import Discrepancy
from pdip.errors import ComputationError, InputError
from pdip.run_directory import RunDirectory
from pdip.run_files import slice_sentence
from pdip.run_report import rebuilt
from pdip.scan import shepp_logan
from pdip.stack_run import SliceOutcome

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("rough_figures")]
ARRAYS = ("reconstruction.npy", "std.npy", "posterior_mean.npy")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A stack of four slices of which the third is air, one slice alone, and quick settings."""
    folder = tmp_path_factory.mktemp("files")
    geometry = pdip.ParallelBeam([30.0 * view for view in range(6)], 17)
    ray = pdip.ray_transform(geometry, pdip.ImageGrid((12, 12)))
    truth = torch.stack([(1 + 0.05 * k) * shepp_logan(ray.grid) for k in range(4)])
    generator = torch.Generator().manual_seed(0)
    scans = [pdip.simulate(x, ray, noise_fraction=0.05, generator=generator) for x in truth]
    sinogram = torch.stack([scan.sinogram for scan in scans]).numpy()
    sinogram[2] = 0
    keys = geometry_keys(geometry, ray.grid)
    np.savez(folder / "stack.npz", sinogram=sinogram, ground_truth=truth.numpy(), **keys)
    np.savez(folder / "scan.npz", sinogram=sinogram[1], ground_truth=truth[1].numpy(), **keys)
    np.savez(folder / "air.npz", sinogram=np.zeros_like(sinogram), **keys)
    quick = {
        "network": {"scales": 2, "channels": 4},
        "dip": {**QUICK["dip"], "max_steps": 20, "restarts": 2, "start": "fbp"},
        "evidence": {"max_evaluations": 5},
    }
    (folder / "quick.yaml").write_text(yaml.safe_dump(quick))
    return folder


reconstruct = partial(test_cli.reconstruct, scan="stack.npz")


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "finished"
    assert reconstruct(files, out) == 1  # one slice of air
    return out


def volume(folder, name="reconstruction.npy"):
    return np.load(folder / name)


def last_line(capsys) -> str:
    return capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]


def test_volumes_are_the_runs_of_the_slices_and_air_is_nan(finished):
    for name in ARRAYS:
        whole = volume(finished, name)
        assert whole.shape == (4, 12, 12) and whole.dtype == np.float32
        assert np.isnan(whole[2]).all()
        for number in (0, 1, 3):
            own = volume(finished / "slices" / f"{number:04d}", name)
            assert np.array_equal(whole[number], own) and np.isfinite(own).all()
    written = {path.name for path in finished.iterdir()}
    assert written == {
        *ARRAYS, "summary.json", "overview.png", "report.html", "settings.yaml", "input.json",
        "slices",
    }  # fmt: skip
    assert sorted(path.name for path in (finished / "slices").iterdir()) == ["0000", "0001", "0003"]


def test_the_page_of_a_stack_leads_to_those_of_its_slices_and_back(finished, tmp_path):
    page = (finished / "report.html").read_text()
    for number in (0, 1, 3):
        assert f'href="slices/{number:04d}/report.html"' in page
        own = finished / "slices" / f"{number:04d}" / "report.html"
        assert 'href="../../report.html"' in own.read_text()
        assert (own.parent / "../../report.html").resolve() == finished.resolve() / "report.html"
    assert 'href="slices/0002' not in page and "Slice 2 has no result" in page
    shutil.copytree(finished, tmp_path / "moved")
    (tmp_path / "moved" / "report.html").unlink()
    assert rebuilt(RunDirectory(tmp_path / "moved")) == 4
    assert (tmp_path / "moved" / "report.html").read_text() == page


def test_summary_has_every_slice_and_the_means(finished):
    numbers = json.loads((finished / "summary.json").read_text())
    slices = numbers["slices"]
    assert [row["slice"] for row in slices] == [0, 1, 2, 3]
    assert "constant" in slices[2]["failure"]
    assert any(said.startswith("slice 2 has no result") for said in numbers["assumptions"])
    for key in ("psnr", "mean_std", "log_evidence"):
        own = [row[key] for row in slices if "failure" not in row]
        assert numbers[key] == pytest.approx(np.mean(own)) and len(own) == 3
    alone = json.loads((finished / "slices" / "0003" / "summary.json").read_text())
    assert alone["psnr"] == slices[3]["psnr"]


def test_what_slices_assume_and_are_warned_of_is_said_of_the_stack(finished):
    """Every sentence of a slice, as it is or with those that differ in numbers alone."""
    numbers = json.loads((finished / "summary.json").read_text())
    own = {
        number: json.loads((finished / "slices" / f"{number:04d}" / "summary.json").read_text())
        for number in (0, 1, 3)
    }
    for number, found in own.items():
        for sentence in found["assumptions"]:
            kinds = [shape(said) for said in numbers["assumptions"] if names(said, number)]
            assert sentence in numbers["assumptions"] or shape(sentence) in kinds, sentence
    assert len(numbers["assumptions"]) < sum(len(found["assumptions"]) for found in own.values())
    page = unescape((finished / "report.html").read_text())
    assert all(said.removeprefix("WARNING: ")[1:] in page for said in numbers["assumptions"])


def shape(sentence: str) -> str:
    """A sentence without its slices and numbers."""
    sentence = re.sub(r"^(WARNING: )?slices? [0-9, to]+: ", r"\1", sentence)
    return re.sub(r"[-0-9.e]+( to [-0-9.e]+)?", "#", sentence)


def names(sentence: str, number: int) -> bool:
    """Whether a sentence is said of a slice, by its number or within "0 to 3"."""
    found = re.match(r"(?:WARNING: )?slices? ([0-9, to]+): ", sentence)
    runs = [run.split(" to ") for run in found[1].split(", ")] if found else []
    return any(int(run[0]) <= number <= int(run[-1]) for run in runs)


def test_the_noise_of_a_stack_is_that_of_a_ray_as_its_slices_have_it(finished):
    """As it was estimated and, in the lines, as the evidence chose it for the error bars."""
    numbers = json.loads((finished / "summary.json").read_text())
    usual, chosen = [], []
    for number in (0, 1, 3):
        folder = RunDirectory(finished / "slices" / f"{number:04d}")
        noise_std = folder.read_tensors("report.safetensors")[0]["ray_noise_std"]
        usual.append(np.median(noise_std[noise_std.isfinite()]))
        own = folder.read_json("summary.json")
        chosen.append(usual[-1] * own["noise_std_by_evidence"] / own["noise_std"])
        line = slice_sentence(RunDirectory(finished), SliceOutcome(number))
        assert f"noise std of a ray {chosen[-1]:.3g} by the evidence" in line
    assert numbers["typical_noise_std"] == pytest.approx(np.mean(usual), rel=1e-12)
    found = numbers["typical_noise_std_by_evidence"]
    assert found == pytest.approx(np.mean(chosen), rel=1e-12)
    page = (finished / "report.html").read_text()
    assert all(f"<dd>{np.mean(values):.3g}</dd>" in page for values in (usual, chosen))


def test_what_a_slice_is_warned_of_on_its_way_is_in_its_page_and_that_of_the_stack(
    files, tmp_path, monkeypatch, capsys
):
    original = stack_run.reconstruct

    def warn(scan, settings, *, observer, **keywords):
        observer.warned("a state was damaged")
        return original(scan, settings, observer=observer, **keywords)

    monkeypatch.setattr(stack_run, "reconstruct", warn)
    brief = ["--slices", ":2", "--dip.max_steps", "1"]
    assert reconstruct(files, tmp_path / "run", *brief) == 0
    slices = tmp_path / "run" / "slices"
    assert "A state was damaged." in (slices / "0001" / "report.html").read_text()
    numbers = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert numbers["warnings"] == ["slices 0, 1: a state was damaged"]
    page = unescape((tmp_path / "run" / "report.html").read_text())
    box = page[page.index('class="warning"') : page.index("</div>", page.index('class="warning"'))]
    assert "Slices 0, 1: a state was damaged." in box
    assert "Slices 0, 1: a fit left a residual of " in box
    assert page.count("Stopped at max_steps=1 with a mean squared residual") == 2
    assert capsys.readouterr().out.splitlines()[-1].startswith("warnings: ")


def test_one_line_per_slice_on_stdout_and_a_last_sentence_on_stderr(files, tmp_path, capsys):
    assert reconstruct(files, tmp_path / "run", "--slices", "1:3") == 1
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("slice ")] == [
        "slice 1", "slice 2",
    ]  # fmt: skip
    assert "slice 2: no result: the sinogram is constant" in out
    assert "slice 1, fit: " in err and "fit: " not in out
    assert "1 of 2 slices have no result and are NaN in the volumes: 2;" in err.splitlines()[-1]


def test_the_first_slice_is_the_single_run_bit_for_bit(files, finished, tmp_path):
    """So is a stack of one, here cut out with --slices; its settings file repeats it."""
    assert reconstruct(files, tmp_path / "alone", scan="scan.npz") == 0
    assert reconstruct(files, tmp_path / "one", "--slices", "1") == 0
    repeated = str(tmp_path / "one" / "slices" / "0001" / "settings.yaml")
    assert reconstruct(files, tmp_path / "again", "--config", repeated) == 0
    for name in ARRAYS:
        alone = volume(tmp_path / "alone", name)
        assert alone.shape == (12, 12)
        assert np.array_equal(volume(tmp_path / "one", name), alone[None])
        assert np.array_equal(volume(tmp_path / "again", name), alone[None])
    assert not np.array_equal(volume(tmp_path / "one")[0], volume(finished)[1])


def test_a_slice_is_the_single_run_from_its_neighbours_fit(files, finished):
    """Slice 3 goes on from slice 1, as slice 2 has no fit."""
    settings = yaml.safe_load((files / "quick.yaml").read_text())
    stack = pdip.read_stack(files / "stack.npz")
    first = pdip.reconstruct(stack.scan(0), settings)
    second = pdip.reconstruct(stack.scan(1), settings, before=first.fit)
    third = pdip.reconstruct(stack.scan(3), settings, before=second.fit)
    for number, result in ((0, first), (1, second), (3, third)):
        assert np.array_equal(volume(finished)[number], result.image.float().numpy())
        assert np.array_equal(volume(finished, "std.npy")[number], result.std.float().numpy())


def test_a_chain_of_slices_ends_by_the_number_of_the_slice(files, tmp_path, monkeypatch):
    """Slices 0 and 1, 2 and 3 are chains here: slice 3 begins anew whatever was before it."""
    monkeypatch.setattr(stack_run, "CHAIN_SLICES", 2)
    settings = yaml.safe_load((files / "quick.yaml").read_text())
    alone = pdip.reconstruct(pdip.read_stack(files / "stack.npz").scan(3), settings)
    assert reconstruct(files, tmp_path / "run", "--slices", "1:") == 1
    assert np.array_equal(volume(tmp_path / "run")[2], alone.image.float().numpy())


def test_resume_skips_finished_slices_and_ends_the_same(
    files, finished, tmp_path, monkeypatch, capsys
):
    original, seen = stack_run.reconstruct, []

    def interrupted(scan, *arguments, **keywords):
        seen.append(scan)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return original(scan, *arguments, **keywords)

    monkeypatch.setattr(stack_run, "reconstruct", interrupted)
    assert reconstruct(files, tmp_path / "run") == 1
    assert "--resume" in last_line(capsys)
    assert not (tmp_path / "run" / "summary.json").exists()
    assert reconstruct(files, tmp_path / "run") == 2  # neither --resume nor --overwrite
    assert reconstruct(files, tmp_path / "run", "--resume", "--slices", "1:") == 2
    assert "scan.slices" in last_line(capsys)
    assert reconstruct(files, tmp_path / "run", "--resume") == 1
    assert len(seen) == 4
    for name in ARRAYS:
        whole = volume(tmp_path / "run", name)
        assert np.array_equal(whole, volume(finished, name), equal_nan=True)


def test_a_computation_without_honest_result_is_one_slice_less(files, tmp_path, monkeypatch):
    original = pipeline.fit_dip

    def fails_once(scan, *arguments, before=None, **keywords):
        if before is None:
            return original(scan, *arguments, **keywords)
        raise ComputationError("the fit died")

    monkeypatch.setattr(pipeline, "fit_dip", fails_once)
    assert reconstruct(files, tmp_path / "run", "--slices", ":2") == 1
    numbers = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert numbers["slices"][1] == {"slice": 1, "failure": "the fit died"}
    assert not (tmp_path / "run" / "slices" / "0001").exists()


def test_resume_says_of_a_stack_with_failed_slices_what_its_run_said(finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "run")
    assert cli.main(["resume", str(folder)]) == 1
    out, err = capsys.readouterr()
    assert "slice 2: no result: the sinogram is constant" in out
    assert "1 of 4 slices have no result and are NaN in the volumes: 2;" in err.splitlines()[-1]
    for name in ARRAYS:
        assert np.array_equal(volume(folder, name), volume(finished, name), equal_nan=True)


def test_resume_tries_a_slice_again_that_failed_not_for_its_data(
    files, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        refused = InputError("expected a scan whose posterior fits into 0 GB")
        patch.setattr(pipeline, "check_memory", failing_from(2, refused))
        assert reconstruct(files, tmp_path / "run", "--slices", ":2") == 1
    assert np.isnan(volume(tmp_path / "run")[1]).all()
    assert cli.main(["resume", str(tmp_path / "run")]) == 0
    assert np.isfinite(volume(tmp_path / "run")).all()
    assert cli.main(["resume", str(tmp_path / "run")]) == 0
    assert "the run in" in capsys.readouterr().out.splitlines()[-1]


def failing_from(call: int, error: Exception):
    """A function that raises from this call on, counted from 1."""
    calls = count(1)

    def fail(*arguments, **keywords):
        if next(calls) >= call:
            raise error

    return fail


@pytest.mark.parametrize(
    "scan, arguments, said",
    [
        ("air.npz", [], "constant"),
        ("stack.npz", ["--network.norm", "batch"], "norm"),
        ("stack.npz", ["--network.scales", "0"], "scale"),
        ("stack.npz", ["--slices", "4"], "slices 0 to 3"),
        ("stack.npz", ["--slices", "2:"], "no folder is left"),
        ("scan.npz", ["--slices", "0"], "single scan"),
        ("stack.npz", ["--dataset", "a"], "HDF5"),
    ],
)
def test_runs_without_any_slice_exit_2_and_leave_no_folder(
    files, tmp_path, capsys, scan, arguments, said
):
    if said == "no folder is left":
        arguments, said = ["--slices", "2"], "constant"
    assert reconstruct(files, tmp_path / "run", *arguments, scan=scan) == 2
    assert said in last_line(capsys)
    assert not (tmp_path / "run").exists()


def test_a_slice_whose_neighbours_fit_is_gone_begins_anew_and_says_so(files, tmp_path):
    settings = yaml.safe_load((files / "quick.yaml").read_text())
    assert reconstruct(files, tmp_path / "run", "--slices", ":2") == 0
    lost = tmp_path / "run" / "slices"
    (lost / "0000" / "fit.safetensors").unlink()
    for path in (lost / "0001").iterdir():
        path.unlink()
    assert reconstruct(files, tmp_path / "run", "--slices", ":2", "--resume") == 0
    alone = pdip.reconstruct(pdip.read_stack(files / "stack.npz").scan(1), settings)
    assert np.array_equal(volume(tmp_path / "run")[1], alone.image.float().numpy())
    said = json.loads((lost / "0001" / "summary.json").read_text())["assumptions"]
    assert any("slice 0 is missing or damaged" in sentence for sentence in said)


IN_CHAINS_OF_TWO = """
import sys
from pdip import cli, stack_run

stack_run.CHAIN_SLICES = 2
original = stack_run.reconstruct


def warn(scan, settings, *, observer, **keywords):
    observer.warned("a state was damaged")
    return original(scan, settings, observer=observer, **keywords)


stack_run.reconstruct = warn
sys.exit(cli.main())
"""


def test_ranks_share_the_chains_and_write_the_files_of_one_process(files, tmp_path, monkeypatch):
    monkeypatch.setattr(stack_run, "CHAIN_SLICES", 2)
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        assert reconstruct(files, tmp_path / "one") == 1
    finally:
        torch.set_num_threads(before)
    command = ["reconstruct", "--sinogram", str(files / "stack.npz"), "--config",
               str(files / "quick.yaml"), "--out", str(tmp_path / "two")]  # fmt: skip
    results = processes("-c", IN_CHAINS_OF_TWO, *command)
    assert [code for code, _, _ in results] == [1, 1], results
    assert "slice 3: mean std" in results[0][1] and not results[1][1]
    numbers = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert "slices 0, 1, 3: a state was damaged" in numbers["warnings"]
    said = [line for _, _, err in results for line in err.splitlines() if line[:6] == "pdip: "]
    assert len(said) == 1 and "1 of 4 slices" in said[0]
    folders = tmp_path / "one", tmp_path / "two"
    one, two = ({path.relative_to(run) for path in run.rglob("*")} for run in folders)
    assert one == two
    for name in one:
        if name.name in ARRAYS or name.name == "posterior.safetensors":
            assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def counting_recalls(monkeypatch) -> list[str]:
    """The names of the places in which a state is found from now on."""
    recall, found = DirectoryKeeper.recall, []

    def recalled(keeper):
        state = recall(keeper)
        found.extend([keeper.name] if state is not None else [])
        return state

    monkeypatch.setattr(DirectoryKeeper, "recall", recalled)
    return found


DYING_IN_A_FIT = """
import os, signal, sys
from pdip import checkpoints, cli

checkpoints.SECONDS_BETWEEN_STATES = 0.0
keep = checkpoints.DirectoryKeeper.keep
def dying(self, state):
    keep(self, state)
    if "0001" in str(self.checkpoints.directory.path) and "sigmoid" in self.name:
        os.kill(os.getpid(), signal.SIGKILL)
checkpoints.DirectoryKeeper.keep = dying
sys.exit(cli.main())
"""


def test_a_slice_that_was_killed_in_its_fit_goes_on_from_its_state(files, tmp_path, monkeypatch):
    """To the bits of a run that was not, and from the state: no step is done again."""
    steps = ["--slices", ":2", "--dip.max_steps", "50"]
    assert reconstruct(files, tmp_path / "whole", *steps) == 0
    killed = subprocess.run(
        [sys.executable, "-c", DYING_IN_A_FIT, "reconstruct", "--sinogram",
         str(files / "stack.npz"), "--config", str(files / "quick.yaml"),
         "--out", str(tmp_path / "run"), *steps],
        check=False, capture_output=True,
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    slice_folder = tmp_path / "run" / "slices" / "0001"
    assert any((slice_folder / "unfinished").glob("fit*.safetensors"))
    recalled = counting_recalls(monkeypatch)
    assert reconstruct(files, tmp_path / "run", "--resume", *steps) == 0
    assert any("sigmoid" in name for name in recalled)
    assert not (slice_folder / "unfinished").exists()
    for name in ARRAYS:
        assert np.array_equal(volume(tmp_path / "run", name), volume(tmp_path / "whole", name))


def test_overwrite_replaces_the_slices_too(files, finished, tmp_path):
    assert reconstruct(files, tmp_path / "run", "--slices", "0") == 0
    (tmp_path / "run" / "slices" / "0000" / "notes.txt").write_text("mine")
    (tmp_path / "run" / "slices" / "0000" / "unfinished").mkdir()
    (tmp_path / "run" / "slices" / "0000" / "unfinished" / "fit.safetensors").touch()
    (tmp_path / "run" / "slices" / "0000" / ".std.npy.1.partly").touch()
    assert reconstruct(files, tmp_path / "run", "--resume", scan="scan.npz") == 2
    assert reconstruct(files, tmp_path / "run", "--overwrite", "--slices", "1") == 0
    assert volume(tmp_path / "run").shape == (1, 12, 12)
    left = {p.name for p in (tmp_path / "run" / "slices" / "0000").iterdir()}
    assert left == {"notes.txt"}
    assert reconstruct(files, tmp_path / "run", "--overwrite", scan="scan.npz") == 0
    assert volume(tmp_path / "run").shape == (12, 12)
    assert not (tmp_path / "run" / "slices" / "0001").exists()


def test_roi_of_a_stack_answers_from_the_named_slice(finished, capsys):
    box = ["--box", "4:6,3:5"]
    assert cli.main(["roi", str(finished), *box]) == 2
    assert "(0, 1, 3); name one of them with --slice N" in last_line(capsys)
    assert cli.main(["roi", str(finished), "--slice", "2", *box]) == 2
    assert "--slice N" in last_line(capsys)
    assert cli.main(["roi", str(finished), "--slice", "3", *box]) == 0
    mean, _, std = map(float, capsys.readouterr().out.replace("±", "0").split()[:3])
    assert mean == pytest.approx(volume(finished)[3, 4:6, 3:5].mean(), abs=std / 20)
    folder = str(finished / "slices" / "0003")
    assert cli.main(["roi", folder, *box]) == 0
    assert cli.main(["roi", folder, "--slice", "3", *box]) == 2


@pytest.mark.parametrize("text", ["10:20", "1:2:3", "-3:-1"])
def test_a_range_in_yaml_is_no_number_to_the_base_60(tmp_path, text):
    from pdip.config import read_sections

    (tmp_path / "settings.yaml").write_text(f"scan:\n  slices: {text}\n")
    assert read_sections(tmp_path / "settings.yaml")["scan"] == {"slices": text}


# The seam: a fit that goes on from an earlier one


def test_a_fit_goes_on_from_the_weights_of_the_one_before():
    """Steps too small to change anything: the image is that of the earlier weights."""
    scan, ray, _, noise_std = disc_scan()
    before = small_fit(scan, ray, noise_std, max_steps=200, restarts=2)
    still = {"max_steps": 1, "learning_rate": 1e-12, "restarts": 2, "noise_std": noise_std}
    network = before.network
    for name in ("fbp", "tv"):  # without the warm-up of "tv", which would change them
        fit = fit_dip(scan, ray, network, before=before, start=name, **still)
        for mine, earlier in zip(fit.restarts, before.restarts, strict=True):
            for key, value in earlier.params.items():
                torch.testing.assert_close(mine.params[key], value, rtol=0, atol=1e-9)


def test_restarts_beyond_those_before_begin_as_ever():
    scan, ray, _, noise_std = disc_scan()
    begun = start.tv_start(start.DataTerm.of(scan, ray, noise_std))
    network = UNet(2, 8, image_scale=1.2)
    data = start.DataTerm.of(scan, ray, noise_std)
    plan = training.Training(data, begun, 0.01, 1e-9, 1, Discrepancy, 3, None)
    weights = {name: value.detach() / 2 for name, value in network.named_parameters()}
    cold = train_restarts(plan, network, 2)
    warm = train_restarts(replace(plan, before=(weights,)), network, 2)
    assert not torch.equal(warm[0].image, cold[0].image)
    assert torch.equal(warm[1].image, cold[1].image)


def test_a_fit_from_a_similar_one_is_sooner_near_the_data():
    scan, ray, _, noise_std = disc_scan()
    before = small_fit(scan, ray, noise_std, max_steps=300)
    other = pdip.Scan(1.05 * scan.sinogram, scan.geometry, scan.grid)
    cold = small_fit(other, ray, noise_std, max_steps=25)
    warm = small_fit(other, ray, noise_std, max_steps=25, before=before)
    (level,), (cold_level,) = (fit.history["mean_squared_residual"] for fit in (warm, cold))
    assert level < cold_level / 10


def test_other_weights_before_are_refused():
    scan, ray, _, noise_std = disc_scan()
    before = small_fit(scan, ray, noise_std, max_steps=1)
    with pytest.raises(InputError, match="same architecture"):
        fit_dip(scan, ray, UNet(3, 4), noise_std=noise_std, before=before)


def test_the_activation_before_is_kept_where_it_is_left_open():
    scan, ray, _, noise_std = disc_scan()
    brief = {"max_steps": 2, "restarts": 1, "noise_std": noise_std}
    before = fit_dip(scan, ray, {"activation": "none", "channels": 4}, **brief)
    assert fit_dip(scan, ray, {"channels": 4}, before=before, **brief).network.activation.name == (
        "none"
    )


def test_clipping_forgets_the_weights_before(monkeypatch):
    scan, ray, _, noise_std = disc_scan()
    brief = {"max_steps": 2, "restarts": 1, "noise_std": noise_std}
    before = fit_dip(scan, ray, {"channels": 4}, **brief)
    asked = []

    def clipping(plan, network, count):
        asked.append((network.activation.name, len(plan.before)))
        if network.activation.name == "sigmoid":
            return None
        return train_restarts(plan, network, count)

    monkeypatch.setattr("pdip.dip.fit.train_restarts", clipping)
    fit_dip(scan, ray, {"channels": 4}, before=before, **brief)
    assert asked == [("sigmoid", 1), ("none", 0)]
