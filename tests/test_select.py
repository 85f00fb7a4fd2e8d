"""Settings compared on withheld rays: the scores, the margin's law, what is kept, the command."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from test_cli import strict_json
from test_pipeline import Notes

import pdip
from pdip import cli, pipeline, selection
from pdip.candidates import USUAL, candidates_of, grid, read_candidates, with_earlier
from pdip.dip.descent import Descent
from pdip.errors import ComputationError, InputError
from pdip.keeper import Keeper
from pdip.kept import DirectoryKept, Kept, identity
from pdip.predictive import conditional_evidence, log_predictive
from pdip.run_directory import RunDirectory
from pdip.scan import shepp_logan
from pdip.selection import SEED_OFFSET
from pdip.selection_result import Score, Selection
from pdip.settings import Settings
from pdip.withholding import random_rays

BASE = {
    "network": {"scales": 2, "channels": 4},
    "dip": {"max_steps": 20, "restarts": 1, "start": "fbp", "noise_std": 0.1},
    "evidence": {"max_evaluations": 5},
}


def with_(**sections) -> dict:
    return {s: {**BASE.get(s, {}), **sections.get(s, {})} for s in {**BASE, **sections}}


@pytest.fixture(scope="module")
def scan():
    geometry = pdip.ParallelBeam([22.5 * view for view in range(8)], 13)
    ray = pdip.ray_transform(geometry, pdip.ImageGrid((8, 8)))
    generator = torch.Generator().manual_seed(0)
    return pdip.simulate(shepp_logan(ray.grid), ray, noise_fraction=0.05, generator=generator)


@pytest.fixture(scope="module")
def judged(scan):
    """A result on fitted rays, in double precision, and the rays that it did not see."""
    held_out = random_rays(scan, SEED_OFFSET)
    double = replace(scan, sinogram=scan.sinogram.double())
    partial = replace(double, weights=torch.where(held_out, 0.0, 1.0).double())
    double_ray = with_(ray={"dtype": "float64"}, dip={"restarts": 2})
    return pdip.reconstruct(partial, double_ray), double, held_out


def invented(*means: float, spread: float = 0.0, seed: int = 0, views: int = 40, each: int = 5):
    """A selection of scores whose differences have one common deviation for each view."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.arange(views).repeat_interleave(each)
    scores = []
    for number, mean in enumerate(means):
        deviation = spread * torch.randn(views, generator=generator, dtype=torch.float64)
        scores.append(Score(f"candidate {number}", mean + deviation[place], 0.5, 0.25, 1.0))
    return Selection(tuple(scores), tuple(range(1, len(means) + 1)), (0,) * len(means), place)


@pytest.mark.slow
def test_held_out_score_equals_the_dense_predictive_density(judged):
    result, scan, held_out = judged
    ray, rays = result.evidence[0].model.ray, held_out.reshape(-1)
    dense = ray.forward(torch.eye(64).double().reshape(64, 8, 8)).flatten(1).mT[rays]
    noise = sum(float(e.model.noise_variance) for e in result.evidence) / 2
    covariance = dense @ result.posterior.covariance() @ dense.mT
    normal = torch.distributions.Normal(
        dense @ result.image.reshape(-1), (covariance.diagonal() + noise).sqrt()
    )
    found = log_predictive(result, scan, held_out)
    expected = normal.log_prob(scan.sinogram.reshape(-1)[rays])
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)


def test_noise_of_a_withheld_ray_goes_with_its_weight(judged):
    result, scan, held_out = judged
    ray, rays = result.evidence[0].model.ray, held_out.reshape(-1)
    dense = ray.forward(torch.eye(64).double().reshape(64, 8, 8)).flatten(1).mT[rays]
    signal = (dense @ result.posterior.covariance() @ dense.mT).diagonal()
    weights = torch.rand(scan.sinogram.shape, generator=torch.Generator().manual_seed(0)) + 0.5
    noise = sum(float(e.model.noise_variance) for e in result.evidence) / 2 / weights[held_out]
    std = (signal + noise.double()).sqrt()
    normal = torch.distributions.Normal(ray.forward(result.image)[held_out], std)
    found = log_predictive(result, replace(scan, weights=weights.double()), held_out)
    torch.testing.assert_close(found, normal.log_prob(scan.sinogram[held_out]))


