"""Values that a schema registry describes: Confluent's client against a registry that speaks its published interface."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import pytest
from google.protobuf import descriptor_pb2, timestamp_pb2

from deploy.local.kafka import Broker
from pipelines.job import Job
from pipelines.jobs import kafka_settings
from pipelines.run import run
from pipelines.settings import load
from schemas.batch import RawBatch
from sinks.clickhouse import StoreAddress, StoreSettings, connect
from sources.files import SourceError
from sources.kafka import REGISTRY_PASSWORD_VARIABLE, KafkaSettings, hang_up
from sources.kafka import reading as kafka_reading
from sources.kafka.registry import Unreachable, Unreadable, decoded, is_framed
from tests.kafka.certificates import Authority
from tests.kafka.registries import Registry, framed, serving
from tests.kafka.topics import new_topic, read_all, settings, write
from tests.pipelines.jobs import holds


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as known:
        yield known


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    hang_up()


def wanted(registry: Registry, **more: Any) -> KafkaSettings:
    return KafkaSettings(("localhost:1",), ("t",), registry=more.pop("address", registry.address), patience_s=2, **more)


def read(registry: Registry, value: bytes, **more: Any) -> Any:
    return json.loads(decoded(value, wanted(registry, **more)))


CALL = {
    "type": "record",
    "name": "Call",
    "fields": [
        {"name": "model", "type": "string"},
        {"name": "prompt_tokens", "type": "long"},
        {"name": "cost", "type": {"type": "bytes", "logicalType": "decimal", "precision": 20, "scale": 12}},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
        {"name": "team", "type": ["null", "string"], "default": None},
        {"name": "raw", "type": "bytes"},
    ],
}


def avro(schema: Any, value: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), value)
    return out.getvalue()


# -- the three kinds -----------------------------------------------------------------------------------------------


def test_avro(registry: Registry) -> None:
    registry.add(7, json.dumps(CALL))
    said = {"model": "gpt-4o", "prompt_tokens": 2**60, "cost": Decimal("0.000000000001"), "at": 1_748_779_200_500_000, "team": None, "raw": b'{"a": 1}'}
    found = read(registry, framed(7, avro(CALL, {**said, "cost": Decimal("0.000000000001")})))
    assert found == {"model": "gpt-4o", "prompt_tokens": 2**60, "cost": "1E-12", "at": "2025-06-01T12:00:00.500000+00:00", "team": None, "raw": '{"a": 1}'}
    assert Decimal(found["cost"]) == Decimal("0.000000000001")
    found = read(registry, framed(7, avro(CALL, {**said, "team": "search", "raw": b"\xff"})))
    assert (found["team"], found["raw"]) == ("search", "/w==")
    assert registry.asked == {"/schemas/ids/7": 1}  # once for all values


def test_avro_that_refers_to_another_schema(registry: Registry) -> None:
    usage = {"type": "record", "name": "Usage", "namespace": "llm", "fields": [{"name": "prompt_tokens", "type": "int"}]}
    outer = {"type": "record", "name": "Call", "namespace": "llm", "fields": [{"name": "usage", "type": "llm.Usage"}]}
    registry.add(1, json.dumps(usage), subject="usage")
    registry.add(2, json.dumps(outer), references=[("llm.Usage", "usage")])
    whole = {**outer, "fields": [{"name": "usage", "type": usage}]}
    assert read(registry, framed(2, avro(whole, {"usage": {"prompt_tokens": 5}}))) == {"usage": {"prompt_tokens": 5}}


def test_json_is_handed_on_as_it_was_written(registry: Registry) -> None:
    registry.add(3, '{"type": "object"}', kind="JSON")
    value = b'{"b": 12345678901234567890123, "a": 1}'
    assert decoded(framed(3, value), wanted(registry)) == value


def message(name: str, *fields: tuple[str, int, str]) -> descriptor_pb2.DescriptorProto:
    """A message of fields (name, type, type name)."""
    proto = descriptor_pb2.DescriptorProto(name=name)
    for number, (field, kind, of) in enumerate(fields, 1):
        proto.field.add(name=field, number=number, type=kind, type_name=of or None, label=1)  # type: ignore[arg-type]
    return proto


def test_protobuf_with_references_and_well_known_types(registry: Registry) -> None:
    """Values are written byte by byte, as https://protobuf.dev/programming-guides/encoding says."""
    usage = descriptor_pb2.FileDescriptorProto(name="default", package="llm", syntax="proto3")
    usage.message_type.append(message("Usage", ("prompt_tokens", 3, "")))  # int64
    call = descriptor_pb2.FileDescriptorProto(name="default", package="llm", syntax="proto3")
    call.dependency.extend(["usage.proto", "google/protobuf/timestamp.proto"])
    call.message_type.append(message("Other", ("x", 9, "")))
    whole = message("Call", ("model", 9, ""), ("usage", 11, ".llm.Usage"), ("at", 11, ".google.protobuf.Timestamp"))
    whole.nested_type.append(message("Part", ("team", 9, "")))
    call.message_type.append(whole)
    registry.add(1, "syntax = …", kind="PROTOBUF", subject="usage", serialized=usage.SerializeToString())
    registry.add(2, "syntax = …", kind="PROTOBUF", serialized=call.SerializeToString(), references=[("usage.proto", "usage")])
    at = timestamp_pb2.Timestamp(seconds=1_748_779_200).SerializeToString()
    value = b"\x0a\x06gpt-4o" + b"\x12\x03\x08\xac\x02" + b"\x1a" + bytes([len(at)]) + at
    # the second message: one index (zigzag 2 is 1), which is 1
    assert read(registry, framed(2, value, b"\x02\x02")) == {"model": "gpt-4o", "usage": {"prompt_tokens": "300"}, "at": "2025-06-01T12:00:00Z"}
    assert read(registry, framed(2, b"\x0a\x03abc", b"\x04\x02\x00")) == {"team": "abc"}  # its first inner one
    assert read(registry, framed(2, b"\x0a\x01y", b"\x00")) == {"x": "y"}  # a zero byte is short for the first
    with pytest.raises(Unreadable, match="schema 2: the value is not of it"):
        read(registry, framed(2, b"\x0a\x09y", b"\x00"))
    with pytest.raises(Unreadable, match="schema 2: the value is not of it"):
        read(registry, framed(2, b"", b"\x02\x12"))


