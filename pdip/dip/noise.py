"""The noise level of one scan, from the scan alone."""

import math

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from pdip.errors import InputError

MAX_RAYS = 800
MAX_SPECTRA_BYTES = 500_000_000
LENGTHSCALES_PX = tuple(float(v) for v in torch.logspace(math.log10(0.5), 1.5, 13))


def estimate_noise_std(scan, ray) -> tuple[float, str]:
    """Noise standard deviation σ of a ray of weight 1, by the evidence of a simple image model.

    The image is taken as a Gaussian process with a Matérn-3/2 covariance C over pixels, so that
    the sinogram is ``N(0, v A C Aᵀ + σ² W⁻¹)``. σ, v and the lengthscale maximise its marginal
    likelihood (Rasmussen & Williams 2006, eq. 5.8): what no image of any smoothness explains
    consistently across the views is noise. At most 800 rays are used, fewer on grids beyond 256²,
    in evenly spread views, of a wide detector the middle.

    Args:
        scan: the scan; rays of weight 0 are left out.
        ray: its ray transform.

    Returns:
        σ in the sinogram's unit, and a sentence that says how it was found.

    Raises:
        InputError: fewer than 20 rays can be used.
    """
    rows, y, scale = _selected_rays(scan, ray)
    spectra = _spectra(rows)
    candidates = [_best_at(spectra, y, scale, ell, ray.domain_shape) for ell in LENGTHSCALES_PX]
    _, noise_variance, ell = max(candidates)
    noise_std = math.sqrt(noise_variance)
    how = (
        f"the noise standard deviation was estimated as {noise_std:.4g} from {len(y)} rays by the "
        f"evidence of a Matérn image model (lengthscale {ell:.2g} px)"
    )
    return noise_std, how


def _selected_rays(scan, ray) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of A as images (k, h, w), the sinogram and ``W^{-1/2}`` at k rays."""
    views, detectors = ray.range_shape
    weights = scan.weights if scan.weights is not None else torch.ones_like(scan.sinogram)
    most = min(MAX_RAYS, MAX_SPECTRA_BYTES // (16 * math.prod(ray.domain_shape)))
    width = min(detectors, max(1, most // min(views, 4)))
    count = min(views, max(1, most // width))
    which = torch.linspace(0, views - 1, count).round().long()
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


def _best_at(spectra, y, scale, lengthscale, shape) -> tuple[float, float, float]:
    """(log evidence, noise variance, lengthscale) at the best variances for one lengthscale."""
    power_spectrum = _matern_power_spectrum(lengthscale, shape).to(spectra)
    gram = ((spectra * power_spectrum) @ spectra.mT).double()
    eigenvalues, vectors = torch.linalg.eigh(gram / scale / scale[:, None])
    eigenvalues, power = eigenvalues.clamp(min=0), (vectors.mT @ (y / scale)).square()

    def negative_log_evidence(log_ratio: float) -> float:
        spectrum = eigenvalues + math.exp(log_ratio) * eigenvalues.mean()
        return float(0.5 * len(y) * (power / spectrum).mean().log() + 0.5 * spectrum.log().sum())

    best = minimize_scalar(negative_log_evidence, bounds=(-20.0, 5.0), method="bounded")
    ratio = math.exp(best.x) * eigenvalues.mean()
    signal_variance = (power / (eigenvalues + ratio)).mean()
    return -float(best.fun), float(ratio * signal_variance), lengthscale


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
    distance = torch.sqrt(offsets[0][:, None] ** 2 + offsets[1] ** 2) * math.sqrt(3) / lengthscale
    transfer = torch.fft.rfft2((1 + distance) * torch.exp(-distance)).real.clamp(min=0)
    return transfer[..., None].expand(*transfer.shape, 2).flatten()
