"""The rotation axis of a file that gives none, where the views clearly put it off the middle."""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from pdip.errors import InputError
from pdip.scan.axis_check import AXIS_REMEDY
from pdip.scan.fields import MIDDLE_AXIS
from pdip.scan.readings import check_reading
from pdip.scan.scan import Scan
from pdip.scan.stack import Stack

Read = TypeVar("Read", Scan, Stack)


def read_on_likely_axis(
    read: Callable[[str | float | None], Read], cor: str | float | None
) -> tuple[Read, tuple[str, ...]]:
    """What is read, and what :func:`~pdip.scan.readings.check_reading` says of it.

    Where the axis is the middle of the detector for want of a better one, and all that is to be
    said is that the views contradict each other there, it is looked for as with ``auto``.

    Args:
        read: reads a scan or stack for a value of the setting ``cor``.
        cor: that was given; None: the axis is that of the file, if it gives one.

    Raises:
        InputError: of ``read``.
    """
    found = read(cor)
    said = _checked(found)
    assumed = any(sentence.startswith(MIDDLE_AXIS) for sentence in found.assumptions)
    if cor is None and assumed and len(said) == 1 and said[0].endswith(f"{AXIS_REMEDY}."):
        with suppress(InputError):
            again = read("auto")
            if again.rotation_axis.is_sure:
                told = (
                    "The file gives no rotation axis, and on the middle of the detector the views "
                    "contradict each other, so it was looked for; --cor "
                    f"{again.rotation_axis.centred:g} keeps it there."
                )
                return again, (told, *_checked(again))
    return found, said


def _checked(found: Scan | Stack) -> tuple[str, ...]:
    if isinstance(found, Scan):
        return check_reading(found)
    with suppress(InputError):  # of the slice in the middle: others may have a result
        return check_reading(found.middle)
    return ()
