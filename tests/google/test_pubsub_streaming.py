"""Messages that a runner hands on singly, put together by bundle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Timestamp

from schemas.batch import RawBatch, SegmentEnd
from sources.pubsub import PubSubSettings
from sources.pubsub.streaming import BatchMessagesDoFn

NOON = datetime(2025, 6, 1, 12, tzinfo=UTC)
SETTINGS = PubSubSettings("projects/p/subscriptions/s", batch_records=4, max_record_bytes=100)


def message(number: int, data: bytes = b"{}") -> PubsubMessage:
    return PubsubMessage(data, {"Team": "t"}, str(number), NOON - timedelta(seconds=number))


def batched(*messages: PubsubMessage) -> list[tuple[RawBatch, Timestamp]]:
    """What one bundle comes to."""
    do = BatchMessagesDoFn(SETTINGS)
    do.start_bundle()
    found = [value for one in messages for value in do.process(one, Timestamp.of(one.publish_time.timestamp()))]
    return [(value.value, value.timestamp) for value in [*found, *do.finish_bundle()]]


def test_a_bundle_is_cut_into_batches_each_at_its_smallest_time() -> None:
    found = batched(*(message(number) for number in (5, 1, 9, 2, 3, 8)))
    assert [[one.removeprefix("pubsub:") for one in batch.ids] for batch, _ in found] == [["5", "1", "9", "2"], ["3", "8"]]
    assert [at for _, at in found] == [Timestamp.of(NOON.timestamp() - 9), Timestamp.of(NOON.timestamp() - 8)]
    first, second = (batch for batch, _ in found)
    assert (first.positions, first.end) == ([0, 1, 2, 3], SegmentEnd(0, 4, 4, 8))
    assert first.default_time == int(NOON.timestamp() - 9) * 1_000_000
    assert first.headers == [{"team": "t"}] * 4
    assert first.segment != second.segment
    assert first.origin == second.origin
    assert first.read_at > 0


def test_a_bundle_that_is_tried_again_is_the_same_segment() -> None:
    once, again, other = batched(message(1), message(2)), batched(message(1), message(2)), batched(message(1), message(3))
    assert once[0][0].segment == again[0][0].segment != other[0][0].segment


def test_a_message_that_is_too_long_or_empty_has_its_place() -> None:
    ((batch, _),) = batched(message(1), message(2, b"x" * 101), PubsubMessage(None, {"a": "b"}, "3", NOON))
    assert (batch.positions, [letter.reason for letter in batch.rejects]) == ([0, 2], ["record_too_large"])
    assert batch.records == [b"{}", b""]
    assert batch.end == SegmentEnd(0, 3, 3, 103)


def test_every_message_comes_out_once_in_a_pipeline() -> None:
    given = [message(number) for number in range(23)]

    def check(batches: list[Any]) -> None:
        assert sorted(int(one.removeprefix("pubsub:")) for batch in batches for one in batch.ids) == list(range(23))
        assert all(len(batch.records) <= 4 for batch in batches)

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        raw = (
            pipeline
            | beam.Create(given)
            | beam.Map(lambda one: TimestampedValue(one, one.publish_time.timestamp()))
            | beam.ParDo(BatchMessagesDoFn(SETTINGS)).with_output_types(RawBatch)
        )
        assert_that(raw, check)
