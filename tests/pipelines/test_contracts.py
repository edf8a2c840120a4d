"""Contracts end to end: from files through a run into the store, and what the command shows of them.

What a call must cost is worked out by hand from the numbers in the files below.
"""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from math import ceil
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from pipelines.changes import Changes
from pipelines.cli import cli
from pipelines.contracting import known_contracts, not_kept
from pipelines.doctor.configured import price_book
from pipelines.job import Job
from pipelines.run import run
from pipelines.settings import load
from pipelines.terms import Content, TermsFiles, announce_from, publish_books, read_content, timeline
from schemas.tables import CALLS
from sinks.clickhouse import Store, StoreAddress, StoreSettings
from sinks.retention import Retention, keep
from sinks.terms import announced
from tests.pipelines.jobs import go, holds
from transforms.price import BookError

BOOK = """providers = ["acme"]
source = "their list"
recorded = 2026-01-01

[[model]]
model = "large"
prices = [{ input = "3", output = "9" }, { tier = "batch", input = "1.5", output = "4.5" }]

[[model]]
model = "small"
prices = [{ input = "1", output = "2" }]
"""
CONTRACTS = """
[[contract]]
name = "everybody"
providers = ["acme"]
from = 2026-03-01
discount = "10"

[[contract]]
name = "acme-2026"
providers = ["acme"]
accounts = ["org-1"]
from = 2026-03-02
to = 2026-03-06
discount = "20"

[[contract.discounts]]
tiers = ["batch"]
percent = "50"

[[contract.price]]
model = "large"
input = "2"

[[contract.credit]]
name = "launch"
amount = "0.004"
to = 2026-03-04

[[contract.credit]]
name = "later"
amount = "0.1"
"""
PER_CALL = 1000
"""Tokens of input of each call, and of output."""

PAID = {  # dollars per million of input and output together, by account, model, tier: at list price, and under each contract
    ("large", ""): ("12", "10.8", "9.2"),  # 3 + 9; 2.7 + 8.1; 2 + 7.2
    ("large", "batch"): ("6", "5.4", "3"),
    ("small", ""): ("3", "2.7", "2.4"),
}


def event(day: int, account: str, model: str, tier: str = "", team: str = "red", **said: Any) -> dict[str, Any]:
    return {
        "schema": "llm-finops/call/v1",
        "provider": "acme",
        "model": model,
        "service_tier": tier,
        "id": f"{day}-{account}-{model}-{tier}-{team}",
        "started_at": f"2026-{'02-28' if not day else f'03-{day:02}'}T12:00:00Z",
        "account": account,
        "team": team,
        "usage": {"input_fresh": PER_CALL, "output_visible": PER_CALL},
        **said,
    }


EVENTS = [
    event(day, account, model, tier, team)
    for day in range(9)
    for account in ("org-1", "org-2")
    for model, tier in PAID
    for team in ("red", "blue")
]


def due(one: dict[str, Any]) -> tuple[str, Decimal, Decimal]:
    """Contract, list cost and cost of a call."""
    at_list, everybody, ours = (Decimal(price) * PER_CALL / 10**6 for price in PAID[one["model"], one["service_tier"]])
    day = one["started_at"][:10]
    if one["account"] == "org-1" and "2026-03-02" <= day < "2026-03-06":
        return "acme-2026", at_list, ours
    return ("everybody", at_list, everybody) if day >= "2026-03-01" else ("", at_list, at_list)


class Files:
    """A folder of prices, a file of contracts, a log, and the options that name the first two."""

    def __init__(self, folder: Path) -> None:
        self.books, self.contracts, self.log = folder / "books", folder / "contracts.toml", folder / "log.jsonl"
        self.books.mkdir()
        (self.books / "acme.toml").write_text(BOOK)
        self.contracts.write_text(CONTRACTS)
        self.log.write_text("".join(json.dumps(one) + "\n" for one in EVENTS))

    @property
    def terms(self) -> TermsFiles:
        return TermsFiles((self.books,), (), (self.contracts,))

    @property
    def settings(self) -> dict[str, Any]:
        return {"books": (self.books,), "contracts": (self.contracts,)}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def costs(store: Store) -> dict[str, tuple[str, Decimal, Decimal]]:
    rows = store.rows(f"SELECT provider_call_id, contract, list_cost, cost FROM {store.table('calls')} FINAL")
    return {name: tuple(rest) for name, *rest in rows}


def everything(store: Store) -> list[dict[str, Any]]:
    return store.named_rows(f"SELECT {', '.join(CALLS.arrow.names)} FROM {store.table('calls')} FINAL ORDER BY call_key")


