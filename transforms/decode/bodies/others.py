"""Completions of vendors whose formats are seldom met: a prompt in, its continuation out."""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call, Message, Part
from transforms.decode import usage as usages
from transforms.decode.bodies import reported
from transforms.decode.bodies.bedrock import invocation_metrics
from transforms.decode.content import content_of, media_part
from transforms.decode.exchange import Body, Exchange
from transforms.decode.values import mapping, name, sequence, text


def _ask(call: Call, x: Exchange) -> None:
    """A prompt that is a text, or a list of texts and images."""
    reported.ask(call, x)
    content = content_of(call)
    prompt: Any = x.request.get("prompt")
    parts: list[Part] = []
    for each in prompt if type(prompt) is list else (prompt,):
        if type(each) is str:
            parts.append(Part("text", each))
        elif mapping(each).get("type") == "text":
            parts.append(Part("text", text(each["data"] if "data" in each else each.get("text"))))
        elif mapping(each).get("type") == "image":
            parts.append(media_part("image", each.get("data")))
        elif each is not None:
            content.complete = False
    if parts:
        content.prompt.append(Message("user", tuple(parts)))


def _say(call: Call, said: str) -> None:
    if said:
        content_of(call).output.append(Message("assistant", (Part("text", said),)))


def _aleph_alpha(call: Call, x: Exchange) -> None:
    call.model = name(x.answer.get("model_version"))
    for each in sequence(x.answer.get("completions")):
        _say(call, text(mapping(each).get("completion")))
        call.stop_reason = name(mapping(each).get("finish_reason"))
    usages.plain(call, x.answer.get("num_tokens_prompt_total"), x.answer.get("num_tokens_generated"), "num_tokens")


def _anthropic(call: Call, x: Exchange) -> None:
    """Anthropic's text completions report no usage but through Bedrock."""
    metrics = invocation_metrics(call, x)
    chunks = [x.answer] if x.chunks is None else x.chunks
    if x.chunks is not None:
        call.stream = True
    for chunk in map(mapping, chunks):
        call.provider_call_id = call.provider_call_id or name(chunk.get("id"))
        call.model = call.model or name(chunk.get("model"))
        call.stop_reason = name(chunk.get("stop_reason")) or call.stop_reason
    _say(call, "".join(text(mapping(chunk).get("completion")) for chunk in chunks))
    if metrics:
        usages.bedrock(call, metrics)
    if not call.stop_reason and x.chunks:
        call.status = "incomplete"


BODIES: Final[tuple[Body, ...]] = (
    Body("anthropic.complete", "completion", "Anthropic text completions", True, _ask, _anthropic),
    Body("alephalpha.complete", "completion", "Aleph Alpha complete", True, _ask, _aleph_alpha),
)
