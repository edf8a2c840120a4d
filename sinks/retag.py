"""Give history the owners that the rules name now.

What a rule looks at is in the columns of ``calls``, and who owns a call is decided as it is in the job. Rows whose
owner changes are written again as new versions; their minutes come right by the ordinary repair. All of it goes through
time in spans, so memory is bounded by a span, or by the busiest minute; a span that was not finished is found and finished
by the next run.

A new version is one above the version of the row it was made from. A row that a job writes meanwhile has a version by the
clock, which is far higher, so it stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from schemas.tables import CALLS, CLAIMED, SAID
from sinks.clickhouse import Store
from sinks.reconcile import Span, repair

SPAN_ROWS: Final = 50_000
"""Calls of one span, about: some 60 MB as Arrow."""

Owner = tuple[str, ...]
"""Values of ``schemas.tables.CLAIMED``."""


class Claims(Protocol):
    """Who decides: ``transforms.own.Claims``. ``fields``: what it looks at besides ``SAID``; ``cuts``: at which instants
    (UTC microseconds) its rules change; ``own``: rows with their owners filled in."""

    @property
    def fields(self) -> tuple[str, ...]: ...

    @property
    def cuts(self) -> tuple[int, ...]: ...

    def own(self, rows: pa.RecordBatch) -> pa.RecordBatch: ...


@dataclass(frozen=True)
class Group:
    """Calls that rules cannot tell apart: what their records say, their stored owner, the owner by the rules.

    ``said`` are values by field; ``period`` is that of ``Claims``; ``spend`` is in dollars, without the unpriced calls.
    """

    said: dict[str, str]
    period: int
    stored: Owner
    owner: Owner
    calls: int
    spend: Decimal
    unpriced: int


def spans(store: Store, since: int | None = None, before: int | None = None, rows: int = SPAN_ROWS) -> list[Span]:
    """The minutes that hold calls, from ``since`` to less than ``before`` (seconds since 1970), cut into spans."""
    bounds = [f"minute {sign} toDateTime({time}, 'UTC')" for sign, time in ((">=", since), ("<", before)) if time is not None]
    where = f" WHERE {' AND '.join(bounds)}" if bounds else ""
    found = store.rows(f"SELECT toUInt32(minute), count() FROM {store.table(CALLS.name)}{where} GROUP BY minute ORDER BY minute")
    cut: list[Span] = []
    held = rows
    for minute, count in found:
        if held + count > rows:
            cut.append((int(minute), int(minute)))
            held = 0
        cut[-1] = (cut[-1][0], int(minute))
        held += int(count)
    return cut


def minutes_of(store: Store, span: Span) -> list[int]:
    """The minutes of a span that hold calls, in seconds since 1970."""
    rows = store.rows(f"SELECT DISTINCT toUInt32(minute) FROM {store.table(CALLS.name)} WHERE {_inside(span)}")
    return [int(minute) for (minute,) in rows]


def groups(store: Store, claims: Claims, span: Span, also: Iterable[str] = ()) -> list[Group]:
    """The calls of a span by all that rules look at, by stored owner, and by the columns ``also``."""
    fields = list(dict.fromkeys([*SAID, *claims.fields, *also]))
    cuts = ", ".join(f"toInt64({cut})" for cut in claims.cuts)
    period = f"arrayCount(cut -> cut <= toUnixTimestamp64Micro(event_time), [{cuts}])" if cuts else "0"
    picked = ", ".join(f"{_expression(field)} AS field_{number}" for number, field in enumerate(fields))
    table = store.arrow(
        f"SELECT {picked}, {', '.join(f'toString({name}) AS stored_{name}' for name in CLAIMED)}, toInt64({period}) AS period,"
        " toInt64(min(toUnixTimestamp64Micro(event_time))) AS first, toInt64(count()) AS calls,"
        " sum(ifNull(cost, 0)) AS spend, toInt64(countIf(price_status = 'unpriced')) AS unpriced"
        f" FROM {store.table(CALLS.name)} FINAL WHERE {_inside(span)}"
        f" GROUP BY {', '.join(f'field_{number}' for number in range(len(fields)))},"
        f" {', '.join(f'stored_{name}' for name in CLAIMED)}, period ORDER BY ALL"
    )
    columns = {field: _texts(table[f"field_{number}"]) for number, field in enumerate(fields)}
    stored = {name: _texts(table[f"stored_{name}"]) for name in CLAIMED}
    rows = pa.RecordBatch.from_pydict({**columns, **stored, "event_time": table["first"].combine_chunks()})
    named = claims.own(rows)
    return [
        Group(dict(zip(fields, said, strict=True)), period, before, after, *sums)
        for said, period, before, after, sums in zip(
            zip(*(column.to_pylist() for column in columns.values()), strict=True),
            table["period"].to_pylist(),
            zip(*(column.to_pylist() for column in stored.values()), strict=True),
            zip(*(named.column(name).to_pylist() for name in CLAIMED), strict=True),
            zip(*(table[name].to_pylist() for name in ("calls", "spend", "unpriced")), strict=True),
            strict=True,
        )
    ]


def retag(store: Store, claims: Claims, span: Span) -> int:
    """Write the calls of a span whose owner changes, and bring its minutes, hours and days up to date; how many calls."""
    names = CALLS.arrow.names
    found = store.arrow(
        f"SELECT {', '.join(names)}, version FROM {store.table(CALLS.name)} FINAL WHERE {_inside(span)}"
        " ORDER BY minute, tenant, call_key"  # the same rows in the same order: a retry has the same token
    )
    schema = CALLS.arrow.append(pa.field("version", pa.uint64(), nullable=False))
    table = pa.table([_column(found[field.name], field.type) for field in schema], schema=schema).combine_chunks()
    written = 0
    for rows in table.to_batches():
        changed = moved(rows, claims.own(rows))
        if changed.num_rows:
            raised = pc.add(changed.column("version"), pa.scalar(1, pa.uint64()))
            changed = changed.set_column(schema.get_field_index("version"), schema.field("version"), raised)
            store.insert(CALLS.name, pa.Table.from_batches([changed]))
            written += changed.num_rows
    repair(store, span)
    return written


def moved(before: pa.RecordBatch, after: pa.RecordBatch) -> pa.RecordBatch:
    """Those rows of ``after`` whose owner is another one than in ``before``."""
    differs = pa.repeat(pa.scalar(False), before.num_rows)
    for name in CLAIMED:
        differs = pc.or_(differs, pc.not_equal(before.column(name), after.column(name)))
    return after.filter(differs)


def _inside(span: Span) -> str:
    return f"minute BETWEEN toDateTime({span[0]}, 'UTC') AND toDateTime({span[1]}, 'UTC')"


def _expression(field: str) -> str:
    """A field of a rule as SQL: a column, or an entry of ``tags`` or ``headers``, as text."""
    maps, dot, name = field.partition(".")
    if not dot:
        return f"toString({field})"
    quoted = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"toString({maps}['{quoted}'])"


def _texts(column: pa.ChunkedArray) -> pa.Array:
    return _column(column, pa.string()).combine_chunks()


def _column(column: pa.ChunkedArray, kind: pa.DataType) -> Any:
    """A column as the engine hands it out, as the type that it is written with: seconds come as whole numbers."""
    if pa.types.is_timestamp(kind) and pa.types.is_integer(column.type):
        column = column.cast(pa.int64())
    return column if column.type == kind else column.cast(kind)