def test_each_call_has_list_and_contracted_cost(store: Store, address: StoreAddress, files: Files) -> None:
    go(address, files.log, **files.settings)
    assert costs(store) == {one["id"]: due(one) for one in EVENTS}
    holds(store)
    sums = f"SELECT sum(list_cost), sum(cost) FROM {store.table('days')} FINAL"
    assert store.rows(sums)[0] == tuple(sum(due(one)[number] for one in EVENTS) for number in (1, 2))
    unknown = store.rows(
        f"SELECT DISTINCT book_version, rate_id FROM {store.table('calls')} FINAL WHERE (book_version, rate_id) NOT IN"
        f" (SELECT book_version, rate_id FROM {store.table('prices')})"
    )
    assert unknown == []
    rates = f"SELECT leaf, usd_per_million FROM {store.table('prices')} WHERE rate_id = 'acme/large#1+acme-2026'"
    assert dict(store.rows(rates)) == {
        "input_fresh": 2,
        "input_tool_use": 2,
        "output_visible": Decimal("7.2"),
        "output_reasoning": Decimal("7.2"),
    }
    before = everything(store)
    go(address, files.log, again=True, **files.settings)
    assert everything(store) == before


def test_calls_go_by_the_contracts_of_their_own_time_whenever_they_are_read(
    store: Store, address: StoreAddress, files: Files
) -> None:
    """From noon of 3 March on other contracts hold; a run that reads it all again comes to the same rows."""
    announce_from(store, read_content(files.terms), 0)
    files.contracts.write_text(CONTRACTS.replace('"10"', '"100"').replace("acme-2026", "acme-2026b"))
    announce_from(store, read_content(files.terms), 1_772_582_400_000_000)  # 4 March 2026
    job = Job((files.log,), StoreSettings(address), **files.settings)
    run(job)
    wanted = {}
    for one in EVENTS:
        name, at_list, cost = due(one)
        if one["started_at"] >= "2026-03-04":
            name, cost = ("acme-2026b", cost) if name == "acme-2026" else (name, Decimal(0))
        wanted[one["id"]] = (name, at_list, cost)
    assert costs(store) == wanted
    before = everything(store)
    run(replace(job, again=True))
    assert everything(store) == before
    assert sorted(known_contracts(store, ())) == ["acme-2026", "acme-2026b", "everybody"]
    assert len(announced(store)) == 2


def test_a_file_of_contracts_that_changes_is_announced_and_a_wrong_one_is_not(store: Store, files: Files) -> None:
    clock = iter(range(100))
    changes = Changes(store, files.terms, 3, clock=lambda: float(next(clock)))
    publish_books(store, changes.timeline)
    files.contracts.write_text(CONTRACTS.replace('discount = "10"', 'discount = "110"'))
    for _ in range(3):
        assert changes.look() is None
    assert "contract 'everybody': field \"discount\": \"110\" is not a percentage" in changes.wrong
    files.contracts.write_text(CONTRACTS.replace('discount = "10"', 'discount = "11"'))
    found = None
    for _ in range(3):
        found = found or changes.look()
    assert found is not None
    assert [len(one.contracts) for one in found] == [1, 1]
    assert changes.wrong == ""
    versions = store.rows(f"SELECT uniqExact(book_version) FROM {store.table('prices')}")
    assert versions == [(2,)]


def test_terms_without_contracts_are_what_they_were(store: Store, files: Files) -> None:
    """The content of a version that knew of none has the same fingerprint, and still holds."""
    text = orjson.dumps({"books": [[("acme.toml", BOOK)]], "rules": []}).decode()
    assert read_content(TermsFiles((files.books,))) == Content(text)
    announce_from(store, Content(text), 0)
    assert [one.contracts for one in timeline(store)] == [()]
    files.contracts.write_text('[[contract]]\nname = "a"\nproviders = ["acne"]\ndiscount = "1"\n')
    found = read_content(files.terms)
    with pytest.raises(BookError, match=r"contracts\.toml, contract 'a': .*'acne' has no prices in the book; did you mean 'acme'"):
        announce_from(store, found, 1)
    assert len(announced(store)) == 1


# -- the command ----------------------------------------------------------------------------------------------------------

Tool = Callable[..., Result]


