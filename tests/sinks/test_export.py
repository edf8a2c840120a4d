"""Exports on the real engine, read back with pyarrow, pandas and the csv module, against what SQL and the input say."""

from __future__ import annotations

import csv
import io
import json
import random
import re
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from schemas.batch import DeadLetter, Ignored
from schemas.tables import CALLS, TABLES
from sinks.clickhouse import Retry, Store, StoreAddress, StoreError, connect
from sinks.export import EXPORTED, ExportError, Form, schema, select, write
from sinks.recompute import recompute
from sinks.reconcile import ledger
from sinks.writer import Writer
from tests.sinks.contract import broken, current, promised
from tests.sinks.samples import NOON, batch, call
from tests.sinks.stand_in import serving

CHECKOUT = Path(__file__).resolve().parents[2]
NASTY = [
    "",
    "plain",
    'quo"te',
    "com,ma",
    "line\nbreak",
    "cr\rlf\r\n",
    "ünïcødé 😀",
    "back\\slash",
    "'",
    "null",
    "\\N",
    "a\tb",
    "{}",
]
FORMULAS = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "\n=x", "  =1", "＝1", "－1"]


def fill(store: Store, *batches: Any) -> None:
    writer = Writer(store)
    for one in batches:
        writer.add(one)
    flushed = writer.flush()
    assert flushed is not None
    recompute(store, flushed.minutes)


def exported(store: Store, form: Form, name: str = "calls", **wanted: Any) -> bytes:
    file = io.BytesIO()
    counts = list(write(store, select(name, **wanted), form, file))
    assert counts == sorted(counts)
    if form is Form.PARQUET:
        assert counts[-1] == pq.ParquetFile(io.BytesIO(file.getvalue())).metadata.num_rows
    return file.getvalue()


def as_json(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.decode().splitlines()]


