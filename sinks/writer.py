"""Write rows, then say which minutes they touched.

Order of a flush: calls, parts of calls, dead letters (also to their topic, if there is one), receipts, segment ends. So a
receipt proves that its call, its part or its dead letter is in, and a segment's end that all its receipts are. A crash between
two of them leaves rows that the next read of the same input replaces; until then ``reconcile`` shows the gap.

A call whose minute is closed (``sinks.retention``) is not written: it would expire at once, and its minute cannot be made
anew. Its receipt says so, so that it is not lost in silence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from schemas.batch import RowBatch
from schemas.tables import CALLS, DEAD_LETTERS, PARTS, RECEIPTS, SEGMENTS
from sinks.clickhouse import INSERT_BYTES, INSERT_ROWS, INSERT_SECONDS, Store
from sinks.dead_letters import messages
from sinks.outlet import Outlet
from sinks.poison import as_letters, insert_calls
from sinks.retention import floors

_UNDATED: Final = pa.array(["transport", "implausible"])
_KEYS_PER_QUERY: Final = 20_000


@dataclass(frozen=True)
class Flushed:
    """What one flush wrote: the minutes it touched (seconds since 1970), and the oldest transport time among them.

    ``expired`` calls were refused because their minutes are closed; ``expired_pico`` is what they cost, in pico-dollars.
    ``refused`` calls, which cost ``refused_pico``, became dead letters because the store refuses them. ``rows``: by table.
    ``keys`` are those of calls of which it wrote parts: they are to be joined.
    """

    minutes: list[int]
    transport_time: int
    calls: int
    expired: int = 0
    expired_pico: int = 0
    refused: int = 0
    refused_pico: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    keys: frozenset[bytes] = frozenset()


@dataclass
class Writer:
    """Collects row batches and inserts them in large blocks: a block costs as much as thousands of its rows.

    ``store`` is opened by the caller, and so is ``letters``, the topic that dead letters are sent to as well. Not thread-safe:
    one writer per worker.
    """

    store: Store
    max_rows: int = INSERT_ROWS
    max_bytes: int = INSERT_BYTES
    max_seconds: float = INSERT_SECONDS
    letters: Outlet | None = None
    _batches: list[RowBatch] = field(default_factory=list)
    _rows: int = 0
    _bytes: int = 0
    _began: float = 0

    def add(self, batch: RowBatch) -> Flushed | None:
        """Take a batch; flush if the block is full."""
        return self.flush() if self.collect(batch) else None

    def collect(self, batch: RowBatch) -> bool:
        """Take a batch; whether the block is full, or has waited long enough."""
        if not self._batches:
            self._began = time.monotonic()
        self._batches.append(batch)
        self._rows += batch.receipts.num_rows
        self._bytes += sum(rows.nbytes for rows in (batch.calls, batch.parts, batch.receipts, batch.dead_letters, batch.segments))
        waited = time.monotonic() - self._began
        return self._rows >= self.max_rows or self._bytes >= self.max_bytes or waited >= self.max_seconds

    def flush(self) -> Flushed | None:
        """Insert everything collected.

        Raises:
            sinks.clickhouse.StoreError: refused, full, or unreachable after all retries; the batches are kept.
            sinks.outlet.OutletError: the same of the topic of dead letters.
        """
        if not self._batches:
            return None
        batches = self._batches
        calls = _joined(batches, lambda b: b.calls, CALLS.arrow)
        receipts = _joined(batches, lambda b: b.receipts, RECEIPTS.arrow)
        calls, receipts, expired = refuse_closed(calls, receipts, floors(self.store)["calls"])
        read = calls
        calls = keep_first_sight(calls, lambda keys: set(self._first_seen(keys)))
        refused = insert_calls(self.store, calls)
        if calls.num_rows < read.num_rows:
            receipts = at_first_sight(receipts, self._first_seen(undated_keys(read)))
        parts = _joined(batches, lambda b: b.parts, PARTS.arrow)
        self.store.insert(PARTS.name, parts)
        dead_letters = _joined(batches, lambda b: b.dead_letters, DEAD_LETTERS.arrow)
        if refused:
            receipts, more = as_letters(calls, receipts, refused)
            dead_letters = pa.concat_tables([dead_letters, more])
        self.store.insert(DEAD_LETTERS.name, dead_letters)
        if self.letters is not None and dead_letters.num_rows:
            self.letters.send(messages(dead_letters))
            self.letters.flush()
        self.store.insert(RECEIPTS.name, receipts)
        segments = _joined(batches, lambda b: b.segments, SEGMENTS.arrow)
        self.store.insert(SEGMENTS.name, segments)
        touched: set[int] = set().union(*(b.minutes for b in batches))
        flushed = Flushed(
            sorted(touched),
            min(max(b.default_time, b.read_at) for b in batches),
            calls.num_rows - len(refused),
            expired.num_rows,
            pico(expired),
            len(refused),
            pico(calls.take([one.row for one in refused])) if refused else 0,
            {
                CALLS.name: calls.num_rows - len(refused),
                PARTS.name: parts.num_rows,
                DEAD_LETTERS.name: dead_letters.num_rows,
                RECEIPTS.name: receipts.num_rows,
                SEGMENTS.name: segments.num_rows,
            },
            frozenset(parts["call_key"].to_pylist()),
        )
        self._batches, self._rows, self._bytes = [], 0, 0
        return flushed

    def _first_seen(self, keys: list[bytes]) -> dict[bytes, int]:
        """Minutes (seconds since 1970) of those of these undated calls that the store holds."""
        seen: dict[bytes, int] = {}
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            some = keys[start : start + _KEYS_PER_QUERY]
            # One literal for all keys: the engine parses it in milliseconds, a list of as many in a third of a second.
            packed = b"".join(some).hex()
            rows = self.store.rows(
                f"SELECT call_key, toUInt32(min(minute)) FROM {self.store.table(CALLS.name)}"
                " WHERE time_quality IN ('transport', 'implausible') AND call_key IN ("
                f"SELECT toFixedString(substring(unhex('{packed}'), 1 + 16 * number, 16), 16) FROM numbers({len(some)}))"
                " GROUP BY call_key"
            )
            seen.update((key, int(minute)) for key, minute in rows)
        return seen


def pico(calls: pa.Table) -> int:
    """What calls cost together, in pico-dollars."""
    return int((pc.sum(calls["cost"]).as_py() or Decimal(0)).scaleb(12))


def _joined(batches: list[RowBatch], rows: Callable[[RowBatch], pa.RecordBatch], schema: pa.Schema) -> pa.Table:
    # In one piece: the engine takes every record batch as a block of its own, which doubles the time of an insert.
    return pa.Table.from_batches([rows(batch) for batch in batches], schema).combine_chunks()


def refuse_closed(calls: pa.Table, receipts: pa.Table, floor: int) -> tuple[pa.Table, pa.Table, pa.Table]:
    """Calls whose minute is not before ``floor`` (seconds since 1970), receipts that say so of the others, and the others."""
    at = pa.scalar(floor, pa.timestamp("s", "UTC"))
    open_ = pc.greater_equal(calls["minute"], at)
    if pc.all(open_, min_count=0).as_py():
        return calls, receipts, calls.slice(0, 0)
    late = pc.and_(pc.equal(receipts["outcome"], "call"), pc.less(receipts["minute"], at))
    for name, value in (("outcome", "ignored"), ("reason", "expired"), ("call_key", bytes(16)), ("minute", 0)):
        column = receipts.schema.get_field_index(name)
        kind = receipts.schema.field(column)
        instead = pa.scalar(value, pa.int64()).cast(kind.type) if name == "minute" else pa.scalar(value, kind.type)
        receipts = receipts.set_column(column, kind, pc.if_else(late, instead, receipts[name]))
    return calls.filter(open_), receipts, calls.filter(pc.invert(open_))


def undated_keys(calls: pa.Table) -> list[bytes]:
    """Keys of calls that have no time of their own, each once."""
    return list(dict.fromkeys(calls.filter(pc.is_in(calls["time_quality"], _UNDATED))["call_key"].to_pylist()))


def at_first_sight(receipts: pa.Table, minutes: dict[bytes, int]) -> pa.Table:
    """Receipts of undated calls with the minute their call has, so that both are known to expire together."""
    column = receipts.schema.get_field_index("minute")
    kind = receipts.schema.field(column)
    known = pa.array([minutes.get(key) for key in receipts["call_key"].to_pylist()], pa.int64()).cast(kind.type)
    return receipts.set_column(column, kind, pc.coalesce(known, receipts["minute"]))


def keep_first_sight(calls: pa.Table, seen: Callable[[list[bytes]], set[bytes]]) -> pa.Table:
    """Drop calls without a time of their own that were seen before: they keep the minute of their first sight.

    ``seen`` tells which of the given call keys the store holds already. Dated calls pass untouched: a redelivery of
    theirs has the same minute and replaces itself.
    """
    undated = pc.is_in(calls["time_quality"], _UNDATED)
    if not pc.any(undated).as_py():
        return calls
    rows = np.flatnonzero(undated.to_numpy())
    keys = calls["call_key"].take(pa.array(rows)).to_pylist()
    known = seen(list(dict.fromkeys(keys)))
    drop = []
    for row, key in zip(rows.tolist(), keys, strict=True):
        if key in known:
            drop.append(row)
        known.add(key)
    if not drop:
        return calls
    keep = np.ones(calls.num_rows, dtype=np.bool_)
    keep[drop] = False
    return calls.filter(pa.array(keep))
