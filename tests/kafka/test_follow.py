"""A run that follows a real topic while everything around it is killed: the end is the truth, to the last call and token."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import NewPartitions, OffsetSpec
from kafka.errors import KafkaError

from deploy.local.kafka import Broker, free_ports
from sources.generate import GenerateSettings, Record, generate
from tests.following import Follower, truth, wait
from tests.kafka.topics import admin, delete_before, new_topic, write
from tests.looking import look
from tests.sinks.front.conftest import served

CALLS = 50_000
SKEW_MS = 300_000

pytestmark = pytest.mark.timeout(600)


class TopicFollower(Follower):
    def __init__(self, broker: Broker, topic: str, to: str) -> None:
        self.group = f"g-{topic}"
        super().__init__(f"kafka://{broker.address}/{topic}", to, "--kafka-group", self.group)

    def caught_up(self, broker: Broker, topic: str) -> bool:
        """Whether the offsets that the group has committed, as hints, are the end of the topic."""
        assert self.alive(), self.words()
        return caught_up(broker, topic, self.group)


@pytest.fixture
def following(followers: Callable[[Follower], Follower]) -> Callable[..., TopicFollower]:
    """Followers of topics that do not outlive their test."""

    def follow(*given: Any) -> TopicFollower:
        follower = TopicFollower(*given)
        followers(follower)
        return follower

    return follow


def caught_up(broker: Broker, topic: str, group: str) -> bool:
    """Whether the offsets that the group has committed, as hints, are the end of the topic."""
    try:
        with admin(broker) as client:
            (found,) = client.describe_topics([topic])
            places = [TopicPartition(topic, int(one["partition_index"])) for one in found["partitions"]]
            ends = client.list_partition_offsets(dict.fromkeys(places, OffsetSpec.LATEST))
            known = client.list_group_offsets({group: places})[group]
    except KafkaError:  # a broker that has just been started, or a group it was never asked for
        return False
    return all(place in known and known[place].offset == ends[place].offset for place in places if ends[place].offset)


def test_kills_lose_nothing_and_count_nothing_twice(
    kafka_libs: Path, tmp_path: Path, following: Callable[..., TopicFollower]
) -> None:
    settings = GenerateSettings(
        seed=31, calls=CALLS, hours=3, duplicates=0.05, late=0.05, broken=0.002, undated=0, incidents=False
    )
    records = list(generate(settings))
    chance = random.Random(31)
    (port,) = free_ports(1)
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(tmp_path / "broker"))
        server = stack.enter_context(served(tmp_path, options=["--port", str(port)]))
        topic = new_topic(broker, partitions=4)  # the last of them stays idle
        follower = following(broker, topic, f"http://writer@127.0.0.1:{port}")

        def produce(some: list[Record], partitions: int) -> None:
            producer = KafkaProducer(
                bootstrap_servers=broker.address,
                linger_ms=20,
                compression_type="lz4",
                enable_idempotence=True,
                delivery_timeout_ms=180_000,
            )
            for record in some:
                skewed = record.written // 1000 + chance.randint(-SKEW_MS, SKEW_MS)
                producer.send(topic, record.value, partition=chance.choice([0, 1, 2, 4][:partitions]), timestamp_ms=skewed)
            producer.flush(timeout=180)
            producer.close()

        def kill_soon() -> None:
            time.sleep(chance.uniform(0.5, 4))
            follower.kill()
            follower.start()

        size = len(records) // 5
        parts = [records[start : start + size] for start in range(0, len(records), size)]
        produce(parts[0], 3)
        wait(lambda: follower.caught_up(broker, topic))
        killer = threading.Thread(target=kill_soon)  # while it reads
        killer.start()
        produce(parts[1], 3)
        killer.join()
        with admin(broker) as client:
            client.create_partitions({topic: NewPartitions(5)})
        time.sleep(1)
        produce(parts[2], 4)
        broker.kill()  # with its follower in the middle of it, or not
        time.sleep(2)
        broker.start()
        produce(parts[3], 4)
        server.process.kill()  # the store, with an insert in the middle, or not
        server.process.wait()
        time.sleep(2)
        stack.enter_context(served(tmp_path, options=["--port", str(port)]))
        time.sleep(chance.uniform(0, 1.5))
        follower.kill()
        follower.start()
        for rest in parts[4:]:
            produce(rest, 4)
        wait(lambda: follower.caught_up(broker, topic))
        counts, _ = follower.end()
    assert counts["state"] == "stopped"
    found = look(tmp_path / "store")
    assert found["wrong"] == []
    assert {key: found[key] for key in ("calls", "tokens")} == truth(records)
    assert found["ledger"]["records"] == len(records)
    assert found["ledger"]["duplicate"] == sum(record.kind == "duplicate" for record in records)
    assert found["ledger"]["dead_letter"] == sum(record.kind == "broken" for record in records)
    assert [source for source, _ in found["ranges"]] == [f"kafka:{topic}/{number}" for number in (0, 1, 2, 4)]
    assert max(rows for _, rows in found["ranges"]) <= 3  # the ledger grows by the hour, not by the epoch


def test_a_topic_that_is_emptied_deleted_and_made_anew(
    kafka: Broker, tmp_path: Path, following: Callable[..., TopicFollower]
) -> None:
    topic = new_topic(kafka)
    records = [r for r in generate(GenerateSettings(seed=3, calls=600, hours=1, duplicates=0, broken=0, undated=0)) if r.kind == "call"]
    values = [record.value for record in records]
    follower = following(kafka, topic, f"chdb://{tmp_path / 'store'}")
    write(kafka, topic, values[:200])
    wait(lambda: follower.caught_up(kafka, topic))
    follower.end()
    write(kafka, topic, values[200:300])
    delete_before(kafka, topic, 250)  # 50 of them nobody has read
    follower.start()
    wait(lambda: follower.caught_up(kafka, topic))
    with admin(kafka) as client:
        client.delete_topics([topic])
        wait(lambda: topic not in client.list_topics())
    time.sleep(3)
    assert follower.alive()
    new_topic(kafka, name=topic)
    write(kafka, topic, values[300:400])
    time.sleep(8)
    _, said = follower.end()
    assert f"the topic {topic} is gone; waiting for it" in said
    found = look(tmp_path / "store")
    assert found["wrong"] == []
    assert found["calls"] == truth([*records[:200], *records[250:400]])["calls"]
    lost = "offsets 200 to 249 were deleted by the broker before they were read"
    assert found["letters"] == [("offsets_lost", lost, 249)]
    assert found["segments"] == 2
