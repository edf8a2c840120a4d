"""Dead letters run again: the end is that of reading everything afresh with what was mended."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import zlib
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd

from pipelines.cli import main
from pipelines.forget import Person, forget
from pipelines.job import Job
from pipelines.replay import Replayed, replay
from pipelines.state import State
from pipelines.summary import dead_letters
from sinks.clickhouse import Store, StoreAddress, StoreError, StoreSettings, connect, disconnect
from sinks.reconcile import ledger
from sinks.schema import migrate
from sources.files import FileLimits
from sources.generate import GenerateSettings, generate, write
from tests.pipelines.jobs import go, holds, totals
from tests.pipelines.test_cli import finops
from transforms.count import CountSettings
from transforms.decode import DecodeSettings, registry

# Of a call that was delivered several times any delivery may stand, so the place it was read from is not compared.
TABLES = {
    "calls": "version, ingested_at, source, segment, position, item",
    "receipts": "ingested_at",
    "segments": "ingested_at",
    "minutes": "version, duration_ms",
    "hours": "version, duration_ms",
    "days": "version, duration_ms",
}

EVENT = {
    "schema": "llm-finops/call/v1",
    "provider": "openai",
    "model": "gpt-4o-2024-08-06",
    "id": "chatcmpl-1",
    "started_at": "2026-03-02T10:00:00.5Z",
    "usage": {"input_fresh": 1000, "output_visible": 100},
}
PRICE = Decimal("0.0035")  # 1,000 × $2.50/M + 100 × $10/M


def event(**changes: Any) -> dict[str, Any]:
    return {key: value for key, value in {**EVENT, **changes}.items() if value is not None}


def state(store: Store) -> dict[str, Any]:
    """All that must be as if everything had been read afresh."""
    tables = {
        name: store.rows(
            f"SELECT * EXCEPT ({volatile}) FROM {store.table(name)} FINAL"
            f" {'WHERE calls != 0' if 'duration' in volatile else ''} ORDER BY ALL"
        )
        for name, volatile in TABLES.items()
    }
    once = f"SELECT call_key FROM {store.table('receipts')} FINAL WHERE outcome = 'call' GROUP BY call_key HAVING count() = 1"
    places = store.rows(
        f"SELECT call_key, source, segment, position, item FROM {store.table('calls')} FINAL WHERE call_key IN ({once}) ORDER BY ALL"
    )
    letters = {row["reason"]: row["letters"] for row in dead_letters(store)}
    return {**tables, "places": places, "letters": letters, "ledger": ledger(store)}


def everything(store: Store) -> dict[str, Any]:
    """Every row of every table with its times and versions: what a command that writes nothing leaves alone."""
    return {name: store.rows(f"SELECT * FROM {store.table(name)} ORDER BY ALL") for name in (*TABLES, "dead_letters", "prices")}


@contextmanager
def defect(monkeypatch: pytest.MonkeyPatch, hits: Callable[[dict[str, Any]], bool]) -> Iterator[None]:
    """While the block lasts, every decoder fails on the records that ``hits`` picks."""

    def failing(decode: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
        def decoder(record: dict[str, Any]) -> Any:
            if hits(record):
                raise KeyError("a defect")
            return decode(record)

        return decoder

    with monkeypatch.context() as patch:
        patch.setattr(registry, "FORMATS", tuple(form._replace(decode=failing(form.decode)) for form in registry.FORMATS))
        yield


def some(record: dict[str, Any]) -> bool:
    return zlib.crc32(orjson.dumps(record)) % 4 == 0


def again(address: StoreAddress, *paths: Path, reasons: tuple[str, ...] = (), dry_run: bool = False, **settings: Any) -> Replayed:
    page = settings.pop("page", 50_000)
    rows = settings.pop("insert_rows", 20_000)
    return replay(Job(paths, StoreSettings(address, insert_rows=rows), **settings), reasons, dry_run, page)


@contextmanager
def another(address: StoreAddress) -> Iterator[StoreAddress]:
    """A second, empty database beside the first."""
    other = StoreAddress(folder=address.folder, database=address.database + "b")
    try:
        yield other
    finally:
        connect(other).command(f"DROP DATABASE IF EXISTS `{other.database}`")
        disconnect(other)


def afresh(address: StoreAddress, *paths: Path, **settings: Any) -> dict[str, Any]:
    with another(address) as other:
        go(other, *paths, **settings)
        return state(connect(other))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two hours of traffic with duplicates, undated and broken records, one file of each kind; arrays of calls."""
    folder = tmp_path_factory.mktemp("replay")
    write(GenerateSettings(seed=5, calls=900, hours=4, broken=0.02, undated=0.05, duplicates=0.03), folder / "raw")
    files = []
    for number, file in enumerate(sorted((folder / "raw").glob("calls-*"))):
        content = gzip.decompress(file.read_bytes())
        path = folder / f"calls-{number}.log"
        if number % 4 == 0:
            path.write_bytes(content)
        elif number % 4 == 1:
            path.write_bytes(zstd.compress(content))
        elif number % 4 == 2:
            pq.write_table(pa.table({"value": pa.array(content.splitlines(), pa.binary())}), path)
        else:
            shutil.copy(file, path)
        files.append(path)
    many = [[event(id=f"a{n}-{m}", usage={"input_fresh": 10 * n + m, "output_visible": 1}) for m in range(3)] for n in range(20)]
    bare = [event(id=None, started_at=None, usage={"input_fresh": 7, "output_visible": 1})] * 6
    files.append(folder / "more.jsonl")
    files[-1].write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in [*many, *bare]))
    return files


