"""Files as instruments write them: what of them is counts, what the geometry, what is refused."""

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import torch
from instrument_files import (
    ANGLES_DEG,
    COUNTS,
    DARK,
    DETECTORS,
    FLAT,
    LINE_INTEGRALS,
    ROWS,
    VIEWS,
    htc_record,
    save_dicom,
    save_dxchange,
    save_mat,
    save_mat73,
    save_nxtomo,
    save_tiffs,
)
from test_readers import refusal

from pdip.cli import main
from pdip.scan import FanBeam, ImageGrid, ParallelBeam, holds_stack, read_scan, read_stack, simulate
from pdip.scan.dicom import read_dicom
from pdip.scan.hdf5 import RowsOnDisk
from pdip.scan.readers import fields_with_geometry
from pdip.scan.rows import at_row

BY_ROW = (COUNTS.swapaxes(0, 1), FLAT.swapaxes(0, 1), DARK.swapaxes(0, 1))


def counted(path, row=None):
    """Counts, flat and dark of a file, all rows or one."""
    fields, _ = fields_with_geometry(path)
    assert fields["data_kind"] == "counts" and "sinogram" not in fields
    if row is None:
        return [
            np.stack([fields[key][r] for r in range(ROWS)]) for key in ("counts", "flat", "dark")
        ]
    fields = at_row(fields, row)
    return [fields[key] for key in ("counts", "flat", "dark")]


# DXchange


def test_dxchange_gives_counts_by_row_and_angles(tmp_path):
    path = save_dxchange(tmp_path / "scan.h5")
    assert holds_stack(path)
    for found, expected in zip(counted(path), BY_ROW, strict=True):
        np.testing.assert_array_equal(found, expected)
    for found, expected in zip(counted(path, -1), BY_ROW, strict=True):
        np.testing.assert_array_equal(found, expected[-1])
    fields, said = fields_with_geometry(path)
    np.testing.assert_array_equal(fields["angles_deg"], ANGLES_DEG)
    assert said == ()


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ((1, 0, 2), f"theta has {len(ANGLES_DEG)} angles; put the axis"),
        ((2, 1, 0), f"theta has {len(ANGLES_DEG)} angles; put the axis"),
        ((0, 2, 1), "exchange the last two axes"),
    ],
)
def test_dxchange_of_another_order_of_axes_is_refused_by_name(tmp_path, axes, words):
    few = np.repeat(COUNTS, 8, axis=2)[:, :2]  # views x 2 rows x many detectors
    assert len(set(few.shape)) == 3
    path = save_dxchange(tmp_path / "a.h5", data=few.transpose(axes), white=None)
    assert words in refusal(fields_with_geometry, path)
    save_dxchange(path, data=few, white=None)
    fields_with_geometry(path)


def test_units_of_angles_are_those_of_the_file_and_degrees_where_it_has_none(tmp_path):
    path = save_dxchange(tmp_path / "rad.h5", theta=np.deg2rad(ANGLES_DEG), units="rad")
    np.testing.assert_allclose(fields_with_geometry(path)[0]["angles_deg"], ANGLES_DEG, atol=1e-12)
    path = save_dxchange(tmp_path / "none.h5", units=None)
    fields, said = fields_with_geometry(path)
    np.testing.assert_array_equal(fields["angles_deg"], ANGLES_DEG)
    assert "taken in degrees" in said[0]
    path = save_dxchange(tmp_path / "turns.h5", units="turns")
    assert "'turns', expected one of degree" in refusal(fields_with_geometry, path)


def test_values_without_a_flat_field_are_line_integrals_unless_they_are_whole(tmp_path):
    data = np.repeat(LINE_INTEGRALS[:, None], ROWS, 1)
    path = save_dxchange(tmp_path / "float.h5", white=None, data=data)
    scan = read_scan(path, row=1)
    np.testing.assert_allclose(scan.sinogram.numpy(), LINE_INTEGRALS, rtol=1e-6)
    assert scan.geometry == ParallelBeam(ANGLES_DEG, DETECTORS)
    assert "taken as line integrals" in scan.assumptions[0]
    fields, _ = fields_with_geometry(save_dxchange(tmp_path / "whole.h5", white=None))
    assert fields["data_kind"] == "counts" and "flat" not in fields


