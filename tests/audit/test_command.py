"""``llm-finops audit`` as a user meets it, and over real calls."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click import UsageError
from click.testing import CliRunner

from pipelines.audit import BY, DEFAULT_BY, days_between, grouped, print_audit
from pipelines.commands.looking import audit as command
from pipelines.errors import SettingsError
from pipelines.export import moment
from schemas.audit import AuditDay
from schemas.tables import AUDIT_DAYS, AUDIT_KEYS
from sinks.audit import audit_days, refresh
from sinks.clickhouse import Store
from tests.audit.loop import audited, plain
from tests.pipelines.jobs import go
from tests.pipelines.test_cli import finops
from transforms.audit import findings

HELLO = 8
"""Tokens of a prompt that says "Hello": one, four around the message, three that open the answer (OpenAI's cookbook)."""


def log(host: str, reported: int, first: int, day: int) -> str:
    events = [
        {
            "schema": "llm-finops/call/v1",
            "provider": "openai",
            "model": "gpt-4o-2024-08-06",
            "api": "openai.chat",
            "host": host,
            "id": f"chatcmpl-{number}",
            "started_at": f"2026-03-{day + number % 3:02}T10:00:00Z",
            "messages": [{"role": "user", "content": "Hello"}],
            "output": [{"role": "assistant", "content": "Hi"}],
            "usage": {"input_fresh": reported, "output_visible": 2},
        }
        for number in range(first, first + 30)
    ]
    return "".join(json.dumps(event) + "\n" for event in events)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store of calls that are reported as counted, until a proxy adds a text from 2026-03-05 on."""
    folder = tmp_path_factory.mktemp("audit")
    (folder / "log.jsonl").write_text(log("api.openai.com", HELLO, 0, 2) + log("proxy.local", HELLO + 500, 100, 5))
    assert finops("run", "--from", "log.jsonl", "--to", "chdb://store", cwd=folder).returncode == 0
    return folder


def test_calls_that_agree_then_a_proxy_that_adds_a_text(place: Path) -> None:
    def audit(*words: str) -> tuple[int, str, str]:
        ran = finops("audit", "--to", "chdb://store", *words, cwd=place, COLUMNS="120")
        return ran.returncode, ran.stdout, ran.stderr

    code, screen, _ = audit("--stored")
    assert (code, screen.startswith("Nothing to compare")) == (0, True)  # nothing was derived yet
    code, screen, said = audit("--until", "2026-03-05")
    assert (code, said) == (0, "")
    assert "No findings." in screen
    assert "100.0 %" in screen
    code, screen, said = audit()
    assert (code, "proxy_text" in screen, "1 finding: proxy_text" in said) == (1, True, True)
    assert max(map(len, screen.splitlines())) <= 120

    exact = json.loads(audit("--format", "json")[1])
    (one,) = exact["findings"]
    assert Decimal(one["dollars"]) == 30 * 500 * Decimal("2.50") / 1_000_000
    assert (one["kind"], one["tokens"], one["seen_in"], one["first_day"]) == ("proxy_text", 500, 30, "2026-03-05")
    prompts = next(row for row in exact["figures"] if row["side"] == "input")
    assert (prompts["calls"], prompts["difference"], prompts["counted"]) == (60, 15_000, 60 * HELLO)
    answers = next(row for row in exact["figures"] if row["side"] == "output")
    assert answers["calls"] == 60

    code, text, _ = audit("--format", "csv", "--by", "day", "--by", "side", "--from-time", "2026-03-06")
    assert code == 1  # twenty calls are enough
    rows = [row for row in csv.DictReader(io.StringIO(text)) if row["side"] == "input"]
    assert {row["day"]: row["difference"] for row in rows} == {f"2026-03-0{day}": "5000" for day in (6, 7)}


def test_forms_of_what_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    through = [plain(n, n % 3, 600, 100, endpoint_host="proxy.local") for n in range(1, 40)]
    rows = audited(through)

    def printed(rows: list[AuditDay], fmt: str, *more: Any) -> str:
        file = io.StringIO()
        print_audit(rows, findings(rows), DEFAULT_BY, fmt, *more, file=file)
        return file.getvalue()

    assert [row["kind"] for row in csv.DictReader(io.StringIO(printed(rows, "csv", True)))] == ["hidden_text"]
    (row,) = csv.DictReader(io.StringIO(printed(rows, "csv")))
    assert (row["provider"], row["calls"], row["difference_cost"]) == ("openai", "39", "0.04875")  # 39 times 500 times $2.50/M
    assert [one["evidence"] for one in json.loads(printed(rows, "json", True))] == ["+500 tokens on 39 of 39 calls"]
    assert json.loads(printed([], "json")) == {"figures": [], "findings": []}
    assert printed([], "csv", True).startswith("kind,tenant,provider,models,")
    assert printed([], "table").startswith("Nothing to compare")
    for by, heading in ((DEFAULT_BY, "openai/gpt-4o, openai.chat"), (("day", "model"), "calls"), (("side",), "calls")):
        for width in (60, 80, 100, 130):
            monkeypatch.setenv("COLUMNS", str(width))
            file = io.StringIO()
            print_audit(rows, findings(rows), by, "table", file=file)
            screen = file.getvalue().splitlines()
            assert max(map(len, screen)) <= width
            assert any(heading in line for line in screen)
            assert "unexplained" in screen[1]
            assert any(line.endswith(("$0.0488", "$0.0162")) for line in screen[2:4])  # of all days, or of one
            assert "p95" in screen[1] or width == 60
    assert "proxy.local" not in printed([row._replace(model="m" * 3) for row in audited(through[:3])], "table")


def test_wrong_usage_is_one_line(place: Path) -> None:
    for words, said in (
        (["--from-time", "soon"], "not a time"),
        (["--from-time", "2026-03-05", "--until", "2026-03-02"], "the period ends before it begins"),
        (["--by", "team"], "is not one of"),
    ):
        ran = CliRunner().invoke(command, ["--to", "chdb://store", *words], standalone_mode=False)
        assert isinstance(ran.exception, SettingsError | UsageError)
        assert said in str(ran.exception)
    missing = finops("audit", "--to", "chdb://nowhere", cwd=place)
    assert missing.returncode == 4
    assert "no such folder" in missing.stderr


def test_a_period_is_whole_days() -> None:
    def period(since: str, until: str) -> tuple[int, int]:
        return days_between(moment(since), moment(until))

    first, end = 1_772_409_600, 1_772_496_000  # 2026-03-02, 2026-03-03
    assert period("2026-03-02", "2026-03-03") == (first, end)
    assert period("2026-03-02T23:59:00Z", "2026-03-03") == (first, end)
    assert period("2026-03-02", "2026-03-02T00:00:01Z") == (first, end)
    assert period("2026-03-02T23:00:00-05:00", "2026-03-04") == (end, end + 86_400)
    assert days_between(None, None)[0] == 0


def test_rows_have_the_columns_of_the_table_and_groups_its_keys() -> None:
    assert set(AuditDay._fields) == {column.name for column in AUDIT_DAYS.columns} - {"version"}
    assert set(BY) == {"day", *(column.name for column in AUDIT_KEYS)}
    option = next(one for one in command.params if one.name == "by")
    assert set(option.type.choices) == set(BY)  # type: ignore[attr-defined]


def test_groups_are_sums_of_days_worst_dollars_first() -> None:
    calls = [plain(n, n % 4, 100 + n * (n % 2), 100, model=("a", "b")[n % 2]) for n in range(1, 80)]
    rows = audited(calls)
    worst, other = grouped(rows, ("model",))
    assert (worst["model"], other["model"]) == ("b", "a")
    assert worst["difference"] == sum(n for n in range(1, 80) if n % 2)
    assert worst["bias"] == Decimal(worst["difference"]) / worst["counted"]
    assert other["exact_share"] == 1
    assert worst["difference_p95"] == max(row.difference_p95 for row in rows)
    assert sum(one["calls"] for one in grouped(rows, ("day",))) == 79


def test_real_calls_of_public_tokenizers_give_no_finding(shared: Path, module_store: Store) -> None:
    """Hosts and models of the corpus have few calls each; what is wrong in them is wrong in the count, not in the report."""
    go(module_store.address, shared / "data" / "calls" / "calls.jsonl.gz")
    refresh(module_store)
    rows = audit_days(module_store)
    compared: Counter[Any] = Counter()
    for row in rows:
        if row.count_quality == "exact_tokenizer" and row.provider in ("openai", "azure"):
            compared[row.side, row.api] += row.calls
            compared["exact", row.side, row.api] += row.exact_calls
    # As in tests/count/test_exactness.py, which compares with the vendor's own objects.
    for side, api, least, share in (
        ("input", "openai.chat", 1900, 0.97),
        ("input", "openai.responses", 500, 0.86),
        ("output", "openai.chat", 1400, 0.93),
    ):
        assert compared[side, api] > least, (side, api)
        assert compared["exact", side, api] > share * compared[side, api], (side, api)
    assert findings(rows) == []
