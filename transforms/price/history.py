"""The price book as rows for people and programs: what holds at a time, a model's history, what two books differ in."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

from transforms.price.age import earliest
from transforms.price.book import Book
from transforms.price.entries import Entry, NameRule, iso
from transforms.price.fields import EVER, FOREVER
from transforms.price.rates import FIELDS

FIELD_OF: Final = {unit: field for field, unit in FIELDS.items()}
"""What a unit is called in a price of the book."""


def entry_row(entry: Entry) -> dict[str, Any]:
    """A price with everything there is to say: texts, ``above`` in tokens, each field's price as the book lists it or None."""
    return {
        "provider": entry.provider,
        "model": entry.model,
        "tier": entry.tier,
        "scope": entry.scope,
        "window": entry.window.name if entry.window else "",
        "above": entry.above,
        "from": "" if entry.valid_from == EVER else iso(entry.valid_from),
        "to": "" if entry.valid_to == FOREVER else iso(entry.valid_to),
        **{field: entry.listed.get(unit) for field, unit in FIELDS.items()},
        "free": entry.free,
        "rate_id": entry.rate_id,
        "source": entry.source,
        "recorded": entry.recorded,
    }


def begins(entry: Entry) -> int:
    """When a price begins (UTC microseconds): as stated, or when a model of this name can have been called first."""
    return earliest(entry.model) if entry.valid_from == EVER else entry.valid_from


def holding(book: Book, at: int, provider: str = "", model: str = "*", tier: str = "") -> list[Entry]:
    """The prices that hold at a time (UTC microseconds), those of own folders in place of the book's that they stand over.

    ``model`` is a glob over names of models; ``provider`` and ``tier`` are exact, "" is any.
    """
    active = [entry for entry in book.entries if begins(entry) <= at < entry.valid_to]
    top: dict[tuple[str, str, str, str], int] = {}
    for entry in active:
        key = (entry.provider, entry.model, entry.tier, entry.scope)
        top[key] = max(entry.layer, top.get(key, 0))
    return [
        entry
        for entry in active
        if entry.layer == top[entry.provider, entry.model, entry.tier, entry.scope]
        and provider in ("", entry.provider)
        and tier in ("", entry.tier)
        and fnmatchcase(entry.model.lower(), model.lower())
    ]


def state(entry: Entry, at: int, holds: Container[str]) -> str:
    """How a price stands at a time (UTC microseconds): in force, announced, past, or overruled by one of a folder over it.

    ``holds`` are the rate ids of the prices that hold then. A price with a window or a band is in force on its days, whatever
    the hour or the prompt.
    """
    if begins(entry) > at:
        return "announced"
    if entry.valid_to <= at:
        return "past"
    return "in force" if entry.rate_id in holds else "overruled"


class History(NamedTuple):
    """All that a book says of a model: prices, those corrected since, and the names that lead to it.

    ``read_as`` is the name of the book that the name as logged is read as; None if it is the model of a book itself, but means
    nothing at the time that was asked for.
    """

    provider: str
    model: str
    read_as: NameRule | None
    entries: tuple[Entry, ...]
    corrected: tuple[Entry, ...]
    names: tuple[NameRule, ...]


def histories(book: Book, logged: str, at: int, provider: str = "") -> list[History]:
    """The models that a name as logged means at a time (UTC microseconds), for each provider that knows it.

    Those that take any name, as a host of one's own does, answer only if they are asked for by ``provider``.
    """
    found = []
    for one in book.providers:
        if provider not in ("", one):
            continue
        rule = book.meaning(one, logged, at)
        stated = {entry.model for entry in (*book.entries, *book.corrected) if entry.provider == one}
        model = rule.model if rule else next((name for name in stated if name.lower() == logged.strip().lower()), None)
        if model is None or (rule and rule.name == "*" and not provider):
            continue
        ours = [[e for e in some if (e.provider, e.model) == (one, model)] for some in (book.entries, book.corrected)]
        names = tuple(name for name in book.names(one) if name.model == model)
        found.append(History(one, model, rule, tuple(ours[0]), tuple(ours[1]), names))
    return found


def nearest(book: Book, logged: str, provider: str = "", most: int = 5) -> list[str]:
    """Names of the book that look like one that is not in it, as ``provider/name``."""
    names = {
        f"{one}/{name}": name
        for one in book.providers
        if provider in ("", one)
        for rule in book.names(one)
        if len(name := rule.name.strip("*")) > 1
    }
    close = difflib.get_close_matches(logged.strip().lower(), sorted(set(names.values())), most, 0.5)
    return [full for near in close for full, name in names.items() if name == near][:most]


class Change(NamedTuple):
    """A price in which two books differ; ``old`` and ``new`` are dollars as listed, None where there is none."""

    kind: str
    rate_id: str
    field: str
    old: str | None
    new: str | None

    @property
    def ratio(self) -> Decimal | None:
        """New by old, to four digits after the point, where both are there and old is not 0."""
        if self.old is None or self.new is None or self.field == "to" or not Decimal(self.old):
            return None
        return (Decimal(self.new) / Decimal(self.old)).quantize(Decimal("0.0001"))


def differences(old: Iterable[Entry], new: Iterable[Entry]) -> Iterator[Change]:
    """What is changed, added and removed, by what the prices are for: folders and files do not matter."""
    before, after = by_what(old), by_what(new)
    for what in sorted({*before, *after}):
        one, other = before.get(what), after.get(what)
        kind = "added" if one is None else "removed" if other is None else "changed"
        named = (other or one or {})["rate_id"]
        for field in (*FIELDS, "free", "to"):
            values = [side.get(field) or None if side else None for side in (one, other)]
            if values[0] != values[1]:
                yield Change(kind, named, field, *values)


def in_effect(entries: Iterable[Entry]) -> list[Entry]:
    """The prices of all layers for the times in which they hold: those of a folder in place of what they stand over.

    A price that an own one interrupts becomes two.
    """
    layers: dict[int, list[Entry]] = {}
    for entry in entries:
        layers.setdefault(entry.layer, []).append(entry)
    found: list[Entry] = []
    over: dict[tuple[str, str, str, str], set[tuple[int, int]]] = {}
    for _, some in sorted(layers.items(), reverse=True):
        for entry in some:
            spans = [(entry.valid_from, entry.valid_to)]
            for start, end in over.get(_group(entry), ()):
                cut = ((a, b) for first, last in spans for a, b in ((first, min(last, start)), (max(first, end), last)))
                spans = [span for span in cut if span[0] < span[1]]
            found += [replace(entry, valid_from=start, valid_to=end) for start, end in spans]
        for entry in some:
            over.setdefault(_group(entry), set()).add((entry.valid_from, entry.valid_to))
    return found


def _group(entry: Entry) -> tuple[str, str, str, str]:
    return entry.provider, entry.model, entry.tier, entry.scope


def by_what(entries: Iterable[Entry]) -> dict[tuple[Any, ...], Mapping[str, Any]]:
    """Prices by provider, model, tier, scope, window, band and start; of several layers the last."""
    found: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for entry in sorted(entries, key=lambda entry: entry.layer):
        row = entry_row(entry)
        row["rate_id"] = entry.rate_id.partition("#")[0]
        found[tuple(row[name] for name in ("provider", "model", "tier", "scope", "window", "above", "from"))] = row
    return found
