"""The registry of log formats.

A format is one module in ``transforms.decode.formats`` with a ``FORMAT``: its name, the keys that give it away, its
decoder. To add one, write the module and its test, and name it in ``FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson

from schemas.call import Call
from transforms.decode.beside import read_beside
from transforms.decode.envelopes import Peeled, parsed, peel
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.formats import event, http_pair, litellm

Outcome = Call | Undecodable | Skipped
"""What an item is: a call, a dead letter, or rightly ignored."""


class Format(NamedTuple):
    """One log format.

    ``detect`` looks at the keys of a parsed record only and must be cheap. ``decode`` gives the calls a record holds
    (one, nearly always) or raises ``Undecodable`` or ``Skipped``. ``authority`` ranks observers of the same call: the
    highest stands (the vendor's own bodies above a gateway's summary).
    """

    name: str
    describes: str
    detect: Callable[[dict[str, Any]], bool]
    decode: Callable[[dict[str, Any]], list[Call]]
    authority: int


FORMATS: Final = (
    Format("event", event.DESCRIBES, event.detect, event.decode, 20),
    Format("litellm", litellm.DESCRIBES, litellm.detect, litellm.decode, 10),
    Format("http_pair", http_pair.DESCRIBES, http_pair.detect, http_pair.decode, 30),
)
"""Every format. The first that recognises a record reads it: gateways write a ``response`` too, so pairs come last."""


def decode_record(data: bytes, *, tenant: str = "default") -> list[Outcome]:
    """What one record holds: at least one outcome, never an exception.

    ``tenant`` is for records that name none. A JSON array is many records; their outcomes come in its order.
    """
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            record = parsed(data)  # which it may be when it is decompressed, or says why not
        except (Skipped, Undecodable) as problem:
            return [problem]
    return decode_value(record, tenant)


def decode_value(value: Any, tenant: str, peeled: bool = False) -> list[Outcome]:
    """What parsed JSON holds: an object is a record, an array is many. ``peeled``: it is out of its envelopes."""
    if value.__class__ is dict:
        return decode_object(value, tenant, peeled)
    if value.__class__ is list and value:
        return [outcome for item in value for outcome in decode_object(item, tenant, peeled)]
    return [_not_an_object(value)]


def _not_an_object(record: object) -> Undecodable:
    kind = {list: "an empty array", str: "a string", bool: "true or false", type(None): "null"}.get(type(record))
    return Undecodable("not_an_object", f"the record is {kind or 'a number'}")


def decode_object(record: Any, tenant: str, peeled: bool = False) -> list[Outcome]:
    """What one parsed record holds; ``peeled``: it is out of its envelopes."""
    if record.__class__ is not dict:
        return [_not_an_object(record)]
    for form in FORMATS:
        if form.detect(record):
            break
    else:
        try:
            inside = None if peeled else peel(record)
        except (Skipped, Undecodable) as problem:
            return [problem]
        if inside is not None:
            return _decode_peeled(inside, tenant)
        keys = ", ".join(list(record)[:12])
        return [Undecodable("unknown_format", f"no format has the keys {keys[:300]}")]
    try:
        calls = form.decode(record)
        for call in calls:
            call.format = form.name
            call.authority = form.authority
            if not call.tenant:
                call.tenant = tenant
        return list(calls)
    except Undecodable as problem:
        if not problem.format_guess:
            problem.format_guess = form.name
        return [problem]
    except Skipped as skipped:
        return [skipped]
    except Exception as defect:  # a decoder's defect must cost one dead letter, not a worker
        return [Undecodable("decoder_error", f"{type(defect).__name__}: {defect}", form.name)]


def _decode_peeled(peeled: Peeled, tenant: str) -> list[Outcome]:
    """What a record that was in envelopes holds, with what is written on them."""
    outcomes = decode_value(peeled.inside, tenant, peeled=True)
    for outcome in outcomes:
        if outcome.__class__ is Call:
            outcome.transport_id = outcome.transport_id or peeled.id
            outcome.transport_time = outcome.transport_time or peeled.time
            outcome.inside_hash = outcome.inside_hash or peeled.hash
            if peeled.headers:
                read_beside(outcome, peeled.headers)
        elif outcome.__class__ is Undecodable:
            outcome.inside = peeled.data
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
