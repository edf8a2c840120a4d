"""``llm-finops invoice``: read invoice files, compare them with the calls of a store, print what the difference is made of."""

from __future__ import annotations

import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import orjson

from pipelines.errors import CheckFailed, InputError
from pipelines.show import Column, Format, Kind, Table, as_json, dollars, human_amount, human_money, show, table_of
from pipelines.text import printable
from schemas.invoice import Charge, Finding
from sinks.clickhouse import Store
from sources.invoices import FOCUS, field_name, read_rows
from transforms.invoice import (
    PARTS,
    PROVIDERS,
    CellError,
    Comparison,
    Difference,
    Models,
    Ours,
    focus_charge,
    openai_charge,
    text,
)
from transforms.invoice.imports import lines_are

TOP: Final = 15
"""Groups and lines that a table for people has."""

MEANT: Final = "take them out of the file, or --duplicates if each is a charge of its own"

BY: Final = ("day", "provider", "account", "model")

_TOKENS: Final = {
    "input": "input_fresh",
    "cached_input": "input_cache_read",
    "cache_write": "input_cache_write_other",
    "cache_write_5m": "input_cache_write_5m",
    "cache_write_1h": "input_cache_write_1h",
    "output": "output_visible output_reasoning",
    "other": "input_tool_use input_audio input_image output_audio output_image",
}
_COST: Final = {
    "input": "cost_input",
    "cached_input": "cost_cache_read",
    "cache_write": "cost_cache_write",
    "output": "cost_output cost_reasoning",
    "other": "cost_other",
}


class Again(NamedTuple):
    """A charge that is word for word, in every column, one that its file has in an earlier row."""

    charge: Charge
    earlier: int


@dataclass
class Invoice:
    """What files of invoices say. ``elsewhere``: lines and pico-dollars by what they are of that is no service of models.
    ``buckets``: files whose lines have an identity, see ``transforms.invoice.imports.doubled``. ``again``: charges, also among
    the others, that are there more than once. ``assumed``: what was taken for granted where a file does not say it."""

    charges: list[Charge] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    elsewhere: dict[str, tuple[int, int]] = field(default_factory=dict)
    buckets: list[str] = field(default_factory=list)
    again: list[Again] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)

    @property
    def comparable(self) -> list[Charge]:
        """Charges in US dollars."""
        return [c for c in self.charges if c.currency == "USD"]


def read_invoices(paths: Sequence[Path], models: Models) -> Invoice:
    """Read the files; a row that cannot be read is a finding, and the others go on.

    Raises:
        sources.files.SourceError: a file cannot be read, or is no invoice.
        InputError: one file is named twice, or there is no charge in them at all.
    """
    if len({path.resolve() for path in paths}) < len(paths):
        raise InputError("a file is named twice; its charges would count twice")
    found = Invoice()
    for path in paths:
        _read(path, models, found)
    if not (found.charges or found.findings or found.elsewhere):
        raise InputError(f"{', '.join(map(str, paths))}: no charges")
    return found


def _read(path: Path, models: Models, into: Invoice) -> None:
    form, rows = read_rows(path)
    charge_of = focus_charge if form == FOCUS else openai_charge
    if form != FOCUS:
        into.buckets.append(str(path))
    silent, back = _Silent(form), 0
    first: dict[bytes, int] = {}
    for row in rows:
        if row.problem:
            into.findings.append(Finding(str(path), row.number, "", "", row.problem))
            continue
        try:
            charge = charge_of(row.fields, str(path), row.number, models)
        except CellError as error:
            into.findings.append(Finding(str(path), row.number, error.column, error.value, error.problem))
            continue
        if charge is None:
            continue
        silent.add(row.fields, bool(charge.provider))
        if charge.provider:
            into.charges.append(charge)
            back += charge.category == "usage" and charge.billed < 0 < (charge.tokens or 0)
            same = hashlib.blake2b(repr(list(row.fields.items())).encode(errors="replace"), digest_size=16).digest()
            if (earlier := first.setdefault(same, row.number)) != row.number:
                into.again.append(Again(charge, earlier))
        else:
            lines, billed = into.elsewhere.get(charge.currency, (0, 0))
            into.elsewhere[charge.currency] = (lines + 1, billed + charge.billed)
    into.assumed += [f"{path}: {said}" for said in silent.said()]
    if back:
        usage = f"{lines_are(back)} usage that less than nothing was billed for"
        into.assumed.append(f"{path}: quantity and cost have different signs: {usage}")


