"""What is wrong with an invoice, or with what was asked of it, is said; sums are worked out by hand or by a plain loop."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipelines.cli import cli
from pipelines.errors import ExitCode, LlmFinopsError
from schemas.invoice import Charge
from sinks.clickhouse import Store
from sinks.reprice import price_runs
from tests.invoice.samples import MODELS, as_csv, charge, events, focus, logged, page
from tests.own.test_history import read
from transforms.invoice import Ours, compare
from transforms.invoice.models import kind_of
from transforms.invoice.spread import plan

USED = sum((call.cost() for call in logged()), Decimal(0))
CACHED = (  # leaf, tokens, as an invoice names it, dollars per million tokens (claude.com/pricing)
    ("input_fresh", 5000, "input tokens", "3"),
    ("input_cache_write_5m", 10_000, "cache write 5m tokens", "3.75"),
    ("input_cache_write_1h", 1500, "cache write 1h tokens", "6"),
    ("output_visible", 2500, "output tokens", "15"),
)
Says = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def filled(module_store: Store) -> Store:
    """A store that has the calls."""
    cached = {
        "schema": "llm-finops/call/v1", "provider": "anthropic", "model": "claude-sonnet-4-5-20250929", "id": "cached",
        "started_at": "2026-03-02T12:00:00Z", "account": "org-1",
        "usage": {leaf: count for leaf, count, _, _ in CACHED},
    }  # fmt: skip
    logs = [*events(logged()).splitlines(), json.dumps(cached)]
    read(module_store, [line.encode() for line in logs], ())
    return module_store


@pytest.fixture
def says(filled: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Says:
    """Runs ``llm-finops invoice`` where nothing is imported yet: exit code, output and errors, each as one line."""
    monkeypatch.setattr("pipelines.stores.open_store", lambda _: filled)
    monkeypatch.chdir(tmp_path)
    for name in ("charges", "invoices"):
        filled.command(f"TRUNCATE TABLE {filled.table(name)}")

    def run(*words: str) -> tuple[int, str, str]:
        to = () if words[0] == "show" else ("--to", str(filled.address))
        ended = CliRunner().invoke(cli, ["invoice", *words, *to], standalone_mode=False)
        if ended.exception is not None and not isinstance(ended.exception, LlmFinopsError):
            raise ended.exception
        code, last = (0, "") if ended.exception is None else (int(ended.exception.exit_code), str(ended.exception))
        return code, " ".join(ended.stdout.split()), " ".join([*ended.stderr.split(), *last.split()])

    return run


def put(name: str, rows: list[dict[str, Any]], **more: Any) -> None:
    Path(name).write_text(as_csv([{**row, **more} for row in rows]))


# ---- other currencies


def test_another_currency_is_never_shown_as_dollars(says: Says) -> None:
    put("eur.csv", focus(logged()), BillingCurrency="EUR")
    ended, out, err = says("show", "eur.csv")
    assert (ended, "$" in out + err) == (0, False)
    assert out.count(f"{USED:.3f} EUR") == 1
    assert f"12 lines in EUR are not compared, {USED.normalize():f} EUR in all (eur.csv): calls are priced in USD" in err
    _, out, err = says("import", "eur.csv")
    assert ("$" in out, f"{USED:.3f} EUR" in out) == (False, True)
    assert "12 lines in EUR are kept, and neither compared nor applied" in err
    for words in (("list",), ("list", "--all")):
        _, out, _ = says(*words)
        assert ("$" in out, "currency" in out, f"{USED:.3f} EUR" in out) == (False, True, True)


def test_another_currency_does_not_replace_lines_in_dollars_unless_it_is_meant(says: Says) -> None:
    put("usd.csv", focus(logged()))
    put("eur.csv", focus(logged()), BillingCurrency="EUR")
    put("both.csv", [*focus(logged()), {**charge("Tax", "0.07"), "BillingCurrency": "EUR"}])
    _, out, _ = says("import", "usd.csv")
    assert "currency" not in out, "one that is always USD is no column"
    for name, lines in (("eur.csv", "12 lines are"), ("both.csv", "1 line is")):
        for words in (("import", name), ("import", name, "--whole"), ("import", name, "--currency", "GBP")):
            ended, _, said = says(*words)
            assert ended == ExitCode.INPUT
            assert f"{name}: {lines} in EUR, those in force for these days in USD" in said
            assert "--currency" in said
    assert says("compare")[0] == 0, "the lines in dollars are still in force"
    ended, out, _ = says("import", "both.csv", "--currency", "eur")
    assert (ended, f"replaces 12 lines of invoice 1 (${USED:.3f})" in out) == (0, True)
    ended, _, said = says("import", "usd.csv")
    assert ended == 0, "it is there already"
    put("fewer.csv", [*focus(logged()), charge("Tax", "0.07")])
    ended, _, said = says("import", "fewer.csv")
    assert (ended, "lines in EUR are in force, and these files have none" in said) == (ExitCode.INPUT, True)


def test_what_is_in_another_currency_is_left_out_of_comparing_and_applying_and_named(says: Says) -> None:
    rows = focus(logged())
    put("eur.csv", rows, BillingCurrency="EUR")
    says("import", "eur.csv")
    for words in (("compare",), ("apply", "--check"), ("apply",)):
        ended, _, said = says(*words)
        assert ended == ExitCode.INPUT
        assert f"12 lines in EUR are left out, {USED.normalize():f} EUR in all (eur.csv): calls are priced in USD" in said
    put("mixed.csv", [{**row, "BillingCurrency": "EUR" if "mini" in row["ChargeDescription"] else "USD"} for row in rows])
    says("import", "mixed.csv", "--currency", "USD")
    part = sum((row["BilledCost"] for row in rows if "mini" in row["ChargeDescription"]), Decimal(0)).normalize()
    for words, fate in ((("compare",), "not compared"), (("apply", "--check"), "not applied")):
        ended, _, said = says(*words)
        assert ended == 0
        assert f"6 lines in EUR are {fate}, {part:f} EUR in all (mixed.csv): calls are priced in USD" in said


# ---- rows that are there twice, columns that are not there


def test_rows_that_are_there_twice_are_named_and_not_imported_unless_they_are_meant(says: Says) -> None:
    rows = focus(logged())
    more = sum((row["BilledCost"] for row in rows[:3]), Decimal(0))
    put("dup.csv", [*rows, *rows[:3]])
    line = f"dup.csv: 3 lines are there twice, word for word: ${more:.3f} (row 14 is row 2)"
    for words in (("show", "dup.csv"), ("compare", "dup.csv")):
        ended, _, said = says(*words)
        assert (ended, line in said, "--duplicates" in said) == (ExitCode.CHECK_FAILED, True, True)
        ended, _, said = says(*words, "--duplicates")
        assert (ended, line in said) == (0, True)
    for partial in ((), ("--partial",)):
        ended, _, said = says("import", "dup.csv", *partial)
        assert (ended, line in said, "nothing was imported" in said) == (ExitCode.INPUT, True, True)
    assert "nothing to show" in says("list")[1]
    assert says("import", "dup.csv", "--duplicates")[0] == 0
    assert "15" in says("list")[1].split()


def test_only_what_is_equal_in_every_column_is_there_twice(says: Says) -> None:
    rows = [{**row, "x_ChargeId": str(n)} for n, row in enumerate(focus(logged()))]
    put("ids.csv", [*rows, {**rows[0], "x_ChargeId": "12"}])
    assert says("show", "ids.csv")[0] == 0
    put("thrice.csv", [*rows, rows[0], rows[0]])
    ended, _, said = says("show", "thrice.csv")
    assert (ended, f"2 lines are there again, word for word: ${2 * rows[0]['BilledCost']:.3f}" in said) == (1, True)
    Path("pages.json").write_text(json.dumps([page(logged()), page(logged()[:1])]))
    assert says("show", "pages.json")[0] == 0
    Path("pages.json").write_text(json.dumps([page(logged()), page(logged())]))
    ended, _, said = says("show", "pages.json")
    assert (ended, "12 lines are there twice, word for word" in said) == (1, True)


@pytest.mark.parametrize(("column", "fate"), [("BillingCurrency", "taken for US dollars"), ("ChargeCategory", "taken for usage")])
def test_what_is_taken_for_granted_is_said(says: Says, column: str, fate: str) -> None:
    rows = focus(logged())
    Path("no.csv").write_text(as_csv([{name: value for name, value in row.items() if name != column} for row in rows]))
    put("empty.csv", [{**row, column: ""} if n < 2 else row for n, row in enumerate(rows)])
    for words in (("show",), ("compare",), ("import",)):
        ended, _, said = says(words[0], "no.csv")
        assert (ended, f"no.csv: no column {column}: 12 lines are {fate}" in said) == (0, True)
        ended, _, said = says(words[0], "empty.csv")
        assert (ended, f"empty.csv: {column} is empty: 2 lines are {fate}" in said) == (0, True)


def test_a_missing_provider_is_named_by_its_column(says: Says) -> None:
    rows = [
        {name: value for name, value in row.items() if name not in ("ProviderName", "ServiceName")} for row in focus(logged())
    ]
    put("no.csv", rows)
    for word in ("compare", "import"):
        ended, _, said = says(word, "no.csv")
        assert ended == ExitCode.INPUT
        assert "no column ProviderName or ServiceProviderName: 12 lines are of no service that is known" in said


# ---- quantities


def cached(**more: Any) -> list[dict[str, Any]]:
    """The charges for one call that writes into caches, by kind."""
    rows = []
    for _, count, said, price in CACHED:
        plain = {**focus(logged()[:1])[0], "ProviderName": "Anthropic", "ServiceName": "API"}
        cost = {name: Decimal(price) * count / 10**6 for name in ("BilledCost", "ListCost", "ContractedCost", "EffectiveCost")}
        units = {"ListUnitPrice": Decimal(price) / 10**6, "ContractedUnitPrice": Decimal(price) / 10**6}
        quantity = {"ConsumedQuantity": count, "PricingQuantity": count}
        described = {"ChargeDescription": f"claude-sonnet-4-5-20250929, {said}", "x_Model": "claude-sonnet-4-5-20250929"}
        rows.append({**plain, **cost, **units, **quantity, **described, **more})
    return rows


def difference(says: Says, name: str, code: int = 0) -> dict[str, Decimal]:
    """The parts of the difference to the calls in the store."""
    ended, out, said = says("compare", name, "--format", "json")
    assert ended == code, said
    return {
        part: Decimal(amount)
        for part, amount in json.loads(out)["totals"].items()
        if part in ("not_billed", "missing_logs", "price", "discount", "rounding", "unexplained") and Decimal(amount)
    }


def test_cache_writes_are_compared_by_for_how_long_they_are(says: Says) -> None:
    rows = cached()
    put("all.csv", rows)
    assert difference(says, "all.csv") == {}
    for row, lost in zip(rows, ("0.015", "0.0375", "0.009", "0.0375"), strict=True):
        put("less.csv", [other for other in rows if other is not row])
        assert difference(says, "less.csv") == {"not_billed": -Decimal(lost)}
    put("broken.csv", [{**row, "BilledCost": "1,234.56"} if "1h" in row["ChargeDescription"] else row for row in rows])
    assert difference(says, "broken.csv", 1) == {"not_billed": Decimal("-0.009")}
    for row in rows:
        row["ChargeDescription"] = row["ChargeDescription"].replace(" 5m", "").replace(" 1h", "")
    put("in-sum.csv", rows)
    assert difference(says, "in-sum.csv") == {}, "an invoice that does not say for how long"


def test_cache_writes_of_a_model_without_prices_are_compared_in_sum() -> None:
    day = 1_772_409_600
    tokens, cost = {"cache_write_5m": 10, "cache_write_1h": 30}, {"cache_write": 400}
    calls = Ours(day, "acme", "", "", "m", 1, tokens, cost, 400, {})
    line = Charge(
        "a.csv", 2, day, day + 86_400, "acme", "", "", "m", "cache_write_5m", 10, "", 100, None, None, None, "USD", "usage", "", 12
    )  # fmt: skip
    rows = compare([line], [calls], MODELS).rows
    assert [row.parts for row in rows] == [{"not_billed": -300}]
    (decision,) = plan([line._replace(tokens=40)], [calls], MODELS, Decimal(0)).decisions.values()
    assert (decision.why, decision.amounts) == ("", {"cache_write": 100})


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("cache write 1h tokens", "cache_write_1h"),
        ("cache_write_5m", "cache_write_5m"),
        ("Cache creation (5 minutes)", "cache_write_5m"),
        ("ephemeral_1h_input_tokens, cache creation", "cache_write_1h"),
        ("gpt-5-mini, cache write", "cache_write"),
        ("cache write 5m and 1h", "cache_write"),
        ("cache read 1h", "cached_input"),
    ],
)
def test_words_say_for_how_long_a_cache_is_written(said: str, kind: str) -> None:
    assert kind_of(said) == kind


def test_a_quantity_below_zero_that_costs_something_is_a_row_that_cannot_be_read(says: Says) -> None:
    rows = cached()
    put("less.csv", [{**row, "ConsumedQuantity": -5, "PricingQuantity": -5} if row is rows[2] else row for row in rows])
    assert difference(says, "less.csv", 1) == {"not_billed": Decimal("-0.009")}
    said = says("show", "less.csv")[2]
    assert "less.csv, row 4, ConsumedQuantity '-5': quantity and cost have different signs: 0.009 was billed for it" in said
    both = {"ConsumedQuantity": -5, "PricingQuantity": -5, "BilledCost": "-0.00003"}
    put("back.csv", [*rows, {**rows[2], **both}, {**rows[2], "ChargeCategory": "Credit", "BilledCost": "-1"}])
    ended, _, said = says("show", "back.csv")
    assert (ended, "signs" in said) == (0, False)
    put("given.csv", [*rows, {**rows[2], "BilledCost": "-1"}])
    ended, _, said = says("show", "given.csv")
    assert (ended, "given.csv: quantity and cost have different signs: 1 line is usage" in said) == (0, True)
    costs = page(logged())
    costs["data"][0]["results"][0]["quantity"] = -1
    Path("costs.json").write_text(json.dumps(costs))
    ended, _, said = says("show", "costs.json")
    assert (ended, "costs.json, row 1, quantity '-1': quantity and cost have different signs" in said) == (1, True)


# ---- names


def test_models_that_are_only_on_one_side_are_named(says: Says) -> None:
    rows = [row for row in focus(logged()) if "mini" not in row["ChargeDescription"]]
    put("fewer.csv", rows)
    assert "openai: calls but no charges of gpt-4o-mini" in says("compare", "fewer.csv")[2]
    strange = [{**rows[0], "x_Model": f"frobnicator-{n}", "ChargeDescription": "input"} for n in range(6)]
    put("more.csv", [*focus(logged()), *strange])
    said = says("compare", "more.csv")[2]
    known = ", ".join(f"frobnicator-{n}" for n in range(5))
    assert f"openai: charges but no calls of {known} and 1 more" in said
    assert "--model" not in said, "nothing of our calls is left over that it could be"
    put("all.csv", focus(logged()))
    assert says("compare", "all.csv")[2] == ""


def test_names_that_nothing_is_called_by_are_said(says: Says) -> None:
    put("all.csv", focus(logged()))
    wrong = (*("--model", "zzz=frob"), *("--account", "nope=nada"))
    right = (*("--model", "gpt-4o-mini-2024-07-18=gpt-4o-mini"), *("--account", "org-1=org-1"))
    assert says("import", "all.csv")[0] == 0
    for words in (("compare", "all.csv"), ("apply", "--check")):
        ended, _, said = says(*words, *wrong)
        assert ended == 0
        assert "--model zzz=frob: no charge here has 'frob' and no call has 'zzz'" in said
        assert "--account nope=nada: no charge here has 'nada' and no call has 'nope'" in said
        assert says(*words, *right)[::2] == (0, "")
        assert "--account org-1=nada: no charge here has 'nada'" in says(*words, "--account", "org-1=nada")[2]


# ---- nothing to show, nothing to do


def test_where_no_row_can_be_read_nothing_else_is_promised(says: Says) -> None:
    put("us.csv", focus(logged()), ChargePeriodStart="03/02/2026")
    for word in ("show", "compare", "import"):
        ended, _, said = says(word, "us.csv")
        assert (ended, "12 rows could not be read; no other is a charge for a service of models" in said) == (1, True)
        assert "all else" not in said


def test_applying_what_changes_no_call_records_no_run(says: Says, filled: Store) -> None:
    rows = [{**row, "ChargeDescription": "gpt-9, input", "x_Model": "gpt-9"} for row in focus(logged()[:1])]
    put("other.csv", rows)
    assert says("import", "other.csv")[0] == 0
    for words in (("apply",), ("apply",)):
        ended, out, _ = says(*words)
        assert (ended, "no call changes, so there is no run" in out, "applied" in out) == (0, True, False)
    assert price_runs(filled) == []
    put("ours.csv", focus(logged()))
    assert says("import", "ours.csv", "--whole")[0] == 0
    assert "applied" in says("apply")[1]
    assert [(run.kind, run.active) for run in price_runs(filled)] == [("invoice", True)]
