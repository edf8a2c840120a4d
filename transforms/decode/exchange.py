"""One request and what came back for it: the shape every vendor body is read from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson

from schemas.call import Call
from transforms.decode.eventstream import is_event_stream, read_event_stream
from transforms.decode.salvage import salvage
from transforms.decode.web import Address

MAX_STRING_DEPTH: Final = 3


class Exchange:
    """A request and its answer, parsed.

    ``answer`` is the whole body where it is an object, ``chunks`` the parsed parts of a stream in order (or a body
    that is an array). ``request_cut`` and ``answer_cut`` say that a log was too short for the body. ``extra`` collects
    calls the same record holds beside the main one. ``polled`` is the status of an answer that is made in the background,
    ``final`` for its last; empty for all others.
    """

    __slots__ = ("address", "answer", "answer_cut", "chunks", "extra", "headers", "polled", "request", "request_cut", "status")

    def __init__(
        self,
        request: dict[str, Any],
        answer: dict[str, Any],
        chunks: list[Any] | None,
        address: Address,
        headers: dict[str, str],
        status: int = 0,
    ) -> None:
        self.request = request
        self.answer = answer
        self.chunks = chunks
        self.address = address
        self.headers = headers
        self.status = status
        self.request_cut = False
        self.answer_cut = False
        self.extra: tuple[Call, ...] = ()
        self.polled = ""


class Body(NamedTuple):
    """One wire format of a vendor.

    ``ask`` reads the request, and is all that is read of a call that failed; ``reply`` reads a successful answer, after
    it. Both write on the call. ``texts`` says whether prompts and answers are read for counting.
    """

    api: str
    operation: str
    describes: str
    texts: bool
    ask: Callable[[Call, Exchange], None]
    reply: Callable[[Call, Exchange], None]


def parse_json(value: Any, depth: int = MAX_STRING_DEPTH) -> Any:
    """JSON inside a string, inside a string …; the value itself where it is no JSON. At most ``depth`` levels."""
    while depth and isinstance(value, str | bytes):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            return value
        depth -= 1
    return value


def parse_stream(text: str) -> tuple[list[Any], bool]:
    """Chunks of a recorded stream, and whether it was cut.

    Server-sent events (any line ends, comments, events without data, ``[DONE]``, the data of one event over several
    lines) or JSON lines. A last piece that does not parse was cut, and what of it is whole is a chunk; one in the
    middle is left out and counts as a cut.
    """
    chunks: list[Any] = []
    cut = False
    broken = ""
    pending: list[str] = []

    def close() -> None:
        nonlocal cut, broken
        if not pending:
            return
        data = "\n".join(pending)
        pending.clear()
        if data.strip() == "[DONE]":
            return
        try:
            chunks.append(orjson.loads(data))
            broken = ""
        except orjson.JSONDecodeError:
            cut = True
            broken = data

    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if line.startswith("data:"):
            pending.append(line[5:].removeprefix(" "))
        elif not line:
            close()
        elif line[0] in "{[":
            close()
            pending.append(line)
            close()
    close()
    rest = salvage(broken) if broken else None
    if rest:
        chunks.append(rest)
    return chunks, cut


STREAM_STARTS: Final = ("data:", "event:", ":", "id:", "retry:")
"""What server-sent events begin with."""


def read_answer(value: Any) -> tuple[dict[str, Any], list[Any] | None, bool]:
    """A logged response body as (object, chunks, cut).

    A body is an object, an array, ``{"stream": [chunks]}``, ``{"events": [{"event_type": "", "payload": {}}]}``, or a string:
    JSON, JSON lines, server-sent events, or AWS' binary events in base64. Of JSON that was cut, what is whole is read.
    """
    if type(value) is dict:  # nearly all
        stream = value.get("stream")
        if stream is None and "events" not in value:
            return value, None, False
    if isinstance(value, str):
        stripped = value.lstrip("\ufeff \r\n\t")
        if not stripped:
            return {}, None, False
        if stripped.startswith(STREAM_STARTS):
            chunks, cut = parse_stream(stripped)
            return {}, chunks, cut
        if is_event_stream(stripped):
            chunks, cut = read_event_stream(stripped)
            return {}, chunks, cut
        parsed = parse_json(stripped)
        if isinstance(parsed, str):
            return _read_cut(stripped, parsed == stripped)
        value = parsed
    if isinstance(value, dict):
        stream = value.get("stream")
        if type(stream) is list:
            return {}, stream, False
        if type(stream) is str and len(value) == 1:
            return read_answer(stream)
        events = decoded_events(value.get("events"))
        return (value, None, False) if events is None else ({}, events, False)
    if isinstance(value, list):
        return {}, value, False
    return {}, None, False


def _read_cut(text: str, raw: bool) -> tuple[dict[str, Any], list[Any] | None, bool]:
    """A body that is text but not JSON: several lines of it, or some that was cut."""
    if text[0] not in "{[":
        return {}, None, raw
    first, line_break, _ = text.partition("\n")
    if line_break and first[0] == "{" and first.rstrip()[-1] == "}":
        chunks, cut = parse_stream(text)
        if chunks:
            return {}, chunks, cut
    found = salvage(text)
    if isinstance(found, list):
        return {}, found, True
    return found or {}, None, True


def decoded_events(events: Any) -> list[Any] | None:
    """The decoded events of a binary stream as ``{type: payload}``; ``None`` where it is something else."""
    if (
        type(events) is not list
        or not events
        or not all(type(e) is dict and "payload" in e and "event_type" in e for e in events)
    ):
        return None
    return [{str(event["event_type"]): event["payload"]} for event in events]
