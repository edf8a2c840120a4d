"""Records in envelopes of Pub/Sub: what is inside is read as if it had come alone, with what the envelope says beside it."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from schemas.batch import RawBatch
from schemas.call import Call
from schemas.part import Part
from transforms.count import CountSettings
from transforms.decode import DecodeSettings, Skipped, Undecodable, decode_batch, decode_record
from transforms.decode.envelopes import MAX_ENVELOPES, MAX_INFLATED
from transforms.work import CallWork

NOON = 1_748_779_200_000_000
AT = "2025-06-01T12:00:00.5Z"


def pair(**fields: object) -> bytes:
    body = {"model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    return json.dumps({"url": "https://api.openai.com/v1/chat/completions", "status": 200, "request": {"model": "gpt-4o"}, "response": body, **fields}).encode()


def message(data: bytes | None, number: str = "77", **more: Any) -> dict[str, Any]:
    """As the service writes it: of a push request both spellings are there."""
    said = {} if data is None else {"data": base64.b64encode(data).decode()}
    return {**said, "messageId": number, "message_id": number, "publishTime": AT, "publish_time": AT, **more}


def push(data: bytes | None, **more: Any) -> bytes:
    return json.dumps({"message": message(data, **more), "subscription": "projects/p/subscriptions/s"}).encode()


def calls(*records: bytes, position: int = 0, segment: bytes = b"s" * 16) -> list[Call]:
    raw = RawBatch("file", segment, segment, NOON, list(records), [position + n for n in range(len(records))])
    return CallWork(DecodeSettings(), CountSettings()).calls(raw, lambda *_: None).calls


def headers(record: bytes) -> dict[str, str] | None:
    raw = RawBatch("file", b"s" * 16, b"s" * 16, NOON, [record], [0])
    (call,) = decode_batch(raw, DecodeSettings(headers=frozenset({"x-team"}))).calls
    return call.headers


def test_a_message_is_read_as_its_data_with_its_time_and_its_attributes() -> None:
    (call,) = calls(push(pair()))
    assert (call.event_time, call.time_quality) == (NOON + 500_000, "transport")
    assert headers(push(pair(), attributes={"X-Team": "search", "x-other": "1"})) == {"x-team": "search"}
    assert (call.model, call.input_fresh, call.transport_id) == ("gpt-4o", 3, "pubsub:77")


def test_what_the_record_says_goes_before_its_envelope() -> None:
    record = push(pair(started_at="2025-06-01T13:00:00Z", headers={"x-team": "inside"}), attributes={"x-team": "beside"})
    assert calls(record)[0].event_time == NOON + 3_600_000_000
    assert headers(record) == {"x-team": "inside"}


def test_the_time_of_a_cloud_event_goes_before_that_of_its_message() -> None:
    (call,) = calls(push(pair(), attributes={"ce-time": "2025-06-01T14:00:00Z"}))
    assert (call.event_time, call.time_quality) == (NOON + 7_200_000_000, "second")


@pytest.mark.parametrize(
    ("record", "same"),
    [
        (push(pair()), True),
        (gzip.compress(push(pair())), True),
        (json.dumps({"ackId": "a", "message": message(pair()), "deliveryAttempt": 3}).encode(), True),
        (json.dumps([{"ackId": "b", "message": message(pair())}]).encode(), True),
        (push(push(pair()), number="outer"), True),
        (push(gzip.compress(pair(), mtime=0)), False),  # other bytes were published
        (push(b"[" + pair() + b"]"), False),
    ],
    ids=["push", "compressed request", "pulled", "a list of pulled", "within another", "compressed data", "an array"],
)
def test_a_call_of_a_message_is_the_same_call_however_it_comes(record: bytes, same: bool) -> None:
    (wanted,) = calls(push(pair()))
    (found,) = calls(record, position=900, segment=b"x" * 16)
    assert (found.call_key == wanted.call_key) is same
    assert (found.model, found.event_time, found.transport_id) == ("gpt-4o", NOON + 500_000, "pubsub:77")


def test_two_messages_that_say_the_same_are_two_calls_and_one_delivered_twice_is_one() -> None:
    first, second, again = calls(push(pair(), number="1"), push(pair(), number="2"), push(pair(), number="1"))
    assert first.call_key != second.call_key
    assert first.call_key == again.call_key


def test_a_record_with_an_id_is_the_same_call_in_whatever_message_it_is_published() -> None:
    body = {"id": "chatcmpl-1", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    first, again = calls(push(pair(response=body), number="1"), push(pair(response=body), number="2"))
    assert first.call_key == again.call_key


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (push(b"{broken"), "not_json"),
        (push(b"7"), "not_an_object"),
        (json.dumps({"message": {"data": "no base64!", "messageId": "1"}}).encode(), "corrupt_record"),
        (json.dumps({"message": {"data": 7, "messageId": "1"}}).encode(), "corrupt_record"),
        (push(gzip.compress(pair())[:-9]), "corrupt_record"),
        (push(gzip.compress(bytes(MAX_INFLATED + 1))), "record_too_large"),
        (json.dumps({"message": "hello", "messageId": "1"}).encode(), "unknown_format"),
        (json.dumps({"message": {"data": "aGk=", "messageId": 5}}).encode(), "unknown_format"),
        (push(None, attributes={"a": "b"}), "blank"),
        (push(None, attributes=["odd"]), "blank"),
    ],
)
def test_what_cannot_be_opened_is_a_dead_letter_and_nothing_is_nothing(record: bytes, reason: str) -> None:
    (outcome,) = decode_record(record)
    assert not isinstance(outcome, Call)
    assert outcome.reason == reason


def test_envelopes_without_end_are_not_opened_for_ever() -> None:
    record = pair()
    for _ in range(MAX_ENVELOPES):
        record = push(record)
    (found,) = decode_record(record)
    assert isinstance(found, Call)
    (found,) = decode_record(push(record))
    assert isinstance(found, Undecodable)
    assert found.reason == "unknown_format"


def test_a_dead_letter_keeps_the_record_without_its_envelope_scrubbed() -> None:
    raw = RawBatch("file", b"s" * 16, b"s" * 16, NOON, [push(b'{"api_key": "sk-secretsecret", "odd": 1}')], [0])
    batch = CallWork(DecodeSettings(keep_payloads=True), CountSettings()).calls(raw, lambda *_: None)
    assert [letter.payload for letter in batch.dead] == ['{"api_key": "***", "odd": 1}']


# -- entries of Cloud Logging --------------------------------------------------------------------------------------


def entry(payload: dict[str, Any] | str | None = None, number: str = "i1", **more: Any) -> dict[str, Any]:
    kind = {} if payload is None else {"textPayload" if isinstance(payload, str) else "jsonPayload": payload}
    said = {"logName": "projects/p/logs/llm", "timestamp": AT, "receiveTimestamp": AT, "resource": {"type": "global"}, "severity": "INFO"}
    return {**said, "insertId": number, **kind, **more}


def written(entry: dict[str, Any]) -> bytes:
    return json.dumps(entry).encode()


def test_an_entry_is_read_as_its_payload_with_its_time_and_labels() -> None:
    (call,) = calls(written(entry(json.loads(pair()))))
    assert (call.model, call.input_fresh, call.event_time, call.time_quality) == ("gpt-4o", 3, NOON + 500_000, "transport")
    assert call.transport_id == f"logging:projects/p/logs/llm:{NOON + 500_000}:i1"
    assert headers(written(entry(json.loads(pair()), labels={"X-Team": "search"}))) == {"x-team": "search"}


def test_an_entry_is_the_same_call_by_whatever_way_it_comes() -> None:
    """By the service's lists, a sink to Pub/Sub, a sink to files, as text or as fields, in any order of its fields."""
    plain = entry(json.loads(pair()))
    turned = {**plain, "jsonPayload": dict(reversed(plain["jsonPayload"].items())), "timestamp": "2025-06-01T12:00:00.500000Z"}
    ways = [written(plain), written(turned), push(written(plain)), push(written(plain), number="78"), written([plain])]  # type: ignore[arg-type]
    found = [calls(way, segment=bytes([n]) * 16, position=n)[0] for n, way in enumerate(ways)]
    assert len({call.call_key for call in found}) == 1
    others = [entry(json.loads(pair()), "i2"), entry(json.loads(pair()), timestamp="2025-06-01T12:00:00.6Z"), {**plain, "logName": "projects/q/logs/llm"}]
    assert len({calls(written(one))[0].call_key for one in [plain, *others]}) == 4


