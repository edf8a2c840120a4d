"""Findings of the drift audit: what differs between reported and counted tokens in a way that chance or a count does not.

A pure function over rows of ``audit_days``. Rows of one tenant, provider, model, API, host, reporter, side, category and
tokenizer are a series of days; nothing is compared across tenants. A series gives at most one finding of each kind, and a
day that one finding explains is not looked at for the next: first a constant, then a change of the ratio, then a level.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from enum import StrEnum
from typing import Final, NamedTuple

from schemas.audit import ESTIMATE, EXACT, INPUT, AuditDay

MIN_CALLS: Final = 20
"""Calls that show it, at least: with fewer, a handful of requests that are counted wrong in one way look like a rule."""

MOST: Final = Decimal("0.8")
"""Share of the calls it is seen in, at least. Where the tokenizer is public, 78 to 99 % of real calls are exact
(docs/counting.md), so what four of five calls show is no error of counting."""

TEXT_TOKENS: Final = 3
"""Tokens a call, at least, of a constant or a level. What vendors write around messages and answers is counted by rules that
were inferred, and where a rule is wrong for a kind of calls, it is by a token or two."""

PART: Final = Decimal("0.1")
"""Share of all calls of the days that a constant is seen in, at least: a proxy may serve a part of what a log shows as one."""

LEVEL: Final = Decimal("0.01")
"""Smallest excess or lack of tokens, of those counted, that is a finding of its own where counts are exact."""

SHIFT: Final = Decimal("0.1")
"""Smallest change of the median ratio that is a change of tokenizer: published successors differ by more (cl100k_base and
o200k_base by a fifth on text that is not English, Claude 4.6 and 4.7 by a tenth and more)."""

APART: Final = Decimal("0.9")
"""Share of the calls, at least, whose day lies nearer to its own side of a change than to the other."""

ESTIMATE_DAYS: Final = 3
"""Days on either side of a change, at least, where counts are estimates: their ratio depends on what the day's texts are."""

BAND: Final = 50
"""Width in thousandths of the ratio of nine of ten calls, at most, to be called proportional, or as wide as the excess:
short prompts round to whole tokens."""

HALF: Final = 500
"""Ratio in thousandths below which most of the text is missing from what was reported."""

_PICO: Final = Decimal("1e-12")


class Kind(StrEnum):
    """What a finding says."""

    PROXY_TEXT = "proxy_text"
    HIDDEN_TEXT = "hidden_text"
    TOKENIZER_CHANGE = "tokenizer_change"
    OVER_REPORTING = "over_reporting"
    TEXT_NOT_LOGGED = "text_not_logged"
    UNDER_REPORTING = "under_reporting"
    TEXT_NOT_REPORTED = "text_not_reported"


MEANINGS: Final = {
    Kind.PROXY_TEXT: "the same number of tokens more on calls through one host, and not elsewhere: it adds a text",
    Kind.HIDDEN_TEXT: "the same number of tokens more on most calls: a text that the log does not show",
    Kind.TOKENIZER_CHANGE: "reported / counted moved on a day and stayed there",
    Kind.OVER_REPORTING: "more tokens reported than the text has, in proportion to it",
    Kind.TEXT_NOT_LOGGED: "more tokens reported than the text has, by amounts that vary",
    Kind.UNDER_REPORTING: "fewer tokens reported than the text has",
    Kind.TEXT_NOT_REPORTED: "less than half of the text's tokens reported",
}


@dataclass(frozen=True)
class Finding:
    """What was found in calls of ``first_day`` to ``last_day``.

    Where one cause shows in several models, APIs and categories, they are all named. ``calls`` were compared, ``seen_in``
    of them show it. ``tokens`` is the constant, else the sum of differences. ``before`` and ``after``: median ratio of
    reported to counted tokens in thousandths, before a change and since. ``dollars``: what it comes to in these days,
    negative where less was billed; ``dollars_per_day``: by days of the calendar. ``elsewhere``: another host where calls of this
    kind are exact, and how many of how many.
    """

    kind: Kind
    tenant: str
    provider: str
    models: tuple[str, ...]
    apis: tuple[str, ...]
    endpoint_host: str
    usage_source: str
    side: str
    categories: tuple[str, ...]
    count_quality: str
    counted_with: str
    first_day: date
    last_day: date
    calls: int
    seen_in: int
    tokens: int
    dollars: Decimal
    before: int | None = None
    after: int | None = None
    elsewhere: str = ""
    elsewhere_calls: int = 0
    elsewhere_exact: int = 0

    @property
    def days(self) -> int:
        return (self.last_day - self.first_day).days + 1

    @property
    def dollars_per_day(self) -> Decimal:
        return (self.dollars / self.days).quantize(_PICO, ROUND_HALF_EVEN)

    @property
    def evidence(self) -> str:
        """The figures behind it, in one line."""
        seen = f"{self.seen_in:,} of {self.calls:,} calls"
        if self.kind in (Kind.PROXY_TEXT, Kind.HIDDEN_TEXT):
            exact = f"{self.elsewhere_exact:,} of {self.elsewhere_calls:,} are exact"
            where = f"; at {self.elsewhere or 'no named host'} {exact}" if self.elsewhere_calls else ""
            return f"{self.tokens:+,} tokens on {seen}{where}"
        if self.kind is Kind.TOKENIZER_CHANGE:
            return f"reported / counted from {_ratio(self.before)} to {_ratio(self.after)}, {seen} since"
        return f"{self.tokens:+,} tokens, {seen}, reported / counted {_ratio(self.after)}"


