"""OpenAI Chat Completions, also as spoken by Azure, Groq, Mistral, DeepSeek, OpenRouter, Ollama, vLLM and others."""

from __future__ import annotations

from typing import Any

import orjson

from schemas.call import Call, Content, Message, Part
from transforms.decode import usage
from transforms.decode.bodies.common import finish_model, media_part, params_of, stops, tool_choice
from transforms.decode.values import mapping, sequence, set_time, text, whole

API = "openai.chat"
_CONTENT = frozenset({"messages", "tools", "functions", "tool_choice", "function_call", "response_format"})


def decode(call: Call, request: dict[str, Any], response: Any, chunks: list[Any] | None) -> None:
    """Fill ``call`` from a request and its whole response, or from its stream's chunks."""
    call.api, call.operation = API, "chat"
    _request(call, request)
    content = call.content = Content(
        prompt=_messages(request.get("messages")),
        tools_json=_tools(request),
        schema_json=_schema(request),
        tool_choice=tool_choice(request),
    )
    if chunks is not None:
        _stream(call, content, chunks)
    else:
        _whole(call, content, mapping(response))
    if any(part.kind == "media" for message in content.prompt for part in message.parts):
        content.complete = False


def _request(call: Call, request: dict[str, Any]) -> None:
    call.model_requested = text(request.get("model"))
    call.stream = request.get("stream") is True
    call.max_tokens = whole(request.get("max_completion_tokens", request.get("max_tokens")))
    call.service_tier_requested = text(request.get("service_tier"), 40)
    call.cache_key = text(request.get("prompt_cache_key"))
    call.end_user = call.end_user or text(request.get("safety_identifier") or request.get("user"))
    call.params = params_of(request, _CONTENT)


def _tools(request: dict[str, Any]) -> bytes:
    tools = request.get("tools") or request.get("functions")
    return orjson.dumps(tools) if tools and isinstance(tools, list) else b""


def _schema(request: dict[str, Any]) -> bytes:
    wanted = request.get("response_format")
    return orjson.dumps(wanted) if isinstance(wanted, dict) and wanted.get("type") == "json_schema" else b""


def _messages(messages: Any) -> list[Message]:
    made: list[Message] = []
    for message in messages if isinstance(messages, list) else ():
        if message.__class__ is not dict:
            continue
        said = message.get("content")
        role = message.get("role")
        role = role if role.__class__ is str else "user"
        if len(message) == 2 and said.__class__ is str:  # the common case, kept short
            made.append(Message(role, (Part("result" if role == "tool" else "text", said),)))
        else:
            made.append(_message(message, role, said))
    return made


def _message(message: dict[str, Any], role: str, said: Any) -> Message:
    kind = "result" if role in ("tool", "function") else "text"
    parts = _parts(said, kind)
    thinking = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(thinking, str):
        parts.append(Part("reasoning", thinking))
    if isinstance(message.get("refusal"), str):
        parts.append(Part("text", message["refusal"]))
    parts += _calls(message)
    name = message.get("name")
    return Message("tool" if role == "function" else role, tuple(parts), name if isinstance(name, str) else "")


def _calls(message: dict[str, Any]) -> list[Part]:
    parts = []
    calls = sequence(message.get("tool_calls"))
    for function in [mapping(one).get("function") for one in calls] + [message.get("function_call")]:
        if isinstance(function, dict):
            parts.append(Part("call", _arguments(function.get("arguments")), text(function.get("name"))))
    return parts


def _arguments(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode() if value is not None else ""


def _parts(said: Any, kind: str) -> list[Part]:
    if isinstance(said, str):
        return [Part(kind, said)]
    parts = []
    for piece in said if isinstance(said, list) else ():
        if isinstance(piece, str):
            parts.append(Part(kind, piece))
        elif isinstance(piece, dict):
            words = piece.get("text", piece.get("refusal", piece.get("thinking")))
            if isinstance(words, str):
                parts.append(Part(kind, words))
            elif isinstance(words, list):
                parts += _parts(words, "reasoning")
            else:
                parts.append(media_part(piece))
    return parts


def _whole(call: Call, content: Content, response: dict[str, Any]) -> None:
    call.provider_call_id = text(response.get("id"))
    set_time(call, response.get("created"))
    finish_model(call, response)
    call.service_tier = text(response.get("service_tier"), 40)
    for choice in sequence(response.get("choices")):
        if not isinstance(choice, dict):
            continue
        message = mapping(choice.get("message"))
        content.output.append(_message(message, "assistant", message.get("content")))
        call.stop_reason = call.stop_reason or text(choice.get("finish_reason"), 40)
    stops(call)
    reported = response.get("usage")
    if isinstance(reported, dict):
        usage.openai(call, reported)


def _stream(call: Call, content: Content, chunks: list[Any]) -> None:
    """Chunks to one answer: ids come from the first chunk that has them (Azure's first is empty), usage from the last."""
    call.stream = True
    said: dict[int, list[str]] = {}
    thought: list[str] = []
    calls: dict[tuple[int, int], list[str]] = {}
    reported: dict[str, Any] | None = None
    head: dict[str, Any] = {}
    for chunk in chunks:
        if chunk.__class__ is not dict:
            continue
        if not head and chunk.get("model"):
            head = chunk
        found = chunk.get("usage")
        if found.__class__ is dict:
            reported = found
        elif "x_groq" in chunk:
            reported = mapping(chunk["x_groq"]).get("usage") or reported
        if tier := chunk.get("service_tier"):
            call.service_tier = text(tier, 40)
        for choice in chunk.get("choices") or ():
            if choice.__class__ is not dict:
                continue
            delta = choice.get("delta")
            if choice.get("finish_reason"):
                call.stop_reason = text(choice["finish_reason"], 40)
                if reported is None and isinstance(choice.get("usage"), dict):
                    reported = choice["usage"]
            if delta.__class__ is not dict:
                continue
            words = delta.get("content")
            if words:
                if words.__class__ is str:
                    said.setdefault(choice.get("index") or 0, []).append(words)
                else:
                    said.setdefault(0, []).extend(part.text for part in _parts(words, "text"))
            words = delta.get("reasoning_content") or delta.get("reasoning")
            if words.__class__ is str:
                thought.append(words)
            if delta.get("tool_calls"):
                _stream_calls(calls, choice.get("index") or 0, delta["tool_calls"])
    for message in said.values():
        content.output.append(Message("assistant", (Part("text", "".join(message)),)))
    if thought:
        content.output.append(Message("assistant", (Part("reasoning", "".join(thought)),)))
    if calls:
        parts = tuple(Part("call", "".join(pieces[1:]), pieces[0]) for pieces in calls.values())
        content.output.append(Message("assistant", parts))
    call.provider_call_id = text(head.get("id"))
    set_time(call, head.get("created"))
    finish_model(call, head)
    stops(call)
    if isinstance(reported, dict):
        usage.openai(call, reported)


def _stream_calls(calls: dict[tuple[int, int], list[str]], choice: int, deltas: Any) -> None:
    for place, delta in enumerate(sequence(deltas)):
        if not isinstance(delta, dict):
            continue
        index = delta.get("index")
        function = mapping(delta.get("function"))
        pieces = calls.setdefault((choice, index if isinstance(index, int) else place), [""])
        if isinstance(function.get("name"), str):
            pieces[0] = pieces[0] or function["name"]
        if function.get("arguments"):
            pieces.append(_arguments(function["arguments"]))
