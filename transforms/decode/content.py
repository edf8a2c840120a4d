"""Messages and their parts: what the wire formats have in common."""

from __future__ import annotations

import contextlib
import re
import struct
from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import Any, Final

from schemas.call import Call, Content, Media, Message, Part
from transforms.decode.values import dumps, dumps_sorted, name, text

ROLES: Final = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
    "model": "assistant",
    "human": "user",
}

# Settings that change what the model answers are kept as ``params``; these are content, or about the caller.
NOT_PARAMS: Final = frozenset(
    {
        "messages",
        "input",
        "tools",
        "functions",
        "system",
        "instructions",
        "prompt",
        "suffix",
        "contents",
        "content",
        "systemInstruction",
        "system_instruction",
        "toolConfig",
        "inputText",
        "inputs",
        "documents",
        "texts",
        "query",
        "requests",
        "instances",
        "images",
        "image",
        "mask",
        "context",
        "file",
        "user",
        "metadata",
        "requestMetadata",
        "safety_identifier",
        "model",
    }
)

REDACTED: Final = frozenset({"redacted-by-litellm", "[REDACTED]", "<redacted>", "REDACTED", "{}"})
"""Texts that loggers write in place of a prompt or an answer."""

_LONGEST_REDACTED: Final = 1 + max(map(len, REDACTED))

_ELIDED: Final = re.compile(r"\[ELIDED base64 [^\]]*?bytes=(\d+)(?:[^\]]*?width=(\d+))?(?:[^\]]*?height=(\d+))?")
_HEAD: Final = 65_536
_WAVE_HEAD: Final = 4_096


MAX_MARKS: Final = 2**16 - 1
"""Cache marks that are told of a prompt; vendors take four."""


def role_of(value: Any, missing: str) -> str:
    """The role a message names; ``missing`` is the wire format's where it names none, and what no format has is a user's."""
    return ROLES.get(value or missing, "user") if type(value) is str or not value else "user"


def index_of(value: object) -> Any:
    """An index of a stream as a key: none is the first, and so is an object or an array, which can be none."""
    return 0 if not value or type(value) is dict or type(value) is list else value


def params(request: dict[str, Any]) -> bytes:
    """The request's settings other than content, as compact JSON with sorted keys."""
    kept = {key: value for key, value in request.items() if key not in NOT_PARAMS}
    return dumps_sorted(kept) if kept else b""


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of the start of a PNG, GIF or JPEG file; zeros where it does not tell."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    if data[:4] == b"GIF8" and len(data) >= 10:
        width, height = struct.unpack("<HH", data[6:10])
        return width, height
    if data[:2] == b"\xff\xd8":
        at = 2
        while at + 9 <= len(data) and data[at] == 0xFF:
            marker = data[at + 1]
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                height, width = struct.unpack(">HH", data[at + 5 : at + 9])
                return width, height
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return 0, 0


def wave_length(data: bytes, size: int) -> int:
    """Milliseconds that a WAV file of ``size`` bytes lasts, from its start; 0 where it does not tell."""
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        return 0
    at, rate = 12, 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"fmt ":
            rate = int.from_bytes(data[at + 16 : at + 20], "little")  # bytes a second
        elif data[at : at + 4] == b"data":
            return min(length, max(size - at - 8, 0)) * 1000 // rate if rate else 0  # a stream tells the greatest length there is
        at += 8 + length + length % 2
    return 0


_LINKED: Final = (
    re.compile(r"[/_=-](?P<width>\d{2,5})x(?P<height>\d{2,5})(?!\w)"),  # …/612x612.jpg, …?s=612x612
    re.compile(r"/(?P<width>\d{2,5})px-"),  # thumbnails of MediaWiki
    re.compile(r"_(?P<width>\d{2,5})x(?=[._@])"),  # pictures of shops
    re.compile(r"[?&](?:w|width)=(?P<width>\d{2,5})(?:&(?:h|height)=(?P<height>\d{2,5}))?(?!\d)"),
)


