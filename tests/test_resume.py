"""An interrupted run goes on to the same bits; what is kept is whole, or it is not used."""

# ruff: noqa: F401, F811 (files is a fixture)

import errno
import math
import os
import shutil
from collections import Counter

import pytest
import torch
from cases import MODELS
from dense_model import build
from test_cli import files, reconstruct, strict_json
from test_dip import disc_scan, small_fit

import pdip
from pdip import pipeline
from pdip.checkpoints import DirectoryCheckpoints
from pdip.errors import InputError, OutputError
from pdip.evidence import optimise_evidence
from pdip.keeper import Keeper
from pdip.run_directory import RunDirectory
from pdip.run_identity import rounding, surroundings
from pdip.settings import Settings
from pdip.solvers import Cholesky, Projected
from pdip.tensor_file import packed, unpacked

pytestmark = pytest.mark.usefixtures("rough_figures")


class Death(BaseException):
    """What a killed process does: it stops."""


class Notebook(Keeper):
    """Keeps every state in memory, in copies, until it has been written in ``lives`` times."""

    def __init__(self, pages=None, name="", lives=None):
        self.pages = {} if pages is None else pages
        self.name = name
        self.lives = [math.inf] if lives is None else lives

    due = True

    def within(self, name):
        return Notebook(self.pages, f"{self.name}/{name}", self.lives)

    def keep(self, state):
        self.lives[0] -= 1
        if self.lives[0] < 0:
            raise Death
        self.pages[self.name] = {key: value.clone() for key, value in state.items()}

    def recall(self):
        kept = self.pages.get(self.name)
        return None if kept is None else {key: value.clone() for key, value in kept.items()}


def until_it_ends(computation, lives):
    """The result of a computation that dies after so many states and is called again."""
    pages, deaths = {}, 0
    while True:
        try:
            return computation(Notebook(pages, lives=[lives])), deaths
        except Death:
            deaths += 1


def assert_same_fit(found, truth):
    assert len(found.restarts) == len(truth.restarts)
    for one, other in zip(found.restarts, truth.restarts, strict=True):
        assert torch.equal(one.image, other.image)
        assert all(torch.equal(one.params[name], other.params[name]) for name in other.params)
        assert (one.history, one.stop_reason) == (other.history, other.stop_reason)
        assert one.assumptions == other.assumptions


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {"stop": "discrepancy", "start": "mixed", "restarts": 2},
        {"stop": "held_out", "restarts": 2},
        {"stop": "discrepancy", "max_steps": 320, "learning_rate": 2e-2},
        {"stop": "discrepancy", "start": "tv", "max_steps": 120, "louder": 8.0},
    ],
    ids=["warm and cold", "held-out rays", "ends by itself", "begins at the noise level"],
)
def test_a_fit_that_died_again_and_again_is_the_fit_that_did_not(settings):
    scan, ray, _, noise_std = disc_scan()
    settings = {"max_steps": 90, **settings}
    noise_std *= settings.pop("louder", 1.0)
    truth = small_fit(scan, ray, noise_std, **settings)
    found, deaths = until_it_ends(
        lambda keeper: small_fit(scan, ray, noise_std, keeper=keeper, **settings), 3
    )
    assert deaths > 1
    assert_same_fit(found, truth)


@pytest.mark.slow
def test_a_fit_that_collapsed_or_clipped_before_it_died_does_so_again(monkeypatch):
    scan, ray, _, noise_std = disc_scan()
    collapsed = Counter()
    whole = pdip.dip.training._trained

    def collapsing(network, z, rule, total):
        first = network.settings["seed"] == 0
        collapsed[first] += 1
        return None if first else whole(network, z, rule, total)

    monkeypatch.setattr("pdip.dip.training._trained", collapsing)
    settings = {"max_steps": 60, "restarts": 2}
    truth = small_fit(scan, ray, noise_std, **settings)
    found, deaths = until_it_ends(
        lambda keeper: small_fit(scan, ray, noise_std, keeper=keeper, **settings), 3
    )
    assert deaths > 1 and collapsed[True] > 1
    assert_same_fit(found, truth)


