"""Running the job in tests, and what must hold afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipelines.job import Job
from pipelines.run import run
from sinks.clickhouse import Store, StoreAddress, StoreSettings
from sinks.reconcile import reconcile


def go(address: StoreAddress, *paths: Path, **settings: Any) -> Any:
    return run(Job(paths, StoreSettings(address), **settings))


def holds(store: Store) -> None:
    failed = {c.name: c.examples[:3] for c in reconcile(store).checks if not c.holds}
    assert failed == {}


def totals(store: Store) -> dict[str, Any]:
    """Everything that must not change when the same input is read again (a sum of floats may, in its last bit)."""
    minutes = store.rows(
        f"SELECT * EXCEPT (version, duration_ms) FROM {store.table('minutes')} FINAL WHERE calls != 0 ORDER BY ALL"
    )
    return {"minutes": minutes, "calls": store.rows(f"SELECT count(), sum(cost) FROM {store.table('calls')} FINAL")[0]}
