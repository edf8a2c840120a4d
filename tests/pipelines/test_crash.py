"""A process that dies between two inserts, and the same command again: the end is that of an undisturbed run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sources.generate import GenerateSettings, write

# Runs the job over LOGS into STORE; dies without a word before insert number LAST, or lives if it is 0. Prints totals.
RUN = """
import os, sys
from pathlib import Path
import sinks.clickhouse as ch
from pipelines.run import Job, run
from sinks.reconcile import reconcile
logs, folder, last = sys.argv[1], sys.argv[2], int(sys.argv[3])
insert, done = ch.Store.insert, [0]
def dying(self, table, rows):
    done[0] += rows.num_rows > 0 and table in ("calls", "dead_letters", "receipts", "segments")
    if done[0] == last:
        os._exit(9)
    insert(self, table, rows)
if last:
    ch.Store.insert = dying
address = ch.StoreAddress(folder=folder)
run(Job(sorted(Path(logs).glob("calls-*")), ch.StoreSettings(address, insert_rows=150)))
store = ch.connect(address)
print([c.name for c in reconcile(store).checks if not c.holds])
for table in ("minutes", "hours", "days"):
    print(store.rows(f"SELECT * EXCEPT (version, duration_ms) FROM {store.table(table)} FINAL WHERE calls != 0 ORDER BY ALL"))
print(store.rows(f"SELECT count(), sum(cost) FROM {store.table('calls')} FINAL"))
"""


def job(logs: Path, store: Path, last: int) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": os.getcwd()}
    words = [sys.executable, "-c", RUN, str(logs), str(store), str(last)]
    return subprocess.run(words, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Logs, and what an undisturbed run over them ends with."""
    folder = tmp_path_factory.mktemp("crash")
    write(GenerateSettings(seed=11, calls=500, hours=2, broken=0.02, undated=0.02), folder / "logs")
    whole = job(folder / "logs", folder / "store", 0)
    assert whole.returncode == 0, whole.stderr
    assert whole.stdout.startswith("[]\n")
    return folder / "logs", whole.stdout


@pytest.mark.parametrize("last", [2, 6])
def test_a_crash_between_inserts_is_mended_by_the_same_run(undisturbed: tuple[Path, str], tmp_path: Path, last: int) -> None:
    logs, end = undisturbed
    assert job(logs, tmp_path / "store", last).returncode == 9
    again = job(logs, tmp_path / "store", 0)
    assert again.returncode == 0, again.stderr
    assert again.stdout == end
