"""A real topic: how much of what the consumer and the pipeline allow is reached, and how soon a call is in its minute."""

from __future__ import annotations

import bisect
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import quantiles
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from benchmarks.figures import Figure
from deploy.local.kafka import Broker
from sinks.clickhouse import StoreAddress, StoreError, connect, disconnect
from sources.generate import GenerateSettings, generate

RECORDS: Final = 60_000
PARTITIONS: Final = 4
PASSES: Final = 3
RATE: Final = 1000
"""Calls a second of the live part."""

SECONDS: Final = 60
_LOOK_S: Final = 0.1


def kafka_topics(folder: Path, pipeline: Callable[[Path | str], dict[str, Any]]) -> Iterator[Figure]:
    """Both parts, on a broker of their own; ``pipeline`` runs the job over a file or a topic in a process of its own."""
    with Broker(folder / "broker") as broker:
        yield from _speed(folder, broker, pipeline)
        yield from _freshness(folder, broker)


def _records(count: int, **settings: Any) -> list[bytes]:
    wanted = GenerateSettings(seed=11, duplicates=0, broken=0, incidents=False, **settings)
    return [record.value for record in islice(generate(wanted), count)]


def new_topic(broker: Broker, name: str) -> str:
    client = KafkaAdminClient(bootstrap_servers=broker.address)
    client.create_topics({name: {"num_partitions": PARTITIONS, "replication_factor": 1}})
    client.wait_for_topics([name])
    client.close()
    return name


def _speed(folder: Path, broker: Broker, pipeline: Callable[[Path | str], dict[str, Any]]) -> Iterator[Figure]:
    values = _records(RECORDS, calls=400_000, hours=24)
    topic, file = new_topic(broker, "speed"), folder / "speed.jsonl"
    file.write_bytes(b"\n".join(values) + b"\n")
    producer = KafkaProducer(bootstrap_servers=broker.address, linger_ms=50, batch_size=1 << 18)
    for number, value in enumerate(values):
        producer.send(topic, value, partition=number % PARTITIONS)
    producer.flush()
    producer.close()
    bare, alone, both = [], [], []
    for _ in range(PASSES):
        bare.append(_consume(broker, topic, len(values)))
        alone.append(pipeline(file))
        both.append(pipeline(f"kafka://{broker.address}/{topic}"))
    assert {run["records"] for run in alone + both} == {len(values)}
    assert len({run["spend"] for run in alone + both}) == 1
    consumer, job, together = min(bare), min(run["seconds"] for run in alone), min(run["seconds"] for run in both)
    reached = (consumer + job) / together
    what = f"the seconds of a bare consumer and of the job on the same {len(values):,} records in a file, added up"
    yield Figure("kafka_to_store", reached, "x", what, 0.8)
    yield Figure("kafka_consumer_records_per_s", len(values) / consumer, "records/s", "kafka-python alone, with crc32c; same run")
    yield Figure("kafka_job_records_per_s", len(values) / job, "records/s", "the job on a file, one process; same run")
    yield Figure("kafka_to_store_records_per_s", len(values) / together, "records/s", "topic to store, one process; same run")


def _consume(broker: Broker, topic: str, count: int) -> float:
    """Seconds for every record of the topic, and nothing done with it."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker.address,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        max_poll_records=1000,
        max_partition_fetch_bytes=8 << 20,
        metrics_enabled=False,
    )
    consumer.assign([TopicPartition(topic, number) for number in range(PARTITIONS)])
    consumer.seek_to_beginning()
    seen, began = 0, time.perf_counter()
    while seen < count:
        seen += sum(map(len, consumer.poll(500).values()))
    took = time.perf_counter() - began
    consumer.close()
    return took


def _freshness(folder: Path, broker: Broker) -> Iterator[Figure]:
    """From when the broker has a record to when the row of its minute holds it, at a steady rate."""
    topic, store = new_topic(broker, "live"), StoreAddress(folder=str(folder / "live-store"))
    values = _records(RATE * SECONDS, rate=float(RATE), hours=1)
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "run", "--follow", "--quiet", "--format", "json"]
    command += ["--from", f"kafka://{broker.address}/{topic}", "--to", str(store)]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        arrived: list[float] = []
        producing = threading.Thread(target=_produce, args=(broker, topic, values, arrived))
        held = _watch(store, arrived, len(values), producing, follower)
        peak = _peak_mib(follower.pid)
    finally:
        follower.send_signal(signal.SIGTERM)
        _, wrong = follower.communicate(timeout=120)
        disconnect(store)
    assert follower.returncode == 0, wrong
    arrived.sort()
    waits = [held[bisect.bisect_left(held, (number + 1,))][1] - at for number, at in enumerate(arrived)]
    cuts = quantiles(waits, n=20)
    rate = len(values) / (arrived[-1] - arrived[0])
    what = f"{len(values):,} records at {rate:,.0f}/s, local run; the row is looked at each {_LOOK_S:g} s"
    yield Figure("freshness_p50", cuts[9], "s", what)
    yield Figure("freshness_p95", cuts[18], "s", what, 5.0, at_most=True)
    yield Figure("freshness_worst", max(waits), "s", what)
    yield Figure("follow_peak", peak, "MiB", "peak resident memory of that run, engine included")


def _produce(broker: Broker, topic: str, values: Sequence[bytes], arrived: list[float]) -> None:
    """Send at a steady rate; note when the broker said that it has each."""
    producer = KafkaProducer(bootstrap_servers=broker.address, linger_ms=5)
    began = time.monotonic()
    for number, value in enumerate(values):
        if number % 20 == 0:
            time.sleep(max(0.0, began + number / RATE - time.monotonic()))
        producer.send(topic, value, partition=number % PARTITIONS).add_callback(lambda _: arrived.append(time.monotonic()))
    producer.flush()
    producer.close()


def _watch(
    store: StoreAddress, arrived: list[float], wanted: int, producing: threading.Thread, follower: subprocess.Popen[str]
) -> list[tuple[int, float]]:
    """How many calls the minutes held, and when that was first seen. Producing begins once the run can be asked."""
    while not os.path.exists(f"{store.folder}/llm-finops/owner.json"):
        assert follower.poll() is None
        time.sleep(_LOOK_S)
    held = [(0, time.monotonic())]
    question = None
    while held[-1][0] < wanted:
        assert follower.poll() is None
        time.sleep(_LOOK_S)
        try:
            question = question or connect(store)
            ((calls,),) = question.rows(f"SELECT toUInt64(sum(calls)) FROM {question.table('minutes')} FINAL")
        except StoreError:  # its tables are not made yet
            continue
        if not producing.ident:
            time.sleep(3)  # the first epoch loads tokenizers
            producing.start()
        if calls > held[-1][0]:
            held.append((calls, time.monotonic()))
    producing.join()
    assert len(arrived) == wanted
    return held


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
