"""Anthropic Messages, whole and streamed: direct, on Vertex, and inside Bedrock's InvokeModel."""

from __future__ import annotations

from typing import Any, Final

from schemas.call import TOOL_USES, Call, Content, Message, Part
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
from transforms.decode.values import count, dumps, mapping, name, sequence, text

API: Final = "anthropic.messages"


def ask(call: Call, x: Exchange) -> None:
    request = x.request
    call.model_requested = name(request.get("model")) or x.address.model
    if request.get("stream"):
        call.stream = True
    limit = request.get("max_tokens")
    if limit:
        call.max_tokens = count(limit, "max_tokens")
    tier = request.get("service_tier")
    if tier:
        call.service_tier_requested = name(tier)
    speed = request.get("speed")
    if speed:
        call.speed = name(speed)
    metadata = request.get("metadata")
    if type(metadata) is dict and not call.end_user:
        call.end_user = name(metadata.get("user_id"))
    call.params = params(request)

    content = content_of(call)
    marks = 1 if request.get("cache_control") else 0
    system = request.get("system")
    if system:
        if type(system) is str:
            content.prompt.append(Message("system", (Part("text", system),)))
        else:
            parts: list[Part] = []
            for block in sequence(system):
                read_block(block, parts, content)
                marks += type(block) is dict and block.get("cache_control") is not None
            content.prompt.append(Message("system", tuple(parts)))
        if is_redacted(content.prompt):
            content.complete = False
    messages = request.get("messages")
    if type(messages) is list:
        marks += read_history(messages, read_message, content)
    tools = request.get("tools")
    if tools:
        content.tools_json = dumps(tools)
        if b'"cache_control"' in content.tools_json:
            marks += count_breakpoints(tools)
        for tool in sequence(tools):
            what = mapping(tool).get("type")
            if what and what != "custom":  # a tool of the vendor's: its description is in no log
                content.complete = False
    choice = request.get("tool_choice")
    if choice:
        content.tool_choice = chosen_tool(choice)
    if mapping(request.get("thinking")).get("type") == "enabled":
        content.thinking = True
    shape = mapping(request.get("output_config")).get("format") or request.get("output_format")
    if type(shape) is dict and "schema" in shape:
        content.schema_json = dumps(shape)
    if request.get("mcp_servers") or request.get("container") or request.get("context_management"):
        content.complete = False
    call.cache_breakpoints = min(marks, MAX_MARKS)


def read_message(message: Any, content: Content, into: list[Message]) -> None:
    """One message of a request. Results of tools become messages of their own, of the role ``tool``."""
    if type(message) is not dict:
        raise Undecodable("bad_value", f"messages: {str(message)[:60]!r} is not a message", API)
    role = role_of(message.get("role"), "user")
    said = message.get("content")
    if type(said) is str:
        into.append(Message(role, (Part("text", said),) if said else ()))
        return
    parts: list[Part] = []
    for block in sequence(said):
        if role == "user" and type(block) is dict and block.get("type") == "tool_result":
            results: list[Part] = []
            read_block(block, results, content)
            into.append(Message("tool", tuple(results)))
        else:
            read_block(block, parts, content)
    if parts or not said:
        into.append(Message(role, tuple(parts)))


def read_block(block: Any, parts: list[Part], content: Content) -> None:
    """One content block of a prompt or an answer."""
    if type(block) is str:
        parts.append(Part("text", block))
        return
    if type(block) is not dict:
        return
    what = block.get("type")
    if what == "text":
        parts.append(Part("text", text(block.get("text"))))
    elif what in ("tool_use", "server_tool_use", "mcp_tool_use"):
        parts.append(Part("call", arguments_text(block.get("input")), name(block.get("name"))))
        if what != "tool_use":
            content.complete = False
    elif what == "tool_result":
        inner = block.get("content")
        if type(inner) is list:
            for each in inner:
                _result_block(each, parts, content)
        elif inner:
            parts.append(Part("result", arguments_text(inner)))
    elif what == "thinking":
        parts.append(Part("reasoning", text(block.get("thinking"))))
    elif what in ("image", "document"):
        parts.append(_media(block, "image" if what == "image" else "file", content))
    else:  # results of the vendor's own tools, redacted thinking, uploads
        content.complete = False


def _result_block(block: Any, parts: list[Part], content: Content) -> None:
    what = mapping(block).get("type")
    if what == "text":
        parts.append(Part("result", text(block.get("text"))))
    elif type(block) is str:
        parts.append(Part("result", block))
    else:
        read_block(block, parts, content)


