"""``llm-finops audit``: reported against counted tokens over a period, and what is found in it."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import IO, Any, Final

import orjson
from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from pipelines.show import Column, Format, Kind, Table, aligned, as_csv, as_json, console, human, human_money, table_of
from pipelines.text import printable
from schemas.audit import EXACT, AuditDay
from transforms.audit import MEANINGS, Finding

DEFAULT_BY: Final = ("provider", "model", "api", "side", "category", "count_quality")
BY: Final = ("day", "tenant", *DEFAULT_BY, "endpoint_host", "usage_source", "counted_with")
"""What the table can be grouped by."""

_DAY: Final = 86_400
_FIGURES: Final = (
    Column("calls", Kind.COUNT),
    Column("exact_share", Kind.SHARE, "exact"),
    Column("reported", Kind.COUNT),
    Column("counted", Kind.COUNT),
    Column("difference", Kind.COUNT),
    Column("bias", Kind.SHARE),
    Column("difference_p5", Kind.COUNT, "p5"),
    Column("difference_p50", Kind.COUNT, "p50"),
    Column("difference_p95", Kind.COUNT, "p95"),
    Column("unrated_calls", Kind.COUNT, "unrated calls"),
    Column("difference_cost", Kind.MONEY, "off by"),
    Column("unexplained_cost", Kind.MONEY, "unexplained"),
)
_MONEY: Final = ("difference_cost", "unexplained_cost")
_FOR_PEOPLE: Final = ("calls", "exact_share", "bias", "difference_p5", "difference_p95", *_MONEY)


def days_between(since: datetime | None, until: datetime | None) -> tuple[int, int]:
    """The whole UTC days that overlap ``[since, until)``, as seconds since 1970."""
    first = int(since.timestamp()) // _DAY * _DAY if since else 0
    end = -(-int(until.timestamp()) // _DAY) * _DAY if until else 2**32 - 1
    return max(0, first), min(max(0, end), 2**32 - 1)


def grouped(rows: Iterable[AuditDay], by: Sequence[str] = DEFAULT_BY) -> list[dict[str, Any]]:
    """Sums over the period by some of ``BY``: largest unexplained dollars first, then largest difference.

    Percentiles of a group are the lowest ``p5`` and the highest ``p95`` of any of its days, and of their medians the one in the
    middle, each as heavy as its calls. ``bias`` is the difference for each counted token; None where none was counted.
    ``unexplained_cost`` is None where no count has an error bar.
    """
    groups: dict[tuple[Any, ...], list[AuditDay]] = defaultdict(list)
    for row in rows:
        groups[tuple(getattr(row, name) for name in by)].append(row)
    figures = [{**dict(zip(by, key, strict=True)), **_summed(some)} for key, some in groups.items()]
    return sorted(
        figures,
        key=lambda one: (
            -abs(one["unexplained_cost"] or 0),
            -abs(one["difference_cost"]),
            -abs(one["difference"]),
            *(str(one[name]) for name in by),
        ),
    )


def _summed(rows: Sequence[AuditDay]) -> dict[str, Any]:
    def total(name: str) -> Any:
        return sum(getattr(row, name) for row in rows)

    calls, counted, difference = total("calls"), total("counted"), total("difference")
    middle = running = 0
    for row in sorted(rows, key=lambda row: row.difference_p50):
        middle, running = row.difference_p50, running + row.calls
        if 2 * running >= calls:
            break
    return {
        "calls": calls,
        "exact_share": Decimal(total("exact_calls")) / calls,
        "reported": total("reported"),
        "counted": counted,
        "difference": difference,
        "bias": Decimal(difference) / counted if counted else None,
        "difference_p5": min(row.difference_p5 for row in rows),
        "difference_p50": middle,
        "difference_p95": max(row.difference_p95 for row in rows),
        "unrated_calls": total("unrated_calls"),
        "difference_cost": total("difference_cost"),
        "unexplained_cost": total("unexplained_cost") if total("banded_calls") else None,
    }


def figures_table(rows: Sequence[Mapping[str, Any]], by: Sequence[str]) -> Table:
    """Every figure, exact."""
    return table_of(rows, [*map(Column, by), *_FIGURES])


_LISTS: Final = ("models", "apis", "categories")
_FINDING: Final = (
    *map(Column, ("kind", "tenant", "provider", *_LISTS, "endpoint_host", "usage_source", "side", "count_quality")),
    *map(Column, ("counted_with", "first_day", "last_day")),
    *(Column(name, Kind.COUNT) for name in ("calls", "seen_in", "tokens", "before", "after")),
    Column("elsewhere"),
    *(Column(name, Kind.COUNT) for name in ("elsewhere_calls", "elsewhere_exact")),
    *(Column(name, Kind.MONEY) for name in ("dollars", "dollars_per_day")),
    Column("evidence"),
)


def findings_table(found: Sequence[Finding]) -> Table:
    """Every finding with its evidence; several names in one cell stand between commas."""
    rows = [
        {column.name: getattr(one, column.name) for column in _FINDING} | {name: ", ".join(getattr(one, name)) for name in _LISTS}
        for one in found
    ]
    return table_of(rows, _FINDING)


def print_audit(
    rows: Sequence[AuditDay],
    found: Sequence[Finding],
    by: Sequence[str],
    fmt: str,
    only_findings: bool = False,
    top: int = 20,
    file: IO[str] | None = None,
) -> None:
    """The table and the findings: for people the ``top`` rows (0: all), as JSON an object of both, as CSV one of the two."""
    file = file or sys.stdout
    figures, findings = figures_table(grouped(rows, by), by), findings_table(found)
    if fmt == Format.CSV:
        file.write(as_csv(findings if only_findings else figures))
    elif fmt == Format.JSON:
        both = {"figures": orjson.loads(as_json(figures)), "findings": orjson.loads(as_json(findings))}
        shown = both["findings"] if only_findings else both
        file.write(orjson.dumps(shown, option=orjson.OPT_APPEND_NEWLINE).decode())
    else:
        _print(rows, found, by, -1 if only_findings else top, console(file))


def _print(rows: Sequence[AuditDay], found: Sequence[Finding], by: Sequence[str], top: int, to: Console) -> None:
    if not rows:
        to.print("Nothing to compare: no call of these days has both reported tokens and a text that was counted.")
        return
    first, last = min(row.day for row in rows), max(row.day for row in rows)
    if top >= 0:
        figures = grouped(rows, by)
        shown = figures[: top or None]
        to.print(Text(f"Reported less counted tokens, {first} to {last}", style="bold"))
        _print_figures(shown, by, to)
        rest = f"{len(figures) - len(shown):,} more: --top 0. " if len(shown) < len(figures) else ""
        to.print(f"{rest}partial: the log holds a part of the text only; estimate: counted with an error", style="dim")
        to.print()
    if not found:
        to.print("No findings.")
        return
    to.print(Text("Findings", style="bold"))
    for one in found:
        to.print(Text.assemble((str(one.kind), "yellow"), f"  {printable(_where(one))}"))
        to.print(f"  {printable(', '.join((*one.apis, one.side, *one.categories)))}; {one.first_day} to {one.last_day}")
        to.print(f"  {printable(one.evidence)}")
        to.print(f"  {human_money(one.dollars)}, {human_money(one.dollars_per_day)} a day", style="dim")
    to.print()
    for kind in dict.fromkeys(one.kind for one in found):
        to.print(f"{kind}: {MEANINGS[kind]}", style="dim")


def _print_figures(figures: Sequence[Mapping[str, Any]], by: Sequence[str], to: Console) -> None:
    """A line for each side, category and quality, below what they are of: it stands above them, on a line of its own."""
    parts = [name for name in _PARTS if name in by]
    heads = [name for name in by if name not in _PARTS]
    below: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in figures:
        below[_named(one, heads) if parts else ""].append(one)
    ordered = [one for some in below.values() for one in some]
    indent = "  " if heads and parts else ""
    labels = [indent + printable(_part(one, parts) if parts else _named(one, heads)) for one in ordered]
    heading, *lines = _that_fit(labels, ordered, to.width)
    to.print(Text(heading, style="bold"))
    line = iter(lines)
    for name, some in below.items():
        if name:
            to.print(Text(printable(name)))
        for _ in some:
            to.print(Text(next(line)))


_PARTS: Final = ("side", "category", "count_quality")
_LEAST: Final = (("difference_p5", "difference_p95"), ("exact_share",), ("difference_cost",))
"""Figures that narrow terminals do without, the first to go first."""


def _that_fit(labels: Sequence[str], figures: Sequence[Mapping[str, Any]], width: int) -> list[str]:
    """A heading and a line for each row, with as many figures as there is room for."""
    columns = [column for column in _FIGURES if column.name in _FOR_PEOPLE]
    for dropped in (*_LEAST, ()):
        headings = ["", *(column.heading for column in columns)]
        cells = [[label, *(human(one[c.name], c) for c in columns)] for label, one in zip(labels, figures, strict=True)]
        lines = aligned([headings, *cells])
        if max(map(cell_len, lines)) <= width:
            break
        columns = [column for column in columns if column.name not in dropped]
    return lines


def _named(one: Mapping[str, Any], names: Sequence[str]) -> str:
    """What a row is of; provider and model are one name."""
    both = {"provider", "model"} <= set(names)
    said = [f"{one['provider']}/{one['model']}" if name == "model" and both else str(one[name]) for name in names]
    return ", ".join(text or "-" for name, text in zip(names, said, strict=True) if not (name == "provider" and both))


def _part(one: Mapping[str, Any], parts: Sequence[str]) -> str:
    """Side, category, and how it was counted if not exactly."""
    return ", ".join(one[name] for name in parts if one[name] != EXACT or len(parts) == 1)


def _where(one: Finding) -> str:
    tenant = f"{one.tenant}: " if one.tenant not in ("", "default") else ""
    return f"{tenant}{one.provider}/{', '.join(one.models)}" + (f" at {one.endpoint_host}" if one.endpoint_host else "")
