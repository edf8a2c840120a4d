"""Spans of MLflow, alone or in a trace: attributes are JSON in strings, those of bridged OpenTelemetry spans bare values.

Requests and responses of the vendor are in ``mlflow.spanInputs`` and ``mlflow.spanOutputs``; usage that stands in the response
goes before ``mlflow.chat.tokenUsage``, which knows fewer leaves. The usage of a trace is the sum of its spans and is not read.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from transforms.decode import spans
from transforms.decode.bodies import pick
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.exchange import Exchange, parse_json
from transforms.decode.otel import Given, kind_of, resource_of
from transforms.decode.spans import Outcome, Span
from transforms.decode.values import mapping, name, sequence
from transforms.decode.web import Address, provider_of_body

DESCRIBES: Final = "MLflow spans and traces: see [spans](#spans)"
SIGNS: Final[tuple[str, ...]] = ("start_time_unix_nano", "context", "info")

_USAGE: Final = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "total_tokens": "gen_ai.usage.total_tokens",
    "cache_read_input_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_creation_input_tokens": "gen_ai.usage.cache_creation.input_tokens",
}
_NO_RESOURCE: Final = resource_of({})
_BODIES: Final = ("mlflow.spanInputs", "mlflow.spanOutputs")


def detect(record: dict[str, Any]) -> bool:
    if "info" in record:
        info = record["info"]
        return type(info) is dict and "data" in record and ("trace_metadata" in info or "request_metadata" in info)
    attributes = record.get("attributes")
    return type(attributes) is dict and any(key.startswith("mlflow.") for key in attributes)


def decode(record: dict[str, Any]) -> list[Outcome]:
    """One outcome for each span."""
    if "info" not in record:
        return spans.decode_spans([_span(record, {})], _bodies)
    given = sequence(mapping(parse_json(record["data"])).get("spans"))
    around = _of_trace(record["info"])
    found: list[Span | Undecodable] = [
        _span(each, around) if type(each) is dict else Undecodable("bad_value", "a span is not an object") for each in given
    ]
    return spans.decode_spans(found, _bodies) or [Skipped("blank")]


def _of_trace(info: dict[str, Any]) -> dict[str, Any]:
    """What a trace says of each of its spans."""
    metadata = mapping(info.get("trace_metadata") or info.get("request_metadata"))
    tags = {key: value for key, value in mapping(info.get("tags")).items() if not key.startswith("mlflow.")}
    said = {
        "user.id": metadata.get("mlflow.trace.user"),
        "session.id": metadata.get("mlflow.trace.session"),
        "metadata": tags or None,
    }
    return {key: value for key, value in said.items() if value is not None}


def unquoted(given: dict[str, Any]) -> dict[str, Any]:
    """Attributes of MLflow under the names that OpenTelemetry has for them; also where MLflow exports its spans as OTLP."""
    attributes = {key: _bare(value) for key, value in given.items()}
    answer = mapping(attributes.get("mlflow.spanOutputs"))
    if type(answer.get("usage")) is dict and answer["usage"]:
        attributes = {key: value for key, value in attributes.items() if not key.startswith("gen_ai.usage.")}
    else:
        for key, value in mapping(attributes.get("mlflow.chat.tokenUsage")).items():
            if key in _USAGE:
                attributes.setdefault(_USAGE[key], value)
    if "mlflow.llm.provider" in attributes:
        attributes.setdefault("gen_ai.provider.name", attributes["mlflow.llm.provider"])
    return attributes


def _span(span: dict[str, Any], around: dict[str, Any]) -> Span:
    attributes = unquoted(mapping(span.get("attributes")))
    context, status = mapping(span.get("context")), span.get("status")
    events = (each for each in sequence(span.get("events")) if type(each) is dict)
    return Span(
        trace_id=spans.hex_id(name(span.get("trace_id") or context.get("trace_id")).removeprefix("tr-").removeprefix("0x"), 16),
        span_id=spans.hex_id(name(span.get("span_id") or context.get("span_id")).removeprefix("0x"), 8),
        parent_id=spans.hex_id(name(span.get("parent_span_id") or span.get("parent_id")).removeprefix("0x"), 8),
        kind=kind_of(attributes),
        start=span.get("start_time_unix_nano") or span.get("start_time"),
        end=span.get("end_time_unix_nano") or span.get("end_time"),
        failed="ERROR" in name(mapping(status).get("code") or span.get("status_code") or status),
        given=Given({**around, **attributes}, _NO_RESOURCE, ""),
        events=[(name(each.get("name")), mapping(each.get("attributes"))) for each in events],
    )


def _bare(value: Any) -> Any:
    """An attribute is JSON, or, of a bridged span, what it says."""
    return parse_json(value, 1) if type(value) is str else value


def _bodies(call: Call, span: Span) -> None:
    """Read the vendor's request and response, where the span holds them as they were."""
    asked, answer = (mapping(span.given.attributes.get(each)) for each in _BODIES)
    if not asked and not answer:
        return
    x = Exchange(asked, answer, None, Address(), {})
    api, body = pick(x)
    if body is None or not body.texts or body.operation != call.operation:
        return
    requested, model, number, stop = call.model_requested, call.model, call.provider_call_id, call.stop_reason
    try:
        call.api = api
        body.ask(call, x)
        if answer and not span.failed:
            body.reply(call, x)
    except Undecodable:
        if call.usage_source == "none" and "usage" in answer:
            raise
        call.flag("content_unreadable")
    call.model_requested = call.model_requested or requested
    call.model = name(answer.get("model")) or model or call.model_requested
    call.provider_call_id = call.provider_call_id or number
    call.stop_reason = call.stop_reason or stop
    if call.provider == "unknown":
        call.provider = provider_of_body(api, call.model, answer)
    content = call.content
    if content is not None and not content.prompt and not content.output and not content.token_inputs:
        call.content = None