def test_conditional_evidence_is_the_difference_of_two_dense_normals(judged):
    result, scan, held_out = judged
    expected = []
    for found in result.evidence:
        model, fitted = found.model, ~held_out.reshape(-1)
        dense = model.sinogram_covariance().to_dense()
        zero = model.jacobian.forward(model.jacobian.vector)
        image = model.image - model.slope * zero
        residual = (scan.sinogram - model.ray.forward(image)).reshape(-1)

        def log_normal(rays, dense=dense, residual=residual):
            normal = torch.distributions.MultivariateNormal(
                torch.zeros(int(rays.sum())).double(), dense[rays][:, rays]
            )
            return float(normal.log_prob(residual[rays]))

        expected.append(log_normal(torch.ones_like(fitted)) - log_normal(fitted))
    found = conditional_evidence(result, scan, held_out)
    assert found == pytest.approx(np.mean(expected), rel=1e-8)


def test_the_winner_has_the_largest_score_and_no_margin_to_itself():
    found = invented(1.0, 3.0, 2.0)
    assert found.winner.name == "candidate 1"
    assert found.margin(found.winner).mean == found.margin(found.winner).standard_error == 0
    margins = [found.margin(score) for score in found.scores]
    assert [m.mean for m in margins] == pytest.approx([2.0, 0.0, 1.0])
    assert found.equals == (found.winner,)
    assert "candidate 1 foretells the withheld rays best, by 1.000 ± 0.000" in found.sentence


def test_standard_error_of_the_margin_is_the_spread_over_repetitions():
    repeats = [invented(0.0, -5.0, spread=1.0, seed=seed) for seed in range(300)]
    margins = [found.margin(found.scores[1]) for found in repeats]
    spread = np.std([m.mean for m in margins], ddof=1)
    claimed = np.sqrt(np.mean([m.standard_error**2 for m in margins]))
    assert spread == pytest.approx(claimed, rel=4 / math.sqrt(2 * 300))
    rays = repeats[0].scores[0].held_out - repeats[0].scores[1].held_out
    naive = float(rays.std()) / math.sqrt(len(rays))
    assert claimed > 1.8 * naive  # rays of one view are no independent witnesses


def test_a_difference_within_its_error_is_called_undecided():
    found = invented(0.0, 0.001, spread=1.0)
    assert len(found.equals) == 2 and "undecided" in found.sentence
    assert "candidate 0" in found.sentence and "candidate 1" in found.sentence


def test_of_candidates_not_told_apart_the_one_nearest_to_the_shipped_settings_is_taken():
    close = invented(0.0, 0.001, -0.001, -9.0, spread=1.0)
    first, second, third = (close.scores.index(score) for score in close.equals)
    numbers = {first: 2, second: 2, third: 1, 3: 0}
    near = replace(close, departures=tuple(numbers[place] for place in range(4)))
    assert near.best is close.scores[first] and near.winner is close.scores[third]
    taken = f"the winner is {near.winner.name}, which is nearest to the shipped settings"
    assert taken in near.sentence and "with 40 withheld views a lead below" in near.sentence
    assert replace(near, departures=(1, 1, 1, 0)).winner is near.best
    clear = replace(invented(0.0, 1.0), departures=(0, 1))
    assert clear.winner is clear.best and "nearest" not in clear.sentence
    shipped, other = Settings.of({"dip": {"max_steps": 4000}}), Settings.of(with_())
    assert selection.departures(shipped) == 0 and selection.departures(other) == 7


