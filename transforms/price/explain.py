"""The sum behind one call's cost, line by line: what a bill would show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

import pyarrow as pa

from schemas.call import LEAVES
from transforms.price.age import earliest
from transforms.price.book import NO_PRICE, Book, Key
from transforms.price.contracts import ANYBODY, Payer
from transforms.price.entries import Entry, iso
from transforms.price.fields import EVER
from transforms.price.history import FIELD_OF, nearest
from transforms.price.pricing import MAX_COUNT, PricedColumns, key_of, price_batch
from transforms.price.rates import PICO_PER_DOLLAR, UNITS, dollars, plain, unit_size


class Line(NamedTuple):
    """``quantity`` units at ``rate`` dollars per ``per`` are ``amount`` pico-dollars; None: no rate known.

    ``list_rate``: dollars per ``per`` at the list price, under a contract; else empty.
    """

    unit: str
    quantity: int
    rate: str | None
    per: int
    amount: int | None
    list_rate: str = ""

    def __str__(self) -> str:
        if self.rate is None or self.amount is None:
            return f"{self.unit}: {self.quantity:,} x no rate"
        listed = f" (list ${self.list_rate})" if self.list_rate else ""
        return f"{self.unit}: {self.quantity:,} x ${self.rate}{listed} per {self.per:,} = ${dollars(self.amount)}"


class Explanation(NamedTuple):
    """The lines, the entry they come from and their sum; or, with ``total`` None, the reason why there is none.

    ``entry`` is the price itself, with its band, window, scope, contract and the day it was recorded; None where none was
    found.
    """

    lines: tuple[Line, ...]
    total: int | None
    reason: str
    rate_id: str
    source: str
    entry: Entry | None = None


def explain(
    book: Book, leaves: Mapping[str, int | None], key: Key, event_time: int, payer: Payer = ANYBODY
) -> Explanation:
    """What usage ``leaves`` (counts by name of ``rates.UNITS``) costs for ``key`` at ``event_time`` (UTC microseconds).

    The request itself is one unit, so a fee per request needs no count. ``payer``: who calls, where contracts tell payers
    apart. Raises ``ValueError`` for an unknown leaf.
    """
    unknown = set(leaves) - set(UNITS)
    if unknown:
        raise ValueError(f"no such leaf: {', '.join(sorted(unknown))}; leaves are {', '.join(UNITS)}")
    counts = {unit: count for unit in UNITS if (count := leaves.get(unit)) is not None}
    prompt = sum(counts.get(leaf, 0) for leaf in LEAVES if leaf.startswith("input_"))
    row = book.plan(key, payer).row(event_time, prompt)
    if row < 0:
        return Explanation((), None, NO_PRICE[-1 - row], "", "")
    entry = book.entries[row]
    if entry.free:
        return Explanation((), 0, entry.free, entry.rate_id, entry.source, entry)
    if "requests" in entry.rates:
        counts.setdefault("requests", 1)
    listed = book.entries[book.list_rows[row]].rates if entry.contract else {}
    lines = tuple(_line(unit, count, entry.rates.get(unit), listed.get(unit)) for unit, count in counts.items() if count)
    missing = [line.unit for line in lines if line.amount is None]
    if missing:
        return Explanation(lines, None, f"no_rate:{missing[0]}", entry.rate_id, entry.source, entry)
    if not any(leaf in counts for leaf in LEAVES):
        return Explanation(lines, None, "no_usage", entry.rate_id, entry.source, entry)
    return Explanation(lines, sum(line.amount or 0 for line in lines), "", entry.rate_id, entry.source, entry)


WHY: Final = {
    "gateway_cache_hit": "a gateway answered from its own cache, and no vendor was paid",
    "not_served": "it failed and no usage was reported",
    "capacity": "reserved capacity served it, which is paid by the hour",
    "self_hosted": "it ran on own machines, which cost by the hour and not by the token",
    "no_usage": "no usage was reported and none could be counted",
    "overflow": "a count or the cost is more than a call can have",
    "bad_value": "a count or a stated cost is negative",
    "unknown_provider": "the book has no such provider",
    "unknown_model": "the book has no such model",
    "unknown_tier": "the model has no price in this tier",
    "unknown_scope": "the model has no price in this region scope",
    "before_first_price": "the call began before the first price that the book knows",
    "after_last_price": "the call began after the last price ended",
}
"""Reasons of ``price_reason`` in words."""


class CallExplanation(NamedTuple):
    """What a call comes to by ``price_batch``, and the sum behind it.

    ``cost``: pico-dollars, None where unpriced. ``why``: in words, why it is unpriced, costs nothing or is what a vendor says;
    empty where it is the sum of ``lines``. ``alias``: the name of the book that the call's model was read as.
    """

    status: str
    reason: str
    why: str
    cost: int | None
    lines: tuple[Line, ...]
    entry: Entry | None
    alias: str
    tier: str
    book_version: str


def explain_call(book: Book, call: Mapping[str, Any]) -> CallExplanation:
    """Why a call costs what it costs. ``call`` has the fields that ``price_batch`` reads, its event time in UTC microseconds."""
    priced: PricedColumns = price_batch(pa.RecordBatch.from_pylist([dict(call)]), book, 1)
    key = key_of(call)
    status, reason, source = priced.price_status[0], priced.price_reason[0], priced.cost_source[0]
    usage = {unit: call.get(unit) for unit in UNITS if unit in call}
    payer = Payer(**{name: call.get(name) or "" for name in Payer._fields})
    found = explain(book, usage, key, call["event_time"], payer)
    rule = book.meaning(key.provider, key.model, call["event_time"])
    by_rates = source in ("usage", "counted", "estimated") or reason.startswith("no_rate:")
    why = WHY.get(reason, "")
    if source == "vendor_reported":
        why = "the vendor itself says what it cost"
    elif status == "free" and not reason and found.entry:
        why = found.entry.free
    elif reason.startswith("no_rate:"):
        why = _no_rate(reason.removeprefix("no_rate:"), found.entry)
    elif reason in ("overflow", "bad_value"):
        why += f": {_odd_figure(call, usage, found)}; mend the log's field"
    if reason in NO_PRICE:
        why += f"; {_remedy(book, key, reason, call['event_time'])}"
    return CallExplanation(
        status,
        reason,
        why,
        None if priced.null[0] else int(priced.cost[0]),
        found.lines if by_rates else (),
        found.entry if by_rates or (status == "free" and not reason) else None,
        rule.name if rule else "",
        key.tier,
        book.book_version,
    )


def _remedy(book: Book, key: Key, reason: str, at: int) -> str:
    """What the book has instead of a price that it lacks, and where to state that."""
    rule = book.meaning(key.provider, key.model, at)
    known = [e for e in book.entries if rule and (e.provider, e.model, e.contract) == (key.provider, rule.model, "")]
    if reason == "unknown_provider":
        has = f"it has {', '.join(book.providers)}"
    elif reason == "unknown_tier":
        has = f"it has {', '.join(dict.fromkeys(entry.tier for entry in known))}"
    elif reason == "unknown_scope":
        has = f"it has {', '.join(dict.fromkeys(entry.scope or 'the base' for entry in known))}"
    elif reason == "unknown_model" or not known:
        near = nearest(book, key.model, key.provider)
        has = f"it has {', '.join(near)}" if near else "no name of it is like this one"
    elif reason == "before_first_price":
        first = min(entry.valid_from for entry in _of(known, key.tier))
        none = f"no model named {key.model!r} can have been called before {iso(earliest(key.model))}"
        has = f"{none}, unless a price states its from" if first == EVER else f"that is of {iso(first)}"
    else:
        has = f"that was on {iso(max(entry.valid_to for entry in _of(known, key.tier)))}"
    return f"{has}; mend the log's field, or state the price in a folder of --price-books"


def _no_rate(unit: str, entry: Entry | None) -> str:
    """What a price lacks, which field states it and where."""
    said = f"the price states nothing for {unit}"
    if entry is None:
        return said
    place = f"{entry.of or entry.rate_id} ({entry.place})"
    where = "there" if entry.layer else "with what else it states in a folder of --price-books"
    return f'{said}; write the field "{FIELD_OF[unit]}" of {place} {where}, or mend the log\'s {unit}'


def _odd_figure(call: Mapping[str, Any], usage: Mapping[str, int | None], found: Explanation) -> str:
    """The figure of a call that is negative, or more than a call can have."""
    stated = call.get("reported_cost")
    if stated is not None and call.get("reported_cost_by") == "vendor":
        return f"reported_cost is ${plain(stated) if isinstance(stated, Decimal) else dollars(stated)}"
    odd = [f"{unit} is {count:,}" for unit, count in usage.items() if count is not None and not 0 <= count <= MAX_COUNT]
    if odd:
        return ", ".join(odd)
    most = max(found.lines, key=lambda line: line.amount or 0, default=None)
    return f"most of it is {most}" if most else "its parts come to that in sum"


def _of(known: Sequence[Entry], tier: str) -> Sequence[Entry]:
    return [entry for entry in known if entry.tier == tier] or known


def _line(unit: str, count: int, rate: int | None, listed: int | None) -> Line:
    per = unit_size(unit)
    if rate is None:
        return Line(unit, count, None, per, None)
    at_list = "" if listed is None else plain(Decimal(listed * per) / PICO_PER_DOLLAR)
    return Line(unit, count, plain(Decimal(rate * per) / PICO_PER_DOLLAR), per, count * rate, at_list)
