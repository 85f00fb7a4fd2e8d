"""Conjugate gradients on the normal equations: the classical iterative reconstruction."""

import torch

from pdip.typing import Image, Sinogram


def cgls(
    ray,
    sinogram: Sinogram,
    *,
    iterations: int = 20,
    weights: Sinogram | None = None,
    stop_residual: float = 0.0,
) -> list[Image]:
    """Iterates of CGLS on ``min ½‖W^{1/2}(A x - y)‖²`` from x = 0 (Hestenes & Stiefel 1952).

    Few views make the later iterates noisy: the number of iterations is the regularisation.

    Args:
        ray: the ray transform A.
        sinogram: y, (views, detectors).
        iterations: at most this many.
        weights: W, one non-negative number per ray.
        stop_residual: stop once ``‖W^{1/2}(A x - y)‖²`` is at or below it.

    Returns:
        The image after each iteration, (height, width) each.
    """
    root = torch.ones_like(sinogram) if weights is None else weights.sqrt()
    image = torch.zeros(ray.domain_shape, dtype=sinogram.dtype, device=sinogram.device)
    residual = root * sinogram
    gradient = direction = ray.adjoint(root * residual)
    iterates = []
    for _ in range(iterations):
        power = gradient.square().sum()
        forward = root * ray.forward(direction)
        step = power / forward.square().sum()
        if not torch.isfinite(step):
            break
        image = image + step * direction
        residual = residual - step * forward
        iterates.append(image)
        if residual.square().sum() <= stop_residual:
            break
        gradient = ray.adjoint(root * residual)
        direction = gradient + gradient.square().sum() / power * direction
    return iterates
