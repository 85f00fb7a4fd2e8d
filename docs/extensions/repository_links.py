"""Links in files that are written for the repository, where they are included in a page."""

import re
from pathlib import Path

PAGES = {
    "README.md": "index.md",
    "README.md#notation": "mathematics.md#notation",
    "data/README.md": "formats.md",
    "experiments/README.md": "experiments.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
}
"""File of the repository, or a section of it -> its page; files in docs/ are pages themselves."""
LINK = re.compile(r"\]\((?!\w+:|#)([^)#]+)(#[^)]*)?\)")


def relink(app, relative_path, parent_document, content: list[str]) -> None:
    """Point the links of an included file to pages.

    Raises:
        KeyError: the file that a link names has no page in :data:`PAGES`.
    """
    source = Path(app.srcdir)
    folder = (source / relative_path).resolve().parent

    def page(link: re.Match) -> str:
        target, section = (folder / link[1]).resolve(), link[2] or ""
        if target.is_relative_to(source):
            return f"](/{target.relative_to(source).as_posix()}{section})"
        name = target.relative_to(source.parent).as_posix()
        return f"](/{PAGES.get(name + section) or PAGES[name] + section})"

    if Path(relative_path).suffix == ".md":
        content[0] = LINK.sub(page, content[0])


def setup(app) -> dict:
    app.connect("include-read", relink)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
