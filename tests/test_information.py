"""``pdip info``: what is printed is what the readers find and what a run would use."""

from dataclasses import replace

import numpy as np
import pytest
from instrument_files import (
    LINE_INTEGRALS,
    htc_record,
    save_dicom,
    save_dxchange,
    save_mat,
    save_mat73,
    save_nxtomo,
    save_tiffs,
)
from test_readers import refusal
from test_rotation_axis import fan, simulated
from test_stack import STACK, save

from pdip.cli import main
from pdip.config import resolved_scan
from pdip.report import information
from pdip.report.words import rotation_sense
from pdip.scan import ParallelBeam, check_reading, read_scan, read_stack
from pdip.scan.view_fit import at_cor


def lines(path, geometry=None, **reading) -> list[str]:
    return list(information(path, geometry, resolved_scan(reading)))


def line_of(found: list[str], name: str) -> str:
    """What stands behind a name in the part that says how the file is read."""
    read = found[found.index("read as:") :]
    (line,) = [line for line in read if line.split()[:1] == [name]]
    return " ".join(line.split()[1:])


@pytest.mark.parametrize("ending", [".npy", ".npz", ".h5"])
def test_the_geometry_and_assumptions_are_those_of_the_scan(tmp_path, ending):
    path = save(tmp_path / f"scan{ending}", STACK[0])
    scan, found = read_scan(path), lines(path)
    assert line_of(found, "measured") == "line integrals, 6 views x 9 detector elements"
    assert line_of(found, "beam").startswith("fan, source 50 mm and detector 10 mm")
    assert line_of(found, "angles") == "0 to 150 degrees in steps of 30, counter-clockwise"
    assert line_of(found, "axis").startswith("on element 3.75,")
    assert line_of(found, "image") == "5 x 5 pixels of 1.2 mm"
    at = found.index("assumed:") if scan.assumptions else len(found)
    assert [line.strip() for line in found[at + 1 :]] == list(scan.assumptions)


def test_what_is_read_is_shown_beside_what_the_file_has(tmp_path):
    keys = {"geometry": "parallel", "step_deg": 4.0, "det_pixel_mm": 0.5, "cor": 5.0}
    values = np.random.default_rng(0).random((45, 12))
    np.savez(tmp_path / "scan.npz", sinogram=values, **keys)
    found = lines(tmp_path / "scan.npz", view_step=3, binning=2)
    assert line_of(found, "measured") == "line integrals, 45 views x 12 detector elements"
    assert line_of(found, "angles").startswith("15 views of 45, 0 to 168 degrees in steps of 12,")
    assert line_of(found, "detector") == "6 elements of 1 mm, each 2 of the file"
    counted = "(of the elements as they are in the file)"
    assert line_of(found, "axis") == f"on element 5 {counted}, counted from 0 (the middle is 5.5)"
    found = lines(tmp_path / "scan.npz", view_step=100)
    assert line_of(found, "angles") == "1 view of 45, 0 degrees"
    assert "positive whole" in refusal(lines, tmp_path / "scan.npz", view_step=0)


@pytest.mark.slow
def test_an_axis_that_is_looked_for_is_shown_where_it_is_found(tmp_path):
    scan = simulated(fan(24, 2.5))
    keys = {k: v for k, v in scan.geometry.to_dict().items() if k != "detector_shift_mm"}
    np.savez(tmp_path / "scan.npz", sinogram=scan.sinogram.numpy(), **keys)
    found = lines(tmp_path / "scan.npz", cor="auto")
    assert abs(float(line_of(found, "axis").split()[2].rstrip(",")) - scan.geometry.cor) < 0.4


def test_of_a_stack_one_slice_is_shown(tmp_path):
    path = save(tmp_path / "stack.h5")
    assert line_of(lines(path), "slices") == "4, counted from 0; number 2 is shown"
    found = lines(path, row=1)
    assert line_of(found, "slices") == "4, counted from 0; number 1 is shown"
    assert line_of(found, "values") == f"{STACK[1].min():.4g} to {STACK[1].max():.4g}"
    scan = read_stack(path).scan(1)
    assert line_of(found, "image").startswith(f"{scan.grid.shape[0]} x")
    found = lines(path, slices="1:4:2")
    assert line_of(found, "slices") == "4, counted from 0; number 3 is shown"
    assert "reach outside of the stack" in refusal(lines, path, slices="1:9")


@pytest.mark.slow
@pytest.mark.parametrize("slices", [1, 3])
def test_what_contradicts_the_reading_is_said_as_a_run_says_it(tmp_path, slices):
    scan = simulated(fan(20, 0.0))
    keys = {k: v for k, v in scan.geometry.to_dict().items() if k != "detector_shift_mm"}
    values = scan.sinogram.numpy() if slices == 1 else np.stack([scan.sinogram.numpy()] * slices)
    np.savez(tmp_path / "right.npz", sinogram=values, cor=35.5, **keys)
    np.savez(tmp_path / "wrong.npz", sinogram=values, cor=43.0, **keys)
    assert "checked:" not in lines(tmp_path / "right.npz")
    found = lines(tmp_path / "wrong.npz")
    (told,) = check_reading(replace(scan, geometry=at_cor(scan.geometry, 43.0)))
    at = found.index("checked:")
    assert found[at + 1].strip() == told and "and not at 43" in told
    assert at > found.index("assumed:")


