"""AWS' binary streams, framed by hand after their specification. Recorded ones are in ``test_samples``."""

from __future__ import annotations

import base64
import struct
import sys
import zlib
from typing import Any

import orjson
import pytest

from schemas.call import Call
from transforms.decode import Undecodable, decode_record
from transforms.decode.eventstream import is_event_stream, read_event_stream


def framed(payload: bytes, **headers: str) -> bytes:
    """One event; a header ``event_type`` is written as ``:event-type``."""
    packed = b""
    for key, value in headers.items():
        name = ":" + key.replace("_", "-")
        packed += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    head = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    body = head + struct.pack(">I", zlib.crc32(head)) + packed + payload
    return body + struct.pack(">I", zlib.crc32(body))


def event(kind: str, payload: Any) -> bytes:
    return framed(orjson.dumps(payload), event_type=kind, content_type="application/json", message_type="event")


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


STREAM = (
    event("messageStart", {"role": "assistant"})
    + event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "Hello"}})
    + event("messageStop", {"stopReason": "end_turn"})
    + event("metadata", {"usage": {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12}, "metrics": {"latencyMs": 5}})
)
RECORD = {
    "url": "https://bedrock-runtime.us-east-1.amazonaws.com/model/amazon.nova-lite-v1%3A0/converse-stream",
    "status": 200,
    "request": {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]},
}


def outcome(data: bytes) -> Any:
    return decode_record(orjson.dumps({**RECORD, "response": text(data)}))[0]


def test_a_stream() -> None:
    call = outcome(STREAM)
    assert isinstance(call, Call)
    assert (call.input_fresh, call.output_visible, call.stop_reason, call.stream) == (9, 3, "end_turn", True)
    assert call.content is not None
    assert [part.text for message in call.content.output for part in message.parts] == ["Hello"]


def test_an_exception_ends_a_stream() -> None:
    failed = framed(b'{"message":"slow down"}', exception_type="throttlingException", message_type="exception")
    call = outcome(failed)
    assert (call.status, call.error_type, call.usage_source) == ("error", "throttlingException", "none")
    call = outcome(event("messageStart", {"role": "assistant"}) + failed)
    assert (call.status, call.usage_source) == ("incomplete", "none")


@pytest.mark.parametrize("at", [0, 9, 20, 60, len(STREAM) - 2])
def test_a_broken_stream_is_read_up_to_where_it_broke(at: int) -> None:
    data = bytearray(STREAM)
    data[at] ^= 0x55
    if at < 12:  # its first eight bytes no longer tell it
        assert not is_event_stream(text(bytes(data)))
        return
    chunks, cut = read_event_stream(text(bytes(data)))
    assert cut
    assert len(chunks) == (3 if at > 200 else 0)


def test_other_texts_are_no_streams() -> None:
    for other in ("", "AA", "AAAA", "AAAAAAAAAAAAAAAA", "A" * 1000, '{"a": 1}', "data: {}", "AAé" * 10, text(b"\x00" * 40)):
        assert not is_event_stream(other)


def test_a_stream_that_says_it_is_longer_than_it_is() -> None:
    head = struct.pack(">II", 2**31, 0)
    assert read_event_stream(text(head + struct.pack(">I", zlib.crc32(head)))) == ([], True)
    head = struct.pack(">II", 3, 0)  # shorter than its own frame
    assert read_event_stream(text(head + struct.pack(">I", zlib.crc32(head)))) == ([], True)


def test_without_botocore_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "botocore.eventstream", None)
    letter = outcome(STREAM)
    assert isinstance(letter, Undecodable)
    assert letter.reason == "unsupported_body"
    assert "llm-finops[s3]" in letter.error
