"""Run the job in a process of its own that may die without a word: ``python -m tests.pipelines.crashing LOGS STORE``.

``--die WHERE:N`` ends the process at the N-th time it comes by: ``insert`` (before an insert of rows), ``recompute`` (before
minutes, hours or days are replaced), ``commit`` (rows are in, the epoch is not recorded), ``clean`` (minutes are recomputed,
not yet recorded), ``wait`` (calls are joined and their minutes dirty, what still waits is not recorded). ``--stop N`` lets it stop at
the N-th time it asks; ``--replay`` runs dead letters again instead; ``--split`` knows the records of ``tests.split``. Prints what the
store holds at the end.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import sinks.clickhouse as clickhouse
from pipelines.job import Job
from pipelines.replay import replay
from pipelines.run import run
from pipelines.state import State
from sinks.dead_letters import living
from sinks.reconcile import reconcile
from sources.files import FileLimits
from tests import split

_ROWS = ("calls", "parts", "dead_letters", "receipts", "segments")
_ROLLUPS = ("minutes", "hours", "days")


def start(logs: Path, store: Path, *more: str) -> subprocess.Popen[str]:
    """The job over ``logs/calls-*``, begun in a process group of its own."""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    words = [sys.executable, "-m", "tests.pipelines.crashing", str(logs), str(store), *more]
    return subprocess.Popen(words, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)


def job(logs: Path, store: Path, *more: str) -> tuple[int, str]:
    """The job, run to its end: exit code, and what it printed. 9: it died as it was told to."""
    with start(logs, store, *more) as process:
        said, wrong = process.communicate()
    assert process.returncode in (0, 9), wrong
    return process.returncode, said


def kill(process: subprocess.Popen[str]) -> None:
    """End the job and its workers without a word."""
    os.killpg(process.pid, signal.SIGKILL)


def _dying(holder: Any, name: str, when: int, counts: Any = lambda *_: True) -> None:
    """Make the ``when``-th call of a method that ``counts`` the end of the process."""
    method, seen = getattr(holder, name), [0]

    def wrapped(*given: Any) -> Any:
        seen[0] += bool(counts(*given))
        if seen[0] == when:
            os._exit(9)
        return method(*given)

    setattr(holder, name, wrapped)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("logs", type=Path)
    parser.add_argument("store")
    parser.add_argument("--die", default="")
    parser.add_argument("--stop", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--epoch-bytes", type=int, default=200_000)
    parser.add_argument("--insert-rows", type=int, default=150)
    parser.add_argument("--max-record-bytes", type=int, default=FileLimits.max_record_bytes)
    parser.add_argument("--replay", action="store_true")
    parser.add_argument("--split", action="store_true")
    given = parser.parse_args()
    if given.split:
        split.install()
    where, _, number = given.die.partition(":")
    if where == "insert":
        _dying(clickhouse.Store, "insert", int(number), lambda _, table, rows: rows.num_rows > 0 and table in _ROWS)
    elif where == "recompute":
        _dying(clickhouse.Store, "command", int(number), lambda _, sql: any(f"`.`{table}` (" in sql for table in _ROLLUPS))
    elif where:
        _dying(State, {"commit": "done", "clean": "clean", "wait": "wait"}[where], int(number))
    address = clickhouse.StoreAddress(folder=given.store)
    settings = clickhouse.StoreSettings(address, insert_rows=20_000 if given.replay else given.insert_rows)
    asked = [0]

    def stop() -> bool:
        asked[0] += 1
        return 0 < given.stop <= asked[0]

    limits, paths = FileLimits(max_record_bytes=given.max_record_bytes), sorted(given.logs.glob("calls-*"))
    job = Job(paths, settings, limits, epoch_bytes=given.epoch_bytes, workers=given.workers, again=given.again)
    if given.replay:
        replay(job)
    ended = "done" if given.replay else run(job, stop).state
    store = clickhouse.connect(address)
    print(ended, [c.name for c in reconcile(store).checks if not c.holds])
    for table in _ROLLUPS:
        print(store.rows(f"SELECT * EXCEPT (version, duration_ms) FROM {store.table(table)} FINAL WHERE calls != 0 ORDER BY ALL"))
    print(store.rows(f"SELECT count(), sum(cost) FROM {store.table('calls')} FINAL"))
    print(store.rows(f"SELECT outcome, count() FROM {store.table('receipts')} FINAL GROUP BY outcome ORDER BY outcome"))
    print(store.rows(f"SELECT reason, count() FROM {living(store)} GROUP BY reason ORDER BY reason"))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
