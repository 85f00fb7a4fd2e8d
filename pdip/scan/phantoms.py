"""Test objects: images with values in [0, 1], read as attenuation in 1/mm.

Every object stays within 0.95 of the largest circle around the rotation axis that fits into the
grid, and a pixel is the mean of its 4 x 4 sub-pixels. Multiply by a physical value, such as 0.02
for water at 60 keV, before simulating photon counts.
"""

import math

import numpy as np
import torch

from pdip.scan.grid import ImageGrid
from pdip.typing import Image

SUBPIXELS = 4

# Modified Shepp-Logan (Toft 1996): value, half axes, centre, rotation in degrees.
SHEPP_LOGAN = (
    (1.0, 0.69, 0.92, 0.0, 0.0, 0.0),
    (-0.8, 0.6624, 0.8740, 0.0, -0.0184, 0.0),
    (-0.2, 0.1100, 0.3100, 0.22, 0.0, -18.0),
    (-0.2, 0.1600, 0.4100, -0.22, 0.0, 18.0),
    (0.1, 0.2100, 0.2500, 0.0, 0.35, 0.0),
    (0.1, 0.0460, 0.0460, 0.0, 0.1, 0.0),
    (0.1, 0.0460, 0.0460, 0.0, -0.1, 0.0),
    (0.1, 0.0460, 0.0230, -0.08, -0.605, 0.0),
    (0.1, 0.0230, 0.0230, 0.0, -0.606, 0.0),
    (0.1, 0.0230, 0.0460, 0.06, -0.605, 0.0),
)


def shepp_logan(grid: ImageGrid) -> Image:
    """Return the modified Shepp-Logan head: skull 1.0, brain 0.2, lesions 0.1 above it.

    Args:
        grid: pixels of the image.

    Returns:
        (height, width) float32 in [0, 1].
    """
    x, y = _subpixel_centres(grid)
    image = np.zeros(x.shape)
    for value, half_x, half_y, centre_x, centre_y, turn_deg in SHEPP_LOGAN:
        across, along = _turned(x - centre_x, y - centre_y, math.radians(turn_deg))
        image += value * ((across / half_x) ** 2 + (along / half_y) ** 2 <= 1)
    return _pixel_means(image)


def ellipses(grid: ImageGrid, generator: torch.Generator) -> Image:
    """Return 5 to 12 random ellipses, their values added up and clipped to [0, 1].

    Args:
        grid: pixels of the image.
        generator: source of randomness.

    Returns:
        (height, width) float32 in [0, 1].
    """
    uniform = _uniform(generator)
    x, y = _subpixel_centres(grid)
    image = np.zeros(x.shape)
    for _ in range(5 + int(8 * uniform(0, 1))):
        distance, direction = 0.6 * math.sqrt(uniform(0, 1)), uniform(0, 2 * math.pi)
        across, along = _turned(
            x - distance * math.cos(direction),
            y - distance * math.sin(direction),
            uniform(0, math.pi),
        )
        inside = (across / uniform(0.08, 0.35)) ** 2 + (along / uniform(0.08, 0.35)) ** 2 <= 1
        image += uniform(0.15, 0.6) * inside
    return _pixel_means(image.clip(0, 1))


def rectangles(
    grid: ImageGrid, generator: torch.Generator, *, turns_deg: tuple[float, float] = (0.0, 180.0)
) -> Image:
    """Return 3 to 6 random turned rectangles, the later ones on top.

    Args:
        grid: pixels of the image.
        generator: source of randomness.
        turns_deg: range of the turns; a narrow one gives the object preferred directions.

    Returns:
        (height, width) float32 in [0, 1].
    """
    uniform = _uniform(generator)
    x, y = _subpixel_centres(grid)
    image = np.zeros(x.shape)
    for _ in range(3 + int(4 * uniform(0, 1))):
        distance, direction = 0.5 * math.sqrt(uniform(0, 1)), uniform(0, 2 * math.pi)
        across, along = _turned(
            x - distance * math.cos(direction),
            y - distance * math.sin(direction),
            uniform(*map(math.radians, turns_deg)),
        )
        inside = (np.abs(across) <= uniform(0.06, 0.3)) & (np.abs(along) <= uniform(0.06, 0.3))
        image[inside] = uniform(0.2, 1.0)
    return _pixel_means(image)


