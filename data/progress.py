"""Progress on stderr: what is done, how fast, how long it will take.

On a terminal one line that is redrawn; in a log a line now and then. Lines for the user go above it with `note`.
"""

import sys
import time
from typing import TextIO

_REDRAW = 0.1  # seconds between two looks of the line on a terminal
_LOG = 10.0  # seconds between two lines in a log
_CLEAR = "\r\x1b[K"  # to the start of the line, and wipe it


class Progress:
    """Counts towards `total`; use it as a context. `unit` is how many make one of what is shown, and its name.

    Example:
        with Progress("tokenizing", len(files)) as progress:
            for file in files:
                progress.advance()
    """

    def __init__(
        self,
        label: str,
        total: float,
        *,
        unit: tuple[float, str] | None = None,
        stream: TextIO | None = None,
        enabled: bool = True,
    ):
        self.label = label
        self.total = total
        self.unit = unit
        self.done: float = 0
        self.stream = stream or sys.stderr
        self.enabled = enabled
        self.redrawn = self.stream.isatty()
        self.started = self.last = time.monotonic()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_) -> None:
        if self.enabled and self.done:
            end = "\n" if self.redrawn else ""
            self._show(time.monotonic(), end)

    def advance(self, count: float = 1) -> None:
        self.done += count
        now = time.monotonic()
        if self.enabled and now - self.last >= (_REDRAW if self.redrawn else _LOG):
            self._show(now)

    def note(self, line: str) -> None:
        """A line that stays, such as an input that was skipped; shown even when progress is not."""
        print(f"{_CLEAR if self.enabled and self.redrawn else ''}{line}", file=self.stream, flush=True)

    def _show(self, now: float, end: str = "") -> None:
        self.last = now
        seconds = now - self.started
        rate = self.done / seconds if seconds > 0 else 0.0
        left = f", {_clock((self.total - self.done) / rate)} left" if rate and self.done < self.total else ""
        if self.unit:
            one, name = self.unit
            counts = f"{self.done / one:,.1f}/{self.total / one:,.1f} {name}, {rate / one:.3g} {name}/s"
        else:
            counts = f"{self.done:,}/{self.total:,}, {rate:.3g}/s"
        line = f"{self.label} {counts}, {_clock(seconds)} so far{left}"
        before, after = (_CLEAR, end) if self.redrawn else ("", "\n")
        print(f"{before}{line}", end=after, file=self.stream, flush=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
