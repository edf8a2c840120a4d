"""Vendor bodies: one module for each wire format or vendor. ``BODIES`` lists them, ``pick`` chooses."""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import Any, Final

import orjson

from transforms.decode.bodies import (
    anthropic_messages,
    bedrock,
    gemini,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
    others,
)
from transforms.decode.exchange import Body, Exchange, parse_json
from transforms.decode.values import mapping

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
        *others.BODIES,
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
            if chunk.__class__ is dict:
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
    data = mapping(mapping(event).get("chunk")).get("bytes")
    if not isinstance(data, str):
        return event
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
}


def _by_shape(x: Exchange) -> str:
    first, request = _first(x), x.request
    what = first.get("object")
    if what.__class__ is str and what in _OBJECTS:
        return _OBJECTS[what]
    kind = first.get("type")
    if kind in ("message", "message_start"):
        return "anthropic.messages"
    if kind.__class__ is str and kind.startswith("response."):
        return "openai.responses"
    if what == "list" and "data" in first and "input" in request:
        return "openai.embeddings"
    if "candidates" in first or "usageMetadata" in first or "usage_metadata" in first or "contents" in request:
        return "gemini.generate"
    if "choices" in first:
        return "openai.chat" if "messages" in request else "openai.completions"
    if "stopReason" in first or "messageStart" in first or "inferenceConfig" in request:
        return "bedrock.converse"
    if "eval_count" in first or "done" in first:
        return "ollama.chat" if "message" in first else "ollama.generate"
    if "anthropic_version" in request:
        return "anthropic.messages"
    if "messages" in request:  # failed calls have no answer to tell
        model = request.get("model")
        return "anthropic.messages" if isinstance(model, str) and model.startswith("claude") else "openai.chat"
    if "input" in request and "model" in request:
        return "openai.responses" if "instructions" in request or "tools" in request else ""
    return ""
