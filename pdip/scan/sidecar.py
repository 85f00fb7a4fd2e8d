"""Read geometry and kind of data from YAML: the file beside a ``.npy`` scan, or one named for it.

geometry: fanflat             # or parallel
first_deg: 0                  # first view, and ...
step_deg: 1.5                 # ... counter-clockwise step (negative: clockwise);
                              # or angles_deg: [0, 1.5, ...]; or angles: [...] in radians
det_pixel_mm: 0.2             # width of a detector element
cor: 279.4                    # detector index hit by the ray through the axis, counted from 0;
                              # or detector_shift_mm: 0.03
source_origin_mm: 410.66      # fanflat only: source to axis
origin_detector_mm: 143.08    # fanflat only: axis to detector
image_shape: [128, 128]       # optional: rows, columns
pixel_mm: 0.6                 # optional: side of a pixel
data_kind: counts             # optional: or transmission, or line_integrals; for counts ...
flat: flat.npy                # ... the open beam: a file beside this one, or a number
dark: 105                     # ... counts without beam, likewise
gain: 0.62                    # ... counts per photon; estimated from repeated flats
"""

import difflib
from pathlib import Path

from pdip.errors import InputError
from pdip.scan.fields import GEOMETRY_KEYS, GRID_KEYS
from pdip.scan.preprocessing import PREPROCESSING_KEYS
from pdip.scan.yaml_file import read_yaml

OPEN_BEAM = ("flat", "dark", "blank")
"""Keys that may name a file, beside the YAML file."""

SIDECAR_KEYS = (*GEOMETRY_KEYS, *GRID_KEYS, *PREPROCESSING_KEYS)


def find_sidecar(scan_path: Path) -> Path | None:
    """Return scan.yaml or scan.yml next to scan.npy, or to the folder scan, or None."""
    name = scan_path.name if scan_path.is_dir() else scan_path.stem
    candidates = (scan_path.with_name(f"{name}.yaml"), scan_path.with_name(f"{name}.yml"))
    return next((path for path in candidates if path.exists()), None)


def read_sidecar(path: str | Path) -> dict:
    """Return the geometry and grid keys of a YAML file.

    Raises:
        InputError: not readable, not a mapping, or a key that is not known.
    """
    keys = read_yaml(path, "geometry file")
    name = Path(path).name
    if not isinstance(keys, dict):
        raise InputError(f"{name} must hold lines 'key: value', such as 'geometry: parallel'.")
    for key in keys:
        if key not in SIDECAR_KEYS:
            near = difflib.get_close_matches(str(key)[:80], SIDECAR_KEYS, n=1, cutoff=0.0)
            raise InputError(f"unknown key {str(key)[:80]!r} in {name}; nearest: {near[0]!r}.")
    return {
        key: str(Path(path).parent / value)
        if key in OPEN_BEAM and isinstance(value, str)
        else value
        for key, value in keys.items()
        if value is not None
    }
