"""xAI's gRPC interface as JSON. (Its HTTP interface speaks OpenAI's formats.)"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call, Content, Message, Part
from transforms.decode import usage as usages
from transforms.decode.bodies import openai_chat, reported
from transforms.decode.bodies.reported import identity, last_with
from transforms.decode.content import arguments_text, content_of, is_redacted
from transforms.decode.exchange import Body, Exchange
from transforms.decode.history import read_history
from transforms.decode.values import dumps, mapping, name, sequence, text


def ask(call: Call, x: Exchange) -> None:
    reported.ask(call, x)
    request = x.request
    content = content_of(call)
    messages = request.get("messages")
    if type(messages) is list:
        read_history(messages, read_message, content)
    tools = request.get("tools")
    if tools:
        content.tools_json = dumps(tools)
        if any("function" not in mapping(tool) for tool in sequence(tools)):
            content.complete = False  # a tool of the vendor's: what it finds is put into the prompt unseen
    shape = mapping(request.get("response_format")).get("schema")
    if shape:
        content.schema_json = dumps(shape)
    if request.get("search_parameters") or request.get("previous_response_id"):
        content.complete = False
    if is_redacted(content.prompt):
        content.complete = False


def read_message(message: Any, content: Content, into: list[Message]) -> None:
    """One message of a request or an answer: OpenAI's, but for the names of roles."""
    given = mapping(message)
    role = text(given.get("role")).removeprefix("ROLE_").lower()
    into.append(openai_chat.read_message({**given, "role": role}, content))


def _reply(call: Call, x: Exchange) -> None:
    """Reasoning is outside of completion, the total holds both."""
    answer = last_with(x, "usage")
    content = content_of(call)
    if x.chunks is not None:
        call.stream = True
        for chunk in x.chunks[::-1]:  # each wraps the answer so far
            inner = mapping(mapping(chunk).get("chunk"))
            if inner.get("usage"):
                answer = inner
                break
        _read_stream(x.chunks, content)
    identity(call, answer)
    for output in sequence(answer.get("outputs")):
        call.stop_reason = name(mapping(output).get("finish_reason")) or call.stop_reason
        message = mapping(output).get("message")
        if type(message) is dict and message:
            read_message(message, content, content.output)
    if is_redacted(content.output):
        content.complete = False
    usage = answer.get("usage")
    if type(usage) is dict:
        usages.openai(
            call,
            {
                **usage,
                "prompt_tokens_details": {
                    "cached_tokens": usage.get("cached_prompt_text_tokens"),
                    "image_tokens": usage.get("prompt_image_tokens"),
                },
            },
        )


def _read_stream(chunks: list[Any], content: Content) -> None:
    said: list[str] = []
    thought: list[str] = []
    calls: list[Part] = []  # each comes whole
    for chunk in chunks:
        for output in sequence(mapping(mapping(chunk).get("chunk")).get("outputs")):
            delta = mapping(mapping(output).get("delta"))
            said.append(text(delta.get("content")))
            thought.append(text(delta.get("reasoning_content")))
            for each in sequence(delta.get("tool_calls")):
                function = mapping(mapping(each).get("function"))
                calls.append(Part("call", arguments_text(function.get("arguments")), name(function.get("name"))))
            if delta.get("encrypted_content"):
                content.complete = False
    parts = [Part(kind, "".join(pieces)) for kind, pieces in (("reasoning", thought), ("text", said)) if any(pieces)]
    if parts or calls:
        content.output.append(Message("assistant", (*parts, *calls)))


BODY: Final[Body] = Body("xai.grpc_chat", "chat", "xAI's gRPC chat as JSON", True, ask, _reply)
