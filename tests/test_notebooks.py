"""Every notebook runs from its text form, defines no functions, and shows figures."""

import ast
from pathlib import Path

import jupytext
import pytest
import torch
from nbclient import NotebookClient

from pdip.baselines import gaussian
from pdip.report.viewer import Viewer
from pdip.scan import ImageGrid

NOTEBOOKS = sorted((Path(__file__).parents[1] / "experiments" / "notebooks").glob("*.py"))


def named(path: Path) -> str:
    return path.stem


@pytest.mark.slow
# Its messaging layers warn of their own event loops and sockets.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebook_runs_in_its_quick_form(path, monkeypatch):
    monkeypatch.setenv("PDIP_QUICK", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    notebook = jupytext.read(path)
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=600, startup_timeout=300, resources=resources).execute()
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    assert any("image/png" in out.get("data", ()) for out in outputs)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_notebooks_define_no_functions(path):
    defining = (ast.FunctionDef, ast.Lambda, ast.ClassDef)
    assert not any(isinstance(node, defining) for node in ast.walk(ast.parse(path.read_text())))


@pytest.fixture
def viewer():
    """A posterior with std 2 in the upper and 1 in the lower half, correlated nowhere."""
    image = torch.zeros(8, 8)
    variance = torch.ones(8, 8).double()
    variance[:4] = 4.0
    posterior = gaussian(image, variance.flatten(), 1e-6)
    truth = torch.zeros(8, 8)
    truth[0] = 4.5
    return Viewer(posterior, ImageGrid((8, 8), 0.5), truth)


def test_viewer_says_mean_and_std_of_its_box(viewer):
    viewer.rows.value, viewer.columns.value = (2, 5), (0, 1)
    mean, std = viewer.box_mean()
    assert mean == 0
    assert std == pytest.approx((4 * 4 + 4 * 1) ** 0.5 / 8, rel=1e-6)
    assert f"± {std:.2g} 1/mm" in viewer.sentence.value


def test_viewer_marks_pixels_beyond_its_threshold(viewer):
    assert "12.5% of the pixels lie beyond 1.96" in viewer.sentence.value
    before = viewer.picture.value
    viewer.threshold.value = 2.4
    assert " 0.0% of the pixels" in viewer.sentence.value
    assert viewer.picture.value != before
