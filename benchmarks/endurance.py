"""A run that follows a topic for half an hour at a steady rate: what its memory and its lag do, minute by minute.

``python -m benchmarks --only endurance`` measures and draws ``docs/endurance.svg``. The records are made and sent by a process of
its own: ``python -m benchmarks.endurance BROKER TOPIC SECONDS``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from benchmarks.figures import Figure
from benchmarks.kafka import PARTITIONS, RATE, new_topic
from benchmarks.serve import OURS
from deploy.local.kafka import Broker, free_ports
from sinks.clickhouse import StoreAddress, connect, disconnect
from sinks.reconcile import reconcile
from sources.generate import GenerateSettings, generate

SECONDS: Final = 1800
_LOOK_S: Final = 5.0
_STEADY_S: Final = 300.0
"""Until then caches fill and the engine takes its memory."""


class _Look(NamedTuple):
    """What was seen at a moment, seconds after the first record."""

    at: float
    memory_mib: float
    lag: float  # records that the broker has and the run has not read


def endurance(folder: Path, picture: Path, seconds: int = SECONDS) -> Iterator[Figure]:
    """Every call is counted at the end, and the store is proved."""
    with Broker(folder / "steady-broker") as broker:
        topic, store = new_topic(broker, "steady"), StoreAddress(folder=str(folder / "steady-store"))
        (port,) = free_ports(1)
        command = [*OURS, "run", "--follow", "--quiet", "--format", "json", "--metrics-port", str(port)]
        command += ["--from", f"kafka://{broker.address}/{topic}", "--to", str(store)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as follower:
            try:
                while not os.path.exists(f"{store.folder}/llm-finops/owner.json"):
                    assert follower.poll() is None
                    time.sleep(0.2)
                sent, looks = _watch(broker, topic, seconds, follower, port)
            finally:
                follower.send_signal(signal.SIGTERM)
                said, wrong = follower.communicate(timeout=300)
            assert follower.returncode == 0, wrong
    counts = json.loads(said)
    assert counts["records"] == counts["calls"] == sent, (counts, sent)
    proof = connect(store)
    assert reconcile(proof).holds
    ((held,),) = proof.rows(f"SELECT toUInt64(sum(calls)) FROM {proof.table('minutes')} FINAL")
    disconnect(store)
    assert held == sent, (held, sent)
    _draw(looks, picture)
    steady = [look for look in looks if look.at >= min(_STEADY_S, seconds / 3)]
    early, late = (median(look.memory_mib for look in part) for part in _halves(steady))
    lags = sorted(look.lag for look in steady)
    what = f"{sent:,} records in {looks[-1].at / 60:.0f} min; every call is in its minute, reconcile holds"
    yield Figure("endurance_rate", sent / seconds, "records/s", what)
    against = "median resident memory of the second half, against that of the first"
    yield Figure("endurance_memory", late / early, "x", against, 1.15, at_most=True)
    yield Figure("endurance_peak", max(look.memory_mib for look in looks), "MiB", "resident memory, engine included")
    waiting = f"in the broker and not read yet, looked at each {_LOOK_S:g} s"
    yield Figure("endurance_lag_p95", lags[int(0.95 * len(lags))], "records", waiting, 5.0 * RATE, at_most=True)
    yield Figure("endurance_lag_worst", lags[-1], "records", "the same")


def _watch(
    broker: Broker, topic: str, seconds: int, follower: subprocess.Popen[str], port: int
) -> tuple[int, list[_Look]]:
    """Send, and look, until all that was sent is read; how many records that was."""
    command = [sys.executable, "-m", "benchmarks.endurance", broker.address, topic, str(seconds)]
    began, looks = time.monotonic(), list[_Look]()
    places = [TopicPartition(topic, number) for number in range(PARTITIONS)]
    asking = KafkaConsumer(bootstrap_servers=broker.address, metrics_enabled=False)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as producer:
        while producer.poll() is None or looks[-1].lag:
            assert follower.poll() is None
            assert time.monotonic() - began < 2 * seconds + 120, "the run does not keep up"
            time.sleep(_LOOK_S)
            there = sum(asking.end_offsets(places).values())
            lag = max(0.0, there - _metrics(port)["llm_finops_records_read_total"])
            looks.append(_Look(time.monotonic() - began, _memory_mib(follower.pid), lag))
        assert producer.returncode == 0
        assert producer.stdout
        sent = int(producer.stdout.read())
    asking.close()
    time.sleep(2 * _LOOK_S)  # what was read last is written
    return sent, looks


def _metrics(port: int) -> dict[str, float]:
    """What the run says of itself, by name; without those that have labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#") and "{" not in line)
    return {name: float(value) for name, value in pairs}


def _memory_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _halves(looks: Sequence[_Look]) -> tuple[Sequence[_Look], Sequence[_Look]]:
    return looks[: len(looks) // 2], looks[len(looks) // 2 :]


def _draw(looks: Sequence[_Look], picture: Path) -> None:
    from matplotlib.figure import Figure as Sheet

    minutes = [look.at / 60 for look in looks]
    sheet = Sheet(figsize=(8, 5), layout="constrained")
    above, below = sheet.subplots(2, 1, sharex=True)
    above.plot(minutes, [look.memory_mib for look in looks], color="tab:blue")
    above.set(ylabel="resident memory, MiB", ylim=(0, None), title=f"llm-finops run --follow at {RATE:,} records/s")
    below.plot(minutes, [look.lag for look in looks], color="tab:orange")
    below.set(ylabel="records that wait", xlabel="minutes", ylim=(0, None))
    for panel in (above, below):
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    sheet.savefig(picture, metadata={"Date": None})


def produce(address: str, topic: str, seconds: int) -> int:
    """Send records at a steady rate; how many."""
    hours = max(0.5, 1.2 * seconds / 3600)
    wanted = GenerateSettings(seed=11, duplicates=0, broken=0, incidents=False, rate=float(RATE), hours=hours)
    producer = KafkaProducer(bootstrap_servers=address, linger_ms=5)
    began, number = time.monotonic(), 0
    for record in islice(generate(wanted), RATE * seconds):
        if number % 20 == 0:
            time.sleep(max(0.0, began + number / RATE - time.monotonic()))
        producer.send(topic, record.value, partition=number % PARTITIONS)
        number += 1
    producer.flush()
    producer.close()
    return number


if __name__ == "__main__":
    print(produce(sys.argv[1], sys.argv[2], int(sys.argv[3])))
