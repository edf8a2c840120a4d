"""The truth file against a plain recount of the written files, which knows nothing of how they were made."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

import orjson
import pytest

from tests.generate.conftest import Run

LEAVES = ("input_fresh", "input_cache_read", "input_cache_write_5m", "input_cache_write_1h", "output_visible",
          "output_reasoning")  # fmt: skip


def usage_of(record: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """Answered model and usage object of a successful record."""
    if "usage" in record and record.get("schema", "").startswith("llm-finops/"):
        return record["model"], record["usage"]
    body = record["response"]
    if "stream" not in body:
        return body["model"], body["usage"]
    model, usage = "", {}
    for chunk in body["stream"]:
        inner = chunk.get("message") or chunk.get("response") or chunk
        model = inner.get("model") or model
        usage |= inner.get("usage") or {}
    return model, usage or None


def leaves_of(usage: dict[str, Any]) -> dict[str, int]:
    """Disjoint tokens of a usage object, whoever wrote it."""
    if "input_fresh" in usage:  # the project's own event speaks of leaves
        return usage
    if "cache_creation_input_tokens" in usage:  # Anthropic: input excludes what the cache did
        return {
            "input_fresh": usage["input_tokens"],
            "input_cache_read": usage["cache_read_input_tokens"],
            "input_cache_write_5m": usage["cache_creation"]["ephemeral_5m_input_tokens"],
            "input_cache_write_1h": usage["cache_creation"]["ephemeral_1h_input_tokens"],
            "output_visible": usage["output_tokens"],
        }
    if "input_tokens" in usage:  # OpenAI Responses
        cached = usage["input_tokens_details"]["cached_tokens"]
        reasoning = usage["output_tokens_details"]["reasoning_tokens"]
        total_in, total_out = usage["input_tokens"], usage["output_tokens"]
    else:  # OpenAI chat, embeddings
        cached = usage.get("prompt_tokens_details", {}).get("cached_tokens", 0)
        reasoning = usage.get("completion_tokens_details", {}).get("reasoning_tokens", 0)
        total_in, total_out = usage["prompt_tokens"], usage.get("completion_tokens", 0)
    assert usage["total_tokens"] == total_in + total_out
    return {
        "input_fresh": total_in - cached,
        "input_cache_read": cached,
        "output_visible": total_out - reasoning,
        "output_reasoning": reasoning,
    }


class Recount:
    def __init__(self, lines: list[bytes]) -> None:
        self.duplicates = 0
        self.broken: Counter[str] = Counter()
        self.calls = 0
        self.failed = 0
        self.teams: Counter[str] = Counter()
        self.models: dict[str, Counter[str]] = defaultdict(Counter)
        self.unreported: Counter[str] = Counter()
        self.hours: dict[str, Counter[str]] = defaultdict(Counter)
        seen: set[bytes] = set()
        for line in lines:
            if line in seen:
                self.duplicates += 1
                continue
            seen.add(line)
            self._take(line)

    def _take(self, line: bytes) -> None:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            self.broken["not_json"] += 1
            return
        if not isinstance(record, dict):
            self.broken["not_an_object"] += 1
        elif "severity" in record:
            self.broken["unknown_format"] += 1
        elif "url" in record and "request" not in record:
            self.broken["not_a_call"] += 1
        elif b'"prompt_tokens":-' in line:
            self.broken["bad_value"] += 1
        else:
            self._call(record)

    def _call(self, record: dict[str, Any]) -> None:
        self.calls += 1
        through_proxy = "call_type" in record
        team = record["metadata"]["user_api_key_team_alias"] if through_proxy else record["team"]
        self.teams[team] += 1
        if through_proxy:
            # Minutes do not matter here, so the float's rounding does not either.
            day, hour = divmod(int(record["startTime"]) // 3600, 24)
            assert day in (20516, 20517, 20518, 20519)
            when = f"2026-03-{day - 20516 + 4:02d}T{hour:02d}"
        else:
            when = record["started_at"][:13] if "started_at" in record else "undated"
        self.hours[when]["calls"] += 1
        if record["status"] not in (200, "success", "ok"):
            self.failed += 1
            return
        model, usage = usage_of(record)
        provider = record["custom_llm_provider"] if through_proxy else record["provider"]
        key = f"{provider}/{model}"
        self.models[key]["ok"] += 1
        if usage is None:
            self.unreported[key] += 1
            return
        for leaf, tokens in leaves_of(usage).items():
            self.models[key][leaf] += tokens
            self.hours[when]["input_tokens" if leaf.startswith("input") else "output_tokens"] += tokens


@pytest.fixture(scope="module")
def recount(run: Run) -> Recount:
    return Recount(run.lines)


def test_records_and_their_kinds(run: Run, recount: Recount) -> None:
    records = run.truth["records"]
    assert records["total"] == len(run.lines)
    assert records["call"] == run.truth["calls"] == recount.calls
    assert records["duplicate"] == recount.duplicates
    assert records["broken"] == sum(recount.broken.values())
    reasons: Counter[str] = Counter()
    for broken in run.truth["broken"].values():
        reasons[broken["reason"]] += broken["records"]
    assert reasons == recount.broken
    assert len(run.truth["broken"]) == 7  # each way of breaking occurs


def test_reported_tokens_of_each_model(run: Run, recount: Recount) -> None:
    for name, row in run.truth["models"].items():
        expected = recount.models[name]
        assert row["calls"] - row["failed"] == expected["ok"], name
        assert {leaf: row[leaf] for leaf in LEAVES} == {leaf: expected[leaf] for leaf in LEAVES}, name
    assert {name for name, row in run.truth["models"].items() if row["calls"] > row["failed"]} == set(recount.models)
    assert sum(row["failed"] for row in run.truth["models"].values()) == recount.failed


def test_streams_without_usage_are_kept_apart(run: Run, recount: Recount) -> None:
    unreported = run.truth["unreported"]
    assert {name: row["calls"] for name, row in unreported.items()} == dict(recount.unreported)
    assert sum(recount.unreported.values()) == run.truth["marks"]["stream_without_usage"]
    assert all(row["input_fresh"] > 0 and row["output_visible"] > 0 for row in unreported.values())


def test_teams_and_hours(run: Run, recount: Recount) -> None:
    assert {team: row["calls"] for team, row in run.truth["teams"].items()} == dict(recount.teams)
    hours = run.truth["hours"] | {"undated": run.truth["undated"]}
    assert {hour: dict(row) for hour, row in hours.items()} == {
        hour: {name: row[name] for name in ("calls", "input_tokens", "output_tokens")} for hour, row in recount.hours.items()
    }


def test_every_view_adds_up_to_the_same_tokens(run: Run) -> None:
    truth = run.truth
    totals = [[sum(row[leaf] for row in truth[view].values()) for leaf in LEAVES] for view in ("models", "teams", "apps")]
    assert totals[0] == totals[1] == totals[2]
    hours = [*truth["hours"].values(), truth["undated"]]
    assert sum(row["input_tokens"] for row in hours) == sum(totals[0][:4])
    assert sum(row["output_tokens"] for row in hours) == sum(totals[0][4:])


def test_files_of_the_truth_are_the_files_of_the_folder(run: Run) -> None:
    listed = run.truth["files"]
    assert [file["name"] for file in listed] == sorted(path.name for path in run.folder.glob("calls-*"))
    assert sum(file["records"] for file in listed) == len(run.lines)
    assert sum(file["bytes"] for file in listed) == sum(len(line) + 1 for line in run.lines)
    assert listed[0]["name"] == "calls-20260304-00.jsonl.gz"
    assert listed[-1]["name"] == "calls-20260306-23.jsonl.gz"