def drilled_disc(grid: ImageGrid, generator: torch.Generator) -> Image:
    """Return a disc of value 1 with 3 to 8 round or long holes, as of acrylic with a drill.

    Args:
        grid: pixels of the image.
        generator: source of randomness.

    Returns:
        (height, width) float32 in [0, 1].
    """
    uniform = _uniform(generator)
    x, y = _subpixel_centres(grid)
    image = (np.hypot(x, y) <= 0.85).astype(float)
    for _ in range(3 + int(6 * uniform(0, 1))):
        distance, direction = 0.6 * math.sqrt(uniform(0, 1)), uniform(0, 2 * math.pi)
        along, across = _turned(
            x - distance * math.cos(direction),
            y - distance * math.sin(direction),
            uniform(0, math.pi),
        )
        beyond = np.maximum(np.abs(along) - uniform(0.0, 0.15), 0)
        image[np.hypot(beyond, across) <= uniform(0.04, 0.12)] = 0
    return _pixel_means(image)


def walnut(grid: ImageGrid, generator: torch.Generator) -> Image:
    """Return a walnut-like section: a bright wrinkled shell, air, and a lobed kernel.

    The shell (0.85 to 1.0) is 0.07 to 0.12 thick, the kernel (0.5 to 0.65) is split by a thin
    septum and furrowed from its rim, with a few cavities.

    Args:
        grid: pixels of the image.
        generator: source of randomness.

    Returns:
        (height, width) float32 in [0, 1].
    """
    uniform = _uniform(generator)
    x, y = _subpixel_centres(grid)
    across, along = _turned(x, y, uniform(0, math.pi))
    radius, direction = np.hypot(across / 0.92, along), np.arctan2(along, across)

    outer = 0.86 + _wave(direction, uniform, orders=range(2, 9), size=0.02)
    thickness = 0.095 + _wave(direction, uniform, orders=range(1, 5), size=0.006)
    image = np.where((radius <= outer) & (radius >= outer - thickness), uniform(0.85, 1.0), 0.0)

    rim = 0.66 + _wave(direction, uniform, orders=range(3, 14), size=0.03)
    kernel = radius <= rim
    for _ in range(7):
        angle = uniform(0, 2 * math.pi)
        inwards, sideways = _turned(across, along, angle)
        bent = sideways + 0.08 * np.sin(7 * inwards + angle)
        kernel &= ~((inwards > uniform(0.25, 0.45)) & (np.abs(bent) < uniform(0.015, 0.035)))
    for _ in range(3):
        distance, angle = uniform(0.15, 0.45), uniform(0, 2 * math.pi)
        centre_x, centre_y = distance * math.cos(angle), distance * math.sin(angle)
        kernel &= np.hypot(across - centre_x, along - centre_y) > uniform(0.03, 0.07)
    bent = across + 0.05 * np.sin(5 * along)
    image[kernel & (np.abs(bent) > 0.06)] = uniform(0.5, 0.65)
    septum = (np.abs(bent) < 0.02) & (radius < outer - thickness)
    image[septum] = uniform(0.7, 0.8)
    return _pixel_means(image)


def _wave(direction: np.ndarray, uniform, orders, size: float) -> np.ndarray:
    """Random closed wave with amplitudes up to size / sqrt(order)."""
    wave = np.zeros_like(direction)
    for order in orders:
        amplitude, phase = uniform(-size, size) / math.sqrt(order), uniform(0, 2 * math.pi)
        wave += amplitude * np.cos(order * direction + phase)
    return wave.clip(-2 * size, 2 * size)


def _uniform(generator: torch.Generator):
    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator, dtype=torch.float64))

    return uniform


def _subpixel_centres(grid: ImageGrid) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the sub-pixels, in units of the circle that fits into the grid."""
    height, width = grid.shape
    fine = ImageGrid((SUBPIXELS * height, SUBPIXELS * width), grid.pixel_mm / SUBPIXELS)
    x, y = fine.centres_mm()
    radius_mm = min(grid.size_mm) / 2
    x, y = np.meshgrid(x / radius_mm, y / radius_mm)
    return x, y


def _turned(x: np.ndarray, y: np.ndarray, turn_rad: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates along axes turned counter-clockwise by ``turn_rad``."""
    cos, sin = math.cos(turn_rad), math.sin(turn_rad)
    return cos * x + sin * y, cos * y - sin * x


def _pixel_means(fine: np.ndarray) -> torch.Tensor:
    height, width = (length // SUBPIXELS for length in fine.shape)
    means = fine.reshape(height, SUBPIXELS, width, SUBPIXELS).mean(axis=(1, 3))
    return torch.from_numpy(means.clip(0, 1).astype(np.float32))
