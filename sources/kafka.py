"""Kafka topics as a source: one process plans ranges of offsets, any process reads them, as streams of micro-batches.

Guarantees: every record of a range comes out exactly once per read, at its offset. A segment is a partition of one topic of
one cluster, by their ids: a topic that was deleted and made anew is another one. Records are counted as they are delivered;
offsets that compaction or transactions left empty are none. Records that the broker deleted before they were read leave a
gap in the ledger and a dead letter that says so: nothing is ever skipped in silence. Only committed transactions are read.

Offsets are committed to the broker as hints for its own tools; what was read is known from the state beside the store.
"""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from schemas.batch import DeadLetter, RawBatch, SegmentEnd
from sources.files import SourceError, too_large

if TYPE_CHECKING:
    from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

PASSWORD_VARIABLE: Final = "LLM_FINOPS_KAFKA__PASSWORD"
KEY_PASSWORD_VARIABLE: Final = "LLM_FINOPS_KAFKA__KEY_PASSWORD"
"""Environment variables that hold secrets, here and on every worker: they are no part of a job's graph."""

RANGE_RECORDS: Final = 1_000_000
RANGE_SECONDS: Final = 3600
"""The ledger has one row for so many records or seconds of a partition: a live run reads a range many times a minute."""

_POLL_MS: Final = 500
_CONSUMERS: Final = 64
_GUESSED_BYTES: Final = 4096


@dataclass(frozen=True)
class KafkaSettings:
    """Which topics of which cluster, how to log in, and how much to take at once.

    ``start`` is where to begin with a topic that was never read: ``earliest``, ``latest``, ``committed`` (by ``group``; the
    earliest where nothing is), or a time in UTC microseconds. ``patience_s``: how long a read waits for a broker that does not
    answer. Passwords come from the environment of each process.
    """

    brokers: tuple[str, ...]
    topics: tuple[str, ...]
    group: str = "llm-finops"
    start: Literal["earliest", "latest", "committed"] | int = "earliest"
    security: str = "PLAINTEXT"  # PLAINTEXT | SSL | SASL_PLAINTEXT | SASL_SSL
    mechanism: str = ""  # PLAIN | SCRAM-SHA-256 | SCRAM-SHA-512
    user: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    check_host: bool = True
    max_record_bytes: int = 16 << 20
    batch_records: int = 1000
    batch_bytes: int = 8 << 20
    patience_s: float = 60.0

    def __str__(self) -> str:
        return f"kafka://{','.join(self.brokers)}/{','.join(self.topics)}"


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


def is_address(text: str) -> bool:
    """Whether an input names a Kafka cluster rather than files."""
    return text.startswith("kafka://")


