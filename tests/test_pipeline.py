"""The whole line on a 16 x 16 phantom: records, determinism, checkpoints, folders."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import pdip
from pdip import pipeline
from pdip.checkpoints import DirectoryCheckpoints
from pdip.device import checked_device
from pdip.errors import InputError
from pdip.region import read_box, read_mask
from pdip.report.summary import summary
from pdip.run_directory import EVALUATED, FILES, RunDirectory
from pdip.scan import shepp_logan
from pdip.settings import Settings
from pdip.stages import Observer, StageClock
from pdip.withholding import random_rays

QUICK = {
    "network": {"scales": 2, "channels": 8},
    "dip": {
        "max_steps": 400,
        "restarts": 2,
        "start": "tv",
        "noise_std": 0.1,
        "learning_rate": 3e-3,
    },
    "evidence": {"max_evaluations": 30, "gradient_tolerance": 1.0},
}


class Notes(Observer):
    """Keeps what it is told."""

    def __init__(self):
        self.stages, self.assumptions, self.steps = [], [], []

    def finished(self, stage, sentence):
        self.stages.append((stage, sentence))

    def assumed(self, sentence):
        self.assumptions.append(sentence)

    def progress(self, step, total, text):
        self.steps.append((step, total))


def small_scan(seed: int = 0):
    geometry = pdip.ParallelBeam([20.0 * view for view in range(9)], 23)
    ray = pdip.ray_transform(geometry, pdip.ImageGrid((16, 16)))
    truth = shepp_logan(ray.grid)
    generator = torch.Generator().manual_seed(seed)
    return pdip.simulate(truth, ray, noise_fraction=0.05, generator=generator), truth


@pytest.fixture(scope="module")
def run():
    scan, truth = small_scan()
    notes = Notes()
    return scan, truth, pdip.reconstruct(scan, QUICK, observer=notes), notes


@pytest.mark.slow
def test_a_phantom_is_reconstructed_with_a_std_for_every_pixel(run):
    scan, truth, result, _ = run
    assert result.image.shape == result.std.shape == result.mean.shape == (16, 16)
    assert bool((result.std > 0).all() and torch.isfinite(result.std).all())
    assert pdip.relative_l2(result.image, truth) < 0.4
    assert pdip.coverage(result.image, result.std, truth) > 0.6
    assert result.posterior.solution.converged


def test_every_stage_reports_once_with_its_cost(run):
    _, _, result, notes = run
    stages = [stage for stage, _ in notes.stages]
    assert (
        stages
        == ["ray", "fit", "linearise", "plan", "evidence", "posterior"]
        == list(result.stages)
    )
    assert all(sentence for _, sentence in notes.stages)
    assert all(cost.seconds >= 0 and cost.peak_memory_mb > 10 for cost in result.stages.values())
    assert all(0 <= step <= total for step, total in notes.steps)
    assert max(step for step, _ in notes.steps) > 0


def test_every_assumption_is_said_once_and_kept(run):
    _, _, result, notes = run
    assert list(result.assumptions) == notes.assumptions
    assert len(set(notes.assumptions)) == len(notes.assumptions)
    assert any("image scale" in sentence for sentence in notes.assumptions)


def test_the_result_is_the_mixture_of_its_restarts(run):
    _, _, result, _ = run
    images = torch.stack([fit.image for fit in result.fit.restarts])
    assert len(images) == len(result.evidence) == 2
    torch.testing.assert_close(result.image, images.mean(0), rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_result_and_another_seed_another():
    scan, _ = small_scan()
    brief = {**QUICK, "dip": {**QUICK["dip"], "max_steps": 10, "restarts": 1}}
    first, second = (pdip.reconstruct(scan, brief) for _ in range(2))
    assert torch.equal(first.image, second.image) and torch.equal(first.std, second.std)
    brief["dip"]["seed"] = 7
    assert not torch.equal(first.image, pdip.reconstruct(scan, brief).image)


@pytest.mark.slow
@pytest.mark.parametrize(
    "evidence",
    [
        {"objective": "conditional"},
        {"hyperprior": "tv_predcp", "objective": "profile"},
        {"objective": "conditional", "solver": {"name": "projected", "rank": 9}},
    ],
)
def test_objectives_and_hyperpriors_by_name_run(evidence):
    scan, _ = small_scan()
    brief = {
        **QUICK,
        "dip": {**QUICK["dip"], "max_steps": 60, "restarts": 1},
        "evidence": {"max_evaluations": 10, **evidence},
    }
    result = pdip.reconstruct(scan, brief)
    assert bool(torch.isfinite(result.std).all())
    assert any("converged" in s for s in result.assumptions) != result.converged


@pytest.mark.slow
def test_conditional_objective_withholds_rays_from_a_fit_of_its_own(monkeypatch):
    scan, _ = small_scan()
    used = []
    original = pipeline.fit_dip

    def fit_dip(scan, *arguments, **keywords):
        used.append(scan.weights)
        return original(scan, *arguments, **keywords)

    monkeypatch.setattr(pipeline, "fit_dip", fit_dip)
    brief = {
        **QUICK,
        "dip": {**QUICK["dip"], "max_steps": 5, "restarts": 1},
        "evidence": {"max_evaluations": 2, "objective": "conditional"},
    }
    pdip.reconstruct(scan, brief)
    withheld = random_rays(scan, 0)
    assert used[0] is None and len(used) == 2
    assert torch.equal(used[1] == 0, withheld)
    assert 0.05 < withheld.double().mean() < 0.3


@pytest.mark.slow
def test_many_rays_are_compressed_and_that_is_said(monkeypatch):
    scan, _ = small_scan()
    brief = {**QUICK, "dip": {**QUICK["dip"], "max_steps": 60, "restarts": 1}}
    monkeypatch.setattr("pdip.plan.MAX_EXACT_RAYS", 100)
    result = pdip.reconstruct(scan, brief)
    kept = result.evidence[0].model.measurement.num_rows
    assert kept < scan.sinogram.numel()
    assert any(f"given {kept} combinations of the 207 rays" in s for s in result.assumptions)
    exact = pdip.reconstruct(
        scan, {**brief, "evidence": {"solver": "cholesky", **QUICK["evidence"]}}
    )
    assert exact.evidence[0].model.measurement.compression is None
    assert not any("combinations" in s for s in exact.assumptions)
    torch.testing.assert_close(result.std.mean(), exact.std.mean(), rtol=0.1, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("solver", ["cholesky", {"name": "projected", "rank": 12}])
def test_checkpoints_give_back_fit_and_evidence_exactly(solver, tmp_path):
    scan, _ = small_scan()
    directory = RunDirectory(tmp_path / "run")
    settings = Settings.of({**QUICK, "evidence": {**QUICK["evidence"], "solver": solver}})
    result = pdip.reconstruct(scan, settings)
    directory.begin(scan, settings.resolved())
    kept = DirectoryCheckpoints(directory)
    kept.save_fit("fit", result.fit, result.stages["fit"])
    kept.save_evidence(result.evidence, result.stages["evidence"])
    again = pdip.reconstruct(scan, settings, checkpoints=kept)
    torch.testing.assert_close(again.image, result.image, rtol=0, atol=0)
    torch.testing.assert_close(again.std, result.std, rtol=0, atol=0)
    assert again.log_evidence == result.log_evidence
    assert again.fit.history == result.fit.history
    assert again.stages["fit"] == result.stages["fit"]
    assert again.assumptions == result.assumptions


def test_posterior_from_tensors_answers_like_the_posterior(run):
    _, _, result, _ = run
    saved = pdip.SavedPosterior(result.posterior.tensors())
    weights = torch.zeros(16, 16)
    weights[4:9, 3:8] = 1 / 25
    mean, std = result.posterior.functional(weights)
    assert saved.functional(weights) == pytest.approx((mean, std), rel=1e-4)


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write_text("settings.yaml", "before")

    def breaks(stream):
        stream.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        directory.write("settings.yaml", breaks)
    assert (tmp_path / "settings.yaml").read_text() == "before"
    assert [path.name for path in tmp_path.iterdir()] == ["settings.yaml"]


def test_a_file_is_replaced_in_one_step(tmp_path):
    directory = RunDirectory(tmp_path)
    directory.write_text("settings.yaml", "before")
    with (tmp_path / "settings.yaml").open() as reader:
        directory.write_text("settings.yaml", "after")
        assert reader.read() == "before"
    assert (tmp_path / "settings.yaml").read_text() == "after"


def test_a_folder_with_a_run_is_neither_taken_nor_mixed_up(run, tmp_path):
    scan = run[0]
    settings = Settings.of(QUICK).resolved()
    directory = RunDirectory(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    directory.begin(scan, settings)
    with pytest.raises(InputError, match="--resume.*--overwrite"):
        directory.begin(scan, settings)
    directory.begin(scan, settings, resume=True)
    (tmp_path / "summary.json").write_text("{}")
    directory.begin(scan, settings, overwrite=True)
    assert not (tmp_path / "summary.json").exists()
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_new_run_in_the_folder_takes_the_evaluation_of_the_old_one_away(run, tmp_path):
    settings = Settings.of(QUICK).resolved()
    directory = RunDirectory(tmp_path)
    directory.begin(run[0], settings)
    folders = (tmp_path, directory.slice(3).path)
    folders[1].mkdir(parents=True)
    evaluated = {folder / name for name in EVALUATED for folder in folders}
    kept = {folder / "evaluation.txt" for folder in folders}
    for file in evaluated | kept:
        file.write_text("of the old run")
    directory.begin(run[0], settings, resume=True)
    assert {*tmp_path.rglob("evaluation.*")} == evaluated | kept
    directory.begin(run[0], settings, overwrite=True)
    assert {*tmp_path.rglob("evaluation.*")} == kept


def test_resuming_something_else_names_what_differs(run, tmp_path):
    scan = run[0]
    directory = RunDirectory(tmp_path)
    directory.begin(scan, Settings.of(QUICK).resolved())
    changed = {**QUICK, "dip": {**QUICK["dip"], "tv_weight": 0.5}}
    with pytest.raises(InputError, match=r"dip.tv_weight was None and is now 0.5"):
        directory.begin(scan, Settings.of(changed).resolved(), resume=True)
    other, _ = small_scan(seed=1)
    with pytest.raises(InputError, match="the sinogram differs"):
        directory.begin(other, Settings.of(QUICK).resolved(), resume=True)
    with pytest.raises(InputError, match="the geometry differs; the image grid"):
        directory.begin(
            pdip.Scan(
                scan.sinogram, pdip.ParallelBeam(scan.geometry.angles_deg, 23, 0.5),
                pdip.ImageGrid((8, 8)),
            ),
            Settings.of(QUICK).resolved(),
            resume=True,
        )  # fmt: skip
    moved = {**QUICK, "ray": {"device": "cuda"}}
    directory.begin(scan, Settings.of(moved).resolved(), resume=True)


def test_a_folder_says_its_pixels_and_one_without_them_is_resumed_and_then_does(run, tmp_path):
    scan = replace(run[0], grid=pdip.ImageGrid((16, 12), 0.3))
    settings, directory = Settings.of(QUICK).resolved(), RunDirectory(tmp_path)
    directory.begin(scan, settings)
    assert directory.grid() == scan.grid
    kept = directory.read_json("input.json")
    del kept["grid"]
    directory.write_json("input.json", kept)
    with pytest.raises(InputError, match="earlier pdip.*--resume"):
        directory.grid()
    directory.begin(scan, settings, resume=True)
    assert directory.grid() == scan.grid


@pytest.mark.parametrize("name", ["input.json", "settings.yaml"])
def test_damaged_runs_are_refused(run, tmp_path, name):
    directory = RunDirectory(tmp_path)
    directory.begin(run[0], Settings().resolved())
    (tmp_path / name).write_bytes(b"\x00damaged")
    with pytest.raises(InputError, match="--overwrite"):
        directory.begin(run[0], Settings().resolved(), resume=True)


def test_out_that_is_a_file_is_refused(run, tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(InputError, match="is a file"):
        RunDirectory(path).begin(run[0], Settings().resolved())
    with pytest.raises(InputError, match="cannot be written"):
        RunDirectory(path / "below").begin(run[0], Settings().resolved())


def test_all_written_names_are_owned():
    owned = (*EVALUATED, *FILES)
    assert len(set(owned)) == len(owned)


@pytest.mark.parametrize("name", ["gpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_refused(name):
    with pytest.raises(InputError, match="device"):
        checked_device(name)


def test_box_is_half_open_and_checked():
    assert read_box("1:3,0:4", (4, 4)).sum() == 8
    for text in ("1:3", "3:3,0:1", "0:5,0:1", "-1:2,0:1", "a:b,c:d"):
        with pytest.raises(InputError, match="box"):
            read_box(text, (4, 4))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float64])
def test_masks_of_any_number_type_are_read(tmp_path, dtype):
    mask = np.eye(4, dtype=dtype)
    np.save(tmp_path / "mask.npy", mask)
    assert torch.equal(read_mask(tmp_path / "mask.npy", (4, 4)), torch.eye(4).bool())


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (np.zeros((4, 4), bool), "marks no pixel"),
        (np.ones((4, 5), bool), "shape"),
        (np.full((4, 4), 2.0), "0 and 1 only"),
        (np.full((4, 4), np.nan), "0 and 1 only"),
        (np.array([[{}]]), "pickle"),
    ],
)
def test_unusable_masks_are_refused(tmp_path, mask, words):
    np.save(tmp_path / "mask.npy", mask, allow_pickle=True)
    with pytest.raises(InputError, match=words):
        read_mask(tmp_path / "mask.npy", (4, 4))


def test_the_clock_says_each_assumption_once():
    notes = Notes()
    clock = StageClock(notes)
    clock.assume(["a", "b", "a"])
    clock.assume(["b", "c"])
    assert clock.assumptions == notes.assumptions == ["a", "b", "c"]


def test_peak_memory_is_that_of_the_stage_on_linux():
    clock = StageClock(Observer())
    with clock.stage("large"):
        torch.ones(40_000_000).sum()
    with clock.stage("small"):
        pass
    large, small = (clock.costs[name].peak_memory_mb for name in ("large", "small"))
    assert large >= small > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sections", "kept"),
    [
        ({"evidence": {"solver": {"name": "projected", "rank": 9}}}, 9),
        ({"posterior": {"solver": {"name": "projected", "rank": 9}}}, 9),
        (
            {
                "evidence": {"solver": {"name": "projected", "rank": 9}},
                "posterior": {"solver": "cholesky"},
            },
            None,
        ),
    ],
)
def test_summary_tells_what_the_posterior_is_given_and_settings_repeat_it(sections, kept):
    scan, _ = small_scan()
    brief = {
        "network": QUICK["network"],
        "dip": {**QUICK["dip"], "max_steps": 30, "restarts": 1},
        **sections,
        "evidence": {"max_evaluations": 3, **sections.get("evidence", {})},
    }
    settings = Settings.of(brief)
    for once in (settings, Settings.of(settings.resolved())):
        result = pdip.reconstruct(scan, once)
        assert summary(result, None, {})["solver"]["combinations"] == kept
        assert any("combinations" in said for said in result.assumptions) == (kept is not None)
