"""A disk that fills up or turns read-only under a run: one line, and later the same command ends as an undisturbed run."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sinks.clickhouse import StoreAddress, connect, disconnect
from sinks.reconcile import reconcile
from sources.generate import GenerateSettings, write

CALLS = 60_000
ENOUGH = "size=8g"

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk and make files immutable"),
]


def command(logs: Path, store: Path, *more: str) -> list[str]:
    own = ["--quiet", "--format", "json", "--runner-epoch-bytes", "20MB", *more]
    return [str(Path(sys.executable).with_name("llm-finops")), "run", "--from", str(logs), "--to", f"chdb://{store}", *own]


def run(logs: Path, store: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(logs, store, *more), capture_output=True, text=True, check=False)


def end(store: Path) -> list[list[tuple[object, ...]]]:
    """Everything that a run should leave behind, read after the run by another one than it."""
    address = StoreAddress(folder=str(store))
    open_ = connect(address)
    try:
        assert [check.name for check in reconcile(open_).checks if not check.holds] == []
        rows = [
            open_.rows(f"SELECT * EXCEPT (version, duration_ms) FROM {open_.table(name)} FINAL WHERE calls != 0 ORDER BY ALL")
            for name in ("minutes", "hours", "days")
        ]
        return [*rows, open_.rows(f"SELECT count(), sum(cost) FROM {open_.table('calls')} FINAL")]
    finally:
        disconnect(address)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[tuple[object, ...]]]]:
    folder = tmp_path_factory.mktemp("disk")
    write(GenerateSettings(seed=23, calls=CALLS, hours=24), folder / "logs")
    done = run(folder / "logs", folder / "store")
    assert done.returncode == 0, done.stderr
    return folder / "logs", end(folder / "store")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small file system, or give the one that is mounted other options."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def options(words: str) -> Path:
        nonlocal mounted
        words = f"remount,{words}" if mounted else words
        subprocess.run(["mount", "-t", "tmpfs", "-o", words, "tmpfs", str(place)], check=True)
        mounted = True
        return place

    yield options
    if mounted:
        subprocess.run(["umount", "-l", str(place)], check=True)


def one_line(said: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 4 and, on standard error, one line for a person that has these words."""
    assert said.returncode == 4, said.stderr
    lines = [line for line in said.stderr.splitlines() if line]
    assert len(lines) == 1, said.stderr
    assert any(word in lines[0] for word in words), lines[0]


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("megabytes", [3, 12, 30])
def test_a_full_disk(
    undisturbed: tuple[Path, list[list[tuple[object, ...]]]], disk: Callable[[str], Path], megabytes: int, workers: str
) -> None:
    logs, expected = undisturbed
    place = disk(f"size={megabytes}m")
    one_line(run(logs, place / "store", "--runner-workers", workers), "full", "No space left")
    one_line(run(logs, place / "store"), "full", "No space left")  # trying again helps nobody, and harms nothing
    disk(ENOUGH)
    done = run(logs, place / "store", "--runner-workers", workers)
    assert done.returncode == 0, done.stderr
    assert end(place / "store") == expected


def test_a_store_that_is_read_only_from_the_start(
    undisturbed: tuple[Path, list[list[tuple[object, ...]]]], disk: Callable[[str], Path]
) -> None:
    logs, expected = undisturbed
    place = disk(ENOUGH)
    with subprocess.Popen(command(logs, place / "store"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(8)
        process.send_signal(signal.SIGKILL)
    disk("ro")
    one_line(run(logs, place / "store"), "must be writable")
    disk(f"rw,{ENOUGH}")
    assert run(logs, place / "store").returncode == 0
    assert end(place / "store") == expected


def test_a_store_that_turns_read_only(undisturbed: tuple[Path, list[list[tuple[object, ...]]]], tmp_path: Path) -> None:
    logs, expected = undisturbed
    chance = random.Random(5)
    store = tmp_path / "store"
    for _ in range(3):
        with subprocess.Popen(command(logs, store), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            time.sleep(chance.uniform(4, 10))
            store.mkdir(exist_ok=True)
            frozen = [path for path in [store, *store.rglob("*")] if path.is_dir()]
            subprocess.run(["chattr", "-f", "+i", *map(str, frozen)], check=False)
            try:
                said, wrong = process.communicate()
            finally:
                subprocess.run(["chattr", "-f", "-R", "-i", str(store)], check=False)
        if process.returncode:
            one_line(subprocess.CompletedProcess([], process.returncode, said, wrong), "writ")
    done = run(logs, store)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["state"] == "done"
    assert end(store) == expected
    shutil.rmtree(store)
