"""OpenAI chat completions, whole and streamed, and the many vendors that speak it."""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call, Content, Message, Part
from transforms.decode import usage as usages
from transforms.decode.content import (
    MAX_MARKS,
    arguments_text,
    chosen_tool,
    content_of,
    count_breakpoints,
    index_of,
    is_redacted,
    media_part,
    params,
    role_of,
)
from transforms.decode.errors import Undecodable
from transforms.decode.exchange import Body, Exchange
from transforms.decode.history import read_history
from transforms.decode.times import created
from transforms.decode.values import count, dumps, mapping, milliseconds, name, sequence, text

API: Final = "openai.chat"

_NOTHING: Final[dict[str, Any]] = {}

_HOSTED: Final = ("web_search_options", "search_parameters", "plugins")
"""Settings that make a vendor put texts into the prompt that no log holds."""


def ask(call: Call, x: Exchange) -> None:
    request = x.request
    call.model_requested = name(request.get("model"))
    if request.get("stream"):
        call.stream = True
    limit = request.get("max_completion_tokens") or request.get("max_tokens")
    if limit:
        call.max_tokens = count(limit, "max_tokens")
    tier = request.get("service_tier")
    if tier:
        call.service_tier_requested = name(tier)
    key = request.get("prompt_cache_key")
    if key:
        call.cache_key = name(key)
    user = request.get("safety_identifier") or request.get("user")
    if user and not call.end_user:
        call.end_user = name(user)
    call.params = params(request)

    content = content_of(call)
    messages = request.get("messages")
    if type(messages) is list:
        call.cache_breakpoints = min(read_history(messages, _into, content), MAX_MARKS)
    tools = request.get("tools")
    if tools:
        content.tools_json = dumps(tools)
        if b'"cache_control"' in content.tools_json:
            call.cache_breakpoints = min(call.cache_breakpoints + count_breakpoints(tools), MAX_MARKS)
    functions = request.get("functions")
    if functions and type(functions) is list:
        listed = [{"type": "function", "function": function} for function in functions]
        content.tools_json = dumps([*sequence(tools), *listed])
    choice = request.get("tool_choice") or request.get("function_call")
    if choice:
        content.tool_choice = chosen_tool(choice)
    shape = request.get("response_format")
    if type(shape) is dict and "json_schema" in shape:
        content.schema_json = dumps(shape["json_schema"])
    for each in _HOSTED:
        if request.get(each):
            content.complete = False


def _into(message: Any, content: Content, into: list[Message]) -> None:
    into.append(read_message(message, content))


def read_message(message: Any, content: Content) -> Message:
    """One message of a request or an answer."""
    if type(message) is not dict:
        raise Undecodable("bad_value", f"messages: {str(message)[:60]!r} is not a message", API)
    role = role_of(message.get("role"), "assistant")
    said = message.get("content")
    kind = "result" if role == "tool" else "text"
    if len(message) == 2 and type(said) is str:  # most messages
        return Message(role, (Part(kind, said),) if said else ())
    if len(message) == 3:  # nearly all the rest of an agent's history
        if type(said) is str and said and "tool_call_id" in message:
            return Message(role, (Part(kind, said),))
        if not said and "tool_calls" in message:
            return Message(role, _tool_calls(message["tool_calls"]))
    label = message.get("name")
    parts: list[Part] = []
    thought = message.get("reasoning_content") or message.get("reasoning")
    if thought and type(thought) is str:
        parts.append(Part("reasoning", thought))
    if said:
        if type(said) is str:
            parts.append(Part(kind, said, name(label) if kind == "result" else ""))
        elif type(said) is list:
            for block in said:
                read_part(block, kind, parts, content)
        else:
            parts.append(Part(kind, dumps(said).decode()))
    refusal = message.get("refusal")
    if refusal and type(refusal) is str:
        parts.append(Part("text", refusal))
    calls = message.get("tool_calls")
    if calls:
        parts += _tool_calls(calls)
    legacy = message.get("function_call")
    if type(legacy) is dict:
        parts.append(Part("call", arguments_text(legacy.get("arguments")), name(legacy.get("name"))))
    audio = message.get("audio")
    if type(audio) is dict:
        if audio.get("transcript"):
            parts.append(Part("text", text(audio["transcript"])))
        else:  # an earlier answer referred to by its id: the vendor holds it
            content.complete = False
        parts.append(media_part("audio", audio.get("data")))
    return Message(role, tuple(parts), name(label) if label else "")


