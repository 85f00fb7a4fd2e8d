"""``pdip simulate``: the scan of a phantom or an image, with noise, as a file to reconstruct."""

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from pdip.commands.simulated_beam import BEAMS, VIEWS, beam_keys, beam_of, field_of_view
from pdip.commands.simulated_object import PHANTOMS, SimulatedObject, drawn, read_image
from pdip.errors import ComputationError, InputError, OutputError
from pdip.folder import Folder
from pdip.ray import ray_transform
from pdip.report.export_numpy import write_entries
from pdip.report.words import scan_sentence
from pdip.scan import FanBeam, ImageGrid, ParallelBeam, simulate
from pdip.scan.checks import check_seed, number_tuple, positive_int, positive_mm
from pdip.scan.fields import scan_from_fields
from pdip.scan.photons import MIN_PHOTONS
from pdip.scan.simulate import photon_counts
from pdip.typing import Image, Sinogram
from pdip.version import VERSION

HELP = "a scan of a phantom or an image, with noise and ground truth, to try things on"
EXAMPLE = "pdip simulate --phantom walnut --views 30 --noise 0.05 --out walnut.npz"
PIXELS, NOISE, FINER = 64, 0.05, 4


@dataclass(frozen=True)
class FinelySampled:
    """A on pixels and detector elements finer than those of the scan.

    The line integral of a ray is the mean over parts of its detector element, so that whoever
    reconstructs does not invert the matrix that made the data. Views are projected one by one: the
    matrix of all would be large.

    Attributes:
        geometry: of the scan.
        grid: of the scan.
        pixels: of the image that is measured.
        parts: of a detector element.
    """

    geometry: ParallelBeam | FanBeam
    grid: ImageGrid
    pixels: ImageGrid
    parts: int

    def forward(self, image: Image) -> Sinogram:
        """Line integrals of an image on ``pixels``, (views, detectors)."""
        fine = replace(
            self.geometry,
            num_detectors=self.geometry.num_detectors * self.parts,
            detector_pitch_mm=self.geometry.detector_pitch_mm / self.parts,
        )
        views = [
            ray_transform(fine.select([view]), self.pixels).forward(image)
            for view in range(fine.num_views)
        ]
        return torch.cat(views).unflatten(-1, (-1, self.parts)).mean(-1)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``pdip simulate``."""
    whole = parser.add_mutually_exclusive_group(required=True)
    whole.add_argument("--phantom", choices=tuple(PHANTOMS), help="what is drawn, from --seed")
    whole.add_argument(
        "--image", metavar="FILE", help=".npy (rows, columns) in 1/mm, or a CT slice in DICOM"
    )
    parser.add_argument("--out", metavar="F.npz", required=True, help="the file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace the file in --out")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of phantom and noise [0]")
    pixels = parser.add_argument_group("image")
    pixels.add_argument(
        "--size", metavar="N", type=int,
        help=f"N x N pixels to reconstruct [{PIXELS}, or those of --image]",
    )  # fmt: skip
    pixels.add_argument(
        "--pixel-mm", metavar="P", type=float,
        help="side of a pixel of the phantom's grid or of a .npy [that fills the detector where "
        "--geometry or options give one, else 1]",
    )  # fmt: skip
    pixels.add_argument(
        "--attenuation", metavar="MU", type=float,
        help="1/mm of the value 1 of a phantom or a .npy, of water in DICOM [water at 60 keV, "
        "0.0206; .npy: 1]",
    )  # fmt: skip
    pixels.add_argument(
        "--finer", metavar="K", type=int, default=FINER,
        help="parts of each detector element, and of the side of a phantom's pixels, that are "
        f"measured; 1: what is reconstructed was made by the same matrix [{FINER}]",
    )  # fmt: skip
    _add_beam(parser.add_argument_group("beam"))
    group = parser.add_argument_group("noise")
    noise = group.add_mutually_exclusive_group()
    noise.add_argument(
        "--noise", metavar="F", type=float,
        help=f"standard deviation, as a fraction of the mean line integral [{NOISE}]",
    )  # fmt: skip
    noise.add_argument(
        "--photons", metavar="N", type=float,
        help="photons of a ray in air; the file holds counts and flat, not line integrals",
    )  # fmt: skip


def _add_beam(group) -> None:
    group.add_argument("--geometry", metavar="F", help="YAML file with the geometry")
    group.add_argument("--beam", choices=tuple(BEAMS), help="[parallel]")
    group.add_argument("--views", metavar="N", type=int, help=f"number of views [{VIEWS}]")
    group.add_argument(
        "--arc", metavar="DEG", type=float,
        help="degrees over which they are spread, negative for clockwise [180, fan: 360]",
    )  # fmt: skip
    group.add_argument(
        "--num-detectors",
        metavar="N",
        type=int,
        help="detector elements [all of the image is seen]",
    )
    group.add_argument(
        "--det-pixel-mm", metavar="P", type=float,
        help="width of an element [a pixel, in a fan magnified]",
    )  # fmt: skip
    group.add_argument("--source-origin-mm", metavar="D", type=float, help="fan: source to axis")
    group.add_argument(
        "--origin-detector-mm", metavar="D", type=float, help="fan: axis to detector"
    )
    group.add_argument(
        "--cor", metavar="C", type=float,
        help="detector index of the rotation axis, counted from 0 [the middle]",
    )  # fmt: skip


def run(command: argparse.Namespace) -> int:
    """Simulate, write the file and say what is in it.

    Raises:
        InputError: no such scan can be, or the file is there already.
        ComputationError: the file cannot be written.
    """
    place = _free(Path(command.out), command.overwrite)
    positive_int("--finer", command.finer)
    check_seed(command.seed)
    generator = torch.Generator().manual_seed(command.seed)
    what, ray = _set_up(command, generator)
    entries, noise = _measured(command, what, ray, generator)
    entries |= {
        "ground_truth": what.on(ray.grid),
        "provenance": f"{what.name}, seed {command.seed}, pdip {VERSION}",
    }
    _check_readable(entries, command.photons)
    folder = Folder(place.parent)
    try:
        folder.make()
        folder.write(place.name, lambda stream: write_entries(stream, entries))
    except OutputError as error:
        raise ComputationError(f"{error}; make room or name another --out.") from None
    print(f"object: {what.name}, attenuation up to {float(what.image.max()):.4g} 1/mm")
    print(f"scan: {scan_sentence(ray.geometry, ray.grid)}")
    print(f"noise: {noise}")
    reach, seen = what.reach_mm(), ray.geometry.inscribed_grid().size_mm[0] / 2**0.5
    if reach > seen:
        print(
            f"truncated: the object reaches {reach:.4g} mm from the axis, the views see all of it "
            f"only up to {seen:.4g} mm; give more --num-detectors or another --cor"
        )
    print(f"written: {place}")
    return 0


def _free(place: Path, overwrite: bool) -> Path:
    """Where to write, if nothing is in the way."""
    if place.suffix.lower() != ".npz":
        raise InputError(f"--out names the scan file, expected F.npz, got {place}.")
    if place.is_dir():
        raise InputError(f"--out {place} is a folder; name a file.")
    if place.exists() and not overwrite:
        raise InputError(f"{place} is there already; give --overwrite or another --out.")
    return place


def _set_up(
    command: argparse.Namespace, generator: torch.Generator
) -> tuple[SimulatedObject, FinelySampled]:
    """The object and how it is measured."""
    keys = beam_keys(command)
    size = None if command.size is None else positive_int("--size", command.size)
    if command.image is None:
        own = keys.get("image_shape", (PIXELS, PIXELS))
        shape = (size, size) if size else number_tuple("image_shape", own)
        image, pixel_mm = None, command.pixel_mm
    else:
        image, pixel_mm = read_image(command)
        shape = tuple(image.shape)
    if pixel_mm is None:
        pixel_mm = keys.get("pixel_mm") or field_of_view(keys, max(shape)) or 1.0
    pixels = ImageGrid(shape, positive_mm("--pixel-mm", pixel_mm))
    beam = beam_of(command, keys, pixels)
    if image is None:
        what, grid = drawn(command, pixels, generator), pixels
    else:
        what = SimulatedObject(Path(command.image).name, image, pixels)
        grid = pixels if size is None else pixels.resized(size)
    return what, FinelySampled(beam, grid, what.pixels, command.finer)


def _measured(
    command: argparse.Namespace,
    what: SimulatedObject,
    ray: FinelySampled,
    generator: torch.Generator,
) -> tuple[dict[str, Any], str]:
    """The keys of the file that say what was measured and where, and what noise it has."""
    keys = ray.geometry.to_dict()
    del keys["angles_deg"]
    keys |= {"angles": ray.geometry.angles_rad, "pixel_mm": ray.grid.pixel_mm}
    keys["image_shape"] = ray.grid.shape
    photons = command.photons
    if photons is None:
        fraction = NOISE if command.noise is None else command.noise
        scan = simulate(what.image, ray, noise_fraction=fraction, generator=generator)
        said = f"Gaussian, std {fraction:.4g} of the mean line integral"
        return {"sinogram": scan.sinogram.numpy(), **keys}, said
    said = f"Poisson, {photons:.6g} photons of a ray in air"
    counts = photon_counts(ray.forward(what.image), photons, generator)
    keys |= {"data_kind": "counts", "flat": photons, "dark": 0.0, "gain": 1.0}
    return {"counts": counts.numpy(), **keys}, said


def _check_readable(entries: dict[str, Any], photons: float | None) -> None:
    """Raise what reading the file would, and refuse counts that are mostly dark."""
    if photons is None:
        scan_from_fields(entries)
        return
    lit = float((entries["counts"] >= MIN_PHOTONS).mean())
    try:
        scan_from_fields(entries)
    except InputError:
        lit = 0.0
    if lit < 0.5:
        raise InputError(
            f"half of the rays or more leave fewer than {MIN_PHOTONS:g} of {photons:.6g} photons "
            "behind the object, too few to be used; give more --photons, a smaller --attenuation "
            "or smaller pixels (--pixel-mm)."
        )
