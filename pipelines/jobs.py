"""From settings to what a run needs: the one place where configuration meets the layers it configures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pipelines.run import Job
from pipelines.sections import Settings
from sinks.clickhouse import Retry, StoreAddress
from sinks.schema import refuse_newer, stored_version
from sinks.steps import StoreSettings
from sources.files import FileLimits
from transforms.count import CountSettings
from transforms.decode import DecodeSettings


def store_settings(settings: Settings) -> StoreSettings:
    """How to open the store."""
    store = settings.store
    return StoreSettings(
        StoreAddress.parse(store.to),
        Retry(attempts=store.retries + 1),
        store.timeout_seconds,
        store.insert_rows,
    )


def job_of(settings: Settings, paths: Sequence[Path]) -> Job:
    """The run that the settings describe, over these files."""
    source, windows = settings.source, settings.windows
    return Job(
        paths=paths,
        store=store_settings(settings),
        limits=FileLimits(
            source.max_record_bytes,
            source.max_expansion,
            source.batch_records,
            source.batch_bytes,
            source.split_bytes,
        ),
        decode=DecodeSettings(tenant=settings.decode.tenant, keep_payloads=settings.decode.keep_payloads),
        count=CountSettings(hash_key=settings.count.key, cache_bytes=settings.count.cache_mib << 20),
        books=settings.price.books,
        default_time=int(source.default_time.timestamp() * 1_000_000) if source.default_time else None,
        early_s=windows.early_seconds,
        lateness_s=windows.late_hours * 3600,
        runner="" if settings.runner.name == "local" else settings.runner.name,
        runner_options=settings.runner.options,
    )


def probe_store(settings: Settings) -> str:
    """Open the store and say in one line what it is; nothing is written.

    Raises:
        sinks.clickhouse.StoreError: unreachable, refused, or its tables are newer than this software.
    """
    chosen = store_settings(settings)
    store = replace(chosen, retry=Retry(attempts=1)).open()
    found = stored_version(store)
    refuse_newer(store, found)
    engine = store.rows("SELECT version()")[0][0]
    tables = "no tables yet" if found is None else f"tables of version {found}"
    return f"{chosen.address}: ClickHouse {engine}, {tables}"
