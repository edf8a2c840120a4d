"""The registry of log formats.

A format is one module in ``transforms.decode.formats``: the keys that give it away, its decoder. To add one, write the module and
its test, and name it in ``FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from schemas.call import Call
from schemas.part import Part
from transforms.decode.beside import read_beside
from transforms.decode.envelopes import MAX_ENVELOPES, Around, Budget, Held, Opened, open_envelopes, packed_text, parsed
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.exchange import parse_json
from transforms.decode.formats import (
    azure_gateway,
    batch_item,
    bedrock_log,
    event,
    http_pair,
    langfuse,
    litellm,
    litellm_spend,
    llmstudio,
    mlflow,
    otel_log_entry,
    otlp,
    tensorzero,
    vendor_body,
    vertex_log,
)
from transforms.decode.mapping import Mapping, compiled
from transforms.decode.mapping_files import built_in
from transforms.decode.values import dumps

Outcome = Call | Part | Undecodable | Skipped
"""What an item is: a call, a part of one, a dead letter, or rightly ignored."""


MAX_ITEMS: Final = 2**16
"""Items that one record may hold: their numbers have 16 bits. Each has its receipt, so a few bytes would become many."""


class Format(NamedTuple):
    """One log format.

    ``signs``: keys of which a record of this format has at least one; only such records are asked about. ``detect`` looks at the
    keys of a parsed record, and perhaps at a short value, and must be cheap. ``decode`` gives what a record holds, one call
    nearly always; what of it is no call may be among it or be raised; a record within it that may be of any format may be among
    it, too. ``authority`` ranks observers of the same call: the highest stands (the vendor's own bodies above a gateway's
    summary).
    """

    name: str
    describes: str
    signs: tuple[str, ...]
    detect: Callable[[dict[str, Any]], bool]
    decode: Callable[[dict[str, Any]], Iterable[Outcome | Opened]]
    authority: int


def mapped(mapping: Mapping) -> Format:
    """A mapping as a format."""
    made = compiled(mapping)
    return Format(made.name, made.describes, made.signs, made.detect, made.decode, made.authority)


FORMATS: Final = (
    Format("event", event.DESCRIBES, event.SIGNS, event.detect, event.decode, 20),
    Format("litellm_spend", litellm_spend.DESCRIBES, litellm_spend.SIGNS, litellm_spend.detect, litellm_spend.decode, 10),
    Format("litellm", litellm.DESCRIBES, litellm.SIGNS, litellm.detect, litellm.decode, 10),
    Format("bedrock_log", bedrock_log.DESCRIBES, bedrock_log.SIGNS, bedrock_log.detect, bedrock_log.decode, 40),
    Format("vertex_log", vertex_log.DESCRIBES, vertex_log.SIGNS, vertex_log.detect, vertex_log.decode, 40),
    Format("azure_gateway", azure_gateway.DESCRIBES, azure_gateway.SIGNS, azure_gateway.detect, azure_gateway.decode, 25),
    Format("otlp", otlp.DESCRIBES, otlp.SIGNS, otlp.detect, otlp.decode, 5),
    Format("mlflow", mlflow.DESCRIBES, mlflow.SIGNS, mlflow.detect, mlflow.decode, 5),
    Format("otel_log_entry", otel_log_entry.DESCRIBES, otel_log_entry.SIGNS, otel_log_entry.detect, otel_log_entry.decode, 5),
    Format("langfuse_events", langfuse.EVENTS_DESCRIBE, langfuse.EVENTS_SIGNS, langfuse.is_event, langfuse.decode_events, 10),
    Format("langfuse", langfuse.ROWS_DESCRIBE, langfuse.ROWS_SIGNS, langfuse.is_row, langfuse.decode_row, 10),
    Format("llmstudio", llmstudio.DESCRIBES, llmstudio.SIGNS, llmstudio.detect, llmstudio.decode, 10),
    Format("tensorzero", tensorzero.DESCRIBES, tensorzero.SIGNS, tensorzero.detect, tensorzero.decode, 15),
    *map(mapped, built_in()),
    Format("batch_item", batch_item.DESCRIBES, batch_item.SIGNS, batch_item.detect, batch_item.decode, 30),
    Format("http_pair", http_pair.DESCRIBES, http_pair.SIGNS, http_pair.detect, http_pair.decode, 30),
    Format("vendor_body", vendor_body.DESCRIBES, vendor_body.SIGNS, vendor_body.detect, vendor_body.decode, 25),
)
"""Every format. Of those that recognise a record, the first reads it: gateways write a ``response``, too, so pairs come late, and
bodies alone, which tell the least, last."""


class Index:
    """Formats by their signs, so that a record costs one look at its keys, however many formats there are."""

    def __init__(self, forms: tuple[Format, ...]) -> None:
        self.forms = forms
        self._by_sign: dict[str, list[int]] = {}
        for rank, form in enumerate(forms):
            for sign in form.signs:
                self._by_sign.setdefault(sign, []).append(rank)
        self._signs = frozenset(self._by_sign)
        self._asked: dict[frozenset[str], tuple[Format, ...]] = {}

    def format_of(self, record: dict[str, Any]) -> Format | None:
        """The first format that recognises a record."""
        for form in self._candidates(self._signs.intersection(record)):
            if form.detect(record):
                return form
        return None

    def _candidates(self, signs: frozenset[str]) -> tuple[Format, ...]:
        found = self._asked.get(signs)
        if found is None:
            ranks = sorted({rank for sign in signs for rank in self._by_sign[sign]})
            found = tuple(self.forms[rank] for rank in ranks)
            if len(self._asked) < _MOST_REMEMBERED:
                self._asked[signs] = found
        return found


_MOST_REMEMBERED: Final = 1024
_index = Index(FORMATS)


@lru_cache(maxsize=64)
def _index_of(mappings: tuple[Mapping, ...], forms: tuple[Format, ...]) -> Index:
    return Index((*map(mapped, mappings), *forms))


def index_of(mappings: tuple[Mapping, ...] = ()) -> Index:
    """Every format by its signs; an operator's mappings come before what comes along."""
    global _index
    if mappings:
        return _index_of(mappings, FORMATS)
    if _index.forms is not FORMATS:
        _index = Index(FORMATS)
    return _index


