"""``llm-finops summary``: where the money went, on one terminal screen or as exact figures for scripts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import IO, Any, Final

import orjson
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table as RichTable
from rich.text import Text

from pipelines import summary
from pipelines.show import (
    Column,
    Format,
    Kind,
    Table,
    aligned,
    as_csv,
    as_json,
    console,
    human_bytes,
    human_money,
    human_seconds,
    print_table,
    table_of,
)
from pipelines.text import printable
from sinks.clickhouse import Store
from sinks.reconcile import ledger

_NAME: Final = Column("name")
_CALLS: Final = Column("calls", Kind.COUNT)
_FIGURES: Final = (
    _CALLS,
    Column("input_tokens", Kind.COUNT, "input tokens"),
    Column("cached_tokens", Kind.COUNT, "of these cached"),
    Column("output_tokens", Kind.COUNT, "output tokens"),
    Column("unpriced_calls", Kind.COUNT, "unpriced calls"),
    Column("spend", Kind.MONEY),
)
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_BAR: Final = 10


def sections(store: Store) -> dict[str, Table]:
    """Every table of the summary by name, with exact values."""
    return {
        "totals": _totals_table(summary.totals(store)),
        **{
            group: table_of(summary.spend_by(store, group), [_NAME, *_FIGURES], f"Spend by {group.replace('_', ' ')}")
            for group in ("team", "app", "model", "cost_center")
        },
        "hour": table_of(summary.spend_by_hour(store), [_NAME, *_FIGURES], "Spend by hour of the day (UTC)"),
        "prompt": table_of(
            summary.top_prompts(store),
            [_NAME, Column("app"), *_FIGURES, Column("fixed_tokens", Kind.COUNT, "fixed tokens a call")],
            "Top prompts by spend",
        ),
        "price_status": table_of(summary.price_shares(store), [_NAME, *_FIGURES], "How sure the dollars are"),
        "provenance": table_of(
            summary.provenance(store),
            [_NAME, Column("spend", Kind.MONEY), Column("error", Kind.MONEY)],
            "Where the dollars come from",
        ),
        "doubt": table_of(
            summary.doubts(store),
            [_NAME, _CALLS, Column("spend", Kind.MONEY), Column("meaning")],
            "What is doubtful of calls that have figures",
        ),
        "unpriced": table_of(
            summary.unpriced(store),
            [Column("reason"), Column("provider"), Column("model"), _CALLS],
            "Why calls have no price",
        ),
        "dead_letter": table_of(
            summary.dead_letters(store),
            [Column("reason"), Column("letters", Kind.COUNT), Column("bytes", Kind.BYTES), Column("example")],
            "Dead letters",
        ),
        "ledger": Table(
            [Column("item"), Column("count", Kind.COUNT)], [list(entry) for entry in ledger(store).items()], "Ledger"
        ),
    }


def print_sections(store: Store, fmt: str, only: str | None, file: IO[str] | None = None) -> None:
    """JSON (one object of sections, or one section) or CSV (one section; the default is ``team``)."""
    file = file or sys.stdout
    tables = sections(store)
    if fmt == Format.CSV:
        file.write(as_csv(tables[only or "team"]))
    elif only:
        file.write(as_json(tables[only]))
    else:
        everything = {name: orjson.loads(as_json(table)) for name, table in tables.items()}
        file.write(orjson.dumps(everything, option=orjson.OPT_APPEND_NEWLINE).decode())


def print_section(store: Store, only: str, file: IO[str] | None = None) -> None:
    """One section as people see it, with every column."""
    print_table(sections(store)[only], console(file or sys.stdout))


def print_report(store: Store, next_commands: Sequence[tuple[str, str]], file: IO[str] | None = None) -> None:
    """The whole screen. ``next_commands``: a command to try, and what it shows."""
    to = console(file or sys.stdout)
    totals = summary.totals(store)
    if not totals.calls:
        to.print("No calls here yet: llm-finops run --from LOGS fills the store.")
        return
    _headline(to, totals, ledger(store))
    for group in ("team", "app", "model"):
        rows = summary.spend_by(store, group)
        if [row["name"] for row in rows] != ["(none)"]:  # logs that name no team would fill the screen with nothing
            _spend_table(to, f"Spend by {group}", rows, totals.spend)
    _hours(to, summary.spend_by_hour(store))
    _prompts(to, summary.top_prompts(store, 6), totals.spend)
    _certainty(to, summary.price_shares(store), summary.provenance(store), summary.unpriced(store), totals)
    _doubts(to, summary.doubts(store))
    _dead_letters(to, summary.dead_letters(store))
    _next(to, next_commands)


def _totals_table(totals: summary.Totals) -> Table:
    run = totals.run
    pairs: list[tuple[Column, Any]] = [
        (Column("first_minute", Kind.TIME), totals.first),
        (Column("last_minute", Kind.TIME), totals.last),
        (_CALLS, totals.calls),
        *((column, getattr(totals, column.name)) for column in _FIGURES[1:]),
        (Column("last_run_state"), run.get("state")),
        (Column("last_run_records", Kind.COUNT), run.get("records")),
        (Column("last_run_bytes", Kind.BYTES), run.get("bytes")),
        (Column("last_run_seconds", Kind.SECONDS), run.get("seconds")),
    ]
    return Table([column for column, _ in pairs], [[value for _, value in pairs]], "Totals", single=True)


def _headline(to: Console, totals: summary.Totals, items: dict[str, int]) -> None:
    period = f"{totals.first:%Y-%m-%d %H:%M} to {totals.last:%Y-%m-%d %H:%M} UTC" if totals.first else ""
    cached = totals.cached_tokens / totals.input_tokens if totals.input_tokens else 0
    parts = f"{items['joined']:,} parts of calls, " if items.get("joined") else ""
    text = Text.assemble(
        (human_money(totals.spend), "bold green"),
        f" for {totals.calls:,} calls, ",
        (period, "dim"),
        f"\n{_short(totals.input_tokens)} input tokens ({cached:.0%} of them cached), {_short(totals.output_tokens)} output",
        f"\n{items['records']:,} records read: {items['call']:,} calls, {parts}{items['duplicate']:,} redelivered, "
        f"{items['dead_letter']:,} dead, {items['ignored']:,} ignored",
    )
    run = totals.run
    if run.get("seconds"):
        text.append(
            f"\nlast run: {run['calls'] / run['seconds']:,.0f} calls/s, {human_bytes(run['bytes'] / run['seconds'])}/s, "
            f"{human_seconds(run['seconds'])}",
            style="dim",
        )
    to.print(Panel(text, title="LLM spend", title_align="left", width=min(to.width, 100), padding=(0, 1)))


def _spend_table(to: Console, title: str, rows: list[dict[str, Any]], total: Decimal) -> None:
    cells: list[Sequence[Text | str]] = []
    for row in rows:
        cached = row["cached_tokens"] / row["input_tokens"] if row["input_tokens"] else 0
        unpriced = row["unpriced_calls"] == row["calls"]
        cells.append(
            (
                row["name"],
                f"{row['calls']:,}",
                _short(row["input_tokens"]),
                f"{cached:.0%}",
                _short(row["output_tokens"]),
                Text("unpriced", style="yellow") if unpriced else human_money(row["spend"]),
                _bar(row["spend"], total),
            )
        )
    _grid(to, title, ("", "calls", "input", "cached", "output", "spend", "share"), cells, texts=1)


def _hours(to: Console, rows: list[dict[str, Any]]) -> None:
    by_hour = {row["name"][:2]: row["spend"] for row in rows}
    most = max(by_hour.values(), default=Decimal(0))
    cells = [by_hour.get(f"{hour:02}", Decimal(0)) for hour in range(24)]
    steps = [_step(value, most) for value in cells]
    to.print(Text("Spend by hour of the day (UTC)", style="bold"))
    to.print(Text("  " + "".join(block * 2 + " " for block in steps), style="cyan"))
    to.print(Text("  " + "".join(f"{hour:02} " for hour in range(24)), style="dim"))
    peak = max(by_hour, key=lambda hour: by_hour[hour], default="00")
    to.print(Text(f"  most at {peak}:00: {human_money(most)}\n", style="dim"))


def _step(value: Decimal, most: Decimal) -> str:
    if not most or not value:
        return _BLOCKS[0]
    return _BLOCKS[max(1, round(float(value / most) * (len(_BLOCKS) - 1)))]


def _prompts(to: Console, rows: list[dict[str, Any]], total: Decimal) -> None:
    cells: list[Sequence[Text | str]] = [
        (
            row["name"],
            row["app"],
            f"{row['calls']:,}",
            f"{row['fixed_tokens']:,}",
            human_money(row["spend"]),
            _bar(row["spend"], total),
        )
        for row in rows
    ]
    _grid(to, "Top prompts by spend", ("", "app", "calls", "fixed", "spend", "share"), cells, texts=2)
    to.print(Text("  fixed: tokens of system prompt and tool schemas, paid again on every call\n", style="dim"))


_REASONS: Final = 4
"""Reasons without price that are listed; the section has all."""

_STATUSES: Final = {
    "priced": ("reported", "tokens that the vendor reported, times their price"),
    "estimated": ("from the text", "no usage was reported: counted from the text"),
    "free": ("free", "the model is stated to cost nothing, or is self-hosted"),
    "not_billed": ("not billed", "failed, answered from a gateway's cache, or served by reserved capacity"),
    "unpriced": ("no price", "what they cost is not known, and not in the spend"),
}
"""Price status: what people read, and what it means where no origin says more."""

_ORIGINS: Final = {
    "billed": ("priced", "what an invoice charges"),
    "vendor_reported": ("priced", "dollars that the vendor itself stated with the call"),
    "usage": ("priced", "tokens that the vendor reported, times their price"),
    "counted": ("estimated", "no usage reported: text counted by the model's own tokenizer"),
    "estimated": ("estimated", "no usage reported: text estimated by another tokenizer, or without unseen reasoning"),
}
"""Where dollars come from: the price status of such calls, and what it means."""


def _certainty(
    to: Console,
    rows: list[dict[str, Any]],
    origins: list[dict[str, Any]],
    reasons: list[dict[str, Any]],
    totals: summary.Totals,
) -> None:
    cells = [("", "calls", "of calls", "spend", "of spend")]
    for row in rows:
        unpriced = row["name"] == "unpriced"
        cells.append(
            (
                _STATUSES[row["name"]][0],
                f"{row['calls']:,}",
                f"{row['calls'] / totals.calls:.1%}",
                "unknown" if unpriced else human_money(row["spend"]),
                "" if unpriced or not totals.spend else f"{float(row['spend'] / totals.spend):.1%}",
            )
        )
    heading, *lines = aligned(cells)
    to.print(Text("  How sure the dollars are", style="bold"))
    to.print(Text(f"  {heading}", style="dim"))
    for row, line in zip(rows, lines, strict=True):
        to.print(Text(f"  {line}", style="yellow" if row["name"] == "unpriced" else ""))
        for said in _means(row["name"], origins):
            to.print(Padding(Text(said, style="dim"), (0, 0, 0, 4), expand=False))
    to.print()
    for row in reasons[:_REASONS]:
        model = printable(f"{row['provider']}/{row['model'] or '?'}")
        to.print(Text(f"  {row['calls']:,} x {row['reason']}: {model}", style="yellow"), no_wrap=True, overflow="ellipsis")
    more = sum(row["calls"] for row in rows if row["name"] == "unpriced") - sum(row["calls"] for row in reasons[:_REASONS])
    if reasons and more:
        to.print(Text(f"  {more:,} x others: llm-finops summary --by unpriced", style="yellow"))
    if reasons:
        to.print()


def _doubts(to: Console, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        calls = "1 call" if row["calls"] == 1 else f"{row['calls']:,} calls"
        said = Text(f"{calls} ({human_money(row['spend'])}): {row['meaning']}", style="yellow")
        to.print(Padding(said, (0, 0, 0, 2), expand=False))
    if rows:
        to.print()


def _means(status: str, origins: list[dict[str, Any]]) -> list[str]:
    """What a price status means, in a line for each origin that its dollars have; of several, how many each has."""
    found = [row for row in origins if row["spend"] and _ORIGINS[row["name"]][0] == status]
    said = []
    for row in found:
        meaning = _ORIGINS[row["name"]][1]
        if row["name"] == "estimated":
            meaning += f", ± {human_money(row['error'])}" if row["error"] else "; by how much it is off is not known"
        said.append(f"{human_money(row['spend'])}: {meaning}" if len(found) > 1 else meaning)
    return said or [_STATUSES[status][1]]


def _dead_letters(to: Console, rows: list[dict[str, Any]]) -> None:
    cells: list[Sequence[Text | str]] = [
        (Text(row["example"], style="dim"), row["reason"], f"{row['letters']:,}", human_bytes(row["bytes"])) for row in rows
    ]
    if cells:
        _grid(to, "Dead letters", ("for example", "reason", "letters", "bytes"), cells, texts=2)


def _next(to: Console, commands: Sequence[tuple[str, str]]) -> None:
    to.print(Text("Next", style="bold"))
    for command, what in commands:
        to.print(Text.assemble("  ", (command, "cyan"), ("  " + what, "dim")), soft_wrap=True)


def _grid(to: Console, title: str, headings: Sequence[str], rows: Sequence[Sequence[Text | str]], texts: int) -> None:
    """A table whose first ``texts`` columns are text and the others numbers, which are never cut.

    Where there is not room for all, the first column is shortened.
    """
    cells = [[Text(printable(cell)) if isinstance(cell, str) else cell for cell in row] for row in rows]
    widths = [max(map(cell_len, [heading, *(row[n].plain for row in cells)])) for n, heading in enumerate(headings)]
    room = to.width - 2 * len(headings) - sum(widths[1:])
    table = RichTable(title=title, title_style="bold", title_justify="left", box=None, header_style="dim", pad_edge=False)
    for number, heading in enumerate(headings):
        width = max(8, min(widths[0], room)) if number == 0 else widths[number]
        left = number < texts or heading == "share"
        table.add_column(heading, justify="left" if left else "right", no_wrap=True, overflow="ellipsis", width=width)
    for row in cells:
        table.add_row(*row)
    to.print(Padding(table, (0, 0, 1, 2)))


def _bar(part: Decimal, total: Decimal) -> Text:
    share = float(part / total) if total else 0.0
    full = round(share * _BAR)
    return Text.assemble(("█" * full, "green"), ("░" * (_BAR - full), "dim"), f" {share:4.0%}")


def _short(tokens: int) -> str:
    """Tokens as people read them: 812, 45.3 k, 1.24 M."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if tokens >= size:
            return f"{tokens / size:.3g} {unit}" if tokens < 999.5 * size else f"{tokens / size:,.0f} {unit}"
    return f"{tokens:,}"
