"""report.html: what stands in the page, and what its own script says of a pixel in a browser."""

import json
import math
import shutil
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from pdip.calibration.held_out import half_width
from pdip.report import RunContents, VolumeContents, page_volume, run_page, volume_page
from pdip.report.drawings import SHOWN_SPAN, _draw_rotation, _draw_views, draw_geometry
from pdip.report.page_tables import geometry_rows
from pdip.report.words import geometry_sentence, trust_sentence, warnings_of
from pdip.run_report import ray_noise_std, typical_noise_std
from pdip.scan import FanBeam, ImageGrid, ParallelBeam, Scan

HEIGHT, WIDTH = 10, 14
HOSTILE = "<b>x & y</b>"
SUMMARY = {
    "psnr": 31.4, "ssim": 0.9, "relative_l2": 0.1, "log_likelihood_per_pixel": 3.0,
    "log_likelihood_kind": "joint", "coverage_95": 0.93, "noise_std": 0.02,
    "noise_std_by_evidence": 0.021, "log_evidence": 120.0, "stop_reason": "reached the noise level",
    "assumptions": ["the centre of rotation is the middle", "WARNING: the fit is <i>stuck</i>"],
    "warnings": ["a file was damaged"], "mean_std": 0.001, "std_samples": None,
    "solver": {"name": "cholesky", "worst_residual": 1e-15, "converged": True,
               "combinations": None, "left_outside": None},
    "restarts": [{"stop_reason": "reached the noise level", "noise_std": 0.02, "tv_weight": 0.1,
                  "log_evidence": 120.0, "log_evidence_standard_error": 0.0, "gradient_norm": 0.05,
                  "evaluations": 7, "hyperparameters": {"in.log_variance": -2.0}}],
    "plan": {"passes": {"jvp": 1, "vjp": 2}, "seconds": 3.0, "memory_mb": 20.0},
    "stages": {"fit": {"seconds": 2.5, "peak_memory_mb": 300.0, "peak_gpu_memory_mb": None}},
    "source": {"sinogram": HOSTILE, "geometry": None, "ground_truth": None},
    "versions": {"python": "3.11", "torch": "2.13"},
}  # fmt: skip


def contents(**changes) -> RunContents:
    draw = np.random.default_rng(0)
    truth = draw.random((HEIGHT, WIDTH)).astype(np.float32) * 0.02
    residual = draw.normal(0, 0.02, (6, 20)).astype(np.float32)
    residual[2, 3] = np.nan
    ray_noise_std = np.linspace(0.01, 0.03, residual.size, dtype=np.float32).reshape(6, 20)
    ray_noise_std[2, 3] = np.inf
    std = (0.0005 + 0.002 * draw.random((HEIGHT, WIDTH))).astype(np.float32)
    run = RunContents(
        title=HOSTILE,
        image=truth + std * draw.normal(0, 1, truth.shape).astype(np.float32),
        std=std,
        grid=ImageGrid((HEIGHT, WIDTH), 0.5),
        geometry=FanBeam([0.0, 30.0, 60.0, 90.0, 120.0, 150.0], 20, 0.9, 30.0, 20.0),
        residual=residual,
        ray_noise_std=ray_noise_std,
        truth=truth,
        recalibrated=None,
        summary=SUMMARY,
        settings={"dip": {"tv_weight": None, "start": HOSTILE}},
        fits=[{"step": [1, 25, 50], "mean_squared_residual": [0.01, 0.001, 0.0004]}],
        searches=[[-500.0, 90.0, 110.0, 120.0]],
        parts=[{"python": "3.11", "device": "cpu"}],
        calibration=None,
    )
    return replace(run, **changes)


@pytest.fixture(scope="module")
def page() -> str:
    return run_page(contents())


