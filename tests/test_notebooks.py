"""Every notebook is the same in both forms, runs, defines no functions, and shows figures."""

import ast
from pathlib import Path

import jupytext
import pytest
import torch
from nbclient import NotebookClient

from pdip.baselines import gaussian
from pdip.errors import InputError
from pdip.posterior import SavedPosterior
from pdip.report.viewer import Viewer
from pdip.report.words import plus_minus
from pdip.scan import ImageGrid

# ipympl 0.10.0 makes its toolbar in a way that traitlets will refuse one day.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:Passing unrecognized arguments to super\(Toolbar\):DeprecationWarning"
)
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
def test_both_forms_of_a_notebook_hold_the_same_cells(path):
    pair = [jupytext.read(path.with_suffix(suffix)) for suffix in (".py", ".ipynb")]
    text, notebook = [[(cell.cell_type, cell.source) for cell in form.cells] for form in pair]
    assert text == notebook, "run: jupytext --sync experiments/notebooks/*.py"
    assert {form.metadata.jupytext.formats for form in pair} == {"ipynb,py:percent"}


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


def correlated(seed: int) -> SavedPosterior:
    """Of 6 x 8 pixels, each correlated with each."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(6, 8, generator=generator)
    root = torch.randn(48, 60, generator=generator).double()
    covariance = root @ root.mT
    std = covariance.diagonal().sqrt().reshape(6, 8)
    return SavedPosterior({"image": image, "mean": image, "std": std, "covariance": covariance})


@pytest.fixture
def stack():
    """Three slices without a truth."""
    return Viewer([correlated(seed) for seed in range(3)], ImageGrid((6, 8), 0.5))


def mouse(viewer, what, row, column, *, panel=0, button=0):
    """What the browser sends with the mouse at the centre of that pixel, which may lie outside."""
    height, width = viewer.grid.shape
    pixel = viewer.grid.pixel_mm
    place = ((column - (width - 1) / 2) * pixel, ((height - 1) / 2 - row) * pixel)
    x, y = viewer.figure.axes[panel].transData.transform(place)
    y = viewer.picture.get_renderer().height - y
    viewer.picture.handle_event(
        {"type": what, "x": x, "y": y, "button": button, "buttons": 0, "modifiers": []}
    )


def drag(viewer, start, *ends, panel=0):
    mouse(viewer, "button_press", *start, panel=panel)
    for end in ends:
        mouse(viewer, "motion_notify", *end, panel=panel)
    mouse(viewer, "button_release", *ends[-1], panel=panel)


def said(posterior, rows, columns) -> str:
    """Mean ± std of a box from the covariance by hand."""
    inside = torch.zeros_like(posterior.image).bool()
    inside[rows, columns] = True
    mean = posterior.image[inside].mean()
    std = posterior.covariance(inside).mean().sqrt()  # 1ᵀ C 1 / n²
    return f"{plus_minus(float(mean), float(std))} 1/mm"


def test_viewer_says_mean_and_std_of_its_box(viewer):
    viewer.rows.value, viewer.columns.value = (2, 5), (0, 1)
    mean, std = viewer.box_mean()
    assert mean == 0
    assert std == pytest.approx((4 * 4 + 4 * 1) ** 0.5 / 8, rel=1e-6)
    assert f"± {std:.2g} 1/mm" in viewer.sentence.value


def test_viewer_marks_pixels_beyond_its_threshold(viewer):
    assert "12.5% of the pixels lie beyond 1.96" in viewer.sentence.value
    panel = viewer.figure.axes[2]
    assert panel.images[0].get_array()[0].data == pytest.approx(4.5 / 2 - 1.96)
    viewer.threshold.value = 2.4
    assert " 0.0% of the pixels" in viewer.sentence.value
    assert panel.get_title() == "|error| / std > 2.40"
    assert not panel.images[0].get_array().any()


@pytest.mark.slow
@pytest.mark.parametrize("panel", [0, 1])
def test_a_click_says_mean_and_std_of_its_pixel(stack, panel):
    drag(stack, (4, 7), (4, 7), panel=panel)
    truth = said(stack.posteriors[0], slice(4, 5), slice(7, 8))
    assert stack.sentence.value == f"pixel in row 4, column 7: {truth}"


def test_a_drag_within_one_pixel_is_a_click(stack):
    drag(stack, (2, 3), (2.4, 2.6))
    assert "pixel in row 2, column 3:" in stack.sentence.value


@pytest.mark.slow
@pytest.mark.parametrize("start, end", [((1, 2), (3, 6)), ((3, 6), (1, 2)), ((3, 2), (1, 6))])
def test_a_drag_says_mean_and_std_of_its_box_whatever_its_direction(stack, start, end):
    drag(stack, start, (0, 0), end)
    truth = said(stack.posteriors[0], slice(1, 4), slice(2, 7))
    assert stack.sentence.value == f"mean of rows 1 to 3, columns 2 to 6: {truth}"
    for panel in stack.figure.axes[:2]:
        box = panel.patches[0].get_bbox()
        assert box.extents == pytest.approx((-1.0, -0.5, 1.5, 1.0))  # mm: x, y, x, y


@pytest.mark.slow
@pytest.mark.parametrize(
    "end, rows, columns", [((40, 30), (3, 5), (5, 7)), ((-4, -3), (0, 3), (0, 5))]
)
def test_a_box_ends_at_the_border_of_its_panel(stack, end, rows, columns):
    drag(stack, (3, 5), end)
    assert (stack.rows.value, stack.columns.value) == (rows, columns)


def test_the_box_follows_the_mouse_and_its_numbers_wait_for_the_release(stack):
    mouse(stack, "button_press", 1, 2)
    mouse(stack, "motion_notify", 3, 6)
    assert stack.sentence.value == "mean of rows 1 to 3, columns 2 to 6: …"
    mouse(stack, "button_release", 1, 2)
    assert stack.sentence.value.startswith("pixel in row 1, column 2: ")


def test_a_box_ends_where_the_mouse_leaves_the_canvas(stack):
    mouse(stack, "button_press", 1, 2)
    mouse(stack, "figure_leave", 3, 6)
    mouse(stack, "motion_notify", 5, 7)
    truth = said(stack.posteriors[0], slice(1, 4), slice(2, 7))
    assert stack.sentence.value == f"mean of rows 1 to 3, columns 2 to 6: {truth}"


def test_other_uses_of_the_mouse_leave_the_box(stack):
    before = stack.sentence.value
    mouse(stack, "motion_notify", 3, 6)
    mouse(stack, "dblclick", 1, 2)
    mouse(stack, "motion_notify", 3, 6)
    mouse(stack, "button_press", 1, 2, button=2)
    mouse(stack, "button_release", 1, 2, button=2)
    mouse(stack, "button_press", 2.5, -2, panel=1)  # between the panels
    mouse(stack, "motion_notify", 3, 6)
    mouse(stack, "button_release", 3, 6)
    stack.picture.toolbar.zoom()
    drag(stack, (1, 2), (3, 6))
    assert stack.sentence.value == before


def test_the_slice_slider_shows_another_posterior(stack):
    drag(stack, (1, 2), (3, 6))
    stack.slice.value = 2
    posterior = stack.posteriors[2]
    assert stack.sentence.value.endswith(said(posterior, slice(1, 4), slice(2, 7)))
    for panel, shown in zip(stack.figure.axes, (posterior.image, posterior.std()), strict=False):
        assert torch.equal(torch.as_tensor(panel.images[0].get_array().data), shown)


@pytest.mark.slow
def test_slices_have_their_own_truths(stack):
    truths = [p.image + k * p.std() for k, p in enumerate(stack.posteriors, start=1)]
    viewer = Viewer(stack.posteriors, stack.grid, truths)
    assert " 0.0% of the pixels" in viewer.sentence.value
    viewer.slice.value = 1
    assert "100.0% of the pixels" in viewer.sentence.value
    with pytest.raises(InputError, match=r"in all \(3, 6, 8\), got \(2, 6, 8\)"):
        Viewer(stack.posteriors, stack.grid, truths[:2])


@pytest.mark.slow
def test_only_sliders_that_do_something_are_shown(viewer, stack):
    assert viewer.children[0].children == (viewer.rows, viewer.columns, viewer.threshold)
    assert stack.children[0].children == (stack.slice, stack.rows, stack.columns)


@pytest.mark.slow
def test_viewer_without_ipympl_is_a_picture_that_follows_the_sliders(stack, monkeypatch):
    monkeypatch.setattr("pdip.report.viewer.Canvas", None)
    still = Viewer(stack.posteriors, stack.grid)
    before = bytes(still.picture.value)
    still.rows.value = (0, 1)
    assert before.startswith(b"\x89PNG") and still.picture.value != before


def test_viewer_keeps_a_picture_for_where_no_kernel_runs(stack):
    bundle = stack._repr_mimebundle_()
    assert {"image/png", "application/vnd.jupyter.widget-view+json"} <= set(bundle)
