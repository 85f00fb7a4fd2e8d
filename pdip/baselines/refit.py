"""More fits of a scan under the conditions of the main path's."""

from __future__ import annotations

from pdip.dip import DIPFit, UNet, fit_dip
from pdip.ray import RayTransform

SEEDS_APART = 1000


def refit(
    scan,
    ray: RayTransform,
    fit: DIPFit,
    network: UNet,
    *,
    restarts: int,
    start: str | None,
    max_steps: int,
    seed: int,
) -> tuple[DIPFit, ...]:
    """Fits with the noise level, the TV weight and the stopping rule of the main path's fit.

    Args:
        scan: the scan.
        ray: its ray transform.
        fit: the main path's fit.
        network: settings of the network to fit; its weights are drawn anew.
        restarts: number of fits; those that collapse are left out.
        start: as for :func:`~pdip.dip.fit_dip`.
        max_steps: of every fit.
        seed: of the weights, which are never those of the main path.
    """
    first = fit.network.settings["seed"] + SEEDS_APART * (seed + 1)
    held_out = "held_out_mean_squared_error" in fit.history
    return fit_dip(
        scan,
        ray,
        network.like(seed=first),
        noise_std=fit.noise_std,
        tv_weight=fit.tv_weight,
        start=start,
        max_steps=max_steps,
        stop="held_out" if held_out else "discrepancy",
        restarts=restarts,
        seed=first,
    ).restarts
