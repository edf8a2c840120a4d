"""The Beam steps of the sink: write rows, window the minutes they touched, recompute those minutes.

A Beam window owns no sum here. It decides *when* a minute is complete, early, late or changed; what the minute holds is
read from ``calls``. Markers are never too late: one that is older than the allowed lateness rides in a younger window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter_ns

import apache_beam as beam
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterProcessingTime, AfterWatermark
from apache_beam.transforms.window import BoundedWindow, FixedWindows, GlobalWindow, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfo, PaneInfoTiming, WindowedValue

from schemas.batch import RowBatch
from schemas.telemetry import TALLY, Stage, count, observe
from sinks.clickhouse import Store, StoreSettings
from sinks.outlet import Outlet, OutletSettings
from sinks.recompute import recompute
from sinks.writer import Flushed, Writer

SHARDS = 8
"""Keys that the minutes of one window are spread over, so that workers can share a burst of late minutes."""


def marker_time(minute: int, transport_time: int, lateness_s: int) -> int:
    """Event time (seconds) of the marker of ``minute``: the minute, or the oldest one that no window drops.

    ``transport_time`` in UTC microseconds is when the source saw the records, by the time that its watermark follows: so nothing
    at or after ``transport_time - lateness_s`` is ever beyond the allowed lateness.
    """
    return max(minute, transport_time // 1_000_000 - lateness_s)


class WriteDoFn(beam.DoFn):  # type: ignore[misc]
    """Insert rows in large blocks; emit ``(shard, minute)`` markers after the insert, never before it.

    A block is inserted in a thread of its own while the next one is collected: the store is waited for only where it is
    slower than the work before it. Blocks are inserted one at a time, in order, also those of a bundle that failed, and a
    bundle ends when all of its blocks are in. Dead letters of a block are also in the topic ``letters``, if there is one.
    """

    def __init__(self, store: StoreSettings, lateness_s: int, letters: OutletSettings | None = None) -> None:
        self._settings = store
        self._lateness_s = lateness_s
        self._outlet = letters

    def setup(self) -> None:
        self._stage = Stage("write")
        self._store: Store | None = None
        self._letters = Outlet(self._outlet) if self._outlet else None
        self._thread = ThreadPoolExecutor(1, "write")

    def teardown(self) -> None:
        self._thread.shutdown()
        if self._letters is not None:
            self._letters.close()

    def start_bundle(self) -> None:
        self._writer = self._new_writer()
        self._in_hand: Future[tuple[Flushed | None, int]] | None = None

    def process(self, batch: RowBatch) -> Iterator[TimestampedValue]:
        if self._writer.collect(batch):
            before, self._in_hand = self._in_hand, self._thread.submit(_flush, self._writer)
            self._writer = self._new_writer()
            for minute, marker in self._markers(before):
                yield TimestampedValue(marker, minute)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for block in (self._in_hand, self._thread.submit(_flush, self._writer)):
            for minute, marker in self._markers(block):
                yield WindowedValue(marker, Timestamp(minute), [GlobalWindow()])

    def _new_writer(self) -> Writer:
        s = self._settings
        self._store = self._store or s.open()
        return Writer(self._store, s.insert_rows, s.insert_bytes, s.insert_seconds, self._letters)

    def _markers(self, block: Future[tuple[Flushed | None, int]] | None) -> Iterator[tuple[int, tuple[int, int]]]:
        """Wait for a block; the markers of its minutes."""
        flushed, nanoseconds = block.result() if block else (None, 0)
        if flushed is not None:
            self._stage.took(nanoseconds, flushed.calls)
            TALLY.expire(flushed.expired, flushed.expired_pico)
            TALLY.refuse(flushed.refused, flushed.refused_pico)
            TALLY.wrote(flushed.rows)
            count("calls_expired", flushed.expired)
            count("dead_letters", flushed.refused, of="refused_by_store")
            for table, rows in flushed.rows.items():
                count("rows_written", rows, of=table)
            observe("insert_milliseconds", nanoseconds / 1e6)
            for minute in flushed.minutes:
                time = marker_time(minute, flushed.transport_time, self._lateness_s)
                yield time, (minute // 60 % SHARDS, minute)


def _flush(writer: Writer) -> tuple[Flushed | None, int]:
    """What was written, and in how many nanoseconds."""
    began = perf_counter_ns()
    return writer.flush(), perf_counter_ns() - began


class RecomputeDoFn(beam.DoFn):  # type: ignore[misc]
    """Replace the minutes of a bundle's panes, all in one query, and pass their starts (seconds) on."""

    def __init__(self, store: StoreSettings) -> None:
        self._settings = store

    def setup(self) -> None:
        self._stage = Stage("recompute")
        self._store: Store | None = None

    def start_bundle(self) -> None:
        self._dirty: dict[int, tuple[Timestamp, BoundedWindow]] = {}
        self._late: set[int] = set()

    def process(
        self,
        shard: tuple[int, Iterable[int]],
        timestamp: Timestamp = beam.DoFn.TimestampParam,
        window: BoundedWindow = beam.DoFn.WindowParam,
        pane: PaneInfo = beam.DoFn.PaneInfoParam,
    ) -> None:
        minutes = set(shard[1])
        self._dirty.update(dict.fromkeys(minutes, (timestamp, window)))
        if pane.timing == PaneInfoTiming.LATE:
            self._late |= minutes

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if not self._dirty:
            return
        self._store = self._store or self._settings.open()
        began = perf_counter_ns()
        with self._stage.work(len(self._dirty)):
            recompute(self._store, self._dirty)
        observe("recompute_milliseconds", (perf_counter_ns() - began) / 1e6)
        count("minutes_recomputed", len(self._dirty))
        count("late_minutes", len(self._late))
        for minute, (timestamp, window) in self._dirty.items():
            yield WindowedValue(minute, timestamp, [window])


