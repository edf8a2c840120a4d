"""A run of 200,000 calls that dies at 50 random moments, and at chosen ones: the end is that of an undisturbed run."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path

import pytest

from sources.generate import GenerateSettings, write
from tests.pipelines.crashing import job, kill, start

CALLS = 200_000
KILLS = 50
EPOCHS = ("--epoch-bytes", str(64 << 20), "--insert-rows", "20000")

pytestmark = [pytest.mark.soak, pytest.mark.timeout(8 * 3600)]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, float]:
    """Logs, what an undisturbed run over them ends with, and the seconds it takes."""
    folder = tmp_path_factory.mktemp("soak")
    write(GenerateSettings(seed=21, calls=CALLS, hours=24, undated=0.02), folder / "logs")
    began = time.monotonic()
    code, end = job(folder / "logs", folder / "store", *EPOCHS)
    assert code == 0
    assert end.startswith("done []\n")
    shutil.rmtree(folder / "store")
    return folder / "logs", end, time.monotonic() - began


hit: list[bool] = []


@pytest.mark.parametrize("number", range(KILLS))
def test_a_kill_at_a_random_moment(undisturbed: tuple[Path, str, float], tmp_path: Path, number: int) -> None:
    logs, end, seconds = undisturbed
    workers = 1 + number % 2
    store, how = tmp_path / "store", (*EPOCHS, "--workers", str(workers))
    after = random.Random(number).uniform(1, 0.95 * seconds / workers)
    with start(logs, store, *how) as process:
        time.sleep(after)
        hit.append(process.poll() is None)
        kill(process)
    assert job(logs, store, *how) == (0, end), f"killed after {after:.1f} s"
    shutil.rmtree(store)


def test_the_kills_met_a_run() -> None:
    assert sum(hit) >= 0.8 * len(hit) > 0


@pytest.mark.parametrize("where", ["insert:3", "insert:22", "commit:1", "commit:9", "clean:2", "clean:9"])
def test_a_crash_between_two_steps(undisturbed: tuple[Path, str, float], tmp_path: Path, where: str) -> None:
    logs, end, _ = undisturbed
    assert job(logs, tmp_path / "store", *EPOCHS, "--die", where)[0] == 9
    assert job(logs, tmp_path / "store", *EPOCHS) == (0, end)
