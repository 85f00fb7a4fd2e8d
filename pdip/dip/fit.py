"""The deep image prior fitted to one scan, with its own stopping rule."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from pdip.dip.noise import estimate_noise_std, photon_noise_std
from pdip.dip.restarts import train_restarts
from pdip.dip.start import BOUNDED_PIXELS, SMALL_PIXELS, STARTS, DataTerm, Start, Tell, choose_start
from pdip.dip.stopping import CUT_SHARE, STOPPING_RULES
from pdip.dip.training import Trained, Training, clipped
from pdip.dip.unet import UNet
from pdip.errors import ComputationError, InputError
from pdip.keeper import Keeper, part_of, record_of, tensors_of
from pdip.scan.checks import check_seed
from pdip.typing import Image

WORTH_FAULTS = 1.05  # times that a noise level is raised, from which it is no rounding
UNDER_FITTED_LEVEL = 4.0
UNDER_FITTED_SHARE = 1.3  # times the residual at which a fit is done that levelled off
OVER_FITTED_LEVEL = 0.3
SURE_STDS, WORTH_RAISING = 2.0, 0.01
"""Pixels at the end of the output are held down where the rays want them higher by so many std and
so much of the image scale."""
COARSEST_PIXELS = 7  # the U-Net goes down to about so many pixels a side


@dataclass(frozen=True)
class DIPFit:
    """A network fitted to one scan.

    Attributes:
        image: ``x* = f(θ*)``, (height, width), 1/mm.
        network: the architecture; its own weights are not used.
        network_input: z, (height, width).
        params: θ*, by parameter name.
        noise_std: σ of a ray of weight 1, given or estimated.
        tv_weight: λ of the objective.
        stop_reason: one sentence: why the fit ended where it did.
        history: ``step`` and ``mean_squared_residual`` (``held_out_mean_squared_error`` with
            ``stop="held_out"``) at every check.
        assumptions: what was assumed for the user.
        alternatives: the other restarts, fitted side by side.
    """

    image: Image
    network: UNet
    network_input: Image
    params: dict[str, Tensor]
    noise_std: float
    tv_weight: float
    stop_reason: str
    history: dict[str, list]
    assumptions: tuple[str, ...] = ()
    alternatives: tuple[DIPFit, ...] = field(default=())

    @property
    def restarts(self) -> tuple[DIPFit, ...]:
        """All fits, this one first."""
        return (self, *self.alternatives)


def fit_dip(
    scan,
    ray,
    network: UNet | Mapping | None = None,
    *,
    noise_std: float | None = None,
    tv_weight: float | None = None,
    start: str | None = None,
    learning_rate: float | None = None,
    max_steps: int = 4000,
    stop: str = "discrepancy",
    restarts: int | None = None,
    seed: int = 0,
    before: DIPFit | None = None,
    progress: Callable[[int, int, str], None] | None = None,
    keeper: Keeper | None = None,
) -> DIPFit:
    """Fit ``min_θ ½‖W^{1/2}(A f(θ; z) - y)‖² + λ TV(f(θ; z))`` from several random starts.

    Adam on the weights, all restarts at once, with a learning rate that grows: small steps while
    the image takes shape, large ones for its details. Its first value is added every 500 steps;
    from ``"fbp"`` it has 8 of them after 1 700 already. θ* is the running average of about the
    last 100 steps.

    Args:
        scan: the scan.
        ray: its ray transform.
        network: the architecture. None: a :class:`UNet` of as many scales as the grid has room
            for, its image scale set from the data, with a sigmoid up to 6 400 pixels (if that
            clips bright pixels, without) and no output activation beyond. A mapping: keywords of
            :class:`UNet` to use in it. A given network's weights are the first restart's start.
        noise_std: σ of a ray of weight 1 (None: that of the scan, or estimated from it).
        tv_weight: λ (None: ``0.3 σ² / image_scale`` from ``"fbp"``, else ``σ² / image_scale``).
        start: z, the image that goes into the network over its image scale. ``"fbp"``: filtered
            backprojection. ``"tv"``: the TV reconstruction, to which the network is fitted before
            it sees the data. ``"mixed"``: one restart after another from ``"tv"`` and ``"fbp"``.
            None: ``"tv"`` beyond 1 600 pixels, or ``"mixed"`` if the views leave out an arc;
            below, ``"fbp"`` with fewer rays than half the pixels or a noise of more than an
            eighth of the measured values (root mean squares), else ``"mixed"``.
        learning_rate: of Adam in the first step (None: 2e-4 to 4e-4, as it suits the start).
        max_steps: the fit ends here at the latest.
        stop: ``"discrepancy"`` ends a restart when its mean squared residual falls to the noise
            level or no longer falls, ``"held_out"`` when the error on a tenth of the rays,
            withheld, has passed its minimum.
        restarts: number of fits (None: up to 1 600 pixels 2 from ``"fbp"``, else 3; beyond, 1, or 2
            from ``"mixed"``).
        seed: of the first restart; the others count up from it.
        before: a fit of a scan that resembles this one, such as the neighbouring slice of a stack:
            its weights are the restarts' starts, one for one, without the warm-up of ``"tv"``,
            and its output activation is kept where ``network`` leaves it open.
        progress: called as ``progress(step, max_steps, text)``.
        keeper: keeps how far the fit is, about every 30 s, and what it holds is gone on from.

    Raises:
        InputError: a setting out of range.
        ComputationError: every restart collapsed to a constant image, or a given sigmoid network
            clips bright pixels.
    """
    check_settings(noise_std, tv_weight, start, learning_rate, max_steps, stop, restarts, seed)
    keeper, rule = keeper or Keeper(), STOPPING_RULES[stop]

    def tell(text: str) -> None:
        if progress:
            progress(0, max_steps, text)

    starts, data, assumptions = _begin(scan, ray, noise_std, start, rule, seed, keeper, tell)
    if restarts is None:
        small = math.prod(ray.domain_shape) <= SMALL_PIXELS
        restarts = starts[0].restarts if small else len(starts)
        assumptions.append(f"the network was fitted from {restarts} random start(s)")
    free_to_unbound = not isinstance(network, UNet) and "activation" not in (network or {})
    if not isinstance(network, UNet):
        network, assumed = _network(ray, starts[0], seed, network or {}, before)
        assumptions += assumed
    weights = () if before is None else _weights(before, network)
    if tv_weight is None:
        tv_weight = starts[0].tv_rate * data.noise_std**2 / network.image_scale
    training = Training(
        data, starts, tv_weight, learning_rate, max_steps, rule, seed, progress, keeper, weights
    )
    fits = train_restarts(training, network, restarts)
    if fits is None and free_to_unbound:
        network = network.like(activation="none", seed=seed)
        assumptions.append(
            "the sigmoid clipped bright pixels, so the fit was repeated without output activation"
        )
        fits = train_restarts(replace(training, before=()), network, restarts)
    if fits is None:
        raise ComputationError(
            f"the sigmoid clips pixels above {network.image_scale:.4g} 1/mm and the fit is stuck; "
            "raise image_scale or use activation 'none'"
        )
    levels = [data.level(fit.image) for fit in fits]
    bearable = UNDER_FITTED_LEVEL * max(1.0, min(levels))
    fits = [fit for fit, level in zip(fits, levels, strict=True) if level <= bearable]
    if len(fits) < restarts:
        assumptions.append(
            f"{restarts - len(fits)} of {restarts} fits collapsed or ended far above the residual "
            "of the others and were left out"
        )
    kept = [level for level in levels if level <= bearable]
    cut = any(fit.history["step"][-1] >= max_steps for fit in fits)
    assumptions += _doubts(kept, max(1.0, starts[0].noise_share), cut)
    assumptions += _held_down(data, fits)
    records = [
        DIPFit(
            image=fit.image,
            network=fit.network,
            network_input=fit.network_input,
            params=fit.params,
            noise_std=data.noise_std,
            tv_weight=tv_weight,
            stop_reason=fit.stop_reason,
            history=fit.history,
            assumptions=tuple(assumptions),
        )
        for fit in fits
    ]
    return replace(records[0], alternatives=tuple(records[1:]))


def _begin(
    scan, ray, noise_std, name, rule, seed, keeper, tell
) -> tuple[tuple[Start, ...], DataTerm, list[str]]:
    """The starts, the data term with its noise level, and what was assumed for them."""
    estimated, assumptions = noise_std is None, []
    if estimated:
        known = scan.noise_std is not None
        noise_std, how = (photon_noise_std if known else estimate_noise_std)(scan, ray)
        assumptions.append(how)
    data = DataTerm.of(scan, ray, noise_std)
    seen = replace(data, weights=rule.fitting_weights(data, seed))
    starts = _starts(
        name or choose_start(data, scan.geometry.angles_deg), seen, keeper.within("starts"), tell
    )
    found = starts[0].noise_std
    if not found > noise_std:
        return starts, data, assumptions
    excess = (found / noise_std) ** 2
    warning = "WARNING: " if excess > UNDER_FITTED_LEVEL else ""
    if estimated:
        faults = "rings, scatter, motion, beam hardening or an inexact geometry add to the noise"
        assumptions.append(
            f"{warning}the noise standard deviation was raised {found / noise_std:.3g} times, to "
            f"{found:.4g}: so much is left over by the best image without negative pixels"
            + (f" ({faults})" if found > WORTH_FAULTS * noise_std else "")
        )
        return starts, replace(data, noise_std=found), assumptions
    assumptions.append(
        f"{warning}the TV reconstruction leaves {excess:.3g} times the given noise variance, so "
        f"the fit ends at {excess * starts[0].noise_share:.3g} times it"
    )
    starts = tuple(
        replace(start, noise_std=noise_std, noise_share=excess * start.noise_share)
        for start in starts
    )
    return starts, data, assumptions


def _starts(name: str, seen: DataTerm, keeper: Keeper, tell: Tell) -> tuple[Start, ...]:
    """The starts of that name, which take long for large images, or those that were kept."""
    kept = keeper.recall()
    if kept is not None:
        numbers = sorted({key.partition(".")[0] for key in kept}, key=int)
        device = seen.sinogram.device
        return tuple(record_of(Start, part_of(kept, f"{number}."), device) for number in numbers)
    starts = STARTS[name](seen, tell)
    keeper.keep(
        {f"{n}.{k}": v for n, start in enumerate(starts) for k, v in tensors_of(start).items()}
    )
    return starts


def _network(
    ray, start: Start, seed: int, given: Mapping, before: DIPFit | None
) -> tuple[UNet, list[str]]:
    """The architecture for this grid and these data, and what was chosen beyond ``given``."""
    settings, assumed = dict(given), []
    if before is not None:
        settings.setdefault("activation", before.network.activation.name)
    if "scales" not in given:
        settings["scales"] = usual_scales(ray.domain_shape)
        assumed.append(f"the U-Net has {settings['scales']} scales, as the grid has room for")
    if "activation" not in settings and math.prod(ray.domain_shape) > BOUNDED_PIXELS:
        settings["activation"] = "none"
        assumed.append("the U-Net has no output activation, as the grid is large")
    if "image_scale" not in given:
        settings["image_scale"] = start.image_scale
        assumed.append(
            f"the network's image scale was set to {settings['image_scale']:.4g} 1/mm from the data"
        )
    return UNet(**{"seed": seed, **settings}), assumed


def usual_scales(shape: tuple[int, int]) -> int:
    """Scales of the U-Net where the settings leave them open: as many as the grid has room for."""
    return 1 + max(1, round(math.log2(min(shape) / COARSEST_PIXELS)))


def _weights(before: DIPFit, network: UNet) -> tuple[dict[str, Tensor], ...]:
    """The weights of an earlier fit's restarts, which must be those of such a network."""
    shapes = {name: value.shape for name, value in network.named_parameters()}
    if {name: value.shape for name, value in before.params.items()} != shapes:
        raise InputError(
            "expected a fit of the same architecture to begin with, got one of other weights; "
            "leave 'before' out or give the same network settings"
        )
    return tuple(fit.params for fit in before.restarts)


