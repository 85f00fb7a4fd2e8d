"""Every public function is called under its shape and type annotations."""

import os
import sys

import pytest
from jaxtyping import install_import_hook

# As pdip does for itself, but before a test loads torch: idle threads sleep on shared cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# An int passes for a float, as everywhere in Python.
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
# Geometry, scan and readers are left out: they take anything and answer with InputError.
ROOMS = [
    "pdip.scan.phantoms",
    "pdip.scan.simulate",
    "pdip.ray",
    "pdip.dip",
    "pdip.linearised",
    "pdip.solvers",
    "pdip.evidence",
    "pdip.posterior",
    "pdip.calibration",
    "pdip.baselines",
]

install_import_hook(ROOMS, CHECKER)

# Beside numba, which comes with diffct, scoringrules compiles for seconds when it is imported.
sys.modules["numba"] = None
import scoringrules  # noqa: E402, F401

del sys.modules["numba"]


@pytest.fixture(scope="module")
def rough_figures():
    """Figures that are drawn where nothing was laid out: half the time of a tiny run.

    For the tests of runs, which look at numbers and files; those of figures do without it.
    """
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ConstrainedLayoutEngine, "execute", lambda engine, figure: None)
        yield
