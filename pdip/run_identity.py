"""What makes two runs the same: the scan, the settings, and what their rounding depends on."""

import hashlib
from collections.abc import Mapping, Sequence

import torch

from pdip.report.summary import versions
from pdip.scan import Scan, Stack

ANYWHERE = {("ray", "device")}
"""Settings in which a resumed run may differ from the first part."""

CHECK = "calibration"
"""The section of the check, in which it may differ too: no reconstruction depends on it."""
WITHHOLDING = ("withhold", "share", "seed")
"""Keys of it that say which rays are withheld, and so what is reconstructed in the check."""


def fingerprint(scan: Scan | Stack) -> dict[str, str]:
    """What the scan is made of, short enough to keep and compare; each slice has its own."""
    if isinstance(scan, Stack):
        return {
            "selection of slices": repr(scan.numbers),
            "shape of the stack": repr(tuple(scan.sinograms.shape)),
            "geometry": hashlib.sha256(repr(scan.geometry).encode()).hexdigest(),
            "image grid": repr(scan.grid),
        }
    weights = b"" if scan.weights is None else scan.weights.cpu().numpy().tobytes()
    return {
        "sinogram": hashlib.sha256(scan.sinogram.cpu().numpy().tobytes()).hexdigest(),
        "weights": hashlib.sha256(weights).hexdigest(),
        "geometry": hashlib.sha256(repr(scan.geometry).encode()).hexdigest(),
        "image grid": repr(scan.grid),
    }


def surroundings(settings: Mapping[str, Mapping]) -> dict[str, str]:
    """What the last digits of a result depend on beside scan and settings."""
    device = str(settings.get("ray", {}).get("device", "cpu"))
    if device.startswith("cuda") and torch.cuda.is_available():
        device = torch.cuda.get_device_name(device)
        device += "" if torch.are_deterministic_algorithms_enabled() else " not deterministic"
    return {
        **{name: str(found) for name, found in versions().items()},
        "device": device,
        "instruction set": torch.backends.cpu.get_cpu_capability(),
        "number of threads": str(torch.get_num_threads()),
    }


def differences(
    earlier: Mapping, found: Mapping, before: Mapping[str, Mapping], now: Mapping[str, Mapping]
) -> list[str]:
    """How a run differs from an earlier one, in half sentences; none if it goes on with it.

    Args:
        earlier, found: fingerprints.
        before, now: settings.
    """
    differing = [f"the {key} differs" for key in found if earlier.get(key) != found[key]]
    old, new = _flat(before), _flat(now)
    return differing + [
        f"{'.'.join(key)} was {old.get(key, 'not there')} and is now {new.get(key, 'gone')}"
        for key in sorted(old.keys() | new.keys())
        if key not in ANYWHERE and key[0] != CHECK and old.get(key) != new.get(key)
    ]


def withholds_others(before: Mapping[str, Mapping], now: Mapping[str, Mapping]) -> bool:
    """Whether the check withholds other rays than before.

    Args:
        before, now: settings.
    """
    old, new = before.get(CHECK, {}), now.get(CHECK, {})
    return any(old.get(key) != new.get(key) for key in WITHHOLDING)


def rounding(parts: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """What is assumed where the parts of an interrupted run had different surroundings.

    Args:
        parts: the surroundings of each part, in order.
    """
    changed = []
    for name in parts[-1]:
        values = list(dict.fromkeys(str(part.get(name, "unknown")) for part in parts))
        if len(values) > 1:
            changed.append(f"{name} {', then '.join(values)}")
    if not changed:
        return ()
    return (
        f"the run was interrupted and went on elsewhere ({'; '.join(changed)}), so it agrees with "
        "an uninterrupted one up to rounding, not bit for bit",
    )


def _flat(sections: Mapping[str, Mapping]) -> dict[tuple[str, str], object]:
    return {
        (section, key): value for section, keys in sections.items() for key, value in keys.items()
    }
