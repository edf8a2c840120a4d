"""Envelopes of Google Cloud.

Pub/Sub: the bodies of push requests and the messages of a pull as JSON
(https://cloud.google.com/pubsub/docs/push, https://cloud.google.com/pubsub/docs/reference/rest/v1/PubsubMessage).

Cloud Logging: entries as JSON, as sinks and the API give them
(https://cloud.google.com/logging/docs/reference/v2/rest/v2/LogEntry).
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from schemas.batch import pubsub_id
from schemas.part import Part
from transforms.decode.beside import event_id
from transforms.decode.envelopes.opened import Held, Opened, decoded, labels, moment
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.values import count, mapping

MAX_SPLITS: Final = 256
"""Entries of 256 KiB that one entry may be split into; the service knows no limit, but what waits to be joined must have one."""


def pubsub_message(record: dict[str, Any]) -> Opened | None:
    """A message of Pub/Sub: ``{"message": {"data": base64, "attributes": {}, "messageId": "", "publishTime": ""}}``."""
    message = record["message"]
    if type(message) is not dict:
        return None
    number = message.get("messageId") or message.get("message_id")
    if type(number) is not str or not ("data" in message or "attributes" in message):
        return None
    headers = labels(message.get("attributes"))
    time = moment(message.get("publishTime") or message.get("publish_time"))
    data = decoded(message.get("data"), f"message {number}: its data", "pubsub")
    return Opened(data, headers, time, event_id(headers) or pubsub_id(number))


def pubsub_pull(record: dict[str, Any]) -> list[Held] | None:
    """The answer to a pull: ``{"receivedMessages": [{"ackId": "", "message": {}}]}``."""
    received = record["receivedMessages"]
    if type(received) is not list:
        return None
    held: list[Held] = []
    for each in received:
        try:
            one = pubsub_message(each) if type(each) is dict and "message" in each else None
            held.append(one or Undecodable("corrupt_record", "a received message has no id or no data", "pubsub"))
        except Undecodable as problem:
            held.append(problem)
    return held


def log_entry(record: dict[str, Any]) -> Held | None:
    """An entry of Cloud Logging: ``{"logName": "", "timestamp": "", "insertId": "", "jsonPayload": {} | "textPayload": ""}``.

    It is the same entry wherever its log, time and insert id are the same. Lines of text, audits and requests to servers stand in
    the same logs as calls; they are none, but for audits that hold an answer with its usage.
    """
    log, number = record["logName"], record.get("insertId")
    if type(log) is not str or not (type(number) is str or "receiveTimestamp" in record):
        return None
    time = moment(record.get("timestamp") or record.get("receiveTimestamp"))
    headers = labels(record.get("labels"))
    inside = record.get("jsonPayload")
    split = record.get("split")
    if type(split) is dict and split and split.get("totalSplits") != 1:
        return _split_entry(record, split)
    if inside is None:
        text = record.get("textPayload")
        if type(text) is not str or text.lstrip()[:1] not in ("{", "["):
            inside = _audited(mapping(record.get("protoPayload")))
        else:
            inside = text.encode()
    return Opened(inside, headers, time, f"logging:{log}:{time}:{number}" if type(number) is str and number else "")


def _audited(audit: dict[str, Any]) -> dict[str, Any]:
    """The request and response of an audit entry, if the response tells its usage."""
    response = mapping(audit.get("response"))
    if not ("usageMetadata" in response or "usage" in response):
        raise Skipped("plain_log")
    who = mapping(audit.get("authenticationInfo")).get("principalEmail")
    return {
        "request": mapping(audit.get("request")),
        "response": response,
        "tags": {"principal": who} if type(who) is str else {},
    }


def _split_entry(record: dict[str, Any], split: dict[str, Any]) -> Part:
    """One of the entries that a line was split into which was too long for one.

    What is split is the text: ``textPayload``, or ``message`` of ``jsonPayload``. The first piece begins an entry that has what
    is written on it (log, time, labels) and an open ``textPayload``, the last one closes it; so the pieces, one behind the
    other, are a log entry as JSON, which is opened like any other.
    """
    log, uid = record["logName"], split.get("uid")
    number, of = count(split.get("index", 0), "split.index") or 0, count(split.get("totalSplits"), "split.totalSplits") or 0
    named = f"part {number} of {of} of entry {str(uid)[:200]}"
    if type(uid) is not str or not uid or not 1 < of <= MAX_SPLITS or number >= of:
        raise Undecodable("split_record", f"{named}: no such part can be", "cloud_logging")
    text = record.get("textPayload")
    if text is None:
        text = mapping(record.get("jsonPayload")).get("message")
    if type(text) is not str:
        if "protoPayload" in record:
            raise Skipped("plain_log")
        raise Undecodable("split_record", f"{named}: its payload is split by fields, which cannot be joined", "cloud_logging")
    data = orjson.dumps(text)[1:-1]
    if number == 0:
        said = {key: record[key] for key in ("timestamp", "receiveTimestamp", "labels") if key in record}
        begin = orjson.dumps({"logName": log, "insertId": uid, **said, "textPayload": ""})
        data = begin[:-2] + data
    if number == of - 1:
        data += b'"}'
    return Part(f"logging:{log}:{uid}", str(number), data=data, number=number, of=of, format="cloud_logging")