@pytest.mark.slow
def test_a_finished_fit_is_not_computed_again(monkeypatch):
    scan, ray, _, noise_std = disc_scan()
    notebook = Notebook()
    truth = small_fit(scan, ray, noise_std, max_steps=30, start="tv", keeper=notebook)
    monkeypatch.setattr("pdip.dip.descent.Descent.advance", None)
    monkeypatch.setattr("pdip.dip.fit.STARTS", {"tv": None})
    again = small_fit(scan, ray, noise_std, max_steps=30, start="tv", keeper=notebook)
    assert_same_fit(again, truth)


@pytest.mark.slow
@pytest.mark.parametrize("solver", [Cholesky(), Projected(rank=6, rounds=3)])
def test_a_search_that_died_again_and_again_is_the_search_that_did_not(solver):
    model, scan, _ = build(MODELS["before"])
    settings = {"solver": solver, "max_evaluations": 8, "objective": pdip.Profile()}
    truth = optimise_evidence(model, scan, **settings)
    found, deaths = until_it_ends(
        lambda keeper: optimise_evidence(model, scan, keeper=keeper, **settings), 1
    )
    assert deaths == solver.rounds - 1
    assert torch.equal(found.model.log_hyperparameters, truth.model.log_hyperparameters)
    assert found.state().keys() == truth.state().keys()
    assert all(torch.equal(found.state()[key], value) for key, value in truth.state().items())


def test_a_round_that_was_kept_is_not_searched_again(monkeypatch):
    model, scan, _ = build(MODELS["before nugget"])
    notebook, settings = Notebook(), {"max_evaluations": 5, "objective": pdip.Profile()}
    truth = optimise_evidence(model, scan, keeper=notebook, **settings)
    monkeypatch.setattr("pdip.evidence.optimise.minimize", None)
    again = optimise_evidence(model, scan, keeper=notebook, **settings)
    assert again.log_evidence == truth.log_evidence and again.history == truth.history


# FILES: what is damaged is noticed, and the file before it is used.


def tensors():
    return {
        "a": torch.arange(6.0).reshape(2, 3),
        "step": torch.tensor(25),
        "finished": torch.tensor(True),
        "none": torch.zeros(0, dtype=torch.float64),
    }


def test_tensors_come_back_bit_for_bit_with_their_types(tmp_path):
    path = tmp_path / "state"
    odd = {**tensors(), "nan": torch.tensor([float("nan"), -0.0]), "view": torch.eye(3)[:, 1]}
    path.write_bytes(packed(odd, {"cost": 1.5}))
    found, record = unpacked(path)
    assert record == {"cost": 1.5} and found.keys() == odd.keys()
    for name, value in odd.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape
        assert found[name].numpy().tobytes() == value.numpy().tobytes()
        assert found[name].data_ptr() % 64 == 0 or not found[name].numel()


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    path = tmp_path / "state"
    content = packed(tensors(), {"cost": 1.5})
    refused = 0
    for place in range(len(content)):
        path.write_bytes(
            content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :]
        )
        try:
            found, record = unpacked(path)
        except InputError:
            refused += 1
            continue
        assert record == {"cost": 1.5}  # a blank that pads the header
        assert all(torch.equal(found[name], value) for name, value in tensors().items())
    assert refused > 0.95 * len(content)


def test_no_cut_goes_unnoticed(tmp_path):
    path = tmp_path / "state"
    content = packed(tensors(), {})
    for length in range(0, len(content), 7):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match="damaged"):
            unpacked(path)


def kept_twice(tmp_path, said):
    """A keeper that holds step 2 and before it step 1, and its two files."""
    checkpoints = DirectoryCheckpoints(RunDirectory(tmp_path), said.append)
    keeper = checkpoints.keeper("fit").within("part")
    for step in (0, 1, 2):
        keeper.keep({"step": torch.tensor(step)})
    newest = tmp_path / "unfinished" / "fit.part.safetensors"
    before = newest.with_name("fit.part.before.safetensors")
    assert sorted(tmp_path.glob("unfinished/*")) == sorted([newest, before])
    return keeper, newest, before


def test_the_state_before_a_damaged_one_is_used_and_that_is_said(tmp_path):
    said = []
    keeper, newest, before = kept_twice(tmp_path, said)
    assert keeper.recall()["step"] == 2 and not said
    newest.write_bytes(newest.read_bytes()[:-1])
    assert keeper.recall()["step"] == 1
    assert len(said) == 1 and str(newest) in said[0] and "damaged" in said[0]
    keeper.keep({"step": torch.tensor(3)})
    newest.write_bytes(b"")
    assert keeper.recall()["step"] == 1, "the damaged state took the place of the good one"
    before.write_bytes(b"")
    assert keeper.recall() is None


