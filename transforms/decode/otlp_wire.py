"""OTLP as protobuf: what the collector's Kafka exporter writes unless it is told otherwise, turned into what its JSON parses to.

One message is an ``ExportTraceServiceRequest`` or an ``ExportLogsServiceRequest``, which have the same bytes as ``TracesData``
and ``LogsData`` (https://github.com/open-telemetry/opentelemetry-proto). Nothing in it says which, nor that it is one: every
span and every log record is held against what the specification demands of it, so that other bytes do not pass.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData
from opentelemetry.proto.metrics.v1.metrics_pb2 import MetricsData
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from transforms.decode.values import EARLIEST, LATEST

FIRST_BYTE: Final = b"\n"
"""Field 1, length-delimited: what all of these messages begin with."""

_EARLIEST_NS: Final = EARLIEST * 1000
_LATEST_NS: Final = LATEST * 1000


def read_message(data: bytes) -> dict[str, Any] | None:
    """The message as its JSON parses to, attributes as plain objects; None where it is no message of OTLP."""
    traces = _parsed(TracesData, data)
    if traces is not None and _spans_only(traces):
        return {"resourceSpans": [_resource_spans(each) for each in traces.resource_spans]}
    logs = _parsed(LogsData, data)
    if logs is not None and _records_only(logs):
        return {"resourceLogs": [_resource_logs(each) for each in logs.resource_logs]}
    metrics = _parsed(MetricsData, data)
    if metrics is not None and _metrics_only(metrics):
        return {"resourceMetrics": []}
    return None


def _parsed(kind: Any, data: bytes) -> Any:
    message = kind()
    try:
        message.ParseFromString(data)
    except DecodeError:
        return None
    return None if len(UnknownFieldSet(message)) else message


def _spans_only(traces: Any) -> bool:
    spans = [span for resource in traces.resource_spans for scope in resource.scope_spans for span in scope.spans]
    return bool(spans) and all(len(span.trace_id) == 16 and len(span.span_id) == 8 for span in spans)


def _records_only(logs: Any) -> bool:
    records = [each for resource in logs.resource_logs for scope in resource.scope_logs for each in scope.log_records]
    return bool(records) and all(
        _EARLIEST_NS <= (each.time_unix_nano or each.observed_time_unix_nano) < _LATEST_NS
        and len(each.trace_id) in (0, 16)
        and len(each.span_id) in (0, 8)
        for each in records
    )


def _metrics_only(metrics: Any) -> bool:
    found = [each for resource in metrics.resource_metrics for scope in resource.scope_metrics for each in scope.metrics]
    return bool(found) and all(each.name and each.WhichOneof("data") for each in found)


def _resource_spans(given: Any) -> dict[str, Any]:
    return {
        "resource": {"attributes": _attributes(given.resource.attributes)},
        "scopeSpans": [
            {"scope": {"name": scope.scope.name}, "spans": [_span(each) for each in scope.spans]} for scope in given.scope_spans
        ],
    }


def _span(span: Any) -> dict[str, Any]:
    return {
        "traceId": span.trace_id.hex(),
        "spanId": span.span_id.hex(),
        "parentSpanId": span.parent_span_id.hex(),
        "name": span.name,
        "startTimeUnixNano": span.start_time_unix_nano,
        "endTimeUnixNano": span.end_time_unix_nano,
        "attributes": _attributes(span.attributes),
        "events": [{"name": event.name, "attributes": _attributes(event.attributes)} for event in span.events],
        "status": {"code": span.status.code},
    }


def _resource_logs(given: Any) -> dict[str, Any]:
    return {
        "resource": {"attributes": _attributes(given.resource.attributes)},
        "scopeLogs": [
            {"scope": {"name": scope.scope.name}, "logRecords": [_log_record(each) for each in scope.log_records]}
            for scope in given.scope_logs
        ],
    }


def _log_record(record: Any) -> dict[str, Any]:
    return {
        "traceId": record.trace_id.hex(),
        "spanId": record.span_id.hex(),
        "timeUnixNano": record.time_unix_nano,
        "observedTimeUnixNano": record.observed_time_unix_nano,
        "eventName": record.event_name,
        "attributes": _attributes(record.attributes),
        "body": _value(record.body),
    }


def _attributes(given: Any) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in given}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return None if kind is None or kind == "bytes_value" else getattr(value, kind)
