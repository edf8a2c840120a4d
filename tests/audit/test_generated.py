"""The audit of generated traffic: the generator writes what vendors would report, so there is nothing to find in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from pipelines.audit import grouped
from schemas.audit import AuditDay
from schemas.call import Call
from sources.generate import GenerateSettings, Incident, generate, tokens
from sources.generate.fleet import APPS
from tests.audit.loop import Billed, audited
from tests.pipelines.test_cli import finops
from transforms.audit import Kind, findings
from transforms.count.counting import Counter
from transforms.decode import decode_record

NIGHT = datetime(2026, 3, 3, tzinfo=UTC)
HOURS = 52


def every_incident() -> Iterator[Incident]:
    """All that can go wrong in an app, in each app: larger models, longer prompts, cold caches, longer runs."""
    for app in APPS:
        kinds = ["model_switch"]
        kinds += ["prompt_growth", "cache_break"] if app.workload != "embed" else []
        kinds += ["runaway_agent"] if app.workload == "agent" else []
        for number, kind in enumerate(kinds):
            night = app.profile == "night"  # from one to four o'clock
            start = NIGHT + timedelta(hours=1 + number * 24 if night else 8 + number * 8)
            yield Incident(kind, app.name, start, start + timedelta(hours=2 if night else 8))


def counted(**settings: object) -> Iterator[Billed]:
    """Calls of such traffic, as the job reads and counts them."""
    counter = Counter()
    incidents = tuple(every_incident())
    made = GenerateSettings(start=NIGHT, hours=HOURS, incidents=incidents, **settings)  # type: ignore[arg-type]
    for record in generate(made):
        if record.kind == "call":
            for call in decode_record(record.value):
                if isinstance(call, Call):
                    counter.count(call)
                    yield Billed(call, {"cost_input": 1_000_000, "cost_output": 1_000_000})


@pytest.fixture(scope="module")
def rows() -> list[AuditDay]:
    return audited(counted(calls=9000))


def test_every_kind_of_call_is_there(rows: list[AuditDay]) -> None:
    calls: dict[tuple[str, str, str, str], int] = {}
    for row in rows:
        key = (row.model, row.api, row.side, row.category)
        calls[key] = calls.get(key, 0) + row.calls
    chat, claude_api = "openai.chat", "anthropic.messages"
    sonnet, haiku = "claude-sonnet-4-5-20250929", "claude-haiku-4-5-20251001"
    texts = [(model, chat) for model in ("gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18", "gpt-4.1-nano-2025-04-14", sonnet)]
    texts += [("gpt-4.1-2025-04-14", chat), ("gpt-5-mini-2025-08-07", chat), ("gpt-5-2025-08-07", chat)]
    texts += [("gpt-5-mini-2025-08-07", "openai.responses"), ("gpt-5-2025-08-07", "openai.responses"), (haiku, claude_api)]
    expected = {(*key, side, kind) for key in texts for side, kind in (("input", "plain text"), ("output", "text"))}
    expected |= {(sonnet, claude_api, "input", "tools"), (sonnet, claude_api, "output", "tool calls")}
    expected |= {("gpt-4.1-2025-04-14", chat, "input", "tools"), ("gpt-4.1-2025-04-14", chat, "output", "tool calls")}
    expected |= {("text-embedding-3-small", "openai.embeddings", "input", "plain text")}
    assert expected <= calls.keys()
    # Most of what gpt-5 answers on the Responses API went through reasoning, and is not compared.
    assert all(calls[key] > 20 or key[1:3] == ("openai.responses", "output") for key in expected), calls


def test_nothing_is_found(rows: list[AuditDay]) -> None:
    assert findings(rows) == []
    exact = [row for row in rows if row.count_quality == "exact_tokenizer"]
    assert sum(row.calls for row in exact) > 10_000
    assert [row for row in exact if row.exact_calls != row.calls] == []
    guessed = grouped([row for row in rows if row.count_quality != "exact_tokenizer"], ("provider", "model", "side", "category"))
    assert sum(one["calls"] for one in guessed) > 1_000
    for one in guessed:
        # About where the estimate lies, yet not on it, and hardly ever outside of its band.
        assert one["provider"] == "anthropic"
        assert abs(one["bias"]) < Decimal("0.03"), one
        assert abs(one["unexplained_cost"]) < sum(row.cost for row in rows if row.model == one["model"]) / 1000, one
        assert one["exact_share"] < Decimal("0.4"), one


@pytest.mark.parametrize(
    ("name", "wrong", "kinds", "side", "models"),
    [
        ("ANSWER_GPT5", 0, {Kind.UNDER_REPORTING}, "output", {"gpt-5-2025-08-07", "gpt-5-mini-2025-08-07"}),
        ("ANSWER_CALL", 12, {Kind.HIDDEN_TEXT}, "output", {"gpt-4.1-2025-04-14"}),
        # Azure's are a proxy's: beside them, gpt-5 of OpenAI is exact.
        ("ANSWER_START", 40, {Kind.HIDDEN_TEXT, Kind.PROXY_TEXT}, "input", {"gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18"}),
    ],
)
def test_what_a_vendor_counts_otherwise_is_found(
    monkeypatch: pytest.MonkeyPatch, name: str, wrong: int, kinds: set[Kind], side: str, models: set[str]
) -> None:
    monkeypatch.setattr(tokens, name, wrong)
    seen = findings(audited(counted(calls=4000)))
    assert {one.kind for one in seen} == kinds
    assert {one.side for one in seen} == {side}
    assert models <= {model for one in seen for model in one.models}


def test_the_demo_audits_without_findings(tmp_path: Path) -> None:
    """Over the store that anybody begins with, incidents and all, and on a narrow terminal."""
    assert finops("demo", "--calls", "2000", cwd=tmp_path).returncode == 0
    ran = finops("audit", "--to", "chdb://demo/store", cwd=tmp_path, COLUMNS="80")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "No findings." in ran.stdout
    assert max(map(len, ran.stdout.splitlines())) <= 80
