"""A job that stands still on a real Flink, and the watchdog's own process that mends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any
from urllib.request import urlopen

import pytest
from kafka import KafkaProducer

from deploy.flink.cluster import Cluster
from deploy.flink.silence import Place
from deploy.flink.watchdog import Lag, settings_of
from deploy.local.kafka import Broker, free_ports
from pipelines.errors import SettingsError
from sinks.clickhouse import PASSWORD_VARIABLE, StoreError
from sources.generate import GenerateSettings, Record, generate
from tests.following import minutes_hold, truth, wait, written
from tests.kafka.topics import delete_before, new_topic, write
from tests.looking import look
from tests.sinks.front.conftest import MAIN, PASSWORDS, served

CHECKOUT = Path(__file__).resolve().parents[2]


class Dog:
    """``python -m deploy.flink.watchdog`` in a process of its own, and what it says."""

    def __init__(self, cluster: Cluster, *words: str) -> None:
        (self.port,) = free_ports(1)
        command = [sys.executable, "-m", "deploy.flink.watchdog", "--folder", str(cluster.folder)]
        command += ["--metrics-port", str(self.port), *words]
        environ = {**os.environ, "PYTHONPATH": str(CHECKOUT), PASSWORD_VARIABLE: PASSWORDS["writer"], "LLM_FINOPS_LOG__FORMAT": "json"}
        self.process = subprocess.Popen(command, env=environ, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr
        self.lines: list[dict[str, Any]] = []
        threading.Thread(target=self._listen, args=[self.process.stderr], daemon=True).start()

    def _listen(self, said: IO[str]) -> None:
        for line in said:
            print(line, end="")  # pytest shows it where the test fails
            if line.startswith("{"):
                self.lines.append(json.loads(line))

    def events(self, *names: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] in names]

    def figures(self) -> str:
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as answer:
            said: bytes = answer.read()
        return said.decode()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def produce(broker: Broker, topic: str, records: list[Record]) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.address, linger_ms=20)
    for number, record in enumerate(records):
        producer.send(topic, record.value, partition=number % 2, timestamp_ms=record.written // 1000)
    producer.flush(timeout=60)
    producer.close()


@pytest.mark.timeout(600)
def test_a_job_whose_workers_hang_is_submitted_anew_and_ends_exact(
    kafka: Broker, flink_libs: Path, tmp_path: Path
) -> None:
    settings = GenerateSettings(seed=78, calls=3000, hours=1, late=0, broken=0, undated=0, incidents=False)
    records = list(generate(settings))
    half, calls = len(records) // 2, sum(record.kind == "call" for record in records)
    topic = new_topic(kafka, partitions=2)
    with ExitStack() as stack:
        server = stack.enter_context(served(tmp_path / "served"))
        cluster = stack.enter_context(Cluster(tmp_path / "flink", environ={PASSWORD_VARIABLE: PASSWORDS["writer"]}))
        to = f"http://writer@127.0.0.1:{server.port}"
        waits = ["--every", "1", "--silent-seconds", "25", "--savepoint-seconds", "4"]
        dog = Dog(cluster, *waits, "--", "--from", f"kafka://{kafka.address}/{topic}", "--to", to)
        stack.callback(dog.close)
        produce(kafka, topic, records[:half])
        wait(lambda: written(server) == half)
        (first,) = [job for job, state in cluster.jobs().items() if state == "RUNNING"]
        before = len(dog.events("restart"))  # a machine that is busy may have needed one to start
        for pid in cluster.workers():
            os.kill(pid, signal.SIGSTOP)
        produce(kafka, topic, records[half:])
        states: list[str] = []
        wait(lambda: len(dog.events("restart")) > before or bool(states.append(cluster.jobs()[first])))
        assert set(states[:-1]) == {"RUNNING"}  # by its state all was well
        wait(lambda: written(server) == len(records), 200)
        wait(lambda: minutes_hold(server) == calls)
        restarts = dog.events("restart")
        assert [(line["cause"], line["count"]) for line in restarts] == [("silent", n + 1) for n in range(len(restarts))]
        assert f'llm_finops_watchdog_restarts_total{{cause="silent"}} {len(restarts)}.0' in dog.figures()
        assert [job for job, state in cluster.jobs().items() if state == "RUNNING"] == [dog.events("watching")[-1]["job"]]
        dog.process.send_signal(signal.SIGTERM)
        assert dog.process.wait(120) == 0
        assert set(cluster.jobs().values()) <= {"CANCELED", "FAILED"}
        known = set(cluster.jobs())
        command = [sys.executable, "-m", "deploy.flink", "--folder", str(cluster.folder), "run", "--parallelism", "1"]
        environ = {**os.environ, PASSWORD_VARIABLE: PASSWORDS["writer"], "PYTHONPATH": str(CHECKOUT)}
        run = subprocess.Popen([*command, "--from", f"kafka://{kafka.address}/{topic}", "--to", to], env=environ, cwd=CHECKOUT)
        stack.callback(run.kill)
        wait(lambda: bool(set(cluster.jobs()) - known))
        run.send_signal(signal.SIGINT)
        assert run.wait(120) == 0
        assert {state for job, state in cluster.jobs().items() if job not in known} == {"CANCELED"}
        assert server.end() == 0
    found = look(tmp_path / "served" / "store")
    assert found["wrong"] == []
    assert {key: found[key] for key in ("calls", "tokens")} == truth(records)
    assert found["ledger"]["records"] == len(records)


def test_lag_is_what_the_ledger_has_not_of_what_the_broker_holds(
    kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORDS["writer"])
    topic = new_topic(kafka, partitions=2)
    zero, one = f"kafka:{topic}/0", f"kafka:{topic}/1"
    write(kafka, topic, [b"not json"] * 7)
    with served(tmp_path / "served") as server:
        words = ["--from", f"kafka://{kafka.address}/{topic}", "--to", f"http://writer@127.0.0.1:{server.port}"]
        lag = Lag(*settings_of(words))
        assert lag.places() == {zero: Place(0, 7), one: Place(0, 0)}  # the store has no tables yet
        newest = Lag(*settings_of([*words, "--kafka-start", "latest"]))
        assert newest.places() == {zero: Place(7, 0), one: Place(0, 0)}
        run = [sys.executable, "-c", MAIN, "run", "--quiet", *words]
        subprocess.run(run, env={**os.environ, "PYTHONPATH": str(CHECKOUT)}, check=True, capture_output=True)
        assert lag.places() == {zero: Place(7, 0), one: Place(0, 0)}
        write(kafka, topic, [b"not json"] * 3)
        write(kafka, topic, [b"not json"] * 2, partition=1)
        assert lag.places() == {zero: Place(7, 3), one: Place(0, 2)}
        assert newest.places() == {zero: Place(7, 3), one: Place(0, 2)}  # the end when it was first seen
        again = Lag(*settings_of([*words, "--kafka-start", "latest"]))
        assert again.places() == {zero: Place(7, 3), one: Place(0, 2)}  # the first: the other partition of its topic was read
        delete_before(kafka, topic, 9)
        assert lag.places() == {zero: Place(7, 3), one: Place(0, 2)}  # that these are lost is still to be written
        assert server.end() == 0
        with pytest.raises(StoreError):
            lag.places()


def test_options_are_those_of_a_run(tmp_path: Path) -> None:
    config = tmp_path / "llm-finops.toml"
    config.write_text('[kafka]\ngroup = "dogs"\n[store]\nto = "http://old:8123"\n')
    settings, paths = settings_of(["--config", str(config), "--to", "http://new:8123", "kafka://broker:9092/calls"])
    assert (settings.kafka.group, settings.store.to, paths) == ("dogs", "http://new:8123", ("kafka://broker:9092/calls",))
    with pytest.raises(SettingsError):
        settings_of(["--kafka-start", "sometime"])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--", "--from", "logs/*.jsonl", "--to", "http://store:8123"], 3, "watches topics of one cluster"),
        (["--", "--from", "kafka://broker:9092/calls", "--to", "chdb://store"], 3, "a store that several processes reach"),
        (["--rest", "http://localhost:8081", "--", "--from", "kafka://broker:9092/calls", "--to", "http://store:8123"], 3, "--rest and --job-endpoint"),
        (["--", "--form", "kafka://broker:9092/calls"], 2, "No such option"),
    ],
)
def test_what_it_cannot_watch_is_one_line(words: list[str], code: int, said: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.flink.watchdog", "--folder", str(tmp_path), *words]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