def format_of(record: dict[str, Any], index: Index | None = None) -> Format | None:
    """The format that a record without envelopes has; None where none recognises it."""
    return (index or index_of()).format_of(record)


class _Reading(NamedTuple):
    """What goes with a record through its envelopes: what was asked for, and how much may still be decompressed."""

    tenant: str
    beside: bool
    formats: Index
    budget: Budget


def decode_record(data: bytes, *, tenant: str = "default", beside: bool = False, index: Index | None = None) -> list[Outcome]:
    """What one record holds: at least one outcome, never an exception.

    ``tenant`` is for records that name none. A JSON array is many records; their outcomes come in its order. With ``beside``,
    calls keep what ``named_tags.take_tags`` looks at. ``index``: what ``index_of`` gives for the mappings
    of the configuration.
    """
    reading = _Reading(tenant, beside, index or index_of(), Budget())
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            record = parsed(data, reading.budget)  # compressed, or as protobuf; or it says why not
        except (Skipped, Undecodable) as problem:
            return [problem]
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
    if value.__class__ is dict:
        return _decode_object(value, reading, around)
    if value.__class__ is str:
        value = parse_json(value)
        if value.__class__ is str:
            try:
                value = packed_text(value, reading.budget)
            except (Undecodable, Skipped) as problem:
                return [problem]
        if value.__class__ is dict:
            return _decode_object(value, reading, around)
    if value.__class__ is list and value:
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
    if record.__class__ is not dict:
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
        if outcome.__class__ is Call:
            _stamp(outcome, form, record, reading, around)
        elif outcome.__class__ is Part:
            outcome.format = form.name
            if outcome.call is not None:
                _stamp(outcome.call, form, record, reading, around)
        elif outcome.__class__ is Undecodable:
            outcome.format_guess = outcome.format_guess or form.name
            if around is not None:
                outcome.inside = around.data
        elif outcome.__class__ is Opened:
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
    nobodys = (outcome.__class__ is Undecodable and outcome.reason in _NOBODYS for outcome in outcomes)
    return [Skipped("plain_log") if unknown else outcome for outcome, unknown in zip(outcomes, nobodys, strict=True)]


_NOBODYS: Final = frozenset({"unknown_format", "not_an_object"})


def _stamp(call: Call, form: Format, record: dict[str, Any], reading: _Reading, around: Around | None) -> None:
    """Write on a call what its record does not say: its format, and what is written on the envelopes."""
    call.format = form.name
    call.authority = form.authority
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
    try:
        inside, now = held.within(around, reading.budget)
    except (Skipped, Undecodable) as problem:
        if isinstance(problem, Undecodable) and around is not None:
            problem.inside = around.data
        return [problem]
    outcomes = _decode_value(inside, reading, now)
    if held.id:  # wherever among others it is delivered again
        for number, outcome in enumerate(outcomes):
            if outcome.__class__ is Call and outcome.transport_item < 0:
                outcome.transport_item = number
    return outcomes


def format_table() -> str:
    """The formats and the vendor bodies as Markdown tables, for the documentation."""
    from transforms.decode.bodies import BODIES

    rows = ["| format | what it is |", "| --- | --- |"]
    rows += [f"| `{form.name}` | {form.describes} |" for form in FORMATS]
    rows += ["", "| vendor body | what it is | operation | texts are read |", "| --- | --- | --- | --- |"]
    rows += [
        f"| `{body.api}` | {body.describes} | {body.operation} | {'yes' if body.texts else 'no, usage only'} |"
        for body in BODIES.values()
    ]
    return "\n".join(rows)
