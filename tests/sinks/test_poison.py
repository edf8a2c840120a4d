"""Rows that the store refuses, on the real engine and by a store that counts: the others go in, and the ledger stays whole."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.batch import DeadLetter
from schemas.tables import CALLS
from sinks.clickhouse import Store, StoreError, StoreRefused
from sinks.dead_letters import pages
from sinks.poison import MOST, REASON, insert_calls
from sinks.reconcile import ledger, reconcile
from sinks.writer import Writer
from tests.sinks.samples import NOON, batch, call
from tests.sinks.test_store import write


class Choosy:
    """A store that refuses blocks with one of some calls in it, as ClickHouse does: whole."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = {number.to_bytes(16, "big") for number in bad}
        self.rows: list[bytes] = []
        self.tries = 0

    def insert(self, table: str, rows: pa.Table) -> None:
        self.tries += 1
        keys = rows["call_key"].to_pylist()
        if found := self.bad.intersection(keys):
            raise StoreRefused(f"no {min(found).hex()}")
        self.rows += keys


@given(st.integers(1, 300), st.sets(st.integers(0, 299), max_size=8))
def test_all_others_go_in_once_and_few_inserts_are_needed(size: int, bad: set[int]) -> None:
    bad = {number for number in bad if number < size}
    calls = pa.Table.from_batches([batch([call(number) for number in range(size)]).calls])
    store = Choosy(bad)
    refused = insert_calls(store, calls)  # type: ignore[arg-type]
    assert [one.row for one in refused] == sorted(bad)
    assert store.rows == [number.to_bytes(16, "big") for number in range(size) if number not in bad]
    assert store.tries <= 1 + 2 * len(bad) * (math.ceil(math.log2(size)) + 1 if size > 1 else 1)


def test_where_most_rows_are_refused_it_is_not_the_rows() -> None:
    calls = pa.Table.from_batches([batch([call(number) for number in range(3 * MOST)]).calls])
    store = Choosy(set(range(3 * MOST)))
    with pytest.raises(StoreError, match="rows of one block are refused already"):
        insert_calls(store, calls)  # type: ignore[arg-type]
    assert store.tries < 3 * MOST


@pytest.fixture
def constrained(store: Store) -> Iterator[Store]:
    store.command(f"ALTER TABLE {store.table('calls')} ADD CONSTRAINT known CHECK team != 'nobody'")
    yield store
    store.command(f"ALTER TABLE {store.table('calls')} DROP CONSTRAINT known")


def test_a_refused_call_is_a_dead_letter_in_the_stores_words(constrained: Store) -> None:
    store = constrained
    calls = [call(number, NOON + 60 * (number % 3), team="nobody" if number in (7, 40) else "search") for number in range(60)]
    letter = DeadLetter(6050, 0, "not_json", "…", "", 3, 9)
    write(store, batch(calls, dead=[letter]))
    assert {check.name for check in reconcile(store).checks if not check.holds} == set()
    known = ledger(store)
    assert (known["call"], known["dead_letter"], known["records"]) == (58, 3, 61)
    found = [one for page in pages(store, [REASON]) for one in page]
    assert [(one.record.position, one.reason, one.source) for one in found] == [
        (700, REASON, "calls.jsonl"),
        (4000, REASON, "calls.jsonl"),
    ]
    assert all("known" in one.error and "violated" in one.error for one in found)
    teams = store.rows(f"SELECT team, toUInt64(sum(calls)) FROM {store.table('minutes')} FINAL GROUP BY team")
    assert teams == [("search", 58)]
    write(store, batch(calls, dead=[letter]))  # the same again changes nothing
    assert ledger(store) == known


def test_what_is_written_tells_of_them(constrained: Store) -> None:
    writer = Writer(constrained)
    writer.add(batch([call(number, team="nobody" if number == 1 else "search") for number in range(4)], [5, 7, 11, 13]))
    flushed = writer.flush()
    assert flushed is not None
    assert (flushed.calls, flushed.refused, flushed.refused_pico) == (3, 1, 7)


def test_other_refusals_are_not_halved(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Any] = []

    def readonly(self: Store, table: str, rows: pa.Table) -> None:
        tries.append(table)
        raise StoreError("the user may not write")

    monkeypatch.setattr(Store, "insert", readonly)
    with pytest.raises(StoreError, match="may not write"):
        write(store, batch([call(number) for number in range(10)]))
    assert tries == [CALLS.name]
