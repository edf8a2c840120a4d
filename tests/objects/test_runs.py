"""Runs over objects end to end: whatever is late, replaced, deleted or killed, rows are those of a plain loop over the objects."""

from __future__ import annotations

import gzip
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pipelines.commands import running
from pipelines.doctor import Status
from pipelines.doctor.installed import needed_extras
from pipelines.doctor.reached import inputs
from pipelines.errors import InputError
from pipelines.feeds import objects as feed
from pipelines.feeds.objects import ObjectsFeed
from pipelines.job import Job
from pipelines.replay import replay
from pipelines.run import run
from pipelines.settings import load
from pipelines.state import State
from sinks.clickhouse import Store, StoreAddress, StoreSettings
from sinks.dead_letters import living
from sinks.reconcile import ledger
from sources.files import FileLimits, SourceError
from sources.generate import GenerateSettings, Record, generate
from sources.objects import Object, find, plan
from tests.following import Follower, truth, wait, written
from tests.looking import _look as look_at
from tests.looking import look
from tests.objects.servers import BUCKET, Server
from tests.pipelines.jobs import holds
from tests.sinks.front.conftest import MAIN, served

ROOT = Path(__file__).resolve().parents[2]


def traffic(calls: int, seed: int = 5, **more: Any) -> list[Record]:
    return list(generate(GenerateSettings(seed=seed, calls=calls, hours=3, incidents=False, **{"undated": 0, **more})))


def lines(records: Iterable[Record]) -> bytes:
    return b"".join(record.value + b"\n" for record in records)


def by_folder(records: Iterable[Record], size: int = 150) -> dict[str, list[Record]]:
    """Objects as a log sink lays them: a folder for each hour, some objects in it, every other one packed."""
    hours: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        hours[datetime.fromtimestamp(record.facts.time / 1e6, UTC).strftime("%Y/%m/%d/%H")].append(record)
    found = {}
    for hour, some in hours.items():
        for number, start in enumerate(range(0, len(some), size)):
            found[f"logs/{hour}/part-{number:03}.json{'.gz' if number % 2 else ''}"] = some[start : start + size]
    return found


def data(key: str, records: Iterable[Record]) -> bytes:
    return gzip.compress(lines(records)) if key.endswith(".gz") else lines(records)


def go(address: StoreAddress, server: Server, where: str = "logs/", **more: Any) -> Any:
    return run(Job((), StoreSettings(address), objects=(f"{server.scheme}://{BUCKET}/{where}",), **more))


def distinct(records: Iterable[Record]) -> list[Record]:
    """Records without those whose very bytes came before."""
    first: dict[bytes, Record] = {}
    for record in records:
        first.setdefault(record.value, record._replace(kind="call") if record.kind == "duplicate" else record)
    return list(first.values())


def equals(store: Store, records: list[Record]) -> None:
    """Every law holds, and minutes and tokens are those of a plain loop."""
    holds(store)
    found = look_at(store)
    assert {key: found[key] for key in ("calls", "tokens")} == truth(distinct(records))


def fetched(server: Server) -> list[str]:
    """Requests for the content of an object."""
    path = f"GET /{BUCKET}/" if server.scheme == "s3" else "GET /download/"
    return [asked for asked in server.seen if asked.startswith(path)]


def again(asked: list[str]) -> int:
    """How many requests are not the first one for their object: that one finds out what it is."""
    return len(asked) - len(set(asked))


def test_what_was_read_is_known_and_a_late_object_in_an_old_folder_is_found(
    server: Server, store: Store, address: StoreAddress
) -> None:
    records = traffic(1200, duplicates=0.02, late=0.02, broken=0.003)
    objects = by_folder(records)
    late = sorted(objects)[1]
    for key, some in objects.items():
        if key != late:
            server.put(key, data(key, some))
    first = go(address, server, epoch_bytes=200_000)
    assert (first.state, first.known_files, first.records) == ("done", 0, len(records) - len(objects[late]))
    equals(store, [record for key, some in objects.items() if key != late for record in some])
    server.put(late, data(late, objects[late]))
    server.seen.clear()
    second = go(address, server)
    assert (second.records, second.known_files) == (len(objects[late]), len(objects) - 1)
    assert all(late.rpartition("/")[2] in asked for asked in fetched(server)), "what is known is not fetched again"
    equals(store, records)
    server.seen.clear()
    third = go(address, server)
    assert (third.records, third.known_files) == (0, len(objects))
    assert fetched(server) == []
    assert go(address, server, again=True).records == len(records)
    equals(store, records)


def test_workers_read_objects(s3: Server, store: Store, address: StoreAddress) -> None:
    records = traffic(700)
    for key, some in by_folder(records).items():
        s3.put(key, data(key, some))
    assert go(address, s3, workers=2, limits=FileLimits(split_bytes=1 << 16)).records == len(records)
    equals(store, records)


