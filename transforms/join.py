"""Parts of calls to calls: what each part tells as text, and what the parts of one call tell together.

A joined call is derived from all parts of its key, whatever their order and however often each came: it is made anew and
replaced whole when one more comes. Field by field the part of the higher rank stands, of equal ones the later. What only makes
sense together is taken together: usage of one part is never mixed with that of another.

A call is whole when all roles that its parts need are there. One that is not, when the time to wait for the rest is over, is
flagged ``partial``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final, get_args, get_origin, get_type_hints

import orjson

from schemas.call import LEAVES, TOOL_USES, Call
from schemas.part import OPEN_ENDED, PIECES, Place, Standing, StoredPart
from transforms.count.counting import stand_in

PARTIAL: Final = "partial"
"""Flag of a call of which a part never came."""

_OWN_TIME: Final = ("exact", "second")
_ELSEWHERE: Final = frozenset(
    (
        *("tenant", "source", "segment", "position", "item", "call_key", "event_time", "time_quality"),
        *("transport_id", "transport_item", "transport_time", "inside_hash", "beside", "params", "content"),
    )
)
"""Fields that are no matter of what a part tells: they are columns of their own, or live on the way only."""
_TIME: Final = ("event_time", "time_quality")
_USAGE: Final = (*LEAVES, "vendor_input", "vendor_output", "vendor_total", *TOOL_USES, "usage_source", "usage_quality")
_MONEY: Final = ("reported_cost", "reported_cost_by")
_SIDES: Final = ("system_", "tools_", "history_", "tool_result_", "user_")
_PROMPT: Final = (
    "counted_input",
    "counted_input_error",
    "media_parts",
    *(name for name in get_type_hints(Call) if name.startswith(_SIDES)),
)
_ANSWER: Final = ("counted_output", "counted_output_error", "answer_bytes", "answer_tokens", "answer_hash", "answer_call_tokens")
_COUNTED: Final = ("counted_with", "count_quality")
_BLOCKS: Final = frozenset((*_USAGE, *_MONEY, *_PROMPT, *_ANSWER, *_COUNTED))
_UNITED: Final = frozenset(("tags", "headers", "flags", "authority"))
_SOURCES: Final = ("", "none", "counted", "gateway", "vendor")
_QUALITIES: Final = ("", "exact_tokenizer", "estimate", "partial")


def _kind(hint: Any) -> type:
    """What a field holds where it holds something."""
    among = {hint, get_origin(hint), *get_args(hint), *map(get_origin, get_args(hint))}
    return next(kind for kind in (dict, tuple, bool, float, int, bytes, str) if kind in among)


_KINDS: Final = {name: _kind(hint) for name, hint in get_type_hints(Call).items() if name != "content"}


def part_key(tenant: str, key: str) -> bytes:
    """The key of the call whose parts share ``key``: 16 bytes, never made of what the parts tell."""
    said = repr((tenant, key)).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(said, digest_size=16, person=b"part_key").digest()


def overlaps(source: str, patterns: Iterable[str]) -> bool:
    """Whether a source is declared to tell of calls that others tell of, too; ``*`` in a pattern stands for anything."""
    return any(source == pattern or source.startswith(f"{pattern}/") or fnmatchcase(source, pattern) for pattern in patterns)


def observed_key(call: Call) -> str:
    """What observers of one call share. What a gateway's cache answered is another call, and so is another attempt; one whose
    number is not known is the first."""
    return f"call:{call.provider_call_id}:{int(call.gateway_cache_hit)}:{max(1, call.attempt)}"


def told(call: Call) -> dict[str, str]:
    """What a call tells, as text by field; what it does not tell is not there. ``call_of`` is the way back."""
    said = {"event_time": str(call.event_time), "time_quality": call.time_quality}
    for name, value in call.__dict__.items():
        if name in _ELSEWHERE or value is None or (value == getattr(Call, name) and name != "status"):
            continue
        kind = _KINDS[name]
        if kind is dict:
            said.update({f"{name}.{key}": str(text) for key, text in value.items()})
        elif kind is tuple:
            said.update(dict.fromkeys((f"{name}.{one}" for one in value), ""))
        elif kind is bytes:
            said[name] = value.hex()
        elif kind is bool:
            said[name] = "1"
        else:
            said[name] = repr(value) if kind is float else str(value)
    return said


def call_of(said: dict[str, str]) -> Call:
    """The call that tells this. Fields that are not known (of an older version) are left out."""
    call = Call()
    for name, text in said.items():
        field, dot, key = name.partition(".")
        kind = _KINDS.get(field)
        if kind is dict and dot:
            setattr(call, field, {**(getattr(call, field) or {}), key: text})
        elif kind is tuple and dot:
            setattr(call, field, (*getattr(call, field), key))
        elif kind is bytes:
            setattr(call, field, bytes.fromhex(text))
        elif kind is not None and not dot:
            setattr(call, field, kind(text))
    return call


def in_order(parts: Iterable[StoredPart]) -> list[StoredPart]:
    """The parts of one key, each once, the one that stands last: by rank, then time, then place."""
    each = {(part.place[1:], part.record_hash): part for part in parts}
    return sorted(each.values(), key=lambda part: (part.rank, part.time, part.place[1:], part.record_hash))


def whole(parts: Collection[StoredPart]) -> bool:
    """Whether all roles that a call needs are there."""
    roles = {part.role for part in parts}
    return all(role in roles for part in parts for role in part.needs)


def first_place(parts: Iterable[StoredPart]) -> Place:
    """The place of the part that expires first: while it is there, all parts are that there were at the call's first write."""
    return min(parts, key=lambda part: (part.day, part.time, part.place[1:], part.record_hash)).place