def _tool_calls(calls: Any) -> tuple[Part, ...]:
    parts = []
    for each in sequence(calls):
        given = mapping(each)
        function = mapping(given.get("function") or given.get("custom"))
        arguments = function.get("arguments", function.get("input"))
        if type(arguments) is not str:
            arguments = arguments_text(arguments)
        parts.append(Part("call", arguments, name(function.get("name"))))
    return tuple(parts)


def read_part(block: Any, kind: str, parts: list[Part], content: Content) -> None:
    """One content block: text, image, audio, file, thinking."""
    if type(block) is str:
        parts.append(Part(kind, block))
        return
    if type(block) is not dict:
        return
    what = block.get("type")
    if what == "text" or (what is None and "text" in block):
        parts.append(Part(kind, text(block.get("text"))))
    elif what == "refusal":
        parts.append(Part(kind, text(block.get("refusal"))))
    elif what == "image_url":
        image = block.get("image_url")
        if type(image) is dict:
            parts.append(media_part("image", image.get("url"), image.get("detail")))
        else:
            parts.append(media_part("image", image, block.get("detail")))
    elif what == "input_audio":
        audio = block.get("input_audio")
        parts.append(media_part("audio", audio.get("data") if type(audio) is dict else audio))
    elif what in ("video_url", "file_url", "audio_url", "document_url"):
        link = block.get(what)
        sort = {"video_url": "video", "audio_url": "audio"}.get(what, "file")
        parts.append(media_part(sort, link.get("url") if type(link) is dict else link))
    elif what == "file":
        file = mapping(block.get("file"))
        if not file.get("file_data"):
            content.complete = False
        parts.append(media_part("file", file.get("file_data"), "", file.get("filename")))
    elif what == "thinking":  # Mistral: a list of texts
        parts += [Part("reasoning", text(mapping(each).get("text"))) for each in sequence(block.get("thinking"))]
    elif "text" in block:
        parts.append(Part(kind, text(block.get("text"))))
    else:
        content.complete = False


def reply(call: Call, x: Exchange) -> None:
    if x.chunks is not None:
        _stream(call, x, x.chunks)
        return
    answer = x.answer
    call.provider_call_id = name(answer.get("id"))
    model = answer.get("model")
    if model:
        call.model = name(model)
    tier = answer.get("service_tier")
    if tier:
        call.service_tier = name(tier)
    created(call, answer.get("created"))
    content = content_of(call)
    for choice in sequence(answer.get("choices")):
        if type(choice) is not dict:
            continue
        message = choice.get("message")
        if type(message) is dict:
            content.output.append(read_message(message, content))
            content.refused |= bool(message.get("refusal"))
        elif choice.get("text"):
            content.output.append(Message("assistant", (Part("text", text(choice["text"])),)))
        _finish(call, choice.get("finish_reason"))
    if content.output and is_redacted(content.output):
        content.complete = False
    _usage(call, answer.get("usage") or mapping(answer.get("x_groq")).get("usage"))


def _finish(call: Call, reason: Any) -> None:
    if reason and type(reason) is str:
        if not call.stop_reason:
            call.stop_reason = name(reason)
        if reason in ("content_filter", "guardrail_intervened"):
            call.status = "blocked"


def _usage(call: Call, given: Any) -> None:
    if type(given) is not dict or not given:
        return
    usages.openai(call, given)
    first = given.get("time_to_first_token_ms")
    if first is not None and call.ttft_ms is None:
        call.ttft_ms = milliseconds(first)
    tools = given.get("server_tool_use_details") or given.get("server_tool_use")
    if tools:
        call.web_searches = count(mapping(tools).get("web_search_requests"), "usage.web_search_requests")
    tier = given.get("service_tier")
    if tier and not call.service_tier:
        call.service_tier = name(tier)


class _Choice:
    """One answer of a stream while its deltas come in."""

    __slots__ = ("blocks", "calls", "reason", "refusal", "said", "thought")

    def __init__(self) -> None:
        self.said: list[str] = []
        self.thought: list[str] = []
        self.refusal: list[str] = []
        self.blocks: list[Part] = []
        self.calls: dict[Any, list[str]] = {}  # by index: name, then pieces of arguments
        self.reason: Any = ""

    def message(self) -> Message:
        parts: list[Part] = []
        if self.thought:
            parts.append(Part("reasoning", "".join(self.thought)))
        parts.extend(self.blocks)
        if self.said:
            parts.append(Part("text", "".join(self.said)))
        if self.refusal:
            parts.append(Part("text", "".join(self.refusal)))
        parts.extend(Part("call", "".join(pieces[1:]), pieces[0]) for pieces in self.calls.values())
        return Message("assistant", tuple(parts))


