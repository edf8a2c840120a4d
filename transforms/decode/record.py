"""One record to what it holds: out of its envelopes, to the format that knows it."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from schemas.call import Call
from schemas.part import Part
from transforms.decode.beside import read_beside
from transforms.decode.envelopes import MAX_ENVELOPES, Around, Budget, Held, Opened, open_envelopes, packed_text, parsed
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.exchange import parse_json
from transforms.decode.formats import vendor_body
from transforms.decode.registry import Format, Index, Outcome, index_of
from transforms.decode.salvage import salvage
from transforms.decode.scrub import scrub
from transforms.decode.values import dumps

MAX_ITEMS: Final = 2**16
"""Items that one record may hold: their numbers have 16 bits. Each has its receipt, so a few bytes would become many."""


class _Reading(NamedTuple):
    """What goes with a record through its envelopes: what was asked for, and how much may still be decompressed."""

    tenant: str
    beside: bool
    formats: Index
    budget: Budget


def decode_record(
    data: bytes, *, tenant: str = "default", beside: bool = False, index: Index | None = None, ended: bool = True
) -> list[Outcome]:
    """What one record holds: at least one outcome, never an exception.

    ``tenant`` is for records that name none. A JSON array is many records; their outcomes come in its order. With ``beside``,
    calls keep what ``named_tags.take_tags`` looks at. ``index``: what ``index_of`` gives for the mappings
    of the configuration. ``ended``: no more of the record will come, so what is whole of one that was cut may be read.
    """
    reading = _Reading(tenant, beside, index or index_of(), Budget())
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            record = parsed(data, reading.budget)  # compressed, or as protobuf; or it says why not
        except Undecodable as problem:
            cut = _decode_cut(data, reading, None) if ended and problem.reason == "not_json" else None
            return [cut or problem]
        except Skipped as skipped:
            return [skipped]
        outcomes = _decode_value(record, reading, None)
        text = b""
        for outcome in outcomes:
            if isinstance(outcome, Undecodable) and not outcome.inside:
                outcome.inside = text = text or _as_text(record)
    else:
        outcomes = _decode_value(record, reading, None)
    if len(outcomes) > MAX_ITEMS:
        return [_too_many(len(outcomes))]
    return outcomes


_SALVAGED: Final = frozenset({"http_pair", "vendor_body", "batch_item"})
"""Formats of which half a record is no wrong one: a vendor's usage counts only as a whole."""


