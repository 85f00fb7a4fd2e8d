"""``{public-names}``: every name of ``pdip.__all__`` in its order, with what it is, linked."""

import inspect
import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.util.docutils import SphinxDirective

import pdip

ROOMS = ("scan", "ray", "dip", "linearised", "solvers", "evidence", "posterior", "calibration",
         "report")  # fmt: skip

ROLE = re.compile(r":\w+:`~?(?:\w+\.)*(\w+)`")


class PublicNames(SphinxDirective):
    """A table; a name that no page documents is a warning, and warnings end the build."""

    def run(self) -> list[nodes.Node]:
        body = nodes.tbody()
        for name in pdip.__all__:
            body += nodes.row("", *map(cell, (self.link(name), told(getattr(pdip, name)))))
        widths = [nodes.colspec(colwidth=width) for width in (30, 70)]
        return [nodes.table("", nodes.tgroup("", *widths, body, cols=2))]

    def link(self, name: str) -> nodes.Node:
        """To the page of the room that the name lives in, or of the whole run."""
        room = getattr(pdip, name).__module__.split(".")[1]
        target = f"pdip.{room}.{name}" if room in ROOMS else f"pdip.{name}"
        code = nodes.literal(text=f"pdip.{name}")
        return pending_xref(
            "", code, refdomain="py", reftype="obj", reftarget=target, refwarn=True,
            refdoc=self.env.docname,
        )  # fmt: skip


def told(thing) -> nodes.Node:
    """The first paragraph of its docstring, code as code."""
    text = " ".join(inspect.getdoc(thing).partition("\n\n")[0].split())
    text = ROLE.sub(r"``\1``", text)
    line = nodes.inline()
    for number, part in enumerate(text.split("``")):
        line += nodes.literal(text=part) if number % 2 else nodes.Text(part)
    return line


def cell(content: nodes.Node) -> nodes.entry:
    """A cell of one paragraph."""
    return nodes.entry("", nodes.paragraph("", "", content))


def setup(app) -> dict:
    app.add_directive("public-names", PublicNames)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
