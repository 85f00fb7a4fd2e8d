"""A folder of views: what is missing from it, or does not belong to it, is named."""

import re

import numpy as np
import pytest
import tifffile
from test_readers import refusal

from pdip.cli import main
from pdip.scan import read_scan, read_stack
from pdip.scan.readers import fields_with_geometry

FILES = 12


def folder_of(tmp_path, names, lines="first_deg: 0\nstep_deg: 4"):
    """Views of which each has a number of its own, and a geometry file beside them."""
    folder = tmp_path / "views"
    folder.mkdir()
    for number, name in enumerate(names):
        tifffile.imwrite(folder / name, np.full((2, 5), 100 + number, np.uint16))
    (tmp_path / "views.yaml").write_text(f"{lines}\nflat: 200\n")
    return folder


def numbered(numbers, pattern="proj_{:04d}.tif"):
    return [pattern.format(number) for number in numbers]


def angles_of(folder):
    return read_scan(folder, row=0).geometry.angles_deg


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("lines", ["first_deg: 0\nstep_deg: 4", "geometry: parallel"])
def test_a_view_that_is_missing_is_named_and_none_gets_a_wrong_angle(tmp_path, step, lines):
    numbers = [step * number for number in range(FILES) if number != 7]
    folder = folder_of(tmp_path, numbered(numbers), lines)
    said = refusal(read_scan, folder, row=0)
    assert f"proj_{7 * step:04d}.tif is missing among the 11 views" in said
    assert "angles_deg" in said and refusal(read_stack, folder, slices=":") == said


def test_a_list_of_angles_goes_round_what_is_missing(tmp_path):
    numbers = [number for number in range(FILES) if number not in (2, 7)]
    angles = [4.0 * number for number in numbers]
    folder = folder_of(tmp_path, numbered(numbers), f"angles_deg: {angles}")
    assert angles_of(folder) == tuple(angles)
    for key, unit in (("angles_deg", 4.0), ("angles", 0.07)):
        listed = [unit * number for number in range(FILES)]
        (tmp_path / "views.yaml").write_text(f"{key}: {listed}\nflat: 200\n")
        said = refusal(read_scan, folder, row=0)
        assert f"holds 10 views (files) but {key} lists 12 angles" in said
        assert "proj_0002.tif, proj_0007.tif are missing" in said and "axes" not in said


def test_missing_views_are_named_on_the_command_line(tmp_path, capsys):
    folder = folder_of(tmp_path, numbered((0, 1, 2, 4, 5)))
    assert main(["validate", "--sinogram", str(folder), "--row", "0"]) == 2
    assert re.match(r"pdip: proj_0003.tif is missing", capsys.readouterr().err)


@pytest.mark.parametrize(
    "names",
    [
        numbered(range(FILES)),
        numbered(range(10, 10 + FILES), "view{}.tif"),
        numbered(range(0, 24 * FILES, 24)),
        [f"scan7_{30000 + 13 * n + n % 3}_{n:03d}.tif" for n in range(FILES)],
    ],
)  # fmt: skip
def test_an_even_numbering_is_left_in_peace(tmp_path, names):
    folder = folder_of(tmp_path, names)
    assert angles_of(folder) == tuple(4.0 * view for view in range(FILES))
    _, said = fields_with_geometry(folder)
    assert not any("WARNING" in sentence for sentence in said)


def test_numbers_that_count_nothing_are_doubted_unless_angles_are_listed(tmp_path):
    rounded = [round(7.5 * view) for view in range(FILES)]
    folder = folder_of(tmp_path, numbered(rounded))
    assert "not evenly spaced" in fields_with_geometry(folder)[1][-1]
    (tmp_path / "views.yaml").write_text(f"angles_deg: {rounded}\nflat: 200\n")
    assert not any("WARNING" in sentence for sentence in fields_with_geometry(folder)[1])


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        ("preview.tif", "preview.tif does not fit the series"),
        ("aaa.tif", "aaa.tif does not fit the series"),
        ("proj_0002_copy.tif", "proj_0002_copy.tif does not fit the series"),
        ("proj_2.tif", "have the same number"),
        ("proj_0002.tiff", "have the same number"),
    ],
)
def test_a_file_that_is_none_of_the_views_is_named(tmp_path, odd, words):
    folder = folder_of(tmp_path, [*numbered(range(FILES)), odd])
    said = refusal(read_scan, folder, row=0)
    assert words in said and odd in said and "away" in said


def test_hidden_files_are_left_out(tmp_path):
    folder = folder_of(tmp_path, numbered(range(FILES)))
    (folder / "flats").mkdir()
    for place in (folder / "._proj_0001.tif", folder / ".x.tif", folder / "flats" / "._1.tif"):
        place.write_bytes(b"\0\5\x16\7 no image")
    assert len(angles_of(folder)) == FILES


def test_angles_of_another_number_than_the_views_of_a_file_are_the_matter(tmp_path):
    path = tmp_path / "views.tif"
    tifffile.imwrite(path, np.full((6, 3, 5), 100, np.uint16), photometric="minisblack")
    path.with_suffix(".yaml").write_text("angles_deg: [0, 30, 60, 90]\nflat: 200\n")
    said = refusal(read_stack, path, slices=":")
    assert "has 6 views but the geometry lists 4 angles" in said
