"""Pictures of the gallery: every figure that a block of an example leaves in a variable."""

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

DOTS_PER_INCH = 110


def scraped(block, block_vars, gallery_conf) -> str:
    """Save the new figures of a block and return the reST that shows them."""
    paths = []
    for name, value in block_vars["example_globals"].items():
        if isinstance(value, Figure) and not value.get_label():
            value.set_label(name)  # shown once
            paths.append(next(block_vars["image_path_iterator"]))
            value.savefig(paths[-1], dpi=DOTS_PER_INCH)
    return figure_rst(paths, gallery_conf["src_dir"])
