"""Read ranges of offsets as batches of records."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

from schemas.batch import DeadLetter, RawBatch, SegmentEnd
from sources.files import SourceError, too_large
from sources.kafka import registry
from sources.kafka.clients import connection, explained, listen, one_line
from sources.kafka.planning import place_of
from sources.kafka.settings import KafkaSettings
from sources.ranges import Range

if TYPE_CHECKING:
    from kafka import KafkaConsumer, TopicPartition

_POLL_MS: Final = 500
_CONSUMERS: Final = 64
_RETRY_S: Final = 1.0


def read(piece: Range, settings: KafkaSettings) -> Iterator[RawBatch]:
    """Batches of one range in order; the last one carries the ``SegmentEnd``.

    Raises:
        SourceError: the broker cannot be reached for ``patience_s``, refuses, or the topic is gone.
    """
    from kafka import TopicPartition
    from kafka.errors import CorruptRecordError, KafkaError, OffsetOutOfRangeError

    where = TopicPartition(*place_of(piece.path))
    records, size, first = piece.records, piece.bytes, piece.first
    if piece.lost_from is not None and piece.lost_from < piece.start:
        yield _gap(piece, piece.lost_from, piece.start)
    consumer = _consumer(settings, where)
    try:
        at = piece.start
        if _standing.pop((settings, where), None) != at:
            consumer.seek(where, at)
        heard = time.monotonic()
        while at < piece.end:
            batch = RawBatch(piece.path, piece.segment, piece.segment, 0)
            named: dict[int, bytes] = {}
            try:
                most = min(settings.batch_records, piece.end - at)
                polled = consumer.poll(_POLL_MS, max_records=most).get(where, [])
                named = _take(batch, polled, piece.end, settings.max_record_bytes)
                now_at = polled[-1].offset + 1 if polled else consumer.position(where, timeout_ms=_POLL_MS)
            except OffsetOutOfRangeError:
                start = min(max(at, consumer.beginning_offsets([where])[where]), piece.end)
                if start == at:
                    raise
                yield _closed(RawBatch(piece.path, piece.segment, piece.segment, _now()), first, at, records, size)
                yield _gap(piece, at, start)
                at = first = start
                records = size = 0
                consumer.seek(where, at)
                continue
            except Exception as error:
                passing = isinstance(error, KafkaError | OSError | NotImplementedError)  # the last: a codec is not installed
                if passing and not isinstance(error, CorruptRecordError):
                    raise
                now_at = at + 1
                batch.rejects.append(DeadLetter(at, 0, "corrupt_record", one_line(error), "", 0, 0))
                consumer.seek(where, now_at)
            if now_at is not None and now_at > at:
                if now_at > piece.end:  # compaction or a transaction left offsets out
                    consumer.seek(where, piece.end)
                at, heard = min(now_at, piece.end), time.monotonic()
            elif time.monotonic() - heard > settings.patience_s:
                raise SourceError(f"{settings}: no answer for {settings.patience_s:.0f} s while reading {piece.path} at {at}")
            for part in _parts(batch, settings.batch_bytes):
                _unframe(part, settings, named)
                records += len(part.records) + len(part.rejects)
                size += part.bytes_read
                yield part
        _standing[settings, where] = at
        yield _closed(RawBatch(piece.path, piece.segment, piece.segment, _now()), first, at, records, size)
    except SourceError:
        raise
    except Exception as error:
        _drop(settings, where)
        raise explained(error, settings) from error


LAST_READ: Final[dict[bytes, int]] = {}
"""Time of the last record that this process read of each partition, in UTC microseconds."""


def _take(batch: RawBatch, polled: Sequence[Any], end: int, limit: int) -> dict[int, bytes]:
    """Put what was polled, before ``end``, into a batch; by offset the schemas that headers name."""
    named: dict[int, bytes] = {}
    any_headers = any(record.headers for record in polled)
    for record in polled:
        if record.offset >= end:
            break
        value = record.value or b""
        batch.bytes_read += len(value)
        seen = record.timestamp * 1000 if record.timestamp and record.timestamp > 0 else _now()
        batch.default_time = min(batch.default_time or seen, seen)
        if len(value) > limit:
            batch.rejects.append(too_large(value, record.offset, limit))
            continue
        LAST_READ[batch.segment] = seen
        batch.records.append(value)
        batch.positions.append(record.offset)
        batch.times.append(seen)
        if any_headers:
            batch.headers.append(_headers(record.headers))
            schema = next((said for name, said in record.headers if name == registry.HEADER), None)
            if schema and value:
                named[record.offset] = schema
    return named


def _unframe(batch: RawBatch, settings: KafkaSettings, named: Mapping[int, bytes]) -> None:
    """Decode values that a schema registry describes; those that cannot be are dead letters. Sizes are those that were read.

    ``named``: by offset, the schemas that headers name.
    """
    if not named and not any(value.startswith(b"\0") for value in batch.records):
        return
    kept: list[int] = []
    for index, value in enumerate(batch.records):
        schema = named.get(batch.positions[index], b"")
        if schema or registry.is_framed(value):
            try:
                found = _decoded(value, settings, schema)
            except registry.Unreadable as problem:
                letter = too_large(value, batch.positions[index], 0)  # with its size and hash
                batch.rejects.append(letter._replace(reason="schema_registry", error=one_line(str(problem))))
                continue
            if len(found) > settings.max_record_bytes:
                batch.rejects.append(too_large(found, batch.positions[index], settings.max_record_bytes))
                continue
            batch.records[index] = found
        kept.append(index)
    if len(kept) < len(batch.records):
        batch.records = [batch.records[index] for index in kept]
        batch.positions = [batch.positions[index] for index in kept]
        batch.times = [batch.times[index] for index in kept]
        batch.headers = [batch.headers[index] for index in kept] if batch.headers else []


def _decoded(value: bytes, settings: KafkaSettings, named: bytes) -> bytes:
    """A framed value as JSON; a registry that does not answer is waited for."""
    until = time.monotonic() + settings.patience_s
    while True:
        try:
            return registry.decoded(value, settings, named)
        except registry.Unreachable as error:
            if time.monotonic() + _RETRY_S > until:
                raise SourceError(str(error)) from error
            time.sleep(_RETRY_S)


def _headers(given: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Headers by lower-case name; what is no text is left out."""
    found = {}
    for name, value in given:
        with suppress(UnicodeDecodeError):
            found[name.lower()] = (value or b"").decode()
    return found


