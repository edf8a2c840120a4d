"""Traces and logs of OpenTelemetry (OTLP), as JSON or protobuf: what its SDKs and its collector export.

A record holds many spans, most of which are no calls. A call is a span of a model's answer, or the log record
``gen_ai.client.inference.operation.details`` of one. See ``transforms.decode.spans`` for what is no call, and which tell a part.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from schemas.call import Call
from transforms.decode import spans
from transforms.decode.envelopes import Opened
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.formats import mlflow
from transforms.decode.otel import (
    OTHER,
    ROLL_UP,
    TOOL,
    Given,
    Resource,
    beside,
    ended,
    has_usage,
    kind_of,
    read_call,
    resource_of,
)
from transforms.decode.otel_content import DETAILS, answered_elsewhere
from transforms.decode.spans import Outcome, Span
from transforms.decode.values import mapping, name, plausible, sequence, text, timestamp

DESCRIBES: Final = "OpenTelemetry traces and logs (OTLP), JSON or protobuf: see [spans](#spans)"
SIGNS: Final[tuple[str, ...]] = (
    "resourceSpans",
    "resource_spans",
    "resourceLogs",
    "resource_logs",
    "resourceMetrics",
    "resource_metrics",
)

_NO_RESOURCE: Final = resource_of({})
_MAX_DEPTH: Final = 24
_NO_NUMBERS: Final = ("NaN", "Infinity", "-Infinity")


class _Names(NamedTuple):
    """How a signal names its lists, in both spellings."""

    resources: tuple[str, str]
    scopes: tuple[str, str]
    items: tuple[str, str]


_SPANS: Final = _Names(("resourceSpans", "resource_spans"), ("scopeSpans", "scope_spans"), ("spans", "spans"))
_LOGS: Final = _Names(("resourceLogs", "resource_logs"), ("scopeLogs", "scope_logs"), ("logRecords", "log_records"))


def detect(record: dict[str, Any]) -> bool:
    return any(type(record.get(sign)) is list for sign in SIGNS)


def decode(record: dict[str, Any]) -> list[Outcome | Opened]:
    """One outcome for each span and each log record; a record that is inside of a log record is for who knows all formats."""
    found: list[Span | Undecodable] = []
    for item, scope, resource in _items(record, _SPANS):
        found.append(_no_object("span") if item is None else read_span(item, scope, resource))
    outcomes: list[Outcome | Opened] = [*spans.decode_spans(found)]
    for item, scope, resource in _items(record, _LOGS):
        inside = None if item is None else _inside(item, resource)
        if inside is not None:
            outcomes.append(inside)
        else:
            outcomes += [_no_object("log record")] if item is None else spans.guarded(_log_record, item, scope, resource)
    if "resourceMetrics" in record or "resource_metrics" in record:
        outcomes.append(Skipped("not_a_model_call"))
    return outcomes or [Skipped("blank")]


def _no_object(what: str) -> Undecodable:
    return Undecodable("bad_value", f"a {what} is not an object")


def _either(given: dict[str, Any], names: tuple[str, str]) -> Any:
    value = given.get(names[0])
    return given.get(names[1]) if value is None else value


def _items(record: dict[str, Any], names: _Names) -> Iterator[tuple[dict[str, Any] | None, str, Resource]]:
    """Spans or log records with the name of their scope and the attributes of their resource; None for what is no object."""
    for about in sequence(_either(record, names.resources)):
        if type(about) is not dict:
            yield None, "", _NO_RESOURCE
            continue
        resource = resource_of(attributes_of(mapping(about.get("resource")).get("attributes")))
        for scope in sequence(_either(about, names.scopes)):
            if type(scope) is not dict:
                yield None, "", resource
                continue
            label = name(mapping(scope.get("scope")).get("name"))
            for item in sequence(_either(scope, names.items)):
                yield item if type(item) is dict else None, label, resource


def read_span(span: dict[str, Any], scope: str, resource: Resource) -> Span:
    """A span of OTLP's JSON. What is no call is not looked at any further."""
    attributes = attributes_of(span.get("attributes"))
    if "mlflow.spanType" in attributes:
        attributes = mlflow.unquoted(attributes)
    kind = kind_of(attributes)
    events: list[tuple[str, dict[str, Any]]] = []
    if kind not in (OTHER, TOOL, ROLL_UP):
        given = (event for event in sequence(span.get("events")) if type(event) is dict)
        events = [(name(event.get("name")), attributes_of(event.get("attributes"))) for event in given]
    return Span(
        trace_id=spans.hex_id(_either(span, ("traceId", "trace_id")), 16),
        span_id=spans.hex_id(_either(span, ("spanId", "span_id")), 8),
        parent_id=spans.hex_id(_either(span, ("parentSpanId", "parent_span_id")), 8),
        kind=kind,
        start=_nanoseconds(_either(span, ("startTimeUnixNano", "start_time_unix_nano"))),
        end=_nanoseconds(_either(span, ("endTimeUnixNano", "end_time_unix_nano"))),
        failed=mapping(span.get("status")).get("code") in (2, "2", "STATUS_CODE_ERROR", "ERROR"),
        given=Given(attributes, resource, scope),
        events=events,
    )


