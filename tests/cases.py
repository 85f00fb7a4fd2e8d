"""The things that laws hold for, each with its dense truth. A new one is one line here."""

from dataclasses import dataclass

from pdip.scan import FanBeam, ImageGrid, ParallelBeam

# GEOMETRIES: name -> (geometry, grid). The dense truth is dense_ray.dense_ray.

ANGLES = (12.0, 47.0, 81.0, 133.0)
WIDE = ImageGrid((6, 9), 0.7)

GEOMETRIES = {
    "parallel": (ParallelBeam(ANGLES, 11), ImageGrid((8, 8))),
    "parallel shifted": (ParallelBeam(ANGLES, 12, 0.6, 0.9), WIDE),
    "parallel reversed": (ParallelBeam((170.0, 95.0, 33.0, -41.0), 12, 0.6, -0.3), WIDE),
    "fan": (FanBeam((12.0, 100.0, 190.0, 290.0), 11, 1.5, 20.0, 12.0), ImageGrid((8, 8))),
    "fan shifted": (FanBeam((12.0, 100.0, 190.0), 12, 1.2, 15.0, 9.0, 0.85), WIDE),
    "fan reversed": (FanBeam((310.0, 140.0, 140.0, -25.0), 12, 1.2, 15.0, 0.0, -0.4), WIDE),
}


# ENGINES: name -> how to ask for it, and how exact it is.


@dataclass(frozen=True)
class EngineCase:
    """An engine and projector with its tolerances in float64.

    Args:
        engine, projector: as for ``ray_transform``.
        truth: relative distance of the matrix to the dense truth (ASTRA's weights are float32).
        adjoint: relative adjoint mismatch; rounding of the precision the engine computes in.
        refused: names of GEOMETRIES that the engine must refuse.
    """

    engine: str
    projector: str
    truth: float = 3e-5
    adjoint: float = 1e-12
    refused: tuple[str, ...] = ()


PARALLEL = tuple(name for name in GEOMETRIES if name.startswith("parallel"))

ENGINES = {
    "matrix linear": EngineCase("matrix", "linear"),
    "matrix line": EngineCase("matrix", "line"),
    "matrix strip": EngineCase(
        "matrix", "strip", truth=2e-3, refused=("fan shifted", "fan reversed")
    ),
    "odl": EngineCase("odl", "linear", adjoint=1e-6),
    "diffct": EngineCase("diffct", "line", truth=1e-12),
    "diffct linear": EngineCase("diffct", "linear", truth=1e-12, refused=PARALLEL),
}
