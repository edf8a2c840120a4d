"""What a store holds, looked at in a process of its own, which can open one engine: ``python -m tests.looking STORE``."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from sinks.clickhouse import Store, StoreAddress, connect
from sinks.reconcile import ledger, reconcile


def look(folder: Path) -> dict[str, Any]:
    """Calls by minute and team as minutes have them, reported tokens as calls have them, the ledger, and what is wrong."""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    words = [sys.executable, "-m", "tests.looking", str(folder)]
    done = subprocess.run(words, env=environ, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = ast.literal_eval(done.stdout.splitlines()[-1])
    return found


def _look(store: Store) -> dict[str, Any]:
    minutes, calls, segments = (store.table(name) for name in ("minutes", "calls", "segments"))
    by = "toUInt32(minute), team"
    counted = store.rows(f"SELECT {by}, toUInt64(sum(calls)) AS n FROM {minutes} FINAL GROUP BY 1, 2 HAVING n != 0")
    leaves = ("input_fresh", "input_cache_read", "input_cache_write_5m", "input_cache_write_1h", "output_visible", "output_reasoning")
    total = " + ".join(f"ifNull({leaf}, 0)" for leaf in leaves)
    reported = store.rows(
        f"SELECT {by}, toUInt64(sum({total})) AS n FROM {calls} FINAL WHERE usage_source IN ('vendor', 'gateway')"
        " GROUP BY 1, 2 HAVING n != 0"
    )
    return {
        "calls": {(at, team): n for at, team, n in counted},
        "tokens": {(at, team): n for at, team, n in reported},
        "ledger": ledger(store),
        "wrong": [check.name for check in reconcile(store).checks if not check.holds],
        "ranges": store.rows(f"SELECT source, count() FROM {segments} FINAL GROUP BY source ORDER BY source"),
        "segments": store.rows(f"SELECT uniqExact(segment) FROM {segments}")[0][0],
        "letters": store.rows(f"SELECT reason, error, position FROM {store.table('dead_letters')} FINAL"),
    }


if __name__ == "__main__":
    print(_look(connect(StoreAddress(folder=sys.argv[1]))))
