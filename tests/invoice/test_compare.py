"""Every fault that is put into an invoice or into the logs is found, in exact dollars, and the parts sum to the difference.

What a fault costs is worked out beside the code under test, from the calls and prices of ``samples``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.invoice import CATEGORIES, KINDS, Charge
from tests.invoice.samples import FIRST, MODELS, PRICES, Logged, as_csv, charge, focus, logged, page, read
from transforms.invoice import Comparison, Ours, compare

OURS = {"input": "input", "cached input": "cached_input", "output": "output"}
CENT = Decimal("0.01")


def ours(calls: Sequence[Logged], account: str = "org-1", off: Decimal = Decimal(1)) -> list[Ours]:
    """One row for each call: what the store says of them, at ``off`` of the list price."""
    rows = []
    for call in calls:
        day = int(call.at.replace(hour=0, minute=0).timestamp())
        cost = {OURS[k]: int(PRICES[call.model][k] * off * n * 10**6) for k, n in call.tokens.items()}
        tokens = {OURS[k]: n for k, n in call.tokens.items()}
        rows.append(Ours(day, "openai", account, "", call.model, 1, tokens, cost, int(call.cost() * 10**12), {}))
    return rows


def against(tmp_path: Path, rows: list[dict[str, Any]], calls: list[Ours], **options: Any) -> Comparison:
    found = compare(read(tmp_path / "focus.csv", as_csv(rows)).charges, calls, MODELS, **options)
    for row in found.rows:
        assert row.billed - row.ours == sum(row.parts.values())
    return found


def parts(found: Comparison) -> dict[str, Decimal]:
    sums: dict[str, int] = {}
    for row in found.rows:
        for name, amount in row.parts.items():
            sums[name] = sums.get(name, 0) + amount
    return {name: Decimal(amount).scaleb(-12) for name, amount in sums.items() if amount}


def test_the_invoice_of_exactly_our_calls_differs_by_nothing(tmp_path: Path) -> None:
    found = against(tmp_path, focus(logged()), ours(logged()))
    assert parts(found) == {}
    assert sum(row.billed for row in found.rows) == sum(call.cost() for call in logged()) * 10**12
    assert {(row.account, row.calls) for row in found.rows} == {("org-1", 24)}
    assert found.notes == ()


def test_an_hour_without_logs_is_missing_logs(tmp_path: Path) -> None:
    lost = [call for call in logged() if call.at.hour == 7 and call.at.day == 2]
    found = against(tmp_path, focus(logged()), ours([call for call in logged() if call not in lost]))
    assert parts(found) == {"missing_logs": sum(call.cost() for call in lost)}
    assert {row.start for row in found.rows if row.parts} == {int(FIRST.timestamp())}


def test_a_day_that_is_not_billed_is_that(tmp_path: Path) -> None:
    free = [call for call in logged() if call.at.hour < 6 and call.at.day == 2]
    found = against(tmp_path, focus([call for call in logged() if call not in free]), ours(logged()))
    assert parts(found) == {"not_billed": -sum(call.cost() for call in free)}


def test_another_price_is_a_price(tmp_path: Path) -> None:
    dearer = Decimal("0.25") / 1_000_000
    rows = focus(logged())
    for row in rows:
        if row["ChargeDescription"] == "gpt-4o-2024-08-06, output":
            for name in ("List", "Contracted"):
                row[f"{name}UnitPrice"] += dearer
                row[f"{name}Cost"] += dearer * row["ConsumedQuantity"]
            row["BilledCost"] += dearer * row["ConsumedQuantity"]
    more = sum(dearer * call.tokens["output"] for call in logged() if call.model == "gpt-4o-2024-08-06")
    assert parts(against(tmp_path, rows, ours(logged()))) == {"price": more}


def discounted(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for row in rows:
        row["ContractedUnitPrice"] *= Decimal("0.9")
        row["ContractedCost"] *= Decimal("0.9")
        row["BilledCost"] *= Decimal("0.9")
    return rows


def test_a_discount_that_our_prices_do_not_know_is_a_discount(tmp_path: Path) -> None:
    found = against(tmp_path, discounted(focus(logged())), ours(logged()))
    assert parts(found) == {"discount": sum(call.cost() for call in logged()) * Decimal("-0.1")}


def test_a_discount_that_both_know_is_no_difference(tmp_path: Path) -> None:
    assert parts(against(tmp_path, discounted(focus(logged())), ours(logged(), off=Decimal("0.9")))) == {}


def test_charges_of_no_call_are_their_own_lines(tmp_path: Path) -> None:
    more = {"Credit": "-3.5", "Tax": "1.27", "Purchase": "40", "Adjustment": "-0.000001"}
    found = against(tmp_path, focus(logged()) + [charge(name, text) for name, text in more.items()], ours(logged()))
    assert parts(found) == {name.lower(): Decimal(text) for name, text in more.items()}


def test_lines_rounded_to_cents_differ_by_rounding(tmp_path: Path) -> None:
    rows = focus(logged())
    for row in rows:
        row["BilledCost"] = row["BilledCost"].quantize(CENT, ROUND_HALF_UP)
    off = sum(row["BilledCost"] for row in rows) - sum(call.cost() for call in logged())
    assert off
    assert parts(against(tmp_path, rows, ours(logged()))) == {"rounding": off}


def test_what_is_rounded_everywhere_is_rounding_too(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if "UnitPrice" not in k} for row in focus(logged())]
    for row in rows:
        for name in ("ListCost", "ContractedCost", "BilledCost"):
            row[name] = row[name].quantize(CENT, ROUND_HALF_UP)
    off = sum(row["BilledCost"] for row in rows) - sum(call.cost() for call in logged())
    assert parts(against(tmp_path, rows, ours(logged()))) == {"rounding": off}
    strict = parts(against(tmp_path, rows, ours(logged()), rounding=Decimal(0)))
    assert strict == {"price": off}


def test_faults_together_are_told_apart(tmp_path: Path) -> None:
    lost = [call for call in logged() if call.at.hour == 3 and call.at.day == 3]
    rows = discounted(focus(logged()))
    exact = sum(row["BilledCost"] for row in rows)
    for row in rows:
        row["BilledCost"] = row["BilledCost"].quantize(CENT, ROUND_HALF_UP)
    rounding = sum(row["BilledCost"] for row in rows) - exact
    rows.append(charge("Credit", "-2"))
    found = parts(against(tmp_path, rows, ours([call for call in logged() if call not in lost])))
    assert found == {
        "missing_logs": sum(call.cost() for call in lost),
        "discount": sum(call.cost() for call in logged()) * Decimal("-0.1"),
        "rounding": rounding,
        "credit": Decimal(-2),
    }


def test_calls_that_could_not_be_priced_are_not_missing(tmp_path: Path) -> None:
    calls = ours(logged())
    calls[0] = calls[0]._replace(tokens={}, cost={}, list_cost=0, unpriced=calls[0].tokens)
    assert parts(against(tmp_path, focus(logged()), calls)) == {"unpriced": logged()[0].cost()}


def test_a_monthly_line_is_compared_with_its_whole_month(tmp_path: Path) -> None:
    month = {"ChargePeriodStart": "2026-03-01T00:00:00Z", "ChargePeriodEnd": "2026-04-01T00:00:00Z"}
    rows = focus([call._replace(at=FIRST) for call in logged()], **month)
    found = against(tmp_path, rows, ours(logged()))
    assert parts(found) == {}
    assert {(row.end - row.start) // 86_400 for row in found.rows} == {31}
    assert found.rows[0].notes == ("calls of ours on 2 of 31 days",)


def test_hours_are_compared_as_days(tmp_path: Path) -> None:
    rows = []
    for call in logged():
        rows += focus([call], ChargePeriodStart=call.at.isoformat(), ChargePeriodEnd=(call.at + timedelta(hours=1)).isoformat())
    assert parts(against(tmp_path, rows, ours(logged()))) == {}


@pytest.mark.parametrize("quantity", [True, False])
def test_costs_of_openai_as_floats_are_exact(tmp_path: Path, quantity: bool) -> None:
    text = json.dumps(page(logged(), quantity))
    found = compare(read(tmp_path / "costs.json", text).charges, ours(logged()), MODELS)
    assert parts(found) == {}


def test_without_quantities_a_difference_is_unexplained_and_a_day_without_calls_is_missing(tmp_path: Path) -> None:
    dearer = json.dumps(page(logged(), False, lambda amount: float(amount * 2)))
    first = [call for call in logged() if call.at.day == 2]
    found = compare(read(tmp_path / "costs.json", dearer).charges, ours(first), MODELS)
    cost = sum(call.cost() for call in first)
    second = sum(call.cost() for call in logged()) - cost
    assert parts(found) == {"unexplained": cost, "missing_logs": 2 * second}
    assert any("cannot be told apart" in note for row in found.rows for note in row.notes)
    assert found.unexplained() == Fraction(cost) / Fraction(2 * (cost + second))


def test_costs_that_name_no_model_are_compared_in_sum(tmp_path: Path) -> None:
    found = compare(read(tmp_path / "c.json", json.dumps(page(logged(), False, line_item=None))).charges, ours(logged()), MODELS)
    assert parts(found) == {}
    assert {(row.model, row.calls) for row in found.rows} == {("(all)", 48)}
    assert found.notes == ("openai: the invoice names no models; all are compared together",)


def test_accounts_meet_by_id_by_a_given_name_or_all_together(tmp_path: Path) -> None:
    half = [call for call in logged() if call.at.hour % 2]
    rest = [call for call in logged() if not call.at.hour % 2]
    rows = focus(half, "org-1") + focus(rest, "org-2")
    by_id = against(tmp_path, rows, ours(half) + ours(rest, "org-2"))
    assert parts(by_id) == {}
    assert {row.account for row in by_id.rows} == {"org-1", "org-2"}
    named = against(tmp_path, rows, ours(half) + ours(rest, "research"), accounts={"research": "org-2"})
    assert parts(named) == {}
    assert {row.account for row in named.rows} == {"org-1", "org-2"}
    swapped = against(tmp_path, rows, ours(rest) + ours(half, "org-2"))
    assert parts(swapped) != {}
    for unknown in ("", "elsewhere"):
        together = against(tmp_path, rows, ours(half, unknown) + ours(rest, unknown))
        assert parts(together) == {}
        assert {row.account for row in together.rows} == {"(all)"}
        assert "all accounts are compared together" in together.notes[0]


def test_a_project_goes_before_the_account(tmp_path: Path) -> None:
    calls = [row._replace(project="p1" if n % 2 else "p2") for n, row in enumerate(ours(logged()))]
    rows = focus(logged()[1::2], SubAccountId="p1") + focus(logged()[::2], SubAccountId="p2")
    found = against(tmp_path, rows, calls)
    assert parts(found) == {}
    assert {row.account for row in found.rows} == {"p1", "p2"}


def test_a_cost_that_the_vendor_stated_in_sum_is_compared_in_sum(tmp_path: Path) -> None:
    calls = [row._replace(cost={"other": sum(row.cost.values())}, stated=1) for row in ours(logged())]
    assert parts(against(tmp_path, focus(logged()), calls)) == {}


def test_a_model_of_another_name_is_named_and_can_be_told(tmp_path: Path) -> None:
    rows = [row | {"x_Model": "Four Oh", "ChargeDescription": row["ChargeDescription"].replace("gpt-4o-2024-08-06", "Four-Oh")} if "4o-2" in row["ChargeDescription"] else row for row in focus(logged())]  # fmt: skip
    unlike = against(tmp_path, rows, ours(logged()))
    assert set(parts(unlike)) == {"missing_logs", "not_billed"}
    assert sum(parts(unlike).values()) == 0
    assert unlike.notes == ("openai: charges but no calls of Four Oh; calls but no charges of gpt-4o-2024-08-06; if these are the same: --model",)
    told = against(tmp_path, rows, ours(logged()), spellings={"Four Oh": "gpt-4o-2024-08-06"})
    assert (parts(told), told.notes) == ({}, ())


def test_amounts_of_whole_dollars_are_not_taken_for_rounded_to_dollars(tmp_path: Path) -> None:
    line = {k: v for k, v in focus(logged()[:1])[0].items() if not k.startswith(("Consumed", "Pricing", "List", "Contracted"))}
    day = [ours(logged()[:1])[0]._replace(cost={"input": 7 * 10**11}, list_cost=7 * 10**11)]
    assert parts(against(tmp_path, [line | {"BilledCost": "1"}], day)) == {"unexplained": Decimal("0.3")}
    assert parts(against(tmp_path, [line | {"BilledCost": "0.704"}], day)) == {"unexplained": Decimal("0.004")}
    assert parts(against(tmp_path, [line | {"BilledCost": "0.704"}], day, rounding=Decimal("0.004"))) == {"rounding": Decimal("0.004")}


_AMOUNT = st.integers(-(10**15), 10**15)
_TOKENS = st.none() | st.integers(0, 10**7)
_DAYS = st.integers(0, 4)


@st.composite
def _charges(draw: st.DrawFn) -> Charge:
    start = 1_772_409_600 + 86_400 * draw(_DAYS) + draw(st.sampled_from([0, 3600]))
    return Charge(
        file=draw(st.sampled_from(["a", "b"])),
        row=1,
        start=start,
        end=start + draw(st.sampled_from([3600, 86_400, 3 * 86_400])),
        provider=draw(st.sampled_from(["openai", "anthropic"])),
        account=draw(st.sampled_from(["", "x", "y"])),
        project=draw(st.sampled_from(["", "p"])),
        model=draw(st.sampled_from(["", "gpt-4o", "m"])),
        kind=draw(st.sampled_from(["", *KINDS])),
        tokens=draw(_TOKENS),
        quantity="",
        billed=draw(_AMOUNT),
        list_cost=draw(st.none() | _AMOUNT),
        contracted=draw(st.none() | _AMOUNT),
        effective=None,
        currency="USD",
        category=draw(st.sampled_from(["usage", "usage", "usage", *CATEGORIES])),
        description="",
        places=draw(st.integers(0, 14)),
    )


@st.composite
def _calls(draw: st.DrawFn) -> Ours:
    by_kind = st.dictionaries(st.sampled_from(KINDS), st.integers(0, 10**9))
    day = 1_772_409_600 + 86_400 * draw(_DAYS)
    who = [draw(st.sampled_from(names)) for names in (["openai", "anthropic"], ["", "x", "z"], ["", "p"], ["gpt-4o", "m"])]
    return Ours(day, *who, 1, draw(by_kind), draw(by_kind), draw(st.integers(0, 10**9)), draw(by_kind), draw(st.integers(0, 1)))


@given(st.lists(_charges(), max_size=8), st.lists(_calls(), max_size=8))
def test_nothing_is_lost_and_parts_sum_to_the_difference(charges: list[Charge], calls: list[Ours]) -> None:
    found = compare(charges, calls, MODELS)
    for row in found.rows:
        assert row.billed - row.ours == sum(row.parts.values())
    assert sum(row.billed for row in found.rows) == sum(c.billed for c in charges)
    assert sum(row.lines for row in found.rows) == len(charges)
    billed = {c.provider for c in charges if c.category == "usage"}
    compared = [row for row in calls if row.provider in billed]
    assert sum(row.ours for row in found.rows) == sum(sum(row.cost.values()) for row in compared)
    assert sum(row.calls for row in found.rows) == len(compared)