def test_what_memory_cannot_hold_is_said(tmp_path, monkeypatch, capsys):
    path = tmp_path / "scan.npy"
    np.save(path, LINE_INTEGRALS)
    assert main(["info", str(path)]) == 0 and "checked:" not in capsys.readouterr().out
    monkeypatch.setattr("pdip.plan.machine_memory", lambda device: 1e4)
    assert main(["info", str(path)]) == 0
    assert "will refuse it on this machine: expected a scan whose" in capsys.readouterr().out


def test_counts_beside_line_integrals_are_named_where_they_are_not_used(tmp_path):
    path, keys = tmp_path / "both.npz", {"geometry": "parallel", "step_deg": 30.0}
    counts = np.round(1e4 * np.exp(-LINE_INTEGRALS))
    np.savez(path, sinogram=LINE_INTEGRALS, counts=counts, flat=1e4, **keys)
    said = "in the file, too; they would be used with --data-kind counts"
    assert line_of(lines(path), "measured").startswith("line integrals")
    assert line_of(lines(path), "counts") == said
    used = lines(path, data_kind="counts")
    assert line_of(used, "measured").startswith("counts") and said not in " ".join(used)
    np.savez(path, sinogram=LINE_INTEGRALS, **keys)
    assert said not in " ".join(lines(path))


def test_what_is_missing_is_named_until_a_geometry_file_gives_it(tmp_path):
    np.save(tmp_path / "scan.npy", LINE_INTEGRALS)
    found = lines(tmp_path / "scan.npy")
    assert found[found.index("missing:") + 1].strip().startswith("angles, geometry, det_pixel_mm")
    geometry = tmp_path / "g.yaml"
    geometry.write_text("geometry: parallel\nstep_deg: -2\ndet_pixel_mm: 0.5\ncor: 4")
    found = lines(tmp_path / "scan.npy", geometry)
    assert "missing:" not in found and "steps of -2, clockwise" in line_of(found, "angles")
    geometry.write_text("angles_deg: [0, 111.2, 42.5, 153.7, 85, 16.2]")
    found = lines(tmp_path / "scan.npy", geometry)
    assert line_of(found, "angles") == "0 to 153.7 degrees in no order"


@pytest.mark.parametrize(
    "save, name, said",
    [
        (save_dxchange, "a.h5", ("layout DXchange", "/exchange/theta 6 float64 degrees")),
        (save_nxtomo, "a.nxs", ("layout NXtomo", "/entry/sample/rotation_angle")),
        (
            save_tiffs,
            "views",
            ("folder of TIFFs", "view 6 x 3 x 9 uint16", "dark 2 x 3 x 9"),
        ),
        (lambda p: save_mat(p, CtDataFull=htc_record()), "a.mat", ("MATLAB", "distanceUnit")),
        (lambda p: save_mat73(p, CtDataFull=htc_record()), "b.mat", ("MATLAB", "distanceUnit")),
        (lambda p: save_dicom(p, np.zeros((4, 5))), "a.dcm", ("DICOM", "4 x 5 pixels of 0.7 mm")),
    ],
)
def test_every_format_lists_what_it_holds(tmp_path, save, name, said):
    found = information(save(tmp_path / name), None, resolved_scan({}))
    text = " ".join(" ".join(found).split())
    assert "read as:" in text and all(part in text for part in said), text


def test_a_file_that_cannot_be_read_is_listed_before_it_is_refused(tmp_path, capsys):
    path = save_mat(tmp_path / "two.mat", a=LINE_INTEGRALS, d=LINE_INTEGRALS)
    assert main(["info", str(path)]) == 2
    out, error = capsys.readouterr()
    assert " ".join(out.split()).find("a 6 x 9 float64") > 0 and "several matrices" in error
    assert main(["info", str(path), "--dataset", "d"]) == 0
    assert main(["info", str(path), "--seed", "1"]) == 2
    assert "unknown option --seed" in capsys.readouterr().err
    assert "does not exist" in refusal(lines, tmp_path / "none.npy")


def test_what_is_no_sinogram_is_refused_as_the_reader_does(tmp_path):
    path = save_mat(tmp_path / "number.mat", a=LINE_INTEGRALS, j=1.0)
    np.save(tmp_path / "row.npy", LINE_INTEGRALS[0])
    np.savez(tmp_path / "text.npz", sinogram="a")
    assert "two axes" in refusal(lines, path, dataset="j")
    assert "two axes" in refusal(lines, tmp_path / "row.npy")
    assert "got text" in refusal(lines, tmp_path / "text.npz")


def test_the_sense_of_rotation_is_that_of_most_steps():
    for angles, sense in (
        ([270.0, 315.0, 0.0, 45.0, 90.0], "counter-clockwise"),  # over the end of a turn
        ([90.0, 45.0, 0.0], "clockwise"),
        ([30.0], "–"),
        ([0.0, 111.2, 42.5, 153.7, 85.0, 16.2], "in no order"),
    ):
        assert rotation_sense(ParallelBeam(angles, 5)) == sense
