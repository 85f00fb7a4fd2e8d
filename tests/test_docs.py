"""The docs build without a warning, and their commands and Python name things that exist."""

import argparse
import ast
import importlib
import inspect
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from functools import reduce
from pathlib import Path

import pytest
import torch.distributed.run
import yaml

import pdip
from pdip.arguments import parsed
from pdip.candidates import candidates_of
from pdip.commands import COMMANDS, resume
from pdip.config import SECTIONS, section_keywords, settings_of
from pdip.errors import InputError
from pdip.settings import Settings

ROOT = Path(__file__).parents[1]
MADE = {"_build", "drawn", "notebooks"}
"""Folders in docs/ that the build writes."""
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "data" / "README.md",
    ROOT / "experiments" / "README.md",
    *(p for p in sorted((ROOT / "docs").rglob("*.md")) if not MADE & set(p.parts)),
]
EACH_PAGE = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
ELSEWHERE = {".", "jupytext", "ruff", "pip"}
"""Programs of others, whose arguments are theirs."""


def blocks(page: Path, language: str) -> list[str]:
    """The text of the fenced blocks of one language; those in a list are indented."""
    fences = re.findall(
        rf"^( *)```{language}\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL
    )
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in fences]


def command_lines(page: Path) -> list[list[str]]:
    """The words of every command in the page's sh blocks, and of whole ones in its text."""
    found = []
    for text in blocks(page, "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while "&&" in words:
                found.append(words[: words.index("&&")])
                words = words[words.index("&&") + 1 :]
            found += [words] if words else []
    return found + [shlex.split(code) for code in whole_commands(page)]


def whole_commands(page: Path) -> list[str]:
    """Commands in code of a sentence or a table; experiments are named there by their file."""
    codes = re.findall(r"`([^`\n]+)`", page.read_text())
    ours = {path.name for path in (ROOT / "experiments").glob("*.py")}
    found = [code for code in codes if re.match(r"python \S+\.py ", code)]
    return found + [f"python experiments/{code}" for code in codes if code.split(" ")[0] in ours]


def check_command(words: list[str], monkeypatch) -> None:
    """Let the program's own parser read its arguments; nothing is computed."""
    program, *rest = words
    if program == "srun":
        program, *rest = rest
    if program == "torchrun":
        given = torch.distributed.run.get_args_parser().parse_args(rest)
        program, rest = "python", [given.training_script, *given.training_script_args]
    if program == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert set(rest) <= set(targets)
    elif program == "pdip":
        check_pdip(rest)
    elif program == "python" and rest[0] == "reconstruct.py":
        check_pdip(["reconstruct", *rest[1:]])
    elif program == "python":
        check_script(rest, monkeypatch)
    else:
        assert program in ELSEWHERE, f"no parser is known for {program!r}"


def check_pdip(arguments: list[str]) -> None:
    """Parse the command and check the values of all its settings."""
    others = {"resume": resume, **COMMANDS}
    names = ("reconstruct", "select", "roi", *others)
    try:
        command = parsed(arguments, dict.fromkeys(names, check_pdip), others)
    except SystemExit as leaving:  # --help
        assert leaving.code == 0
        return
    if command.command not in ("reconstruct", "validate", "select"):
        return
    given = command.config or []  # those in runs/ are what an earlier command of the page writes
    command.config = [path for path in given if not path.startswith("runs/")]
    sections = settings_of(command)
    sections.pop("scan")
    Settings.of(sections)
    if command.command == "select":
        candidates_of(command, sections)


class Parsed(BaseException):
    """Thrown where a script has read its command line."""


def check_script(words: list[str], monkeypatch) -> None:
    """Run a script up to where its arguments are read."""
    read = argparse.ArgumentParser.parse_args

    def stop(parser, *arguments):
        read(parser, *arguments)
        raise Parsed

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stop)
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(Parsed):
        runpy.run_path(str(ROOT / words[0]), run_name="__main__")