@dataclass(eq=False)
class MinutesOf(beam.PTransform):  # type: ignore[misc]
    """Markers to the minutes that are complete, early or changed: one-minute windows with early and late panes.

    ``early_s``: seconds of processing time after which an open minute is shown already; 0: never, as for bounded input,
    whose runner (FnApiRunner) has no clock for it. ``lateness_s``: how long a
    closed window is kept for late markers; older ones ride in a younger window (``marker_time``).
    """

    early_s: int = 0
    lateness_s: int = 86_400

    def expand(self, markers: beam.PCollection[tuple[int, int]]) -> beam.PCollection[tuple[int, Iterable[int]]]:
        return (
            markers
            | "OneMinuteWindows"
            >> beam.WindowInto(
                FixedWindows(60),
                trigger=AfterWatermark(early=AfterProcessingTime(self.early_s) if self.early_s else None, late=AfterCount(1)),
                accumulation_mode=AccumulationMode.DISCARDING,
                allowed_lateness=self.lateness_s,
            )
            | "GroupMinutes" >> beam.GroupByKey()
        )


class TouchDoFn(beam.DoFn):  # type: ignore[misc]
    """Hand the minutes of a bundle to ``touch`` of what keeps them; for runners that share this process only."""

    def __init__(self, name: str) -> None:
        self._name = name

    def start_bundle(self) -> None:
        self._minutes: set[int] = set()

    def process(self, marker: tuple[int, int]) -> None:
        self._minutes.add(marker[1])

    def finish_bundle(self) -> None:
        if self._minutes:
            TOUCHED[self._name](self._minutes)


TOUCHED: dict[str, Callable[[set[int]], None]] = {}
"""Who keeps dirty minutes in this process, by name."""


@dataclass(eq=False)
class RowsToStore(beam.PTransform):  # type: ignore[misc]
    """Write priced rows, and hand the minutes they touched to ``TOUCHED[keeper]``: they are recomputed by whom it feeds."""

    store: StoreSettings
    keeper: str
    letters: OutletSettings | None = None

    def expand(self, batches: beam.PCollection[RowBatch]) -> beam.PCollection[None]:
        write = WriteDoFn(self.store, 0, self.letters)
        markers = batches | "WriteRows" >> beam.ParDo(write).with_output_types(tuple[int, int])
        return markers | "TouchMinutes" >> beam.ParDo(TouchDoFn(self.keeper)).with_output_types(None)


@dataclass(eq=False)
class RowsToMinutes(beam.PTransform):  # type: ignore[misc]
    """Write priced rows and keep minutes, hours and days true to them. Emits each recomputed minute (seconds)."""

    store: StoreSettings
    early_s: int = 0
    lateness_s: int = 86_400
    letters: OutletSettings | None = None

    def expand(self, batches: beam.PCollection[RowBatch]) -> beam.PCollection[int]:
        return (
            batches
            | "WriteRows" >> beam.ParDo(WriteDoFn(self.store, self.lateness_s, self.letters)).with_output_types(tuple[int, int])
            | "DirtyMinutes" >> MinutesOf(self.early_s, self.lateness_s)
            | "RecomputeMinutes" >> beam.ParDo(RecomputeDoFn(self.store)).with_output_types(int)
        )
