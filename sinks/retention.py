"""How long rows are kept, and which time is closed: of what the calls may have expired, nothing is derived any more.

A row expires with its whole UTC day, some time after the last day that is kept (``Table.ttl``). Before the engine may
drop the first row of a day, the day is closed: its minutes, hours and days stay as they are, whatever is read, repaired or
given another owner later. What was ever closed stays closed: the table ``retention`` remembers every setting there was, so
a longer one opens nothing again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from schemas.tables import RETENTION, TABLES, Table
from sinks.clickhouse import Store

MAX_DAYS: Final = 3650
"""Beyond this a time of expiry would not fit the engine's clock, which ends in 2106."""

_DAY: Final = 86_400
_AGEING: Final = {table.name: table for table in TABLES if table.ages_by}


@dataclass(frozen=True)
class Retention:
    """Days that the rows of each table are kept, after the day they belong to; 0: for good."""

    calls: int = 0
    receipts: int = 90
    dead_letters: int = 90
    minutes: int = 0
    hours: int = 0
    days: int = 0
    audit_days: int = 0
    runs: int = 400
    parts: int = 2
    call_prices: int = 0
    charges: int = 0

    def of(self, table: str) -> int:
        return int(getattr(self, table))


DEFAULTS: Final = Retention()
FIELDS: Final = tuple(_AGEING)
"""The tables whose rows may expire."""


@dataclass(frozen=True)
class Changed:
    """A table whose rows are now kept for other ``days`` than ``before``; 0: for good."""

    table: str
    before: int
    days: int


def keep(store: Store, retention: Retention) -> list[Changed]:
    """Bring the store to keep rows as long as ``retention`` says; what changed, less the defaults of a new store.

    What a shorter time closes is recorded before the engine is told, what a longer one leaves open after it, so that a
    process killed between the two has closed too much rather than too little. An embedded engine works only while a
    process uses it, so what has expired is removed here; a server does that by itself.
    """
    drop_renewed(store)
    recorded, told = _recorded(store), _told(store)
    changed = []
    for name, table in _AGEING.items():
        before, days = recorded.get(name, 0), retention.of(name)
        shorter = days != 0 and (before == 0 or days < before)
        if shorter:
            _record(store, name, days)
        if told.get(name) != (table.ttl_hours(days) if days else None):
            _tell(store, table, days)
        if before != days:
            if not shorter:
                _record(store, name, days)
            if name in recorded or days != DEFAULTS.of(name):
                changed.append(Changed(name, before, days))
        if days and store.engine_here:
            _remove_expired(store, table, days)
    return changed


def kept(store: Store) -> Retention:
    """What the store was last told."""
    recorded = _recorded(store)
    return Retention(**{name: recorded.get(name, 0) for name in _AGEING})


def floors(store: Store) -> dict[str, int]:
    """The first instant (seconds since 1970) of each table that is not closed, by the store's clock; 0: nothing is."""
    rows = store.rows(
        f"SELECT table, days, toUnixTimestamp(toDateTime(applied_at)), toUnixTimestamp(now())"
        f" FROM {store.table(RETENTION.name)} ORDER BY table, applied_at"
    )
    now = int(rows[0][3]) if rows else 0
    kept: dict[str, list[tuple[int, int]]] = {name: [] for name in _AGEING}
    for table, days, since, _ in rows:
        kept.setdefault(table, []).append((int(days), int(since)))
    return {table: floor(settings, now) for table, settings in kept.items()}


def floor(kept: Iterable[tuple[int, int]], now: int) -> int:
    """The start of the oldest UTC day of which no setting, while it held, allowed a row to expire.

    ``kept`` are days and since when (seconds since 1970), in order of time; 0 days: for good.
    """
    settings = [*kept, (0, now)]
    return max((until // _DAY - days) * _DAY if days else 0 for (days, _), (_, until) in pairwise([(0, 0), *settings]))


def closed_before(closed: Mapping[str, int], *tables: str) -> int:
    """Before which instant rows of any of these tables may be missing."""
    return max(closed.get(table, 0) for table in tables)


def _recorded(store: Store) -> dict[str, int]:
    rows = store.rows(f"SELECT table, argMax(days, applied_at) FROM {store.table(RETENTION.name)} GROUP BY table")
    return {table: int(days) for table, days in rows}


def _record(store: Store, table: str, days: int) -> None:
    store.command(f"INSERT INTO {store.table(RETENTION.name)} (table, days) VALUES ('{table}', {days})")


def _told(store: Store) -> dict[str, int | None]:
    """After how many hours the engine drops rows of each table; None: never, -1: it was told in some other way."""
    rows = store.rows(
        "SELECT name, position(engine_full, ' TTL ') > 0, extract(engine_full, 'toIntervalHour\\((\\d+)\\)')"
        " FROM system.tables WHERE database = {db:String}",
        {"db": store.database},
    )
    return {name: int(hours or -1) if drops else None for name, drops, hours in rows}


def _tell(store: Store, table: Table, days: int) -> None:
    what = f"MODIFY TTL {table.ttl(days)}" if days else "REMOVE TTL"
    # A server works through the parts that are there in the background; an embedded one has it done here.
    store.command(
        f"ALTER TABLE {store.table(table.name)} {what}", {"materialize_ttl_after_modify": int(not store.engine_here)}
    )


def _remove_expired(store: Store, table: Table, days: int) -> None:
    where = f"{table.ttl(days)} <= now()"
    if store.rows(f"SELECT count() FROM {store.table(table.name)} WHERE {where}")[0][0]:
        store.command(f"ALTER TABLE {store.table(table.name)} DELETE WHERE {where}", {"mutations_sync": 2})
        renew(store, table.name)


_RENEWED: Final = "renewed_"


def renew(store: Store, table: str) -> None:
    """Remove from disk what an embedded engine holds of a table besides its rows: replaced parts, done mutations.

    The engine in this process never does, a server does within minutes. The parts in use are linked into a new table,
    which takes the name of the old one; nothing is copied. Nobody else may write meanwhile (``pipelines.state``).
    """
    old, new = store.table(table), store.table(_RENEWED + table)
    store.command(f"DROP TABLE IF EXISTS {new} SYNC")
    store.command(f"CREATE TABLE {new} AS {old}")
    partitions = store.rows(
        "SELECT DISTINCT partition_id FROM system.parts WHERE database = {db:String} AND table = {t:String} AND active",
        {"db": store.database, "t": table},
    )
    for (partition,) in partitions:
        store.command(f"ALTER TABLE {new} ATTACH PARTITION ID '{partition}' FROM {old}")
    store.command(f"EXCHANGE TABLES {old} AND {new}")
    store.command(f"DROP TABLE {new} SYNC")


def replaced_parts(store: Store, table: str = "") -> int:
    """Parts on disk, of one table or all, with rows as they were before they were changed, merged or dropped."""
    of = " AND table = {t:String}" if table else ""
    rows = store.rows(
        f"SELECT count() FROM system.parts WHERE database = {{db:String}} AND NOT active AND rows > 0{of}",
        {"db": store.database, "t": table},
    )
    return int(rows[0][0])


def drop_renewed(store: Store) -> None:
    """Drop what a process that was killed while it renewed a table left behind."""
    rows = store.rows(
        "SELECT name FROM system.tables WHERE database = {db:String} AND startsWith(name, {p:String})",
        {"db": store.database, "p": _RENEWED},
    )
    for (name,) in rows:
        store.command(f"DROP TABLE IF EXISTS {store.table(name)} SYNC")
