"""Langfuse: events as its SDKs send them, one by one or in batches, and observations as it exports them.

A generation is told by a ``generation-create`` and any number of updates, which may come first; they are parts of one call, and
what is later stands. Traces, spans and scores are no calls; what a trace of the same batch says of who asked goes to its calls.

Usage that Langfuse stores is disjoint: from OpenAI's figures it takes every detail away from ``input`` and ``output``
(https://langfuse.com/docs/model-usage-and-cost). So ``input`` is without ``input_cached_tokens``; and what SDKs send in keys of
their own is taken so, too. A ``total`` beside them is only compared.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from schemas.call import Call
from schemas.part import Part
from transforms.decode import times
from transforms.decode import usage as usages
from transforms.decode.bodies import openai_chat
from transforms.decode.content import params
from transforms.decode.context import promote_tags, read_tags
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.exchange import Exchange, parse_json
from transforms.decode.values import count, mapping, milliseconds, name, pico_dollars, sequence, string_tags, timestamp
from transforms.decode.web import Address, provider_of_body

EVENTS_DESCRIBE: Final = "Langfuse ingestion events, alone or in a batch; creation and updates of a generation are parts of one"
EVENTS_SIGNS: Final[tuple[str, ...]] = ("batch", "body")
ROWS_DESCRIBE: Final = "Langfuse observations as exported or asked for; generations and embeddings are calls, spans are ignored"
ROWS_SIGNS: Final[tuple[str, ...]] = ("usage_details", "usageDetails")

_KINDS: Final = frozenset(
    f"{entity}-{verb}"
    for entity in ("trace", "span", "generation", "event", "observation", "score")
    for verb in ("create", "update")
) | {"sdk-log"}
_BILLED: Final = frozenset({"GENERATION", "EMBEDDING"})


def is_event(record: dict[str, Any]) -> bool:
    """Whether a record is a batch of events, or one."""
    batch = record.get("batch")
    if type(batch) is list:
        return bool(batch) and name(mapping(batch[0]).get("type")) in _KINDS
    return name(record.get("type")) in _KINDS and type(record.get("body")) is dict


def is_row(record: dict[str, Any]) -> bool:
    """Whether a record is an observation, in either spelling."""
    return "type" in record and ("trace_id" in record or "traceId" in record or "provided_model_name" in record)


def decode_events(record: dict[str, Any]) -> Iterable[Part | Skipped | Undecodable]:
    """The outcome of every event."""
    batch = record.get("batch")
    events = batch if type(batch) is list else [record]
    traces = {body["id"]: body for body in _traces(events)}
    for event in events:
        try:
            yield _part(mapping(event), traces)
        except (Skipped, Undecodable) as problem:
            yield problem


def _traces(events: list[Any]) -> Iterable[dict[str, Any]]:
    for event in events:
        body = mapping(mapping(event).get("body"))
        if mapping(event).get("type") == "trace-create" and type(body.get("id")) is str:
            yield body


def _part(event: dict[str, Any], traces: dict[str, dict[str, Any]]) -> Part:
    kind, body = event.get("type"), mapping(event.get("body"))
    entity, _, verb = kind.partition("-") if isinstance(kind, str) else ("", "", "")
    if entity != "generation" and not (entity == "observation" and _billed(body.get("type"))):
        raise Skipped("roll_up")
    number = name(body.get("id"))
    if not number:
        raise Undecodable("bad_value", f"body.id: {str(body.get('id'))[:60]!r} names no generation", "langfuse")
    call = _observation(body, part=True)
    trace = traces.get(name(body.get("traceId")))
    if trace is not None:
        _who(call, trace, trace.get("name"))
    return Part(f"langfuse:{number}", verb, call, rank=0 if verb == "create" else 1)


def decode_row(record: dict[str, Any]) -> list[Call]:
    """The call an observation is."""
    if not _billed(record.get("type")):
        raise Skipped("roll_up")
    call = _observation(record)
    _who(call, record, _either(record, "traceName", "trace_name"))
    if not call.model:
        call.flag("no_model")
    return [call]


def _billed(kind: Any) -> bool:
    return isinstance(kind, str) and kind.upper() in _BILLED


def _either(record: dict[str, Any], camel: str, snake: str) -> Any:
    """A field by its name in the API, or the one in exports, where an empty text stands for null."""
    value = record.get(camel)
    return (record.get(snake) if value is None else value) or None


def _observation(record: dict[str, Any], part: bool = False) -> Call:
    """What a record tells; where it is only a part, nothing is concluded from what it leaves out."""
    call = Call()
    call.api = openai_chat.API
    call.operation = "embedding" if str(record.get("type")).upper() == "EMBEDDING" else "chat"
    call.model = call.model_requested = name(record.get("provided_model_name") or record.get("model"))
    call.provider_call_id = call.span_id = name(record.get("id"))
    call.trace_id = name(_either(record, "traceId", "trace_id"))
    call.parent_span_id = name(_either(record, "parentObservationId", "parent_observation_id"))
    call.step = name(record.get("name"))
    call.template = name(_either(record, "promptName", "prompt_name"))
    call.environment = name(record.get("environment"))
    _when(call, record, part)
    _texts(call, record, part)
    metadata = mapping(parse_json(record.get("metadata")))
    tags: dict[str, str] = {}
    string_tags(metadata, tags)
    if tags:
        promote_tags(call, tags)
    provider = name(metadata.get("ls_provider")).lower()
    call.provider = provider or (provider_of_body("", call.model, {}) if call.model or not part else "")
    if record.get("level") == "ERROR":
        call.status, call.error_type = "error", "error"
    _usage(call, record)
    costs = mapping(parse_json(_either(record, "costDetails", "cost_details")))
    cost = pico_dollars(costs.get("total") or _either(record, "totalCost", "total_cost"))
    if cost:  # zero where Langfuse knows no price
        call.reported_cost, call.reported_cost_by = cost, "gateway"
    return call


def _when(call: Call, record: dict[str, Any], part: bool) -> None:
    times.start(call, _either(record, "startTime", "start_time"))
    times.end(call, _either(record, "endTime", "end_time"))
    seconds = milliseconds(record.get("latency"))
    if seconds is not None:
        call.duration_ms = round(seconds * 1000, 6)
    first = timestamp(_either(record, "completionStartTime", "completion_start_time"))
    if first is not None and call.event_time and first[0] >= call.event_time:
        call.ttft_ms = (first[0] - call.event_time) / 1000
    if "time_to_first_token" in record and call.ttft_ms is None:
        seconds = milliseconds(record["time_to_first_token"])
        call.ttft_ms = None if seconds is None else round(seconds * 1000, 6)
    if call.event_time or not part:  # another part knows the start
        times.settle(call)


def _texts(call: Call, record: dict[str, Any], part: bool) -> None:
    """Prompt and answer, where they have the shape of chat messages or are plain texts, and the settings."""
    asked, answer = parse_json(record.get("input")), parse_json(record.get("output"))
    settings = mapping(parse_json(_either(record, "modelParameters", "model_parameters")))
    whole = mapping(asked)
    messages = whole.get("messages") if "messages" in whole else [asked] if "role" in whole else asked
    if isinstance(messages, str) and messages:
        messages = [{"role": "user", "content": messages}]
    if isinstance(answer, str) and answer:
        answer = {"role": "assistant", "content": answer}
    said = [answer] if "role" in mapping(answer) else sequence(answer)
    known = _are_messages(messages) and _are_messages(said)
    if known and (messages or said):
        tools: dict[str, Any] = {key: whole[key] for key in ("tools", "tool_choice") if key in whole}
        reply = {"choices": [{"message": each} for each in said]}
        x = Exchange({**settings, **tools, "messages": messages}, reply, None, Address(), {})
        model = call.model, call.model_requested, call.provider_call_id
        openai_chat.ask(call, x)
        openai_chat.reply(call, x)
        call.model, call.model_requested, call.provider_call_id = model
        if call.content is not None and not messages and not part:
            call.content.complete = False
    elif settings:
        call.params = params(settings)


def _are_messages(given: Any) -> bool:
    return given is None or (type(given) is list and all(type(mapping(each).get("role")) is str for each in given))


def _who(call: Call, record: dict[str, Any], agent: Any) -> None:
    """Who asked: of a trace, or of an exported row, which carries its trace's fields."""
    call.end_user = call.end_user or name(_either(record, "userId", "user_id"))
    call.session_id = call.session_id or name(_either(record, "sessionId", "session_id"))
    call.environment = call.environment or name(record.get("environment"))
    call.agent = call.agent or name(agent)
    tags = dict(call.tags or {})
    string_tags(mapping(parse_json(record.get("metadata"))), tags)
    read_tags(parse_json(record.get("tags")), tags)
    if tags and tags != call.tags:
        promote_tags(call, tags)


