"""Prompts that begin as an earlier prompt did: an agent, or a chat, sends its whole history again at every step.

What such a prompt was read as is remembered by the JSON of its messages. Where a prompt begins with the same bytes, only
what follows is read. Bytes that are equal read equal, so this changes the time it takes and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson

from schemas.call import Content, Message
from transforms.decode.content import count_breakpoints, is_redacted
from transforms.recent import Budget, Recent

Reader = Callable[[Any, Content, list[Message]], None]
"""Reads one message of a wire format to the end of a list; clears ``content.complete`` where its log misses something."""

SHORTEST: Final = 4
MOVING: Final = 4
"""The last messages are likely to differ at the next step: clients move their cache marks along."""

MAX_BYTES: Final = 1 << 20
_KNOWN: Final = Recent(Budget(48 << 20))


class _Point(NamedTuple):
    """How far a prompt was read: bytes of its JSON, logged messages, messages they were read as; cache marks so far."""

    size: int
    logged: int
    read: int
    marks: int
    whole: bool


class _History(NamedTuple):
    """A prompt as read. ``steady`` lies before the messages likely to change, ``end`` after the last."""

    data: bytes
    prompt: list[Message]
    steady: _Point
    end: _Point


_START: Final = _Point(0, 0, 0, 0, True)


def read_history(messages: list[Any], read: Reader, content: Content) -> int:
    """Append ``messages`` to ``content.prompt``; the number of cache marks on them."""
    if len(messages) < SHORTEST:
        return _read(messages, read, content, content.prompt)
    try:
        data = orjson.dumps(messages)
        key = (read, orjson.dumps(messages[1]))  # the first is, most often, a system prompt that many share
    except TypeError:  # nested deeper than orjson writes
        return _read(messages, read, content, content.prompt)
    if len(data) > MAX_BYTES:
        return _read(messages, read, content, content.prompt)
    complete, content.complete = content.complete, True
    known: _History | None = _KNOWN.find(key)
    point = _START if known is None else _shared(known, data)
    prompt = known.prompt[: point.read] if known is not None else []
    content.complete = point.whole
    steady = max(point.logged, len(messages) - MOVING)
    marks = point.marks
    if steady > point.logged:
        marks += _read(messages[point.logged : steady], read, content, prompt)
        size = len(data) - len(orjson.dumps(messages[steady:])) if steady < len(messages) else len(data) - 1
        point = _Point(size, steady, len(prompt), marks, content.complete)
    if steady < len(messages):
        marks += _read(messages[steady:], read, content, prompt)
    end = _Point(len(data) - 1, len(messages), len(prompt), marks, content.complete)
    held = 3 * len(data) + 400 * len(prompt)
    before = 3 * len(known.data) + 400 * len(known.prompt) if known is not None else 0
    _KNOWN.put(key, _History(data, prompt, point, end), held, held - before)
    content.prompt += prompt
    content.complete = content.complete and complete
    return marks


def _shared(known: _History, data: bytes) -> _Point:
    """The furthest point up to which ``data`` says what ``known`` says."""
    for point in (known.end, known.steady):
        if data.startswith(known.data[: point.size]) and data[point.size : point.size + 1] in (b",", b"]"):
            return point
    return _START


def _read(messages: list[Any], read: Reader, content: Content, into: list[Message]) -> int:
    first = len(into)
    for message in messages:
        read(message, content, into)
    if is_redacted(into[first:] if first else into):
        content.complete = False
    return count_breakpoints(messages)
