"""Progress for logs: no carriage returns, nothing before there is something to say."""

import io
import time

import pytest

from pdip import cli, terminal
from pdip.terminal import Terminal, say_anything


def progress_of_a_stage(monkeypatch, capsys, interval: float) -> str:
    monkeypatch.setattr(terminal, "SECONDS_BETWEEN_LINES", interval)
    shown = Terminal()
    shown.started("fit")
    for step in range(1, 6):
        time.sleep(0.02)
        shown.progress(step, 5, f"residual {step}")
    shown.close()
    return capsys.readouterr().err


def test_a_log_gets_whole_lines(monkeypatch, capsys):
    err = progress_of_a_stage(monkeypatch, capsys, 0.0)
    assert "\r" not in err and err.endswith("\n")
    assert "80% 4/5" in err and "residual 4" in err


def test_a_short_stage_leaves_no_line_in_a_log(monkeypatch, capsys):
    assert progress_of_a_stage(monkeypatch, capsys, 10.0) == ""


def test_a_terminal_gets_a_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert "\r" in progress_of_a_stage(monkeypatch, capsys, 10.0)


def test_work_between_two_steps_shows(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    shown = Terminal()
    shown.started("evidence")
    shown.progress(0, 300, "")
    for step, text in ((50, "log evidence 9"), (50, "16 combinations of rays tried")):
        time.sleep(0.15)  # longer than the least time between two states of a bar
        shown.progress(step, 300, text)
    shown.close()
    assert "16 combinations" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", "1 +- 0.1, Matern, 2 sigma2 phi x ... ?"),
        ("latin-1", "1 ± 0.1, Matérn, 2 sigma² phi × ... ?"),
        ("utf-8", "1 ± 0.1, Matérn, 2 σ² φ × … 像"),
    ],
)
def test_an_encoding_without_a_character_says_it_in_others(encoding, shown, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", stream)
    say_anything()
    print("1 ± 0.1, Matérn, 2 σ² φ × … 像", end="", flush=True)
    assert stream.buffer.getvalue().decode(encoding) == shown


def test_commands_speak_to_any_encoding(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", stream)
    assert cli.main(["reconstruct", "--help"]) == 0
    stream.flush()
    assert b"sigma of a ray" in stream.buffer.getvalue()
