"""What of a record became what of its call, and what was left over: found by trying, so it holds for every format.

The record is decoded again and again, each time with one part of it left out, or altered with its type kept. What then differs in
the outcome came from that part: that is the claim, no more and no less. A part that may be left out and altered without any
difference is left over. The walk is from the top down, and ends after a number of decodes.

Objects are looked into also where they are JSON in a string, or base64 of JSON or of gzip, as envelopes hold it.
"""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

import orjson

from schemas.call import Call, Content
from schemas.part import Part
from transforms.decode.envelopes import ENVELOPES, MAX_ENVELOPES, Budget, Opened, open_envelopes, parsed
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.exchange import parse_json
from transforms.decode.mapping import Mapping
from transforms.decode.record import decode_record
from transforms.decode.registry import Outcome, format_of, index_of
from transforms.decode.scrub import scrub
from transforms.decode.values import dumps

MAX_DECODES: Final = 2000
"""Decodes that the explanation of a record may take."""

_MAX_SHOWN: Final = 120
_HIDDEN: Final = frozenset({"inside_hash"})
"""Of the bytes, so it tells nothing of what they say."""
_GONE: Final = object()
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

View = dict[str, Any]
"""An outcome by its fields; those at their default are left out. ``outcome`` says what it is."""


@dataclass(frozen=True)
class LeftOver:
    """A part of the record that the outcome does not depend on. ``size``: characters of a text, else items."""

    path: str
    kind: str
    size: int


@dataclass(frozen=True)
class Source:
    """A part of the record, and the fields that differ without it (``removed``) or with another value in it (``altered``)."""

    path: str
    removed: tuple[str, ...]
    altered: tuple[str, ...]

    @property
    def fields(self) -> tuple[str, ...]:
        return tuple(sorted({*self.removed, *self.altered}))


@dataclass
class Explained:
    """One record: the envelopes and the format of it, outermost first, what it became and why.

    ``unseen``: parts that were not tried, because ``MAX_DECODES`` was reached.
    """

    routes: tuple[str, ...]
    outcomes: tuple[View, ...]
    sources: list[Source] = field(default_factory=list)
    left_over: list[LeftOver] = field(default_factory=list)
    decodes: int = 1
    unseen: int = 0

    def from_where(self) -> dict[str, list[str]]:
        """The parts of the record by the fields of the outcome that they gave, in the order of the record."""
        found: dict[str, list[str]] = {}
        for source in self.sources:
            for one in source.fields:
                found.setdefault(one, []).append(source.path)
        return found

    def value(self, label: str) -> str:
        """A field of the outcome as it may be shown; a dash where it is not known."""
        number, _, name = label.removeprefix("[").partition("].") if label.startswith("[") else ("0", "", label)
        view = self.outcomes[int(number)] if int(number) < len(self.outcomes) else {}
        return shown(name, view[name]) if name in view else "-"


def explain(data: bytes, tenant: str = "default", mappings: tuple[Mapping, ...] = (), limit: int = MAX_DECODES) -> Explained:
    """Say of a record what of it gave what. Bytes that are no JSON have an outcome, and no parts."""
    index = index_of(mappings)

    def outcomes_of(record: bytes) -> tuple[View, ...]:
        return tuple(view_of(outcome) for outcome in decode_record(record, tenant=tenant, index=index))

    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            value = parsed(data, Budget())
        except (Skipped, Undecodable):
            return Explained((), outcomes_of(data))
    base = outcomes_of(data)
    found = Explained(tuple(dict.fromkeys(_routes(value, mappings, 0))), base)
    _walk(value, found, lambda changed: _differences(base, outcomes_of(dumps(changed))), limit)
    return found


def _routes(value: Any, mappings: tuple[Mapping, ...], depth: int) -> Iterator[str]:
    """Names of envelopes and formats, as ``pubsub_message > http_pair``."""
    value = parse_json(value)
    if type(value) is list:
        for item in value:
            yield from _routes(item, mappings, depth)
    if type(value) is not dict:
        return
    form = format_of(value, index_of(mappings))
    if form is not None:
        yield form.name
        return
    try:
        opened = open_envelopes(value) if depth < MAX_ENVELOPES else []
    except (Skipped, Undecodable):
        opened = [Skipped("")]
    if not opened:
        return
    name = next((envelope.__name__ for key, envelope in ENVELOPES.items() if key in value), "envelope")
    for held in opened:
        inner: list[str] = []
        if isinstance(held, Opened):
            try:
                inner = list(_routes(held.within(None, Budget())[0], mappings, depth + 1))
            except (Skipped, Undecodable):
                inner = []
        yield from (f"{name} > {one}" for one in inner) if inner else (name,)


# ---- outcomes as fields


_DEFAULTS: Final = {one.name: one.default for one in fields(Call)}