def _stream(call: Call, x: Exchange, chunks: list[Any]) -> None:
    call.stream = True
    content = content_of(call)
    choices: dict[Any, _Choice] = {}
    first = choices[0] = _Choice()
    for chunk in chunks:
        if type(chunk) is not dict or "choices" not in chunk:
            continue
        listed = chunk["choices"]
        if type(listed) is not list:
            continue
        for each in listed:
            if type(each) is not dict:
                continue
            choice = _choice(choices, each) if each.get("finish_reason") or each.get("index") else first
            delta: Any = each.get("delta")
            if type(delta) is dict:
                key: str
                for key, value in delta.items():
                    if value and key != "role":
                        if key == "content" and type(value) is str:
                            choice.said.append(value)
                        elif key == "tool_calls":
                            _call_deltas(choice.calls, value)
                        else:
                            _delta(choice, key, value, delta, content)
            elif "text" in each:
                choice.said.append(text(each["text"]))
    usage = _ends_of(call, chunks)
    for choice in choices.values():
        if choice.reason or choice.said or choice.calls or choice.thought or choice.refusal or choice.blocks:
            content.output.append(choice.message())
            content.refused |= bool(choice.refusal)
            _finish(call, choice.reason)
    last = mapping(chunks[-1]) if chunks else {}
    if last.get("error"):
        call.status = "error"
        call.error_type = name(mapping(last["error"]).get("type")) or "error"
    elif not call.stop_reason and call.status == "ok" and (x.answer_cut or usage is None):
        call.status = "incomplete"
    _usage(call, usage)


def _choice(choices: dict[Any, _Choice], each: dict[str, Any]) -> _Choice:
    index = index_of(each.get("index"))
    choice = choices.get(index)
    if choice is None:
        choice = choices[index] = _Choice()
    reason = each.get("finish_reason")
    if reason:
        choice.reason = reason
    return choice


def _ends_of(call: Call, chunks: list[Any]) -> Any:
    """Set what the ends of a stream tell: who and when at its head, the tier that served near its tail. Gives the usage.

    The first chunk of Azure has no id, no model and no time. Usage and tier are those of the last chunk that has any.
    """
    for chunk in chunks:
        if type(chunk) is dict and chunk.get("model"):
            call.provider_call_id = name(chunk.get("id"))
            call.model = name(chunk["model"])
            created(call, chunk.get("created"))
            break
    usage: Any = None
    tier: Any = None
    for steps, chunk in enumerate(chunks[::-1]):
        if type(chunk) is not dict:
            continue
        if usage is None:
            usage = chunk.get("usage") or mapping(chunk.get("x_groq")).get("usage") or None
        tier = tier or chunk.get("service_tier")
        if usage is not None and (tier or steps > 2):
            break
    if tier:
        call.service_tier = name(tier)
    return usage


def _call_deltas(calls: dict[Any, list[str]], value: Any) -> None:
    """Pieces of tool calls. One without an index goes on with the last call, unless it names another tool."""
    for each in sequence(value):
        if type(each) is not dict:
            continue
        function = each.get("function")
        if type(function) is not dict:
            function = _NOTHING
        label = function.get("name")
        index = each.get("index")
        if type(index) is not int:
            index = index_of(index) if index is not None else len(calls) if label or not calls else len(calls) - 1
        pieces = calls.get(index)
        if pieces is None:
            pieces = calls[index] = [""]
        if label and not pieces[0]:
            pieces[0] = name(label)
        arguments = function.get("arguments")
        if arguments:
            pieces.append(arguments if type(arguments) is str else arguments_text(arguments))


def _delta(choice: _Choice, key: str, value: Any, delta: dict[str, Any], content: Content) -> None:
    """A delta that is not plain text."""
    if key == "reasoning_content" or (key == "reasoning" and not delta.get("reasoning_content")):
        if type(value) is str:
            choice.thought.append(value)
    elif key == "refusal":
        choice.refusal.append(text(value))
    elif key == "function_call":
        pieces = choice.calls.setdefault("legacy", [""])
        function = mapping(value)
        pieces[0] = pieces[0] or name(function.get("name"))
        pieces.append(text(function.get("arguments")))
    elif key == "content" and type(value) is list:
        blocks: list[Part] = []
        for block in value:
            read_part(block, "text", blocks, content)
        for part in blocks:
            if part.kind == "text":
                choice.said.append(part.text)
            elif part.kind == "reasoning":
                choice.thought.append(part.text)
            else:
                choice.blocks.append(part)
    elif key == "audio" and type(value) is dict and value.get("transcript"):
        choice.said.append(text(value["transcript"]))


BODY: Final[Body] = Body(API, "chat", "OpenAI chat completions, and the vendors that speak it", True, ask, reply)
