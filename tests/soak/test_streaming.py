"""A million calls through a topic while every part is killed twenty times at seeded moments, on this machine and on Flink; a store
that is away for ten minutes. The end is the truth, to the last call and token.

``SOAK_SHARE=0.02`` tries all of it with fewer calls and kills.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest
from kafka import KafkaProducer

from deploy.flink.cluster import Cluster
from deploy.local.kafka import Broker, free_ports
from sinks.clickhouse import PASSWORD_VARIABLE
from sources.generate import GenerateSettings, generate
from tests.flink.conftest import flink_libs, kafka_libs
from tests.flink.test_watchdog import Dog
from tests.following import Follower, begun, minutes_hold, truth, wait, written
from tests.kafka.topics import new_topic
from tests.looking import look
from tests.sinks.front.conftest import PASSWORDS, Served, served

__all__ = ["flink_libs", "kafka_libs"]

SHARE = float(os.environ.get("SOAK_SHARE", "1"))
CALLS = int(1_000_000 * SHARE)
KILLS = max(1, round(20 * SHARE))
AWAY_S = 600 * SHARE
PER_SECOND = 2000
PARTITIONS = 4

pytestmark = [pytest.mark.soak, pytest.mark.timeout(8 * 3600)]


class Sender(threading.Thread):
    """Sends what the settings generate at a steady rate, over kills of the broker; ``sent`` of it so far."""

    def __init__(self, broker: Broker, topic: str, settings: GenerateSettings, per_second: int = PER_SECOND) -> None:
        super().__init__(daemon=True)
        self._broker, self._topic, self._settings, self._per_second = broker, topic, settings, per_second
        self.sent = 0
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            self._send()
        except BaseException as error:  # the test asks for it
            self.failed = error

    def _send(self) -> None:
        """No more is in hand than the broker may be behind for a while; what cannot be delivered fails the test."""
        chance = random.Random(self._settings.seed)
        room, lost = threading.Semaphore(20_000), list[BaseException]()
        producer = KafkaProducer(
            bootstrap_servers=self._broker.address,
            linger_ms=20,
            compression_type="lz4",
            enable_idempotence=True,
            delivery_timeout_ms=3_600_000,
            max_block_ms=600_000,
        )

        def delivered(_: object) -> None:
            room.release()

        def failed(error: BaseException) -> None:
            lost.append(error)
            room.release()

        began = time.monotonic()
        for record in generate(self._settings):
            if self.sent % 50 == 0:
                time.sleep(max(0.0, began + self.sent / self._per_second - time.monotonic()))
            where = chance.randrange(PARTITIONS - 1)  # the last of them stays idle
            room.acquire()
            sending = producer.send(self._topic, record.value, partition=where, timestamp_ms=record.written // 1000)
            sending.add_callback(delivered)
            sending.add_errback(failed)
            self.sent += 1
        producer.flush(timeout=3600)
        producer.close()
        assert not lost, (len(lost), lost[0])

    def ended(self) -> bool:
        assert self.failed is None, self.failed
        return not self.is_alive()


def traffic(seed: int, calls: int = CALLS) -> GenerateSettings:
    return GenerateSettings(seed=seed, calls=calls, hours=6, duplicates=0.05, late=0.05, broken=0.002, undated=0, incidents=False)


def exact(folder: Path, settings: GenerateSettings, sent: int) -> None:
    """The store is proved, and holds what a plain loop over the same records counts."""
    found = look(folder)
    assert found["wrong"] == []
    assert {key: found[key] for key in ("calls", "tokens")} == truth(generate(settings))
    assert found["ledger"]["records"] == sent


def moments(seed: int, parts: Mapping[str, Callable[[], None]]) -> Iterator[tuple[float, str, Callable[[], None]]]:
    """Every part ``KILLS`` times, in an order that is no order, each after a pause."""
    chance = random.Random(seed)
    order = [name for name in parts for _ in range(KILLS)]
    chance.shuffle(order)
    for name in order:
        yield chance.uniform(1, 12), name, parts[name]


def test_kills_on_this_machine(
    kafka_libs: Path, tmp_path: Path, followers: Callable[[Follower], Follower]
) -> None:
    settings = traffic(41)
    (port,) = free_ports(1)
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(tmp_path / "broker"))
        topic = new_topic(broker, partitions=PARTITIONS)
        holder = [stack.enter_context(served(tmp_path, options=["--port", str(port)]))]
        follower = followers(Follower(f"kafka://{broker.address}/{topic}", f"http://writer@127.0.0.1:{port}"))
        wait(lambda: begun(holder[0]) or not follower.alive())
        sender = Sender(broker, topic, settings)
        sender.start()

        def driver() -> None:
            follower.kill()
            follower.start()

        def broker_() -> None:
            broker.kill()
            time.sleep(1)
            broker.start()

        def serve() -> None:
            end(holder[0])
            holder.append(stack.enter_context(served(tmp_path, options=["--port", str(port)])))
            del holder[0]

        for pause, name, kill in moments(41, {"driver": driver, "broker": broker_, "serve": serve}):
            time.sleep(pause)
            print(f"{time.strftime('%H:%M:%S')} {name}, {sender.sent:,} sent", flush=True)
            kill()
            assert follower.alive(), follower.words()
        wait(sender.ended, 4 * 3600)
        wait(lambda: written(holder[0]) == sender.sent, 4 * 3600)
        time.sleep(5)
        counts, _ = follower.end()
    assert counts["state"] == "stopped"
    exact(tmp_path / "store", settings, sender.sent)


def end(server: Served) -> None:
    server.process.kill()
    server.process.wait()


def test_a_store_that_is_away_for_ten_minutes(
    kafka_libs: Path, tmp_path: Path, followers: Callable[[Follower], Follower]
) -> None:
    settings = traffic(42, int(1000 * (AWAY_S + 120)))
    (port,) = free_ports(1)
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(tmp_path / "broker"))
        topic = new_topic(broker, partitions=PARTITIONS)
        server = stack.enter_context(served(tmp_path, options=["--port", str(port)]))
        follower = followers(Follower(f"kafka://{broker.address}/{topic}", f"http://writer@127.0.0.1:{port}"))
        wait(lambda: begun(server) or not follower.alive())
        sender = Sender(broker, topic, settings, 1000)
        sender.start()
        wait(lambda: written(server) > 20_000)
        end(server)
        peak, until = 0.0, time.monotonic() + AWAY_S
        while time.monotonic() < until:
            time.sleep(1)
            assert follower.alive(), follower.words()
            peak = max(peak, memory_mib(follower.pid))
        server = stack.enter_context(served(tmp_path, options=["--port", str(port)]))
        wait(sender.ended, 3600)
        wait(lambda: written(server) == sender.sent, 3600)
        time.sleep(5)
        _, said = follower.end()
        assert server.end() == 0
    assert "trying again every 5 s" in said
    assert peak < 2048, "what waits, waits in the broker"
    exact(tmp_path / "store", settings, sender.sent)


def memory_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def test_kills_on_flink(kafka_libs: Path, flink_libs: Path, tmp_path: Path) -> None:
    """Job manager, task managers, pools and single workers; the watchdog submits the job anew where it is gone or silent."""
    settings = traffic(43)
    calls = sum(truth(generate(settings))["calls"].values())
    chance = random.Random(43)
    with ExitStack() as stack:
        broker = stack.enter_context(Broker(tmp_path / "broker"))
        topic = new_topic(broker, partitions=PARTITIONS)
        server = stack.enter_context(served(tmp_path / "served"))
        cluster = stack.enter_context(Cluster(tmp_path / "flink", environ={PASSWORD_VARIABLE: PASSWORDS["writer"]}))
        to = f"http://writer@127.0.0.1:{server.port}"
        quick = ["--every", "2", "--silent-seconds", "60", "--pause-seconds", "5", "--most-pause-seconds", "5", "--restarts-per-hour", "500"]
        dog = Dog(cluster, *quick, "--", "--from", f"kafka://{broker.address}/{topic}", "--to", to)
        stack.callback(dog.close)
        sender = Sender(broker, topic, settings)
        sender.start()
        wait(lambda: written(server) > 0, 300)

        def again(part: str) -> Callable[[], None]:
            def kill() -> None:
                cluster.kill(part)
                time.sleep(1)
                cluster.start_part(part)

            return kill

        def task_manager() -> None:
            again(chance.choice([part for part in cluster.parts if part.startswith("taskmanager")]))()

        def worker() -> None:
            if workers := cluster.workers():
                os.kill(chance.choice(workers), signal.SIGKILL)

        parts = {"jobmanager": again("jobmanager"), "task manager": task_manager, "worker": worker, "worker-pool": again("worker-pool")}
        for pause, name, kill in moments(43, parts):
            before = written(server)
            wait(lambda seen=before: written(server) > seen or written(server) == sender.sent, 900)  # type: ignore[misc]
            time.sleep(pause)
            print(f"{time.strftime('%H:%M:%S')} {name}, {written(server):,} of {sender.sent:,} written", flush=True)
            kill()
        wait(sender.ended, 4 * 3600)
        wait(lambda: written(server) == sender.sent and minutes_hold(server) == calls, 4 * 3600)
        assert server.end() == 0
    exact(tmp_path / "served" / "store", settings, sender.sent)
