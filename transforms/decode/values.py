"""Reading single values of foreign JSON: strict about what must be right, forgiving about how it is spelled."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from schemas.call import Call

OLDEST_US: Final = 1_420_070_400_000_000
"""2015-01-01: no hosted language model was billed before; an older time is a unit error or a zero."""

MAX_TOKENS: Final = 1 << 40
TAGS: Final = 32
TAG_LENGTH: Final = 256


class Undecodable(Exception):
    """The record cannot become a call. ``reason`` is a code of ``schemas.reasons``, the text carries the value."""

    def __init__(self, reason: str, error: str, format_guess: str = "") -> None:
        super().__init__(error)
        self.reason = reason
        self.format_guess = format_guess


class Skip(Exception):
    """The record is rightly not a call. ``reason`` is a code of ``schemas.reasons.IGNORED_REASONS``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def tokens(holder: dict[str, Any], name: str) -> int | None:
    """A token count: absent or null is unknown (None); "63" and 188.0 are numbers; -1, 1.5 and true are refused."""
    value = holder.get(name)
    if value.__class__ is int:
        if 0 <= value <= MAX_TOKENS:  # type: ignore[operator]
            return value
    elif value is None:
        return None
    elif isinstance(value, float):
        if value.is_integer() and 0 <= value <= MAX_TOKENS:
            return int(value)
    elif isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 13:
        return tokens({name: int(value)}, name)
    raise Undecodable("bad_value", f"{name} = {str(value)[:80]!r} is no number of tokens")


def text(value: object, limit: int = 512) -> str:
    """A short text; anything that is no text or number is empty."""
    if isinstance(value, str):
        return value[:limit]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def mapping(value: object) -> dict[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object) -> list[Any]:
    """The value if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def number(value: object) -> float | None:
    """A finite number, also from a text; else None."""
    if isinstance(value, bool):
        return None
    try:
        found = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return None
    return found if abs(found) < 1e300 else None


def whole(value: object) -> int | None:
    """A whole number of a size that a table can hold; else None."""
    found = number(value)
    return int(found) if found is not None and abs(found) < 1 << 62 else None


def instant(value: object) -> tuple[int, str] | None:
    """UTC microseconds and quality of a time in any of the usual spellings, or None if it is none.

    Numbers are told apart by size: seconds, milliseconds, microseconds, nanoseconds since 1970. Text without a zone is
    UTC. Quality is ``second`` where the spelling has no fraction.
    """
    if isinstance(value, str):
        return _written(value)
    found = number(value)
    if found is None or found <= 0:
        return None
    for limit, factor in ((1e11, 1_000_000.0), (1e14, 1000.0), (1e17, 1.0), (6e18, 0.001)):
        if found < limit:
            whole_seconds = limit == 1e11 and found == int(found)
            micros = int(value) * int(factor) if isinstance(value, int) and factor >= 1 else int(found * factor)
            return micros, "second" if whole_seconds else "exact"
    return None


def _written(value: str) -> tuple[int, str] | None:
    value = value.strip()
    if value.replace(".", "", 1).isdigit():
        return instant(float(value) if "." in value else int(value))
    try:
        moment = datetime.fromisoformat(_six_digits(value))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        micros = int(moment.timestamp()) * 1_000_000 + moment.microsecond
    except (ValueError, OverflowError):
        return None
    return micros, "exact" if "." in value else "second"


def _six_digits(value: str) -> str:
    """Cut nanoseconds to microseconds, which is all that ``fromisoformat`` reads."""
    head, dot, rest = value.partition(".")
    if not dot:
        return value
    digits = len(rest) - len(rest.lstrip("0123456789"))
    return f"{head}.{rest[:digits][:6]}{rest[digits:]}"


def set_time(call: Call, value: object) -> None:
    """Give the call its start, unless it has one; an impossible one is flagged and left to the transport."""
    if value is None or value == 0 or value == "" or call.event_time:
        return
    found = instant(value)
    if found is None or found[0] < OLDEST_US:
        call.flag("implausible_time")
        return
    call.event_time, call.time_quality = found


def add_tags(call: Call, *sources: object) -> None:
    """Add tags: short texts, numbers and booleans only, the first to name a key wins, at most ``TAGS``."""
    tags = dict(call.tags or {})
    for source in sources:
        if isinstance(source, list):
            source = {str(item): "true" for item in source if isinstance(item, str)}
        for key, value in mapping(source).items():
            if len(tags) >= TAGS:
                break
            if isinstance(value, bool):
                value = "true" if value else "false"
            if isinstance(value, str | int | float) and value != "" and not is_secret_name(key):
                tags.setdefault(key[:TAG_LENGTH], str(value)[:TAG_LENGTH])
    call.tags = tags or None


def is_secret_name(name: str) -> bool:
    """A field of this name may hold a key."""
    low = name.lower().replace("-", "_")
    return any(part in low for part in ("api_key", "apikey", "authorization", "secret", "password", "access_token"))
