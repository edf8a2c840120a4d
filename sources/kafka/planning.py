"""What there is to read of topics, where to begin, and how to cut it into ranges of offsets."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sources.files import SourceError
from sources.kafka.clients import connection, explained, listen, refuse_errors
from sources.kafka.settings import KafkaSettings

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, TopicPartition

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
    topic: str
    partition: int
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


class Log(NamedTuple):
    """What a broker holds of one partition: offsets ``[first, end)``."""

    topic: str
    partition: int
    segment: bytes
    first: int
    end: int

    @property
    def source(self) -> str:
        return source_name(self.topic, self.partition)


def source_name(topic: str, partition: int) -> str:
    """How a partition is named in every table."""
    return f"kafka:{topic}/{partition}"


def topic_of(source: str) -> str:
    """The topic in ``source_name``."""
    return source.removeprefix("kafka:").rpartition("/")[0]


def plan(
    logs: Sequence[Log],
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
        if not again:
            young = known and known.records < RANGE_RECORDS and now - known.began < RANGE_SECONDS
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


def _range(log: Log, known: Position | None, at: int, end: int, carries_on: bool) -> Range:
    """Offsets from ``at`` to ``end``, without those that the broker has deleted."""
    start = max(at, log.first)
    end = max(start, min(end, log.end))
    size = known.bytes / known.records if known and known.records else _GUESSED_BYTES
    found = Range(log.source, log.topic, log.partition, log.segment, start, end, start, expected=int((end - start) * size))
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


class Topics:
    """The planner's connection: which partitions there are, and what the broker holds of them. Not thread-safe."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._client: KafkaAdminClient | None = None
        self._cluster = ""

    def logs(self) -> list[Log]:
        """Every partition of the topics, in order of name and number. A topic that is not there has none.

        Raises:
            SourceError: the broker cannot be reached, or refuses.
        """
        from kafka import TopicPartition
        from kafka.admin import OffsetSpec
        from kafka.protocol.consumer import IsolationLevel

        found: dict[TopicPartition, bytes] = {}
        with self._explaining() as admin:
            self._cluster = self._cluster or str(admin.describe_cluster()["cluster_id"])
            for topic in admin.describe_topics(list(self._settings.topics)):
                refuse_errors(topic["name"], topic["error_code"])
                for partition in topic["partitions"]:
                    at = TopicPartition(topic["name"], int(partition["partition_index"]))
                    found[at] = segment_of(self._cluster, topic["topic_id"], *at)
            committed = IsolationLevel.READ_COMMITTED
            first = admin.list_partition_offsets(dict.fromkeys(found, OffsetSpec.EARLIEST), committed) if found else {}
            end = admin.list_partition_offsets(dict.fromkeys(found, OffsetSpec.LATEST), committed) if found else {}
        return [
            Log(where.topic, where.partition, segment, int(first[where].offset), int(end[where].offset))
            for where, segment in sorted(found.items())
        ]

    def at_start(self, logs: Sequence[Log]) -> dict[bytes, int]:
        """Where to begin with these partitions, by segment, as the settings say.

        Raises:
            SourceError: the broker cannot be reached, or refuses.
        """
        from kafka import TopicPartition

        start = self._settings.start
        if start == "earliest":
            return {log.segment: log.first for log in logs}
        if start == "latest":
            return {log.segment: log.end for log in logs}
        if start != "committed":
            return self.at_time(logs, start)
        places = {TopicPartition(log.topic, log.partition): log for log in logs}
        with self._explaining() as admin:
            known = self._committed(admin, list(places))
        return {
            log.segment: known[at].offset if at in known and known[at].offset >= 0 else log.first for at, log in places.items()
        }

    def at_time(self, logs: Sequence[Log], micros: int) -> dict[bytes, int]:
        """The first offsets of records of this time (UTC microseconds) or a later one, by segment; the end where there are none.

        Raises:
            SourceError: the broker cannot be reached, or refuses.
        """
        from kafka import TopicPartition
        from kafka.admin import OffsetTimestamp

        places = {TopicPartition(log.topic, log.partition): log for log in logs}
        with self._explaining() as admin:
            found = admin.list_partition_offsets(dict.fromkeys(places, OffsetTimestamp(-(-micros // 1000)))) if places else {}
        return {log.segment: int(found[at].offset) if found[at].offset >= 0 else log.end for at, log in places.items()}

    def _committed(self, admin: KafkaAdminClient, places: list[TopicPartition]) -> Mapping[TopicPartition, Any]:
        """What the group has committed. A broker that is asked for a group for the first time needs a moment."""
        from kafka.errors import CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError

        end = time.monotonic() + min(self._settings.patience_s, 30)
        while True:
            try:
                found: Mapping[str, Mapping[TopicPartition, Any]] = admin.list_group_offsets({self._settings.group: places})
            except (CoordinatorLoadInProgressError, CoordinatorNotAvailableError, NotCoordinatorError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)
            else:
                return found[self._settings.group]

    def commit(self, positions: Iterable[Position]) -> bool:
        """Tell the broker how far these are, for tools that show it; whether it took all of it. A hint: an error is no matter."""
        from kafka import TopicPartition
        from kafka.errors import KafkaError, NoError
        from kafka.structs import OffsetAndMetadata

        offsets = {
            TopicPartition(topic_of(p.source), int(p.source.rpartition("/")[2])): OffsetAndMetadata(p.next, "", -1)
            for p in positions
        }
        if not offsets or not self._settings.group:
            return True
        try:
            taken = self._admin().alter_group_offsets(self._settings.group, offsets)
        except KafkaError:
            return False
        return all(error is NoError for error in taken.values())

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def __enter__(self) -> Topics:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _explaining(self) -> _Explaining:
        return _Explaining(self)

    def _admin(self) -> KafkaAdminClient:
        if self._client is None:
            from kafka import KafkaAdminClient

            listen()
            self._client = KafkaAdminClient(**connection(self._settings))
        return self._client


class _Explaining:
    """The admin client, opened, for a block whose errors become one line; after an error it is opened anew."""

    def __init__(self, topics: Topics) -> None:
        self._topics = topics

    def __enter__(self) -> KafkaAdminClient:
        try:
            return self._topics._admin()
        except SourceError:
            raise
        except Exception as error:
            raise explained(error, self._topics._settings) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if isinstance(error, Exception):
            with suppress(Exception):
                self._topics.close()
            self._topics._client = None
            if not isinstance(error, SourceError):
                raise explained(error, self._topics._settings) from error


def segment_of(cluster: str, topic_id: object, topic: str, partition: int) -> bytes:
    """Identity of a partition. Brokers before 2.8 have no ids of topics: their names stand in."""
    known = str(topic_id or "").replace("-", "").strip("0")
    said = "\0".join((cluster, str(topic_id) if known else topic, str(partition)))
    return hashlib.blake2b(said.encode(), digest_size=16, person=b"kafka").digest()
