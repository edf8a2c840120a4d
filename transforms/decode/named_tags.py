"""Tags that the configuration names: a header, an attribute of telemetry, a baggage entry, a label, whatever format it stands in.

They come on top of what a format takes for tags by itself. What the record itself has as a tag of that name stands. Names
that hold secrets, or texts of prompts and answers, are refused when they are configured; values are scrubbed like all tags.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from schemas.call import Call
from transforms.decode.context import promote_tags
from transforms.decode.exchange import parse_json
from transforms.decode.scrub import is_secret_name
from transforms.decode.values import mapping, string_tags

MAX_BAGGAGE: Final = 8192
"""Characters of a ``baggage`` header that are looked at: what W3C asks of everybody who passes one on."""


class NamedTag(NamedTuple):
    """Take what is called ``name`` in the place ``kind`` as the tag ``tag``."""

    kind: str
    name: str
    tag: str


_SPOKEN: Final = (
    "gen_ai.input.",
    "gen_ai.output.",
    "gen_ai.system_instructions",
    "gen_ai.prompt",
    "gen_ai.completion",
    "gen_ai.tool.",
    "llm.input_messages",
    "llm.output_messages",
    "llm.prompt",
    "llm.completions",
    "input.value",
    "output.value",
    "ai.prompt",
    "ai.response.",
    "ai.toolCall",
    "mlflow.span",
    "traceloop.entity.input",
    "traceloop.entity.output",
    "langfuse.observation.input",
    "langfuse.observation.output",
)


def named_tag(text: str) -> NamedTag:
    """``KIND:NAME`` or ``KIND:NAME=TAG``, such as ``header:x-team=squad``.

    Raises:
        ValueError: it is not of that form, or what it names holds a secret.
    """
    kind, _, rest = text.partition(":")
    name, renamed, tag = (each.strip() for each in rest.partition("="))
    kind = kind.strip().lower()
    if kind not in _PLACES or not name or (renamed and not tag):
        raise ValueError(f"not KIND:NAME or KIND:NAME=TAG with a kind of {', '.join(_PLACES)}")
    tag = tag or name
    if is_secret_name(name) or is_secret_name(tag):
        raise ValueError("holds a secret, which is never kept")
    if kind == "attribute" and name.startswith(_SPOKEN):
        raise ValueError("holds texts of prompts and answers, which are never kept")
    return NamedTag(kind, name.lower() if kind == "header" else name, tag)


def take_tags(call: Call, wanted: tuple[NamedTag, ...]) -> None:
    """Give a call the tags that are named and that its record has. Expects the headers of its transport on it."""
    beside = call.beside or {}
    found: dict[str, str] = {}
    for kind, name, tag in wanted:
        value = _PLACES[kind](call, beside, name)
        if value is not None:
            string_tags({tag: value}, found)
    call.__dict__.pop("beside", None)
    if found:
        promote_tags(call, {**found, **(call.tags or {})})


_Beside = Mapping[str, Any]


def _header(call: Call, beside: _Beside, name: str) -> Any:
    return (call.headers or {}).get(name)


def _attribute(call: Call, beside: _Beside, name: str) -> Any:
    return mapping(beside.get("attribute")).get(name)


def _resource(call: Call, beside: _Beside, name: str) -> Any:
    value = mapping(beside.get("resource")).get(name)
    if value is None:  # of an entry of Cloud Logging
        value = mapping(mapping(mapping(beside.get("record")).get("resource")).get("labels")).get(name)
    return value


def _baggage(call: Call, beside: _Beside, name: str) -> Any:
    value = _attribute(call, beside, f"baggage.{name}")
    return _in_baggage((call.headers or {}).get("baggage", ""), name) if value is None else value


def _in_baggage(header: str, name: str) -> str | None:
    """One entry of a header as https://www.w3.org/TR/baggage/ has it: ``tenant=acme;property, plan=pro%20plus``."""
    if name not in header:
        return None
    for entry in header[:MAX_BAGGAGE].split(","):
        key, found, value = entry.partition(";")[0].partition("=")
        if found and key.strip() == name:
            return unquote(value.strip())
    return None


_LABELS: Final = ("labels", "tags")
_METADATA: Final = ("metadata", "requestMetadata")
_WITHIN: Final = ("requester_metadata", "spend_logs_metadata")
"""Where LiteLLM keeps what a caller sent as metadata."""


def _label(call: Call, beside: _Beside, name: str) -> Any:
    value = _of_record(beside, _LABELS, name)
    # labels of a log entry and attributes of a message stand beside the record, like headers
    return (call.headers or {}).get(name.lower()) if value is None else value


def _metadata(call: Call, beside: _Beside, name: str) -> Any:
    value = _of_record(beside, _METADATA, name)
    if value is None:
        value = mapping(parse_json(_attribute(call, beside, "metadata"))).get(name)
    return value


def _of_record(beside: _Beside, places: tuple[str, ...], name: str) -> Any:
    """What a record says in one of the places, else its request, which may be logged with its transport around it."""
    record = mapping(beside.get("record"))
    request = mapping(parse_json(record.get("request")))
    for holder in (record, request, mapping(parse_json(request.get("body")))):
        for place in places:
            some = mapping(parse_json(holder.get(place)))
            for inner in (some, *(mapping(some.get(each)) for each in _WITHIN)):
                if inner.get(name) is not None:
                    return inner[name]
    return None


_PLACES: Final[dict[str, Callable[[Call, _Beside, str], Any]]] = {
    "header": _header,
    "resource": _resource,
    "attribute": _attribute,
    "baggage": _baggage,
    "label": _label,
    "metadata": _metadata,
}
