"""``{command-help}``: what ``pdip --help`` and ``pdip NAME --help`` print, for every command."""

import contextlib
import io
import os

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from pdip.arguments import GROUPS
from pdip.cli import answered

COLUMNS = "100"


class CommandHelp(SphinxDirective):
    """The list of commands, and a section for each, in the order of the list."""

    def run(self) -> list[nodes.Node]:
        names = [name for group in GROUPS.values() for name in group]
        return [block(printed("--help")), *map(section, names)]


def section(name: str) -> nodes.section:
    """A section of one command."""
    title = f"pdip {name}"
    return nodes.section("", nodes.title(text=title), block(printed(name, "--help")),
                         ids=[f"pdip-{name}"], names=[title])  # fmt: skip


def block(text: str) -> nodes.literal_block:
    """Text as it was printed."""
    return nodes.literal_block(text, text, language="text")


def printed(*arguments: str) -> str:
    """What the command line prints, on a terminal of a width that does not depend on this one."""
    text, before = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = COLUMNS
    try:
        with contextlib.redirect_stdout(text):
            answered([*arguments])
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)
    return text.getvalue()


def setup(app) -> dict:
    app.add_directive("command-help", CommandHelp)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
