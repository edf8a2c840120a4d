"""Topics as an unbounded source of Beam, for runners with workers elsewhere: one splittable DoFn, one restriction a partition.

A restriction is the position of a partition: the next offset, and the row of the ledger that leads up to it. The runner keeps it
in its checkpoints, so a job that is restored reads again what it had not checkpointed; those ranges of the ledger are written
again exactly as they were (``planning.plan``), so that nothing counts twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, Final

import apache_beam as beam
import orjson
from apache_beam.coders import BytesCoder, Coder
from apache_beam.io.restriction_trackers import RestrictionTracker
from apache_beam.io.watermark_estimators import ManualWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.periodicsequence import ImpulseSeqGenDoFn
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import MAX_TIMESTAMP, MIN_TIMESTAMP, Duration, Timestamp

import schemas.coders  # noqa: F401  (registers the coders of the batches)
from schemas.batch import RawBatch
from schemas.telemetry import Stage, observe
from sources.files import SourceError
from sources.kafka.planning import Log, Topics
from sources.kafka.reading import LAST_READ, read
from sources.kafka.settings import KafkaSettings
from sources.ranges import Ledger, Position, plan

_LOG: Final = logging.getLogger(__name__)

FOREVER: Final = (1 << 63) - 1
LOOK_S: Final = 10.0
"""How often new partitions are looked for."""

SLICE_RECORDS: Final = 10_000
SLICE_S: Final = 1.0
"""A partition is read for so many records or so long, then its progress can be checkpointed."""

IDLE_S: Final = 2.0
"""How long a partition with nothing to read rests. Shorter rests let the state of idle partitions grow, and some runners take
less than a second for none."""

FAILED_S: Final = 5.0
_ASKED_S: Final = 0.5

_BY_HAND: Final = ManualWatermarkEstimator.default_provider()

LedgerOf = Callable[[Sequence[bytes]], Ledger]
"""Asks the store for the ranges that it has of some segments. Can be pickled."""


@dataclass(frozen=True)
class Reach:
    """Offsets of one partition from ``at.next`` to ``stop``, where ``FOREVER`` has no end."""

    at: Position
    stop: int = FOREVER


class ReachCoder(Coder):  # type: ignore[misc]
    """JSON, so that a job of a later version can go on from the checkpoint of an earlier one."""

    def encode(self, value: Reach) -> bytes:
        at = asdict(value.at) | {"segment": value.at.segment.hex()}
        return orjson.dumps({"at": at, "stop": value.stop}, option=orjson.OPT_SORT_KEYS)

    def decode(self, encoded: bytes) -> Reach:
        known = orjson.loads(encoded)
        at = known["at"] | {"segment": bytes.fromhex(known["at"]["segment"])}
        return Reach(Position(**at), known["stop"])

    def is_deterministic(self) -> bool:
        return True


class ReachTracker(RestrictionTracker):  # type: ignore[misc]
    """Positions are claimed before what leads up to them is handed on.

    The same position may be claimed a second time, with the row of the ledger as it is after reading: a checkpoint carries the
    row on. One that is taken between the two begins a new row there.
    """

    def __init__(self, reach: Reach) -> None:
        self._reach = reach
        self._claimed = reach.at

    def current_restriction(self) -> Reach:
        return self._reach

    def try_claim(self, position: Position) -> bool:
        if position.next > self._reach.stop:
            return False
        if position.next < self._claimed.next:
            raise ValueError(f"{position.source}: {position.next} is claimed after {self._claimed.next}")
        self._claimed = position
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[Reach, Reach] | None:
        if self._reach.stop != FOREVER or self._claimed.next == FOREVER:
            return None
        self._reach = replace(self._reach, stop=self._claimed.next)
        return self._reach, Reach(self._claimed)

    def check_done(self) -> None:
        if self._claimed.next < self._reach.stop:
            raise ValueError(f"{self._claimed.source}: read to {self._claimed.next} of {self._reach.stop}")

    def current_progress(self) -> Any:
        from apache_beam.io.iobase import RestrictionProgress

        done = self._claimed.next - self._reach.at.next
        return RestrictionProgress(completed=float(done), remaining=1.0)

    def is_bounded(self) -> bool:
        return self._reach.stop != FOREVER


class _Asked:
    """What brokers hold, asked at most twice a second by all partitions that this process reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._topics: dict[KafkaSettings, Topics] = {}
        self._logs: dict[KafkaSettings, tuple[float, list[Log]]] = {}

    def logs(self, settings: KafkaSettings) -> list[Log]:
        with self._lock:
            asked, logs = self._logs.get(settings, (0.0, []))
            if not asked or time.monotonic() - asked > _ASKED_S:
                logs = self._client(settings).logs()
                self._logs[settings] = time.monotonic(), logs
            return logs

    def at_start(self, settings: KafkaSettings, logs: Sequence[Log]) -> dict[bytes, int]:
        with self._lock:
            return self._client(settings).at_start(logs)

    def commit(self, settings: KafkaSettings, position: Position) -> None:
        with self._lock:
            self._client(settings).commit([position])

    def _client(self, settings: KafkaSettings) -> Topics:
        if settings not in self._topics:
            self._topics[settings] = Topics(settings)
        return self._topics[settings]


