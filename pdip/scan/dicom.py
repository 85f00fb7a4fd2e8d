"""DICOM: a CT slice as the attenuation image that a scan is simulated from.

Stored values are Hounsfield units up to a line, HU = slope value + intercept, and
mu = mu_water (1 + HU / 1000). Air and padding outside of the field of view are 0.

DICOM PS3.3, C.7.6.3 (image pixels), C.8.2.1 (CT image).
"""

import io
import warnings
from pathlib import Path

import numpy as np
import torch

from pdip.errors import InputError
from pdip.scan.checks import finite_real, positive_mm, shown
from pdip.scan.grid import ImageGrid
from pdip.scan.npy import check_bytes, regular_file
from pdip.scan.npz import MAX_EXPANSION
from pdip.typing import Image

WATER_60_KEV = 0.0206
"""Attenuation of water at 60 keV in 1/mm (NIST XCOM: 0.2059 cm2/g)."""
DEFLATED = b"1.2.840.10008.1.2.1.99"
"""Transfer syntax in which all behind the first header is packed."""
NEEDED = (
    "Modality", "Rows", "Columns", "BitsAllocated", "SamplesPerPixel",
    "NumberOfFrames", "PixelSpacing", "RescaleSlope", "RescaleIntercept", "RescaleType",
    "PixelPaddingValue",
)  # fmt: skip


def read_dicom(
    path: str | Path, *, water_attenuation: float = WATER_60_KEV
) -> tuple[Image, ImageGrid]:
    """Read one CT slice as attenuation, to simulate a scan of it.

    Args:
        path: of the file.
        water_attenuation: of water in 1/mm, that of the energy to simulate; the default is 60 keV.

    Returns:
        the image (height, width) in 1/mm, float32, row 0 on top, and its pixels.

    Raises:
        InputError: not such a file, not a single CT slice with square pixels, or a damaged one.

    Example:
        >>> image, grid = read_dicom("slice.dcm")  # doctest: +SKIP
        >>> ray = ray_transform(geometry, grid)  # doctest: +SKIP
        >>> scan = simulate(image, ray, photons_per_ray=1e4, generator=rng)  # doctest: +SKIP
    """
    path = regular_file(path, "DICOM file")
    water = positive_mm("water_attenuation", water_attenuation)
    header, stored = _read(path)
    if stored.ndim != 2 or stored.dtype.kind not in "iuf":
        raise InputError(f"{path.name} holds pixels of shape {stored.shape}; expected one slice.")
    slope = _number(header, "RescaleSlope", 1.0, path)
    intercept = _number(header, "RescaleIntercept", 0.0, path)
    units = stored * slope + intercept
    if "PixelPaddingValue" in header:
        padding = _number(header, "PixelPaddingValue", 0.0, path)
        units = np.where(stored == padding, -1000.0, units)
    with np.errstate(all="ignore"):
        image = np.clip(water * (1 + units / 1000), 0, None).astype(np.float32)
    if not np.isfinite(image).all() or not image.any():
        raise InputError(f"{path.name} holds nothing but air or no finite values; name another.")
    return torch.from_numpy(image), ImageGrid(image.shape, _pixel_mm(header, path))


def dicom_header(path: Path) -> dict:
    """What the header of a CT slice says, by keyword; no pixel is unpacked.

    Raises:
        InputError: not such a file, or no CT slice.
    """
    return _read(path, pixels=False)[0]


def _read(path: Path, pixels: bool = True) -> tuple[dict, np.ndarray]:
    """What the header says, by keyword, and the stored values where they are asked for."""
    try:
        import pydicom
        from pydicom.config import IGNORE, settings
    except ModuleNotFoundError:
        raise InputError(
            f"{path.name} needs the package pydicom; install it with pip install pydicom."
        ) from None
    before, settings.reading_validation_mode = settings.reading_validation_mode, IGNORE
    try:
        check_bytes(path.stat().st_size, path.name)
        content = path.read_bytes()
        if DEFLATED in content:  # pydicom would unpack all of it before anything can be checked
            raise InputError(f"{path.name} is deflated as a whole; save it without compression.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(content))
            header = {key: dataset.get(key) for key in NEEDED if dataset.get(key) is not None}
            _check_declared(header, len(content), path)
            return header, dataset.pixel_array if pixels else np.empty(0)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror or error}).") from None
    # pydicom lets through what its parts raise for damaged values.
    except Exception as error:
        said = " ".join(str(error).split())[:160]
        raise InputError(f"{path.name} is not a readable DICOM image ({said}).") from None
    finally:
        settings.reading_validation_mode = before


def _check_declared(header: dict, num_bytes: int, path: Path) -> None:
    """Raise InputError unless it is one CT slice that the file can hold."""
    if header.get("Modality") != "CT":
        raise InputError(
            f"{path.name} has the modality {shown(header.get('Modality'))}, expected 'CT': only "
            "Hounsfield units say what attenuates."
        )
    if header.get("RescaleType", "HU") not in ("HU", ""):
        raise InputError(
            f"{path.name} holds values in {shown(header['RescaleType'])}, expected HU."
        )
    frames, samples = (int(header.get(key, 1)) for key in ("NumberOfFrames", "SamplesPerPixel"))
    if frames != 1 or samples != 1:
        raise InputError(f"{path.name} holds {frames} frames of {samples} channels, expected one.")
    if not {"Rows", "Columns", "BitsAllocated"} <= set(header):
        raise InputError(f"{path.name} holds no pixels; name a CT slice.")
    declared = int(header["Rows"]) * int(header["Columns"]) * int(header["BitsAllocated"]) // 8
    check_bytes(declared, path.name)
    if declared > MAX_EXPANSION * num_bytes:
        raise InputError(
            f"{path.name} declares {declared / 2**20:.0f} MiB of pixels but holds "
            f"{num_bytes / 2**20:.2g} MiB; it is damaged, save it again."
        )


def _number(header: dict, key: str, default: float, path: Path) -> float:
    """A finite number of the header, or what holds where it has none."""
    try:
        return finite_real(key, float(header.get(key, default)))
    except (TypeError, ValueError):
        raise InputError(
            f"{key} in {path.name} is {shown(header[key])}, expected a number."
        ) from None


def _pixel_mm(header: dict, path: Path) -> float:
    """The side of the square pixels."""
    try:
        row, column = (positive_mm("PixelSpacing", float(side)) for side in header["PixelSpacing"])
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path.name} has no PixelSpacing, the size of its pixels.") from None
    if abs(row - column) > 1e-4 * row:
        raise InputError(
            f"the pixels of {path.name} are {row:g} x {column:g} mm, expected squares; resample it."
        )
    return row
