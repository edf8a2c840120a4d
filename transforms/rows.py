"""Calls, receipts and dead letters as Arrow record batches with the schemas of ``schemas.tables``.

Building columns costs about 60 ns per value; money goes in as numpy int64 and comes out as decimal128 without a copy
per value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from schemas.batch import NO_PARTS, CallBatch, DeadLetter, Ignored, PartRead
from schemas.call import Call
from schemas.tables import CALLS, COSTS, DEAD_LETTERS, MONEY, MONEY_COLUMNS, PARTS, RECEIPTS, RECORDED, SEGMENTS
from transforms.join import told

if TYPE_CHECKING:
    from transforms.price import PricedColumns

MINUTE_US: Final = 60_000_000
NO_CALL: Final = bytes(16)

_PRICED: Final = frozenset((*MONEY_COLUMNS, "price_run"))
UNPRICED: Final = pa.schema([f for f in CALLS.arrow if f.name not in _PRICED])
"""Schema of calls before pricing."""


def decimals(values: npt.NDArray[np.int64], null: npt.NDArray[np.bool_] | None = None) -> pa.Array:
    """Pico-dollars as decimals of 12 places. ``null`` marks unknown ones."""
    pairs = np.empty((len(values), 2), dtype=np.int64)
    pairs[:, 0] = values
    pairs[:, 1] = values >> 63  # sign extension to 128 bits, little-endian
    validity = None if null is None or not null.any() else pa.py_buffer(np.packbits(~null, bitorder="little").tobytes())
    return pa.Array.from_buffers(MONEY, len(values), [validity, pa.py_buffer(pairs)])


def _minute_seconds(calls: Sequence[Call]) -> list[int]:
    return [call.event_time // MINUTE_US * 60 for call in calls]


def _reported_cost(calls: Sequence[Call]) -> pa.Array:
    values = [call.reported_cost for call in calls]
    null = np.array([value is None for value in values], dtype=np.bool_)
    return decimals(np.array([value or 0 for value in values], dtype=np.int64), null)


def _texts_by_name(name: str) -> Callable[[Sequence[Call]], pa.Array]:
    said = attrgetter(name)

    def maps(calls: Sequence[Call]) -> pa.Array:
        return pa.array([list(some.items()) if some else () for some in map(said, calls)], pa.map_(pa.string(), pa.string()))

    return maps


_SPECIAL: Final[dict[str, Callable[[Sequence[Call]], Any]]] = {
    "minute": _minute_seconds,
    "reported_cost": _reported_cost,
    "tags": _texts_by_name("tags"),
    "headers": _texts_by_name("headers"),
    "owner_rule": lambda calls: pa.repeat(pa.scalar(""), len(calls)),  # see transforms.own
}
_SAYS: Final = {f"recorded_{name}": name for name in RECORDED}


def call_rows(calls: Sequence[Call]) -> pa.RecordBatch:
    """Calls as rows of ``UNPRICED``. Team, app and the like are what the record says, until ``transforms.own``."""
    if not calls:  # a batch of nothing but dead letters, or the end of a segment
        return pa.RecordBatch.from_pylist([], UNPRICED)
    said = [call.__dict__ for call in calls]
    told = set().union(*said)
    columns: list[Any] = []
    for field in UNPRICED:
        special = _SPECIAL.get(field.name)
        if field.name in _SAYS:
            values = columns[UNPRICED.get_field_index(_SAYS[field.name])]
        elif special:
            values = special(calls)
        elif field.name in told:
            name, default = field.name, getattr(Call, field.name, None)
            values = [some.get(name, default) for some in said]
        else:  # no call of the batch says anything here: about half of all columns
            values = pa.repeat(pa.scalar(getattr(Call, field.name), field.type), len(calls))
        columns.append(values if isinstance(values, pa.Array) else _array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=UNPRICED)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_timestamp(kind):
        return pa.array(values, pa.int64()).cast(kind)
    return pa.array(values, kind)


def minutes_of(calls: Sequence[Call]) -> list[int]:
    """Distinct minutes of calls, in seconds since 1970."""
    return sorted(set(_minute_seconds(calls)))


def with_money(unpriced: pa.RecordBatch, money: PricedColumns, price_run: int) -> pa.RecordBatch:
    """Rows of ``calls``: ``unpriced`` and what ``transforms.price`` says each one cost."""
    added = {**money_columns(money), "price_run": pa.repeat(pa.scalar(price_run, pa.uint16()), unpriced.num_rows)}
    columns = [added[f.name] if f.name in added else unpriced.column(f.name) for f in CALLS.arrow]
    return pa.RecordBatch.from_arrays(columns, schema=CALLS.arrow)


def money_columns(money: PricedColumns) -> dict[str, pa.Array]:
    """``schemas.tables.MONEY_COLUMNS`` by name."""
    return {
        "cost": decimals(money.cost, money.null),
        **{name: decimals(getattr(money, name), money.null) for name, _ in COSTS},
        "list_cost": decimals(money.list_cost, money.null),
        "cost_error": decimals(money.cost_error, money.null | money.error_unknown),
        "price_status": pa.array(money.price_status, pa.string()),
        "price_reason": pa.array(money.price_reason, pa.string()),
        "cost_source": pa.array(money.cost_source, pa.string()),
        "contract": pa.array(money.contract, pa.string()),
        "rate_id": pa.array(money.rate_id, pa.string()),
        "book_version": pa.repeat(pa.scalar(money.book_version), len(money.cost)),
    }


def receipts(batch: CallBatch) -> pa.RecordBatch:
    """One row for each item of the batch: what became of it."""
    calls, parts, dead, ignored = batch.calls, batch.parts, batch.dead, batch.ignored
    none = len(dead) + len(ignored)
    others = len(parts) + none
    minutes = [*_minute_seconds(calls), *[0] * others]
    items: list[Call | PartRead | DeadLetter | Ignored] = [*calls, *parts, *dead, *ignored]
    columns: list[list[Any]] = [
        [batch.segment] * len(items),
        [one.position for one in items],
        [one.item for one in items],
        [*batch.record_hashes, *(one.record_hash for some in (parts, dead, ignored) for one in some)],
        ["call"] * len(calls) + ["joined"] * len(parts) + ["dead_letter"] * len(dead) + ["ignored"] * len(ignored),
        [*[""] * (len(calls) + len(parts)), *(d.reason for d in dead), *(i.reason for i in ignored)],
        [*(c.call_key for c in calls), *(p.key for p in parts), *[NO_CALL] * none],
        minutes,
    ]
    return _batch(columns, RECEIPTS.arrow)


def part_rows(batch: CallBatch) -> pa.RecordBatch:
    """One row for each part of a call that the batch holds."""
    if not batch.parts:
        return NO_PARTS
    rows = (
        (
            read.tenant,
            read.key,
            batch.source,
            batch.segment,
            read.position,
            read.item,
            read.record_hash,
            read.part.role,
            read.part.rank,
            read.part.number,
            read.part.of,
            read.part.needs,
            read.part.format,
            read.time,
            read.deadline,
            [] if read.part.call is None else list(told(read.part.call).items()),
            read.part.data,
        )
        for read in batch.parts
    )
    return _batch(_columns(rows, len(PARTS.arrow)), PARTS.arrow)


def dead_letters(batch: CallBatch) -> pa.RecordBatch:
    """The batch's dead letters as rows."""
    return _batch(
        _columns(
            (
                (
                    batch.source,
                    batch.segment,
                    d.position,
                    d.item,
                    d.record_hash,
                    d.reason,
                    d.format_guess,
                    d.error,
                    d.size,
                    d.payload,
                )
                for d in batch.dead
            ),
            len(DEAD_LETTERS.arrow),
        ),
        DEAD_LETTERS.arrow,
    )


def segment_ends(batch: CallBatch) -> pa.RecordBatch:
    """The end of the segment's range, if the batch closes one: no row or one."""
    end = batch.end
    rows = [] if end is None else [(batch.source, batch.segment, *end, batch.default_time)]
    return _batch(_columns(rows, len(SEGMENTS.arrow)), SEGMENTS.arrow)


def _columns(rows: Iterable[tuple[Any, ...]], width: int) -> list[list[Any]]:
    columns = [list(column) for column in zip(*rows, strict=True)]
    return columns or [[] for _ in range(width)]


def _batch(columns: Sequence[list[Any]], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [_array(values, field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