class _Silent:
    """Rows of a file that leave out what is then taken for granted, by column."""

    def __init__(self, form: str) -> None:
        self._asked = [(("BillingCurrency",), "taken for US dollars"), (("ChargeCategory",), "taken for usage")]
        if form != FOCUS:
            self._asked = [(("amount_currency",), "taken for US dollars")]
        self._provider = [(PROVIDERS, "of no service that is known, and left out")] if form == FOCUS else []
        self._found: dict[tuple[str, str, bool], int] = defaultdict(int)

    def add(self, fields: Mapping[str, Any], kept: bool) -> None:
        """``kept``: it is of a service of models, which those without a provider are not."""
        for columns, fate in self._asked if kept else self._provider:
            if not text(fields, *columns):
                there = any(field_name(column) in fields for column in columns)
                self._found[" or ".join(columns[:2]), fate, there] += 1

    def said(self) -> list[str]:
        """It, in words."""
        return [
            f"{columns} is empty: {lines_are(count)} {fate}" if there else f"no column {columns}: {lines_are(count)} {fate}"
            for (columns, fate, there), count in self._found.items()
        ]


def select(charges: Iterable[Charge], providers: Sequence[str], since: datetime | None, until: datetime | None) -> list[Charge]:
    """Charges of these providers (none: all) whose whole period lies in that time."""
    first = since.timestamp() if since else float("-inf")
    last = until.timestamp() if until else float("inf")
    return [c for c in charges if (not providers or c.provider in providers) and first <= c.start and c.end <= last]


def our_calls(store: Store, charges: Sequence[Charge]) -> list[Ours]:
    """Calls of the providers of these charges, over the days that each is charged for, by day."""
    days: dict[str, tuple[int, int]] = {}
    for c in charges:
        if c.category == "usage":
            start, end = days.get(c.provider, (c.start, c.end))
            days[c.provider] = (min(start, c.start), max(end, c.end))
    return [ours for provider, (start, end) in sorted(days.items()) for ours in _calls(store, provider, start, end)]


def _calls(store: Store, provider: str, start: int, end: int) -> list[Ours]:
    def tokens(kind: str, of: str, name: str) -> str:
        return f"sumIf({' + '.join(f'ifNull({leaf}, 0)' for leaf in _TOKENS[kind].split())}, {of}) AS {name}_{kind}"

    billed = "price_status NOT IN ('unpriced', 'not_billed')"
    sums = [
        *(tokens(kind, billed, "tokens") for kind in _TOKENS),
        *(tokens(kind, "price_status = 'unpriced'", "unpriced") for kind in _TOKENS),
        *(f"sum({' + '.join(f'ifNull({c}, 0)' for c in of.split())}) AS money_{kind}" for kind, of in _COST.items()),
    ]
    rows = store.named_rows(
        "SELECT toUnixTimestamp(toStartOfDay(minute, 'UTC')) AS day, account, project, model, count() AS calls,"
        " countIf(cost_source = 'vendor_reported') AS stated, sum(ifNull(list_cost, 0)) AS at_list,"
        f" {', '.join(sums)} FROM {store.table('calls')} FINAL"
        " WHERE provider = {provider:String} AND minute >= toStartOfDay(toDateTime({start:Int64}, 'UTC'), 'UTC')"
        " AND minute < toStartOfDay(toDateTime({end:Int64} + 86399, 'UTC'), 'UTC')"
        " GROUP BY day, account, project, model ORDER BY day, account, project, model",
        {"provider": provider, "start": start, "end": end},
    )
    return [
        Ours(
            int(row["day"]),
            provider,
            row["account"],
            row["project"],
            row["model"],
            row["calls"],
            {kind: int(row[f"tokens_{kind}"]) for kind in _TOKENS},
            {kind: _pico(row[f"money_{kind}"]) for kind in _COST},
            _pico(row["at_list"]),
            {kind: int(row[f"unpriced_{kind}"]) for kind in _TOKENS},
            row["stated"],
        )
        for row in rows
    ]


