"""Open data sets whose files hold a sinogram and no geometry, known by its shape.

FIPS, the Finnish Inverse Problems Society, publishes them with a document that has the geometry.
"""

import numpy as np

LOTUS = {
    "geometry": "fanflat",
    "angles_deg": np.arange(366.0),
    "source_origin_mm": 540.0,
    "origin_detector_mm": 90.0,
    "det_pixel_mm": 0.05,
    # Rays that were measured from both sides agree best for an axis here; the document has none.
    "cor": 1113.67,
}
"""Bubba et al. (2016), Tomographic X-ray data of a lotus root filled with attenuating objects,
arXiv:1609.07299: 366 views in steps of 1 degree, source to detector 630 mm."""

KNOWN = {(2240, 366): ("the lotus root of FIPS (arXiv:1609.07299)", LOTUS)}
"""Shape of the sinogram (detectors, views) -> what it is, and its geometry."""


def known_geometry(sinogram) -> tuple[dict, str] | None:
    """The sinogram as (views, detectors) with its geometry, and what to say; None if not known."""
    if tuple(sinogram.shape) not in KNOWN:
        return None
    name, geometry = KNOWN[tuple(sinogram.shape)]
    detectors, views = sinogram.shape
    said = (
        f"A sinogram of {detectors} detectors x {views} views without a geometry is taken to be "
        f"{name}, and gets its geometry; --geometry gives another."
    )
    return {**geometry, "sinogram": sinogram.T}, said
