"""Pricing history anew, on the real engine, against a plain loop with Decimal over the stored leaves."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import pipelines.reprice
from pipelines.cli import cli
from pipelines.errors import SettingsError
from pipelines.reprice import Prices, apply, check, compare, late_calls, numbered, open_spans, undo, unstated
from pipelines.state import State
from pipelines.terms import Content, announce_from, timeline
from schemas.tables import CALLS, MONEY_COLUMNS
from sinks.clickhouse import Store, StoreAddress
from sinks.forget import forget_tenant
from sinks.recompute import recompute
from sinks.reconcile import reconcile
from sinks.reprice import EVERYTHING, PriceRun, Scope, price_runs, scope_of
from sinks.retention import Retention, keep
from sinks.search import Sought
from tests.own.samples import NOON
from tests.own.test_history import another, everything, read, records, rollups
from transforms.terms import Terms

MINUTE = 60
COUNT = 120
START = NOON // 1_000_000 // MINUTE * MINUTE
END = START + 4 * 86_400
LEAVES_PRICED = {"input_fresh": "input", "output_visible": "output"}
RATES = {
    "up": {"gpt-4o": ("7", "21.5"), "gpt-4o-mini": ("0.33", "0.9"), "nobody-knows-this": ("1", "3")},
    "down": {"gpt-4o": ("1.25", "5"), "gpt-4o-mini": ("0.07", "0.3")},
}
"""Dollars per million tokens of input and output, by what-if book."""


def book(name: str) -> tuple[tuple[str, str], ...]:
    text = 'providers = ["openai"]\nsource = "made up"\nrecorded = 2025-01-01\n'
    for model, (asked, made) in RATES[name].items():
        text += f'[[model]]\nmodel = "{model}"\nprices = [{{ input = "{asked}", output = "{made}" }}]\n'
    return (("openai.toml", text),)


def prices(*names: str) -> Prices:
    return Prices((Terms(books=tuple(map(book, names))),))


def go(store: Store, name: str, since: int = START, until: int = END, rows: int = 50, scope: Scope = EVERYTHING) -> PriceRun:
    return apply(store, prices(name), since, until, rows=rows, scope=scope)[0]


def money(store: Store) -> dict[str, tuple[Any, ...]]:
    """By call: minute, run, and every column of money."""
    columns = f"hex(call_key), toUInt32(minute), price_run, {', '.join(MONEY_COLUMNS)}"
    return {key: tuple(row) for key, *row in store.rows(f"SELECT {columns} FROM {store.table('calls')} FINAL")}


def sums_hold(store: Store) -> None:
    proof = reconcile(store)
    assert proof.holds, [one for one in proof.checks if not one.holds]


@pytest.fixture
def filled(store: Store) -> Store:
    read(store, records(4, COUNT), ())
    return store


def test_history_costs_what_a_plain_loop_over_its_leaves_says(filled: Store) -> None:
    leaves = ", ".join(LEAVES_PRICED)
    sql = f"SELECT hex(call_key), toString(toDate(minute)), model, {leaves}, cost, price_status FROM {filled.table('calls')} FINAL"
    calls = filled.rows(sql)
    wanted: dict[str, Decimal] = {}
    sums: dict[tuple[str, str], list[Any]] = defaultdict(lambda: [0, Decimal(0), Decimal(0), 0])
    for key, day, model, asked, made, was, status in calls:
        rate_in, rate_out = map(Decimal, RATES["up"][model])
        wanted[key] = ((asked or 0) * rate_in + (made or 0) * rate_out) / 10**6
        one = sums[day, model]
        one[0] += 1
        one[1] += was or 0
        one[2] += wanted[key]
        one[3] += status == "unpriced"
    before = everything(filled)
    found = check(filled, prices("up"), open_spans(filled, START, END, 70), ("day", "model"))
    assert everything(filled) == before, "a check writes nothing"
    shown = {
        (row["day"], row["model"]): [row["calls"], row["old_cost"], row["new_cost"], row["status_changes"]] for row in found.rows()
    }
    assert shown == sums
    assert sum(row["old_unpriced"] for row in found.rows()) > 0 == sum(row["new_unpriced"] for row in found.rows())

    run, done = apply(filled, prices("up"), START, END, rows=50)
    assert run.number == 2
    assert done.rows() == found.rows()
    assert {key: row[2] for key, row in money(filled).items()} == wanted
    assert {row[1] for row in money(filled).values()} == {2}
    sums_hold(filled)
    for table in ("minutes", "hours", "days"):
        assert filled.rows(f"SELECT sum(cost) FROM {filled.table(table)} FINAL")[0][0] == sum(wanted.values())
    # the same from what was kept, to the last digit; and all else of a call is as it was
    assert compare(filled, 1, 2, ("day", "model")) == found.rows()
    taken = {*MONEY_COLUMNS, "price_run"}
    assert [{k: v for k, v in row.items() if k not in taken} for row in everything(filled)[0]] == [
        {k: v for k, v in row.items() if k not in taken} for row in before[0]
    ]
    assert {row[0] for row in filled.rows(f"SELECT DISTINCT book_version FROM {filled.table('prices')}")} == {run.book_version}


def test_what_was_taken_back_is_as_it_was(filled: Store) -> None:
    before = everything(filled)
    go(filled, "up")
    assert everything(filled)[0] != before[0]
    assert undo(filled, 2, rows=50).number == 3

    def without_run(rows: Any) -> Any:
        return [{**row, "price_run": 1} for row in rows]

    assert without_run(everything(filled)[0]) == before[0]
    sums_hold(filled)
    assert compare(filled, 1, 3, ("model",)) != compare(filled, 1, 2, ("model",))
    assert all(row["difference"] == 0 == row["status_changes"] for row in compare(filled, 1, 3, ("model",)))
    assert [(run.number, run.undoes, run.done, run.active) for run in price_runs(filled)] == [(2, 0, True, False), (3, 2, True, True)]


SCOPES = (
    EVERYTHING,
    scope_of(["openai"]),
    scope_of(models=["gpt-4o"]),
    scope_of(models=["nobody-knows-this", "gpt-4o-mini"]),
    scope_of(models=["gpt-4o-mini"], tenants=["default"]),
    scope_of(["azure"]),
)


@pytest.mark.parametrize("scopes", [SCOPES[:1], SCOPES], ids=("of all calls", "of some"))
def test_runs_over_each_other_and_back_are_a_stack_of_figures_per_call(filled: Store, scopes: tuple[Scope, ...]) -> None:
    """Against a plain model: each call has a stack of what it cost."""
    rng = random.Random(3)
    stacks: dict[str, list[tuple[int, Any]]] = {key: [(1, row[2:])] for key, row in money(filled).items()}
    at = {key: row[0] for key, row in money(filled).items()}
    called = {key: row for key, *row in filled.rows(f"SELECT hex(call_key), provider, model, tenant FROM {filled.table('calls')}")}
    runs: list[tuple[int, int, int, Scope]] = []

    def calls_of(run: tuple[int, int, int, Scope]) -> set[str]:
        inside = {key for key, minute in at.items() if run[1] <= minute < run[2]}
        return {key for key in inside if all(not names or one in names for names, one in zip(run[3], called[key], strict=True))}

    def covers(over: tuple[int, int, int, Scope], run: tuple[int, int, int, Scope]) -> bool:
        apart = any(ours and theirs and not set(ours) & set(theirs) for ours, theirs in zip(over[3], run[3], strict=True))
        return over[0] > run[0] and over[1] < run[2] and run[1] < over[2] and not apart

    number = 1
    for _ in range(9 if len(scopes) == 1 else 12):
        free = [run for run in runs if not any(covers(over, run) for over in runs)]
        if free and rng.random() < 0.45:
            gone = rng.choice(free)
            runs.remove(gone)
            number += 1
            assert undo(filled, gone[0]).number == number
            assert price_runs(filled)[-1].scope == gone[3]
            for stack in stacks.values():
                if stack[-1][0] == gone[0]:
                    stack.pop()
        else:
            since = START + rng.randrange(3) * 86_400
            until = since + rng.randrange(1, 3) * 86_400
            scope = rng.choice(scopes)
            done = (go(filled, rng.choice(("up", "down")), since, until, scope=scope).number, since, until, scope)
            if done in runs:  # the same again, with nothing over it
                continue
            number += 1
            assert done[0] == number
            runs.append(done)
            now = money(filled)
            assert {key for key, row in now.items() if row[1] == number} == calls_of(done)
            for key in calls_of(done):
                stacks[key].append((number, now[key][2:]))
        assert {key: row[2:] for key, row in money(filled).items()} == {key: stack[-1][1] for key, stack in stacks.items()}
    assert max(map(len, stacks.values())) > 2
    sums_hold(filled)
    blocked = [run for run in runs if any(covers(over, run) for over in runs)]
    if blocked:
        with pytest.raises(SettingsError, match="stands over"):
            undo(filled, blocked[0][0])


_UNKILLED: list[Any] = []


def unkilled(address: StoreAddress) -> Any:
    """What a run comes to that nobody kills; worked out once."""
    if not _UNKILLED:
        with another(address) as fresh:
            read(fresh, records(4, COUNT), ())
            go(fresh, "up")
            _UNKILLED.extend((everything(fresh), compare(fresh, 1, 2, ("day", "model"))))
    return tuple(_UNKILLED)


@pytest.mark.parametrize(
    ("step", "after"),
    [("keep", False), ("put", False), ("put", True), ("follow", False), ("follow", True), ("recompute", True), ("record", False)],
)
def test_a_run_that_was_killed_is_finished_by_the_same_command(
    filled: Store, monkeypatch: pytest.MonkeyPatch, step: str, after: bool
) -> None:
    real, left = getattr(pipelines.reprice, step), 1

    def killed(*arguments: Any) -> Any:
        nonlocal left
        if left == 0:
            if after:
                real(*arguments)
            raise KeyboardInterrupt
        left -= 1
        return real(*arguments)

    before = everything(filled)[0]
    monkeypatch.setattr(pipelines.reprice, step, killed)
    with pytest.raises(KeyboardInterrupt):
        go(filled, "up")
    monkeypatch.setattr(pipelines.reprice, step, real)
    if after and step == "follow":
        with State(filled.address) as state:  # what the next run does first
            recompute(filled, state.dirty())
        sums_hold(filled)
    assert go(filled, "up").number == 2
    assert [(run.number, run.done) for run in price_runs(filled)] == [(2, True)]
    assert (everything(filled), compare(filled, 1, 2, ("day", "model"))) == unkilled(filled.address)
    sums_hold(filled)

    if step in ("keep", "put"):
        return
    left = 1
    monkeypatch.setattr(pipelines.reprice, step, killed)
    with pytest.raises(KeyboardInterrupt):
        undo(filled, 2, rows=50)
    monkeypatch.setattr(pipelines.reprice, step, real)
    assert undo(filled, 2, rows=50).number == 3
    assert [{**row, "price_run": 1} for row in everything(filled)[0]] == before
    sums_hold(filled)
    with pytest.raises(SettingsError, match="taken back already"):
        undo(filled, 2)
    with pytest.raises(SettingsError, match="apply its book again"):
        undo(filled, 3)


def test_what_is_read_again_keeps_the_run_and_what_comes_late_is_priced_by_applying_again(store: Store) -> None:
    logs = records(4, COUNT)
    read(store, logs[:90], ())
    go(store, "up")
    applied = money(store)
    read(store, logs, ())  # everything once more, and thirty that are new
    late = {key for key in money(store) if key not in applied}
    assert len(late) == 30
    assert {key: row for key, row in money(store).items() if key not in late} == applied
    assert {row[1] for key, row in money(store).items() if key in late} == {1}
    assert late_calls(store, price_runs(store)) == {2: 30}
    assert go(store, "up").number == 2
    assert {row[1] for row in money(store).values()} == {2}
    assert late_calls(store, price_runs(store)) == {2: 0}
    assert {key: row for key, row in money(store).items() if key not in late} == applied
    versions = f"SELECT call_key, version FROM {store.table('calls')} FINAL ORDER BY call_key"
    once, rows = store.rows(versions), rollups(store)
    assert go(store, "up").number == 2
    assert (store.rows(versions), rollups(store)) == (once, rows), "twice is once"
    undo(store, 2)
    with another(store.address) as fresh:
        read(fresh, logs, ())
        assert {key: row[2:] for key, row in money(store).items()} == {key: row[2:] for key, row in money(fresh).items()}


def test_where_prices_were_announced_for_the_past_late_calls_go_by_them_without_another_run(store: Store) -> None:
    logs = records(4, COUNT)
    read(store, logs[:90], ())
    for since, books in ((0, []), (START * 1_000_000, [book("up")])):
        announce_from(store, Content(orjson.dumps({"books": books, "rules": []}).decode()), since)
    apply(store, Prices(timeline(store)), START, END)
    early = set(money(store))
    read(store, logs, (), timeline(store))
    leaves = ", ".join(LEAVES_PRICED)
    rows = store.rows(f"SELECT hex(call_key), model, {leaves}, cost, price_run FROM {store.table('calls')} FINAL")
    assert len(rows) == COUNT
    for key, model, asked, made, cost, run in rows:
        rate_in, rate_out = map(Decimal, RATES["up"][model])
        assert (cost, run) == (((asked or 0) * rate_in + (made or 0) * rate_out) / 10**6, 2 if key in early else 1)
    sums_hold(store)


def test_a_better_observation_stands_and_is_taken_back_to_itself(filled: Store) -> None:
    """The row of a call is written by a higher authority after a run: its leaves are others, and so is what it costs."""
    key, (_, _, was, *_) = min((k, row) for k, row in money(filled).items() if row[2])
    go(filled, "up")
    names = ", ".join(CALLS.arrow.names)
    better = "authority + 1 AS authority, 1 AS price_run, input_fresh + 1000 AS input_fresh, toDecimal64(9, 12) AS cost,"
    better += " toDecimal64(9, 12) AS cost_input, toDecimal64(0, 12) AS cost_output"
    row = f"SELECT * REPLACE ({better}) FROM {filled.table('calls')} FINAL WHERE hex(call_key) = '{key}'"
    filled.command(f"INSERT INTO {filled.table('calls')} ({names}) SELECT {names} FROM ({row})")
    assert money(filled)[key][1:3] == (1, Decimal(9))
    go(filled, "up")
    assert money(filled)[key][1] == 2
    assert money(filled)[key][2] not in (was, Decimal(9))
    undo(filled, 2)
    assert money(filled)[key][1:3] == (3, Decimal(9))


def test_a_range_is_exact_to_the_minute(filled: Store) -> None:
    before = money(filled)
    first = sorted({row[0] for row in before.values()})[2]
    go(filled, "up", first, first + MINUTE)
    assert {key for key, row in money(filled).items() if row[1] == 2} == {key for key, row in before.items() if row[0] == first}
    assert {key: row for key, row in money(filled).items() if row[1] == 1}.items() <= before.items()


def test_a_contract_is_part_of_what_history_is_priced_by(filled: Store) -> None:
    text = '[[contract]]\nname = "deal"\nproviders = ["openai"]\nfrom = 2020-01-01\ndiscount = "10"\n'
    go(filled, "up")
    listed = {key: row[2] for key, row in money(filled).items()}
    terms = Terms((book("up"),), contracts=((("deal.toml", text),),))
    run, _ = apply(filled, Prices((terms,)), START, END)
    rows = filled.rows(f"SELECT hex(call_key), cost, list_cost, contract FROM {filled.table('calls')} FINAL WHERE price_run = 3")
    assert run.number == 3
    assert len(rows) == len(listed)
    for key, cost, list_cost, contract in rows:  # a tenth less is a whole number of pico-dollars for each of these rates
        assert (cost, list_cost, contract) == (listed[key] * Decimal("0.9"), listed[key], "deal")
    sums_hold(filled)
    assert unstated(filled, prices("up"), START, END) == f"{len(rows)} calls are under contract deal"
    assert unstated(filled, prices("up"), START, END, scope_of(providers=["nobody"])) == ""
    assert unstated(filled, Prices((terms,)), START, END) == ""


def test_calls_keep_their_contract_unless_it_is_said(filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.stores.open_store", lambda _: filled)
    deal = tmp_path / "deal.toml"
    deal.write_text('[[contract]]\nname = "deal"\nproviders = ["openai"]\nfrom = 2020-01-01\ndiscount = "10"\n')
    to, dates = ["--to", str(filled.address)], ["--since", "2020-01-01", "--before", "2040-01-01"]

    def run(*words: str) -> str:
        result = CliRunner().invoke(cli, ["reprice", *words], catch_exceptions=False, standalone_mode=False)
        assert result.exception is None
        return " ".join(result.stdout.split())

    run("apply", *to, *dates, "--price-contracts", str(deal))
    ((calls, spent),) = filled.rows(f"SELECT countIf(contract = 'deal'), sum(cost) FROM {filled.table('calls')} FINAL")
    assert calls
    assert f"{calls} calls are under contract deal, which is not stated (--price-contracts FILE)" in run("check", *to)
    assert "contract" not in run("check", *to, "--price-contracts", str(deal))
    with pytest.raises(SettingsError, match=f"{calls} calls are under contract deal.*--without-contracts"):
        run("apply", *to, *dates)
    assert filled.rows(f"SELECT sum(cost) FROM {filled.table('calls')} FINAL") == [(spent,)]
    run("apply", *to, *dates, "--without-contracts")
    assert filled.rows(f"SELECT countIf(contract != ''), sum(cost) > {spent} FROM {filled.table('calls')} FINAL") == [(0, 1)]


def test_announced_prices_hold_from_their_event_time(filled: Store) -> None:
    cut = START + 86_400
    timeline = (Terms(books=(book("up"),)), Terms(books=(book("down"),), since=cut * 1_000_000))
    run, _ = apply(filled, Prices(timeline), START, END)
    ours = money(filled)
    assert run.book_version.startswith("terms ")
    with another(filled.address) as fresh:
        read(fresh, records(4, COUNT), ())
        go(fresh, "up", START, cut)
        go(fresh, "down", cut, END)
        assert {key: row[2:] for key, row in ours.items()} == {key: row[2:] for key, row in money(fresh).items()}


def test_closed_days_are_left_alone(filled: Store) -> None:
    before = everything(filled)
    keep(filled, Retention(calls=1))
    assert open_spans(filled, START, END) == []
    go(filled, "up")
    assert rollups(filled) == before[1]
    assert filled.rows(f"SELECT count() FROM {filled.table('call_prices')}") == [(0,)]


def test_a_forgotten_tenant_is_in_no_figures(filled: Store) -> None:
    tenant = filled.rows(f"SELECT any(tenant) FROM {filled.table('calls')}")[0][0]
    go(filled, "up", scope=scope_of(tenants=[tenant, "other"]))
    forget_tenant(filled, Sought(tenant, whole=True), [b"m" * 16], b"s" * 16)
    for table in ("calls", "call_prices"):
        assert filled.rows(f"SELECT count() FROM {filled.table(table)} WHERE tenant = '{tenant}'") == [(0,)]
    assert price_runs(filled)[0].scope.tenants == ("forgotten", "other")


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 4), st.sampled_from("ab"), st.sets(st.sampled_from("xy"))), max_size=12))
def test_numbers_only_rise_and_one_is_done_again_only_while_nothing_stands_over_it(
    wishes: list[tuple[int, int, str, set[str]]],
) -> None:
    known: list[PriceRun] = []
    top: dict[tuple[int, str], tuple[int, int, int, str, Scope]] = {}
    for since, length, version, providers in wishes:
        scope = scope_of(providers)
        run = numbered(known, since, since + length, version, scope=scope)
        again = (run.number, since, since + length, version, scope)
        calls = [(minute, provider) for minute in range(since, since + length) for provider in providers or "xy"]
        if run.number <= len(known) + 1:
            assert all(top[call] == again for call in calls)
        else:
            assert run.number == len(known) + 2
            known.append(run)
        top |= dict.fromkeys(calls, again)
        assert numbered(known, since, since + length, version, scope=scope).number == run.number


def test_the_commands(filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.stores.open_store", lambda _: filled)
    folder = tmp_path / "book"
    folder.mkdir()
    for name, text in book("up"):
        (folder / name).write_text(text)
    to, dates = ["--to", str(filled.address)], ["--since", "2020-01-01", "--before", "2040-01-01"]
    ask = ["--price-books", str(folder), "--format", "csv", "--by", "model"]

    def said(*words: str) -> str:
        result = CliRunner().invoke(cli, ["reprice", *words], catch_exceptions=False, standalone_mode=False)
        assert result.exception is None
        return result.stdout

    would = said("check", *to, *ask)
    assert would.splitlines()[0].startswith("model,calls,old_cost,new_cost,difference,status_changes")
    assert said("apply", *to, *ask, *dates) == would
    assert said("diff", "1", "2", *to, "--format", "csv", "--by", "model") == would
    (run,) = csv.DictReader(said("list", *to, "--format", "csv").splitlines())
    assert (run["state"], run["late"]) == ("done", "0")
    key = filled.rows(f"SELECT lower(hex(call_key)) FROM {filled.table('calls')} FINAL WHERE cost > 0 LIMIT 1")[0][0]
    explained = CliRunner().invoke(cli, ["explain", key, *to], catch_exceptions=False, standalone_mode=False)
    assert "priced by reprice, run 2, with another book" in " ".join(explained.stdout.split())
    some = ["--model", "gpt-4o", "--model", "nobody-knows-this", "--tenant", "default", "--provider", "openai"]
    for command in (["check"], ["apply", *dates]):
        rows = said(*command, *to, *ask, *some).splitlines()[1:]
        assert [row.partition(",")[0] for row in rows] == ["gpt-4o", "nobody-knows-this"]
    assert "provider=openai model=gpt-4o model=nobody-knows-this tenant=default" in said("list", *to, "--format", "csv")
    assert said("apply", *to, *ask, *dates, "--provider", "azure").splitlines()[1:] == []
    for number in ("4", "3"):
        assert "undone" in said("undo", number, *to, "--format", "csv")
    assert "undone" in said("undo", "2", *to, "--format", "csv")
    for words, error in (
        (("undo", "9"), "there is no run 9"),
        (("diff", "1", "9"), "there is no run 9"),
        (("check", "--terms"), "no terms were announced"),
        (("apply", "--since", "2026-01-02", "--before", "2026-01-01"), "must be before"),
    ):
        with pytest.raises(SettingsError, match=error):
            CliRunner().invoke(cli, ["reprice", *words, *to], catch_exceptions=False, standalone_mode=False)