def test_of_several_rows_one_is_asked_for_and_a_stack_is_some_of_them(tmp_path):
    data = np.stack([LINE_INTEGRALS, 2 * LINE_INTEGRALS, 3 * LINE_INTEGRALS], 1)
    path = save_dxchange(tmp_path / "scan.h5", white=None, data=data)
    for read in (read_scan, read_stack):
        said = refusal(read, path)
        assert "6 views of 3 detector rows" in said and "--row 1 (0 to 2)" in said
    stack = read_stack(path, slices="1:")
    assert stack.numbers == (1, 2)
    for number, scan in zip(stack.numbers, stack, strict=True):
        assert torch.equal(scan.sinogram, read_scan(path, row=number).sinogram)
    assert len(read_stack(path, row=2)) == 1
    assert "0 to 2" in refusal(read_scan, path, row=3)
    assert "name one of them" in refusal(read_stack, path, row=0, slices="0:2")


def test_the_command_asks_for_a_row_and_takes_one(tmp_path, capsys):
    data = np.stack([LINE_INTEGRALS, 2 * LINE_INTEGRALS], 1)
    path = save_dxchange(tmp_path / "scan.h5", white=None, data=data)
    command = ["reconstruct", "--sinogram", str(path), "--out", str(tmp_path / "run")]
    for options, said in (
        ([], "name one with --row 1 (0 to 1), or several with --rows 0:2"),
        (["--row", "2"], "row 2 does not exist; there are rows 0 to 1"),
        (["--row", "0", "--rows", "0:1"], "give one of them"),
        (["--row", "x"], "--row must be"),
    ):
        assert main([*command, *options]) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "run").exists()


def test_a_single_row_needs_no_name_and_may_have_it(tmp_path, capsys):
    path = save_dxchange(tmp_path / "scan.h5", white=None, data=LINE_INTEGRALS[:, None])
    nexus = save_nxtomo(tmp_path / "scan.nxs", rows=slice(1, 2))
    np.save(tmp_path / "one.npy", LINE_INTEGRALS)
    for file in (path, nexus, tmp_path / "one.npy"):
        assert not holds_stack(file)
        scan = read_scan(file)
        assert scan.sinogram.shape == (VIEWS, DETECTORS)
        for row in (0, -1):
            assert torch.equal(read_scan(file, row=row).sinogram, scan.sinogram)
        assert "row 1 does not exist; the file holds a single scan" in refusal(
            read_scan, file, row=1
        )
        printed = []
        for options in ([], ["--row", "0"]):
            assert main(["info", str(file), *options]) == 0
            printed.append(capsys.readouterr().out)
        assert printed[0] == printed[1]
    np.save(tmp_path / "stack.npy", LINE_INTEGRALS[None])
    assert torch.equal(read_scan(tmp_path / "stack.npy", row=0).sinogram, scan.sinogram)


def test_flats_and_darks_of_two_axes_are_one_frame(tmp_path):
    mean = FLAT.mean(0)
    path = save_dxchange(tmp_path / "scan.h5", white=mean, dark=DARK[0])
    fields, said = fields_with_geometry(path)
    assert fields["flat"].shape == (ROWS, 1, DETECTORS)
    for row in range(ROWS):
        one = at_row(fields, row)
        np.testing.assert_array_equal(one["flat"], mean[None, row])
        np.testing.assert_array_equal(one["dark"], DARK[:1, row])
    assert [sentence.split(",")[0] for sentence in said] == [
        "data_white is one image",
        "data_dark is one image",
    ]
    assert torch.isfinite(read_scan(path, row=1).sinogram).all()
    path = save_dxchange(tmp_path / "other.h5", white=mean[:, :-1])
    assert "one detector" in refusal(fields_with_geometry, path)


@pytest.mark.parametrize("name", ["flat", "dark"])
def test_empty_flats_and_darks_are_said_to_be_empty_and_may_be_given(tmp_path, name):
    parts = {"white": FLAT, "dark": DARK} | {{"flat": "white"}.get(name, name): FLAT[:0]}
    path = save_dxchange(tmp_path / "scan.h5", **parts)
    said = refusal(read_scan, path, row=1)
    assert said.startswith(f"{name} has shape (0, 9) and is empty") and f"--scan.{name}" in said
    given = {"flat": 5000.0, "dark": 100.0}[name]
    assert torch.isfinite(read_scan(path, row=1, **{name: given}).sinogram).all()
    path = save_dxchange(tmp_path / "none.h5", data=COUNTS[:0])
    assert "is empty" in refusal(read_scan, path, row=1)