# -- schemas that a header names -----------------------------------------------------------------------------------

GUID = "0e4a9d3c-5b1f-4c8e-9a77-2f60c1d8b3e5"
NAMED = b"\x01" + bytes.fromhex("0e4a9d3c5b1f4c8e9a772f60c1d8b3e5")


def test_avro_whose_schema_a_header_names(registry: Registry) -> None:
    registry.add(7, '{"type": "record", "name": "R", "fields": [{"name": "n", "type": "int"}]}')
    registry.guids = {GUID: 7}
    for value, wanted_n in ((b"\x02", 1), (b"\x04", 2)):  # shorter than any framed one
        assert json.loads(decoded(value, wanted(registry), NAMED)) == {"n": wanted_n}
    assert json.loads(decoded(b"\x06", wanted(registry), b"\0\0\0\0\7")) == {"n": 3}  # a header may hold an id, too
    assert registry.asked == {f"/schemas/guids/{GUID}": 1, "/schemas/ids/7": 1}


def test_json_and_protobuf_whose_schema_a_header_names(registry: Registry) -> None:
    registry.add(3, '{"type": "object"}', kind="JSON")
    file = descriptor_pb2.FileDescriptorProto(name="default", package="llm", syntax="proto3")
    file.message_type.extend([message("Other", ("x", 9, "")), message("Call", ("model", 9, ""))])
    registry.add(4, "syntax = …", kind="PROTOBUF", serialized=file.SerializeToString())
    registry.guids = {GUID: 3}
    assert decoded(b'{"a": 1}', wanted(registry), NAMED) == b'{"a": 1}'
    hang_up()
    registry.guids = {GUID: 4}
    assert json.loads(decoded(b"\x0a\x06gpt-4o", wanted(registry), NAMED + b"\x02\x02")) == {"model": "gpt-4o"}  # its second message


def test_json_with_a_named_schema_needs_no_registry(registry: Registry) -> None:
    assert decoded(b'{"a": 1}', wanted(registry, address=""), NAMED) == b'{"a": 1}'
    with pytest.raises(Unreadable, match=rf"schema {GUID}: set kafka\.registry"):
        decoded(b"\x0a\x06gpt-4o", wanted(registry, address=""), NAMED)


@pytest.mark.parametrize("header", [b"\x01short", b"\2" + b"x" * 16, b"7", b"\0\0"])
def test_a_header_that_names_no_schema(registry: Registry, header: bytes) -> None:
    with pytest.raises(Unreadable, match="the header __value_schema_id names no schema"):
        decoded(b"{}", wanted(registry), header)


