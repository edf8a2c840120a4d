"""When a minute is recomputed: early, on time, late, and never dropped. Time is TestStream's, not the clock's."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.util import assert_that, equal_to
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import PaneInfoTiming
from hypothesis import given
from hypothesis import strategies as st

from schemas.batch import RowBatch
from schemas.tables import PARTS
from sinks.clickhouse import Store, StoreAddress, StoreError, StoreSettings
from sinks.join import Joined
from sinks.reconcile import reconcile
from sinks.steps import JoinParts, MinutesOf, RowsToMinutes, WriteDoFn, marker_time
from tests.sinks.samples import NOON, batch, call

TIMINGS = {PaneInfoTiming.EARLY: "early", PaneInfoTiming.ON_TIME: "on time", PaneInfoTiming.LATE: "late"}


class Panes(beam.DoFn):  # type: ignore[misc]
    def process(
        self,
        shard: tuple[int, Iterable[int]],
        window: beam.transforms.window.IntervalWindow = beam.DoFn.WindowParam,
        pane: beam.utils.windowed_value.PaneInfo = beam.DoFn.PaneInfoParam,
    ) -> Iterable[tuple[int, str, list[int]]]:
        yield int(window.start) - NOON, TIMINGS[pane.timing], sorted(minute - NOON for minute in shard[1])


def marker(minute: int) -> TimestampedValue:
    return TimestampedValue((0, NOON + minute), NOON + minute)


def test_a_minute_has_early_on_time_and_late_panes() -> None:
    stream = (
        TestStream()
        .advance_watermark_to(NOON)
        .add_elements([marker(0)])
        .advance_processing_time(11)  # early: shown while it is still open
        .add_elements([marker(0), marker(60)])
        .advance_watermark_to(NOON + 60)  # the first minute is complete
        .advance_watermark_to(NOON + 600)
        .add_elements([marker(0)])  # late, within the allowed lateness
        .advance_watermark_to_infinity()
    )
    options = PipelineOptions()
    options.view_as(StandardOptions).streaming = True
    with TestPipeline(options=options) as p:
        panes = p | stream | MinutesOf(early_s=10, lateness_s=3600) | beam.ParDo(Panes())
        assert_that(panes, equal_to([(0, "early", [0]), (0, "on time", [0]), (60, "on time", [60]), (0, "late", [0])]))


def test_a_marker_beyond_the_allowed_lateness_rides_in_a_younger_window() -> None:
    lateness, now = 3600, NOON + 10_000
    late = TimestampedValue((0, NOON), marker_time(NOON, now * 1_000_000, lateness))
    dropped = TimestampedValue((0, NOON + 60), NOON + 60)  # what would happen with its own time
    stream = TestStream().advance_watermark_to(now).add_elements([late, dropped]).advance_watermark_to_infinity()
    options = PipelineOptions()
    options.view_as(StandardOptions).streaming = True
    with TestPipeline(options=options) as p:
        minutes = p | stream | MinutesOf(early_s=10, lateness_s=lateness) | beam.FlatMap(lambda shard: list(shard[1]))
        assert_that(minutes, equal_to([NOON]))


@pytest.fixture
def write(store: Store, address: StoreAddress) -> Iterator[WriteDoFn]:
    """The step of one worker, two calls to a block, with a bundle begun."""
    step = WriteDoFn(StoreSettings(address, insert_rows=2), 0)
    step.setup()
    step.start_bundle()
    yield step
    step.teardown()


def two_calls(block: int) -> RowBatch:
    """The calls of one block, in a minute of their own."""
    return batch([call(2 * block + n, NOON + 60 * block) for n in range(2)], end=False)


def test_a_block_is_inserted_while_the_next_is_collected(write: WriteDoFn, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, insert, order = threading.Event(), Store.insert, []

    def slow(store: Store, table: str, rows: pa.Table) -> None:
        assert gate.wait(60)
        order.append((table, rows.num_rows))
        insert(store, table, rows)

    monkeypatch.setattr(Store, "insert", slow)
    assert list(write.process(two_calls(0))) == []  # full, and in hand: nobody waits for the store
    assert list(write.process(batch([call(9, NOON + 60)], end=False))) == []
    assert order == []
    gate.set()
    assert [marker.value for marker in write.finish_bundle()] == [(0, NOON), (1, NOON + 60)]
    written = [one for one in order if one[1]]
    assert written == [("calls", 2), ("receipts", 2), ("calls", 1), ("receipts", 1)]  # one block after the other


def test_a_marker_comes_after_its_rows(write: WriteDoFn, store: Store) -> None:
    seen: list[int] = []

    def follow(markers: Iterable[Any]) -> None:
        for marker in markers:
            minute = marker.value[1]
            calls = store.rows(f"SELECT count() FROM {store.table('calls')} WHERE toUInt32(minute) = {minute}")
            assert calls == [(2,)]
            seen.append(minute)

    for block in range(5):
        follow(write.process(two_calls(block)))
    follow(write.finish_bundle())
    assert seen == [NOON + 60 * block for block in range(5)]


def test_a_block_that_the_store_refuses_fails_the_bundle(write: WriteDoFn, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise StoreError("the disk is full")

    monkeypatch.setattr(Store, "insert", refused)
    assert list(write.process(two_calls(0))) == []
    with pytest.raises(StoreError, match="the disk is full"):
        list(write.process(two_calls(1)))
    with pytest.raises(StoreError, match="the disk is full"):
        list(write.finish_bundle())


@given(minute=st.integers(0, 2**31).map(lambda s: s // 60 * 60), seen=st.integers(0, 2**31), lateness=st.integers(0, 10**7))
def test_a_marker_is_never_older_than_its_minute_nor_too_late(minute: int, seen: int, lateness: int) -> None:
    time = marker_time(minute, seen * 1_000_000, lateness)
    assert time >= minute
    assert time >= seen - lateness
    assert time in (minute, seen - lateness)


def test_rows_go_in_and_their_minutes_come_out(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    batches = [batch([call(n, NOON + 60 * (n % 7)) for n in range(k, k + 20)], end=False) for k in range(0, 100, 20)]
    with beam.Pipeline(runner=FnApiRunner()) as p:
        minutes = p | beam.Create(batches).with_output_types(RowBatch) | RowsToMinutes(StoreSettings(address, insert_rows=30))
        assert_that(minutes | beam.Distinct(), equal_to([NOON + 60 * n for n in range(7)]))
    checks = {c.name: c.holds for c in reconcile(store).checks}
    assert checks.pop("segments are finished") is False  # no batch closed its segment
    assert all(checks.values())
    rows = store.rows(f"SELECT toUInt32(minute), calls FROM {store.table('minutes')} FINAL ORDER BY minute")
    assert rows == [(NOON + 60 * n, 15 if n < 2 else 14) for n in range(7)]
    assert Timestamp(NOON)  # seconds, as Beam counts them


def test_calls_in_parts_are_tried_early_and_all_joined_once_nobody_waits(
    store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each key is tried in the early panes of its window, and again, for good, when that is over; its minutes come out then, too."""
    seen: list[tuple[list[bytes], bool]] = []

    def join(_: Store, keys: Iterable[bytes], work: object, final: bool, letters: object) -> Joined:
        seen.append((sorted(keys), final))
        return Joined({NOON} if final else {NOON + 60}, calls=1)

    monkeypatch.setattr("sinks.steps.join", join)
    first, second, other = b"\0" * 16, b"\0" * 15 + b"\1", b"\0" * 15 + b"\2"

    def waits(key: bytes, until: int) -> TimestampedValue:
        return TimestampedValue((0, key), NOON + until)

    stream = (
        TestStream()
        .advance_watermark_to(NOON)
        .add_elements([waits(first, 600)])
        .advance_processing_time(11)
        .add_elements([waits(second, 601), waits(other, 700)])
        .advance_processing_time(11)
        .advance_watermark_to(NOON + 660)
        .advance_watermark_to_infinity()
    )
    options = PipelineOptions()
    options.view_as(StandardOptions).streaming = True
    with TestPipeline(options=options) as p:
        keys = p | stream.with_output_types(tuple[int, bytes])
        markers = keys | JoinParts(StoreSettings(address), nullcontext, early_s=10, lateness_s=3600)
        minutes = markers | MinutesOf(early_s=10, lateness_s=3600) | beam.FlatMap(lambda shard: list(shard[1]))
        assert_that(minutes, equal_to([NOON + 60] * 3 + [NOON] * 2))
    assert [keys for keys, final in seen if final] == [[first, second], [other]]
    tried = [keys for keys, final in seen if not final]
    assert tried[0] == [first]
    assert {key for keys in tried for key in keys} == {first, second, other}


def test_markers_of_calls_in_parts_stand_where_nobody_waits_any_more(store: Store, address: StoreAddress) -> None:
    key = b"k" * 16
    part = dict.fromkeys(PARTS.arrow.names, "") | {"tenant": "acme", "call_key": key, "segment": bytes(16), "needs": [], "call": []}
    part |= dict.fromkeys(("position", "item", "record_hash", "rank", "number", "of", "time", "deadline"), 0) | {"data": b""}
    rows = replace(two_calls(0), parts=pa.RecordBatch.from_pylist([part], PARTS.arrow))
    step = WriteDoFn(StoreSettings(address), 0, wait_s=600)
    step.setup()
    step.start_bundle()
    assert list(step.process(rows)) == []
    minute, parts = step.finish_bundle()
    step.teardown()
    assert minute.value == (0, NOON)
    assert parts.tag == WriteDoFn.PARTS
    assert (parts.value.value, parts.value.timestamp) == ((key[0] % 8, key), Timestamp(NOON + 600))
