"""What stands beside a record: headers of a Kafka message, and the attributes of a CloudEvent among them."""

from __future__ import annotations

import json

from schemas.batch import RawBatch
from transforms.count import CountSettings
from transforms.decode import DecodeSettings, decode_batch
from transforms.work import CallWork

NOON = 1_748_779_200_000_000


def pair(**fields: object) -> bytes:
    body = {"id": "c1", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    return json.dumps({"url": "https://api.openai.com/v1/chat/completions", "status": 200, "request": {"model": "gpt-4o"}, "response": body, **fields}).encode()


def batch(records: list[bytes], times: list[int], headers: list[dict[str, str]]) -> RawBatch:
    positions = list(range(len(records)))
    return RawBatch("kafka:t/0", b"s" * 16, b"s" * 16, min(times), records, positions, times=times, headers=headers)


def test_a_call_without_a_time_gets_that_of_its_message() -> None:
    raw = batch([pair(), b"broken", pair(started_at="2025-06-01T13:00:00Z"), pair()], [NOON, NOON + 1, NOON + 2, NOON + 3], [])
    found = CallWork(DecodeSettings(), CountSettings()).calls(raw, lambda *_: None)
    assert [(call.event_time, call.time_quality) for call in found.calls] == [
        (NOON, "transport"),
        (NOON + 3_600_000_000, "second"),
        (NOON + 3, "transport"),
    ]
    assert [letter.reason for letter in found.dead] == ["not_json"]


def test_the_time_of_a_cloud_event_is_that_of_a_call_that_carries_none() -> None:
    says = {"ce_time": "2025-06-01T14:00:00Z"}
    raw = batch([pair(), pair(started_at="2025-06-01T13:00:00Z"), pair()], [NOON] * 3, [says, says, {"ce_time": "soon"}])
    found = CallWork(DecodeSettings(), CountSettings()).calls(raw, lambda *_: None)
    assert [(call.event_time - NOON, call.time_quality) for call in found.calls] == [
        (7_200_000_000, "second"),
        (3_600_000_000, "second"),
        (0, "transport"),
    ]


def test_headers_join_those_of_the_call_which_go_before_them() -> None:
    raw = batch([pair(headers={"X-Team": "inside"}), pair(), pair()], [NOON] * 3, [{"x-team": "beside", "x-app": "a"}, {"x-app": "b"}, {}])
    found = decode_batch(raw, DecodeSettings(headers=frozenset({"x-team", "x-app"})))
    assert [call.headers for call in found.calls] == [{"x-team": "inside", "x-app": "a"}, {"x-app": "b"}, None]
    nothing_asked = decode_batch(raw, DecodeSettings())
    assert [call.headers for call in nothing_asked.calls] == [None, None, None]
