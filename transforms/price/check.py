"""What is odd about a price book that can be loaded: gaps, jumps, prices out of order, old figures, names that lead nowhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date
from itertools import pairwise
from typing import Final, NamedTuple

from transforms.price.book import Book
from transforms.price.entries import STANDARD, Entry, iso
from transforms.price.fields import EVER, FOREVER
from transforms.price.history import FIELD_OF

STALE_DAYS: Final = 180
JUMP: Final = 3
"""How many times a price may rise or fall from one entry to the next without being asked about."""

ERROR: Final = "error"
WARNING: Final = "warning"


class Finding(NamedTuple):
    """``place`` names file and entry as errors of the book do; ``fix`` says what to do."""

    severity: str
    check: str
    place: str
    field: str
    finding: str
    fix: str


def check_book(book: Book, today: date, stale_days: int = STALE_DAYS) -> list[Finding]:
    """Everything that is odd about a book, errors first."""
    found = [*_over_time(book), *_within(book.entries), *_stale(book.entries, today, stale_days), *_names(book)]
    return sorted(found, key=lambda one: (one.severity, one.check, one.place, one.field))


def _over_time(book: Book) -> Iterator[Finding]:
    jumps: dict[str, tuple[Entry, str, str]] = {}  # one for each price as written, which may stand for several scopes
    confirmed = {one.place: one for provider in book.providers for one in book.confirmed(provider)}
    needed: set[str] = set()
    groups: dict[tuple[str | int, ...], list[Entry]] = {}
    for entry in book.entries:
        window = entry.window.name if entry.window else ""
        key = (entry.layer, entry.provider, entry.model, entry.tier, entry.scope, window, entry.above)
        groups.setdefault(key, []).append(entry)
    for group in groups.values():
        for old, new in pairwise(sorted(group, key=lambda entry: entry.valid_from)):
            if not new.above and not new.window and old.valid_to < new.valid_from:
                said = f"no price from {iso(old.valid_to)} to {iso(new.valid_from)} ({new.rate_id})"
                fix = f'state the price between, or let "to" of {old.place} be {iso(new.valid_from)}'
                yield Finding(ERROR, "gap", new.place, "from", said, fix)
            jumped = [unit for unit, rate in new.rates.items() if unit not in new.like and _is_jump(old.rates.get(unit), rate)]
            by = [one.place for one in book.confirmed(new.provider) if one.covers(new)] if jumped else []
            needed.update(by)
            if jumped and not by:
                said = ", ".join(f"{FIELD_OF[unit]} {old.listed[unit]} becomes {new.listed[unit]}" for unit in jumped)
                jumps.setdefault(new.place, (new, jumped[0], said))
    for place, (entry, unit, said) in jumps.items():
        said = f"{said} on {iso(entry.valid_from)} ({entry.rate_id})"
        fix = "compare with the source: confirm it with [[confirmed]], or correct it by a price with a later recorded"
        yield Finding(WARNING, "jump", place, FIELD_OF[unit], said, fix)
    for place, one in confirmed.items():
        if place not in needed:
            said = f"no price of {one.model!r} from {iso(one.valid_from)}, recorded until {one.recorded}, moves that far"
            yield Finding(WARNING, "confirmed", place, "from", said, "name model and date of the price that jumps, or remove it")


def _is_jump(old: int | None, new: int) -> bool:
    return old is not None and old > 0 and new > 0 and not old <= new * JUMP <= old * JUMP * JUMP


def _within(entries: Iterable[Entry]) -> Iterator[Finding]:
    listed = list(entries)
    standard: dict[tuple[str | int, ...], list[Entry]] = {}
    for entry in listed:
        if entry.tier == STANDARD:
            standard.setdefault(_same(entry), []).append(entry)
    for entry in listed:
        base, read, out = (entry.rates.get(unit) for unit in ("input_fresh", "input_cache_read", "output_visible"))
        if base is not None and read is not None and read > base:
            said = f"{entry.listed['input_cache_read']} is more than input {entry.listed['input_fresh']}"
            yield _odd(entry, "cache_read", said)
        if base is not None and out is not None and out < base:
            yield _odd(entry, "output", f"{entry.listed['output_visible']} is less than input {entry.listed['input_fresh']}")
        if entry.tier != "batch":
            continue
        for other in standard.get(_same(entry), []):
            if other.valid_from < entry.valid_to and entry.valid_from < other.valid_to:
                for unit, rate in entry.rates.items():
                    if rate > other.rates.get(unit, rate):
                        said = f"batch price {entry.listed[unit]} is above the standard {other.listed[unit]} of {other.rate_id}"
                        yield _odd(entry, FIELD_OF[unit], said)


def _same(entry: Entry) -> tuple[str | int, ...]:
    window = entry.window.name if entry.window else ""
    return (entry.layer, entry.provider, entry.model, entry.scope, window, entry.above)


def _odd(entry: Entry, field: str, said: str) -> Finding:
    fix = "compare with the source; columns may be swapped"
    return Finding(WARNING, "order", entry.place, field, f"{said} ({entry.rate_id})", fix)


def _stale(entries: Iterable[Entry], today: date, days: int) -> Iterator[Finding]:
    seen = set()
    for entry in entries:
        age = (today - date.fromisoformat(entry.recorded)).days
        if entry.valid_to == FOREVER and age > days and entry.place not in seen:
            seen.add(entry.place)
            said = f"recorded {entry.recorded}, {age} days ago ({entry.rate_id})"
            fix = 'look at the source again; what is still right is written down again with that day as "recorded"'
            yield Finding(WARNING, "stale", entry.place, "recorded", said, fix)


def _names(book: Book) -> Iterator[Finding]:
    spans: dict[tuple[str, str], list[Entry]] = {}
    for entry in book.entries:
        spans.setdefault((entry.provider, entry.model), []).append(entry)
    for provider in book.providers:
        for rule in book.names(provider):
            if not rule.recorded and rule.valid_from == EVER and rule.valid_to == FOREVER:
                continue  # a model's own name, which has what the model has
            prices = spans.get((provider, rule.model), [])
            first, last = min(e.valid_from for e in prices), max(e.valid_to for e in prices)
            if first >= rule.valid_to or last <= rule.valid_from:
                said = f"{rule.name!r} means {rule.model!r} while that has no price"
                yield Finding(ERROR, "alias", rule.place, "model", said, "name another model, or state its price of that time")
            elif rule.valid_from < first and rule.valid_from != EVER:
                said = f"{rule.name!r} means {rule.model!r} from {iso(rule.valid_from)}, whose first price is of {iso(first)}"
                yield Finding(WARNING, "alias", rule.place, "from", said, "state the earlier price, or begin the alias later")
            elif last < rule.valid_to and last != FOREVER:
                said = f"{rule.name!r} means {rule.model!r}, whose last price ends on {iso(last)}"
                yield Finding(WARNING, "alias", rule.place, "to", said, "end the alias then, or state the later price")
