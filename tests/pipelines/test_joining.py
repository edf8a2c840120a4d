"""Split records end in the calls that they tell of together: in any order, however often, over restarts, and late."""

from __future__ import annotations

import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipelines.feeds.folders import FoldersFeed
from pipelines.job import Job
from pipelines.joining import join_due, join_keys, join_left
from pipelines.replay import PART, replay
from pipelines.run import run, settle
from pipelines.state import State
from sinks.clickhouse import Store, StoreAddress, StoreSettings
from sinks.dead_letters import living
from sinks.reconcile import ledger, reconcile, repair
from sinks.retention import Retention
from sinks.writer import Writer
from tests import split
from tests.pipelines.jobs import go, holds, totals
from transforms.count import CountSettings
from transforms.decode import FORMATS, DecodeSettings, JoinSettings
from transforms.steps import Joining

START = split.START


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.decode.registry.FORMATS", split.FORMATS)


def calls(store: Store) -> list[dict[str, Any]]:
    return store.named_rows(
        "SELECT toUnixTimestamp64Micro(event_time) AS time, team, model, model_requested, provider_call_id AS id, input_fresh,"
        " output_visible, usage_source, usage_quality, flags, tags, cost, call_key AS key, toUInt32(minute) AS minute"
        f" FROM {store.table('calls')} FINAL ORDER BY time, id"
    )


def minutes(store: Store) -> dict[int, tuple[int, Decimal]]:
    rows = store.rows(
        f"SELECT toUInt32(minute), sum(calls), sum(cost) FROM {store.table('minutes')} FINAL GROUP BY minute HAVING sum(calls) != 0"
    )
    return {minute: (int(number), cost) for minute, number, cost in rows}


