"""LiteLLM's StandardLoggingPayload, as its callbacks and object stores write it.

LiteLLM's own figures are kept beside: ``response_cost`` is the gateway's word, not a price. Usage is taken from the full
usage object where there is one, since ``prompt_tokens`` includes cache reads for some call types and not for others.
``cache_hit`` is LiteLLM's own response cache: such a call paid nobody.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from transforms.decode import usage
from transforms.decode.bodies import openai_chat
from transforms.decode.endpoints import endpoint
from transforms.decode.registry import Format
from transforms.decode.values import add_tags, instant, mapping, number, set_time, text, tokens, whole

_OPERATIONS: Final = {
    "embedding": "embedding",
    "aembedding": "embedding",
    "rerank": "rerank",
    "arerank": "rerank",
    "image_generation": "image",
    "aimage_generation": "image",
    "transcription": "audio",
    "speech": "audio",
    "text_completion": "completion",
    "atext_completion": "completion",
}
_PROVIDERS: Final = {
    "vertex_ai": "vertex",
    "vertex_ai_beta": "vertex",
    "bedrock_converse": "bedrock",
    "azure_ai": "azure",
    "cohere_chat": "cohere",
    "together_ai": "together",
    "ollama_chat": "ollama",
    "hosted_vllm": "vllm",
}


def detect(record: dict[str, Any]) -> bool:
    return "model_map_information" in record or ("call_type" in record and "custom_llm_provider" in record)


def decode(record: dict[str, Any], tenant: str) -> list[Call]:
    """One call."""
    call = Call()
    call.api = text(record.get("call_type"), 40)
    call.operation = _OPERATIONS.get(call.api, "chat")
    provider = text(record.get("custom_llm_provider"), 60)
    call.provider = _PROVIDERS.get(provider, provider) or "unknown"
    hidden, metadata = mapping(record.get("hidden_params")), mapping(record.get("metadata"))
    response = record.get("response")
    answer = mapping(response)
    call.model_requested = text(record.get("model_group") or record.get("model"))
    call.model = text(answer.get("model")) or text(hidden.get("litellm_model_name")) or text(record.get("model"))
    call.provider_call_id = text(answer.get("id") or record.get("id"))
    call.request_id = text(record.get("litellm_call_id") or record.get("id"))
    call.deployment = text(record.get("model_id"))
    if isinstance(record.get("api_base"), str):
        call.endpoint_host = endpoint(record["api_base"]).host
    _when(call, record)
    _outcome(call, record)
    _who(call, record, metadata)
    call.stream = record.get("stream") is True
    asked = mapping(record.get("model_parameters"))
    call.max_tokens = whole(asked.get("max_completion_tokens", asked.get("max_tokens")))
    call.service_tier = text(answer.get("service_tier"), 40)
    call.gateway_cache_hit = str(record.get("cache_hit")).lower() == "true"
    _texts(call, record, asked, answer, response)
    _usage(call, record, answer, metadata)
    cost = number(record.get("response_cost"))
    if cost is not None and 0 <= cost < 9_000_000:
        call.reported_cost, call.reported_cost_by = usage.pico(cost), "gateway"
    return [call]


def _when(call: Call, record: dict[str, Any]) -> None:
    set_time(call, record.get("startTime"))
    end, first = instant(record.get("endTime")), instant(record.get("completionStartTime"))
    if end:
        call.end_time = end[0]
    if call.event_time and end:
        call.duration_ms = (end[0] - call.event_time) / 1000
    if call.event_time and first and first[0] >= call.event_time:
        call.ttft_ms = (first[0] - call.event_time) / 1000


def _outcome(call: Call, record: dict[str, Any]) -> None:
    if record.get("status") == "failure":
        error = mapping(record.get("error_information"))
        call.status = "error"
        call.error_type = text(error.get("error_class") or error.get("error_code"), 80)
        call.http_status = whole(error.get("error_code")) or 0


def _who(call: Call, record: dict[str, Any], metadata: dict[str, Any]) -> None:
    call.team = text(metadata.get("user_api_key_team_alias") or metadata.get("user_api_key_team_id"), 256)
    call.api_key_alias = text(metadata.get("user_api_key_alias"), 256)
    call.end_user = text(record.get("end_user") or metadata.get("user_api_key_end_user_id"), 256)
    call.trace_id = text(record.get("trace_id"), 256)
    asked = mapping(metadata.get("requester_metadata"))
    logged = mapping(metadata.get("spend_logs_metadata"))
    for name in ("app", "feature", "environment", "template", "agent", "step", "session_id"):
        setattr(call, name, text(asked.get(name) or logged.get(name), 256))
    add_tags(call, logged, asked, record.get("request_tags"))


def _texts(call: Call, record: dict[str, Any], asked: dict[str, Any], answer: dict[str, Any], response: Any) -> None:
    messages = record.get("messages")
    if not isinstance(messages, list) or call.operation not in ("chat", "completion"):
        return
    request = {
        "messages": messages,
        **{k: asked[k] for k in ("tools", "functions", "tool_choice", "response_format") if k in asked},
    }
    spare = Call()
    openai_chat.decode(spare, request, {k: v for k, v in answer.items() if k != "usage"}, None)
    call.content, call.stop_reason = spare.content, spare.stop_reason
    if isinstance(response, str) or not answer:
        call.flag("answer_not_logged")


def _usage(call: Call, record: dict[str, Any], answer: dict[str, Any], metadata: dict[str, Any]) -> None:
    if call.status == "error":
        return  # LiteLLM writes its own estimate of the prompt; nobody bills it
    found = mapping(metadata.get("usage_object")) or mapping(answer.get("usage"))
    native = "input_tokens" in found and "prompt_tokens" not in found
    if native and call.provider in ("anthropic", "bedrock", "vertex"):
        usage.anthropic(call, found)
    elif found.get("cache_creation_input_tokens") or found.get("cache_read_input_tokens"):
        _cached_claude(call, found)
    elif found:
        usage.openai(call, found)
    else:
        plain = {name: tokens(record, name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
        if any(plain.values()):
            usage.openai(call, plain)
            call.usage_source = "gateway"


def _cached_claude(call: Call, found: dict[str, Any]) -> None:
    """Chat-shaped usage of Anthropic models: ``prompt_tokens`` includes reads and writes, if it can hold them."""
    read, written = tokens(found, "cache_read_input_tokens") or 0, tokens(found, "cache_creation_input_tokens") or 0
    total = tokens(found, "prompt_tokens") or 0
    fresh = total - read - written if total >= read + written else total
    shaped = {**found, "input_tokens": fresh, "output_tokens": found.get("completion_tokens")}
    details = mapping(found.get("completion_tokens_details"))
    if details.get("reasoning_tokens"):
        shaped["output_tokens_details"] = {"thinking_tokens": details["reasoning_tokens"]}
    tier = call.service_tier
    usage.anthropic(call, shaped)
    call.vendor_input, call.vendor_total = total, tokens(found, "total_tokens")
    call.service_tier = call.service_tier or tier


FORMAT: Final = Format("litellm", "LiteLLM's StandardLoggingPayload.", detect, decode)
