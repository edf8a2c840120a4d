"""Records made wrong, step by step: bytes flipped and cut, keys dropped, types swapped, nested, wrapped in envelopes.

A step is a kind and a few numbers, which say where and with what. The same steps make the same record of the same seed.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import orjson

MAX_PLACES: Final = 4000
"""Places of a record that a step may choose among: the first of a large one."""


class Step(NamedTuple):
    """``kind`` chooses among ``STEPS``; ``where`` and ``what`` are any numbers of 0 or more."""

    kind: int
    where: int
    what: int


TOO_DEEP: Final = b"[" * 300
"""In place of what is nested deeper than orjson writes."""

Place = tuple[Any, Any]
"""A container of parsed JSON and a key or index in it."""


class Raw(str):
    """JSON to be written as it stands, where no parsed value has that form."""


WEIRD: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 1.5, -0.0, 63, 10**12 + 1, 2**31, 2**63, 2**64 - 1, 1e308, 5e-324, 1772442900, 1772442900000,
    "", " ", "x", "63", "-5", "1e5", "12.7", "NaN", "true", "null", "{}", "[]", "\x00", "ÿ", "\u2028", "2026-03-02T09:15:00Z", "9" * 30,
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "data:image/png;base64,iVBORw0KGgo=", "data: [DONE]", "data: {\n\ndata:",
    "[ELIDED base64 sha256=0 bytes=99999999999999999999 width=1 height=1]", "https://[::1", "http://user@:0/?x#y", "a" * 300, "é" * 5000, "[" * 1000 + "]" * 1000, '{"a":' * 900 + "1" + "}" * 900,
    [], {}, [None], [[]], [{}], [1, 2, "a"], {"": None}, {"type": []}, {"type": {}}, {"text": {}}, {"a": {"b": [{"c": []}]}},
    {"role": [], "content": {}}, [{"index": {}, "delta": []}], {"function": [], "index": []}, {"usage": []}, {"error": [1]},
    Raw("1e400"), Raw("-1e400"), Raw("1" + "0" * 400), Raw("123456789012345678901234567890"), Raw('"\\ud800"'), Raw('"\\udc00\\ud800"'),
    Raw('"\\u0000"'), Raw("[" * 300 + "]" * 300), Raw('{"a":' * 200 + "1" + "}" * 200), Raw("NaN"), Raw("01"), Raw("1."), Raw('{"a":1,"a":2}'),
)  # fmt: skip
"""Values that loggers, or attackers, write where others belong."""


def mutate(data: bytes, steps: Sequence[Step]) -> bytes:
    """The record with every step taken, in order; what a step cannot be taken on stays as it is."""
    for step in steps:
        data = STEPS[step.kind % len(STEPS)](data, step.where, step.what)
    return data


def places(value: Any) -> list[Place]:
    """Where something stands in parsed JSON, by a plain walk."""
    found: list[Place] = []
    waiting = [value]
    while waiting and len(found) < MAX_PLACES:
        some = waiting.pop()
        keys: Any = list(some) if isinstance(some, dict) else range(len(some)) if isinstance(some, list) else ()
        for key in keys:
            found.append((some, key))
            waiting.append(some[key])
    return found


def written(value: Any) -> bytes:
    """Parsed JSON as bytes, ``Raw`` values as they stand."""
    raws: list[str] = []

    def mark(some: Any) -> Any:
        if isinstance(some, Raw):
            raws.append(some)
            return f"\ue000{len(raws) - 1}\ue000"
        raise TypeError

    try:
        data = orjson.dumps(value, default=mark, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
    except TypeError:  # nested deeper than orjson writes
        return TOO_DEEP
    for number, raw in enumerate(raws):
        data = data.replace(f'"\ue000{number}\ue000"'.encode(), raw.encode())
    return data


def _parsed(change: Callable[[list[Place], int, int], None]) -> Callable[[bytes, int, int], bytes]:
    """A step on what a record says; none on what is no JSON."""

    def step(data: bytes, where: int, what: int) -> bytes:
        try:
            value = orjson.loads(data)
        except orjson.JSONDecodeError:
            return data
        holder = [value]
        found = places(value)
        if found:
            change(found, where, what)
        return written(holder[0])

    return step


def _swap(found: list[Place], where: int, what: int) -> None:
    holder, key = found[where % len(found)]
    holder[key] = WEIRD[what % len(WEIRD)]


def _drop(found: list[Place], where: int, what: int) -> None:
    holder, key = found[where % len(found)]
    del holder[key]


def _move(found: list[Place], where: int, what: int) -> None:
    holder, key = found[where % len(found)]
    other, place = found[what % len(found)]
    copied = written(holder[key])  # no value holds itself
    if not copied.startswith(TOO_DEEP):
        other[place] = orjson.loads(copied)


def _rename(found: list[Place], where: int, what: int) -> None:
    named = [place for place in found if isinstance(place[0], dict)]
    if named:
        holder, key = named[where % len(named)]
        holder[named[what % len(named)][1]] = holder.pop(key)


def _nest(found: list[Place], where: int, what: int) -> None:
    holder, key = found[where % len(found)]
    for level in range(what % 120):
        holder[key] = [holder[key]] if (what >> 8) + level & 1 else {"content": holder[key]}


def _as_text(found: list[Place], where: int, what: int) -> None:
    """JSON as a string, as loggers write bodies; perhaps cut, perhaps as an event of a stream."""
    holder, key = found[where % len(found)]
    text = written(holder[key]).decode()
    forms = (
        text,
        text[: len(text) // 2],
        f"data: {text}\n\ndata: [DONE]\n\n",
        f"{text}\n{text}\n",
        f"event: x\r\ndata: {text[:-1]}",
    )
    holder[key] = forms[what % len(forms)]


def _repeat(found: list[Place], where: int, what: int) -> None:
    """A list with its first entry many times, a text many times over."""
    holder, key = found[where % len(found)]
    value = holder[key]
    if isinstance(value, list | str) and len(written(value)) < 10_000:
        holder[key] = value * (what % 50)


def _flip(data: bytes, where: int, what: int) -> bytes:
    changed = bytearray(data)
    for turn in range(1 + what % 4 if data else 0):
        changed[(where + turn * 7919) % len(data)] ^= 1 << (what + turn) % 8
    return bytes(changed)


def _cut(data: bytes, where: int, what: int) -> bytes:
    return data[: where % (len(data) + 1)]


def _lose(data: bytes, where: int, what: int) -> bytes:
    start = where % (len(data) + 1)
    return data[:start] + data[start + what % 200 :]


def _insert(data: bytes, where: int, what: int) -> bytes:
    start = where % (len(data) + 1)
    pieces = (
        b"\x00",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\n",
        b"}",
        b"[",
        b'"',
        b"\\",
        b"\xed\xa0\x80",
        b",",
        b'{"a":1}',
        b"\x1f\x8b",
        b" " * 3000,
    )
    return data[:start] + pieces[what % len(pieces)] + data[start:]


def _double_key(data: bytes, where: int, what: int) -> bytes:
    """A key twice: another value before that of a key at the top."""
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return data
    if not isinstance(value, dict) or not value:
        return data
    key = orjson.dumps(list(value)[where % len(value)])
    return b"{" + key + b":" + written(WEIRD[what % len(WEIRD)]) + b"," + data.lstrip()[1:]


def _wrap(data: bytes, where: int, what: int) -> bytes:
    """An envelope around it."""
    text = data.decode("utf-8", "replace")
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        value = text
    encoded = base64.b64encode(data).decode()
    number = str(where)
    envelopes: tuple[Any, ...] = (
        [value, value],
        text,
        {"message": {"data": encoded, "messageId": number, "publishTime": "2026-03-02T09:15:00Z", "attributes": {"k": "v"}}},
        {"message": {"data": base64.b64encode(gzip.compress(data)).decode(), "message_id": number}},
        {"logName": "projects/p/logs/l", "insertId": number, "timestamp": "2026-03-02T09:15:00Z", "jsonPayload": value},
        {"logName": "projects/p/logs/l", "insertId": number, "receiveTimestamp": 1, "textPayload": text, "labels": {"a": "b"}},
        {"specversion": "1.0", "id": number, "source": "/s", "type": "t", "time": "2026-03-02T09:15:00Z", "data": value},
        {"specversion": "1.0", "id": number, "source": "/s", "type": "t", "data_base64": encoded},
        {"records": [value, value, None]},
        {"messageType": "DATA_MESSAGE", "logGroup": "g", "logStream": "s", "owner": "1", "subscriptionFilters": [],
         "logEvents": [{"id": number, "timestamp": 1772442900000, "message": text}]},
        {"awslogs": {"data": encoded}},
        {"request": value, "response": value, "url": "https://api.openai.com/v1/chat/completions", "status": 200},
        {"schema": "llm-finops/call/v1", "usage": value},
    )  # fmt: skip
    if what % (len(envelopes) + 1) == len(envelopes):
        return gzip.compress(data, mtime=0)
    return written(envelopes[what % (len(envelopes) + 1)])


STEPS: Final[tuple[Callable[[bytes, int, int], bytes], ...]] = (
    _parsed(_swap), _parsed(_swap), _parsed(_swap), _parsed(_swap), _parsed(_drop), _parsed(_drop), _parsed(_move), _parsed(_rename),
    _parsed(_nest), _parsed(_as_text), _parsed(_repeat), _flip, _cut, _lose, _insert, _double_key, _wrap, _wrap,
)  # fmt: skip
