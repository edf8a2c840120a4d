"""OpenAI Responses API, also as spoken by Azure, xAI and others."""

from __future__ import annotations

from typing import Any

import orjson

from schemas.call import Call, Content, Message, Part
from transforms.decode import usage
from transforms.decode.bodies.common import finish_model, media_part, params_of, stops, tool_choice
from transforms.decode.values import add_tags, mapping, sequence, set_time, text, whole

API = "openai.responses"
_CONTENT = frozenset({"input", "instructions", "tools", "tool_choice", "text"})
_LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})
_HOSTED = frozenset(
    {"web_search_call", "file_search_call", "code_interpreter_call", "mcp_call", "image_generation_call"}
)


def decode(call: Call, request: dict[str, Any], response: Any, chunks: list[Any] | None) -> None:
    """Fill ``call`` from a request and its response object, which a stream repeats: the last one is whole."""
    call.api, call.operation = API, "chat"
    call.model_requested = text(request.get("model"))
    call.stream = request.get("stream") is True or chunks is not None
    call.max_tokens = whole(request.get("max_output_tokens"))
    call.service_tier_requested = text(request.get("service_tier"), 40)
    call.cache_key = text(request.get("prompt_cache_key"))
    call.end_user = call.end_user or text(request.get("safety_identifier") or request.get("user"))
    call.params = params_of(request, _CONTENT)
    add_tags(call, request.get("metadata"))
    tools = request.get("tools")
    schema = mapping(mapping(request.get("text")).get("format"))
    content = call.content = Content(
        prompt=_prompt(request),
        tools_json=orjson.dumps(tools) if tools and isinstance(tools, list) else b"",
        schema_json=orjson.dumps(schema) if schema.get("type") == "json_schema" else b"",
        tool_choice=tool_choice(request),
    )
    answer = _last(chunks) if chunks is not None else mapping(response)
    call.provider_call_id = text(answer.get("id"))
    set_time(call, answer.get("created_at"))
    finish_model(call, answer)
    tier = text(answer.get("service_tier"), 40)
    call.service_tier = "" if tier == "auto" else tier
    content.output = _items(answer.get("output"), "assistant")
    _outcome(call, answer)
    hosted = [mapping(item).get("type") for item in sequence(answer.get("output"))]
    call.web_searches = hosted.count("web_search_call") or None
    content.complete = not (
        request.get("previous_response_id")
        or request.get("conversation")
        or request.get("prompt")
        or _HOSTED.intersection(kind for kind in hosted if isinstance(kind, str))
        or any(part.kind == "media" for message in content.prompt for part in message.parts)
    )
    reported = answer.get("usage")
    if isinstance(reported, dict):
        usage.openai(call, reported)


def _last(chunks: list[Any]) -> dict[str, Any]:
    """The last whole response of a stream, else the newest partial one."""
    newest: dict[str, Any] = {}
    for chunk in reversed(chunks):
        found = mapping(mapping(chunk).get("response"))
        if found:
            if mapping(chunk).get("type") in _LAST:
                return found
            newest = newest or found
    return newest


def _outcome(call: Call, answer: dict[str, Any]) -> None:
    status = answer.get("status")
    if status == "incomplete":
        call.stop_reason = text(mapping(answer.get("incomplete_details")).get("reason"), 40)
        call.status = "incomplete"
        stops(call)
        if call.stop_reason == "content_filter":
            call.status = "blocked"
    elif status in ("failed", "cancelled"):
        call.status = "error" if status == "failed" else "cancelled"
        call.error_type = text(mapping(answer.get("error")).get("code"), 80)
    elif status in ("queued", "in_progress"):
        call.status = "incomplete"
        call.flag("still_running")
    elif status == "completed":
        call.stop_reason = "stop"


def _prompt(request: dict[str, Any]) -> list[Message]:
    said = request.get("input")
    prompt = []
    if isinstance(request.get("instructions"), str):
        prompt.append(Message("system", (Part("text", request["instructions"]),)))
    if isinstance(said, str):
        prompt.append(Message("user", (Part("text", said),)))
    else:
        prompt += _items(said, "user")
    return prompt


def _items(items: Any, role: str) -> list[Message]:
    made = []
    for item in items if isinstance(items, list) else ():
        if not isinstance(item, dict):
            continue
        kind = item.get("type")
        if kind in (None, "message"):
            who = item.get("role")
            made.append(Message(who if isinstance(who, str) else role, tuple(_parts(item.get("content")))))
        elif kind in ("function_call", "custom_tool_call"):
            words = item.get("arguments", item.get("input"))
            part = Part("call", words if isinstance(words, str) else "", text(item.get("name")))
            made.append(Message("assistant", (part,)))
        elif kind in ("function_call_output", "custom_tool_call_output"):
            words = item.get("output")
            parts = [Part("result", words)] if isinstance(words, str) else _parts(words)
            made.append(Message("tool", tuple(parts)))
        elif kind == "reasoning":
            parts = _parts(item.get("summary")) + _parts(item.get("content"))
            made.append(Message("assistant", tuple(part._replace(kind="reasoning") for part in parts)))
    return made


def _parts(said: Any) -> list[Part]:
    if isinstance(said, str):
        return [Part("text", said)]
    parts = []
    for piece in said if isinstance(said, list) else ():
        if isinstance(piece, dict):
            words = piece.get("text", piece.get("refusal"))
            parts.append(Part("text", words) if isinstance(words, str) else media_part(piece))
    return parts
