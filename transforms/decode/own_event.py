"""Our own event, for loggers that are free to choose: flat JSON, described in ``schemas/event.schema.json``."""

from __future__ import annotations

from typing import Any, Final

import orjson

from schemas.call import LEAVES, Call, Content, Message, Part
from transforms.decode.endpoints import endpoint
from transforms.decode.http_pair import context
from transforms.decode.registry import Format
from transforms.decode.usage import pico
from transforms.decode.values import Undecodable, set_time, text, tokens, whole

SCHEMA: Final = "llm-finops/call/v1"
_STATUSES: Final = ("ok", "error", "blocked", "incomplete", "cancelled")
_TEXTS: Final = (
    "tenant", "provider", "model", "model_requested", "id", "request_id", "api", "operation", "deployment", "deployment_type",
    "region", "region_scope", "service_tier", "service_tier_requested", "speed", "stop_reason", "error_type", "team", "app",
    "feature", "environment", "user", "api_key_alias", "template", "agent", "step", "trace_id", "span_id", "parent_span_id",
    "session_id", "started_at", "ended_at", "url",
)  # fmt: skip
_NUMBERS: Final = ("duration_ms", "ttft_ms", "sampling_rate", "retry_after_ms", "max_tokens", "attempt", "http_status")
_BOOLS: Final = ("stream", "batch", "spillover", "gateway_cache_hit")
_OBJECTS: Final = ("usage", "tags", "reported_cost")
_ARRAYS: Final = ("messages", "output", "tools")
_KNOWN: Final = frozenset({"schema", "status", *_TEXTS, *_NUMBERS, *_BOOLS, *_OBJECTS, *_ARRAYS})


def detect(record: dict[str, Any]) -> bool:
    return record.get("schema") == SCHEMA


def decode(record: dict[str, Any], tenant: str) -> list[Call]:
    """One call.

    Raises:
        Undecodable: the event breaks its schema; the text names the field and its value.
    """
    _check(record)
    call = Call()
    call.tenant = record.get("tenant") or tenant
    context(call, record)
    set_time(call, record.get("started_at"))
    for name in (
        "provider",
        "api",
        "operation",
        "deployment",
        "service_tier",
        "service_tier_requested",
        "speed",
        "stop_reason",
        "error_type",
        "model_requested",
    ):
        setattr(call, name, text(record.get(name)))
    call.model = text(record["model"])
    call.model_requested = call.model_requested or call.model
    call.operation = call.operation or "chat"
    call.provider_call_id = text(record.get("id"))
    call.status = record.get("status", "ok")
    call.http_status = whole(record.get("http_status")) or 0
    call.max_tokens, call.retry_after_ms = whole(record.get("max_tokens")), whole(record.get("retry_after_ms"))
    for name in _BOOLS:
        setattr(call, name, record.get(name) is True)
    if isinstance(record.get("url"), str):
        call.endpoint_host = endpoint(record["url"]).host
    _usage(call, record.get("usage"))
    if reported := record.get("reported_cost"):
        call.reported_cost, call.reported_cost_by = pico(reported["usd"]), reported["by"]
    if "messages" in record or "output" in record:
        tools = record.get("tools")
        call.content = Content(
            prompt=_messages(record.get("messages")),
            output=_messages(record.get("output")),
            tools_json=orjson.dumps(tools) if tools else b"",
        )
    return [call]


def _check(record: dict[str, Any]) -> None:
    if unknown := record.keys() - _KNOWN:
        _refuse(sorted(unknown)[0], record, "is no field of the event")
    for name in ("provider", "model"):
        if not record.get(name):
            _refuse(name, record, "is required")
    for names, kinds, what in (
        (_TEXTS, (str,), "must be a text"),
        (_NUMBERS, (int, float), "must be a number from 0"),
        (_BOOLS, (bool,), "must be true or false"),
        (_OBJECTS, (dict,), "must be an object"),
        (_ARRAYS, (list,), "must be an array"),
    ):
        for name in names:
            if name in record:
                value = record[name]
                wrong_bool = isinstance(value, bool) and bool not in kinds
                if not isinstance(value, kinds) or wrong_bool or (what.endswith("0") and value < 0):
                    _refuse(name, record, what)
    if record.get("status", "ok") not in _STATUSES:
        _refuse("status", record, f"must be one of {', '.join(_STATUSES)}")
    _check_cost(record)
    for name in ("messages", "output"):
        for message in record.get(name, ()):
            if not isinstance(message, dict) or not isinstance(message.get("role"), str):
                _refuse(name, record, "must hold objects with a role and a content")
            if not isinstance(message.get("content"), str):
                _refuse(name, record, "must hold objects with a content that is a text")


def _check_cost(record: dict[str, Any]) -> None:
    cost = record.get("reported_cost")
    if cost is None:
        return
    usd = cost.get("usd")
    if isinstance(usd, bool) or not isinstance(usd, int | float) or not 0 <= usd < 9_000_000:
        _refuse("reported_cost", record, "must have usd, a number from 0 to 9 million")
    if cost.get("by") not in ("vendor", "gateway"):
        _refuse("reported_cost", record, "must have by, which is vendor or gateway")


def _refuse(name: str, record: dict[str, Any], why: str) -> None:
    shown = repr(record.get(name))[:120]
    raise Undecodable("bad_value", f"{name} {why}: {shown}", "own_event")


def _usage(call: Call, usage: dict[str, Any] | None) -> None:
    """Disjoint leaves by their names; nothing is derived."""
    if usage is None:
        return
    for name, value in usage.items():
        if name not in LEAVES and name != "web_searches":
            raise Undecodable("bad_value", f"usage.{name} is no leaf of usage", "own_event")
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise Undecodable("bad_value", f"usage.{name} = {str(value)[:80]!r} is no number of tokens", "own_event")
        setattr(call, name, tokens(usage, name))
    if any(usage.get(leaf) is not None for leaf in LEAVES):
        call.usage_source, call.usage_quality = "vendor", "ok"


def _messages(messages: list[dict[str, Any]] | None) -> list[Message]:
    return [
        Message(m["role"], (Part("result" if m["role"] == "tool" else "text", m["content"]),), text(m.get("name")))
        for m in messages or ()
    ]


FORMAT: Final = Format("own_event", f"Our own event (`{SCHEMA}`), see [event.md](event.md).", detect, decode)