def _media(block: dict[str, Any], kind: str, content: Content) -> Part:
    source = mapping(block.get("source"))
    what = source.get("type")
    if what == "text":
        return Part("text", text(source.get("data")))
    if what not in ("base64", "url"):
        content.complete = False
    return media_part(kind, source.get("data") or source.get("url"), "", block.get("title"))


def reply(call: Call, x: Exchange) -> None:
    content = content_of(call)
    if x.chunks is not None:
        usage: Any = _stream(call, x.chunks, content)
    else:
        answer = x.answer
        call.provider_call_id = name(answer.get("id"))
        call.model = name(answer.get("model"))
        call.stop_reason = name(answer.get("stop_reason"))
        parts: list[Part] = []
        for block in sequence(answer.get("content")):
            read_block(block, parts, content)
        if parts:
            content.output.append(Message("assistant", tuple(parts)))
        usage = answer.get("usage")
    if content.output and is_redacted(content.output):
        content.complete = False
    if type(usage) is not dict or not usage:
        return
    usages.anthropic(call, usage)
    advisors = usages.anthropic_advisors(call, usage)
    if advisors:
        x.extra = (*x.extra, *[_advisor(call, model, step) for model, step in advisors])


def _advisor(call: Call, model: str, step: Any) -> Call:
    """Another model was asked within this call; it is billed by itself. What was said to it is in no log."""
    other = Call()
    other.__dict__.update(call.__dict__)
    for leaf in ("input_fresh", "input_cache_read", "input_cache_write_5m", "input_cache_write_1h",
                 "output_visible", "output_reasoning", *TOOL_USES, "reported_cost"):  # fmt: skip
        setattr(other, leaf, None)
    other.content = None
    other.params = b""
    other.reported_cost_by = ""
    other.usage_source, other.usage_quality, other.flags = "none", "", ("advisor",)
    other.model = other.model_requested = model
    other.max_tokens, other.cache_breakpoints = None, 0
    usages.anthropic(other, {key: value for key, value in step.items() if key != "iterations"})
    return other


def _stream(call: Call, chunks: list[Any], content: Content) -> dict[str, Any]:
    """Read the events of a stream; the last value of each figure of usage wins, none are added."""
    call.stream = True
    usage: dict[str, Any] = {}
    blocks: dict[Any, list[Any]] = {}  # by index: the block as it started, then its pieces
    stopped = told = False
    for chunk in chunks:
        if type(chunk) is not dict:
            continue
        what = chunk.get("type")
        if what == "content_block_delta":
            delta = chunk.get("delta")
            block = blocks.get(index_of(chunk.get("index")))
            if type(delta) is dict and block is not None:
                piece = delta.get("text") or delta.get("partial_json") or delta.get("thinking")
                if piece:
                    block.append(piece)
        elif what == "content_block_start":
            blocks[index_of(chunk.get("index"))] = [chunk.get("content_block")]
        elif what == "message_start":
            message = mapping(chunk.get("message"))
            call.provider_call_id = name(message.get("id"))
            call.model = name(message.get("model"))
            usage.update(mapping(message.get("usage")))
        elif what == "message_delta":
            reason = mapping(chunk.get("delta")).get("stop_reason")
            if reason:
                call.stop_reason = name(reason)
            given = chunk.get("usage")
            if type(given) is dict:
                told = True
                usage.update({key: value for key, value in given.items() if value is not None})
        elif what == "message_stop":
            stopped = True
        elif what == "error":
            call.status = "error"
            call.error_type = name(mapping(chunk.get("error")).get("type"))
    parts: list[Part] = []
    for opened, *pieces in blocks.values():
        begun = mapping(opened)
        sort = text(begun.get("type"))
        if sort in ("text", "thinking"):
            said = text(begun.get(sort)) + "".join(map(text, pieces))
            parts.append(Part("text" if sort == "text" else "reasoning", said))
        elif pieces and sort.endswith("tool_use"):
            parts.append(Part("call", "".join(map(text, pieces)), name(begun.get("name"))))
            if sort != "tool_use":
                content.complete = False
        else:
            read_block(opened, parts, content)
    if parts:
        content.output.append(Message("assistant", tuple(parts)))
    if not stopped and not (call.stop_reason and told) and call.status == "ok":
        call.status = "incomplete"
        if usage.get("output_tokens") is not None:  # the first event's figure is a placeholder
            del usage["output_tokens"]
            usage.pop("output_tokens_details", None)
    return usage


BODY: Final[Body] = Body(API, "chat", "Anthropic Messages", True, ask, reply)
