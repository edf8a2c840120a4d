"""What a logger knows beside the bodies: times, who asked, labels. Shared by the formats that write such fields flat.

Field names are those loggers use; the first of several that says something wins.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from transforms.decode import times
from transforms.decode.scrub import set_tags
from transforms.decode.values import count, mapping, milliseconds, name, string_tags

_TEXTS: Final = {
    "tenant": "tenant",
    "provider": "provider",
    "team": "team",
    "app": "app",
    "application": "app",
    "service": "app",
    "service_name": "app",
    "service.name": "app",
    "feature": "feature",
    "environment": "environment",
    "env": "environment",
    "cost_center": "cost_center",
    "cost_centre": "cost_center",
    "project": "project",
    "project_id": "project",
    "account": "account",
    "account_id": "account",
    "organization": "account",
    "organization_id": "account",
    "subscription_id": "account",
    "user": "end_user",
    "user_id": "end_user",
    "end_user": "end_user",
    "api_key_alias": "api_key_alias",
    "template": "template",
    "prompt_template": "template",
    "agent": "agent",
    "agent_name": "agent",
    "step": "step",
    "trace_id": "trace_id",
    "span_id": "span_id",
    "parent_span_id": "parent_span_id",
    "session_id": "session_id",
    "conversation_id": "session_id",
    "request_id": "request_id",
    "region": "region",
    "deployment": "deployment",
    "deployment_type": "deployment_type",
}
"""Fields of a record, and of its tags, that have a column of their own."""

_FROM_TAGS: Final = {
    key: field
    for key, field in _TEXTS.items()
    if field
    not in ("tenant", "provider", "region", "deployment", "deployment_type", "project", "account", "request_id", "span_id")
}
"""Tags that fill a column the record itself leaves empty. Who pays is not for a tag to say, nor what was called."""

COLUMN_TAGS: Final = frozenset(_FROM_TAGS)

_STARTS: Final = frozenset({"started_at", "start_time", "startTime", "time", "timestamp"})
_ENDS: Final = frozenset({"ended_at", "end_time", "endTime", "completed_at"})
_TAGS: Final = frozenset({"tags", "metadata", "labels"})
_HEADERS: Final = frozenset({"headers", "request_headers", "response_headers"})
_NUMBERS: Final = frozenset({"duration_ms", "ttft_ms", "attempt", "sampling_rate"})
_FLAGS: Final = frozenset({"stream", "batch", "gateway_cache_hit", "spillover"})

_OVER_ADDRESS: Final = frozenset({"provider", "region", "deployment", "project", "account"})
"""What the logger says of these stands above what the address tells."""

_KINDS: Final = {
    field: kind
    for kind, fields in (
        ("text", frozenset(_TEXTS)),
        ("start", _STARTS),
        ("end", _ENDS),
        ("tags", _TAGS),
        ("headers", _HEADERS),
        ("number", _NUMBERS),
        ("flag", _FLAGS),
    )
    for field in fields
}


def read_context(call: Call, record: dict[str, Any]) -> bool:
    """Write the fields around the bodies on a call, in one walk over the record's keys; whether there are headers."""
    start = end = None
    tags: dict[str, str] | None = None
    headers = False
    said = call.__dict__
    for field, value in record.items():
        kind = _KINDS.get(field)
        if kind is None or value is None or value == "":
            continue
        if kind == "text":
            column = _TEXTS[field]
            if not said.get(column) or column in _OVER_ADDRESS:
                short = value if type(value) is str and len(value) < 256 else name(value)
                if short:
                    said[column] = short
        elif kind == "flag":
            if value is True:
                said[field] = True
        elif kind == "number":
            _number(call, field, value)
        elif kind == "start":
            if start is None or field == "started_at":
                start = value
        elif kind == "end":
            if end is None or field == "ended_at":
                end = value
        elif kind == "headers":
            headers = True
        else:
            tags = {} if tags is None else tags
            read_tags(value, tags)
    if "provider" in record:
        call.provider = call.provider.lower()
        if call.provider == "ollama" and call.endpoint_host == "ollama.com":  # the label of the software, not of who serves
            call.provider = "ollama-cloud"
    if start is not None:
        times.start(call, start)
    if end is not None:
        times.end(call, end)
    service = name(record.get("service") or record.get("service_name") or record.get("service.name"))
    if service:  # an app that is named beside it goes before it in the column, so it is kept as a tag, too
        tags = {"service": service, **(tags or {})}
    if tags:
        promote_tags(call, tags)
    return headers


def _number(call: Call, field: str, value: Any) -> None:
    if field == "attempt":
        call.attempt = min(count(value, "attempt") or 0, 255)
        return
    number = milliseconds(value)
    if field != "sampling_rate" or (number is not None and 0 < number <= 1):
        setattr(call, field, number)


def read_tags(value: Any, into: dict[str, str]) -> None:
    """Labels as an object, or as a list of ``name:value`` and bare names."""
    if type(value) is dict:
        string_tags(value, into)
    elif type(value) is list:
        for each in value:
            if type(each) is str and each:
                key, _, said = each.partition(":")
                into.setdefault(key.strip(), said.strip() or "true")


def promote_tags(call: Call, tags: dict[str, str]) -> None:
    """Give the call its tags, and fill columns it has no value for from those of their names.

    However the service is spelt, its tag is ``service``: rules look at one name.
    """
    if "service" not in tags:
        service = tags.get("service.name") or tags.get("service_name")
        if service:
            tags = {"service": service, **tags}
    set_tags(call, tags)
    for key, value in (call.tags or {}).items():
        column = _FROM_TAGS.get(key)
        if column and not getattr(call, column):
            setattr(call, column, value)


def request_tags(call: Call, request: dict[str, Any]) -> None:
    """Labels the caller sent to the vendor: OpenAI's ``metadata``, Bedrock's ``requestMetadata``, Vertex' ``labels``."""
    merged: dict[str, str] = dict(call.tags) if call.tags else {}
    before = len(merged)
    for key in ("metadata", "requestMetadata", "labels"):
        string_tags(mapping(request.get(key)), merged)
    if len(merged) != before:
        promote_tags(call, merged)
