"""What a run that follows its input shows: a small picture on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import IO, Any, Final

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipelines.progress import Beside, Tally
from pipelines.show import dollars, human_bytes, human_money, human_seconds
from pipelines.text import printable

FRAME_SECONDS: Final = 0.5
RATE_SECONDS: Final = 10.0
"""Rates are those of about so many seconds."""


@dataclass
class Watch:
    """What the loop knows of itself; written by it, read by whoever shows it.

    ``lag`` records wait in the source, None where nobody knows; ``watermark`` (UTC seconds): up to where no call is expected any
    more, None before the first record; ``open_minutes`` are at or after it and may still grow, ``late_minutes`` were touched
    after it had passed them. ``epoch_seconds``: how long the last epoch took. ``said``: the last line for a person.
    ``turned``: when an epoch last ended well, or there was nothing to read (UTC seconds); ``failing``: what is waited for.
    ``idle_since``: since when records wait and nothing was written (UTC seconds); None while nothing waits.
    ``terms``: the newest prices and rules, which hold from the event time ``terms_since`` (UTC seconds; 0: always);
    ``terms_changed``: how often others were taken up; ``terms_wrong``: why what the files say now is not.
    """

    source: str = ""
    parts: str = ""
    lag: int | None = 0
    watermark: float | None = None
    open_minutes: int = 0
    late_minutes: int = 0
    epoch_seconds: float = 0
    said: str = ""
    turned: float | None = None
    failing: str = ""
    idle_since: float | None = None
    terms: str = ""
    terms_since: float = 0
    terms_changed: int = 0
    terms_wrong: str = ""


WATCH = Watch()
"""What is followed in this process."""


@dataclass(frozen=True)
class _Moment:
    seconds: float
    calls: int
    cost_pico: int


class Following(Beside):
    """A run that goes on until it is told to stop. Lines for a person are shown also where ``quiet``."""

    def __init__(self, tally: Tally, watch: Watch, file: IO[str] | None = None, **more: Any) -> None:
        super().__init__(tally, file, **more)
        self._watch = watch
        self._moments: deque[_Moment] = deque()

    def say(self, line: str) -> None:
        """A line for a person: part of the picture where there is one, else written as it is."""
        self._watch.said = f"{datetime.now(UTC):%H:%M:%S} {printable(line)}"
        if self._quiet or not self._file.isatty():
            self._tell(line, "note")

    def _rates(self) -> tuple[float, int]:
        """Calls per second, and pico-dollars per minute, of the last seconds."""
        now = _Moment(self._clock(), self._tally.calls, self._tally.cost_pico)
        self._moments.append(now)
        while len(self._moments) > 2 and now.seconds - self._moments[1].seconds >= RATE_SECONDS:
            self._moments.popleft()
        first = self._moments[0]
        seconds = now.seconds - first.seconds
        if seconds <= 0:
            return 0.0, 0
        return (now.calls - first.calls) / seconds, round((now.cost_pico - first.cost_pico) / seconds * 60)

    def line(self) -> str:
        """One line of text."""
        calls, money = self._rates()
        tally, watch = self._tally, self._watch
        parts = [
            f"{tally.calls:,} calls",
            human_money(dollars(tally.cost_pico)),
            f"{calls:,.0f} calls/s",
            f"{human_money(dollars(money))}/min",
            f"lag {_waiting(watch)}",
            f"{watch.open_minutes:,} open minutes",
            f"{watch.late_minutes:,} late",
            f"{tally.dead:,} dead letters",
        ]
        return ", ".join(parts)

    def picture(self) -> Table:
        """The picture as it is now."""
        calls, money = self._rates()
        tally, watch = self._tally, self._watch
        age = "-" if watch.watermark is None else human_seconds(max(0.0, time.time() - watch.watermark))
        grid = Table.grid(padding=(0, 3))
        for _ in range(4):
            grid.add_column(no_wrap=True)
        title = f"following {watch.source}, {watch.parts}, for {human_seconds(self._clock() - self._started)}"
        cells = [
            ("calls/s", f"{calls:,.0f}"),
            ("$/min", human_money(dollars(money))),
            ("lag", f"{_waiting(watch)} records"),
            ("watermark", f"{age} ago" if age != "-" else age),
            ("calls", f"{tally.calls:,}"),
            ("spend", human_money(dollars(tally.cost_pico))),
            ("dead letters", f"{tally.dead:,}"),
            ("late minutes", f"{watch.late_minutes:,}"),
            ("read", human_bytes(tally.bytes)),
            ("open minutes", f"{watch.open_minutes:,}"),
            ("last epoch", human_seconds(watch.epoch_seconds)),
            ("terms", watch.terms[:8] or "-"),
        ]
        for start in range(0, len(cells), 4):
            grid.add_row(*(Text.assemble((f"{name} ", "dim"), (value, "bold")) for name, value in cells[start : start + 4]))
        whole = Table.grid()
        whole.add_row(Text(title, no_wrap=True, overflow="ellipsis"))
        whole.add_row(grid)
        whole.add_row(Text(watch.said or "Ctrl-C ends it in order", style="yellow" if watch.said else "dim", overflow="ellipsis"))
        return whole

    def _picture(self) -> None:
        console = Console(file=self._file, markup=False, highlight=False)
        with Live(self.picture(), console=console, auto_refresh=False, redirect_stdout=False) as live:
            while not self._done.wait(FRAME_SECONDS):
                live.update(self.picture(), refresh=True)
            live.update(self.picture(), refresh=True)

    def _lines(self) -> None:
        while not self._done.wait(self._line_seconds):
            self._report()
        self._report()

    def _report(self) -> None:
        tally, watch = self._tally, self._watch
        figures: dict[str, Any] = {"calls": tally.calls, "bytes": tally.bytes, "cost_pico": tally.cost_pico, "dead": tally.dead}
        self._tell(f"progress: {self.line()}", **figures, **asdict(watch))


def _waiting(watch: Watch) -> str:
    return "unknown" if watch.lag is None else f"{watch.lag:,}"
