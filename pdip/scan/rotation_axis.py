"""The record of an estimated rotation axis."""

from dataclasses import dataclass

from pdip.typing import Image

SURE = 1.0
"""Standard error in detector elements, above which the result is called doubtful."""


@dataclass(frozen=True)
class RotationAxis:
    """An estimate of ``cor``, the detector index hit by the ray through the axis.

    Attributes:
        cor: the estimate.
        standard_error: of it, in detector elements, from groups of views (jackknife) and
            what the pixels of the small copy add.
        tried, errors: indices tried, and the part of the views that no image explains at each.
        centred: ``cor`` of a centred detector.
        before, after: small reconstructions with the axis there and at the estimate, 1/mm.
        pixel_mm: of these.
    """

    cor: float
    standard_error: float
    tried: tuple[float, ...]
    errors: tuple[float, ...]
    centred: float
    before: Image
    after: Image
    pixel_mm: float

    @property
    def sentence(self) -> str:
        """The estimate and its error in words."""
        warning = "" if self.standard_error <= SURE else "WARNING: "
        doubt = "" if self.standard_error <= SURE else "; the scan hardly tells, give cor"
        return (
            f"{warning}The rotation axis was estimated from the views at cor = {self.cor:.2f} +- "
            f"{self.standard_error:.2f} (the middle of the detector is {self.centred:g}){doubt}."
        )
