"""A store of version 1 with rows becomes one of this version: the columns of a new store, and no figure lost."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from schemas.tables import TABLES
from sinks.clickhouse import Store, StoreAddress, connect
from sinks.recompute import recompute
from sinks.reconcile import reconcile
from sinks.retention import DEFAULTS, Retention, floors, keep
from sinks.schema import STEPS, VERSION, migrate, require_current, stored_version
from tests.pipelines.jobs import holds

VERSION_1 = Path(__file__).with_name("version_1.sql").read_text(encoding="utf-8")
NOON = 1_748_779_200  # 2025-06-01 12:00 UTC

# number, minute, team, app, pico-dollars
CALLS = [
    (1, NOON, "search", "chat", 5),
    (2, NOON, "", "chat", 7),
    (3, NOON, "", "", 11),
    (4, NOON + 60, "", "chat", 13),
    (5, NOON + 86_400, "support", "", 999_999_999_999_999_999),
]
_ROLLUPS = (("minutes", "minute", 60, "toUnixTimestamp(minute)"), ("hours", "hour", 3600, ""), ("days", "day", 86_400, ""))


def version_1(address: StoreAddress) -> Store:
    """A store as the software of version 1 left it, with rows in calls and its rollups."""
    store = connect(address)
    store.command(f"CREATE DATABASE `{address.database}`")
    for statement in VERSION_1.split(";\n"):
        if statement.strip():
            store.command(statement.replace("{database}", address.database))
    for number, minute, team, app, cost in CALLS:
        store.command(
            f"INSERT INTO {store.table('calls')} (minute, tenant, call_key, event_time, team, app, provider, model, cost,"
            f" cost_input, price_status, price_run, tags) SELECT toDateTime({minute}, 'UTC'), 'acme', toFixedString('{number}', 16),"
            f" toDateTime64({minute}, 6, 'UTC'), '{team}', '{app}', 'openai', 'gpt-4o', {money(cost)}, {money(cost)}, 'priced', 1,"
            " map('a', 'b')"
        )
        store.command(
            f"INSERT INTO {store.table('receipts')} (segment, position, outcome, call_key)"
            f" SELECT toFixedString('s', 16), {number}, 'call', toFixedString('{number}', 16)"
        )
        store.command(
            f"INSERT INTO {store.table('segments')} (source, segment, start, end, records)"
            f" SELECT 'a', toFixedString('s', 16), {number}, {number + 1}, 1"
        )
    for table, time, seconds, _ in _ROLLUPS:
        sums: dict[tuple[int, str, str], list[int]] = {}
        for _, minute, team, app, cost in CALLS:
            entry = sums.setdefault((minute // seconds * seconds, team, app), [0, 0])
            entry[0] += 1
            entry[1] += cost
        for (start, team, app), (calls, cost) in sums.items():
            store.command(
                f"INSERT INTO {store.table(table)} ({time}, tenant, team, app, provider, model, status, price_status, price_run,"
                f" calls, cost, cost_input, version) SELECT toDateTime({start}, 'UTC'), 'acme', '{team}', '{app}', 'openai',"
                f" 'gpt-4o', '', 'priced', 1, {calls}, {money(cost)}, {money(cost)}, 1"
            )
    return store


def money(pico: int) -> str:
    return f"toDecimal64('{Decimal(pico).scaleb(-12):f}', 12)"


def columns(store: Store, table: str) -> list[tuple[Any, ...]]:
    return store.rows(
        "SELECT name, type, default_kind, default_expression, comment FROM system.columns"
        " WHERE database = {db:String} AND table = {t:String} ORDER BY position",
        {"db": store.database, "t": table},
    )


@pytest.fixture
def migrated(address: StoreAddress) -> Store:
    store = version_1(address)
    assert stored_version(store) == 1
    assert migrate(store).found == 1
    return store


def test_both_ways_end_in_the_same_tables(migrated: Store, address: StoreAddress) -> None:
    require_current(migrated)
    new = connect(StoreAddress(address.folder, database=address.database + "n"))
    migrate(new)
    for table in TABLES:
        assert columns(migrated, table.name) == columns(new, table.name), table.name
        keys = [
            store.rows(
                "SELECT sorting_key, partition_key, engine FROM system.tables WHERE database = {db:String} AND name = {t:String}",
                {"db": store.database, "t": table.name},
            )
            for store in (migrated, new)
        ]
        assert keys[0] == keys[1]
    new.command(f"DROP DATABASE `{new.database}`")


def test_both_ways_keep_rows_as_long_and_a_longer_time_does_not_reopen_the_past(migrated: Store, address: StoreAddress) -> None:
    was = floors(migrated)["receipts"]
    assert was == int(datetime.now(UTC).timestamp()) // 86_400 * 86_400 - 90 * 86_400  # what version 1 kept
    keep(migrated, Retention(receipts=365))
    assert floors(migrated)["receipts"] == was
    keep(migrated, DEFAULTS)
    new = connect(StoreAddress(address.folder, database=address.database + "n"))
    migrate(new)
    keep(new, DEFAULTS)
    ways = [
        store.rows("SELECT name, engine_full FROM system.tables WHERE database = {db:String} ORDER BY 1", {"db": store.database})
        for store in (migrated, new)
    ]
    new.command(f"DROP DATABASE `{new.database}`")
    assert [row for row in ways[0] if "TTL" in row[1]] == [row for row in ways[1] if "TTL" in row[1]]
    assert {name for name, engine in ways[1] if "TTL" in engine} == {"receipts", "dead_letters", "runs", "parts"}
    holds(migrated)


def check(store: Store) -> None:
    rows = store.rows(
        "SELECT toUInt32(toString(call_key)), toUInt32(minute), team, recorded_team, app, recorded_app, cost, tags, project,"
        f" owner_rule FROM {store.table('calls')} FINAL ORDER BY call_key"
    )
    assert rows == [
        (number, minute, team or "unallocated", team, app, app, Decimal(cost).scaleb(-12), {"a": "b"}, "", "")
        for number, minute, team, app, cost in CALLS
    ]
    for table, time, seconds, _ in _ROLLUPS:
        found = store.rows(
            f"SELECT toUInt32({time}), team, app, cost_center, calls, cost FROM {store.table(table)} FINAL"
            " WHERE calls != 0 ORDER BY ALL"
        )
        wanted: dict[tuple[int, str, str, str], list[Any]] = {}
        for _, minute, team, app, cost in CALLS:
            entry = wanted.setdefault((minute // seconds * seconds, team or "unallocated", app, ""), [0, Decimal(0)])
            entry[0] += 1
            entry[1] += Decimal(cost).scaleb(-12)
        assert found == sorted((*key, *sums) for key, sums in wanted.items()), table


def test_rows_keep_every_figure_and_what_nobody_claims_is_unallocated(migrated: Store) -> None:
    check(migrated)
    assert reconcile(migrated).holds
    recompute(migrated, [minute for _, minute, *_ in CALLS])
    check(migrated)


def test_a_migration_that_was_killed_is_finished_by_the_next(migrated: Store) -> None:
    migrated.command(f"ALTER TABLE {migrated.table('schema_version')} DELETE WHERE version > 1 SETTINGS mutations_sync = 2")
    assert stored_version(migrated) == 1  # every statement was done but the stamp
    assert migrate(migrated).found == 1
    assert stored_version(migrated) == VERSION
    check(migrated)
    assert reconcile(migrated).holds


@pytest.mark.parametrize("share", [0.2, 0.45, 0.6, 0.7, 0.8, 0.9])
def test_a_migration_killed_between_two_statements_is_finished_by_the_next(address: StoreAddress, share: float) -> None:
    store = version_1(address)
    for statement in STEPS[2][: int(len(STEPS[2]) * share)]:
        store.command(statement.format(database=address.database))
    assert migrate(store).found == 1
    check(store)
    assert reconcile(store).holds
