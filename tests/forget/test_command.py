"""``llm-finops forget`` and the retention of ``run`` as a person meets them: processes of their own, killed ones, too."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.forget.samples import broken, event
from tests.pipelines.test_cli import finops

NAME = "zoe-5b1c@example.com"
KEYS = {"LLM_FINOPS_PRIVACY__PSEUDONYM_KEYS": "0123456789abcdef,2026-03-02=fedcba9876543210"}


def said(folder: Path, text: str = NAME) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a log named after the person, and a store filled from it."""
    logs = [event(n, user=NAME if n % 3 else "other", session_id=f"{NAME}/{n % 2}", tags={"user": NAME}) for n in range(9)]
    (tmp_path / f"{NAME}.jsonl").write_bytes(b"\n".join([*logs, broken(f"Mail {NAME}.")]) + b"\n")
    words = ("--decode-keep-payloads", "true", "--quiet", "--to", "chdb://store")
    ran = finops("run", "--from", f"{NAME}.jsonl", *words, cwd=tmp_path, **KEYS)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    assert said(tmp_path / "store")
    return tmp_path


def test_forgotten_proved_and_not_brought_back(place: Path) -> None:
    def spend() -> str:
        return finops("summary", "--to", "chdb://store", "--by", "team", "--format", "json", cwd=place).stdout

    before = spend()
    dry = finops("forget", "--user", NAME, "--dry-run", "--to", "chdb://store", cwd=place, **KEYS)
    assert (dry.returncode, dry.stderr) == (0, "")
    asked = finops("forget", "--user", NAME, "--to", "chdb://store", cwd=place, **KEYS)
    assert (asked.returncode, asked.stderr) == (2, "llm-finops: nothing was done: add --yes to forget without being asked\n")
    assert said(place / "store")
    wrong = finops("forget", "--user", "another", "--yes", "--to", "chdb://store", cwd=place)
    assert wrong.returncode == 1
    assert "a key that the store was written with is not given" in wrong.stderr
    lost = finops("forget", "--user", "another", "--yes", "--keys-destroyed", "--to", "chdb://store", cwd=place)
    assert lost.returncode == 0, lost.stderr
    words = ("forget", "--user", "-", "--yes", "--to", "chdb://store", "--format", "json")
    done = finops(*words, cwd=place, stdin=f"{NAME}\n".encode(), **KEYS)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert {row["rows_left"] for row in rows} == {0}
    assert {(row["table"], row["column"]) for row in rows if row["rows_before"]} >= {
        ("calls", "end_user"), ("calls", "session_id"), ("calls", "source"), ("calls", "tags"), ("dead_letters", "payload"),
        ("segments", "source"), ("runs", "source"), ("(state)", "path"),
    }  # fmt: skip
    assert said(place / "store") == []
    assert spend() == before
    (place / f"{NAME}.jsonl").rename(place / "renamed.jsonl")
    again = ("run", "--from", "renamed.jsonl", "--decode-keep-payloads", "true", "--again", "--quiet", "--to", "chdb://store")
    assert finops(*again, cwd=place, **KEYS).returncode == 0
    assert said(place / "store") == []
    assert spend() == before
    assert finops("reconcile", "--to", "chdb://store", cwd=place).returncode == 0


def test_killed_and_run_again(place: Path) -> None:
    words = [sys.executable, "-c", "from pipelines.cli import main; main()", "forget", f"--user={NAME}", "--yes"]
    environ = {**os.environ, "PYTHONPATH": os.getcwd(), **KEYS}
    started = time.monotonic()
    with subprocess.Popen([*words, "--to", "chdb://store"], cwd=place, env=environ, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and not (place / "store" / "llm-finops" / "llm_finops.holder.json").exists():
            assert time.monotonic() < started + 120
            time.sleep(0.02)
        time.sleep(0.7)
        process.send_signal(signal.SIGKILL)
    assert NAME not in "".join(path.read_text() for path in place.rglob("*.holder.json"))
    done = finops("forget", "--user", NAME, "--yes", "--to", "chdb://store", cwd=place, **KEYS)
    assert done.returncode == 0, done.stderr
    assert said(place / "store") == []
    assert finops("reconcile", "--to", "chdb://store", cwd=place).returncode == 0


@pytest.mark.parametrize(
    ("words", "wrong"),
    [
        ((), "name whom to forget"),
        (("--user", ""), "name whom to forget"),
        (("--tenant", "acme", "--labels"), "--labels is for a user"),
    ],
)
def test_wrong_usage_is_one_line(tmp_path: Path, words: tuple[str, ...], wrong: str) -> None:
    ran = finops("forget", *words, "--to", "chdb://store", cwd=tmp_path)
    assert ran.returncode == 2
    assert wrong in ran.stderr
    assert len(ran.stderr.splitlines()) == 1


def test_a_run_says_what_is_too_old_to_keep_and_what_is_kept_otherwise(tmp_path: Path) -> None:
    times = [(datetime.now(UTC) - timedelta(days=days)).isoformat() for days in (1, 50, 60)]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join(event(n, started_at=time) for n, time in enumerate(times)) + b"\n")
    words = ("run", "--from", "log.jsonl", "--quiet", "--format", "json", "--to", "chdb://store", "--retention-calls", "30")
    ran = finops(*words, cwd=tmp_path)
    assert ran.returncode == 0
    counts = json.loads(ran.stdout)
    assert (counts["records"], counts["calls"], counts["ignored"], counts["expired"]) == (3, 1, 2, 2)
    assert counts["spend"] == "0.0035"
    assert ran.stderr == (
        "2 calls are older than calls are kept (retention.calls = 30): they are ignored, and their minutes stay as they are\n"
        "calls are kept for 30 days now, before for good\n"
    )
    assert finops("reconcile", "--to", "chdb://store", cwd=tmp_path).returncode == 0
    migrated = finops("migrate", "--to", "chdb://store", "--retention-calls", "60", cwd=tmp_path)
    assert migrated.stderr == "calls are kept for 60 days now, before for 30 days\n"
    wrong = finops("run", "--from", "log.jsonl", "--to", "chdb://store", "--retention-minutes", "60", cwd=tmp_path)
    assert wrong.returncode == 2
    assert "calls are kept for good, and what is made of them no shorter" in wrong.stderr
