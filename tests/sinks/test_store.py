"""The writer, the recompute step and reconcile on the real engine, against plain-Python sums."""

from __future__ import annotations

import random
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest

from schemas.batch import DeadLetter, Ignored
from schemas.call import Call
from schemas.tables import TABLES
from sinks.clickhouse import Store, StoreAddress, StoreError, connect
from sinks.recompute import recompute
from sinks.reconcile import ledger, reconcile, repair
from sinks.schema import STEPS, VERSION, migrate, require_current
from sinks.writer import Writer
from tests.sinks.samples import NOON, batch, call

TEAMS = ("search", "support", "research")


def write(store: Store, *batches: Any) -> list[int]:
    writer = Writer(store)
    for one in batches:
        assert writer.add(one) is None
    flushed = writer.flush()
    assert flushed is not None
    recompute(store, flushed.minutes)
    return flushed.minutes


def minute_sums(store: Store, table: str = "minutes", time: str = "minute") -> dict[tuple[Any, ...], tuple[Any, ...]]:
    rows = store.rows(
        f"SELECT toUInt32({time}), team, calls, input_fresh, output_visible, cost FROM {store.table(table)} FINAL"
        " WHERE calls != 0"
    )
    return {row[:2]: row[2:] for row in rows}


def plain_sums(calls: list[Call], costs: list[int | None], seconds: int = 60) -> dict[tuple[Any, ...], tuple[Any, ...]]:
    sums: dict[tuple[Any, ...], list[Any]] = defaultdict(lambda: [0, 0, 0, Decimal(0)])
    for one, cost in zip(calls, costs, strict=True):
        entry = sums[one.event_time // 1_000_000 // seconds * seconds, one.team]
        entry[0] += 1
        entry[1] += one.input_fresh or 0
        entry[2] += one.output_visible or 0
        entry[3] += Decimal(cost or 0) / 10**12
    return {key: tuple(entry) for key, entry in sums.items()}


def traffic(seed: int, count: int) -> tuple[list[Call], list[int | None]]:
    rng = random.Random(seed)
    calls = [
        call(
            n,
            NOON + rng.randrange(-90_000, 90_000, 60),
            team=rng.choice(TEAMS),
            input_fresh=rng.choice((None, rng.randrange(10**6))),
            output_visible=rng.randrange(10**5),
        )
        for n in range(count)
    ]
    return calls, [rng.randrange(9 * 10**17) for _ in calls]


def test_minutes_hours_and_days_equal_a_plain_loop(store: Store) -> None:
    calls, costs = traffic(1, 3000)
    write(store, batch(calls, costs))
    assert minute_sums(store) == plain_sums(calls, costs)
    assert minute_sums(store, "hours", "hour") == plain_sums(calls, costs, 3600)
    assert minute_sums(store, "days", "day") == plain_sums(calls, costs, 86_400)
    proof = reconcile(store)
    assert proof.holds, [c for c in proof.checks if not c.holds]
    assert proof.ledger["call"] == 3000


def test_sums_beyond_int64_stay_exact(store: Store) -> None:
    huge = 999_999_999_999_999_999  # the most a single call can cost: a pico-dollar under $1 M
    calls = [call(n, team="search") for n in range(5)]
    write(store, batch(calls, [huge] * 5))
    write(store, batch([call(n, team="search") for n in range(5, 30)], [huge] * 25))
    assert minute_sums(store)[NOON, "search"][3] == Decimal(huge * 30) / 10**12


def test_order_and_repetition_change_nothing(store: Store, engine: Any) -> None:
    calls, costs = traffic(2, 400)
    parts = [batch(calls[n : n + 50], costs[n : n + 50], end=False) for n in range(0, 400, 50)]
    write(store, *parts)
    once = minute_sums(store)
    shuffled = parts * 2
    random.Random(3).shuffle(shuffled)
    for part in shuffled:
        write(store, part)
    assert minute_sums(store) == once == plain_sums(calls, costs)
    assert ledger(store)["call"] == 400
    assert ledger(store)["duplicate"] == 0  # the same positions: the same receipts


def test_a_vanished_key_leaves_zeros_not_stale_rows(store: Store) -> None:
    one = call(1, team="search")
    write(store, batch([one]))
    moved = call(1, team="support")  # the same call, now with another owner
    write(store, batch([moved]))
    assert set(minute_sums(store)) == {(NOON, "support")}
    assert reconcile(store).holds


def test_unpriced_is_not_zero(store: Store) -> None:
    write(store, batch([call(1), call(2)], [None, 5]))
    rows = store.rows(f"SELECT price_status, cost FROM {store.table('calls')} FINAL ORDER BY call_key")
    assert rows == [("unpriced", None), ("priced", Decimal("0.000000000005"))]


def test_undated_calls_keep_the_minute_of_their_first_sight(store: Store) -> None:
    first = call(1, NOON, time_quality="transport")
    write(store, batch([first]))
    again = call(1, NOON + 7200, time_quality="transport", position=900)
    write(store, batch([again, call(1, NOON + 9000, time_quality="transport", position=1000)]))
    assert {key[0] for key in minute_sums(store)} == {NOON}
    assert ledger(store)["duplicate"] == 2
    checks = {c.name: c.holds for c in reconcile(store).checks}
    assert checks["one minute per call"]
    assert checks["calls = minutes"]


def test_reconcile_finds_and_repair_mends_stale_minutes(store: Store) -> None:
    calls, costs = traffic(4, 200)
    write(store, batch(calls, costs))
    late = call(900, NOON + 120, team="late", input_fresh=7)
    writer = Writer(store)
    writer.add(batch([late], end=False))
    writer.flush()  # inserted, but the crash came before its minute was recomputed
    proof = reconcile(store)
    stale = {c.name: c for c in proof.checks if not c.holds}
    assert "calls = minutes" in stale
    assert stale["calls = minutes"].examples[0]["team"] == "late"
    assert proof.dirty == [NOON + 120]
    assert repair(store) >= 1
    assert {c.name for c in reconcile(store).checks if not c.holds} <= {"segments are finished"}


def test_repair_mends_hours_and_days_that_were_lost(store: Store) -> None:
    calls, costs = traffic(5, 100)
    write(store, batch(calls, costs))
    store.command(f"TRUNCATE TABLE {store.table('days')}")
    assert not reconcile(store).holds
    repair(store)
    assert reconcile(store).holds
    assert minute_sums(store, "days", "day") == plain_sums(calls, costs, 86_400)


def test_ledger_counts_every_outcome(store: Store) -> None:
    dead = [DeadLetter(5000, 0, "not_json", "cut", "", 12, 77, None)]
    ignored = [Ignored(6000, 0, "blank", 78)]
    twice = [call(1), call(1, position=300)]
    write(store, batch(twice, dead=dead, ignored=ignored))
    assert ledger(store) == {"records": 4, "items": 4, "call": 1, "duplicate": 1, "dead_letter": 1, "ignored": 1}
    assert reconcile(store).holds


@pytest.mark.parametrize(
    ("table", "law"),
    [
        ("receipts", "records = receipts"),
        ("calls", "receipts = calls"),
        ("dead_letters", "dead letters kept"),
        ("segments", "segments are finished"),
    ],
)
def test_reconcile_sees_a_lost_table(store: Store, table: str, law: str) -> None:
    write(store, batch([call(1), call(2)], dead=[DeadLetter(5000, 0, "not_json", "cut", "", 12, 77, None)]))
    assert reconcile(store).holds
    store.command(f"TRUNCATE TABLE {store.table(table)}")
    assert law in {c.name for c in reconcile(store).checks if not c.holds}


def test_reconcile_sees_money_that_does_not_add_up(store: Store) -> None:
    write(store, batch([call(1)]))
    store.command(
        f"INSERT INTO {store.table('calls')} SELECT * REPLACE (cost + 1 AS cost, version + 1 AS version)"
        f" FROM {store.table('calls')} FINAL"
    )
    assert "cost = sum of its parts" in {c.name for c in reconcile(store).checks if not c.holds}


def test_overlapping_ranges_of_one_segment_are_each_proved(store: Store) -> None:
    write(store, batch([call(n) for n in range(10)]))
    store.command(
        f"INSERT INTO {store.table('segments')} (source, segment, start, end, records, bytes, default_time)"
        f" SELECT 'copy', segment, 300, 700, 4, 400, default_time FROM {store.table('segments')} FINAL"
    )
    assert reconcile(store).holds
    store.command(
        f"INSERT INTO {store.table('segments')} (source, segment, start, end, records, bytes, default_time)"
        f" SELECT 'copy', segment, 300, 800, 4, 400, default_time FROM {store.table('segments')} FINAL WHERE source = 'copy'"
    )
    wrong = [c for c in reconcile(store).checks if not c.holds]
    assert [c.name for c in wrong] == ["records = receipts"]
    assert wrong[0].examples[0]["receipts"] == 5


def test_tables_have_the_documented_columns(store: Store) -> None:
    for table in TABLES:
        rows = store.rows(
            "SELECT name, type, comment FROM system.columns WHERE database = {db:String} AND table = {t:String}"
            " ORDER BY position",
            {"db": store.database, "t": table.name},
        )
        assert [(c.name, c.type, c.doc) for c in table.columns] == rows


def test_migrate_is_idempotent_and_refuses_a_newer_store(store: Store) -> None:
    assert migrate(store).found == VERSION
    assert set(STEPS) == set(range(2, VERSION + 1))
    require_current(store)
    store.command(f"INSERT INTO {store.table('schema_version')} (version) VALUES ({VERSION + 1})")
    with pytest.raises(StoreError, match="newer than this software"):
        migrate(store)
    with pytest.raises(StoreError, match="newer than this software"):
        require_current(store)


def test_reading_an_empty_store_says_what_to_do(address: StoreAddress) -> None:
    with pytest.raises(StoreError, match="no llm-finops tables here"):
        require_current(connect(address))