def linked_size(link: str) -> tuple[int, int]:
    """Width and height that a picture's link hints at; zeros where it does not.

    A square is taken for the room that the picture was fitted into, and, like a width alone, for a picture of 3 to 2.
    """
    for pattern in _LINKED:
        if found := pattern.search(link[:_LONGEST_LINK]):
            width = int(found["width"])
            height = int(found.groupdict().get("height") or 0)
            return width, round(width * 2 / 3) if height in (0, width) else height
    return 0, 0


_LONGEST_LINK: Final = 2_000


def media(kind: str, data: object, detail: object = "") -> Media:
    """An attachment from its data URL, bare base64 or link. Size is 0 where only a link or an id is there."""
    level = text(detail)
    if not isinstance(data, str) or not data:
        return Media(kind, detail=level)
    if data.startswith(("http://", "https://", "gs://", "s3://", "file:")):
        width, height = linked_size(data) if kind == "image" else (0, 0)
        return Media(kind, width, height, 0, level, guessed=width > 0)
    start = 0
    if data.startswith("data:"):
        comma = data.find(",", 0, 200)
        if comma < 0:
            return Media(kind, detail=level)
        start = comma + 1
    elided = _ELIDED.match(data, start)
    if elided:
        size, width, height = (int(group or 0) for group in elided.groups())
        return Media(kind, width, height, size, level)
    size = (len(data) - start) * 3 // 4 - data.endswith("=") - data.endswith("==")
    width = height = length = 0
    if kind == "audio" and data.startswith("UklGR", start):
        head = data[start : start + _WAVE_HEAD]
        with contextlib.suppress(Base64Error, ValueError):
            length = wave_length(a2b_base64(head[: len(head) & ~3]), size)
    if kind == "image":
        head = data[start : start + _HEAD].replace("-", "+").replace("_", "/")  # Google's clients write it for URLs
        try:
            width, height = image_size(a2b_base64(head[: len(head) & ~3]))
        except (Base64Error, ValueError):
            width = height = 0
        if max(width, height) > 1_000_000:
            width = height = 0
    return Media(kind, width, height, max(size, 0), level, milliseconds=length)


def media_part(kind: str, data: object, detail: object = "", label: object = "") -> Part:
    """A part that is an attachment."""
    return Part("media", "", name(label), media(kind, data, detail))


def arguments_text(value: object) -> str:
    """Arguments of a tool call as the JSON text a model wrote or reads; some wire formats carry an object."""
    if isinstance(value, str):
        return value
    return "" if value is None else dumps(value).decode()


def chosen_tool(value: object) -> str:
    """``tool_choice`` as one word: auto, none, required, any … or the name of the one tool to call."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        function = value.get("function")
        chosen = value.get("name") or (function.get("name") if isinstance(function, dict) else None)
        return name(chosen or value.get("type") or value.get("mode"))
    return ""


def content_of(call: Call) -> Content:
    """The call's content, made where there is none yet."""
    content = call.content
    if content is None:
        content = call.content = Content()
    return content


def is_redacted(messages: list[Message]) -> bool:
    """Whether a logger put a placeholder in the place of a text."""
    for message in messages:
        for part in message[1]:
            if len(part[1]) < _LONGEST_REDACTED and part[1] in REDACTED and (part[1] != "{}" or part[0] == "text"):
                return True  # a call may well have no arguments
    return False


def count_breakpoints(messages: object) -> int:
    """How many cache marks are on messages, or tools, and on the blocks of their content."""
    if type(messages) is not list:
        return 0
    marks = 0
    for message in messages:
        if type(message) is not dict:
            continue
        if "cache_control" in message or "cachePoint" in message:
            marks += message.get("cache_control") is not None or message.get("cachePoint") is not None
        inner = message.get("content")
        if type(inner) is list:
            for block in inner:
                if type(block) is dict and (
                    block.get("cache_control") or block.get("cachePoint") or block.get("prompt_cache_breakpoint")
                ):
                    marks += 1
    return marks