@pytest.mark.slow
@EACH_PAGE
def test_commands_parse(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for words in command_lines(page):
        with monkeypatch.context() as patch:
            check_command(words, patch)


@pytest.mark.parametrize(
    "line",
    [
        "pdip reconstruct --sinogram s.npy --view-stop 3",
        "python reconstruct.py --sinogram s.npy --dip.restarts many",
        "pdip select --sinogram s.npy --over network.chanels=16,32",
        "torchrun --nproc-per-nobody 2 reconstruct.py --sinogram s.npy",
        "python experiments/tarp.py --cuont 20",
        "make test tset",
        "pdip roi runs/mine --bux 1:2,3:4",
        "pdip exprot runs/mine",
        "pdipp reconstruct",
    ],
)
def test_a_wrong_command_is_seen(line, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises((InputError, AssertionError, SystemExit)):
        check_command(shlex.split(line), monkeypatch)


def resolved(name: str):
    """The public thing of a dotted name that begins with pdip.

    Raises:
        AttributeError: there is none, or it is not public.
    """
    thing = pdip
    for place, part in enumerate(name.split(".")[1:]):
        if part.startswith("_"):
            raise AttributeError(f"{name} is not public")
        path = ".".join(name.split(".")[: place + 2])
        if inspect.ismodule(thing) and not hasattr(thing, part):
            try:
                importlib.import_module(path)
            except ModuleNotFoundError:
                raise AttributeError(f"{path} does not exist") from None
        thing = getattr(thing, part)
    return thing


def check_python(text: str, known: dict) -> None:
    """Compile; resolve what is imported from pdip and the recipes; check keywords of calls.

    Args:
        text: the block.
        known: what the page has imported, by its name there; added to.
    """
    tree = ast.parse(text)
    compile(tree, "block", "exec")
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            ours = [alias.name for alias in node.names if alias.name.split(".")[0] == "pdip"]
            known |= {name: resolved(name) for name in ours}
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in ("pdip", "recipes"):
            own = node.module.startswith("recipes")
            for alias in node.names:
                if own:
                    known[alias.name] = getattr(importlib.import_module(node.module), alias.name)
                else:
                    known[alias.name] = resolved(f"{node.module}.{alias.name}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and chain(node).split(".")[0] == "pdip":
            resolved(chain(node))
        if isinstance(node, ast.Call):
            thing = called(node, known)
            if thing is not None:
                check_keywords(thing, [word.arg for word in node.keywords])


def chain(node: ast.expr) -> str:
    """``a.b.c`` of nested attributes, empty where they do not begin with a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (start := chain(node.value)):
        return f"{start}.{node.attr}"
    return ""


def called(call: ast.Call, known: dict):
    """What a call calls, where that was imported from pdip; None elsewhere."""
    first, *rest = chain(call.func).split(".")
    return reduce(getattr, rest, known[first]) if first in known else None


def check_keywords(thing, words: list[str | None]) -> None:
    parameters = inspect.signature(thing).parameters.values()
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters):
        assert set(words) <= {p.name for p in parameters}, f"{thing} has other keywords"


@EACH_PAGE
def test_python_names_public_things(page, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    known = {}
    for text in blocks(page, "python"):
        check_python(text, known)


@pytest.mark.parametrize(
    "text",
    [
        "import pdip\npdip.read_scann('x')",
        "import pdip\npdip.reconstruct(1, setings={})",
        "from pdip.solvers import Choleski",
        "from pdip.dip.stopping import _Stopping",
        "def broken(:",
    ],
)
def test_wrong_python_is_seen(text):
    with pytest.raises((AttributeError, AssertionError, SyntaxError)):
        check_python(text, {})


@EACH_PAGE
def test_names_in_the_text_exist(page):
    """``pdip.x.y`` and ``--section.key`` in code of a sentence."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`\n]+)`", text):
        for name in re.findall(r"\bpdip(?:\.[a-zA-Z_]\w*)+", code):
            if name not in ("pdip.NAME", "pdip.cli"):
                resolved(name)
        for section, key in re.findall(r"--([a-z]+)\.([a-z_]+)", code):
            assert section in SECTIONS and key in section_keywords(section), code


@EACH_PAGE
def test_files_that_are_linked_exist(page):
    if (ROOT / "docs") in page.parents:
        return  # the build checks these
    for target in re.findall(r"\]\((?!\w+:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_citation_is_that_of_the_package():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert cited["authors"] == project["authors"]
    assert (cited["version"], cited["license"]) == (pdip.__version__, project["license"])
    assert f"## {pdip.__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.slow
def test_docs_build_without_warnings(tmp_path):
    pytest.importorskip("sphinx", reason="the docs need: pip install -e '.[docs]'")
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "doctrees",
         ROOT / "docs", tmp_path / "html"],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert (built.returncode, built.stderr) == (0, "")
    formulas = (tmp_path / "html" / "mathematics.html").read_text()
    assert formulas.count("<math") > 30
    for page in (tmp_path / "html").rglob("*.html"):
        outside = re.findall(
            r"<(?:script|link)[^>]*(?:src|href)=\"(https?:[^\"]+)", page.read_text()
        )
        assert not outside, f"{page.name} needs a network for {outside}"


def tables():
    return runpy.run_path(str(ROOT / "docs" / "tables.py"))


def test_tables_of_the_results_are_those_of_their_numbers():
    page, made = ROOT / "docs" / "results.md", tables()
    text, numbers = page.read_text(), made["measured"]()
    assert text.count("<!-- table: ") == len(made["MARKED"].findall(text)) > 5
    assert made["written"](text, numbers) == text
    numbers[made["METHODS"]][0]["crps"][0] += 1
    assert made["written"](text, numbers) != text


def test_new_rows_become_means_and_paired_counts():
    scores = {key: 0.5 for key in ("nll_per_pixel.patch_1", "coverage_95", "crps", "energy_score",
                                   "ause", "psnr")}  # fmt: skip
    rows = [
        {"noise": 0.1, "views": 7, "method": method, "image": image} | scores
        | {"log_likelihood_per_pixel": value, "coverage_95": 0.9 + 0.01 * image}
        for method, values in {"pdip": (1.0, 2.0, 6.0), "other": (0.5, 3.0, 5.0)}.items()
        for image, value in enumerate(values)
    ]  # fmt: skip
    summarised, methods = tables()["summarised"], tables()["methods_table"]
    ours, other = summarised(rows)
    assert (other["better"], other["images"], other["marginal"]) == (2, 3, [-0.5, 0.0])
    assert ours["log_likelihood_per_pixel"] == [3.0, 1.528]  # √(14 / 3 / 2) of 3 images
    assert ours["coverage_range"] == pytest.approx([0.9, 0.92])
    _, _, first, second = methods([other, ours], "0.1", "7").splitlines()
    assert first.startswith("| **`pdip`** | 3 | 3.00 ± 1.53 |  | -0.50") and "2 of 3" in second
    with pytest.raises(ValueError, match="not every method has every image"):
        summarised(rows[1:])
    failed = {"noise": 0.1, "views": 7, "method": "pdip", "image": 0, "failure": "no"}
    with pytest.raises(ValueError, match="noise 0.1, views 7, method pdip, image 0: no"):
        summarised([failed, *rows[1:]])


def test_the_benchmarks_table_counts_the_search_alone():
    passes = {"jvp": 3, "vjp": 4}
    stages = [{"name": name, "passes": passes} for name in ("fit", "linearise", "evidence")]
    ratios = {"name": "CG", "standard_over_ours": {"1500": 24.6, "3000": 50.0}}
    one = {"problem": "28x28", "rays": 820, "combinations": None, "search_seconds": 11.4,
           "stages": stages, "standard": [ratios]}  # fmt: skip
    head, _, row = tables()["search_table"]({"problems": [one]}).splitlines()
    assert head.endswith("ours | CG |")
    assert row == "| 28 x 28 | 820, all | 14 | 11 s | 25 to 50 times as long |"