@pytest.fixture(scope="module")
def filled(module_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store that the log was read into; tests do not write to it."""
    files = Files(tmp_path_factory.mktemp("filled"))
    go(module_store.address, files.log, **files.settings)
    return module_store


def tool_on(store: Store, files: Files, monkeypatch: pytest.MonkeyPatch) -> Tool:
    """The command in this process, which has one engine, and it is open."""
    monkeypatch.setattr("pipelines.stores.open_store", lambda _: store)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*words: str) -> Result:
        named = ["--price-books", str(files.books), "--price-contracts", str(files.contracts)]
        return CliRunner().invoke(cli, ["contracts", *named, *words], catch_exceptions=False)

    return call


@pytest.fixture
def tool(filled: Store, files: Files, monkeypatch: pytest.MonkeyPatch) -> Tool:
    return tool_on(filled, files, monkeypatch)


def credited() -> dict[str, tuple[Decimal, Decimal]]:
    """What credits pay by day of March, of all that the contract costs that day: 0.004 on the first days, then 0.1."""
    day = 2 * sum(Decimal(ours) for _, _, ours in PAID.values()) * PER_CALL / 10**6  # 0.0292 on each of four days
    assert day == Decimal("0.0292")
    left = Decimal("0.1")
    found = {}
    for number, launch in ((2, Decimal("0.004")), (3, Decimal(0)), (4, Decimal(0)), (5, Decimal(0))):
        later = min(left, day - launch)
        left -= later
        found[f"2026-03-{number:02}"] = (launch + later, day)
    return found


def test_list_contracted_and_effective_cost_side_by_side(tool: Tool) -> None:
    rows = {row["name"]: row for row in json.loads(tool("--format", "json").stdout)}
    wanted: dict[str, list[Decimal]] = defaultdict(lambda: [Decimal(0), Decimal(0)])
    for one in EVENTS:
        name, at_list, cost = due(one)
        wanted[name or "(no contract)"][0] += at_list
        wanted[name or "(no contract)"][1] += cost
    assert {name: [Decimal(row["list_cost"]), Decimal(row["contracted_cost"])] for name, row in rows.items()} == wanted
    paid = sum(credit for credit, _ in credited().values())
    assert paid == Decimal("0.104")
    assert {name: Decimal(row["credits_used"]) for name, row in rows.items()} == {
        "acme-2026": paid,
        "everybody": 0,
        "(no contract)": 0,
    }
    ours = rows["acme-2026"]
    assert Decimal(ours["effective_cost"]) == wanted["acme-2026"][1] - paid
    saved = wanted["acme-2026"][0] - wanted["acme-2026"][1] + paid
    assert Decimal(ours["saved"]) == saved
    assert round(Decimal(ours["saved_share"]), 9) == round(saved / wanted["acme-2026"][0], 9)


def test_explain_shows_list_and_contracted_rates_and_the_stored_cost(
    filled: Store, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.stores.open_store", lambda _: filled)
    named = ["--price-books", str(files.books), "--price-contracts", str(files.contracts), "--format", "json"]

    def explained(*words: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(CliRunner().invoke(cli, ["explain", *named, *words], catch_exceptions=False).stdout)
        return found

    one = explained("3-org-1-large--red")
    assert (one["contract"], one["stored"], Decimal(one["cost"])) == ("acme-2026", "equal", Decimal("0.0092"))
    rates = {line["unit"]: (line["list_rate"], line["rate"]) for line in one["lines"]}
    assert rates == {"input_fresh": ("3", "2"), "output_visible": ("9", "7.2")}
    made_up = ["--provider", "acme", "--model", "small", "--input", "1000", "--at", "2026-03-03"]
    assert Decimal(explained(*made_up, "--account", "org-1")["cost"]) == Decimal("0.0008")
    assert explained(*made_up)["contract"] == "everybody"


@pytest.mark.parametrize("by", ["team", "model", "account", "project", "provider"])
def test_every_table_adds_up_to_the_same_figures(tool: Tool, by: str) -> None:
    rows = list(csv.DictReader(io.StringIO(tool("--by", by, "--format", "csv").stdout)))
    sums = [sum(Decimal(row[key]) for row in rows) for key in ("calls", "list_cost", "contracted_cost", "credits_used", "effective_cost")]
    at_list, cost = (sum(due(one)[number] for one in EVENTS) for number in (1, 2))
    assert sums == [len(EVENTS), at_list, cost, Decimal("0.104"), cost - Decimal("0.104")]
    if by == "team":  # both teams call alike
        assert {row["credits_used"] for row in rows} == {"0.052"}


def test_of_some_days_credits_are_what_was_left_by_then(tool: Tool) -> None:
    found = json.loads(tool("--from-time", "2026-03-04", "--until", "2026-03-06", "--format", "json").stdout)
    (ours,) = [row for row in found if row["name"] == "acme-2026"]
    days = [credited()[day] for day in ("2026-03-04", "2026-03-05")]
    assert Decimal(ours["contracted_cost"]) == sum(cost for _, cost in days)
    assert Decimal(ours["credits_used"]) == sum(credit for credit, _ in days)


def test_what_is_left_of_credits_and_when_it_runs_out(tool: Tool, files: Files) -> None:
    rows = json.loads(tool("--by", "credit", "--format", "json").stdout)
    assert [(row["credit"], row["state"], row["left"], row["from"], row["to"], row["runs_out"]) for row in rows] == [
        ("launch", "used up", "0", "2026-03-02", "2026-03-04", "2026-03-02"),
        ("later", "used up", "0", "2026-03-02", "2026-03-06", "2026-03-05"),
    ]
    # Eight days are under everybody's contract, four of them with one account only, whose calls cost the same each day.
    text = CONTRACTS.replace('discount = "10"\n', 'discount = "10"\n[[contract.credit]]\nname = "big"\namount = "1"\n', 1)
    files.contracts.write_text(text)
    row = next(row for row in json.loads(tool("--by", "credit", "--format", "json").stdout) if row["credit"] == "big")
    one_account = 2 * sum(Decimal(everybody) for _, everybody, _ in PAID.values()) * PER_CALL / 10**6
    used = one_account * (2 * 4 + 4)
    assert (row["state"], Decimal(row["left"]), row["to"]) == ("open", 1 - used, None)
    a_day = Decimal(row["cost_a_day"])
    assert abs(a_day - one_account * (2 * 3 + 4) / 7) < Decimal("1e-12")
    assert row["runs_out"] == f"2026-03-{8 + ceil((1 - used) / a_day):02}"


def test_a_person_reads_it_on_one_screen(tool: Tool) -> None:
    screen = tool().stdout
    for shown in ("Cost by contract", "acme-2026", "(no contract)", "total", "Credits", "launch", "runs out", "2026-03-05"):
        assert shown in screen
    assert max(map(len, screen.splitlines())) <= 100


def test_what_is_unpriced_is_said(
    store: Store, address: StoreAddress, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tool_on(store, files, monkeypatch)
    files.log.write_text(json.dumps(event(5, "org-1", "mystery")) + "\n")
    go(address, files.log, **files.settings)
    assert "1 of the calls are unpriced, and in no sum" in tool().stdout
    rows = json.loads(tool("--by", "model", "--format", "json").stdout)
    assert {row["name"]: row["unpriced_calls"] for row in rows}["acme/mystery"] == 1


def test_calls_that_are_kept_no_more_are_said(store: Store, files: Files) -> None:
    known = known_contracts(store, (files.contracts,))
    assert not_kept(store, known) == ""
    keep(store, Retention(calls=10))
    warning = not_kept(store, known)
    assert "launch (acme-2026), later (acme-2026); state what was left of them that day as amount" in warning


def test_a_store_without_contracts_says_so(store: Store, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    tool_on(store, files, monkeypatch)
    done = CliRunner().invoke(cli, ["contracts"], catch_exceptions=False)
    assert "there are no contracts: price.contracts names none" in done.stdout
    assert "Credits" not in done.stdout


def test_calls_under_contracts_that_nobody_states_have_unknown_credits(tool: Tool) -> None:
    stated = {row["name"]: row for row in json.loads(tool("--format", "json").stdout)}
    done = CliRunner().invoke(cli, ["contracts", "--format", "json"], catch_exceptions=False)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    for name, row in rows.items():
        figures = [row[column] for column in ("credits_used", "effective_cost", "saved", "saved_share")]
        assert (figures == [None] * 4) == (name != "(no contract)"), name
        assert [row[column] for column in ("calls", "list_cost", "contracted_cost")] == [
            stated[name][column] for column in ("calls", "list_cost", "contracted_cost")
        ]
    for name in ("acme-2026", "everybody"):
        assert f"{name} ({stated[name]['calls']} calls)" in done.stderr
    assert "not known: name their files with --price-contracts" in done.stderr
    screen = CliRunner().invoke(cli, ["contracts", "--by", "model"], catch_exceptions=False).stdout
    assert "there are no contracts" not in screen
    assert [line.split()[-1] for line in screen.splitlines() if line.startswith("total")] == ["-"]


def test_wrong_contracts_end_a_command_with_the_place_and_the_fix(tool: Tool, files: Files) -> None:
    files.contracts.write_text(CONTRACTS.replace('amount = "0.004"', 'amount = "-3"'))
    with pytest.raises(BookError, match=r"contracts\.toml, contract 'acme-2026', credit 'launch': field \"amount\": \"-3\""):
        tool()


def test_doctor_names_contracts(files: Files) -> None:
    settings = load(flags={"price.books": (files.books,), "price.contracts": (files.contracts,)}, environ={})
    assert price_book(settings).detail.endswith(", with 1 own folders, contracts acme-2026, everybody")
