"""What there is to read of topics, and where to begin."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from sources.files import SourceError
from sources.kafka.clients import connection, explained, listen, refuse_errors
from sources.kafka.settings import KafkaSettings
from sources.ranges import Position

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, TopicPartition


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


def place_of(source: str) -> tuple[str, int]:
    """Topic and number of the partition in ``source_name``."""
    topic, _, number = source.removeprefix("kafka:").rpartition("/")
    return topic, int(number)


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
            TopicPartition(*place_of(p.source)): OffsetAndMetadata(p.next, "", -1)
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
