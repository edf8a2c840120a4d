"""What a vendor charged beside what our calls come to, and what the difference is made of.

Charges and calls meet in groups of period, provider, account and model. In a group, tokens of one kind (see
``schemas.invoice.KINDS``) that the invoice counts as ``Q`` at a list cost ``L``, and our logs as ``q`` at a list cost ``l``,
differ by

    L - l  =  (Q - q) x L/Q  +  q x (L/Q - l/q)        where the invoice counts more: missing logs, then price
    L - l  =  (Q - q) x l/q  +  Q x (L/Q - l/q)        where we count more: logs that were not billed, then price

Money is int pico-dollars; the price is what is left of L - l, so the parts of a group sum to its difference to the last digit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Final, NamedTuple

from schemas.invoice import KINDS, LENGTHS, Charge, broad
from transforms.invoice.models import Models

PARTS: Final = (
    ("missing_logs", "Tokens that were billed and are in no call of ours, at the invoice's list price."),
    ("not_billed", "Tokens of our calls that were not billed, at our list price; negative."),
    ("unpriced", "Billed tokens of calls that we have but could not price, at the invoice's list price."),
    ("price", "The invoice's list price per token less ours, for the tokens both have."),
    ("discount", "Billed less list cost, of the invoice less that of our calls; negative where more was given than we know of."),
    ("rounding", "What amounts that are rounded on the invoice can account for."),
    ("credit", "Credits: charges of no call."),
    ("tax", "Taxes."),
    ("purchase", "Commitments and other purchases, used or not."),
    ("adjustment", "Adjustments, and corrections of earlier periods."),
    ("other", "Usage that is of no model: storage, tool calls, containers."),
    ("unexplained", "Without quantities on the invoice, logs and price cannot be told apart."),
)
"""What a difference is made of, and what each part means."""

ALL_ACCOUNTS: Final = "(all)"
ALL_MODELS: Final = "(all)"
_DAY: Final = 86_400


class Ours(NamedTuple):
    """Our calls of a UTC day (``start`` in seconds), provider, account, project and model.

    ``tokens`` and ``cost`` (pico-dollars) by kind, of calls that a vendor bills and that have a price; ``unpriced`` are tokens
    by kind of those that have none. ``list_cost``: the same calls at list prices. ``stated``: calls of which the vendor stated
    the cost, in sum only. The cost of cache writes may be in sum: ``cache_write``.
    """

    start: int
    provider: str
    account: str
    project: str
    model: str
    calls: int
    tokens: Mapping[str, int]
    cost: Mapping[str, int]
    list_cost: int
    unpriced: Mapping[str, int]
    stated: int = 0


class Difference(NamedTuple):
    """One group: ``billed - ours`` is exactly the sum of ``parts`` (pico-dollars, by name; those that are 0 are left out)."""

    start: int
    end: int
    provider: str
    account: str
    model: str
    calls: int
    lines: int
    billed: int
    ours: int
    parts: Mapping[str, int]
    notes: tuple[str, ...]


class Comparison(NamedTuple):
    """Every group, and what is to be known of the whole."""

    rows: tuple[Difference, ...]
    notes: tuple[str, ...]

    def unexplained(self) -> Fraction:
        """Share of what was billed that no part explains; groups do not cancel each other out."""
        left = sum(abs(row.parts.get("unexplained", 0)) for row in self.rows)
        return Fraction(left, max(1, sum(abs(row.billed) for row in self.rows)))


class _Key(NamedTuple):
    provider: str
    account: str
    model: str


@dataclass
class _Group:
    charges: list[Charge] = field(default_factory=list)
    ours: list[Ours] = field(default_factory=list)


@dataclass
class _Side:
    """Tokens and money of one kind on one side; ``lines`` that are on it, ``counted`` of them with tokens."""

    tokens: int = 0
    money: int = 0
    unpriced: int = 0
    lines: int = 0
    counted: int = 0


def compare(
    charges: Sequence[Charge],
    ours: Iterable[Ours],
    models: Models,
    accounts: Mapping[str, str] | None = None,
    rounding: Decimal | None = None,
    spellings: Mapping[str, str] | None = None,
) -> Comparison:
    """Set charges in US dollars against calls of the same providers and days.

    ``accounts`` gives accounts and projects of our logs the ids that the invoice has for them, ``spellings`` models of the
    invoice the names that our calls have, where the price book does not know that they are the same. ``rounding``: dollars
    by which a line may be off; None: half of the last decimal that any amount of its file has. A period longer than a day is
    compared whole; one that does not end at midnight UTC with the days it touches.
    """
    ours = list(ours)
    notes = strangers(charges, ours, models, accounts or {}, spellings or {})
    ours = [_by_length(row._replace(model=models.named(row.provider, row.model, row.start)), models) for row in ours]
    if spellings:
        charges = [c._replace(model=models.named(c.provider, spellings.get(c.model, c.model), c.start)) for c in charges]
    usage = [c for c in charges if c.category == "usage"]
    size = _sizes(charges, rounding)
    groups: dict[_Key, _Group] = defaultdict(_Group)
    for provider in sorted({c.provider for c in charges}):
        lines = [c for c in usage if c.provider == provider]
        calls = [row for row in ours if row.provider == provider]
        account_of = meet(provider, lines, calls, accounts or {}, notes)
        by_model = any(c.model for c in lines)
        if not lines:
            continue
        if not by_model:
            notes.append(f"{provider}: the invoice names no models; all are compared together")
        elif unlike := _unlike({c.model for c in lines if c.model}, {row.model for row in calls if _counts(row)}):
            notes.append(f"{provider}: {unlike}")
        for c in lines:
            if c.model or not by_model:
                groups[_Key(provider, account_of(c.account, c.project), c.model or ALL_MODELS)].charges.append(c)
        for row in calls:
            key = _Key(provider, account_of(row.account, row.project, True), row.model if by_model else ALL_MODELS)
            groups[key].ours.append(row)
    rows = [_difference(key, period, part, size) for key, group in groups.items() for period, part in _periods(group).items()]
    rows += _apart([c for c in charges if c.category != "usage" or _modelless(c, groups)])
    return Comparison(tuple(sorted(rows, key=lambda row: (row.start, row[2:5]))), tuple(notes))


def _by_length(row: Ours, models: Models) -> Ours:
    """The cost of cache writes by for how long they are, as list prices have it: exact where a contract is one percentage.

    It stays in sum where the tokens do not say it, or the price book has no prices for it.
    """
    cost, tokens = row.cost.get("cache_write", 0), [row.tokens.get(kind, 0) for kind in LENGTHS]
    if not cost or not any(tokens) or row.tokens.get("cache_write"):
        return row
    prices = models.writes(row.provider, row.model, row.start) if all(tokens) else (1, 1)
    weights = [count * price for count, price in zip(tokens, prices or (), strict=False)]
    if not any(weights):
        return row
    first = round(Fraction(cost * weights[0], sum(weights)))
    rest = {kind: amount for kind, amount in row.cost.items() if kind != "cache_write"}
    for kind, amount in zip(LENGTHS, (first, cost - first), strict=True):
        rest[kind] = rest.get(kind, 0) + amount
    return row._replace(cost=rest)


def _lengths(group: _Group) -> bool:
    """Whether both sides say of all cache writes for how long they are."""
    sums = [some for row in group.ours for some in (row.tokens, row.cost, row.unpriced)]
    return all(c.kind != "cache_write" for c in group.charges) and not any(some.get("cache_write") for some in sums)


def _modelless(charge: Charge, groups: Mapping[_Key, _Group]) -> bool:
    return not charge.model and not any(k.provider == charge.provider and k.model == ALL_MODELS for k in groups)


def _counts(row: Ours) -> bool:
    """Whether there is anything in these calls that a vendor could bill."""
    return any(any(some.values()) for some in (row.tokens, row.cost, row.unpriced))


def _unlike(charged: set[str], called: set[str]) -> str:
    """Models that are only on one side: they show as missing logs or as not billed, as both if they are one by two names."""
    said = []
    for words, some in (("charges but no calls of", charged - called), ("calls but no charges of", called - charged)):
        if some:
            more = f" and {len(some) - 5:,} more" if len(some) > 5 else ""
            said.append(f"{words} {', '.join(name or '(no model)' for name in sorted(some)[:5])}{more}")
    return "; ".join([*said, "if these are the same: --model"] if len(said) > 1 else said)


def strangers(
    charges: Iterable[Charge], ours: Iterable[Ours], models: Models, accounts: Mapping[str, str], spellings: Mapping[str, str]
) -> list[str]:
    """Given names that nothing is called by, in words: ``accounts`` and ``spellings`` as in ``compare``."""
    ours, charges = list(ours), list(charges)
    charged = {c.model for c in charges}
    called = {name for row in ours for name in (row.model, models.named(row.provider, row.model, row.start))}
    payers = {name for c in charges for name in (c.account, c.project)}
    owners = {name for row in ours for name in (row.account, row.project)}
    said = []
    for option, pairs, theirs_known, ours_known in (
        ("--model", [(our, their) for their, our in spellings.items()], charged, called),
        ("--account", list(accounts.items()), payers, owners),
    ):
        for our, their in pairs:
            unknown = [f"no charge here has {their!r}"] * (their not in theirs_known)
            unknown += [f"no call has {our!r}"] * (our not in ours_known)
            if unknown:
                said.append(f"{option} {our}={their}: {' and '.join(unknown)}")
    return said


def _sizes(charges: Iterable[Charge], rounding: Decimal | None) -> dict[str, Fraction]:
    """By how many pico-dollars a line of each file may be off."""
    most: dict[str, int] = {}
    for c in charges:
        most[c.file] = max(most.get(c.file, 2), min(c.places, 12))
    given = None if rounding is None else Fraction(rounding) * 10**12
    return {file: Fraction(10**12, 2 * 10**places) if given is None else given for file, places in most.items()}


class _Accounts:
    """By which id charges and calls of a provider meet."""

    def __init__(self, level: str, names: Mapping[str, str]) -> None:
        self._level, self._names = level, names

    def __call__(self, account: str, project: str, ours: bool = False) -> str:
        if not self._level:
            return ALL_ACCOUNTS
        if not ours:
            return project if self._level == "project" else account
        account, project = self._names.get(account, account), self._names.get(project, project)
        return project or account if self._level == "project" else account or project


def meet(
    provider: str, lines: Sequence[Charge], calls: Sequence[Ours], names: Mapping[str, str], notes: list[str]
) -> _Accounts:
    """Calls and charges meet by project, else by account, if every call has one and the invoice knows one of them."""
    for level in ("project", "account"):
        found = _Accounts(level, names)
        charged = {found(c.account, c.project) for c in lines}
        called = {found(row.account, row.project, True) for row in calls}
        if "" not in charged | called and charged & called:
            return found
    if calls:
        lacking = any(not row.account and not row.project for row in calls)
        why = "calls without an account are in our logs" if lacking else "our accounts are not those of the invoice (--account)"
        notes.append(f"{provider}: {why}; all accounts are compared together")
    return _Accounts("", names)


def _periods(group: _Group) -> dict[tuple[int, int], _Group]:
    """The group cut into days, and into longer periods where charges have them; overlapping ones are one."""
    spans = {(c.start // _DAY * _DAY, -(-c.end // _DAY) * _DAY) for c in group.charges}
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans | {(row.start, row.start + _DAY) for row in group.ours}):
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    found = {period: _Group() for period in merged}
    of_day = {day: period for period in merged for day in range(*period, _DAY)}
    for c in group.charges:
        found[of_day[c.start // _DAY * _DAY]].charges.append(c)
    for row in group.ours:
        found[of_day[row.start]].ours.append(row)
    return found


def _difference(key: _Key, period: tuple[int, int], group: _Group, size: Mapping[str, Fraction]) -> Difference:
    parts: dict[str, int] = defaultdict(int)
    notes: list[str] = []
    cost = sum(sum(row.cost.values()) for row in group.ours)
    at_list = sum(row.list_cost for row in group.ours)
    theirs: dict[str, _Side] = defaultdict(_Side)
    slack: dict[str, Fraction] = defaultdict(Fraction)
    # Where one side has the cost only in sum, kinds cannot be compared one by one.
    whole = any(row.stated for row in group.ours)
    as_compared: Callable[[str], str] = str if _lengths(group) else broad
    named = set() if whole else {as_compared(c.kind) for c in group.charges if c.kind}
    for c in group.charges:
        contracted = c.billed if c.contracted is None else c.contracted
        listed = contracted if c.list_cost is None else c.list_cost
        small = abs(c.billed - contracted) <= size[c.file]
        parts["rounding" if small else "discount"] += c.billed - contracted
        small = abs(contracted - listed) <= size[c.file] and c.list_cost is not None and c.contracted is None
        parts["rounding" if small else "discount"] += contracted - listed
        kind = as_compared(c.kind) if as_compared(c.kind) in named else ""
        side = theirs[kind]
        side.money += listed
        side.lines += 1
        side.tokens += c.tokens or 0
        side.counted += c.tokens is not None
        slack[kind] += size[c.file]
    parts["discount"] -= cost - at_list
    mine = _ours_by_kind(group.ours, named, as_compared, cost, at_list)
    for kind in {*theirs, *mine}:
        note = _explain(parts, theirs.get(kind, _Side()), mine.get(kind, _Side()), slack[kind])
        if note:
            notes.append(f"{kind or 'all kinds'}: {note}" if named else note)
    billed = sum(c.billed for c in group.charges)
    days = (period[1] - period[0]) // _DAY
    seen = len({row.start for row in group.ours})
    if days > 1 and 0 < seen < days:
        notes.append(f"calls of ours on {seen} of {days} days")
    calls = sum(row.calls for row in group.ours)
    return Difference(*period, *key, calls, len(group.charges), billed, cost, _kept(parts), tuple(notes))


def _ours_by_kind(
    ours: Sequence[Ours], named: set[str], as_compared: Callable[[str], str], cost: int, at_list: int
) -> dict[str, _Side]:
    """Our tokens and list cost by kind; kinds that the invoice does not name are one.

    The list cost is known in sum: it is spread over kinds as the cost is, which is exact where a discount is one percentage.
    """
    mine: dict[str, _Side] = defaultdict(_Side)
    for row in ours:
        for kind in KINDS:
            side = mine[as_compared(kind) if as_compared(kind) in named else ""]
            side.tokens += row.tokens.get(kind, 0)
            side.unpriced += row.unpriced.get(kind, 0)
            side.money += row.cost.get(kind, 0)
    if cost != at_list and mine:
        spread = {kind: round(Fraction(side.money * at_list, cost)) if cost else 0 for kind, side in mine.items()}
        largest = max(mine, key=lambda kind: (abs(mine[kind].money), kind))
        spread[largest] += at_list - sum(spread.values())
        for kind, side in mine.items():
            side.money = spread[kind]
    return {kind: side for kind, side in mine.items() if side.tokens or side.money or side.unpriced}


def _explain(parts: dict[str, int], theirs: _Side, mine: _Side, slack: Fraction) -> str:
    """Add what the list costs of one kind differ by to the parts; what is to be said of it, if anything."""
    rest = theirs.money - mine.money
    if not theirs.lines:
        parts["not_billed"] += rest
        return ""
    if not (mine.tokens or mine.money or mine.unpriced):
        parts["missing_logs"] += rest
        return ""
    if theirs.counted < theirs.lines or not theirs.tokens:
        parts["rounding" if abs(rest) <= slack else "unexplained"] += rest
        return "" if abs(rest) <= slack else "no quantities: logs and price cannot be told apart"
    more = theirs.tokens - mine.tokens
    if more >= 0:
        price = Fraction(theirs.money, theirs.tokens)
        unpriced = round(min(more, mine.unpriced) * price)
        missing = round(more * price) - unpriced
        parts["unpriced"] += unpriced
        parts["missing_logs"] += missing
        rest -= unpriced + missing
    else:
        unbilled = round(more * Fraction(mine.money, mine.tokens))
        parts["not_billed"] += unbilled
        rest -= unbilled
    parts["rounding" if abs(rest) <= slack else "price"] += rest
    return ""


def _apart(charges: Iterable[Charge]) -> list[Difference]:
    """Charges that no call stands against: one group for each period, account and what they are for."""
    groups: dict[tuple[int, int, str, str, str], list[Charge]] = defaultdict(list)
    for c in charges:
        category = "other" if c.category == "usage" else c.category
        groups[c.start, c.end, c.provider, c.account or c.project, category].append(c)
    rows = []
    for (start, end, provider, account, category), some in groups.items():
        billed = sum(c.billed for c in some)
        said = tuple(dict.fromkeys(c.description for c in some if c.description))[:3]
        rows.append(
            Difference(start, end, provider, account, f"({category})", 0, len(some), billed, 0, _kept({category: billed}), said)
        )
    return rows


def _kept(parts: Mapping[str, int]) -> dict[str, int]:
    return {name: parts[name] for name, _ in PARTS if parts.get(name)}
