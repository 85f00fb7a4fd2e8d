"""Settings from YAML, command line and library: one check, one sentence, the nearest key."""

import argparse
import typing
from pathlib import Path

import pytest
from cases import MODELS
from dense_model import build

from pdip import UNet
from pdip.config import OneSentenceParser, add_setting_options, read_sections, settings_of
from pdip.errors import InputError
from pdip.evidence import NetworkWeights, TVPredCP, optimise_evidence
from pdip.linearised import unet_prior
from pdip.settings import STAGES, WORDS, Settings, chosen, keywords


def given(*arguments) -> dict:
    parser = OneSentenceParser(allow_abbrev=False)
    add_setting_options(parser)
    return settings_of(parser.parse_args(list(arguments)))


@pytest.fixture
def yaml_file(tmp_path):
    def write(text: str) -> Path:
        path = tmp_path / "settings.yaml"
        path.write_text(text)
        return path

    return write


def test_defaults_are_those_of_the_signatures():
    resolved = Settings().resolved()
    assert set(resolved) == set(STAGES)
    for section, stage in STAGES.items():
        assert set(resolved[section]) == set(keywords(stage))
    assert resolved["dip"]["max_steps"] == keywords(STAGES["dip"])["max_steps"].default


def test_command_line_wins_over_file_and_file_over_default(yaml_file):
    path = yaml_file("dip:\n  tv_weight: 1e-3\n  max_steps: 77\n")
    sections = given("--config", str(path), "--dip.tv_weight", "2e-4")
    assert sections["dip"] == {"tv_weight": 2e-4, "max_steps": 77}
    assert Settings.of({"dip": sections["dip"]}).resolved()["dip"]["stop"] == "discrepancy"


def test_of_several_files_a_key_is_that_of_the_last_that_has_it(yaml_file, tmp_path):
    first = yaml_file("dip:\n  tv_weight: 1e-3\n  max_steps: 77\nscan:\n  view_step: 3\n")
    second = tmp_path / "second.yaml"
    second.write_text("dip:\n  max_steps: 5\n")
    sections = given("--config", str(first), "--config", str(second))
    assert sections["dip"] == {"tv_weight": 1e-3, "max_steps": 5}
    assert sections["scan"] == {"view_step": 3}
    assert given("--config", str(second), "--config", str(first))["dip"]["max_steps"] == 77


def test_short_options_are_names_for_keys_and_the_long_ones_win():
    sections = given("--seed", "3", "--noise-std", "0.1", "--view-step", "2", "--dip.seed", "5")
    assert sections["dip"] == {"seed": 5, "noise_std": 0.1}
    assert sections["scan"] == {"view_step": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("dip:\n  tv_wieght: 1\n", "nearest: 'dip.tv_weight'"),
        ("evidance:\n  objective: profile\n", "nearest: 'evidence'"),
        ("scan:\n  view_stp: 2\n", "nearest: 'scan.view_step'"),
        ("scan:\n  geometry: g.yaml\n", "--geometry"),
        ("evidence:\n  objective: netwerk\n", "must be one of network_weights"),
        ("evidence:\n  hyperprior: {name: tv_predcp, rat: 2}\n", "rate"),
        ("evidence:\n  hyperprior: [1, 2]\n", "must be one of tv_predcp"),
        ("dip:\n  tv_weight: much\n", "dip.tv_weight must be a finite number or null"),
        ("dip:\n  tv_weight: .nan\n", "dip.tv_weight must be a finite number"),
        ("dip:\n  max_steps: 1.5\n", "dip.max_steps must be a whole number"),
        ("dip:\n  max_steps: yes\n", "dip.max_steps must be a whole number"),
        ("dip:\n  max_steps: 2024-01-01\n", "dip.max_steps must be a whole number"),
        ("dip:\n  max_steps: 0\n", "at least one step"),
        ("dip:\n  noise_std: -1\n", "positive noise_std"),
        ("evidence:\n  solver: {name: projected, rounds: 0}\n", "rounds=0"),
        ("network:\n  skip_channels: [4, x]\n", "network.skip_channels"),
        ("dip: 3\n", "'dip' must hold lines"),
        ("3\n", "sections such as 'dip:', got a single value"),
        ("[]\n", "sections such as 'dip:', got a list"),
        ("noise_std: 1\n", "a key of that name: 'dip.noise_std'"),
        ("solver: cg\n", "a key of that name: 'evidence.solver'"),
        ("dip: [unclosed\n", "not valid YAML"),
        ("dip:\n  seed: 1\n  seed: 2\n", "settings.yaml: 'seed' is given twice, again in line 3"),
        ("dip: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
    ],
)
def test_unusable_settings_are_refused_in_one_sentence(yaml_file, text, words):
    with pytest.raises(InputError) as refused:
        sections = read_sections(yaml_file(text))
        sections.pop("scan")
        Settings.of(sections)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_an_empty_file_and_an_empty_section_are_defaults(yaml_file):
    for text in ("", "dip:\n"):
        assert not any(read_sections(yaml_file(text)).values())


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_sections(tmp_path / "none.yaml")


