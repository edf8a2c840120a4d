"""Where to go on with topics: what the state remembers, as far as the store bears it out, and what the broker has."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from pipelines.state import State, reached, segment_ends
from sinks.clickhouse import Store
from sources.files import SourceError
from sources.kafka import KafkaSettings, Log, Position, Range, Topics, plan, topic_of


def what_waits(settings: KafkaSettings, topics: Topics, store: Store, state: State | None) -> tuple[list[Range], int]:
    """Everything that is in the topics now and was not read; and the number of partitions with nothing new.

    Raises:
        sources.files.SourceError: a topic is not there, or the broker cannot be reached or refuses.
    """
    logs = topics.logs()
    refuse_missing(settings, logs)
    positions = standing(state, store) if state is not None else {}
    ranges = plan(logs, positions, begin(topics, logs, positions), time.time())
    waiting = {one.segment for one in ranges}
    return ranges, sum(log.segment in positions and log.segment not in waiting for log in logs)


def refuse_missing(settings: KafkaSettings, logs: Sequence[Log]) -> None:
    """Raise a ``SourceError`` that names the topics which are not there."""
    missing = sorted(set(settings.topics) - {log.topic for log in logs})
    if missing:
        raise SourceError(f"{settings}: no such topic: {', '.join(missing)}")


def begin(topics: Topics, logs: Sequence[Log], positions: Mapping[bytes, Position]) -> dict[bytes, int]:
    """Where to begin with partitions of which no position is known.

    The settings say it of topics that were never read. A partition that was added to a topic, or a topic that was made anew, is
    read from its beginning: nothing in it is older than the run that read the others.
    """
    new = [log for log in logs if log.segment not in positions]
    read = {topic_of(position.source) for position in positions.values()}
    first = [log for log in new if log.topic not in read]
    return {log.segment: log.first for log in new} | (topics.at_start(first) if first else {})


def standing(state: State, store: Store) -> dict[bytes, Position]:
    """How far partitions were read, as far as the store's ledger bears it out: one restored from a backup has less."""
    positions = state.positions()
    ends = reached(segment_ends(store, positions))
    for segment, known in positions.items():
        at = ends.get(segment, known.first)
        if known.records and at < known.next:
            positions[segment] = replace(known, next=at, first=at, records=0, bytes=0)
    return positions
