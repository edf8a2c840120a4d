"""What contracts save: list, contracted and effective cost side by side, and what is left of credits.

Dollars of calls are summed by day; what credits pay of a day is shared among its groups in proportion to what they cost, so
that every table adds up to the same figures.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from pipelines.show import dollars
from pipelines.summary import GROUPS
from pipelines.terms import timeline
from sinks.clickhouse import Store
from sinks.retention import floors
from transforms.price.contracts import Contract, Credit, Written, contracts_of
from transforms.price.credits import Drawn, begins, draw, ends, rate, run_out, shares

BY: Final = {"contract": "contract", **GROUPS, "account": "account", "project": "project", "tenant": "tenant"}
"""What figures can be shown by, and its expression over ``calls``."""

NO_CONTRACT: Final = "(no contract)"

_DAY: Final = 86_400


class Sum(NamedTuple):
    """Calls of a day (since 1970, UTC), a contract and a group; money in pico-dollars."""

    day: int
    contract: str
    name: str
    calls: int
    unpriced: int
    list_cost: int
    cost: int


@dataclass
class Figures:
    """Sums of one row; ``credits`` is what credits paid of ``cost``, as far as contracts are known: ``unstated`` counts the calls
    under others."""

    calls: int = 0
    unpriced: int = 0
    list_cost: int = 0
    cost: int = 0
    credits: int = 0
    unstated: int = 0

    @property
    def effective(self) -> int:
        """What is left to pay."""
        return self.cost - self.credits


def known_contracts(store: Store, written: Iterable[Written]) -> dict[str, Contract]:
    """Contracts by name: as the newest terms of the store say that name it; of a store without terms, as they are ``written``.

    Raises:
        transforms.price.BookError: a contract is wrong.
    """
    found: dict[str, Contract] = {}
    terms = timeline(store)
    for one in [some.contracts for some in terms] if terms else [written]:
        found |= {contract.name: contract for contract in contracts_of(one)}
    return found


def sums(store: Store, by: str) -> list[Sum]:
    """Everything in the store by day, contract and one of ``BY``."""
    rows = store.rows(
        f"SELECT intDiv(toUnixTimestamp(minute), {_DAY}) AS day, contract, {BY[by]} AS name, count(), countIf(isNull(c.cost)),"
        f" sum(ifNull(c.list_cost, 0)), sum(ifNull(c.cost, 0)) FROM {store.table('calls')} AS c FINAL"
        " GROUP BY day, contract, name ORDER BY day, contract, name"
    )
    return [
        Sum(int(day), contract, name, int(calls), int(unpriced), _pico(at_list), _pico(cost))
        for day, contract, name, calls, unpriced, at_list, cost in rows
    ]


def _pico(amount: Decimal) -> int:
    return int(Decimal(amount).scaleb(12))


def drawn(found: Sequence[Sum], contracts: Mapping[str, Contract]) -> dict[str, Drawn]:
    """What credits paid, by contract."""
    costs = _costs(found)
    return {name: draw(costs.get(name, {}), contract.credits) for name, contract in contracts.items()}


def _costs(found: Iterable[Sum]) -> dict[str, dict[int, int]]:
    costs: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for one in found:
        costs[one.contract][one.day] += one.cost
    return costs


def figures(found: Sequence[Sum], paid: Mapping[str, Drawn], since: int | None, until: int | None) -> dict[str, Figures]:
    """Sums by group, of days from ``since`` until before ``until``; credits are drawn on all days, whichever are shown."""
    days: dict[tuple[str, int], list[Sum]] = defaultdict(list)
    for one in found:
        if (since is None or one.day >= since) and (until is None or one.day < until):
            days[one.contract, one.day].append(one)
    table: dict[str, Figures] = defaultdict(Figures)
    for (contract, day), some in days.items():
        amount = paid[contract].days.get(day, 0) if contract in paid else 0
        for one, credit in zip(some, shares(amount, [one.cost for one in some]), strict=True):
            row = table[one.name]
            row.calls += one.calls
            row.unpriced += one.unpriced
            row.list_cost += one.list_cost
            row.cost += one.cost
            row.credits += credit
            row.unstated += one.calls if contract and contract not in paid else 0
    return table


def figure_rows(table: Mapping[str, Figures], by: str, total: bool) -> list[dict[str, Any]]:
    """The rows of the table by list cost, the highest first; and if ``total``, one of their sum where there are several."""
    none = NO_CONTRACT if by == "contract" else "(none)"
    ordered = sorted(table.items(), key=lambda item: (-item[1].list_cost, item[0]))
    rows = [_row(name or none, one) for name, one in ordered]
    if total and len(rows) > 1:
        sums = (sum(getattr(one, field.name) for one in table.values()) for field in fields(Figures))
        rows.append(_row("total", Figures(*sums)))
    return rows


def _row(name: str, one: Figures) -> dict[str, Any]:
    known = not one.unstated
    saved = one.list_cost - one.effective
    share = Decimal(saved) / one.list_cost if one.list_cost and known else None
    return {
        "name": name,
        "calls": one.calls,
        "unpriced_calls": one.unpriced,
        "list_cost": dollars(one.list_cost),
        "contracted_cost": dollars(one.cost),
        "credits_used": dollars(one.credits) if known else None,
        "effective_cost": dollars(one.effective) if known else None,
        "saved": dollars(saved) if known else None,
        "saved_share": share,
    }


def not_stated(found: Iterable[Sum], contracts: Mapping[str, Contract]) -> str:
    """What to say of calls under contracts that nobody states any more; else empty."""
    unknown: dict[str, int] = defaultdict(int)
    for one in found:
        if one.contract and one.contract not in contracts:
            unknown[one.contract] += one.calls
    if not unknown:
        return ""
    named = ", ".join(f"{name} ({calls:,} calls)" for name, calls in sorted(unknown.items()))
    return (
        f"the store has calls under contracts that neither its terms nor price.contracts state: {named}; what credits pay of"
        " them is not known: name their files with --price-contracts"
    )


def credit_rows(found: Sequence[Sum], contracts: Mapping[str, Contract], paid: Mapping[str, Drawn]) -> list[dict[str, Any]]:
    """Each credit: what is left, and when it runs out at the rate of the days before the last one in the store."""
    costs = _costs(found)
    last = max((one.day for one in found), default=0)
    rows = []
    for name in sorted(contracts):
        a_day = rate(costs.get(name, {}), last)
        out = run_out(paid[name].uses, a_day, last)
        for use in paid[name].uses:
            credit = use.credit
            rows.append(
                {
                    "contract": name,
                    "credit": credit.name,
                    "state": "used up" if not use.left else _state(credit, last),
                    "amount": dollars(credit.amount),
                    "used": dollars(use.used),
                    "left": dollars(use.left),
                    "from": _date(begins(credit)),
                    "to": _date(ends(credit)),
                    "cost_a_day": dollars(a_day),
                    "runs_out": _date(out.get(credit.name)),
                }
            )
    return rows


def _state(credit: Credit, day: int) -> str:
    begin, end = begins(credit), ends(credit)
    if begin is not None and day < begin:
        return "ahead"
    return "ended" if end is not None and day >= end else "open"


def _date(day: int | None) -> str | None:
    return None if day is None else f"{datetime.fromtimestamp(day * _DAY, UTC):%Y-%m-%d}"


def not_kept(store: Store, contracts: Mapping[str, Contract]) -> str:
    """A warning if calls may be gone that credits paid for; else empty."""
    closed = floors(store).get("calls", 0)
    credits = [(name, credit) for name, contract in contracts.items() for credit in contract.credits]
    older = [f"{credit.name} ({name})" for name, credit in credits if (begins(credit) or 0) * _DAY < closed]
    if not closed or not older:
        return ""
    return (
        f"calls before {_date(closed // _DAY)} are no longer kept, so what credits paid then is unknown: {', '.join(older)};"
        " state what was left of them that day as amount, and the day as from"
    )
