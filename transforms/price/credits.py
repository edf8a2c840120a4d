"""What credits pay for: drawn from what a contract's calls cost, day by day, at query time.

Whether a credit is left when a call is made depends on all calls before it, so no call carries its share. From sums by day it
is a pure function, and the same for calls in whatever order they were read. Days count from 1970, UTC; money is pico-dollars.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from transforms.price.contracts import Credit
from transforms.price.fields import EVER, FOREVER

_DAY: Final = 86_400_000_000
TRAILING: Final = 7
"""Whole days whose mean is the rate at which a credit is taken to go on being used."""

_HORIZON: Final = 3650


class Use(NamedTuple):
    """What was used of a credit, and the day at whose end nothing was left of it, if there is one."""

    credit: Credit
    used: int
    used_up: int | None

    @property
    def left(self) -> int:
        """What is left of the amount."""
        return self.credit.amount - self.used

    def holds(self, day: int) -> bool:
        """Whether the credit may pay for calls of a day."""
        return self.credit.start <= day * _DAY < self.credit.end


class Drawn(NamedTuple):
    """What credits paid of each day, and what was used of each credit."""

    days: Mapping[int, int]
    uses: tuple[Use, ...]


def draw(costs: Mapping[int, int], credits: Sequence[Credit]) -> Drawn:
    """Let the credits of a contract pay for its calls, whose cost is given by day.

    The days come in order of time; of credits that hold on a day the one that ends first pays first, then the one that began
    first, then by name. A day is never paid for by more than it cost, nor a credit used beyond its amount.
    """
    order = sorted(credits, key=lambda credit: (credit.end, credit.start, credit.name))
    uses = [Use(credit, 0, None) for credit in order]
    paid: dict[int, int] = {}
    for day in sorted(costs):
        rest = costs[day]
        for number, use in enumerate(uses):
            part = min(use.left, rest) if use.holds(day) else 0
            if part > 0:
                uses[number] = Use(use.credit, use.used + part, day if part == use.left else None)
                rest -= part
        paid[day] = costs[day] - rest
    return Drawn(paid, tuple(uses))


def rate(costs: Mapping[int, int], last: int) -> int:
    """What the calls of a contract cost a day: the mean of the ``TRAILING`` days before ``last``, which may not be over yet.

    Where the contract's first call is younger, of the days since then; on that day itself, what it cost so far.
    """
    first = min(costs, default=last)
    if first >= last:
        return costs.get(last, 0)
    days = range(max(first, last - TRAILING), last)
    return sum(costs.get(day, 0) for day in days) // len(days)


def run_out(uses: Sequence[Use], a_day: int, last: int) -> dict[str, int]:
    """The day at whose end nothing will be left of each credit, by name, if each day after ``last`` costs as much.

    A credit that ends before, or is not used up within ten years, is not among them.
    """
    found = {use.credit.name: use.used_up for use in uses if use.used_up is not None}
    if a_day <= 0:
        return found
    left = [replace(use.credit, amount=use.left) for use in uses if use.used_up is None]
    future = draw(dict.fromkeys(range(last + 1, last + 1 + _HORIZON), a_day), left)
    return {**found, **{use.credit.name: use.used_up for use in future.uses if use.used_up is not None}}


def shares(amount: int, weights: Sequence[int]) -> list[int]:
    """``amount`` divided in proportion to ``weights``, to the last pico-dollar: what is left over goes to the largest remainders.

    Of equal remainders the first gets more. No share is above its weight while ``amount`` is at most their sum.
    """
    total = sum(weights)
    if not total:
        return [0] * len(weights)
    parts = [divmod(amount * weight, total) for weight in weights]
    rest = amount - sum(part for part, _ in parts)
    first = sorted(range(len(parts)), key=lambda number: (-parts[number][1], number))[:rest]
    more = frozenset(first)
    return [part + (number in more) for number, (part, _) in enumerate(parts)]


def begins(credit: Credit) -> int | None:
    """The first day of a credit, None if it has none."""
    return None if credit.start == EVER else credit.start // _DAY


def ends(credit: Credit) -> int | None:
    """The first day on which a credit no longer holds, None if there is none."""
    return None if credit.end == FOREVER else credit.end // _DAY
