"""Prices and rules that change while calls are read: each call goes by those of its own time, whenever it is read.

What a call must cost, and whose it must be, is worked out here by hand from the numbers that stand in the files.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from apache_beam import ParDo
from apache_beam.internal.cloudpickle import cloudpickle
from apache_beam.pipeline import PipelineVisitor
from hypothesis import given
from hypothesis import strategies as st

from pipelines.changes import Changes
from pipelines.follow import follow
from pipelines.job import Job
from pipelines.live import WATCH
from pipelines.run import run
from pipelines.stream import streaming
from pipelines.terms import TermsFiles, announce_from, earliest, read_content, timeline
from schemas.batch import RawBatch, SegmentEnd
from schemas.tables import CALLS
from sinks.clickhouse import Store, StoreAddress, StoreSettings, StoreUnavailable
from sinks.terms import announced
from sources.kafka import KafkaSettings
from tests.own.samples import rules_from
from tests.pipelines.jobs import holds
from tests.sinks.front.conftest import MAIN, PASSWORDS, served
from transforms.count import CountSettings
from transforms.decode import DecodeSettings
from transforms.own.files import RulesError, read_rules
from transforms.price import BookError
from transforms.price.entries import Files
from transforms.steps import CallsToRowsDoFn
from transforms.terms import Terms, in_order, which
from transforms.work import CallWork

NOON = 1_748_779_200_000_000
TOKENS = 1000

BOOK = """providers = ["acme"]
source = "our contract"
recorded = 2026-11-24