ASKED: Final = _Asked()


Place = tuple[str, int, bytes, bool]
"""Topic, partition, segment, and whether it appeared while the job was running."""


class FindPartitionsDoFn(beam.DoFn):  # type: ignore[misc]
    """The partitions of each topic, again with each impulse."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def process(self, impulse: object) -> Iterator[tuple[str, bytes]]:
        try:
            logs = ASKED.logs(self._settings)
        except SourceError as error:
            _LOG.warning("%s; looking for partitions again in %g s", error, LOOK_S)
            return
        for topic, found in groupby(logs, key=lambda log: log.topic):
            yield topic, orjson.dumps([(log.partition, log.segment.hex()) for log in found])


class NewPartitionsDoFn(beam.DoFn):  # type: ignore[misc]
    """Each partition once. ``added`` are those of a topic that is read, or was read into this store, already."""

    SEEN = ReadModifyWriteStateSpec("seen", BytesCoder())

    def __init__(self, ledger: LedgerOf) -> None:
        self._ledger = ledger

    def process(self, topic: tuple[str, bytes], seen: Any = beam.DoFn.StateParam(SEEN)) -> Iterator[Place]:
        known = set(orjson.loads(seen.read() or b"[]"))
        found = {segment: partition for partition, segment in orjson.loads(topic[1])}
        new = sorted(found.keys() - known)
        if new:
            added = bool(known) or any(self._ledger([bytes.fromhex(segment) for segment in found]).values())
            seen.write(orjson.dumps(sorted(found.keys() | known)))
            for segment in new:
                yield topic[0], found[segment], bytes.fromhex(segment), added


class ReadPartitionDoFn(beam.DoFn, RestrictionProvider):  # type: ignore[misc]
    """Read partitions for ever, a slice at a time: from where the ledger of the store ends, else from where the settings say.

    The watermark is the time of the last record, or now where nothing waits, less ``call_s``: logs are written when calls end.
    Offsets are committed to the broker when the runner has made a slice durable, as hints.
    """

    def __init__(self, settings: KafkaSettings, ledger: LedgerOf, call_s: int) -> None:
        self._settings = settings
        self._ledger_of = ledger
        self._call_s = call_s

    def setup(self) -> None:
        self._stage = Stage("read")
        self._left: dict[bytes, int] = {}  # where this worker left each partition
        self._ledger: dict[bytes, Sequence[tuple[int, int]]] = {}

    def initial_restriction(self, place: Place) -> Reach:
        topic, partition, segment, added = place
        log = Log(topic, partition, segment, 0, 0)
        rows = self._ledger_of([segment]).get(segment, ())
        if rows:
            at = max(end for _, end in rows)
        elif added:  # nothing in it is older than what was read of the others
            at = next((known.first for known in ASKED.logs(self._settings) if known.segment == segment), 0)
        else:
            at = ASKED.at_start(self._settings, [log])[segment]
        return Reach(Position(segment, log.source, at, at))

    def create_tracker(self, reach: Reach) -> ReachTracker:
        return ReachTracker(reach)

    def restriction_size(self, place: Place, reach: Reach) -> int:
        return 1

    def restriction_coder(self) -> Coder:
        return ReachCoder()

    def truncate(self, place: Place, reach: Reach) -> None:
        """A job that is drained reads nothing more."""

    @beam.DoFn.unbounded_per_element()  # type: ignore[untyped-decorator]
    def process(
        self,
        place: Place,
        finalizer: Any = beam.DoFn.BundleFinalizerParam(),
        tracker: Any = beam.DoFn.RestrictionParam(),
        watermark: Any = beam.DoFn.WatermarkEstimatorParam(_BY_HAND),
    ) -> Iterator[TimestampedValue]:
        reach: Reach = tracker.current_restriction()
        at = reach.at
        if self._left.pop(place[2], None) != at.next:  # begun anew, perhaps behind what a worker wrote that is no more
            self._ledger[place[2]] = self._ledger_of([place[2]]).get(place[2], ())
        began = time.monotonic()
        while True:
            try:
                log = self._log(place)
            except SourceError as error:
                _LOG.warning("%s; trying again in %g s", error, FAILED_S)
                tracker.defer_remainder(Duration(FAILED_S))
                return
            if log is None:  # another topic has its name now
                tracker.try_claim(replace(at, next=FOREVER))
                return
            log = log._replace(end=min(log.end, reach.stop))
            ledger = {log.segment: self._ledger.get(log.segment, ())}
            pieces = plan([log], {log.segment: at}, {}, time.time(), self._settings.batch_records, ledger)
            for piece in pieces:
                here = Position(log.segment, log.source, piece.end, piece.end)
                if not tracker.try_claim(here):
                    return
                end = None
                batches = read(piece, self._settings)
                while True:
                    with self._stage.work(0):
                        batch = next(batches, None)
                    if batch is None:
                        break
                    end = batch.end or end
                    batch.read_at = time.time_ns() // 1000  # the watermark of a partition that was idle is that of the clock
                    yield TimestampedValue(batch, _time_of(batch, self._call_s))
                if end is not None:
                    young = at.first == end.start and at.records
                    since = at.began if young else time.time()
                    here = replace(here, first=end.start, records=end.records, bytes=end.bytes, began=since)
                tracker.try_claim(here)
                at = here
            self._left[log.segment] = at.next
            waits = at.next < log.end
            observe("records_waiting", max(0, log.end - at.next))
            self._advance(watermark, LAST_READ.get(log.segment, 0) / 1e6 if waits else time.time())
            if at.next == reach.stop:
                return
            if not waits or time.monotonic() - began > SLICE_S:
                finalizer.register(partial(ASKED.commit, self._settings, at))
                tracker.defer_remainder(Duration(0 if waits else IDLE_S))
                return

    def _log(self, place: Place) -> Log | None:
        """What the broker holds of the partition, nothing while its topic is away; None once another has its name."""
        topic, partition, segment, _ = place
        here = [log for log in ASKED.logs(self._settings) if (log.topic, log.partition) == (topic, partition)]
        if not here:
            return Log(topic, partition, segment, 0, 0)
        return here[0] if here[0].segment == segment else None

    def _advance(self, watermark: Any, seconds: float) -> None:
        mark = Timestamp.of(seconds - self._call_s)
        if seconds and mark > (watermark.current_watermark() or MIN_TIMESTAMP):
            watermark.set_watermark(mark)
        if (now := watermark.current_watermark()) is not None and now > MIN_TIMESTAMP:
            observe("watermark_lag_seconds", time.time() - now.micros / 1e6)


def _time_of(batch: RawBatch, call_s: int) -> Timestamp:
    """Event time of a batch: no call in it is older, unless it took longer than the longest one to expect."""
    return Timestamp(micros=max(0, (batch.default_time or time.time_ns() // 1000) - call_s * 1_000_000))


def _ticks(_: bytes) -> tuple[Timestamp, Timestamp, float]:
    """From now on, for ever, every so often."""
    return Timestamp.now(), MAX_TIMESTAMP, LOOK_S


@dataclass(eq=False)
class ReadTopics(beam.PTransform):  # type: ignore[misc]
    """Follow topics: batches of records, in order within a partition."""

    settings: KafkaSettings
    ledger: LedgerOf
    call_s: int = 120

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[RawBatch]:
        read_them = ReadPartitionDoFn(self.settings, self.ledger, self.call_s)
        return (
            begin
            | "Begin" >> beam.Impulse()
            | "Ticks" >> beam.Map(_ticks).with_output_types(tuple[Timestamp, Timestamp, float])
            | "LookForPartitions" >> beam.ParDo(ImpulseSeqGenDoFn())  # PeriodicImpulse has line numbers of Beam in its labels
            | "FindPartitions" >> beam.ParDo(FindPartitionsDoFn(self.settings)).with_output_types(tuple[str, bytes])
            | "NewPartitions" >> beam.ParDo(NewPartitionsDoFn(self.ledger)).with_output_types(Place)
            | "SharePartitions" >> beam.Reshuffle()
            | "ReadPartitions" >> beam.ParDo(read_them).with_output_types(RawBatch)
        )
