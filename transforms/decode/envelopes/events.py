"""CloudEvents in structured mode, EventBridge, Kafka Connect, and the records of Azure and Firehose.

CloudEvents: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md; a batch is an array of them.
Kafka Connect's JSON converter writes ``{"schema": …, "payload": …}`` unless ``schemas.enable`` is false.
Azure's diagnostic settings write ``{"records": [...]}`` to Event Hubs and storage.
"""

from __future__ import annotations

from typing import Any, Final

from transforms.decode.beside import event_id
from transforms.decode.envelopes.opened import Held, Opened, decoded, labels, moment
from transforms.decode.errors import Skipped, Undecodable

_NOT_ATTRIBUTES: Final = frozenset({"data", "data_base64"})
_FIREHOSE: Final = frozenset({"recordId", "data", "approximateArrivalTimestamp", "kinesisRecordMetadata"})


def cloud_event(record: dict[str, Any]) -> Opened | None:
    """A CloudEvent: ``{"specversion": "1.0", "id": "", "source": "", "type": "", "time": "", "data": … | "data_base64": ""}``.

    Its attributes stand beside the record as ``ce_*``, as the headers of binary mode do, so both modes read alike.
    """
    if type(record["specversion"]) is not str or type(record.get("type")) is not str:
        return None
    headers = labels({f"ce_{name}": value for name, value in record.items() if name not in _NOT_ATTRIBUTES})
    inside = record.get("data")
    if inside is None:
        if "data_base64" not in record:
            raise Skipped("blank")
        inside = decoded(record["data_base64"], "data_base64", "cloudevents")
    return Opened(inside, headers, 0, event_id(headers))


def bridge_event(record: dict[str, Any]) -> Opened | None:
    """An event of EventBridge: ``{"detail-type": "", "source": "", "id": "", "time": "", "detail": {}}``."""
    number = record.get("id")
    if "detail" not in record or type(number) is not str:
        return None
    return Opened(record["detail"], {}, moment(record.get("time")), f"eventbridge:{number}")


def connect_record(record: dict[str, Any]) -> Opened | None:
    """A value that Kafka Connect wrote with its schema: ``{"schema": …, "payload": …}`` and nothing else."""
    if len(record) != 2 or "schema" not in record or type(record["schema"]) is str:
        return None
    if record["payload"] is None:
        raise Skipped("blank")
    return Opened(record["payload"], {}, 0, "")


def many_records(record: dict[str, Any]) -> list[Held] | None:
    """``{"records": [...]}``: Azure's diagnostics, and Firehose, whose records are ``{"data": base64}``.

    A Lambda that Amazon MSK calls is given ``{"records": {"topic-0": [{"value": base64}]}}``.
    """
    records = record["records"]
    if record.get("eventSource") in ("aws:kafka", "SelfManagedKafka"):
        return _topic_records(record)
    if type(records) is not list:
        return None
    return [_one(each) for each in records]


def _one(record: Any) -> Held:
    if type(record) is not dict:
        return Undecodable("not_an_object", "one of its records is no object", "records")
    if type(record.get("data")) is not str or not record.keys() <= _FIREHOSE:
        return Opened(record, {}, 0, "")
    try:
        data = decoded(record["data"], f"record {record.get('recordId', '')}: its data", "firehose")
    except Undecodable as problem:
        return problem
    return Opened(data, {}, moment(record.get("approximateArrivalTimestamp")), "")


def _topic_records(event: dict[str, Any]) -> list[Held]:
    held: list[Held] = []
    cluster = event.get("eventSourceArn") or event.get("bootstrapServers") or ""
    records = event["records"]
    for each in (one for some in records.values() if type(some) is list for one in some) if type(records) is dict else ():
        if type(each) is not dict:
            held.append(Undecodable("not_an_object", "one of its records is no object", "kafka"))
            continue
        where = f"{each.get('topic')}:{each.get('partition')}:{each.get('offset')}"
        try:
            value = decoded(each.get("value"), f"{where}: its value", "kafka")
        except Undecodable as problem:
            held.append(problem)
            continue
        headers = _header_bytes(each.get("headers"))
        name = event_id(headers) or f"kafka:{cluster}:{where}"
        held.append(Opened(value, headers, moment(each.get("timestamp")), name))
    return held


def _header_bytes(given: Any) -> dict[str, str]:
    """Headers as Lambda writes them: ``[{"name": [bytes]}]``; what is no text is left out."""
    said = {}
    for some in given if type(given) is list else ():
        for name, value in some.items() if type(some) is dict else ():
            if type(value) is not list:
                continue
            try:
                said[str(name).lower()] = bytes(value).decode()
            except (TypeError, ValueError):
                continue
    return said
