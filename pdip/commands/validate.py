"""``pdip validate``: scan and settings are read as ``pdip reconstruct`` would; no computing."""

import argparse
import math
import tempfile

from pdip.arguments import add_reconstruct
from pdip.commands.request import Request
from pdip.device import checked_device
from pdip.dip import UNet
from pdip.dip.fit import usual_scales
from pdip.errors import InputError
from pdip.linearised import unet_prior
from pdip.plan import check_memory, foreseen
from pdip.ray.choice import choose_engine
from pdip.ray.engine import build_engine
from pdip.report.information import beam_lines
from pdip.report.sentences import of_slices
from pdip.report.words import scan_sentence
from pdip.scan import Scan, Stack
from pdip.settings import Settings, chosen, defaults
from pdip.withholding import used_rays

HELP = "read scan and settings as reconstruct would, say what would be done, compute nothing"
MOST_READ = 200
"""Slices of a stack that are read, evenly spread: reading more takes longer than is waited for."""
EXAMPLE = "pdip validate --sinogram scan.npz --config configs/fast.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``pdip validate``, those of ``pdip reconstruct``."""
    add_reconstruct(parser)


def run(command: argparse.Namespace) -> int:
    """Print what was read, what is assumed, and what would be done.

    Raises:
        InputError: what ``pdip reconstruct`` would refuse.
    """
    request = Request.of(command)
    request.directory.free(resume=command.resume, overwrite=command.overwrite)
    whole, truth = request.stack() if request.is_stack else request.scan()
    where, scan, refused = ("{}", whole, []) if isinstance(whole, Scan) else _read_through(whole)
    lines = {
        "scan": where.format(scan_sentence(scan.geometry, scan.grid)),
        **beam_lines(scan.geometry, scan.binning),
        "values": _value_words(scan),
        "truth": "for scores only" if truth is not None else "none",
        "ray": _engine_words(scan, request.settings),
        "solver": _solver_words(scan, request.settings),
        "check": "withholds rays and does everything again" if request.check else "not asked for",
        "folder": _folder_words(request),
    }
    for name, sentence in lines.items():
        print(f"{name}: {sentence}")
    for sentence in scan.assumptions:
        print(f"assumed: {sentence}")
    for sentence in refused:
        print(f"no result: {sentence}")
    print("valid: pdip reconstruct would begin; nothing was computed or written")
    return 0


def _read_through(stack: Stack) -> tuple[str, Scan, list[str]]:
    """The slices read one at a time, of many an even part.

    Returns:
        the words around what is said of a slice, the first slice that can be used, and which
        slices cannot and why.

    Raises:
        InputError: none can be used.
    """
    step = math.ceil(len(stack) / MOST_READ)
    usable, failures = None, {number: [] for number in stack.numbers[::step]}
    for number in failures:
        try:
            scan = stack.scan(number)
        except InputError as error:
            failures[number].append(str(error))
            last_failure = error
        else:
            usable = usable or (number, scan)
    if usable is None:
        raise last_failure
    first, last = stack.numbers[0], stack.numbers[-1]
    apart = stack.numbers[1] - first if len(stack) > 1 else 1
    steps = f" in steps of {apart}" if apart > 1 else ""
    read = "All were read" if step == 1 else f"One of {step} was read"
    where = (
        f"{len(stack)} slices ({first} to {last}{steps}), each: {{}} {read}; what follows is of "
        f"slice {usable[0]}."
    )
    return where, usable[1], of_slices(failures)


def _value_words(scan: Scan) -> str:
    used = used_rays(scan)
    values = scan.sinogram[used]
    weighted = "" if scan.weights is None else ", weighted"
    return (
        f"line integrals from {float(values.min()):.4g} to {float(values.max()):.4g}, mean "
        f"{float(values.mean()):.4g}; {int(used.sum())} of {used.numel()} rays are used{weighted}"
    )


def _engine_words(scan: Scan, settings: Settings) -> str:
    """The engine that would be chosen; those that need packages are set up, the matrix is not."""
    given = defaults("ray") | dict(settings.ray)
    keywords = {
        "projector": given["projector"],
        "device": checked_device(given["device"]),
        "dtype": chosen("dtype", given["dtype"]),
    }
    name, reason = choose_engine(given["engine"], scan.geometry, scan.grid, **keywords)
    if name != "matrix":
        build_engine(name, scan.geometry, scan.grid, **keywords)
    return reason


def _solver_words(scan: Scan, settings: Settings) -> str:
    """The solver and its memory, as the plan will choose them after the fit."""
    device, num_rays = checked_device(settings.ray.get("device", "cpu")), int(used_rays(scan).sum())
    asked = settings.evidence.get("solver")
    solver = None if asked is None else chosen("solver", asked)
    pixels = scan.grid.shape[0] * scan.grid.shape[1]
    check_memory(solver, num_rays, pixels, device)
    given = {"scales": usual_scales(scan.grid.shape), "image_scale": 1.0} | dict(settings.network)
    prior = unet_prior(UNet(**given), **settings.prior)
    weights, patterns = sum(prior.sizes), len(prior.coefficients())
    solver, why, memory = foreseen(weights, patterns, num_rays, pixels, device, solver)
    most = solver.limit(num_rays)
    combinations = f", {most} combinations at most" if most < num_rays else ""
    return (
        f"{type(solver).__name__.lower()} for {num_rays} rays{combinations} ({why}), {weights} "
        f"weights, at most {memory / 1e9:.1f} GB of matrices; the time is foreseen once the "
        "network is fitted and a pass through it can be timed"
    )


def _folder_words(request: Request) -> str:
    """The folder of the run, if a file can be made in it, or where it would be made.

    Raises:
        InputError: it cannot.
    """
    place = request.directory.path
    try:
        there = next(part for part in (place, *place.absolute().parents) if part.exists())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise InputError(
            f"{place} cannot be written ({error.strerror or error}); name another --out."
        ) from None
    return f"{place}, {'which holds a run' if place.exists() else 'which is new'}"
