"""What the pages of runs and of stacks share: their frame, their script, and what both say."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from pdip.report import page_tables as tables
from pdip.report import words
from pdip.report.page_viewer import PageViewer, colour_tables, encoded
from pdip.scan import ImageGrid
from pdip.strict_json import strict


def shared(contents) -> dict[str, Any]:
    """What both pages say of a record with title, summary, settings, parts and axis."""
    return {
        "title": contents.title,
        "trust": words.trust_sentence(contents.summary),
        "warnings": words.warnings_of(contents.summary),
        "assumptions": words.assumptions_of(contents.summary),
        "settings": tables.setting_rows(contents.settings),
        "files": tables.file_rows(contents.summary),
        "axis": embedded(contents.axis),
        "versions": tables.version_rows(contents.summary, contents.parts),
    }


def embedded(png: bytes | None) -> str:
    """A PNG as an address that holds it; empty without one."""
    return "" if png is None else f"data:image/png;base64,{b64encode(png).decode()}"


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("pdip.report", "page_files"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def rendered(template: str, data: Mapping[str, Any], **context: Any) -> str:
    """HTML of a template with the style, the script and the script's data."""
    environment = _environment()
    style, script = (
        Markup(environment.loader.get_source(environment, name)[0])
        for name in ("page.css", "viewer.js")
    )
    page = environment.get_template(template)
    return page.render(data=strict(data), style=style, script=script, **context)


def viewed(
    viewers: Sequence[PageViewer], arrays: Mapping[str, np.ndarray | None], grid: ImageGrid
) -> dict[str, Any]:
    """What the script needs of the pictures of a page."""
    return {
        "viewers": [viewer.settings() for viewer in viewers],
        "arrays": {name: encoded(part) for name, part in arrays.items() if part is not None},
        "colours": colour_tables(),
        "pixel_mm": grid.pixel_mm,
    }


def duration(summary: Mapping[str, Any]) -> str:
    """How long all stages took, in words."""
    seconds = sum(cost["seconds"] for cost in summary["stages"].values())
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"
