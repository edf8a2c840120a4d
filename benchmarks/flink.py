"""Two task managers against one on a real Flink: the same calls through a topic, and what the cores were busy with."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from kafka import KafkaProducer

from benchmarks.figures import Figure
from benchmarks.kafka import PARTITIONS, new_topic
from benchmarks.serve import OURS, Served, served
from deploy.flink.cluster import Cluster
from deploy.local.kafka import Broker
from sinks.clickhouse import Store, StoreAddress, StoreError, connect
from sources.generate import GenerateSettings, generate

RECORDS: Final = 40_000
WORKERS: Final = "Python workers"
OTHERS: Final = "everything else on this machine"
_LOOK_S: Final = 0.2
_PATIENCE_S: Final = 600.0
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class _Drained:
    """Records per second from the first row of the ledger to the last, and the cores that each part of the whole kept busy."""

    rate: float
    cores: Mapping[str, float]
    calls: int
    spend: str

    def cost(self, part: str = "") -> float:
        """Microseconds of a core for each record, in one part or in all of ours."""
        cores = self.cores[part] if part else sum(cores for other, cores in self.cores.items() if other != OTHERS)
        return cores / self.rate * 1e6

    def said(self) -> str:
        return ", ".join(f"{part} {cores:.2f}" for part, cores in sorted(self.cores.items(), key=lambda one: -one[1]))


def task_managers(folder: Path) -> Iterator[Figure]:
    """One task manager with parallelism 1, two with 2; each over a store of its own, and proved by the calls that it has."""
    with Broker(folder / "flink-broker") as broker:
        topic = _filled(broker)
        one, two = (_drain(folder / f"managers-{count}", broker, topic, count) for count in (1, 2))
    assert (one.calls, one.spend) == (two.calls, two.spend)
    cores = len(os.sched_getaffinity(0))
    most = cores / one.cost() * one.cost(WORKERS)
    why = f"a record costs {one.cost():.0f} us of a core, {one.cost(WORKERS):.0f} of them in a worker"
    what = f"task managers, {RECORDS:,} records; {why}, so {cores} idle cores allow {max(1.0, min(2.0, most)):.2f} x"
    yield Figure("flink_two_vs_one", two.rate / one.rate, "x", what)
    for count, run in ((1, one), (2, two)):
        yield Figure(f"flink_{count}_records_per_s", run.rate, "records/s", "from the first row of the ledger to the last")
        yield Figure(f"flink_{count}_us", run.cost(), "us/record", f"of a core; cores that were busy meanwhile: {run.said()}")


def _filled(broker: Broker) -> str:
    topic = new_topic(broker, "flink")
    producer = KafkaProducer(bootstrap_servers=broker.address, linger_ms=50, batch_size=1 << 18)
    settings = GenerateSettings(seed=11, calls=400_000, hours=24, duplicates=0, broken=0, incidents=False)
    for number, record in enumerate(islice(generate(settings), RECORDS)):
        producer.send(topic, record.value, partition=number % PARTITIONS)
    producer.flush()
    producer.close()
    return topic


def _drain(folder: Path, broker: Broker, topic: str, count: int) -> _Drained:
    folder.mkdir()
    with served(folder) as server, Cluster(folder / "flink", count) as cluster:
        command = [*OURS, "run", "--follow", "--runner-name", "PortableRunner", "--to", server.writer]
        command += ["--from", f"kafka://{broker.address}/{topic}"]
        for option in cluster.options(parallelism=count):
            command += ["--runner-options", option]
        with (folder / "submit.log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as submitted:
            try:
                return _watch(connect(StoreAddress.parse(server.writer)), submitted, cluster, server, broker)
            finally:
                submitted.kill()


def _watch(store: Store, submitted: subprocess.Popen[bytes], cluster: Cluster, server: Served, broker: Broker) -> _Drained:
    first = _until(store, submitted, "segments", "sum(records)", 1)
    began, before = time.monotonic(), _seconds(cluster, server, broker)
    _until(store, submitted, "segments", "sum(records)", RECORDS)
    took, after = time.monotonic() - began, _seconds(cluster, server, broker)
    calls = _until(store, submitted, "calls", "count()", 1)
    _until(store, submitted, "minutes", "sum(calls)", calls)
    ((spend,),) = store.rows(f"SELECT toString(sum(cost)) FROM {store.table('minutes')} FINAL")
    return _Drained((RECORDS - first) / took, {part: (after[part] - before[part]) / took for part in after}, calls, spend)


def _until(store: Store, submitted: subprocess.Popen[bytes], table: str, what: str, wanted: int) -> int:
    """Wait until a sum over a table is as large as wanted; the sum."""
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end:
        assert submitted.poll() is None, "the job has ended"
        try:
            ((found,),) = store.rows(f"SELECT toUInt64({what}) FROM {store.table(table)} FINAL")
        except StoreError:  # its tables are not made yet
            found = 0
        if found >= wanted:
            return int(found)
        time.sleep(_LOOK_S)
    raise SystemExit(f"flink: {table} did not reach {wanted:,} within {_PATIENCE_S:.0f} s")


def _seconds(cluster: Cluster, server: Served, broker: Broker) -> dict[str, float]:
    """Processor seconds of every part so far, and of whatever else runs here: it takes its share of the cores."""
    managers = [part for part in cluster.parts if part.startswith("taskmanager")]
    parts: dict[str, list[int | None]] = {
        WORKERS: [*cluster.workers()],
        "task managers": [cluster.pid(part) for part in managers],
        "store": [server.pid],
        "broker": [broker.pid],
        "job manager and job server": [cluster.pid("jobmanager"), cluster.pid("job-server")],
    }
    ours = {part: sum(_processor(pid) for pid in pids if pid) for part, pids in parts.items()}
    return ours | {OTHERS: _machine() - sum(ours.values())}


def _machine() -> float:
    """Processor seconds of everything on this machine since it began: neither idle nor waiting for a disk."""
    user, nice, system, _, _, *interrupts = map(int, Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:8])
    return (user + nice + system + sum(interrupts)) / _TICKS


def _processor(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