def test_flats_of_another_detector_are_refused(tmp_path):
    path = save_dxchange(tmp_path / "scan.h5", white=FLAT[:, :, :-1])
    assert "data_white in scan.h5 has 3 rows x 8 detectors" in refusal(fields_with_geometry, path)
    path = save_dxchange(tmp_path / "flat.h5", data=COUNTS[0])
    assert "(frames, rows, detectors)" in refusal(fields_with_geometry, path)


def test_rows_are_read_one_at_a_time(tmp_path, monkeypatch):
    read, get = [], RowsOnDisk.__getitem__

    def noted(self, index):
        read.append(index)
        return get(self, index)

    monkeypatch.setattr(RowsOnDisk, "__getitem__", noted)
    path = save_dxchange(tmp_path / "scan.h5")
    fields, _ = fields_with_geometry(path)
    assert read == []
    at_row(fields, 1)
    assert read == [1, 1, 1]


def test_a_link_to_another_file_in_the_layout_is_refused(tmp_path):
    path = save_dxchange(tmp_path / "scan.h5")
    with h5py.File(path, "a") as file:
        del file["exchange/data_white"]
        file["exchange/data_white"] = h5py.ExternalLink("other.h5", "/data")
    assert "link to another file" in refusal(fields_with_geometry, path)


def with_notes(path, notes):
    """The file with numbers of the detector, each with its unit."""
    with h5py.File(path, "a") as file:
        for name, (value, unit) in notes.items():
            file[f"measurement/instrument/{name}"] = value
            if unit:
                file[f"measurement/instrument/{name}"].attrs["units"] = unit
    return path


PIXEL = "detector/actual_pixel_size_x"


@pytest.mark.parametrize(
    ("value", "unit"), [(1.3, "microns"), (0.0013, "mm"), (1.3e-6, "m"), ([1.3], "um")]
)
def test_the_pixel_size_of_dxchange_is_the_pitch_in_its_unit(tmp_path, value, unit):
    path = with_notes(save_dxchange(tmp_path / "a.h5"), {PIXEL: (value, unit)})
    fields, said = fields_with_geometry(path)
    assert fields["det_pixel_mm"] == pytest.approx(0.0013) and said == ()
    scan = read_scan(path, row=1, binning=3)
    assert scan.geometry.detector_pitch_mm == pytest.approx(0.0039)


@pytest.mark.parametrize(
    ("notes", "words"),
    [
        ({PIXEL: (1.3, None)}, "actual_pixel_size_x (1.3), as it has no unit; give det_pixel_mm"),
        ({PIXEL: (1.3, "px")}, "its unit 'px' is none of a length"),
        ({PIXEL: (0.0, "um")}, "actual_pixel_size_x (0 um), as it is not one number above 0"),
        ({PIXEL: ([1.0, 2.0], "um")}, "(2 values), as it is not one number above 0"),
        ({PIXEL: ("small", "um")}, "('small' um), as it is not one number above 0"),
        ({"detector/pixel_size_x": (6.5, "um")}, "pixel_size_x (6.5 um), as it is the size on"),
        ({"detector/distance": (60.0, "mm")}, "(60 mm), as no geometry is told from distances"),
    ],
)
def test_what_dxchange_notes_and_is_not_used_is_said(tmp_path, notes, words):
    path = with_notes(save_dxchange(tmp_path / "a.h5"), notes)
    fields, (said,) = fields_with_geometry(path)
    assert "det_pixel_mm" not in fields and said.startswith("Found but not used: /measurement/")
    assert words in said


def test_the_pixel_size_of_a_file_stays_unless_a_geometry_file_gives_one_or_a_fan(tmp_path):
    path = with_notes(save_dxchange(tmp_path / "a.h5"), {PIXEL: (1.3, "um")})
    for lines, pitch in (
        ("cor: 3.5", 0.0013),
        ("geometry: parallel\ndet_pixel_mm: 0.5", 0.5),
        ("geometry: fanflat\nsource_origin_mm: 50\norigin_detector_mm: 9", None),
    ):
        path.with_suffix(".yaml").write_text(lines)
        fields, said = fields_with_geometry(path)
        assert "a.yaml next to the scan" in said[0]
        assert fields.get("det_pixel_mm") == (pitch and pytest.approx(pitch))
        assert any("pitch is that of a.h5" in line for line in said) == (pitch == 0.0013)


