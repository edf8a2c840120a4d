"""The dashboard of money: every query on the real engine against a plain loop, over contracts, an audit and pricings of history."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from deploy.grafana import money, overview
from pipelines.reprice import Prices, apply, undo
from sinks.audit import audit_days, refresh
from sinks.clickhouse import Store
from sinks.reprice import price_runs
from sources.generate import GenerateSettings, write
from tests.deploy import test_grafana
from tests.deploy.plugin import Look
from tests.deploy.test_grafana import FIRST, FOLDER, WIDTH, Row, bars, grouped, run, seen, total
from tests.pipelines.jobs import go, holds
from transforms.terms import Terms

DEAL = '[[contract]]\nname = "deal"\nproviders = ["openai"]\naccounts = ["org-1"]\nfrom = 2020-01-01\ndiscount = "12.5"\n'
DEARER = 'providers = ["openai"]\nsource = "x"\nrecorded = 2026-01-01\n[[model]]\nmodel = "gpt-4o-mini-2024-07-18"\nprices = [{ input = "1", output = "4" }]\n'
TOLD = {"vendor_reported", "usage", "counted", "estimated", "stated"}


@pytest.fixture(scope="module")
def store(module_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two days of traffic; calls of an account under a contract, without usage, with a price the vendor states; repriced and back."""
    folder = tmp_path_factory.mktemp("logs")
    write(GenerateSettings(seed=5, start=date(2026, 3, 2), days=2, calls=500, undated=0), folder / "traffic")
    text = {"role": "user", "content": "How much is a token?"}
    untold = {"usage": None, "messages": [text], "output": [{**text, "role": "assistant"}]}
    more: list[Row] = [{"account": "org-1"}] * 20 + [{"account": "org-2"}] * 10 + [untold] * 5 + [{"model": "nobody-knows-9"}] * 3
    more += [{**untold, "provider": "anthropic", "model": "claude-haiku-4-5"}] * 4
    events = [test_grafana._event(n, team="search", **one) for n, one in enumerate(more)]
    events += [
        test_grafana._event(100 + n, provider="openrouter", model="openai/gpt-4o-mini", reported_cost={"usd": "0.0123", "by": "vendor"}) for n in range(6)
    ]
    (folder / "events.jsonl").write_text("\n".join(events) + "\n")
    for table in ("minutes", "hours", "days", "audit_days", "price_runs"):  # what was replaced stays, so FINAL is needed
        module_store.command(f"SYSTEM STOP MERGES {module_store.table(table)}")
    paths = [*sorted((folder / "traffic").glob("calls-*")), folder / "events.jsonl"]
    (folder / "deal.toml").write_text(DEAL)
    go(module_store.address, *paths, contracts=(folder / "deal.toml",))
    refresh(module_store)
    books = ((("openai.toml", DEARER),),)
    apply(module_store, Prices((Terms(books=books),)), FIRST, FIRST + 3600)
    apply(module_store, Prices((Terms(books=books),)), FIRST + 7200, FIRST + 9000)
    undo(module_store, 3)
    holds(module_store)
    return module_store


@pytest.fixture(scope="module")
def calls(store: Store) -> list[Row]:
    return store.named_rows(f"SELECT *, toUInt32(minute) AS at FROM {store.table('calls')} FINAL ORDER BY minute, call_key")


def panels() -> dict[str, str]:
    return {panel["title"]: panel["targets"][0]["rawSql"] for panel in money.dashboard()["panels"]}


def added(calls: list[Row], name: str) -> Decimal:
    return sum((call[name] for call in calls if call[name] is not None), Decimal(0))


def parts(calls: list[Row]) -> Row:
    sources = {"the vendor's own figure": "vendor_reported", "from text, counted exactly": "counted", "from text, estimated": "estimated"}
    found: Row = {name: total(call for call in calls if call["cost_source"] == source) for name, source in sources.items()}
    return {**found, "from reported usage": total(calls) - sum(found.values())}


def expect_sure(calls: list[Row], look: Look) -> list[Row]:
    known = [call for call in calls if call["price_status"] != "unpriced"]
    names = {"Spend": "cost", "May be off by": "cost_error", "At list prices": "list_cost"}
    return [{title: added(known, name) if known else None for title, name in names.items()}]


def expect_sources(calls: list[Row], look: Look) -> list[Row]:
    rows = [
        {
            "Provider": provider,
            "Spend": total(some),
            **parts(some),
            "May be off by": added(some, "cost_error"),
            "Calls without a price": sum(call["price_status"] == "unpriced" for call in some),
        }
        for provider, some in grouped(calls, lambda call: call["provider"]).items()
    ]
    return sorted(rows, key=lambda row: (-row["Spend"], row["Provider"]))


def expect_contracts(calls: list[Row], look: Look) -> list[Row]:
    rows = []
    for (provider, account, contract), some in grouped(calls, lambda call: (call["provider"], call["account"], call["contract"])).items():
        listed, paid = added(some, "list_cost"), total(some)
        row = {"Provider": provider, "Account": account or "(none)", "Contract": contract or "(list price)", "At list prices": listed}
        unpriced = sum(call["cost"] is None for call in some)
        rows.append({**row, "Contracted": paid, "Saved": listed - paid, "Calls": len(some), "Calls without a price": unpriced})
    return sorted(rows, key=lambda r: (-r["At list prices"], -r["Calls"], r["Provider"], r["Account"], r["Contract"]))


