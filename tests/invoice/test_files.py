"""Invoice files as vendors write them, and as they come when they are broken."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.errors import InputError
from pipelines.invoices import read_invoices
from schemas.invoice import Charge, Finding
from sources.files import SourceError
from sources.invoices import read_rows
from tests.invoice.samples import MODELS, as_csv, charge, focus, logged, page, read

DAY = 1_772_409_600  # 2026-03-02 UTC
ROWS = focus(logged())
COSTS = [int(Decimal(row["BilledCost"]) * 10**12) for row in ROWS]


def bare(charges: list[Charge]) -> list[Charge]:
    return [c._replace(file="", row=0) for c in charges]


def test_every_cell_of_a_row_has_its_place(tmp_path: Path) -> None:
    row = focus(logged()[:1], SubAccountId="proj-7")[0] | {"BilledCost": "-0.0125", "EffectiveCost": "1.5", "ListCost": "2", "ListUnitPrice": ""}
    assert bare(read(tmp_path / "f", as_csv([row])).charges) == [
        Charge(
            file="", row=0, start=DAY, end=DAY + 86_400, provider="openai", account="org-1", project="proj-7",
            model="gpt-4o-2024-08-06", kind="input", tokens=1003, quantity="1003 Tokens", billed=-12_500_000_000,
            list_cost=2 * 10**12, contracted=2_507_500_000, effective=1_500_000_000_000, currency="USD", category="usage",
            description="gpt-4o-2024-08-06, input", places=4,
        )
    ]  # fmt: skip


def test_the_same_lines_come_of_every_form(tmp_path: Path) -> None:
    plain = as_csv(ROWS)
    expected = bare(read(tmp_path / "plain", plain).charges)
    assert [c.billed for c in expected] == COSTS
    backwards = [dict(reversed(list(row.items()))) for row in ROWS]
    snake = plain.replace("BilledCost", "billed_cost").replace("ChargePeriodStart", "CHARGE_PERIOD_START")
    head = plain.splitlines()[0]
    forms: dict[str, str | bytes] = {
        "other order": as_csv(backwards),
        "other spelling": snake,
        "semicolons": as_csv(ROWS, ";"),
        "tabs": as_csv(ROWS, "\t"),
        "BOM": "\ufeff" + plain,
        "no BOM, gzip": gzip.compress(plain.encode()),
        "header again": plain.replace("\r\n", f"\r\n{head}\r\n", 5),
        "empty lines": plain.replace("\r\n", "\r\n\r\n", 3),
    }
    for name, text in forms.items():
        found = read(tmp_path / "file.txt", text)
        assert (bare(found.charges), found.findings) == (expected, []), name


@pytest.mark.parametrize("number", [pa.decimal128(38, 18), pa.float64()])
def test_parquet_says_the_same(tmp_path: Path, number: pa.DataType) -> None:
    columns: dict[str, pa.Array] = {}
    for name in ROWS[0]:
        values: list[Any] = [row[name] for row in ROWS]
        if name.endswith(("Cost", "Price", "Quantity")):
            given = values if number != pa.float64() else list(map(float, values))
            columns[name] = pa.array([Decimal(v) for v in given] if number != pa.float64() else given, number)
        elif "Period" in name:
            columns[name] = pa.array([datetime.fromisoformat(v) for v in values], pa.timestamp("ms", "UTC"))
        else:
            columns[name] = pa.array(values)
    pq.write_table(pa.table(columns), tmp_path / "no suffix")
    found = read_invoices([tmp_path / "no suffix"], MODELS)
    assert [c._replace(quantity="") for c in bare(found.charges)] == [
        c._replace(quantity="") for c in bare(read(tmp_path / "csv", as_csv(ROWS)).charges)
    ]


def test_rows_that_cannot_be_read_are_named_and_the_others_count(tmp_path: Path) -> None:
    bad: list[tuple[str, str, str]] = [
        ("BilledCost", "1,234.50", "separators of thousands"),
        ("BilledCost", "$3", "not a plain number"),
        ("BilledCost", "", "empty"),
        ("BilledCost", "nan", "not a plain number"),
        ("BilledCost", "1e99", "too large"),
        ("ChargePeriodStart", "03/02/2026", "not a time"),
        ("ChargePeriodEnd", "2026-03-01T00:00:00Z", "not after ChargePeriodStart"),
        ("ChargeCategory", "Usages", "not one of Usage, Purchase"),
        ("PricingQuantity", "many", "not a plain number"),
    ]
    rows = [ROWS[0], *(ROWS[0] | {column: value} for column, value, _ in bad), ROWS[1]]
    found = read(tmp_path / "focus.csv", as_csv(rows) + "too,few\r\n")
    assert [c.billed for c in found.charges] == COSTS[:2]
    for number, ((column, value, problem), finding) in enumerate(zip(bad, found.findings, strict=False), 3):
        assert finding[:4] == (str(tmp_path / "focus.csv"), number, column, value)
        assert problem in finding.problem
    assert found.findings[-1] == Finding(str(tmp_path / "focus.csv"), 13, "", "", f"2 cells, the header has {len(ROWS[0])}")


def test_a_quoted_line_break_does_not_move_the_line_that_is_named(tmp_path: Path) -> None:
    rows = [ROWS[0] | {"ChargeDescription": 'gpt-4o,\r\n"input"'}, ROWS[0] | {"BilledCost": "x"}]
    found = read(tmp_path / "f.csv", as_csv(rows))
    assert [f.row for f in found.findings] == [4]
    assert found.charges[0].description == 'gpt-4o,\r\n"input"'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b\n1,2\n", "BilledCost and ChargePeriodStart"),
        ("", "BilledCost and ChargePeriodStart"),
        ("BilledCost,billed_cost,ChargePeriodStart\n1,2,3\n", "billedcost is there twice"),
        ('{"model": "gpt-4o"}', "no page of /v1/organization/costs"),
        ('{"data": [', "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        (b"PAR1 but not really", "Parquet"),
        (b"\x1f\x8b broken", "file"),
        (b"BilledCost,ChargePeriodStart\n\xff\xfe,1\n", "not UTF-8"),
        (b"\xff\xfeB\x00i\x00", "not UTF-8"),
        ('BilledCost,ChargePeriodStart\n"1,2\n', "line 2: unexpected end of data"),
    ],
)
def test_files_that_are_no_invoice_are_refused(tmp_path: Path, text: str | bytes, says: str) -> None:
    with pytest.raises(SourceError, match=r"(?s)no-invoice.*" + says):
        read(tmp_path / "no-invoice", text)
    with pytest.raises(InputError, match="named twice"):
        read_invoices([tmp_path / "no-invoice", tmp_path / "." / "no-invoice"], MODELS)


def test_archives_that_break_off_say_so(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="Compressed file ended"):
        read(tmp_path / "f", gzip.compress(as_csv(ROWS * 200).encode())[:-200])


def test_pages_of_openai_come_alone_in_a_row_in_lines_and_in_lists(tmp_path: Path) -> None:
    pages = [page([call for call in logged() if call.at.day == day]) for day in (2, 3)]
    lines = [json.dumps(one) for one in pages]
    expected = [(c.billed, c.tokens, c.kind) for c in read(tmp_path / "csv", as_csv(ROWS)).charges]
    for text in ("\n".join(lines), "".join(lines), json.dumps(pages), json.dumps(pages, indent=2), json.dumps(page(logged()))):
        found = read(tmp_path / "costs", text)
        assert [(c.billed, c.tokens, c.kind) for c in found.charges] == expected
        assert {(c.provider, c.account, c.currency) for c in found.charges} == {("openai", "org-1", "USD")}


def test_the_csv_of_costs_has_rows_for_days_without_any(tmp_path: Path) -> None:
    text = (
        "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id,organization_id,organization_name\n"
        "1759622400,1759708800,2025-10-05T00:00:00+00:00,2025-10-06T00:00:00+00:00,0.8958740000000000,usd,,,org-1,Personal\n"
        "1759968000,1760054400,2025-10-09T00:00:00+00:00,2025-10-10T00:00:00+00:00,,,,,,\n"
        '1760054400,1760140800,,,0.020000000000000004,usd,"gpt-5-mini-2025-08-07, cached input",proj-1,org-1,Personal\n'
    )
    found = read(tmp_path / "costs.csv", text)
    assert found.findings == []
    assert [(c.start, c.billed, c.project, c.kind, c.places) for c in found.charges] == [
        (1_759_622_400, 895_874_000_000, "", "", 6),
        (1_760_054_400, 20_000_000_000, "proj-1", "cached_input", 18),
    ]


@pytest.mark.parametrize(
    ("line", "model", "kind"),
    [
        ("gpt-4o-2024-08-06, input", "gpt-4o-2024-08-06", "input"),
        ("gpt-4o-2024-08-06, cached input", "gpt-4o-2024-08-06", "cached_input"),
        ("priority | gpt-4.1-2025-04-14, output, long context", "gpt-4.1", "output"),
        ("gpt-audio-mini-2025-12-15 audio, input", "gpt-audio-mini", "other"),
        ("gpt-of-tomorrow, output", "gpt-of-tomorrow", "output"),
        ("web search tool calls", "", ""),
        ("Vector storage", "", ""),
    ],
)
def test_items_of_openai_name_model_and_kind(tmp_path: Path, line: str, model: str, kind: str) -> None:
    found = read(tmp_path / "c", json.dumps(page(logged()[:1], line_item=line))).charges[0]
    assert (found.model.removesuffix("-2025-12-15"), found.kind) == (model, kind)
    assert (found.tokens is None) == (kind == "")


def test_floats_and_strings_of_amounts_are_taken_digit_by_digit(tmp_path: Path) -> None:
    for money in (lambda a: 0.1 + 0.2, lambda a: "0.30000000000000004"):
        found = read(tmp_path / "c", json.dumps(page(logged()[:1], money=money))).charges[0]
        assert (found.billed, found.places) == (300_000_000_000, 17)


def test_a_wrong_result_of_a_page_is_a_finding(tmp_path: Path) -> None:
    broken = page(logged()[:1])
    broken["data"][0]["results"][0]["amount"]["value"] = "free"
    broken["data"][0]["results"].append("text")
    found = read(tmp_path / "c", json.dumps(broken))
    assert [(f.row, f.column, f.value) for f in found.findings] == [(1, "amount_value", "free"), (3, "", "")]
    assert len(found.charges) == 1


@pytest.mark.parametrize(
    ("said", "provider"),
    [
        ({"ProviderName": "Microsoft", "ServiceName": "Azure OpenAI"}, "azure"),
        ({"ProviderName": "AWS", "ServiceName": "Amazon Bedrock"}, "bedrock"),
        ({"ProviderName": "Google Cloud", "ServiceName": "Vertex AI"}, "vertex"),
        ({"ProviderName": "", "ServiceProviderName": "Anthropic", "ServiceName": "Claude API"}, "anthropic"),
        ({"ProviderName": "Newcomer AI", "ServiceName": "API", "ServiceCategory": "AI and Machine Learning"}, "newcomer_ai"),
        ({"ProviderName": "AWS", "ServiceName": "Amazon Elastic Compute Cloud"}, ""),
        ({"ProviderName": "Datadog", "ServiceName": "Logs"}, ""),
    ],
)
def test_only_services_of_models_are_compared(tmp_path: Path, said: dict[str, str], provider: str) -> None:
    found = read(tmp_path / "f", as_csv([ROWS[0] | said]))
    assert [c.provider for c in found.charges] == ([provider] if provider else [])
    assert found.elsewhere == ({} if provider else {"USD": (1, COSTS[0])})


@pytest.mark.parametrize(
    ("said", "model", "kind"),
    [
        ({"x_Model": "openai/gpt-4o-2024-08-06", "x_TokenKind": "Output"}, "gpt-4o-2024-08-06", "output"),
        ({"SkuPriceDetails": '{"Model": "GPT-4o-mini", "x_TokenType": "cached input"}'}, "gpt-4o-mini", "cached_input"),
        ({"SkuId": "openai/gpt-4o-mini", "SkuMeter": "Input Tokens"}, "gpt-4o-mini", "input"),
        ({"ChargeDescription": "gpt-4o-mini cached input tokens, batch"}, "gpt-4o-mini", "cached_input"),
        ({"ChargeDescription": "Mystery Output Tokens"}, "Mystery Output Tokens", "output"),
    ],
)
def test_model_and_kind_are_found_where_vendors_write_them(tmp_path: Path, said: dict[str, str], model: str, kind: str) -> None:
    found = read(tmp_path / "f", as_csv([ROWS[0] | {"ChargeDescription": ""} | said])).charges[0]
    assert (found.model, found.kind) == (model, kind)


@pytest.mark.parametrize(("unit", "tokens"), [("Tokens", 5), ("1K Tokens", 5000), ("1000 Tokens", 5000), ("1M tokens", 5_000_000), ("Requests", None)])
def test_units_are_counted_in_tokens(tmp_path: Path, unit: str, tokens: int | None) -> None:
    row = ROWS[0] | {"ConsumedQuantity": 5, "ConsumedUnit": unit, "PricingUnit": ""}
    assert read(tmp_path / "f", as_csv([row])).charges[0].tokens == tokens


def test_corrections_and_unused_commitments_are_no_usage(tmp_path: Path) -> None:
    rows = [ROWS[0] | {"ChargeClass": "Correction"}, ROWS[0] | {"CommitmentDiscountStatus": "Unused"}, charge("Credit", "-1")]
    assert [c.category for c in read(tmp_path / "f", as_csv(rows)).charges] == ["adjustment", "purchase", "credit"]


def test_a_large_file_is_read_in_little_memory(tmp_path: Path) -> None:
    text = as_csv([ROWS[0]])
    line = text.splitlines(keepends=True)[1]
    with gzip.open(tmp_path / "large.csv.gz", "wt", newline="") as file:
        file.write(text)
        file.writelines([line] * 50_000)
    tracemalloc.start()
    try:
        count = sum(1 for _ in read_rows(tmp_path / "large.csv.gz").rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 50_001
    assert 5 * peak < count * len(line)


def test_times_without_a_zone_are_utc(tmp_path: Path) -> None:
    row = ROWS[0] | {"ChargePeriodStart": "2026-03-02 00:00:00", "ChargePeriodEnd": "2026-03-02T19:00:00-05:00"}
    found = read(tmp_path / "f", as_csv([row])).charges[0]
    assert (found.start, found.end) == (DAY, int(datetime(2026, 3, 3, tzinfo=UTC).timestamp()))
