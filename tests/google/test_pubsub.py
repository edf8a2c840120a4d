"""Pub/Sub by its real client, against a local server of its published interface: acknowledged is what is in the store."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from pipelines.doctor import Status
from pipelines.doctor.reached import subscription
from pipelines.sections import Settings
from sources.files import SourceError
from sources.generate import GenerateSettings, Record, generate
from sources.pubsub import PubSubSettings, Subscription, parse
from tests.following import Follower, begun, minutes_hold, truth, wait
from tests.google.messages import SUBSCRIPTION, PubSubService
from tests.looking import look
from tests.sinks.front.conftest import Served, served


def traffic(calls: int, seed: int = 4, **more: float) -> list[Record]:
    return list(generate(GenerateSettings(seed=seed, calls=calls, hours=1, undated=0, incidents=False, **more)))  # type: ignore[arg-type]


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> Iterator[PubSubService]:
    service = PubSubService()
    with service.running():
        monkeypatch.setenv("PUBSUB_EMULATOR_HOST", f"localhost:{service.port}")
        yield service


def stored(server: Served) -> int:
    """Records that have a receipt, by their messages: those handed out again have the hash of the first."""
    asked = "SELECT uniqExact(record_hash) FROM llm_finops.receipts"
    return int(server.client().query(asked).result_rows[0][0])


def test_a_message_is_acknowledged_when_its_rows_are_in_the_store(
    tmp_path: Path, messages: PubSubService, followers: Callable[[Follower], Follower]
) -> None:
    """4,000 messages, handed out again and again; streams are cut, acknowledgements fail, the run is killed, the store goes away."""
    records = traffic(4000, duplicates=0, broken=0.01)
    values = [record.value for record in records]
    assert len(set(values)) == len(values)
    messages.again = 0.05
    early: list[tuple[int, int]] = []
    with served(tmp_path) as server:

        def check(acknowledged: int) -> None:
            if (there := stored(server)) < acknowledged:
                early.append((acknowledged, there))

        messages.acked = check
        follower = followers(Follower(f"pubsub://{SUBSCRIPTION}", f"http://writer@127.0.0.1:{server.port}"))
        wait(lambda: begun(server) or not follower.alive())
        for part in range(0, len(values), 200):
            messages.publish(values[part : part + 200], team="beside")
            if part == 600:
                messages.cut.set()
            if part == 1200:
                messages.faults.due("ack", grpc.StatusCode.UNAVAILABLE, times=3)
            if part in (1600, 2800):
                follower.kill()
                follower.start()
            time.sleep(0.3)
        wait(lambda: messages.left == 0, 120)
        counts, _ = follower.end()
        assert server.end() == 0
    assert early == []
    found = look(server.folder)
    assert found["wrong"] == []
    assert {key: found[key] for key in ("calls", "tokens")} == truth(records)
    assert counts["state"] == "stopped"
    assert messages.deliveries > len(records) * 1.04, "some were handed out twice"
    assert found["ledger"]["duplicate"] > 0


def test_nothing_is_acknowledged_while_the_store_is_away(
    tmp_path: Path, messages: PubSubService, followers: Callable[[Follower], Follower]
) -> None:
    records = [record for record in traffic(300, duplicates=0, broken=0) if record.kind == "call"]
    values = [record.value for record in records]
    with served(tmp_path) as server:
        port = server.port
        follower = followers(Follower(f"pubsub://{SUBSCRIPTION}", f"http://writer@127.0.0.1:{port}"))
        wait(lambda: begun(server) or not follower.alive())
        messages.publish(values[:100])
        wait(lambda: messages.left == 0)
        assert server.end() == 0
    messages.publish(values[100:])
    time.sleep(5)
    assert follower.alive()
    assert messages.left == len(values) - 100
    with served(tmp_path, options=("--port", str(port))) as server:
        wait(lambda: messages.left == 0)
        wait(lambda: minutes_hold(server) == len(values))
        follower.end()
        assert server.end() == 0
    found = look(server.folder)
    assert found["wrong"] == []
    assert found["calls"] == truth(records)["calls"]


def test_what_was_not_written_is_given_back_at_the_end(
    tmp_path: Path, messages: PubSubService, followers: Callable[[Follower], Follower]
) -> None:
    """A run that ends gives back what it holds, so that another need not wait for its lease."""
    values = [record.value for record in traffic(3000, duplicates=0, broken=0)]
    with served(tmp_path) as server:
        follower = followers(Follower(f"pubsub://{SUBSCRIPTION}", f"http://writer@127.0.0.1:{server.port}", "--pubsub-max-messages", "500"))
        wait(lambda: begun(server) or not follower.alive())
        messages.publish(values)
        wait(lambda: messages.left < len(values))
        follower.end()
        assert server.end() == 0
    assert 0 < messages.left < len(values)
    assert messages.given_back > 0
    assert look(server.folder)["wrong"] == []


def test_refusals_are_one_clear_line(tmp_path: Path, messages: PubSubService, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(name: str) -> str:
        with pytest.raises(SourceError) as error:
            Subscription(PubSubSettings(name, patience_s=2))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "pubsub://projects/acme/subscriptions/other: not there: Resource not found" in said("projects/acme/subscriptions/other")
    assert subscription(Settings(), f"pubsub://{SUBSCRIPTION}").status == Status.OK
    assert "not there" in subscription(Settings(), "pubsub://projects/acme/subscriptions/other").detail
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "localhost:1")
    assert "unreachable: " in said(SUBSCRIPTION)
    tool = str(Path(sys.executable).with_name("llm-finops"))
    command = [tool, "run", "--from", f"pubsub://{SUBSCRIPTION}", "--to", f"chdb://{tmp_path}/store"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "come without an end; follow them with --follow" in done.stderr) == (3, True)


def test_a_subscription_that_is_deleted_is_waited_for(
    tmp_path: Path, messages: PubSubService, followers: Callable[[Follower], Follower]
) -> None:
    values = [record.value for record in traffic(200, duplicates=0, broken=0)]
    messages.may_look = False  # to read a subscription is another right than to look at it
    with served(tmp_path) as server:
        follower = followers(Follower(f"pubsub://{SUBSCRIPTION}", f"http://writer@127.0.0.1:{server.port}"))
        wait(lambda: begun(server) or not follower.alive())
        messages.publish(values[:100])
        wait(lambda: messages.left == 0)
        messages.deleted = True
        wait(lambda: messages.streams == 0)
        time.sleep(2)
        assert follower.alive()
        messages.deleted = False
        messages.publish(values[100:])
        wait(lambda: messages.left == 0)
        _, said = follower.end()
        assert server.end() == 0
    assert "not there: Resource not found" in said
    assert f"pubsub://{SUBSCRIPTION}: going on" in said
    assert look(server.folder)["wrong"] == []


def test_addresses() -> None:
    assert parse("pubsub://projects/p/subscriptions/s") == "projects/p/subscriptions/s"
    for wrong in ("pubsub://", "pubsub://projects/p/topics/t", "pubsub://projects//subscriptions/s"):
        with pytest.raises(SourceError, match="name a subscription"):
            parse(wrong)