@pytest.mark.parametrize("long", [False, True])  # whether both versions begin with the same 64 KiB
def test_an_object_that_is_replaced_is_read_anew_and_nothing_counts_twice(
    long: bool, server: Server, store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that carry no time keep the minute in which they were first seen, though the object is younger now."""
    # Embeddings and errors have no id: without a time as well, their place tells them from others, and that changes here.
    plain = {"duplicates": 0, "without_id": 0, "redacted_ids": 0, "broken": 0}
    timeless = [r for r in traffic(1200, seed=5, undated=0.2, **plain) if "undated" in r.marks and "claude" in r.facts.model]
    records = traffic(600 if long else 40, seed=9, **plain) + [r for r in timeless if r.facts.status == 200][:20]
    random.Random(8).shuffle(records)
    half = len(records) // 2
    kept, more = records[:half], records[half:]
    server.put("logs/a.log", lines(kept))
    assert go(address, server).records == len(kept)
    first_seen = next(find([f"{server.scheme}://{BUCKET}/logs/a.log"])).version.changed // 60_000_000 * 60
    replaced = [*kept[: half // 2], more[0], *kept[half // 2 :], *more[1:]] if long else [*more, *kept]
    assert (lines(kept)[: 1 << 16] == lines(replaced)[: 1 << 16]) == long
    server.put("logs/a.log", lines(replaced))

    def later(addresses: Sequence[str], nothing: Any = None) -> Iterator[Object]:
        for one in find(addresses, nothing):
            yield one._replace(version=one.version._replace(changed=one.version.changed + 3_600_000_000))

    monkeypatch.setattr(feed, "find", later)
    assert go(address, server).records == len(replaced)
    holds(store)
    undated = Counter((first_seen, r.facts.team) for r in records if r.kind == "call" and "undated" in r.marks)
    assert undated
    dated = Counter(truth([r for r in records if "undated" not in r.marks])["calls"])
    assert look_at(store)["calls"] == dict(dated + undated)
    assert ledger(store)["duplicate"] == sum(record.kind == "call" for record in kept)


def test_what_is_replaced_or_deleted_while_a_run_reads(
    server: Server, store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = traffic(900, duplicates=0)
    objects = by_folder(records)
    for key, some in objects.items():
        server.put(key, data(key, some))
    keys = sorted(objects)
    deleted, replaced = keys[1], keys[2]
    new = traffic(100, seed=6, duplicates=0)
    planned = []

    def meanwhile(*given: Any) -> Any:
        splits = plan(*given)
        if not planned:
            server.delete(deleted)
            server.put(replaced, data(replaced, [*objects[replaced], *new]))
        planned.append(len(splits))
        return splits

    monkeypatch.setattr(feed, "plan", meanwhile)
    counts = go(address, server)
    assert planned == [len(keys), 1]
    assert counts.state == "done"
    equals(store, [r for key, some in objects.items() if key != deleted for r in some] + new)
    assert store.rows(f"SELECT reason, count() FROM {living(store)} WHERE reason = 'object_gone' GROUP BY 1") == [("object_gone", 1)]
    again = go(address, server)
    assert (again.records, again.known_files) == (0, len(keys) - 1)


def test_an_error_of_the_store_ends_a_run_and_the_same_command_goes_on(
    server: Server, store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = traffic(500)
    objects = by_folder(records, size=60)
    for key, some in objects.items():
        server.put(key, data(key, some))
    *_, hour, name = sorted(objects)[len(objects) // 2].split("/")

    def then_denied(*given: Any) -> Any:
        splits = plan(*given)
        server.failures.append((f"{hour}(/|%2F){name}", 403, b""))
        return splits

    monkeypatch.setattr(feed, "plan", then_denied)
    with pytest.raises(SourceError, match="access denied"):
        go(address, server, epoch_bytes=400_000)
    monkeypatch.setattr(feed, "plan", plan)
    second = go(address, server, epoch_bytes=400_000)
    assert second.known_files > 0
    assert second.records < len(records)
    equals(store, records)


def test_dead_letters_are_run_again_from_their_objects(server: Server, store: Store, address: StoreAddress) -> None:
    records = traffic(400, broken=0, duplicates=0)
    for key, some in by_folder(records).items():
        server.put(key, data(key, some))
    small = FileLimits(max_record_bytes=3000)
    dead = go(address, server, limits=small).dead_letters
    assert 0 < dead < len(records)
    job = Job((), StoreSettings(address))
    assert replay(job).letters == {("record_too_large", "call", ""): dead}
    equals(store, records)


def test_a_run_that_is_killed_goes_on(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two workers from one store, in one process from the other."""
    workers = {"s3": "2", "gs": "1"}[server.scheme]
    records = traffic(800, duplicates=0.02, late=0.02, broken=0.003)
    objects = by_folder(records, size=60)
    for key, some in objects.items():
        server.put(key, data(key, some))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    from_, to = f"{server.scheme}://{BUCKET}/logs/", f"chdb://{tmp_path}/store"
    command = [sys.executable, "-c", MAIN, "run", "--from", from_, "--to", to, "--quiet", "--format", "json"]
    command += ["--runner-epoch-bytes", "1500000", "--runner-workers", workers, "--source-split-bytes", "65536"]
    for reads in (4, 12):  # killed after so many requests for parts of objects, the beginnings of all of which are read first
        server.seen.clear()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        wait(lambda more=reads: again(fetched(server)) >= more)  # type: ignore[misc]
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = look(tmp_path / "store")
    assert found["wrong"] == []
    assert {key: found[key] for key in ("calls", "tokens")} == truth(records)
    assert found["ledger"]["records"] == len(records)
    assert found["ledger"]["dead_letter"] == sum(record.kind == "broken" for record in records)


# -- followed ----------------------------------------------------------------------------------------------------------


def test_objects_that_come_late_or_anew_are_followed_whatever_is_killed(
    server: Server, tmp_path: Path, followers: Callable[[Follower], Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    records = traffic(800, duplicates=0.02, late=0.02, broken=0.003)
    objects = by_folder(records, size=60)
    order = random.Random(4).sample(sorted(objects), len(objects))
    whole = dict(objects)
    replaced, cut = order[3], len(objects[order[3]]) // 2
    objects[replaced] = whole[replaced][:cut]
    with served(tmp_path) as store:
        follower = followers(
            Follower(f"{server.scheme}://{BUCKET}/logs/", f"http://writer@127.0.0.1:{store.port}", "--source-list-seconds", "1")
        )
        put = 0
        for number, key in enumerate(order):
            server.put(key, data(key, objects[key]))
            put += len(objects[key])
            if number in (4, 9):
                wait(lambda: written(store) > 0)
                follower.kill()
                follower.start()
        wait(lambda: written(store) >= put)
        server.put(replaced, data(replaced, whole[replaced]))
        wait(lambda: written(store) >= put + len(whole[replaced]))
        asked = len([one for one in server.seen if "list-type" in one or "/o?" in one])
        time.sleep(5)
        asked = len([one for one in server.seen if "list-type" in one or "/o?" in one]) - asked
        assert 1 <= asked <= 7, "it goes on listing, at the rate that is set"
        counts, _ = follower.end()
        assert store.end() == 0
    assert counts["state"] == "stopped"
    found = look(store.folder)
    assert found["wrong"] == []
    assert {key: found[key] for key in ("calls", "tokens")} == truth(records)
    assert found["ledger"]["dead_letter"] == sum(record.kind == "broken" for record in records)


class Told:
    """A feed driven by hand: what it says, and what it gives to read."""

    def __init__(self, server: Server, store: Store, state: State, where: str = "logs/") -> None:
        self.feed = ObjectsFeed([f"{server.scheme}://{BUCKET}/{where}"], FileLimits(), None, list_s=0.0)
        self.feed.begin(store, state)

    def paths(self) -> list[str]:
        return [piece.path.rpartition("/")[2] for piece in self.feed.next(1000)]

    def committed(self) -> None:
        self.feed.committed()
        self.feed._next_list = 0


def test_a_feed_waits_for_objects_and_leaves_out_what_it_may_not_read(
    server: Server, store: Store, address: StoreAddress
) -> None:
    with State(address) as state:
        told = Told(server, store, state)
        assert told.paths() == []
        assert [line.endswith("waiting for objects") for line in told.feed.news()] == [True]
        told.committed()
        server.put("logs/a.log", b"{}\n")
        server.put("logs/b.log", b"{}\n")
        server.failures.append(("b.log.*", 403, b""))
        assert told.paths() == ["a.log"]
        assert ["b.log: access denied" in line for line in told.feed.news()] == [True]
        told.feed.begin(store, state)  # the epoch failed
        assert told.paths() == ["a.log"]
        told.committed()
        assert told.paths() == ["b.log"], "it is tried again after the next listing"
        told.committed()
        assert told.paths() == []
        server.put("logs/0/late.log", b"{}\n")
        server.put("logs/b.log", b"{}\n{}\n")
        told.committed()
        assert told.paths() == ["late.log", "b.log"]


# -- at the command line -----------------------------------------------------------------------------------------------


def test_the_doctor_tries_each_address(server: Server, tmp_path: Path) -> None:
    server.put("logs/a.log", b"12345")
    address = f"{server.scheme}://{BUCKET}"
    given = {"source.from": (f"{address}/logs/", f"{address}/none/", f"{server.scheme}://no-such/logs/")}
    settings = load(environ={}, flags=given, folder=tmp_path)
    good, empty, missing = inputs(settings)
    assert (good.status, good.detail) == (Status.OK, f"{address}/logs/: 1 objects, 5 B; the first can be read")
    assert (empty.status, missing.status) == (Status.FAIL, Status.FAIL)
    assert empty.detail.startswith(f"{address}/none/: no such object")
    assert missing.detail == f"{server.scheme}://no-such: no such bucket"
    assert {"s3": "s3", "gs": "gcs"}[server.scheme] in needed_extras(settings)


@pytest.mark.parametrize("other", ["-", "logs/", "kafka://host/topic"])
def test_a_run_reads_objects_or_something_else(other: str, tmp_path: Path) -> None:
    settings = load(environ={}, flags={"source.from": ("s3://bucket/logs", other)}, folder=tmp_path)
    with pytest.raises(InputError, match="one run reads files"):
        running._run(settings, (), quiet=True, again=False, follow=False)
