"""Records in the envelopes of every transport: CloudEvents, Kafka Connect, Azure, AWS, packed; and in any nesting of them."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from schemas.batch import RawBatch
from schemas.call import Call
from transforms.count import CountSettings
from transforms.decode import DecodeSettings, Skipped, Undecodable, decode_batch, decode_record
from transforms.decode.envelopes import ENVELOPES, MAX_ENVELOPES, MAX_INFLATED, MAX_PACKED
from transforms.work import CallWork

NOON = 1_748_779_200_000_000
AT = "2025-06-01T12:00:00.5Z"
BEDROCK_ARN = "arn:aws:sts::123456789012:assumed-role/app/session"
AT_MS = 1_748_779_200_500


def pair(number: int = 3, **fields: object) -> dict[str, Any]:
    body = {"model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": number, "completion_tokens": 1}}
    return {"url": "https://api.openai.com/v1/chat/completions", "status": 200, "request": {"model": "gpt-4o"}, "response": body, **fields}


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def calls(record: bytes, headers: dict[str, str] | None = None) -> list[Call]:
    raw = RawBatch("file", b"s" * 16, b"s" * 16, NOON, [record], [0], headers=[headers] if headers else [])
    batch = CallWork(DecodeSettings(), CountSettings()).calls(raw, lambda *_: None)
    assert not batch.dead, batch.dead
    return batch.calls


def headers(record: bytes, keep: str) -> dict[str, str] | None:
    raw = RawBatch("file", b"s" * 16, b"s" * 16, NOON, [record], [0])
    (call,) = decode_batch(raw, DecodeSettings(headers=frozenset({keep}))).calls
    return call.headers


def outcome(record: bytes) -> tuple[str, str]:
    (found,) = decode_record(record)
    return type(found).__name__, getattr(found, "reason", "")


def subscription(*messages: str, **more: Any) -> dict[str, Any]:
    events = [{"id": f"38{n}", "timestamp": AT_MS, "message": message} for n, message in enumerate(messages)]
    return {"messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "/g", "logStream": "s", "logEvents": events, **more}


EVENT = {"specversion": "1.0", "id": "e1", "source": "/gw", "type": "llm.call", "time": AT, "subject": "customer-42"}


# -- CloudEvents ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [{"data": pair()}, {"data": json.dumps(pair())}, {"data_base64": b64(dump(pair()))}, {"data_base64": b64(gzip.compress(dump(pair())))}],
    ids=["data", "text", "base64", "compressed"],
)
def test_a_cloud_event_is_its_data_with_its_attributes_beside_it(data: dict[str, Any]) -> None:
    record = dump({**EVENT, **data})
    (call,) = calls(record)
    assert (call.model, call.input_fresh, call.event_time, call.time_quality) == ("gpt-4o", 3, NOON + 500_000, "exact")
    assert (call.transport_id, headers(record, "ce_subject")) == ("cloudevent:/gw e1", {"ce_subject": "customer-42"})


def test_an_event_in_structured_and_in_binary_mode_is_the_same_call() -> None:
    """Binary mode puts each attribute but the data into a header ``ce_…`` (Kafka protocol binding 1.0.2, section 3.2.3)."""
    data = json.dumps(pair(), separators=(",", ":"), sort_keys=True).encode()
    for event in (EVENT, {name: value for name, value in EVENT.items() if name != "time"}):
        (structured,) = calls(dump({**event, "data": pair()}))
        beside = {f"ce_{name}": value for name, value in event.items()} | {"content-type": "application/json"}
        (binary,) = calls(data, beside)
        assert (binary.call_key, binary.event_time) == (structured.call_key, structured.event_time)
    (other,) = calls(data, {**beside, "ce_source": "/other"})
    assert other.call_key != binary.call_key


def test_a_batch_of_events_is_many_records() -> None:
    batch = [{**EVENT, "id": f"e{n}", "data": pair(n)} for n in (5, 7)]
    assert [(call.input_fresh, call.transport_id) for call in calls(dump(batch))] == [(5, "cloudevent:/gw e5"), (7, "cloudevent:/gw e7")]


def test_what_is_no_event_or_an_empty_one() -> None:
    assert outcome(dump(EVENT)) == ("Skipped", "blank")
    assert outcome(dump({**EVENT, "data_base64": "?"})) == ("Undecodable", "corrupt_record")
    assert outcome(dump({"specversion": 1, "data": pair()})) == ("Undecodable", "unknown_format")


# -- Kafka Connect, EventBridge, Azure, Firehose, MSK --------------------------------------------------------------


def test_kafka_connect_with_its_schema() -> None:
    assert calls(dump({"schema": {"type": "struct"}, "payload": pair()}))[0].input_fresh == 3
    assert calls(dump({"schema": None, "payload": json.dumps(pair())}))[0].input_fresh == 3
    assert outcome(dump({"schema": None, "payload": None})) == ("Skipped", "blank")
    assert outcome(dump({"payload": pair(), "kind": 1})) == ("Undecodable", "unknown_format")


def test_an_event_of_eventbridge() -> None:
    event = {"version": "0", "id": "9-1", "detail-type": "llm", "source": "app", "time": "2025-06-01T12:00:00Z", "detail": pair()}
    (call,) = calls(dump(event))
    assert (call.input_fresh, call.event_time, call.transport_id) == (3, NOON, "eventbridge:9-1")


def test_records_of_firehose_and_of_azure() -> None:
    assert [call.input_fresh for call in calls(dump({"records": [pair(1), pair(2)]}))] == [1, 2]
    data = b64(gzip.compress(dump(subscription(json.dumps(pair(4)), json.dumps(pair(5))))))
    firehose = {"invocationId": "i", "records": [{"recordId": "r", "approximateArrivalTimestamp": AT_MS, "data": data}, {"recordId": "x", "data": "?"}]}
    first, second, broken = decode_record(dump(firehose))
    assert [getattr(first, "input_fresh", 0), getattr(second, "input_fresh", 0), getattr(broken, "reason", "")] == [4, 5, "corrupt_record"]


def test_records_of_a_topic_that_lambda_is_called_with() -> None:
    record = {"topic": "t", "partition": 0, "offset": 15, "timestamp": AT_MS, "value": b64(dump(pair())), "headers": [{"X-Team": list(b"search")}, {"odd": 10**15}, {"odder": [300]}]}
    event = {"eventSource": "aws:kafka", "eventSourceArn": "arn:aws:kafka:c", "records": {"t-0": [record, 7]}}
    one = dump({**event, "records": {"t-0": [record]}})
    (call,) = calls(one)
    assert (call.input_fresh, call.event_time, headers(one, "x-team")) == (3, NOON + 500_000, {"x-team": "search"})
    assert call.transport_id == "kafka:arn:aws:kafka:c:t:0:15"
    assert [getattr(each, "reason", "") for each in decode_record(dump(event))] == ["", "not_an_object"]


# -- AWS -----------------------------------------------------------------------------------------------------------


def test_events_of_a_log_group_and_what_is_none() -> None:
    record = subscription(json.dumps(pair()), "START RequestId: 1", json.dumps(pair(4)))
    first, line, second = decode_record(dump(record))
    assert isinstance(first, Call)
    assert isinstance(line, Skipped)
    assert isinstance(second, Call)
    assert (first.transport_id, first.transport_time, second.input_fresh) == ("cloudwatch:1:/g:s:380", NOON + 500_000, 4)
    control = subscription("CWL CONTROL MESSAGE: Checking health of destination", messageType="CONTROL_MESSAGE")
    assert outcome(dump(control)) == ("Skipped", "transport_notice")
    assert outcome(dump({**record, "logEvents": [7]})) == ("Undecodable", "not_an_object")


def test_a_call_of_a_log_group_is_the_same_by_kinesis_lambda_and_firehose() -> None:
    plain = dump(subscription(json.dumps(pair())))
    packed = gzip.compress(plain)
    kinesis = {"kinesis": {"data": b64(packed), "approximateArrivalTimestamp": 1.5}, "eventID": "shard:1", "eventSource": "aws:kinesis", "eventSourceARN": "arn:k"}
    ways: list[bytes] = [plain, packed, dump({"awslogs": {"data": b64(packed)}}), dump({"Records": [kinesis]}), dump({"Records": [{"Data": b64(packed)}]})]
    ways += [dump({"records": [{"recordId": "1", "data": b64(packed)}]}), b64(packed).encode(), zstd.compress(plain)]
    assert len({calls(way)[0].call_key for way in ways}) == 1


def test_queues_and_topics() -> None:
    text = json.dumps(pair())
    sqs = {"messageId": "m1", "body": text, "attributes": {"SentTimestamp": str(AT_MS)}, "messageAttributes": {"X-Team": {"stringValue": "search", "dataType": "String"}}}
    record = dump({"Records": [{**sqs, "eventSource": "aws:sqs"}]})
    (call,) = calls(record)
    assert (call.transport_id, call.event_time, headers(record, "x-team")) == ("sqs:m1", NOON + 500_000, {"x-team": "search"})
    api = {"MessageId": "m1", "Body": text, "Attributes": {"SentTimestamp": str(AT_MS)}}
    assert calls(dump({"Messages": [api]}))[0].call_key == call.call_key
    said = {"Type": "Notification", "MessageId": "n1", "TopicArn": "arn:t", "Message": text, "Timestamp": AT}
    record = dump({**said, "MessageAttributes": {"X-Team": {"Type": "String", "Value": "search"}}})
    (posted,) = calls(record)
    assert (posted.transport_id, posted.event_time, headers(record, "x-team")) == ("sns:n1", NOON + 500_000, {"x-team": "search"})
    (called,) = calls(dump({"Records": [{"EventSource": "aws:sns", "Sns": said}]}))
    (queued,) = calls(dump({"Records": [{**sqs, "eventSource": "aws:sqs", "body": json.dumps(said)}]}))
    assert called.call_key == queued.call_key == posted.call_key


@pytest.mark.parametrize(
    ("record", "wanted"),
    [
        ({"Records": [{"eventSource": "aws:s3", "s3": {"object": {"key": "k"}}}]}, ("Skipped", "transport_notice")),
        ({"Type": "SubscriptionConfirmation", "TopicArn": "a", "Message": "You have chosen"}, ("Skipped", "transport_notice")),
        ({"Records": [{"eventSource": "aws:dynamodb"}]}, ("Undecodable", "unknown_format")),
        ({"Records": [{"eventSource": "aws:kinesis", "kinesis": {"data": 7}}]}, ("Undecodable", "corrupt_record")),
        ({"Records": []}, ("Skipped", "blank")),
        ({"Records": 7}, ("Undecodable", "unknown_format")),
        ({"awslogs": {"data": "?"}}, ("Undecodable", "corrupt_record")),
        ({"receivedMessages": [{}]}, ("Undecodable", "corrupt_record")),
        ({"records": [7]}, ("Undecodable", "not_an_object")),
    ],
)
def test_what_holds_no_record_or_a_broken_one(record: dict[str, Any], wanted: tuple[str, str]) -> None:
    assert outcome(dump(record)) == wanted


def test_messages_of_a_pull() -> None:
    message = {"data": b64(dump(pair())), "messageId": "1", "publishTime": AT}
    received = {"receivedMessages": [{"ackId": "a", "message": message}, {"ackId": "b", "message": {**message, "messageId": "2"}}]}
    assert [call.transport_id for call in calls(dump(received))] == ["pubsub:1", "pubsub:2"]


def test_an_audit_entry_that_tells_usage_is_a_call() -> None:
    audit = {
        "authenticationInfo": {"principalEmail": "a@b.c"},
        "request": {"model": "projects/p/locations/l/publishers/google/models/gemini-2.5-flash", "contents": []},
        "response": {"modelVersion": "gemini-2.5-flash", "candidates": [], "usageMetadata": {"promptTokenCount": 4, "totalTokenCount": 4}},
    }
    (call,) = calls(dump({"logName": "l", "insertId": "i", "timestamp": AT, "protoPayload": audit}))
    assert (call.model, call.input_fresh, call.tags) == ("gemini-2.5-flash", 4, {"principal": "a@b.c"})


def test_messages_that_are_delivered_again_among_others_are_the_same_calls() -> None:
    def queued(*names: str) -> bytes:
        body = json.dumps([pair(1), pair(1)])
        return dump({"Records": [{"eventSource": "aws:sqs", "messageId": name, "body": body} for name in names]})

    first, again = calls(queued("a", "b", "c")), calls(queued("c", "x", "a"))
    keys = [call.call_key for call in first]
    assert len(set(keys)) == 6
    assert [call.call_key for call in again][:2] == keys[4:]
    assert [call.call_key for call in again][4:] == keys[:2]
    assert not {call.call_key for call in again[2:4]} & set(keys)


# -- packed, and bounds --------------------------------------------------------------------------------------------


def test_layers_of_packing_have_a_bound() -> None:
    data = dump(pair())
    for _ in range(MAX_PACKED):
        data = gzip.compress(data)
    assert outcome(data)[0] == "Call"
    assert outcome(gzip.compress(data)) == ("Undecodable", "not_json")


@pytest.mark.parametrize("compress", [gzip.compress, zstd.compress])
def test_what_grows_without_end_is_stopped(compress: Callable[[bytes], bytes]) -> None:
    assert outcome(compress(bytes(MAX_INFLATED + 1))) == ("Undecodable", "record_too_large")
    assert outcome(compress(dump(pair()))[:-9]) == ("Undecodable", "corrupt_record")


def test_many_small_bombs_share_one_bound() -> None:
    """Each alone is allowed; together they are not: the second half of them is not decompressed."""
    bomb = gzip.compress(b'{"a":"' + b" " * (MAX_INFLATED // 4) + b'"}')
    found = decode_record(dump({"records": [{"recordId": str(n), "data": b64(bomb)} for n in range(8)]}))
    assert [getattr(each, "reason", "") for each in found] == ["unknown_format"] * 3 + ["record_too_large"] * 5


WRAPS: dict[str, Callable[[bytes], bytes]] = {
    "pubsub": lambda data: dump({"message": {"data": b64(data), "messageId": "1"}}),
    "pull": lambda data: dump({"receivedMessages": [{"message": {"data": b64(data), "messageId": "1"}}]}),
    "entry": lambda data: dump({"logName": "l", "insertId": "i", "textPayload": data.decode()}),
    "event": lambda data: dump({**EVENT, "data_base64": b64(data)}),
    "event as text": lambda data: dump({**EVENT, "data": data.decode()}),
    "connect": lambda data: dump({"schema": None, "payload": data.decode()}),
    "azure": lambda data: dump({"records": [json.loads(data)]}),
    "cloudwatch": lambda data: dump(subscription(data.decode())),
    "lambda": lambda data: dump({"awslogs": {"data": b64(gzip.compress(data))}}),
    "kinesis": lambda data: dump({"Records": [{"eventSource": "aws:kinesis", "kinesis": {"data": b64(zstd.compress(data))}}]}),
    "sqs": lambda data: dump({"Records": [{"eventSource": "aws:sqs", "messageId": "1", "body": data.decode()}]}),
    "sns": lambda data: dump({"Type": "Notification", "TopicArn": "a", "MessageId": "1", "Message": data.decode()}),
    "bridge": lambda data: dump({"detail-type": "d", "id": "1", "detail": json.loads(data)}),
}


def told(record: bytes) -> list[tuple[Any, ...]]:
    found = decode_record(record)
    assert all(isinstance(each, Call) for each in found), found
    return [(call.model, call.input_fresh, call.output_visible, call.format, call.request_id) for call in found if isinstance(call, Call)]


@given(st.lists(st.sampled_from(sorted(WRAPS)), min_size=1, max_size=MAX_ENVELOPES + 2), st.text(max_size=20))
def test_any_nesting_up_to_the_bound_gives_the_calls_of_the_bare_record(wraps: list[str], text: str) -> None:
    bare = record = dump(pair(17, request_id=text))
    for wrap in wraps:
        record = WRAPS[wrap](record)
    if len(wraps) <= MAX_ENVELOPES:
        assert told(record) == told(bare)
    else:
        (letter,) = decode_record(record)
        assert isinstance(letter, Undecodable)
        assert letter.reason == "unknown_format"


# -- as they were written ------------------------------------------------------------------------------------------


def test_envelopes_of_others(shared: Path) -> None:
    samples = shared / "formats" / "samples"
    binary = json.loads((samples / "cloudevents_kafka_binary_headers.json").read_bytes())
    (call,) = calls(dump(pair()), binary["kafka_headers"])
    assert (call.transport_id, call.event_time) == ("cloudevent:/gateway/eu1 01J9", 1_788_256_800_123_000)
    event = json.loads((samples / "cloudevents_openmeter_litellm.json").read_bytes())
    (call,) = calls(record := dump({**event, "data": pair()}))
    assert (call.transport_id, headers(record, "ce_subject")) == ("cloudevent:litellm-proxy chatcmpl-2299b6a2", {"ce_subject": "customer-42"})


# -- whatever is in them -------------------------------------------------------------------------------------------

WORDS = [
    *ENVELOPES, "messageId", "data", "attributes", "insertId", "split", "uid", "index", "totalSplits", "textPayload", "jsonPayload", "timestamp",
    "protoPayload", "labels", "type", "source", "id", "data_base64", "eventSource", "kinesis", "body", "Sns", "Message", "MessageAttributes",
    "logEvents", "value", "headers", "topic", "schema", "detail", "Type", "Body", "Data", "category", "properties", "correlationId",
    "sequenceNumber", "promptTokens", "requestMessages", "responseMessages", "requestBody", "responseBody", "backendUrl", "url", "cache",
    "schemaType", "modelId", "input", "output", "inputTokenCount", "inputBodyJson", "outputBodyJson", "identity", "arn", "operation", "region",
    "errorCode", "status", "requestMetadata", "logging_time", "full_request", "full_response", "request_payload", "response_payload", "metadata",
    "model", "endpoint", "api_method", "usageMetadata", "usage", "response", "request",
]  # fmt: skip
PLAIN = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6)
SAID = st.sampled_from(
    ["aws:sqs", "aws:kinesis", "aws:sns", "aws:kafka", "Notification", "GatewayLogs", "GatewayLlmLogs", "ModelInvocationLog", "Converse",
     "InvokeModelWithResponseStream", "e30=", "W10=", "H4sI", "{}", "[]", "[7]", AT, BEDROCK_ARN]
)  # fmt: skip
JSON = st.recursive(
    PLAIN | SAID,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=3), inner, max_size=6),
    max_leaves=25,
)


@given(st.dictionaries(st.sampled_from(WORDS), JSON, min_size=1, max_size=8))
def test_whatever_stands_in_their_fields_costs_a_letter_and_is_no_defect(record: dict[str, Any]) -> None:
    found = decode_record(dump(record))
    assert found
    assert [each for each in found if isinstance(each, Undecodable) and each.reason == "decoder_error"] == []
