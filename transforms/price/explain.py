"""The sum behind one call's cost, line by line: what a bill would show."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from schemas.call import LEAVES
from transforms.price.book import NO_PRICE, Book, Key
from transforms.price.rates import PICO_PER_DOLLAR, UNITS, dollars, plain, unit_size


class Line(NamedTuple):
    """``quantity`` units at ``rate`` dollars per ``per`` are ``amount`` pico-dollars; None: no rate known."""

    unit: str
    quantity: int
    rate: str | None
    per: int
    amount: int | None

    def __str__(self) -> str:
        if self.rate is None or self.amount is None:
            return f"{self.unit}: {self.quantity:,} x no rate"
        return f"{self.unit}: {self.quantity:,} x ${self.rate} per {self.per:,} = ${dollars(self.amount)}"


class Explanation(NamedTuple):
    """The lines, the entry they come from and their sum; or, with ``total`` None, the reason why there is none."""

    lines: tuple[Line, ...]
    total: int | None
    reason: str
    rate_id: str
    source: str


def explain(book: Book, leaves: Mapping[str, int | None], key: Key, event_time: int) -> Explanation:
    """What usage ``leaves`` (counts by name of ``rates.UNITS``) costs for ``key`` at ``event_time`` (UTC microseconds).

    The request itself is one unit, so a fee per request needs no count. Raises ``ValueError`` for an unknown leaf.
    """
    unknown = set(leaves) - set(UNITS)
    if unknown:
        raise ValueError(f"no such leaf: {', '.join(sorted(unknown))}; leaves are {', '.join(UNITS)}")
    counts = {unit: count for unit in UNITS if (count := leaves.get(unit)) is not None}
    prompt = sum(counts.get(leaf, 0) for leaf in LEAVES if leaf.startswith("input_"))
    row = book.plan(key).row(event_time, prompt)
    if row < 0:
        return Explanation((), None, NO_PRICE[-1 - row], "", "")
    entry = book.entries[row]
    if entry.free:
        return Explanation((), 0, entry.free, entry.rate_id, entry.source)
    if "requests" in entry.rates:
        counts.setdefault("requests", 1)
    lines = tuple(_line(unit, count, entry.rates.get(unit)) for unit, count in counts.items() if count)
    missing = [line.unit for line in lines if line.amount is None]
    if missing:
        return Explanation(lines, None, f"no_rate:{missing[0]}", entry.rate_id, entry.source)
    if not any(leaf in counts for leaf in LEAVES):
        return Explanation(lines, None, "no_usage", entry.rate_id, entry.source)
    return Explanation(lines, sum(line.amount or 0 for line in lines), "", entry.rate_id, entry.source)


def _line(unit: str, count: int, rate: int | None) -> Line:
    per = unit_size(unit)
    if rate is None:
        return Line(unit, count, None, per, None)
    return Line(unit, count, plain(Decimal(rate * per) / PICO_PER_DOLLAR), per, count * rate)
