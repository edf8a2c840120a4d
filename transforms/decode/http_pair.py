"""Recorded HTTP request/response pairs: what a proxy, an SDK hook or a cassette writes.

``{"request": body, "response": body, "url": …, "status": …}``; bodies are parsed JSON or JSON in a string; a stream is
``{"stream": [chunks]}`` or the raw text of its server-sent events. Beside them any of: ``provider``, ``method``,
``headers`` (of the response) or ``request_headers`` and ``response_headers``, ``started_at``, ``ended_at``,
``duration_ms``, ``ttft_ms``, ``tags``, ``metadata``, ``labels``, and names of ``schemas.call`` such as ``team``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import orjson

from schemas.call import Call
from transforms.decode.bodies import anthropic_messages, openai_chat, openai_embeddings, openai_responses, reported
from transforms.decode.endpoints import body_api, endpoint, operation
from transforms.decode.registry import Format
from transforms.decode.values import Skip, Undecodable, add_tags, instant, mapping, number, set_time, text, whole

Body = Callable[[Call, dict[str, Any], Any, list[Any] | None], None]

BODIES: Final[dict[str, Body]] = {
    openai_chat.API: openai_chat.decode,
    openai_responses.API: openai_responses.decode,
    openai_embeddings.API: openai_embeddings.decode,
    anthropic_messages.API: anthropic_messages.decode,
}
"""Bodies whose texts are read and counted; all others go through ``bodies.reported``."""

WHO: Final = (
    "team",
    "app",
    "feature",
    "environment",
    "template",
    "agent",
    "step",
    "api_key_alias",
    "deployment_type",
    "trace_id",
    "span_id",
    "parent_span_id",
    "session_id",
    "region",
    "region_scope",
)
_TIMES: Final = ("started_at", "start_time", "time", "timestamp", "@timestamp")


def detect(record: dict[str, Any]) -> bool:
    """A request and a response, or one of them beside a URL."""
    return "request" in record and ("response" in record or "url" in record)


def decode(record: dict[str, Any], tenant: str) -> list[Call]:
    """One call."""
    call = Call()
    where = endpoint(record["url"]) if isinstance(record.get("url"), str) else endpoint("")
    request = _body(record.get("request"))
    response, chunks = _answer(record.get("response"))
    if not request and not response and not chunks:
        raise Undecodable("not_a_call", "neither a request nor a response body", "http_pair")
    api = where.api or body_api(request, response, chunks)
    if api == "count_tokens":
        raise Skip("count_tokens")
    call.api, call.operation = api, operation(api)
    call.provider = text(record.get("provider"), 60) or where.provider or "unknown"
    call.endpoint_host, call.deployment, call.region = where.host, where.deployment, where.region
    call.model_requested = where.model
    call.http_status = whole(record.get("status")) or 0
    call.format = f"http_pair/{api}" if api else "http_pair"
    context(call, record)
    headers = {**_headers(record.get("headers")), **_headers(record.get("response_headers"))}
    _from_headers(call, headers)
    failed = call.http_status >= 400 or _is_error(response)
    if failed:
        _error(call, response)
    if api in BODIES:
        BODIES[api](call, request, response, chunks)
        call.model_requested = call.model_requested or where.model or call.deployment
        if call.model == "":
            call.model = call.model_requested
    elif not (call.usage_source == "none" and reported.from_headers(call, headers)):
        _reported(call, request, response, chunks, failed)
    else:
        call.model = call.model_requested = where.model
    return [call]


def _reported(call: Call, request: dict[str, Any], response: Any, chunks: list[Any] | None, failed: bool) -> None:
    try:
        reported.decode(call, request, response, chunks)
    except Undecodable as error:
        if not failed or error.reason != "unsupported_body":
            raise
        call.model = call.model or call.model_requested  # an error has no usage to report


def context(call: Call, record: dict[str, Any]) -> None:
    """Who called, when and how long, as far as the logger says."""
    for name in WHO:
        if value := record.get(name):
            setattr(call, name, text(value, 256))
    call.end_user = text(record.get("user") or record.get("end_user"), 256)
    call.request_id = text(record.get("request_id"), 256)
    call.attempt = min(whole(record.get("attempt")) or 0, 65_535)
    for name in _TIMES:
        set_time(call, record.get(name))
    if found := instant(record.get("ended_at")):
        call.end_time = found[0]
    call.duration_ms, call.ttft_ms = number(record.get("duration_ms")), number(record.get("ttft_ms"))
    call.sampling_rate = number(record.get("sampling_rate"))
    if call.duration_ms is None and call.end_time and call.event_time:
        call.duration_ms = (call.end_time - call.event_time) / 1000
    add_tags(call, record.get("tags"), record.get("labels"), record.get("metadata"))


def _body(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return {}
    value = mapping(value)
    inner = value.get("body")  # loggers that keep method and headers around the body
    if inner is not None and "messages" not in value and "input" not in value:
        return _body(inner)
    return value


def _answer(value: Any) -> tuple[Any, list[Any] | None]:
    """The response body, and its chunks if it was streamed."""
    if isinstance(value, str):
        if value.lstrip().startswith(("data:", "event:", ":")):
            return {}, sse(value)
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return {}, None
    if isinstance(value, dict):
        chunks = value.get("stream")
        if isinstance(chunks, list):
            return {}, chunks
        if "body" in value and "choices" not in value and "usage" not in value:
            return _answer(value["body"])
    return value, None


def sse(raw: str) -> list[Any]:
    """JSON payloads of server-sent events; comments, ``[DONE]`` and a cut last line are passed over."""
    chunks = []
    for line in raw.splitlines():
        if line.startswith("data:"):
            try:
                chunks.append(orjson.loads(line[5:]))
            except orjson.JSONDecodeError:
                continue
    return chunks


def _headers(value: Any) -> dict[str, str]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {k.lower(): v[0] if isinstance(v, list) and v else v for k, v in pairs if isinstance(v, str | list)}


def _from_headers(call: Call, headers: dict[str, str]) -> None:
    if not headers:
        return
    for name in ("x-request-id", "request-id", "apim-request-id", "x-amzn-requestid"):
        call.request_id = call.request_id or text(headers.get(name), 256)
    call.region = call.region or text(headers.get("x-ms-region"), 60)
    call.deployment = call.deployment or text(headers.get("x-ms-deployment-name"), 256)
    call.spillover = any(name.startswith("x-ms-spillover-from") for name in headers) or (
        str(headers.get("x-ms-is-spilled-over")).lower() == "true"
    )
    wait = number(headers.get("retry-after-ms"))
    if wait is None and (seconds := number(headers.get("retry-after"))) is not None:
        wait = seconds * 1000
    call.retry_after_ms = int(wait) if wait is not None else None


def _is_error(response: Any) -> bool:
    answer = mapping(response)
    return (
        bool(answer.get("error")) and not answer.get("usage") and not answer.get("choices") and not answer.get("output")
    )


def _error(call: Call, response: Any) -> None:
    answer = response[0] if isinstance(response, list) and response else response
    error = mapping(answer).get("error")
    detail = mapping(error)
    kind = detail.get("code") or detail.get("type") or detail.get("status") or (error if isinstance(error, str) else "")
    call.error_type = text(kind, 80) or text(mapping(answer).get("type"), 80)
    call.status = "blocked" if call.error_type == "content_filter" else "error"


FORMAT: Final = Format(
    "http_pair", "Recorded HTTP request and response of any vendor API, whole or streamed.", detect, decode
)
