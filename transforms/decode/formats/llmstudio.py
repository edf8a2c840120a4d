"""LLMstudio's tracker (TensorOpsAI): what its SDK posts to ``/api/tracking/logs``, and what that address gives back.

Its metrics include cached input in input and reasoning in output, and its total counts reasoning twice. So does its cost, which
also takes half of the price for every cached token: it is kept as reported, flagged where reasoning is in it, and never used.
Records of before vendors' usage was read hold estimates of one tokenizer for all vendors. A record is written when its call ends.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from transforms.decode import times
from transforms.decode import usage as usages
from transforms.decode.bodies import openai_chat
from transforms.decode.context import promote_tags
from transforms.decode.errors import Undecodable
from transforms.decode.exchange import Exchange, parse_json
from transforms.decode.values import count, mapping, milliseconds, name, pico_dollars, sequence, string_tags
from transforms.decode.web import Address

DESCRIBES: Final = "LLMstudio tracker logs, as posted and as given back"
SIGNS: Final[tuple[str, ...]] = ("chat_input",)

_PROVIDERS: Final = {"vertexai": "vertex"}


def detect(record: dict[str, Any]) -> bool:
    return "metrics" in record and "chat_input" in record and "chat_output" in record


def decode(record: dict[str, Any]) -> list[Call]:
    """The call a record is."""
    get = record.get
    call = Call()
    provider = name(get("provider")).lower()
    call.provider = _PROVIDERS.get(provider, provider) or "unknown"
    call.api, call.operation = openai_chat.API, "chat"
    metrics = mapping(parse_json(get("metrics")))
    _texts(call, record)
    call.model_requested = name(get("model"))
    call.model = name(get("deployment")) or call.model_requested
    if provider == "azure" and not call.model.startswith(call.model_requested):
        call.deployment, call.model = call.model, call.model_requested  # a deployment of a name of its own
    if not call.model:
        raise Undecodable("bad_value", "model: it is missing", "llmstudio")
    call.session_id = name(get("session_id"))
    call.provider_call_id = name(get("id"))
    if "log_id" in record:
        call.request_id = name(get("log_id"))  # of the tracker's clock or its table, so it repeats
    tags: dict[str, str] = {}
    string_tags(mapping(parse_json(get("extras"))), tags)
    if tags:
        promote_tags(call, tags)
    _when(call, record, metrics)
    _usage(call, metrics)
    return [call]


def _texts(call: Call, record: dict[str, Any]) -> None:
    """Messages and settings. A context that is no list of messages is the prompt itself."""
    asked = parse_json(record.get("context"))
    messages = sequence(asked)
    if not messages or any(type(mapping(each).get("role")) is not str for each in messages):
        messages = [{"role": "user", "content": record.get("chat_input")}]
    choices = sequence(parse_json(record.get("choices")))
    answer = record.get("chat_output")
    request = {**mapping(parse_json(record.get("parameters"))), "messages": messages}
    reply = {"choices": choices or [{"message": {"role": "assistant", "content": answer}}]}
    x = Exchange(request, reply, None, Address(), {})
    openai_chat.ask(call, x)
    openai_chat.reply(call, x)


def _when(call: Call, record: dict[str, Any], metrics: dict[str, Any]) -> None:
    for field, column in (("latency_s", "duration_ms"), ("time_to_first_token_s", "ttft_ms")):
        seconds = milliseconds(metrics.get(field))
        if seconds is not None:
            setattr(call, column, round(seconds * 1000, 6))
    written = record.get("timestamp") or record.get("created_at")
    times.end(call, written)
    times.settle(call)
    if call.event_time and isinstance(written, str) and "." not in written:
        call.time_quality = "second"


def _usage(call: Call, metrics: dict[str, Any]) -> None:
    reasoning = count(metrics.get("reasoning_tokens"), "metrics.reasoning_tokens")
    usages.openai(
        call,
        {
            "prompt_tokens": metrics.get("input_tokens"),
            "completion_tokens": metrics.get("output_tokens"),
            "prompt_tokens_details": {"cached_tokens": metrics.get("cached_tokens")},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        },
    )
    if call.usage_source != "none":
        call.usage_source = "gateway"
        call.vendor_total = total = count(metrics.get("total_tokens"), "metrics.total_tokens")
        plain = (call.vendor_input or 0) + (call.vendor_output or 0)
        if total is not None and total not in (plain, plain + (reasoning or 0)):
            usages.inconsistent(call, "total_mismatch")
        if "cached_tokens" not in metrics and "reasoning_tokens" not in metrics:
            call.flag("estimated_usage")
    cost = pico_dollars(metrics.get("cost_usd"))
    if cost:
        call.reported_cost, call.reported_cost_by = cost, "gateway"
        if reasoning:
            call.flag("cost_counts_reasoning_twice")
