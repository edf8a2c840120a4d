"""Streams of AWS: binary events, as Bedrock answers them, that a log holds in base64.

The framing (application/vnd.amazon.eventstream: two lengths, headers, payload, two checksums) is read by botocore, which the
extra ``s3`` brings.
"""

from __future__ import annotations

import struct
import zlib
from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import Any, Final

import orjson

from transforms.decode.errors import Undecodable

_PRELUDE: Final = struct.Struct(">III")  # length of the event, of its headers, and the checksum of both


def is_event_stream(text: str) -> bool:
    """Whether a text is base64 of an event stream: the checksum over its first eight bytes is right."""
    if not text.startswith("AA"):  # no event is as long as 16 MiB
        return False
    try:
        head = a2b_base64(text[:16])
    except (Base64Error, ValueError):
        return False
    return len(head) == _PRELUDE.size and zlib.crc32(head[:8]) == _PRELUDE.unpack(head)[2]


def read_event_stream(text: str) -> tuple[list[Any], bool]:
    """The events of a stream in base64 as ``{type: payload}``, and whether it was cut.

    An exception within the stream is ``{"error": {"type": …, "message": …}}``.

    Raises:
        Undecodable: botocore is not installed.
    """
    try:
        from botocore.eventstream import EventStreamBuffer, ParserError
    except ImportError:
        raise Undecodable("unsupported_body", "a stream of AWS in binary: install llm-finops[s3] to read it") from None
    text = text[: len(text) & ~3]
    try:
        data = a2b_base64(text)
    except (Base64Error, ValueError):
        return [], True
    events: list[Any] = []
    at = 0
    while at + _PRELUDE.size <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size < _PRELUDE.size or at + size > len(data):
            return events, True
        buffer = EventStreamBuffer()  # one for each event: it copies what it holds at every step
        buffer.add_data(data[at : at + size])
        try:
            message = next(buffer)
            events.append(_event(message.headers, message.payload))
        except (ParserError, struct.error, ValueError, KeyError, StopIteration):
            return events, True
        at += size
    return events, at < len(data)


def _event(headers: dict[str, Any], payload: bytes) -> Any:
    try:
        body = orjson.loads(payload) if payload else {}
    except orjson.JSONDecodeError:
        body = {}
    if headers.get(":message-type", "event") != "event":
        kind = headers.get(":exception-type") or headers.get(":error-code") or "error"
        return {"error": {"type": str(kind)}}
    return {str(headers.get(":event-type", "")): body}