# The geometry file beside a file that has angles


def test_a_geometry_file_adds_to_the_angles_of_the_file(tmp_path):
    path = save_dxchange(tmp_path / "scan.h5", white=None, data=LINE_INTEGRALS[:, None])
    path.with_suffix(".yaml").write_text("geometry: parallel\ndet_pixel_mm: 0.5\ncor: 3.5")
    scan = read_scan(path)
    assert scan.geometry == ParallelBeam.from_cor(ANGLES_DEG, DETECTORS, 0.5, cor=3.5)
    assert (
        "scan.yaml" in scan.assumptions[1] and "angles are those of scan.h5" in scan.assumptions[2]
    )
    other = tmp_path / "other.yaml"
    other.write_text("geometry: parallel\nfirst_deg: 3\nstep_deg: 2")
    assert read_scan(path, other).geometry.angles_deg == tuple(3.0 + 2 * v for v in range(VIEWS))


# NXtomo


@pytest.mark.parametrize("units", ["deg", "radian"])
def test_nxtomo_sorts_frames_by_their_image_key(tmp_path, units):
    path = save_nxtomo(tmp_path / "scan.nxs", units=units)
    for found, expected in zip(
        counted(path), (BY_ROW[0], BY_ROW[1][:, :3], BY_ROW[2]), strict=True
    ):
        np.testing.assert_array_equal(found, expected)
    fields, said = fields_with_geometry(path)
    np.testing.assert_allclose(fields["angles_deg"], ANGLES_DEG, atol=1e-12)
    assert fields["det_pixel_mm"] == pytest.approx(0.0065) and len(said) == 1
    assert said[0].startswith("1 of the 12 frames are left out: their image_key is 3, neither view")


def test_a_pixel_size_without_a_unit_is_not_used(tmp_path):
    fields, said = fields_with_geometry(save_nxtomo(tmp_path / "scan.nxs", pixel_units=None))
    assert "det_pixel_mm" not in fields and "x_pixel_size (6.5), as it has no unit" in said[1]


def test_what_nxtomo_notes_and_is_not_used_is_said(tmp_path):
    path = save_nxtomo(tmp_path / "scan.nxs")
    before = fields_with_geometry(path)
    with h5py.File(path, "a") as file:
        for part, value in (("source", -145.0), ("detector", 0.5)):
            place = f"entry/instrument/{part}/distance"
            file[place] = value
            file[place].attrs["units"] = "m"
        file["entry/instrument/detector/x_rotation_axis_pixel_position"] = 3.25
        file["entry/control/data"] = np.ones(12)
    fields, said = fields_with_geometry(path)
    assert fields.keys() == before[0].keys() and said[:1] == before[1]
    distances, axis, monitor = said[1:]
    assert "/entry/instrument/source/distance (-145 m) and /entry/instrument/det" in distances
    assert "geometry: fanflat, source_origin_mm" in distances
    assert "x_rotation_axis_pixel_position (3.25)" in axis and "--cor" in axis
    assert "/entry/control/data (12 values)" in monitor and "beam" in monitor
    assert all(sentence.startswith("Found but not used: ") for sentence in said[1:])


def test_one_of_several_nxtomo_entries_is_named(tmp_path):
    path = save_nxtomo(save_nxtomo(tmp_path / "scan.nxs"), "entry1/tomo_entry")
    assert "/entry, /entry1/tomo_entry; name one with --dataset" in refusal(
        fields_with_geometry, path
    )
    for entry in ("entry", "/entry1/tomo_entry"):
        assert fields_with_geometry(path, dataset=entry)[0]["counts"].shape == (
            ROWS,
            VIEWS,
            DETECTORS,
        )


def test_image_keys_that_do_not_fit_are_refused(tmp_path):
    path = save_nxtomo(tmp_path / "scan.nxs")
    with h5py.File(path, "a") as file:
        file["entry/instrument/detector/image_key"][...] = 1
    assert "marks no frame as a view" in refusal(fields_with_geometry, path)
    with h5py.File(path, "a") as file:
        del file["entry/instrument/detector/image_key"]
        file["entry/instrument/detector/image_key"] = np.zeros(5)
    assert "each of the 12 frames" in refusal(fields_with_geometry, path)


