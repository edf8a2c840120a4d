"""Following: the loop when its source or its store fails, and folders whose files grow while the run is killed."""

from __future__ import annotations

import gzip
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines import follow as following
from pipelines.errors import one_line, waiting_helps
from pipelines.feeds.folders import FoldersFeed
from pipelines.job import Job
from sinks.clickhouse import Store, StoreAddress, StoreError, StoreSettings, StoreUnavailable
from sinks.reconcile import ledger
from sources.files import FileLimits, SourceError, reading
from sources.generate import GenerateSettings, Record, generate
from tests.following import Follower, begun, minutes_hold, truth, wait, written
from tests.looking import look
from tests.pipelines.jobs import holds, totals
from tests.sinks.front.conftest import served


def traffic(calls: int, seed: int = 5, **more: Any) -> list[Record]:
    return list(generate(GenerateSettings(seed=seed, calls=calls, hours=1, undated=0, incidents=False, **more)))


# -- what fails, and is there again -----------------------------------------------------------------------------


def test_only_what_may_pass_is_waited_for() -> None:
    def inside(error: Exception) -> Exception:
        """As a runner hands on what a step raised."""
        return RuntimeError(f"Traceback\n  File\n{type(error).__module__}.{type(error).__name__}: {error} [while running 'Write']")

    for error, waits in (
        (SourceError("kafka://b/t: unreachable"), True),
        (StoreUnavailable("http://s: unreachable: refused"), True),
        (StoreError("http://s: user or password refused"), False),
        (ValueError("a defect"), False),
    ):
        assert waiting_helps(error) == waits
        assert waiting_helps(inside(error)) == waits
        assert one_line(inside(error)).startswith(str(error) if not isinstance(error, ValueError) else "RuntimeError")


LIMITS = FileLimits(batch_records=50)
FAILING: dict[str, int] = {}
"""What is to fail, and how often still."""


def fail(what: str, error: Exception) -> None:
    if FAILING.get(what, 0) > 0:
        FAILING[what] -= 1
        raise error


def failing(what: str, error: Exception, do: Callable[..., Any]) -> Callable[..., Any]:
    def broken(*given: Any) -> Any:
        fail(what, error)
        return do(*given)

    return broken


