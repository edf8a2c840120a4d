"""``audit_days`` of the real engine against a plain loop over the same calls, to the last digit."""

from __future__ import annotations

import random
import time
from decimal import Decimal

import pytest

from schemas.audit import AuditDay
from schemas.call import Call
from sinks import audit
from sinks.audit import HIDDEN_REASONING, audit_days, refresh
from sinks.clickhouse import Store
from sinks.forget import forget_tenant
from sinks.recompute import recompute
from sinks.retention import Retention, keep
from sinks.search import Sought
from sinks.writer import Writer
from tests.audit.loop import DAY, Billed, any_call, audited, batch, plain
from tests.sinks.samples import NOON
from transforms.count.families import family

SUMS = ("calls", "exact_calls", "over_calls", "under_calls", "reported", "counted", "difference", "absolute_difference")
MONEY = ("banded_calls", "unrated_calls", "cost", "difference_cost", "unexplained_cost")


def write(store: Store, calls: list[Billed]) -> None:
    writer = Writer(store)
    writer.add(batch(calls))
    flushed = writer.flush()
    assert flushed is not None
    recompute(store, flushed.minutes)


def in_order(rows: list[AuditDay]) -> list[AuditDay]:
    return sorted(rows, key=lambda row: row[:11])


@pytest.mark.parametrize("seed", range(2))
def test_days_equal_a_plain_loop_to_the_last_digit(store: Store, seed: int) -> None:
    rng = random.Random(seed)
    calls = [any_call(number, rng) for number in range(1, 1000)]
    write(store, calls)
    assert refresh(store) == 4
    wanted = audited(calls)
    assert in_order(audit_days(store)) == in_order(wanted)
    assert len(wanted) > 150
    assert any(row.unexplained_cost not in (0, row.difference_cost) for row in wanted)
    assert {row.category for row in wanted} == {"media", "tools", "schema", "tool history", "plain text", "text", "tool calls"}


def test_percentiles_of_many_calls_equal_the_loop(store: Store) -> None:
    rng = random.Random(7)
    calls = [plain(n, 0, max(0, 1000 + round(rng.gauss(0, 90))), 1000) for n in range(1, 2000)]
    write(store, calls)
    refresh(store)
    (row,) = audit_days(store)
    assert row == audited(calls)[0]
    assert row.difference_p5 < -100 < 100 < row.difference_p95
    assert row.ratio_p5 < 900 < 1100 < row.ratio_p95


def test_sums_over_partitions_of_the_calls_add_up(store: Store) -> None:
    rng = random.Random(11)
    calls = [any_call(number, rng) for number in range(1, 600)]
    twins = []
    for number, one in enumerate(calls):
        one.call.tenant = rng.choice("abc")
        twin = Billed(Call(), one.costs)
        twin.call.__dict__.update(one.call.__dict__, tenant="all", call_key=(10_000 + number).to_bytes(16, "big"))
        twins.append(twin)
    write(store, [*calls, *twins])
    refresh(store)
    for name in (*SUMS, *MONEY):
        whole: dict[tuple[object, ...], Decimal] = {}
        parts: dict[tuple[object, ...], Decimal] = {}
        for row in audit_days(store):
            into = whole if row.tenant == "all" else parts
            into[row[1:11]] = into.get(row[1:11], Decimal(0)) + getattr(row, name)
        assert whole == parts, name


def test_reading_again_changes_nothing_and_a_late_call_changes_its_day(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "SETTLING", 0)
    calls = [plain(n, n % 3, 100, 100) for n in range(1, 60)]
    write(store, calls)
    assert refresh(store) == 3
    before = audit_days(store)
    assert refresh(store) == 0  # nothing was written since
    write(store, calls)
    assert refresh(store) == 3
    assert audit_days(store) == before == audited(calls)
    late = plain(99, 1, 137, 100)
    write(store, [late])
    assert refresh(store, NOON + 2 * DAY) == 0  # of the last day, nothing changed
    assert refresh(store) == 1
    assert audit_days(store) == audited([*calls, late])


def test_a_day_is_derived_again_while_an_insert_may_still_be_unseen(store: Store) -> None:
    write(store, [plain(1, 0, 100, 100)])
    assert [refresh(store), refresh(store)] == [1, 1]


def test_a_call_that_becomes_another_leaves_nothing_behind(store: Store) -> None:
    first = plain(1, 0, 120, 100, model="gpt-4o-mini")
    write(store, [first])
    refresh(store)
    better = plain(1, 0, 100, 100)
    better.call.authority = 3
    write(store, [better])
    refresh(store)
    assert audit_days(store) == audited([better])


