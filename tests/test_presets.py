"""Every file in configs/ parses, differs from the defaults, says why, and runs."""

from pathlib import Path

import pytest
import yaml

from pdip import cli
from pdip.config import read_sections, resolved_scan
from pdip.settings import Settings

pytestmark = pytest.mark.usefixtures("rough_figures")

FOLDER = Path(__file__).parents[1] / "configs"
PRESETS = sorted(FOLDER.glob("*.yaml"))
ASKED = {"fast", "balanced", "accurate", "parallel_xct", "fan_lab", "low_dose"}
BEAMS = {"fan_lab": ["--beam", "fan", "--source-origin-mm", "50", "--origin-detector-mm", "25"]}
TINY = [
    "--dip.max_steps", "30", "--dip.restarts", "1", "--dip.start", "fbp", "--network.channels", "4",
    "--evidence.max_evaluations", "5",
]  # fmt: skip


def name(path: Path) -> str:
    return path.stem


def resolved(path: Path | None) -> dict:
    sections = {} if path is None else read_sections(path)
    scan = resolved_scan(sections.pop("scan", {}))
    return {"scan": scan, **Settings.of(sections).resolved()}


def test_the_uses_that_are_promised_are_there():
    assert ASKED <= set(map(name, PRESETS))


@pytest.mark.parametrize("path", PRESETS, ids=name)
def test_every_key_differs_from_the_default_and_says_why(path):
    text, usual, own = path.read_text(), resolved(None), resolved(path)
    assert text.startswith("# ")
    sections = yaml.safe_load(text)
    assert sections
    for section, keys in sections.items():
        assert keys
        for key in keys:
            assert own[section][key] != usual[section][key], f"{section}.{key} is the default"
            (line,) = (line for line in text.splitlines() if line.startswith(f"  {key}:"))
            assert len(line.partition("#")[2].split()) >= 3, line


@pytest.mark.slow
@pytest.mark.parametrize("path", PRESETS, ids=name)
def test_a_preset_reconstructs_a_tiny_scan(path, tmp_path, capsys):
    scan, light = tmp_path / "s.npz", ["--noise", "0.02"]
    if path.stem == "low_dose":
        light = ["--photons", "500", "--attenuation", "0.2"]
    given = ["--phantom", "shepp_logan", "--size", "14", "--views", "24", "--out", str(scan)]
    assert cli.main(["simulate", *given, *light, *BEAMS.get(path.stem, [])]) == 0
    run = ["reconstruct", "--sinogram", str(scan), "--out", str(tmp_path / "run"), *TINY]
    code = cli.main([*run, "--config", str(path)])
    assert code == 0, capsys.readouterr().err
    kept = yaml.safe_load((tmp_path / "run" / "settings.yaml").read_text())
    lowered = {"max_steps", "restarts", "channels", "max_evaluations"}
    for section, keys in yaml.safe_load(path.read_text()).items():
        assert {k: v for k, v in kept[section].items() if k in keys and k not in lowered} == {
            k: v for k, v in keys.items() if k not in lowered
        }