def test_a_guid_that_the_registry_does_not_know_or_has_no_way_to_know(registry: Registry) -> None:
    for _ in range(2):
        with pytest.raises(Unreadable, match=f"schema {GUID}: .* does not know it"):
            decoded(b"x", wanted(registry), NAMED)
    assert registry.asked == {f"/schemas/guids/{GUID}": 1}
    hang_up()
    registry.guids = None
    with pytest.raises(Unreadable, match=f"schema {GUID}: .* has no schemas by GUID; it needs a newer registry"):
        decoded(b"x", wanted(registry), NAMED)


# -- what cannot be decoded ----------------------------------------------------------------------------------------


def test_what_is_framed() -> None:
    assert [is_framed(value) for value in (b"\0\0\0\0\7{}", b"\0\0\0\0\7", b"\0", b"{}", b"", b"\x1f\x8b")] == [True, True] + [False] * 4


def test_without_a_registry_or_its_client_the_error_says_what_to_set(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unreadable, match=r"schema 7: set kafka\.registry"):
        read(registry, framed(7, b""), address="")
    monkeypatch.setitem(sys.modules, "confluent_kafka.schema_registry", None)
    with pytest.raises(Unreadable, match=r"schema.*not installed; pip install 'llm-finops\[registry\]'"):
        read(registry, framed(7, b""))


