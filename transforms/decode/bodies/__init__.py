"""Vendor bodies: one module for each wire format or vendor. ``BODIES`` lists them, ``pick`` chooses."""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import Any, Final

import orjson

from transforms.decode.bodies import (
    anthropic_messages,
    bedrock,
    cohere,
    gemini,
    media,
    ollama,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
    others,
    xai,
)
from transforms.decode.exchange import Body, Exchange, parse_json
from transforms.decode.values import mapping, sequence, text

BODIES: Final[dict[str, Body]] = {
    each.api: each
    for each in (
        openai_chat.BODY,
        openai_responses.BODY,
        openai_embeddings.BODY,
        openai_completions.BODY,
        anthropic_messages.BODY,
        *gemini.BODIES,
        *bedrock.BODIES,
        *cohere.BODIES,
        *ollama.BODIES,
        xai.BODY,
        *others.BODIES,
        *media.BODIES,
    )
}


def pick(x: Exchange) -> tuple[str, Body | None]:
    """The wire format of an exchange and its body: by the address, else by the fields of what was sent and came back.

    The body is ``None`` where the format is known and not read, the format empty where nothing tells.
    """
    api = x.address.api
    if api == "bedrock.invoke":
        api = _native(x)
    elif not api:
        api = _by_shape(x)
    return api, BODIES.get(api)


def _first(x: Exchange) -> dict[str, Any]:
    if x.chunks:
        for chunk in x.chunks:
            if type(chunk) is dict:
                return chunk
    return x.answer


def _native(x: Exchange) -> str:
    """Whose body Bedrock's InvokeModel carries. The SDK's events of a stream hold each chunk as base64."""
    first = _first(x)
    if x.chunks and isinstance(first.get("chunk"), dict):
        x.chunks = [_plain_chunk(chunk) for chunk in x.chunks]
        first = _first(x)
    if "anthropic_version" in x.request or first.get("type") in ("message", "message_start"):
        return "anthropic.messages"
    if "choices" in first and "messages" in x.request:
        return "openai.chat"
    return "bedrock.invoke"


def _plain_chunk(event: Any) -> Any:
    chunk = mapping(mapping(event).get("chunk"))
    data = chunk.get("bytes")
    if not isinstance(data, str):  # some loggers put the parsed chunk in the place of its bytes
        return next((inner for inner in chunk.values() if type(inner) is dict), event)
    try:
        return orjson.loads(a2b_base64(data))
    except (Base64Error, orjson.JSONDecodeError):
        return parse_json(data)


_OBJECTS: Final = {
    "chat.completion": "openai.chat",
    "chat.completion.chunk": "openai.chat",
    "response": "openai.responses",
    "text_completion": "openai.completions",
    "interaction": "gemini.interactions",
    "realtime.response": "openai.realtime",
}


def _by_shape(x: Exchange) -> str:
    first, request = _first(x), x.request
    what = first.get("object")
    if type(what) is str and what in _OBJECTS:
        return _OBJECTS[what]
    kind = text(first.get("type"))
    if kind in ("message", "message_start"):
        return "anthropic.messages"
    if type(kind) is str and kind.startswith("response."):
        realtime = kind == "response.done" or mapping(first.get("response")).get("object") == "realtime.response"
        return "openai.realtime" if realtime else "openai.responses"
    if what == "list" and "data" in first and "input" in request:
        return "openai.embeddings"
    if "serverContent" in first or "responseTokenCount" in mapping(first.get("usageMetadata")):
        return "gemini.live"
    if "usageMetadata" in first and ("embeddings" in first or "embedding" in first):
        return "gemini.embeddings"
    if "candidates" in first or "usageMetadata" in first or "usage_metadata" in first or "contents" in request:
        return "gemini.generate"
    if "choices" in first:
        return "openai.chat" if "messages" in request or _is_chat(x, first) else "openai.completions"
    if "stopReason" in first or "messageStart" in first or "inferenceConfig" in request:
        return "bedrock.converse"
    if "eval_count" in first or "done" in first:
        return "ollama.chat" if "message" in first else "ollama.generate"
    if "anthropic_version" in request:
        return "anthropic.messages"
    if first:
        found = _by_answer(x, first)
        if found:
            return found
    if "messages" in request:  # failed calls have no answer to tell
        model = request.get("model")
        return "anthropic.messages" if isinstance(model, str) and model.startswith("claude") else "openai.chat"
    if "input" in request and "model" in request:
        return "openai.responses" if "instructions" in request or "tools" in request else ""
    return ""


def _is_chat(x: Exchange, first: dict[str, Any]) -> bool:
    """Whether choices are messages, where nothing else tells; the first chunk of Azure has none."""
    for chunk in (x.chunks or [first])[:8]:
        choices = sequence(mapping(chunk).get("choices"))
        if choices:
            return "message" in mapping(choices[0]) or "delta" in mapping(choices[0])
    return "prompt" not in x.request


_BY_KEYS: Final = (
    (("messageStart", "contentBlockDelta", "contentBlockStart"), "bedrock.converse"),
    (("generation", "prompt_token_count", "generation_token_count", "inputTextTokenCount", "outputText"), "bedrock.invoke"),
    (("amazon-bedrock-invocationMetrics",), "bedrock.invoke"),
    (("num_tokens_generated",), "alephalpha.complete"),
    (("predictions",), "vertex.predict"),
)


def _by_answer(x: Exchange, first: dict[str, Any]) -> str:
    """Whose an answer is that came without its request, and says less of itself."""
    if isinstance(first.get("chunk"), dict) and x.chunks:
        return "xai.grpc_chat" if "outputs" in first["chunk"] else _native(x)
    if "outputs" in first and "prompt_text_tokens" in mapping(first.get("usage")):
        return "xai.grpc_chat"
    for keys, api in _BY_KEYS:
        if any(key in first for key in keys):
            return api
    usage = mapping(first.get("usage"))
    if "inputTokens" in usage:
        return "bedrock.converse"
    kind = text(first.get("type"))
    if kind == "completion":
        return "anthropic.complete"
    if "billed_units" in usage or kind in _COHERE_EVENTS:
        return "cohere.chat"
    event = first.get("event_type")
    if type(event) is str and event.startswith("interaction."):
        return "gemini.interactions"
    results, data = sequence(first.get("results")), sequence(first.get("data"))
    if results and ("relevance_score" in mapping(results[0]) or "search_units" in str(first.get("meta"))):
        return "rerank"
    if results and "flagged" in mapping(results[0]):
        return "openai.moderation"
    if "billed_units" in mapping(first.get("meta")):
        return "cohere.embeddings" if "embeddings" in first else "cohere.chat"
    if data:
        if mapping(data[0]).get("object") == "embedding":
            return "openai.embeddings"
        if "b64_json" in mapping(data[0]) or "url" in mapping(data[0]):
            return "openai.images"
    if "text" in first and ("seconds" in usage or usage.get("type") in ("tokens", "duration")):
        return "openai.audio"
    return ""


_COHERE_EVENTS: Final = frozenset({"message-start", "content-start", "content-delta", "message-end", "tool-plan-delta"})
