"""Topics for tests, and records in them: written by kafka-python, so that what is read can be compared with it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from deploy.local.kafka import Broker
from schemas.batch import RawBatch
from sources.kafka import KafkaSettings, Log, Topics, read
from sources.ranges import Range, plan


@contextmanager
def admin(broker: Broker) -> Iterator[KafkaAdminClient]:
    client = KafkaAdminClient(bootstrap_servers=broker.address)
    try:
        yield client
    finally:
        client.close()


def new_topic(broker: Broker, partitions: int = 1, name: str = "", **configs: str) -> str:
    """A topic of its own for one test; ``configs`` with underscores for dots."""
    name = name or f"t-{uuid.uuid4().hex[:12]}"
    wanted = {key.replace("_", "."): value for key, value in configs.items()}
    with admin(broker) as client:
        client.create_topics({name: {"num_partitions": partitions, "replication_factor": 1, "configs": wanted}})
        client.wait_for_topics([name])
    return name


def write(broker: Broker, topic: str, values: Iterable[bytes | None], partition: int = 0, **settings: Any) -> list[int]:
    """Send records, in order; their offsets. ``headers`` and ``timestamp_ms`` are those of each, other settings the producer's."""
    each = {name: settings.pop(name) for name in ("headers", "timestamp_ms") if name in settings}
    producer = KafkaProducer(bootstrap_servers=broker.address, **settings)
    try:
        sent = [producer.send(topic, value, key=b"k" if value is None else None, partition=partition, **each) for value in values]
        producer.flush(timeout=60)
        return [one.get(timeout=60).offset for one in sent]
    finally:
        producer.close()


def settings(broker: Broker, *topics: str, **more: Any) -> KafkaSettings:
    return KafkaSettings((broker.address,), topics, **more)


def logs(wanted: KafkaSettings) -> list[Log]:
    with Topics(wanted) as known:
        return known.logs()


def ranges(wanted: KafkaSettings) -> list[Range]:
    """Everything that the topics hold."""
    return plan(logs(wanted), {}, {}, 0)


def read_all(wanted: KafkaSettings) -> list[RawBatch]:
    return [batch for piece in ranges(wanted) for batch in read(piece, wanted)]


def delete_before(broker: Broker, topic: str, offset: int, partition: int = 0) -> None:
    with admin(broker) as client:
        client.delete_records({TopicPartition(topic, partition): offset})
