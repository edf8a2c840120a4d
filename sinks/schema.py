"""Bring a store's tables to the version this software writes; refuse a store that is newer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.tables import TABLES
from sinks.clickhouse import Store, StoreError

VERSION: Final = 1
"""Version of the tables in ``schemas.tables``. A change there needs a step in ``STEPS`` and a higher version."""

STEPS: Final[dict[int, tuple[str, ...]]] = {}
"""For each version after the first, the statements that lead to it from the one before; ``{database}`` is filled in.
A new store is created from ``schemas.tables`` at once; a test proves that both ways end in the same columns."""

_VERSION_TABLE: Final = "schema_version"


@dataclass(frozen=True)
class Migrated:
    """What ``migrate`` did: the version found (None: an empty store) and the version now."""

    found: int | None
    now: int


def stored_version(store: Store) -> int | None:
    """Version of the store's tables, or None if it has none of ours."""
    exists = store.rows(
        "SELECT count() FROM system.tables WHERE database = {db:String} AND name = {t:String}",
        {"db": store.database, "t": _VERSION_TABLE},
    )
    if not exists[0][0]:
        return None
    found = store.rows(f"SELECT max(version) FROM {store.table(_VERSION_TABLE)}")[0][0]
    return int(found) or None


def migrate(store: Store) -> Migrated:
    """Create or upgrade the tables; doing it again changes nothing.

    Raises:
        StoreError: the store was written by a newer version of this software.
    """
    store.command(f"CREATE DATABASE IF NOT EXISTS `{store.database}`")
    found = stored_version(store)
    refuse_newer(store, found)
    if found is None:
        for table in TABLES:
            store.command(table.ddl(store.database))
        store.command(
            f"CREATE TABLE IF NOT EXISTS {store.table(_VERSION_TABLE)} (version UInt32, applied_at DateTime DEFAULT now())"
            " ENGINE = MergeTree ORDER BY version COMMENT 'Versions of the tables that this store has had.'"
        )
        _stamp(store, VERSION)
    else:
        for version in range(found + 1, VERSION + 1):
            for statement in STEPS[version]:
                store.command(statement.format(database=store.database))
            _stamp(store, version)
    return Migrated(found, VERSION)


def require_current(store: Store) -> None:
    """Check before reading that the store has our tables, at this version.

    Raises:
        StoreError: it has none, older or newer ones.
    """
    found = stored_version(store)
    refuse_newer(store, found)
    if found is None:
        raise StoreError(f"{store.address}: no llm-finops tables here; run `llm-finops run` or `llm-finops migrate` first")
    if found < VERSION:
        raise StoreError(f"{store.address}: tables are of version {found}, this software needs {VERSION}: run migrate")


def refuse_newer(store: Store, found: int | None) -> None:
    if found is not None and found > VERSION:
        raise StoreError(
            f"{store.address}: tables are of version {found}, newer than this software's {VERSION}; upgrade llm-finops"
        )


def _stamp(store: Store, version: int) -> None:
    store.command(f"INSERT INTO {store.table(_VERSION_TABLE)} (version) VALUES ({version})")