@pytest.fixture(scope="module")
def few(logs: list[Path], engine: Path) -> tuple[list[Path], dict[str, Any]]:
    """Two of the files, and the state after they were read."""
    return logs[-2:], afresh(StoreAddress(folder=str(engine), database="few"), *logs[-2:])


def hits_some(record: dict[str, Any]) -> bool:
    return some(record) or (record.get("schema") == EVENT["schema"] and "id" not in record)


def test_replayed_is_as_if_read_afresh_and_twice_changes_nothing(
    logs: list[Path], store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = afresh(address, *logs)
    limits = FileLimits(split_bytes=100_000, batch_records=50)
    with defect(monkeypatch, hits_some):
        go(address, *logs)
    dead = {row["reason"]: row["letters"] for row in dead_letters(store)}
    assert dead["decoder_error"] > 100
    done = again(address, page=64, insert_rows=40, limits=limits)
    assert state(store) == wanted
    holds(store)
    became: Tally[tuple[str, str]] = Tally()
    for (reason, what, _), count in done.letters.items():
        became[reason, what] += count
    broken = became["decoder_error", "still dead"]  # the defect hid what is wrong with them
    assert became["decoder_error", "call"] == dead["decoder_error"] - broken
    assert broken < 5
    assert became["not_json", "still dead"] == dead["not_json"]
    assert {what for _, what in became} == {"call", "still dead"}
    once = everything(store)
    assert again(address).calls == 0
    assert everything(store) == once
    go(address, *logs)  # the same records read by a run are the same calls
    assert state(store) == wanted


def test_what_is_new_is_what_was_missing(
    logs: list[Path], store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    with defect(monkeypatch, hits_some):
        go(address, *logs)
    sums = f"SELECT count(), ifNull(sum(cost), 0) FROM {store.table('calls')} FINAL"
    before = store.rows(sums)[0]
    untouched = everything(store)
    dry = again(address, dry_run=True, page=10)
    assert everything(store) == untouched
    done = again(address, page=64)
    after = store.rows(sums)[0]
    assert (done.calls, done.spend) == (after[0] - before[0], after[1] - before[1])
    assert done.calls > 100
    assert (dry.letters, dry.calls, dry.spend, dry.minutes) == (done.letters, done.calls, done.spend, 0)


@pytest.mark.parametrize("last", [1, 2, 3, 6, 10])
def test_a_replay_that_was_killed_is_finished_by_the_next(
    few: tuple[list[Path], dict[str, Any]], store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    files, wanted = few
    with defect(monkeypatch, hits_some):
        go(address, *files)
    done = [0]

    class Killed(BaseException):
        pass

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Store, first: Any, *rest: Any) -> Any:
            done[0] += 1
            if done[0] == last:
                raise Killed
            return real(self, first, *rest)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Store, "command", dying(Store.command))
        insert = Store.insert
        patch.setattr(Store, "insert", lambda self, table, rows: dying(insert)(self, table, rows) if rows.num_rows else None)
        with pytest.raises(Killed):
            again(address, page=20)
    again(address)
    assert state(store) == wanted
    holds(store)


@pytest.mark.parametrize("how", ["renamed", "gzip", "zstd"])
def test_a_file_that_moved_is_found_by_its_content(
    store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"".join(orjson.dumps(event(id=f"c{n}", started_at=None)) + b"\n" for n in range(50)))
    wanted = afresh(address, log)
    with defect(monkeypatch, some):
        go(address, log)
    content = log.read_bytes()
    moved = tmp_path / "elsewhere"
    moved.write_bytes({"gzip": gzip.compress, "zstd": zstd.compress}.get(how, bytes)(content))
    log.unlink()
    gone = again(address)
    assert {what for _, what, _ in gone.letters} == {"source gone"}
    assert {what for _, what, _ in again(address, moved).letters} == {"call"}
    now = state(store)
    assert now["minutes"] == wanted["minutes"]  # also at the time of the first sight
    assert now["receipts"] == wanted["receipts"]


def test_a_changed_file_is_not_the_source_and_nothing_is_written(
    store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    lines = [orjson.dumps({**event(id=f"c{n}"), "tags": {"pad": "x" * 2000}}) + b"\n" for n in range(60)]
    log.write_bytes(b"".join(lines))
    with defect(monkeypatch, lambda record: record["id"] in ("c0", "c50", "c59")):
        go(address, log)
    before = state(store)
    log.write_bytes(b"".join(lines[:50]) + lines[50].replace(b"c50", b"X50") + b"".join(lines[51:59]))
    done = again(address)  # the same first 64 KiB; one record is another, one is cut off
    assert done.letters == {("decoder_error", "call", ""): 1, ("decoder_error", "source changed", ""): 2}
    assert ledger(store)["dead_letter"] == 2
    assert ledger(store)["call"] == before["ledger"]["call"] + 1
    log.write_bytes(b"something else\n")
    assert again(address).letters == {("decoder_error", "source changed", ""): 2}
    log.unlink()
    assert again(address).letters == {("decoder_error", "source gone", ""): 2}


def test_a_small_file_that_grew_is_still_the_source(
    store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    lines = [orjson.dumps(event(id=f"c{n}")) + b"\n" for n in range(20)]
    log.write_bytes(b"".join(lines[:10]))
    wanted = afresh(address, log)
    with defect(monkeypatch, some):
        go(address, log)
    assert dead_letters(store)
    with log.open("ab") as file:
        file.writelines(lines[10:])
    assert {what for _, what, _ in again(address).letters} == {"call"}
    assert state(store) == wanted


def test_a_payload_serves_only_where_it_is_the_record_to_the_byte(
    store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    records = [
        event(id="plain"),
        event(id="secret", tags={"note": "Bearer sk-abcdefghijklmnopqrstuvwxyz0123456789"}),
        event(id="long", tags={"note": "x" * 70_000}),
        event(id="undated", started_at=None),
        event(id=None, started_at=None),  # its place is part of its key, which only the file tells
        event(id=None),
    ]
    log.write_bytes(b"".join(orjson.dumps(record) + b"\n" for record in records))
    wanted = afresh(address, log)
    with defect(monkeypatch, lambda record: True):
        go(address, log, decode=DecodeSettings(keep_payloads=True))
    kept = store.rows(f"SELECT countIf(isNotNull(payload)) FROM {store.table('dead_letters')} FINAL")
    assert kept == [(6,)]
    log.rename(tmp_path / "kept")
    done = again(address)
    assert done.letters == {("decoder_error", "call", ""): 3, ("decoder_error", "source gone", ""): 3}
    ids = {row[0] for row in store.rows(f"SELECT provider_call_id FROM {store.table('calls')} FINAL")}
    assert ids == {"plain", "undated", ""}
    assert done.spend == 3 * PRICE
    (tmp_path / "kept").rename(log)
    assert again(address).letters == {("decoder_error", "call", ""): 3}
    assert state(store) == wanted


def test_a_record_whose_other_calls_would_become_others_is_left_alone(
    store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    pair = [event(id="bad"), event(id=None, started_at=None)]
    log.write_bytes(orjson.dumps(pair) + b"\n" + orjson.dumps([event(id="bad"), event(id="good")]) + b"\n")
    with defect(monkeypatch, lambda record: record.get("id") == "bad"):
        go(address, log)
    before = state(store)
    forms = registry.FORMATS

    def two(record: dict[str, Any]) -> Any:
        calls = forms[0].decode(record)
        return [*calls, *forms[0].decode({**record, "id": "bad-too"})] if record.get("id") == "bad" else calls

    with monkeypatch.context() as patch:  # the mended decoder finds two calls where the defect left one letter
        patch.setattr(registry, "FORMATS", (forms[0]._replace(decode=two), *forms[1:]))
        done = again(address)
        assert done.letters == {("decoder_error", "conflict", ""): 1, ("decoder_error", "call", ""): 1}
        assert done.calls == 2
        assert again(address).letters == {("decoder_error", "conflict", ""): 1}
    assert ledger(store)["call"] == before["ledger"]["call"] + 2
    holds(store)


def test_a_format_that_was_unknown_is_read_once_it_is_known(
    store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"".join(orjson.dumps(event(id=f"c{n}")) + b"\n" for n in range(6)))
    wanted = afresh(address, log)
    with monkeypatch.context() as patch:  # the software before it knew this format
        patch.setattr(registry, "FORMATS", tuple(form for form in registry.FORMATS if not form.detect(event())))
        go(address, log)
        assert again(address).letters == {("unknown_format", "still dead", "unknown_format"): 6}
    assert again(address).letters == {("unknown_format", "call", ""): 6}
    assert state(store) == wanted


def test_who_was_forgotten_does_not_come_back_by_a_letter(
    store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    users = ["alice@example.com", "bob@example.com"]
    log.write_bytes(b"".join(orjson.dumps(event(id=f"c{n}", user=user, session_id=f"{user}/1")) + b"\n" for n, user in enumerate(users)))
    with defect(monkeypatch, lambda record: True):
        go(address, log)
    forget(store, Person(users[0], "", (CountSettings().hash_key,)))
    assert again(address).letters == {("decoder_error", "call", ""): 2}
    found = store.rows(f"SELECT end_user != '', session_id, cost FROM {store.table('calls')} FINAL ORDER BY session_id")
    assert found == [(False, "", PRICE), (True, "bob@example.com/1", PRICE)]
    holds(store)


def test_a_long_record_is_read_with_a_higher_limit(store: Store, address: StoreAddress, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"".join(orjson.dumps(event(id=f"c{n}", tags={"n": "x" * 3000 * (n % 2)})) + b"\n" for n in range(6)))
    wanted = afresh(address, log)
    go(address, log, limits=FileLimits(max_record_bytes=2000))
    assert again(address, limits=FileLimits(max_record_bytes=1999)).letters == {
        ("record_too_large", "still dead", "record_too_large"): 3
    }
    assert again(address).letters == {("record_too_large", "call", ""): 3}
    assert state(store) == wanted


def test_a_letter_that_is_dead_for_another_reason_says_so_and_keeps_its_payload(
    store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(orjson.dumps(event(usage={"input_fresh": -1})) + b"\n" + b'{"object": "blank"}\n')
    wanted = afresh(address, log)
    with defect(monkeypatch, lambda record: True):
        go(address, log, decode=DecodeSettings(keep_payloads=True))
    done = again(address)
    assert done.letters[("decoder_error", "still dead", "bad_value")] == 1
    assert state(store) == wanted
    rows = store.rows(f"SELECT reason, isNotNull(payload), error LIKE '%-1%' FROM {store.table('dead_letters')} FINAL ORDER BY 1")
    assert rows[0] == ("bad_value", 1, 1)
    once = everything(store)
    again(address)
    assert everything(store) == once
    holds(store)


def test_a_record_is_never_divided_between_pages(
    store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_bytes(b"".join(orjson.dumps([event(id=f"c{n}-{m}") for m in range(5)]) + b"\n" for n in range(4)))
    wanted = afresh(address, log)
    with defect(monkeypatch, lambda record: True):
        go(address, log)
    dry = again(address, page=2, dry_run=True)
    assert (dry.letters, dry.calls) == ({("decoder_error", "call", ""): 20}, 20)
    assert again(address, page=2).letters == dry.letters
    assert state(store) == wanted


def test_reasons_choose_letters(logs: list[Path], store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    with defect(monkeypatch, some):
        go(address, logs[0])
    before = {row["reason"]: row["letters"] for row in dead_letters(store)}
    assert {reason for reason, *_ in again(address, reasons=("not_json",)).letters} <= {"not_json"}
    assert {row["reason"]: row["letters"] for row in dead_letters(store)} == before
    assert {reason for reason, *_ in again(address, reasons=("decoder_error",)).letters} == {"decoder_error"}


def test_a_store_without_letters(store: Store, address: StoreAddress) -> None:
    migrate(store)
    assert again(address) == Replayed({}, 0, Decimal(0), 0)


def test_a_line_that_was_read_half_written_is_one_call(tmp_path: Path) -> None:
    """Its usage was whole already: it is dead until the rest of it is there, and not run again beside it after that."""
    answer = {"id": "chatcmpl-2", "model": "gpt-4o-2024-08-06", "usage": {"prompt_tokens": 1000, "completion_tokens": 100}}
    pair = {"url": "https://api.openai.com/v1/chat/completions", "started_at": EVENT["started_at"], "response": answer,
            "request": {"model": "gpt-4o", "messages": [{"role": "user", "content": "long " * 50}]}}  # fmt: skip
    log, line = tmp_path / "log.jsonl", orjson.dumps(pair)
    log.write_bytes(orjson.dumps(event()) + b"\n" + line[:-60])
    counted = []
    for rest in (line[-60:] + b"\n", b""):
        os.utime(log, (1, 1))
        run = finops("run", "--from", "log.jsonl", "--to", "chdb://store", "--decode-keep-payloads", "true",
                     "--quiet", "--format", "json", cwd=tmp_path)  # fmt: skip
        assert run.returncode == 0, run.stderr
        counted.append((json.loads(run.stdout)["calls"], json.loads(run.stdout)["dead_letters"]))
        with log.open("ab") as file:
            file.write(rest)
    assert counted == [(1, 1), (2, 0)]
    done = finops("replay-dead", "--to", "chdb://store", "--quiet", "--format", "json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads(finops("summary", "--to", "chdb://store", "--format", "json", cwd=tmp_path).stdout)
    assert (summary["totals"]["calls"], Decimal(summary["totals"]["spend"])) == (2, 2 * PRICE)


# -- the command line --------------------------------------------------------------------------------------------


def test_the_command_says_what_became_of_each_reason(tmp_path: Path) -> None:
    lines = [orjson.dumps(event(id=f"c{n}", tags={"n": "x" * 3000 * (n % 2)})) for n in range(6)]
    (tmp_path / "log.jsonl").write_bytes(b"\n".join([*lines, b'{"cut": ']) + b"\n")
    small = finops(
        "run", "--from", "log.jsonl", "--to", "chdb://store", "--source-max-record-bytes", "2000", "--quiet", cwd=tmp_path
    )
    assert small.returncode == 0, small.stderr
    words = ("replay-dead", "--to", "chdb://store", "--quiet")
    dry = finops(*words, "--dry-run", cwd=tmp_path)
    assert "What would become of dead letters" in dry.stdout
    assert "3 calls would be new, $0.01" in dry.stdout
    done = finops(*words, "--format", "json", cwd=tmp_path)
    assert json.loads(done.stdout) == [
        {"reason": "not_json", "became": "still dead", "reason_now": "not_json", "letters": 1},
        {"reason": "record_too_large", "became": "call", "reason_now": "", "letters": 3},
    ]
    summary = json.loads(finops("summary", "--to", "chdb://store", "--format", "json", cwd=tmp_path).stdout)
    assert [(row["reason"], row["letters"]) for row in summary["dead_letter"]] == [("not_json", 1)]
    assert Decimal(summary["totals"]["spend"]) == 6 * PRICE


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--from", "nowhere"], 3, "nowhere: no such file or folder"),
        (["--reason", "not_jsn"], 2, "'not_jsn' is not one of"),
        (["--to", "ftp://x"], 2, "store.to = 'ftp://x'"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: list[str], code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["llm-finops", "replay-dead", "--quiet", *words])
    with pytest.raises(SystemExit) as left:
        main()
    assert (left.value.code, says in capsys.readouterr().err) == (code, True)


def test_a_store_that_another_process_writes_is_left_alone(tmp_path: Path) -> None:
    with State(StoreAddress(folder=str(tmp_path / "store"))):
        refused = finops("replay-dead", "--to", "chdb://store", "--quiet", cwd=tmp_path)
    assert refused.returncode == 4
    assert f"held by process {os.getpid()} on " in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    for words in (("replay-dead",), ("export", "calls", "--out", "x.csv"), ("summary",)):
        refused = finops(*words, "--to", "chdb://typo", cwd=tmp_path)
        assert (refused.returncode, "typo: no such folder" in refused.stderr) == (4, True), refused.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_empty_store_says_what_to_do(address: StoreAddress) -> None:
    with pytest.raises(StoreError, match="no llm-finops tables here"):
        again(address)


def test_calls_that_the_store_refused_are_run_again_when_it_takes_them(
    store: Store, address: StoreAddress, tmp_path: Path
) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_bytes(b"".join(record.value + b"\n" for record in generate(GenerateSettings(seed=4, calls=300, hours=1))))
    store.command(f"ALTER TABLE {store.table('calls')} ADD CONSTRAINT known CHECK team != 'search'")
    go(address, path)
    holds(store)
    refused = ledger(store)["dead_letter"]
    assert refused > 10
    store.command(f"ALTER TABLE {store.table('calls')} DROP CONSTRAINT known")
    done = again(address, path, reasons=("refused_by_store",))
    assert done.calls > 10
    holds(store)
    before = totals(store)
    go(address, path, again=True)
    assert totals(store) == before
    assert ledger(store)["dead_letter"] < refused
