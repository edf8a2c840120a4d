"""``llm-finops export`` as a user meets it: files that are whole or not there, and errors of one line."""

from __future__ import annotations

import csv
import errno
import gzip
import io
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from pipelines.errors import OutputError, SettingsError
from pipelines.export import Target, condition, export, moment, target
from sinks.clickhouse import Store, StoreAddress
from sinks.export import EXPORTED, Form, select
from sinks.writer import Writer
from sources.generate import GenerateSettings
from sources.generate import write as traffic
from sources.generate.records import LEAVES
from tests.pipelines.jobs import go
from tests.pipelines.test_cli import EVENTS, SPEND, finops
from tests.sinks.samples import batch, call

MAIN = [sys.executable, "-c", "from pipelines.cli import main; main()"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in EVENTS) + '{"cut": \n')
    ran = finops("run", "--from", "log.jsonl", "--to", "chdb://store", "--quiet", cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return folder


def ex(place: Path, *words: str) -> Any:
    return finops("export", *words, "--to", "chdb://store", cwd=place)


def test_the_last_line_says_rows_bytes_and_path(place: Path) -> None:
    for out in ("calls.parquet", "calls.jsonl", "calls.csv", "calls.jsonl.gz", "calls.csv.gz"):
        ran = ex(place, "calls", "--out", out)
        assert ran.returncode == 0, ran.stderr
        size = (place / out).stat().st_size
        assert (ran.stdout, ran.stderr) == ("", f"10 rows, {size:,} bytes, {out}\n")
    assert gzip.decompress((place / "calls.csv.gz").read_bytes()) == (place / "calls.csv").read_bytes()
    assert gzip.decompress((place / "calls.jsonl.gz").read_bytes()) == (place / "calls.jsonl").read_bytes()
    assert sum(pq.read_table(place / "calls.parquet")["cost"].to_pylist()) == SPEND
    assert sum(Decimal(json.loads(line)["cost"]) for line in (place / "calls.jsonl").read_text().splitlines()) == SPEND
    assert not list(place.glob(".*.part"))


def test_sums_of_every_form_equal_the_truth_of_the_traffic(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    truth = traffic(GenerateSettings(seed=7, calls=2000, hours=6, duplicates=0.02, late=0.02, broken=0.01), tmp_path)
    go(address, *tmp_path.glob("calls-*"))
    for out in ("all.parquet", "all.jsonl", "all.csv.gz"):
        export(store, select("calls"), target(str(tmp_path / out)), quiet=True)
    frames = [
        pd.read_parquet(tmp_path / "all.parquet"),
        pd.read_json(tmp_path / "all.jsonl", lines=True, dtype=False),
        pd.read_csv(tmp_path / "all.csv.gz", dtype=str, keep_default_na=False),
    ]
    dollars = store.rows(f"SELECT team, sum(cost) FROM {store.table('calls')} FINAL GROUP BY team")
    for frame in frames:
        assert frame["call_key"].nunique() == len(frame) == truth["calls"]
        for team, rows in frame.groupby("team"):
            wanted = truth["teams"][team]
            reported = rows[rows["usage_source"].isin(["vendor", "gateway"])]
            assert len(rows) == wanted["calls"]
            for leaf in LEAVES:
                assert pd.to_numeric(reported[leaf]).sum() == wanted[leaf], (team, leaf)
            spent = sum(Decimal(cost) for cost in rows["cost"] if cost)
            assert (team, spent) in dollars


def test_twice_gives_the_same_bytes_and_only_force_replaces(place: Path) -> None:
    assert ex(place, "minutes", "--out", "twice.csv.gz").returncode == 0
    once = (place / "twice.csv.gz").read_bytes()
    refused = ex(place, "minutes", "--out", "twice.csv.gz")
    assert (refused.returncode, refused.stderr) == (2, "llm-finops: twice.csv.gz: is there already; --force replaces it\n")
    assert ex(place, "minutes", "--out", "twice.csv.gz", "--force").returncode == 0
    assert (place / "twice.csv.gz").read_bytes() == once


def test_standard_output_carries_only_rows(place: Path) -> None:
    words = ("calls", "--out", "-", "--columns", "team,cost", "--columns", "minute", "--where", "team=search")
    words = (*words, "--from-time", "2026-03-02T10:02", "--until", "2026-03-02T11:06:00+01:00")
    ran = ex(place, *words, "--out-format", "csv")
    rows = list(csv.DictReader(io.StringIO(ran.stdout)))
    assert [list(row.values()) for row in rows] == [
        ["search", "0.0035", f"2026-03-02T10:0{minute}:00.000000Z"] for minute in (2, 4)
    ]
    assert ran.stderr == f"2 rows, {len(ran.stdout)} bytes, standard output\n"
    assert ex(place, *words, "--out-format", "jsonl", "--quiet").stderr == ""
    piped = subprocess.run(
        [*MAIN, "export", "calls", "--to", f"chdb://{place / 'store'}", "--out", "-", "--out-format", "parquet"],
        capture_output=True,
        check=True,
    )
    assert pq.read_table(io.BytesIO(piped.stdout)).num_rows == 10


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["calls", "--out", "x.xlsx"], 2, "the name must end in .parquet .jsonl .csv .jsonl.gz .csv.gz"),
        (["calls", "--out", "-"], 2, "--out - needs --out-format"),
        (["calls", "--out", "x.csv", "--out-format", "jsonl"], 2, "the name says csv, --out-format says jsonl"),
        (["cals", "--out", "x.csv"], 2, "no table 'cals', did you mean calls?; there are calls, minutes, "),
        (["calls", "--out", "x.csv", "--columns", "tem"], 2, "no column 'tem', did you mean team?"),
        (["calls", "--out", "x.csv", "--where", "team"], 2, "must be key=value"),
        (["receipts", "--out", "x.csv", "--tenant", "a"], 2, "receipts has no column 'tenant'"),
        (["calls", "--out", "x.csv", "--from-time", "yesterday"], 2, "'yesterday': not a time such as"),
        (["calls", "--out", "nowhere/x.csv"], 3, "nowhere: no such folder"),
        (["calls", "--out", "folder.csv"], 3, "folder.csv: is no plain file"),
        (["calls", "--out", "full.csv"], 3, "full.csv: is no plain file"),
        (["calls", "--out", "/proc/x.csv"], 3, "/proc/x.csv: cannot be written: "),
    ],
)
def test_what_is_wrong_is_one_line_and_an_exit_code(place: Path, words: list[str], code: int, says: str) -> None:
    (place / "folder.csv").mkdir(exist_ok=True)
    if not (place / "full.csv").is_symlink():
        (place / "full.csv").symlink_to("/dev/full")
    ran = ex(place, *words)
    assert ran.returncode == code, ran.stderr
    assert says in ran.stderr
    assert "Traceback" not in ran.stderr
    assert not list(place.glob("*x.csv")) + list(place.glob(".*.part"))


