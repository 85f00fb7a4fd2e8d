"""An axis that no file gives is looked for where the views clearly say that it is elsewhere."""

from types import SimpleNamespace

import pytest
from test_rotation_axis import as_npz, fan, parallel, simulated

from pdip.config import resolved_scan
from pdip.report import information
from pdip.scan import read_on_likely_axis, read_scan, read_stack

pytestmark = pytest.mark.slow

GIVES_NONE = "The file gives no rotation axis, and on the middle of the detector the views"


def read(path, cor=None, reader=read_scan):
    """What is read, what is said of it, and the axes that it was read with."""
    asked = []

    def on(cor):
        asked.append(cor)
        return reader(path, cor=cor)

    return *read_on_likely_axis(on, cor), asked


@pytest.mark.parametrize("beam", [parallel(40, 6.4), fan(60, -5.0)], ids=["parallel", "fan"])
def test_an_axis_off_the_middle_is_found_and_that_is_said(beam, tmp_path):
    scan, said, asked = read(as_npz(tmp_path / "scan.npz", simulated(beam)))
    assert asked == [None, "auto"] and abs(scan.geometry.cor - beam.cor) < 0.4
    (told,) = said
    assert told.startswith(GIVES_NONE) and told.endswith("--cor 35.5 keeps it there.")
    assert any(s.startswith("The rotation axis was estimated") for s in scan.assumptions)
    assert not any("middle of the detector, cor" in s for s in scan.assumptions)


def test_an_axis_in_the_middle_is_left_there(tmp_path):
    scan, said, asked = read(as_npz(tmp_path / "scan.npz", simulated(parallel(40, 0.0))))
    assert asked == [None] and said == () and scan.geometry.cor == 35.5


def test_an_axis_that_is_given_is_not_looked_for(tmp_path):
    beam = parallel(40, 6.4)
    plain = as_npz(tmp_path / "plain.npz", simulated(beam))
    own = as_npz(tmp_path / "own.npz", simulated(beam), cor=35.5)
    for path, cor in ((plain, 35.5), (own, None)):
        scan, said, asked = read(path, cor)
        assert asked == [cor] and scan.geometry.cor == 35.5
        assert len(said) == 1 and "the rotation axis is at" in said[0]


def test_the_axis_of_a_stack_is_that_of_the_slice_in_its_middle(tmp_path):
    scan = simulated(parallel(40, 6.4))
    slices = SimpleNamespace(geometry=scan.geometry, sinogram=scan.sinogram.expand(2, -1, -1))
    stack, said, asked = read(as_npz(tmp_path / "stack.npz", slices), reader=read_stack)
    assert asked == [None, "auto"] and said[0].startswith(GIVES_NONE)
    assert abs(stack.geometry.cor - scan.geometry.cor) < 0.4


@pytest.mark.parametrize("slices", [1, 3])
def test_info_shows_the_axis_that_a_run_takes(tmp_path, slices):
    beam = parallel(40, 6.4)
    scan = simulated(beam)
    if slices > 1:
        scan = SimpleNamespace(geometry=beam, sinogram=scan.sinogram.expand(slices, -1, -1))
    path = as_npz(tmp_path / "scan.npz", scan)
    found = "\n".join(information(path, None, resolved_scan({})))
    (line,) = (line for line in found.splitlines() if line.strip().startswith("axis "))
    assert abs(float(line.split()[3].rstrip(",")) - beam.cor) < 0.4, line
    assert GIVES_NONE in found and "contradict each other as they are read" not in found
