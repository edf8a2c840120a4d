"""What goes wrong around a run that follows a topic: it says so in one line, waits or refuses, and loses nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Final

import orjson
import pytest

from deploy.local.kafka import Broker, free_ports
from sinks.clickhouse import StoreAddress, connect, disconnect
from sinks.schema import VERSION, migrate
from sources.generate import GenerateSettings, Record, generate
from tests.following import Follower, begun, truth, wait, written
from tests.kafka.topics import new_topic, write
from tests.looking import look
from tests.sinks.front.conftest import served

CHECKOUT = Path(__file__).resolve().parents[2]
TABLES: Final = ("calls", "receipts", "segments", "dead_letters", "minutes", "hours", "days")

pytestmark = pytest.mark.timeout(300)


def traffic(calls: int) -> list[Record]:
    """So many calls, and nothing else."""
    return list(generate(GenerateSettings(seed=8, calls=calls, hours=1, duplicates=0, broken=0, undated=0, incidents=False)))


def alter(store: Path, change: str) -> None:
    """Change every table of a store that nobody has open, as whoever runs the server may."""
    words = f"from tests.kafka.test_trouble import altered; altered({str(store)!r}, {change!r})"
    subprocess.run([sys.executable, "-c", words], cwd=CHECKOUT, check=True)


def altered(folder: str, change: str) -> None:
    store = connect(StoreAddress(folder=folder))
    for table in TABLES:
        store.command(f"ALTER TABLE {store.table(table)} {change}")


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("min_free_disk_bytes_to_perform_insert = 1000000000000000", "the disk of the store is full; free space"),
        ("table_readonly = 1", "the table is read-only on the server"),
    ],
)
def test_a_store_that_is_full_or_read_only_holds_up_the_run_and_loses_nothing(
    setting: str, says: str, kafka: Broker, tmp_path: Path, followers: Callable[[Follower], Follower]
) -> None:
    records = traffic(600)
    values = [record.value for record in records]
    topic = new_topic(kafka)
    (port,) = free_ports(1)
    serving = partial(served, tmp_path, options=["--port", str(port)])
    with serving() as server:
        follower = followers(Follower(f"kafka://{kafka.address}/{topic}", f"http://writer@127.0.0.1:{port}"))
        wait(lambda: begun(server) or not follower.alive())
        write(kafka, topic, values[:300])
        wait(lambda: written(server) == 300)
        assert server.end() == 0
    alter(tmp_path / "store", f"MODIFY SETTING {setting}")
    with serving() as server:
        write(kafka, topic, values[300:])
        wait(lambda: follower.said(says))
        assert follower.alive()
        assert written(server) == 300
        assert server.end() == 0
    alter(tmp_path / "store", f"RESET SETTING {setting.partition(' ')[0]}")
    with serving() as server:
        wait(lambda: written(server) == len(values))
        time.sleep(2)
        _, said = follower.end()
        assert server.end() == 0
    assert "trying again every 5 s" in said
    assert f"{topic}: going on" in said
    found = look(tmp_path / "store")
    assert found["wrong"] == []
    assert {key: found[key] for key in ("calls", "tokens")} == truth(records)


def test_what_is_huge_slow_empty_or_no_call_holds_up_nothing(
    kafka: Broker, tmp_path: Path, followers: Callable[[Follower], Follower]
) -> None:
    """A message of 50 MB, one whose text makes tokenizers slow, one that is nested deep, a tombstone; and a topic that is empty."""
    records = traffic(200)
    values = [record.value for record in records]
    topic, empty = new_topic(kafka, max_message_bytes=str(64 << 20)), new_topic(kafka, partitions=2)
    slow = orjson.dumps(
        {
            "url": "https://api.openai.com/v1/chat/completions",
            "status": 200,
            "started_at": "2025-06-01T12:00:00.5Z",
            "request": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "a" * 4_000_000 + " " * 4_000_000}]},
            "response": {
                "id": "chatcmpl-slow",
                "model": "gpt-4o-mini-2024-07-18",
                "choices": [{"message": {"role": "assistant", "content": "no"}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 500_007, "completion_tokens": 1, "total_tokens": 500_008},
            },
            "team": "slow",
        }
    )
    big = os.urandom(1 << 20) * 50
    odd = [big, slow, b"[" * 1_000_000 + b"]" * 1_000_000, b"", None]
    with served(tmp_path) as server:
        follower = followers(Follower(f"kafka://{kafka.address}/{topic},{empty}", f"http://writer@127.0.0.1:{server.port}"))
        wait(lambda: begun(server) or not follower.alive())
        write(kafka, topic, [*values[:100], *odd, *values[100:]], max_request_size=64 << 20)
        wait(lambda: written(server) == len(values) + len(odd))
        time.sleep(2)
        follower.end()
        assert server.end() == 0
    found = look(tmp_path / "store")
    assert found["wrong"] == []
    expected = truth(records)["calls"]
    expected[1_748_779_200, "slow"] = 1
    assert found["calls"] == expected
    assert found["tokens"][1_748_779_200, "slow"] == 500_008
    assert sorted(reason for reason, _, _ in found["letters"]) == ["not_json", "record_too_large"]
    assert found["ledger"]["ignored"] == 2


def test_a_broker_that_is_not_there_yet_is_refused_and_one_that_goes_away_is_waited_for(
    kafka_libs: Path, tmp_path: Path, followers: Callable[[Follower], Follower]
) -> None:
    records = traffic(300)
    values = [record.value for record in records]
    (port,) = free_ports(1)
    with ExitStack() as stack:
        server = stack.enter_context(served(tmp_path))
        to = f"http://writer@127.0.0.1:{server.port}"
        early = followers(Follower(f"kafka://127.0.0.1:{port}/calls", to, "--kafka-patience-seconds", "3"))
        wait(lambda: not early.alive())
        (line,) = early.words().splitlines()
        assert f"kafka://127.0.0.1:{port}/calls: unreachable" in line
        broker = stack.enter_context(Broker(tmp_path / "broker"))
        topic = new_topic(broker)
        write(broker, topic, values[:200])
        follower = followers(Follower(f"kafka://{broker.address}/{topic}", to, "--kafka-patience-seconds", "3"))
        wait(lambda: written(server) == 200)
        broker.kill()
        wait(lambda: follower.said("trying again every 5 s"))
        assert follower.alive()
        broker.start()
        write(broker, topic, values[200:])
        wait(lambda: written(server) == len(values))
        time.sleep(2)
        _, said = follower.end()
        assert server.end() == 0
    assert f"kafka://{broker.address}/{topic}: going on" in said
    found = look(tmp_path / "store")
    assert found["wrong"] == []
    assert {key: found[key] for key in ("calls", "tokens")} == truth(records)


def test_a_store_of_a_newer_version_is_refused(kafka: Broker, tmp_path: Path, followers: Callable[[Follower], Follower]) -> None:
    address = StoreAddress(folder=str(tmp_path / "store"))
    store = connect(address)
    migrate(store)
    store.command(f"INSERT INTO {store.table('schema_version')} (version) VALUES ({VERSION + 1})")
    disconnect(address)
    follower = followers(Follower(f"kafka://{kafka.address}/{new_topic(kafka)}", str(address)))
    wait(lambda: not follower.alive())
    (line,) = follower.words().splitlines()
    assert "newer than this software" in line
