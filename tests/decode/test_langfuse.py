"""Langfuse: events and exported observations, written by hand after its documentation, and the shared samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.call import LEAVES, Call, Message
from schemas.call import Part as Said
from schemas.part import Part
from transforms.decode import Skipped, Undecodable, decode_record

Json = dict[str, Any]


def leaves(call: Call) -> Json:
    return {leaf: value for leaf in LEAVES if (value := getattr(call, leaf)) is not None}


def event(kind: str, **body: Any) -> Json:
    return {"id": "e", "type": kind, "timestamp": "2026-07-01T10:00:00.000Z", "body": body}


def part(record: Json) -> Part:
    (outcome,) = decode_record(orjson.dumps(record))
    assert isinstance(outcome, Part), outcome
    return outcome


def row(**changes: Any) -> Json:
    return {
        "id": "obs-1", "trace_id": "tr-1", "type": "GENERATION", "start_time": "2026-07-01 10:00:00.000000", "end_time": "", "latency": 1.5,
        "name": "answer", "provided_model_name": "gpt-4o", "model_parameters": "{}", "input": "", "output": "", "usage_details": {}, "time_to_first_token": 0.25, **changes,
    }  # fmt: skip


def call_of(record: Json) -> Call:
    (outcome,) = decode_record(orjson.dumps(record))
    assert isinstance(outcome, Call), outcome
    return outcome


def test_a_batch_has_an_outcome_for_every_event() -> None:
    batch = [
        event("trace-create", id="tr-1", name="agent", userId="u1", sessionId="s1", tags=["tier:gold"], metadata={"team": "cx"}),
        event("generation-create", id="g", traceId="tr-1", startTime="2026-07-01T10:00:00.000Z", model="gpt-4o"),
        event("span-create", id="x"),
        event("generation-update", id="g", endTime="2026-07-01T10:00:02.000Z"),
        event("generation-create", model="gpt-4o"),
        event("score-create", id="s"),
    ]
    found = decode_record(orjson.dumps({"batch": batch, "metadata": {}}))
    assert [type(one).__name__ for one in found] == ["Skipped", "Part", "Skipped", "Part", "Undecodable", "Skipped"]
    assert {one.reason for one in found if isinstance(one, Skipped)} == {"roll_up"}
    created = found[1]
    assert isinstance(created, Part)
    assert created.call is not None
    assert (created.call.end_user, created.call.session_id, created.call.agent, created.call.team) == ("u1", "s1", "agent", "cx")
    assert created.call.tags == {"team": "cx", "tier": "gold"}
    broken = found[4]
    assert isinstance(broken, Undecodable)
    assert broken.reason == "bad_value"


def test_an_update_tells_only_what_it_says() -> None:
    """Nothing of it may stand above what the creation tells: no provider, no start made of the end, no missing prompt."""
    made = part(event("generation-update", id="g", endTime="2026-07-01T10:00:02.000Z", output={"role": "assistant", "content": "Yo"}))
    assert (made.key, made.role, made.rank, made.needs) == ("langfuse:g", "update", 1, ())
    call = made.call
    assert call is not None
    assert (call.event_time, call.end_time, call.provider, call.model, call.usage_source) == (0, 1782900002_000000, "", "", "none")
    assert call.content is not None
    assert call.content.complete
    assert call.content.output == [Message("assistant", (Said("text", "Yo"),))]


@pytest.mark.parametrize(
    ("usage", "wanted", "quality"),
    [
        # OpenAI's chat object, and that of Responses: parts are inside of totals
        ({"prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130, "prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 20}},
         {"input_fresh": 36, "input_cache_read": 64, "output_visible": 10, "output_reasoning": 20}, "ok"),
        ({"input_tokens": 100, "output_tokens": 30, "input_tokens_details": {"cached_tokens": 64}, "output_tokens_details": {"reasoning_tokens": 20}},
         {"input_fresh": 36, "input_cache_read": 64, "output_visible": 10, "output_reasoning": 20}, "ok"),
        # as stored: disjoint
        ({"input": 36, "input_cached_tokens": 64, "output": 10, "output_reasoning_tokens": 20, "total": 130},
         {"input_fresh": 36, "input_cache_read": 64, "output_visible": 10, "output_reasoning": 20}, "ok"),
        ({"input": 3, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 7, "output": 5},
         {"input_fresh": 3, "input_cache_read": 90, "input_cache_write_other": 7, "output_visible": 5}, "ok"),
        ({"input": 3, "input_cache_creation_5m": 4, "input_cache_creation_1h": 5, "output": 5},
         {"input_fresh": 3, "input_cache_write_5m": 4, "input_cache_write_1h": 5, "output_visible": 5}, "ok"),
        ({"input": 0, "input_text_tokens": 8, "input_audio_tokens": 2, "output": 1, "output_audio_tokens": 6, "searches": 3},
         {"input_fresh": 8, "input_audio": 2, "output_visible": 1, "output_audio": 6}, "ok"),
        ({"input": 3, "output": 5, "total": 9}, {"input_fresh": 3, "output_visible": 5}, "inconsistent"),
        ({"input": 3}, {"input_fresh": 3}, "partial"),
        ({}, {}, ""),
    ],
)  # fmt: skip
def test_usage(usage: Json, wanted: Json, quality: str) -> None:
    for call in (call_of(row(usage_details=usage)), call_of(row(usage_details=orjson.dumps(usage).decode()))):
        assert (leaves(call), call.usage_quality) == (wanted, quality)
        assert call.usage_source == ("gateway" if wanted else "none")
    sent = part(event("generation-create", id="g", model="m", usageDetails=usage)).call
    assert sent is not None
    assert leaves(sent) == wanted


@pytest.mark.parametrize(
    ("usage", "wanted"),
    [
        ({"promptTokens": 8, "completionTokens": 2, "totalTokens": 10}, {"input_fresh": 8, "output_visible": 2}),
        ({"input": 8, "output": 2, "unit": "TOKENS", "totalCost": 0.1}, {"input_fresh": 8, "output_visible": 2}),
        ({"input": 800, "output": 20, "unit": "CHARACTERS"}, {}),
    ],
)
def test_usage_of_older_clients(usage: Json, wanted: Json) -> None:
    call = part(event("generation-create", id="g", model="m", usage=usage)).call
    assert call is not None
    assert leaves(call) == wanted


def test_an_impossible_count_is_refused() -> None:
    (outcome,) = decode_record(orjson.dumps(row(usage_details={"input": -1, "output": 1})))
    assert isinstance(outcome, Undecodable)
    assert (outcome.reason, outcome.error) == ("bad_value", "usage.input: -1 is negative")


def test_an_exported_row() -> None:
    asked = '[{"role":"user","content":"Hi"}]'
    call = call_of(row(input=asked, output='{"role":"assistant","content":"Yo"}', usage_details={"input": 1, "output": 1}, total_cost=0.5, user_id="u", metadata={"ls_provider": "OpenAI"}))
    assert (call.format, call.provider, call.operation, call.step) == ("langfuse", "openai", "chat", "answer")
    assert (call.event_time, call.duration_ms, call.end_time, call.ttft_ms) == (1782900000_000000, 1500.0, 1782900001_500000, 250.0)
    assert (call.reported_cost, call.reported_cost_by, call.end_user) == (500_000_000_000, "gateway", "u")
    assert call.content is not None
    assert call.content.prompt == [Message("user", (Said("text", "Hi"),))]
    assert call.content.complete


def test_rows_as_the_api_spells_them() -> None:
    record = {"id": "o", "type": "GENERATION", "traceId": "t", "startTime": "2026-07-01T10:00:00.000Z", "model": "claude-haiku-4-5", "usageDetails": {"input": 4, "output": 2}, "input": {"messages": [{"role": "user", "content": "Hi"}]}, "output": "Yo", "level": "ERROR", "calculatedTotalCost": 0}
    call = call_of(record)
    assert (call.provider, call.trace_id, leaves(call), call.status) == ("anthropic", "t", {"input_fresh": 4, "output_visible": 2}, "error")
    assert call.content is not None
    assert call.content.output == [Message("assistant", (Said("text", "Yo"),))]
    assert call.reported_cost is None


@pytest.mark.parametrize(("kind", "outcome"), [("EMBEDDING", Call), ("SPAN", Skipped), ("AGENT", Skipped), ("EVENT", Skipped)])
def test_only_models_are_billed(kind: str, outcome: type) -> None:
    (found,) = decode_record(orjson.dumps(row(type=kind, usage_details={"input": 4})))
    assert isinstance(found, outcome)
    if isinstance(found, Call):
        assert (found.operation, found.usage_quality) == ("embedding", "ok")


def test_samples(shared: Path) -> None:
    samples = shared / "formats" / "samples"
    call = call_of(orjson.loads((samples / "langfuse_observations_v2_export_row.json").read_bytes()))
    whole = {"input_fresh": 125, "input_cache_read": 1024, "output_visible": 353, "output_reasoning": 0}
    assert (leaves(call), call.reported_cost, call.ttft_ms, call.duration_ms) == (whole, 307_350_000, 400.0, 1900.0)
    assert (call.end_user, call.session_id, call.environment, call.agent, call.team) == ("u1", "s1", "production", "support-agent", "cx")
    trace, created, updated, score = decode_record((samples / "langfuse_ingestion_batch.json").read_bytes())
    assert isinstance(trace, Skipped)
    assert isinstance(score, Skipped)
    assert isinstance(created, Part)
    assert isinstance(updated, Part)
    assert created.call is not None
    assert updated.call is not None
    assert {created.key, updated.key} == {"langfuse:obs-1"}
    assert (created.call.model, created.call.event_time, created.call.team, leaves(created.call)) == ("gpt-4o-mini-2024-07-18", 1782900000_000000, "cx", {})
    assert (leaves(updated.call), updated.call.end_time) == (whole, 1782900001_900000)