@pytest.mark.slow
@pytest.mark.parametrize("views", [3, 12])
@pytest.mark.parametrize("count", [2, 6])
def test_one_of_equal_candidates_is_seldom_called_worse(views, count):
    found = [invented(*[0.0] * count, spread=1.0, seed=seed, views=views) for seed in range(1000)]
    worse = np.mean([all(s is not each.scores[0] for s in each.equals) for each in found])
    error = math.sqrt(0.025 * 0.975 / 1000)
    assert worse <= 0.025 + 4 * error and (count > 2 or worse >= 0.025 - 4 * error)


def test_whole_views_are_withheld_where_there_are_ten_of_positive_weight():
    beam = pdip.ParallelBeam([12.0 * view for view in range(15)], 13)
    weights = torch.ones(15, 13)
    weights[::4] = 0
    scan = pdip.Scan(torch.rand(15, 13), beam, pdip.ImageGrid((8, 8)), weights)
    held_out = selection.withheld_from_all(scan, 0)
    assert torch.equal(held_out, held_out.any(1)[:, None].expand(15, 13))
    assert held_out.any(1).nonzero()[:, 0].tolist() == [2, 7, 13]
    assert torch.equal(held_out, selection.withheld_from_all(scan, 1))
    weights[1] = weights[2] = 0
    few = selection.withheld_from_all(replace(scan, weights=weights), 0)
    assert 3 < int(few.any(1).sum()) and not few[weights == 0].any()


@pytest.mark.parametrize("seconds, told", [(6.0, True), (8.0, False)])
def test_the_fastest_of_undecided_candidates_is_named_where_it_clearly_is(seconds, told):
    found = invented(0.0, 0.001, spread=1.0)
    own, other = (
        replace(score, seconds=each)
        for score, each in zip(found.scores, (10.0, seconds), strict=True)
    )
    timed = replace(found, scores=(own, other))
    assert ("candidate 1 is the fastest" in timed.sentence) == told
    assert "candidate 0 is the fastest" not in timed.sentence


def test_the_verdict_says_what_the_winners_own_fit_is_warned_of():
    found = invented(1.0, 3.0)
    doubt = "WARNING: a fit left a residual of 9 times the noise variance"
    scores = [replace(score, assumptions=("the scale is 1", doubt)) for score in found.scores]
    warned = replace(found, scores=(found.scores[0], scores[1]))
    assert warned.sentence == (
        f"{found.sentence} WARNING: candidate 1: a fit left a residual of 9 times the noise "
        "variance."
    )
    assert replace(found, scores=(scores[0], found.scores[1])).sentence == found.sentence


def test_a_warning_on_the_way_names_its_candidate_and_others_are_said_once():
    notes, said = Notes(), set()
    for name in ("one", "two"):
        for sentence in ("the scale is 1", "WARNING: a residual is left"):
            selection.Told(notes, name, said).assumed(sentence)
    assert notes.assumptions == [
        "the scale is 1", "WARNING: one: a residual is left", "WARNING: two: a residual is left",
    ]  # fmt: skip


def test_candidates_before_are_compared_again_unless_they_are_given(tmp_path):
    directory = RunDirectory(tmp_path)
    one, other = Settings.of(BASE), Settings.of(with_(evidence={"hyperprior": None}))
    given = {"one": one, "other": Settings.of(with_(network={"channels": 6}))}
    assert with_earlier(given, directory, pytest.fail) == given
    entries = [
        {"name": name, "settings": settings.resolved()}
        for name, settings in (("renamed", one), ("other", other))
    ]
    directory.write_json("select.json", {"candidates": entries})
    found = with_earlier(given, directory, pytest.fail)
    assert list(found) == ["one", "other", "other before"]
    assert found["one"] is one and found["other before"] == other
    directory.write_json("select.json", {"candidates": [{}]})
    warnings = []
    assert with_earlier(given, directory, warnings.append) == given
    assert "KeyError" in warnings[0] and "left out" in warnings[0]


def test_one_view_alone_decides_nothing():
    found = invented(0.0, 1.0, views=1)
    assert math.isinf(found.margin(found.scores[0]).standard_error) and len(found.equals) == 2
    assert "with a single withheld view any lead may be chance" in found.sentence


