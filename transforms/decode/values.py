"""Single values as logs write them: counts, times, money, names.

Each function takes anything JSON can hold. Counts a bill depends on raise ``Undecodable('bad_value')``; everything else
gives its neutral value where the record's is of another type.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NoReturn

import orjson

from transforms.decode.errors import Undecodable

MAX_COUNT: Final = 10**12
"""No call has more tokens; a larger figure is a defect of its log and would overflow sums."""

_MAX_AMOUNT: Final = 64
"""Characters of an amount of money; more are none, and would take their time."""

PICO: Final = Decimal(10) ** 12
EARLIEST: Final = 1_420_070_400_000_000
"""2015-01-01: no vendor billed tokens before."""
LATEST: Final = 4_102_444_800_000_000
"""2100-01-01."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_TICKS: Final = range(630_000_000_000_000_000, 650_000_000_000_000_001)
_TICKS_AT_EPOCH: Final = 621_355_968_000_000_000


def _bad_count(value: object, field: str, why: str) -> NoReturn:
    shown = repr(value)
    raise Undecodable("bad_value", f"{field}: {shown[:60]} {why}")


def count(value: object, field: str) -> int | None:
    """A count of tokens or units: ``None`` for null, else an int of 0 to ``MAX_COUNT``.

    Integers, whole floats (188.0) and strings of digits ("63") are counts; anything else raises ``Undecodable`` with
    the name of the field and the value.
    """
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    if value is None:
        return None
    number = value
    if isinstance(value, bool):
        _bad_count(value, field, "is not a count")
    if isinstance(value, str):
        digits = value.strip()
        if not (digits.isascii() and digits.removeprefix("-").isdigit()) or len(digits) > 20:
            _bad_count(value, field, "is not a whole number")
        number = int(digits)
    elif isinstance(value, float):
        if not value.is_integer():
            _bad_count(value, field, "is not a whole number")
        number = int(value)
    elif not isinstance(value, int):
        _bad_count(value, field, "is not a number")
    assert isinstance(number, int)
    if number < 0:
        _bad_count(value, field, "is negative")
    if number > MAX_COUNT:
        _bad_count(value, field, f"is more than {MAX_COUNT:,}")
    return number


def text(value: object) -> str:
    """The string, or an empty one."""
    return value if isinstance(value, str) else ""


def name(value: object, limit: int = 256) -> str:
    """A short name: a string cut to ``limit`` characters, an integer as its digits, else empty."""
    if isinstance(value, str):
        return value if len(value) <= limit else value[:limit]
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return ""


def mapping(value: object) -> dict[str, Any]:
    """The object, or an empty one. The result is not to be changed."""
    return value if isinstance(value, dict) else _NOTHING


_NOTHING: Final[dict[str, Any]] = {}


def sequence(value: object) -> list[Any]:
    """The array, or an empty one. The result is not to be changed."""
    return value if isinstance(value, list) else []


def dumps(value: object) -> bytes:
    """Compact JSON. Raises ``Undecodable`` for what is nested deeper than orjson writes (254 levels)."""
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise Undecodable("not_json", f"nested too deep: {error}") from error


def dumps_sorted(value: object) -> bytes:
    """Compact JSON with sorted keys, so that equal objects are equal bytes."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise Undecodable("not_json", f"nested too deep: {error}") from error


def _number_time(value: int | float) -> tuple[int, str] | None:
    """Scale by magnitude: below 1e11 seconds, 1e14 milliseconds, 1e17 microseconds, above that nanoseconds.

    .NET ticks (100 ns since year 1) of our time would be nanoseconds of 1990, so they are told apart by their range.
    """
    if not math.isfinite(value) or value < 0:
        return None
    if value < 1e11:
        if isinstance(value, int):
            return value * 1_000_000, "second"
        return round(value * 1_000_000), "second" if value.is_integer() else "exact"
    if value < 1e14:
        return round(value * 1_000), "exact"
    if value < 1e17:
        return round(value), "exact"
    whole = int(value)
    if whole in _TICKS:
        return (whole - _TICKS_AT_EPOCH) // 10, "exact"
    return whole // 1_000, "exact"


def timestamp(value: object) -> tuple[int, str] | None:
    """A point in time as (UTC microseconds since 1970, quality), quality being ``exact`` or ``second``.

    Takes numbers of any unit (see ``_number_time``), the same as strings, and ISO 8601 with 0 to 9 digits of fraction;
    a time without zone is UTC. Gives ``None`` for what is no time, and does not judge whether it is plausible.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _number_time(value)
    if not isinstance(value, str) or not 8 <= len(value) <= 40:
        return None
    try:
        if value.isdigit():
            return _number_time(int(value))
        if "-" not in value[1:]:
            return _number_time(float(value))
        moment = datetime.fromisoformat(value.strip().removesuffix(" UTC"))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        micros = (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError):
        return None
    return micros, "exact" if "." in value or "," in value else "second"


def plausible(micros: int) -> bool:
    """Whether a language model could have been called then. Whether it lies in the future is for who has a clock."""
    return EARLIEST <= micros < LATEST


_LONGEST: Final = 2**53
"""Milliseconds that no call takes, in whatever unit they were meant; what is less can be multiplied and rounded."""


def milliseconds(value: object) -> float | None:
    """A duration that is a number (or the string of one) of 0 or more, and less than 2^53; ``None`` otherwise."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < _LONGEST else None


def pico_dollars(value: object, unit: Decimal = PICO) -> int | None:
    """Money as int pico-dollars; ``unit`` is what one of the value's units is worth (default: a dollar).

    A float counts as the shortest decimal that reads back as it. ``None`` for what is no amount of 0 or more.
    """
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float | str)
        or (isinstance(value, str) and len(value) > _MAX_AMOUNT)
    ):
        return None
    try:
        amount = Decimal(str(value)) * unit
    except ArithmeticError:  # no number, or one with an exponent that no decimal has
        return None
    if not amount.is_finite() or amount < 0 or amount >= 2**63:
        return None
    return int(amount.to_integral_value())


def string_tags(given: Mapping[str, Any], into: dict[str, str]) -> None:
    """Add names with a plain value (string, integer, boolean); what is there already stands."""
    for key, value in given.items():
        if key in into or value is None:
            continue
        if type(value) is str:
            into[key] = value
        elif type(value) is bool:
            into[key] = "true" if value else "false"
        elif type(value) is int:
            into[key] = str(value)
