"""The ray transform: line integrals of an image, their adjoint, and filtered backprojection."""

from pdip.ray.fbp import fbp
from pdip.ray.transform import (
    AdjointRayTransform,
    RayTransform,
    adjoint_mismatch,
    check_pair,
    ray_transform,
)

__all__ = [
    "AdjointRayTransform", "RayTransform", "adjoint_mismatch", "check_pair", "fbp", "ray_transform",
]  # fmt: skip
