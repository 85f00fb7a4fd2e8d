"""``pdip doctor``: what is installed here, what works, and why the rest does not."""

import argparse
import importlib
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

import torch

from pdip.errors import ComputationError, InputError
from pdip.plan import machine_memory
from pdip.ray import adjoint_mismatch, ray_transform
from pdip.ray.cuda_gate import astra_cuda_fault
from pdip.ray.engine import ENGINES
from pdip.report.summary import PACKAGES
from pdip.scan import FanBeam, ImageGrid, ParallelBeam
from pdip.terminal import quiet_libraries

HELP = "what is installed, which projection engines work, and why the others do not"
EXAMPLE = "pdip doctor"
GRID = ImageGrid((24, 24))
ANGLES = tuple(15.0 * view for view in range(12))
BEAMS = {
    "parallel": ParallelBeam(ANGLES, 37),
    "fan": FanBeam(ANGLES, 48, 1.5, 120.0, 60.0),
}
EXACT, APPROXIMATE = 1e-5, 0.02
"""Largest mismatch of the dot test in float32 where the adjoint is exact, and where it is not."""
PROJECTORS = {"diffct": "line"}
"""Engine -> what it projects by, where that is not "linear"."""
NEEDED = "matrix"
"""The engine that every run can fall back on."""
IMPORTS = {"astra-toolbox": "astra", "pyyaml": "yaml", "scikit-image": "skimage"}
"""Requirement -> the module that is imported, where the names differ."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: of it.
        sentence: what was found.
        broken: whether pdip cannot work because of it.
    """

    name: str
    sentence: str
    broken: bool = False


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``pdip doctor`` has no options."""


def run(command: argparse.Namespace) -> int:
    """Print all findings; 1 where something that is needed is broken."""
    broken = []
    with quiet_libraries():
        for finding in findings():
            print(f"{finding.name}: {finding.sentence}", flush=True)
            if finding.broken:
                broken.append(finding.name)
    if broken:
        raise ComputationError(f"pdip cannot work here: {', '.join(broken)} broken, see above")
    print("all that is needed works")
    return 0


def findings() -> Iterator[Finding]:
    """What is looked at, one after another."""
    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    yield from (package(name) for name in required_packages())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = machine_memory(torch.device("cpu")) / 1e9
    yield Finding("machine", f"{cores} cores, {memory:.1f} GB of memory, "
                  f"{torch.get_num_threads()} threads in torch")  # fmt: skip
    yield cuda()
    yield astra_gpu()
    yield from (engine(name) for name in ENGINES)


def required_packages() -> list[str]:
    """The packages that pdip declares to need, as its metadata has them."""
    try:
        declared = requires("pdip") or []
    except PackageNotFoundError:  # run from a checkout that is not installed
        declared = PACKAGES
    names = (entry.partition(";") for entry in declared)
    return [
        "".join(c if c.isalnum() or c in "-_" else " " for c in name).split()[0]
        for name, _, condition in names
        if "extra" not in condition
    ]


def package(name: str) -> Finding:
    """Whether a needed package can be imported, and its version."""
    try:
        importlib.import_module(IMPORTS.get(name, name.replace("-", "_")))
        return Finding(name, version(name))
    except Exception as error:  # whatever an import may raise is what is wrong with the package
        return Finding(name, f"cannot be imported ({error}); run: pip install {name}", True)


def cuda() -> Finding:
    """The GPUs that torch finds."""
    if not torch.cuda.is_available():
        built = torch.version.cuda
        why = "no usable GPU or driver" if built else "this torch is built without CUDA"
        return Finding("cuda", f"not available ({why}); everything runs on the CPU")
    names = [
        f"{torch.cuda.get_device_name(place)}, "
        f"{torch.cuda.get_device_properties(place).total_memory / 1e9:.1f} GB"
        for place in range(torch.cuda.device_count())
    ]
    return Finding("cuda", f"{torch.version.cuda}: {'; '.join(names)}")


def astra_gpu() -> Finding:
    """Whether ASTRA's CUDA projectors work."""
    if not torch.cuda.is_available():
        return Finding("astra on a GPU", "not available (torch finds no usable GPU)")
    fault = astra_cuda_fault(torch.device("cuda", torch.cuda.current_device()))
    return Finding("astra on a GPU", fault or "works, its self-test passed")


def engine(name: str) -> Finding:
    """The dot test of an engine on a small scan of each beam, on each device that there is."""
    devices = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    places = [(device, beam) for device in devices for beam in BEAMS]
    tried = {f"{device}, {beam}": dot_test(name, device, BEAMS[beam]) for device, beam in places}
    said = {sentence for _, sentence in tried.values()}
    works = any(good for good, _ in tried.values())
    if len(said) > 1 or works:
        said = {f"{place}: {sentence}": None for place, (_, sentence) in tried.items()}
    broken = name == NEEDED and not all(good for good, _ in tried.values())
    return Finding(f"engine {name}", "; ".join(said), broken)


def dot_test(name: str, device: str, geometry: ParallelBeam | FanBeam) -> tuple[bool, str]:
    """Whether forward and back projection of an engine are adjoint, and how nearly or why not."""
    projector = PROJECTORS.get(name, "linear")
    try:
        ray = ray_transform(geometry, GRID, engine=name, projector=projector, device=device)
        mismatch = adjoint_mismatch(ray, torch.Generator(ray.device).manual_seed(0))
    except InputError as reason:
        return False, f"not here ({reason})"
    except Exception as error:  # whatever a broken package raises
        return False, f"broken ({type(error).__name__}: {error})"
    works = mismatch <= (EXACT if ray.engine.exact_adjoint else APPROXIMATE)  # not so for NaN
    return works, f"{'works' if works else 'broken'} (dot test {mismatch:.0e})"
