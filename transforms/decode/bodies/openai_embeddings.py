"""OpenAI embeddings, and the vendors that speak them."""

from __future__ import annotations

from typing import Final

from schemas.call import Call, Message, Part
from transforms.decode import usage as usages
from transforms.decode.content import content_of, is_redacted, media_part, params
from transforms.decode.exchange import Body, Exchange
from transforms.decode.values import mapping, name, sequence, text


def ask(call: Call, x: Exchange) -> None:
    request = x.request
    call.model_requested = name(request.get("model"))
    user = request.get("user")
    if user and not call.end_user:
        call.end_user = name(user)
    call.params = params(request)
    content = content_of(call)
    given = request.get("input")
    if type(given) is str:
        content.prompt.append(Message("user", (Part("text", given),)))
        return
    listed = sequence(given)
    if listed and type(listed[0]) is int:  # one text as token ids
        content.token_inputs = len(listed)
        return
    for item in listed:
        if type(item) is str:
            content.prompt.append(Message("user", (Part("text", item),)))
        elif type(item) is list:
            content.token_inputs += len(item)
        elif type(item) is dict:  # texts and images together
            parts: list[Part] = []
            for block in sequence(item.get("content")):
                entry = mapping(block)
                if "text" in entry:
                    parts.append(Part("text", text(entry["text"])))
                else:
                    image = entry.get("image_url")
                    parts.append(media_part("image", image.get("url") if type(image) is dict else image))
            content.prompt.append(Message("user", tuple(parts)))
    if is_redacted(content.prompt):
        content.complete = False


def reply(call: Call, x: Exchange) -> None:
    answer = x.answer
    call.provider_call_id = name(answer.get("id"))
    call.model = name(answer.get("model"))
    usage = answer.get("usage")
    if type(usage) is dict:
        usages.openai(call, usage)


BODY: Final[Body] = Body("openai.embeddings", "embedding", "OpenAI embeddings", True, ask, reply)
