"""Fields of the price book's TOML tables, read with errors that say where they are wrong and how to mend them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

FOREVER: Final = 2**62
"""End of a price that has none, in microseconds; later than any event."""
EVER: Final = -(2**62)
"""Start of a price whose entry names none: no earlier price of the model is known."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def utc(micros: int) -> datetime:
    """UTC microseconds since 1970 as a time."""
    return EPOCH + timedelta(microseconds=micros)


class BookError(ValueError):
    """The price book is wrong. The message names the file, the entry, the field and what to do."""


def texts(table: dict[str, Any], name: str, default: str, place: str) -> list[str]:
    """A field that holds one text or a list of them, in lower case."""
    value = table.get(name, default)
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not found or not all(isinstance(text, str) for text in found):
        raise BookError(f'{place}: field "{name}": {value!r} is neither a text nor a list of texts')
    return [_visible(text, name, place).lower() for text in found]


def interval(table: dict[str, Any], place: str) -> tuple[int, int]:
    """The fields ``from`` and ``to`` in UTC microseconds, the end exclusive."""
    start = moment(table.get("from"), "from", place, EVER)
    end = moment(table.get("to"), "to", place, FOREVER)
    if end <= start:
        raise BookError(f'{place}: field "to" must be later than "from"')
    return start, end


def moment(value: object, name: str, place: str, default: int) -> int:
    """A TOML date (midnight UTC) or time with a zone, in UTC microseconds."""
    if value is None:
        return default
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise BookError(f'{place}: field "{name}": {value} has no time zone; write Z after it for UTC')
        return (value - EPOCH) // timedelta(microseconds=1)
    if isinstance(value, date):
        return (datetime.combine(value, time(), UTC) - EPOCH) // timedelta(microseconds=1)
    raise BookError(f'{place}: field "{name}": {value!r} is not a date; write it without quotes: 2025-06-10')


def check_fields(table: dict[str, Any], known: frozenset[str], place: str) -> None:
    """Refuse fields that the table does not have: they are mostly slips of the pen."""
    for name in table:
        if name not in known:
            raise BookError(f'{place}: unknown field "{name}"; it may be one of {", ".join(sorted(known))}')


def string(table: dict[str, Any], name: str, place: str) -> str:
    """A text that must be there."""
    value = table.get(name)
    if not isinstance(value, str) or not value:
        raise BookError(f'{place}: field "{name}" is missing or not a text')
    return value


def name_of(table: dict[str, Any], field: str, place: str) -> str:
    """A name that must be there, as it stands in calls: one that begins or ends with a blank would match none."""
    return _visible(string(table, field, place), field, place)


def _visible(text: str, name: str, place: str) -> str:
    if text == text.strip() and text.isprintable():
        return text
    seen = "".join(c for c in text if c.isprintable()).strip()
    raise BookError(f'{place}: field "{name}": {text!a} has blanks around it or characters that nobody sees; write "{seen}"')


def strings(table: dict[str, Any], name: str, place: str) -> list[str]:
    """A list of names, empty where the field is missing."""
    value = table.get(name, [])
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise BookError(f'{place}: field "{name}": {value!r} is not a list of texts')
    return [_visible(text, name, place) for text in value]


def table_of(table: dict[str, Any], name: str, place: str) -> dict[str, Any]:
    """A table, empty where the field is missing."""
    value = table.get(name, {})
    if not isinstance(value, dict):
        raise BookError(f'{place}: field "{name}" is not a table')
    return value


def tables(table: dict[str, Any], name: str, place: str) -> list[dict[str, Any]]:
    """A list of tables, empty where the field is missing."""
    value = table.get(name, [])
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise BookError(f'{place}: field "{name}" is not a list of tables')
    return value