def test_table_ranks_the_candidates_and_says_who_has_no_result():
    found = invented(1.0, 3.0)
    lost = Score("lost", torch.zeros(0).double(), failure="the fit died.")
    found = Selection((*found.scores, lost), (1, 1, 2), (0, 0, 0), found.views)
    lines = found.table().splitlines()
    assert lines[0].split() == [
        "candidate", "held-out", "margin", "conditional", "evidence", "fit", "seconds",
    ]  # fmt: skip
    assert lines[1].split() == [
        "candidate",
        "1",
        "3.000",
        "best",
        "0.500",
        "0.250",
        "1",
        "1.0",
        "winner",
    ]
    assert "winner" not in "".join(lines[2:])
    assert lines[2].split()[2:6] == ["1.000", "2.000", "±", "0.000"]
    assert lines[4] == "lost: no result: the fit died."
    record = found.record()
    assert record["winner"] == "candidate 1" and record["candidates"][2]["margin"] is None


class Fits:
    """Counts the fits and keeps the weights of the scans they saw."""

    def __init__(self, monkeypatch, dies_at: int = 0):
        self.weights, self.dies_at, self._fit = [], dies_at, pipeline.fit_dip
        monkeypatch.setattr(pipeline, "fit_dip", self)

    def __call__(self, scan, *arguments, **keywords):
        self.weights.append(scan.weights)
        if len(self.weights) == self.dies_at:
            raise KeyboardInterrupt
        return self._fit(scan, *arguments, **keywords)


@pytest.mark.slow
def test_no_fit_sees_the_withheld_rays_and_equal_fits_are_made_once(scan, monkeypatch):
    fits, notes = Fits(monkeypatch), Notes()
    found = pdip.select(
        scan,
        {
            "one": with_(),
            "one without hyperprior": with_(evidence={"hyperprior": None}),
            "two": with_(network={"channels": 6}),
        },
        observer=notes,
    )
    assert [stage for stage, _ in notes.stages] == [score.name for score in found.scores]
    assert notes.assumptions and len(set(notes.assumptions)) == len(notes.assumptions)
    assert len(fits.weights) == 2 and found.fits == (1, 1, 2)
    withheld = random_rays(scan, SEED_OFFSET)
    assert all(torch.equal(weights == 0, withheld) for weights in fits.weights)
    assert all(len(score.held_out) == int(withheld.sum()) for score in found.scores)
    assert found.scores[0].log_evidence != found.scores[1].log_evidence


@pytest.mark.slow
def test_candidates_that_withhold_rays_themselves_withhold_others(scan):
    assert not torch.equal(random_rays(scan, 0), random_rays(scan, SEED_OFFSET))
    found = pdip.select(
        scan,
        {
            "conditional": with_(evidence={"objective": "conditional"}),
            "held-out stop": with_(dip={"stop": "held_out"}),
        },
    )
    assert all(score.failure is None for score in found.scores)


class Apart(Kept):
    """Every candidate has a fit of its own."""

    def _shorter_fit(self, settings):
        return Keeper()


