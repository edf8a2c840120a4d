"""Shared by the bodies that are carried by their reported usage: their texts are not read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from schemas.call import Call
from transforms.decode.content import params
from transforms.decode.exchange import Body, Exchange
from transforms.decode.values import count, mapping, name

_SETTINGS = ("generationConfig", "generation_config", "config", "inferenceConfig", "options", "textGenerationConfig")
_LIMITS = ("max_tokens", "maxOutputTokens", "max_output_tokens", "maxTokens", "num_predict", "max_gen_len",
           "maxTokenCount", "max_tokens_to_sample", "maximum_tokens")  # fmt: skip


def ask(call: Call, x: Exchange) -> None:
    """Model, stream, limit and settings, wherever the wire format keeps them."""
    request = x.request
    call.model_requested = x.address.model or name(request.get("model") or request.get("modelId"))
    call.model_requested = call.model_requested.removeprefix("models/")
    if request.get("stream") is True:
        call.stream = True
    for place in (request, *(mapping(request.get(key)) for key in _SETTINGS)):
        for key in _LIMITS:
            limit = place.get(key)
            if limit.__class__ is int and limit > 0:
                call.max_tokens = count(limit, key)
                break
    call.params = params(request)


def last_with(x: Exchange, *keys: str) -> dict[str, Any]:
    """The answer, or the last chunk of it that has one of the keys."""
    if x.chunks is None:
        return x.answer
    for chunk in reversed(x.chunks):
        if chunk.__class__ is dict and any(chunk.get(key) for key in keys):
            return chunk
    return {}


def body(api: str, operation: str, describes: str, reply: Callable[[Call, Exchange], None]) -> Body:
    """A body whose usage alone is read."""
    return Body(api, operation, describes, False, ask, reply)
