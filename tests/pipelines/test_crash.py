"""A run that dies anywhere, or is stopped, and the same command again: the end is that of an undisturbed run."""

from __future__ import annotations

import random
import time
from decimal import Decimal
from pathlib import Path

import pytest

from sources.generate import GenerateSettings, write
from tests import split
from tests.pipelines.crashing import job, kill, start

KILLS = 2
"""How many random moments to kill at here; ``tests.soak`` takes 50 of a longer run."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Logs, and what an undisturbed run over them ends with."""
    folder = tmp_path_factory.mktemp("crash")
    write(GenerateSettings(seed=11, calls=500, hours=2, broken=0.02, undated=0.02, file_format="jsonl"), folder / "logs")
    code, end = job(folder / "logs", folder / "store")
    assert code == 0
    assert end.startswith("done []\n")
    return folder / "logs", end


@pytest.mark.parametrize("where", ["insert:2", "insert:6", "commit:1", "commit:2", "clean:1"])
def test_a_crash_is_mended_by_the_same_run(undisturbed: tuple[Path, str], tmp_path: Path, where: str) -> None:
    logs, end = undisturbed
    assert job(logs, tmp_path / "store", "--die", where)[0] == 9
    assert job(logs, tmp_path / "store") == (0, end)


def test_a_kill_at_any_moment_is_mended_by_the_same_run(undisturbed: tuple[Path, str], tmp_path: Path) -> None:
    logs, end = undisturbed
    chance = random.Random(7)
    for number in range(KILLS):
        store = tmp_path / str(number)
        with start(logs, store, "--workers", str(1 + number % 2)) as process:
            time.sleep(chance.uniform(0.5, 6))
            kill(process)
        assert job(logs, store) == (0, end), number


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("epoch_bytes", ["200000", str(1 << 30)])  # between epochs, and inside of one
def test_a_stopped_run_goes_on(undisturbed: tuple[Path, str], tmp_path: Path, workers: str, epoch_bytes: str) -> None:
    logs, end = undisturbed
    how = ("--workers", workers, "--epoch-bytes", epoch_bytes)
    code, said = job(logs, tmp_path / "store", "--stop", "2", *how)
    assert code == 0
    assert said.startswith("stopped []\n")  # what was read is proved already
    assert said.splitlines()[4] != end.splitlines()[4]
    assert job(logs, tmp_path / "store", *how) == (0, end)


def test_a_stopped_second_reading_says_what_is_left(undisturbed: tuple[Path, str], tmp_path: Path) -> None:
    logs, end = undisturbed
    assert job(logs, tmp_path / "store") == (0, end)
    again = ("--again", "--epoch-bytes", str(1 << 30))
    assert job(logs, tmp_path / "store", *again, "--stop", "2") == (0, end.replace("done", "stopped", 1))
    assert job(logs, tmp_path / "store", *again) == (0, end)


def test_workers_and_epochs_change_nothing(undisturbed: tuple[Path, str], tmp_path: Path) -> None:
    logs, end = undisturbed
    assert job(logs, tmp_path / "two", "--workers", "2") == (0, end)
    assert job(logs, tmp_path / "whole", "--epoch-bytes", str(1 << 30)) == (0, end)


# -- dead letters that are run again -------------------------------------------------------------------------------


@pytest.mark.parametrize(("where", "then"), [("insert:1", []), ("recompute:1", []), ("insert:2", []), ("insert:2", ["--replay"])])
def test_a_replay_that_died_is_finished_by_itself_or_by_a_run(
    undisturbed: tuple[Path, str], tmp_path: Path, where: str, then: list[str]
) -> None:
    logs, end = undisturbed
    store = tmp_path / "store"
    _, before = job(logs, store, "--max-record-bytes", "3000")  # what is longer becomes a dead letter
    assert before.startswith("done []\n")
    assert job(logs, store, "--replay", "--die", where)[0] == 9
    _, said = job(logs, store, *then)
    assert said.splitlines()[0] == "done []"  # whoever comes next, every law holds
    if then:
        assert said == end
        return
    # A run reads nothing new here. Rollups, sum of calls: those of before, or, once calls were in, those of the end.
    assert said.splitlines()[1:5] == (before if where == "insert:1" else end).splitlines()[1:5]
    assert job(logs, store, "--replay") == (0, end)


# -- calls in parts ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Requests and responses in any order, some twice and some alone, and what an undisturbed run over them ends with."""
    folder = tmp_path_factory.mktemp("parts")
    records = [part(n) for n in range(400) for part in (split.request, split.response) if n % 20 or part is split.response]
    chance = random.Random(5)
    records += chance.sample(records, 30)
    chance.shuffle(records)
    (folder / "logs").mkdir()
    for number in range(3):
        (folder / "logs" / f"calls-{number}.jsonl").write_bytes(split.lines(records[number::3]))
    code, end = job(folder / "logs", folder / "store", "--split", "--epoch-bytes", "70000")
    assert code == 0
    dollars = sum(Decimal(split.pico(n)) for n in range(400)).scaleb(-12)
    assert end.startswith("done []\n")
    assert end.splitlines()[4:6] == [str([(400, dollars)]), str([("joined", len(records))])]
    return folder / "logs", end


@pytest.mark.parametrize("where", ["insert:2", "insert:5", "wait:1", "commit:2"])
def test_calls_in_parts_come_out_the_same_after_a_crash(parts: tuple[Path, str], tmp_path: Path, where: str) -> None:
    logs, end = parts
    how = ("--split", "--epoch-bytes", "70000")
    assert job(logs, tmp_path / "store", *how, "--die", where)[0] == 9
    assert job(logs, tmp_path / "store", *how) == (0, end)
