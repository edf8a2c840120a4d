"""One way to print a table: for people, as JSON, as CSV.

JSON and CSV are exact: money is a decimal string in dollars, counts are whole numbers, nothing is rounded. Tables for
people round money to what can be read, group digits, and never show part of a number: where a table does not fit, its
rows are shown one below the other.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Context, Decimal
from enum import StrEnum
from textwrap import TextWrapper
from typing import IO, Any, Final

import orjson
from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from pipelines.text import printable

Value = str | int | float | Decimal | datetime | bool | None

PICO: Final = 10**12
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
_NARROWEST_TEXT: Final = 12
"""Columns of text are wrapped down to this many characters before rows are shown one below the other."""


class Format(StrEnum):
    """``--format``."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Kind(StrEnum):
    """What a column holds, which decides how people see it.

    ``MONEY`` is a Decimal (or whole number) of dollars, never a float; ``AMOUNT`` the text of an amount, as
    ``human_amount`` gives it where a column has several currencies; ``SHARE`` a fraction of one; ``BYTES`` and ``SECONDS``
    whole or fractional numbers; ``TIME`` a datetime with its zone.
    """

    TEXT = "text"
    COUNT = "count"
    MONEY = "money"
    AMOUNT = "amount"
    SHARE = "share"
    NUMBER = "number"
    BYTES = "bytes"
    SECONDS = "seconds"
    TIME = "time"


@dataclass(frozen=True)
class Column:
    """``name`` is the key in JSON and CSV; ``title`` what people read (the name with spaces, if not given)."""

    name: str
    kind: Kind = Kind.TEXT
    title: str = ""

    @property
    def heading(self) -> str:
        return self.title or self.name.replace("_", " ")


@dataclass(frozen=True)
class Table:
    """Rows to show. ``single``: always one row, which is one object in JSON and a list of names and values for people.

    ``note`` is a line below the table, for people only.
    """

    columns: Sequence[Column]
    rows: Sequence[Sequence[Value]]
    title: str = ""
    note: str = ""
    single: bool = False


def table_of(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], title: str = "", note: str = "", single: bool = False
) -> Table:
    """A table of dicts, such as a store's ``named_rows``, with the columns in the order given."""
    return Table(columns, [[row[column.name] for column in columns] for row in rows], title, note, single)


def dollars(pico: int) -> Decimal:
    """Pico-dollars as dollars, exactly."""
    return Decimal(pico).scaleb(-12, context=Context(prec=100))


def show(table: Table, fmt: str = Format.TABLE, file: IO[str] | None = None) -> None:
    """Print ``table`` to ``file`` (standard output if not given)."""
    file = file or sys.stdout
    if fmt == Format.JSON:
        file.write(as_json(table))
    elif fmt == Format.CSV:
        file.write(as_csv(table))
    else:
        to = console(file)
        with to.capture() as captured:
            print_table(table, to)
        file.write(re.sub(r" +$", "", captured.get(), flags=re.MULTILINE))
    file.flush()


def show_paragraph(heading: str, *below: str) -> None:
    """Print a heading, and texts below it, set in; between words only, as wide as ``console``."""
    to = console(sys.stdout)
    with to.capture() as captured:
        to.print(Text(printable(heading), style="bold"))
    whole = TextWrapper(to.width - 2, break_long_words=False, break_on_hyphens=False)
    lines = [line for text in below for line in whole.wrap(printable(text))]
    sys.stdout.write(captured.get() + "".join(f"  {line}\n" for line in lines) + "\n")


def console(file: IO[str]) -> Console:
    """A console that is as wide as the terminal, else ``COLUMNS``, else 80; plain where ``NO_COLOR`` is set."""
    wide = None if file.isatty() else int(os.environ.get("COLUMNS") or 80)
    return _Piped(file=file, width=wide, highlight=False, markup=False, emoji=False, soft_wrap=False)


