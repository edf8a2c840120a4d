"""What sources have in common that are read in order of a position: topics by offset, logs of a service by the time of receipt.

Positions on one segment are planned as ranges; how far it was read is one position; the store's ledger has a row for each range.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

RANGE_RECORDS: Final = 1_000_000
RANGE_SECONDS: Final = 3600
"""The ledger has one row for so many records or seconds of a partition: a live run reads a range many times a minute."""

_GUESSED_BYTES: Final = 4096


@dataclass(frozen=True)
class Position:
    """How far a partition was read: the next offset, and the ledger's range that leads up to it (since ``began``, seconds)."""

    segment: bytes
    source: str
    next: int
    first: int
    records: int = 0
    bytes: int = 0
    began: float = 0.0


@dataclass(frozen=True)
class Range:
    """Offsets ``[start, end)`` of one partition, carrying on the ledger's range that begins at ``first``.

    Where ``lost_from`` is less than ``start``, the broker has deleted what lay between. ``expected`` bytes are a guess, for
    progress only.
    """

    path: str
    segment: bytes
    start: int
    end: int
    first: int
    records: int = 0
    bytes: int = 0
    lost_from: int | None = None
    expected: int = 0


Ledger = Mapping[bytes, Sequence[tuple[int, int]]]
"""Start and end of the ranges that the store has of each segment."""


class Stock(Protocol):
    """What a source holds of one segment: positions ``[first, end)``."""

    @property
    def source(self) -> str: ...
    @property
    def segment(self) -> bytes: ...
    @property
    def first(self) -> int: ...
    @property
    def end(self) -> int: ...


def plan(
    logs: Sequence[Stock],
    positions: Mapping[bytes, Position],
    starts: Mapping[bytes, int],
    now: float,
    most_records: int | None = None,
    ledger: Ledger | None = None,
) -> list[Range]:
    """What to read next of each partition, about ``most_records`` of all together.

    ``starts``: where to begin with segments that no position is known of. ``ledger``: the ranges that the store has of a segment.
    Those beyond its position were written by a run that was killed before it could record them: exactly they are read again, so
    that no row is without its range and no two ranges overlap.
    """
    waiting = []
    for log in logs:
        known = positions.get(log.segment)
        at = known.next if known else max(starts.get(log.segment, log.first), log.first)
        if at < log.end:  # also where all of it was deleted: a gap is told at once, not when something comes behind it
            waiting.append((log, known, at))
    share = max(1, (most_records or 1 << 62) // max(1, len(waiting)))
    ranges = []
    for log, known, at in waiting:
        again = _again((ledger or {}).get(log.segment, ()), at)
        for first, end in again:
            carries_on = known is not None and known.first == first < at < end
            ranges.append(_range(log, known, at if carries_on else first, end, carries_on))
            at = end
        if not again or (most_records is None and at < log.end):
            young = known and known.next == at and known.records < RANGE_RECORDS and now - known.began < RANGE_SECONDS
            ranges.append(_range(log, known, at, max(at, log.first) + share, bool(young)))
    return ranges


def _again(rows: Sequence[tuple[int, int]], at: int) -> list[tuple[int, int]]:
    """Ranges to read again: the ledger's that end after ``at``, and what lies between two of them."""
    found = []
    for first, end in sorted(rows):
        if end > at:
            if first > at:
                found.append((at, first))
            found.append((first, end))
            at = end
    return found


def _range(log: Stock, known: Position | None, at: int, end: int, carries_on: bool) -> Range:
    """Offsets from ``at`` to ``end``, without those that the broker has deleted."""
    start = max(at, log.first)
    end = max(start, min(end, log.end))
    size = known.bytes / known.records if known and known.records else _GUESSED_BYTES
    found = Range(log.source, log.segment, start, end, start, expected=int((end - start) * size))
    if known and carries_on and start == at:
        found = replace(found, first=known.first, records=known.records, bytes=known.bytes)
    return found if start == at else replace(found, lost_from=at)


def cut(ranges: Iterable[Range], records: int) -> Iterator[Range]:
    """Ranges in pieces of ``records`` offsets, so that processes can share them. Each piece is a range of the ledger."""
    for one in ranges:
        if one.start == one.end:  # nothing but a gap
            yield one
        for start in range(one.start, one.end, records):
            end = min(start + records, one.end)
            piece = replace(one, start=start, end=end, expected=one.expected * (end - start) // max(1, one.end - one.start))
            yield piece if start == one.start else replace(piece, first=start, records=0, bytes=0, lost_from=None)
