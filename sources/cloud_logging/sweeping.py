"""Sweeps: every entry that was received within a window, page by page.

A position is a time of receipt in UTC microseconds. A window ``[start, end)`` is a range of the ledger like any other; its
entries, in the order of the service, have the positions from ``start`` on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from schemas.batch import RawBatch, SegmentEnd
from sources.cloud_logging.clients import Pace, client_of, patient
from sources.cloud_logging.entries import as_json, identity, micros
from sources.cloud_logging.seen import SEEN
from sources.cloud_logging.settings import LoggingSettings
from sources.files import SourceError, too_large
from sources.google import explained
from sources.ranges import Range

if TYPE_CHECKING:
    from google.cloud.logging_v2.types import ListLogEntriesResponse, LogEntry

PAGE: Final = 1000
"""Entries of one read, at most: the service's limit."""

PAST_DAYS: Final = 31
"""How much older than its receipt an entry may be: a bucket takes none that is older than it keeps, 30 days by default."""

_clients: dict[LoggingSettings, tuple[Any, Pace]] = {}


def first_look(settings: LoggingSettings) -> bytes:
    """The segment of the first look at every window."""
    return _segment(settings, "first")


def second_look(settings: LoggingSettings) -> bytes:
    """The segment of the second look, at what the service showed late."""
    return _segment(settings, "second")


def _segment(settings: LoggingSettings, look: str) -> bytes:
    said = "\0".join((*sorted(settings.resources), settings.filter.strip(), look))
    return hashlib.blake2b(said.encode(), digest_size=16, person=b"logging").digest()


def read(piece: Range, settings: LoggingSettings) -> Iterator[RawBatch]:
    """Batches of one window in order of the entries' time, without those that this process has seen into the store before; the
    last one carries the ``SegmentEnd``.

    Raises:
        SourceError: the service cannot be reached or its quota is used up, for ``patience_s``; or it refuses.
    """
    known, fresh = SEEN.begin(piece.segment, piece.start)
    at, records, size = piece.start, piece.records, piece.bytes
    for page in _pages(piece.start, piece.end, settings):
        batch = RawBatch(piece.path, piece.segment, piece.segment, 0)
        for entry in page.entries:
            mark = identity(entry)
            if mark in known:
                continue
            fresh.add(mark)
            if at >= piece.end:
                raise SourceError(f"{settings}: more entries than microseconds from {_text(piece.start)} to {_text(piece.end)}")
            put(batch, entry, at, settings.max_record_bytes)
            at += 1
            if batch.bytes_read > settings.batch_bytes or len(batch.positions) >= settings.batch_records:
                yield batch
                records, size = _add(batch, records, size)
                batch = RawBatch(piece.path, piece.segment, piece.segment, 0)
        if batch.records or batch.rejects:
            yield batch
            records, size = _add(batch, records, size)
    end = SegmentEnd(piece.first, piece.end, records, size)
    yield RawBatch(piece.path, piece.segment, piece.segment, piece.end, end=end)


def _add(batch: RawBatch, records: int, size: int) -> tuple[int, int]:
    return records + len(batch.records) + len(batch.rejects), size + batch.bytes_read


def put(batch: RawBatch, entry: LogEntry, position: int, limit: int) -> None:
    """Append an entry to a batch."""
    raw = entry._pb
    time = micros(raw.timestamp) or micros(raw.receive_timestamp)
    data = as_json(entry)
    batch.bytes_read += len(data)
    batch.default_time = min(batch.default_time or time, time)
    if len(data) > limit:
        batch.rejects.append(too_large(data, position, limit))
        return
    batch.records.append(data)
    batch.positions.append(position)
    batch.times.append(time)


def probe(settings: LoggingSettings, now: float) -> None:
    """Read one page of the last minute, to see whether it can be read.

    Raises:
        SourceError: it cannot.
    """
    end = int(now * 1_000_000)
    next(_pages(end - 60_000_000, end, settings, 1), None)


def _pages(start: int, end: int, settings: LoggingSettings, size: int = PAGE) -> Iterator[ListLogEntriesResponse]:
    """Pages of the entries received in ``[start, end)``."""
    if settings not in _clients:
        _clients[settings] = client_of(settings), Pace(settings.reads_per_minute)
    client, pace = _clients[settings]
    retry = patient(settings, pace)
    request = {
        "resource_names": list(settings.resources),
        "filter": window_filter(settings.filter, start, end),
        "order_by": "timestamp asc",
        "page_size": size,
    }
    token = ""
    while True:
        pace.wait()
        try:
            page = next(client.list_log_entries(request={**request, "page_token": token}, retry=retry, timeout=60.0).pages)
        except Exception as error:
            raise explained(error, str(settings)) from error
        yield page
        token = page.next_page_token
        if not token:
            return


def refused(settings: LoggingSettings) -> int:
    """How often this process was told that the quota is used up."""
    return _clients[settings][1].refused if settings in _clients else 0


def window_filter(given: str, start: int, end: int) -> str:
    """The operator's filter, for entries received in ``[start, end)``. The time of entries is bounded, too: the service would
    else look through all it has."""
    times = (
        f'receiveTimestamp >= "{_text(start)}" AND receiveTimestamp < "{_text(end)}"'
        f' AND timestamp >= "{_text(start - int(timedelta(days=PAST_DAYS).total_seconds()) * 1_000_000)}"'
    )
    return f"({given.strip()}\n) AND {times}" if given.strip() else times


def _text(at: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def hang_up() -> None:
    """Close every client of this process."""
    for settings in list(_clients):
        with suppress(Exception):
            _clients.pop(settings)[0].transport.close()
