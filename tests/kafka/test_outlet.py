"""Dead letters in a topic of a real broker, read back by a plain consumer: those of the table, whatever was killed meanwhile."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.admin import ACL, ACLOperation, ACLPermissionType, ResourcePattern, ResourceType

from deploy.local.kafka import Broker, free_ports
from pipelines.doctor import Status, reached
from pipelines.errors import ExitCode, exit_code, one_line
from pipelines.job import Job
from pipelines.jobs import letters_topic
from pipelines.run import run as run_job
from pipelines.sections import DeadLetters, Kafka, Settings
from sinks.clickhouse import StoreAddress, StoreSettings, connect
from sinks.outlet import Message, Outlet, OutletError, OutletSettings, OutletUnavailable
from sinks.reconcile import ledger
from sources.kafka import PASSWORD_VARIABLE, KafkaSettings
from sources.kafka.clients import connected, why
from tests.following import Follower, wait
from tests.kafka.certificates import Authority
from tests.kafka.topics import admin, new_topic
from tests.looking import look

CHECKOUT = Path(__file__).resolve().parents[2]
KEY = "sk-livekey0123456789abcdef"

pytestmark = pytest.mark.timeout(600)

Told = tuple[bytes, bytes, tuple[tuple[str, bytes], ...]]


def consume(broker: Broker, topic: str) -> list[Told]:
    """Key, value and headers of all messages."""
    consumer = KafkaConsumer(bootstrap_servers=broker.address, enable_auto_commit=False)
    try:
        parts = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        ends = consumer.end_offsets(parts)
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        found: list[Told] = []
        while any(consumer.position(part) < end for part, end in ends.items()):
            for records in consumer.poll(1000).values():
                found += [(one.key, one.value, tuple(one.headers)) for one in records]
        return found
    finally:
        consumer.close()


def outlet_of(address: str, topic: str, patience_s: float = 60, **more: Any) -> OutletSettings:
    known = KafkaSettings((address,), (topic,), patience_s=patience_s, **more)
    return OutletSettings(str(known), topic, partial(connected, known), partial(why, known), patience_s)


def run(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    tool = Path(sys.executable).with_name("llm-finops")
    known = {**os.environ, "PYTHONPATH": str(CHECKOUT), **environ}
    return subprocess.run([str(tool), *words], env=known, text=True, capture_output=True, check=False)


def broken(count: int, first: int = 0) -> list[str]:
    """Lines that are no JSON, no call, or of no known format; a key in each."""
    kinds = ('{{"n": {0}, "api_key": "{1}"', '{{"n": {0}, "api_key": "{1}"}}', '["{0} api_key={1}"]')
    return [kinds[number % 3].format(number, KEY) for number in range(first, first + count)]


def table(folder: Path) -> list[dict[str, Any]]:
    """Rows of ``dead_letters`` as messages name them, read by a process of its own."""
    shaped = "lower(hex(segment)) AS segment, leftPad(lower(hex(record_hash)), 16, '0') AS record_hash"
    said = f"SELECT * EXCEPT (ingested_at) REPLACE ({shaped}) FROM llm_finops.dead_letters FINAL"
    code = "import chdb.session, sys; print(chdb.session.Session(sys.argv[1]).query(sys.argv[2], 'JSONEachRow'))"
    done = subprocess.run([sys.executable, "-c", code, str(folder), said], text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.strip()]


def agree(rows: list[dict[str, Any]], messages: list[Told]) -> None:
    """Each row of the table is a message, and each message a row: the last of each key has every field of it."""
    last = {key.decode(): json.loads(value) for key, value, _ in messages}
    for name, one in last.items():
        assert one.pop("id") == name
    numbers = ("position", "size")  # the engine's JSON writes these as texts
    known = [{**row, **{name: int(row[name]) for name in numbers}} for row in rows]
    assert len(last) == len(rows)
    assert sorted(map(json.dumps, last.values())) == sorted(json.dumps({name: row[name] for name in next(iter(last.values()))}) for row in known)


@pytest.mark.parametrize("kept", [False, True])
def test_a_bounded_run_sends_what_it_writes(kafka: Broker, tmp_path: Path, kept: bool) -> None:
    topic = new_topic(kafka, partitions=3)
    with gzip.open(tmp_path / "calls.jsonl.gz", "wt") as file:
        file.write("\n".join(broken(300)))
    given = ["--from", str(tmp_path / "calls.jsonl.gz"), "--to", f"chdb://{tmp_path}/store", "--quiet"]
    sent = ["--dead-letters-kafka", f"kafka://{kafka.address}/{topic}", "--decode-keep-payloads", str(kept).lower()]
    done = run("run", *given, *sent, "--format", "json")
    assert done.returncode == 0, done.stderr
    messages, rows = consume(kafka, topic), table(tmp_path / "store")
    assert len(messages) == len(rows) == json.loads(done.stdout)["dead_letters"] == 300
    agree(rows, messages)
    assert {dict(headers)["content-type"] for _, _, headers in messages} == {b"application/json"}
    reasons = Counter(dict(headers)["reason"].decode() for _, _, headers in messages)
    assert reasons == Counter(row["reason"] for row in rows)
    assert len(reasons) > 1
    values = b"".join(value for _, value, _ in messages)
    assert KEY.encode() not in values
    assert (b"***" in values) == kept
    assert {json.loads(value)["payload"] is None for _, value, _ in messages} == {not kept}


def test_kills_of_the_broker_and_of_the_run_lose_no_letter(kafka_libs: Path, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    with Broker(tmp_path / "broker") as broker:
        topic = new_topic(broker, partitions=2)
        to = ["--dead-letters-kafka", f"kafka://{broker.address}/{topic}", "--kafka-patience-seconds", "2"]
        follower = Follower(str(logs), f"chdb://{tmp_path}/store", *to)
        follower.start()
        sent = 0

        def write(count: int) -> int:
            nonlocal sent
            with (logs / "calls.jsonl").open("a") as file:
                file.write("".join(f"{line}\n" for line in broken(count, sent)))
            sent += count
            return sent

        def there() -> int:
            return len({key for key, _, _ in consume(broker, topic)})

        try:
            write(500)
            wait(lambda: there() == sent)
            broker.kill()
            write(500)
            time.sleep(8)  # longer than the patience: the run says so and waits on
            assert follower.alive()
            broker.start()
            wait(lambda: there() == sent)
            write(20_000)
            time.sleep(1.5)
            follower.kill()  # in the middle of it, or not
            follower.start()
            wait(lambda: there() == sent)
            killer = threading.Timer(0.7, broker.kill)
            killer.start()
            write(20_000)
            killer.join()
            time.sleep(3)
            broker.start()
            wait(lambda: there() == sent)
            counts, _ = follower.end()
        finally:
            if follower.alive():
                os.killpg(follower.pid, signal.SIGKILL)
        assert counts["state"] == "stopped"
        messages = consume(broker, topic)
    agree(table(tmp_path / "store"), messages)
    found = look(tmp_path / "store")
    assert found["wrong"] == []
    assert found["ledger"]["dead_letter"] == sent
    assert len({key for key, _, _ in messages}) == sent


def test_a_run_that_follows_says_what_it_waits_for(kafka_libs: Path, tmp_path: Path) -> None:
    (tmp_path / "calls.jsonl").touch()
    with Broker(tmp_path / "broker") as broker:
        topic = new_topic(broker)
        to = ["--dead-letters-kafka", f"kafka://{broker.address}/{topic}", "--kafka-patience-seconds", "1"]
        follower = Follower(str(tmp_path / "calls.jsonl"), f"chdb://{tmp_path}/store", *to)
        follower.start()
        try:
            (tmp_path / "calls.jsonl").write_text("no JSON\n")
            wait(lambda: len(consume(broker, topic)) == 1)
            broker.kill()
            with (tmp_path / "calls.jsonl").open("a") as file:
                file.write("none either\n")
            time.sleep(8)
            broker.start()
            wait(lambda: len({key for key, _, _ in consume(broker, topic)}) == 2)
            _, said = follower.end()
        finally:
            if follower.alive():
                os.killpg(follower.pid, signal.SIGKILL)
    assert f"kafka://{broker.address}/{topic}: unreachable" in said
    assert "trying again every 5 s" in said
    assert "going on" in said


def test_a_broker_that_is_away_is_an_error_after_the_patience_and_then_works_again(
    kafka_libs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sinks.outlet.SAY_S", 0.5)
    others = set(threading.enumerate())  # clients of other tests
    with Broker(tmp_path / "broker") as broker:
        topic = new_topic(broker)
        outlet = Outlet(outlet_of(broker.address, topic, patience_s=2))
        patient = Outlet(outlet_of(broker.address, topic))
        for one in (outlet, patient):
            one.send([Message(b"before", b"1")])
            one.flush()
        broker.kill()
        for _ in range(2):
            with pytest.raises(OutletUnavailable, match=f"^kafka://{broker.address}/{topic}: unreachable"):
                send(outlet, Message(b"lost", b"2"))
        patient.send([Message(b"during", b"3")])  # the client itself tries again until the broker is there
        again = threading.Timer(1, broker.start)
        again.start()
        caplog.clear()
        patient.flush()
        again.join()
        lines = [line for name, _, line in caplog.record_tuples if name == "sinks.outlet"]
        assert lines
        assert all(line.startswith(f"kafka://{broker.address}/{topic}: not acknowledged yet; waiting for up to ") for line in lines)
        send(outlet, Message(b"after", b"4"))
        for one in (outlet, patient):
            one.close()
        found = Counter(key for key, _, _ in consume(broker, topic))
        assert (found[b"before"], found[b"during"], found[b"after"]) == (2, 1, 1)
    wait(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("kafka") and thread not in others], 30)


def send(outlet: Outlet, *messages: Message) -> None:
    outlet.send(messages)
    outlet.flush()


def test_a_bounded_run_fails_where_the_broker_is_away(tmp_path: Path) -> None:
    (tmp_path / "calls.jsonl").write_text("no JSON\n")
    (port,) = free_ports(1)
    to = ["--dead-letters-kafka", f"kafka://localhost:{port}/dead", "--kafka-patience-seconds", "1"]
    done = run("run", "--from", str(tmp_path / "calls.jsonl"), "--to", f"chdb://{tmp_path}/store", "--quiet", *to)
    assert done.returncode == 4
    assert done.stderr.startswith(f"llm-finops: kafka://localhost:{port}/dead: unreachable")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("runner", ["", "DirectRunner"])
def test_a_bounded_run_whose_broker_dies_under_it_has_proved_nothing_that_is_not_sent(
    kafka_libs: Path, address: StoreAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runner: str
) -> None:
    """In epochs, and as one pipeline with windows."""
    (tmp_path / "calls.jsonl").write_text("\n".join(broken(30)))
    with Broker(tmp_path / "broker") as broker:
        topic = new_topic(broker)
        job = Job([tmp_path / "calls.jsonl"], StoreSettings(address), runner=runner, letters=outlet_of(broker.address, topic, 2))
        check = OutletSettings.check

        def last_seen(self: OutletSettings) -> str:
            found = check(self)
            broker.kill()
            return found

        with monkeypatch.context() as patched:
            patched.setattr(OutletSettings, "check", last_seen)
            with pytest.raises(Exception, match="unreachable") as failed:
                run_job(job)
        assert exit_code(failed.value) is ExitCode.STORE
        assert one_line(failed.value).startswith(f"kafka://{broker.address}/{topic}: unreachable")
        store = connect(address)
        for name in ("receipts", "segments"):
            assert store.rows(f"SELECT count() FROM {store.table(name)}") == [(0,)]
        broker.start()
        assert run_job(job).dead_letters == 30
        keys = {key for key, _, _ in consume(broker, topic)}
        rows = store.rows(f"SELECT segment, position, item, record_hash FROM {store.table('dead_letters')} FINAL")
        assert keys == {b"%s-%d-%d-%016x" % (segment.hex().encode(), *rest) for segment, *rest in rows}
        assert len(keys) == 30
        assert ledger(store)["dead_letter"] == 30


def test_a_message_longer_than_the_topic_takes_goes_without_its_payload(kafka: Broker) -> None:
    topic = new_topic(kafka, max_message_bytes="2000")
    outlet = Outlet(outlet_of(kafka.address, topic))
    some = [Message(b"a", b"1"), *(Message(b"b%d" % n, b"2" * (5000 + n), (), b"less") for n in range(5)), Message(b"c", b"3")]
    send(outlet, *some)
    send(outlet, Message(b"d", b"4" * 5000, (), b"less"), Message(b"e", b"5" * 1000, (), b"less"))
    with pytest.raises(OutletError, match=r"a message is longer than the topic takes; raise its max\.message\.bytes"):
        send(outlet, Message(b"f", b"6" * 5000))
    send(outlet, Message(b"g", b"7"))
    outlet.close()
    found = {key: value for key, value, _ in consume(kafka, topic)}
    assert found == {
        b"a": b"1",
        **{b"b%d" % n: b"less" for n in range(5)},
        b"c": b"3",
        b"d": b"less",
        b"e": b"5" * 1000,
        b"g": b"7",
    }


def test_many_messages_of_which_some_are_too_long_take_few_tries(kafka: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    topic = new_topic(kafka, max_message_bytes="4000")
    made: list[object] = []
    connected_ = Outlet._connected
    monkeypatch.setattr(Outlet, "_connected", lambda self: made.append(self) or connected_(self))  # type: ignore[func-returns-value]
    outlet = Outlet(outlet_of(kafka.address, topic))
    chance = random.Random(4)
    sizes = [chance.choice([500, 900, chance.randint(5_000, 200_000)]) for _ in range(2000)]
    some = [Message(b"%d" % n, b"v" * size, (), b"less") for n, size in enumerate(sizes)]
    send(outlet, *some)
    outlet.close()
    found = {key: value for key, value, _ in consume(kafka, topic)}
    assert found == {b"%d" % n: b"v" * size if size < 1000 else b"less" for n, size in enumerate(sizes)}
    assert len(made) < 30


def test_many_short_messages_do_not_make_one_that_is_too_long(kafka: Broker) -> None:
    topic = new_topic(kafka, max_message_bytes="2000")
    outlet = Outlet(outlet_of(kafka.address, topic))
    send(outlet, *(Message(b"%d" % n, b"v" * 500) for n in range(500)))
    outlet.close()
    assert {key for key, _, _ in consume(kafka, topic)} == {b"%d" % n for n in range(500)}


def test_a_topic_that_is_not_there_is_not_made(kafka: Broker, tmp_path: Path) -> None:
    (tmp_path / "calls.jsonl").write_text("no JSON\n")
    to = ["--dead-letters-kafka", f"kafka://{kafka.address}/nowhere"]
    done = run("run", "--from", str(tmp_path / "calls.jsonl"), "--to", f"chdb://{tmp_path}/store", "--quiet", *to)
    assert done.returncode == 4
    assert done.stderr == f"llm-finops: kafka://{kafka.address}/nowhere: no such topic; make it, or name another\n"
    with admin(kafka) as client:
        assert "nowhere" not in client.list_topics()


@pytest.fixture(scope="module")
def strict(kafka_libs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that lets bob do only what he was granted."""
    properties = {
        "listener.name.login.sasl.enabled.mechanisms": "SCRAM-SHA-256",
        "listener.name.login.scram-sha-256.sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required;",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    folder = tmp_path_factory.mktemp("strict")
    with Broker(folder, properties=properties, listeners={"LOGIN": "SASL_PLAINTEXT"}, scram={"bob": "scrambled"}) as broker:
        yield broker


def grant(broker: Broker, topic: str, operation: ACLOperation) -> None:
    pattern = ResourcePattern(ResourceType.TOPIC, topic)
    with admin(broker) as client:
        client.create_acls([ACL("User:bob", "*", operation, ACLPermissionType.ALLOW, pattern)])


def test_who_may_not_write_is_told_so_before_anything_is_written(strict: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "scrambled")
    topic = new_topic(strict)
    address = strict.address_of("LOGIN")
    bobs = outlet_of(address, topic, 5, security="SASL_PLAINTEXT", mechanism="SCRAM-SHA-256", user="bob")
    settings = Settings(
        kafka=Kafka(security="SASL_PLAINTEXT", mechanism="SCRAM-SHA-256", user="bob", patience_seconds=5),
        dead_letters=DeadLetters(kafka=f"kafka://{address}/{topic}"),
    )
    with pytest.raises(OutletError, match="not allowed"):
        bobs.check()
    grant(strict, topic, ACLOperation.READ)
    wait(lambda: refusal(bobs.check).endswith("not allowed: this user may not write to the topic"), 30)
    outlet = Outlet(bobs)
    with pytest.raises(OutletError, match="not allowed") as refused:  # also where nobody asked before
        send(outlet, Message(b"k", b"v"))
    assert not isinstance(refused.value, OutletUnavailable)
    found = reached.dead_letters(settings)
    assert (found.status, found.detail) == (Status.FAIL, f"{bobs.name}: not allowed: this user may not write to the topic")
    grant(strict, topic, ACLOperation.WRITE)
    wait(lambda: not refusal(bobs.check), 30)
    send(outlet, Message(b"k", b"v"))
    outlet.close()
    assert [key for key, _, _ in consume(strict, topic)] == [b"k"]
    found = reached.dead_letters(settings)
    assert (found.status, found.detail) == (Status.OK, f"{bobs.name}: 1 partitions")
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong")
    found = reached.dead_letters(settings)
    assert found.status is Status.FAIL
    assert "user or password refused" in found.detail


def refusal(do: Callable[[], object]) -> str:
    try:
        do()
    except OutletError as error:
        return str(error)
    return ""


def test_a_topic_behind_tls(
    guarded: Broker, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = authority.for_client(tmp_path, own=True)
    topic = new_topic(guarded)
    at = DeadLetters(kafka=f"kafka://{guarded.address_of('MUTUAL')}/{topic}")
    shown = {"ca": own["ssl_cafile"], "certificate": own["ssl_certfile"], "key": own["ssl_keyfile"]}
    settings = Settings(kafka=Kafka(security="SSL", patience_seconds=5, **shown), dead_letters=at)
    assert reached.dead_letters(settings).status is Status.OK
    wanted = letters_topic(settings)
    assert wanted is not None
    outlet = Outlet(wanted)
    send(outlet, Message(b"k", b"v", (("a", b"b"),)))
    outlet.close()
    assert consume(guarded, topic) == [(b"k", b"v", (("a", b"b"),))]
    assert reached.topics(settings, at.kafka).detail == f"{at.kafka}: 1 partitions, 1 messages"
    wrong = Settings(kafka=Kafka(security="SSL", patience_seconds=5, ca=str(tmp_path / "none.pem")), dead_letters=at)
    for found in (reached.dead_letters(wrong), reached.topics(wrong, at.kafka)):
        assert found.status is Status.FAIL
        assert "no such file" in found.detail


def test_a_letter_that_is_dead_for_another_reason_is_sent_again(kafka: Broker, tmp_path: Path) -> None:
    topic = new_topic(kafka)
    (tmp_path / "calls.jsonl").write_text("no JSON, and much longer than is read: " + "x" * 2000 + "\n")
    to, sent = ["--to", f"chdb://{tmp_path}/store", "--quiet"], ["--dead-letters-kafka", f"kafka://{kafka.address}/{topic}"]
    done = run("run", "--from", str(tmp_path / "calls.jsonl"), *to, *sent, "--source-max-record-bytes", "1024")
    assert done.returncode == 0, done.stderr
    done = run("replay-dead", *to, *sent)
    assert done.returncode == 0, done.stderr
    assert [json.loads(value)["reason"] for _, value, _ in consume(kafka, topic)] == ["record_too_large", "not_json"]
    agree(table(tmp_path / "store"), consume(kafka, topic))


