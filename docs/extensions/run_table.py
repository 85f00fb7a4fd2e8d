"""``{run-table}``: numbers of a run as a table, read from the summary that the run wrote."""

import json
from functools import reduce

from docutils import nodes
from sphinx.util.docutils import SphinxDirective


class RunTable(SphinxDirective):
    """Lines ``label | key.key | format`` of the body become rows; the argument is the JSON file.

    Raises:
        KeyError: the file has no such key.
    """

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        _, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(path)
        with open(path, encoding="utf-8") as file:
            numbers = json.load(file)
        body = nodes.tbody()
        for line in self.content:
            label, where, form = (part.strip() for part in line.split("|"))
            value = reduce(lambda part, key: part[key], where.split("."), numbers)
            body += row(label, format(value, form))
        group = nodes.tgroup("", *[nodes.colspec(colwidth=50) for _ in range(2)], body, cols=2)
        return [nodes.table("", group)]


def row(*cells: str) -> nodes.row:
    """A row of plain texts."""
    return nodes.row("", *[nodes.entry("", nodes.paragraph(text=cell)) for cell in cells])


def setup(app) -> dict:
    app.add_directive("run-table", RunTable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
