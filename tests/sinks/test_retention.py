"""How long rows are kept, and that what is closed stays as it was: against a plain loop over the clock, and the engine."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from pipelines.owners import apply
from schemas.batch import DeadLetter
from schemas.call import Call
from schemas.tables import TABLES
from sinks.clickhouse import Store
from sinks.recompute import recompute
from sinks.reconcile import ledger, reconcile, repair
from sinks.retag import spans
from sinks.retention import Changed, Retention, floor, floors, keep
from sinks.writer import Flushed, Writer
from tests.own.samples import rules_from
from tests.pipelines.jobs import holds
from tests.sinks.samples import batch, call

DAY = 86_400
HOUR = 3600
TODAY = int(time.time()) // DAY * DAY


def closed_by_a_loop(kept: Sequence[tuple[int, int]], day: int, now: int) -> bool:
    """Whether at some full hour until now a setting that held allowed the rows of ``day`` to expire an hour later."""
    for number, (days, since) in enumerate(kept):
        until = kept[number + 1][1] if number + 1 < len(kept) else now
        if days and any(at >= day + (days + 1) * DAY for at in range(since, until + 1, HOUR)):
            return True
    return False


def test_the_floor_is_that_of_a_plain_loop_over_the_clock() -> None:
    rng = random.Random(1)
    for _ in range(100):
        start = 20_000 * DAY
        times = sorted(rng.sample(range(start, start + 40 * DAY, HOUR), rng.randrange(1, 5)))
        kept = [(rng.choice((0, 1, 3, 10, 30)), at) for at in times]
        now = times[-1] + rng.randrange(20 * DAY) // HOUR * HOUR
        wanted = [day for day in range(start - 40 * DAY, now + 1, DAY) if not closed_by_a_loop(kept, day, now)]
        found = floor(kept, now)
        assert [day for day in range(start - 40 * DAY, now + 1, DAY) if day >= found] == wanted, (kept, now)


def write(store: Store, *batches: Any) -> Flushed:
    writer = Writer(store)
    for one in batches:
        writer.add(one)
    flushed = writer.flush()
    assert flushed is not None
    recompute(store, flushed.minutes)
    return flushed


def daily(days: Sequence[int]) -> list[Call]:
    """Two calls each, at the first and the last second of days that many days ago."""
    return [
        call(2 * n + last, TODAY - ago * DAY + last * (DAY - 60), team="search") for n, ago in enumerate(days) for last in (0, 1)
    ]


def sums(store: Store) -> list[Any]:
    return [
        store.rows(f"SELECT * EXCEPT (version, duration_ms) FROM {store.table(name)} FINAL WHERE calls != 0 ORDER BY ALL")
        for name in ("minutes", "hours", "days")
    ]


def of_calls(store: Store) -> list[int]:
    """Of how many days ago there are calls."""
    return [int(day) for (day,) in store.rows(f"SELECT DISTINCT ({TODAY} - toUInt32(toStartOfDay(minute))) / {DAY} AS ago"
                                              f" FROM {store.table('calls')} ORDER BY ago")]  # fmt: skip


def test_calls_expire_and_nothing_that_was_made_of_them_changes(store: Store) -> None:
    calls = daily([1, 5, 9, 10, 11, 12, 40])
    write(store, batch(calls, [10**9 + n for n in range(len(calls))]))
    before = sums(store)
    assert keep(store, Retention(calls=10)) == [Changed("calls", 0, 10)]
    kept = of_calls(store)
    assert kept[:4] == [1, 5, 9, 10]
    assert set(kept) <= {1, 5, 9, 10, 11}  # eleven days ago: from one o'clock on
    assert floors(store)["calls"] == TODAY - 10 * DAY
    assert sums(store) == before
    holds(store)
    assert keep(store, Retention(calls=10)) == []
    every = sorted({one.event_time // 60_000_000 * 60 for one in calls})
    assert recompute(store, every) == 8  # the minutes of the four days that are open
    assert repair(store) == 0
    assert sums(store) == before
    apply(store, rules_from([{"name": "r", "when": {}, "team": "ads", "override": True}]), spans(store))
    days = f"SELECT ({TODAY} - toUInt32(day)) / {DAY}, team FROM {store.table('days')} FINAL WHERE calls != 0"
    owned = dict(store.rows(days))
    assert owned == {1: "ads", 5: "ads", 9: "ads", 10: "ads", 11: "search", 12: "search", 40: "search"}
    assert [sum(row[-1] for row in store.rows(f"SELECT cost FROM {store.table('days')} FINAL"))] == [
        Decimal(sum(10**9 + n for n in range(14))).scaleb(-12)
    ]
    holds(store)


def test_a_late_call_of_closed_time_is_accounted_for_and_changes_nothing(store: Store) -> None:
    keep(store, Retention(calls=10))
    flushed = write(store, batch(daily([5, 20]), [3, 4, 5, 6]))
    assert (flushed.calls, flushed.expired, flushed.expired_pico) == (2, 2, 11)
    assert of_calls(store) == [5]
    assert ledger(store) == {"records": 4, "items": 4, "call": 2, "duplicate": 0, "dead_letter": 0, "ignored": 2}
    reasons = store.rows(f"SELECT outcome, reason, position FROM {store.table('receipts')} FINAL ORDER BY position")
    assert reasons == [("call", "", 0), ("call", "", 100), ("ignored", "expired", 200), ("ignored", "expired", 300)]
    assert len(sums(store)[0]) == 2
    holds(store)


def test_calls_that_were_counted_and_expired_are_not_counted_again(store: Store) -> None:
    calls = daily([5, 20])
    write(store, batch(calls))
    before = sums(store)
    keep(store, Retention(calls=10))
    write(store, batch(calls))
    assert sums(store) == before
    holds(store)


def test_a_longer_time_opens_nothing_again(store: Store) -> None:
    calls = daily([5, 20])
    write(store, batch(calls))
    before = sums(store)
    keep(store, Retention(calls=10))
    assert keep(store, Retention()) == [Changed("calls", 10, 0)]
    assert floors(store)["calls"] == TODAY - 10 * DAY
    assert ttl(store, "calls") == ""
    write(store, batch(daily([5, 20, 30])))
    assert of_calls(store) == [5]
    assert sums(store) == before
    holds(store)


def test_rollups_expire_from_below(store: Store) -> None:
    calls = daily([1, 20, 50, 80])
    write(store, batch(calls))
    keep(store, Retention(calls=10, minutes=30, hours=60, days=0))
    held = [
        store.rows(f"SELECT DISTINCT ({TODAY} - toUInt32(toStartOfDay({time}))) / {DAY} AS ago FROM {store.table(name)} ORDER BY ago")
        for name, time in (("minutes", "minute"), ("hours", "hour"), ("days", "day"))
    ]
    assert held == [[(1,), (20,)], [(1,), (20,), (50,)], [(1,), (20,), (50,), (80,)]]
    recompute(store, [one.event_time // 60_000_000 * 60 for one in calls])
    assert sum(n for (n,) in store.rows(f"SELECT calls FROM {store.table('days')} FINAL")) == 8
    holds(store)


def ttl(store: Store, table: str) -> str:
    rows = store.rows(
        "SELECT extract(engine_full, ' TTL (.*) SETTINGS') FROM system.tables WHERE database = {db:String} AND name = {t:String}",
        {"db": store.database, "t": table},
    )
    return str(rows[0][0])


def test_a_process_killed_between_record_and_engine_is_mended(store: Store) -> None:
    keep(store, Retention(calls=10))
    told = ttl(store, "calls")
    store.command(f"INSERT INTO {store.table('retention')} (table, days) VALUES ('calls', 5)")
    keep(store, Retention(calls=5))  # recorded, but the engine was not told
    assert ttl(store, "calls") != told
    store.command(f"ALTER TABLE {store.table('calls')} MODIFY TTL minute + INTERVAL 3 DAY")  # by hand
    keep(store, Retention(calls=5))
    assert "toIntervalHour(145)" in ttl(store, "calls")


def aged(store: Store, days: int) -> None:
    """As if everything had been written so many days ago."""
    for name in ("calls", "receipts", "segments", "dead_letters"):
        table, old = store.table(name), store.table(f"{name}_old")
        store.command(f"CREATE TABLE {old} AS {table}")
        past = f"ingested_at - INTERVAL {days} DAY AS ingested_at"
        store.command(f"INSERT INTO {old} SELECT * REPLACE ({past}) FROM {table}")
        store.command(f"EXCHANGE TABLES {table} AND {old}")
        store.command(f"DROP TABLE {old} SYNC")


def test_receipts_and_dead_letters_expire_and_the_rest_is_still_proved(store: Store) -> None:
    dead = [DeadLetter(5000, 0, "not_json", "cut", "", 12, 77, None)]
    calls = daily([200, 3])
    write(store, batch(calls, dead=dead))
    aged(store, 100)
    keep(store, Retention(receipts=30, dead_letters=60))
    assert store.rows(f"SELECT count() FROM {store.table('receipts')}") == [(0,)]
    assert store.rows(f"SELECT count() FROM {store.table('dead_letters')}") == [(0,)]
    holds(store)
    apply(store, rules_from([{"name": "r", "when": {}, "team": "ads", "override": True}]), spans(store))
    holds(store)  # the rows are of today, their receipts are long gone
    write(store, batch(calls, dead=dead))  # the same log once more
    holds(store)
    store.command(f"ALTER TABLE {store.table('receipts')} DELETE WHERE position = 100 SETTINGS mutations_sync = 2")
    assert {c.name for c in reconcile(store).checks if not c.holds} == {"records = receipts", "calls = receipts"}


def test_dead_letters_may_expire_before_their_receipts(store: Store) -> None:
    write(store, batch(daily([3]), dead=[DeadLetter(5000, 0, "not_json", "cut", "", 12, 77, None)]))
    aged(store, 20)
    keep(store, Retention(receipts=30, dead_letters=10))
    assert store.rows(f"SELECT count() FROM {store.table('dead_letters')}") == [(0,)]
    assert ledger(store)["dead_letter"] == 1
    holds(store)


def test_a_redelivered_call_without_a_time_expires_with_its_receipts(store: Store) -> None:
    def undated(ago: int, position: int) -> Call:
        return call(1, TODAY - ago * DAY, time_quality="transport", position=position)

    write(store, batch([undated(20, 100)]))
    write(store, batch([undated(100, 100), undated(2, 900), undated(3, 950)]))
    minutes = store.rows(f"SELECT DISTINCT toUInt32(minute) FROM {store.table('receipts')} FINAL")
    assert minutes == [(TODAY - 20 * DAY,)]
    holds(store)
    keep(store, Retention(calls=10))
    assert of_calls(store) == []
    holds(store)


def test_every_table_that_ages_has_a_setting() -> None:
    assert {table.name for table in TABLES if table.ages_by} == set(Retention.__dataclass_fields__)


@pytest.mark.parametrize("days", [1, 3650])
def test_the_engine_drops_exactly_what_the_record_closes(store: Store, days: int) -> None:
    """A row of the last open day is kept, whatever the setting; so no expiry wraps around the engine's clock."""
    calls = [call(1, TODAY - min(days, 4000) * DAY), call(2, TODAY + DAY - 60)]
    write(store, batch(calls))
    keep(store, Retention(calls=days))
    assert store.rows(f"SELECT count() FROM {store.table('calls')}") == [(2,)]
    store.command(f"OPTIMIZE TABLE {store.table('calls')} FINAL")
    assert store.rows(f"SELECT count() FROM {store.table('calls')}") == [(2,)]
