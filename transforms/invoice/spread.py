"""What was billed for tokens, put on the calls that used them.

Charges and calls meet in groups of UTC day, provider, account and model, and in these by kind of tokens. Of ``B`` billed for
``Q`` tokens the calls of a group, which have ``q`` of them, carry ``B x q / Q``; what is left was billed for tokens of no call of
ours. It is spread over calls in proportion to what they cost by prices, by largest remainder, so it sums to the last digit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from schemas.invoice import KINDS, Charge, broad
from transforms.invoice.compare import Ours, meet, strangers
from transforms.invoice.models import Models

_DAY: Final = 86_400


class Group(NamedTuple):
    """Calls and charges of a UTC day (its first second), provider, account and model, as both are named."""

    day: int
    provider: str
    account: str
    model: str


class Decision(NamedTuple):
    """What the calls of a group carry, by kind (pico-dollars), of what ``lines``; or ``why`` they keep what they cost."""

    calls: int
    before: int
    amounts: Mapping[str, int]
    lines: tuple[Charge, ...]
    why: str = ""

    @property
    def then(self) -> int:
        """What the calls of the group cost afterwards."""
        return self.before if self.why else sum(self.amounts.values())


class Plan(NamedTuple):
    """Decisions by group; ``group_of``: that of the calls of a day, provider, account, project and model as they are stored."""

    decisions: Mapping[Group, Decision]
    group_of: Mapping[tuple[int, str, str, str, str], Group]
    notes: tuple[str, ...]


def plan(
    charges: Sequence[Charge],
    ours: Sequence[Ours],
    models: Models,
    tolerance: Decimal,
    accounts: Mapping[str, str] | None = None,
    spellings: Mapping[str, str] | None = None,
) -> Plan:
    """Decide for each group of calls what they carry.

    ``tolerance``: by which share calls may have more tokens than were billed, or, where the invoice has no quantities, by which
    what was billed may be off from what they cost. ``accounts`` and ``spellings`` as in ``compare``.
    """
    notes = strangers(charges, ours, models, accounts or {}, spellings or {})
    called: dict[Group, list[Ours]] = defaultdict(list)
    charged: dict[Group, list[Charge]] = defaultdict(list)
    group_of: dict[tuple[int, str, str, str, str], Group] = {}
    usage = [c for c in charges if c.category == "usage" and c.model]
    for provider in sorted({c.provider for c in usage}):
        lines = [c for c in usage if c.provider == provider]
        rows = [row for row in ours if row.provider == provider]
        account_of = meet(provider, lines, rows, accounts or {}, notes)
        for row in rows:
            name = models.named(provider, row.model, row.start)
            group = Group(row.start, provider, account_of(row.account, row.project, True), name)
            called[group].append(row)
            group_of[row.start, provider, row.account, row.project, row.model] = group
        for c in lines:
            name = models.named(provider, (spellings or {}).get(c.model, c.model), c.start)
            for day in range(c.start // _DAY * _DAY, c.end, _DAY):
                charged[Group(day, provider, account_of(c.account, c.project), name)].append(c)
    decisions = {group: _decide(charged.get(group, []), rows, Fraction(tolerance)) for group, rows in sorted(called.items())}
    return Plan(decisions, group_of, tuple(notes))


def _decide(lines: Sequence[Charge], rows: Iterable[Ours], tolerance: Fraction) -> Decision:
    rows = list(rows)
    cost, tokens = (_sums(getattr(row, name) for row in rows) for name in ("cost", "tokens"))
    known = Decision(sum(row.calls for row in rows), sum(cost.values()), {}, tuple(lines))
    amounts: dict[str, int] = {}
    why = _whole(lines, rows)
    for kind in cost:
        if not why and cost[kind]:
            share = _share([c for c in lines if broad(c.kind) == kind], cost[kind], tokens[kind], tolerance)
            if isinstance(share, str):
                why = f"{kind.replace('_', ' ')}: {share}"
            else:
                amounts[kind] = share
    return known._replace(why=why) if why else known._replace(amounts=amounts)


def _sums(some: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """By kind; a call has the cost of its cache writes in sum."""
    sums = dict.fromkeys(map(broad, KINDS), 0)
    for one in some:
        for kind, amount in one.items():
            sums[broad(kind)] += amount
    return sums


def _whole(lines: Sequence[Charge], rows: Sequence[Ours]) -> str:
    """Why nothing can be told of a group, if so."""
    others = sorted({c.currency for c in lines} - {"USD"})
    checks = (
        (not lines, "not on the invoice"),
        (bool(others), f"billed in {', '.join(others)}"),
        (any(c.end > c.start // _DAY * _DAY + _DAY for c in lines), "billed for longer than a day"),
        (any(not c.kind for c in lines), "the invoice does not say which kind of tokens"),
        (any(row.stated for row in rows), "the vendor stated their cost in sum"),
    )
    return next((said for holds, said in checks if holds), "")


def _share(lines: Sequence[Charge], cost: int, tokens: int, tolerance: Fraction) -> int | str:
    """What calls that cost so much, of so many tokens, carry of lines of one kind; or why that cannot be told."""
    if not lines:
        return "not on the invoice"
    billed = sum(c.billed for c in lines)
    if billed < 0:
        return "less than nothing was billed"
    if not tokens:
        return "fees, which are not of tokens"
    if any(c.tokens is None for c in lines):
        near = abs(billed - cost) <= tolerance * cost
        return billed if near else "no quantities, and more than the tolerance apart"
    counted = sum(c.tokens or 0 for c in lines)
    if tokens > counted * (1 + tolerance):
        return "calls have more tokens than were billed"
    return billed if tokens >= counted else round(Fraction(billed * tokens, counted))


def spread(total: int, weights: Sequence[int]) -> list[int]:
    """A total in proportion to weights, by largest remainder; of equal ones the first. Sums to the total exactly.

    ``total`` and weights are not negative, and some weight is above 0.
    """
    whole = sum(weights)
    parts = [total * weight // whole for weight in weights]
    left = total - sum(parts)
    for at in sorted(range(len(weights)), key=lambda at: -(total * weights[at] % whole))[:left]:
        parts[at] += 1
    return parts
