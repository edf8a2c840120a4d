"""Logs of people, made by hand, and reading them as a run does, without Beam."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from pipelines.forget import Person
from pipelines.run import forgotten
from schemas.batch import RawBatch, SegmentEnd
from sinks.clickhouse import Store
from sinks.recompute import recompute
from sinks.writer import Writer
from transforms.count import CountSettings
from transforms.decode import DecodeSettings
from transforms.people import People
from transforms.work import CallWork

HASH_KEY = b"a key of texts, for tests"
OLD, NEW = b"the first key of people", b"the second key of people"
START = "2026-03-02T10:{minute:02}:00.5Z"
ALICE, BOB = "alice@example.com", "bob@example.com"


def event(number: int, **said: Any) -> bytes:
    """The ``number``-th call: $ 0.0035 (1,000 × $2.50/M + 100 × $10/M) and a second each; tenants and users as said."""
    usage = {"input_fresh": 1000, "output_visible": 100}
    record = {"schema": "llm-finops/call/v1", "provider": "openai", "model": "gpt-4o-2024-08-06", "id": f"chatcmpl-{number}"}
    return json.dumps({**record, "started_at": START.format(minute=number % 60), "usage": usage, **said}).encode()


def broken(text: str) -> bytes:
    """A record that becomes a dead letter."""
    return json.dumps({"text": text}).encode()[:-1]


def people(number: int = 40) -> list[bytes]:
    """Calls of Alice and Bob for two tenants, in turns; the third of four names Alice only in a tag, and has another user."""
    logs = []
    for n in range(number):
        said: dict[str, Any] = {"tenant": ("acme", "zenith")[n % 8 > 3], "team": "search", "app": "chat", "request_id": f"r{n}"}
        if n % 4 == 0:
            said |= {"user": ALICE, "session_id": f"{ALICE}/7", "trace_id": f"t{n}", "tags": {"user_id": ALICE, "svc": "pay"}}
        elif n % 4 == 2:
            said |= {"user": BOB, "session_id": f"s{n}", "tags": {"asked_for": f"Mail to {ALICE.upper()}", "svc": "pay"}}
        else:
            said |= {"user": BOB, "session_id": f"s{n}", "tags": {"svc": "pay", "peer": "malice@example.com"}}
        logs.append(event(n, **said))
    return logs


def read(
    store: Store, logs: Sequence[bytes], keys: Sequence[tuple[int, bytes]] = ((0, OLD),), source: str = "a.jsonl", **work: Any
) -> None:
    """What a run does: under these keys of people, and with those left out who were forgotten."""
    who = People(tuple(keys), forgotten(store))
    worker = CallWork(DecodeSettings(keep_payloads=True), CountSettings(hash_key=HASH_KEY), people=who, **work)
    end = SegmentEnd(0, len(logs), len(logs), 0)
    segment = hashlib.md5(source.encode()).digest()
    raw = RawBatch(source, segment, segment, 1_772_445_600_000_000, list(logs), list(range(len(logs))), end=end)
    writer = Writer(store)
    writer.add(worker.rows(raw, lambda *_: None))
    flushed = writer.flush()
    assert flushed is not None
    recompute(store, flushed.minutes)


def person(user: str = "", tenant: str = "", keys: Sequence[bytes] = (OLD,)) -> Person:
    return Person(user, tenant, tuple(keys))


def everything(store: Store) -> str:
    """All texts of all tables, in one."""
    tables = [name for (name,) in store.rows("SELECT name FROM system.tables WHERE database = {db:String}", {"db": store.database})]
    return "\n".join(str(store.rows(f"SELECT * FROM {store.table(name)}")) for name in tables)


def sums(store: Store) -> list[Any]:
    return [
        store.rows(f"SELECT * EXCEPT (version, duration_ms) FROM {store.table(name)} FINAL WHERE calls != 0 ORDER BY ALL")
        for name in ("minutes", "hours", "days")
    ]