def breaking(read: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """Reading that breaks off in the middle."""

    def broken(*given: Any) -> Iterator[Any]:
        for number, batch in enumerate(read(*given)):
            if number == 2:
                fail("read", SourceError("it is away"))
            yield batch

    return broken


@pytest.mark.parametrize("what", ["plan", "read", "insert", "recompute"])
def test_what_fails_is_tried_again_and_ends_as_if_it_had_not(
    what: str, store: Store, address: StoreAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = traffic(800)
    (tmp_path / "calls.jsonl").write_bytes(b"".join(record.value + b"\n" for record in records))
    FAILING.clear()
    FAILING[what] = 3
    away = StoreUnavailable("it is away")

    def insert(self: Store, table: str, rows: pa.Table, whole: Callable[..., None] = Store.insert) -> None:
        if table == "receipts":  # the calls of the block are in by then
            fail("insert", away)
        whole(self, table, rows)

    monkeypatch.setattr(following, "RETRY_S", 0.01)
    monkeypatch.setattr(FoldersFeed, "next", failing("plan", SourceError("it is away"), FoldersFeed.next))
    monkeypatch.setattr(reading, "_read_text", breaking(reading._read_text))
    monkeypatch.setattr(Store, "insert", insert)
    monkeypatch.setattr(following, "settle", failing("recompute", away, following.settle))
    count = f"SELECT count() FROM {store.table('receipts')} FINAL"
    end = time.monotonic() + 60
    said: list[str] = []

    def stop() -> bool:
        assert time.monotonic() < end, said
        return store.rows(count) == [(len(records),)] and len(said) > 1

    following.follow(Job([tmp_path], StoreSettings(address), LIMITS), stop, said.append)
    assert said == ["it is away; trying again every 0.01 s", f"{tmp_path}: going on"]
    holds(store)
    assert totals(store)["calls"][0] == sum(truth(records)["calls"].values())
    assert ledger(store)["records"] == len(records)


# -- folders ----------------------------------------------------------------------------------------------------


def test_files_that_grow_are_read_once_whatever_is_killed(
    tmp_path: Path, followers: Callable[[Follower], Follower]
) -> None:
    """Plain files written in pieces that end anywhere, one of them without a last line break; archives written in pieces, too."""
    records = traffic(6000, duplicates=0.02, late=0.02, broken=0.002)
    chance = random.Random(3)
    folder = tmp_path / "logs"
    folder.mkdir()
    parts: dict[str, list[Record]] = {"a.jsonl": [], "b.jsonl": [], "c.jsonl.gz": [], "d.parquet": []}
    for number, record in enumerate(records):
        name = "a.jsonl" if number < 40 else chance.choice(list(parts))
        parts[name].append(record)
    contents = {name: b"".join(record.value + b"\n" for record in some) for name, some in parts.items()}
    contents["b.jsonl"] = contents["b.jsonl"][:-1]
    contents["c.jsonl.gz"] = gzip.compress(contents["c.jsonl.gz"])
    pq.write_table(pa.table({"value": [record.value for record in parts["d.parquet"]]}), tmp_path / "d")
    contents["d.parquet"] = (tmp_path / "d").read_bytes()
    with served(tmp_path) as server:
        follower = followers(Follower(str(folder), f"http://writer@127.0.0.1:{server.port}"))
        written_to = dict.fromkeys(contents, 0)
        kills = iter(sorted(chance.uniform(2, 14) for _ in range(4)))
        kill_at, began = next(kills), time.monotonic()
        while any(at < len(contents[name]) for name, at in written_to.items()):
            name = chance.choice([name for name, at in written_to.items() if at < len(contents[name])])
            at = written_to[name]
            size = chance.randint(1, 3000 if at < 20_000 else len(contents[name]) // 12)
            with (folder / name).open("ab") as file:
                file.write(contents[name][at : at + size])
            written_to[name] = at + size
            time.sleep(0.1)
            if time.monotonic() - began > kill_at:
                follower.kill()
                follower.start()
                kill_at = next(kills, 1e9)
        wait(lambda: written(server) >= len(records), 60)
        time.sleep(1)
        counts, _ = follower.end()
        assert server.end() == 0
    assert counts["state"] == "stopped"
    found = look(server.folder)
    assert found["wrong"] == []
    assert {key: found[key] for key in ("calls", "tokens")} == truth(records)
    assert found["ledger"]["records"] == len(records), "no line was read under two names"
    assert found["ledger"]["dead_letter"] == sum(record.kind == "broken" for record in records)
    assert sum(rows for _, rows in found["ranges"]) <= 6, "a file that grows has a row that grows"


def test_renamed_emptied_and_vanished_files_are_followed(
    tmp_path: Path, followers: Callable[[Follower], Follower]
) -> None:
    """Logs are rotated by renaming, and by copying and emptying: whatever is read twice is counted once."""
    records = [record for record in traffic(900, duplicates=0, broken=0) if record.kind == "call"]
    values = [record.value + b"\n" for record in records]
    folder = tmp_path / "logs"
    with served(tmp_path) as server:
        follower = followers(Follower(str(folder), f"http://writer@127.0.0.1:{server.port}"))
        wait(lambda: begun(server))
        time.sleep(1.5)
        assert follower.alive(), "a folder that is not there yet is waited for"
        folder.mkdir()
        log = folder / "calls.jsonl"
        log.write_bytes(b"".join(values[:200]))
        wait(lambda: minutes_hold(server) == 200)
        log.rename(folder / "calls-1.jsonl")
        log.write_bytes(b"".join(values[200:300]))
        wait(lambda: minutes_hold(server) == 300)
        (folder / "calls-2.jsonl").write_bytes(log.read_bytes())
        log.write_bytes(b"".join(values[300:350]))
        wait(lambda: minutes_hold(server) == 350)
        log.unlink()
        (folder / "calls-1.jsonl").unlink()
        log.write_bytes(b"".join(values[350:]))
        wait(lambda: minutes_hold(server) == len(records))
        _, said = follower.end()
        assert server.end() == 0
    assert "no such file or folder; waiting for files" in said
    found = look(server.folder)
    assert found["wrong"] == []
    assert found["calls"] == truth(records)["calls"]