class Elements(HTMLParser):
    """Tags with their attributes, and the text that is neither script nor style."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.text, self.data, self._open = [], [], "", ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("script", "style"):
            self._open = dict(attributes).get("id", tag)

    def handle_endtag(self, tag):
        if tag in ("script", "style"):
            self._open = ""

    def handle_data(self, data):
        if self._open == "page-data":
            self.data += data
        elif not self._open:
            self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def embedded(page: str, name: str) -> np.ndarray:
    return np.frombuffer(b64decode(json.loads(Elements(page).data)["arrays"][name]), "<f4")


def test_the_page_has_every_part_and_refers_to_nothing_outside(page):
    found = Elements(page)
    ids = [attributes["id"] for _, attributes in found.tags if "id" in attributes]
    assert {
        "certainty", "trust", "images", "rays", "geometry", "assumptions", "certificates", "fit",
        "evidence", "hyperparameters", "timings", "settings", "versions",
    } <= set(ids)  # fmt: skip
    assert len(ids) == len(set(ids))
    maps = [attributes.get("data-map") for tag, attributes in found.tags if tag == "figure"]
    assert {"image", "std", "lower", "upper", "truth", "error", "ratio", "residual"} <= set(maps)
    for _, attributes in found.tags:
        for key in ("src", "href"):
            assert attributes.get(key, "#").startswith(("#", "data:"))
    assert "http" not in page.replace("http-equiv", "")
    units = [attributes["data-unit"] for _, attributes in found.tags if "data-unit" in attributes]
    assert all(units)


def test_what_comes_from_files_and_settings_is_text_and_no_markup(page):
    found = Elements(page)
    assert not {"b", "i"} & {tag for tag, _ in found.tags}
    assert found.words.count(HOSTILE) >= 3  # title, settings, files
    assert "The fit is <i>stuck</i>." in found.words


def test_the_arrays_of_the_page_are_those_of_the_run_bit_for_bit(page):
    run = contents()
    for name, values in {
        "image": run.image, "std": run.std, "truth": run.truth, "signed_residual": run.residual,
        "ray_noise_std": run.ray_noise_std,
    }.items():  # fmt: skip
        assert np.array_equal(embedded(page, name), values.ravel(), equal_nan=True)
    assert len(page) < 4 / 3 * 4 * (3 * run.image.size + 2 * run.residual.size) + 150_000


@pytest.mark.slow
def test_without_a_truth_nothing_is_said_of_errors():
    scores = ("psnr", "ssim", "relative_l2", "coverage_95", "log_likelihood_per_pixel")
    run = contents(truth=None, summary=SUMMARY | dict.fromkeys(scores))
    found = Elements(run_page(run))
    maps = {attributes.get("data-map") for tag, attributes in found.tags if tag == "figure"}
    assert not {"truth", "error", "ratio"} & maps and "PSNR" not in found.words
    assert "has not been tested" in found.words and "--check-calibration" in found.words


def test_warnings_stand_apart_from_assumptions(page):
    stopped = SUMMARY | {"solver": SUMMARY["solver"] | {"converged": False}}
    told = warnings_of(stopped)
    assert told[:2] == ["The fit is <i>stuck</i>.", "A file was damaged."] and len(told) == 3
    assert len(warnings_of(SUMMARY)) == 2
    found = Elements(page)
    assert found.words.index("A file was damaged.") < found.words.index("What was assumed")
    assert "The centre of rotation is the middle." in found.words


def test_the_headline_is_the_median_of_the_std(page):
    run, words = contents(), Elements(page).words
    median, most = np.quantile(run.std, (0.5, 0.95))
    assert f"Half of the pixels are known to ± {median:.2g} 1/mm" in words
    assert f"95 % of them to ± {most:.2g} 1/mm" in words


@pytest.mark.slow
def test_bounds_follow_the_withheld_rays_where_there_are_enough():
    for quantile, half in ((2.6, 2.6), (None, half_width(0.95))):
        checked = SUMMARY | {"calibration": checked_summary(quantile)}
        page = run_page(contents(summary=checked))
        assert json.loads(Elements(page).data)["half_width"] == half
        words = Elements(page).words
        assert "Tested on rays that the fit did not see: the bars are fine." in words
        assert "The bars are fine. All was seen." in words


def checked_summary(quantile) -> dict:
    band = {"value": 0.9, "low": 0.8, "high": 1.0, "standard_error": 0.05}
    scores = {"coverage": {"0.95": band}, "chi_squared": band, "nll": band}
    return {
        "verdict": "the bars are fine",
        "grounds": "All was seen.",
        "held_out": {"num_rays": 8, "num_views": 2, "predicted": scores, "noise_only": scores},
        "recalibration": {"conformal": {"quantile": quantile}},
        "whiteness": {"verdict": "noise"},
    }


@pytest.mark.slow
def test_a_recalibrated_std_has_a_picture_of_its_own(page):
    run = contents()
    checked = run_page(replace(run, recalibrated=2 * run.std))
    assert np.array_equal(embedded(checked, "recalibrated"), 2 * run.std.ravel())
    assert 'data-map="recalibrated"' in checked and 'data-map="recalibrated"' not in page


def volume(count: int = 4, missing: int = 2) -> VolumeContents:
    run = contents()
    image = np.stack([run.image * (1 + place) for place in range(count)])
    std = np.stack([run.std * (1 + place) for place in range(count)])
    image[missing] = std[missing] = np.nan
    rows = [
        {"slice": 10 + place, "mean_std": 0.001, "noise_std": 0.02, "log_evidence": 1.0,
         "psnr": None, "converged": True, "seconds": 2.0, "typical_noise_std": 0.02,
         "typical_noise_std_by_evidence": 0.03,
         "stop_reason": "stopped at max_steps=9: under-fitted"}
        for place in range(count)
    ]  # fmt: skip
    rows[missing] = {"slice": 10 + missing, "failure": HOSTILE}
    scores = dict.fromkeys(("psnr", "coverage_95"))
    told = [f"slice {10 + missing} has no result and is NaN in the volumes: {HOSTILE}"]
    return VolumeContents(
        title="stack.npy",
        image=image,
        std=std,
        numbers=[10 + place for place in range(count)],
        links={10 + p: f"slices/{10 + p:04d}/report.html" for p in range(count) if p != missing},
        grid=run.grid,
        summary=SUMMARY
        | scores
        | {"slices": rows, "assumptions": told, "typical_noise_std": 0.0313}
        | {"typical_noise_std_by_evidence": 0.0417},
        settings=run.settings,
        parts=run.parts,
    )


def test_the_page_of_a_stack_leads_to_its_slices_and_names_the_missing_one():
    page = volume_page(volume())
    found = Elements(page)
    links = [attributes["href"] for tag, attributes in found.tags if tag == "a"]
    assert links == [f"slices/{number:04d}/report.html" for number in (10, 11, 13)]
    assert found.words.count(f"no result: {HOSTILE}") == 1
    assert "b" not in {tag for tag, _ in found.tags}
    assert len(embedded(page, "image")) == 4 * HEIGHT * WIDTH
    assert "--resume" not in found.words  # no check is made of a stack


def test_a_large_stack_is_thinned_in_its_page(monkeypatch):
    monkeypatch.setattr(page_volume, "EMBEDDED_BYTES", 3 * 8 * HEIGHT * WIDTH)
    stack = volume(count=9)
    page = volume_page(stack)
    shown = json.loads(Elements(page).data)["viewers"][0]["labels"]
    assert shown == ["11", "14", "17"]
    assert "3 of 9 slices" in Elements(page).words
    assert np.array_equal(embedded(page, "std"), stack.std[[1, 4, 7]].ravel())


@pytest.mark.parametrize(
    "geometry",
    [FanBeam([10.0, 50.0], 20, 0.9, 30.0, 20.0, 1.5), ParallelBeam([10.0, 50.0], 20, 0.9, 1.5)],
    ids=["fan", "parallel"],
)
def test_the_drawn_edge_rays_are_rays_of_the_scan(geometry):
    """A ray at u is the line p . (cos a, sin a) = s; source and detector lie on it."""
    axis = Figure().subplots()
    _draw_views(axis, geometry, 10.0)
    edges = geometry.detector_mm[[0, -1]] + geometry.detector_pitch_mm * np.array([-0.5, 0.5])
    lines = [line.get_xydata() for line in axis.lines[1:]]
    for view, first in ((0, 0), (1, 4)):
        for line, edge in zip(lines[first : first + 2], edges, strict=True):
            angle, distance = geometry.angles_rad[view], edge
            if isinstance(geometry, FanBeam):
                fan = math.atan2(edge, geometry.source_detector_mm)
                angle, distance = angle - fan, geometry.source_origin_mm * math.sin(fan)
            assert np.allclose(line @ [math.cos(angle), math.sin(angle)], distance, atol=1e-9)


def test_a_fan_that_is_drawn_shorter_is_as_wide_at_the_axis():
    crossings = []
    for most in (10.0, 1e3):  # the second draws every distance as it is
        axis = Figure().subplots()
        _draw_views(axis, FanBeam([0.0], 20, 0.9, 300.0, 200.0, 1.5), most)
        ends = [line.get_xydata() for line in axis.lines[1:3]]
        crossings.append([np.interp(0.0, *line.T[::-1]) for line in ends])
        assert np.abs(ends).max() == pytest.approx(min(300.0, SHOWN_SPAN * most))
    assert np.allclose(*crossings) and np.ptp(crossings[0]) > 1


@pytest.mark.parametrize("sense", [1, -1])
def test_the_arrow_of_the_drawing_turns_as_the_views_do(sense):
    angles = [sense * 20.0 * view for view in range(9)]
    axis = Figure().subplots()
    _draw_rotation(axis, angles, 10.0)
    arrow = axis.patches[-1].get_path().vertices
    tip = np.argmax(np.linalg.norm(arrow[:-1] - arrow[0], axis=1))
    turned = np.unwrap(np.arctan2(arrow[[0, tip], 1], arrow[[0, tip], 0]))
    assert np.sign(turned[1] - turned[0]) == sense
    word = "counter-clockwise" if sense > 0 else "clockwise"
    rows = geometry_rows(ParallelBeam(angles, 20), binning=3)
    axis = "detector index 29.5 (of the elements as they are in the file), counted from 0"
    assert ("rotation", word) in rows and ("centre of rotation", axis) in rows


def test_a_drawing_has_the_ink_of_the_page():
    drawing = draw_geometry(ParallelBeam([0.0, 20.0, 40.0], 12), ImageGrid((8, 8)))
    assert drawing.startswith("<svg ") and "currentColor" in drawing and "#010203" not in drawing


def test_trust_says_what_is_known():
    assert "93.0 %" in trust_sentence(SUMMARY)


def test_what_an_image_is_compared_with_is_nowhere_called_the_truth(page):
    """It may be a reconstruction from more views, with errors of its own."""
    found = Elements(page)
    assert "truth" not in found.words.lower()
    assert "Compared with the given reference image, 93.0 %" in found.words
    assert "reference ${" in page and "truth ${" not in page  # the readout


def test_a_slice_whose_solves_converged_is_not_said_to_be_fitted():
    page = Elements(volume_page(volume())).words
    assert page.count("Stopped at max_steps=9: under-fitted.") == 3  # of three with a result
    assert "solves and searches converged" in page and "how the fit ended" in page


@pytest.mark.slow
@pytest.mark.parametrize("make", [contents, volume])
def test_the_picture_of_the_rotation_axis_is_in_the_page_where_there_is_one(make):
    build = run_page if make is contents else volume_page
    png = b"\x89PNG and more"
    for axis in (png, None):
        found = Elements(build(replace(make(), axis=axis)))
        shown = [a["src"] for tag, a in found.tags if tag == "img"]
        assert [b64decode(source.split(",")[1]) for source in shown] == ([png] if axis else [])
        assert all(source.startswith("data:image/png;base64,") for source in shown)
        assert ("The rotation axis was estimated from the views" in found.words) == bool(axis)


def test_the_noise_of_a_stack_is_in_the_unit_of_the_page_of_a_scan():
    """A line integral, not the std of a ray of weight 1, which of photons is about 1."""
    words = Elements(volume_page(volume())).words
    assert "typical noise std of a ray, mean 0.0313 the same by the evidence 0.0417" in words
    assert "slice 10 0.001 0.03 1" in words


def test_the_typical_noise_is_the_median_of_the_rays_that_are_used():
    weights = np.r_[np.zeros(9), np.linspace(1.0, 50.0, 11)].reshape(2, 10)
    beam = ParallelBeam([0.0, 90.0], 10)
    scan = Scan(torch.rand(2, 10), beam, beam.inscribed_grid(), torch.from_numpy(weights))
    fitted = SimpleNamespace(fit=SimpleNamespace(noise_std=1.5))
    expected = np.median(1.5 / np.sqrt(weights[weights > 0]))
    assert typical_noise_std(fitted, scan) == pytest.approx(expected, rel=1e-6)
    assert np.isinf(ray_noise_std(fitted, scan).numpy()[weights == 0]).all()


@pytest.mark.slow
def test_only_a_fan_has_a_source():
    for geometry, has in ((contents().geometry, True), (ParallelBeam([0.0, 90.0], 20), False)):
        assert ("source" in geometry_sentence(geometry)) == has
        assert geometry_sentence(geometry) in Elements(run_page(contents(geometry=geometry))).words


# In a browser


def browser_path(playwright) -> str | None:
    """A Chromium of this machine, or the one that playwright installed."""
    for name in ("chromium", "chromium-browser", "google-chrome", "chrome"):
        if shutil.which(name):
            return shutil.which(name)
    own = playwright.chromium.executable_path
    return own if shutil.which(own) else None


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        path = browser_path(driver)
        if path is None:
            pytest.skip("no Chromium here: install the package chromium of the system")
        opened = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Opens a page without network; fails on any error, message or request of it."""
    said, tabs = [], []

    def open_page(page: str, name: str = "report.html"):
        file = tmp_path / name
        file.write_text(page, encoding="utf-8")
        tab = browser.new_context(offline=True, viewport={"width": 1000, "height": 900}).new_page()
        tabs.append(tab)
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: said.append(request.url))
        tab.goto(file.as_uri())
        assert said.pop(0) == file.as_uri()
        return tab

    yield open_page
    for tab in tabs:
        tab.context.close()
    assert said == []


