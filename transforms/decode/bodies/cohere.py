"""Cohere: chat of both versions, whole and streamed, and embed; also inside Bedrock's InvokeModel."""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call, Content, Message, Part
from transforms.decode import usage as usages
from transforms.decode.bodies import openai_chat, reported
from transforms.decode.bodies.reported import last_with
from transforms.decode.content import ROLES, arguments_text, content_of, is_redacted, media_part
from transforms.decode.exchange import Body, Exchange
from transforms.decode.history import read_history
from transforms.decode.values import count, dumps, mapping, name, sequence, text


def ask(call: Call, x: Exchange) -> None:
    """Version 2 has messages; version 1 a preamble, a history and a message; embed has texts, images or inputs."""
    reported.ask(call, x)
    request = x.request
    content = content_of(call)
    preamble = request.get("preamble")
    if preamble:
        content.prompt.append(Message("system", (Part("text", text(preamble)),)))
    for turn in sequence(request.get("chat_history")):
        role = ROLES.get(text(mapping(turn).get("role")).lower().replace("chatbot", "assistant"), "user")
        content.prompt.append(Message(role, (Part("text", text(mapping(turn).get("message"))),)))
    message = request.get("message")
    if type(message) is str and message:
        content.prompt.append(Message("user", (Part("text", message),)))
    messages = request.get("messages")
    if type(messages) is list:
        read_history(messages, read_message, content)
    for each in sequence(request.get("texts")):
        content.prompt.append(Message("user", (Part("text", text(each)),)))
    for each in sequence(request.get("images")):
        content.prompt.append(Message("user", (media_part("image", each),)))
    for each in sequence(request.get("inputs")):
        read_message({"role": "user", **mapping(each)}, content, content.prompt)
    tools = request.get("tools")
    if tools:
        content.tools_json = dumps(tools)
    choice = request.get("tool_choice")
    if choice:
        content.tool_choice = name(choice).lower()
    shape = mapping(request.get("response_format"))
    schema = shape.get("json_schema") or shape.get("schema")
    if schema:
        content.schema_json = dumps(schema)
    if any(request.get(key) for key in ("documents", "connectors", "conversation_id", "tool_results")):
        content.complete = False  # Cohere writes them into the prompt its own way, or holds them
    if is_redacted(content.prompt):
        content.complete = False


def read_message(message: Any, content: Content, into: list[Message]) -> None:
    """One message: as OpenAI's, and the plan a model makes before it calls tools."""
    given = {**mapping(message), "role": text(mapping(message).get("role")).lower()}
    plan = given.get("tool_plan")
    said = given.get("content")
    if type(said) is list and any(mapping(block).get("type") in ("thinking", "document") for block in said):
        given = {**given, "content": [_plain_block(block) for block in said]}
    read = openai_chat.read_message(given, content)
    if plan:
        read = Message(read.role, (Part("text", text(plan)), *read.parts), read.name)
    into.append(read)


def _plain_block(block: Any) -> Any:
    given = mapping(block)
    if given.get("type") == "thinking":
        return {"type": "thinking", "thinking": [{"text": given.get("thinking")}]}
    if given.get("type") == "document":  # what a tool found
        return {"type": "text", "text": arguments_text(mapping(given.get("document")).get("data"))}
    return block


def _reply(call: Call, x: Exchange) -> None:
    """Billed units are what is paid for; ``tokens`` beside them counts Cohere's own preamble too."""
    answer = x.answer
    content = content_of(call)
    if x.chunks is not None:
        call.stream = True
        answer = _read_stream(call, x, x.chunks, content)
    else:
        call.provider_call_id = name(answer.get("id") or answer.get("generation_id"))
        message = answer.get("message")
        if type(message) is dict:
            read_message({"role": "assistant", **message}, content, content.output)
        elif call.operation != "embedding":
            _read_first_version(answer, content)
    if is_redacted(content.output):
        content.complete = False
    call.stop_reason = name(answer.get("finish_reason"))
    billed = mapping(mapping(answer.get("usage") or answer.get("meta")).get("billed_units"))
    taken = billed.get("input_tokens")
    images = count(billed.get("image_tokens"), "billed_units.image_tokens")
    output = billed.get("output_tokens", 0 if call.operation == "embedding" else None)
    if taken is None and images is None:
        return
    usages.plain(call, taken or 0, output, "billed_units")
    if images:
        call.input_image = images


def _read_first_version(answer: dict[str, Any], content: Content) -> None:
    parts = [Part("text", text(answer["text"]))] if answer.get("text") else []
    parts += [
        Part("call", arguments_text(mapping(each).get("parameters")), name(mapping(each).get("name")))
        for each in sequence(answer.get("tool_calls"))
    ]
    if parts:
        content.output.append(Message("assistant", tuple(parts)))


def _read_stream(call: Call, x: Exchange, chunks: list[Any], content: Content) -> dict[str, Any]:
    """Read the events of a stream; gives the one that ends it, with the usage."""
    said: list[str] = []
    thought: list[str] = []
    planned: list[str] = []
    calls: dict[str, tuple[str, list[str]]] = {}  # by index: name, pieces of arguments
    ended: dict[str, Any] = {}
    for chunk in chunks:
        event = mapping(chunk)
        what = event.get("type") or event.get("event_type")
        delta = mapping(event.get("delta"))
        message = mapping(delta.get("message"))
        if what == "content-delta" or what == "content-start":
            block = mapping(message.get("content"))
            said.append(text(block.get("text")))
            thought.append(text(block.get("thinking")))
        elif what == "tool-plan-delta":
            planned.append(text(message.get("tool_plan")))
        elif what == "tool-call-start" or what == "tool-call-delta":
            function = mapping(mapping(message.get("tool_calls")).get("function"))
            index = name(event.get("index"))
            if index not in calls:
                calls[index] = (name(function.get("name")), [])
            calls[index][1].append(text(function.get("arguments")))
        elif what == "text-generation":
            said.append(text(event.get("text")))
        elif what == "stream-end":
            ended = mapping(event.get("response")) or event
        elif what == "message-end":
            ended = delta
    parts = [
        Part(kind, "".join(pieces)) for kind, pieces in (("reasoning", thought), ("text", planned), ("text", said)) if any(pieces)
    ]
    parts += [Part("call", "".join(pieces), called) for called, pieces in calls.values()]
    if parts:
        content.output.append(Message("assistant", tuple(parts)))
    call.provider_call_id = name(last_with(x, "id").get("id") or last_with(x, "generation_id").get("generation_id"))
    if not ended and chunks:
        call.status = "incomplete"
    return ended


BODIES: Final[tuple[Body, ...]] = (
    Body("cohere.chat", "chat", "Cohere chat", True, ask, _reply),
    Body("cohere.embeddings", "embedding", "Cohere embed", True, ask, _reply),
)
