"""Anthropic Messages, also on Bedrock (InvokeModel) and Vertex."""

from __future__ import annotations

from typing import Any

import orjson

from schemas.call import Call, Content, Message, Part
from transforms.decode import usage
from transforms.decode.bodies.common import finish_model, media_part, params_of, stops, tool_choice
from transforms.decode.values import mapping, sequence, text, whole

API = "anthropic.messages"
_CONTENT = frozenset({"messages", "system", "tools", "tool_choice"})


def decode(call: Call, request: dict[str, Any], response: Any, chunks: list[Any] | None) -> None:
    """Fill ``call`` from a request and its message, whole or as stream events."""
    call.api, call.operation = API, "chat"
    call.model_requested = call.model_requested or text(request.get("model"))
    call.stream = request.get("stream") is True or chunks is not None
    call.max_tokens = whole(request.get("max_tokens"))
    call.service_tier_requested = text(request.get("service_tier"), 40)
    call.end_user = call.end_user or text(mapping(request.get("metadata")).get("user_id"))
    call.params = params_of(request, _CONTENT)
    tools = request.get("tools")
    content = call.content = Content(
        tools_json=orjson.dumps(tools) if tools and isinstance(tools, list) else b"",
        tool_choice=tool_choice(request),
    )
    if request.get("system"):
        content.prompt.append(Message("system", tuple(_parts(request["system"], call))))
    for tool in sequence(tools):
        call.cache_breakpoints += "cache_control" in mapping(tool)
    for message in sequence(request.get("messages")):
        if message.__class__ is dict:
            said, role = message.get("content"), text(message.get("role"), 20) or "user"
            parts = (Part("text", said),) if said.__class__ is str else tuple(_parts(said, call))
            if parts and all(part.kind == "result" for part in parts):
                role = "tool"
            content.prompt.append(Message(role, parts))
    answer, reported = _stream(chunks) if chunks is not None else (mapping(response), None)
    call.provider_call_id = text(answer.get("id"))
    finish_model(call, answer)
    call.stop_reason = text(answer.get("stop_reason"), 40)
    content.output.append(Message("assistant", tuple(_parts(answer.get("content"), None))))
    content.complete = not any(part.kind == "media" for message in content.prompt for part in message.parts)
    stops(call)
    found = reported or answer.get("usage")
    if isinstance(found, dict):
        usage.anthropic(call, found)


def _parts(said: Any, call: Call | None) -> list[Part]:
    """Parts of a message or a system prompt; with ``call``, cache marks are counted there."""
    if isinstance(said, str):
        return [Part("text", said)]
    parts: list[Part] = []
    for block in said if isinstance(said, list) else ():
        if not isinstance(block, dict):
            continue
        if call is not None and "cache_control" in block:
            call.cache_breakpoints += 1
        kind = block.get("type")
        if kind == "text":
            parts.append(Part("text", block["text"] if isinstance(block.get("text"), str) else ""))
        elif kind in ("tool_use", "server_tool_use", "mcp_tool_use"):
            given = block.get("input")
            words = given if isinstance(given, str) else orjson.dumps(given).decode()
            parts.append(Part("call", words, text(block.get("name"))))
        elif kind == "thinking":
            parts.append(Part("reasoning", block["thinking"] if isinstance(block.get("thinking"), str) else ""))
        elif isinstance(kind, str) and kind.endswith("tool_result"):
            inner = _parts(block.get("content"), call)
            parts += [part._replace(kind="result") if part.kind == "text" else part for part in inner]
        elif kind in ("image", "document", "file"):
            parts.append(media_part(block))
    return parts


def _stream(chunks: list[Any]) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Events to one message and its usage: the last value of each counter wins, none is ever summed."""
    message: dict[str, Any] = {}
    reported: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    for event in chunks:
        if event.__class__ is not dict:
            continue
        kind = event.get("type")
        if kind == "content_block_delta":
            delta = mapping(event.get("delta"))
            block = blocks.setdefault(event.get("index") or 0, {"type": "text", "pieces": []})
            for name in ("text", "partial_json", "thinking"):
                if isinstance(delta.get(name), str):
                    block["pieces"].append(delta[name])
        elif kind == "content_block_start":
            blocks[event.get("index") or 0] = {**mapping(event.get("content_block")), "pieces": []}
        elif kind == "message_start":
            message = {**message, **mapping(event.get("message"))}
            reported.update(mapping(message.get("usage")))
        elif kind == "message_delta":
            message.update({k: v for k, v in mapping(event.get("delta")).items() if v is not None})
            reported.update({k: v for k, v in mapping(event.get("usage")).items() if v is not None})
    message["content"] = [_closed(block) for block in blocks.values()]
    return message, reported or None


def _closed(block: dict[str, Any]) -> dict[str, Any]:
    words = "".join(block.pop("pieces"))
    if words:
        name = {"text": "text", "thinking": "thinking"}.get(str(block.get("type")), "input")
        block[name] = words
    return block