@pytest.mark.parametrize("value", ["1e-3", "1E-3", ".001", "0.001"])
def test_numbers_are_read_as_people_write_them(value):
    assert given("--dip.tv_weight", value)["dip"]["tv_weight"] == pytest.approx(1e-3)


def test_wrong_value_on_the_command_line_names_the_option():
    with pytest.raises(InputError, match="--noise-std must be a finite number"):
        given("--noise-std", "loud")
    with pytest.raises(InputError, match="--dip.max_steps must be a whole number"):
        given("--dip.max_steps", "many")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--rows", "0:2", "--slices", "1:3"], "--slices and --rows"),
        (["--solver", "{name: cg, name: projected}"], "--solver: 'name' is given twice"),
    ],
)
def test_options_that_say_two_things_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        given(*options)


def test_library_settings_are_checked_like_files():
    with pytest.raises(InputError, match="nearest: 'dip.tv_weight'"):
        Settings(dip={"tv_wieght": 1})
    with pytest.raises(InputError, match="unknown section"):
        Settings.of({"dipp": {}})


def settings_of_type(*types) -> list[tuple[str, str]]:
    return [
        (section, key)
        for section, stage in STAGES.items()
        for key, parameter in keywords(stage).items()
        if {parameter.annotation, *typing.get_args(parameter.annotation)} & set(types)
    ]


NOT_ZERO = set(settings_of_type(int, float)) - {
    ("network", "seed"), ("dip", "seed"), ("calibration", "seed"),
    ("network", "skip_channels"), ("dip", "tv_weight"),
}  # fmt: skip


@pytest.mark.parametrize(("section", "key"), settings_of_type(int, float))
def test_numbers_out_of_range_are_refused_before_anything_is_computed(section, key):
    for number in (-1, 0) if (section, key) in NOT_ZERO else (-1,):
        with pytest.raises(InputError, match=key):
            Settings.of({section: {key: number}})


def test_the_stages_themselves_refuse_them():
    with pytest.raises(InputError, match="positive prior variance"):
        unet_prior(UNet(scales=1, channels=2), variance=0.0)
    model, scan, _ = build(MODELS["through"])
    with pytest.raises(InputError, match="max_evaluations of at least 1"):
        optimise_evidence(model, scan, max_evaluations=0)


@pytest.mark.parametrize(
    "choice",
    [
        {"hyperprior": {"name": "tv_predcp", "rate": -1}},
        {"objective": {"name": "linearised_weights", "steps": 0}},
        {"solver": {"name": "projected", "rank": -1}},
    ],
)
def test_numbers_of_a_choice_are_refused_likewise(choice):
    with pytest.raises(InputError, match="expected"):
        Settings(evidence=choice)


@pytest.mark.parametrize("value", [["held_out"], {"name": "held_out"}, 3])
@pytest.mark.parametrize(("section", "key"), [w for w in WORDS if w[0] != "scan"])
def test_what_is_no_word_is_refused_where_a_word_belongs(section, key, value):
    with pytest.raises(InputError, match=f"{section}.{key} must be one of"):
        Settings.of({section: {key: value}})


def test_settings_survive_the_round_trip_through_plain_data():
    settings = Settings(dip={"max_steps": 9}, evidence={"hyperprior": "tv_predcp"})
    again = Settings.of(settings.resolved())
    assert again.resolved() == settings.resolved()
    assert "image_scale" not in again.network  # what is null is still chosen from the data


def test_choices_by_name_are_objects_with_their_keywords():
    assert isinstance(chosen("objective", "network_weights"), NetworkWeights)
    assert chosen("hyperprior", {"name": "tv_predcp", "rate": 2.0}) == TVPredCP(rate=2.0)
    assert chosen("hyperprior", "none") is None
    assert chosen("objective", NetworkWeights()) == NetworkWeights()
    assert chosen("objective", "linearised_weights", tv_weight=0.5).tv_weight == 0.5


def test_objects_are_written_as_their_names():
    settings = Settings(evidence={"objective": NetworkWeights(), "hyperprior": TVPredCP(rate=2.0)})
    written = settings.resolved()["evidence"]
    assert written["objective"] == "network_weights"
    assert written["hyperprior"] == {"name": "tv_predcp", "rate": 2.0}
    assert chosen("hyperprior", written["hyperprior"]) == TVPredCP(rate=2.0)


def test_every_setting_has_an_option_with_help():
    parser = argparse.ArgumentParser()
    add_setting_options(parser)
    for section, stage in STAGES.items():
        for key in keywords(stage):
            option = parser._option_string_actions[f"--{section}.{key}"]
            assert len(option.help) > 10
    assert "--dip.tv_weight" in parser.format_help()


def test_a_nugget_needs_an_objective_that_knows_it():
    for objective in ({}, {"objective": "network_weights"}):
        with pytest.raises(InputError, match="--evidence.objective profile or conditional"):
            Settings(linearise={"nugget_std": 0.01}, evidence=objective)
    Settings(linearise={"nugget_std": 0.01}, evidence={"objective": "profile"})
