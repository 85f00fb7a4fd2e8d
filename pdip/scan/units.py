"""Units as files spell them."""

import math

from pdip.errors import InputError

DEGREES = {
    **dict.fromkeys(("degree", "degrees", "deg", "°"), 1.0),
    **dict.fromkeys(("radian", "radians", "rad"), math.degrees(1.0)),
}
"""Spelling -> degrees in the unit."""

MILLIMETRES = {
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1e3),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("um", "µm", "μm", "micron", "microns", "micrometer", "micrometers"), 1e-3),
}
"""Spelling -> millimetres in the unit."""


def factor(unit: str, known: dict[str, float], what: str) -> float:
    """What a value in ``unit`` is multiplied with.

    Args:
        unit: as the file spells it.
        known: :data:`DEGREES` or :data:`MILLIMETRES`.
        what: has the unit, for the message.

    Raises:
        InputError: another unit.
    """
    spelling = unit.strip().lower()
    if spelling not in known:
        raise InputError(
            f"the unit of {what} is {unit[:40]!r}, expected one of {', '.join(known)}; "
            "give the geometry in a YAML file (--geometry)."
        )
    return known[spelling]
