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
        solver: how the data are solved, as in :class:`Posterior`; None: as in the search for the
            hyperparameters.
        centre: the image shown: ``"network"``, that of the fit, ``"linear"``, the mean of the
            linear model around it, or ``"midpoint"`` between the two. None for ``"midpoint"``
            without output activation, where the linear model goes on from a fit that levelled off,
            else ``"network"``.
        progress: called with (network passes done, passes, ``"network passes"``), or with (restarts
            done, restarts, ``"restarts"``) where the algebra is dense and takes none.

    Raises:
        InputError: an unknown ``centre``.
        ComputationError: a solve that did not converge, as of :class:`Posterior`.
    """
    if centre is None:
        plain = models[0].jacobian.network.activation.name == "none"
        centre = "midpoint" if plain else "network"
    if centre not in CENTRES:
        raise InputError(f"expected centre {', '.join(CENTRES)}, got {centre!r}")
    posteriors = []
    for before, model in enumerate(models):
        part = None if progress is None else _part(progress, before, len(models))
        posterior = Posterior(model, scan, solver, progress=part)
        posterior.std()
        posteriors.append(posterior)
        if progress is not None and model.features.latent.pixel_gram is not None:
            progress(before + 1, len(models), "restarts")
    return Mixture(posteriors, centre=centre)


def _part(progress: Callable[[int, int, str], None], before: int, parts: int):
    """Network passes of one of several equal parts as passes of the whole."""

    def told(step: int, total: int) -> None:
        progress(before * total + step, parts * total, "network passes")

    return told
