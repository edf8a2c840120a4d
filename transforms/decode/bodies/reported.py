"""Bodies whose texts are not read yet: carried with the usage they report plainly, else refused in as many words.

Gemini and Vertex, Bedrock Converse and InvokeModel, Ollama, Cohere, completions, images, audio, rerank and others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from schemas.call import Call
from transforms.decode import usage
from transforms.decode.bodies.common import finish_model, stops
from transforms.decode.values import Undecodable, mapping, sequence, set_time, text, tokens, whole

_BEDROCK_HEADERS: Final = "x-amzn-bedrock-"


def decode(call: Call, request: dict[str, Any], response: Any, chunks: list[Any] | None) -> None:
    """Fill model, outcome and usage.

    Raises:
        Undecodable: the body reports no plain usage.
    """
    call.operation = call.operation or "chat"
    call.model_requested = call.model_requested or text(request.get("model") or request.get("modelId"))
    call.stream = request.get("stream") is True or chunks is not None
    parts = [mapping(chunk) for chunk in chunks] if chunks is not None else [mapping(response)]
    for part in parts:
        _identity(call, part)
    finish_model(call, {})
    if not any(_usage(call, mapping(part)) for part in reversed(parts)):
        raise Undecodable("unsupported_body", f"a body of {call.api} that reports no plain usage", call.api)
    call.flag("texts_not_read")
    stops(call)


def _identity(call: Call, part: dict[str, Any]) -> None:
    part = mapping(part.get("message")) or part if "message_start" in str(part.get("type")) else part
    found = part.get("responseId") or part.get("id") or part.get("generation_id") or part.get("response_id")
    call.provider_call_id = text(found) or call.provider_call_id
    set_time(call, part.get("createTime") or part.get("created") or part.get("created_at"))
    call.model = text(part.get("modelVersion") or part.get("model")) or call.model
    for candidate in sequence(part.get("candidates")) + sequence(part.get("choices")):
        reason = mapping(candidate).get("finishReason") or mapping(candidate).get("finish_reason")
        call.stop_reason = text(reason, 40).lower() or call.stop_reason
    reason = part.get("stopReason") or part.get("stop_reason") or part.get("finish_reason") or part.get("done_reason")
    reason = reason or mapping(part.get("messageStop")).get("stopReason")
    call.stop_reason = text(reason, 40).lower() or call.stop_reason


def _usage(call: Call, part: dict[str, Any]) -> bool:
    return any(read(call, part) for read in _READERS) and call.usage_source == "vendor"


def _gemini(call: Call, part: dict[str, Any]) -> bool:
    found = mapping(part.get("usageMetadata") or part.get("usage_metadata"))
    usage.gemini(call, found)
    return bool(found)


def _openai(call: Call, part: dict[str, Any]) -> bool:
    found = mapping(part.get("usage") or mapping(part.get("response")).get("usage"))
    if not {"prompt_tokens", "input_tokens", "total_tokens", "completion_tokens"} & found.keys():
        return False
    (usage.anthropic if "cache_read_input_tokens" in found else usage.openai)(call, found)
    return True


def _bedrock(call: Call, part: dict[str, Any]) -> bool:
    found = mapping(part.get("usage") or mapping(part.get("metadata")).get("usage"))
    if "inputTokens" not in found:
        return False
    usage.bedrock(call, found)
    return True


def _bedrock_metrics(call: Call, part: dict[str, Any]) -> bool:
    found = mapping(part.get("amazon-bedrock-invocationMetrics"))
    usage.plain(call, tokens(found, "inputTokenCount"), tokens(found, "outputTokenCount"))
    return bool(found)


def _native(call: Call, part: dict[str, Any]) -> bool:
    """Ollama, Llama and Titan on Bedrock: two counters beside the text."""
    for given, made in (
        ("prompt_eval_count", "eval_count"),
        ("prompt_token_count", "generation_token_count"),
        ("inputTextTokenCount", "outputTextTokenCount"),
    ):
        if given in part or made in part:
            results = [
                n for one in sequence(part.get("results")) if (n := tokens(mapping(one), "tokenCount")) is not None
            ]
            usage.plain(call, tokens(part, given), sum(results) if results else tokens(part, made))
            return True
    return False


def _cohere(call: Call, part: dict[str, Any]) -> bool:
    """Cohere bills ``billed_units``, not ``tokens``."""
    end = mapping(part.get("delta")).get("usage")
    found = mapping(part.get("usage") or end or part.get("meta") or mapping(part.get("response")).get("meta"))
    billed = mapping(found.get("billed_units"))
    given, made = whole(billed.get("input_tokens")), whole(billed.get("output_tokens"))
    if given is None and made is None:
        return False
    usage.plain(call, tokens(billed, "input_tokens"), tokens(billed, "output_tokens"))
    return True


_READERS: Final[tuple[Callable[[Call, dict[str, Any]], bool], ...]] = (
    _gemini,
    _bedrock,
    _bedrock_metrics,
    _native,
    _cohere,
    _openai,
)


def from_headers(call: Call, headers: dict[str, str]) -> bool:
    """Usage that Bedrock's InvokeModel states in headers, whatever the body."""
    given = tokens(dict(headers), _BEDROCK_HEADERS + "input-token-count")
    made = tokens(dict(headers), _BEDROCK_HEADERS + "output-token-count")
    if given is None and made is None:
        return False
    usage.plain(call, given, made)
    call.input_cache_read = tokens(dict(headers), _BEDROCK_HEADERS + "cache-read-input-token-count")
    call.input_cache_write_5m = tokens(dict(headers), _BEDROCK_HEADERS + "cache-write-input-token-count")
    return True
