"""The Beam steps of the sink: write rows, join parts of calls, window the minutes they touched, recompute those minutes.

A Beam window owns no sum here. It decides *when* a minute is complete, early, late or changed; what the minute holds is
read from ``calls``. Markers are never too late: one that is older than the allowed lateness rides in a younger window.

Nor does it own the parts of a call. It decides when a call is tried to be joined (early panes) and when nobody waits for the rest
any more (the pane that is on time); what its parts are is read from ``parts``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, AfterProcessingTime, AfterWatermark
from apache_beam.transforms.window import BoundedWindow, FixedWindows, GlobalWindow, GlobalWindows, TimestampedValue
from apache_beam.typehints import Tuple
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfo, PaneInfoTiming, WindowedValue

from schemas.batch import RowBatch
from schemas.telemetry import TALLY, Stage, count, observe
from sinks.clickhouse import Store, StoreSettings
from sinks.join import Joined, Lends, join
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

    Of each call that it wrote parts of there is a marker ``(shard, key)`` in the output ``PARTS``, at the time until when the
    rest of them is waited for: ``wait_s`` after its transport had them.
    """

    PARTS = "parts"

    def __init__(self, store: StoreSettings, lateness_s: int, letters: OutletSettings | None = None, wait_s: int = 0) -> None:
        self._settings = store
        self._lateness_s = lateness_s
        self._outlet = letters
        self._wait_s = wait_s

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
            for time, marker in self._markers(before):
                yield _tagged(marker, TimestampedValue(marker, time))

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for block in (self._in_hand, self._thread.submit(_flush, self._writer)):
            for time, marker in self._markers(block):
                yield _tagged(marker, WindowedValue(marker, Timestamp(time), [GlobalWindow()]))

    def _new_writer(self) -> Writer:
        s = self._settings
        self._store = self._store or s.open()
        return Writer(self._store, s.insert_rows, s.insert_bytes, s.insert_seconds, self._letters)

    def _markers(self, block: Future[tuple[Flushed | None, int]] | None) -> Iterator[tuple[int, tuple[int, Any]]]:
        """Wait for a block; the markers of its minutes, and of the calls it has parts of."""
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
            for key in sorted(flushed.keys):
                yield flushed.transport_time // 1_000_000 + self._wait_s, (key[0] % SHARDS, key)


def _tagged(marker: tuple[int, Any], element: Any) -> Any:
    return TaggedOutput(WriteDoFn.PARTS, element) if isinstance(marker[1], bytes) else element


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