class _Piped(Console):
    """A console whose reader may go away (``head``), which is no failure: it is told to who catches it, as by other output."""

    def on_broken_pipe(self) -> None:
        raise


def as_json(table: Table) -> str:
    """An array of objects, or one object for a single row; one line of text."""
    objects = [
        {column.name: _exact(value, column) for column, value in zip(table.columns, row, strict=True)} for row in table.rows
    ]
    return orjson.dumps(objects[0] if table.single and objects else objects, option=orjson.OPT_APPEND_NEWLINE).decode()


def as_csv(table: Table) -> str:
    """RFC 4180 with a header and plain line ends; a text that a spreadsheet would run as a formula gets a ``'``."""
    rows = [[column.name for column in table.columns]]
    rows += [[_csv_cell(value, column) for column, value in zip(table.columns, row, strict=True)] for row in table.rows]
    return "".join(",".join(map(_quoted, row)) + "\n" if row != [""] else '""\n' for row in rows)


def _quoted(cell: str) -> str:
    # The csv module of Python 3.11 leaves a lone carriage return bare, which its own reader takes for a line end.
    return '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in ',"\r\n') else cell


def print_table(table: Table, to: Console) -> None:
    """The table as people see it."""
    if table.title:
        to.print(Text(printable(table.title), style="bold"))
    cells = [[human(value, column) for column, value in zip(table.columns, row, strict=True)] for row in table.rows]
    if table.single and cells:
        _print_pairs(table, cells[0], to)
    elif not cells:
        to.print(Text("nothing to show", style="dim"))
    elif _fits(table, cells, to.width):
        to.print(_rich(table, cells))
    else:
        for number, row in enumerate(cells):
            if number:
                to.print()
            _print_pairs(table, row, to)
    if table.note:
        to.print(Text(printable(table.note), style="dim"))


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines: the first cell to the left, the others to the right, columns two blanks apart."""
    widths = [max(map(cell_len, cells)) for cells in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first + " " * (widths[0] - cell_len(first))]
        cells += [" " * (width - cell_len(cell)) + cell for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return lines


def human(value: Value, column: Column) -> str:
    """A value as people read it; what is unknown is a dash, which is not zero."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return _HUMAN[column.kind](_checked(value, column))


def human_money(amount: Decimal | int) -> str:
    """Dollars: cents from one dollar up, else three significant digits and at least cents."""
    amount = Decimal(amount)
    if not amount.is_finite():
        raise TypeError(f"{amount} is no amount of money")
    places = 2
    if 0 < abs(amount) < 1:
        places = max(2, 2 - amount.adjusted())
    rounded = f"{abs(amount):,.{places}f}"
    if places > 2:
        whole, _, fraction = rounded.partition(".")
        rounded = f"{whole}.{fraction.rstrip('0').ljust(2, '0')}"
    sign = "-" if amount < 0 and rounded.strip("0.,") else ""
    return f"{sign}${rounded}"


def human_amount(amount: Decimal | int, currency: str) -> str:
    """As ``human_money`` where the currency is USD, else with its code for the sign of the dollar: ``0.426 EUR``."""
    said = human_money(amount)
    return said if currency == "USD" else f"{said.replace('$', '')} {currency}"


def human_bytes(size: float) -> str:
    """Bytes in units of 1000, as disks and networks count them."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:,.0f} {unit}" if unit == "B" or abs(size) >= 100 else f"{size:,.1f} {unit}"


def human_seconds(seconds: float) -> str:
    """A duration: ``0.42 s``, ``12.3 s``, ``4 min 10 s``, ``3 h 5 min``."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes} min"


def _human_time(moment: datetime) -> str:
    zone = moment.strftime("%Z") or "?"
    pattern = "%Y-%m-%d %H:%M" if moment.second == moment.microsecond == 0 else "%Y-%m-%d %H:%M:%S"
    return f"{moment.strftime(pattern)} {zone}"


def _human_number(value: Decimal | float) -> str:
    whole = isinstance(value, int) or abs(float(value)) >= 1000
    return f"{value:,.0f}" if whole else f"{value:.3g}"