def as_csv(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def traffic(store: Store, count: int = 3000) -> list[Any]:
    """Calls with every kind of value, some delivered twice, and their dead letters."""
    rng = random.Random(5)
    texts = [*NASTY, *FORMULAS]
    calls = [
        call(
            n,
            NOON + rng.randrange(-86_400, 86_400, 30),
            team=rng.choice(("search", "support")),
            app=texts[n % len(texts)],
            trace_id=texts[n % 7],
            input_fresh=rng.choice((None, rng.randrange(10**9))),
            duration_ms=rng.choice((None, rng.random() * 1e6, 1e-9)),
            system_hash=rng.choice((0, 1, rng.getrandbits(63))),
            tags={"k": texts[n % len(texts)], 'q"': "x"} if n % 3 else None,
            stream=bool(n % 2),
        )
        for n in range(count)
    ]
    calls[7].flag("future_time")
    costs = [rng.choice((None, 0, 1, 999_999_999_999_999_999, rng.randrange(10**15))) for _ in calls]
    fill(store, batch(calls, costs, dead=[DeadLetter(9_000_001, 0, "not_json", "=cut", "", 12, 77, None)]))
    fill(store, batch(calls[:500], costs[:500]))  # again: what is stored twice is exported once
    return list(zip(calls, costs, strict=True))


@pytest.fixture(scope="module")
def filled(module_store: Store) -> tuple[Store, list[Any]]:
    return module_store, traffic(module_store)


def test_every_form_holds_every_call_once_and_every_value_as_it_went_in(filled: tuple[Store, list[Any]]) -> None:
    store, put = filled
    truth = {one.call_key.hex(): (one, cost) for one, cost in put}
    table = pq.read_table(io.BytesIO(exported(store, Form.PARQUET)))
    lines = as_json(exported(store, Form.JSONL))
    cells = as_csv(exported(store, Form.CSV))
    assert [row["call_key"] for row in lines] == [row["call_key"] for row in cells]
    assert table["call_key"].to_pylist() == [row["call_key"] for row in lines]
    assert len(lines) == len(truth) == len(put)
    assert table["cost"].type == schema(select("calls")).field("cost").type
    assert str(table["cost"].type) == "decimal128(18, 12)"
    for parquet, line, cell in zip(table.to_pylist(), lines, cells, strict=True):
        one, pico = truth[line["call_key"]]
        cost = None if pico is None else Decimal(pico).scaleb(-12)
        assert parquet["cost"] == cost
        assert line["cost"] is None if cost is None else Decimal(line["cost"]) == cost
        assert cell["cost"] == ("" if cost is None else line["cost"])
        assert "E" not in cell["cost"].upper()
        assert parquet["app"] == line["app"] == one.app
        assert cell["app"] == ("'" + one.app if one.app in FORMULAS else one.app)
        assert dict(parquet["tags"]) == line["tags"] == json.loads(cell["tags"]) == (one.tags or {})
        assert parquet["flags"] == line["flags"] == json.loads(cell["flags"]) == list(one.flags)
        assert parquet["input_fresh"] == line["input_fresh"] == one.input_fresh
        assert cell["input_fresh"] == ("" if one.input_fresh is None else str(one.input_fresh))
        assert parquet["duration_ms"] == line["duration_ms"] == one.duration_ms
        assert parquet["system_hash"] == line["system_hash"] == cell["system_hash"] == f"{one.system_hash:016x}"
        assert parquet["stream"] is line["stream"] is one.stream
        at = datetime.fromtimestamp(one.event_time // 10**6, UTC).replace(microsecond=one.event_time % 10**6)
        assert parquet["event_time"] == at
        assert line["event_time"] == cell["event_time"] == at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def test_pandas_reads_all_three_alike(filled: tuple[Store, list[Any]]) -> None:
    store, _ = filled
    columns = ["call_key", "team", "position", "cost"]
    csv_frame = pd.read_csv(io.BytesIO(exported(store, Form.CSV, columns=columns)), dtype=str)
    jsonl_frame = pd.read_json(io.BytesIO(exported(store, Form.JSONL, columns=columns)), lines=True, dtype=False)
    parquet_frame = pd.read_parquet(io.BytesIO(exported(store, Form.PARQUET, columns=columns)))
    assert list(csv_frame) == list(jsonl_frame) == list(parquet_frame) == columns
    assert csv_frame["position"].astype(int).tolist() == jsonl_frame["position"].tolist() == parquet_frame["position"].tolist()
    sums = [sum(Decimal(cost) for cost in frame["cost"].dropna()) for frame in (csv_frame, jsonl_frame, parquet_frame)]
    assert len(set(sums)) == 1


@pytest.mark.parametrize(("name", "time"), [("minutes", "minute"), ("hours", "hour"), ("days", "day")])
def test_sums_of_rollups_equal_sql_to_the_last_digit(filled: tuple[Store, list[Any]], name: str, time: str) -> None:
    store, put = filled
    total = sum(Decimal(pico or 0).scaleb(-12) for _, pico in put)
    assert store.rows(f"SELECT sum(cost) FROM {store.table('calls')} FINAL") == [(total,)]
    table = pq.read_table(io.BytesIO(exported(store, Form.PARQUET, name)))
    assert str(table["cost"].type) == "decimal128(38, 12)"
    assert sum(table["cost"].to_pylist()) == total
    assert sum(Decimal(row["cost"]) for row in as_csv(exported(store, Form.CSV, name))) == total
    lines = as_json(exported(store, Form.JSONL, name))
    assert sum(Decimal(row["cost"]) for row in lines) == total
    assert sum(row["calls"] for row in lines) == len(put)
    assert all(row[time].endswith("Z") and row["calls"] for row in lines)


def test_a_period_is_half_open_and_a_condition_exact(filled: tuple[Store, list[Any]]) -> None:
    store, put = filled
    # A call in the middle of its minute; at the very first instant it is in, at the end it is out.
    exact = next(one.event_time for one, _ in put if one.event_time // 10**6 % 60 == 30)
    since = datetime.fromtimestamp(exact // 10**6, UTC).replace(microsecond=exact % 10**6)
    until = datetime.fromtimestamp(NOON + 40_000, UTC)

    def keys(**wanted: Any) -> set[str]:
        return {row["call_key"] for row in as_json(exported(store, Form.JSONL, columns=["call_key"], **wanted))}

    def plain(test: Any) -> set[str]:
        return {one.call_key.hex() for one, _ in put if test(one)}

    assert keys(since=since) == plain(lambda c: c.event_time >= exact) != keys()
    assert keys(until=since) == plain(lambda c: c.event_time < exact)
    assert keys(since=since, until=until) == plain(lambda c: exact <= c.event_time < (NOON + 40_000) * 10**6)
    assert keys(where=[("team", "search")]) == plain(lambda c: c.team == "search")
    assert keys(where=[("team", "search"), ("team", "support")]) == keys()
    assert keys(where=[("app", "'"), ("team", "search")]) == plain(lambda c: c.app == "'" and c.team == "search")
    for text in ("back\\slash", "line\nbreak", "' OR 1=1 --"):
        assert keys(where=[("app", text)]) == plain(lambda c, text=text: c.app == text)
    assert keys(where=[("price_run", "1")]) == keys()
    assert keys(where=[("price_run", "2")]) == set()


def test_minutes_of_a_period_that_begins_within_one(filled: tuple[Store, list[Any]]) -> None:
    store, put = filled
    since = datetime.fromtimestamp(NOON + 30, UTC)
    calls = sum(row["calls"] for row in as_json(exported(store, Form.JSONL, "minutes", since=since)))
    assert calls == sum(one.event_time // 60_000_000 * 60 >= NOON + 30 for one, _ in put)


def test_nothing_selected_is_a_file_without_rows(filled: tuple[Store, list[Any]]) -> None:
    store, _ = filled
    nothing = {"where": [("team", "nobody")]}
    assert exported(store, Form.JSONL, **nothing) == b""
    assert as_csv(exported(store, Form.CSV, **nothing)) == []
    empty = pq.read_table(io.BytesIO(exported(store, Form.PARQUET, **nothing)))
    assert (empty.num_rows, empty.column_names) == (0, [c.name for c in CALLS.columns])


def test_vanished_keys_are_not_exported(store: Store) -> None:
    fill(store, batch([call(1, team="search")]))
    fill(store, batch([call(1, team="support")]))  # the same call, now with another owner
    assert [row["team"] for row in as_json(exported(store, Form.JSONL, "minutes"))] == ["support"]


def test_a_letter_whose_receipt_became_a_call_is_dead_no_more(store: Store) -> None:
    dead = [DeadLetter(n, 0, "not_json", "cut", "", 12, n, None) for n in (100, 200)]
    fill(store, batch([], dead=dead))
    assert [row["position"] for row in as_json(exported(store, Form.JSONL, "dead-letters"))] == [100, 200]
    fill(store, batch([call(1)], end=False))  # position 100, record hash 100
    assert [row["position"] for row in as_json(exported(store, Form.JSONL, "dead-letters"))] == [200]
    assert ledger(store)["dead_letter"] == 1


def test_every_table_is_exported_with_its_documented_columns(filled: tuple[Store, list[Any]]) -> None:
    store, _ = filled
    fill(store, batch([], ignored=[Ignored(9_100_000, 0, "blank", 78)]))
    page = (CHECKOUT / "docs" / "tables.md").read_text(encoding="utf-8")
    for name, table in EXPORTED.items():
        documented = re.findall(r"^\| `(\w+)` \|", page.partition(f"\n## {table.name}\n")[2].partition("\n## ")[0], re.MULTILINE)
        head = exported(store, Form.CSV, name).decode().partition("\n")[0]
        assert head.split(",") == documented
        assert pq.read_schema(io.BytesIO(exported(store, Form.PARQUET, name))).names == documented
        for line in as_json(exported(store, Form.JSONL, name)):
            assert list(line) == documented


def test_columns_are_a_contract() -> None:
    assert broken() == set(), "name them in CHANGELOG.md as `table.column`"
    assert set(current()) - set(promised()) == set(), "run make docs"
    assert {column for _, column in current()} <= {c.name for table in TABLES for c in table.columns}


def test_files_have_the_promised_types(filled: tuple[Store, list[Any]]) -> None:
    store, _ = filled
    for name in EXPORTED:
        wanted = {column: kinds for (table, column), kinds in promised().items() if table == name}
        found = pq.read_schema(io.BytesIO(exported(store, Form.PARQUET, name)))
        # Parquet has its own names for what a list or a map is made of.
        kinds = {field.name: str(field.type).replace("element", "item").replace(f" ('{field.name}')", "") for field in found}
        assert kinds == {column: kind for column, (kind, _) in wanted.items()}
        python = {"number": int | float, "word": str, "text": str, "json": dict | list}
        for line in as_json(exported(store, Form.JSONL, name)):
            for column, value in line.items():
                assert value is None or isinstance(value, python[wanted[column][1]]), column


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"name": "cals"}, "no table 'cals', did you mean calls?"),
        ({"columns": ["tem"]}, "calls has no column 'tem', did you mean team?"),
        ({"columns": ["team", "team"]}, "named twice"),
        ({"where": [("modl", "x")]}, "calls has no column 'modl', did you mean model?"),
        ({"where": [("cost", "0")]}, "cannot be chosen by 'cost'"),
        ({"where": [("price_run", "1; DROP")]}, "must be a whole number"),
        ({"name": "prices", "where": [("tenant", "a")]}, "prices has no column 'tenant'"),
        ({"since": datetime(1969, 1, 1, tzinfo=UTC)}, "between 1970 and 2106"),
        ({"since": datetime(2026, 1, 2, tzinfo=UTC), "until": datetime(2026, 1, 2, tzinfo=UTC)}, "before it begins"),
    ],
)
def test_what_is_not_there_is_refused_with_the_nearest(asked: dict[str, Any], says: str) -> None:
    with pytest.raises(ExportError, match=re.escape(says)) as refused:
        select(**{"name": "calls", **asked})
    assert "\n" not in str(refused.value)


def test_a_server_gives_the_same_bytes_and_a_broken_answer_is_an_error(filled: tuple[Store, list[Any]], engine: Path) -> None:
    store, _ = filled

    def at(port: int) -> Store:
        return connect(StoreAddress(host="127.0.0.1", port=port, user="default", database=store.database), Retry(1))

    with serving(engine) as port:
        for form in Form:
            for name in ("minutes", "calls"):
                assert exported(at(port), form, name) == exported(store, form, name)
    with serving(engine, cut=100_000) as port, pytest.raises(StoreError):
        exported(at(port), Form.JSONL)


def test_what_is_written_meanwhile_is_not_in_it(store: Store) -> None:
    fill(store, batch([call(n) for n in range(19_999)]))
    file = io.BytesIO()
    going = write(store, select("calls", columns=["call_key", "team"]), Form.CSV, file)
    assert 0 < next(going) < 19_999
    fill(store, batch([call(n, team="later") for n in range(10_000, 29_999)]))
    assert list(going)[-1] == 19_999
    rows = as_csv(file.getvalue())
    assert len({row["call_key"] for row in rows}) == 19_999
    assert {row["team"] for row in rows} == {""}
    assert len(as_csv(exported(store, Form.CSV, columns=["call_key"]))) == 29_999


def test_a_stream_that_fails_in_the_middle_is_one_line(store: Store) -> None:
    blocks = store.stream("SELECT throwIf(number = 300000) FROM numbers(1000000)")
    assert next(blocks).num_rows > 0
    with pytest.raises(StoreError, match="throwIf") as failed:
        list(blocks)
    assert "\n" not in str(failed.value)
    assert store.rows("SELECT 1") == [(1,)]
