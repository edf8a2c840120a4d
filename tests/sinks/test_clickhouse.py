"""Addresses, retries and what a person is told; the client is a fake that fails as it is told to."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from sinks.clickhouse import Retry, Store, StoreAddress, StoreError, connect, fingerprint
from sinks.writer import keep_first_sight


class Client:
    """Fails with the given errors, one a call, then works; remembers what it was given."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.inserts: list[tuple[str, pa.Table, dict[str, Any]]] = []

    def insert_arrow(self, table: str, rows: pa.Table, database: str, settings: dict[str, Any]) -> None:
        self.inserts.append((table, rows, settings))
        if self.errors:
            raise self.errors.pop(0)


def store(client: Client, pauses: list[float] | None = None, attempts: int = 4) -> Store:
    slept = pauses if pauses is not None else []
    return Store(StoreAddress(host="db", port=8123), client, Retry(attempts), slept.append)  # type: ignore[arg-type]


ROWS = pa.table({"a": [1, 2, 3], "b": ["x", "y", None]})
AWAY = OperationalError("Connection refused")
BUSY = DatabaseError("Code: 252. DB::Exception: Too many parts")
FULL = DatabaseError("Code: 243. DB::Exception: Cannot reserve 1.00 MiB, not enough space")
FORBIDDEN = DatabaseError("Code: 516. DB::Exception: writer: Authentication failed")


def test_an_insert_is_tried_again_with_the_same_token_and_growing_pauses() -> None:
    client, pauses = Client(AWAY, BUSY), []
    store(client, pauses).insert("calls", ROWS)
    assert len(client.inserts) == 3
    assert len({settings["insert_deduplication_token"] for _, _, settings in client.inserts}) == 1
    assert len(pauses) == 2
    assert 0.25 <= pauses[0] <= 0.5 <= pauses[1] <= 1.0


def test_what_no_retry_can_cure_is_raised_at_once() -> None:
    for error, says in ((FULL, "disk of the store is full"), (FORBIDDEN, "LLM_FINOPS_STORE__PASSWORD")):
        client = Client(error)
        with pytest.raises(StoreError, match=says):
            store(client).insert("calls", ROWS)
        assert len(client.inserts) == 1


def test_retries_end() -> None:
    client = Client(*[AWAY] * 9)
    with pytest.raises(StoreError, match="unreachable"):
        store(client, attempts=3).insert("calls", ROWS)
    assert len(client.inserts) == 3


def test_no_rows_are_no_insert() -> None:
    client = Client()
    store(client).insert("calls", ROWS.slice(0, 0))
    assert client.inserts == []


def test_equal_tokens_mean_equal_rows() -> None:
    other = pa.table({"a": [1, 2, 4], "b": ["x", "y", None]})
    assert fingerprint(ROWS) == fingerprint(pa.table({"a": [1, 2, 3], "b": ["x", "y", None]}))
    assert fingerprint(ROWS) != fingerprint(other)
    assert fingerprint(ROWS) != fingerprint(ROWS.slice(0, 2))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("chdb:///var/lib/x", "chdb:///var/lib/x"),
        ("http://db", "http://default@db:8123/llm_finops"),
        ("https://writer@db.example:9443/money", "https://writer@db.example:9443/money"),
    ],
)
def test_addresses_are_read_and_shown(text: str, shown: str) -> None:
    assert str(StoreAddress.parse(text)) == shown


@pytest.mark.parametrize("text", ["ftp://db", "http://", "chdb://", "http://db:port", "http://u:p@db", "http://db/drop table"])
def test_wrong_addresses_are_refused_in_one_line(text: str) -> None:
    with pytest.raises(StoreError) as refused:
        StoreAddress.parse(text)
    assert "\n" not in str(refused.value)
    assert "p@db" not in str(refused.value)


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Any) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="file"):
        connect(StoreAddress(folder=str(tmp_path / "file" / "store")))


def test_dated_calls_pass_and_undated_ones_are_kept_once() -> None:
    keys = [bytes([n]) * 16 for n in (1, 2, 3, 3, 1)]
    quality = ["exact", "transport", "transport", "implausible", "exact"]
    calls = pa.table({"time_quality": quality, "call_key": pa.array(keys, pa.binary(16))})
    kept = keep_first_sight(calls, lambda asked: {keys[1]} & set(asked))
    assert kept["call_key"].to_pylist() == [keys[0], keys[2], keys[4]]
