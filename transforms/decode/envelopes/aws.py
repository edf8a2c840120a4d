"""Envelopes of AWS: CloudWatch Logs subscriptions, and what Kinesis, SQS and SNS hand to whom they call.

CloudWatch Logs: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/SubscriptionFilters.html; the events of Lambda:
https://docs.aws.amazon.com/lambda/latest/dg/lambda-services.html.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from transforms.decode.envelopes.opened import Held, Opened, attributes, decoded, moment
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.values import mapping


def subscription(record: dict[str, Any]) -> list[Held] | None:
    """Events of a log group: ``{"messageType": "DATA_MESSAGE", "owner", "logGroup", "logStream", "logEvents": []}``."""
    events = record.get("logEvents")
    if type(events) is not list:
        return None
    if record["messageType"] == "CONTROL_MESSAGE":
        raise Skipped("transport_notice")
    stream = f"{record.get('owner', '')}:{record.get('logGroup', '')}:{record.get('logStream', '')}"
    return [_event(each, stream) for each in events]


def _event(event: Any, stream: str) -> Held:
    message = mapping(event).get("message")
    if type(message) is not str:
        return Undecodable("not_an_object", "a log event has no message", "cloudwatch")
    if message.lstrip()[:1] not in ("{", "["):
        return Skipped("plain_log")
    number = event.get("id")
    name = f"cloudwatch:{stream}:{number}" if type(number) is str and number else ""
    return Opened(message.encode(), {}, moment(event.get("timestamp")), name)


def lambda_logs(record: dict[str, Any]) -> Opened | None:
    """What CloudWatch Logs hands to a Lambda: ``{"awslogs": {"data": base64 of gzip}}``."""
    data = mapping(record["awslogs"]).get("data")
    return None if type(data) is not str else Opened(decoded(data, "awslogs.data", "cloudwatch"), {}, 0, "")


def notification(record: dict[str, Any]) -> Opened | None:
    """A message of SNS as it is posted: ``{"Type": "Notification", "TopicArn": "", "MessageId": "", "Message": "", …}``."""
    kind = record.get("Type")
    if kind in ("SubscriptionConfirmation", "UnsubscribeConfirmation"):
        raise Skipped("transport_notice")
    return None if kind != "Notification" else _published(record)


def _published(message: dict[str, Any]) -> Opened:
    number = message.get("MessageId")
    return Opened(
        _bytes(message.get("Message")),
        attributes(message.get("MessageAttributes"), "Value"),
        moment(message.get("Timestamp")),
        f"sns:{number}" if type(number) is str and number else "",
    )


def _queued(message: dict[str, Any]) -> Opened:
    """A message of SQS, as Lambda (``body``) or the API (``Body``) writes it."""
    number = message.get("messageId") or message.get("MessageId")
    sent = mapping(message.get("attributes") or message.get("Attributes")).get("SentTimestamp")
    said = message.get("messageAttributes") or message.get("MessageAttributes")
    return Opened(
        _bytes(message.get("body", message.get("Body"))),
        attributes(said, "stringValue", "StringValue"),
        moment(sent),
        f"sqs:{number}" if type(number) is str and number else "",
    )


def _streamed(record: dict[str, Any]) -> Opened:
    """A record of Kinesis; Lambda's ``eventID`` (shard and sequence number) and the stream's ARN name it for ever."""
    inner = mapping(record.get("kinesis")) or record
    number, stream = record.get("eventID"), record.get("eventSourceARN")
    name = f"kinesis:{stream}:{number}" if type(number) is str and type(stream) is str else ""
    data = decoded(inner.get("data", inner.get("Data")), f"record {number or ''}: its data", "kinesis")
    return Opened(data, {}, moment(inner.get("approximateArrivalTimestamp", inner.get("ApproximateArrivalTimestamp"))), name)


def _bytes(text: Any) -> bytes:
    return text.encode() if type(text) is str else b""


def _notified(message: dict[str, Any]) -> Opened:
    return _published(mapping(message.get("Sns")))


_WAYS: Final[dict[str, Callable[[dict[str, Any]], Opened]]] = {"aws:kinesis": _streamed, "aws:sqs": _queued, "aws:sns": _notified}


def triggered(record: dict[str, Any]) -> list[Held] | None:
    """What a Lambda is given: ``{"Records": [{"eventSource": "aws:kinesis" | "aws:sqs" | "aws:sns", …}]}``, or Kinesis' API.

    What S3 says of an object that was written tells nothing of a call.
    """
    records = record["Records"]
    return None if type(records) is not list else [_record(each) for each in records]


def _record(record: Any) -> Held:
    record = mapping(record)
    source = record.get("eventSource") or record.get("EventSource")
    if source == "aws:s3":
        return Skipped("transport_notice")
    way = _WAYS.get(source) if type(source) is str else None
    if way is None and type(record.get("Data")) is str:
        way = _streamed
    if way is None:
        return Undecodable("unknown_format", f"a record of {str(source)[:100]} is not opened", "aws")
    try:
        return way(record)
    except Undecodable as problem:
        return problem


def received(record: dict[str, Any]) -> list[Held] | None:
    """What SQS' API answers: ``{"Messages": [{"MessageId": "", "Body": "", …}]}``."""
    messages = record["Messages"]
    if type(messages) is not list or not all(type(each) is dict and "Body" in each for each in messages):
        return None
    return [_queued(each) for each in messages]