def _decode_cut(data: bytes, reading: _Reading, around: Around | None) -> Call | None:
    """The call of a record whose end was cut off, if its usage was whole before the cut. Of a stream it may have been growing."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if error.end != len(data) or error.reason != "unexpected end of data":
            return None  # more is wrong with it than its end
        text = data[: error.start].decode()
    rest = salvage(text.lstrip("\ufeff\0 \t\r\n").rstrip("\0"), only_cut=True)
    form = reading.formats.format_of(rest) if type(rest) is dict else None
    if form is None or form.name not in _SALVAGED:
        return None
    outcomes = _decode_object(rest, reading, around)
    (call,) = outcomes if len(outcomes) == 1 else (None,)
    if not isinstance(call, Call) or call.usage_source == "none":
        return None
    call.flag("record_cut")
    if call.stream:
        call.status, call.usage_quality = "incomplete", "partial"
    if call.content is not None:
        call.content.complete = False
    return call


def _too_many(items: int) -> Undecodable:
    return Undecodable("record_too_large", f"{items:,} items; at most {MAX_ITEMS:,} are read of one record")


def _as_text(record: Any) -> bytes:
    """What a dead letter keeps of a record whose bytes are no text: secrets are found in it by the names they have."""
    try:
        return dumps(record)
    except Undecodable:
        return b""


def _decode_value(value: Any, reading: _Reading, around: Around | None) -> list[Outcome]:
    """What parsed JSON holds: an object is a record, an array is many, a string may be JSON itself, also in base64."""
    if type(value) is dict:
        return _decode_object(value, reading, around)
    if type(value) is str:
        value = parse_json(value)
        if type(value) is str:
            try:
                value = packed_text(value, reading.budget)
            except (Undecodable, Skipped) as problem:
                return [problem]
        if type(value) is dict:
            return _decode_object(value, reading, around)
    if type(value) is list and value:
        if vendor_body.is_stream(value):
            return _decode_object({"stream": value}, reading, around)
        if len(value) > MAX_ITEMS:
            return [_too_many(len(value))]
        return [outcome for item in value for outcome in _decode_object(item, reading, around)]
    return [_not_an_object(value)]


def _not_an_object(record: object) -> Undecodable:
    kind = {list: "an empty array", str: "a string", bool: "true or false", type(None): "null"}.get(type(record))
    return Undecodable("not_an_object", f"the record is {kind or 'a number'}")


def _decode_object(record: Any, reading: _Reading, around: Around | None) -> list[Outcome]:
    """What one parsed record holds; ``around``: the envelopes it is out of."""
    if type(record) is not dict:
        return [_not_an_object(record)]
    form = reading.formats.format_of(record)
    if form is None:
        return _decode_inside(record, reading, around)
    outcomes: list[Any]
    try:
        outcomes = list(form.decode(record))
    except (Undecodable, Skipped) as problem:
        outcomes = [problem]
    except Exception as defect:  # a decoder's defect must cost one dead letter, not a worker
        outcomes = [Undecodable("decoder_error", f"{type(defect).__name__}: {defect}")]
    opened = False
    for outcome in outcomes:
        if type(outcome) is Call:
            _stamp(outcome, form, record, reading, around)
        elif type(outcome) is Part:
            outcome.format = form.name
            if outcome.call is not None:
                _stamp(outcome.call, form, record, reading, around)
        elif type(outcome) is Undecodable:
            outcome.format_guess = outcome.format_guess or form.name
            if around is not None:
                outcome.inside = around.data
        elif type(outcome) is Opened:
            opened = True
    return _with_opened(outcomes, reading, around) if opened else outcomes


def _with_opened(outcomes: list[Outcome | Opened], reading: _Reading, around: Around | None) -> list[Outcome]:
    found: list[Outcome] = []
    for outcome in outcomes:
        if isinstance(outcome, Opened):
            found += _decode_anything(outcome, reading, around)
        else:
            found.append(outcome)
    return found


def _decode_anything(opened: Opened, reading: _Reading, around: Around | None) -> list[Outcome]:
    """What a record holds that stood in another where anything may stand: most often no call."""
    if around is not None and around.depth >= MAX_ENVELOPES:
        return [Skipped("plain_log")]
    try:
        inside, now = opened.within(around, reading.budget)
    except (Undecodable, Skipped):
        return [Skipped("plain_log")]
    outcomes = _decode_value(inside, reading, now)
    nobodys = (type(outcome) is Undecodable and outcome.reason in _NOBODYS for outcome in outcomes)
    return [Skipped("plain_log") if unknown else outcome for outcome, unknown in zip(outcomes, nobodys, strict=True)]


_NOBODYS: Final = frozenset({"unknown_format", "not_an_object"})


def _stamp(call: Call, form: Format, record: dict[str, Any], reading: _Reading, around: Around | None) -> None:
    """Write on a call what its record does not say: its format, and what is written on the envelopes."""
    call.format = form.name
    call.authority = form.authority
    if call.error_type:
        call.error_type = scrub(call.error_type)
    if not call.tenant:
        call.tenant = reading.tenant
    if around is not None:
        call.transport_id = call.transport_id or around.id
        call.transport_time = call.transport_time or around.time
        call.inside_hash = call.inside_hash or around.hash
        if around.headers:
            read_beside(call, around.headers)
    if reading.beside:
        call.beside = {**(call.beside or {}), "record": record}
    else:
        call.__dict__.pop("beside", None)


def _decode_inside(record: dict[str, Any], reading: _Reading, around: Around | None) -> list[Outcome]:
    """What a record holds that no format recognises: it may be an envelope."""
    found: list[Outcome] = []
    if around is None or around.depth < MAX_ENVELOPES:
        try:
            for held in open_envelopes(record):
                found += _decode_held(held, reading, around)
        except (Skipped, Undecodable) as problem:
            if isinstance(problem, Undecodable) and around is not None and not problem.inside:
                problem.inside = around.data
            found.append(problem)
        except Exception as defect:  # as of a decoder
            found.append(Undecodable("decoder_error", f"{type(defect).__name__}: {defect}"))
    if found:
        return found
    keys = ", ".join(list(record)[:12])
    deep = f"; within {around.depth} envelopes no more are opened" if around is not None and around.depth >= MAX_ENVELOPES else ""
    unknown = Undecodable("unknown_format", f"no format has the keys {keys[:300]}{deep}")
    if around is not None:
        unknown.inside = around.data
    return [unknown]


def _decode_held(held: Held, reading: _Reading, around: Around | None) -> list[Outcome]:
    """What an envelope held, or one of the things it held: one that is broken costs the others nothing."""
    if not isinstance(held, Opened):
        return [held]
    outcomes: list[Outcome]
    try:
        inside, now = held.within(around, reading.budget)
        outcomes = _decode_value(inside, reading, now)
    except Skipped as skipped:
        return [skipped]
    except Undecodable as problem:
        cut = None
        if problem.reason == "not_json" and type(held.inside) is bytes:
            cut = _decode_cut(held.inside, reading, held.around(around, held.inside))
        if cut is None:
            problem.inside = around.data if around is not None else b""
            return [problem]
        outcomes = [cut]
    if held.id:  # wherever among others it is delivered again
        for number, outcome in enumerate(outcomes):
            if type(outcome) is Call and outcome.transport_item < 0:
                outcome.transport_item = number
    return outcomes
