"""Join the parts of calls: read all parts of a key, write the one call that they tell of.

Parts are the truth, a joined call is derived from them, as minutes are from calls: whatever comes later for a key (a part that
was late, a redelivery, a restart) has its call made anew and replaced whole. So it does not matter how often, or in which order,
a key is joined, as long as it is after its last part was written.

A joined call keeps the time and the place of its first write, so that its row is replaced where it is. That place is one of its
parts; once that one has expired (``retention.parts``), the call is left as it is: from the parts that are left it would be
made anew with less than it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from schemas.batch import RowBatch
from schemas.part import Place, Standing, StoredPart
from schemas.tables import CALLS, DEAD_LETTERS, PARTS, RECEIPTS
from sinks.clickhouse import Store
from sinks.outlet import Outlet
from sinks.poison import as_letters, insert_calls
from sinks.retention import floors, kept
from sinks.writer import Writer, pico, refuse_closed

KEYS_AT_ONCE: Final = 500
"""Calls that are joined at once, which bounds the memory. Of records that were cut, one at a time is read."""

_DAY: Final = 86_400


Reads = Callable[[bytes], Sequence[bytes]]
"""Reads the sealed pieces of a record that was cut, in their order, by its key."""


class Joins(Protocol):
    """Who makes calls of parts: ``transforms.work.CallWork``."""

    def joined(self, parts: Mapping[bytes, Sequence[StoredPart]], standing: Mapping[bytes, Standing]) -> RowBatch: ...

    def recomposed(self, some: Sequence[StoredPart], read: Reads) -> RowBatch: ...

    def whole(self, some: Sequence[StoredPart]) -> bool: ...


Lends = Callable[[], AbstractContextManager[Joins]]
"""Lends what makes calls of parts, which is expensive to build and serves one at a time."""


@dataclass
class Joined:
    """What was joined: the minutes (seconds since 1970) it touched, how many calls, what they cost in pico-dollars, how many
    dead letters, and which keys wait for the rest of their parts, until when (UTC microseconds)."""

    minutes: set[int] = field(default_factory=set)
    calls: int = 0
    cost_pico: int = 0
    dead: int = 0
    waiting: dict[bytes, int] = field(default_factory=dict)


def join(store: Store, keys: Iterable[bytes], work: Joins, final: bool = False, letters: Outlet | None = None) -> Joined:
    """Write the calls of these keys, as far as they are whole; if ``final``, of all of them.

    What was written before is written again whether it is whole or not. Doing it again changes nothing.

    Raises:
        sinks.clickhouse.StoreError: the store refuses, is full or unreachable.
    """
    done = Joined()
    todo = list(dict.fromkeys(keys))
    while todo:
        some, todo = todo[:KEYS_AT_ONCE], todo[KEYS_AT_ONCE:]
        todo += _join(store, some, work, final, letters, done)
    return done


def due(store: Store) -> list[bytes]:
    """Keys of calls that are whole, or waited for long enough, and are neither written nor otherwise accounted for."""
    return [key for (key,) in store.rows(f"SELECT call_key FROM {unaccounted(store)} WHERE due ORDER BY call_key")]


def unaccounted(store: Store) -> str:
    """Keys of which there are parts, but neither a call nor a receipt that says what became of them: a subquery.

    ``due``: the call should be there by now. Of a record that was cut, there are receipts of its own once it was put together.
    """
    parts, receipts, calls = (store.table(table.name) for table in (PARTS, RECEIPTS, CALLS))
    at = "segment, position, item, record_hash"
    settled = (
        f"SELECT call_key FROM {parts} WHERE ({at}) IN (SELECT {at} FROM {receipts} FINAL"
        f" WHERE outcome != 'joined' AND (segment, position) IN (SELECT segment, position FROM {parts}))"
        f" UNION DISTINCT SELECT call_key FROM {parts} WHERE of > 0 AND (segment, position) IN"
        f" (SELECT segment, position FROM {receipts} WHERE (segment, position) IN (SELECT segment, position FROM {parts})"
        " GROUP BY segment, position HAVING uniqExact(record_hash) > 1)"
    )
    return (
        "(SELECT call_key, count() AS parts, max(deadline) AS until,"
        " (hasAll(groupUniqArray(role), arrayDistinct(arrayFlatten(groupArray(needs)))) AND"
        "  (max(of) = 0 OR uniqExact(number) >= max(of))) OR until < now64(6) AS due"
        f" FROM {parts} FINAL WHERE call_key NOT IN ({settled}) GROUP BY call_key"
        f" HAVING call_key NOT IN (SELECT call_key FROM {calls} WHERE call_key IN (SELECT call_key FROM {parts})))"
    )


def _join(
    store: Store, keys: Sequence[bytes], work: Joins, final: bool, letters: Outlet | None, done: Joined
) -> frozenset[bytes]:
    """Join some keys; keys of parts that were in records that came in pieces."""
    calls: dict[bytes, list[StoredPart]] = {}
    writer = Writer(store, letters=letters)
    standing: dict[bytes, Standing] = {}
    more = frozenset[bytes]()
    found = parts_of(store, keys)
    if found:
        standing = _standing(store, found)
    for key, some in found.items():
        if (now := standing.get(key)) is not None and now.place[1:] not in {part.place[1:] for part in some}:
            continue  # it was made of parts that are no longer there
        if not (final or key in standing or work.whole(some)):
            done.waiting[key] = max(part.deadline for part in some)
        elif any(part.of for part in some):
            record = work.recomposed(some, partial(pieces_of, store))
            done.cost_pico += record.cost_pico
            if writer.collect(record):
                more |= _flush(writer, done)
        else:
            calls[key] = some
    if calls:
        _write(store, work.joined(calls, standing), letters, done)
    return more | _flush(writer, done)


def _flush(writer: Writer, done: Joined) -> frozenset[bytes]:
    """Write records that were put together; keys of the parts that were in them."""
    flushed = writer.flush()
    if flushed is None:
        return frozenset()
    done.minutes.update(flushed.minutes)
    done.calls += flushed.calls
    done.dead += flushed.rows[DEAD_LETTERS.name]
    return flushed.keys


def _write(store: Store, batch: RowBatch, letters: Outlet | None, done: Joined) -> None:
    """Write joined calls. Of one that the store refuses, or whose minute is closed, the receipt at its place says so."""
    calls, receipts, _ = refuse_closed(
        pa.Table.from_batches([batch.calls]), pa.Table.from_batches([batch.receipts]), floors(store)["calls"]
    )
    refused = insert_calls(store, calls)
    none = calls.slice(0, 0)
    done.minutes.update(batch.minutes)
    done.calls += calls.num_rows - len(refused)
    done.cost_pico += pico(calls)
    if refused:
        done.cost_pico -= pico(calls.take([one.row for one in refused]))
        receipts, dead = as_letters(calls, receipts, refused)
    receipts = receipts.filter(pc.not_equal(receipts["outcome"], "call"))
    if not receipts.num_rows:
        return
    rest = replace(batch, calls=_one(none), receipts=_one(receipts), minutes=[])
    writer = Writer(store, letters=letters)
    writer.collect(replace(rest, dead_letters=_one(dead)) if refused else rest)
    writer.flush()
    done.dead += len(refused)


def _one(table: pa.Table) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([column.combine_chunks() for column in table.columns], schema=table.schema)


def parts_of(store: Store, keys: Sequence[bytes]) -> dict[bytes, list[StoredPart]]:
    """All parts of these calls, without the bytes of pieces."""
    rows = store.rows(
        "SELECT call_key, tenant, source, segment, position, item, record_hash, role, rank, number, of, needs, format,"
        " toUnixTimestamp64Micro(time), toUnixTimestamp64Micro(deadline), toUInt32(toDate(ingested_at, 'UTC')), call,"
        " length(data)"
        f" FROM {store.table(PARTS.name)} FINAL WHERE call_key IN ({among(keys)})"
    )
    found: dict[bytes, list[StoredPart]] = {}
    for key, tenant, source, segment, position, item, hashed, role, rank, number, of, needs, *rest in rows:
        place = Place(source, segment, position, item)
        part = StoredPart(key, tenant, place, hashed, role, rank, number, of, tuple(needs), *rest)
        found.setdefault(key, []).append(part)
    return found


def pieces_of(store: Store, key: bytes) -> list[bytes]:
    """The sealed pieces of a record that was cut, in their order. Of pieces with one number the one
    is taken that ``transforms.join.pieces`` takes."""
    rows = store.rows(
        f"SELECT hex(data) FROM {store.table(PARTS.name)} FINAL WHERE call_key IN ({among([key])}) AND of > 0 ORDER BY number,"
        " rank DESC, time DESC, segment DESC, position DESC, item DESC, record_hash DESC LIMIT 1 BY number"
    )
    return [bytes.fromhex(data) for (data,) in rows]


def _standing(store: Store, found: Mapping[bytes, Sequence[StoredPart]]) -> dict[bytes, Standing]:
    """What was written of these calls before. A call lies in the minute of one of its parts, also of one that expired: it is
    looked for as far around as parts are kept."""
    times = [int(part.told.get("event_time") or part.time) // 1_000_000 for some in found.values() for part in some]
    days = kept(store).parts
    around = (days + 1) * _DAY
    inside = f"minute BETWEEN toDateTime({max(0, min(times) - around)}, 'UTC') AND toDateTime({max(times) + around}, 'UTC')"
    rows = store.rows(
        "SELECT call_key, argMax((toUnixTimestamp64Micro(event_time), time_quality, source, segment, position, item), version)"
        f" FROM {store.table(CALLS.name)} WHERE {inside if days else 1} AND call_key IN ({among(list(found))}) GROUP BY call_key"
    )
    return {key: Standing(time, quality, Place(*place)) for key, (time, quality, *place) in rows}


def among(keys: Sequence[bytes]) -> str:
    """Keys as a subquery. One literal for all: the engine parses it in milliseconds, a list of as many takes far longer."""
    packed = b"".join(keys).hex()
    return f"SELECT toFixedString(substring(unhex('{packed}'), 1 + 16 * number, 16), 16) FROM numbers({len(keys)})"
