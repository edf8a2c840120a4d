"""Forgetting a user and a tenant, on the real engine: what is left is read with Python, not with the search that proves it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipelines.forget import forget, look
from pipelines.job import Job
from pipelines.run import forgotten
from sinks.clickhouse import Store, StoreAddress, StoreSettings, connect, disconnect
from sinks.join import join
from sinks.recompute import recompute
from sinks.reconcile import ledger
from sinks.retention import Retention, keep
from sinks.schema import migrate
from tests import split
from tests.forget.front import front
from tests.forget.samples import ALICE, BOB, HASH_KEY, NEW, OLD, broken, event, everything, people, person, read, sums
from tests.pipelines.jobs import holds
from tests.sinks.test_retention import ttl
from transforms.count import CountSettings
from transforms.decode import DecodeSettings
from transforms.identity import pseudonym
from transforms.people import People
from transforms.work import CallWork

PRICE = Decimal("0.0035")


def names_alice(text: str) -> bool:
    return ALICE in text.lower().replace("malice", "")


def calls_of(store: Store) -> list[Any]:
    return store.rows(f"SELECT * EXCEPT (version, ingested_at) FROM {store.table('calls')} FINAL ORDER BY call_key")


def on_disk(store: Store, text: str) -> list[str]:
    """Files of the engine in which a text stands."""
    files = [path for path in Path(store.address.folder).rglob("*") if path.is_file()]
    return [str(path) for path in files if text.encode() in path.read_bytes()]


def test_a_user_is_in_no_text_any_more_and_every_sum_stays(store: Store) -> None:
    logs = [*people(), broken(f"say hi to\n{ALICE}"), broken("of nobody"), event(50, template=BOB, user=ALICE)]
    read(store, logs, source=f"logs/{ALICE}.jsonl")
    before, calls = sums(store), store.rows(f"SELECT count(), sum(cost) FROM {store.table('calls')} FINAL")
    assert calls == [(41, 41 * PRICE)]
    assert names_alice(everything(store))
    found = look(store, person(ALICE))
    assert {(f.table, f.column): f.rows for f in found.before if f.rows} == {
        ("calls", "end_user"): 11,
        ("calls", "session_id"): 10,
        ("calls", "source"): 41,
        ("calls", "tags"): 20,
        ("dead_letters", "payload"): 1,
        ("dead_letters", "source"): 2,
        ("segments", "source"): 1,
    }
    assert names_alice(everything(store))  # looking changes nothing
    assert forget(store, person(ALICE)).left == []
    text = everything(store)
    assert not names_alice(text)
    for tenant in ("acme", "zenith", "default"):
        assert pseudonym(tenant, ALICE, OLD) not in text
    assert sums(store) == before
    assert store.rows(f"SELECT count(), sum(cost) FROM {store.table('calls')} FINAL") == calls
    holds(store)
    assert text.count("malice@example.com") == 20  # Bob's calls that do not name Alice are as they were
    assert pseudonym("acme", BOB, OLD) in text
    rows = store.rows(
        "SELECT count(), countIf(tags = map('svc', 'pay')), countIf(session_id = '' AND trace_id = '' AND request_id = '')"
        f" FROM {store.table('calls')} FINAL WHERE has(flags, 'forgotten')"
    )
    assert rows == [(21, 10, 21)]  # of calls of others all tags go: when read again, only their mark is known
    letters = store.rows(f"SELECT countIf(payload = 'forgotten'), countIf(payload LIKE '%nobody%') FROM {store.table('dead_letters')}")
    assert letters == [(1, 1)]


def test_logs_read_again_do_not_bring_a_user_back(store: Store) -> None:
    logs = [*people(), broken(f"say hi to {ALICE}")]
    read(store, logs)
    forget(store, person(ALICE))
    once = calls_of(store)
    read(store, logs)
    assert calls_of(store) == once
    read(store, [event(70, user=ALICE, tenant="new", session_id="s", tags={"svc": ALICE, "a": "b"})], source="b.jsonl")
    assert not names_alice(everything(store))
    assert forget(store, person(ALICE)).left == []
    holds(store)


@pytest.mark.parametrize("who", [{"user": ALICE}, {"tenant": "acme"}])
def test_calls_from_after_that_are_new_ones(store: Store, who: dict[str, str]) -> None:
    read(store, people())
    forget(store, person(**who))
    later = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
    read(store, [event(70, user=ALICE, tenant="acme", started_at=later), event(71, user=ALICE, tenant="acme")], source="b.jsonl")
    rows = store.rows(f"SELECT provider_call_id, end_user FROM {store.table('calls')} FINAL WHERE source = 'b.jsonl' ORDER BY minute")
    assert rows[-1] == ("chatcmpl-70", pseudonym("acme", ALICE, OLD))
    assert rows[:-1] == ([("", "")] if "user" in who else [])
    holds(store)


def test_only_the_user_of_that_tenant(store: Store) -> None:
    read(store, people())
    forget(store, person(ALICE, "acme"))
    rows = store.rows(
        f"SELECT tenant, countIf(end_user = ''), countIf(has(flags, 'forgotten')) FROM {store.table('calls')} FINAL"
        " GROUP BY tenant ORDER BY tenant"
    )
    assert rows == [("acme", 10, 10), ("zenith", 0, 0)]
    read(store, [event(n, tenant=tenant, user=ALICE) for n, tenant in ((80, "acme"), (81, "zenith"))], source="b.jsonl")
    named = store.rows(f"SELECT tenant, end_user FROM {store.table('calls')} FINAL WHERE source = 'b.jsonl' ORDER BY tenant")
    assert named == [("acme", ""), ("zenith", pseudonym("zenith", ALICE, OLD))]


def test_a_tenant_is_gone_and_every_record_still_has_its_receipt(store: Store) -> None:
    logs = [*people(), broken("of whom?")]
    read(store, logs, source="logs/acme.jsonl")
    read(store, [broken("of nobody"), event(90, tenant="zenith", template="for acme")], source="b.jsonl")
    kept = [[row for row in table if "zenith" in row] for table in sums(store)]
    assert forget(store, person(tenant="acme")).left == []
    text = everything(store)
    assert "'acme'" not in text
    assert "logs/acme" not in text
    assert "of whom?" not in text
    assert "of nobody" in text
    assert sums(store) == kept
    assert ledger(store) == {"records": 43, "items": 43, "call": 21, "duplicate": 0, "dead_letter": 2, "ignored": 20}
    holds(store)
    read(store, logs)  # and again, under another name
    assert "'acme'" not in everything(store)
    assert sums(store) == kept
    reasons = f"SELECT reason, count() FROM {store.table('receipts')} FINAL WHERE outcome = 'ignored' GROUP BY reason"
    assert store.rows(reasons) == [("forgotten", 40)]
    holds(store)


def test_pseudonyms_under_every_key_are_found_and_recognised_under_a_later_one(store: Store) -> None:
    turn = 1_772_445_600_000_000 + 20 * 60_000_000
    read(store, people(), keys=[(0, OLD), (turn, NEW)])
    text = everything(store)
    assert pseudonym("acme", ALICE, OLD) in text
    assert pseudonym("acme", ALICE, NEW) in text
    once = calls_of(store)
    read(store, people(), keys=[(0, OLD), (turn, NEW)])
    assert calls_of(store) == once
    assert forget(store, person(ALICE, keys=[OLD, NEW])).left == []
    third = b"the third key of people"
    read(store, people(), keys=[(0, OLD), (turn, NEW), (turn + 1, third)])
    text = everything(store)
    assert not names_alice(text)
    assert not any(pseudonym(tenant, ALICE, key) in text for tenant in ("acme", "zenith") for key in (OLD, NEW, third))
    holds(store)


def test_a_new_key_changes_no_identity_and_reads_nothing_again(store: Store) -> None:
    def work(text_key: bytes, user_key: bytes) -> bytes:
        people = People(((0, user_key),))
        return Job((), StoreSettings(store.address), count=CountSettings(hash_key=text_key), people=people).work

    assert work(OLD, OLD) == work(OLD, NEW) != work(NEW, OLD)
    keys = f"SELECT call_key FROM {store.table('calls')} FINAL ORDER BY call_key"
    read(store, people(), keys=[(0, OLD)])
    before = store.rows(keys)
    read(store, people(), keys=[(0, NEW)])
    assert store.rows(keys) == before
    users = {user for (user,) in store.rows(f"SELECT end_user FROM {store.table('calls')} FINAL")}
    assert users == {pseudonym(tenant, user, NEW) for tenant in ("acme", "zenith") for user in (ALICE, BOB)}
    holds(store)


def test_a_store_without_calls(store: Store) -> None:
    assert forget(store, person(ALICE)).left == []
    assert forget(store, person(tenant="it's \\ acme")).left == []


def test_labels_keep_their_sums_apart_under_another_name(store: Store) -> None:
    logs = [event(n, team=team, app="chat", user="u") for n, team in enumerate(("alice@example.com", "Team ALICE@example.com", "ads"))]
    read(store, logs)
    first = forget(store, person(ALICE))
    assert {(f.table, f.column) for f in first.left} == {
        *((table, "team") for table in ("calls", "minutes", "hours", "days")),
        ("calls", "recorded_team"),
    }
    assert forget(store, person(ALICE), labels=True).left == []
    assert not names_alice(everything(store))
    for table in ("minutes", "hours", "days", "calls"):
        cost = f"SELECT team, sum(cost) FROM {store.table(table)} FINAL GROUP BY team ORDER BY team"
        rows = store.rows(cost)
        assert [name.startswith("forgotten-") for name, _ in rows] == [False, True, True]
        assert [spend for _, spend in rows] == [PRICE] * 3
    holds(store)


def test_a_short_id_is_only_taken_whole(store: Store) -> None:
    read(store, [event(1, user="7", tags={"who": "7", "lane": "7-b"}), event(2, user="8", tags={"model": "v-7"}, session_id="7 a")])
    assert forget(store, person("7")).left == []
    rows = store.rows(f"SELECT end_user = '', session_id, tags FROM {store.table('calls')} FINAL ORDER BY minute")
    assert rows == [(1, "", {"lane": "7-b"}), (0, "7 a", {"model": "v-7"})]


@pytest.mark.parametrize("who", ["user", "tenant"])
def test_killed_at_any_statement_and_run_again_the_end_is_the_same(
    engine: Path, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(Exception):
        pass

    def end(dies_at: int) -> tuple[Any, int]:
        store = connect(StoreAddress(str(engine), database=f"t{uuid.uuid4().hex[:12]}"))
        migrate(store)
        read(store, [*people(16), broken(f"of {ALICE}"), event(20, team=ALICE)], source=f"{ALICE}.jsonl")
        statements = [0]
        command = Store.command

        def dying(self: Store, *given: Any, **named: Any) -> Any:
            statements[0] += 1
            if statements[0] == dies_at:
                raise Killed
            return command(self, *given, **named)

        def go() -> Any:
            labels = who == "user"
            return forget(store, person(ALICE) if who == "user" else person(tenant="acme"), labels=labels)

        with monkeypatch.context() as patch:
            patch.setattr(Store, "command", dying)
            try:
                go()
            except Killed:
                assert dies_at
            else:
                assert not dies_at
        count = statements[0]
        assert go().left == []
        holds(store)
        found = [calls_of(store), sums(store), *(
            store.rows(f"SELECT * EXCEPT (ingested_at) FROM {store.table(name)} FINAL ORDER BY ALL")
            for name in ("dead_letters", "receipts", "segments")
        )]
        tables = store.rows("SELECT name FROM system.tables WHERE database = {db:String} ORDER BY name", {"db": store.database})
        marks = store.rows(f"SELECT DISTINCT kind, mark FROM {store.table('marks')} ORDER BY ALL")
        store.command(f"DROP DATABASE `{store.database}`")
        disconnect(store.address)
        return [*found, tables, marks], count

    undisturbed, statements = end(0)
    assert statements > 10
    for dies_at in range(3, statements, max(1, statements // 5)):
        assert end(dies_at)[0] == undisturbed, dies_at


def test_a_statement_that_a_killed_process_left_to_the_engine_does_not_block(store: Store) -> None:
    read(store, people())
    calls, work = store.table("calls"), store.table("forgetting")
    store.command(f"CREATE TABLE {work} (kind LowCardinality(String), key String) ENGINE = MergeTree ORDER BY (kind, key)")
    store.command(f"SYSTEM STOP MERGES {calls}")
    store.command(
        f"ALTER TABLE {calls} UPDATE end_user = '' WHERE call_key IN (SELECT toFixedString(key, 16) FROM {work})",
        {"mutations_sync": 0},
    )
    pending = f"SELECT count() FROM system.mutations WHERE database = '{store.database}' AND NOT is_done"
    assert store.rows(pending) == [(1,)]
    store.command(f"DROP TABLE {work} SYNC")
    store.command(f"SYSTEM START MERGES {calls}")
    assert forget(store, person(ALICE)).left == []
    assert store.rows(pending) == [(0,)]
    holds(store)


def test_no_file_of_an_embedded_store_holds_the_id(store: Store) -> None:
    name = f"zoe-{uuid.uuid4().hex[:8]}@example.com"
    logs = [event(n, user=name, session_id=f"{name}-{n}", tags={"mail": name}) for n in range(5)]
    read(store, [*logs, broken(f"of {name}")], source=f"of {name}")
    assert on_disk(store, name)
    forget(store, person(name))
    assert on_disk(store, name) == []
    assert on_disk(store, pseudonym("default", name, OLD)) == []
    holds(store)


@pytest.mark.parametrize("who", ["user", "tenant"])
def test_over_http(store: Store, who: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    read(store, [*people(), broken(f"of {ALICE} and acme")])
    before, seen = sums(store), []
    with front(store.address.folder, seen) as port:
        address = StoreAddress(host="127.0.0.1", port=port, user="default", database=store.database)
        server = connect(address)
        done = forget(server, person(ALICE) if who == "user" else person(tenant="acme"))
        keep(server, Retention(calls=1000))
        server.close()
    assert done.left == []
    assert done.replaced_parts > 0  # which the server removes in its own time
    text = everything(store)
    assert not names_alice(text) if who == "user" else "'acme'" not in text
    assert sums(store) == before if who == "user" else all("zenith" in row for table in sums(store) for row in table)
    name = ALICE if who == "user" else "acme"
    assert seen
    assert [sql for sql in seen if name in sql.lower() or pseudonym("acme", ALICE, OLD) in sql] == []
    assert ttl(store, "calls").endswith("toIntervalHour(24025)")
    holds(store)


# -- calls in parts ------------------------------------------------------------------------------------------------


def in_parts(numbers: range) -> list[bytes]:
    """Requests, which name Alice or Bob, and responses, which name nobody but have ids of their own."""
    logs = []
    for n in numbers:
        who, tenant = (ALICE, BOB)[n % 2], ("acme", "zenith")[n // 2 % 2]
        logs.append(split.request(n, tenant=tenant, end_user=who, session_id=f"s{n}", tags={"user_id": who, "svc": "pay"}))
        logs.append(split.response(n, tenant=tenant, trace_id=f"t{n}"))
    return split.lines(logs).splitlines()


def read_parts(store: Store, logs: list[bytes], source: str = "a.jsonl") -> None:
    read(store, logs, source=source)
    keys = [key for (key,) in store.rows(f"SELECT DISTINCT call_key FROM {store.table('parts')}")]
    work = CallWork(DecodeSettings(), CountSettings(hash_key=HASH_KEY), people=People(((0, OLD),), forgotten(store)))
    recompute(store, join(store, keys, work).minutes)


def test_a_user_is_forgotten_in_parts_of_calls_and_does_not_come_back_with_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.decode.registry.FORMATS", split.FORMATS)
    logs = in_parts(range(16))
    read_parts(store, logs)
    before = sums(store)
    assert forget(store, person(ALICE)).left == []

    def nobody_is_there() -> None:
        text = everything(store)
        assert not names_alice(text)
        assert pseudonym("acme", ALICE, OLD) not in text
        assert pseudonym("acme", BOB, OLD) in text
        rows = store.named_rows(f"SELECT * FROM {store.table('calls')} FINAL WHERE has(flags, 'forgotten')")
        assert len(rows) == 8
        for row in rows:
            assert (row["end_user"], row["session_id"], row["trace_id"], row["provider_call_id"]) == ("", "", "", "")
        assert sums(store) == before
        holds(store)

    nobody_is_there()
    read_parts(store, split.lines([split.response(0, tenant="acme", trace_id="t0")]).splitlines(), source="late.jsonl")
    nobody_is_there()  # the call was made anew, from parts that were there and one that names nobody
    read_parts(store, logs)
    nobody_is_there()


def test_a_tenant_that_is_forgotten_leaves_no_part(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transforms.decode.registry.FORMATS", split.FORMATS)
    logs = in_parts(range(16))
    read_parts(store, logs)
    assert forget(store, person(tenant="acme")).left == []
    assert store.rows(f"SELECT DISTINCT tenant FROM {store.table('parts')}") == [("zenith",)]
    read_parts(store, logs)
    assert store.rows(f"SELECT DISTINCT tenant FROM {store.table('parts')}") == [("zenith",)]
    assert store.rows(f"SELECT tenant, count() FROM {store.table('calls')} FINAL GROUP BY 1") == [("zenith", 8)]
    items = ledger(store)
    assert (items["joined"], items["ignored"]) == (16, 16)
    holds(store)
