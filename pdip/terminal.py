"""What a run prints: results on stdout, one line per stage; progress with time left on stderr."""

import codecs
import contextlib
import io
import os
import sys
import unicodedata
import warnings
from typing import TextIO

from tqdm import tqdm

from pdip.stages import Listener

TRACEBACK = "PDIP_TRACEBACK"
"""Environment variable: when set, a failure shows where in the code it happened."""
SECONDS_BETWEEN_LINES = 10.0
"""Least time between progress lines where stderr is a file and not a terminal."""


PLAIN = {"±": "+-", "×": "x", "·": "*", "–": "-"}
"""What stands for a character that the terminal's encoding has not; letters lose their accents, and
Greek ones are written out."""

BAR = "{desc}: {percentage:3.0f}%|{bar:24}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
UNKNOWN = "[00:00<?"
LINE = "{desc}: {percentage:3.0f}% {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


class Lines:
    """A stream for progress that is no terminal: each state of the bar in a line of its own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> None:
        """Write what a bar would show, unless nothing is known yet; clearing it writes nothing."""
        if text.strip() and UNKNOWN not in text:
            self.stream.write(f"{text.strip()}\n")

    def flush(self) -> None:
        """Pass on what is written."""
        self.stream.flush()


class Terminal(Listener):
    """Prints a progress bar per stage, each result in one line, and each assumption once.

    Args:
        prefix: stands before every line, which then goes to stderr: of one slice among many.
    """

    def __init__(self, prefix: str = "") -> None:
        super().__init__()
        self.bar: tqdm | None = None
        self.prefix = prefix

    @property
    def results(self):
        """The stream of results and assumptions."""
        return sys.stderr if self.prefix else sys.stdout

    def started(self, stage: str) -> None:
        shown = {"file": sys.stderr, "mininterval": 0.1, "dynamic_ncols": True, "bar_format": BAR}
        if not sys.stderr.isatty():
            shown = {
                "file": Lines(sys.stderr), "mininterval": SECONDS_BETWEEN_LINES, "bar_format": LINE,
            }  # fmt: skip
        self.bar = tqdm(
            total=1, desc=f"{self.prefix}{stage:>10}", leave=False,
            miniters=0, maxinterval=SECONDS_BETWEEN_LINES, **shown,
        )  # fmt: skip

    def progress(self, step: int, total: int, text: str) -> None:
        if self.bar is None:
            return
        if step < self.bar.n or total != self.bar.total:
            self.bar.reset(total)
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(step - self.bar.n)

    def finished(self, stage: str, sentence: str) -> None:
        self.close()
        print(f"{self.prefix}{stage}: {sentence}", file=self.results, flush=True)

    def assumed(self, sentence: str) -> None:
        tqdm.write(f"{self.prefix}assumed: {sentence}", file=self.results)
        self.results.flush()

    def warned(self, sentence: str) -> None:
        super().warned(sentence)
        tqdm.write(f"{self.prefix}warning: {sentence}", file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def say_anything() -> None:
    """Let stdout and stderr say what their encoding has no characters for in others."""
    codecs.register_error("plain", _in_plain_characters)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def _in_plain_characters(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    unknown = error.object[error.start : error.end]
    return "".join(map(_plain, unknown)), error.end


def _plain(character: str) -> str:
    name = unicodedata.name(character, "")
    if name.startswith("GREEK"):
        return name.split()[-1].lower()
    bare = unicodedata.normalize("NFKD", PLAIN.get(character, character))
    return bare.encode("ascii", "ignore").decode() or "?"


@contextlib.contextmanager
def quiet_libraries():
    """Keep library warnings, which no user can act on, off the terminal."""
    with warnings.catch_warnings():
        if not os.environ.get(TRACEBACK):
            warnings.simplefilter("ignore")
        yield
