"""Embeddings as OpenAI made them: input is a text, texts, or token ids; there is no id and no time in the body."""

from __future__ import annotations

from typing import Any

from schemas.call import Call, Content, Message, Part
from transforms.decode import usage
from transforms.decode.bodies.common import finish_model, params_of
from transforms.decode.values import mapping, text

API = "openai.embeddings"


def decode(call: Call, request: dict[str, Any], response: Any, chunks: list[Any] | None) -> None:
    """Fill ``call``; each input is a message of its own."""
    call.api, call.operation = API, "embedding"
    call.model_requested = text(request.get("model"))
    call.end_user = call.end_user or text(request.get("user"))
    call.params = params_of(request, ("input",))
    content = call.content = Content()
    given = request.get("input")
    for one in given if isinstance(given, list) else [given]:
        if isinstance(one, str):
            content.prompt.append(Message("user", (Part("text", one),)))
        elif isinstance(one, list):
            content.token_inputs += len(one)
        elif isinstance(one, int):
            content.token_inputs += 1
        else:
            content.complete = False
    answer = mapping(response)
    call.provider_call_id = text(answer.get("id"))
    finish_model(call, answer)
    reported = answer.get("usage")
    if isinstance(reported, dict):
        usage.openai(call, reported)
        call.output_visible = call.output_visible or 0
