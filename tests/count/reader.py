"""Turns lines of the corpus of real calls into ``Call``s, plainly and without the project's decoders.

It exists so that counting is checked against vendors' figures on its own. It reads what the checks need: chat,
Responses, embeddings and completions of the OpenAI wire formats, Anthropic messages and Gemini contents.
"""

from __future__ import annotations

import base64
import gzip
import io
import re
import struct
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from schemas.call import Call, Content, Media, Message, Part


class Real(NamedTuple):
    """A real call, its request, the repository it was recorded in, and what its vendor reported."""

    id: str
    request: dict[str, Any]
    repository: str
    call: Call
    vendor_input: int | None
    vendor_output: int | None
    reasoning: int


def read(shared: Path) -> Iterator[Real]:
    """Every successful call of the corpus that this reader understands, in file order."""
    with gzip.open(shared / "data" / "calls" / "calls.jsonl.gz") as lines:
        for line in lines:
            row = orjson.loads(line)
            if row["status"] == 200 and isinstance(row["request"], dict) and row["usage"]:
                real = convert(row)
                if real is not None:
                    yield real


def convert(row: dict[str, Any]) -> Real | None:
    """One line of the corpus, or None for a wire format that is not read here."""
    reader = {
        "openai.chat": _chat,
        "mistral.chat": _chat,
        "openai.responses": _responses,
        "openai.embeddings": _embeddings,
        "openai.completions": _completions,
        "anthropic.messages": _anthropic,
        "gemini.generate": _gemini,
    }.get(row["api"])
    if reader is None:
        return None
    request, response = row["request"], row["response"]
    chunks = response.get("stream") if isinstance(response, dict) else None
    if not isinstance(response, dict):
        return None
    call = Call()
    call.provider, call.api, call.operation = row["provider"], row["api"], "chat"
    call.model_requested = str(request.get("model") or "")
    call.model = call.model_requested
    call.usage_source = "vendor"
    call.stream = row["stream"]
    call.content = content = Content()
    try:
        reader(request, chunks if isinstance(chunks, list) else [response], call, content)
    except (AttributeError, TypeError, KeyError):  # hand-made or cut payloads: the checks do not need them
        return None
    if "[ELIDED" in str(request)[:5_000_000]:
        content.complete = content.complete and all(
            "[ELIDED" not in part.text for message in content.prompt for part in message.parts
        )
    times = [chunk.get("created") or (chunk.get("response") or chunk).get("created_at") for chunk in chunks or [response]]
    call.event_time = int(max((time for time in times if isinstance(time, (int, float))), default=0)) * 1_000_000
    call.params = _compact({key: value for key, value in request.items() if key in ("stop", "temperature")})
    usage = row["usage"]
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    seen = usage.get("prompt_tokens", usage.get("input_tokens", usage.get("promptTokenCount")))
    if row["api"] == "anthropic.messages" and seen is not None:
        seen += (usage.get("cache_read_input_tokens") or 0) + (usage.get("cache_creation_input_tokens") or 0)
    said = usage.get("completion_tokens", usage.get("output_tokens", usage.get("candidatesTokenCount")))
    call.output_reasoning = details.get("reasoning_tokens")
    return Real(row["id"], request, row["source_repo"], call, seen, said, details.get("reasoning_tokens") or 0)


def _compact(value: Any) -> bytes:
    return orjson.dumps(value) if value else b""


def _image(item: dict[str, Any]) -> Media:
    url = item.get("image_url") or item
    text, detail = (url, item.get("detail")) if isinstance(url, str) else (str(url.get("url")), url.get("detail"))
    size = re.search(r"width=(\d+) height=(\d+)", text[:400])
    width, height = (int(size[1]), int(size[2])) if size else _pixels(text)
    hint = re.search(r"[/=](\d+)(?:px-|x\1\b)", text) if text.startswith("http") else None
    if hint:  # a thumbnail of a width, or the square it was fitted into: taken for 3 to 2
        width, height = int(hint[1]), round(int(hint[1]) * 2 / 3)
    return Media("image", width, height, detail=detail or "", guessed=hint is not None)