def test_standard_output_on_a_full_disk_is_one_line(place: Path) -> None:
    with open("/dev/full", "wb") as full:
        ran = subprocess.run(
            [*MAIN, "export", "calls", "--to", f"chdb://{place / 'store'}", "--out", "-", "--out-format", "parquet"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert ran.returncode == 3
    assert b"standard output: cannot be written: No space left on device" in ran.stderr
    assert b"Traceback" not in ran.stderr


KILLED = """
import os, signal, sys
import pipelines.export as e
name, fill = sys.argv.pop(1), e._fill
def killed(file, *rest):
    file.write(b"half")
    os.kill(os.getpid(), getattr(signal, name))
    return fill(file, *rest)
e._fill = killed
from pipelines.cli import main
main()
"""


@pytest.mark.parametrize(("name", "left"), [("SIGINT", 0), ("SIGTERM", 0), ("SIGKILL", 1)])
def test_a_killed_export_leaves_the_old_file_as_it_was(place: Path, name: str, left: int) -> None:
    out = place / f"{name}.csv"
    out.write_text("old\n")
    words = [sys.executable, "-c", KILLED, name, "export", "calls", "--to", f"chdb://{place / 'store'}"]
    ran = subprocess.run([*words, "--out", str(out), "--force"], capture_output=True, text=True, check=False)
    assert ran.returncode == (-signal.SIGKILL if name == "SIGKILL" else 130), ran.stderr
    assert out.read_text() == "old\n"
    parts = list(place.glob(f".{name}.csv.*.part"))
    assert len(parts) == left  # what cannot be cleaned up has another name
    for part in parts:
        part.unlink()
    assert ex(place, "calls", "--out", out.name, "--force").returncode == 0
    assert len(out.read_text().splitlines()) == 11


class Full:
    """A file on a disk that is full after some bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def write(self, data: Any) -> int:
        self.room -= len(bytes(data))
        if self.room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return int(self.file.write(data))

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


@pytest.mark.parametrize("out", ["x.parquet", "x.csv", "x.jsonl.gz"])
@pytest.mark.parametrize("room", [0, 3000])
def test_a_full_disk_is_one_error_and_no_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, out: str, room: int
) -> None:
    writer = Writer(store)
    writer.add(batch([call(n, trace_id=os.urandom(32).hex()) for n in range(500)]))
    writer.flush()
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, mode: Full(opened(self, mode), room))
    with pytest.raises(OutputError, match="cannot be written: No space left on device"):
        export(store, select("calls"), target(str(tmp_path / out)), quiet=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_appears_meanwhile_is_not_replaced(store: Store, tmp_path: Path) -> None:
    to = target(str(tmp_path / "x.csv"))
    (tmp_path / "x.csv").write_text("somebody else's")
    with pytest.raises(SettingsError, match="is there already"):
        export(store, select("calls"), to, quiet=True)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["somebody else's"]


def test_times_are_utc_unless_they_say_otherwise() -> None:
    assert moment("2026-03-02") == datetime(2026, 3, 2, tzinfo=UTC)
    assert moment("2026-03-02T10:30") == datetime(2026, 3, 2, 10, 30, tzinfo=UTC)
    assert moment("2026-03-02T10:30:00.5+02:00") == datetime(2026, 3, 2, 8, 30, 0, 500_000, tzinfo=UTC)
    assert moment("2026-03-02T00:00+01:00") == datetime(2026, 3, 2, tzinfo=timezone(timedelta(hours=1)))
    assert condition("team=a=b") == ("team", "a=b")
    assert condition("team=") == ("team", "")


def test_the_name_says_what_is_written() -> None:
    assert target("x.jsonl.gz") == Target(Path("x.jsonl.gz"), Form.JSONL, True)
    assert target("x.dat", "csv") == Target(Path("x.dat"), Form.CSV, False)
    assert target("-", "parquet") == Target(None, Form.PARQUET, False)
    assert target("X.CSV.GZ") == Target(Path("X.CSV.GZ"), Form.CSV, True)


def test_the_help_names_every_table(tmp_path: Path) -> None:
    said = " ".join(finops("export", "--help", cwd=tmp_path).stdout.split())
    assert [name for name in EXPORTED if f" {name}" not in said] == []
