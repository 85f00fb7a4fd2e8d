"""The experiments on views and real scans run in their quick form, and find their rows again."""

import json
import runpy
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["angle_selection", "limited_angle", "real_scans"])
def test_quick_form_writes_rows_and_figure_once(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [name, "--quick"])
    runpy.run_path(str(EXPERIMENTS / f"{name}.py"), run_name="__main__")
    path = tmp_path / "runs" / "quick" / f"{name}.jsonl"
    rows = path.read_text()
    assert all(json.loads(line) for line in rows.splitlines())
    assert path.with_suffix(".png").stat().st_size > 5000
    runpy.run_path(str(EXPERIMENTS / f"{name}.py"), run_name="__main__")
    assert path.read_text() == rows
