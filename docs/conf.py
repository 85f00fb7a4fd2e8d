"""How the pages are built: ``make docs``, or ``sphinx-build -W --keep-going docs OUT``."""

import shutil
import sys
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
sys.path[:0] = [str(ROOT), str(HERE)]  # pdip of this checkout, and the extensions beside this file

# Notebooks have to lie below this folder to become pages.
NOTEBOOKS = HERE / "notebooks"
shutil.rmtree(NOTEBOOKS, ignore_errors=True)
NOTEBOOKS.mkdir()
for notebook in sorted((ROOT / "experiments" / "notebooks").glob("*.ipynb")):
    shutil.copy(notebook, NOTEBOOKS)

project = "pdip"
author = copyright = "pdip authors"
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
    "extensions.command_help",
    "extensions.mathml",
    "extensions.plain_docstrings",
    "extensions.public_names",
    "extensions.repository_links",
    "extensions.run_table",
]
exclude_patterns = ["_build", "pictures", "drawn/*.ipynb"]
html_theme = "furo"
html_title = "pdip"
# A font with the measures that MathML is set by; not every system has one.
html_static_path = ["style.css", str(files("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf")]
html_css_files = ["style.css"]
html_math_renderer = "mathml"

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # a test runs the notebooks; here they are shown as they are stored

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_attr_annotations = False  # shapes and units stand in the text

sphinx_gallery_conf = {
    "examples_dirs": "pictures",
    "gallery_dirs": "drawn",
    "image_scrapers": ("extensions.figures.scraped",),
    "reset_modules": (),
    "capture_repr": (),
    "min_reported_time": 3600,
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "copyfile_regex": "",
    "write_computation_times": False,
}