def test_json_in_the_text_of_an_entry_is_a_record() -> None:
    (call,) = calls(written(entry(" " + pair().decode())))
    assert call.model == "gpt-4o"


@pytest.mark.parametrize(
    "line",
    [
        entry("GET /health 200"),
        entry(None, httpRequest={"status": 200}),
        entry(None, protoPayload={"@type": "type.googleapis.com/google.cloud.audit.AuditLog"}),
    ],
    ids=["text", "request", "audit"],
)
def test_entries_that_are_no_calls_are_ignored(line: dict[str, Any]) -> None:
    (skipped,) = decode_record(written(line))
    assert (type(skipped).__name__, getattr(skipped, "reason", "")) == ("Skipped", "plain_log")


@pytest.mark.parametrize("field", ["textPayload", "message"])
def test_the_pieces_of_a_split_entry_one_behind_the_other_are_the_entry(field: str) -> None:
    line = pair(team="Zürich 🙂 \"quoted\" \\ \n").decode()
    cuts = [line[:7], line[7:90], "", line[90:]]
    parts = []
    for index, text in enumerate(cuts):
        said = {"textPayload": text} if field == "textPayload" else {"jsonPayload": {"message": text}}
        split = {"uid": "u1", "totalSplits": len(cuts), **({"index": index} if index else {})}  # proto JSON leaves zeros out
        (part,) = decode_record(written(entry(None, f"i{index}", labels={"x-team": "search"}, split=split, **said)))
        assert isinstance(part, Part)
        assert (part.key, part.role, part.number, part.of) == ("logging:projects/p/logs/llm:u1", str(index), index, 4)
        parts.append(part)
    (call,) = calls(b"".join(part.data for part in parts))
    assert (call.model, call.input_fresh, call.event_time) == ("gpt-4o", 3, NOON + 500_000)
    assert call.team == "Zürich 🙂 \"quoted\" \\ \n"
    assert call.transport_id == f"logging:projects/p/logs/llm:{NOON + 500_000}:u1"


