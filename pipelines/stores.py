"""Open the store that the settings name. Nothing here needs Beam, which takes seconds to import."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from pipelines.sections import Settings
from sinks.clickhouse import Retry, Store, StoreAddress, StoreError, StoreSettings, Tls
from sinks.retention import FIELDS, Retention, kept
from sinks.schema import VERSION, refuse_newer, require_current, stored_version


def store_settings(settings: Settings) -> StoreSettings:
    """How to open the store."""
    store = settings.store
    return StoreSettings(
        StoreAddress.parse(store.to),
        Retry(attempts=store.retries + 1),
        store.timeout_seconds,
        store.insert_rows,
        store.insert_bytes,
        store.insert_seconds,
        Tls(store.ca, store.certificate, store.key),
    )


def retention_of(settings: Settings) -> Retention:
    """How long rows are kept."""
    return Retention(**settings.retention.model_dump())


def open_store(settings: Settings) -> Store:
    """Open the store to read from.

    Raises:
        sinks.clickhouse.StoreError: unreachable, refused, or without our tables of this version.
    """
    chosen = store_settings(settings)
    refuse_missing(chosen.address)
    store = chosen.open()
    require_current(store)
    return store


def refuse_missing(address: StoreAddress) -> None:
    """Refuse a folder that is not there, before the embedded engine makes an empty store of it.

    Raises:
        sinks.clickhouse.StoreError: it is not there.
    """
    if address.embedded and not Path(address.folder).is_dir():
        raise StoreError(f"{address}: no such folder; name a store that `llm-finops run` has written")


def probe_store(settings: Settings) -> str:
    """Open the store and say in one line what it is; nothing is written.

    Raises:
        sinks.clickhouse.StoreError: unreachable, refused, or its tables are newer than this software.
    """
    chosen = store_settings(settings)
    if chosen.address.embedded and not Path(chosen.address.folder).exists():
        return f"{chosen.address}: not there yet, a run makes it"
    store = replace(chosen, retry=Retry(attempts=1)).open()
    found = stored_version(store)
    refuse_newer(store, found)
    engine = store.rows("SELECT version()")[0][0]
    tables = "no tables yet" if found is None else f"tables of version {found}"
    return f"{chosen.address}: ClickHouse {engine}, {tables}" + (_kept(store, settings) if found == VERSION else "")


def _kept(store: Store, settings: Settings) -> str:
    """What is kept for how many days, and what the next run changes of that."""
    now, wanted = kept(store), retention_of(settings)
    days = [f"{table} {now.of(table)}" for table in FIELDS if now.of(table)]
    changes = [f"{table} {wanted.of(table) or 'for good'}" for table in FIELDS if wanted.of(table) != now.of(table)]
    line = f"; days kept: {', '.join(days)}, all else for good" if days else "; all kept for good"
    return line + (f" (from the next run on: {', '.join(changes)})" if changes else "")
