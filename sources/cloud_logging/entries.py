"""An entry as the service's own JSON, as its sinks write it: what reads one reads the other."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from google.cloud.logging_v2.types import LogEntry

_EXACT: Final = 1 << 53
"""Numbers of a payload are doubles; whole ones below this are the integers that were written."""


def as_json(entry: LogEntry) -> bytes:
    """``entry`` as JSON (proto3 mapping, names in camel case), with the whole numbers of its payload as such."""
    from google.protobuf.json_format import MessageToDict

    raw = entry._pb
    kind = raw.WhichOneof("payload")
    if kind == "text_payload" or kind is None:
        return orjson.dumps(MessageToDict(raw))
    payload = {name: _plain(value) for name, value in raw.json_payload.fields.items()} if kind == "json_payload" else None
    if payload is not None:
        raw.ClearField("json_payload")
        return orjson.dumps({**MessageToDict(raw), "jsonPayload": payload})
    try:
        return orjson.dumps(MessageToDict(raw))
    except (TypeError, KeyError):  # nobody here knows the type of the payload
        unknown = {
            "@type": raw.proto_payload.type_url,
            "value": base64.b64encode(raw.proto_payload.value).decode(),
        }
        raw.ClearField("proto_payload")
        return orjson.dumps({**MessageToDict(raw), "protoPayload": unknown})


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        number = value.number_value
        return int(number) if abs(number) < _EXACT and number.is_integer() else number
    if kind == "struct_value":
        return {name: _plain(item) for name, item in value.struct_value.fields.items()}
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    return value.bool_value if kind == "bool_value" else None


def micros(moment: Any) -> int:
    """A timestamp of the service's in UTC microseconds; 0 where there is none."""
    return int(moment.seconds) * 1_000_000 + int(moment.nanos) // 1000


def identity(entry: LogEntry) -> int:
    """A hash of what makes an entry the same entry: its log, its time and its insert id."""
    raw = entry._pb
    said = f"{raw.log_name}\0{raw.timestamp.seconds}.{raw.timestamp.nanos}\0{raw.insert_id}"
    return int.from_bytes(hashlib.blake2b(said.encode(), digest_size=8).digest(), "big")
