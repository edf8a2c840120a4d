"""The terms that a store knows: which content holds for calls from which event time on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import pyarrow as pa

from schemas.tables import TERMS
from sinks.clickhouse import Store

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Announced(NamedTuple):
    """Terms by the hash of their content, and the event time from which they hold, in UTC microseconds. 0: for all time."""

    since: int
    fingerprint: str


def announce(store: Store, terms: Announced, content: str) -> None:
    """Record from when a content holds; of several for one event time the last stands."""
    since = _EPOCH + timedelta(microseconds=terms.since)
    row = {"since": since, "fingerprint": terms.fingerprint, "content": content}
    store.insert(TERMS.name, pa.Table.from_pylist([row], TERMS.arrow))


def announced(store: Store) -> tuple[Announced, ...]:
    """All there are, in order of event time."""
    sql = f"SELECT toUnixTimestamp64Micro(since), fingerprint FROM {store.table(TERMS.name)} FINAL ORDER BY since"
    return tuple(Announced(int(since), fingerprint) for since, fingerprint in store.rows(sql))


def content(store: Store, fingerprint: str) -> str:
    """The content of a fingerprint that was announced."""
    sql = f"SELECT any(content) FROM {store.table(TERMS.name)} WHERE fingerprint = {{f:String}}"
    return str(store.rows(sql, {"f": fingerprint})[0][0])


def clock(store: Store) -> int:
    """The store's clock, in UTC microseconds: all who announce and look use this one."""
    return int(store.rows("SELECT toUnixTimestamp64Micro(now64(6))")[0][0])
