"""Help, version and completion of the command line, as a shell shows them."""

import re
import shlex
import shutil
import subprocess

import pytest

import pdip
from pdip import cli
from pdip.arguments import GROUPS, OWN, parsed
from pdip.commands import COMMANDS, resume

ALL = {"resume": resume, **COMMANDS}
NAMES = (*OWN, *ALL)


def said(capsys, *arguments) -> str:
    assert cli.main(list(arguments)) == 0
    return capsys.readouterr().out


def test_help_lists_every_command_once_in_a_group(capsys):
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(NAMES)
    out = said(capsys, "--help")
    assert re.findall(r"^  (\w+) ", out, re.MULTILINE) == listed
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("name", NAMES)
def test_the_help_of_a_command_ends_with_an_example_that_parses(name, capsys):
    example = said(capsys, name, "--help").rstrip().splitlines()[-1].strip()
    words = shlex.split(example.removeprefix('eval "$(').removesuffix(')"'))
    assert words[:2] == ["pdip", name]
    command = parsed(words[1:], dict.fromkeys(NAMES, print), ALL)
    assert command.command == name


def test_version_is_the_packages(capsys):
    assert said(capsys, "--version") == f"pdip {pdip.__version__}\n"


def completed(script, folder, *words) -> set[str]:
    """What bash offers for the last word, with the script sourced by nothing but bash."""
    line = " ".join(map(shlex.quote, words))
    asked = (
        f"source {script}; complete -p pdip >/dev/null || exit 3; "
        f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _shtab_pdip; "
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    bash = ["bash", "--norc", "--noprofile", "-c", asked]
    run = subprocess.run(bash, capture_output=True, text=True, cwd=folder, check=True)
    assert run.stderr == ""
    return set(run.stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not on this machine")
def test_bash_completes_commands_options_words_and_files(tmp_path, capsys):
    pytest.importorskip("shtab")
    script, folder = tmp_path / "pdip.bash", tmp_path / "here"
    folder.mkdir()
    (folder / "scan.npz").touch()
    (folder / "runs").mkdir()
    script.write_text(said(capsys, "completion", "bash"))
    assert completed(script, folder, "pdip", "re") == {"reconstruct", "resume", "report"}
    options = completed(script, folder, "pdip", "reconstruct", "--dip.")
    assert {"--dip.max_steps", "--dip.restarts"} <= options
    assert completed(script, folder, "pdip", "simulate", "--beam", "f") == {"fan"}
    assert completed(script, folder, "pdip", "info", "sc") == {"scan.npz"}
    assert completed(script, folder, "pdip", "reconstruct", "--sinogram", "sc") == {"scan.npz"}
    assert {word.rstrip("/") for word in completed(script, folder, "pdip", "roi", "")} == {"runs"}


@pytest.mark.parametrize("shell, begins", [("zsh", "#compdef pdip"), ("fish", "#")])
def test_other_shells_have_every_command(shell, begins, capsys):
    pytest.importorskip("shtab")
    script = said(capsys, "completion", shell)
    assert script.startswith(begins) and all(name in script for name in NAMES)


def test_completion_without_its_package_is_refused_in_a_sentence(capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "shtab", None)
    assert cli.main(["completion", "bash"]) == 2
    assert "pip install shtab" in capsys.readouterr().err