# MATLAB


@pytest.mark.parametrize("save", [save_mat, save_mat73])
def test_the_record_of_the_helsinki_laboratory_has_its_geometry(tmp_path, save):
    path = save(tmp_path / "scan.mat", CtDataLimited=htc_record(4), CtDataFull=htc_record(), j=1.0)
    scan = read_scan(path)
    assert scan.geometry == FanBeam(ANGLES_DEG, DETECTORS, 0.8, 50.0, 10.0)
    np.testing.assert_array_equal(scan.sinogram.numpy(), LINE_INTEGRALS.astype(np.float32))
    assert scan.assumptions[0].startswith("CtDataFull (6 views) is read, not CtDataLimited (4")
    assert read_scan(path, dataset="CtDataLimited").sinogram.shape == (4, DETECTORS)
    assert "no matrix 'CtData'" in refusal(read_scan, path, dataset="CtData")


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"distanceUnit": "ell"}, "'ell', expected one of mm"),
        ({"geometryType": "Helix"}, "'Helix'"),
        ({"distanceSourceOrigin": "far"}, "must be a number"),
        ({"angles": ANGLES_DEG[:3]}, "lists 3 angles"),
    ],
)
def test_records_that_do_not_fit_are_refused(tmp_path, changed, said):
    path = save_mat(tmp_path / "scan.mat", CtDataFull=htc_record(**changed))
    assert said in refusal(read_scan, path)
    record = htc_record()
    del record["parameters"]["distanceSourceDetector"]
    path = save_mat(tmp_path / "lacks.mat", CtDataFull=record)
    assert "lack 'distanceSourceDetector'" in refusal(read_scan, path)


@pytest.mark.parametrize("save", [save_mat, save_mat73])
def test_our_own_keys_in_matlab_files_and_columns_as_views(tmp_path, save):
    keys = {"angles_deg": ANGLES_DEG, "geometry": "parallel", "det_pixel_mm": 0.5, "cor": 3.5}
    expected = ParallelBeam.from_cor(ANGLES_DEG, DETECTORS, 0.5, cor=3.5)
    rows = read_scan(save(tmp_path / "rows.mat", sinogram=LINE_INTEGRALS, **keys))
    columns = read_scan(save(tmp_path / "columns.mat", radon=LINE_INTEGRALS.T, **keys))
    assert rows.geometry == columns.geometry == expected
    assert torch.equal(rows.sinogram, columns.sinogram)
    assert "columns are taken as views" in columns.assumptions[0]


def test_one_of_several_matrices_is_named(tmp_path):
    path = save_mat(tmp_path / "scan.mat", a=LINE_INTEGRALS, b={"c": 2 * LINE_INTEGRALS})
    assert torch.equal(2 * read_scan(path).sinogram, read_scan(path, dataset="b.c").sinogram)
    path = save_mat(tmp_path / "two.mat", a=LINE_INTEGRALS, d=LINE_INTEGRALS)
    said = refusal(read_scan, path)
    assert "several matrices" in said and "a (6 x 9), d (6 x 9)" in said


@pytest.mark.parametrize("save", [save_mat, save_mat73])
def test_a_sinogram_in_a_structure_is_offered_by_its_name(tmp_path, save):
    inside = {"sinogram": LINE_INTEGRALS, "theta": ANGLES_DEG}
    path = save(tmp_path / "scan.mat", scan=inside)
    assert "scan.sinogram (6 x 9)" in refusal(read_scan, path)
    scan = read_scan(path, dataset="scan.sinogram")
    np.testing.assert_array_equal(scan.sinogram.numpy(), LINE_INTEGRALS.astype(np.float32))
    assert scan.assumptions[0].startswith("Found but not used: scan.theta (6 values)")


