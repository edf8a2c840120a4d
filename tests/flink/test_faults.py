"""The job on a real Flink, while parts of it are killed: the end is the truth, to the last call and token."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from kafka import KafkaProducer

from deploy.flink.cluster import Cluster
from deploy.local.kafka import Broker
from sinks.clickhouse import PASSWORD_VARIABLE
from sources.generate import GenerateSettings, Record, generate
from tests.following import minutes_hold, truth, wait, written
from tests.kafka.topics import new_topic
from tests.looking import look
from tests.sinks.front.conftest import MAIN, PASSWORDS, Served, served

CHECKOUT = Path(__file__).resolve().parents[2]
CALLS = 20_000

pytestmark = pytest.mark.timeout(600)


class Submitted:
    """``llm-finops run --follow`` on a cluster: the process that submits, and the job."""

    def __init__(self, cluster: Cluster, broker: Broker, topic: str, server: Served, savepoint: str = "") -> None:
        self._cluster = cluster
        before = set(cluster.jobs())
        to = f"http://writer@127.0.0.1:{server.port}"
        words = [sys.executable, "-c", MAIN, "run", "--follow", "--from", f"kafka://{broker.address}/{topic}", "--to", to]
        words += ["--runner-name", "PortableRunner", "--format", "json"]
        for option in cluster.options(parallelism=2, checkpoint_ms=2000, savepoint=savepoint):
            words += ["--runner-options", option]
        environ = {**os.environ, "PYTHONPATH": str(CHECKOUT), PASSWORD_VARIABLE: PASSWORDS["writer"]}
        self._log = open(cluster.folder / f"submit-{len(before)}.log", "wb")  # noqa: SIM115
        self._process = subprocess.Popen(words, env=environ, stdout=self._log, stderr=self._log)
        wait(lambda: self._ended() or bool(set(cluster.jobs()) - before), 120)
        self.job = next(iter(set(cluster.jobs()) - before))

    def _ended(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError(Path(self._log.name).read_text(errors="replace")[-3000:])
        return False

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()


def busy(cluster: Cluster) -> str:
    """A task manager that works."""
    for manager in cluster.rest("/taskmanagers")["taskmanagers"]:
        if manager["freeSlots"] < manager["slotsNumber"]:
            return str(manager["id"]).rpartition("-")[0]
    raise AssertionError("no task manager works")


def restored(cluster: Cluster, job: str) -> int:
    """How often a job went on from a checkpoint."""
    return int(cluster.rest(f"/jobs/{job}/checkpoints")["counts"]["restored"])


def test_a_killed_task_manager_a_killed_worker_and_a_savepoint_change_nothing(
    kafka: Broker, flink_libs: Path, tmp_path: Path
) -> None:
    settings = GenerateSettings(
        seed=77, calls=CALLS, hours=2, duplicates=0.05, late=0.05, broken=0.002, undated=0, incidents=False
    )
    records = list(generate(settings))
    chance = random.Random(77)
    topic = new_topic(kafka, partitions=3)

    def produce(some: list[Record]) -> None:
        producer = KafkaProducer(bootstrap_servers=kafka.address, linger_ms=20, compression_type="lz4")
        for record in some:
            producer.send(topic, record.value, partition=chance.choice([0, 1]), timestamp_ms=record.written // 1000)
        producer.flush(timeout=120)
        producer.close()

    third = len(records) // 3
    environ = {PASSWORD_VARIABLE: PASSWORDS["writer"]}
    calls = sum(record.kind == "call" for record in records)
    with ExitStack() as stack:
        server = stack.enter_context(served(tmp_path / "served"))
        cluster = stack.enter_context(Cluster(tmp_path / "flink", environ=environ))
        produce(records[:third])
        tenth = third + third // 5
        first = Submitted(cluster, kafka, topic, server)
        stack.callback(first.close)
        wait(lambda: written(server) > third // 2 and cluster.checkpoints(first.job) > 0)
        part = busy(cluster)
        cluster.kill(part)
        cluster.start_part(part)
        wait(lambda: written(server) == third)
        time.sleep(5)  # by now the watermark is that of the clock, months after the messages that come
        produce(records[third:tenth])
        calls_by_then = sum(record.kind == "call" for record in records[:tenth])
        wait(lambda: minutes_hold(server) == calls_by_then)
        produce(records[tenth : 2 * third])
        wait(lambda: written(server) > tenth)
        before = restored(cluster, first.job)
        # The Python of one task manager, in the middle of its work: the newest, for one that an attempt to go on has begun in
        # vain may still be there, idle.
        os.kill(cluster.workers()[-1], signal.SIGKILL)
        wait(lambda: restored(cluster, first.job) > before and cluster.works(first.job))
        wait(lambda: written(server) > third + third // 2)
        savepoint = cluster.stop_with_savepoint(first.job)
        produce(records[2 * third :])
        second = Submitted(cluster, kafka, topic, server, savepoint)
        stack.callback(second.close)
        wait(lambda: written(server) == len(records) and minutes_hold(server) == calls)
        cluster.stop_with_savepoint(second.job)
        assert server.end() == 0
    found = look(tmp_path / "served" / "store")
    assert found["wrong"] == []
    assert {key: found[key] for key in ("calls", "tokens")} == truth(records)
    assert found["ledger"]["records"] == len(records)
    assert found["ledger"]["duplicate"] == sum(record.kind == "duplicate" for record in records)
