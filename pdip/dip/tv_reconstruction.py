"""The image of least total variation that explains the scan: what the network starts from."""

import torch

from pdip.dip.total_variation import edge_differences
from pdip.typing import Image, Sinogram


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

    The primal-dual method with a step for every ray, edge and pixel (Pock & Chambolle 2011,
    eq. 10), one projection and one backprojection an iteration.

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
    mean_weight = float(weights.mean())  # only W : λ decides the minimiser, and the steps expect 1
    weights, tv_weight = weights / mean_weight, tv_weight / mean_weight
    sensitivity = ray.adjoint(torch.ones_like(sinogram))
    balance = float(sensitivity.mean()) / 4  # edges and rays pull equally on a pixel
    ray_step = 1 / ray.forward(torch.ones_like(sensitivity)).clamp(min=1e-3 * balance)
    pixel_step = 1 / (sensitivity + 4 * balance)
    image = extrapolated = torch.zeros_like(sensitivity)
    dual = torch.zeros_like(sinogram)
    edges = torch.zeros_like(edge_differences(image))
    before = image
    for iteration in range(1, max_iterations + 1):
        dual = dual + ray_step * (ray.forward(extrapolated) - sinogram)
        dual = dual * weights / (weights + ray_step)
        edges = edges + edge_differences(extrapolated) / 2
        edges = edges.clamp(-tv_weight / balance, tv_weight / balance)
        gradient = ray.adjoint(dual) + balance * edge_adjoint(edges, image.shape)
        newer = (image - pixel_step * gradient).clamp(min=0)
        image, extrapolated = newer, 2 * newer - image
        if iteration % 10 == 0:
            if float((image - before).norm()) <= tolerance * float(image.norm()):
                break
            before = image
    return image


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
