"""The command lines of experiments: arguments, the cases they ask for, and how a failure ends."""

import argparse
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pdip.cli import exit_code
from pdip.config import OneSentenceParser
from pdip.experiment import QUICK, QUICK_CASE, Case
from pdip.scan import read_images
from pdip.settings import Settings


def perform(main: Callable[[], None]) -> None:
    """Run an experiment; a failure ends as that of the command ``pdip``, with one sentence.

    Raises:
        SystemExit: with the exit code, 1 or 2, of a failure.
    """

    def run() -> int:
        main()
        return 0

    if code := exit_code(run, kept="finished rows are kept, the same command goes on"):
        sys.exit(code)


def command_line(doc: str) -> argparse.ArgumentParser:
    """A parser that says in one sentence what is wrong, with the docstring's first line."""
    return OneSentenceParser(description=doc.partition("\n")[0])


def parsed_or_quick(parser: argparse.ArgumentParser, quick: Mapping) -> argparse.Namespace:
    """The command line of a parser that gets an option ``--quick``, which sets these values."""
    parser.add_argument("--quick", action="store_true", help="a tiny problem, in seconds")
    given = parser.parse_args()
    if given.quick:
        for name in quick:
            if getattr(given, name) != parser.get_default(name):
                option = "--" + name.replace("_", "-")
                parser.error(f"--quick sets {option} itself; leave out one of the two")
        vars(given).update(quick)
    return given


def positive(text: str) -> int:
    """Type of an argument: a whole number of 1 or more."""
    return _number(text, int, 1)


def whole(text: str) -> int:
    """Type of an argument: a whole number of 0 or more."""
    return _number(text, int, 0)


def not_negative(text: str) -> float:
    """Type of an argument: a number of 0 or more."""
    return _number(text, float, 0)


def experiment_parser(
    doc: str, out: str, *, views: Iterable[int], noise: Iterable[float] = (0.05,), count: int = 4
) -> argparse.ArgumentParser:
    """The arguments of every experiment on simulated scans, with its own defaults.

    Args:
        doc: docstring of the experiment; its first paragraph is the description.
        out: name of the JSON file; it goes to ``runs/``, and to ``runs/quick/`` with ``--quick``.
        views, noise, count: what is done if nothing is said.
    """
    parser = command_line(doc)
    parser.add_argument("--images", type=Path, help=".npz of images; default: random rectangles")
    parser.add_argument("--views", type=positive, nargs="+", help="default: " + _listed(views))
    parser.add_argument("--noise", type=not_negative, nargs="+", help="default: " + _listed(noise))
    parser.add_argument("--first", type=whole, default=0, help="number of the first image")
    parser.add_argument("--count", type=positive, help=f"number of images, default: {count}")
    parser.add_argument("--quick", action="store_true", help="a tiny problem, in seconds")
    parser.add_argument("--out", type=Path, help=f"default: runs/{out}")
    parser.set_defaults(full={"views": views, "noise": noise, "count": count}, file=out)
    return parser


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line with what it leaves out filled in, ``settings`` and ``cases`` included."""
    options = parser.parse_args()
    quick = {"views": (QUICK_CASE.views,), "noise": options.full["noise"][:1], "count": 1}
    for key, value in (quick if options.quick else options.full).items():
        setattr(options, key, value if getattr(options, key) is None else getattr(options, key))
    if options.out is None:
        options.out = out_path(options.file, options.quick)
    options.settings = Settings.of(QUICK if options.quick else {})
    tiny = options.quick and options.images is None
    images = QUICK_CASE.images if tiny else read_images(options.images)
    options.cases = [
        Case(images, views, noise, number)
        for number in range(options.first, options.first + options.count)
        for noise in options.noise
        for views in options.views
    ]
    return options


def kmnist_parser(doc: str, out: str, *, views: Iterable[int]) -> argparse.ArgumentParser:
    """The arguments of experiments on numbered KMNIST images with their stored scans.

    Args:
        doc, out: as of :func:`experiment_parser`.
        views: what is done if nothing is said.
    """
    parser = command_line(doc)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--data", type=Path, help="folder of the KMNIST images and cases")
    source.add_argument("--rectangles", action="store_true", help="random rectangles instead")
    source.add_argument("--quick", action="store_true", help="tiny rectangles, in seconds")
    parser.add_argument("--views", type=positive, nargs="+", default=list(views))
    parser.add_argument("--images", type=whole, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--out", type=Path, help=f"default: runs/{out}")
    parser.set_defaults(file=out)
    return parser


def kmnist_parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The command line of :func:`kmnist_parser`, ``settings`` and ``cases`` included."""
    options = parser.parse_args()
    options.out = options.out or out_path(options.file, options.quick)
    options.settings = Settings.of(QUICK if options.quick else {})
    if options.quick:
        options.cases = [QUICK_CASE]
        return options
    images = read_images(options.data and options.data / "kmnist_test_0_49.npz")
    options.cases = [
        Case(images, views, 0.05, number) for number in options.images for views in options.views
    ]
    return options


def out_path(name: str, quick: bool) -> Path:
    """Where the numbers of an experiment go; those of its quick form have a folder of their own."""
    return Path("runs", "quick" if quick else "", name)


def _number(text: str, kind: type[int] | type[float], least: int):
    """The text as a finite number of that kind, not below ``least``."""
    try:
        number = kind(text)
    except ValueError:
        number = math.nan
    if not least <= number < math.inf:
        wanted = "a whole number" if kind is int else "a number"
        raise argparse.ArgumentTypeError(f"expected {wanted} of {least} or more, got {text!r}")
    return number


def _listed(values: Iterable) -> str:
    return " ".join(map(str, values))