def wanted(numbers: range) -> dict[int, tuple[int, Decimal]]:
    """Calls and dollars of each minute, by a plain loop."""
    found: dict[int, tuple[int, Decimal]] = {}
    for number in numbers:
        minute = (START // 1_000_000 + number) // 60 * 60
        before = found.get(minute, (0, Decimal(0)))
        found[minute] = before[0] + 1, before[1] + Decimal(split.pico(number)).scaleb(-12)
    return found


def test_requests_and_responses_in_any_order_are_calls(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    number = range(300)
    records = [part(n) for n in number for part in (split.request, split.response)]
    records += random.Random(1).sample(records, 40)  # some come twice
    random.Random(2).shuffle(records)
    (tmp_path / "a.jsonl").write_bytes(split.lines(records[:300]))
    (tmp_path / "b.jsonl").write_bytes(split.lines(records[300:]))
    counts = go(address, tmp_path, epoch_bytes=1 << 16)
    assert counts.calls >= len(number)
    holds(store)
    assert minutes(store) == wanted(number)
    found = {row["id"]: row for row in calls(store)}
    assert len(found) == len(number)
    for n in number:
        row = found[f"chatcmpl-{n}"]
        assert (row["time"], row["team"], row["model_requested"]) == (START + n * 1_000_000, f"team-{n % 3}", "gpt-4o")
        assert (row["model"], row["input_fresh"], row["flags"]) == ("gpt-4o-2024-08-06", 100 + n, [])
        assert row["tags"] == {"asked": str(n), "answered": str(n)}
    assert ledger(store)["joined"] == len(records)
    assert "waiting" not in ledger(store)
    once = totals(store)
    go(address, tmp_path, again=True)
    assert totals(store) == once


def test_a_half_is_partial_until_the_other_comes_and_is_counted_once(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    """Requests alone tell no usage; responses alone do. The other halves come with a later run, long after nobody waited."""
    number = range(120)
    early, late = tmp_path / "early.jsonl", tmp_path / "late.jsonl"
    early.write_bytes(split.lines([split.response(n) if n % 2 else split.request(n) for n in number]))
    go(address, early)
    holds(store)
    halves = {row["time"] // 1_000_000 - START // 1_000_000: row for row in calls(store)}
    assert len(halves) == len(number)
    first = {}
    for n in number:
        row = halves[n + 2 if n % 2 else n]  # the time of the half that is there
        assert row["flags"] == ["partial"]
        assert (row["usage_quality"], row["cost"]) == (("partial", Decimal(split.pico(n)).scaleb(-12)) if n % 2 else ("", None))
        first[row["key"]] = row["minute"]
    late.write_bytes(split.lines([split.request(n) if n % 2 else split.response(n) for n in number]))
    go(address, early, late)
    holds(store)
    found = calls(store)
    assert {row["key"]: row["minute"] for row in found} == first  # each is replaced where it is
    assert all((row["flags"], row["usage_quality"]) == ([], "ok") for row in found)
    assert sum(count for count, _ in minutes(store).values()) == len(number)
    assert sum(cost for _, cost in minutes(store).values()) == sum(Decimal(split.pico(n)).scaleb(-12) for n in number)
    for minute, (count, _) in minutes(store).items():
        assert count == sum(at == minute for at in first.values())


def written(store: Store, job: Job) -> frozenset[bytes]:
    """Write the rows of a job's file and join nothing, as a run that is killed there; the keys of its parts."""
    writer = Writer(store)
    pieces, _ = FoldersFeed([str(path) for path in job.paths], job.limits, None).waiting(store, None)
    with Joining(job.decode, job.count)() as work:
        for raw in job.reader(pieces[0]):
            writer.collect(work.rows(raw, lambda *_: None))
    flushed = writer.flush()
    assert flushed is not None
    return flushed.keys


def test_what_waits_is_in_the_ledger_and_due_once_nobody_waits_for_it(
    store: Store, address: StoreAddress, tmp_path: Path
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(split.lines([split.request(1), split.request(2), split.response(2), split.response(3)]))
    job = Job((path,), StoreSettings(address), decode=DecodeSettings(join=JoinSettings(wait_s=3600)))
    over = Job((path,), StoreSettings(address), decode=DecodeSettings(join=JoinSettings(wait_s=-1)))
    with State(address) as state:
        keys = written(store, job)
        assert len(keys) == 3
        join_keys(job, store, state, keys)
        settle(store, state, state.dirty())
        assert [row["id"] for row in calls(store)] == ["chatcmpl-2"]
        assert len(state.waiting()) == 2
        assert (ledger(store)["joined"], ledger(store)["waiting"]) == (4, 2)
        holds(store)  # they wait, so nothing is wrong
        assert join_due(job, store, state) == set()
        join_keys(over, store, state, written(store, over))
        failed = [check for check in reconcile(store).checks if not check.holds]
        assert [(check.name, check.differences) for check in failed] == [("parts = calls", 2)]
        assert join_due(over, store, state) != set()
        assert state.waiting() == []
        settle(store, state, state.dirty())
    holds(store)
    found = [(row["id"], row["flags"]) for row in calls(store)]
    assert found == [("", ["partial"]), ("chatcmpl-2", []), ("chatcmpl-3", ["partial"])]
    assert "waiting" not in ledger(store)


def test_what_a_job_left_in_parts_is_joined_by_what_the_store_holds(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(split.lines([split.request(1), split.request(2), split.response(2)]))
    job = Job((path,), StoreSettings(address))
    written(store, job)
    failed = [check for check in reconcile(store).checks if not check.holds]
    assert ("parts = calls", 1) in [(check.name, check.differences) for check in failed]  # one is whole, the other waits
    assert join_left(job, store) == 1
    assert join_left(job, store) == 0
    repair(store)
    assert [row["id"] for row in calls(store)] == ["chatcmpl-2"]


def test_a_job_elsewhere_comes_to_the_same_calls(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    number = range(60)
    records = [part(n) for n in number for part in (split.request, split.response) if n % 10 or part is split.response]
    random.Random(3).shuffle(records)
    (tmp_path / "a.jsonl").write_bytes(split.lines(records[:50]))
    (tmp_path / "b.jsonl").write_bytes(split.lines(records[50:]))
    go(address, tmp_path, runner="DirectRunner", early_s=0)
    holds(store)
    elsewhere = calls(store), totals(store)
    for table in ("calls", "parts", "receipts", "segments", "minutes", "hours", "days"):
        store.command(f"TRUNCATE TABLE {store.table(table)}")
    go(address, tmp_path)
    holds(store)
    assert elsewhere == (calls(store), totals(store))
    assert [row["id"] for row in calls(store) if "partial" in row["flags"]] == [f"chatcmpl-{n}" for n in number if n % 10 == 0]


def test_pieces_of_a_record_are_read_as_the_record(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    whole = {"schema": "llm-finops/call/v1", "provider": "openai", "model": "gpt-4o-2024-08-06", "id": "chatcmpl-9"}
    whole |= {"started_at": "2026-03-02T10:00:00Z", "usage": {"input_fresh": 1000, "output_visible": 100}}
    text = split.lines([whole]).decode().strip()
    cut = [text[:40], text[40:90], text[90:]]
    some: list[dict[str, Any]] = [{"piece": "p", "number": n, "of": 3, "text": cut[n]} for n in range(3)]
    lines = split.lines([split.request(1), split.response(1)]).decode().splitlines()
    half = [{"piece": "q", "number": n, "of": 2, "text": piece} for n, piece in enumerate((lines[0][:30], lines[0][30:]))]
    rest = {"piece": "lost", "number": 0, "of": 2, "text": "{"}
    (tmp_path / "a.jsonl").write_bytes(split.lines([some[2], half[1], some[0], rest]))
    go(address, tmp_path)
    holds(store)
    reasons = f"SELECT error FROM {living(store)} WHERE reason = 'incomplete_record' ORDER BY error"
    lost = ["pieces [0,2] of 3 are there", "pieces [0] of 2 are there", "pieces [1] of 2 are there"]
    assert [error for (error,) in store.rows(reasons)] == lost
    assert calls(store) == []
    (tmp_path / "b.jsonl").write_bytes(split.lines([half[0], some[1], split.response(1), some[1], some[0]]))  # two come twice
    go(address, tmp_path)
    holds(store)
    assert [error for (error,) in store.rows(reasons)] == ["pieces [0] of 2 are there"]
    found = {row["id"]: row for row in calls(store)}
    assert found.keys() == {"chatcmpl-9", "chatcmpl-1"}
    assert found["chatcmpl-9"]["cost"] == Decimal("0.0035")
    assert (found["chatcmpl-1"]["team"], found["chatcmpl-1"]["flags"]) == ("team-1", [])  # a part that itself came in pieces
    once = totals(store)
    go(address, tmp_path, again=True)
    holds(store)
    assert totals(store) == once
    ((kept, readable),) = store.rows(
        f"SELECT countIf(NOT empty(data)), countIf(position(data, 'gpt-4o') > 0 OR position(data, '{{') > 0 AND length(data) < 18)"
        f" FROM {store.table('parts')}"
    )
    assert kept >= 6
    assert readable == 0


def test_pieces_that_were_sealed_with_another_key_are_a_dead_letter(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    text = split.lines([split.request(1)]).decode().strip()
    pieces = [{"piece": "p", "number": n, "of": 2, "text": some} for n, some in enumerate((text[:30], text[30:]))]
    (tmp_path / "a.jsonl").write_bytes(split.lines(pieces[:1]))
    go(address, tmp_path, count=CountSettings(hash_key=b"one key of sixteen"))
    (tmp_path / "b.jsonl").write_bytes(split.lines(pieces[1:]))
    run(Job([tmp_path / "b.jsonl"], StoreSettings(address), count=CountSettings(hash_key=b"another key, of ours")))
    holds(store)
    letters = store.rows(f"SELECT reason, error FROM {living(store)}")
    assert letters == [("incomplete_record", "its pieces were sealed with another count.hash_key")]


# -- several observers of one call -----------------------------------------------------------------------------------


def event(number: int, **said: Any) -> dict[str, Any]:
    """A whole call in our own format, as an observer tells it."""
    known = {"schema": "llm-finops/call/v1", "provider": "openai", "model": "gpt-4o-2024-08-06", "id": f"chatcmpl-{number}"}
    return known | {"started_at": f"2026-03-02T10:{number % 60:02}:00Z", "usage": {"input_fresh": 100 + number}} | said


def test_a_call_that_two_observers_saw_is_one_call(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    """The SDK's span and the gateway's log tell of the same calls, a second apart; each has some that the other missed."""
    sdk = [event(n, team="search", tags={"span": str(n)}) for n in range(40)]
    gateway = [event(n, app="chat", tags={"route": "a"}, started_at=f"2026-03-02T10:{n % 60:02}:01Z") for n in range(10, 50)]
    cached = event(10, gateway_cache_hit=True, started_at="2026-03-02T11:00:00Z")
    other = [event(n) for n in range(5)]  # of a source that is not declared: calls of its own
    for name, records in (("sdk", sdk), ("gateway", [*gateway, cached]), ("other", other)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.jsonl").write_bytes(split.lines(records))
    overlap = (str(tmp_path / "sdk"), str(tmp_path / "gateway"))
    decode = DecodeSettings(join=JoinSettings(overlap=overlap))
    go(address, tmp_path, decode=decode)
    holds(store)
    seen = dict(store.rows(f"SELECT provider_call_id, count() FROM {store.table('calls')} FINAL GROUP BY 1"))
    assert seen == {f"chatcmpl-{n}": 1 + (n == 10) + (n < 5) for n in range(50)}
    once = sum(Decimal(100 + n) for n in [*range(50), *range(5)]) * Decimal("0.0000025")
    assert totals(store)["calls"] == (56, once)  # nothing for what the cache answered
    rows = store.rows(
        f"SELECT team, app, tags FROM {store.table('calls')} FINAL WHERE provider_call_id = 'chatcmpl-20'"
    )
    assert rows == [("search", "chat", {"span": "20", "route": "a"})]
    (status,) = store.rows(f"SELECT price_status, price_reason FROM {store.table('calls')} FINAL WHERE gateway_cache_hit")
    assert status == ("not_billed", "gateway_cache_hit")
    before = totals(store)
    go(address, tmp_path, decode=decode, again=True)
    assert totals(store) == before


# -- what stands against it ------------------------------------------------------------------------------------------


def test_a_part_that_comes_after_the_others_expired_leaves_the_call_as_it_is(
    store: Store, address: StoreAddress, tmp_path: Path
) -> None:
    first, late = tmp_path / "first.jsonl", tmp_path / "late.jsonl"
    first.write_bytes(split.lines([split.request(1), split.response(1)]))
    go(address, first)
    before = calls(store)
    store.command(f"TRUNCATE TABLE {store.table('parts')}")  # as time does
    late.write_bytes(split.lines([split.response(1, team="late")]))
    go(address, late)
    holds(store)
    assert calls(store) == before


def test_a_joined_call_that_is_too_old_or_that_the_store_refuses_says_so(
    store: Store, address: StoreAddress, tmp_path: Path
) -> None:
    store.command(f"ALTER TABLE {store.table('calls')} ADD CONSTRAINT small CHECK input_fresh < 150")
    path = tmp_path / "a.jsonl"
    numbers = (1, 100)
    path.write_bytes(split.lines([part(n) for n in numbers for part in (split.request, split.response)]))
    go(address, path)
    holds(store)
    assert [row["id"] for row in calls(store)] == ["chatcmpl-1"]
    assert store.rows(f"SELECT reason FROM {living(store)}") == [("refused_by_store",)]
    store.command(f"ALTER TABLE {store.table('calls')} DROP CONSTRAINT small")
    old = tmp_path / "old.jsonl"
    old.write_bytes(split.lines([part(1, event_time=1_500_000_000_000_000) | {"part": "old"} for part in (split.request, split.response)]))
    go(address, old, retention=Retention(calls=1000))
    holds(store)
    outcomes = store.rows(f"SELECT outcome, reason, count() FROM {store.table('receipts')} FINAL GROUP BY 1, 2 ORDER BY 1, 2")
    assert outcomes == [("dead_letter", "refused_by_store", 1), ("ignored", "expired", 1), ("joined", "", 4)]


def test_text_of_prompts_is_counted_and_not_kept(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(split.lines([split.request(1) | {"prompt": "tell me of the weather"}]))
    response = split.response(1) | {"answer": split.ANSWER}
    for name in ("input_fresh", "output_visible", "usage_source", "usage_quality"):
        del response["call"][name]
    (tmp_path / "b.jsonl").write_bytes(split.lines([response]))
    go(address, tmp_path)
    holds(store)
    (row,) = store.named_rows(f"SELECT * FROM {store.table('calls')} FINAL")
    assert (row["counted_input"], row["input_fresh"], row["usage_source"]) == (12, 12, "counted")  # 5 and 7 of framing
    assert (row["counted_output"], row["user_tokens"], row["answer_tokens"]) == (row["output_visible"], 5, 3)
    assert (row["usage_quality"], row["count_quality"], row["price_status"]) == ("ok", "exact_tokenizer", "estimated")
    kept = str(store.rows(f"SELECT * FROM {store.table('parts')}"))
    assert "weather" not in kept
    assert "warm" not in kept


def test_dead_letters_that_are_parts_by_now_are_joined_by_a_replay(
    store: Store, address: StoreAddress, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    number = range(20)
    path.write_bytes(split.lines([part(n) for part in (split.response, split.request) for n in number][:-1]))
    with monkeypatch.context() as older:
        older.setattr("transforms.decode.registry.FORMATS", FORMATS)
        go(address, path)
    assert ledger(store)["dead_letter"] == 39
    job = Job((path,), StoreSettings(address))
    assert replay(job, dry_run=True).letters == {("unknown_format", PART, ""): 39}
    assert calls(store) == []
    replay(job)
    holds(store)
    assert [row["id"] for row in calls(store)] == [f"chatcmpl-{n}" for n in number]
    assert [row["id"] for row in calls(store) if row["flags"]] == ["chatcmpl-19"]
    assert totals(store)["calls"] == (20, sum(Decimal(split.pico(n)).scaleb(-12) for n in number))
    assert store.rows(f"SELECT count() FROM {living(store)}") == [(0,)]
    assert replay(job).letters == {}


def test_a_record_in_more_bytes_than_allowed_is_a_dead_letter_whatever_its_pieces(
    store: Store, address: StoreAddress, tmp_path: Path
) -> None:
    (tmp_path / "a.jsonl").write_bytes(split.lines([{"piece": "p", "number": n, "of": 3, "text": "x" * 900} for n in range(3)]))
    go(address, tmp_path, decode=DecodeSettings(join=JoinSettings(max_bytes=2000)))
    holds(store)
    letters = store.rows(f"SELECT reason, size FROM {living(store)}")
    assert letters == [("record_too_large", 2700)]