_HUMAN: Final[dict[Kind, Callable[[Any], str]]] = {
    Kind.TEXT: lambda value: printable(str(value)),
    Kind.COUNT: lambda value: f"{value:,}",
    Kind.MONEY: human_money,
    Kind.AMOUNT: lambda value: printable(value),
    Kind.SHARE: lambda value: f"{value * 100:.1f} %",
    Kind.NUMBER: _human_number,
    Kind.BYTES: human_bytes,
    Kind.SECONDS: human_seconds,
    Kind.TIME: _human_time,
}


_TYPES: Final[dict[Kind, tuple[type, ...]]] = {
    Kind.MONEY: (Decimal, int),
    Kind.AMOUNT: (str,),
    Kind.COUNT: (int,),
    Kind.TIME: (datetime,),
}


def _checked(value: Any, column: Column) -> Any:
    """The value, if its type is one that the column may hold: an inexact type would be shown as if it were exact."""
    if column.kind is not Kind.TEXT and not isinstance(value, _TYPES.get(column.kind, (int, float, Decimal))):
        raise TypeError(f"column {column.name} holds {column.kind}, not {type(value).__name__}")
    return value


def _exact(value: Value, column: Column) -> str | int | float | bool | None:
    """A value for JSON: exact, and a string where a JSON number could not be."""
    if value is None or isinstance(value, bool):
        return value
    known: Any = _checked(value, column)
    if isinstance(known, Decimal) or column.kind is Kind.MONEY:
        return _plain(Decimal(known))
    if isinstance(known, datetime):
        return known.isoformat()
    if isinstance(known, int) and not -(1 << 63) <= known < 1 << 64:
        return str(known)
    return known if isinstance(known, int | float) else str(known).encode("utf-8", "replace").decode()


def _plain(value: Decimal) -> str:
    """Every digit, no exponent, no zeros that say nothing."""
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _csv_cell(value: Value, column: Column) -> str:
    exact = _exact(value, column)
    if exact is None:
        return ""
    if isinstance(exact, bool):
        return str(exact).lower()
    text = str(exact)
    return f"'{text}" if isinstance(value, str) and text.lstrip(" ").startswith(_FORMULA) else text


def _is_text(column: Column) -> bool:
    return column.kind is Kind.TEXT


def _rich(table: Table, cells: Sequence[Sequence[str]]) -> RichTable:
    shown = RichTable(
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False, header_style="bold", safe_box=True
    )
    for index, column in enumerate(table.columns):
        heading = Text(printable(column.heading))
        if _is_text(column):
            shown.add_column(heading, overflow="fold")
        else:  # a width of its own is never reduced
            shown.add_column(heading, justify="right", width=_number_width(column, [row[index] for row in cells]))
    for row in cells:
        shown.add_row(*(Text(cell) for cell in row))
    return shown


def _fits(table: Table, cells: Sequence[Sequence[str]], width: int) -> bool:
    """Numbers fit whole, and columns of text have room to be wrapped in."""
    needed = 2 * (len(table.columns) - 1)
    for index, column in enumerate(table.columns):
        values = [row[index] for row in cells]
        if _is_text(column):
            needed += min(max(cell_len(text) for text in (column.heading, *values)), _NARROWEST_TEXT)
        else:
            needed += _number_width(column, values)
    return needed <= width


def _number_width(column: Column, values: Sequence[str]) -> int:
    """Room for the longest number and the longest word of the heading, which is wrapped between words."""
    return max(cell_len(text) for text in (*column.heading.split(), *values))


def _print_pairs(table: Table, row: Sequence[str], to: Console) -> None:
    pairs = RichTable(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    pairs.add_column(style="dim", overflow="fold")
    pairs.add_column(overflow="fold")
    for column, cell in zip(table.columns, row, strict=True):
        pairs.add_row(Text(printable(column.heading)), Text(cell))
    to.print(pairs)
