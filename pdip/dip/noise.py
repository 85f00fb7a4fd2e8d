"""The noise level of one scan, from the scan alone."""

import math
from dataclasses import dataclass

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from pdip.errors import InputError

MAX_RAYS = 800
MORE_THAN_PHOTONS = 1.25  # ratio of estimated to expected noise level that is no chance
MAX_SPECTRA_BYTES = 500_000_000
LENGTHSCALES_PX = tuple(float(v) for v in torch.logspace(math.log10(0.5), 1.5, 13))


@dataclass(frozen=True)
class MaternImages:
    """Images as a Gaussian process over pixels, ``x ~ N(0, v C)`` with a Matérn-3/2 correlation C.

    Attributes:
        log_evidence: of the rays that were used, up to a constant, nats.
        noise_variance: σ² of a ray of weight 1.
        signal_variance: v, 1/mm².
        lengthscale_px: of C, in pixels.
        num_rays: the number of rays behind it.
    """

    log_evidence: float
    noise_variance: float
    signal_variance: float
    lengthscale_px: float
    num_rays: int


def matern_images(scan, ray, *, noise_std: float | None = None) -> MaternImages:
    """The Matérn image model of greatest evidence for a scan.

    The sinogram is ``N(0, v A C Aᵀ + σ² W⁻¹)``; σ, v and the lengthscale maximise its marginal
    likelihood (Rasmussen & Williams 2006, eq. 5.8). At most 800 rays are used, fewer on grids
    beyond 256², in evenly spread views, of a wide detector the middle.

    Args:
        scan: the scan; rays of weight 0 are left out.
        ray: its ray transform.
        noise_std: σ where it is known; None: it is chosen like the others.

    Raises:
        InputError: fewer than 20 rays can be used.
    """
    rows, y, scale = _selected_rays(scan, ray)
    spectra = _spectra(rows)
    noise_variance = None if noise_std is None else noise_std**2
    candidates = [
        _best_at(spectra, y, scale, ell, ray.domain_shape, noise_variance)
        for ell in LENGTHSCALES_PX
    ]
    return max(candidates, key=lambda found: found.log_evidence)


def matern_correlation(distance_px: Tensor, lengthscale_px: float) -> Tensor:
    """``(1 + s) exp(-s)`` with ``s = √3 d / ℓ``, elementwise (Rasmussen & Williams 2006, 4.17)."""
    scaled = distance_px * math.sqrt(3) / lengthscale_px
    return (1 + scaled) * torch.exp(-scaled)


def estimate_noise_std(scan, ray) -> tuple[float, str]:
    """Noise standard deviation σ of a ray of weight 1, by the evidence of a simple image model.

    That of :func:`matern_images`: what no image of any smoothness explains consistently across
    the views is noise.

    Args:
        scan: the scan; rays of weight 0 are left out.
        ray: its ray transform.

    Returns:
        σ in the sinogram's unit, and a sentence that says how it was found.

    Raises:
        InputError: fewer than 20 rays can be used.
    """
    found = matern_images(scan, ray)
    noise_std = math.sqrt(found.noise_variance)
    how = (
        f"the noise standard deviation was estimated as {noise_std:.4g} from {found.num_rays} rays "
        f"by the evidence of a Matérn image model (lengthscale {found.lengthscale_px:.2g} px)"
    )
    return noise_std, how


def photon_noise_std(scan, ray) -> tuple[float, str]:
    """Noise standard deviation σ of a ray of weight 1 as photon statistics say it, and a check.

    The scan's own estimate (:func:`estimate_noise_std`) stands beside it. Where that is larger by
    a quarter, more than photons makes noise (scatter, motion, an underestimated gain) and it is
    taken; where it is smaller, it is said only.

    Args:
        scan: the scan, with its ``noise_std``.
        ray: its ray transform.

    Returns:
        σ, and a sentence.
    """
    known = scan.noise_std
    try:
        found = estimate_noise_std(scan, ray)[0]
    except InputError:  # few rays: nothing to compare with
        return known, f"the noise standard deviation is {known:.4g}, that of photon statistics"
    told = (
        f"the noise standard deviation is {known:.4g} by photon statistics; what a smooth image "
        f"does not explain of the scan is {found / known:.3g} times as large"
    )
    if found > MORE_THAN_PHOTONS * known:
        told = (
            f"WARNING: {told} and is taken: more than photons makes noise, or the gain, the axis "
            "or the angles are off"
        )
        return found, told
    if known > MORE_THAN_PHOTONS * found:
        told = f"WARNING: {told}; is the gain or the flat too large?"
    return known, told