def test_an_unknown_id_is_asked_for_once_in_a_while(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        with pytest.raises(Unreadable, match=r"schema 9: .* does not know it"):
            read(registry, framed(9, b"x"))
    assert registry.asked == {"/schemas/ids/9": 1}
    registry.add(9, '{"type": "object"}', kind="JSON")
    monkeypatch.setattr("sources.kafka.registry.UNKNOWN_S", 0.0)
    assert read(registry, framed(9, b'{"a": 1}')) == {"a": 1}


@pytest.mark.parametrize("value", [b"", b"\xff" * 20])
def test_a_value_that_is_not_of_its_schema(registry: Registry, value: bytes) -> None:
    registry.add(7, json.dumps(CALL))
    with pytest.raises(Unreadable, match="schema 7: the value is not of it"):
        read(registry, framed(7, value))


def test_other_kinds_of_schema_and_other_servers(registry: Registry) -> None:
    registry.add(7, "x", kind="THRIFT")
    with pytest.raises(Unreadable, match="its type THRIFT is not read"):
        read(registry, framed(7, b""))
    with pytest.raises(SourceError, match="answers 404; is it the address of a registry"):
        read(registry, framed(7, b""), address=f"{registry.address}/elsewhere")


def test_passwords_come_from_the_environment(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.login = "finops:right"
    registry.add(3, '{"type": "object"}', kind="JSON")
    monkeypatch.setenv(REGISTRY_PASSWORD_VARIABLE, "wrong-one")
    with pytest.raises(SourceError, match=f"user or password refused; set kafka.registry_user and {REGISTRY_PASSWORD_VARIABLE}") as refused:
        read(registry, framed(3, b"{}"), registry_user="finops")
    assert not isinstance(refused.value, Unreachable)
    assert "wrong-one" not in str(refused.value)
    monkeypatch.setenv(REGISTRY_PASSWORD_VARIABLE, "right")
    assert read(registry, framed(3, b"{}"), registry_user="finops") == {}


def test_tls(tmp_path: Path) -> None:
    authority = Authority()
    certificate, key = authority.issue("registry")
    ca = tmp_path / "ca.pem"
    ca.write_text(authority.certificate)
    (tmp_path / "cert.pem").write_text(certificate)
    (tmp_path / "key.pem").write_text(key)
    with serving(tmp_path / "cert.pem", tmp_path / "key.pem") as known:
        known.add(3, '{"type": "object"}', kind="JSON")
        assert read(known, framed(3, b"{}"), registry_ca=str(ca)) == {}
        with pytest.raises(SourceError, match="no secure connection"):
            read(known, framed(3, b"{}"))
        with pytest.raises(SourceError, match=r"kafka\.registry_ca = /nowhere: no such file"):
            read(known, framed(3, b"{}"), registry_ca="/nowhere")


def test_a_registry_that_does_not_answer(registry: Registry) -> None:
    registry.add(3, '{"type": "object"}', kind="JSON")
    registry.down = True
    with pytest.raises(Unreachable, match="unreachable"):
        read(registry, framed(3, b"{}"))
    registry.down = False
    assert read(registry, framed(3, b"{}")) == {}
    with pytest.raises(Unreachable, match="unreachable"):
        read(registry, framed(3, b"{}"), address="http://localhost:9")


# -- within a batch ------------------------------------------------------------------------------------------------


def test_a_batch_keeps_what_belongs_together(registry: Registry) -> None:
    registry.add(3, '{"type": "object"}', kind="JSON")
    values = [b'{"plain": 1}', framed(3, b'{"a": 1}'), framed(4, b"lost"), framed(3, b'{"long": "' + b"x" * 50 + b'"}'), b'{"z": 2}']
    headers = [{"n": str(n)} for n in range(5)]
    batch = RawBatch("s", b"s" * 16, b"s" * 16, 0, values, [10, 11, 12, 13, 14], times=[1, 2, 3, 4, 5], headers=headers)
    kafka_reading._unframe(batch, wanted(registry, max_record_bytes=40), {})
    assert (batch.records, batch.positions, batch.times) == ([b'{"plain": 1}', b'{"a": 1}', b'{"z": 2}'], [10, 11, 14], [1, 2, 5])
    assert batch.headers == [{"n": "0"}, {"n": "1"}, {"n": "4"}]
    assert [(letter.position, letter.reason) for letter in batch.rejects] == [(12, "schema_registry"), (13, "record_too_large")]
    assert (batch.rejects[0].size, "schema 4" in batch.rejects[0].error) == (9, True)


# -- with a real broker --------------------------------------------------------------------------------------------


def pair(n: int) -> dict[str, Any]:
    body = {"id": f"c{n}", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": n, "completion_tokens": 1}}
    return {"url": "https://api.openai.com/v1/chat/completions", "status": 200, "started_at": "2025-06-01T12:00:00Z", "request": {"model": "gpt-4o"}, "response": body}


PAIR = {
    "type": "record",
    "name": "Pair",
    "fields": [{"name": name, "type": "string"} for name in ("url", "started_at", "request", "response")] + [{"name": "status", "type": "int"}],
}


def written(n: int) -> dict[str, Any]:
    return {name: json.dumps(value) if isinstance(value, dict) else value for name, value in pair(n).items()}


def test_a_read_waits_for_the_registry_and_then_gives_up(kafka: Broker, registry: Registry) -> None:
    topic = new_topic(kafka)
    registry.add(7, json.dumps(PAIR))
    registry.down = True
    write(kafka, topic, [b"{}", framed(7, avro(PAIR, written(5)))])
    reader = settings(kafka, topic, registry=registry.address, patience_s=6)
    with pytest.raises(SourceError, match="unreachable") as error:
        read_all(reader)
    assert type(error.value) is SourceError  # whose name tells that waiting helps, wherever it is raised
    assert registry.asked["/schemas/ids/7"] > 1
    registry.down = False
    (first, *_) = read_all(reader)
    assert json.loads(first.records[1]) == written(5)


def test_a_run_over_a_topic_of_framed_values(
    kafka: Broker, registry: Registry, address: StoreAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    topic = new_topic(kafka)
    registry.add(7, json.dumps(PAIR))
    registry.add(8, '{"type": "object"}', kind="JSON")
    values = [framed(7, avro(PAIR, written(n))) for n in range(1, 41)] + [framed(8, json.dumps(pair(n)).encode()) for n in range(41, 61)]
    write(kafka, topic, [*values, json.dumps(pair(61)).encode(), framed(99, b"unknown")])
    registry.guids = {GUID: 7}
    write(kafka, topic, [avro(PAIR, written(62)), None], headers=[("__value_schema_id", NAMED)])
    source = f"kafka://{kafka.address}/{topic}"
    loaded = load(environ={}, flags={"source.from": [source], "kafka.registry": registry.address}, folder=tmp_path)
    counts = run(Job((), StoreSettings(address), source=kafka_settings(loaded, source)))
    store = connect(address)
    assert (counts.calls, counts.dead_letters) == (62, 1)
    (row,) = store.rows(f"SELECT count(), sum(input_fresh) FROM {store.table('calls')} FINAL")
    assert tuple(map(int, row)) == (62, sum(range(1, 63)))
    holds(store)
    letters = store.rows(f"SELECT reason, error FROM {store.table('dead_letters')}")
    assert [(reason, "schema 99" in error) for reason, error in letters] == [("schema_registry", True)]
