"""``llm-finops invoice import``, ``list`` and ``remove``: invoices in a store, and which of several is in force."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple

from pipelines.errors import InputError, SettingsError
from pipelines.invoices import Invoice, sum_of
from pipelines.show import Column, Kind, Table, dollars, human_amount, table_of
from pipelines.state import State
from schemas.invoice import Charge, Import
from sinks.charges import imports, lines, put, record, sums
from sinks.clickhouse import Store
from transforms.invoice.imports import DAY, Part, day, days_in_force, doubled, in_force, outside, parts, unlike, unlike_currency

_SUMS: Final = ("billed", "usage", "credit", "tax", "purchase", "adjustment")
_NAMES: Final = ("provider", "account", "first_day", "last_day", "currency")
_BRIEF: Final = ("provider", "account", "days")


class Outcome(NamedTuple):
    """What became of the lines of one provider and account. ``known``: they were there already, in this state; ``replaced``:
    lines that are no longer in force, by import."""

    one: Import
    part: Part
    known: str
    replaced: dict[int, list[Charge]]


def import_invoices(
    store: Store,
    invoice: Invoice,
    since: int | None = None,
    until: int | None = None,
    whole: bool = False,
    wait_s: float = 0,
    currencies: Collection[str] = (),
) -> list[Outcome]:
    """Keep what was read. All of it is in force at once, or nothing.

    ``since``, ``until``: the days that the files are whole for; else those that they charge for. ``whole``: they are, though
    lines in force have days or projects that they lack. ``currencies``: those that lines may be in, though lines in force for
    their days are in others.

    Raises:
        InputError: files seem to hold the same charges, not all that belongs to their days, or another currency than theirs.
    """
    refuse_parts_of(invoice, since, until)
    found = parts(invoice.charges, since, until)
    with State(store.address, wait_s=wait_s):
        known = imports(store)
        made = [_outcome(store, known, part, whole, currencies) for part in found]
        highest = max((one.number for one in known), default=0)
        for n, (one, part, old, replaced) in enumerate(made):
            if not one.number:
                highest += 1
                made[n] = Outcome(one._replace(number=highest, unreadable=len(invoice.findings)), part, old, replaced)
        new = [outcome for outcome in made if not outcome.known]
        if new:
            record(store, (outcome.one for outcome in new))
            for outcome in new:
                put(store, outcome.one.number, outcome.part.charges)
            record(store, (outcome.one._replace(state="imported") for outcome in new))
    return made


def refuse_parts_of(invoice: Invoice, since: int | None, until: int | None) -> None:
    """Refuse files that hold the same charges, or charges of other days than they are said to be whole for.

    Raises:
        InputError: it says which.
    """
    why = doubled(invoice.charges, frozenset(invoice.buckets))
    if why:
        raise InputError(f"{why}: files of one import are parts of one export; import one after the other, and the later stands")
    if (one := outside(invoice.charges, since, until)) is not None:
        period = f"{day(one.start)} to {day(one.end - 1)}"
        raise InputError(f"{one.file}, row {one.row}: is for {period}, which is not within --from-time and --until")


def _outcome(store: Store, known: Sequence[Import], part: Part, whole: bool, currencies: Collection[str]) -> Outcome:
    same = next((one for one in reversed(known) if one.fingerprint == part.fingerprint and one.state != "removed"), None)
    if same is not None and same.state == "imported":
        return Outcome(same, part, _state(same, days_in_force(known).get(same.number, 0)), {})
    standing = lines(store, [part.provider], part.account, part.since, part.until)
    if why := unlike_currency(part, standing, currencies):
        raise InputError(
            f"{why}. Calls are priced in USD, and lines in other currencies are neither compared nor applied: import an export in"
            " USD, or remove what is in force, or name the currency with --currency"
        )
    if not whole and (why := unlike(part, standing)):
        raise InputError(
            f"{part.provider}, account {part.account or '(none)'}: {why}. An import stands for all of its days: name all files"
            " of them, or --whole if these are all"
        )
    replaced: dict[int, list[Charge]] = defaultdict(list)
    of = in_force(known)
    for c in standing:
        replaced[of[c.provider, c.account, c.start // DAY * DAY]].append(c)
    files = ", ".join(dict.fromkeys(c.file for c in part.charges))
    one = Import(
        same.number if same else 0,
        *part[:5],
        lines=len(part.charges),
        unreadable=0,
        source=files,
        state="writing",
        at=int(time.time()),
    )
    return Outcome(one, part, "", replaced)


def remove(store: Store, number: int, wait_s: float = 0) -> Import:
    """Take an import out of force; those that it replaced stand again.

    Raises:
        SettingsError: there is none of that number, or it was removed already.
    """
    with State(store.address, wait_s=wait_s):
        one = next((one for one in imports(store) if one.number == number and one.state != "writing"), None)
        if one is None:
            raise SettingsError(f"there is no invoice {number}; see llm-finops invoice list")
        if one.state == "removed":
            raise SettingsError(f"invoice {number} was removed already")
        one = one._replace(state="removed")
        record(store, [one])
        return one


def stored(store: Store, providers: Sequence[str] = ()) -> Invoice:
    """The lines in force, as if they were read from files."""
    return Invoice(lines(store, providers))


# ---- for people and scripts


def outcomes_table(outcomes: Sequence[Outcome], brief: bool) -> Table:
    """What an import did, by provider, account and currency. ``brief``: what a person needs to see."""
    rows = []
    for outcome in outcomes:
        by_currency: dict[str, list[Charge]] = defaultdict(list)
        for c in outcome.part.charges:
            by_currency[c.currency].append(c)
        for currency, some in sorted(by_currency.items()):
            billed = dollars(sum(c.billed for c in some))
            money = {"lines": len(some), "billed": human_amount(billed, currency) if brief else billed}
            rows.append({**_named(outcome.one), "currency": currency, **money, "outcome": said(outcome)})
    columns = [Column("invoice", Kind.COUNT), *_whose(rows, brief)]
    columns += [Column("lines", Kind.COUNT), Column("billed", Kind.AMOUNT if brief else Kind.MONEY), Column("outcome")]
    return table_of(rows, columns, "Imported")


def said(outcome: Outcome) -> str:
    """What became of the lines, in words."""
    if outcome.known:
        return f"is there already, {outcome.known}: nothing changed"
    gone = [f"{len(some):,} lines of invoice {number} ({sum_of(some)})" for number, some in sorted(outcome.replaced.items())]
    return "new" if not gone else f"replaces {' and '.join(gone)}"


def imports_table(store: Store, every: bool, brief: bool) -> Table:
    """Imports with the sums of their lines that are in force; ``every``: of all lines, also of imports that are not.

    ``brief``: what a person needs to see.
    """
    known = {one.number: one for one in imports(store)}
    days = days_in_force(list(known.values()))
    found = sums(store, every)
    counted = {row["invoice"] for row in found}
    empty = {"currency": "", "lines": 0, **dict.fromkeys(("billed_", *_SUMS[1:]), Decimal(0))}
    found += [{**empty, "invoice": number} for number in known if number not in counted and (every or days.get(number))]
    rows = []
    for row in sorted(found, key=lambda row: (row["invoice"], row["currency"])):
        one = known[row["invoice"]]
        amounts = {name: row["billed_" if name == "billed" else name] for name in _SUMS}
        rows.append(
            {
                **_named(one),
                **row,
                **{name: human_amount(amount, row["currency"] or "USD") if brief else amount for name, amount in amounts.items()},
                "state": _state(one, days.get(one.number, 0)),
                "unreadable": one.unreadable,
                "imported_at": datetime.fromtimestamp(one.at, UTC),
                "source": one.source,
            }
        )
    columns = [Column("invoice", Kind.COUNT), *_whose(rows, brief), Column("lines", Kind.COUNT)]
    money = _SUMS if not brief else ("billed",) if every else ("billed", "credit", "tax")
    columns += [Column(name, Kind.AMOUNT if brief else Kind.MONEY) for name in money]
    columns += [Column("state")] if every or not brief else []
    columns += [] if brief else [Column("unreadable", Kind.COUNT), Column("imported_at", Kind.TIME), Column("source")]
    others = len(known) - len(days)
    note = f"{others:,} more not in force: --all" if others and not every else ""
    return table_of(rows, columns, "Imports" if every else "Imports in force", note)


def _whose(rows: Sequence[dict[str, Any]], brief: bool) -> list[Column]:
    """Columns of what lines are of; ``brief``: the currency only where there is another than USD."""
    several = any(row["currency"] not in ("", "USD") for row in rows)
    return [*map(Column, (*_BRIEF, "currency") if brief and several else _BRIEF if brief else _NAMES)]


def _named(one: Import) -> dict[str, Any]:
    first, last = day(one.since), day(one.until - 1)
    return {
        "invoice": one.number,
        "provider": one.provider,
        "account": one.account,
        "first_day": first,
        "last_day": last,
        "days": first if first == last else f"{first} to {last}",
    }


def _state(one: Import, days: int) -> str:
    """How far it is in force, which it is for so many days."""
    whole = (one.until - one.since) // DAY
    if one.state == "writing":
        return "killed: import it again"
    if one.state == "removed":
        return "removed"
    return "in force" if days == whole else f"in force for {days:,} of {whole:,} days" if days else "replaced"
