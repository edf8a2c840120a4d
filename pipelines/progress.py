"""How far a run is, on standard error: a bar on a terminal, a line every few seconds elsewhere.

A thread reads a tally that the stages keep anyway, so watching costs the job nothing per call or batch.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import IO, Any, Final, Protocol, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Column

from pipelines.lines import say
from pipelines.show import dollars, human_bytes, human_money, human_seconds

BAR_SECONDS: Final = 0.25
LINE_SECONDS: Final = 5.0


class Tally(Protocol):
    """What is read: ``schemas.telemetry.TALLY`` is one. ``bytes`` and ``total_bytes`` are of the same kind."""

    calls: int
    bytes: int
    cost_pico: int
    dead: int
    total_bytes: int | None


@dataclass(frozen=True)
class Reading:
    """A tally at one moment, ``seconds`` after the start."""

    calls: int
    bytes: int
    cost_pico: int
    dead: int
    total_bytes: int | None
    seconds: float

    @property
    def share(self) -> float | None:
        """Share of the bytes that is done, from 0 to 1; None where the total is not known."""
        if not self.total_bytes:
            return None
        return min(1.0, self.bytes / self.total_bytes)


def read(tally: Tally, seconds: float) -> Reading:
    """The tally now."""
    return Reading(tally.calls, tally.bytes, tally.cost_pico, tally.dead, tally.total_bytes, seconds)


def line(now: Reading, before: Reading | None = None) -> str:
    """One line of text; the rate is that since ``before``, else since the start."""
    calls = now.calls - before.calls if before else now.calls
    seconds = now.seconds - before.seconds if before else now.seconds
    share = "" if now.share is None else f" ({now.share:.0%})"
    parts = [
        f"{now.calls:,} calls",
        f"{human_bytes(now.bytes)}{share}",
        f"{human_money(dollars(now.cost_pico))}",
        f"{calls / seconds:,.0f} calls/s" if seconds > 0 else "0 calls/s",
        human_seconds(now.seconds),
    ]
    if now.dead:
        parts.insert(1, f"{now.dead:,} dead letters")
    return ", ".join(parts)


class Beside:
    """A thread that shows how a tally grows while the block runs: a picture on a terminal, lines elsewhere::

        with Progress(TALLY):
            pipeline.run()

    Nothing is shown where ``quiet``. An error inside the block passes through after the last state has been shown.
    """

    def __init__(
        self,
        tally: Tally,
        file: IO[str] | None = None,
        quiet: bool = False,
        line_seconds: float = LINE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tally = tally
        self._file = file or sys.stderr
        self._quiet = quiet
        self._line_seconds = line_seconds
        self._clock = clock
        self._done = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = 0.0

    def _picture(self) -> None:
        """Draw until ``_done``."""
        raise NotImplementedError

    def _lines(self) -> None:
        """Write until ``_done``."""
        raise NotImplementedError

    def _tell(self, text: str, event: str = "progress", **fields: Any) -> None:
        """Write one line; ``fields`` are for machines."""
        try:
            say(text, event, file=self._file, **fields)
        except (OSError, ValueError):  # nobody listens any more; the job goes on
            self._done.set()

    def __enter__(self) -> Self:
        self._started = self._clock()
        if not self._quiet:
            show = self._picture if self._file.isatty() else self._lines
            self._thread = threading.Thread(target=show, name="progress", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join(timeout=5)


class Progress(Beside):
    """The progress of a run that comes to an end: a bar on a terminal."""

    def _read(self) -> Reading:
        return read(self._tally, self._clock() - self._started)

    def _lines(self) -> None:
        before: Reading | None = None
        while not self._done.wait(self._line_seconds):
            now = self._read()
            self._tell("progress: " + line(now, before), **asdict(now))
            before = now
        self._tell("progress: " + line(now := self._read()), **asdict(now))

    def _picture(self) -> None:
        # The job's own standard output stays its own: only what is written to standard error goes around the bar.
        console = Console(file=self._file, markup=False, highlight=False)
        one_line = Column(no_wrap=True, overflow="ellipsis")
        columns = (BarColumn(bar_width=12), TextColumn("{task.description}", markup=False, table_column=one_line))
        with Bar(*columns, console=console, auto_refresh=False, redirect_stdout=False) as bar:
            task = bar.add_task("starting", total=None)
            # The rate is that of the last seconds, not of the whole run.
            before, mark = None, self._read()
            while not self._done.wait(BAR_SECONDS):
                now = self._read()
                if now.seconds - mark.seconds >= self._line_seconds:
                    before, mark = mark, now
                text = line(now, before)
                bar.update(task, description=text, completed=now.bytes, total=now.total_bytes, refresh=True)
            now = self._read()
            total = now.total_bytes or now.bytes or 1
            bar.update(task, description=line(now), completed=min(now.bytes, total), total=total, refresh=True)
