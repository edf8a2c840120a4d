"""Logs of Cloud Logging as a feed: windows of the time of receipt, each looked at twice, and what a tail brings between."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from pipelines.feeds import Feed, Standing, positions_of
from pipelines.ledger import ledger_of, segment_ends
from pipelines.state import State
from schemas.batch import RawBatch
from sinks.clickhouse import Store
from sources import cloud_logging, held
from sources.cloud_logging import SEEN, LoggingSettings, Tail, first_look, second_look
from sources.cloud_logging.settings import EARLIER_S
from sources.held import Held
from sources.ranges import Ledger, Position, Range, plan

SHOWN_S: Final = 5
"""How long entries usually take to be shown: the first look at a window is as much later than its end."""

_SECOND: Final = 1_000_000
_FIRST_SPAN: Final = 60 * _SECOND
_SPANS: Final = (_SECOND, 86_400 * _SECOND)
"""A window is as long as entries are thin, within these bounds."""

_WIDEN: Final = 4

_PIECES: Final = 256
"""Windows of a read that ends, at most; each is an hour or more, for each costs a read of the quota."""

_BYTES_PER_SECOND: Final = 64 << 10
"""A guess at what a second of logs holds; for progress only."""


class _Look(NamedTuple):
    """What can be looked at of a segment: times of receipt ``[first, end)``."""

    source: str
    segment: bytes
    first: int
    end: int


def read(piece: Range | Held, settings: LoggingSettings) -> Iterator[RawBatch]:
    """Read a window, or what the tail brought."""
    return held.read(piece) if isinstance(piece, Held) else cloud_logging.read(piece, settings)


class EntriesFeed(Feed):
    """The logs that ``settings`` name."""

    def __init__(self, settings: LoggingSettings, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._settings = settings
        self._clock = clock
        self._first, self._second = first_look(settings), second_look(settings)
        self._spans = {self._first: _FIRST_SPAN, self._second: _FIRST_SPAN}
        self._ledger: Ledger = {}
        self._pieces: list[Range] = []
        self._tail: Tail | None = None
        self._held: Held | None = None
        self._swept = 0.0
        self._behind = False
        self._told: dict[str, int] = {}

    def waiting(self, store: Store, state: State | None) -> tuple[Sequence[Range], int]:
        cloud_logging.probe(self._settings, self._clock())
        known = positions_of(state, store) if state is not None else {}
        positions = self._begun(known)
        if state is not None:
            state.keep_positions(positions[segment] for segment in positions.keys() - known.keys())
        ledger = ledger_of(segment_ends(store, positions))
        now = self._clock()
        end = self._settings.until or int((now - SHOWN_S) * _SECOND)
        limit = min(end, int((now - self._settings.overlap_s) * _SECOND), positions[self._first].next)
        looks = [_Look(self._settings.source, self._first, 0, end), _Look(self._settings.source, self._second, 0, limit)]
        ranges = plan(looks, positions, {}, now, ledger=ledger)
        span = max(3600 * _SECOND, sum(one.end - one.start for one in ranges) // _PIECES)
        found = []
        for one in ranges:
            again = any(row == (one.start, one.end) for row in ledger.get(one.segment, ()))
            cuts = [one.start] if again else range(one.start, one.end, span)
            found += [_piece(one, at, one.end if again else min(at + span, one.end)) for at in cuts]
        return found, len(looks) - len({one.segment for one in ranges})

    def begin(self, store: Store, state: State) -> None:
        cloud_logging.probe(self._settings, self._clock())
        self._state, self._swept = state, 0.0
        known = positions_of(state, store)
        positions = self._begun(known)
        state.keep_positions(positions.values())
        tail = Tail(self._settings, self._news.append) if self._settings.tail and self._tail is None else self._tail
        segments = [self._first, self._second, *([tail.segment] if tail else [])]
        self._ledger = ledger_of(segment_ends(store, segments))
        if tail and self._tail is None:
            tail.shelf.after(max((end for _, end in self._ledger.get(tail.segment, ())), default=0))
            self._tail = tail

    def _begun(self, known: Mapping[bytes, Position]) -> dict[bytes, Position]:
        """Where to go on with either look; what is new begins where the settings say. What the first look sees for the first time
        after the overlap needs no second one."""
        now = self._clock()
        start = self._settings.start if self._settings.start is not None else int((now - EARLIER_S) * _SECOND)
        late = max(start, int((now - self._settings.overlap_s) * _SECOND))
        begun = {self._first: start, self._second: late}
        return {
            segment: known.get(segment) or Position(segment, self._settings.source, at, at) for segment, at in begun.items()
        }

    def next(self, most: int) -> Sequence[Range | Held]:
        now, self._most = self._clock(), most
        if self._tail is not None and self._held is None:
            self._held = self._tail.take(most)
        self._pieces = []
        if self._behind or now - self._swept >= self._settings.sweep_s:
            self._pieces = self._windows(now)
            self._swept = now
        return [*self._pieces, *([self._held] if self._held else [])]

    def _windows(self, now: float) -> list[Range]:
        positions = self._state.positions()
        first, second = positions[self._first], positions[self._second]
        shown = int((now - SHOWN_S) * _SECOND)
        settled = min(first.next, int((now - self._settings.overlap_s) * _SECOND))
        looks = []
        for position, end in ((first, shown), (second, settled)):
            rows = self._ledger.get(position.segment, ())
            most = max([position.next + self._spans[position.segment], *(row_end for _, row_end in rows)])
            looks.append(_Look(self._settings.source, position.segment, 0, min(end, most)))
        self._behind = looks[0].end < shown
        return plan(looks, positions, {}, now, ledger=self._ledger)

    def committed(self) -> None:
        positions = self._state.positions()
        for piece in self._pieces:
            SEEN.keep(piece.segment, piece.start, piece.end)
            self._adapt(piece, positions[piece.segment])
        if self._held is not None and self._tail is not None:
            SEEN.keep(self._held.segment, self._held.start, self._held.end)
            self._tail.shelf.release(self._held)
            self._held = None
        SEEN.forget(positions[self._second].next)
        self._ledger = {}

    def _adapt(self, piece: Range, position: Position) -> None:
        """Make the next window as long as one that would have held about as many entries as an epoch takes."""
        held = position.records - piece.records if position.first == piece.first else position.records
        span = piece.end - piece.start
        wanted = min(span * self._most // max(1, held), max(span, self._spans[piece.segment]) * _WIDEN)
        self._spans[piece.segment] = max(_SPANS[0], min(wanted, _SPANS[1]))

    def standing(self) -> Standing:
        """Nothing that was received before the second look's position is still to come. How much waits, nobody knows."""
        settled = self._state.positions()[self._second].next / _SECOND
        return Standing(_named(len(self._settings.resources)), None, settled, self._behind)

    def news(self) -> Sequence[str]:
        tail = self._tail.lost.items() if self._tail else ()
        lost = {f"entries that the tail left out ({why}), which the sweeps bring": count for why, count in tail}
        lost["reads that were refused because the quota was used up"] = cloud_logging.refused(self._settings)
        for what, count in lost.items():
            if count >= 2 * self._told.get(what, 0) > 0 or (count and what not in self._told):
                self._told[what] = count
                self._news.append(f"{self._settings}: {count:,} {what}, so far")
        said, self._news[:] = list(self._news), []
        return said

    def close(self) -> None:
        if self._tail is not None:
            self._tail.close()
        SEEN.clear()
        cloud_logging.hang_up()


def _piece(whole: Range, start: int, end: int) -> Range:
    """A window of a range, which is a range of the ledger itself."""
    return Range(
        whole.path, whole.segment, start, end, start, expected=max(1, (end - start) * _BYTES_PER_SECOND // _SECOND)
    )


def _named(resources: int) -> str:
    return f"{resources:,} resource{'s' if resources > 1 else ''}"