def _held_down(data: DataTerm, fits: list[Trained]) -> list[str]:
    """A warning where rays want pixels higher that a network's output cannot exceed.

    The rays tell of an image s that is 1 at these pixels: the least squares step along s and its
    std are ``sᵀ Aᵀ W r / ‖W^{1/2} A s‖²`` and ``σ / ‖W^{1/2} A s‖``, with σ of the residual r.
    """
    for fit in fits:
        held = clipped(fit.network, fit.image).to(fit.image)
        if not held.any():
            continue
        seen, residual = data.ray.forward(held), data.sinogram - data.ray.forward(fit.image)
        norm = (data.weights * seen.square()).sum().sqrt()
        step = float((data.weights * seen * residual).sum() / norm.square())
        std = math.sqrt(data.level(fit.image)) * data.noise_std / float(norm)
        scale = fit.network.image_scale
        if step > max(SURE_STDS * std, WORTH_RAISING * scale):
            return [
                f"WARNING: the network's output ends at {scale:.4g} 1/mm and holds "
                f"{int(held.sum())} pixels there, which the rays want {100 * step / scale:.2g}% "
                "higher; their error bars are too small; run with "
                f"--network.image_scale {1.5 * scale:.2g} or --network.activation none"
            ]
    return []


def _doubts(levels: list[float], done: float, cut: bool = False) -> list[str]:
    """Warnings about fits whose residual does not go with the noise level.

    Args:
        levels: mean squared residuals over the noise variance.
        done: where a fit is done, or 1.
        cut: whether a fit ended before it was done.
    """
    if max(levels) > (CUT_SHARE if cut else UNDER_FITTED_SHARE) * done:
        return [
            f"WARNING: a fit left a residual of {max(levels):.3g} times the noise variance; its "
            "error bars do not cover what the network failed to fit; raise max_steps or check the "
            "geometry"
        ]
    if min(levels) < OVER_FITTED_LEVEL:
        return [
            f"WARNING: the residual is only {min(levels):.2g} times the noise variance; the noise "
            "level is too high for this scan and the image is too smooth"
        ]
    return []


def check_settings(
    noise_std, tv_weight, start, learning_rate, max_steps, stop, restarts, seed
) -> None:
    """Raise InputError where a number of :func:`fit_dip` is out of range or a word unknown."""
    if noise_std is not None and not (noise_std > 0 and math.isfinite(noise_std)):
        raise InputError(f"expected a positive noise_std, got {noise_std}")
    if tv_weight is not None and not (tv_weight >= 0 and math.isfinite(tv_weight)):
        raise InputError(f"expected a non-negative tv_weight, got {tv_weight}")
    if learning_rate is not None and not learning_rate > 0:
        raise InputError(f"expected a positive learning_rate, got {learning_rate}")
    if max_steps < 1:
        raise InputError(f"expected max_steps of at least one step, got {max_steps}")
    if restarts is not None and restarts < 1:
        raise InputError(f"expected restarts of at least 1, got {restarts}")
    check_seed(seed)
    if stop not in STOPPING_RULES:
        raise InputError(f"expected stop to be one of {', '.join(STOPPING_RULES)}, got {stop!r}")
    if start is not None and start not in STARTS:
        raise InputError(f"expected start to be one of {', '.join(STARTS)}, got {start!r}")
