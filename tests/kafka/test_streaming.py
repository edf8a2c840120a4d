"""The unbounded source: laws of its restrictions, and bounded runs of it over a real topic."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.testing.util import assert_that
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.kafka import Broker
from schemas.batch import RawBatch
from schemas.telemetry import NAMESPACE
from sources.kafka import source_name
from sources.kafka.streaming import FOREVER, Place, Reach, ReachCoder, ReachTracker, ReadPartitionDoFn
from sources.ranges import Ledger, Position
from tests.kafka.registries import framed, serving
from tests.kafka.topics import logs, new_topic, settings, write


def position(offset: int, first: int = 0, records: int = 0) -> Position:
    return Position(b"s" * 16, "kafka:calls/0", offset, first, records, 10 * records, 5.5)


@given(st.integers(0, 1 << 62), st.integers(0, 1 << 62), st.integers(0, 1 << 40), st.sampled_from([FOREVER, 7]))
def test_a_restriction_survives_its_coder(offset: int, first: int, records: int, stop: int) -> None:
    reach = Reach(position(offset, first, records), stop)
    assert ReachCoder().decode(ReachCoder().encode(reach)) == reach


def test_the_coder_reads_what_an_earlier_version_wrote() -> None:
    """Checkpoints of running jobs hold this text: what is changed here must still read it."""
    written = (
        b'{"at":{"began":5.5,"bytes":30,"first":1,"next":4,"records":3,"segment":"73737373737373737373737373737373",'
        b'"source":"kafka:calls/0"},"stop":9223372036854775807}'
    )
    assert ReachCoder().decode(written) == Reach(position(4, 1, 3))
    assert ReachCoder().encode(Reach(position(4, 1, 3))) == written


@given(st.integers(0, 50), st.lists(st.integers(1, 20), max_size=30), st.integers(0, 2**32))
def test_however_a_restriction_is_split_each_offset_is_claimed_once(start: int, steps: list[int], seed: int) -> None:
    """A worker that claims in steps, and a runner that splits before any of them: the residuals carry on, none is lost."""
    chance = random.Random(seed)
    claimed: list[int] = []
    reach, steps = Reach(position(start)), list(steps)
    while steps:
        tracker = ReachTracker(reach)
        at, residual = reach.at, None
        while steps:
            if residual is None and chance.random() < 0.3:
                split = tracker.try_split(0)
                assert split is not None
                residual = split[1]
                assert split[0].stop == residual.at.next
            here = position(at.next + steps[0], at.first, at.records + steps[0])
            if not tracker.try_claim(here):
                break
            claimed += range(at.next, here.next)
            at = here
            steps.pop(0)
            if residual is None and chance.random() < 0.3:  # between the claim and the word of what was read
                split = tracker.try_split(0)
                assert split is not None
                residual = split[1]
            assert tracker.try_claim(here)
        if residual is None:
            with pytest.raises(ValueError, match="read to"):
                tracker.check_done()
            break
        tracker.check_done()
        assert not tracker.is_bounded() or tracker.current_restriction().stop == residual.at.next
        reach = residual
    assert claimed == list(range(start, start + len(claimed)))


class ToTheEnd(ReadPartitionDoFn):
    """The source, to the end of what a topic holds."""

    def __init__(self, end: int, *given: object) -> None:
        super().__init__(*given)  # type: ignore[arg-type]
        self._end = end

    def initial_restriction(self, place: Place) -> Reach:
        return Reach(super().initial_restriction(place).at, self._end)


def _no_ledger(segments: Sequence[bytes]) -> Ledger:
    return {}


class _Ledger:
    def __init__(self, rows: Ledger) -> None:
        self._rows = rows

    def __call__(self, segments: Sequence[bytes]) -> Ledger:
        return {segment: self._rows[segment] for segment in segments if segment in self._rows}


_FOUND: list[RawBatch] = []
_METRICS: dict[str, Any] = {}


def _keep(batches: list[RawBatch]) -> None:
    _FOUND.extend(batches)


def read_all(broker: Broker, topic: str, end: int, ledger: object = _no_ledger, **more: str) -> list[RawBatch]:
    wanted = settings(broker, topic, batch_records=10, **more)
    (log,) = logs(wanted)
    _FOUND.clear()
    _METRICS.clear()
    pipeline = beam.Pipeline(runner=FnApiRunner())
    place = pipeline | beam.Create([(log.topic, log.partition, log.segment, False)], reshuffle=False)
    assert_that(place | beam.ParDo(ToTheEnd(end, wanted, ledger, 120)), _keep)
    result = pipeline.run()
    result.wait_until_finish()
    found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))["distributions"]
    _METRICS.update({one.key.metric.name: one.committed for one in found})
    return list(_FOUND)


def test_a_topic_is_read_in_slices_that_tell_of_each_record_once(kafka: Broker) -> None:
    topic = new_topic(kafka)
    values = [b"%d" % number for number in range(95)]
    write(kafka, topic, values)
    batches = read_all(kafka, topic, 95)
    assert [value for batch in batches for value in batch.records] == values
    ends = [batch.end for batch in batches if batch.end]
    assert {end.start for end in ends} == {0}  # one row of the ledger, that grows
    assert (ends[-1].end, ends[-1].records, ends[-1].bytes) == (95, 95, sum(map(len, values)))
    assert batches[0].source == source_name(topic, 0)
    waited = [max(0, 95 - read) for read in range(10, 110, 10)]
    told = _METRICS["records_waiting"]
    assert (told.count, told.sum, told.min, told.max) == (10, sum(waited), 0, 85)
    assert _METRICS["watermark_lag_seconds"].min >= 120, "no call is expected that is older than the longest one"


def test_a_job_that_is_submitted_anew_goes_on_where_the_ledger_ends(kafka: Broker) -> None:
    topic = new_topic(kafka)
    values = [b"%d" % number for number in range(95)]
    write(kafka, topic, values)
    (log,) = logs(settings(kafka, topic))
    batches = read_all(kafka, topic, 95, _Ledger({log.segment: [(0, 40), (40, 60)]}))
    assert [value for batch in batches for value in batch.records] == values[60:]
    assert {(batch.end.start, batch.end.end) for batch in batches[-1:] if batch.end} == {(60, 95)}


def test_values_that_a_registry_describes_are_read_alike(kafka: Broker) -> None:
    topic = new_topic(kafka)
    values = [framed(3, b'{"n": %d}' % number) for number in range(8)]
    write(kafka, topic, [*values, framed(4, b"lost"), b"plain"])
    with serving() as registry:
        registry.add(3, '{"type": "object"}', kind="JSON")
        batches = read_all(kafka, topic, 10, registry=registry.address)
    assert [value for batch in batches for value in batch.records] == [b'{"n": %d}' % number for number in range(8)] + [b"plain"]
    letters = [letter for batch in batches for letter in batch.rejects]
    assert [(letter.position, letter.reason) for letter in letters] == [(8, "schema_registry")]
    ends = [batch.end for batch in batches if batch.end]
    assert (ends[-1].end, ends[-1].records) == (10, 10)
