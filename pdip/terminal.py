"""What a run prints: results on stdout, one line per stage; progress with time left on stderr."""

import contextlib
import os
import sys
import warnings

from tqdm import tqdm

from pdip.stages import Observer

TRACEBACK = "PDIP_TRACEBACK"
"""Environment variable: when set, a failure shows where in the code it happened."""
SECONDS_BETWEEN_LINES = 10.0
"""Least time between progress lines where stderr is a file and not a terminal."""


class Terminal(Observer):
    """Prints a progress bar per stage, each result in one line, and each assumption once.

    Args:
        prefix: stands before every line, which then goes to stderr: of one slice among many.
    """

    def __init__(self, prefix: str = "") -> None:
        self.bar: tqdm | None = None
        self.prefix = prefix
        self.warnings: list[str] = []

    @property
    def results(self):
        """The stream of results and assumptions."""
        return sys.stderr if self.prefix else sys.stdout

    def started(self, stage: str) -> None:
        interval = 0.1 if sys.stderr.isatty() else SECONDS_BETWEEN_LINES
        self.bar = tqdm(
            total=1,
            desc=f"{self.prefix}{stage:>10}",
            file=sys.stderr,
            leave=False,
            mininterval=interval,
            maxinterval=max(interval, 10.0),
            dynamic_ncols=True,
            bar_format="{desc}: {percentage:3.0f}%|{bar:24}| {n_fmt}/{total_fmt} "
            "[{elapsed}<{remaining}{postfix}]",
        )

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
        self.warnings.append(sentence)
        tqdm.write(f"{self.prefix}warning: {sentence}", file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


@contextlib.contextmanager
def quiet_libraries():
    """Keep library warnings, which no user can act on, off the terminal."""
    with warnings.catch_warnings():
        if not os.environ.get(TRACEBACK):
            warnings.simplefilter("ignore")
        yield
