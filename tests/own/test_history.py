"""Rules that change: re-tagging the history of a store, on the real engine."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

import sinks.retag
from pipelines.owners import Moves, apply, coverage, moves, sections
from pipelines.state import State
from schemas.batch import RawBatch, SegmentEnd
from schemas.call import Call
from schemas.tables import CALLS, CLAIMED
from sinks.clickhouse import Store, StoreAddress, connect
from sinks.recompute import recompute
from sinks.reconcile import reconcile
from sinks.retag import spans
from sinks.schema import migrate
from sinks.writer import Writer
from tests.own.samples import NOON, rules_from
from tests.own.test_claim import meant, plain_owner
from tests.pipelines.jobs import go, holds
from tests.sinks.samples import batch, call
from transforms.count import CountSettings
from transforms.decode import DecodeSettings, decode_batch
from transforms.own import Rule
from transforms.terms import Terms, Timeline
from transforms.work import CallWork

Rules = list[dict[str, Any]]
DAY = 86_400_000_000

KEYS = ("search-1", "search-2", "ads", "")
TEAMS = ("", "", "", "search", "Search", "ads", "unallocated")


def records(seed: int, count: int) -> list[bytes]:
    """Logs in three formats, over three days, most of them without a team."""
    rng = random.Random(seed)
    made = []
    for number in range(count):
        at = NOON + rng.choice((0, DAY - 1, DAY, DAY + 1, 2 * DAY, rng.randrange(3 * DAY)))
        who = {"api_key_alias": rng.choice(KEYS), "team": rng.choice(TEAMS), "app": rng.choice(("", "chat"))}
        tags = {"svc": rng.choice(("pay", "Pay-2", "it's a \\ `test`")), "k": "v"}
        time = datetime.fromtimestamp(at // 1_000_000, UTC).replace(microsecond=at % 1_000_000).isoformat()
        usage = {"prompt_tokens": rng.randrange(9000), "completion_tokens": rng.randrange(900)}
        model = rng.choice(("gpt-4o", "gpt-4o-mini", "nobody-knows-this"))
        kind = number % 3
        record: dict[str, Any]
        if kind == 0:
            said = {key: value for key, value in who.items() if value}
            totals = {"input_total": usage["prompt_tokens"], "output_total": usage["completion_tokens"]}
            record = {"schema": "llm-finops/call/v1", "provider": "openai", "model": model, "id": f"e{number}", "tags": tags}
            record |= {"started_at": time, "usage": totals, "project": rng.choice(("", "p1", "p2")), **said}
        elif kind == 1:
            record = {"url": "https://api.openai.com/v1/chat/completions", "status": 200, "started_at": time, "tags": tags, **who}
            record |= {"request": {"model": model, "messages": [{"role": "user", "content": f"Hi {number}"}]}}
            message = {"role": "assistant", "content": "x"}
            record |= {"response": {"id": f"h{number}", "model": model, "choices": [{"message": message}], "usage": usage}}
            record |= {"request_headers": {"X-Team": rng.choice(("blue", "red")), "OpenAI-Project": rng.choice(("p1", "p2"))}}
        else:
            metadata = {"user_api_key_alias": who["api_key_alias"], "user_api_key_team_alias": who["team"]}
            record = {"call_type": "completion", "custom_llm_provider": "openai", "model": model, "id": f"l{number}", **usage}
            record |= {"startTime": at / 1e6, "metadata": metadata}
        made.append(orjson.dumps(record))
    return made


def some_rules(seed: int) -> Rules:
    """Rules over what these logs say. Every set of them looks at the one header, so that it is kept."""
    rng = random.Random(seed)
    wishes: Rules = [
        {"when": {"api_key_alias": "search-*"}},
        {"when": {"api_key_alias": "search-1", "model": "gpt-4o*"}},
        {"when": {"tags": {"svc": "pay*"}}},
        {"when": {"tags": {"svc": "it's a \\ `test`"}, "project": ["p1", "p2"]}},
        {"when": {"team": ["search", "ads"]}, "override": True},
        {"when": {"model": "nobody*"}, "priority": rng.choice((-1, 2))},
        {"when": {"headers": {"X-Team": "red"}}},
    ]
    chosen = [*rng.sample(wishes[:-1], rng.randrange(1, 6)), wishes[-1]]
    for number, rule in enumerate(chosen):
        owner = {"team": rng.choice(("search", "ads", "infra")), "cost_center": rng.choice(("1", "2")), "app": f"app-{number}"}
        rule["name"] = f"rule {rng.randrange(10**6)}"
        if rng.random() < 0.5:
            cut = NOON + rng.choice((DAY, DAY + 1, rng.randrange(3 * DAY)))
            rule["history"] = [{**owner, "until": cut}, {**owner, "team": "later"}]
        else:
            rule |= owner
    return chosen


def read(store: Store, logs: list[bytes], rules: tuple[Rule, ...], terms: Timeline = ()) -> None:
    """What a run does, without Beam; by these rules, or by whole terms."""
    work = CallWork(DecodeSettings(), CountSettings(hash_key=b"k" * 16), terms or (Terms(owners=rules),))
    end = SegmentEnd(0, len(logs), len(logs), 0)
    raw = RawBatch("a.jsonl", bytes(16), bytes(16), NOON, logs, list(range(len(logs))), end=end)
    writer = Writer(store)
    writer.add(work.rows(raw, lambda *_: None))
    flushed = writer.flush()
    assert flushed is not None
    recompute(store, flushed.minutes)


def rows(store: Store) -> list[dict[str, Any]]:
    """Every column of every call but when it was written."""
    return store.named_rows(f"SELECT {', '.join(CALLS.arrow.names)} FROM {store.table('calls')} FINAL ORDER BY call_key")


def rollups(store: Store) -> list[Any]:
    return [
        store.rows(f"SELECT * EXCEPT (version, duration_ms) FROM {store.table(name)} FINAL WHERE calls != 0 ORDER BY ALL")
        for name in ("minutes", "hours", "days")
    ]


def everything(store: Store) -> Any:
    return rows(store), rollups(store)


def spend(store: Store, table: str = "calls") -> Any:
    return store.rows(f"SELECT sum(cost) FROM {store.table(table)} FINAL")[0][0]


@contextmanager
def another(address: StoreAddress) -> Iterator[Store]:
    store = connect(StoreAddress(address.folder, database=address.database + "x"))
    migrate(store)
    yield store
    store.command(f"DROP DATABASE `{store.database}`")


def retagged(store: Store, rules: tuple[Rule, ...], size: int = 70) -> Moves:
    return apply(store, rules, spans(store, rows=size))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_retagging_history_is_reading_the_logs_afresh(store: Store, address: StoreAddress, seed: int) -> None:
    logs, before, after = records(seed, 210), some_rules(seed), some_rules(seed + 100)
    read(store, logs, rules_from(before))
    dollars = spend(store)
    assert dollars > 0
    first = everything(store)
    moved = retagged(store, rules_from(after))
    with another(address) as fresh:
        read(fresh, logs, rules_from(after))
        assert everything(store) == everything(fresh)
    assert moved.calls == sum(new != old for new, old in zip(rows(store), first[0], strict=True)) > 0
    assert {spend(store, table) for table in ("calls", "minutes", "hours", "days")} == {dollars}
    assert reconcile(store).holds
    # twice is once, and the way back leads back
    once = everything(store)
    versions = store.rows(f"SELECT call_key, version FROM {store.table('calls')} FINAL ORDER BY call_key")
    assert retagged(store, rules_from(after)).calls == 0
    assert everything(store) == once
    assert store.rows(f"SELECT call_key, version FROM {store.table('calls')} FINAL ORDER BY call_key") == versions
    assert retagged(store, rules_from(before), 90).calls == moved.calls
    assert everything(store) == first


def plain(logs: list[bytes]) -> list[Call]:
    """The calls of the logs, with the header that rules look at."""
    raw = RawBatch("a.jsonl", bytes(16), bytes(16), NOON, logs, list(range(len(logs))))
    calls = decode_batch(raw, DecodeSettings(headers=frozenset({"x-team"}))).calls
    for one in calls:  # rules are written with the header's own spelling
        one.headers = {"X-Team": one.headers["x-team"]} if one.headers else None
        one.team = "" if one.team == "unallocated" else one.team
    return calls


def test_owners_in_the_store_are_those_of_a_plain_loop(store: Store) -> None:
    logs, before, after = records(9, 200), some_rules(9), some_rules(10)
    calls = plain(logs)
    columns = f"SELECT position, {', '.join(CLAIMED)} FROM {store.table('calls')} FINAL ORDER BY position"
    read(store, logs, rules_from(before))
    assert store.rows(columns) == [(n, *plain_owner(one, before)) for n, one in enumerate(calls)]
    retagged(store, rules_from(after))
    assert store.rows(columns) == [(n, *plain_owner(one, after)) for n, one in enumerate(calls)]
    recorded = f"SELECT recorded_team, recorded_app FROM {store.table('calls')} FINAL ORDER BY position"
    said = [(orjson.loads(log).get("team") or "", orjson.loads(log).get("app") or "") for log in logs if b"call_type" not in log]
    assert [row for n, row in enumerate(store.rows(recorded)) if n % 3 != 2] == said


def test_a_retag_that_was_killed_is_finished_by_the_next(
    store: Store, address: StoreAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs, before, after = records(5, 200), some_rules(5), rules_from(some_rules(55))
    read(store, logs, rules_from(before))
    real, left = sinks.retag.repair, iter([True, False])

    def killed(store: Store, span: Any = None) -> int:
        if next(left):
            return real(store, span)
        raise KeyboardInterrupt  # after the rows of the second span are in, before its minutes

    monkeypatch.setattr(sinks.retag, "repair", killed)
    with pytest.raises(KeyboardInterrupt):
        retagged(store, after)
    assert next(check.name for check in reconcile(store).checks if not check.holds) == "calls = minutes"
    monkeypatch.setattr(sinks.retag, "repair", real)
    with State(address) as state:  # what the next run recomputes is enough to make the sums true
        recompute(store, state.dirty())
    assert reconcile(store).holds
    retagged(store, after)
    assert reconcile(store).holds
    with another(address) as fresh:
        read(fresh, logs, after)
        assert everything(store) == everything(fresh)


def write(store: Store, calls: list[Call], costs: list[int | None]) -> None:
    writer = Writer(store)
    writer.add(batch(calls, costs))
    flushed = writer.flush()
    assert flushed is not None
    recompute(store, flushed.minutes)


def test_what_a_job_writes_meanwhile_stands(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    write(store, [call(1), call(2)], [5, 7])
    real = Store.insert

    def meanwhile(self: Store, table: str, rows: Any) -> None:
        monkeypatch.setattr(Store, "insert", real)
        write(self, [call(1, app="newer")], [6])  # a better observation of the first call
        real(self, table, rows)

    monkeypatch.setattr(Store, "insert", meanwhile)
    retagged(store, rules_from([{"name": "r", "when": {}, "team": "t"}]))
    found = f"SELECT app, team, cost FROM {store.table('calls')} FINAL ORDER BY call_key"
    pico = Decimal("1e-12")
    assert store.rows(found) == [("newer", "", 6 * pico), ("", "t", 7 * pico)]
    retagged(store, rules_from([{"name": "r", "when": {}, "team": "t"}]))
    assert store.rows(found) == [("newer", "t", 6 * pico), ("", "t", 7 * pico)]


def test_spans_cover_every_minute_once_and_keep_to_their_size(store: Store) -> None:
    noon = NOON // 1_000_000
    rng = random.Random(1)
    calls = [call(n, noon + rng.randrange(40) * 60) for n in range(300)]
    write(store, calls, [1] * 300)
    minutes = sorted({one.event_time // 60_000_000 * 60 for one in calls})
    for size in (1, 20, 50, 1000):
        cut = spans(store, rows=size)
        assert [m for first, last in cut for m in minutes if first <= m <= last] == minutes
        held = [sum(first <= one.event_time // 60_000_000 * 60 <= last for one in calls) for first, last in cut]
        assert all(count <= size for count, (first, last) in zip(held, cut, strict=True) if first != last)
    since, before = minutes[3], minutes[9]
    assert [m for first, last in spans(store, since, before, 1) for m in (first,)] == minutes[3:9]
    assert spans(store, before=noon) == []


def test_a_stretch_of_time_leaves_the_rest_alone(store: Store) -> None:
    noon = NOON // 1_000_000
    write(store, [call(1, noon - 60), call(2, noon), call(3, noon + 60)], [1, 1, 1])
    apply(store, rules_from([{"name": "r", "when": {}, "team": "t"}]), spans(store, noon, noon + 60))
    assert store.rows(f"SELECT team FROM {store.table('calls')} FINAL ORDER BY call_key") == [("",), ("t",), ("",)]
    assert reconcile(store).checks[-3].holds


# -- what check and the dry run say ------------------------------------------------------------------------------


def test_the_dry_run_says_what_is_moved_then_and_writes_nothing(store: Store) -> None:
    logs, before, after = records(6, 200), some_rules(6), some_rules(66)
    read(store, logs, rules_from(before))
    calls, was = plain(logs), everything(store)
    costs = [row[0] for row in store.rows(f"SELECT cost FROM {store.table('calls')} FINAL ORDER BY position")]
    wanted: dict[Any, list[Any]] = defaultdict(lambda: [0, Decimal(0), 0])
    for one, cost in zip(calls, costs, strict=True):
        old, new = plain_owner(one, before), plain_owner(one, after)
        if old != new:
            entry = wanted[old, new]
            entry[0] += 1
            entry[1] += cost or 0
            entry[2] += cost is None
    said = moves(store, rules_from(after), spans(store, rows=30))
    assert {key: [s.calls, s.spend, s.unpriced] for key, s in said.sums.items()} == wanted
    assert everything(store) == was
    done = retagged(store, rules_from(after))
    assert done == said


def test_coverage_is_that_of_a_plain_loop(store: Store) -> None:
    logs, rules = records(8, 300), some_rules(8)
    rules += [
        {"name": "dead", "when": {"model": "never"}, "team": "t"},
        {"name": "over", "when": {"endpoint_host": "api.openai.com"}, "team": "t", "until": NOON},
        {"name": "wide", "when": {"model": "gpt-*"}, "team": "ccc", "priority": 4, "override": True},
        {"name": "wider", "when": {"model": "gp*"}, "team": "ddd", "priority": 4, "override": True},
        {"name": "all", "when": {"model": "gpt-4o"}, "team": "zzz", "priority": 5, "override": True},
        {"name": "shadowed", "when": {"model": "gpt-4o"}, "team": "zzz", "priority": 4, "override": True},
        {"name": "other", "when": {"model": "gpt-4o"}, "team": "aaa", "priority": 5, "override": True},
        {"name": "same", "when": {"model": "gpt-4o"}, "team": "zzz", "priority": 5, "override": True},
        {"name": "field", "when": {"operation": "chat"}, "team": "bbb", "priority": 5, "override": True},
    ]
    keep: Rules = [{"name": "keep", "when": {"headers": {"X-Team": "nobody"}}, "team": "t"}]
    read(store, logs, rules_from(keep))
    calls = plain(logs)
    costs = [row[0] for row in store.rows(f"SELECT cost FROM {store.table('calls')} FINAL ORDER BY position")]
    owners = [plain_owner(one, rules) for one in calls]

    def sums(chosen: list[bool]) -> list[Any]:
        some = [cost for cost, yes in zip(costs, chosen, strict=True) if yes]
        return [len(some), sum(cost is None for cost in some), sum((cost for cost in some if cost), Decimal(0))]

    found = coverage(store, rules_from(rules))
    tables = {name: [list(row) for row in table.rows] for name, table in sections(found).items()}
    assert [row[:4] for row in tables["coverage"]] == [
        ["rule", *sums([bool(owner[-1]) for owner in owners])],
        ["record", *sums([not owner[-1] and owner[0] != "unallocated" for owner in owners])],
        ["unallocated", *sums([owner[0] == "unallocated" for owner in owners])],
    ]
    assert {row[0]: row[2:5] for row in tables["rules"]} == {
        rule["name"]: sums([owner[-1] == rule["name"] for owner in owners]) for rule in rules
    }
    status = {row[0]: row[1] for row in tables["rules"]}
    wanted = {"dead": "dead", "over": "dead", "all": "claims", "shadowed": "shadowed", "other": "shadowed", "same": "shadowed"}
    assert {name: status[name] for name in wanted} == wanted
    pairs = {(row[0], row[1]): row[2:] for row in tables["conflicts"]}
    claimed = sums([meant(one, rules[-4]) for one in calls])
    assert pairs["all", "other"] == claimed
    assert pairs["all", "field"] == claimed, "which text is longer says nothing between two fields"
    assert ("all", "same") not in pairs, "they name one owner"
    assert ("all", "shadowed") not in pairs, "their precedence differs"
    assert ("wide", "wider") not in pairs, "the longer prefix is the narrower one"
    assert not any(name in pair for pair in pairs for name in ("dead", "over"))
    stored = [plain_owner(one, keep) for one in calls]
    assert found.stale.calls == sum(a != b for a, b in zip(stored, owners, strict=True))


def test_a_header_that_was_never_kept_is_named(store: Store) -> None:
    read(store, records(2, 30), rules_from([{"name": "r", "when": {"headers": {"X-Team": "red"}}, "team": "t"}]))
    rules = [{"name": "r", "when": {"headers": {"X-Team": "red", "X-Cost": "1"}}, "team": "t"}]
    note = sections(coverage(store, rules_from(rules)))["rules"].note
    assert "no call here holds the header x-cost" in note
    assert "x-team" not in note


def test_a_suggestion_is_a_rule_that_claims_the_group(store: Store) -> None:
    write(store, [call(1, api_key_alias='a "b" \\ c'), call(2, project="p"), call(3, model="")], [5, 9, 2])
    rows = {row[1]: row for row in (list(r) for r in sections(coverage(store, ()))["unallocated"].rows)}
    assert list(rows) == ["p", 'a "b" \\ c', ""]
    for value in ("p", 'a "b" \\ c'):
        suggested = f'[[rule]]\nname = "new"\n{rows[value][-1]}\nteam = "t"\n'
        claimed = coverage(store, rules_from(suggested)).by_rule["new"]
        assert [claimed.calls, claimed.spend] == [rows[value][2], rows[value][4]]
    assert rows[""][-1] == ""


def test_the_limit_on_unallocated_dollars_is_exact(store: Store) -> None:
    rules = rules_from([{"name": "r", "when": {"project": "p"}, "team": "t"}])
    assert not coverage(store, rules).exceeds(0), "an empty store has nothing unallocated"
    write(store, [call(1), call(2, project="p")], [1, 999])
    assert [coverage(store, rules).exceeds(percent) for percent in (0, 0.09999, 0.1, 100)] == [True, True, False, False]
    write(store, [call(1), call(2, project="p"), call(3)], [None, None, None])
    found = coverage(store, rules)
    assert (found.exceeds(66), found.exceeds(67), found.unallocated_share()) == (True, False, "66.67% of the calls")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_owns_as_a_plain_loop_does_whoever_works(store: Store, address: StoreAddress, tmp_path: Path, workers: int) -> None:
    logs, rules = records(9, 200), some_rules(9)
    paths = [tmp_path / f"{number}.jsonl" for number in range(4)]
    for number, path in enumerate(paths):
        path.write_bytes(b"\n".join(logs[50 * number : 50 * number + 50]))
    go(address, *paths, owners=rules_from(rules), workers=workers)
    holds(store)
    found = store.rows(f"SELECT source, position, {', '.join(CLAIMED)} FROM {store.table('calls')} FINAL ORDER BY 1, 2")
    assert [row[2:] for row in found] == [plain_owner(one, rules) for one in plain(logs)]
