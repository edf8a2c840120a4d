"""Topics as a source, against a real broker: what comes out is what kafka-python put in, each record once, at its offset."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.admin import NewPartitions

from deploy.local.kafka import Broker
from pipelines.doctor.reached import topics
from pipelines.feeds.topics import before
from pipelines.sections import Settings, Source
from schemas.batch import SegmentEnd
from sources.files import SourceError
from sources.kafka import (
    KafkaSettings,
    Log,
    Topics,
    hang_up,
    parse,
    place_of,
    read,
    segment_of,
    source_name,
)
from sources.ranges import Position, Range, cut, plan
from tests.kafka.topics import admin, delete_before, logs, new_topic, ranges, read_all, settings, write


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    hang_up()


# -- planning, without a broker ------------------------------------------------------------------------------------


def log(end: int, first: int = 0, partition: int = 0) -> Log:
    return Log("calls", partition, bytes([partition]) * 16, first, end)


def at(next_: int, partition: int = 0, **more: float) -> dict[bytes, Position]:
    segment = bytes([partition]) * 16
    first = int(more.pop("first", next_))
    return {segment: Position(segment, source_name("calls", partition), next_, first, **more)}  # type: ignore[arg-type]


def shown(found: list[Range]) -> list[tuple[int, int, int, int, int | None]]:
    return [(place_of(one.path)[1], one.start, one.end, one.first, one.lost_from) for one in found]


def test_a_range_begins_where_the_last_one_ended() -> None:
    assert shown(plan([log(100)], {}, {}, 0)) == [(0, 0, 100, 0, None)]
    assert shown(plan([log(100, first=7)], {}, {}, 0)) == [(0, 7, 100, 7, None)]
    assert shown(plan([log(100)], {}, {log(0).segment: 40}, 0)) == [(0, 40, 100, 40, None)]
    assert shown(plan([log(100)], at(60), {}, 0)) == [(0, 60, 100, 60, None)]
    assert plan([log(100)], at(100), {}, 0) == []
    assert plan([log(0)], {}, {}, 0) == []


def test_a_range_carries_on_the_ledgers_row_for_a_while() -> None:
    known = at(60, first=10, records=49, bytes=4900, began=1000.0)
    (carried,) = plan([log(100)], known, {}, 1000 + 3599)
    assert (carried.first, carried.records, carried.bytes, carried.expected) == (10, 49, 4900, 4000)
    (old,) = plan([log(100)], known, {}, 1000 + 3600)
    assert (old.first, old.records, old.bytes) == (60, 0, 0)
    (full,) = plan([log(100)], at(60, first=10, records=1_000_000, began=1000.0), {}, 1001)
    assert (full.first, full.records) == (60, 0)


def test_what_the_broker_deleted_is_a_gap() -> None:
    assert shown(plan([log(100, first=80)], at(60, first=10, records=50), {}, 0)) == [(0, 80, 100, 80, 60)]
    assert shown(plan([log(80, first=80)], at(60), {}, 0)) == [(0, 80, 80, 80, 60)]  # told at once
    assert plan([log(80, first=80)], at(80), {}, 0) == []
    assert [(one.start, one.end) for one in cut(plan([log(80, first=80)], at(60), {}, 0), 10)] == [(80, 80)]


def test_partitions_share_an_epoch() -> None:
    both = [log(1000), log(30, partition=1)]
    assert shown(plan(both, {}, {}, 0, most_records=100)) == [(0, 0, 50, 0, None), (1, 0, 30, 0, None)]


def test_ranges_that_a_killed_run_wrote_are_read_again_exactly() -> None:
    def again(position: dict[bytes, Position], *rows: tuple[int, int], first: int = 0) -> list[tuple[int, int, int, int, int | None]]:
        return shown(plan([log(1000, first)], position, {}, 1e9, 100, {log(0).segment: rows}))

    assert again({}, (0, 170)) == [(0, 0, 170, 0, None)]
    assert again(at(60, records=60, first=0), (0, 60)) == [(0, 60, 160, 60, None)]  # nothing beyond it: a row of its own by now
    assert again(at(60, records=60, first=0), (0, 170)) == [(0, 60, 170, 0, None)]  # though it is old, the row is carried on
    assert again(at(60, records=60, first=0), (0, 60), (60, 170)) == [(0, 60, 170, 60, None)]  # though young, it is not
    assert again(at(60, records=60, first=0), (0, 90), (90, 170)) == [(0, 60, 90, 0, None), (0, 90, 170, 90, None)]
    assert again(at(60), (0, 90), (90, 170)) == [(0, 0, 90, 0, None), (0, 90, 170, 90, None)]  # begun in the middle of a row
    assert again(at(60), (70, 90)) == [(0, 60, 70, 60, None), (0, 70, 90, 70, None)]
    assert again(at(60), (80, 90), first=80) == [(0, 80, 80, 80, 60), (0, 80, 90, 80, None)]


def test_pieces_cover_a_range_once() -> None:
    (whole,) = plan([log(100, first=80)], at(60, records=1), {}, 0)
    whole = plan([log(100)], at(60, first=10, records=49, bytes=4900, began=1.0), {}, 1)[0]
    pieces = list(cut([whole], 15))
    assert [(one.start, one.end, one.first, one.records) for one in pieces] == [
        (60, 75, 10, 49),
        (75, 90, 75, 0),
        (90, 100, 90, 0),
    ]


def test_an_address_names_brokers_and_topics() -> None:
    assert parse("kafka://one:9092,two/calls,other") == (("one:9092", "two:9092"), ("calls", "other"))
    for wrong in ("kafka://", "kafka://host", "kafka:///calls"):
        with pytest.raises(SourceError, match="name brokers and topics"):
            parse(wrong)
    with pytest.raises(SourceError, match="LLM_FINOPS_KAFKA__PASSWORD"):
        parse("kafka://me:secret@host/calls")
    assert place_of(source_name("a/b-c.d", 3)) == ("a/b-c.d", 3)


def test_a_read_that_ends_goes_on_behind_what_it_reads_again() -> None:
    """A run was killed after its rows were in, before it could record them: exactly they are read again, then the rest."""
    ledger = {bytes([0]) * 16: [(10, 20)]}
    assert shown(plan([log(50)], at(10), {}, 0.0, ledger=ledger)) == [(0, 10, 20, 10, None), (0, 20, 50, 20, None)]
    assert shown(plan([log(50)], at(10), {}, 0.0, 100, ledger)) == [(0, 10, 20, 10, None)]
    assert shown(plan([log(20)], at(10), {}, 0.0, ledger=ledger)) == [(0, 10, 20, 10, None)]


def test_a_topic_made_anew_is_another_segment() -> None:
    one = segment_of("c", "00000000-0000-0000-0000-000000000001", "calls", 0)
    assert one != segment_of("c", "00000000-0000-0000-0000-000000000002", "calls", 0)
    assert one == segment_of("c", "00000000-0000-0000-0000-000000000001", "renamed", 0)
    unknown = "00000000-0000-0000-0000-000000000000"
    assert segment_of("c", unknown, "calls", 0) != segment_of("c", unknown, "other", 0)
    assert segment_of("c", None, "calls", 0) == segment_of("c", unknown, "calls", 0)


# -- reading, from a real broker -----------------------------------------------------------------------------------


@pytest.mark.parametrize("codec", [None, "gzip", "lz4", "zstd", "snappy"])
def test_every_record_comes_out_once_at_its_offset(kafka: Broker, codec: str | None) -> None:
    topic = new_topic(kafka)
    values = [b'{"n": %d, "pad": "%s"}' % (n, b"x" * (n % 700)) for n in range(5000)]
    offsets = write(kafka, topic, values, compression_type=codec, linger_ms=20)
    batches = read_all(settings(kafka, topic, batch_records=700))
    assert [value for batch in batches for value in batch.records] == values
    assert [position for batch in batches for position in batch.positions] == offsets
    assert max(len(batch.records) for batch in batches) == 700
    size = sum(map(len, values))
    assert [batch.end for batch in batches if batch.end] == [SegmentEnd(0, 5000, 5000, size)]
    assert sum(batch.bytes_read for batch in batches) == size
    assert {batch.source for batch in batches} == {f"kafka:{topic}/0"}


def test_a_record_brings_its_time_and_headers(kafka: Broker) -> None:
    topic = new_topic(kafka)
    write(kafka, topic, [b"{}"], headers=[("CE_Time", b"2025-06-01T12:00:00Z"), ("raw", b"\xff")], timestamp_ms=1_748_779_200_123)
    write(kafka, topic, [None], timestamp_ms=1_748_779_100_000)
    (batch, end) = read_all(settings(kafka, topic))
    assert batch.times == [1_748_779_200_123_000, 1_748_779_100_000_000]
    assert batch.default_time == min(batch.times)
    assert batch.headers == [{"ce_time": "2025-06-01T12:00:00Z"}, {}]
    assert batch.records == [b"{}", b""]  # a tombstone is an empty record
    assert end.end == SegmentEnd(0, 2, 2, 2)


def test_ranges_read_one_after_the_other_are_the_whole(kafka: Broker) -> None:
    topic = new_topic(kafka)
    values = [b"%d" % n for n in range(3000)]
    write(kafka, topic, values, linger_ms=20)
    wanted = settings(kafka, topic)
    pieces = list(cut(ranges(wanted), 501))
    found = [[value for batch in read(piece, wanted) for value in batch.records] for piece in pieces]
    assert [len(some) for some in found] == [501] * 5 + [495]
    assert [value for some in found for value in some] == values
    again = [value for batch in read(pieces[2], wanted) for value in batch.records]  # not where the consumer stands
    assert again == found[2]


def test_only_committed_transactions_are_read(kafka: Broker) -> None:
    topic = new_topic(kafka)
    producer = KafkaProducer(bootstrap_servers=kafka.address, transactional_id=f"t-{topic}")
    producer.init_transactions()
    for turn in range(6):
        producer.begin_transaction()
        for n in range(10):
            producer.send(topic, b"%d-%d" % (turn, n), partition=0)
        producer.flush()
        if turn % 2:
            producer.abort_transaction()
        else:
            producer.commit_transaction()
    producer.close()
    wanted = settings(kafka, topic)
    batches = read_all(wanted)
    found = [value for batch in batches for value in batch.records]
    assert found == [b"%d-%d" % (turn, n) for turn in (0, 2, 4) for n in range(10)]
    (end,) = [batch.end for batch in batches if batch.end]
    assert (end.end, end.records) == (66, 30)  # delivered records are counted, not offsets: markers and aborted ones have some
    write(kafka, topic, [b"more"])
    (piece,) = plan(logs(wanted), {batches[0].segment: Position(batches[0].segment, "", 66, 0, 30, 1)}, {}, 0)
    assert [value for batch in read(piece, wanted) for value in batch.records] == [b"more"]


def test_an_open_transaction_is_not_waited_for(kafka: Broker) -> None:
    topic = new_topic(kafka)
    write(kafka, topic, [b"before"])
    producer = KafkaProducer(bootstrap_servers=kafka.address, transactional_id=f"t-{topic}")
    producer.init_transactions()
    producer.begin_transaction()
    producer.send(topic, b"open", partition=0).get(timeout=30)
    wanted = settings(kafka, topic)
    assert [(one.start, one.end) for one in ranges(wanted)] == [(0, 1)]
    assert [value for batch in read_all(wanted) for value in batch.records] == [b"before"]
    producer.abort_transaction()
    producer.close()


def test_a_gap_is_a_dead_letter_also_in_the_middle_of_a_range(kafka: Broker) -> None:
    topic = new_topic(kafka)
    values = [b"%d" % n for n in range(100)]
    write(kafka, topic, values)
    wanted = settings(kafka, topic)
    (whole,) = ranges(wanted)
    delete_before(kafka, topic, 40)
    batches = list(read(whole, wanted))  # planned before the broker deleted
    assert [value for batch in batches for value in batch.records] == values[40:]
    (letter,) = [letter for batch in batches for letter in batch.rejects]
    assert (letter.position, letter.reason, letter.error) == (
        39,
        "offsets_lost",
        "offsets 0 to 39 were deleted by the broker before they were read",
    )
    ends = [batch.end for batch in batches if batch.end]
    assert ends == [SegmentEnd(0, 0, 0, 0), SegmentEnd(40, 100, 60, 120)]
    (planned,) = plan(logs(wanted), {whole.segment: Position(whole.segment, whole.path, 10, 0, 10, 10)}, {}, 0)
    batches = list(read(planned, wanted))
    assert [letter.error[:16] for batch in batches for letter in batch.rejects] == ["offsets 10 to 39"]
    assert [batch.end for batch in batches if batch.end] == [SegmentEnd(40, 100, 60, 120)]


def test_a_huge_record_is_a_dead_letter_and_the_rest_goes_on(kafka: Broker) -> None:
    topic = new_topic(kafka, max_message_bytes=str(64 << 20))
    big = os.urandom(1 << 20) * 50
    write(kafka, topic, [b"before", big, b"after"], max_request_size=64 << 20)
    batches = read_all(settings(kafka, topic))
    assert [value for batch in batches for value in batch.records] == [b"before", b"after"]
    (letter,) = [letter for batch in batches for letter in batch.rejects]
    assert (letter.position, letter.reason, letter.size) == (1, "record_too_large", 50 << 20)
    assert sum(len(batch.records) + len(batch.rejects) for batch in batches) == 3


def test_batches_are_cut_by_bytes(kafka: Broker) -> None:
    topic = new_topic(kafka)
    values = [bytes([65 + n % 26]) * 100_000 for n in range(60)]
    write(kafka, topic, values)
    batches = read_all(settings(kafka, topic, batch_bytes=1 << 20))
    assert [value for batch in batches for value in batch.records] == values
    assert max(batch.bytes_read for batch in batches) <= (1 << 20) + 100_000
    assert sum(batch.bytes_read for batch in batches) == 6_000_000


def test_where_to_begin(kafka: Broker) -> None:
    topic = new_topic(kafka)
    for n in range(10):
        write(kafka, topic, [b"x"], timestamp_ms=1_748_779_200_000 + n * 1000)

    def first(start: object, group: str = "nobody") -> int:
        wanted = settings(kafka, topic, start=start, group=group)
        with Topics(wanted) as topics:
            (known,) = topics.logs()
            return topics.at_start([known])[known.segment]

    assert first("earliest") == 0
    assert first("latest") == 10
    assert first("committed") == 0  # where nothing is
    assert first(1_748_779_204_500_000) == 5
    assert first(1_848_779_204_500_000) == 10  # after everything
    wanted = settings(kafka, topic, group=f"g-{topic}")
    with Topics(wanted) as topics:
        (known,) = topics.logs()
        topics.commit([Position(known.segment, known.source, 7, 0)])
    assert first("committed", f"g-{topic}") == 7


def test_topics_that_come_and_go(kafka: Broker) -> None:
    topic = new_topic(kafka, partitions=2)
    wanted = settings(kafka, topic, "never-there")
    assert [(one.topic, one.partition, one.first, one.end) for one in logs(wanted)] == [(topic, 0, 0, 0), (topic, 1, 0, 0)]
    before = {one.segment for one in logs(wanted)}
    with admin(kafka) as client:
        client.create_partitions({topic: NewPartitions(3)})
        wait(lambda: len(logs(wanted)) == 3)
        assert before < {one.segment for one in logs(wanted)}
        client.delete_topics([topic])
        wait(lambda: logs(wanted) == [])
    new_topic(kafka, name=topic)
    assert not before & {one.segment for one in logs(wanted)}


def wait(until: object, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not until():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.1)


def test_nobody_answers() -> None:
    wanted = KafkaSettings(("localhost:1",), ("calls",), patience_s=2)
    with pytest.raises(SourceError, match=r"^kafka://localhost:1/calls: unreachable: [^\n]+$"), Topics(wanted) as topics:
        topics.logs()


def test_a_broker_that_goes_away_while_a_range_is_read(kafka_libs: Path, tmp_path: Path) -> None:
    with Broker(tmp_path / "broker") as broker:
        topic = new_topic(broker)
        write(broker, topic, [b"%d" % n for n in range(10)])
        wanted = settings(broker, topic, patience_s=3)
        (piece,) = ranges(wanted)
        broker.kill()
        with pytest.raises(SourceError, match=r"no answer for 3 s|unreachable"):
            list(read(piece, wanted))
        broker.start()
        assert [value for batch in read(piece, wanted) for value in batch.records] == [b"%d" % n for n in range(10)]


def test_the_doctor_asks_the_broker(kafka: Broker) -> None:
    topic = new_topic(kafka, partitions=3)
    write(kafka, topic, [b"1", b"2"])

    def said(address: str) -> tuple[str, str]:
        finding = topics(Settings(source=Source(from_=(address,))), address)
        return finding.status, finding.detail

    address = f"kafka://{kafka.address}/{topic}"
    assert said(address) == ("ok", f"{address}: 3 partitions, 2 messages")
    assert said(f"{address},nowhere") == ("fail", f"{address},nowhere: no such topic: nowhere")
    assert said("kafka://host")[0] == "fail"


def test_reading_ends_before_a_time_but_cuts_no_range_of_the_ledger() -> None:
    one, two = log(100), log(50, partition=1)
    assert [known.end for known in before([one, two], {one.segment: 30, two.segment: 90}, {})] == [30, 50]
    assert [known.end for known in before([one], {one.segment: 30}, {one.segment: [(0, 20), (20, 40), (40, 60)]})] == [40]
    assert [known.end for known in before([log(100, first=60)], {one.segment: 30}, {})] == [60]


def test_where_a_time_begins_is_what_the_broker_says(kafka: Broker) -> None:
    topic = new_topic(kafka)
    for at_ms in (1_000, 2_000, 3_000):
        write(kafka, topic, [b"x", b"y"], timestamp_ms=at_ms)
    with Topics(settings(kafka, topic)) as topics:
        known = topics.logs()
        found = [topics.at_time(known, micros)[known[0].segment] for micros in (0, 2_000_000, 2_000_001, 3_000_000, 3_000_001)]
    assert found == [0, 2, 4, 4, 6]
