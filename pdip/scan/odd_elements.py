"""Detector elements that do not belong to their neighbours: hot, dead or badly corrected ones."""

import numpy as np
import torch

from pdip.scan.scan import Scan

WIDTH = 5
"""Elements, with itself in the middle, whose median an element is compared with."""
APART = 0.15
"""Part of the usual mean line integral by which it has to differ, in the middle of the views;"""
SURE = 5.0
"""standard errors of white noise by which it has to, and"""
STEADY = 0.9
"""part of the views in which it has to, to one side: what the object has there moves on."""
LEAST_VIEWS, LEAST_ELEMENTS = 8, 64
"""Fewer do not tell an element from a detail that stays where it is, or is as narrow."""
ALIKE = 0.4
"""Part of the difference that another element, elsewhere, may have to the same side: the rim of a
round object stands still on the detector as well, but has two sides."""


def odd_elements(scan: Scan) -> list[int]:
    """Numbers of the elements that read steadily more or less than those beside them.

    A detail of the object wanders over the detector as it turns, an element stays; a thin detail on
    the axis of rotation stays too, and is named. Of several spoilt elements apart from each other
    none is: they look like the rims of round objects.
    """
    views, elements = scan.geometry.shape
    if views < LEAST_VIEWS or elements < LEAST_ELEMENTS:
        return []
    values, used = scan.sinogram.double(), torch.ones(views, elements, dtype=torch.bool)
    if scan.weights is not None:
        used = scan.weights > 0
        values = _bridged(values, used)
    margin = WIDTH // 2
    apart = values[:, margin:-margin] - values.unfold(1, WIDTH, 1).median(-1).values
    apart = torch.where(used[:, margin:-margin], apart, torch.nan)
    middle, seen = apart.nanmedian(0).values, apart.isfinite().sum(0)
    steady = (apart.sign() == middle.sign()).sum(0) > STEADY * seen
    error = 1.4826 * apart[apart != 0].abs().nanmedian() / seen.clamp(min=1).sqrt()
    level = (APART * values.mean()).maximum(SURE * error)
    middle = middle.nan_to_num()
    odd = torch.nonzero(steady & (seen >= LEAST_VIEWS) & (middle.abs() > level)).flatten()
    if not len(odd):
        return []
    first = odd[middle[odd].abs().argmax()]
    side = middle * middle[first].sign()
    here = (torch.arange(len(middle)) - first).abs() <= WIDTH
    if (side[~here] > ALIKE * side[first]).any():
        return []
    return (margin + odd[here[odd] & (side[odd] > 0)]).tolist()


def _bridged(values: torch.Tensor, used: torch.Tensor) -> torch.Tensor:
    """The values with straight lines over the elements that are not used, view by view."""
    place = np.arange(values.shape[1])
    bridged = [
        np.interp(place, place[seen], view[seen]) if seen.any() else view
        for view, seen in zip(values.numpy(), used.numpy(), strict=True)
    ]
    return torch.from_numpy(np.array(bridged))


def odd_elements_sentence(odd: list[int]) -> str:
    """What to say of them."""
    names = ", ".join(str(element) for element in odd)
    subject, read, them = ("element", "it is read, reads", "it") if len(odd) == 1 else (
        "elements", "they are read, read", "them"
    )  # fmt: skip
    return (
        f"WARNING: detector {subject} {names}, counted from 0 as {read} steadily more or less than "
        f"those beside, which makes rings; give {them} weight 0 with the key 'weights', or try "
        f"--scan.rings {WIDTH}."
    )
