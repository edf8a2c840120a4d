"""Messages as an unbounded source of Beam, for Dataflow, whose service reads Pub/Sub itself and acknowledges what is durable.

It hands on single messages. Everything behind works on batches, so those of a bundle are put together: a batch of one costs many
times as much for each call. A batch is a segment of the ledger by itself, named by its messages: a bundle that is tried again is
written again as it was.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.io.gcp.pubsub import PubsubMessage
from apache_beam.transforms.window import GlobalWindow, TimestampedValue
from apache_beam.utils.timestamp import Timestamp
from apache_beam.utils.windowed_value import WindowedValue

import schemas.coders  # noqa: F401  (registers the coders of the batches)
from schemas.batch import RawBatch, SegmentEnd
from sources.pubsub.messages import batches
from sources.pubsub.settings import PubSubSettings


class BatchMessagesDoFn(beam.DoFn):  # type: ignore[misc]
    """The messages of a bundle as batches, each at the smallest event time in it."""

    def __init__(self, settings: PubSubSettings) -> None:
        self._settings = settings

    def start_bundle(self) -> None:
        self._messages: list[PubsubMessage] = []
        self._bytes = 0
        self._oldest: Timestamp | None = None

    def process(self, message: PubsubMessage, at: Timestamp = beam.DoFn.TimestampParam) -> Iterator[TimestampedValue]:
        self._messages.append(message)
        self._bytes += len(message.data or b"")
        self._oldest = at if self._oldest is None else min(self._oldest, at)
        if len(self._messages) >= self._settings.batch_records or self._bytes >= self._settings.batch_bytes:
            yield TimestampedValue(self._batch(), self._oldest)
            self.start_bundle()

    def finish_bundle(self) -> Iterator[WindowedValue]:
        if self._messages:
            yield WindowedValue(self._batch(), self._oldest, [GlobalWindow()])
            self.start_bundle()

    def _batch(self) -> RawBatch:
        named = "\0".join([self._settings.subscription, *(str(message.message_id) for message in self._messages)])
        segment = hashlib.blake2b(named.encode(), digest_size=16, person=b"pubsub batch").digest()
        (batch,) = batches(self._messages, self._settings, 0, segment)
        batch.end = SegmentEnd(0, len(self._messages), len(self._messages), batch.bytes_read)
        batch.read_at = time.time_ns() // 1000  # the watermark is that of the service, which knows nothing of calls
        return batch


class ReadMessages(beam.PTransform):  # type: ignore[misc]
    """Read a subscription by the runner's own source."""

    def __init__(self, settings: PubSubSettings) -> None:
        super().__init__()
        self._settings = settings

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[RawBatch]:
        from apache_beam.io.gcp.pubsub import ReadFromPubSub

        return (
            begin
            | "ReadFromPubSub" >> ReadFromPubSub(subscription=self._settings.subscription, with_attributes=True)
            | "BatchMessages" >> beam.ParDo(BatchMessagesDoFn(self._settings)).with_output_types(RawBatch)
        )