def _selected_rays(scan, ray) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of A as images (k, h, w), the sinogram and ``W^{-1/2}`` at k rays."""
    views, detectors = ray.range_shape
    weights = scan.weights if scan.weights is not None else torch.ones_like(scan.sinogram)
    measured = (weights > 0).any(1).nonzero()[:, 0].cpu()
    most = min(MAX_RAYS, MAX_SPECTRA_BYTES // (16 * math.prod(ray.domain_shape)))
    width = min(detectors, max(1, most // max(1, min(len(measured), 4))))
    count = min(len(measured), max(1, most // width))
    which = measured[torch.linspace(0, len(measured) - 1, count).round().long()]
    start = (detectors - width) // 2
    index = (which[:, None] * detectors + torch.arange(start, start + width)).reshape(-1)
    index = index[weights.reshape(-1)[index].cpu() > 0]
    if len(index) < 20:
        raise InputError(
            f"expected at least 20 rays of positive weight to estimate the noise, got {len(index)}"
            "; give the noise level with --noise-std"
        )
    unit = torch.zeros(len(index), views * detectors, dtype=ray.dtype, device=ray.device)
    unit[torch.arange(len(index)), index] = 1
    rows = ray.adjoint(unit.reshape(-1, views, detectors)).float().cpu()
    y = scan.sinogram.reshape(-1).cpu().double()[index]
    return rows, y, weights.reshape(-1).cpu().double()[index].rsqrt()


def _best_at(spectra, y, scale, lengthscale, shape, noise_variance) -> MaternImages:
    """The model of the best variances for one lengthscale."""
    power_spectrum = _matern_power_spectrum(lengthscale, shape).to(spectra)
    gram = ((spectra * power_spectrum) @ spectra.mT).double()
    eigenvalues, vectors = torch.linalg.eigh(gram / scale / scale[:, None])
    eigenvalues, power = eigenvalues.clamp(min=0), (vectors.mT @ (y / scale)).square()

    def model(log_ratio: float) -> MaternImages:
        ratio = math.exp(log_ratio) * eigenvalues.mean()
        spectrum = eigenvalues + ratio
        best = (power / spectrum).mean()
        signal = best if noise_variance is None else noise_variance / ratio
        misfit = 0.5 * len(y) * signal.log() + 0.5 * len(y) * (best / signal - 1)
        log_evidence = -float(misfit + 0.5 * spectrum.log().sum())
        return MaternImages(log_evidence, float(ratio * signal), float(signal), lengthscale, len(y))

    def negative_log_evidence(log_ratio: float) -> float:
        return -model(log_ratio).log_evidence

    return model(minimize_scalar(negative_log_evidence, bounds=(-20.0, 5.0), method="bounded").x)


def _spectra(rows: Tensor) -> Tensor:
    """Fourier coefficients of the zero-padded rows as real numbers, scaled so that the inner
    product of two rows is that of their spectra: (k, frequencies)."""
    height, width = (2 * n for n in rows.shape[-2:])
    out = []
    for chunk in rows.split(64):
        coefficients = torch.fft.rfft2(chunk, s=(height, width), norm="ortho")
        coefficients[..., 1 : width // 2] *= math.sqrt(2)
        out.append(torch.view_as_real(coefficients).flatten(1))
    return torch.cat(out)


def _matern_power_spectrum(lengthscale: float, shape: tuple[int, int]) -> Tensor:
    """Fourier transform of the Matérn-3/2 kernel on the padded grid, in the layout of
    :func:`_spectra`: (frequencies,)."""
    padded = [2 * n for n in shape]
    offsets = [torch.minimum(torch.arange(n), n - torch.arange(n)).double() for n in padded]
    distance = torch.sqrt(offsets[0][:, None] ** 2 + offsets[1] ** 2)
    transfer = torch.fft.rfft2(matern_correlation(distance, lengthscale)).real.clamp(min=0)
    return transfer[..., None].expand(*transfer.shape, 2).flatten()