def test_a_state_that_was_being_moved_when_the_process_died_is_there(tmp_path):
    keeper, newest, before = kept_twice(tmp_path, [])
    os.replace(newest, before)
    assert keeper.recall()["step"] == 2


def full(*arguments):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_leaves_the_states_as_they_are_and_is_said_once(tmp_path, monkeypatch):
    said = []
    keeper, *_ = kept_twice(tmp_path, said)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        keeper.keep({"step": torch.tensor(3)})
        keeper.keep({"step": torch.tensor(4)})
    assert len(said) == 1 and "No space left" in said[0] and "goes on" in said[0]
    assert keeper.recall()["step"] == 2
    assert len(list(tmp_path.glob("unfinished/*"))) == 2
    keeper.keep({"step": torch.tensor(5)})
    assert keeper.recall()["step"] == 5


def test_a_file_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    directory = RunDirectory(tmp_path)
    directory.write_array("std.npy", torch.ones(2, 2))
    before = (tmp_path / "std.npy").read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"std.npy cannot be written \(No space left"):
        directory.write_array("std.npy", torch.zeros(2, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["std.npy"]
    assert (tmp_path / "std.npy").read_bytes() == before


# RUNS: the command as a whole.

RESULTS = ("reconstruction.npy", "std.npy", "posterior_mean.npy")


@pytest.fixture(scope="module")
def finished(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "finished"
    assert reconstruct(files, out) == 0
    return out


@pytest.mark.slow
def test_a_disk_full_at_the_end_costs_no_finished_stage(
    files,
    finished,
    tmp_path,
    capsys,
    monkeypatch,
):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RunDirectory, "write_array", lambda *_: full_at(out / "std.npy"))
        assert reconstruct(files, out) == 1
    error = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert error.startswith("pdip: ") and "No space left" in error and "--resume" in error
    monkeypatch.setattr(pipeline, "fit_dip", None)
    monkeypatch.setattr(pipeline, "optimise_evidence", None)
    assert reconstruct(files, out, "--resume") == 0
    for name in RESULTS:
        assert (out / name).read_bytes() == (finished / name).read_bytes()


def full_at(path):
    raise OutputError(f"{path} cannot be written (No space left on device)")


@pytest.mark.slow
def test_a_run_whose_disk_is_full_all_along_still_ends_with_its_result(
    files,
    finished,
    tmp_path,
    capsys,
    monkeypatch,
):
    monkeypatch.setattr(RunDirectory, "write_tensors", lambda *_, **__: full_at("state"))
    monkeypatch.setattr("pdip.cli.POSTERIOR", "posterior.safetensors")
    assert reconstruct(files, tmp_path / "run") == 1
    err = capsys.readouterr().err
    assert err.count("warning: state cannot be written") == 1
    for name in RESULTS:
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()


def test_an_output_folder_that_cannot_be_written_is_seen_before_the_start(
    files,
    tmp_path,
    capsys,
    monkeypatch,
):
    monkeypatch.setattr(os, "fsync", full)
    assert reconstruct(files, tmp_path / "run") == 2
    error = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert "cannot be written (No space left on device); make room or name another --out" in error


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fit.safetensors", "evidence.safetensors"])
def test_a_damaged_stage_is_computed_again_and_that_is_said(
    files,
    finished,
    tmp_path,
    capsys,
    name,
):
    out = shutil.copytree(finished, tmp_path / "run")
    content = bytearray((out / name).read_bytes())
    content[-3] ^= 4
    (out / name).write_bytes(content)
    (out / "std.npy").unlink()
    assert reconstruct(files, out, "--resume") == 0
    out_text, err = capsys.readouterr()
    assert err.count(f"{name} is damaged and was passed over") == 1
    assert out_text.count("read back") == 1
    for result in RESULTS:
        assert (out / result).read_bytes() == (finished / result).read_bytes()


def test_hyperparameters_of_another_fit_are_passed_over(tmp_path):
    model, scan, _ = build(MODELS["before nugget"])
    settings = {"max_evaluations": 2, "objective": pdip.Profile()}
    fit, said = optimise_evidence(model, scan, **settings), []
    directory = RunDirectory(tmp_path)
    directory.begin(scan, Settings().resolved())
    checkpoints = DirectoryCheckpoints(directory, said.append)
    checkpoints.save_evidence((fit,), pdip.stages.StageCost(1.0, 1.0))
    assert checkpoints.load_evidence([model])[0][0].log_evidence == fit.log_evidence
    other = build(MODELS["none"])[0]
    assert checkpoints.load_evidence([other]) is None
    assert len(said) == 1 and "belongs to another fit" in said[0]


@pytest.mark.slow
def test_another_version_or_number_of_threads_is_an_assumption(
    files,
    finished,
    tmp_path,
    capsys,
    monkeypatch,
):
    out = shutil.copytree(finished, tmp_path / "run")
    assert reconstruct(files, out, "--resume") == 0
    assert "up to rounding" not in capsys.readouterr().out
    monkeypatch.setattr("pdip.run_identity.versions", lambda: {"pdip": "0.0", "torch": "1.0"})
    assert reconstruct(files, out, "--resume") == 0
    assert f"torch {torch.__version__}, then 1.0" in capsys.readouterr().out
    monkeypatch.undo()
    assert reconstruct(files, out, "--resume") == 0
    said = strict_json(out / "summary.json")["assumptions"]
    assert sum("up to rounding, not bit for bit" in sentence for sentence in said) == 1


def test_surroundings_hold_what_rounding_depends_on():
    found = surroundings({"ray": {"device": "cpu"}})
    assert found.keys() >= {"pdip", "torch", "device", "instruction set", "number of threads"}
    assert rounding([found, found]) == ()
    assert "number of threads" in rounding([found, {**found, "number of threads": "77"}])[0]


@pytest.mark.parametrize("left", [[], ["settings.yaml"], ["settings.yaml", "input.json"]])
def test_a_run_that_died_while_it_began_begins_again(tmp_path, left):
    scan, *_ = disc_scan()
    directory = RunDirectory(tmp_path)
    directory.begin(scan, Settings().resolved())
    for name in {"settings.yaml", "input.json"} - set(left):
        (tmp_path / name).unlink()
    (tmp_path / ".input.json.123.partly").write_text("half")
    directory.begin(scan, Settings().resolved(), resume=True)
    assert {path.name for path in tmp_path.iterdir()} == {"settings.yaml", "input.json"}


def test_going_on_keeps_the_states(tmp_path):
    scan, *_ = disc_scan()
    RunDirectory(tmp_path).begin(scan, Settings().resolved())
    DirectoryCheckpoints(RunDirectory(tmp_path)).keeper("fit").keep({"step": torch.tensor(1)})
    directory = RunDirectory(tmp_path)
    directory.begin(scan, Settings().resolved(), resume=True)
    assert DirectoryCheckpoints(directory).keeper("fit").recall()["step"] == 1


def test_overwriting_removes_the_states_of_the_run_before(tmp_path):
    scan, *_ = disc_scan()
    directory = RunDirectory(tmp_path)
    directory.begin(scan, Settings().resolved())
    DirectoryCheckpoints(directory).keeper("fit").keep({"step": torch.tensor(1)})
    (tmp_path / "unfinished" / "mine.txt").write_text("mine")
    directory.begin(scan, Settings().resolved(), overwrite=True)
    assert [path.name for path in tmp_path.glob("unfinished/*")] == ["mine.txt"]


@pytest.mark.slow
def test_deterministic_mode_ends_where_it_began(files, tmp_path, finished):
    before = torch.backends.cudnn.deterministic, os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    with pytest.raises(pdip.ComputationError, match="put_.*--deterministic"):
        with pdip.deterministic():
            assert torch.are_deterministic_algorithms_enabled()
            raise RuntimeError("put_ does not have a deterministic implementation, but you set")
    assert reconstruct(files, tmp_path / "run", "--deterministic") == 0
    assert not torch.are_deterministic_algorithms_enabled()
    assert before == (
        torch.backends.cudnn.deterministic, os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    )  # fmt: skip
    for name in RESULTS:
        assert (tmp_path / "run" / name).read_bytes() == (finished / name).read_bytes()