@pytest.mark.slow
@pytest.mark.parametrize("place", ["memory", "folder"])
def test_stopping_points_share_one_fit_and_are_those_of_fits_of_their_own(
    place, scan, tmp_path, monkeypatch
):
    steps = Counter()

    def counted(self, loss, original=Descent.advance):
        steps[kept] += 1
        return original(self, loss)

    monkeypatch.setattr(Descent, "advance", counted)
    points = {f"{number} steps": with_(dip={"max_steps": number}) for number in (60, 10, 30)}
    kept = Apart()
    apart = pdip.select(scan, points, kept=kept)
    assert steps[kept] == 10 + 30 + 60
    done = {name: with_(dip={**own["dip"], "noise_std": 1.0}) for name, own in points.items()}
    ends = [pdip.select(scan, done, kept=kind()).scores for kind in (Apart, Kept)]
    for one, other in zip(*ends, strict=True):
        assert one.stop_reason == other.stop_reason and "reached" in one.stop_reason
    directory = RunDirectory(tmp_path / "run")
    directory.begin(scan, {"select": {"seed": 0}}, resume=True)
    kept = Kept() if place == "memory" else DirectoryKept(directory, scan, {}, pytest.fail)
    shared = pdip.select(scan, points, kept=kept)
    assert steps[kept] == 60
    assert len({score.stop_reason for score in shared.scores}) == len(set(shared.fits)) == 3
    longest, first, second = shared.scores
    assert longest.seconds > first.fit_seconds + second.fit_seconds + longest.fit_seconds
    for one, other in zip(shared.scores, apart.scores, strict=True):
        assert one.name == other.name and one.stop_reason == other.stop_reason
        assert torch.equal(one.held_out, other.held_out)


def test_a_candidate_without_a_result_does_not_end_the_comparison(scan, monkeypatch):
    original = selection.reconstruct

    def breaks(scan, settings, **keywords):
        if settings.network["channels"] == 4:
            raise ComputationError("the fit died")
        return original(scan, settings, **keywords)

    monkeypatch.setattr(selection, "reconstruct", breaks)
    found = pdip.select(scan, {"dies": with_(), "lives": with_(network={"channels": 6})})
    assert found.winner.name == "lives" and found.scores[0].failure == "the fit died"
    assert "only candidate with a result" in found.sentence
    with pytest.raises(ComputationError, match="no candidate has a result; dies: the fit died"):
        pdip.select(scan, {"dies": with_(), "too": with_(evidence={"hyperprior": None})})


@pytest.mark.parametrize(
    ("candidates", "words"),
    [
        ({"one": {}}, "at least two"),
        ({"one": {}, "same": {"dip": {"max_steps": 4000}}}, "'one' and 'same' are the same"),
        ({"one": {}, "bad": {"network": {"chanels": 4}}}, "'bad'.*nearest: 'network.channels'"),
        ({"one": with_(), "bad": with_(dip={"tv_weight": -1})}, "'bad'.*non-negative tv_weight"),
    ],
)
def test_candidates_that_cannot_be_compared_are_refused(scan, candidates, words):
    with pytest.raises(InputError, match=words):
        pdip.select(scan, candidates)


@pytest.mark.slow
def test_what_is_kept_is_not_computed_again(scan, tmp_path, monkeypatch):
    directory = RunDirectory(tmp_path)
    candidates = {"one": with_(), "two": with_(network={"channels": 6})}

    def selected(candidates):
        kept = DirectoryKept(directory, scan, {"select": {"seed": 0}}, pytest.fail)
        return pdip.select(scan, candidates, kept=kept)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        Fits(patch, dies_at=2)
        selected(candidates)
    with monkeypatch.context() as patch:
        fits = Fits(patch)
        found = selected(candidates)
        assert len(fits.weights) == 1
        again = selected({"other name": candidates["two"], "first": candidates["one"]})
        assert len(fits.weights) == 1
        selected({**candidates, "same fit": with_(evidence={"hyperprior": None})})
        assert len(fits.weights) == 1
    whole = pdip.select(scan, candidates)
    for one, other, renamed in zip(found.scores, whole.scores, again.scores[::-1], strict=True):
        assert torch.equal(one.held_out, other.held_out)
        assert torch.equal(one.held_out, renamed.held_out)
    assert again.winner.name == {"one": "first", "two": "other name"}[found.winner.name]


