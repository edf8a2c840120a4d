"""The older completions of OpenAI and of self-hosted servers: a prompt in, its continuation out."""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call, Message, Part
from transforms.decode.bodies import openai_chat
from transforms.decode.content import content_of
from transforms.decode.exchange import Body, Exchange
from transforms.decode.values import sequence


def ask(call: Call, x: Exchange) -> None:
    openai_chat.ask(call, x)
    content = content_of(call)
    given: Any = x.request.get("prompt")
    listed = sequence(given)
    if type(given) is str:
        content.prompt.append(Message("user", (Part("text", given),)))
    elif listed and type(listed[0]) is int:
        content.token_inputs = len(listed)
    for item in listed:
        if type(item) is str:
            content.prompt.append(Message("user", (Part("text", item),)))
        elif type(item) is list:
            content.token_inputs += len(item)


BODY: Final[Body] = Body("openai.completions", "completion", "OpenAI completions", True, ask, openai_chat.reply)