def _pico(amount: Decimal) -> int:
    return int(Fraction(amount) * 10**12)


def print_comparison(found: Comparison, invoice: Invoice, fmt: str, by: str | None) -> None:
    """The parts of the difference and the groups that differ most; with ``by`` sums of groups; JSON and CSV have them all."""
    notes = [*found.notes, *left_out(invoice)]
    table = _groups(found.rows, by)
    if fmt == Format.CSV:
        show(table, fmt)
    elif fmt == Format.JSON:
        said = {
            "totals": orjson.loads(as_json(_totals(found)))[0],
            "rows": orjson.loads(as_json(table)),
            "notes": notes,
            "findings": [one._asdict() for one in invoice.findings],
        }
        sys.stdout.write(orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE).decode())
        return
    else:
        _print_tables(found, by)
    for note in notes:
        click.echo(printable(note), err=True)


def _print_tables(found: Comparison, by: str | None) -> None:
    billed, ours = (sum(getattr(row, name) for row in found.rows) for name in ("billed", "ours"))
    meaning = dict(PARTS)
    rows = [{"part": "billed", "dollars": dollars(billed), "meaning": f"{sum(r.lines for r in found.rows):,} lines"}]
    rows.append({"part": "our calls", "dollars": dollars(ours), "meaning": f"{sum(r.calls for r in found.rows):,} calls"})
    rows.append({"part": "difference", "dollars": dollars(billed - ours), "meaning": "the sum of these:"})
    for name, amount in sorted(_sums(found.rows).items(), key=lambda pair: -abs(pair[1])):
        rows.append({"part": f"  {name.replace('_', ' ')}", "dollars": dollars(amount), "meaning": meaning[name]})
    share = f"{float(100 * (1 - found.unexplained())):.2f} % of what was billed is explained"
    columns = [Column("part"), Column("dollars", Kind.MONEY), Column("meaning")]
    show(table_of(rows, columns, "Invoice and calls", share))
    click.echo()
    groups = sorted(_summed(found.rows, by), key=lambda row: -abs(row.billed - row.ours))
    shown = [
        {
            **_names(row),
            "billed": dollars(row.billed),
            "ours": dollars(row.ours),
            "difference": dollars(row.billed - row.ours),
            "made_of": ", ".join(
                f"{name.replace('_', ' ')} {human_money(dollars(amount))}"
                for name, amount in sorted(row.parts.items(), key=lambda pair: -abs(pair[1]))[:3]
            )
            + "".join(f"; {note}" for note in row.notes if note.lower() not in row.parts),
        }
        for row in groups[:TOP]
    ]
    names = [Column("period"), Column("provider"), Column("account"), Column("model")] if by is None else [Column(by)]
    money = [Column(name, Kind.MONEY) for name in ("billed", "ours", "difference")]
    more = f"{len(groups) - TOP:,} more: --format csv" if len(groups) > TOP else ""
    show(table_of(shown, [*names, *money, Column("made_of")], "Largest differences" + (f" by {by}" if by else ""), more))


def _names(row: Difference) -> dict[str, str]:
    return {
        "period": (row.start and _period(row.start, row.end)) or "",
        "day": (row.start and _period(row.start, row.end)) or "",
        "provider": row.provider,
        "account": row.account,
        "model": row.model,
    }


def _period(start: int, end: int) -> str:
    """A day as itself, a longer period by its first and last day."""
    first, last = (datetime.fromtimestamp(at, UTC).date().isoformat() for at in (start, end - 1))
    return first if first == last else f"{first}/{last}"


