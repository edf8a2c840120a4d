"""Our own event: what it says, and that its checks agree with its JSON Schema."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import jsonschema
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.call import LEAVES, Call, Part
from transforms.decode import Undecodable, decode_record

Json = dict[str, Any]

SCHEMA = orjson.loads((Path(__file__).parents[2] / "schemas" / "event.schema.json").read_bytes())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

FULL: Json = {
    "schema": "llm-finops/call/v1",
    "tenant": "acme",
    "id": "chatcmpl-9",
    "request_id": "req-9",
    "provider": "OpenAI",
    "api": "openai.chat",
    "operation": "chat",
    "model_requested": "gpt-4o-mini",
    "model": "gpt-4o-mini-2024-07-18",
    "deployment": "d",
    "deployment_type": "payg",
    "host": "api.openai.com",
    "region": "eastus2",
    "region_scope": "global",
    "service_tier_requested": "auto",
    "service_tier": "default",
    "speed": "fast",
    "cache_key": "k",
    "cache_breakpoints": 2,
    "started_at": "2026-03-02T09:15:00.250Z",
    "ended_at": 1772442901.5,
    "duration_ms": 1250,
    "ttft_ms": 80.5,
    "max_tokens": 100,
    "http_status": 200,
    "retry_after_ms": 0,
    "attempt": 1,
    "stream": True,
    "batch": False,
    "spillover": True,
    "gateway_cache_hit": False,
    "sampling_rate": 0.5,
    "status": "ok",
    "error_type": None,
    "stop_reason": "stop",
    "team": "search",
    "app": "helpdesk",
    "feature": "answer",
    "environment": "production",
    "cost_center": "cc-7",
    "project": "proj_1",
    "account": "org-1",
    "user": "u",
    "api_key_alias": "k1",
    "template": "v7",
    "agent": "a",
    "step": "s",
    "trace_id": "t",
    "span_id": "sp",
    "parent_span_id": "pp",
    "session_id": "se",
    "tags": {"release": "42"},
    "usage": {"input_total": 1200, "cached_input": 1024, "output_total": 80, "reasoning_output": 64, "web_searches": 1, "file_searches": 3},
    "reported_cost": {"usd": "0.00123", "by": "gateway"},
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "parts": [{"kind": "text", "text": "Hi"}, {"kind": "media", "media": {"kind": "image", "width": 2}}]},
        {"role": "tool", "content": "a cat", "name": "look"},
    ],
    "output": [{"role": "assistant", "parts": [{"kind": "call", "name": "look", "text": "{}"}]}],
    "tools": [{"type": "function", "function": {"name": "look"}}],
    "tool_choice": "auto",
    "response_schema": {"name": "s"},
    "settings": {"temperature": 0},
    "content_complete": True,
}
SMALL: Json = {"schema": "llm-finops/call/v1", "model": "claude-x", "usage": {"input_fresh": 5, "output_visible": 2}}


def read(event: Json) -> Call | Undecodable:
    outcome = decode_record(orjson.dumps(event))[0]
    assert isinstance(outcome, Call | Undecodable)
    return outcome


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert set(FULL) == set(SCHEMA["properties"])


def test_every_field_arrives() -> None:
    call = read(FULL)
    assert isinstance(call, Call)
    assert call.format == "event"
    same = ("tenant", "request_id", "api", "operation", "model_requested", "model", "deployment", "deployment_type", "region",
            "region_scope", "service_tier_requested", "service_tier", "speed", "cache_key", "cache_breakpoints", "duration_ms",
            "ttft_ms", "max_tokens", "http_status", "retry_after_ms", "attempt", "stream", "spillover", "sampling_rate", "status",
            "stop_reason", "team", "app", "feature", "environment", "cost_center", "project", "account", "api_key_alias", "template", "agent", "step",
            "trace_id", "span_id", "parent_span_id", "session_id", "tags")  # fmt: skip
    for field in same:
        assert getattr(call, field) == FULL[field], field
    assert (call.provider, call.provider_call_id, call.endpoint_host, call.end_user) == (
        "openai",
        "chatcmpl-9",
        "api.openai.com",
        "u",
    )
    assert (call.event_time, call.time_quality, call.end_time) == (1772442900_250000, "exact", 1772442901_500000)
    assert {leaf: getattr(call, leaf) for leaf in LEAVES if getattr(call, leaf)} == {
        "input_fresh": 176, "input_cache_read": 1024, "output_visible": 16, "output_reasoning": 64}  # fmt: skip
    assert (call.usage_source, call.usage_quality, call.web_searches, call.file_searches) == ("vendor", "ok", 1, 3)
    assert (call.reported_cost, call.reported_cost_by) == (1_230_000_000, "gateway")
    content = call.content
    assert content is not None
    assert [message.role for message in content.prompt] == ["system", "user", "tool"]
    assert content.prompt[1].parts[0] == Part("text", "Hi")
    assert content.prompt[2].parts == (Part("result", "a cat"),)
    assert content.output[0].parts == (Part("call", "{}", "look"),)
    assert orjson.loads(content.tools_json) == FULL["tools"]
    assert call.params == b'{"temperature":0}'


def test_of_an_address_the_host_is_kept() -> None:
    call = read({**FULL, "host": "https://user:hunter2@API.openai.com:443/v1/chat/completions?key=k"})
    assert isinstance(call, Call)
    assert call.endpoint_host == "api.openai.com:443"


def test_leaves_are_taken_as_they_are() -> None:
    usage = {leaf: i + 1 for i, leaf in enumerate(LEAVES)}
    call = read({**SMALL, "usage": usage})
    assert isinstance(call, Call)
    assert {leaf: getattr(call, leaf) for leaf in LEAVES} == usage
    assert call.provider == "anthropic"


def test_parts_above_their_total_are_flagged() -> None:
    call = read({**SMALL, "usage": {"input_total": 5, "output_total": 1, "cached_input": 9}})
    assert isinstance(call, Call)
    assert (call.usage_quality, call.flags) == ("inconsistent", ("cached_exceeds_input",))


@pytest.mark.parametrize("event", [FULL, SMALL])
def test_good_events_pass_both(event: Json) -> None:
    VALIDATOR.validate(event)
    assert isinstance(read(event), Call)


BAD: list[Json] = [
    {"model": None},
    {"model": 5},
    {"schema": "llm-finops/call/v2"},
    {"teem": "search"},
    {"team": ["search"]},
    {"team": "x" * 513},
    {"usage": {"input_total": 5}},
    {"usage": {"input_total": 5, "output_total": None}},
    {"usage": {"input_total": 5, "output_total": 1, "input_fresh": 5}},
    {"usage": {"input_fresh": -1}},
    {"usage": {"input_fresh": 1.5}},
    {"usage": {"input_fresh": True}},
    {"usage": {"input_fresh": "5"}},
    {"usage": {"prompt_tokens": 5}},
    {"usage": 5},
    {"status": "fine"},
    {"operation": ["chat"]},
    {"duration_ms": -1},
    {"sampling_rate": 0},
    {"sampling_rate": 2},
    {"started_at": "now"},
    {"started_at": {}},
    {"stream": 1},
    {"tags": {"a": 1}},
    {"tags": []},
    {"reported_cost": {"usd": "1e3"}},
    {"reported_cost": {"usd": -1}},
    {"reported_cost": {"by": "vendor"}},
    {"reported_cost": {"usd": 1, "by": "me"}},
    {"messages": [{"role": "user"}]},
    {"messages": [{"role": "user", "content": "a", "parts": []}]},
    {"messages": [{"role": "robot", "content": "a"}]},
    {"messages": [{"role": "user", "parts": [{"kind": "media", "media": {"kind": "smell"}}]}]},
    {"messages": ["a"]},
    {"messages": {"role": "user"}},
    {"tools": ["look"]},
    {"http_status": 600},
]


@pytest.mark.parametrize("change", BAD)
def test_bad_events_fail_both_and_name_the_field(change: Json) -> None:
    event = {**SMALL, **change}
    assert not VALIDATOR.is_valid(event)
    letter = read(event)
    assert isinstance(letter, Undecodable)
    assert letter.reason == "bad_value"
    assert letter.error.startswith(next(iter(change)))


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([1.0, 1.5, 0.25, 1e13, 10**12, 10**12 + 1, 599, 600, 256, 2**31]),
    st.sampled_from(
        ["", "x", "ok", "chat", "user", "text", "media", "image", "vendor", "1.5", "2026-03-02T00:00:00Z", "x" * 513]
    ),
    st.sampled_from([[], {}, [{}], {"role": "user"}, {"usd": 1}, {"kind": "text"}, {"input_total": 1}, {"input_fresh": 2}]),
)
NAMES = st.sampled_from([*FULL, *LEAVES, "input_total", "output_total", "cached_input", "usd", "by", "role", "content", "parts",
                         "kind", "text", "name", "media", "width", "bytes", "wrong"])  # fmt: skip


def places(value: Any) -> list[Any]:
    """Every object and array inside of a value."""
    found = [value] if isinstance(value, dict | list) else []
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        found += places(inner)
    return found


@settings(max_examples=600)
@given(st.data())
def test_checks_and_schema_agree_on_any_mutation(data: st.DataObject) -> None:
    event = copy.deepcopy(data.draw(st.sampled_from([FULL, SMALL])))
    for _ in range(data.draw(st.integers(1, 3))):
        spots = places(event)
        spot = data.draw(st.sampled_from(spots))
        if isinstance(spot, list):
            if spot and data.draw(st.booleans()):
                spot.pop()
            else:
                spot.append(copy.deepcopy(data.draw(VALUES)))
            continue
        name = data.draw(st.one_of(st.sampled_from(sorted(spot)), NAMES) if spot else NAMES)
        if spot is event and name == "schema":
            continue  # another schema is another format
        if data.draw(st.booleans()):
            spot.pop(name, None)
        else:
            spot[name] = copy.deepcopy(data.draw(VALUES))
    outcome = read(event)
    assert isinstance(outcome, Call) == VALIDATOR.is_valid(event)
    if isinstance(outcome, Undecodable):
        assert outcome.reason == "bad_value"
