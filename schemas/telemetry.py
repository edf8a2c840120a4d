"""What each stage did: Beam metrics for every runner, and a tally of this process for the progress bar.

Both are touched once per batch, never per record.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field
from types import TracebackType

from apache_beam.metrics.metric import Metrics


@dataclass
class Tally:
    """Running totals of this process. Written by the stages, read by whoever shows progress."""

    records: int = 0
    calls: int = 0
    bytes: int = 0
    cost_pico: int = 0
    dead: int = 0
    ignored: int = 0
    expired: int = 0
    total_bytes: int | None = None
    reasons: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    stage_ns: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    minutes: int = 0
    started_at: float | None = None  # monotonic seconds: when the first split began to be read

    def expire(self, calls: int, cost_pico: int) -> None:
        """So many of the calls, which cost so much, were not written: they are older than calls are kept."""
        self.calls -= calls
        self.ignored += calls
        self.expired += calls
        self.cost_pico -= cost_pico

    def refuse(self, calls: int, cost_pico: int) -> None:
        """So many of the calls, which cost so much, became dead letters: the store refuses them."""
        self.calls -= calls
        self.dead += calls
        if calls:
            self.reasons["refused_by_store"] += calls
        self.cost_pico -= cost_pico

    def clear(self) -> None:
        """Start again from nothing."""
        self.__init__()  # type: ignore[misc]


TALLY = Tally()
"""The tally of this process."""


class Stage:
    """Counters of one stage: batches and items in, milliseconds worked. Use it as ``with stage.work(items):``."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._batches = Metrics.counter(name, "batches")
        self._items = Metrics.counter(name, "items")
        self._micros = Metrics.counter(name, "microseconds")

    def work(self, items: int) -> _Timer:
        """Time a block that works on one batch of ``items``."""
        self._batches.inc()
        self._items.inc(items)
        return _Timer(self)

    def took(self, nanoseconds: int, items: int | None = None) -> None:
        """Add time worked, and, where ``items`` are given, the batch of them it went into."""
        if items is not None:
            self._batches.inc()
            self._items.inc(items)
        self._micros.inc(nanoseconds // 1000)
        TALLY.stage_ns[self.name] += nanoseconds


class _Timer:
    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._start = 0

    def __enter__(self) -> None:
        self._start = time.perf_counter_ns()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stage.took(time.perf_counter_ns() - self._start)
