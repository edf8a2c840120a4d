"""Rows of a store as Parquet, JSON lines or CSV: exact, deduplicated, in blocks, with the columns of ``docs/tables.md``.

The engine itself forms the text of a row, one expression per column, so that a row costs microseconds and every digit is
the engine's own. Parquet keeps the types. Rows come in the order of the table's key: the same store gives the same file.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from clickhouse_connect.driver.binding import format_str

from schemas.tables import (
    AUDIT_DAYS,
    CALLS,
    CHARGES,
    DAYS,
    DEAD_LETTERS,
    HOURS,
    MINUTES,
    PRICES,
    RECEIPTS,
    RUNS,
    SEGMENTS,
    Column,
    Table,
)
from sinks.charges import in_force
from sinks.clickhouse import Store
from sinks.dead_letters import living

EXPORTED: Final = {
    "calls": CALLS,
    "minutes": MINUTES,
    "hours": HOURS,
    "days": DAYS,
    "audit-days": AUDIT_DAYS,
    "dead-letters": DEAD_LETTERS,
    "receipts": RECEIPTS,
    "segments": SEGMENTS,
    "prices": PRICES,
    "runs": RUNS,
    "charges": CHARGES,
}
"""What can be exported, by the name a person gives it."""

TIME: Final = {
    CALLS.name: "event_time",
    MINUTES.name: "minute",
    HOURS.name: "hour",
    DAYS.name: "day",
    AUDIT_DAYS.name: "day",
    DEAD_LETTERS.name: "ingested_at",
    RECEIPTS.name: "ingested_at",
    SEGMENTS.name: "ingested_at",
    PRICES.name: "valid_from",
    RUNS.name: "started_at",
    CHARGES.name: "start",
}
"""The column that a period is about: the time of what the row is of, where it has one, else when it was written."""

GROUP_ROWS: Final = 65_536
"""Rows of a Parquet row group: what a reader may skip, and what is held before it is written."""

_EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(2106, 1, 1, tzinfo=UTC)

# A cell that a spreadsheet would run: the same ones that every other CSV of ours guards.
_FORMULA: Final = "^ *[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]"


class Sink(Protocol):
    """What rows are written to. Parquet asks a file for more than this: ``tell``, ``closed``, ``flush``."""

    def write(self, data: Any, /) -> int: ...


class ExportError(Exception):
    """What was asked for is not there: a column, a table, a period; the message is one line for a person."""


class Form(StrEnum):
    """What is written."""

    PARQUET = "parquet"
    JSONL = "jsonl"
    CSV = "csv"


@dataclass(frozen=True)
class Selection:
    """Rows and columns of one table.

    ``since`` and ``until`` are the half-open period of the table's ``TIME`` column, in UTC. ``where``: for each column,
    the values it may have.
    """

    table: Table
    columns: tuple[Column, ...]
    since: datetime | None = None
    until: datetime | None = None
    where: tuple[tuple[str, tuple[str, ...]], ...] = ()


def select(
    name: str,
    columns: Sequence[str] = (),
    where: Iterable[tuple[str, str]] = (),
    since: datetime | None = None,
    until: datetime | None = None,
) -> Selection:
    """What to export of the table of that name; without ``columns`` all of them. Values of one column are alternatives.

    Raises:
        ExportError: no such table, column or period, or a column that rows cannot be chosen by.
    """
    name = name.replace("_", "-")
    table = EXPORTED.get(name)
    if table is None:
        raise ExportError(f"no table {name!r}{_perhaps(name, EXPORTED)}; there are {', '.join(EXPORTED)}")
    known = {column.name: column for column in table.columns}
    for column in columns:
        if column not in known:
            raise ExportError(f"{name} has no column {column!r}{_perhaps(column, known)}")
        if columns.count(column) > 1:
            raise ExportError(f"column {column!r} is named twice")
    choices = _choices(table)
    chosen: dict[str, list[str]] = {}
    for key, value in where:
        if key not in choices:
            what = "cannot be chosen by" if key in known else "has no column"
            raise ExportError(f"{name} {what} {key!r}{_perhaps(key, choices)}")
        if choices[key].type == "UInt16" and not re.fullmatch(r"[0-9]{1,5}", value):
            raise ExportError(f"{key} = {value!r}: must be a whole number")
        chosen.setdefault(key, []).append(value)
    for moment in (since, until):
        if moment is not None and not _EARLIEST <= moment <= _LATEST:
            raise ExportError(f"{moment:%Y-%m-%d}: must lie between 1970 and 2106")
    if since is not None and until is not None and since >= until:
        raise ExportError(f"the period ends ({_iso(until)}) before it begins ({_iso(since)})")
    return Selection(
        table,
        tuple(known[column] for column in columns) or table.columns,
        since,
        until,
        tuple((key, tuple(values)) for key, values in chosen.items()),
    )


def _choices(table: Table) -> dict[str, Column]:
    """Columns that rows can be chosen by: texts, and the price run."""
    return {c.name: c for c in table.columns if c.type in ("LowCardinality(String)", "String") or c.name == "price_run"}


def _perhaps(name: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean {near[0]}?" if near else ", see docs/tables.md"


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# -- the query ---------------------------------------------------------------------------------------------------


def query(store: Store, selection: Selection, form: Form) -> str:
    """The one query of an export. For text its result is one column, ``line``: the rows as they are written."""
    if form is Form.PARQUET:
        wanted = ", ".join(f"{_typed(column)} AS `{column.name}`" for column in selection.columns)
    elif form is Form.JSONL:
        wanted = f"concat({_json_line(selection.columns)}) AS line"
    else:
        wanted = f"concat({_csv_line(selection.columns)}) AS line"
    conditions = " AND ".join(_conditions(selection))
    order = ", ".join(f"t.{key.strip()}" for key in selection.table.order_by.split(","))
    rows = _rows(store, selection.table)
    return f"SELECT {wanted} FROM {rows}{' WHERE ' if conditions else ''}{conditions} ORDER BY {order}"


def _rows(store: Store, table: Table) -> str:
    if table in (DEAD_LETTERS, CHARGES):
        return f"{living(store) if table is DEAD_LETTERS else in_force(store)} AS t"
    return f"{store.table(table.name)} AS t FINAL"


def _conditions(selection: Selection) -> Iterator[str]:
    table = selection.table
    if table in (MINUTES, HOURS, DAYS, AUDIT_DAYS):
        yield "t.calls != 0"  # what is left of a key that no longer has calls
    for sign, moment in ((">=", selection.since), ("<", selection.until)):
        if moment is not None:
            yield _compared(table, TIME[table.name], sign, moment)
            if table is CALLS:  # in the order of the key, so that other minutes are not read
                yield f"t.minute {'>=' if sign == '>=' else '<='} toDateTime({int(moment.timestamp()) // 60 * 60}, 'UTC')"
    for key, values in selection.where:
        number = key == "price_run"
        yield f"t.`{key}` IN ({', '.join(str(int(v)) if number else format_str(v) for v in values)})"


def _compared(table: Table, name: str, sign: str, moment: datetime) -> str:
    micros = (moment - _EARLIEST) // (_LATEST - _EARLIEST).resolution
    kind = next(column.type for column in table.columns if column.name == name)
    if kind.startswith("DateTime("):  # whole seconds: at or after the next one is the same as at or after the moment
        return f"t.{name} {sign} toDateTime({-(-micros // 1_000_000)}, 'UTC')"
    return f"t.{name} {sign} fromUnixTimestamp64Micro(toInt64({micros}), 'UTC')"


def _kind(column: Column) -> str:
    """The column's type without what is around it."""
    return re.sub(r"^(?:Nullable|LowCardinality)\((.*)\)$", r"\1", column.type)


