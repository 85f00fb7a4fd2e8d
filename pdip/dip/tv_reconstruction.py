"""The image of least total variation that explains the scan: what the network starts from."""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from pdip.dip.total_variation import edge_differences
from pdip.typing import Image, Sinogram


class TVIterate(NamedTuple):
    """The image after ``number`` iterations, which the last ten changed by the share ``change``."""

    number: int
    image: Image
    change: float


def tv_reconstruction(
    ray,
    sinogram: Sinogram,
    weights: Sinogram,
    tv_weight: float,
    *,
    max_iterations: int = 1000,
    tolerance: float = 3e-4,
) -> Image:
    """``min_{x >= 0} ½ ‖W^{1/2}(A x - y)‖² + λ TV(x)`` with the anisotropic total variation.

    Args:
        ray: A.
        sinogram: y, (views, detectors).
        weights: W, (views, detectors).
        tv_weight: λ, in units of the sinogram squared times mm.
        max_iterations: it ends here at the latest.
        tolerance: or where ten iterations change the image by less than this share.

    Returns:
        x, (height, width), 1/mm.
    """
    iterates = tv_iterates(ray, sinogram, weights, tv_weight)
    return settled(iterates, max_iterations, tolerance)


def settled(
    iterates: Iterator[TVIterate],
    max_iterations: int,
    tolerance: float,
    tell: Callable[[str], None] = lambda text: None,
) -> Image:
    """The image where the iterates no longer change; the iterator can go on from there.

    Args:
        iterates: of :func:`tv_iterates`.
        max_iterations: it ends here at the latest.
        tolerance: or where ten iterations change the image by less than this share.
        tell: called with what has been done so far.
    """
    for iterate in iterates:
        tell(f"iteration {iterate.number} of the TV reconstruction it starts from")
        if iterate.change <= tolerance or iterate.number >= max_iterations:
            break
    return iterate.image


def tv_iterates(
    ray, sinogram: Sinogram, weights: Sinogram, tv_weight: float
) -> Iterator[TVIterate]:
    """Every tenth image on the way to :func:`tv_reconstruction`, without end.

    The primal-dual method with a step for every ray, edge and pixel (Pock & Chambolle 2011,
    eq. 10), one projection and one backprojection an iteration.
    """
    mean_weight = float(weights.mean())  # only W : λ decides the minimiser, and the steps expect 1
    weights, tv_weight = weights / mean_weight, tv_weight / mean_weight
    sensitivity = ray.adjoint(torch.ones_like(sinogram))
    balance = float(sensitivity.mean()) / 4  # edges and rays pull equally on a pixel
    ray_step = 1 / ray.forward(torch.ones_like(sensitivity)).clamp(min=1e-3 * balance)
    pixel_step = 1 / (sensitivity + 4 * balance)
    image = extrapolated = torch.zeros_like(sensitivity)
    dual = torch.zeros_like(sinogram)
    edges = torch.zeros_like(edge_differences(image))
    for tens in itertools.count(1):
        before = image
        for _ in range(10):
            dual = dual + ray_step * (ray.forward(extrapolated) - sinogram)
            dual = dual * weights / (weights + ray_step)
            edges = edges + edge_differences(extrapolated) / 2
            edges = edges.clamp(-tv_weight / balance, tv_weight / balance)
            gradient = ray.adjoint(dual) + balance * edge_adjoint(edges, image.shape)
            newer = (image - pixel_step * gradient).clamp(min=0)
            image, extrapolated = newer, 2 * newer - image
        change = float((image - before).norm()) / max(float(image.norm()), 1e-300)
        yield TVIterate(10 * tens, image, change)


def edge_adjoint(edges: torch.Tensor, shape: tuple[int, int]) -> Image:
    """The adjoint of :func:`~pdip.dip.total_variation.edge_differences`."""
    height, width = shape
    vertical, horizontal = edges.split([(height - 1) * width, height * (width - 1)])
    image = edges.new_zeros(height, width)
    image[1:] += vertical.reshape(height - 1, width)
    image[:-1] -= vertical.reshape(height - 1, width)
    image[:, 1:] += horizontal.reshape(height, width - 1)
    image[:, :-1] -= horizontal.reshape(height, width - 1)
    return image
