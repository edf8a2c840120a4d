"""What many bodies have in common: settings of a request, who answered, and bodies of which the usage alone is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from schemas.call import Call
from transforms.decode.content import params
from transforms.decode.exchange import Body, Exchange
from transforms.decode.times import created
from transforms.decode.values import count, mapping, name

_SETTINGS: Final = frozenset(
    {"generationConfig", "generation_config", "config", "inferenceConfig", "options", "textGenerationConfig"}
)
_LIMITS: Final = frozenset(
    {"max_tokens", "maxOutputTokens", "max_output_tokens", "maxTokens", "num_predict", "max_gen_len", "maxTokenCount",
     "max_tokens_to_sample", "maximum_tokens"}
)  # fmt: skip
"""A request has one of each at most."""


def ask(call: Call, x: Exchange) -> None:
    """Model, stream, limit and settings, wherever the wire format keeps them."""
    request = x.request
    call.model_requested = x.address.model or name(request.get("model") or request.get("modelId"))
    call.model_requested = call.model_requested.removeprefix("models/")
    if request.get("stream") is True:
        call.stream = True
    _limit(call, request)
    for key in sorted(_SETTINGS.intersection(request)):
        _limit(call, mapping(request[key]))
    call.params = params(request)


def _limit(call: Call, place: dict[str, Any]) -> None:
    for key in sorted(_LIMITS.intersection(place)):
        limit = place[key]
        if type(limit) is int and limit > 0:
            call.max_tokens = count(limit, key)


def identity(call: Call, answer: dict[str, Any]) -> None:
    """Who answered, and when, where the names are OpenAI's."""
    call.provider_call_id = name(answer.get("id"))
    call.model = name(answer.get("model"))
    created(call, answer.get("created"))
    tier = answer.get("service_tier")
    if tier:
        call.service_tier = name(tier)


def last_with(x: Exchange, *keys: str) -> dict[str, Any]:
    """The answer, or the last chunk of it that has one of the keys."""
    if x.chunks is None:
        return x.answer
    for chunk in x.chunks[::-1]:
        if type(chunk) is dict and any(chunk.get(key) for key in keys):
            return chunk
    return {}


def body(api: str, operation: str, describes: str, reply: Callable[[Call, Exchange], None]) -> Body:
    """A body whose usage alone is read."""
    return Body(api, operation, describes, False, ask, reply)
