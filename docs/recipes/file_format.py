"""A file format: a sinogram as comma-separated text, its geometry in the YAML file beside it."""

from pathlib import Path

import numpy as np

from pdip.errors import InputError


def read_csv(path: Path) -> dict:
    """The key ``sinogram``, (views, detectors).

    Raises:
        InputError: not numbers in rows of equal length.
    """
    try:
        return {"sinogram": np.loadtxt(path, delimiter=",", ndmin=2)}
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path.name} must hold numbers separated by commas, one view in each line "
            f"({error}); save it again."
        ) from None