class JoinDoFn(beam.DoFn):  # type: ignore[misc]
    """Join the calls of a pane: in an early one those that are whole, once it is on time all of them. Emits ``(shard, minute)``
    markers of the minutes it wrote to, in time to be recomputed.

    ``work`` lends what joins; nothing is made before the first part comes.
    """

    def __init__(
        self, store: StoreSettings, work: Lends, lateness_s: int, letters: OutletSettings | None = None
    ) -> None:
        self._settings = store
        self._lend = work
        self._lateness_s = lateness_s
        self._outlet = letters

    def setup(self) -> None:
        self._store: Store | None = None
        self._letters = Outlet(self._outlet) if self._outlet else None

    def teardown(self) -> None:
        if self._letters is not None:
            self._letters.close()

    def process(
        self,
        shard: tuple[int, Iterable[bytes]],
        window: BoundedWindow = beam.DoFn.WindowParam,
        pane: PaneInfo = beam.DoFn.PaneInfoParam,
    ) -> Iterator[TimestampedValue]:
        self._store = self._store or self._settings.open()
        final = pane.timing != PaneInfoTiming.EARLY
        with self._lend() as work:
            done = join(self._store, shard[1], work, final, self._letters)
        tally_joined(done)
        for minute in sorted(done.minutes):
            time = marker_time(minute, int(window.end) * 1_000_000, self._lateness_s)
            yield TimestampedValue((minute // 60 % SHARDS, minute), time)


def tally_joined(done: Joined) -> None:
    """Add what was joined to the progress of this process."""
    count("calls", done.calls)
    TALLY.calls += done.calls
    TALLY.dead += done.dead
    TALLY.cost_pico += done.cost_pico


@dataclass(eq=False)
class JoinParts(beam.PTransform):  # type: ignore[misc]
    """Markers of calls in parts to markers of the minutes that the joined calls are in.

    A marker stands at the time until when the rest of its call is waited for; every ``early_s`` of processing time (0: never) it
    is seen whether the call is whole by then. Windows are as long as that, so that a call is tried once or twice and not with
    every other one of a long window.
    """

    store: StoreSettings
    work: Lends
    early_s: int = 0
    lateness_s: int = 86_400
    letters: OutletSettings | None = None

    def expand(self, markers: beam.PCollection[tuple[int, bytes]]) -> beam.PCollection[tuple[int, int]]:
        step = JoinDoFn(self.store, self.work, self.lateness_s, self.letters)
        return (
            markers
            | "UntilDeadline"
            >> beam.WindowInto(
                FixedWindows(min(self.early_s, 60) or 60),
                trigger=AfterWatermark(early=AfterProcessingTime(self.early_s) if self.early_s else None, late=AfterCount(1)),
                accumulation_mode=AccumulationMode.ACCUMULATING,  # what an early pane did not find whole waits on
                allowed_lateness=self.lateness_s,
            )
            | "GroupParts" >> beam.GroupByKey()
            | "JoinCalls" >> beam.ParDo(step).with_output_types(tuple[int, int])
            | "AnyTime" >> beam.WindowInto(GlobalWindows())
        )


class TouchDoFn(beam.DoFn):  # type: ignore[misc]
    """Hand the minutes of a bundle (or keys of calls in parts) to what keeps them; for runners that share this process only."""

    def __init__(self, name: str) -> None:
        self._name = name

    def start_bundle(self) -> None:
        self._minutes: set[Any] = set()

    def process(self, marker: tuple[int, Any]) -> None:
        self._minutes.add(marker[1])

    def finish_bundle(self) -> None:
        if self._minutes:
            TOUCHED[self._name](self._minutes)


TOUCHED: dict[str, Callable[[set[Any]], None]] = {}
"""Who keeps dirty minutes in this process, by name; who keeps keys of calls in parts, by that name and ``KEYS``."""

KEYS = "/keys"


@dataclass(eq=False)
class RowsToStore(beam.PTransform):  # type: ignore[misc]
    """Write priced rows, and hand the minutes they touched to ``TOUCHED[keeper]``, the keys of calls in parts to
    ``TOUCHED[keeper + KEYS]``: they are recomputed, and joined, by whom it feeds."""

    store: StoreSettings
    keeper: str
    letters: OutletSettings | None = None

    def expand(self, batches: beam.PCollection[RowBatch]) -> beam.PCollection[None]:
        minutes, keys = _written(batches, WriteDoFn(self.store, 0, self.letters))
        keys | "TouchKeys" >> beam.ParDo(TouchDoFn(self.keeper + KEYS)).with_output_types(None)
        return minutes | "TouchMinutes" >> beam.ParDo(TouchDoFn(self.keeper)).with_output_types(None)


def _written(
    batches: beam.PCollection[RowBatch], write: WriteDoFn
) -> tuple[beam.PCollection[tuple[int, int]], beam.PCollection[tuple[int, bytes]]]:
    """Markers of minutes, and of calls in parts.

    What ``with_outputs`` does would put the step into another one, under another name than jobs that run know it by.
    """
    minutes = batches | "WriteRows" >> beam.ParDo(write).with_output_types(tuple[int, int])
    step, tag = minutes.producer, WriteDoFn.PARTS
    keys = beam.PCollection(minutes.pipeline, tag=tag, element_type=Tuple[int, bytes], is_bounded=minutes.is_bounded)
    keys.producer = step
    step.transform.output_tags.add(tag)
    step.add_output(keys, tag)
    return minutes, keys


@dataclass(eq=False)
class RowsToMinutes(beam.PTransform):  # type: ignore[misc]
    """Write priced rows, join parts of calls, and keep minutes, hours and days true to them. Emits each recomputed minute
    (seconds).

    ``joins`` lends what joins parts; ``wait_s``: how long the rest of a call is waited for.
    """

    store: StoreSettings
    early_s: int = 0
    lateness_s: int = 86_400
    letters: OutletSettings | None = None
    joins: Lends | None = None
    wait_s: int = 600

    def expand(self, batches: beam.PCollection[RowBatch]) -> beam.PCollection[int]:
        minutes, keys = _written(batches, WriteDoFn(self.store, self.lateness_s, self.letters, self.wait_s))
        if self.joins is not None:
            joined = keys | "JoinParts" >> JoinParts(self.store, self.joins, self.early_s, self.lateness_s, self.letters)
            minutes = (minutes, joined) | "AllMinutes" >> beam.Flatten()
        return (
            minutes
            | "DirtyMinutes" >> MinutesOf(self.early_s, self.lateness_s)
            | "RecomputeMinutes" >> beam.ParDo(RecomputeDoFn(self.store)).with_output_types(int)
        )
