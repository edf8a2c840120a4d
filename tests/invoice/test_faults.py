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
from sinks.clickhouse import Store
from tests.invoice.samples import as_csv, charge, events, focus, logged, page
from tests.own.test_history import read

USED = sum((call.cost() for call in logged()), Decimal(0))
Says = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def filled(module_store: Store) -> Store:
    """A store that has the calls."""
    read(module_store, [line.encode() for line in events(logged()).splitlines()], ())
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
