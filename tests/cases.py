"""The things that laws hold for, each with its dense truth. A new one is one line here."""

from dataclasses import dataclass

from pdip.baselines.linearised import factorised_prior
from pdip.dip import UNet
from pdip.linearised import unet_prior
from pdip.scan import FanBeam, ImageGrid, ParallelBeam
from pdip.solvers import Cholesky, Projected

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
        device: where it runs; "cuda" is skipped where there is no GPU.
        weights: of the dense truth, where it is not the projector's name.
        transpose: distance of the adjoint of noise to the transpose's; None for ``adjoint``.
        rounding: of a repeated or reordered computation; None for ``adjoint``.
        single: relative distance of single to double precision.
        package: what must be installed.
    """

    engine: str
    projector: str
    truth: float = 3e-5
    adjoint: float = 1e-12
    refused: tuple[str, ...] = ()
    device: str = "cpu"
    weights: str | None = None
    transpose: float | None = None
    rounding: float | None = None
    single: float = 2e-6
    package: str | None = None


PARALLEL = tuple(name for name in GEOMETRIES if name.startswith("parallel"))

PIXEL_DRIVEN: dict = {
    "device": "cuda",
    "weights": "joseph",
    "adjoint": 0.15,  # on grids as small as these; tests/emulated_astra.py has up to 0.10
    "transpose": 0.7,  # likewise, 0.48 where the detector stands in the image
    "rounding": 1e-5,
}

ENGINES = {
    "matrix linear": EngineCase("matrix", "linear"),
    "matrix line": EngineCase("matrix", "line"),
    "matrix strip": EngineCase(
        "matrix", "strip", truth=2e-3, refused=("fan shifted", "fan reversed")
    ),
    "odl": EngineCase("odl", "linear", adjoint=1e-6, package="odl"),
    "diffct": EngineCase("diffct", "line", truth=1e-12, package="diffct"),
    "diffct linear": EngineCase(
        "diffct", "linear", truth=1e-12, refused=PARALLEL, package="diffct"
    ),
    "matrix cuda": EngineCase("matrix", "linear", device="cuda"),
    "diffct cuda": EngineCase(
        "diffct", "line", truth=1e-12, device="cuda", package="diffct", single=1e-5
    ),
    # Texture fractions have 8 bits. A 3-D cone interpolates in one direction in each view, which is
    # 6.5e-2 from one for each ray in "fan reversed".
    "astra_cuda": EngineCase("astra_cuda", "linear", truth=2e-2, **PIXEL_DRIVEN),
    "tomosipo": EngineCase("tomosipo", "linear", truth=8e-2, package="tomosipo", **PIXEL_DRIVEN),
}


# PRIORS: name -> (network, prior). The dense truth is dense_model.dense_prior_covariance.

SMALL = UNet(2, 4, skip_channels=2, image_scale=0.8)
NORMED = UNet(2, 4, skip_channels=2, norm="group", activation="softplus", image_scale=1.5)
LINEAR = UNet(2, 4, skip_channels=0, activation="none", image_scale=2.0)
ONE_SCALE = UNet(1, 4)

PRIORS = {
    "filters and 1x1": (SMALL, unet_prior(SMALL)),
    "no skips": (LINEAR, unet_prior(LINEAR, variance=0.3, lengthscale=2.5)),
    "one scale": (ONE_SCALE, unet_prior(ONE_SCALE, lengthscale=0.2)),
    "biases": (SMALL, unet_prior(SMALL, biases=True)),
    "norms": (NORMED, unet_prior(NORMED, norms=True)),
    "biases and norms": (NORMED, unet_prior(NORMED, biases=True, norms=True)),
    "factorised": (SMALL, factorised_prior(SMALL)),
}


# SOLVERS: name -> (solver, tolerance of its answers against the dense inverse).

SOLVERS = {"cholesky": (Cholesky(), 1e-9), "projected": (Projected(rank=3), 1e-9)}


# MODELS: name -> how the linear Gaussian model is set up. The dense truth is DenseModel.


@dataclass(frozen=True)
class ModelCase:
    """A model around the untrained network.

    Args:
        network: its architecture and weights.
        activation: as for ``linearise``.
        nugget_std: as for ``linearise``.
        weighted: whether the rays have unequal weights, some of them 0.
        biases, norms, variance: as for ``unet_prior``.
        geometry, grid: of the ray transform.
    """

    network: UNet
    activation: str
    nugget_std: float | None = None
    weighted: bool = False
    biases: bool = False
    norms: bool = False
    variance: float = 0.02
    geometry: ParallelBeam | FanBeam = ParallelBeam(ANGLES, 11)
    grid: ImageGrid = ImageGrid((8, 9))


MODELS = {
    "through": ModelCase(SMALL, "through"),
    "through nugget": ModelCase(SMALL, "through", nugget_std=0.1, weighted=True),
    "before": ModelCase(SMALL, "before", weighted=True),
    "before nugget": ModelCase(SMALL, "before", nugget_std=0.05),
    "before norms": ModelCase(NORMED, "before", biases=True, norms=True, variance=0.002),
    "none": ModelCase(LINEAR, "before", nugget_std=0.2),
}