def readout(tab, viewer="images") -> str:
    return tab.text_content(f"#{viewer} .readout")


def point(tab, row, column, *, viewer="images", panel="std", shape=(HEIGHT, WIDTH)):
    """Move the mouse over a pixel of an unzoomed panel."""
    canvas = tab.locator(f"#{viewer} [data-map={panel}] canvas.picture")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    x = box["x"] + (column + 0.5) / shape[1] * box["width"]
    y = box["y"] + (row + 0.5) / shape[0] * box["height"]
    tab.mouse.move(x, y)
    return x, y


def said_of_pixel(run: RunContents, row: int, column: int) -> list[str]:
    """What a readout must hold of a pixel, from the arrays."""
    value, std = float(run.image[row, column]), float(run.std[row, column])
    digits = max(0, 1 - math.floor(math.log10(std)))
    half = half_width(0.95) * std
    off = abs(value - float(run.truth[row, column])) / std
    x, y = (column - (WIDTH - 1) / 2) * 0.5, ((HEIGHT - 1) / 2 - row) * 0.5
    return [
        f"x {x:.2f} mm, y {y:.2f} mm (row {row}, column {column})",
        f"{value:.{digits}f} ± {std:.{digits}f} 1/mm",
        f"95 %: {value - half:.{digits}f} to {value + half:.{digits}f} 1/mm",
        f"reference {float(run.truth[row, column]):.{digits}f} 1/mm, off by {off:.1f} std",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("panel", ["image", "std", "lower", "ratio"])
def test_the_pointer_reads_the_pixel_under_it_in_every_panel(opened, panel):
    run = contents()
    tab = opened(run_page(run))
    for row, column in ((0, 0), (3, 11), (HEIGHT - 1, WIDTH - 1)):
        point(tab, row, column, panel=panel)
        for part in said_of_pixel(run, row, column):
            assert part in readout(tab)


@pytest.mark.slow
def test_zoom_keeps_the_pixel_under_the_pointer_and_the_keys_move_the_cursor(opened):
    run = contents()
    tab = opened(run_page(run))
    x, y = point(tab, 2, 9)
    before = readout(tab)
    for _ in range(2):
        tab.mouse.dblclick(x, y)
    tab.mouse.move(x + 1, y)
    assert readout(tab) == before
    edge = tab.locator("#images [data-map=std] canvas.picture").bounding_box()
    tab.mouse.move(edge["x"] + 1, y)
    columns = int(tab.get_attribute("#images .readout", "data-column"))
    assert columns > 0  # the first column is out of sight
    tab.focus("#images [data-map=std] canvas.picture")
    tab.keyboard.press("ArrowDown")
    assert f"(row 3, column {columns})" in readout(tab)
    tab.keyboard.press("0")
    point(tab, 0, 0)
    assert "(row 0, column 0)" in readout(tab)


def colour_at(tab, panel: str, row: int, column: int) -> list[int]:
    """The colour on the screen of the middle of a pixel."""
    return tab.evaluate(
        """([panel, row, column, height, width]) => {
            const canvas = document.querySelector(`#images [data-map=${panel}] canvas.picture`);
            const x = (column + 0.5) / width * canvas.width;
            const y = (row + 0.5) / height * canvas.height;
            const copy = document.createElement("canvas").getContext(
                "2d", { willReadFrequently: true });
            copy.drawImage(canvas, x, y, 1, 1, 0, 0, 1, 1);
            return [...copy.getImageData(0, 0, 1, 1).data];
        }""",
        [panel, row, column, HEIGHT, WIDTH],
    )


@pytest.mark.slow
def test_colours_are_those_of_the_map_and_follow_the_sliders(opened):
    from matplotlib import colormaps

    run = contents()
    tab = opened(run_page(run))
    row, column = 1, 4
    top = float(np.quantile(run.std, 0.999))
    place = round(255 * float(run.std[row, column]) / top)
    expected = colormaps["viridis"](np.linspace(0, 1, 256), bytes=True)[place]
    assert np.abs(np.subtract(colour_at(tab, "std", row, column), expected)).max() <= 3
    tab.locator("#images input[data-window=std][data-kind=level]").fill(str(0.0))
    brightest = colormaps["viridis"](1.0, bytes=True)
    tab.locator("#images input[data-window=std][data-kind=width]").evaluate(
        "input => { input.value = input.min; input.dispatchEvent(new Event('input')); }"
    )
    assert colour_at(tab, "std", row, column) == list(map(int, brightest))
    window = "#images [data-map=std] .ends span >> nth={}"
    level, width = 0.5 * top, 0.4 * top
    for kind, value in (("level", level), ("width", width)):
        tab.locator(f"#images input[data-window=std][data-kind={kind}]").evaluate(
            "(input, value) => { input.step = 'any'; input.value = value;"
            " input.dispatchEvent(new Event('input')); }",
            value,
        )
    for end, expected_end in ((0, level - width / 2), (2, level + width / 2)):
        shown = tab.text_content(window.format(end)).removeprefix("≤ ").removeprefix("≥ ")
        assert float(shown) == pytest.approx(expected_end, rel=1e-3)
    assert colour_at(tab, "image", row, column)[0] == colour_at(tab, "image", row, column)[2]
    tab.click("#images [data-action=windows]")
    assert np.abs(np.subtract(colour_at(tab, "std", row, column), expected)).max() <= 3


@pytest.mark.slow
def test_a_ray_reads_its_view_angle_residual_and_share_of_the_noise(opened):
    run = contents()
    tab = opened(run_page(run))
    point(tab, 4, 17, viewer="rays", panel="residual", shape=(6, 20))
    value = abs(float(run.residual[4, 17]))
    assert "view 4 (120°), detector 17" in readout(tab, "rays")
    share = value / run.ray_noise_std[4, 17]
    assert f"|residual| {value:.4g}, {share:.1f} times the std of its noise" in readout(tab, "rays")
    point(tab, 2, 3, viewer="rays", panel="residual", shape=(6, 20))
    assert readout(tab, "rays").endswith("not used")


@pytest.mark.slow
def test_the_slider_of_a_stack_shows_another_slice_at_the_same_cursor(opened):
    stack = volume()
    tab = opened(volume_page(stack))
    point(tab, 5, 6)
    for place in (1, 3):
        tab.fill("#images input[data-slice]", str(place))
        assert tab.text_content("#images .slice-label") == str(10 + place)
        std = float(stack.std[place, 5, 6])
        digits = 1 - math.floor(math.log10(std))
        assert f"{stack.image[place, 5, 6]:.{digits}f} ± {std:.{digits}f}" in readout(tab)
    tab.fill("#images input[data-slice]", "2")
    assert readout(tab).endswith("no result")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1400, 700, 360])
def test_the_page_fits_its_window(opened, width):
    tab = opened(run_page(contents()))
    tab.set_viewport_size({"width": width, "height": 800})
    tab.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
@pytest.mark.parametrize("width", [1200, 940, 700, 360])
def test_nothing_moves_under_the_pointer_when_the_text_grows(opened, width):
    tab = opened(run_page(contents()))
    tab.set_viewport_size({"width": width, "height": 800})
    place = "document.querySelector('#images canvas.picture').getBoundingClientRect().top"
    wrapping = "document.querySelector('#images .readout').textContent = 'x '.repeat(%d)"
    tops = []
    for words in (1, 60, 200):
        tab.evaluate(wrapping % words)
        tops.append(tab.evaluate(f"{place} + window.scrollY"))
    assert tops[0] == tops[1] == tops[2]