def parse(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Brokers and topics of ``kafka://host:9092,host2:9092/topic,topic2``.

    Raises:
        SourceError: a part is missing, or it holds a password.
    """
    url = urlsplit(text)
    if "@" in url.netloc:
        raise SourceError(f"user and password do not belong into the address; set kafka.user and {PASSWORD_VARIABLE}")
    brokers = tuple(broker if ":" in broker else f"{broker}:9092" for broker in url.netloc.split(",") if broker)
    topics = tuple(dict.fromkeys(topic for topic in url.path.strip("/").split(",") if topic))
    if not brokers or not topics:
        raise SourceError(f"{text}: name brokers and topics, for example kafka://localhost:9092/llm-calls")
    return brokers, topics


# -- planning -----------------------------------------------------------------------------------------------------


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
                _refuse_errors(topic["name"], topic["error_code"])
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
        from kafka.admin import OffsetTimestamp

        start = self._settings.start
        if start == "earliest":
            return {log.segment: log.first for log in logs}
        if start == "latest":
            return {log.segment: log.end for log in logs}
        places = {TopicPartition(log.topic, log.partition): log for log in logs}
        with self._explaining() as admin:
            if start == "committed":
                known = self._committed(admin, list(places))
                return {
                    log.segment: known[at].offset if at in known and known[at].offset >= 0 else log.first
                    for at, log in places.items()
                }
            found = admin.list_partition_offsets(dict.fromkeys(places, OffsetTimestamp(start // 1000)))
        return {log.segment: found[at].offset if found[at].offset >= 0 else log.end for at, log in places.items()}

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

            _listen()
            self._client = KafkaAdminClient(**_connection(self._settings))
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
            raise _explained(error, self._topics._settings) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if isinstance(error, Exception):
            with suppress(Exception):
                self._topics.close()
            self._topics._client = None
            if not isinstance(error, SourceError):
                raise _explained(error, self._topics._settings) from error


def segment_of(cluster: str, topic_id: object, topic: str, partition: int) -> bytes:
    """Identity of a partition. Brokers before 2.8 have no ids of topics: their names stand in."""
    import hashlib

    known = str(topic_id or "").replace("-", "").strip("0")
    said = "\0".join((cluster, str(topic_id) if known else topic, str(partition)))
    return hashlib.blake2b(said.encode(), digest_size=16, person=b"kafka").digest()


def plan(
    logs: Sequence[Log],
    positions: Mapping[bytes, Position],
    starts: Mapping[bytes, int],
    now: float,
    most_records: int | None = None,
    written: Mapping[bytes, int] | None = None,
) -> list[Range]:
    """What to read next of each partition, about ``most_records`` of all together.

    ``starts``: where to begin with segments that no position is known of. ``written``: up to where a run that was killed has
    written rows of a segment without recording it; that far is read in one go, so that no row is without its range.
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
        start = max(at, log.first)
        end = max(start, min(log.end, max(start + share, (written or {}).get(log.segment, 0))))
        carries_on = known and start == at and known.records < RANGE_RECORDS and now - known.began < RANGE_SECONDS
        size = known.bytes / known.records if known and known.records else _GUESSED_BYTES
        found = Range(log.source, log.topic, log.partition, log.segment, start, end, start, expected=int((end - start) * size))
        if known and carries_on:
            found = replace(found, first=known.first, records=known.records, bytes=known.bytes)
        ranges.append(found if start == at else replace(found, lost_from=at))
    return ranges


def cut(ranges: Iterable[Range], records: int) -> Iterator[Range]:
    """Ranges in pieces of ``records`` offsets, so that processes can share them. Each piece is a range of the ledger."""
    for one in ranges:
        if one.start == one.end:  # nothing but a gap
            yield one
        for start in range(one.start, one.end, records):
            end = min(start + records, one.end)
            piece = replace(one, start=start, end=end, expected=one.expected * (end - start) // max(1, one.end - one.start))
            yield piece if start == one.start else replace(piece, first=start, records=0, bytes=0, lost_from=None)


# -- reading ------------------------------------------------------------------------------------------------------


def read(piece: Range, settings: KafkaSettings) -> Iterator[RawBatch]:
    """Batches of one range in order; the last one carries the ``SegmentEnd``.

    Raises:
        SourceError: the broker cannot be reached for ``patience_s``, refuses, or the topic is gone.
    """
    from kafka import TopicPartition
    from kafka.errors import CorruptRecordError, KafkaError, OffsetOutOfRangeError

    where = TopicPartition(piece.topic, piece.partition)
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
            try:
                most = min(settings.batch_records, piece.end - at)
                polled = consumer.poll(_POLL_MS, max_records=most).get(where, [])
                _take(batch, polled, piece.end, settings.max_record_bytes)
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
                batch.rejects.append(DeadLetter(at, 0, "corrupt_record", _one_line(error), "", 0, 0))
                consumer.seek(where, now_at)
            if now_at is not None and now_at > at:
                if now_at > piece.end:  # compaction or a transaction left offsets out
                    consumer.seek(where, piece.end)
                at, heard = min(now_at, piece.end), time.monotonic()
            elif time.monotonic() - heard > settings.patience_s:
                raise SourceError(f"{settings}: no answer for {settings.patience_s:.0f} s while reading {piece.path} at {at}")
            for part in _parts(batch, settings.batch_bytes):
                records += len(part.records) + len(part.rejects)
                size += part.bytes_read
                yield part
        _standing[settings, where] = at
        yield _closed(RawBatch(piece.path, piece.segment, piece.segment, _now()), first, at, records, size)
    except SourceError:
        raise
    except Exception as error:
        _drop(settings, where)
        raise _explained(error, settings) from error


LAST_READ: Final[dict[bytes, int]] = {}
"""Time of the last record that this process read of each partition, in UTC microseconds."""


def _take(batch: RawBatch, polled: Sequence[Any], end: int, limit: int) -> None:
    """Put what was polled, before ``end``, into a batch."""
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


# -- connections --------------------------------------------------------------------------------------------------

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
        _listen()
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
                **_connection(settings),
            )
            known.assign([where])
        except SourceError:
            raise
        except Exception as error:
            raise _explained(error, settings) from error
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


class _Heard(logging.Handler):
    """What kafka-python says of its connections: why it was not let in, its errors do not tell, and it tries again in silence."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: deque[str] = deque(maxlen=50)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            self.said.append(record.getMessage())


_heard: Final = _Heard()


def _listen() -> None:
    """Hear the client's warnings, which nobody else is to be shown; forget those of before."""
    logger = logging.getLogger("kafka")
    if _heard not in logger.handlers:
        logger.addHandler(_heard)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    _heard.said.clear()


def _connection(settings: KafkaSettings) -> dict[str, Any]:
    """What every client of kafka-python is given."""
    given: dict[str, Any] = {
        "bootstrap_servers": list(settings.brokers),
        "client_id": "llm-finops",
        "security_protocol": settings.security,
        "bootstrap_timeout_ms": int(min(settings.patience_s, 30) * 1000),
    }
    if settings.security.startswith("SASL"):
        given |= {
            "sasl_mechanism": settings.mechanism or "PLAIN",
            "sasl_plain_username": settings.user,
            "sasl_plain_password": os.environ.get(PASSWORD_VARIABLE, ""),
        }
    if settings.security.endswith("SSL"):
        for name, file in (("ca", settings.ca), ("certificate", settings.certificate), ("key", settings.key)):
            if file and not os.access(file, os.R_OK):
                raise SourceError(f"kafka.{name} = {file}: no such file, or it cannot be read")
        given |= {
            "ssl_check_hostname": settings.check_host,
            "ssl_cafile": settings.ca or None,
            "ssl_certfile": settings.certificate or None,
            "ssl_keyfile": settings.key or None,
            "ssl_password": os.environ.get(KEY_PASSWORD_VARIABLE) or None,
        }
    return given


def _refuse_errors(topic: str, code: int) -> None:
    """A topic that is not there has no partitions; any other error is the broker's word."""
    from kafka import errors

    if code and code != errors.UnknownTopicOrPartitionError.errno:
        raise errors.for_code(code)(topic)


def _explained(error: Exception, settings: KafkaSettings) -> SourceError:
    """One line that says what a person can do about ``error``."""
    from kafka import errors

    said = _one_line(error)
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and len(chain) < 8:
        if not isinstance(cause, Exception):
            break
        chain.append(cause)
    lost = isinstance(error, errors.KafkaTimeoutError | errors.KafkaConnectionError)
    told = [f"{type(each).__name__}: {each}" for each in chain] + (list(reversed(_heard.said)) if lost else [])
    if any("SaslAuthenticationFailed" in line for line in told):
        said = f"user or password refused; set kafka.user and {PASSWORD_VARIABLE}"
    elif tls := next((line for line in told if "SSL" in line or "certificate" in line.lower()), ""):
        said = f"no secure connection: {_one_line(tls)}"
    elif any(isinstance(each, errors.AuthorizationError) for each in chain):
        said = f"not allowed: {said}"
    elif any(isinstance(each, errors.KafkaTimeoutError | errors.KafkaConnectionError | OSError) for each in chain):
        refused = next((line.partition("failed: ")[2] for line in told if "Connection failed: " in line), "")
        said = f"unreachable: {_one_line(refused) if refused else said}"
    return SourceError(f"{settings}: {said}")


def _one_line(said: BaseException | str) -> str:
    text = said if isinstance(said, str) else f"{type(said).__name__}: {said}"
    return " ".join(text.split())[:300]