EXPECTED: dict[str, Callable[[list[Row], Look], list[Row]]] = {
    "Spend and its error": expect_sure,
    "Where the dollars come from, over time": lambda calls, look: bars(calls, parts),
    "Where the dollars come from": expect_sources,
    "Contracts": expect_contracts,
}


@pytest.mark.parametrize("name", ["a day", "cut inside minutes", "everything by hour", "everything by day", "one team", "nothing"])
@pytest.mark.parametrize("title", EXPECTED)
def test_a_panel_shows_what_a_loop_over_calls_finds(title: str, name: str, store: Store, calls: list[Row]) -> None:
    look = test_grafana.LOOKS[name]
    assert run(store, panels()[title], look) == EXPECTED[title](seen(calls, look), look)


def test_the_rows_can_show_what_may_go_wrong(store: Store, calls: list[Row]) -> None:
    """Else the tests above would pass with one source of dollars, or one price."""
    assert {call["cost_source"] for call in calls if call["cost"]} >= TOLD - {"stated"}
    assert {(call["account"], call["contract"]) for call in calls} >= {("org-1", "deal"), ("org-2", "")}
    deal = [row for row in expect_contracts(calls, test_grafana.DAY) if row["Contract"] == "deal"]
    assert deal[0]["Saved"] * 8 == deal[0]["At list prices"] > 0
    assert added(calls, "cost_error") > 0
    assert {call["price_run"] for call in calls} == {1, 2, 4}


@pytest.mark.parametrize("days", [(0, 1), (1, 2), (0, 2), (-9, 0)])
def test_the_audit_is_shown_by_model_side_and_count(days: tuple[int, int], store: Store) -> None:
    look = replace(test_grafana.LOOKS["everything by day"], start=FIRST + days[0] * 86_400, end=FIRST + days[1] * 86_400)
    rows = [one._asdict() for one in audit_days(store, look.start, look.end)]
    found: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[f"{row['provider']}/{row['model']}", row["side"], row["count_quality"]].append(row)
    shown = run(store, money.AUDIT, look)
    assert {(row["Model"], row["Side"], row["Count"]) for row in shown} == set(found)
    for row in shown:
        mine = found[row["Model"], row["Side"], row["Count"]]
        assert [row[n] for n in ("Calls", "Reported", "Counted")] == [sum(one[n.lower()] for one in mine) for n in ("Calls", "Reported", "Counted")]
        assert row["Exact"] == sum(one["exact_calls"] for one in mine) / row["Calls"]
        assert row["Dollars of the difference"] == sum(one["difference_cost"] for one in mine)
        banded = [one["unexplained_cost"] for one in mine if one["banded_calls"]]
        assert row["Unexplained"] == (sum(banded) if banded else None)
    exact = [one for one in rows if one["count_quality"] == "exact_tokenizer"]
    over_time = run(store, money.AUDIT_OVER_TIME, replace(look, interval_s=86_400))
    agreed = [row["exact calls"] * sum(o["calls"] for o in exact if o["day"] == row["time"].date()) for row in over_time]
    assert sum(agreed) == pytest.approx(sum(one["exact_calls"] for one in exact))
    assert sum(row["unexplained"] for row in over_time) == sum(one["unexplained_cost"] for one in rows if one["banded_calls"])


def test_price_runs_say_which_stands(store: Store, calls: list[Row]) -> None:
    shown = run(store, money.PRICE_RUNS, test_grafana.DAY)
    states = {row["Run"]: (row["State"], row["Takes back"]) for row in shown}
    assert states == {1: ("live", None), 2: ("done", None), 3: ("taken back", None), 4: ("done", 3)}
    assert {run_.number for run_ in price_runs(store)} == set(states) - {1}
    stands = {row["Run"]: row["Calls it stands for"] for row in shown}
    assert stands == {number: sum(call["price_run"] == number for call in calls) or None for number in states}


@pytest.mark.parametrize("panel", money.dashboard()["panels"], ids=lambda panel: panel["title"])
@pytest.mark.parametrize("rollup", WIDTH)
def test_columns_have_the_types_that_grafana_draws(panel: dict[str, Any], rollup: str, store: Store) -> None:
    test_grafana.test_columns_have_the_types_that_grafana_draws(panel, rollup, store)


def test_the_dashboard_file_is_that_of_the_code_and_well_formed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "money.json"
    subprocess.run([sys.executable, "-m", "deploy.grafana.money", str(made)], cwd=FOLDER.parents[1], check=True)
    assert (FOLDER / "dashboards" / "money.json").read_text() == made.read_text(), "run `make docs`"
    board = json.loads(made.read_text())
    assert board["uid"] != overview.dashboard()["uid"]
    monkeypatch.setattr(overview, "dashboard", money.dashboard)
    test_grafana.test_panels_lie_beside_each_other_and_say_what_they_show()
    test_grafana.test_names_that_a_panel_colours_or_formats_are_columns_of_its_query()
    test_grafana.test_the_data_source_is_the_provisioned_one()
