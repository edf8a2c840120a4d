"""What was billed, put on calls: against plain loops with Fraction, on the real engine."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import pipelines.billing
import pipelines.reprice
from pipelines.billing import apply, billing
from pipelines.charges import import_invoices, stored
from pipelines.cli import cli
from pipelines.errors import SettingsError
from pipelines.invoices import Invoice, read_invoices
from pipelines.reprice import undo
from pipelines.summary import provenance
from schemas.invoice import Charge
from schemas.tables import MONEY_COLUMNS
from sinks.clickhouse import Store
from sinks.reconcile import reconcile
from sinks.reprice import PriceRun, price_runs
from tests.invoice.samples import MODELS, Logged, as_csv, charge, events, focus, logged
from tests.own.test_history import everything, read
from transforms.invoice.compare import Ours
from transforms.invoice.spread import plan, spread

LOST = [call for call in logged() if call.at.day == 3 and call.at.hour == 5]
KEPT = [call for call in logged() if call not in LOST]
COLUMNS = {"input": ("cost_input",), "cached input": ("cost_cache_read",), "output": ("cost_output", "cost_reasoning")}
LEAVES = {"input": "input_fresh", "cached input": "input_cache_read", "output": "output_visible"}


def shares(total: int, weights: Sequence[int]) -> list[int]:
    """By largest remainder, from the definition: whole parts first, then one each to those that lost most."""
    exact = [Fraction(total * weight, sum(weights)) for weight in weights]
    parts = [int(one) for one in exact]
    order = sorted(range(len(parts)), key=lambda at: (parts[at] - exact[at], at))
    for at in order[: total - sum(parts)]:
        parts[at] += 1
    return parts


@given(st.integers(0, 10**18), st.lists(st.integers(0, 10**15), min_size=1, max_size=30).filter(any))
def test_a_total_is_spread_to_the_last_digit(total: int, weights: list[int]) -> None:
    parts = spread(total, weights)
    assert sum(parts) == total
    assert parts == shares(total, weights)
    assert all(abs(part - Fraction(total * weight, sum(weights))) < 1 for part, weight in zip(parts, weights, strict=True))
    assert spread(sum(weights), weights) == weights, "billed as priced changes nothing"


_DAY = 1_772_409_600
_LINE = Charge(
    "a.csv", 2, _DAY, _DAY + 86_400, "openai", "org-1", "", "gpt-4o", "input", 100, "", 5000, None, None, None, "USD", "usage", "", 2
)
_CALLS = Ours(_DAY, "openai", "org-1", "", "gpt-4o", 3, {"input": 80}, {"input": 4000}, 4000, {})


@pytest.mark.parametrize(
    ("lines", "calls", "amounts", "why"),
    [
        ([_LINE], _CALLS, {"input": 4000}, ""),
        ([_LINE._replace(tokens=79, billed=3)], _CALLS, {}, "input: calls have more tokens than were billed"),
        ([_LINE._replace(tokens=79, billed=3)], _CALLS._replace(tokens={"input": 79}), {"input": 3}, ""),
        ([_LINE, _LINE._replace(billed=0, tokens=0)], _CALLS, {"input": 4000}, ""),
        ([_LINE._replace(tokens=None, billed=4040)], _CALLS, {"input": 4040}, ""),
        ([_LINE._replace(tokens=None, billed=4041)], _CALLS, {}, "input: no quantities, and more than the tolerance apart"),
        ([_LINE._replace(billed=-1)], _CALLS, {}, "input: less than nothing was billed"),
        ([_LINE._replace(currency="EUR")], _CALLS, {}, "billed in EUR"),
        ([_LINE._replace(end=_DAY + 86_401)], _CALLS, {}, "billed for longer than a day"),
        ([_LINE._replace(kind="")], _CALLS, {}, "the invoice does not say which kind of tokens"),
        ([_LINE._replace(model="gpt-4.1")], _CALLS, {}, "not on the invoice"),
        ([_LINE._replace(kind="output")], _CALLS, {}, "input: not on the invoice"),
        ([_LINE], _CALLS._replace(stated=1), {}, "the vendor stated their cost in sum"),
        ([_LINE], _CALLS._replace(cost={"input": 1, "other": 9}), {}, "other: not on the invoice"),
        ([_LINE], _CALLS._replace(tokens={}), {}, "input: fees, which are not of tokens"),
        ([_LINE], _CALLS._replace(cost={}), {}, ""),
    ],
)
def test_what_calls_carry_or_why_they_keep_what_they_cost(
    lines: list[Charge], calls: Ours, amounts: dict[str, int], why: str
) -> None:
    found = plan(lines, [calls], MODELS, Decimal("0.01"))
    (decision,) = found.decisions.values()
    assert (decision.amounts, decision.why) == (amounts, why)
    assert decision.calls == 3
    assert decision.then == (decision.before if why else sum(amounts.values()))


def rows_of(calls: Sequence[Logged]) -> list[dict[str, Any]]:
    """The invoice of these calls, 3.7 % off and rounded to a tenth of a cent."""
    rows = focus(calls)
    for row in rows:
        row["BilledCost"] = (row["ListCost"] * Decimal("0.963")).quantize(Decimal("0.0001"))
    return rows


@pytest.fixture
def filled(store: Store, tmp_path: Any) -> Store:
    read(store, [line.encode() for line in events(KEPT).splitlines()], ())
    file = tmp_path / "march.csv"
    file.write_text(as_csv([*rows_of(logged()), charge("Credit", "-0.5"), charge("Tax", "0.07")]))
    import_invoices(store, read_invoices([file], MODELS))
    return store


def go(store: Store, factor: int = 1) -> PriceRun:
    charges = [c._replace(billed=c.billed * factor) for c in stored(store).charges]
    run = apply(store, lambda: billing(store, charges, MODELS, Decimal("0.01")))[0]
    assert run is not None
    return run


def test_calls_cost_what_was_billed_for_them_and_it_is_taken_back(filled: Store) -> None:
    names = ", ".join(dict.fromkeys(name for some in COLUMNS.values() for name in some))
    leaves = ", ".join(f"ifNull({leaf}, 0) AS {leaf}" for leaf in LEAVES.values())
    sql = f"SELECT hex(call_key) AS key, toString(toDate(minute)) AS day, model, cost, {names}, {leaves}"
    calls = filled.named_rows(f"{sql} FROM {filled.table('calls')} FINAL ORDER BY minute, tenant, call_key")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for call in calls:
        groups[call["day"], call["model"]].append(call)
    wanted: dict[str, int] = defaultdict(int)
    total = 0
    for row in rows_of(logged()):
        model, _, kind = row["ChargeDescription"].partition(", ")
        some = groups[row["ChargePeriodStart"][:10], model]
        ours = sum(call[LEAVES[kind]] for call in some)
        share = round(Fraction(row["BilledCost"]) * 10**12 * ours / row["ConsumedQuantity"])
        cells = [(call["key"], int(Fraction(call[name] or 0) * 10**12)) for call in some for name in COLUMNS[kind]]
        for (key, _), part in zip(cells, shares(share, [weight for _, weight in cells]), strict=True):
            wanted[key] += part
        total += share
    before = everything(filled)

    run = go(filled)
    assert (run.number, run.kind, run.done) == (2, "invoice", True)
    found = filled.rows(
        f"SELECT hex(call_key), cost, cost_source, toString(cost_error), price_status, rate_id FROM {filled.table('calls')} FINAL"
    )
    assert {key: int(Fraction(cost) * 10**12) for key, cost, *_ in found} == wanted
    assert {tuple(more) for _, _, *more in found} == {("billed", "0", "priced", "invoice 1")}
    exact = Decimal(total).scaleb(-12)
    for table in ("calls", "minutes", "hours", "days"):
        measure = "sumIf(cost, cost_source = 'billed')" if table == "calls" else "sum(cost_billed)"
        assert filled.rows(f"SELECT {measure}, sum(cost) FROM {filled.table(table)} FINAL") == [(exact, exact)]
    first, *rest = provenance(filled)
    assert (first["name"], first["spend"], first["error"]) == ("billed", exact, 0)
    assert {row["spend"] for row in rest} == {0}
    proof = reconcile(filled)
    assert proof.holds, [one for one in proof.checks if not one.holds]

    applied = everything(filled)
    assert go(filled).number == 2
    assert everything(filled) == applied, "twice is once"
    with pytest.raises(SettingsError, match="run 2 has applied other lines"):
        go(filled, 2)
    assert undo(filled, 2).number == 3
    assert [{**row, "price_run": 1} for row in everything(filled)[0]] == before[0]
    assert reconcile(filled).holds
    assert go(filled).number == 4
    assert {row["cost"] for row in everything(filled)[0]} == {row["cost"] for row in applied[0]}


@pytest.mark.parametrize(
    ("module", "step", "after"),
    [
        (pipelines.billing, "record", True),
        (pipelines.billing, "keep", True),
        (pipelines.billing, "put", True),
        (pipelines.reprice, "follow", False),
        (pipelines.reprice, "follow", True),
        (pipelines.reprice, "recompute", True),
    ],
)
def test_a_run_that_was_killed_is_finished_by_the_same_command(
    filled: Store, monkeypatch: pytest.MonkeyPatch, module: Any, step: str, after: bool
) -> None:
    columns = f"hex(call_key), {', '.join(MONEY_COLUMNS)}"
    sql = f"SELECT {columns} FROM {filled.table('calls')} FINAL ORDER BY call_key"
    before, real = filled.rows(sql), getattr(module, step)

    def killed(*arguments: Any) -> None:
        if after:
            real(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, step, killed)
        with pytest.raises(KeyboardInterrupt):
            go(filled)
    counting = module is pipelines.billing
    if counting:
        assert filled.rows(sql) == before
    run = go(filled)
    assert run.number == (3 if counting else 2)
    assert [one.active for one in price_runs(filled)] == ([False, True] if counting else [True])
    done = filled.rows(sql)
    assert {row[MONEY_COLUMNS.index("cost_source") + 1] for row in done} == {"billed"}
    assert reconcile(filled).holds
    undo(filled, run.number)
    assert filled.rows(sql) == before
    again = go(filled)
    assert [row[1] for row in filled.rows(sql)] == [row[1] for row in done], again


def test_the_command(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.stores.open_store", lambda _: filled)

    def said(*words: str) -> Any:
        result = CliRunner().invoke(cli, [*words, "--to", str(filled.address)], catch_exceptions=False, standalone_mode=False)
        return result.stdout

    dearer = [c._replace(end=c.end + 86_400) if "mini" in c.model else c for c in stored(filled).charges]
    import_invoices(filled, Invoice(dearer), whole=True)
    before = everything(filled)
    rows = json.loads(said("invoice", "apply", "--check", "--format", "json"))
    assert everything(filled) == before
    assert [(row["model"], row["outcome"], row["calls"]) for row in rows] == [
        ("gpt-4o-2024-08-06", "billed", 47),
        ("gpt-4o-mini", "billed for longer than a day", 47),
    ]
    assert "47 calls keep $0.0145" in " ".join(said("invoice", "apply").split())
    assert "invoice" in said("reprice", "list", "--format", "csv")
    sql = f"SELECT lower(hex(call_key)) FROM {filled.table('calls')} FINAL WHERE cost_source = 'billed' LIMIT 1"
    explained = " ".join(said("explain", filled.rows(sql)[0][0]).split())
    assert "billed by invoice 2, applied as run 2; by prices $" in explained
