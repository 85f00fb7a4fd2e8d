"""Docstrings are plain text: ``θ*`` and ``|error|`` outside of code are no markup."""

import re

CODE = re.compile(r"(``.*?``|:\w+:`[^`]*`)")
MARKUP = re.compile(r"([*|])")


def escape(app, what, name, thing, options, lines: list[str]) -> None:
    """Escape ``*`` and ``|`` outside of code and examples, in place."""
    text, example = "\n".join(lines), False
    out = []
    for line in CODE.sub(lambda code: code[0].replace("\n", "\0"), text).split("\n"):
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        parts = [line] if example else CODE.split(line)
        out.append("".join(part if k % 2 or example else MARKUP.sub(r"\\\1", part)
                           for k, part in enumerate(parts)))  # fmt: skip
    lines[:] = "\n".join(out).replace("\0", "\n").split("\n")


def setup(app) -> dict:
    app.connect("autodoc-process-docstring", escape, priority=400)  # before napoleon, at 500
    return {"parallel_read_safe": True, "parallel_write_safe": True}
