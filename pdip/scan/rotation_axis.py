"""The record of an estimated rotation axis."""

from dataclasses import dataclass

from pdip.scan.binning import counted
from pdip.typing import Image

SURE = 1.0
"""Standard error in elements of the scan, above which the result is called doubtful."""


@dataclass(frozen=True)
class RotationAxis:
    """An estimate of ``cor``, the detector index hit by the ray through the axis.

    Indices count the elements of the file that the scan was read from, before joining.

    Attributes:
        cor: the estimate.
        standard_error: of it, in detector elements, from groups of views (jackknife) and
            what the pixels of the small copy add.
        tried, errors: indices tried, and the part of the views that no image explains at each.
        centred: ``cor`` of a centred detector.
        before, after: small reconstructions with the axis there and at the estimate, 1/mm.
        pixel_mm: of these.
        binning: elements that were joined when the scan was read.
    """

    cor: float
    standard_error: float
    tried: tuple[float, ...]
    errors: tuple[float, ...]
    centred: float
    before: Image
    after: Image
    pixel_mm: float
    binning: int = 1

    @property
    def is_sure(self) -> bool:
        """Whether it is known to an element of the scan."""
        return self.standard_error <= SURE * self.binning

    @property
    def sentence(self) -> str:
        """The estimate and its error in words."""
        warning = "" if self.is_sure else "WARNING: "
        doubt = "" if self.is_sure else "; the scan hardly tells, give cor"
        return (
            f"{warning}The rotation axis was estimated from the views at cor = {self.cor:.2f}"
            f"{counted(self.binning)} +- {self.standard_error:.2f} (the middle of the detector is "
            f"{self.centred:g}){doubt}."
        )