# ---- usage

_TOKENS: Final = (None, "", "TOKENS")


def _usage(call: Call, record: dict[str, Any]) -> None:
    details = mapping(parse_json(_either(record, "usageDetails", "usage_details")))
    if details:
        if "prompt_tokens" in details or "input_tokens" in details:
            usages.openai(call, details)
        else:
            stored(call, details)
    else:
        _legacy(call, mapping(parse_json(record.get("usage"))))
    if call.usage_source != "none":
        call.usage_source = "gateway"


def _legacy(call: Call, usage: dict[str, Any]) -> None:
    """What SDKs sent before ``usageDetails``: OpenAI's object, or two figures and a unit."""
    if usage.get("unit") not in _TOKENS:
        return
    if "prompt_tokens" in usage:
        usages.openai(call, usage)
    elif "promptTokens" in usage or "completionTokens" in usage:
        given = {"prompt_tokens": usage.get("promptTokens"), "completion_tokens": usage.get("completionTokens")}
        usages.openai(call, given | {"total_tokens": usage.get("totalTokens")})
    else:
        stored(call, {key: usage[key] for key in ("input", "output", "total") if usage.get(key) is not None})


def stored(call: Call, details: dict[str, Any]) -> None:
    """Disjoint counts by name; what is neither input nor output (a number of searches) is no tokens."""
    leaves: dict[str, int] = {}
    for key, value in details.items():
        leaf = _leaf(key)
        tokens = count(value, f"usage.{key}"[:80]) if leaf else None
        if leaf and tokens is not None:
            leaves[leaf] = leaves.get(leaf, 0) + tokens
    total = count(details.get("total"), "usage.total")
    usages.leaves(call, leaves, total)


def _leaf(key: str) -> str:
    """The leaf that one of Langfuse's keys means; empty for none."""
    low = key.lower()
    if "cache" in low or "cached" in low:
        if "creation" in low or "write" in low:
            return f"input_cache_write_{'5m' if '5m' in low else '1h' if '1h' in low else 'other'}"
        return "input_cache_read" if not low.startswith("output") else ""
    side = "input" if low.startswith(("input", "prompt")) else "output" if low.startswith(("output", "completion")) else ""
    if not side:
        return ""
    if "reasoning" in low and side == "output":
        return "output_reasoning"
    for medium in ("audio", "image"):
        if medium in low:
            return f"{side}_{medium}"
    return "input_fresh" if side == "input" else "output_visible"