@pytest.mark.parametrize("ending", [".mat", ".npz"])
@pytest.mark.parametrize("name", ["theta", "Phi_deg", "rotation"])
def test_angles_of_another_name_are_said_to_be_there_unless_angles_are_known(
    tmp_path, ending, name
):
    path = tmp_path / f"scan{ending}"
    save = save_mat if ending == ".mat" else lambda path, **keys: np.savez(path, **keys)
    for values, keys, told in (
        (ANGLES_DEG, {}, True),
        (ANGLES_DEG[:-1], {}, False),
        (ANGLES_DEG, {"angles_deg": ANGLES_DEG}, False),
    ):
        save(path, sinogram=LINE_INTEGRALS, **{name: values}, **keys)
        said = [line for line in read_scan(path).assumptions if f"not used: {name} (6 val" in line]
        assert len(said) == told and all("save them as angles_deg" in line for line in said)


def test_an_archive_of_none_of_our_keys_is_told_what_it_holds_and_lacks(tmp_path):
    path = tmp_path / "scan.npz"
    np.savez(path, LINE_INTEGRALS)
    said = refusal(read_scan, path)
    assert "has no key 'sinogram' or 'counts' but arr_0 (6, 9);" in said
    assert "sinogram=array" in said


def test_what_is_no_numbers_is_refused_by_name(tmp_path):
    cells = np.empty(2, object)
    cells[:] = [1.0, "text"]
    path = save_mat(tmp_path / "scan.mat", sinogram=cells)
    assert "cell array, which is never loaded" in refusal(read_scan, path)
    assert "complex128" in refusal(read_scan, save_mat(tmp_path / "c.mat", sinogram=1j * np.eye(3)))


def handle(name: bytes, kind: int) -> bytes:
    """A variable of another class than numbers, as MATLAB writes it."""

    def element(what, data):
        return struct.pack("<II", what, len(data)) + data + bytes(-len(data) % 8)

    inner = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<ii", 1, 1))
    return element(14, inner + element(1, name) + element(14, b""))


@pytest.mark.parametrize("kind, said", [(16, "function handle"), (3, "object"), (5, "sparse")])
def test_function_handles_and_objects_are_refused_and_do_no_harm_beside_a_sinogram(
    tmp_path, kind, said
):
    path = save_mat(tmp_path / "scan.mat", sinogram=LINE_INTEGRALS)
    plain = path.read_bytes()
    path.write_bytes(plain + handle(b"f", kind))
    assert torch.isfinite(read_scan(path).sinogram).all()
    path.write_bytes(plain[:128] + handle(b"sinogram", kind))
    assert said in refusal(read_scan, path)


def test_a_variable_that_declares_more_than_the_file_holds_is_refused(tmp_path):
    path = tmp_path / "scan.mat"
    start = save_mat(path, sinogram=LINE_INTEGRALS).read_bytes()[:128]
    path.write_bytes(start + struct.pack("<II", 14, 2**31) + bytes(64))
    assert "more than are left" in refusal(read_scan, path)
    save_mat(path, sinogram=np.zeros((2000, 2000)))
    assert "unpacks to more than" in refusal(read_scan, path)


# TIFF


def test_a_folder_of_views_in_the_order_of_their_numbers_with_flats_and_darks(tmp_path):
    folder = save_tiffs(tmp_path / "views")
    for found, expected in zip(counted(folder), BY_ROW, strict=True):
        np.testing.assert_array_equal(found, expected)
    (tmp_path / "views.yaml").write_text("step_deg: 30\ndet_pixel_mm: 0.05")
    fields, said = fields_with_geometry(folder)
    assert (fields["step_deg"], fields["det_pixel_mm"]) == (30, 0.05) and "views.yaml" in said[0]


@pytest.mark.parametrize(
    "settings",
    [{}, {"compression": "zlib"}, {"byteorder": ">"}, {"bigtiff": True},
     {"rowsperstrip": 1}, {"compression": "zlib", "predictor": True}, {"tile": (16, 16)}],
)  # fmt: skip
def test_pages_of_a_file_are_views_however_they_are_stored(tmp_path, settings):
    path = tmp_path / "views.tif"
    tifffile.imwrite(path, COUNTS, photometric="minisblack", **settings)
    fields, _ = fields_with_geometry(path)
    found = np.stack([fields["counts"][row] for row in range(ROWS)])
    np.testing.assert_array_equal(found, BY_ROW[0])


