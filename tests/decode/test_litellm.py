"""LiteLLM's payloads: written by hand after its code, and the shared samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.call import Call, Part
from transforms.decode import Skipped, Undecodable, decode_record

Json = dict[str, Any]


def payload(**more: Any) -> Json:
    return {
        "id": "chatcmpl-1",
        "trace_id": "t1",
        "call_type": "acompletion",
        "custom_llm_provider": "openai",
        "status": "success",
        "stream": True,
        "startTime": 1772442900.25,
        "endTime": 1772442901.5,
        "completionStartTime": 1772442900.5,
        "model": "gpt-4o",
        "model_group": "cheap",
        "model_id": "dep-1",
        "api_base": "https://api.openai.com",
        "response_cost": 0.000225,
        "prompt_tokens": 10,
        "completion_tokens": 20,
        "total_tokens": 30,
        "end_user": "u1",
        "request_tags": ["app:helpdesk", "beta"],
        "metadata": {
            "user_api_key_alias": "k1",
            "user_api_key_team_alias": "search",
            "user_api_key_hash": "secret",
            "requester_metadata": {"feature": "answer"},
        },
        "messages": [{"role": "user", "content": "Hello"}],
        "model_parameters": {"temperature": 0.2, "max_tokens": 9},
        "response": {
            "id": "chatcmpl-1",
            "model": "gpt-4o-2024-08-06",
            "object": "chat.completion",
            "choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30,
                      "prompt_tokens_details": {"cached_tokens": 4}},
        },
        "hidden_params": {"litellm_model_name": "gpt-4o"},
        "model_map_information": {"model_map_key": "gpt-4o"},
        "error_information": {"error_code": ""},
        **more,
    }  # fmt: skip


def read(record: Json) -> Call:
    outcome = decode_record(orjson.dumps(record))[0]
    assert isinstance(outcome, Call), outcome
    return outcome


def test_a_payload() -> None:
    call = read(payload())
    assert (call.format, call.api, call.provider, call.endpoint_host) == ("litellm", "openai.chat", "openai", "api.openai.com")
    assert (call.model_requested, call.model, call.deployment) == ("cheap", "gpt-4o-2024-08-06", "dep-1")
    assert (call.event_time, call.end_time, call.duration_ms, call.ttft_ms) == (
        1772442900_250000, 1772442901_500000, 1250.0, 250.0)  # fmt: skip
    assert (call.input_fresh, call.input_cache_read, call.output_visible) == (6, 4, 20)
    assert (call.usage_source, call.reported_cost, call.reported_cost_by) == ("gateway", 225_000_000, "gateway")
    assert (call.team, call.app, call.feature, call.end_user, call.api_key_alias) == ("search", "helpdesk", "answer", "u1", "k1")
    assert call.tags == {"feature": "answer", "app": "helpdesk", "beta": "true"}
    assert (call.trace_id, call.max_tokens, call.stop_reason) == ("t1", 9, "stop")
    assert call.content is not None
    assert call.content.prompt == [("user", (Part("text", "Hello"),), "")]
    assert call.content.output == [("assistant", (Part("text", "hi"),), "")]


def test_the_vendors_own_usage_object_stands() -> None:
    """Cache tokens are inside of LiteLLM's prompt; web searches are beside it."""
    record = payload(custom_llm_provider="anthropic", prompt_tokens=999, call_type="completion")
    record["metadata"]["usage_object"] = {
        "prompt_tokens": 734_311,
        "completion_tokens": 5,
        "cache_read_input_tokens": 426_653,
        "cache_creation_input_tokens": 184_457,
        "prompt_tokens_details": {
            "cache_creation_token_details": {"ephemeral_5m_input_tokens": 31_490, "ephemeral_1h_input_tokens": 0}
        },
        "server_tool_use": {"web_search_requests": 5},
    }
    call = read(record)
    assert (call.input_fresh, call.input_cache_read) == (734_311 - 426_653 - 184_457, 426_653)
    assert (call.input_cache_write_5m, call.input_cache_write_other) == (31_490, 184_457 - 31_490)
    assert call.web_searches == 5


def test_counts_of_the_payload_where_there_is_nothing_else() -> None:
    call = read(payload(response=None, messages=None))
    assert (call.input_fresh, call.output_visible, call.content) == (10, 20, None)


def test_redacted_texts_are_no_texts() -> None:
    record = payload(messages=[{"role": "user", "content": "redacted-by-litellm"}])
    call = read(record)
    assert call.content is not None
    assert not call.content.complete
    assert read(payload(messages="redacted-by-litellm", response={})).content is None


def test_a_failure_is_not_billed() -> None:
    call = read(payload(status="failure", response={}, error_information={"error_code": "429", "error_class": "RateLimitError"}))
    assert (call.status, call.error_type, call.http_status) == ("error", "RateLimitError", 429)
    assert (call.usage_source, call.reported_cost, call.input_fresh) == ("none", None, None)


def test_a_cache_hit_of_the_gateway_is_told() -> None:
    assert read(payload(cache_hit=True)).gateway_cache_hit
    assert read(payload(cache_hit="True")).gateway_cache_hit
    assert not read(payload(cache_hit=None)).gateway_cache_hit


@pytest.mark.parametrize(("call_type", "reason"), [("alist_models", "control"), ("acount_tokens", "count_tokens")])
def test_what_is_no_call(call_type: str, reason: str) -> None:
    outcome = decode_record(orjson.dumps(payload(call_type=call_type)))[0]
    assert isinstance(outcome, Skipped)
    assert outcome.reason == reason


def test_a_bad_count_is_refused() -> None:
    record = payload(response={}, prompt_tokens=-1)
    outcome = decode_record(orjson.dumps(record))[0]
    assert isinstance(outcome, Undecodable)
    assert (outcome.reason, outcome.format_guess) == ("bad_value", "litellm")


@pytest.mark.parametrize("name", ["litellm_standard_logging_payload", "litellm_standard_logging_payload_pubsub_fixture"])
def test_samples(shared: Path, name: str) -> None:
    call = read(orjson.loads((shared / "formats" / "samples" / f"{name}.json").read_bytes()))
    assert (call.input_fresh, call.output_visible, call.vendor_total, call.model) == (10, 20, 30, "gpt-4o")
    assert call.time_quality == "exact"
    assert call.event_time in (1766000068_284660, 1737710446_847371)  # naive times are UTC