@pytest.fixture(scope="module")
def files(scan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    np.savez(
        folder / "scan.npz", sinogram=scan.sinogram.numpy(), geometry="parallel",
        angles_deg=np.array(scan.geometry.angles_deg), det_pixel_mm=1.0, cor=6.0,
        image_shape=np.array([8, 8]), pixel_mm=1.0,
    )  # fmt: skip
    (folder / "base.yaml").write_text(yaml.safe_dump(BASE))
    return folder


def command(files, out, *arguments) -> int:
    return cli.main(
        ["select", "--sinogram", str(files / "scan.npz"), "--out", str(out),
         "--config", str(files / "base.yaml"), *arguments]
    )  # fmt: skip


@pytest.mark.slow
def test_the_command_prints_the_table_and_writes_the_winner(files, tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        Fits(patch, dies_at=2)
        assert command(files, out, "--over", "network.channels=4,6") == 1
        assert "--resume" in capsys.readouterr().err
    assert command(files, out, "--over", "network.channels=4,6") == 2
    fits = Fits(monkeypatch)
    assert command(files, out, "--over", "network.channels=4,6", "--resume") == 0
    assert len(fits.weights) == 1
    said = capsys.readouterr().out
    record = strict_json(out / "select.json")
    assert "network.channels=4" in said and f"winner: {record['sentence']}" in said
    assert record["winner"] in {"network.channels=4", "network.channels=6"}
    winner = yaml.safe_load((out / "winner.yaml").read_text())
    assert f"network.channels={winner['network']['channels']}" == record["winner"]
    assert winner["dip"] == BASE["dip"]
    assert command(files, out, "--over", "network.channels=6,4,2", "--resume") == 0
    assert len(fits.weights) == 2
    record = strict_json(out / "select.json")
    given = "network.channels=6", "network.channels=4"
    fewer = [name for name in (*given, "network.channels=2") if name != record["winner"]]
    values = ",".join(name.partition("=")[2] for name in fewer)
    assert command(files, out, "--over", f"network.channels={values}", "--resume") == 0
    again = strict_json(out / "select.json")
    assert again["winner"] == record["winner"] and len(fits.weights) == 2
    assert {c["name"]: c["settings"] for c in again["candidates"]} == {
        c["name"]: c["settings"] for c in record["candidates"]
    }
    won = yaml.safe_load((out / "winner.yaml").read_text())["network"]["channels"]
    assert f"network.channels={won}" == record["winner"]
    with monkeypatch.context() as patch:
        patch.setattr(cli, "withheld_kind", lambda scan: "views")
        assert command(files, out, "--over", "network.channels=4,6", "--resume") == 2
        assert "select.withheld was rays and is now views" in capsys.readouterr().err
    assert command(files, out, "--over", "network.channels=4,6", "--seed", "1", "--resume") == 2
    assert "select.seed was 0 and is now 1" in capsys.readouterr().err


def test_overwriting_removes_every_candidate(scan, tmp_path):
    directory = RunDirectory(tmp_path / "run")
    directory.begin(scan, {"select": {"seed": 0}})
    kept = DirectoryKept(directory, scan, {}, pytest.fail)
    settings = Settings.of(BASE)
    kept.checkpoints(settings)
    kept.keep(settings, Score("", torch.zeros(3).double()))
    assert kept.recall(settings) is not None
    directory.begin(scan, {"select": {"seed": 0}}, overwrite=True)
    assert kept.recall(settings) is None
    assert {path.name for path in directory.path.iterdir()} == {"settings.yaml", "input.json"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--over", "network.chanels=2,4"], "nearest: 'network.channels'"),
        (["--over", "netwrok.channels=2,4"], "nearest: 'network'"),
        (["--over", "network.channels=two,4"], "must be a whole number, got 'two'"),
        (["--over", "network.channels"], "section.key=value,value"),
        (["--over", "network.channels=[,"], "cannot be read"),
        (["--over", "scan.view_step=1,2"], "the same scan"),
        (["--over", "network.channels=4"], "at least two"),
        (["--over", "network.channels=4,4"], "at least two"),
        (["--over", "network.channels=2,4", "--over", "network.channels=6"], "given twice"),
        (["--over", f"dip.seed={','.join(map(str, range(101)))}"], "at most 100"),
        (["--over", "dip.tv_weight=-1,1"], "non-negative tv_weight"),
        (["--candidates", "none.yaml"], "does not exist"),
        (["--candidates", "x.yaml", "--over", "network.channels=2,4"], "not allowed with"),
        (["--over", "calibration.share=0.1,0.2"], "without a calibration check"),
        (["--check-calibration"], "--check-calibration is for pdip reconstruct"),
        (["--calibration.share=0.3"], "--calibration.share is for pdip reconstruct"),
        (["--slices", "0:2"], "name it with --row"),
        (["--overr", "network.channels=2,4"], "nearest: '--over'"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_sentence_exit_2_and_no_folder(
    files, tmp_path, capsys, arguments, words
):
    assert command(files, tmp_path / "run", *arguments) == 2
    last = capsys.readouterr().err.replace("\r", "\n").splitlines()[-1]
    assert last.startswith("pdip: ") and words in last
    assert not (tmp_path / "run").exists()


def test_settings_of_the_check_make_no_other_candidate():
    one, other = Settings(), Settings(calibration={"share": 0.4})
    assert identity(one) == identity(other) != identity(Settings(dip={"seed": 1}))


def test_the_help_of_select_offers_no_check(capsys):
    assert cli.main(["select", "--help"]) == 0
    assert "calibration" not in capsys.readouterr().out


def test_the_help_of_select_offers_one_slice_and_not_several(capsys):
    assert cli.main(["select", "--help"]) == 0
    told = capsys.readouterr().out
    assert "--row " in told
    assert not any(name in told for name in ("--slices", "--rows", "--scan.slices"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- {calibration: {share: 0.1}}", "without a calibration check"),
        ("network: {channels: 4}", "must hold a list"),
        ("- 7", "candidate 1 in c.yaml must hold sections"),
        ("- network: {chanels: 4}", "nearest: 'network.channels'"),
        ("- netwrok: {channels: 4}", "nearest: 'network'"),
        ("- {name: a}\n- {name: a, dip: {seed: 1}}", "two candidates in c.yaml are called 'a'"),
        ("- [", "not valid YAML"),
    ],
)
def test_unusable_candidate_files_are_refused(tmp_path, text, words):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        read_candidates(tmp_path / "c.yaml")


def test_candidates_come_from_file_grid_or_the_usual_set(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "- name: small\n  network: {channels: 8}\n-\n- dip: {tv_weight: 1e-3}\n"
    )
    assert list(read_candidates(tmp_path / "c.yaml")) == [
        "small", "as given", "dip.tv_weight=0.001",
    ]  # fmt: skip
    found = grid(["network.channels=8,16", "evidence.hyperprior=null,{name: tv_predcp, rate: 2}"])
    assert len(found) == 4
    assert found["network.channels=8 evidence.hyperprior=null"]["evidence"]["hyperprior"] is None

    class Command:
        candidates = over = None

    usual = candidates_of(Command, {"network": {"channels": 16}})
    assert list(usual) == [name for name in USUAL if name != "narrow network"]
    assert all(settings.network["channels"] == 16 for settings in usual.values())


def test_a_stack_needs_the_name_of_one_slice(scan, tmp_path, capsys, monkeypatch):
    np.savez(
        tmp_path / "stack.npz", sinogram=np.stack([scan.sinogram.numpy()] * 3),
        geometry="parallel", angles_deg=np.array(scan.geometry.angles_deg), det_pixel_mm=1.0,
        cor=6.0, image_shape=np.array([8, 8]), pixel_mm=1.0,
    )  # fmt: skip
    arguments = [
        "select", "--sinogram", str(tmp_path / "stack.npz"), "--out", str(tmp_path / "run"),
        "--over", "network.channels=2,4",
    ]  # fmt: skip
    assert cli.main(arguments) == 2
    assert "one slice" in capsys.readouterr().err
    score = Score("", torch.zeros(18).double())
    monkeypatch.setattr(selection, "score_of", lambda scan, held_out, *rest: score)
    assert cli.main([*arguments, "--row", "1"]) == 0
