"""The command line as a user meets it: every command in a process of its own, its output, errors and exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

EVENTS = [
    {
        "schema": "llm-finops/call/v1",
        "provider": "openai",
        "model": "gpt-4o-2024-08-06",
        "id": f"chatcmpl-{number}",
        "started_at": f"2026-03-02T10:{number:02}:00Z",
        "team": ("search", "support")[number % 2],
        "app": "chat",
        "usage": {"input_fresh": 1000, "output_visible": 100},
    }
    for number in range(10)
]
SPEND = Decimal("0.0035") * 10  # 1,000 × $2.50/M + 100 × $10/M, ten times


def finops(*words: str | Path, cwd: Path, stdin: bytes | None = None, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run ``llm-finops`` with nothing of this process's settings."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("LLM_FINOPS_")}
    ran = subprocess.run(
        [sys.executable, "-c", "from pipelines.cli import main; main()", *map(str, words)],
        cwd=cwd,
        env={**clean, "COLUMNS": "100", "NO_COLOR": "1", "PYTHONPATH": os.getcwd(), **environ},
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return subprocess.CompletedProcess(ran.args, ran.returncode, ran.stdout.decode(), ran.stderr.decode())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a log, a store filled from it, and the object that the run ended with."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in EVENTS) + '{"cut": \n')
    ran = finops("run", "--from", "log.jsonl", "--to", "chdb://store", "--format", "json", cwd=folder)
    assert ran.returncode == 0, ran.stderr
    (folder / "counts.json").write_text(ran.stdout)
    return folder


def test_run_ends_with_one_object_of_counts(place: Path) -> None:
    counts = json.loads((place / "counts.json").read_text())
    assert (counts["records"], counts["calls"], counts["dead_letters"], counts["minutes"]) == (11, 10, 1, 10)
    assert Decimal(counts["spend"]) == SPEND


def test_the_summary_is_exact_in_json_and_csv_and_readable_as_a_table(place: Path) -> None:
    everything = json.loads(finops("summary", "--to", "chdb://store", "--format", "json", cwd=place).stdout)
    assert Decimal(everything["totals"]["spend"]) == SPEND
    assert {row["name"]: row["calls"] for row in everything["team"]} == {"search": 5, "support": 5}
    text = finops("summary", "--to", "chdb://store", "--by", "team", "--format", "csv", cwd=place).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert sum(Decimal(row["spend"]) for row in rows) == SPEND
    screen = finops("summary", "--to", "chdb://store", cwd=place).stdout
    for shown in ("$0.035", "10 calls", "search", "gpt-4o", "tokens that the vendor reported", "not_json", "llm-finops reconcile"):
        assert shown in screen
    assert max(map(len, screen.splitlines()[:40])) <= 100


@pytest.mark.parametrize("words", ["summary --to chdb://store", "audit --to chdb://store --top 0", "prices list --format csv"])
def test_a_reader_that_goes_away_is_no_failure(place: Path, words: str) -> None:
    """``audit | head`` must not end as if a check had found something."""
    closed = "import os, sys; os.close(1); r, w = os.pipe(); os.close(r); os.dup2(w, 1); from pipelines.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", closed, *words.split()], cwd=place, env={**os.environ, "PYTHONPATH": os.getcwd()}, capture_output=True
    )
    assert (ran.returncode, ran.stderr) == (0, b"")


def test_reconcile_holds_then_finds_and_repairs(place: Path) -> None:
    good = finops("reconcile", "--to", "chdb://store", "--format", "json", cwd=place)
    assert good.returncode == 0
    assert all(row["differences"] == 0 for row in json.loads(good.stdout))
    broken = (
        "from sinks.clickhouse import *; s = connect(StoreAddress.parse('chdb://store'));"
        "s.command('TRUNCATE TABLE ' + s.table('minutes'))"
    )
    subprocess.run([sys.executable, "-c", broken], cwd=place, env={**os.environ, "PYTHONPATH": os.getcwd()}, check=True)
    bad = finops("reconcile", "--to", "chdb://store", cwd=place)
    assert bad.returncode == 1
    assert "does not hold: calls = minutes" in bad.stderr
    assert "2026-03-02 10:0" in bad.stderr
    assert finops("reconcile", "--to", "chdb://store", "--repair", cwd=place).returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["run", "--from", "nowhere"], 3, "nowhere: no such file or folder"),
        (["run", "--from", "*.zst"], 3, "*.zst: no file matches"),
        (["run"], 3, "name the logs to read"),
        (["run", "--from", "log.jsonl", "--to", "ftp://x"], 2, "store.to = 'ftp://x' in the command line: must be chdb://"),
        (["run", "--from", "log.jsonl", "--source-batch-records", "0"], 2, "source.batch_records"),
        (["run", "--form", "log.jsonl"], 2, "No such option '--form'"),
        (["summary", "--to", "chdb://empty"], 4, "empty: no such folder"),
        (["summary", "--to", "http://127.0.0.1:9", "--store-retries", "0"], 4, "unreachable"),
        (["summary", "--to", "chdb://log.jsonl"], 4, "log.jsonl"),
        (["generate", "--out", ".", "--hours", "-1"], 2, "hours -1.0: must be greater than 0"),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(place: Path, words: list[str], code: int, says: str) -> None:
    ran = finops(*words, cwd=place)
    assert ran.returncode == code, ran.stderr
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_unknown_key_is_refused_with_the_nearest(place: Path) -> None:
    (place / "bad.toml").write_text("[source]\nform = ['x']\n")
    ran = finops("run", "--config", "bad.toml", cwd=place)
    assert (ran.returncode, ran.stderr.strip()) == (
        2,
        "llm-finops: unknown key source.form in bad.toml; did you mean source.from?",
    )


def test_standard_input_is_read(place: Path) -> None:
    data = (place / "log.jsonl").read_bytes()
    ran = finops("run", "-", "--to", "chdb://piped", "--format", "json", "--quiet", cwd=place, stdin=data)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["calls"] == 10


def test_generate_then_doctor_then_help(place: Path) -> None:
    made = finops("generate", "--out", "logs", "--calls", "300", "--hours", "2", "--format", "json", cwd=place)
    assert made.returncode == 0, made.stderr
    truth = json.loads((place / "logs" / "truth.json").read_text())
    assert json.loads(made.stdout)["records"] == truth["records"]["total"]
    findings: list[dict[str, Any]] = json.loads(
        finops("doctor", "--from", "logs", "--to", "chdb://store", "--format", "json", cwd=place).stdout
    )
    assert [row for row in findings if row["status"] == "fail"] == []
    for command in ("run", "summary", "reconcile", "migrate", "doctor", "generate", "demo"):
        shown = finops(command, "--help", cwd=place)
        assert shown.returncode == 0
        assert "default" in shown.stdout


def test_a_store_that_another_process_holds_is_one_line(place: Path) -> None:
    hold = "from sinks.clickhouse import *; connect(StoreAddress.parse('chdb://store')); print('held', flush=True); input()"
    environ = {**os.environ, "PYTHONPATH": os.getcwd()}
    with subprocess.Popen(
        [sys.executable, "-c", hold], cwd=place, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        ran = finops("summary", "--to", "chdb://store", cwd=place)
        holder.communicate(b"\n")
    assert ran.returncode == 4
    assert f"held by process {holder.pid} on " in ran.stderr