def _ratio(thousandths: int | None) -> str:
    return f"{(thousandths or 0) / 1000:.2f}"


class _Series(NamedTuple):
    tenant: str
    provider: str
    model: str
    api: str
    endpoint_host: str
    usage_source: str
    side: str
    category: str
    count_quality: str
    counted_with: str


def findings(rows: Iterable[AuditDay]) -> list[Finding]:
    """What the rows show, the largest sums of dollars first. ``rows``: of each day and key at most one, in any order."""
    series: dict[_Series, list[AuditDay]] = defaultdict(list)
    for row in rows:
        if row.calls:
            series[_Series(*(getattr(row, name) for name in _Series._fields))].append(row)
    found: list[Finding] = []
    for key, days in series.items():
        days.sort(key=lambda row: row.day)
        if key.count_quality == EXACT:
            if constant := _constant(key, days):
                found.append(_known_elsewhere(constant, key, series))
                days = _without(days, constant)
            if change := _change(key, days, 1):
                found.append(change)
                days = _without(days, change)
            found += [level for sign in (1, -1) if (level := _level(key, days, sign))]
        elif key.count_quality == ESTIMATE and key.side == INPUT and (change := _change(key, days, ESTIMATE_DAYS)):
            found.append(change)
    return sorted(_joined(found), key=lambda one: (-abs(one.dollars), -one.seen_in, one.kind, one.tenant, one.models))


def _without(days: Sequence[AuditDay], found: Finding) -> list[AuditDay]:
    return [row for row in days if not found.first_day <= row.day <= found.last_day]


def _found(kind: Kind, key: _Series, days: Sequence[AuditDay], seen_in: int, tokens: int, dollars: Decimal) -> Finding:
    return Finding(
        kind,
        key.tenant,
        key.provider,
        (key.model,),
        (key.api,),
        key.endpoint_host,
        key.usage_source,
        key.side,
        (key.category,),
        key.count_quality,
        key.counted_with,
        days[0].day,
        days[-1].day,
        sum(row.calls for row in days),
        seen_in,
        tokens,
        dollars,
    )


def _stretch(days: Sequence[AuditDay], score: Callable[[AuditDay], Decimal]) -> Sequence[AuditDay]:
    """The days in a row with the largest sum of scores, without days at its ends that add nothing; none if no sum is above 0."""
    best, best_sum, start, running = (0, 0), Decimal(0), 0, Decimal(0)
    for index, row in enumerate(days):
        if running <= 0:
            start, running = index, Decimal(0)
        running += score(row)
        if running > best_sum:
            best, best_sum = (start, index + 1), running
    return days[slice(*best)]


def _constant(key: _Series, days: Sequence[AuditDay]) -> Finding | None:
    """The same difference on most calls that differ at all."""
    totals: dict[int, int] = defaultdict(int)
    for row in days:
        if row.constant >= TEXT_TOKENS:
            totals[row.constant] += row.constant_calls
    for constant in sorted((c for c, calls in totals.items() if calls >= MIN_CALLS), key=lambda c: (-totals[c], c)):

        def hits(row: AuditDay, constant: int = constant) -> int:
            return row.constant_calls if row.constant == constant else 0

        def score(row: AuditDay) -> Decimal:
            return hits(row) - MOST * (row.calls - row.exact_calls)

        some = _stretch(days, score)
        seen = sum(map(hits, some))
        if seen >= MIN_CALLS and seen >= PART * sum(row.calls for row in some):
            dollars = sum((_of_constant(row, hits(row)) for row in some), Decimal(0))
            return _found(Kind.HIDDEN_TEXT, key, some, seen, constant, dollars)
    return None


def _of_constant(row: AuditDay, hits: int) -> Decimal:
    """The day's dollars of the constant: its part of the absolute differences. Exact if no other difference is there."""
    if not hits:
        return Decimal(0)
    if hits == row.calls - row.exact_calls:
        return row.difference_cost
    tokens = Decimal(row.constant * hits)
    return (row.cost * tokens / row.reported).quantize(_PICO, ROUND_HALF_EVEN) if row.reported else Decimal(0)


def _known_elsewhere(found: Finding, key: _Series, series: dict[_Series, list[AuditDay]]) -> Finding:
    """A constant is a proxy's if calls of the same kind are exact at another host: of this model, else of another that has the
    same tokenizer."""
    alike = [
        (other.model == key.model, sum(row.calls for row in days), sum(row.exact_calls for row in days), other.endpoint_host)
        for other, days in series.items()
        if other.endpoint_host != key.endpoint_host
        and (other.tenant, other.api, other.side, other.category, other.count_quality, other.counted_with)
        == (key.tenant, key.api, key.side, key.category, key.count_quality, key.counted_with)
    ]
    known = [one for one in alike if one[1] >= MIN_CALLS and one[2] >= MOST * one[1]]
    if not known:
        return found
    _, calls, exact, host = max(known)
    return replace(found, kind=Kind.PROXY_TEXT, elsewhere=host, elsewhere_calls=calls, elsewhere_exact=exact)


