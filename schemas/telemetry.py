"""What the job did: Beam metrics for every runner, and a tally of this process for whoever watches it.

Both are touched once per batch, never per record. The names of metrics are a promise to dashboards of runners: what there is
stands here and in ``docs/metrics.md``, and nothing else can be counted.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import TracebackType
from typing import Final

from apache_beam.metrics.metric import Metrics

from schemas.reasons import DEAD_LETTER_REASONS
from schemas.tables import CALLS, DEAD_LETTERS, PARTS, RECEIPTS, SEGMENTS

NAMESPACE: Final = "llm_finops"
"""Of all Beam metrics but those of stages."""

COUNTERS: Final = {
    "records_read": "Records that were read.",
    "bytes_read": "Their bytes, decompressed.",
    "calls": "Calls that were priced, redeliveries included.",
    "ignored": "Items that are rightly no calls.",
    "dead_letters": "Items that could not become a call, by reason.",
    "calls_expired": "Calls that were not written, because they are older than calls are kept.",
    "rows_written": "Rows that were inserted, by table.",
    "minutes_recomputed": "Minutes that were replaced.",
    "late_minutes": "Minutes that were replaced in a late pane: the watermark had passed them.",
    "terms_changed": "How often other prices and rules were taken up, by each worker.",
}
"""Beam counters and what they count. Those of ``APART`` are one for each value: ``dead_letters.not_json``."""

APART: Final = {
    "dead_letters": tuple(DEAD_LETTER_REASONS),
    "rows_written": (CALLS.name, PARTS.name, DEAD_LETTERS.name, RECEIPTS.name, SEGMENTS.name),
}

DISTRIBUTIONS: Final = {
    "insert_milliseconds": "How long the store took for a block of rows, all tables together.",
    "recompute_milliseconds": "How long it took to replace the minutes of a bundle.",
    "call_age_seconds": "Age of the oldest call of a batch when it was priced, by its event time.",
    "watermark_lag_seconds": "How far the watermark of a partition of a topic was behind the clock after a batch.",
    "records_waiting": "Records that waited in a partition of a topic after a batch.",
}
"""Beam distributions (count, sum, smallest, largest) and what they are of."""

STAGES: Final = ("read", "decode", "count", "price", "rows", "write", "recompute")
"""Namespaces of the metrics of ``Stage``."""


def count(name: str, by: int = 1, of: str = "") -> None:
    """Add to a counter of ``COUNTERS``; ``of``: the value, where it has one for each. Does nothing outside of a step of Beam."""
    if by:
        _counter(name, of).inc(by)


@cache
def _counter(name: str, of: str) -> Metrics.DelegatingCounter:
    if name not in COUNTERS or of not in APART.get(name, ("",)):
        raise KeyError(f"no such counter: {name} {of}".rstrip())
    return Metrics.counter(NAMESPACE, f"{name}.{of}" if of else name)


def observe(name: str, value: float) -> None:
    """Add a value to a distribution of ``DISTRIBUTIONS``. Does nothing outside of a step of Beam."""
    _distribution(name).update(round(value))


@cache
def _distribution(name: str) -> Metrics.DelegatingDistribution:
    if name not in DISTRIBUTIONS:
        raise KeyError(f"no such distribution: {name}")
    return Metrics.distribution(NAMESPACE, name)


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
    blocks: int = 0
    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))
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

    def wrote(self, rows: Mapping[str, int]) -> None:
        """A block was inserted, with so many rows of each table."""
        self.blocks += 1
        for table, number in rows.items():
            self.rows[table] += number

    def clear(self) -> None:
        """Start again from nothing."""
        self.__init__()  # type: ignore[misc]


TALLY = Tally()
"""The tally of this process."""


class Stage:
    """Counters of one of ``STAGES``: batches and items in, microseconds worked. Use it as ``with stage.work(items):``."""

    def __init__(self, name: str) -> None:
        if name not in STAGES:
            raise KeyError(f"no such stage: {name}")
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
