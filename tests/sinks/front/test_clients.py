"""What people use of clickhouse-connect, against a real ``serve``."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from tests.sinks.front.conftest import CALLS, CONFIG, served

Clients = Callable[..., Client]
MANY = 300_000
"""Rows that do not fit into one block."""


@pytest.fixture
def table(client: Clients) -> str:
    """A table of several types for one test."""
    name, writer = f"t{uuid.uuid4().hex[:12]}", client("writer")
    writer.command(
        f"CREATE TABLE llm_finops.{name} (a Int64, s String, d Decimal(18, 12), t DateTime64(6, 'UTC'), n Nullable(Int32))"
        " ENGINE = MergeTree ORDER BY a"
    )
    return name


def test_query_gives_types_as_they_are(client: Clients) -> None:
    found = client().query(
        "SELECT 7 AS i, 'ä\\t' AS s, toDecimal64('1.500000000001', 12) AS d, toDateTime64('2025-06-01 12:00:00.5', 6, 'UTC') AS t,"
        " NULL AS n, [1, 2] AS l, map('k', 1) AS m, tuple(1, 'x') AS u, CAST('c' AS LowCardinality(String)) AS c"
    )
    assert found.column_names == ("i", "s", "d", "t", "n", "l", "m", "u", "c")
    moment = datetime(2025, 6, 1, 12, 0, 0, 500_000, tzinfo=UTC)
    (row,) = found.result_rows
    time = row[3].replace(tzinfo=UTC) if row[3].tzinfo is None else row[3]
    assert row[:3] == (7, "ä\t", Decimal("1.500000000001"))
    assert time == moment
    assert row[4:] == (None, [1, 2], {"k": 1}, (1, "x"), "c")


def test_sums_of_calls_equal_a_plain_loop(client: Clients) -> None:
    found = client().query("SELECT tenant, toInt64(sum(input_fresh)), sum(cost) FROM minutes FINAL GROUP BY tenant").result_rows
    wanted = {}
    for n, one in enumerate(CALLS):
        tokens, cost = wanted.get(one.tenant, (0, Decimal(0)))
        wanted[one.tenant] = tokens + n, cost + Decimal(n + 1) / 10**6
    assert {tenant: (tokens, cost) for tenant, tokens, cost in found} == wanted


@pytest.mark.parametrize("text", ["plain", "it's \\ \t\n\r and ü", "'; DROP TABLE calls; --", "%(x)s", ""])
def test_parameters_of_the_server_and_of_the_client(client: Clients, text: str) -> None:
    given = {"s": text, "n": -5, "l": ["a", text], "t": datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)}
    query = "SELECT {s:String}, {n:Int64} + 1, {l:Array(String)}, toString({t:DateTime('UTC')})"
    assert client().query(query, parameters=given).result_rows == [(text, -4, ["a", text], "2025-01-02 03:04:05")]
    assert client().query("SELECT %(s)s, %(n)s", parameters={"s": text, "n": -5}).result_rows == [(text, -5)]


def test_a_parameter_too_long_for_a_url_goes_as_a_form(client: Clients) -> None:
    text = "x" * 1_000_000
    found = client(form_encode_query_params=True).query("SELECT length({s:String})", parameters={"s": text})
    assert found.result_rows == [(1_000_000,)]


def test_settings_hold_for_their_query_only(client: Clients) -> None:
    one = client()
    query = "SELECT value FROM system.settings WHERE name = 'max_block_size'"
    usual = one.query(query).result_rows
    assert one.query(query, settings={"max_block_size": 1000}).result_rows == [("1000",)]
    assert one.query(query).result_rows == usual
    assert one.query(f"{query} SETTINGS max_block_size = 77").result_rows == [("77",)]
    assert client(settings={"max_block_size": 55}).query(query).result_rows == [("55",)]


def test_data_frames_and_numpy(client: Clients) -> None:
    frame = client().query_df("SELECT number AS n, toString(number) AS s FROM numbers(1000)")
    assert frame["n"].tolist() == list(range(1000))
    assert frame["s"].tolist() == [str(n) for n in range(1000)]
    assert np.array_equal(client().query_np("SELECT number FROM numbers(5)").ravel(), np.arange(5))
    assert list(client().query_df("SELECT number FROM numbers(0)")) in ([], ["number"])


def test_arrow_of_whole_results_and_streams(client: Clients) -> None:
    query = f"SELECT number AS n, toString(number % 7) AS s FROM numbers({MANY})"
    whole = client().query_arrow(query)
    assert whole.num_rows == MANY
    assert sum(whole["n"].to_pylist()) == MANY * (MANY - 1) // 2
    with client().query_arrow_stream(query) as stream:
        blocks = list(stream)
    assert len(blocks) > 1
    assert pa.Table.from_batches([b for block in blocks for b in _batches(block)])["n"].to_pylist() == list(range(MANY))
    assert client().query_arrow("SELECT number AS n FROM numbers(0)").num_rows == 0


def _batches(block: Any) -> list[pa.RecordBatch]:
    return block.to_batches() if isinstance(block, pa.Table) else [block]


@pytest.mark.parametrize("how", ["query_row_block_stream", "query_rows_stream", "query_df_stream", "query_np_stream"])
def test_streams_give_every_row_once(client: Clients, how: str) -> None:
    seen: list[int] = []
    with getattr(client(), how)(f"SELECT number AS n FROM numbers({MANY})") as stream:
        for block in stream:
            seen += [int(block[0])] if how == "query_rows_stream" else np.asarray(block).ravel().astype(int).tolist()
    assert seen == list(range(MANY))


def test_inserts_of_rows_frames_arrow_and_text(client: Clients, table: str) -> None:
    writer = client("writer")
    moment = datetime(2025, 6, 1, 12, 0, 0, 7, tzinfo=UTC)
    written = writer.insert(table, [[1, "ä", Decimal("0.000000000001"), moment, None]], database="llm_finops")
    assert written.written_rows == 1
    writer.insert(f"llm_finops.{table}", [[2, "b"], [3, "c"]], column_names=["a", "s"])
    writer.insert_df(table, pd.DataFrame({"a": [4, 5], "s": ["d", "e"]}), database="llm_finops")
    writer.insert_arrow(table, pa.table({"a": [6], "s": ["f"]}), database="llm_finops")
    writer.raw_insert(f"llm_finops.{table}", ["a", "s"], b"7,g\n8,h\n", fmt="CSV")
    writer.command(f"INSERT INTO llm_finops.{table} (a, s) VALUES (9, 'i'), (10, 'it''s (j')")
    writer.command(f"INSERT INTO llm_finops.{table} (a, s) SELECT number + 11, 'k' FROM numbers(2)")
    found = client().query(f"SELECT a, s FROM {table} ORDER BY a").result_rows
    assert found == [(1, "ä"), *zip(range(2, 10), "bcdefghi", strict=True), (10, "it's (j"), (11, "k"), (12, "k")]
    first = client().query(f"SELECT d, toUnixTimestamp64Micro(t), n FROM {table} WHERE a = 1").result_rows
    assert first == [(Decimal("0.000000000001"), int(moment.timestamp()) * 10**6 + 7, None)]


@pytest.mark.parametrize("compress", ["lz4", "zstd", "gzip", True, False])
def test_compression_both_ways(client: Clients, table: str, compress: str | bool) -> None:
    rows = [[n, f"row {n} " * 20] for n in range(5000)]
    assert client("writer", compress=compress).insert(f"llm_finops.{table}", rows, column_names=["a", "s"]).written_rows == 5000
    found = client(compress=compress).query(f"SELECT a, s FROM {table} ORDER BY a").result_rows
    assert found == [tuple(row) for row in rows]
    assert client(compress=compress).query_arrow(f"SELECT a FROM {table} ORDER BY a")["a"].to_pylist() == list(range(5000))


def test_command_raw_query_raw_stream_ping_and_ids(client: Clients) -> None:
    one = client()
    assert one.ping()
    assert one.command("SELECT 13") == 13
    assert one.raw_query("SELECT number, 'a,b' FROM numbers(2)", fmt="CSVWithNames") == b'"number","\'a,b\'"\n0,"a,b"\n1,"a,b"\n'
    assert one.raw_stream("SELECT number AS n FROM numbers(2)", fmt="JSONEachRow").read() == b'{"n":0}\n{"n":1}\n'
    assert one.query("SELECT 1", settings={"query_id": "my-query.1"}).query_id == "my-query.1"
    assert one.query("SELECT count() FROM minutes").summary["read_rows"] != ""


def test_what_tools_ask_about_tables(client: Clients) -> None:
    one = client()
    assert {"calls", "minutes", "hours", "days"} <= {name for (name,) in one.query("SHOW TABLES").result_rows}
    described = [row[0] for row in one.query("DESCRIBE TABLE llm_finops.minutes").result_rows]
    assert described[:2] == ["tenant", "team"] or "tenant" in described
    assert "ReplacingMergeTree" in one.command("SHOW CREATE TABLE llm_finops.minutes")
    assert one.query("EXISTS TABLE llm_finops.calls").result_rows == [(1,)]
    assert one.query("SELECT name FROM system.databases WHERE name = 'llm_finops'").result_rows == [("llm_finops",)]


def test_session_ids_are_taken_and_keep_nothing(client: Clients) -> None:
    first, second = client(session_id="one"), client(session_id="one")
    assert [c.query("SELECT 1").result_rows for c in (first, second, first)] == [[(1,)]] * 3
    with pytest.raises(DatabaseError, match="Code: 497"):
        client("writer", session_id="one").command("CREATE TEMPORARY TABLE x (a Int8)")


def test_errors_carry_the_engines_code(client: Clients) -> None:
    for query, code in (("SELEC 1", 62), ("SELECT * FROM nosuch", 60), ("SELECT nosuch FROM calls", 47), ("SELECT 1 + 'x'", 43)):
        with pytest.raises(DatabaseError, match=rf"Code: {code}\. DB::Exception: ") as caught:
            client().query(query)
        assert "llm-finops-serve" not in str(caught.value), "no path of this machine"


def test_an_error_in_the_midst_of_a_stream_is_an_error(client: Clients) -> None:
    query = f"SELECT number, repeat('x', 100) AS s, throwIf(number = {2 * MANY}, 'half way') FROM numbers({3 * MANY})"
    with pytest.raises(ClickHouseError), client().query_row_block_stream(query, settings={"max_threads": 1}) as stream:
        for _ in stream:
            pass


def test_a_client_that_goes_away_ends_its_query(tmp_path: Path) -> None:
    config = CONFIG.replace("max_seconds = 20", "max_seconds = 3600\nmax_queries = 1")
    with served(tmp_path, config) as alone:
        short = alone.client(send_receive_timeout=2, query_retries=0)
        with pytest.raises(ClickHouseError):
            short.query("SELECT count() FROM numbers(1000000000000) WHERE NOT ignore(sipHash64(number))")
        # The one place for a query is free again; were it not, this would wait for it in vain (code 202).
        assert alone.client().query("SELECT 1").result_rows == [(1,)]


def test_many_clients_at_once(client: Clients) -> None:
    wrong: list[object] = []

    def ask(n: int) -> None:
        try:
            one = client(autogenerate_session_id=False)
            for m in range(5):
                found = one.query("SELECT {n:Int64} * {m:Int64} + sum(number) FROM numbers(1000)", parameters={"n": n, "m": m})
                if found.result_rows != [(n * m + 499_500,)]:
                    wrong.append(found.result_rows)
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