def merge(parts: Sequence[StoredPart], standing: Standing | None = None) -> Call:
    """The call that the parts of one key tell of together; its key, its tenant.

    It is the same in whatever order parts are given, and however often. ``standing``: what was written of the call before; its
    time and place stay, so that it is replaced where it is.
    """
    ordered = in_order(parts)
    calls = [call_of({"event_time": str(part.time), "time_quality": "transport"} | part.told) for part in ordered]
    merged = _united(calls)
    prompt = _block(merged, _PROMPT, [call for call in calls if call.counted_input is not None])
    answer = _block(merged, _ANSWER, [call for call in calls if call.counted_output is not None])
    merged.counted_with = next((call.counted_with for call in (prompt, answer) if call is not None), "")
    qualities = [call.count_quality for call in (prompt, answer) if call is not None]
    merged.count_quality = max(qualities, key=_QUALITIES.index, default="")
    _block(merged, _MONEY, [call for call in calls if call.reported_cost is not None])
    best = _block(merged, _USAGE, sorted(calls, key=lambda call: _SOURCES.index(call.usage_source)))
    if best is not None and best.usage_source == "counted" and qualities:
        _block(merged, _USAGE, [Call()])
        stand_in(merged)
    if standing is None:
        merged.event_time, merged.time_quality = _began(calls)
        standing = Standing(merged.event_time, merged.time_quality, first_place(ordered))
    merged.event_time, merged.time_quality = standing.event_time, standing.time_quality
    merged.source, merged.segment, merged.position, merged.item = standing.place
    merged.tenant, merged.call_key = ordered[0].tenant, ordered[0].key
    if not whole(ordered):
        merged.flag(PARTIAL)
        if merged.usage_source != "none":
            merged.usage_quality = "partial"
    return merged


def _united(calls: Sequence[Call]) -> Call:
    """Field by field what the last of these calls says that says it; tags, headers and flags are those of all."""
    merged = Call()
    for call in calls:
        for name, value in call.__dict__.items():
            if name not in _BLOCKS and name not in _UNITED and name not in _TIME:
                setattr(merged, name, value)
        for flag in call.flags:
            merged.flag(flag)
        if call.tags:
            merged.tags = {**(merged.tags or {}), **call.tags}
        if call.headers:
            merged.headers = {**(merged.headers or {}), **call.headers}
        merged.authority = max(merged.authority, call.authority)
    return merged


def _block(merged: Call, names: Iterable[str], among: Sequence[Call]) -> Call | None:
    """Take fields together from the last of these calls, which it is; none: they stay as nobody tells them."""
    if not among:
        return None
    for name in names:
        merged.__dict__.pop(name, None)
        if name in among[-1].__dict__:
            setattr(merged, name, among[-1].__dict__[name])
    return among[-1]


def _began(calls: Iterable[Call]) -> tuple[int, str]:
    """The earliest time that a record has of its own; without any, the earliest of a transport."""
    times = [(call.event_time, call.time_quality) for call in calls]
    return min([time for time in times if time[1] in _OWN_TIME] or times)


# -- pieces of a record that was cut in its bytes -----------------------------------------------------------------------


def pieces(parts: Iterable[StoredPart]) -> list[StoredPart]:
    """Those parts that are pieces of a record, one for each number, in their order."""
    return [part for _, part in sorted({part.number: part for part in in_order(parts) if part.of}.items())]


def open_ended(some: Sequence[StoredPart]) -> bool:
    """Whether nobody tells how many pieces there are."""
    return some[0].of == OPEN_ENDED


def complete(some: Sequence[StoredPart]) -> bool:
    """Whether these are all pieces of their record; where nobody tells how many there are, whether none is missing between."""
    if not some:
        return False
    numbers = [part.number for part in some]
    if open_ended(some):
        return numbers[-1] - numbers[0] == len(numbers) - 1
    return numbers == list(range(max(part.of for part in some)))


def put_together(some: Sequence[StoredPart], data: Sequence[bytes]) -> bytes:
    """The record that these pieces are, of which ``data`` is the bytes."""
    if open_ended(some):
        return b'{"%s":[%s]}' % (PIECES.encode(), b",".join(data))
    return b"".join(data)


def names_of(some: Sequence[StoredPart]) -> str:
    """Which pieces of how many are there, for a person."""
    total = ", how many there are nobody tells," if open_ended(some) else f" of {max(part.of for part in some)}"
    return orjson.dumps([part.number for part in some]).decode() + total
