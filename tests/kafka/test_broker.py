"""The broker that tests and laptops start: it keeps records over a crash, and its commands say what they do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError

from deploy.local.kafka import Broker, free_ports
from tests.kafka.certificates import Authority

CHECKOUT = Path(__file__).resolve().parents[2]

Record = tuple[int, int, bytes | None, bytes]


def _create(address: str, partitions: int = 1, **client: Any) -> str:
    topic = f"t-{uuid4().hex[:12]}"
    admin = KafkaAdminClient(bootstrap_servers=address, **client)
    try:
        admin.create_topics([NewTopic(topic, partitions, 1)])
    finally:
        admin.close()
    return topic


def _produce(address: str, topic: str, values: list[bytes], **client: Any) -> None:
    producer = KafkaProducer(bootstrap_servers=address, **client)
    try:
        for value in values:
            producer.send(topic, value, key=value[:7])
        producer.flush(60)
    finally:
        producer.close()


def _consume(address: str, topic: str, **client: Any) -> list[Record]:
    """All records of a topic, in the order of partitions and offsets."""
    consumer = KafkaConsumer(bootstrap_servers=address, enable_auto_commit=False, **client)
    try:
        parts = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        ends = consumer.end_offsets(parts)
        consumer.assign(parts)
        consumer.seek_to_beginning(*parts)
        found: list[Record] = []
        while any(consumer.position(part) < end for part, end in ends.items()):
            for records in consumer.poll(1000).values():
                found += [(one.partition, one.offset, one.key, one.value) for one in records]
        return sorted(found, key=lambda record: record[:2])
    finally:
        consumer.close()


def test_records_are_there_again_after_a_crash(kafka: Broker) -> None:
    topic = _create(kafka.address, partitions=3)
    values = [b"%07d %s" % (number, b"x" * number) for number in range(1000)]
    _produce(kafka.address, topic, values)
    before = _consume(kafka.address, topic)
    assert sorted(value for *_, value in before) == values
    assert {partition for partition, *_ in before} == {0, 1, 2}
    address, process = kafka.address, kafka.pid
    kafka.kill()
    assert kafka.pid is None
    kafka.start()
    assert (kafka.address, kafka.pid == process) == (address, False)
    assert _consume(kafka.address, topic) == before
    _produce(kafka.address, topic, [b"after the crash"])
    assert len(_consume(kafka.address, topic)) == 1001


def test_topics_are_made_by_those_who_ask_for_them_alone(kafka: Broker) -> None:
    consumer = KafkaConsumer(bootstrap_servers=kafka.address)
    try:
        assert not consumer.partitions_for_topic("nobody-made-this")
        assert "nobody-made-this" not in consumer.topics()
    finally:
        consumer.close()


def _works(address: str, **client: Any) -> None:
    topic = _create(address, **client)
    _produce(address, topic, [b"one"], **client)
    assert _consume(address, topic, **client) == [(0, 0, b"one", b"one")]


@pytest.mark.parametrize(
    ("mechanism", "user", "password"),
    [("PLAIN", "alice", "it's \\ secret"), ("SCRAM-SHA-256", "bob", "scrambled"), ("SCRAM-SHA-512", "bob", "scrambled")],
)
def test_a_listener_for_passwords(guarded: Broker, mechanism: str, user: str, password: str) -> None:
    client = {"security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": mechanism, "sasl_plain_username": user}
    _works(guarded.address_of("LOGIN"), **client, sasl_plain_password=password)
    with pytest.raises(KafkaError):
        _create(guarded.address_of("LOGIN"), **client, sasl_plain_password="wrong", bootstrap_timeout_ms=3000)


def test_listeners_with_certificates(guarded: Broker, authority: Authority, tmp_path: Path) -> None:
    without = {"security_protocol": "SSL", **authority.for_client(tmp_path, own=False)}
    own = {"security_protocol": "SSL", **authority.for_client(tmp_path, own=True)}
    _works(guarded.address_of("TLS"), **without)
    _works(guarded.address_of("MUTUAL"), **own)
    (tmp_path / "other").mkdir()
    stranger = {"security_protocol": "SSL", **Authority().for_client(tmp_path / "other", own=True)}
    for client in (without, stranger):
        with pytest.raises(KafkaError):
            _create(guarded.address_of("MUTUAL"), **client, bootstrap_timeout_ms=3000)


def test_records_of_64_megabytes_where_they_are_allowed(guarded: Broker) -> None:
    topic = _create(guarded.address)
    value = b"1234567" + bytes(63 << 20)
    _produce(guarded.address, topic, [value], max_request_size=64 << 20)
    (record,) = _consume(guarded.address, topic, max_partition_fetch_bytes=64 << 20, fetch_max_bytes=64 << 20)
    assert record[3] == value


def test_old_records_stay(guarded: Broker) -> None:
    topic = _create(guarded.address)
    producer = KafkaProducer(bootstrap_servers=guarded.address)
    producer.send(topic, b"of 2001", timestamp_ms=1_000_000_000_000)
    producer.close()
    time.sleep(3)  # old ones are looked for each half second here, and each five minutes elsewhere
    assert [value for *_, value in _consume(guarded.address, topic)] == [b"of 2001"]


def test_what_went_wrong_is_in_the_error(kafka_libs: Path, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"(?s)could not be made; .*broker.log ends with:.*process.roles"):
        Broker(tmp_path / "format", properties={"process.roles": "nonsense"}).start()
    broken = Broker(tmp_path / "start", properties={"metric.reporters": "no.such.Class"})
    with pytest.raises(RuntimeError, match=r"(?s)ended with status 1; .*no\.such\.Class"):
        broken.start()
    assert broken.pid is None
    (port,) = free_ports(1)
    with socket.create_server(("127.0.0.1", port)), pytest.raises(RuntimeError, match=f"port {port} is taken"):
        Broker(tmp_path / "taken", port).start()


def _command(*arguments: object, **environ: str) -> tuple[int, str]:
    command = [sys.executable, "deploy/local/kafka.py", *map(str, arguments)]
    done = subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, **environ}, capture_output=True, text=True, check=False, timeout=200
    )
    return done.returncode, done.stdout + done.stderr


def test_the_commands(kafka_libs: Path, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    folder = tmp_path / "kafka"
    assert _command("status", "--folder", folder) == (1, "Kafka is not running\n")
    assert _command("down", "--folder", folder) == (0, "Kafka is not running\n")
    try:
        status, said = _command("up", "--folder", folder, "--port", port)
        assert (status, f"Kafka is up on localhost:{port} " in said) == (0, True), said
        status, said = _command("up", "--folder", folder, "--port", port)
        assert (status, said.startswith(f"Kafka is running already on localhost:{port} ")) == (0, True), said
        assert _command("status", "--folder", folder)[0] == 0
        with pytest.raises(RuntimeError, match=r"is a broker in .* already"):
            Broker(folder).start()
        _produce(f"localhost:{port}", "made-by-use", [b"one"])
        found = _consume(f"localhost:{port}", "made-by-use")
        assert [value for *_, value in found] == [b"one"]
    finally:
        status, said = _command("down", "--folder", folder)
    assert (status, said) == (0, f"Kafka is down; its topics are kept in {folder}\n")
    assert _command("status", "--folder", folder) == (1, "Kafka is not running\n")
    with Broker(folder) as again:
        assert _consume(again.address, "made-by-use") == found


def test_down_ends_no_other_process(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "kafka.Kafka"]) as other:
        (tmp_path / "running.json").write_text(f'{{"pid": {other.pid}, "port": 9092}}')
        assert _command("down", "--folder", tmp_path) == (0, "Kafka is not running\n")
        assert other.poll() is None
        other.kill()


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str, str], str]:
    """Makes a program in a folder of its own, and returns that folder for the PATH."""

    def make(name: str, script: str) -> str:
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
        return str(tmp_path / "bin")

    return make


def test_it_says_in_one_line_what_is_missing(tmp_path: Path, program: Callable[[str, str], str]) -> None:
    needs = "Kafka needs Java 17 or newer: "
    up = ("up", "--folder", tmp_path / "kafka")
    expected = f"starting Kafka in {tmp_path / 'kafka'}\n{needs}"
    assert _command(*up, PATH="", JAVA_HOME="") == (1, f"{expected}there is no java on the PATH\n")
    assert _command(*up, JAVA_HOME=str(tmp_path)) == (1, f"{expected}JAVA_HOME={tmp_path} has none\n")
    path = program("java", """echo 'openjdk version "11.0.2" 2019-01-15' >&2""")
    assert _command(*up, PATH=path, JAVA_HOME="") == (1, f'{expected}{path}/java says openjdk version "11.0.2" 2019-01-15\n')
    program("java", """echo 'java version "21"' >&2""")
    assert _install(tmp_path, path).communicate() == ("", "Missing: Kafka needs Maven to be fetched: there is no mvn on the PATH\n")


def _install(folder: Path, path: str) -> subprocess.Popen[str]:
    code = (
        "import sys, pathlib, deploy.local.kafka as kafka\n"
        "try: print(kafka.install(pathlib.Path(sys.argv[1])))\n"
        "except (kafka.Missing, RuntimeError) as error: sys.exit(f'{type(error).__name__}: {error}')\n"
    )
    command = [sys.executable, "-c", code, str(folder / "libs")]
    environ = {"PATH": path, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.Popen(command, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_processes_at_once_fetch_it_once_and_a_part_of_it_is_not_taken(tmp_path: Path, program: Callable[[str, str], str]) -> None:
    path = program("java", """echo 'openjdk version "17.0.15" 2025-04-15' >&2""") + ":/usr/bin:/bin"
    fetched = tmp_path / "fetched"
    into = f'echo "$@" >> {fetched}; for one; do case $one in -DoutputDirectory=*) to=${{one#*=}};; esac; done; mkdir "$to"; touch "$to/a.jar"'
    program("mvn", f"{into}; echo no such host; exit 1")
    assert _install(tmp_path, path).communicate() == ("", "RuntimeError: Maven could not fetch Kafka:\nno such host\n")
    program("mvn", f'{into}; sleep 1; touch "$to/b.jar"')
    answers = {process.communicate() for process in [_install(tmp_path, path) for _ in range(3)]}
    ((libs, errors),) = answers
    assert errors == ""
    assert {jar.name for jar in Path(libs.strip()).iterdir()} == {"a.jar", "b.jar"}
    assert len(fetched.read_text().splitlines()) == 2
