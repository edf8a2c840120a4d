"""Ollama: chat, generate and embeddings, whole and as JSON lines."""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call, Content, Message, Part
from transforms.decode import usage as usages
from transforms.decode.bodies import reported
from transforms.decode.bodies.reported import last_with
from transforms.decode.content import ROLES, arguments_text, content_of, is_redacted, media_part
from transforms.decode.exchange import Body, Exchange
from transforms.decode.history import read_history
from transforms.decode.times import created
from transforms.decode.values import dumps, mapping, milliseconds, name, sequence, text


def ask(call: Call, x: Exchange) -> None:
    reported.ask(call, x)
    request = x.request
    if request.get("stream") is not False and x.chunks is not None:
        call.stream = True
    content = content_of(call)
    system = request.get("system")
    if system:
        content.prompt.append(Message("system", (Part("text", text(system)),)))
    prompt = request.get("prompt")
    if type(prompt) is str and prompt:
        images = [media_part("image", each) for each in sequence(request.get("images"))]
        content.prompt.append(Message("user", (Part("text", prompt), *images)))
    messages = request.get("messages")
    if type(messages) is list:
        read_history(messages, read_message, content)
    given = request.get("input")
    for each in given if type(given) is list else (given,):
        if type(each) is str:
            content.prompt.append(Message("user", (Part("text", each),)))
    tools = request.get("tools")
    if tools:
        content.tools_json = dumps(tools)
    shape = request.get("format")
    if type(shape) is dict and shape:
        content.schema_json = dumps(shape)
    if request.get("context") or request.get("template"):  # earlier turns as token ids; a prompt put together elsewhere
        content.complete = False
    if is_redacted(content.prompt):
        content.complete = False


def read_message(message: Any, content: Content, into: list[Message]) -> None:
    """One message of a request or an answer."""
    if type(message) is not dict:
        return
    role = ROLES.get(text(message.get("role")) or "assistant", "user")
    parts: list[Part] = []
    if message.get("thinking"):
        parts.append(Part("reasoning", text(message["thinking"])))
    said = message.get("content")
    if said:
        parts.append(Part("result" if role == "tool" else "text", text(said), name(message.get("tool_name"))))
    parts += [media_part("image", each) for each in sequence(message.get("images"))]
    for each in sequence(message.get("tool_calls")):
        function = mapping(mapping(each).get("function"))
        parts.append(Part("call", arguments_text(function.get("arguments")), name(function.get("name"))))
    into.append(Message(role, tuple(parts)))


def _reply(call: Call, x: Exchange) -> None:
    """Durations are nanoseconds; the prompt's count is left out where all of it was cached."""
    answer = last_with(x, "done")
    call.stream = call.stream or x.chunks is not None
    _read_answer(x, content_of(call))
    call.model = name(answer.get("model"))
    created(call, answer.get("created_at"))
    call.stop_reason = name(answer.get("done_reason"))
    total = milliseconds(answer.get("total_duration"))
    if total is not None and call.duration_ms is None:
        call.duration_ms = total / 1e6
    output = answer.get("eval_count")
    if call.operation == "embedding" and output is None:
        output = 0
    usages.plain(call, answer.get("prompt_eval_count"), output, "eval_count")
    if x.chunks is not None and not answer:
        call.status = "incomplete"


def _read_answer(x: Exchange, content: Content) -> None:
    """The message, or the pieces of one that the lines of a stream bring."""
    said: list[str] = []
    thought: list[str] = []
    calls: list[Any] = []
    for chunk in (x.answer,) if x.chunks is None else x.chunks:
        one = mapping(chunk)
        message = mapping(one.get("message"))
        said.append(text(message.get("content")) or text(one.get("response")))
        thought.append(text(message.get("thinking")) or text(one.get("thinking")))
        calls += sequence(message.get("tool_calls"))
    whole = {"content": "".join(said), "thinking": "".join(thought), "tool_calls": calls}
    if any(whole.values()):
        read_message({"role": "assistant", **whole}, content, content.output)
    if is_redacted(content.output):
        content.complete = False


BODIES: Final[tuple[Body, ...]] = (
    Body("ollama.chat", "chat", "Ollama chat", True, ask, _reply),
    Body("ollama.generate", "completion", "Ollama generate", True, ask, _reply),
    Body("ollama.embeddings", "embedding", "Ollama embeddings", True, ask, _reply),
)