def test_statements_are_bounded_by_calls_and_whole_days(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "CALLS_PER_QUERY", 5)
    calls = [plain(n, n % 4, 100 + n, 100) for n in range(1, 25)]
    write(store, calls)
    assert refresh(store) == 4
    assert audit_days(store) == audited(calls)
    packed = list(audit._packed([(0, 2), (1, 3), (2, 9), (3, 1), (4, 4), (5, 1)]))
    assert packed == [[0, 1], [2], [3, 4], [5]]


def test_a_period_and_a_choice(store: Store) -> None:
    calls = [plain(n, n % 3, 100, 100, model=("a", "b'")[n % 2]) for n in range(1, 40)]
    write(store, calls)
    start = NOON // DAY * DAY
    assert refresh(store, start + DAY, start + 2 * DAY) == 1
    assert {(row.day - audited(calls)[0].day).days for row in audit_days(store)} == {1}
    refresh(store)
    assert len(audit_days(store)) == 6
    assert {row.model for row in audit_days(store, where={"model": ["b'", "none"]})} == {"b'"}
    assert len(audit_days(store, start + DAY, start + 2 * DAY)) == 2
    with pytest.raises(ValueError, match="not grouped by team"):
        audit_days(store, where={"team": ["x"]})


def test_what_calls_expired_of_stays_as_it_is(store: Store) -> None:
    today = int(time.time()) // DAY
    ago = {days: today - NOON // DAY - days for days in (5, 20)}
    calls = [plain(n, ago[5 if n % 2 else 20], 100, 100) for n in range(1, 30)]
    write(store, calls)
    refresh(store)
    keep(store, Retention(calls=10))
    late = [plain(90, ago[5], 130, 100), plain(91, ago[20], 130, 100)]
    write(store, late)
    assert refresh(store) == 1
    assert audit_days(store) == audited([*calls, late[0]])
    assert keep(store, Retention(calls=10, audit_days=15))
    assert audit_days(store) == audited([*(one for one in calls if one.call.event_time // 10**6 // DAY == today - 5), late[0]])


def test_a_day_that_is_closed_is_not_made_of_what_is_left(store: Store) -> None:
    calls = [plain(n, 0, 100, 100) for n in range(1, 30)]
    write(store, calls)
    refresh(store)
    store.command(f"INSERT INTO {store.table('retention')} (table, days) VALUES ('calls', 10)")
    gone = f"ALTER TABLE {store.table('calls')} DELETE WHERE position < 1000 SETTINGS mutations_sync = 2"
    store.command(gone)
    assert refresh(store) == 0
    assert audit_days(store) == audited(calls)


def test_a_clock_that_was_set_back_does_not_keep_old_rows(store: Store) -> None:
    calls = [plain(n, 0, 100, 100) for n in range(1, 30)]
    write(store, calls)
    refresh(store)
    table = store.table("audit_days")
    store.command(f"INSERT INTO {table} SELECT * REPLACE (version + 1000000 * 86400 AS version, 7 AS calls) FROM {table} FINAL")
    assert audit_days(store)[0].calls == 7
    assert refresh(store) == 1
    assert audit_days(store) == audited(calls)


def test_a_tenant_that_is_forgotten_is_in_no_row(store: Store) -> None:
    calls = [plain(n, 0, 100, 100, tenant=("acme", "globex")[n % 2]) for n in range(1, 30)]
    write(store, calls)
    refresh(store)
    forget_tenant(store, Sought("acme", whole=True), [bytes(16)], b"salt")
    left = audited([one for one in calls if one.call.tenant == "globex"])
    assert audit_days(store) == left
    refresh(store)
    assert audit_days(store) == left
    assert store.rows(f"SELECT DISTINCT tenant FROM {store.table('audit_days')}") == [("globex",)]


NAMES = (
    "gpt-4o gpt-4o-mini-2024-07-18 gpt-4 gpt-3.5-turbo-0125 chatgpt-4o-latest gpt-4.1-nano openai/gpt-4.5-preview openai/gpt-4o",
    "o1 o1-mini o1-2024-12-17 o3-mini o3 openai/o3 o4-mini-2025-04-16 gpt-5 gpt-5-mini gpt-5.2-20251211 gpt-5.4-nano gpt-5-codex",
    "codex-mini-latest openai.gpt-oss-20b-1:0 gpt-oss:120b davinci-002 text-embedding-3-small",
)


def test_models_of_hidden_reasoning_are_those_of_the_count(store: Store) -> None:
    names = " ".join(NAMES).split()
    listed = [name for name in names if store.rows(f"SELECT match('{name}', '{HIDDEN_REASONING}')") == [(1,)]]
    assert listed == [name for name in names if family(name).hidden_reasoning]
