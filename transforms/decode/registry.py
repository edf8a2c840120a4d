"""The registry of log formats.

A format is one module in ``transforms.decode.formats`` with a ``FORMAT``: its name, the keys that give it away, its
decoder. To add one, write the module and its test, and name it in ``FORMATS``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson

from schemas.call import Call
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
    except orjson.JSONDecodeError as error:
        if not data.strip():
            return [Skipped("blank")]
        return [Undecodable("not_json", str(error))]
    if record.__class__ is dict:
        return decode_object(record, tenant)
    if record.__class__ is list and record:
        return [outcome for item in record for outcome in decode_object(item, tenant)]
    return [_not_an_object(record)]


def _not_an_object(record: object) -> Undecodable:
    kind = {list: "an empty array", str: "a string", bool: "true or false", type(None): "null"}.get(type(record))
    return Undecodable("not_an_object", f"the record is {kind or 'a number'}")


def decode_object(record: Any, tenant: str) -> list[Outcome]:
    """What one parsed record holds."""
    if record.__class__ is not dict:
        return [_not_an_object(record)]
    for form in FORMATS:
        if form.detect(record):
            break
    else:
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