def _parts(batch: RawBatch, most_bytes: int) -> Iterator[RawBatch]:
    """The batch, cut where its bytes add up to more than ``most_bytes``; nothing if it is empty."""
    if batch.bytes_read <= most_bytes or len(batch.records) < 2:
        if batch.records or batch.rejects:
            yield batch
        return
    total, parts = 0, []
    for record in batch.records:
        total += len(record)
        parts.append(total // most_bytes)
    at = 0
    rejects = batch.rejects
    for _, group in groupby(parts):
        here = slice(at, at := at + len(list(group)))
        chosen = batch.records[here]
        yield replace(
            batch,
            records=chosen,
            positions=batch.positions[here],
            times=batch.times[here],
            headers=batch.headers[here],
            rejects=rejects,
            bytes_read=sum(map(len, chosen)) + sum(letter.size for letter in rejects),
        )
        rejects = []


def _closed(batch: RawBatch, first: int, end: int, records: int, size: int) -> RawBatch:
    batch.end = SegmentEnd(first, end, records, size)
    return batch


def _gap(piece: Range, lost_from: int, start: int) -> RawBatch:
    """The dead letter that stands for offsets ``[lost_from, start)``, at the last of them."""
    error = f"offsets {lost_from} to {start - 1} were deleted by the broker before they were read"
    batch = RawBatch(piece.path, piece.segment, piece.segment, _now())
    batch.rejects.append(DeadLetter(start - 1, 0, "offsets_lost", error, "", 0, 0))
    return batch


def _now() -> int:
    return time.time_ns() // 1000


_pool: dict[tuple[KafkaSettings, TopicPartition], KafkaConsumer] = {}
"""One consumer for each partition that this process read, the least lately used first: what it has fetched ahead is kept."""

_standing: dict[tuple[KafkaSettings, TopicPartition], int] = {}
"""The offset that each of them would give next; of one that broke off in the middle of a range nothing is known."""


def _consumer(settings: KafkaSettings, where: TopicPartition) -> KafkaConsumer:
    from kafka import KafkaConsumer

    known = _pool.pop((settings, where), None)
    if known is None:
        while len(_pool) >= _CONSUMERS:
            _drop(*next(iter(_pool)))
        listen()
        try:
            known = KafkaConsumer(
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                allow_auto_create_topics=False,
                fetch_max_wait_ms=_POLL_MS,
                # Small enough to be fetched and taken apart beside the work on what came before.
                fetch_max_bytes=settings.batch_bytes // 4,
                max_partition_fetch_bytes=settings.batch_bytes // 4,
                receive_message_max_bytes=1 << 30,
                max_poll_records=settings.batch_records,
                metrics_enabled=False,
                **connection(settings),
            )
            known.assign([where])
        except SourceError:
            raise
        except Exception as error:
            raise explained(error, settings) from error
    _pool[settings, where] = known
    return known


def _drop(settings: KafkaSettings, where: TopicPartition) -> None:
    _standing.pop((settings, where), None)
    consumer = _pool.pop((settings, where), None)
    if consumer is not None:
        with suppress(Exception):
            consumer.close(autocommit=False, timeout_ms=1000)


def hang_up() -> None:
    """Close every consumer of this process."""
    for key in list(_pool):
        _drop(*key)
    registry.hang_up()