def _typed(column: Column) -> str:
    """The column for Parquet: every time in microseconds; keys and hashes in hex, as in the other forms, so that one that
    is found in one file can be sought in another."""
    if _kind(column).startswith("DateTime"):
        return _micros(column)
    return _text(column)[0] if _is_hex(column) else f"t.`{column.name}`"


def _is_hex(column: Column) -> bool:
    kind = _kind(column)
    return kind.startswith("FixedString") or (kind == "UInt64" and column.name.endswith("_hash"))


def _micros(column: Column) -> str:
    return f"toDateTime64(t.`{column.name}`, 6, 'UTC')"


def _text(column: Column) -> tuple[str, str]:
    """The column as text, NULL where it is, and what the text is: ``number``, ``word`` (nothing to escape), ``json``
    or ``text``."""
    name, kind = f"t.`{column.name}`", _kind(column)
    if kind.startswith("DateTime"):
        return f"formatDateTime({_micros(column)}, '%Y-%m-%dT%H:%i:%S.%fZ', 'UTC')", "word"
    if kind.startswith("FixedString"):
        return f"lower(hex({name}))", "word"
    if _is_hex(column):
        return f"leftPad(lower(hex({name})), 16, '0')", "word"
    if kind.startswith("Decimal"):
        return f"toString({name})", "word"  # plain digits, a number only to those who know it is no float
    if kind == "Float64":
        return f"if(isFinite({name}), toString({name}), NULL)", "number"
    if kind.startswith(("Map", "Array")):
        return f"toJSONString({name})", "json"
    if kind == "String":
        return name, "text"
    return f"toString({name})", "number"


