"""The examples of docstrings: each does what it shows."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in sorted((ROOT / "pdip").rglob("*.py"))
    if ">>> " in path.read_text()
]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_examples_do_what_they_show(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not doctest.testmod(import_module(name)).failed
