"""Our own event, ``llm-finops/call/v1``: flat JSON for whoever is free to choose what to log.

Described for people in ``docs/event.md``, for machines in ``schemas/event.schema.json``. The checks here accept and
refuse exactly what that schema does, some fifty times faster than a general validator.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, NoReturn

from schemas.call import LEAVES, TOOL_USES, Call, Content, Media, Message, Part
from transforms.decode import times
from transforms.decode import usage as usages
from transforms.decode.context import promote_tags
from transforms.decode.errors import Undecodable
from transforms.decode.values import MAX_COUNT, dumps, dumps_sorted, milliseconds, pico_dollars
from transforms.decode.web import address, provider_of_body

SCHEMA: Final = "llm-finops/call/v1"
DESCRIBES: Final = f"Our own event, `{SCHEMA}`: see [event.md](event.md)"
SIGNS: Final[tuple[str, ...]] = ("schema",)
MAX_TEXT: Final = 512

_TEXTS: Final = {
    "tenant": "tenant",
    "id": "provider_call_id",
    "request_id": "request_id",
    "provider": "provider",
    "api": "api",
    "model_requested": "model_requested",
    "model": "model",
    "deployment": "deployment",
    "deployment_type": "deployment_type",
    "host": "endpoint_host",
    "region": "region",
    "region_scope": "region_scope",
    "service_tier_requested": "service_tier_requested",
    "service_tier": "service_tier",
    "speed": "speed",
    "cache_key": "cache_key",
    "error_type": "error_type",
    "stop_reason": "stop_reason",
    "team": "team",
    "app": "app",
    "feature": "feature",
    "environment": "environment",
    "cost_center": "cost_center",
    "project": "project",
    "account": "account",
    "user": "end_user",
    "api_key_alias": "api_key_alias",
    "template": "template",
    "agent": "agent",
    "step": "step",
    "trace_id": "trace_id",
    "span_id": "span_id",
    "parent_span_id": "parent_span_id",
    "session_id": "session_id",
}
"""Fields that are texts, and the columns they fill."""

OPERATIONS: Final = ("chat", "completion", "embedding", "rerank", "image", "audio")
STATUSES: Final = ("ok", "error", "blocked", "incomplete", "cancelled")
ROLES: Final = ("system", "developer", "user", "assistant", "tool")
PART_KINDS: Final = ("text", "call", "result", "reasoning", "media")
MEDIA_KINDS: Final = ("image", "audio", "file", "video")
COST_SOURCES: Final = ("vendor", "gateway")

_INTEGERS: Final = {
    "max_tokens": MAX_COUNT,
    "cache_breakpoints": 255,
    "http_status": 599,
    "retry_after_ms": 2**31 - 1,
    "attempt": 255,
}
_TOTALS: Final = ("input_total", "output_total")
_PARTS: Final = (
    "cached_input",
    "cache_written_input",
    "audio_input",
    "image_input",
    "reasoning_output",
    "audio_output",
    "image_output",
)
_LEAF_NAMES: Final = frozenset({*LEAVES, *TOOL_USES})
_TOTAL_NAMES: Final = frozenset({*_TOTALS, *_PARTS, *TOOL_USES})

TEXTS: Final = (*_TEXTS, "tool_choice")
INTEGERS: Final = tuple(_INTEGERS)
BOOLEANS: Final = ("stream", "batch", "spillover", "gateway_cache_hit", "content_complete")
USAGE: Final = (*LEAVES, *_TOTALS, *_PARTS, *TOOL_USES)
"""Every name that one of the two forms of usage has."""


def detect(record: dict[str, Any]) -> bool:
    schema = record.get("schema")
    return type(schema) is str and schema.startswith("llm-finops/call/")


def decode(record: dict[str, Any]) -> list[Call]:
    """The call an event is. Raises ``Undecodable('bad_value')`` where the event breaks its schema."""
    check(record)
    call = Call()
    for field, column in _TEXTS.items():
        value = record.get(field)
        if value:
            setattr(call, column, value)
    if call.endpoint_host:  # a whole address may hold a password
        call.endpoint_host = address(call.endpoint_host).host
    call.operation = record.get("operation") or "chat"
    call.status = record.get("status") or "ok"
    for field in _INTEGERS:
        value = record.get(field)
        if value is not None:
            setattr(call, field, int(value))
    for field in ("stream", "batch", "spillover", "gateway_cache_hit"):
        if record.get(field):
            setattr(call, field, True)
    for field in ("duration_ms", "ttft_ms", "sampling_rate"):
        if record.get(field) is not None:
            setattr(call, field, milliseconds(record[field]))
    _times(call, record)
    tags = record.get("tags")
    if tags:
        promote_tags(call, tags)
    if not call.model:
        call.model = call.model_requested
    if not call.model_requested:
        call.model_requested = call.model
    call.provider = call.provider.lower() or provider_of_body(call.api, call.model, {})
    usage = record.get("usage")
    if usage is not None:
        _usage(call, usage)
    cost = record.get("reported_cost")
    if cost is not None:
        call.reported_cost = pico_dollars(cost["usd"])
        call.reported_cost_by = cost.get("by") or "vendor"
        if call.reported_cost is None:
            call.flag("bad_reported_cost")
    _content(call, record)
    return [call]


def _times(call: Call, record: dict[str, Any]) -> None:
    for field, write in (("started_at", times.start), ("ended_at", times.end)):
        value = record.get(field)
        if value is not None:
            before = call.event_time, call.end_time
            write(call, value)
            if before == (call.event_time, call.end_time):
                call.flag("implausible_time")
    times.settle(call)


def _usage(call: Call, usage: dict[str, Any]) -> None:
    for name in TOOL_USES:
        if usage.get(name) is not None:
            setattr(call, name, int(usage[name]))
    if usage.get("input_total") is not None:
        usages.openai(
            call,
            {
                "prompt_tokens": usage["input_total"],
                "completion_tokens": usage["output_total"],
                "prompt_tokens_details": {
                    "cached_tokens": usage.get("cached_input"),
                    "cache_write_tokens": usage.get("cache_written_input"),
                    "audio_tokens": usage.get("audio_input"),
                    "image_tokens": usage.get("image_input"),
                },
                "completion_tokens_details": {
                    "reasoning_tokens": usage.get("reasoning_output"),
                    "audio_tokens": usage.get("audio_output"),
                    "image_tokens": usage.get("image_output"),
                },
            },
        )
        return
    for leaf in LEAVES:
        value = usage.get(leaf)
        if value is not None:
            setattr(call, leaf, int(value))
            call.usage_source = "vendor"
            call.usage_quality = "ok"


def _content(call: Call, record: dict[str, Any]) -> None:
    messages, output, tools = record.get("messages"), record.get("output"), record.get("tools")
    settings = record.get("settings")
    if settings:
        call.params = dumps_sorted(settings)
    if messages is None and output is None and tools is None:
        return
    schema = record.get("response_schema")
    call.content = Content(
        prompt=[_message(each) for each in messages or ()],
        output=[_message(each) for each in output or ()],
        tools_json=dumps(tools) if tools else b"",
        schema_json=dumps(schema) if schema else b"",
        tool_choice=record.get("tool_choice") or "",
        complete=record.get("content_complete") is not False and messages is not None,
    )


def _message(given: dict[str, Any]) -> Message:
    role = given["role"]
    said = given.get("content")
    if said is not None:
        return Message(role, (Part("result" if role == "tool" else "text", said),), given.get("name") or "")
    return Message(role, tuple(map(_part, given["parts"])), given.get("name") or "")


def _part(given: dict[str, Any]) -> Part:
    media = given.get("media")
    if given["kind"] != "media":
        return Part(given["kind"], given.get("text") or "", given.get("name") or "")
    return Part(
        "media",
        "",
        given.get("name") or "",
        Media(
            media["kind"],
            int(media.get("width") or 0),
            int(media.get("height") or 0),
            int(media.get("bytes") or 0),
            media.get("detail") or "",
        )
        if media is not None
        else Media("file"),
    )


# ---- the checks: each refuses by raising, and passes null as if the field were not there


def _refuse(field: str, value: object, why: str) -> NoReturn:
    raise Undecodable("bad_value", f"{field}: {repr(value)[:80]} {why}", "event")


def _text(field: str, value: Any) -> None:
    if type(value) is not str:
        _refuse(field, value, "is not a text")
    if len(value) > MAX_TEXT:
        _refuse(field, value, f"is longer than {MAX_TEXT} characters")


def _long_text(field: str, value: Any) -> None:
    if type(value) is not str:
        _refuse(field, value, "is not a text")


def _boolean(field: str, value: Any) -> None:
    if type(value) is not bool:
        _refuse(field, value, "is not true or false")


def _number(field: str, value: Any) -> None:
    if type(value) not in (int, float) or value < 0:
        _refuse(field, value, "is not a number of 0 or more")


def _rate(field: str, value: Any) -> None:
    if type(value) not in (int, float) or not 0 < value <= 1:
        _refuse(field, value, "is not a number above 0 and up to 1")


def _integer(limit: int) -> Callable[[str, Any], None]:
    def check_integer(field: str, value: Any) -> None:
        whole = type(value) is int or (type(value) is float and value.is_integer())
        if not whole or not 0 <= value <= limit:
            _refuse(field, value, f"is not a whole number of 0 to {limit}")

    return check_integer


def _one_of(options: tuple[str, ...]) -> Callable[[str, Any], None]:
    def check_option(field: str, value: Any) -> None:
        if type(value) is not str or value not in options:
            _refuse(field, value, f"is not one of {', '.join(options)}")

    return check_option


def _object(field: str, value: Any) -> None:
    if type(value) is not dict:
        _refuse(field, value, "is not an object")


def _list_of_objects(field: str, value: Any) -> None:
    if type(value) is not list or any(type(each) is not dict for each in value):
        _refuse(field, value, "is not a list of objects")


def _time(field: str, value: Any) -> None:
    if type(value) is str:
        if not 8 <= len(value) <= 40:
            _refuse(field, value, "is not a time")
    else:
        _number(field, value)


def _tags(field: str, value: Any) -> None:
    _object(field, value)
    for key, said in value.items():
        _long_text(f"{field}.{key}"[:80], said)


_token_count = _integer(MAX_COUNT)


def _check_usage(field: str, value: Any) -> None:
    _object(field, value)
    names = _TOTAL_NAMES if "input_total" in value or "output_total" in value else _LEAF_NAMES
    for key, tokens in value.items():
        if key not in names:
            _refuse(f"usage.{key}"[:80], tokens, "does not belong into this usage")
        if tokens is not None:
            _token_count(f"usage.{key}", tokens)
    if names is _TOTAL_NAMES:
        for key in _TOTALS:
            if value.get(key) is None:
                _refuse(f"usage.{key}", None, "is missing: the two totals belong together")


def _check_cost(field: str, value: Any) -> None:
    _fields(field, value, _COST, ("usd",))


_DECIMAL: Final = re.compile(r"^[0-9]{1,6}(\.[0-9]{1,30})?$")


def _usd(field: str, value: Any) -> None:
    if type(value) is str:
        if not _DECIMAL.search(value):
            _refuse(field, value, "is not a decimal number")
        return
    _number(field, value)
    if value > 999_999:
        _refuse(field, value, "is more than 999,999 dollars")


def _messages(field: str, value: Any) -> None:
    if type(value) is not list:
        _refuse(field, value, "is not a list")
    for message in value:
        _fields(field, message, _MESSAGE, ("role",))
        if (message.get("content") is None) == (message.get("parts") is None):
            _refuse(field, message, "must have either content or parts")


def _parts(field: str, value: Any) -> None:
    if type(value) is not list:
        _refuse(field, value, "is not a list")
    for part in value:
        _fields(field, part, _PART, ("kind",))


def _media(field: str, value: Any) -> None:
    _fields(field, value, _MEDIA, ("kind",))


Checks = dict[str, Callable[[str, Any], None]]

_MEDIA: Final[Checks] = {
    "kind": _one_of(MEDIA_KINDS),
    "width": _integer(1_000_000),
    "height": _integer(1_000_000),
    "bytes": _integer(MAX_COUNT),
    "detail": _text,
}
_PART: Final[Checks] = {"kind": _one_of(PART_KINDS), "text": _long_text, "name": _text, "media": _media}
_MESSAGE: Final[Checks] = {"role": _one_of(ROLES), "content": _long_text, "parts": _parts, "name": _text}
_COST: Final[Checks] = {"usd": _usd, "by": _one_of(COST_SOURCES)}
_EVENT: Final[Checks] = {
    "schema": _one_of((SCHEMA,)),
    **dict.fromkeys(_TEXTS, _text),
    **{field: _integer(limit) for field, limit in _INTEGERS.items()},
    **dict.fromkeys(BOOLEANS, _boolean),
    **dict.fromkeys(("duration_ms", "ttft_ms"), _number),
    **dict.fromkeys(("started_at", "ended_at"), _time),
    **dict.fromkeys(("messages", "output"), _messages),
    "sampling_rate": _rate,
    "operation": _one_of(OPERATIONS),
    "status": _one_of(STATUSES),
    "tags": _tags,
    "usage": _check_usage,
    "reported_cost": _check_cost,
    "tools": _list_of_objects,
    "tool_choice": _text,
    "response_schema": _object,
    "settings": _object,
}


def _fields(field: str, value: Any, checks: Checks, required: tuple[str, ...]) -> None:
    if type(value) is not dict:
        _refuse(field, value, "is not an object")
    inside = f"{field}." if field else ""
    for key, each in value.items():
        check_value = checks.get(key)
        if check_value is None:
            _refuse(f"{inside}{key}"[:80], each, "is no field of the event")
        if each is not None:
            check_value(inside + key, each)
    for key in required:
        if value.get(key) is None:
            _refuse(inside + key, None, "is missing")


def check(event: dict[str, Any]) -> None:
    """Raise ``Undecodable('bad_value')``, naming field and value, where an event breaks its schema."""
    _fields("", event, _EVENT, ("schema", "model"))