@pytest.mark.parametrize(
    "split",
    [
        {"uid": "u1", "index": 3, "totalSplits": 3},
        {"uid": "u1", "index": 0},
        {"uid": 7, "index": 0, "totalSplits": 2},
        {"uid": "u1", "index": 0, "totalSplits": 1 << 30},
    ],
)
def test_a_part_that_cannot_be_is_a_dead_letter(split: dict[str, Any]) -> None:
    (part,) = decode_record(written(entry("{", split=split)))
    assert isinstance(part, Undecodable)
    assert (part.reason, "no such part can be" in part.error) == ("split_record", True)


def test_an_entry_that_is_split_by_fields_is_a_dead_letter() -> None:
    split = {"uid": "u1", "index": 1, "totalSplits": 2}
    (fields,) = decode_record(written(entry({"request": {}}, split=split)))
    assert isinstance(fields, Undecodable)
    assert fields.reason == "split_record"
    (audit,) = decode_record(written(entry(None, split=split, protoPayload={"@type": "x"})))
    assert isinstance(audit, Skipped)


def test_entries_as_the_service_wrote_them(shared: Path) -> None:
    samples = shared / "formats" / "samples"
    (alone,) = calls((samples / "gcp_log_entry_app_llm_call.json").read_bytes())
    (pushed,) = calls((samples / "gcp_pubsub_push_logentry.json").read_bytes())
    assert alone.call_key == pushed.call_key
    assert (alone.model, alone.input_fresh, alone.output_visible + alone.output_reasoning) == ("gpt-5-2025-08-07", 8, 82)
    assert decode_record((samples / "gcp_log_entry_real.json").read_bytes())[0].reason == "plain_log"  # type: ignore[union-attr]
    first, second = (decode_record(line)[0] for line in (samples / "gcp_log_entry_split.jsonl").read_bytes().splitlines())
    assert isinstance(first, Part)
    assert isinstance(second, Part)
    assert (first.key, first.role, first.of) == ("logging:projects/acme-prod/logs/run.googleapis.com%2Fstdout:9f1c2d", "0", 2)
    assert (second.key, second.role, second.of) == (first.key, "1", 2)
    assert json.loads(first.data + second.data)["textPayload"] == "<part 0><part 1>"
