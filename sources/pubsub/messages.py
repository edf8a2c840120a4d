"""Messages as batches of records."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from schemas.batch import RawBatch, pubsub_id
from sources.files import too_large
from sources.pubsub.settings import PubSubSettings


class Message(Protocol):
    """What a message is to every client of the service."""

    @property
    def data(self) -> bytes: ...
    @property
    def attributes(self) -> Mapping[str, str]: ...
    @property
    def message_id(self) -> str: ...
    @property
    def publish_time(self) -> datetime | None: ...


def batches(messages: Sequence[Message], settings: PubSubSettings, start: int, segment: bytes | None = None) -> list[RawBatch]:
    """Messages as batches of one ``segment`` (that of the subscription, if none is given), at positions from ``start`` on.

    Their time is that of their publication.
    """
    segment = segment or settings.segment
    found = [RawBatch(settings.source, segment, settings.segment, 0)]
    for position, message in enumerate(messages, start):
        batch = found[-1]
        if batch.bytes_read > settings.batch_bytes or len(batch.positions) >= settings.batch_records:
            found.append(batch := RawBatch(settings.source, segment, settings.segment, 0))
        time_, data = published(message), message.data or b""
        batch.bytes_read += len(data)
        batch.default_time = min(batch.default_time or time_, time_)
        if len(data) > settings.max_record_bytes:
            batch.rejects.append(too_large(data, position, settings.max_record_bytes))
            continue
        batch.records.append(data)
        batch.positions.append(position)
        batch.times.append(time_)
        batch.ids.append(pubsub_id(message.message_id))
        batch.headers.append({str(name).lower(): str(value) for name, value in (message.attributes or {}).items()})
    return found


def published(message: Message) -> int:
    """When a message was published, in UTC microseconds."""
    moment = message.publish_time
    return int(moment.timestamp() * 1_000_000) if moment is not None else time.time_ns() // 1000