def _summed(rows: Iterable[Difference], by: str | None) -> list[Difference]:
    """The groups summed by one of ``BY``."""
    if by is None:
        return list(rows)
    some: dict[Any, list[Difference]] = defaultdict(list)
    for row in rows:
        some[(row.start // 86_400, -(-row.end // 86_400)) if by == "day" else getattr(row, by)].append(row)
    made = []
    for key, group in some.items():
        empty = Difference(0, 0, "", "", "", 0, 0, 0, 0, {}, ())
        named = empty._replace(start=key[0] * 86_400, end=key[1] * 86_400) if by == "day" else empty._replace(**{by: key})
        sums = {name: sum(getattr(row, name) for row in group) for name in ("calls", "lines", "billed", "ours")}
        made.append(named._replace(**sums, parts=_sums(group)))
    return made


def _sums(rows: Iterable[Difference]) -> dict[str, int]:
    parts: dict[str, int] = defaultdict(int)
    for row in rows:
        for name, amount in row.parts.items():
            parts[name] += amount
    return {name: amount for name, amount in parts.items() if amount}


_FIGURES: Final = (
    Column("calls", Kind.COUNT),
    Column("lines", Kind.COUNT),
    *(Column(name, Kind.MONEY) for name in ("billed", "ours", "difference", *(name for name, _ in PARTS))),
)


def _figures(row: Difference) -> dict[str, Any]:
    money = {"billed": row.billed, "ours": row.ours, "difference": row.billed - row.ours}
    money |= {name: row.parts.get(name, 0) for name, _ in PARTS}
    return {"calls": row.calls, "lines": row.lines, **{name: dollars(amount) for name, amount in money.items()}}


def _groups(rows: Sequence[Difference], by: str | None) -> Table:
    names = ["start", "end", "provider", "account", "model"] if by is None else ["start", "end"] if by == "day" else [by]
    kinds = {"start": Kind.TIME, "end": Kind.TIME}
    columns = [Column(name, kinds.get(name, Kind.TEXT)) for name in names]
    notes = [Column("notes")] if by is None else []
    values = [
        {
            **row._asdict(),
            "start": datetime.fromtimestamp(row.start, UTC),
            "end": datetime.fromtimestamp(row.end, UTC),
            **_figures(row),
            "notes": "; ".join(row.notes),
        }
        for row in _summed(rows, by)
    ]
    return table_of(values, [*columns, *_FIGURES, *notes])


def _totals(found: Comparison) -> Table:
    sums = {name: sum(getattr(row, name) for row in found.rows) for name in ("calls", "lines", "billed", "ours")}
    total = Difference(0, 0, "", "", "", **sums, parts=_sums(found.rows), notes=())
    return table_of(
        [{**_figures(total), "unexplained_share": float(found.unexplained())}],
        [*_FIGURES, Column("unexplained_share", Kind.SHARE)],
    )


def left_out(invoice: Invoice) -> list[str]:
    """What of the files is not compared, in words."""
    return [*left_unread(invoice), *foreign(invoice.charges, "not compared")]


def foreign(charges: Iterable[Charge], fate: str) -> list[str]:
    """Lines in other currencies than US dollars, in words: what they are (``fate``), their sum and why."""
    others: dict[str, list[Charge]] = defaultdict(list)
    for c in charges:
        if c.currency != "USD":
            others[c.currency].append(c)
    said = []
    for currency, some in sorted(others.items()):
        files = _listed(list(dict.fromkeys(c.file for c in some)))
        total = dollars(sum(c.billed for c in some)).normalize()
        lines, be = lines_are(len(some)).rsplit(" ", 1)
        said.append(f"{lines} in {currency} {be} {fate}, {total:f} {currency} in all ({files}): calls are priced in USD")
    return said


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5:,} more" if len(names) > 5 else "")


def left_unread(invoice: Invoice) -> list[str]:
    """What of the files is not in the charges, or not as the files say it, in words."""
    said = [*repeated(invoice), *invoice.assumed]
    said += [
        f"{lines:,} lines of other services left out: {human_amount(dollars(billed), currency)}"
        for currency, (lines, billed) in sorted(invoice.elsewhere.items())
    ]
    fine = sum(c.places > 12 for c in invoice.charges)
    if fine:
        said.append(f"{fine:,} amounts have more than 12 decimals, and were rounded to 12, half to even")
    return said


def repeated(invoice: Invoice) -> list[str]:
    """Charges that are there more than once, word for word, in words: how many too many, and their sum."""
    files: dict[str, list[Again]] = defaultdict(list)
    for one in invoice.again:
        files[one.charge.file].append(one)
    said = []
    for file, some in files.items():
        often = "twice" if len({one.earlier for one in some}) == len(some) else "again"
        money = sum_of([one.charge for one in some])
        first = f"row {some[0].charge.row} is row {some[0].earlier}"
        said.append(f"{file}: {lines_are(len(some))} there {often}, word for word: {money} ({first})")
    return said


def sum_of(charges: Sequence[Charge]) -> str:
    """What they bill, by currency."""
    sums: dict[str, int] = defaultdict(int)
    for c in charges:
        sums[c.currency] += c.billed
    return ", ".join(human_amount(dollars(billed), currency) for currency, billed in sorted(sums.items()))


def refuse(invoice: Invoice, rest: str = "all else is in the figures", duplicates: bool = False) -> None:
    """Say which rows could not be read, and what became of the ``rest``; and, unless they are meant, that there are duplicates.

    Raises:
        CheckFailed: there are any.
    """
    for one in invoice.findings[:TOP]:
        cell = f", {one.column} {one.value!r}" if one.column else ""
        click.echo(printable(f"{one.file}, row {one.row}{cell}: {one.problem}"), err=True)
    if len(invoice.findings) > TOP:
        click.echo(f"and {len(invoice.findings) - TOP:,} more", err=True)
    why = []
    if invoice.again and not duplicates:
        why.append(f"{lines_are(len(invoice.again))} there more than once and counted each time; {MEANT}")
    if invoice.findings:
        count = len(invoice.findings)
        rest = rest if invoice.charges else "no other is a charge for a service of models: mend the file"
        why.append(f"{count:,} row{'s' * (count != 1)} could not be read; {rest}")
    if why:
        raise CheckFailed("; ".join(why))


_LINE: Final = (
    Column("file"),
    Column("row", Kind.COUNT),
    Column("start", Kind.TIME),
    Column("end", Kind.TIME),
    *(Column(name) for name in ("provider", "account", "project", "model", "kind")),
    Column("tokens", Kind.COUNT),
    Column("quantity"),
    *(Column(name, Kind.MONEY) for name in ("billed", "list_cost", "contracted", "effective")),
    *(Column(name) for name in ("currency", "category", "description")),
)


def print_invoice(invoice: Invoice, fmt: str) -> None:
    """What was read: sums by category and the largest lines for people, every line in JSON and CSV."""
    if fmt != Format.TABLE:
        show(table_of([_line(c) for c in invoice.charges], _LINE), fmt)
    else:
        sums: dict[tuple[str, str, str], list[Charge]] = defaultdict(list)
        for c in invoice.charges:
            sums[c.provider, c.category, c.currency].append(c)
        rows = [
            {
                "provider": provider,
                "category": category,
                "currency": currency,
                "lines": len(some),
                "first": min(_period(c.start, c.start + 1) for c in some),
                "last": max(_period(c.end - 1, c.end) for c in some),
                "billed": human_amount(dollars(sum(c.billed for c in some)), currency),
            }
            for (provider, category, currency), some in sorted(sums.items())
        ]
        names = ("provider", "category", "currency", "first", "last")
        columns = [*map(Column, names), Column("lines", Kind.COUNT), Column("billed", Kind.AMOUNT)]
        show(table_of(rows, columns, "Charges by category"))
        click.echo()
        largest = sorted(invoice.charges, key=lambda c: -abs(c.billed))[:TOP]
        few = [
            {**_line(c), "period": _period(c.start, c.end), "billed": human_amount(dollars(c.billed), c.currency)}
            for c in largest
        ]
        shown = [*map(Column, ("period", "account", "model", "kind")), Column("tokens", Kind.COUNT)]
        shown += [Column("billed", Kind.AMOUNT), Column("description")]
        more = f"{len(invoice.charges) - TOP:,} more: --format csv" if len(invoice.charges) > TOP else ""
        show(table_of(few, shown, "Largest lines", more))
    for note in left_out(invoice):
        click.echo(printable(note), err=True)


def _line(c: Charge) -> Mapping[str, Any]:
    money = {name: getattr(c, name) for name in ("billed", "list_cost", "contracted", "effective")}
    return {
        **c._asdict(),
        "start": datetime.fromtimestamp(c.start, UTC),
        "end": datetime.fromtimestamp(c.end, UTC),
        **{name: None if amount is None else dollars(amount) for name, amount in money.items()},
    }
