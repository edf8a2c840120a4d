"""What can still be read of a JSON text whose end was cut off.

Loggers cut what is too long for them. What was whole before the cut is as good as ever: the id, the model, usage that comes
first. Nothing is guessed: a string, a number or a usage object that the cut went through is left out. (Parsers of partial JSON
keep half a number as if it were one.)
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

_UNITS: Final = r"usage|usageMetadata|usage_metadata|billed_units|amazon-bedrock-invocationMetrics"
"""Objects that say something only as a whole: their figures belong together."""

_TOKEN: Final = re.compile(
    rf'(?P<unit>"(?:{_UNITS})"\s{{0,20}}:\s{{0,20}}\{{)'
    r'|"[^"\\]*(?:\\.[^"\\]*)*(?P<end>"|\\?\Z)'
    r"|[{}\[\],]",
    re.DOTALL,
)
_CLOSERS: Final = {"{": "}", "[": "]"}
MAX_DEPTH: Final = 200


def salvage(text: str, *, only_cut: bool = False) -> Any:
    """The whole fields of a JSON object, or items of an array, that was cut; ``None`` where nothing is whole.

    One pass over the text: it is cut back to the end of the last value that was whole, and what is open there is closed. With
    ``only_cut``, a text that goes on behind a whole object gives ``None``, too: something else is wrong with it.
    """
    if not text.startswith(("{", "[")):
        return None
    opened: list[str] = []  # the brackets that close what is open
    unit = 0  # how deep the object lies that counts only as a whole; 0: there is none
    end, closers = 0, ""
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if token["unit"]:
            opened.append("}")
            unit = unit or len(opened)
        elif sign[0] == '"':
            if token["end"] != '"':
                break
        elif sign in _CLOSERS:
            opened.append(_CLOSERS[sign])
            if len(opened) > MAX_DEPTH:
                break
        elif sign == ",":
            if not unit and opened:
                end, closers = token.start(), "".join(reversed(opened))
        else:
            if not opened or opened.pop() != sign:
                break  # it was broken before it was cut
            if len(opened) < unit:
                unit = 0
            if not unit:
                end, closers = token.end(), "".join(reversed(opened))
            if not opened:
                break
    if not end or (only_cut and not closers):
        return None
    try:
        return orjson.loads(text[:end] + closers)
    except orjson.JSONDecodeError:
        return None