[[model]]
model = "m"
prices = [{{ input = "{}" }}]
"""
RULES = '[[rule]]\nname = "{0} rule"\nwhen = {{ api_key_alias = "key-*" }}\nteam = "{0}"\n'


def book(dollars_per_million: str) -> Files:
    return (("acme.toml", BOOK.format(dollars_per_million)),)


def event(number: int, micros: int, **said: Any) -> bytes:
    """A call of 1,000 prompt tokens at this event time."""
    started = datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000, tzinfo=UTC)
    record = {"schema": "llm-finops/call/v1", "provider": "acme", "model": "m", "id": f"call-{number}", "api_key_alias": "key-1"}
    return json.dumps({**record, "started_at": started.isoformat(), "usage": {"input_fresh": TOKENS}, **said}).encode()


def cost(dollars_per_million: str) -> Decimal:
    return Decimal(dollars_per_million) * TOKENS / 1_000_000


# -- which terms a call goes by ---------------------------------------------------------------------------------------


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=6, unique=True), st.lists(st.integers(-7, 7), min_size=1))
def test_a_call_goes_by_the_newest_terms_that_began(begins: list[int], times: list[int]) -> None:
    line = in_order(Terms(since=begin) for begin in begins)
    for found, at in zip(which(line, np.array(times, np.int64)).tolist(), times, strict=True):
        begun = [begin for begin in begins if begin <= at]
        assert line[found].since == (max(begun) if begun else min(begins))


def test_calls_of_one_batch_go_by_the_terms_of_their_own_time() -> None:
    """Prices, owners and the headers that rules name; in whatever order the calls come."""
    by_header = rules_from([{"name": "by header", "when": {"headers": {"X-Red": "*"}}, "team": "red"}])
    later = rules_from([{"name": "by key", "when": {"headers": {"X-Blue": "*"}}, "team": "blue"}])
    line = (Terms((book("2"),), by_header), Terms((book("3"),), by_header, NOON), Terms((book("5"),), later, NOON + 10))
    work = CallWork(DecodeSettings(), CountSettings(), line)
    times = [NOON + 10, NOON - 1, NOON + 9, NOON, NOON + 11, NOON - 2]
    records = [
        json.dumps(
            {
                "request": {
                    "url": "https://acme.example/v1/chat/completions",
                    "headers": {"x-red": "1", "x-blue": "1"},
                    "body": {"model": "m", "messages": []},
                },
                "response": {"status": 200, "body": {"id": f"c{at}", "model": "m", "usage": {"prompt_tokens": TOKENS}}},
                "provider": "acme",
            }
        ).encode()
        for at in times
    ]
    raw = RawBatch("a", bytes(16), bytes(16), min(times), records, list(range(6)), end=SegmentEnd(0, 6, 6, 0), times=times)
    rows = work.rows(raw, lambda *_: None).calls.to_pylist()
    assert len(rows) == 6
    for row in rows:
        at = row["position"]
        micros = times[at]
        dollars, team, header = (
            ("2", "red", "x-red") if micros < NOON else ("3", "red", "x-red") if micros < NOON + 10 else ("5", "blue", "x-blue")
        )
        assert (row["team"], [name for name, _ in row["headers"]]) == (team, [header])
        assert row["cost"] == cost(dollars), row["price_reason"]


def test_what_is_compiled_stays_where_terms_stay() -> None:
    """A book takes a tenth of a second to compile: a change of rules costs none of it."""
    work = CallWork(DecodeSettings(), CountSettings(), (Terms((book("2"),)),))
    before = work._compiled(0).book
    work.take_up((Terms((book("2"),)), Terms((book("2"),), rules_from(RULES.format("x")), NOON)))
    assert work._compiled(0).book is before
    assert work._compiled(1).book is before


# -- while a run follows ------------------------------------------------------------------------------------------------


class Written:
    """A folder of prices and a file of rules, as an operator changes them."""

    def __init__(self, folder: Path) -> None:
        self.books, self.rules = folder / "contract", folder / "owners.toml"
        self.books.mkdir()

    def say(self, dollars_per_million: str, team: str) -> None:
        (self.books / "acme.toml").write_text(BOOK.format(dollars_per_million), encoding="utf-8")
        self.rules.write_text(RULES.format(team), encoding="utf-8")

    @property
    def terms(self) -> TermsFiles:
        return TermsFiles((self.books,), (self.rules,))


@pytest.fixture
def files(tmp_path: Path) -> Written:
    made = Written(tmp_path)
    made.say("2", "red")
    return made


def job_of(address: StoreAddress, logs: Path, files: Written) -> Job:
    """As the settings make it: what is wrong in files ends the command before anything is done."""
    rules = (files.rules,)
    return Job([logs], StoreSettings(address), books=(files.books,), owners=read_rules(rules), rules=rules, lead_s=1)


Step = Iterator[bool]
"""What an operator does; each item: whether what was waited for has come."""


def play(job: Job, step: Step) -> list[str]:
    """Follow until all steps were done; what was said."""
    end, said = time.monotonic() + 90, list[str]()

    def stop() -> bool:
        assert time.monotonic() < end, said
        return next(step, None) is None

    follow(job, stop, said.append)
    return said


def found(store: Store) -> dict[str, tuple[Any, ...]]:
    rows = store.rows(
        f"SELECT provider_call_id, toUnixTimestamp64Micro(event_time), cost, team, owner_rule FROM {store.table('calls')} FINAL"
    )
    return {name: tuple(values) for name, *values in rows}


def everything(store: Store) -> list[dict[str, Any]]:
    """Every column of every call but those of its writing, and the segment: a short file that has grown begins otherwise."""
    columns = ", ".join(name for name in CALLS.arrow.names if name != "segment")
    return store.named_rows(f"SELECT {columns} FROM {store.table('calls')} FINAL ORDER BY call_key")


def rollups(store: Store) -> list[Any]:
    return [
        store.rows(f"SELECT * EXCEPT (version, duration_ms) FROM {store.table(name)} FINAL WHERE calls != 0 ORDER BY ALL")
        for name in ("minutes", "hours", "days")
    ]


def until(condition: Any) -> Step:
    while not condition():
        yield False


def test_changed_files_hold_from_their_time_on_whatever_is_restarted_and_read_again(
    store: Store, address: StoreAddress, tmp_path: Path, files: Written
) -> None:
    logs, wanted = tmp_path / "logs", dict[str, tuple[Any, ...]]()
    logs.mkdir()
    begins: list[int] = []

    def log(number: int, micros: int, dollars: str, team: str) -> None:
        with (logs / "calls.jsonl").open("ab") as file:
            file.write(event(number, micros) + b"\n")
        wanted[f"call-{number}"] = (micros, cost(dollars), team, f"{team} rule")

    def all_there() -> bool:
        return found(store).keys() == wanted.keys()

    def begun(count: int) -> bool:
        begins[:] = [one.since for one in announced(store)]
        return len(begins) == count

    def first() -> Step:
        now = time.time_ns() // 1000
        log(1, now - 3600_000_000, "2", "red")
        log(2, now, "2", "red")
        yield from until(all_there)
        files.say("3", "blue")
        yield from until(lambda: begun(2))
        assert begins[0] == 0
        assert begins[1] >= now + 1_000_000, "it holds from ahead of the clock on"
        log(3, begins[1] - 1, "2", "red")
        log(4, begins[1], "3", "blue")
        log(5, now - 7200_000_000, "2", "red")
        yield from until(lambda: all_there() and WATCH.terms_changed == 1)
        files.rules.write_text(RULES.format("green").replace("team =", "taem ="), encoding="utf-8")
        yield from until(lambda: "did you mean team?" in WATCH.terms_wrong)
        log(6, begins[1] + 1_000_000, "3", "blue")
        yield from until(all_there)
        files.say("3", "blue")
        yield from until(lambda: not WATCH.terms_wrong)

    said = play(job_of(address, logs, files), first())
    assert found(store) == wanted
    assert [line for line in said if line.startswith("changed prices and rules are wrong, and those before them stay: owners.toml")]
    assert len([line for line in said if "on go by changed prices and rules (terms " in line]) == 1
    assert len(announced(store)) == 2, "what was wrong was never announced"

    files.say("5", "green")  # while nothing runs

    def second() -> Step:
        yield from until(lambda: begun(3))
        log(7, begins[2] - 1, "3", "blue")
        log(8, begins[2], "5", "green")
        log(9, begins[1] - 2, "2", "red")
        yield from until(all_there)

    said = play(job_of(address, logs, files), second())
    assert len([line for line in said if "on go by changed prices and rules" in line]) == 1
    assert found(store) == wanted
    holds(store)
    before = everything(store), rollups(store)
    run(replace(job_of(address, logs, files), again=True, workers=2))
    assert (everything(store), rollups(store)) == before
    holds(store)


def test_what_another_process_announces_is_taken_up(
    store: Store, address: StoreAddress, tmp_path: Path, files: Written
) -> None:
    """Announced for an event time that was stated, before the files of the run are changed to the same content."""
    logs, other = tmp_path / "logs", tmp_path / "other"
    logs.mkdir()
    other.mkdir()
    new = Written(other)
    new.say("7", "violet")
    at = (time.time_ns() // 60_000_000_000 + 5) * 60_000_000
    records = [event(number, at + micros) for number, micros in enumerate((-1, 0, 1))]

    def steps() -> Step:
        yield from until(lambda: len(announced(store)) == 1)
        announce_from(store, read_content(new.terms), at)
        files.say("7", "violet")
        yield from until(lambda: WATCH.terms_changed == 1)
        (logs / "a.jsonl").write_bytes(b"".join(record + b"\n" for record in records))
        yield from until(lambda: len(found(store)) == 3)

    play(job_of(address, logs, files), steps())
    assert [one.since for one in announced(store)] == [0, at], "the changed files say nothing new"
    assert (WATCH.terms_since, WATCH.terms) == (at / 1e6, read_content(files.terms).fingerprint)
    assert [found(store)[f"call-{number}"][1:3] for number in range(3)] == [
        (cost("2"), "red"),
        (cost("7"), "violet"),
        (cost("7"), "violet"),
    ]


def test_runs_of_a_store_without_terms_go_by_their_own_settings(
    store: Store, address: StoreAddress, tmp_path: Path, files: Written
) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "a.jsonl").write_bytes(event(1, NOON))
    for dollars, team in (("2", "red"), ("3", "blue")):
        files.say(dollars, team)
        run(replace(job_of(address, logs, files), again=True))
        assert found(store)["call-1"][1:3] == (cost(dollars), team)
    assert announced(store) == ()


# -- files that are watched -----------------------------------------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_file_that_is_being_written_is_left_until_it_is_quiet(store: Store, files: Written) -> None:
    clock = Clock()
    changes = Changes(store, files.terms, 3, clock=clock)

    def look() -> Any:
        clock.now += 1
        return changes.look()

    assert look() is None
    for text in ("", RULES.format("blue")[:20], RULES.format("blue")):  # each of them another size
        files.rules.write_text(text, encoding="utf-8")
        assert look() is None
        assert (changes.wrong, list(changes.news())) == ("", [])
    assert [rule.name for rule in look()[-1].owners] == ["blue rule"]
    assert look() is None


def test_it_looks_as_often_as_is_needed_and_no_more(store: Store, files: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    changes = Changes(store, files.terms, 30, clock=clock)
    asked: list[float] = []
    monkeypatch.setattr(Store, "rows", lambda *_: asked.append(clock.now) or [(one.since, one.fingerprint) for one in changes.known])
    for clock.now in range(31):
        assert changes.look() is None
    assert asked == [10, 20, 30]


@pytest.mark.parametrize("step", ["the table", "what is in it", "the book"])
def test_a_look_that_fails_is_made_again(store: Store, files: Written, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    changes = Changes(store, files.terms, 3, watch=False, clock=clock)
    files.say("3", "blue")
    announce_from(store, read_content(files.terms), NOON)
    part = {"the table": "ORDER BY since", "what is in it": "any(content)", "the book": "book_version ="}[step]
    if step == "what is in it":
        monkeypatch.setattr("pipelines.terms._PARSED", {})
    rows = Store.rows

    def away(self: Store, sql: str, *more: Any) -> Any:
        if part in sql:
            raise StoreUnavailable("it is away")
        return rows(self, sql, *more)

    clock.now = 1
    monkeypatch.setattr(Store, "rows", away)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            changes.look()
    monkeypatch.setattr(Store, "rows", rows)
    found = changes.look()
    assert found is not None
    assert [one.since for one in found] == [0, NOON]
    assert changes.look() is None


def test_files_that_go_away_or_come_back_as_they_were_change_nothing(store: Store, files: Written) -> None:
    clock = Clock()
    changes = Changes(store, files.terms, 3, clock=clock)
    text = files.rules.read_text(encoding="utf-8")
    files.rules.unlink()
    for clock.now in (1, 2, 3):
        assert changes.look() is None
    assert f"{files.rules}: No such file or directory" in changes.wrong
    assert len(list(changes.news())) == 1
    files.rules.write_text(text, encoding="utf-8")
    for clock.now in (4, 5, 6):
        assert changes.look() is None
    assert changes.wrong == ""
    assert len(announced(store)) == 1


def test_nothing_is_watched_if_so_asked(store: Store, files: Written) -> None:
    clock = Clock()
    changes = Changes(store, files.terms, 3, watch=False, clock=clock)
    files.say("3", "blue")
    for clock.now in range(1, 6):
        assert changes.look() is None
    announce_from(store, read_content(files.terms), NOON)
    clock.now += 1
    found = changes.look()
    assert found is not None
    assert [one.since for one in found] == [0, NOON]


def test_what_is_wrong_is_never_announced(store: Store, files: Written) -> None:
    files.say("-3", "blue")
    with pytest.raises(BookError, match=r"acme\.toml.*-3"):
        announce_from(store, read_content(files.terms), NOON)
    files.say("3", "unallocated")
    with pytest.raises(RulesError, match="stands for what nobody claims"):
        Changes(store, files.terms, 3)
    assert announced(store) == ()


def test_the_earliest_time_is_a_whole_second_ahead_by_the_lead() -> None:
    for now in (NOON, NOON + 1, NOON - 1, NOON + 999_999):
        at = earliest(now, 30)
        assert at % 1_000_000 == 0
        assert 30_000_000 <= at - now < 31_000_000


# -- workers of an unbounded job ------------------------------------------------------------------------------------------


def step_of(job: Job) -> CallsToRowsDoFn:
    """The step that prices calls in the streaming job, as a worker gets it."""
    chosen: list[CallsToRowsDoFn] = []

    class Visitor(PipelineVisitor):  # type: ignore[misc]
        def visit_transform(self, node: Any) -> None:
            if isinstance(node.transform, ParDo) and isinstance(node.transform.fn, CallsToRowsDoFn):
                chosen.append(cloudpickle.loads(cloudpickle.dumps(node.transform.fn)))

    streaming(job).visit(Visitor())
    (step,) = chosen
    step.setup()
    return step


def test_workers_ask_the_store_and_price_nothing_while_it_is_away(
    store: Store, address: StoreAddress, files: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    announce_from(store, read_content(files.terms), 0)
    job = Job((), StoreSettings(address), source=KafkaSettings(("b:9092",), ("t",)), runner="DirectRunner", lead_s=3e-9)
    step = step_of(replace(job, terms=timeline(store)))
    raw = RawBatch("a", bytes(16), bytes(16), NOON, [event(1, NOON - 1), event(2, NOON)], [0, 1])

    def priced() -> list[tuple[Any, ...]]:
        (rows,) = step.process(raw)
        return [(row["cost"], row["team"]) for row in rows.calls.to_pylist()]

    assert priced() == [(cost("2"), "red")] * 2
    files.say("3", "blue")
    announce_from(store, read_content(files.terms), NOON)
    assert priced() == [(cost("2"), "red"), (cost("3"), "blue")]
    monkeypatch.setattr(StoreSettings, "open", lambda _: (_ for _ in ()).throw(StoreUnavailable("it is away")))
    with pytest.raises(StoreUnavailable):
        priced()
    monkeypatch.undo()
    assert priced() == [(cost("2"), "red"), (cost("3"), "blue")]
    slow = step_of(replace(job, terms=timeline(store), lead_s=3600))
    list(slow.process(raw))
    monkeypatch.setattr(StoreSettings, "open", lambda _: (_ for _ in ()).throw(StoreUnavailable("it is away")))
    list(slow.process(raw))  # it asked a moment ago


# -- the command ----------------------------------------------------------------------------------------------------------


def test_the_command_announces_and_shows(tmp_path: Path, files: Written) -> None:
    def tool(*words: str) -> str:
        environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "LLM_FINOPS_STORE__PASSWORD": PASSWORDS["writer"]}
        command = [sys.executable, "-c", MAIN, "terms", *words]
        said = subprocess.run(command, env=environ, text=True, capture_output=True, check=False)
        return said.stdout if said.returncode == 0 else f"{said.returncode} {said.stderr}"

    with served(tmp_path) as server:
        to = ["--to", f"http://writer@127.0.0.1:{server.port}"]
        now = ["--price-books", str(files.books), "--owners-rules", str(files.rules)]
        first = read_content(files.terms).fingerprint
        assert tool("announce", *to, *now).endswith(f"on go by changed prices and rules (terms {first})\n")
        files.say("3", "blue")
        second = read_content(files.terms).fingerprint
        line = "calls from 2099-03-01T08:30:00Z on go by changed prices and rules (terms {})\n"
        assert tool("announce", *to, *now, "--from", "2099-03-01T08:30") == line.format(second)
        rows = json.loads(tool("show", *to, "--format", "json"))
        assert [(row["terms"], row["books"], row["rules"]) for row in rows] == [(first, 1, 1), (second, 1, 1)]
        assert rows[1]["since"] == "2099-03-01T08:30:00Z"
        books = server.client().query("SELECT DISTINCT book_version FROM llm_finops.prices").result_rows
        assert {row["book_version"] for row in rows} == {version for (version,) in books}
        assert rows[0]["book_version"] != rows[1]["book_version"]
        files.say("x", "blue")
        assert tool("announce", *to, *now).startswith("2 llm-finops: acme.toml")
        assert server.end() == 0
