"""The stages in order: one scan in, a reconstruction with error bars out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import torch

from pdip.checkpoints import Checkpoints
from pdip.device import checked_device
from pdip.dip import DIPFit, fit_dip
from pdip.errors import ComputationError
from pdip.evidence import EvidenceFit, optimise_evidence
from pdip.keeper import exact
from pdip.linearised import LinearGaussianModel, linearise, unet_prior
from pdip.linearised.choice import choice_of, name_of, with_choice
from pdip.plan import Plan, check_memory, plan
from pdip.posterior import Mixture, pooled_posterior, relinearise
from pdip.ray import RayTransform, check_pair, ray_transform
from pdip.result import Result, mean_of, worst_compression
from pdip.scan import Scan
from pdip.scan.checks import plural
from pdip.settings import Settings, chosen
from pdip.solvers import Solver
from pdip.stages import Observer, StageClock
from pdip.typing import Image
from pdip.withholding import random_rays, used_rays, without_rays


def reconstruct(
    scan: Scan,
    settings: Settings | Mapping[str, Mapping] | None = None,
    *,
    before: DIPFit | None = None,
    observer: Observer | None = None,
    checkpoints: Checkpoints | None = None,
) -> Result:
    """Fit, linearise, choose hyperparameters, and form the posterior: all stages, as the command.

    Args:
        scan: what was measured.
        settings: keywords of the stages that differ from their defaults, as :class:`Settings` or
            as ``{section: {key: value}}``; None for none.
        before: the fit of a scan that resembles this one, which this one's fit goes on from: of
            the neighbouring slice in a stack. None for a fit from random weights.
        observer: is told about progress, results and assumptions; None for silence.
        checkpoints: where stages are kept and found again, finished or not; None for nowhere.

    Returns:
        the reconstruction, its std, and the records of all stages.

    Raises:
        InputError: a setting or the scan cannot be used.
        ComputationError: a stage has no honest result.

    Example:
        >>> from pdip.scan import ImageGrid, ParallelBeam, shepp_logan, simulate
        >>> ray = ray_transform(ParallelBeam([0.0, 45.0, 90.0, 135.0], 12), ImageGrid((8, 8)))
        >>> scan = simulate(shepp_logan(ray.grid), ray, noise_fraction=0.05,
        ...                 generator=torch.Generator().manual_seed(0))
        >>> result = reconstruct(scan, {"network": {"scales": 2, "channels": 4},
        ...                             "dip": {"max_steps": 5, "restarts": 1}})
        >>> result.std.shape
        torch.Size([8, 8])
    """
    if not isinstance(settings, Settings):
        settings = Settings.of(settings or {})
    clock = StageClock(observer or Observer())
    run = _Run(scan, settings, clock, checkpoints or Checkpoints(), before)
    return run.result()


@dataclass
class _Run:
    """One walk through the stages."""

    scan: Scan
    settings: Settings
    clock: StageClock
    checkpoints: Checkpoints
    before: DIPFit | None

    def result(self) -> Result:
        # MKL may choose fewer threads until it is told how many, as every fit does: a run that
        # reads its fit back must not differ from one that computes it.
        torch.set_num_threads(torch.get_num_threads())
        self.clock.assume(self.scan.assumptions)
        self.clock.assume(self.checkpoints.assumptions)
        ray = self._ray()
        pixels = math.prod(ray.domain_shape)
        check_memory(self._asked_solver, self._num_rays, pixels, ray.device)
        fit = self._fit("fit", self.scan, ray)
        models = self._models(fit, ray)
        planned = self._plan(models)
        evidence = self._evidence(fit, models, ray, planned.solver)
        posterior, std = self._posterior(tuple(e.model for e in evidence), planned.solver)
        return Result(
            image=posterior.image,
            std=std,
            mean=posterior.mean,
            posterior=posterior,
            fit=fit,
            evidence=evidence,
            plan=planned,
            stages=dict(self.clock.costs),
            assumptions=tuple(self.clock.assumptions),
        )

    def _ray(self) -> RayTransform:
        with self.clock.stage("ray") as said:
            ray = ray_of(self.scan, self.settings)
            check_pair(ray)
            (views, detectors), (height, width) = ray.range_shape, ray.domain_shape
            said.append(
                f"{plural(views, 'view')} x {plural(detectors, 'detector')} to {height} x "
                f"{width} pixels of {self.scan.grid.pixel_mm:.4g} mm; {ray.engine_reason}"
            )
        return ray

    def _fit(self, name: str, scan: Scan, ray: RayTransform) -> DIPFit:
        saved = self.checkpoints.load_fit(name, ray)
        if saved is not None:
            fit, cost = saved
            if name == "fit":
                self.clock.assume(fit.assumptions)
            self.clock.skipped(name, cost, f"read back; {fit.stop_reason}")
            return fit
        with self.clock.stage(name) as said:
            fit = fit_dip(
                scan,
                ray,
                dict(self.settings.network),
                before=self.before,
                progress=self.clock.observer.progress,
                keeper=self.checkpoints.keeper(name),
                **self.settings.dip,
            )
            said.append(fit.stop_reason)
        if name == "fit":
            self.clock.assume(fit.assumptions)
        self.checkpoints.save_fit(name, fit, self.clock.costs[name])
        return fit

    def _models(self, fit: DIPFit, ray: RayTransform) -> list[LinearGaussianModel]:
        with self.clock.stage("linearise") as said:
            models = []
            for count, restart in enumerate(fit.restarts, 1):
                models.append(self._linearised(restart, ray))
                self.clock.observer.progress(count, len(fit.restarts), "restarts")
            said.append(f"{len(models[0].jacobian.vector)} weights, {len(models)} restart(s)")
        return models

    def _linearised(self, restart: DIPFit, ray: RayTransform) -> LinearGaussianModel:
        prior = unet_prior(restart.network, **self.settings.prior)
        return linearise(restart, ray, prior, **self.settings.linearise)

    def _evidence(self, fit, models, ray, solver: Solver) -> tuple[EvidenceFit, ...]:
        saved = self.checkpoints.load_evidence(models)
        if saved is not None:
            fits, cost = saved
            self.clock.skipped("evidence", cost, f"read back; {evidence_sentence(fits)}")
        elif self.settings.evidence.get("objective") == "conditional":
            fits = self._conditional_evidence(models, ray, solver)
        else:
            fits = self._optimised(models, self.scan, solver, fit.tv_weight)
        if saved is None:
            self.checkpoints.save_evidence(fits, self.clock.costs["evidence"])
        self.clock.assume(
            f"the search for hyperparameters of restart {number} ended after "
            f"{found.num_evaluations} evaluations before it converged (gradient "
            f"{found.gradient_norm:.2g} nats)"
            for number, found in enumerate(fits, 1)
            if not found.converged
        )
        return fits

    def _optimised(
        self, models, seen: Scan, solver: Solver, tv_weight: float, held_out=None
    ) -> tuple[EvidenceFit, ...]:
        """The models at their best hyperparameters; their slopes know the rays of ``seen``."""
        keywords = dict(self.settings.evidence) | {"solver": solver}
        for key in ("objective", "hyperprior"):
            if key in keywords:
                keywords[key] = chosen(key, keywords[key], tv_weight=tv_weight, held_out=held_out)
        with self.clock.stage("evidence") as said:
            fits = []
            for before, model in enumerate(models):
                part = self._part(before, len(models))
                fits.append(self._search(model, seen, {"progress": part, **keywords}))
            said.append(evidence_sentence(fits))
        return tuple(fits)

    def _search(self, model, seen, keywords) -> EvidenceFit:
        """One model at its best hyperparameters, chosen again once its slopes are known."""
        keeper = self.checkpoints.keeper("evidence").within(name_of(model))
        kept = keeper.recall()
        if kept is None:
            place = keeper.within("first")
            found = optimise_evidence(model, self.scan, keeper=place, **keywords)
            again = relinearise(found.model, seen, keywords["solver"])
            if again is found.model:
                return found
            evaluations = found.num_evaluations
            keeper.keep(choice_of(again) | {"evaluations": exact(evaluations)})
        else:
            again, evaluations = with_choice(model, kept), kept["evaluations"].tolist()
        place = keeper.within("again")
        found = optimise_evidence(again, self.scan, keeper=place, **keywords)
        return replace(found, num_evaluations=evaluations + found.num_evaluations)

    def _conditional_evidence(self, models, ray, solver) -> tuple[EvidenceFit, ...]:
        """Hyperparameters chosen on rays that a fit of its own did not see, for ``models``."""
        seed = self.settings.dip.get("seed", 0)
        withheld = random_rays(self.scan, seed)
        partial = without_rays(self.scan, withheld)
        fit = self._fit("fit_without_held_out", partial, ray)
        witnesses = [self._linearised(restart, ray) for restart in fit.restarts]
        found = self._optimised(witnesses, partial, solver, fit.tv_weight, withheld)
        paired = zip(models, (found[i % len(found)] for i in range(len(models))), strict=True)
        return tuple(
            replace(
                choice,
                model=relinearise(model.at(choice.model.log_hyperparameters), self.scan, solver),
            )
            for model, choice in paired
        )

    @property
    def _asked_solver(self) -> Solver | None:
        given = self.settings.evidence.get("solver")
        return None if given is None else chosen("solver", given)

    @property
    def _num_rays(self) -> int:
        """Rays of positive weight."""
        return int(used_rays(self.scan).sum())

    def _plan(self, models: list[LinearGaussianModel]) -> Plan:
        """The solver that was asked for, else the one that suits, and what it will cost."""
        with self.clock.stage("plan") as said:
            planned = plan(
                models[0], self._num_rays, restarts=len(models), solver=self._asked_solver
            )
            said.append(planned.sentence)
        return planned

    def _posterior(self, models, solver: Solver) -> tuple[Mixture, Image]:
        own = self.settings.posterior.get("solver")
        solver = solver if own is None else chosen("solver", own)
        with self.clock.stage("posterior") as said:
            posterior = pooled_posterior(
                models,
                self.scan,
                **{**self.settings.posterior, "solver": solver},
                progress=self.clock.observer.progress,
            )
            std = posterior.std()
            if not bool(torch.isfinite(std).all() and torch.isfinite(posterior.image).all()):
                raise ComputationError(
                    "the posterior holds values that are NaN or infinite; raise the noise level "
                    "with --noise-std or use float64 with --ray.dtype float64"
                )
            self.clock.assume(unknown_sentences(posterior))
            said.append(
                f"mean std {float(std.mean()):.3g} 1/mm, worst residual of the solves "
                f"{posterior.solution.worst_residual:.1e}"
            )
        return posterior, std

    def _part(self, before: int, parts: int):
        """Progress of one of several equal parts as progress of the whole."""

        def progress(step: int, total: int, text: str) -> None:
            self.clock.observer.progress(before * total + step, parts * total, text)

        return progress


def ray_of(scan: Scan, settings: Settings) -> RayTransform:
    """The ray transform of a scan as the settings want it."""
    keywords = dict(settings.ray)
    keywords["device"] = checked_device(keywords.get("device", "cpu"))
    keywords["dtype"] = chosen("dtype", keywords.get("dtype", "float32"))
    return ray_transform(scan.geometry, scan.grid, **keywords)


def unknown_sentences(posterior: Mixture) -> Iterator[str]:
    """What the solver left out of a posterior, and so is part of its variance."""
    compression = worst_compression(posterior)
    if compression is not None:
        rays, kept = compression.basis.shape
        yield (
            f"the posterior is that given {kept} combinations of the {rays} rays; the signal "
            f"outside of them, {compression.left_outside / rays:.2g} noise variances a ray, counts "
            "as unknown"
        )
    if not posterior.solution.converged:
        yield (
            "conjugate gradients ended with a relative residual of "
            f"{posterior.solution.worst_residual:.1e}; what they left counts as unknown"
        )


def evidence_sentence(fits) -> str:
    """The result of the search for hyperparameters in one sentence."""
    evaluations = sum(fit.num_evaluations for fit in fits)
    noise = mean_of(math.sqrt(float(fit.model.noise_variance)) for fit in fits)
    value = mean_of(fit.log_evidence for fit in fits)
    ended = "converged" if all(fit.converged for fit in fits) else "not converged"
    return (
        f"log evidence {value:.1f} nats, noise std {noise:.4g}, {ended} after {evaluations} "
        "evaluations"
    )