def _inside(record: dict[str, Any], resource: Resource) -> Opened | None:
    """The body of a log record that tells of no call itself, where it is an object, perhaps as JSON: what an application logs."""
    body = _plain(record.get("body"), 0)
    if type(body) is str:
        body = body.encode("utf-8", "replace") if body.lstrip()[:1] == "{" else None
    if not body or type(body) not in (dict, bytes):
        return None
    attributes = attributes_of(record.get("attributes"))
    if _event(record, attributes).startswith("gen_ai.") or kind_of(attributes) != OTHER:
        return None
    labels = {key.lower(): value for key, value in (resource.attributes | attributes).items() if type(value) is str}
    found = timestamp(_time(record))
    return Opened(body, labels, found[0] if found is not None and plausible(found[0]) else 0, "")


def _event(record: dict[str, Any], attributes: dict[str, Any]) -> str:
    return name(_either(record, ("eventName", "event_name")) or attributes.get("event.name"))


def _time(record: dict[str, Any]) -> Any:
    time = _nanoseconds(_either(record, ("timeUnixNano", "time_unix_nano")))
    return _nanoseconds(_either(record, ("observedTimeUnixNano", "observed_time_unix_nano"))) if time is None else time


def _log_record(record: dict[str, Any], scope: str, resource: Resource) -> list[Outcome]:
    attributes = attributes_of(record.get("attributes"))
    return [
        read_log(
            _event(record, attributes),
            Given(attributes, resource, scope),
            _time(record),
            spans.hex_id(_either(record, ("traceId", "trace_id")), 16),
            spans.hex_id(_either(record, ("spanId", "span_id")), 8),
        )
    ]


def read_log(event: str, given: Given, time: Any, trace_id: str, span_id: str) -> Outcome:
    """The call that a log record tells of, written when it had ended.

    Raises:
        Skipped: it tells of none: a line of text, a message of a call, a judgement of its quality.
        Undecodable: a count is impossible.
    """
    kind = kind_of(given.attributes)
    if event != DETAILS:
        if event.startswith("gen_ai.") and not has_usage(given.attributes):
            raise Skipped("message_event" if event == "gen_ai.choice" or event.endswith(".message") else "not_a_model_call")
        if kind == OTHER or not has_usage(given.attributes):
            raise Skipped("plain_log")
    if kind == ROLL_UP:
        raise Skipped("roll_up")
    if kind in (OTHER, TOOL):
        raise Skipped("not_a_model_call")
    call = Call()
    call.operation = kind
    call.trace_id, call.span_id = trace_id, span_id
    read_call(call, given)
    ended(call, None, time)
    call.beside = beside(given)
    return spans.told(call, spans.CONTENT, answered_elsewhere(given.attributes))


def attributes_of(given: Any) -> dict[str, Any]:
    """Attributes as plain values: from the list of OTLP's JSON, or from an object, as some exporters write them."""
    if type(given) is dict:
        return given
    found: dict[str, Any] = {}
    for each in sequence(given):
        if type(each) is dict and type(key := each.get("key")) is str:
            value = each.get("value")
            said = value.get("stringValue") if type(value) is dict else None  # nearly all
            found[key] = _plain(value, 0) if said is None else said
    return found


def _nanoseconds(value: Any) -> Any:
    """A time as a number, which JSON writes as text; None for none. What is neither is for who reads times."""
    if type(value) is str and value.isascii() and value.isdigit() and len(value) <= 20:
        value = int(value)
    return value or None


def _whole(said: Any) -> Any:
    """64 bits, which JSON writes as text; anything else as it is, for who counts to refuse."""
    if type(said) is str and len(said) <= 20 and said.isascii() and said.removeprefix("-").isdigit():
        number = int(said)
        return number if -(2**63) <= number < 2**63 else said
    return said


def _plain(value: Any, depth: int) -> Any:
    """One value of OTLP's JSON: ``{"intValue": "7"}`` is 7. What it does not know is None."""
    if type(value) is not dict:
        return value
    for key, said in value.items():
        if key in ("stringValue", "string_value", "boolValue", "bool_value"):
            return said
        if key in ("intValue", "int_value"):
            return _whole(said)
        if key in ("doubleValue", "double_value"):
            return float(said) if type(said) in (int, float) or said in _NO_NUMBERS else None
        if depth < _MAX_DEPTH:
            if key in ("arrayValue", "array_value"):
                return [_plain(each, depth + 1) for each in sequence(mapping(said).get("values"))]
            if key in ("kvlistValue", "kvlist_value"):
                pairs = (each for each in sequence(mapping(said).get("values")) if type(each) is dict)
                return {text(each.get("key")): _plain(each.get("value"), depth + 1) for each in pairs}
    return None