def test_a_single_page_is_a_sinogram(tmp_path):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, LINE_INTEGRALS.astype(np.float32))
    path.with_suffix(".yaml").write_text("geometry: parallel\nstep_deg: 30")
    scan = read_scan(path)
    assert scan.geometry == ParallelBeam(ANGLES_DEG, DETECTORS)
    np.testing.assert_array_equal(scan.sinogram.numpy(), LINE_INTEGRALS.astype(np.float32))
    assert "taken as line integrals" in scan.assumptions[0]


def test_rows_of_a_cone_beam_are_fans_and_that_is_said(tmp_path):
    folder = save_tiffs(tmp_path / "views")
    (tmp_path / "views.yaml").write_text(
        "geometry: fanflat\nstep_deg: 30\nsource_origin_mm: 50\norigin_detector_mm: 10\n"
        "det_pixel_mm: 0.8"
    )
    _, said = fields_with_geometry(folder)
    assert "row 1 where it is in the middle" in said[-1]


def test_a_geometry_file_may_say_that_whole_numbers_are_no_counts(tmp_path):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, COUNTS[:, 0])
    assert fields_with_geometry(path)[0]["data_kind"] == "counts"


@pytest.mark.parametrize(
    "image, said",
    [
        (np.zeros((4, 5, 3), np.uint8), "grey images"),
        (np.zeros((4, 8), np.uint16), "they must be of one detector"),
        (np.zeros((ROWS, DETECTORS), np.float32), "save all alike"),
    ],
)
def test_views_that_differ_are_refused(tmp_path, image, said):
    folder = save_tiffs(tmp_path / "views", flats=False)
    tifffile.imwrite(folder / f"view_{2 * VIEWS + 1}.tif", image)
    fields, _ = fields_with_geometry(folder)
    assert said in refusal(fields["counts"].__getitem__, 0)


def test_folders_and_files_that_hold_no_views_are_refused(tmp_path):
    assert "holds no TIFF files" in refusal(read_scan, tmp_path)
    (tmp_path / "scan.tif").write_bytes(b"II*\0")
    assert "not a readable TIFF" in refusal(read_scan, tmp_path / "scan.tif")
    tifffile.imwrite(tmp_path / "lzma.tif", COUNTS[0], compression="lzma")
    assert "compressed as LZMA" in refusal(read_scan, tmp_path / "lzma.tif")


def test_a_page_that_is_cut_off_or_unpacks_to_more_is_refused(tmp_path):
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, np.zeros((64, 64), np.uint16))
    path.write_bytes(path.read_bytes()[:-100])
    assert "cut off" in refusal(read_scan, path)
    tifffile.imwrite(path, np.zeros((1000, 1000), np.uint16), compression="zlib", rowsperstrip=1000)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for tag in ("ImageLength", "ImageWidth", "RowsPerStrip"):
            file.pages[0].tags[tag].overwrite(10)
    assert "unpacks to more" in refusal(read_scan, path)


# DICOM


@pytest.mark.parametrize("packed", [False, True])
def test_a_ct_slice_becomes_attenuation_that_a_scan_is_simulated_from(tmp_path, packed):
    hounsfield = np.array([[-1000, 0, 1000], [-1024, 500, 0]])
    image, grid = read_dicom(save_dicom(tmp_path / "slice.dcm", hounsfield, packed=packed))
    expected = 0.0206 * np.clip(1 + hounsfield / 1000, 0, None)
    np.testing.assert_allclose(image.numpy(), expected, rtol=1e-6)
    assert grid == ImageGrid((2, 3), 0.7)
    doubled, _ = read_dicom(tmp_path / "slice.dcm", water_attenuation=0.0412)
    torch.testing.assert_close(doubled, 2 * image)

    class Sums:
        geometry, grid = ParallelBeam([0.0], 3, 0.7), ImageGrid((2, 3), 0.7)

        def forward(self, image):
            return 0.7 * image.sum(0, keepdim=True)

    scan = simulate(image, Sums(), noise_fraction=0.0, generator=torch.Generator())
    np.testing.assert_allclose(scan.sinogram[0].numpy(), 0.7 * expected.sum(0), rtol=1e-6)


