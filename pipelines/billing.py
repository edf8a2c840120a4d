"""``llm-finops invoice apply``: the calls cost what an invoice bills for them, as a run beside those of ``reprice``.

First the figures of all calls are worked out and written, then calls follow them, span by span. Killed before the second, nothing
has changed and the figures are worked out anew under another number; killed in it, the rest follows.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any, Final, NamedTuple

import pyarrow as pa

from pipelines.errors import SettingsError
from pipelines.invoices import our_calls
from pipelines.reprice import SPAN_ROWS, Progress, carry_out, closed_until, numbered
from pipelines.show import Column, Kind, Table, dollars, human_money, table_of
from pipelines.state import State
from schemas.invoice import Charge
from schemas.tables import CALL_PRICES, COSTS
from sinks.charges import imports
from sinks.clickhouse import Store
from sinks.reconcile import Span
from sinks.reprice import PriceRun, Scope, costs, keep, price_runs, put, record, scope_of, worked_out
from sinks.retag import minutes_of
from transforms.invoice.imports import DAY, in_force
from transforms.invoice.models import Models
from transforms.invoice.spread import Decision, Group, Plan, plan, spread

_OF: Final = {
    "input": ("cost_input",),
    "cached_input": ("cost_cache_read",),
    "cache_write": ("cost_cache_write",),
    "output": ("cost_output", "cost_reasoning"),
    "other": ("cost_other",),
}
_WIDE: Final = Context(prec=60)
_MOST: Final = 10**18 - 1
"""Pico-dollars that a call may cost."""


class Billing(NamedTuple):
    """What would be done: the plan, the range and scope of its run, and by which words the run is known again."""

    plan: Plan
    since: int
    until: int
    scope: Scope
    version: str
    charges: tuple[Charge, ...]

    @property
    def changes(self) -> bool:
        """Whether any call would cost what was billed."""
        return any(decision.amounts and not decision.why for decision in self.plan.decisions.values())


def billing(
    store: Store,
    charges: Sequence[Charge],
    models: Models,
    tolerance: Decimal,
    accounts: Mapping[str, str] | None = None,
    spellings: Mapping[str, str] | None = None,
) -> Billing:
    """What these lines, which are in force, make calls cost. Closed days keep their figures."""
    usage = [c for c in charges if c.category == "usage"]
    since = max(min((c.start for c in usage), default=0) // DAY * DAY, closed_until(store))
    until = max((-(-c.end // DAY) * DAY for c in usage), default=0)
    ours = [row for row in our_calls(store, charges) if row.start >= since]
    found = plan(charges, ours, models, tolerance, accounts, spellings)
    said = repr((sorted(repr(c[2:]) for c in charges), str(tolerance), accounts or {}, spellings or {}))
    version = "invoices " + hashlib.blake2b(said.encode(), digest_size=8).hexdigest()
    return Billing(found, since, until, scope_of({c.provider for c in usage}), version, tuple(charges))


def refuse_second(known: Sequence[PriceRun], wanted: PriceRun) -> None:
    """Refuse to bill calls that other lines billed already: what they cost by prices would be lost.

    Raises:
        SettingsError: it names the run.
    """
    over = [r for r in known if r.kind == "invoice" and r.active and not r.undoes and not r.counting and r.overlaps(wanted)]
    if over and not over[-1].does(wanted):
        number = over[-1].number
        raise SettingsError(f"run {number} has applied other lines to these days: first llm-finops reprice undo {number}")


def apply(
    store: Store, work: Callable[[], Billing], wait_s: float = 0, progress: Progress = lambda _: None
) -> tuple[PriceRun | None, Billing]:
    """Have the calls cost what was billed; the run. The same lines again change nothing. ``work``: what there is to do.

    Where no call would change there is no run, and nothing is written.

    Raises:
        SettingsError: other lines are applied to calls of these days.
    """
    with State(store.address, wait_s=wait_s) as state:
        wanted, known = work(), price_runs(store)
        for killed in (run for run in known if run.counting and run.active):
            record(store, killed._replace(active=False))
        known = [run._replace(book_version="") if run.counting else run for run in known]  # never to be done again
        run = numbered(known, wanted.since, wanted.until, wanted.version, scope=wanted.scope)._replace(kind="invoice")
        refuse_second(known, run)
        before = next((one for one in known if one.number == run.number), None)
        if before is not None and before.done:
            return before, wanted
        if before is None and not wanted.changes:
            return None, wanted
        if before is None:
            record(store, run._replace(counting=True))
            write_figures(store, wanted, run)

        def figures(span: Span) -> int:
            some = worked_out(store, span, run.number)
            if some:
                state.touch(minutes_of(store, span))
            return some

        return carry_out(store, state, run, figures, progress, SPAN_ROWS), wanted


def write_figures(store: Store, wanted: Billing, run: PriceRun) -> None:
    """Work out what each call costs, and keep what it cost before. No call changes."""
    of = in_force(imports(store))
    days: dict[tuple[int, str], dict[Group, Decision]] = defaultdict(dict)
    for group, decision in wanted.plan.decisions.items():
        if not decision.why and decision.amounts:
            days[group.day, group.provider][group] = decision
    for (day, provider), decisions in days.items():
        found = costs(store, day, provider)
        rows = found.to_pylist()
        members: dict[Group, list[int]] = defaultdict(list)
        for at, row in enumerate(rows):
            key = (day, provider, _text(row["account"]), _text(row["project"]), _text(row["model"]))
            its = wanted.plan.group_of.get(key)
            if its is not None and its in decisions:
                members[its].append(at)
        made = []
        for group, some in members.items():
            decision = decisions[group]
            numbers = sorted({of[c.provider, c.account, c.start // DAY * DAY] for c in decision.lines})
            billed = figures_of([rows[at] for at in some], decision.amounts)
            for at, parts in zip(some, billed, strict=True):
                made.append(_figure(rows[at], parts, run, numbers))
        keep(store, (day, day + 86_340), scope_of([provider]))
        put(store, pa.Table.from_pylist(made, CALL_PRICES.arrow))


def figures_of(rows: Sequence[Mapping[str, Any]], amounts: Mapping[str, int]) -> list[dict[str, int]]:
    """What each call of a group costs, by column (pico-dollars): amounts of each kind spread as the calls cost by prices.

    Raises:
        SettingsError: one would cost more than a call can have.
    """
    parts = [dict.fromkeys((name for name, _ in COSTS), 0) for _ in rows]
    for kind, amount in amounts.items():
        cells = [(at, name) for at in range(len(rows)) for name in _OF[kind]]
        weights = [_pico(rows[at][name]) for at, name in cells]
        for (at, name), share in zip(cells, spread(amount, weights), strict=True):
            parts[at][name] = share
    if any(sum(part.values()) > _MOST for part in parts):
        raise SettingsError("a call would cost more than $1,000,000; nothing was changed: is the invoice in dollars?")
    return parts


def _figure(row: Mapping[str, Any], parts: Mapping[str, int], run: PriceRun, numbers: Sequence[int]) -> dict[str, Any]:
    minute = row["minute"]
    return {
        "minute": datetime.fromtimestamp(minute, UTC) if isinstance(minute, int) else minute,
        "tenant": _text(row["tenant"]),
        "call_key": row["call_key"],
        "price_run": run.number,
        "figures_of": run.number,
        "follows": row["price_run"],
        "of_version": row["version"],
        "cost": _dollars(sum(parts.values())),
        **{name: _dollars(part) for name, part in parts.items()},
        "list_cost": row["list_cost"],
        "cost_error": Decimal(0),
        "price_status": "priced",
        "price_reason": "",
        "cost_source": "billed",
        "contract": "",
        "rate_id": "invoice " + ", ".join(map(str, numbers)),
        "book_version": run.book_version,
    }


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _pico(amount: Decimal | None) -> int:
    return 0 if amount is None else int(amount.scaleb(12, _WIDE))


def _dollars(pico: int) -> Decimal:
    return Decimal(pico).scaleb(-12, _WIDE)


# ---- for people and scripts


def billing_table(found: Billing, title: str, note: str) -> Table:
    """What calls cost before and then, by provider, model, and why they keep what they cost."""
    sums: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
    for group, decision in found.plan.decisions.items():
        one = sums[group.provider, group.model, decision.why or ("billed" if decision.amounts else "nothing to bill")]
        for at, amount in enumerate((decision.calls, decision.before, decision.then)):
            one[at] += amount
    rows = [
        {
            "provider": provider,
            "model": model,
            "outcome": why,
            "calls": calls,
            "old_cost": dollars(before),
            "new_cost": dollars(then),
            "difference": dollars(then - before),
        }
        for (provider, model, why), (calls, before, then) in sorted(sums.items())
    ]
    billed = sum(c.billed for c in found.charges if c.currency == "USD")
    carried = sum(d.then for d in found.plan.decisions.values() if not d.why)
    kept = [d for d in found.plan.decisions.values() if d.why]
    said = [
        f"{human_money(dollars(carried))} of {human_money(dollars(billed))} billed is on calls, the rest stays in charges",
        f"{sum(d.calls for d in kept):,} calls keep {human_money(dollars(sum(d.before for d in kept)))}" if kept else "",
        note,
    ]
    columns = [*map(Column, ("provider", "model", "outcome")), Column("calls", Kind.COUNT)]
    columns += [Column(name, Kind.MONEY) for name in ("old_cost", "new_cost", "difference")]
    return table_of(rows, columns, title, "; ".join(filter(None, said)))
