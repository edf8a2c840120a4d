"""What a service hands to this process by itself (messages, a tail): held in memory until its rows are in the store.

What is held can be read as often as an epoch is tried. It has positions of its own, microseconds of the clock that never go back,
so that what is handed out again, because it was not acknowledged, stands beside its first delivery in the ledger.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from schemas.batch import RawBatch, SegmentEnd
from sources.ranges import RANGE_RECORDS, RANGE_SECONDS

_HELD: Final[dict[tuple[bytes, int], list[RawBatch]]] = {}


@dataclass(frozen=True)
class Held:
    """Records at the positions ``[start, end)``, held by the process that made this."""

    path: str
    segment: bytes
    start: int
    end: int
    expected: int


def read(piece: Held) -> Iterator[RawBatch]:
    """The batches of a piece; the last one carries the ``SegmentEnd``."""
    yield from _HELD[piece.segment, piece.start]


class Shelf:
    """Gives what comes in its positions, and the ledger rows that grow: one holds an hour at most, like those of a topic."""

    def __init__(self, path: str, segment: bytes, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._segment = segment
        self._clock = clock
        self._next = self._first = 0
        self._records = self._bytes = 0
        self._began = 0.0

    def after(self, position: int) -> None:
        """Positions before this one are taken."""
        self._next = max(self._next, position)

    def hold(self, fill: Callable[[int], Sequence[RawBatch]]) -> Held:
        """Hold the batches that ``fill`` makes, given their first position."""
        now = self._clock()
        start = max(self._next, int(now * 1_000_000))
        if not self._records or self._records >= RANGE_RECORDS or now - self._began > RANGE_SECONDS:
            self._first, self._records, self._bytes, self._began = start, 0, 0, now
        batches = list(fill(start))
        self._records += sum(len(batch.records) + len(batch.rejects) for batch in batches)
        size = sum(batch.bytes_read for batch in batches)
        self._bytes += size
        end = self._next = start + sum(len(batch.records) + len(batch.rejects) for batch in batches)
        batches[-1].end = SegmentEnd(self._first, end, self._records, self._bytes)
        _HELD[self._segment, start] = batches
        return Held(self._path, self._segment, start, end, size)

    def release(self, piece: Held) -> None:
        """Its rows are in the store."""
        _HELD.pop((piece.segment, piece.start), None)
