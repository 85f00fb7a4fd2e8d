"""Every test that docs/promises.md names is there."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "promises.md"


def rows() -> list[str]:
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return [line for line in lines if not line.startswith("| promised |")]


def test_every_promise_names_tests_that_exist():
    known = {
        f"{path.name}::{node.name}"
        for path in TESTS.glob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    assert len(rows()) > 20
    for row in rows():
        named = re.findall(r"`(test_\w+\.py::\w+)`", row.split("|")[-2])
        assert named and set(named) <= known, row