def _change(key: _Series, days: Sequence[AuditDay], at_least: int) -> Finding | None:
    """The day on which the ratio moved and stayed: of all, the one that tells the two sides apart best."""
    days = [row for row in days if row.ratio_p50]
    ratios = [row.ratio_p50 for row in days]
    if not days or max(ratios) < min(ratios) * (1 + SHIFT):
        return None
    best: tuple[int, int, int, int, int] | None = None
    for split in range(at_least, len(days) - at_least + 1):
        if 2 * abs(ratios[split] - ratios[split - 1]) < SHIFT * ratios[split - 1]:
            continue  # nothing moved on this day
        left, right = days[:split], days[split:]
        if min(sum(row.calls for row in left), sum(row.calls for row in right)) < MIN_CALLS:
            continue
        before, after = _median(left), _median(right)
        if abs(after - before) < SHIFT * before:
            continue
        apart = sum(row.calls for row in left if abs(row.ratio_p50 - before) < abs(row.ratio_p50 - after))
        since = sum(row.calls for row in right if abs(row.ratio_p50 - after) < abs(row.ratio_p50 - before))
        if apart >= APART * sum(row.calls for row in left) and since >= APART * sum(row.calls for row in right):
            best = max(best or (0, 0, 0, 0, 0), (apart + since, -split, before, after, since))
    if best is None:
        return None
    _, split, before, after, since = best
    some = days[-split:]
    # What was billed since, at the ratio of now, less what it would have been at the one of before.
    dollars = (sum((row.cost for row in some), Decimal(0)) * (after - before) / after).quantize(_PICO, ROUND_HALF_EVEN)
    difference = sum(row.difference for row in some)
    return replace(_found(Kind.TOKENIZER_CHANGE, key, some, since, difference, dollars), before=before, after=after)


def _median(days: Sequence[AuditDay]) -> int:
    """Median of the days' median ratios, each as heavy as its calls."""
    total = sum(row.calls for row in days)
    running = 0
    for row in sorted(days, key=lambda row: row.ratio_p50):
        running += row.calls
        if 2 * running >= total:
            return row.ratio_p50
    raise AssertionError("there are days")


def _level(key: _Series, days: Sequence[AuditDay], sign: int) -> Finding | None:
    """Most calls differ in one direction, and by enough of their tokens."""

    def hits(row: AuditDay) -> int:
        return row.over_calls if sign > 0 else row.under_calls

    some = _stretch(days, lambda row: hits(row) - MOST * row.calls)
    seen = sum(map(hits, some))
    difference, counted = sum(row.difference for row in some), sum(row.counted for row in some)
    calls = sum(row.calls for row in some)
    if seen < MIN_CALLS or sign * difference < max(LEVEL * counted, Decimal(TEXT_TOKENS * calls)):
        return None
    ratio = _median(some)
    if abs(ratio - 1000) < LEVEL * 1000:
        return None
    kind = _over(some, ratio) if sign > 0 else Kind.TEXT_NOT_REPORTED if ratio < HALF else Kind.UNDER_REPORTING
    dollars = sum((row.difference_cost for row in some), Decimal(0))
    return replace(_found(kind, key, some, seen, difference, dollars), after=ratio)


def _over(days: Sequence[AuditDay], ratio: int) -> Kind:
    calls = sum(row.calls for row in days)
    width = sum((row.ratio_p95 - row.ratio_p5) * row.calls for row in days) / calls
    return Kind.OVER_REPORTING if width <= max(BAND, ratio - 1000) else Kind.TEXT_NOT_LOGGED


def _joined(found: Sequence[Finding]) -> list[Finding]:
    """One finding for one cause: the same kind at the same host, of a constant the same one, in several kinds of calls."""
    alike: dict[tuple[object, ...], list[Finding]] = defaultdict(list)
    for one in found:
        constant = one.tokens if one.kind in (Kind.PROXY_TEXT, Kind.HIDDEN_TEXT) else (one.models, one.apis, one.categories)
        same = (one.kind, one.tenant, one.provider, one.endpoint_host, one.usage_source, one.side, one.counted_with, constant)
        alike[same].append(one)
    return [_together(some) for some in alike.values()]


def _together(some: Sequence[Finding]) -> Finding:
    def names(field: str) -> tuple[str, ...]:
        return tuple(sorted({name for one in some for name in getattr(one, field)}))

    return replace(
        max(some, key=lambda one: one.elsewhere_calls),
        models=names("models"),
        apis=names("apis"),
        categories=names("categories"),
        first_day=min(one.first_day for one in some),
        last_day=max(one.last_day for one in some),
        calls=sum(one.calls for one in some),
        seen_in=sum(one.seen_in for one in some),
        dollars=sum((one.dollars for one in some), Decimal(0)),
    )