def _json_line(columns: Sequence[Column]) -> str:
    parts = []
    for number, column in enumerate(columns):
        text, kind = _text(column)
        value = {"word": f"concat('\"', {text}, '\"')", "text": f"toJSONString({text})"}.get(kind, text)
        parts += [format_str(f'{"," if number else "{"}"{column.name}":'), f"ifNull({value}, 'null')"]
    return ", ".join([*parts, r"'}\n'"])


def _csv_line(columns: Sequence[Column]) -> str:
    parts = []
    for number, column in enumerate(columns):
        text, kind = _text(column)
        if kind == "text":
            text = f"if(match({text}, {format_str(_FORMULA)}), concat('\\'', {text}), {text})"
        if kind in ("text", "json"):
            text = f"concat('\"', replaceAll({text}, '\"', '\"\"'), '\"')"
        parts += [*(["','"] if number else []), f"ifNull({text}, '')"]
    return ", ".join([*parts, r"'\n'"])


# -- the blocks and the files ------------------------------------------------------------------------------------


def schema(selection: Selection) -> pa.Schema:
    """The schema of the Parquet file; each field says what it means."""
    fields = [pa.field(c.name, _arrow_type(c), nullable=c.nullable, metadata={"description": c.doc}) for c in selection.columns]
    return pa.schema(fields, metadata={"table": selection.table.name, "description": selection.table.doc})


def types(column: Column) -> tuple[str, str]:
    """What a column is in Parquet, by Arrow's name of the type, and in text: see ``_text``."""
    return str(_arrow_type(column)), _text(column)[1]


def _arrow_type(column: Column) -> pa.DataType:
    kind = _kind(column)
    if kind.startswith("DateTime"):
        return pa.timestamp("us", "UTC")
    if kind.startswith("Decimal"):
        precision, scale = re.findall(r"\d+", kind)
        return pa.decimal128(int(precision), int(scale))
    if _is_hex(column):
        return pa.string()
    if column.arrow is not None:
        return column.arrow
    return {"UInt64": pa.uint64(), "Int64": pa.int64(), "Float64": pa.float64(), "UInt16": pa.uint16(), "String": pa.string()}[
        kind
    ]


def write(store: Store, selection: Selection, form: Form, file: Sink) -> Iterator[int]:
    """Write the rows to ``file`` and yield, after each block, how many there are so far. The last one is the total.

    ``file`` is not closed.

    Raises:
        sinks.clickhouse.StoreError: the store refuses, is unreachable, or broke off: the file is not whole.
        OSError: the file cannot be written.
    """
    blocks = store.stream(query(store, selection, form))
    if form is Form.PARQUET:
        yield from _write_parquet(blocks, schema(selection), file)
        return
    rows = 0
    if form is Form.CSV:
        file.write((",".join(column.name for column in selection.columns) + "\n").encode())
    for block in blocks:
        file.write(_joined(block.column(0)))
        rows += block.num_rows
        yield rows
    yield rows


def _joined(lines: pa.Array) -> memoryview:
    """All texts of an array, one after the other, as they lie in memory."""
    _, offsets, data = lines.buffers()
    width = np.int64 if pa.types.is_large_string(lines.type) or pa.types.is_large_binary(lines.type) else np.int32
    ends = np.frombuffer(offsets, dtype=width)[lines.offset : lines.offset + len(lines) + 1]
    return memoryview(data)[int(ends[0]) : int(ends[-1])] if data is not None else memoryview(b"")


def _write_parquet(blocks: Iterable[pa.RecordBatch], target: pa.Schema, file: Sink) -> Iterator[int]:
    rows = 0
    with pq.ParquetWriter(file, target, compression="zstd") as writer:
        held: list[pa.RecordBatch] = []
        for block in blocks:
            held.append(block.cast(target))
            rows += block.num_rows
            if sum(one.num_rows for one in held) >= GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(held, target))
                held = []
            yield rows
        if held:
            writer.write_table(pa.Table.from_batches(held, target))
    yield rows
