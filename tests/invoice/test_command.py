"""``llm-finops invoice`` as a user meets it, with a store that a run has filled."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from pipelines.cli import main
from tests.invoice.samples import as_csv, charge, focus, logged, page
from tests.invoice.samples import events as lines_of
from tests.pipelines.test_cli import finops

LOST = [call for call in logged() if call.at.day == 3 and call.at.hour == 5]
KEPT = [call for call in logged() if call not in LOST]


def total(calls: list) -> Decimal:  # type: ignore[type-arg]
    return sum((call.cost() for call in calls), Decimal(0))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of the calls that are left, and invoices of all."""
    folder = tmp_path_factory.mktemp("invoice")
    (folder / "log.jsonl").write_text(lines_of(KEPT))
    elsewhere = {**focus(logged())[0], "ProviderName": "AWS", "ServiceName": "Amazon S3"}
    euros = {**focus(logged())[0], "BillingCurrency": "EUR"}
    (folder / "focus.csv").write_text(as_csv([*focus(logged()), charge("Credit", "-0.5"), elsewhere, euros]))
    (folder / "broken.csv").write_text(as_csv([*focus(logged()), charge("Credit", "-0,5")]))
    (folder / "euros.csv").write_text(as_csv([euros]))
    dearer = page(logged(), quantity=False, money=lambda amount: float(amount * Decimal("1.02")))
    (folder / "costs.json").write_text(json.dumps(dearer))
    ran = finops("run", "--from", "log.jsonl", "--to", "chdb://store", "--quiet", cwd=folder)
    assert ran.returncode == 0, ran.stderr
    return folder


Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """Runs ``llm-finops invoice`` in this process, which opens no store: exit code, output, errors."""
    monkeypatch.chdir(place)

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["llm-finops", "invoice", *words])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0), *capsys.readouterr()
        return 0, *capsys.readouterr()

    return run


def test_compare_finds_the_hour_that_is_missing(place: Path) -> None:
    ran = finops("invoice", "compare", "focus.csv", "--to", "chdb://store", "--format", "json", cwd=place)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    found = {
        name: Decimal(said["totals"][name]) for name in ("billed", "ours", "difference", "missing_logs", "credit", "unexplained")
    }
    assert found == {
        "billed": total(logged()) - Decimal("0.5"),
        "ours": total(KEPT),
        "difference": total(LOST) - Decimal("0.5"),
        "missing_logs": total(LOST),
        "credit": Decimal("-0.5"),
        "unexplained": 0,
    }
    assert said["totals"]["calls"] == len(KEPT)
    assert len(said["notes"]) == 2
    assert "1 lines of other services left out" in said["notes"][0]
    assert "1 line in EUR is not compared" in said["notes"][1]


def test_compare_by_day_in_csv_and_as_a_table(place: Path) -> None:
    ran = finops("invoice", "compare", "focus.csv", "--to", "chdb://store", "--by", "day", "--format", "csv", cwd=place)
    rows = {row["start"][:10]: row for row in csv.DictReader(io.StringIO(ran.stdout))}
    assert Decimal(rows["2026-03-03"]["missing_logs"]) == total(LOST)
    assert Decimal(rows["2026-03-02"]["missing_logs"]) == 0
    screen = finops("invoice", "compare", "focus.csv", "--to", "chdb://store", cwd=place)
    for shown in ("our calls", "missing logs", "credit", "100.00 % of what was billed is explained", "gpt-4o-2024-08-06"):
        assert shown in screen.stdout
    assert max(map(len, screen.stdout.splitlines())) <= 100


def test_more_than_the_tolerance_unexplained_is_exit_code_1(place: Path) -> None:
    words = ("invoice", "compare", "costs.json", "--to", "chdb://store", "--by", "model", "--until", "2026-03-03")
    strict = finops(*words, cwd=place)
    assert strict.returncode == 1
    assert "unexplained: 1.96 % of what was billed, more than 1 %" in strict.stderr


def test_a_row_that_cannot_be_read_is_exit_code_1_and_the_rest_is_shown(here: Here) -> None:
    ended, out, said = here("show", "broken.csv")
    assert ended == 1
    assert "broken.csv, row 14, BilledCost '-0,5': not a plain number" in said
    assert "Largest lines" in out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["compare", "euros.csv", "--to", "chdb://store"], 3, "1 line in EUR is left out, 0.07191 EUR in all"),
        (["compare", "focus.csv", "--to", "chdb://store", "--provider", "azure"], 3, "charges are of openai"),
        (["compare", "focus.csv", "--to", "chdb://nowhere"], 4, "no such folder"),
        (["compare", "focus.csv", "--to", "chdb://store", "--rounding", "cent"], 2, "not an amount of dollars"),
        (["compare", "focus.csv", "--to", "chdb://store", "--account", "x"], 2, "x"),
        (["compare", "focus.csv", "--to", "chdb://store", "--from-time", "May"], 2, "not a time"),
        (["show", "none.csv"], 3, "No such file"),
        (["show", "log.jsonl"], 3, "no page of /v1/organization/costs"),
        (["show"], 2, "Missing argument"),
    ],
)
def test_wrong_usage_says_what_is_wrong(here: Here, words: list[str], code: int, says: str) -> None:
    ended, _, said = here(*words)
    assert (ended, says in said) == (code, True), said
    assert "Traceback" not in said


def test_show_needs_no_store(here: Here) -> None:
    ended, out, _ = here("show", "focus.csv", "--format", "json")
    assert ended == 0
    lines = json.loads(out)
    assert sum(Decimal(line["billed"]) for line in lines if line["currency"] == "USD") == total(logged()) - Decimal("0.5")
    screen = here("show", "focus.csv")[1]
    assert "Charges by category" in screen
    assert "EUR" in screen