def test_padding_is_air(tmp_path):
    hounsfield = np.array([[0, 2000], [0, 0]])
    path = save_dicom(tmp_path / "slice.dcm", hounsfield, PixelPaddingValue=1512)
    assert read_dicom(path)[0][0, 1] == 0


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"Modality": "MR"}, "'MR'"),
        ({"PixelSpacing": [0.7, 0.9]}, "squares"),
        ({"NumberOfFrames": 7}, "7 frames"),
        ({"Rows": 60000, "Columns": 60000}, "declares"),
        ({"RescaleType": "OD"}, "'OD'"),
    ],
)
def test_dicom_files_that_are_no_ct_slice_are_refused(tmp_path, changed, said):
    path = save_dicom(tmp_path / "slice.dcm", np.zeros((2, 2)), **changed)
    assert said in refusal(read_dicom, path)
    assert "image, not a scan" in refusal(read_scan, path)
    (tmp_path / "text.dcm").write_bytes(b"hello")
    assert "not a readable DICOM" in refusal(read_dicom, tmp_path / "text.dcm")


# Measured files


def measured_file(name: str) -> Path:
    path = Path(__file__).parents[2] / "shared" / "data" / name
    if not path.exists():
        pytest.skip(f"{path.name} is not there; it is measured data beside the repository")
    return path


@pytest.mark.parametrize(
    "original, derived, views, bins",
    [
        ("lotus/lotus.mat", "lotus/lotus_slice.npz", 360, 4),
        ("htc2022/ta_full_a_1.mat", "htc2022/ta_slice.npz", 720, 1),
    ],
)
def test_original_files_agree_with_the_scans_made_of_them(original, derived, views, bins):
    scan = read_scan(measured_file(original), binning=bins)
    known = read_scan(measured_file(derived))
    found = scan.sinogram.numpy()[:views]
    np.testing.assert_allclose(found, known.sinogram.numpy(), atol=2e-6)
    beam, expected = scan.geometry, known.geometry
    np.testing.assert_allclose(beam.angles_deg[:views], expected.angles_deg, atol=1e-9)
    assert beam.source_origin_mm == expected.source_origin_mm
    assert beam.origin_detector_mm == pytest.approx(expected.origin_detector_mm)
    assert beam.detector_pitch_mm == pytest.approx(expected.detector_pitch_mm)
    # The derived files carry a fitted axis; that of the challenge's file is its nominal middle.
    assert beam.cor == pytest.approx(expected.cor, abs=0.15)


def test_file_of_version_73_holds_the_views_of_the_full_scan_at_its_angles():
    scan = read_scan(measured_file("htc2022/ta_subsample73.mat"))
    full = read_scan(measured_file("htc2022/ta_full_a_1.mat"))
    (start,) = np.flatnonzero(np.equal(full.geometry.angles_deg, scan.geometry.angles_deg[0]))
    assert full.select(range(start, start + 61)).geometry == scan.geometry
    assert torch.equal(full.sinogram[start : start + 61], scan.sinogram)


@pytest.mark.parametrize("row", [0, 1])
def test_tooth_gives_the_counts_and_angles_of_the_scan_made_of_it(row):
    fields, said = fields_with_geometry(measured_file("tooth/tooth.h5"))
    fields = at_row(fields, row)
    assert said == () and fields["counts"].shape == (181, 640)
    with np.load(measured_file("tooth/tooth_row0_slice.npz")) as known:
        for key in ("counts", "flat", "dark"):
            same = np.array_equal(fields[key], known[key])
            assert same == (row == 0)
        np.testing.assert_allclose(np.deg2rad(fields["angles_deg"]), known["angles"], atol=1e-9)


def test_a_page_that_declares_strips_without_end_is_refused(tmp_path):
    path = tmp_path / "views.tif"
    tifffile.imwrite(path, COUNTS, photometric="minisblack", compression="zlib", rowsperstrip=3)
    with tifffile.TiffFile(path, mode="r+") as file:
        for page in file.pages:
            page.tags["ImageLength"].overwrite(2**20)
    assert "strips or tiles but lists 1" in refusal(read_stack, path)


def test_a_deflated_page_cannot_declare_more_than_it_unpacks_to(tmp_path):
    path = tmp_path / "wide.tif"
    tifffile.imwrite(path, np.zeros((3, 9), np.uint16), compression="zlib", byteorder="<")
    damaged = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        damaged[file.pages[0].tags["ImageWidth"].valueoffset + 2] = 127  # 8 million columns
    path.write_bytes(damaged)
    assert "can unpack to" in refusal(read_scan, path)
