"""``python -m pdip.cuda_selftest cuda:0``: engine `astra_cuda` against the exact matrix.

Run in a process of its own, which a broken CUDA set-up may kill. Exit code 0 where the projections
of three blobs, and the inner products of the blobs with backprojections, agree with the matrix in
both beams; else 1, and the last line on stderr says what differs.
"""

import sys

import torch

from pdip.ray.engine_astra_cuda import AstraCudaEngine
from pdip.ray.engine_matrix import MatrixEngine
from pdip.scan import FanBeam, ImageGrid, ParallelBeam

GRID = ImageGrid((24, 32), 0.8)
ANGLES = [5.0 + 30.0 * view for view in range(12)]
SCANS = {
    "parallel": ParallelBeam(ANGLES, 44, 0.8, 1.1),
    "fan": FanBeam(ANGLES, 48, 1.2, 60.0, 30.0, -1.5),
}
TOLERANCE = 0.02
"""Relative L2 distance of smooth data; a wrong axis, sign, shift or unit is far beyond it."""


def worst_distance(engine_class=AstraCudaEngine, device: str = "cpu") -> tuple[float, str]:
    """The largest relative distance to the matrix, and of which map and beam it is."""
    distances = []
    for beam, geometry in SCANS.items():
        place = torch.device(device)
        exact = MatrixEngine.build(
            geometry, GRID, projector="linear", device=place, dtype=torch.float32
        )
        engine = engine_class(geometry, GRID, place, torch.float32)
        images = torch.stack([blob(3.0, -4.0), blob(-6.0, 2.5), blob(1.0, 5.5)]).to(place)
        sinograms = exact.forward(images)
        few = sinograms * (torch.arange(len(ANGLES), device=place)[:, None] < 3)
        moments = images.flatten(1).T  # single pixels of a rough backprojection differ more
        for what, value, reference in [
            ("projection", engine.forward(images), sinograms),
            (
                "backprojection",
                engine.adjoint(few).flatten(1) @ moments,
                exact.adjoint(few).flatten(1) @ moments,
            ),
        ]:
            distance = torch.linalg.vector_norm(value - reference)
            distance = float(distance / torch.linalg.vector_norm(reference))
            distances.append((distance, f"{what} of a {beam} beam"))
    return max(distances)


def blob(x_mm: float, y_mm: float) -> torch.Tensor:
    """A Gaussian of 3 mm std on the grid."""
    x, y = (torch.from_numpy(centres).float() for centres in GRID.centres_mm())
    return torch.exp(-((x - x_mm) ** 2 + (y[:, None] - y_mm) ** 2) / 18)


def main(device: str) -> int:
    """Exit code of the self-test on that device."""
    distance, what = worst_distance(device=device)
    if distance <= TOLERANCE:
        return 0
    print(f"the {what} differs from the matrix by {distance:.2g}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