def view_of(outcome: Outcome) -> View:
    """An outcome as the fields that say something."""
    if isinstance(outcome, Skipped):
        return {"outcome": "ignored", "reason": outcome.reason}
    if isinstance(outcome, Undecodable):
        guess = {"format": outcome.format_guess} if outcome.format_guess else {}
        return {"outcome": "dead letter", "reason": outcome.reason, "error": outcome.error} | guess
    if isinstance(outcome, Part):
        part: View = {"outcome": "part", "key": outcome.key, "role": outcome.role, "format": outcome.format}
        if outcome.data:
            part |= {"data": outcome.data, "piece": outcome.number}
        return part | ({} if outcome.call is None else _call(outcome.call))
    return {"outcome": "call"} | _call(outcome)


def _call(call: Call) -> View:
    said = call.__dict__
    return {
        name: said[name]
        for name, default in _DEFAULTS.items()
        if name in said and name not in _HIDDEN and said[name] not in (default, None, {})
    } | {"status": call.status}


def _differences(before: tuple[View, ...], after: tuple[View, ...]) -> frozenset[str]:
    if len(before) != len(after):
        return frozenset({"outcome"})
    found: set[str] = set()
    for number, (one, other) in enumerate(zip(before, after, strict=True)):
        prefix = f"[{number}]." if len(before) > 1 else ""
        if one["outcome"] != other["outcome"]:
            found.add(f"{prefix}outcome")
        else:
            found |= {prefix + name for name in one.keys() | other.keys() if one.get(name) != other.get(name)}
    return frozenset(found)


# ---- the record as a tree


class _Inside(NamedTuple):
    """The step into an object that is written as a text."""

    word: str
    unpack: Callable[[str], Any]
    pack: Callable[[Any], str]


def _of_gzip(text: str) -> Any:
    return parsed(base64.b64decode(text), Budget())


_JSON: Final = _Inside("JSON", orjson.loads, lambda value: dumps(value).decode())
_BASE64: Final = _Inside(
    "base64", lambda text: orjson.loads(base64.b64decode(text)), lambda value: base64.b64encode(dumps(value)).decode()
)
_GZIP: Final = _Inside("gzip", _of_gzip, lambda value: base64.b64encode(gzip.compress(dumps(value), mtime=0)).decode())

_Path = tuple[str | int | _Inside, ...]


def _inside(value: Any) -> _Inside | None:
    """How a text holds an object, if it does."""
    if type(value) is not str or len(value) < 2:
        return None
    if value.lstrip()[:1] in ("{", "["):
        kinds: tuple[_Inside, ...] = (_JSON,)
    elif len(value) % 4 == 0 and value[:2] in ("ey", "ew", "W3", "Wy", "Ww", "H4"):  # base64 of {, [ and of gzip
        kinds = (_GZIP,) if value.startswith("H4") else (_BASE64,)
    else:
        return None
    for kind in kinds:
        try:
            if type(kind.unpack(value)) in (dict, list):
                return kind
        except (orjson.JSONDecodeError, binascii.Error, ValueError, Undecodable):
            continue
    return None


def _children(value: Any, path: _Path) -> list[tuple[_Path, Any]]:
    kind = _inside(value)
    if kind is not None:
        return _children(kind.unpack(value), (*path, kind))
    if type(value) is dict:
        return [((*path, key), held) for key, held in value.items()]
    if type(value) is list:
        return [((*path, number), held) for number, held in enumerate(value)]
    return []


def _edited(value: Any, path: _Path, change: Callable[[Any], Any]) -> Any:
    """A copy of the value in which what is at the path is changed; the value itself stays as it is."""
    if not path:
        return change(value)
    step, *rest = path
    if isinstance(step, _Inside):
        return step.pack(_edited(step.unpack(value), tuple(rest), change))
    made: Any = dict(value) if type(value) is dict else list(value)
    held = _edited(made[step], tuple(rest), change)
    if held is _GONE:
        del made[step]
    else:
        made[step] = held
    return made


def altered(value: Any) -> Any:
    """Another value of the same type; of an object or a list, every value in it. Null has no other."""
    kind = _inside(value)
    if kind is not None:
        return kind.pack(altered(kind.unpack(value)))
    if type(value) is dict:
        return {key: altered(held) for key, held in value.items()}
    if type(value) is list:
        return [altered(held) for held in value]
    if type(value) is bool:
        return not value
    if type(value) is int:
        return value + 1 if value < 2**62 else value - 1
    if type(value) is float:
        return value + 1 if abs(value) < 2**50 else value / 2
    return _other_text(value) if type(value) is str else value


def _other_text(text: str) -> str:
    """The last digit counted up, so that a time stays one; else the last letter replaced."""
    for wanted, other in ((str.isdecimal, "1234567890"), (str.isalpha, "")):
        for at in range(len(text) - 1, -1, -1):
            if text[at].isascii() and wanted(text[at]):
                put = other[int(text[at])] if other else "b" if text[at] != "b" else "c"
                return text[:at] + put + text[at + 1 :]
    return text + "x"


