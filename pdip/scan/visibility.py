"""Which edges a scan sees: those that some ray touches along their length.

An edge leaves a mark in the data where a ray through it runs along it, that is where the normal of
the ray is that of the edge (Quinto 1993, Singularities of the X-ray transform and limited data
tomography); the others are what a limited arc of views does not determine.
"""

import numpy as np
import torch
from skimage.filters import gaussian, sobel_h, sobel_v

from pdip.scan.geometry import FanBeam, ParallelBeam
from pdip.scan.grid import ImageGrid
from pdip.typing import Image

SMOOTHING_PIXELS = 1.0


def ray_normals_rad(geometry: ParallelBeam | FanBeam, x_mm, y_mm) -> np.ndarray:
    """Direction of the normals of the rays through points, one ray a view: (views, *points).

    Args:
        geometry: of the scan; the width of its detector is not looked at.
        x_mm, y_mm: the points, of one shape.
    """
    x_mm, y_mm = np.asarray(x_mm)[None], np.asarray(y_mm)[None]
    angles = geometry.angles_rad.reshape(-1, *[1] * (x_mm.ndim - 1))
    if isinstance(geometry, ParallelBeam):
        return angles + np.zeros_like(x_mm)
    source_mm = geometry.source_origin_mm
    along_x, along_y = x_mm - source_mm * np.sin(angles), y_mm + source_mm * np.cos(angles)
    return np.arctan2(along_y, along_x) + np.pi / 2


def edge_visibility(
    image: Image, geometry: ParallelBeam | FanBeam, grid: ImageGrid
) -> tuple[Image, Image]:
    """How strong the edges of an image are, and how far they are from being seen.

    Args:
        image: (height, width), 1/mm.
        geometry: of the scan.
        grid: of the image.

    Returns:
        the norm of the gradient (Sobel, smoothed over a pixel), 1/mm, and the angle in degrees, 0
        to 90, between the normal of the edge and that of the nearest ray through the pixel, both
        (height, width) float32. An edge at 0 is seen.
    """
    smooth = gaussian(image.detach().double().cpu().numpy(), SMOOTHING_PIXELS)
    to_right, upwards = sobel_v(smooth), -sobel_h(smooth)
    normals = np.arctan2(upwards, to_right)
    x_mm, y_mm = np.meshgrid(*grid.centres_mm())
    apart = np.mod(ray_normals_rad(geometry, x_mm, y_mm) - normals, np.pi)
    unseen_deg = np.rad2deg(np.minimum(apart, np.pi - apart).min(0))
    strength = np.hypot(to_right, upwards)
    return torch.from_numpy(strength).float(), torch.from_numpy(unseen_deg).float()
