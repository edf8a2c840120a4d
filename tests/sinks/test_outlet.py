"""Dead letters as messages, and the order in which a block is written: what is not in the topic has no receipt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from pipelines.errors import ExitCode, exit_code, waiting_helps
from schemas.batch import DeadLetter
from schemas.tables import DEAD_LETTERS
from sinks.dead_letters import messages
from sinks.outlet import Message, Outlet, OutletError, OutletUnavailable
from sinks.writer import Writer
from tests.sinks.samples import SEGMENT, batch, call

SOME = [
    DeadLetter(700, 0, "not_json", "cut", "", 12, 0xFEDC_BA98_7654_3210),
    DeadLetter(800, 2, "bad_value", "tokens: -1", "openai", 99, 5, '{"model": "gpt-4o"}'),
]


def test_a_message_says_what_the_row_says_under_a_key_of_its_own() -> None:
    rows = pa.Table.from_batches([batch([], dead=SOME).dead_letters])
    first, second = messages(rows)
    assert json.loads(first.value) == {
        "id": f"{SEGMENT.hex()}-700-0-fedcba9876543210",
        "source": "calls.jsonl",
        "segment": SEGMENT.hex(),
        "position": 700,
        "item": 0,
        "record_hash": "fedcba9876543210",
        "reason": "not_json",
        "format_guess": "",
        "error": "cut",
        "size": 12,
        "payload": None,
    }
    assert first.key.decode() == json.loads(first.value)["id"]
    assert first.headers == (("content-type", b"application/json"), ("reason", b"not_json"))
    assert first.smaller == b""
    assert json.loads(second.value)["payload"] == '{"model": "gpt-4o"}'
    assert json.loads(second.smaller) == {**json.loads(second.value), "payload": None}
    assert set(json.loads(first.value)) - {"id"} == set(DEAD_LETTERS.arrow.names)


class Recorded:
    """A store and a topic that write down what comes, and refuse when they are told to."""

    def __init__(self) -> None:
        self.came: list[tuple[str, Any]] = []
        self.away = False

    def insert(self, table: str, rows: pa.Table) -> None:
        if rows.num_rows:
            self.came.append((table, rows.num_rows))

    def rows(self, *_: object) -> list[tuple[Any, ...]]:
        return []

    def table(self, name: str) -> str:
        return name

    def send(self, messages: Sequence[Message]) -> None:
        self.came.append(("sent", [message.key for message in messages]))

    def flush(self) -> None:
        if self.away:
            raise OutletUnavailable("away")
        self.came.append(("flushed", 0))


def test_receipts_come_after_the_topic_has_the_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sinks.writer.floors", lambda _: {"calls": 0})
    there = Recorded()
    writer = Writer(there, letters=there)  # type: ignore[arg-type]
    writer.collect(batch([call(1)], dead=SOME))
    there.away = True
    with pytest.raises(OutletUnavailable):
        writer.flush()
    keys = [message.key for message in messages(pa.Table.from_batches([batch([], dead=SOME).dead_letters]))]
    assert there.came == [("calls", 1), ("dead_letters", 2), ("sent", keys)]
    there.away, there.came = False, []
    writer.flush()  # the block was kept
    assert there.came == [
        ("calls", 1),
        ("dead_letters", 2),
        ("sent", keys),
        ("flushed", 0),
        ("receipts", 3),
        ("segments", 1),
    ]
    there.came = []
    writer.collect(batch([call(2)]))
    writer.flush()
    assert ("sent", []) not in there.came
    assert ("flushed", 0) not in there.came


def test_what_is_away_is_waited_for_and_what_refuses_is_not() -> None:
    away, refused = OutletUnavailable("kafka://host/dead: unreachable"), OutletError("kafka://host/dead: no such topic")
    assert [exit_code(away), exit_code(refused)] == [ExitCode.STORE, ExitCode.STORE]
    assert [waiting_helps(away), waiting_helps(refused)] == [True, False]
    told = RuntimeError(f"Traceback …\nsinks.outlet.OutletUnavailable: {away} [while running 'WriteRows']")
    assert waiting_helps(told)


def test_nothing_is_connected_before_there_is_something_to_send() -> None:
    outlet = Outlet(None)  # type: ignore[arg-type]
    outlet.send([])
    outlet.flush()
    outlet.close()