def _sound(item: dict[str, Any]) -> Media:
    text = (item.get("input_audio") or {}).get("data") or ""
    if not text.startswith("UklG"):
        return Media("audio")
    with wave.open(io.BytesIO(base64.b64decode(text + "=="))) as sound:
        return Media("audio", milliseconds=sound.getnframes() * 1000 // sound.getframerate())


def _pixels(url: str) -> tuple[int, int]:
    """Width and height of a picture that is in its URL: of a PNG's header, or a JPEG's frame."""
    kind, comma, text = url.partition(";base64,")
    if not comma or "[ELIDED" in text[:10]:
        return 0, 0
    data = base64.b64decode(text.replace("-", "+").replace("_", "/") + "==")
    if kind.endswith("png"):
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    at = 2
    while at + 9 < len(data):
        mark, length = struct.unpack(">HH", data[at : at + 4])
        if 0xFFC0 <= mark <= 0xFFC3:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    return 0, 0


def _parts(content: Any, kind: str = "text") -> tuple[Part, ...]:
    if isinstance(content, str):
        return (Part(kind, content),)
    parts: list[Part] = []
    for item in content or ():
        if isinstance(item, str):
            parts.append(Part(kind, item))
        elif isinstance(item.get("text"), str):
            parts.append(Part(kind, item["text"]))
        elif item.get("type") == "refusal":
            parts.append(Part(kind, item["refusal"]))
        elif "image" in item.get("type", ""):
            parts.append(Part("media", "", media=_image(item)))
        elif "audio" in item.get("type", ""):
            parts.append(Part("media", "", media=_sound(item)))
        else:
            parts.append(Part("media", "", media=Media("file")))
    return tuple(parts)


def _chat_message(message: dict[str, Any], names: dict[str, str]) -> Message:
    role = message["role"]
    if role in ("tool", "function"):
        name = names.get(message.get("tool_call_id", ""), "") or message.get("name") or ""
        return Message("tool", tuple(p._replace(name=name) for p in _parts(message.get("content"), "result")))
    parts = _parts(message.get("content"))
    if message.get("refusal"):
        parts += (Part("text", message["refusal"]),)
    calls = [c["function"] for c in message.get("tool_calls") or () if c.get("function")]
    if message.get("function_call"):
        calls.append(message["function_call"])
    for tool in message.get("tool_calls") or ():
        names[tool.get("id", "")] = (tool.get("function") or {}).get("name", "")
    parts += tuple(Part("call", c.get("arguments") or "", c.get("name") or "") for c in calls)
    return Message(role, parts, message.get("name") or "")


def _choice(choice: Any) -> str:
    if isinstance(choice, str):
        return choice
    if isinstance(choice, dict):
        return str((choice.get("function") or choice).get("name") or choice.get("type") or "")
    return ""


def _chat(request: dict[str, Any], chunks: list[Any], call: Call, content: Content) -> None:
    names: dict[str, str] = {}
    content.prompt = [_chat_message(m, names) for m in request["messages"]]
    tools = request.get("tools") or [{"type": "function", "function": f} for f in request.get("functions") or ()]
    content.tools_json = _compact(tools)
    schema = request.get("response_format") or {}
    content.schema_json = _compact(schema.get("json_schema")) if schema.get("type") == "json_schema" else b""
    content.tool_choice = _choice(request.get("tool_choice") or request.get("function_call"))
    answers: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        call.model = chunk.get("model") or call.model
        for choice in chunk.get("choices") or ():
            answer = answers.setdefault(choice.get("index") or 0, {"role": "assistant", "content": "", "calls": {}})
            said = choice.get("message") or choice.get("delta") or {}
            answer["content"] += (said.get("content") or "") + (said.get("refusal") or "")
            content.refused |= bool(said.get("refusal"))
            call.stop_reason = choice.get("finish_reason") or call.stop_reason
            if said.get("function_call"):
                said = {"tool_calls": [{"function": said["function_call"]}]}
            for position, tool in enumerate(said.get("tool_calls") or ()):
                seen = answer["calls"].setdefault(tool.get("index", position), {"name": "", "arguments": ""})
                function = tool.get("function") or {}
                seen["name"] += function.get("name") or ""
                seen["arguments"] += function.get("arguments") or ""
    for answer in answers.values():
        parts: tuple[Part, ...] = (Part("text", answer["content"]),) if answer["content"] else ()
        parts += tuple(Part("call", c["arguments"], c["name"]) for c in answer["calls"].values())
        content.output.append(Message("assistant", parts))


def _responses(request: dict[str, Any], chunks: list[Any], call: Call, content: Content) -> None:
    if request.get("instructions"):
        content.prompt.append(Message("system", (Part("text", request["instructions"]),)))
    given = request.get("input")
    names: dict[str, str] = {}
    for item in [{"role": "user", "content": given}] if isinstance(given, str) else given or ():
        kind = item.get("type", "message")
        if kind == "message":
            content.prompt.append(Message(item["role"], _parts(item["content"])))
        elif kind == "function_call":
            names[item["call_id"]] = item["name"]
            called = Part("call", item["arguments"], item["name"], stored=bool(item.get("id")))
            content.prompt.append(Message("assistant", (called,)))
        elif kind == "function_call_output":
            name = names.get(item["call_id"], "")
            parts = _parts(item["output"], "result")
            content.prompt.append(Message("tool", tuple(p._replace(name=name) for p in parts)))
        else:
            content.complete = False
    if any(request.get(key) for key in ("previous_response_id", "conversation", "prompt", "context_management")):
        content.complete = False
    if (request.get("reasoning") or {}).get("mode") == "pro":
        content.complete = False
    content.tools_json = _compact(request.get("tools"))
    if any(tool.get("type") not in ("function", "custom") for tool in request.get("tools") or ()):
        content.complete = False
    shape = (request.get("text") or {}).get("format") or {}
    content.schema_json = _compact(shape) if shape.get("type") == "json_schema" else b""
    content.tool_choice = _choice(request.get("tool_choice"))
    for chunk in chunks:
        response = chunk.get("response") if "response" in chunk else chunk
        if not isinstance(response, dict) or not response.get("output"):
            continue
        call.model = response.get("model") or call.model
        call.stop_reason = (response.get("incomplete_details") or {}).get("reason") or response.get("status") or ""
        content.output = []
        content.reasoned = any(item["type"] == "reasoning" for item in response["output"])
        for item in response["output"]:
            if item["type"] == "message":
                content.output.append(Message("assistant", _parts(item["content"])))
                content.refused |= any(block.get("type") == "refusal" for block in item["content"])
            elif item["type"] == "function_call":
                content.output.append(Message("assistant", (Part("call", item["arguments"], item["name"]),)))


def _embeddings(request: dict[str, Any], chunks: list[Any], call: Call, content: Content) -> None:
    call.operation = "embedding"
    call.model = chunks[0].get("model") or call.model
    given = request["input"]
    for item in given if isinstance(given, list) else [given]:
        if isinstance(item, str):
            content.prompt.append(Message("user", (Part("text", item),)))
        else:
            content.token_inputs += len(item) if isinstance(item, list) else 1


def _completions(request: dict[str, Any], chunks: list[Any], call: Call, content: Content) -> None:
    call.operation = "completion"
    given = request["prompt"]
    for item in given if isinstance(given, list) else [given]:
        if isinstance(item, str):
            content.prompt.append(Message("user", (Part("text", item),)))
        else:
            content.token_inputs += len(item) if isinstance(item, list) else 1
    texts: dict[int, str] = {}
    for chunk in chunks:
        call.model = chunk.get("model") or call.model
        for choice in chunk.get("choices") or ():
            texts[choice.get("index") or 0] = texts.get(choice.get("index") or 0, "") + (choice.get("text") or "")
    content.output = [Message("assistant", (Part("text", text),)) for text in texts.values()]


def _anthropic(request: dict[str, Any], chunks: list[Any], call: Call, content: Content) -> None:
    if request.get("system"):
        content.prompt.append(Message("system", _parts(request["system"])))
    for message in request["messages"]:
        parts: list[Part] = []
        for block in [message["content"]] if isinstance(message["content"], str) else message["content"]:
            if isinstance(block, str):
                parts.append(Part("text", block))
            elif block["type"] == "text":
                parts.append(Part("text", block["text"]))
            elif block["type"] == "tool_use":
                parts.append(Part("call", orjson.dumps(block["input"]).decode(), block["name"]))
            elif block["type"] == "tool_result":
                parts += _parts(block.get("content"), "result")
            else:
                content.complete = False
        content.prompt.append(Message(message["role"], tuple(parts)))
    content.tools_json = _compact(request.get("tools"))
    if any("input_schema" not in tool for tool in request.get("tools") or []):
        content.complete = False
    if {"context_management", "container", "mcp_servers"} & set(request):
        content.complete = False
    chosen = request.get("tool_choice") or {}
    content.tool_choice = chosen.get("name") or chosen.get("type", "")
    content.thinking = (request.get("thinking") or {}).get("type") == "enabled"
    content.schema_json = _compact(request.get("output_format") or (request.get("output_config") or {}).get("format"))
    blocks: dict[int, dict[str, Any]] = {}
    for chunk in chunks:
        call.model = chunk.get("model") or (chunk.get("message") or {}).get("model") or call.model
        call.stop_reason = chunk.get("stop_reason") or (chunk.get("delta") or {}).get("stop_reason") or call.stop_reason
        for index, block in enumerate(chunk.get("content") or ()):
            blocks[index] = {**block, "json": orjson.dumps(block.get("input")).decode()}
        if "content_block" in chunk:
            blocks[chunk["index"]] = {**chunk["content_block"], "json": ""}
        given = chunk.get("delta") or {}
        if chunk.get("index") in blocks:
            blocks[chunk["index"]]["text"] = blocks[chunk["index"]].get("text", "") + given.get("text", "")
            blocks[chunk["index"]]["json"] += given.get("partial_json", "")
    said: list[Part] = []
    for block in blocks.values():
        if block["type"] == "text":
            said.append(Part("text", block["text"]))
        elif block["type"] == "tool_use":
            said.append(Part("call", block["json"] or "{}", block["name"]))
        else:
            return  # what it thought, or the vendor's own tools did, is not all there
    content.output = [Message("assistant", tuple(said))] if said else []


def _gemini_parts(turn: dict[str, Any], content: Content) -> tuple[list[Part], list[Part]]:
    """What a turn says, and what tools answered in it."""
    said: list[Part] = []
    answered: list[Part] = []
    for part in turn.get("parts") or ():
        if part.get("thoughtSignature"):
            said.append(Part("sealed", part["thoughtSignature"]))
        if "text" in part:
            said.append(Part("reasoning" if part.get("thought") else "text", part["text"]))
        elif "functionCall" in part:
            given = part["functionCall"]
            said.append(Part("call", orjson.dumps(given.get("args")).decode(), given["name"]))
        elif "functionResponse" in part:
            given = part["functionResponse"]
            answered.append(Part("result", orjson.dumps(given.get("response")).decode(), given["name"]))
            answered += [_blob(inner, content) for inner in given.get("parts") or ()]
        else:
            said.append(_blob(part, content))
    return said, answered


def _blob(part: dict[str, Any], content: Content) -> Part:
    given = part.get("inlineData") or part.get("inline_data") or {}
    kind = (given.get("mimeType") or given.get("mime_type") or "").partition("/")[0]
    if kind != "image":
        content.complete = False
        return Part("media", "", media=Media("file"))
    return Part("media", "", media=_image({"image_url": "data:;base64," + given["data"]}))


def _gemini(request: dict[str, Any], chunks: list[Any], call: Call, content: Content) -> None:
    system = request.get("systemInstruction") or request.get("system_instruction")
    turns = [{**system, "role": "system"}] if system else []
    for turn in [*turns, *request["contents"]]:
        said, answered = _gemini_parts(turn, content)
        role = {"model": "assistant"}.get(turn.get("role", "user"), turn.get("role", "user"))
        if answered:
            content.prompt.append(Message("tool", tuple(answered)))
        if said:
            content.prompt.append(Message(role, tuple(said)))
    content.tools_json = _compact(request.get("tools"))
    tools = request.get("tools") or []
    if any({"functionDeclarations", "function_declarations"}.isdisjoint(tool) for tool in tools):
        content.complete = False
    if request.get("cachedContent"):
        content.complete = False
    settings = request.get("generationConfig") or {}
    content.schema_json = _compact(settings.get("responseJsonSchema") or settings.get("responseSchema"))
    answers: dict[int, list[Part]] = {}
    for chunk in chunks:
        call.model = chunk.get("modelVersion") or call.model
        for one in chunk.get("candidates") or ():
            answers.setdefault(one.get("index") or 0, []).extend(_gemini_parts(one.get("content") or {}, Content())[0])
            call.stop_reason = one.get("finishReason") or call.stop_reason
    content.output = [Message("assistant", _joined(parts)) for parts in answers.values() if parts]


def _joined(parts: list[Part]) -> tuple[Part, ...]:
    """Pieces of one text as one."""
    whole: list[Part] = []
    for part in parts:
        if part.kind in ("text", "reasoning") and whole and whole[-1].kind == part.kind:
            whole[-1] = Part(part.kind, whole[-1].text + part.text)
        else:
            whole.append(part)
    return tuple(whole)
