"""Shape-named tensor aliases: the vocabulary of every public signature.

Batch axes lead. Images are attenuation in 1/mm on an :class:`~pdip.scan.ImageGrid`,
sinograms are line integrals (dimensionless), both row-major.
"""

from jaxtyping import Bool, Float
from torch import Tensor

Image = Float[Tensor, "*batch height width"]
Sinogram = Float[Tensor, "*batch views detectors"]
Params = Float[Tensor, "*batch params"]
Mask = Bool[Tensor, "height width"]
Scalar = Float[Tensor, ""]
Pixels = Float[Tensor, "*pixels"]
"""Pixels (or rays) in any arrangement: what is counted one by one."""