@dataclass(frozen=True)
class _Tried:
    """A part that matters: where it stands in the record, and what differs."""

    path: _Path
    order: tuple[int, ...]
    removed: frozenset[str]
    altered: frozenset[str]


def _walk(value: Any, found: Explained, differs: Callable[[Any], frozenset[str]], limit: int) -> None:
    """Try every part of the record, those at the top first."""
    sources: list[_Tried] = []
    within: list[_Tried] = []
    spare: list[tuple[tuple[int, ...], LeftOver]] = []
    waiting: deque[tuple[_Path, tuple[int, ...], Any]] = deque()
    waiting.extend((path, (number,), held) for number, (path, held) in enumerate(_children(value, ())))
    while waiting:
        if found.decodes + 2 > limit:
            found.unseen = len(waiting)
            break
        path, order, held = waiting.popleft()
        inner = _children(held, path)
        removed = differs(_edited(value, path, lambda _: _GONE))
        changed: frozenset[str] = frozenset()
        found.decodes += 1
        if not inner or not removed:
            changed = differs(_edited(value, path, altered))
            found.decodes += 1
        tried = _Tried(path, order, removed, changed)
        if not removed and not changed:
            spare.append((order, LeftOver(text_of(path), _kind(held), _size(held))))
        elif inner:
            within.append(tried)
            waiting.extend((below, (*order, number), some) for number, (below, some) in enumerate(inner))
        else:
            sources.append(tried)
    sources += _by_being_there(within, sources)
    sources.sort(key=lambda one: one.order)
    found.sources = [Source(text_of(one.path), tuple(sorted(one.removed)), tuple(sorted(one.altered))) for one in sources]
    found.left_over = [left for _, left in sorted(spare, key=lambda one: one[0])]


def _by_being_there(within: list[_Tried], leaves: list[_Tried]) -> list[_Tried]:
    """Objects and lists without which fields differ that no part of them gives: it matters that they are there."""
    found = []
    for one in within:
        depth = len(one.order)
        told = {name for leaf in leaves if leaf.order[:depth] == one.order for name in leaf.removed | leaf.altered}
        if one.removed - told:
            found.append(_Tried(one.path, one.order, one.removed - told, frozenset()))
    return found


_PLAIN_KEY: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def text_of(path: _Path) -> str:
    """A path for people: ``response.choices[0]``, ``metadata (JSON).usage``."""
    text = ""
    for step in path:
        if isinstance(step, _Inside):
            text += f" ({step.word})"
        elif isinstance(step, int):
            text += f"[{step}]"
        else:
            key = scrub(step)[:80]
            text += ("." if text else "") + (key if key and _PLAIN_KEY.issuperset(key) else dumps(key).decode("utf-8", "replace"))
    return text


def _kind(value: Any) -> str:
    if type(value) is str:
        return "text"
    if type(value) is dict:
        return "object"
    if type(value) is list:
        return "list"
    return {bool: "true or false", type(None): "null"}.get(type(value), "number")


def _size(value: Any) -> int:
    return len(value) if type(value) in (str, dict, list) else 1


# ---- values as they may be shown

_TIMES: Final = frozenset({"event_time", "end_time", "transport_time"})


def shown(name: str, value: Any) -> str:
    """A field's value for a person: of prompts counts and hashes, of end users a count, secrets masked."""
    if isinstance(value, Content):
        return f"{_said(value)}, sha256 {_hash(repr(value))}"
    if isinstance(value, bytes):
        return f"{len(value):,} bytes, sha256 {_hash(value)}"
    if name == "end_user":
        return f"a text of {len(value)} characters"
    if name == "headers":
        return f"{len(value)} headers"
    if name in _TIMES and isinstance(value, int):
        return (_EPOCH + timedelta(microseconds=value)).isoformat()
    if name == "reported_cost":
        return f"{Decimal(value).scaleb(-12):f} dollars"
    if isinstance(value, dict):
        value = ", ".join(f"{key}={said}" for key, said in value.items())
    elif isinstance(value, tuple):
        value = ", ".join(map(str, value))
    return " ".join(scrub(str(value)[: 8 * _MAX_SHOWN]).split())[:_MAX_SHOWN]


def _said(content: Content) -> str:
    parts = [part for message in (*content.prompt, *content.output) for part in message.parts]
    characters = sum(len(part.text) for part in parts)
    return f"{len(content.prompt)} messages in, {len(content.output)} out, {characters:,} characters"


def _hash(value: str | bytes) -> str:
    data = value.encode("utf-8", "replace") if isinstance(value, str) else value
    return hashlib.sha256(data).hexdigest()[:12]
