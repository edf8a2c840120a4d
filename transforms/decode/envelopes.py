"""What a record is wrapped in on its way: envelopes that transports put around it, peeled off before its format is told.

An envelope is a function that opens one kind of them, found by a key that it cannot be without. Only records that no format
recognises are asked, so those without an envelope pay nothing. What an envelope says of the record inside (a time, an
identity, labels) is what a transport says: the record itself goes before it.

Pub/Sub: the bodies of push requests and the messages of a pull as JSON
(https://cloud.google.com/pubsub/docs/push, https://cloud.google.com/pubsub/docs/reference/rest/v1/PubsubMessage).

Cloud Logging: entries as JSON, as sinks and the API give them
(https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry).
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import io
import zlib
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson

from schemas.batch import pubsub_id
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.values import dumps_sorted, plausible, timestamp

MAX_ENVELOPES: Final = 4
"""Envelopes within envelopes that are opened: a log entry in a message is two."""

MAX_INFLATED: Final = 64 << 20
"""Bytes that a compressed record may grow to."""

_GZIP: Final = b"\x1f\x8b"


class Around(NamedTuple):
    """What is written on the envelopes that a record is out of, ``depth`` of them, and the bytes it was inside."""

    data: bytes
    headers: dict[str, str]
    time: int
    id: str
    depth: int

    @property
    def hash(self) -> int:
        """63 bits, those of ``transforms.decode.batch.record_hash``."""
        return int.from_bytes(hashlib.sha256(self.data).digest()[:8], "big") >> 1


class Opened(NamedTuple):
    """What one envelope held: the record, parsed or as ``bytes``, and what is written on the envelope.

    ``headers`` by lower-case name. ``time`` in UTC microseconds, 0 for none. ``id`` is the same whenever and wherever the same
    record is delivered, and of no other record; empty for none.
    """

    inside: Any
    headers: dict[str, str]
    time: int
    id: str

    def within(self, outer: Around | None) -> tuple[Any, Around]:
        """The record, parsed, and what is written on this envelope and on those around it: the innermost goes before.

        Raises:
            Undecodable: what it holds is not JSON.
            Skipped: it is empty.
        """
        data, headers, time, name = self.inside, self.headers, self.time, self.id
        if outer is not None:
            headers, time, name = outer.headers | headers, time or outer.time, name or outer.id
        depth = outer.depth + 1 if outer is not None else 1
        if data.__class__ is bytes:
            return parsed(data), Around(data, headers, time, name, depth)
        data = dumps_sorted(data)
        # a payload's keys have no order: each delivery is to be read alike
        return orjson.loads(data), Around(data, headers, time, name, depth)


def pubsub_message(record: dict[str, Any]) -> Opened | None:
    """A message of Pub/Sub: ``{"message": {"data": base64, "attributes": {}, "messageId": "", "publishTime": ""}}``."""
    message = record["message"]
    if message.__class__ is not dict:
        return None
    number = message.get("messageId") or message.get("message_id")
    if number.__class__ is not str or not ("data" in message or "attributes" in message):
        return None
    attributes = message.get("attributes")
    headers = {str(name).lower(): str(value) for name, value in attributes.items()} if attributes.__class__ is dict else {}
    found = timestamp(message.get("publishTime") or message.get("publish_time"))
    time = found[0] if found is not None and plausible(found[0]) else 0
    try:
        data = base64.b64decode(message.get("data") or "", validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise Undecodable("corrupt_record", f"message {number}: its data is not base64: {error}", "pubsub") from None
    return Opened(data, headers, time, pubsub_id(number))


def log_entry(record: dict[str, Any]) -> Opened | None:
    """An entry of Cloud Logging: ``{"logName": "", "timestamp": "", "insertId": "", "jsonPayload": {} | "textPayload": ""}``.

    It is the same entry wherever its log, time and insert id are the same. Lines of text, audits and requests to servers stand in
    the same logs as calls; they are none.
    """
    log, number = record["logName"], record.get("insertId")
    if log.__class__ is not str or not (number.__class__ is str or "receiveTimestamp" in record):
        return None
    split = record.get("split")
    if split.__class__ is dict and split.get("totalSplits", 1) != 1:
        part = f"part {split.get('index', 0)} of {split['totalSplits']} of entry {split.get('uid')}"
        raise Undecodable("split_record", f"{part}: parts are not joined", "cloud_logging")
    found = timestamp(record.get("timestamp") or record.get("receiveTimestamp"))
    time = found[0] if found is not None and plausible(found[0]) else 0
    labels = record.get("labels")
    headers = {str(name).lower(): str(value) for name, value in labels.items()} if labels.__class__ is dict else {}
    inside = record.get("jsonPayload")
    if inside is None:
        text = record.get("textPayload")
        if text.__class__ is not str or text.lstrip()[:1] not in ("{", "["):
            if any(name.startswith("gen_ai.") for name in headers):
                return None  # a call that is told by its labels alone: a format of its own
            raise Skipped("plain_log")
        inside = text.encode()
    return Opened(inside, headers, time, f"logging:{log}:{time}:{number}" if number.__class__ is str and number else "")


Held = Opened | Undecodable | Skipped
"""What is in an envelope; one that holds many may have some that cannot be opened, or are no record of anything."""

Envelope = Callable[[dict[str, Any]], Held | list[Held] | None]

ENVELOPES: Final[dict[str, Envelope]] = {"message": pubsub_message, "logName": log_entry}
"""By a key that gives it away: what opens an envelope, or says that it is none (None).

Raises ``Undecodable`` for one that cannot be opened, ``Skipped`` for one that holds no record of anything.
"""


def open_envelopes(record: dict[str, Any]) -> list[Held]:
    """What is in the envelope that a parsed record is; nothing if it is none.

    Raises:
        Undecodable: it cannot be opened.
        Skipped: it holds no record of anything.
    """
    for key, envelope in ENVELOPES.items():
        if key in record and (held := envelope(record)) is not None:
            return held if held.__class__ is list else [held]  # type: ignore[list-item]
    return []


def parsed(data: bytes) -> Any:
    """JSON, also compressed with gzip.

    Raises:
        Undecodable: it is none; or it is too large when it is decompressed.
        Skipped: it is blank.
    """
    if data[:2] == _GZIP:
        data = inflated(data)
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if not data.strip():
            raise Skipped("blank") from None
        raise Undecodable("not_json", str(error)) from None


def inflated(data: bytes) -> bytes:
    """The decompressed record, of at most ``MAX_INFLATED`` bytes; else ``Undecodable`` is raised."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            found = file.read(MAX_INFLATED + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise Undecodable("corrupt_record", f"gzip of {len(data)} bytes cannot be decompressed: {error}") from None
    if len(found) > MAX_INFLATED:
        raise Undecodable("record_too_large", f"gzip of {len(data)} bytes grows past {MAX_INFLATED}")
    return found
