"""Arrays that may be the view angles under a name that is not read: they are said to be there."""

import re
from collections.abc import Mapping

from pdip.scan.fields import ANGLE_KEYS
from pdip.scan.rows import measured_array

NAMES = re.compile(r"theta|ang|phi|rot", re.IGNORECASE)


def likely_angles(shapes: Mapping[str, tuple[int, ...]], fields: Mapping) -> tuple[str, ...]:
    """One sentence for each array that may be the angles of a scan that has none.

    Args:
        shapes: of what is in the file and is not read.
        fields: what is read.

    Example:
        >>> import numpy as np
        >>> likely_angles({"theta": (2,)}, {"sinogram": np.zeros((2, 5))})[0].split(";")[0]
        'Found but not used: theta (2 values)'
    """
    lengths = getattr(measured_array(dict(fields)), "shape", ())[-2:]
    if any(key in fields for key in ANGLE_KEYS):
        return ()
    return tuple(
        f"Found but not used: {name} ({max(shape)} values); if they are the view angles, save them "
        "as angles_deg (degrees) or angles (radians), or list them in a geometry file."
        for name, shape in shapes.items()
        if NAMES.search(name) and sum(n > 1 for n in shape) == 1 and max(shape) in lengths
    )
