"""The posterior stage: one posterior for each restart, pooled by its moments."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pdip.errors import InputError
from pdip.linearised import LinearGaussianModel
from pdip.posterior.mixture import CENTRES, Mixture
from pdip.posterior.posterior import Posterior
from pdip.solvers import Solver


def pooled_posterior(
    models: Sequence[LinearGaussianModel],
    scan,
    *,
    solver: Solver | None = None,
    centre: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Mixture:
    """The posterior of the restarts of one fit: :class:`Posterior` of each in a :class:`Mixture`.

    Args:
        models: of the restarts, at the hyperparameters to use.
        scan: the scan.
        solver: as in :class:`Posterior`.
        centre: the image shown, ``"network"``, ``"linear"`` or ``"midpoint"`` as in
            :class:`Mixture`. None for ``"midpoint"`` without output activation, where the linear
            model goes on from a fit that levelled off, else ``"network"``.
        progress: called with (restarts done, restarts, ``"restarts"``).

    Raises:
        InputError: an unknown ``centre``.
        ComputationError: a solve that did not converge.
    """
    if centre is None:
        plain = models[0].jacobian.network.activation.name == "none"
        centre = "midpoint" if plain else "network"
    if centre not in CENTRES:
        raise InputError(f"expected centre {', '.join(CENTRES)}, got {centre!r}")
    posteriors = []
    for count, model in enumerate(models, 1):
        posterior = Posterior(model, scan, solver)
        posterior.std()
        posteriors.append(posterior)
        if progress is not None:
            progress(count, len(models), "restarts")
    return Mixture(posteriors, centre=centre)
