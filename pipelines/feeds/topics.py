"""Topics of Kafka as a feed: where to go on is what the state remembers, as far as the store bears it out."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Final

from pipelines.feeds import Feed, Standing, positions_of
from pipelines.ledger import ledger_of, segment_ends
from pipelines.state import State
from sinks.clickhouse import Store
from sources.files import SourceError
from sources.kafka import LAST_READ, KafkaSettings, Log, Topics, hang_up, place_of
from sources.ranges import Ledger, Position, Range, cut, plan

PIECE_RECORDS: Final = 16_384
"""Records of a topic that one worker reads in one go."""


class TopicsFeed(Feed):
    """The topics that ``settings`` name. A topic that goes away while it is followed is waited for."""

    def __init__(self, settings: KafkaSettings) -> None:
        super().__init__()
        self._settings = settings
        self._topics = Topics(settings)
        self._logs: Sequence[Log] = ()
        self._ledger: Ledger = {}
        self._told: dict[bytes, Position] = {}
        self._gone: set[str] = set()

    def waiting(self, store: Store, state: State | None) -> tuple[Sequence[Range], int]:
        logs = self._topics.logs()
        refuse_missing(self._settings, logs)
        ledger = ledger_of(segment_ends(store, [log.segment for log in logs]))
        if self._settings.until is not None:
            logs = before(logs, self._topics.at_time(logs, self._settings.until), ledger)
        positions = positions_of(state, store) if state is not None else {}
        ranges = plan(logs, positions, begin(self._topics, logs, positions), time.time(), ledger=ledger)
        waits = {one.segment for one in ranges}
        return list(cut(ranges, PIECE_RECORDS)), sum(log.segment in positions and log.segment not in waits for log in logs)

    def begin(self, store: Store, state: State) -> None:
        if not self._logs:
            self._logs = self._topics.logs()
            refuse_missing(self._settings, self._logs)
        self._state = state
        self._ledger = ledger_of(segment_ends(store, state.positions()))
        state.keep_positions(positions_of(state, store).values())
        self._first_positions()

    def next(self, most: int) -> Sequence[Range]:
        self._logs = self._topics.logs()
        self._first_positions()
        gone = set(self._settings.topics) - {log.topic for log in self._logs}
        self._news += [f"{self._settings}: the topic {topic} is gone; waiting for it" for topic in sorted(gone - self._gone)]
        self._gone = gone
        return plan(self._logs, self._state.positions(), {}, time.time(), most, self._ledger)

    def _first_positions(self) -> None:
        """Record where to begin with partitions that are new, so that it is the same place after a crash."""
        known = self._state.positions()
        new = [log for log in self._logs if log.segment not in known]
        if new:
            starts = begin(self._topics, self._logs, known)
            self._state.keep_positions(
                Position(log.segment, log.source, starts[log.segment], starts[log.segment]) for log in new
            )

    def committed(self) -> None:
        positions = self._state.positions()
        news = [positions[log.segment] for log in self._logs if positions.get(log.segment) != self._told.get(log.segment)]
        if self._topics.commit(news):
            self._told.update((known.segment, known) for known in news)

    def standing(self) -> Standing:
        """A partition with nothing left to read may bring a record of now; one that waits, one of the time of its last."""
        positions, now = self._state.positions(), time.time()
        left = {log: log.end - positions[log.segment].next for log in self._logs}
        marks = [LAST_READ.get(log.segment, 0) / 1e6 if waits > 0 else now for log, waits in left.items()]
        lag = sum(max(0, waits) for waits in left.values())
        return Standing(f"{len(self._logs):,} partitions", lag, min(marks, default=now), lag > 0)

    def close(self) -> None:
        hang_up()
        self._topics.close()


def refuse_missing(settings: KafkaSettings, logs: Sequence[Log]) -> None:
    """Raise a ``SourceError`` that names the topics which are not there."""
    missing = sorted(set(settings.topics) - {log.topic for log in logs})
    if missing:
        raise SourceError(f"{settings}: no such topic: {', '.join(missing)}")


def before(logs: Sequence[Log], stops: Mapping[bytes, int], ledger: Ledger) -> list[Log]:
    """The logs without what comes at or after these stops; a range that the ledger has is not cut in two."""
    found = []
    for log in logs:
        stop = stops[log.segment]
        stop = max([stop, *(end for first, end in ledger.get(log.segment, ()) if first < stop)])
        found.append(log._replace(end=max(log.first, min(log.end, stop))))
    return found


def begin(topics: Topics, logs: Sequence[Log], positions: Mapping[bytes, Position]) -> dict[bytes, int]:
    """Where to begin with partitions of which no position is known.

    The settings say it of topics that were never read. A partition that was added to a topic, or a topic that was made anew, is
    read from its beginning: nothing in it is older than the run that read the others.
    """
    new = [log for log in logs if log.segment not in positions]
    read = {place_of(position.source)[0] for position in positions.values()}
    first = [log for log in new if log.topic not in read]
    return {log.segment: log.first for log in new} | (topics.at_start(first) if first else {})
