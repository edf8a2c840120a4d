"""What gateways and trackers log: rows written by hand after their documentation, and the shared samples."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.call import LEAVES, Call, Message, Part
from transforms.decode import Skipped, Undecodable, decode_record
from transforms.identity import identify

Json = dict[str, Any]


def only(record: Any) -> Any:
    (outcome,) = decode_record(orjson.dumps(record))
    return outcome


def read(record: Any) -> Call:
    outcome = only(record)
    assert isinstance(outcome, Call), outcome
    return outcome


def leaves(call: Call) -> Json:
    """The leaves that are known."""
    return {leaf: value for leaf in LEAVES if (value := getattr(call, leaf)) is not None}


def sample(shared: Path, name: str) -> Any:
    return orjson.loads((shared / "formats" / "samples" / name).read_bytes())


# ---- LiteLLM's spend logs

SPEND: Json = {
    "request_id": "chatcmpl-7",
    "session_id": "t-1",
    "call_type": "acompletion",
    "api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
    "cache_hit": "None",
    "startTime": "2026-03-02 09:15:00.250000",
    "endTime": "2026-03-02 09:15:01.500000",
    "completionStartTime": "2026-03-02 09:15:01.500000",
    "model": "anthropic/claude-sonnet-4-5",
    "model_group": "smart",
    "model_id": "dep-1",
    "custom_llm_provider": "anthropic",
    "api_base": "https://api.anthropic.com/v1/messages",
    "user": "key-owner",
    "team_id": "team-9",
    "end_user": "u1",
    "spend": 0.0125,
    "prompt_tokens": 999,
    "completion_tokens": 999,
    "total_tokens": 1998,
    "request_tags": '["app:helpdesk"]',
    "messages": "{}",
    "response": "{}",
    "proxy_server_request": "{}",
    "status": "success",
    "metadata": orjson.dumps(
        {
            "user_api_key": "88dc28d0f030c55ed4ab77ed8faf098196cb1c05df778539800c9f1243fe6b4b",
            "user_api_key_alias": "k1",
            "user_api_key_team_alias": "search",
            "attempted_retries": 2,
            "azure_spillover": None,
            "usage_object": {
                "prompt_tokens": 1000,
                "completion_tokens": 50,
                "cache_read_input_tokens": 600,
                "cache_creation_input_tokens": 300,
            },
        }
    ).decode(),
}


def test_a_spend_row() -> None:
    call = read(SPEND)
    assert (call.format, call.authority, call.provider, call.model, call.model_requested) == ("litellm_spend", 10, "anthropic", "claude-sonnet-4-5", "smart")
    assert (call.provider_call_id, call.trace_id, call.deployment) == ("chatcmpl-7", "t-1", "dep-1")
    assert (call.event_time, call.end_time, call.duration_ms) == (1772442900_250000, 1772442901_500000, 1250.0)
    assert leaves(call) == {"input_fresh": 100, "input_cache_read": 600, "input_cache_write_other": 300, "output_visible": 50}
    assert (call.team, call.api_key_alias, call.end_user, call.app, call.attempt) == ("search", "k1", "u1", "helpdesk", 2)
    assert (call.usage_source, call.reported_cost, call.reported_cost_by) == ("gateway", 12_500_000_000, "gateway")
    assert (call.content, call.gateway_cache_hit) == (None, False)


def test_the_hash_of_the_key_is_nowhere_in_a_call() -> None:
    call = read(SPEND)
    assert "88dc28d0" not in repr(call.__dict__)


@pytest.mark.parametrize(
    ("changes", "column", "wanted"),
    [
        ({"cache_hit": "True"}, "gateway_cache_hit", True),
        ({"cache_hit": "False"}, "gateway_cache_hit", False),
        ({"spend": 0.0}, "reported_cost", None),  # as for a model that LiteLLM has no price for
        ({"metadata": "{}"}, "input_fresh", 999),
        ({"metadata": "{}"}, "team", "team-9"),
        ({"metadata": '{"azure_spillover": true}'}, "spillover", True),
        ({"status": "failure"}, "status", "error"),
        ({"status": "failure", "metadata": "{}"}, "usage_source", "none"),  # the columns hold an estimate of the prompt
        ({"messages": '[{"role": "user", "content": "Hi"}]'}, "status", "ok"),
    ],
)
def test_fields_of_a_spend_row(changes: Json, column: str, wanted: object) -> None:
    assert getattr(read({**SPEND, **changes}), column) == wanted


def test_texts_of_a_spend_row_that_stores_them() -> None:
    stored = '{"choices": [{"finish_reason": "stop", "message": {"role": "assistant", "content": "Yo"}}], "model": "claude-sonnet-4-5"}'
    asked = '{"model": "smart", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 5, "stream": true}'
    call = read({**SPEND, "proxy_server_request": asked, "response": stored})
    assert call.content is not None
    assert call.content.prompt == [Message("user", (Part("text", "Hi"),))]
    assert call.content.output == [Message("assistant", (Part("text", "Yo"),))]
    assert (call.max_tokens, call.stream) == (5, True)


def test_a_tool_that_was_called_is_no_call_to_a_model() -> None:
    outcome = only({**SPEND, "mcp_namespaced_tool_name": "files/read", "total_tokens": 0, "call_type": "call_mcp_tool"})
    assert isinstance(outcome, Skipped)
    assert outcome.reason == "control"


def test_samples_of_spend_logs(shared: Path) -> None:
    call = read(sample(shared, "litellm_spend_logs_payload.json"))
    assert (leaves(call), call.vendor_total, call.model, call.provider) == ({"input_fresh": 10, "output_visible": 20}, 30, "gpt-4o", "openai")
    assert (call.event_time, call.end_time, call.reported_cost, call.trace_id) == (1737710446_847371, 1737710446_851954, 225_000_000, "1234567890")
    usage = sample(shared, "litellm_anthropic_server_tool_usage_object.json")
    call = read({**SPEND, "metadata": orjson.dumps({"usage_object": usage}).decode()})
    assert leaves(call) == {
        "input_fresh": 734_311 - 426_653 - 184_457,
        "input_cache_read": 426_653,
        "input_cache_write_5m": 31_490,
        "input_cache_write_1h": 0,
        "input_cache_write_other": 184_457 - 31_490,
    }
    assert (call.web_searches, call.usage_quality) == (5, "partial")  # the quoted object has no output


# ---- LLMstudio

TRACKED: Json = {
    "chat_input": "hello",
    "chat_output": "Hi!",
    "session_id": "s-1",
    "context": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "hello"}],
    "provider": "openai",
    "model": "o3-mini",
    "deployment": "o3-mini-2025-01-31",
    "parameters": {"temperature": 1},
    "metrics": {"input_tokens": 50, "output_tokens": 30, "reasoning_tokens": 20, "total_tokens": 100, "cached_tokens": 10, "cost_usd": 0.001, "latency_s": 1.5},
    "created_at": "2026-03-02T09:15:02",
    "log_id": 3,
}


def test_a_tracked_call() -> None:
    call = read(TRACKED)
    assert (call.format, call.provider, call.model_requested, call.model, call.session_id) == ("llmstudio", "openai", "o3-mini", "o3-mini-2025-01-31", "s-1")
    assert leaves(call) == {"input_fresh": 40, "input_cache_read": 10, "output_visible": 10, "output_reasoning": 20}
    assert (call.vendor_total, call.usage_quality, call.flags) == (100, "ok", ("cost_counts_reasoning_twice",))
    assert (call.event_time, call.end_time, call.duration_ms, call.time_quality) == (1772442900_500000, 1772442902_000000, 1500.0, "second")
    assert call.content is not None
    assert [message.role for message in call.content.prompt] == ["system", "user"]


def test_a_tracked_call_of_a_warehouse_has_strings_of_json() -> None:
    encoded = {key: orjson.dumps(TRACKED[key]).decode() for key in ("context", "metrics", "parameters")}
    one, other = read(TRACKED), read({**TRACKED, **encoded})
    assert leaves(one) == leaves(other)
    assert (one.content, one.params) == (other.content, other.params)


def test_a_total_that_neither_way_of_adding_gives_is_inconsistent() -> None:
    record = copy.deepcopy(TRACKED)
    record["metrics"]["total_tokens"] = 81
    call = read(record)
    assert (call.usage_quality, "total_mismatch" in call.flags) == ("inconsistent", True)


def test_an_azure_deployment_of_a_name_of_its_own_is_no_model() -> None:
    call = read({**TRACKED, "provider": "azure", "model": "gpt-4o", "deployment": "our-chat"})
    assert (call.model, call.deployment) == ("gpt-4o", "our-chat")


def test_samples_of_llmstudio(shared: Path) -> None:
    first, second = decode_record(orjson.dumps(sample(shared, "llmstudio_tracker_get_logs.json")))
    assert isinstance(first, Call)
    assert isinstance(second, Call)
    assert (leaves(first), first.reported_cost) == ({"input_fresh": 8, "output_visible": 161}, 97_800_000)
    assert (leaves(second), second.provider, second.model) == ({"input_fresh": 8, "output_visible": 97}, "vertex", "gemini-1.5-pro-latest")
    assert first.flags == second.flags == ("estimated_usage",)
    posted = read(sample(shared, "llmstudio_tracker_post_log_v1.json"))
    assert leaves(posted) == {"input_fresh": 1300 - 1024, "input_cache_read": 1024, "output_visible": 100 - 64, "output_reasoning": 64}
    assert (posted.vendor_total, posted.reported_cost, posted.max_tokens) == (1464, 1_588_400_000, 1000)
    assert (posted.event_time, posted.end_time) == (1753699999_304000, 1753700001_204000)


# ---- TensorZero

MODEL_ROW: Json = {
    "id": "0196c682-72e0-7c83-a92b-9d1a3c7630f2",
    "inference_id": "0196c682-72e0-7c83-a92b-9d1a3c7630aa",
    "raw_request": '{"model": "claude-haiku-4-5", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 10}',
    "raw_response": '{"type": "message", "id": "msg_1", "model": "claude-haiku-4-5-20251001", "content": [], "usage": {"input_tokens": 8, "cache_read_input_tokens": 90, "output_tokens": 3}}',
    "model_name": "anthropic::claude-haiku-4-5",
    "model_provider_name": "anthropic",
    "input_tokens": 98,
    "output_tokens": 3,
    "response_time_ms": 640,
    "timestamp": "2026-05-12 10:00:00",
    "finish_reason": "stop",
}


def test_a_model_inference_is_read_from_the_vendors_bodies() -> None:
    call = read(MODEL_ROW)
    assert (call.format, call.api, call.provider, call.model) == ("tensorzero", "anthropic.messages", "anthropic", "claude-haiku-4-5-20251001")
    assert leaves(call) == {"input_fresh": 8, "input_cache_read": 90, "output_visible": 3}
    assert (call.event_time, call.duration_ms, call.trace_id) == (1778580000_000000, 640.0, "0196c682-72e0-7c83-a92b-9d1a3c7630aa")


@pytest.mark.parametrize("bodies", [{"raw_request": None, "raw_response": None}, {"raw_request": "", "raw_response": ""}, {"raw_response": ""}])
def test_without_bodies_the_columns_tell(bodies: Json) -> None:
    call = read({**MODEL_ROW, **bodies})
    assert (leaves(call), call.usage_source, call.status, call.flags) == ({"input_fresh": 98, "output_visible": 3}, "gateway", "ok", ())
    assert call.model == "claude-haiku-4-5"


def test_an_inference_sums_model_inferences_up() -> None:
    outcome = only({"id": "x", "function_name": "f", "variant_name": "v", "episode_id": "e", "input": "{}", "output": "[]"})
    assert isinstance(outcome, Skipped)
    assert outcome.reason == "roll_up"


def test_labels_of_an_inference_that_a_query_put_beside_its_model_inference() -> None:
    """A row of ModelInference joined with that of its ChatInference: the map as an object (ClickHouse) or as a string (Postgres)."""
    of_inference = {"function_name": "draft_email", "variant_name": "haiku", "episode_id": "0196c682-7000-7000-8000-000000000001"}
    tags = {"user_id": "123", "team": "search", "tensorzero::api_key_public_id": "abc"}
    for written in (tags, orjson.dumps(tags).decode()):
        call = read({**MODEL_ROW, **of_inference, "tags": written})
        assert call.tags == {**tags, "function": "draft_email", "variant": "haiku"}
        assert (call.end_user, call.team, call.api_key_alias, call.session_id) == ("123", "search", "abc", of_inference["episode_id"])
        bare = read({**MODEL_ROW, "raw_request": None, "raw_response": None, **of_inference, "tags": written})
        assert (bare.tags, bare.team, bare.session_id, leaves(bare)) == (call.tags, "search", call.session_id, {"input_fresh": 98, "output_visible": 3})
    assert read(MODEL_ROW).tags is None
    for odd in (None, "", "x", [], {"a": [1]}, "{"):
        assert read({**MODEL_ROW, "tags": odd}).tags is None


def test_what_tensorzeros_cache_answered_costs_nothing() -> None:
    assert read({**MODEL_ROW, "cached": True}).gateway_cache_hit
    assert not read(MODEL_ROW).gateway_cache_hit


def test_samples_of_tensorzero(shared: Path) -> None:
    call = read(sample(shared, "tensorzero_model_inference_row.json"))
    assert (leaves(call), call.model, call.provider_call_id) == ({"input_fresh": 8, "output_visible": 3}, "gpt-4o-mini-2024-07-18", "chatcmpl-x")
    outcome = only(sample(shared, "tensorzero_chat_inference_row.json"))
    assert isinstance(outcome, Skipped)
    assert outcome.reason == "roll_up"


# ---- those that are mappings

KONG: Json = {
    "started_at": 1772442900250,
    "request": {"id": "k-1", "uri": "/chat", "headers": {"authorization": "Bearer abcdefghijklmnop"}},
    "response": {"status": 200},
    "latencies": {"request": 976, "proxy": 970},
    "consumer": {"username": "team-a"},
    "ai": {
        "proxy": {
            "meta": {"provider_name": "openai", "request_model": "gpt-4o", "response_model": "gpt-4o-2024-08-06", "request_mode": "stream", "operation_name": "chat"},
            "usage": {"prompt_tokens": 100, "prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens": 30, "completion_tokens_details": {"reasoning_tokens": 20}, "cost": 0.002, "time_to_first_token": 300},
        },
        "ai-request-transformer": {"meta": {"provider_name": "mistral", "request_model": "small"}, "usage": {"prompt_token": 7, "completion_token": 2, "cost": 0}},
        "semantic-cache": {"cache_status": "Miss"},
    },
}


def test_kong_makes_a_call_of_each_plugin_that_asked_a_model() -> None:
    first, second = decode_record(orjson.dumps(KONG))
    assert isinstance(first, Call)
    assert isinstance(second, Call)
    assert (first.provider, first.model, first.stream, first.ttft_ms, first.duration_ms) == ("openai", "gpt-4o-2024-08-06", True, 300.0, 976.0)
    assert leaves(first) == {"input_fresh": 36, "input_cache_read": 64, "output_visible": 10, "output_reasoning": 20}
    assert (first.reported_cost, first.reported_cost_by, first.usage_source) == (2_000_000_000, "gateway", "gateway")
    assert (first.event_time, first.api_key_alias, first.http_status) == (1772442900_250000, "team-a", 200)
    assert (second.provider, second.model, leaves(second)) == ("mistral", "small", {"input_fresh": 7, "output_visible": 2})
    assert (second.reported_cost, second.reported_cost_by) == (None, "")  # a cost of 0 is no price, not a gift
    assert "abcdefgh" not in repr(first.__dict__)


def test_kongs_cache_and_its_failures() -> None:
    hit = copy.deepcopy(KONG)
    del hit["ai"]["ai-request-transformer"]
    hit["ai"]["proxy"]["cache"] = {"cache_status": "Hit"}
    assert read(hit).gateway_cache_hit
    failed = {**KONG, "response": {"status": 429}, "ai": {"proxy": {"meta": {"provider_name": "openai", "request_model": "gpt-4o"}}}}
    call = read(failed)
    assert (call.status, call.http_status, call.usage_source, call.model) == ("error", 429, "none", "gpt-4o")


def target(provider: str, model: str, host: str) -> Json:
    return {"provider": provider, "model": model, "host": host, "port": 443, "route_type": "llm/v1/chat"}


FAILOVER: Json = {
    **{key: value for key, value in KONG.items() if key != "ai"},
    "tries": [{"ip": "10.0.0.1", "state": "failed", "code": 429}, {"ip": "10.0.0.1", "state": "failed", "code": 503}, {"ip": "10.0.0.2"}],
    "ai": {
        "proxy": {
            "tried_targets": [target("openai", "gpt-4o", "api.openai.com"), target("openai", "gpt-4o", "api.openai.com"), target("azure", "gpt-4o", "acme.openai.azure.com")],
            "meta": {"provider_name": "azure", "request_model": "gpt-4o", "response_model": "gpt-4o-2024-08-06", "request_mode": "oneshot"},
            "usage": {"prompt_tokens": 100, "completion_tokens": 30, "total_tokens": 130, "cost": 0.002},
        }
    },
}


def test_each_target_that_kong_tried_is_an_attempt_of_its_own() -> None:
    calls = [outcome for outcome in decode_record(orjson.dumps(FAILOVER)) if isinstance(outcome, Call)]
    assert [(call.attempt, call.provider, call.endpoint_host) for call in calls] == [
        (1, "openai", "api.openai.com"), (2, "openai", "api.openai.com"), (3, "azure", "acme.openai.azure.com"),
    ]  # fmt: skip
    assert [(call.status, call.http_status, call.error_type) for call in calls] == [("error", 429, "failover"), ("error", 503, "failover"), ("ok", 200, "")]
    assert [leaves(call) for call in calls] == [{}, {}, {"input_fresh": 100, "output_visible": 30}]
    assert [call.reported_cost for call in calls] == [None, None, 2_000_000_000]
    keys = set()
    for call in calls:
        identify(call, b"o" * 16, 7, 0, 1_772_442_900_000_000)
        keys.add(call.call_key)
    assert len(keys) == 3  # two failures at one target are not one
    assert {call.request_id for call in calls} == {"k-1"}


def test_without_as_many_tries_as_targets_how_an_attempt_failed_is_not_known() -> None:
    calls = [outcome for outcome in decode_record(orjson.dumps({**FAILOVER, "tries": [{"code": 500}]})) if isinstance(outcome, Call)]
    assert [call.http_status for call in calls] == [0, 0, 200]


def test_the_embedding_of_kongs_semantic_cache_is_a_call_whose_tokens_nobody_tells() -> None:
    record = copy.deepcopy(KONG)
    record["ai"] = {"proxy": {**KONG["ai"]["proxy"], "cache": {"cache_status": "Hit", "embeddings_provider": "openai", "embeddings_model": "text-embedding-3-small", "embeddings_latency": 424}}}
    hit, embedding = decode_record(orjson.dumps(record))
    assert isinstance(hit, Call)
    assert isinstance(embedding, Call)
    assert hit.gateway_cache_hit
    assert (embedding.operation, embedding.provider, embedding.model, embedding.duration_ms) == ("embedding", "openai", "text-embedding-3-small", 424.0)
    assert (embedding.usage_source, leaves(embedding), embedding.gateway_cache_hit) == ("none", {}, False)


@pytest.mark.parametrize(("said", "status"), [("502, 200", 200), ("429", 429), (None, 0), ("", 0), ("x", 0), (True, 0)])
def test_the_status_of_kongs_upstream(said: object, status: int) -> None:
    assert read({**KONG, "response": {}, "upstream_status": said, "ai": {"proxy": KONG["ai"]["proxy"]}}).http_status == status


def test_what_kong_logs_of_other_requests_is_ignored() -> None:
    outcome = only({key: value for key, value in KONG.items() if key != "ai"})
    assert isinstance(outcome, Skipped)
    assert outcome.reason == "left_out"


ENVOY: Json = {
    "genai_tokens_input": 15, "genai_tokens_output": 7, "genai_model_name": "gpt-4o-mini", "genai_model_name_override": None, "genai_backend_name": "b",
    "response_code": 200, "response_flags": "-", "start_time": "2026-03-02T09:15:00.250Z", "duration": 1526, "x-request-id": "e-1", "x-envoy-origin-path": "/v1/chat/completions", "route_name": "-",
}  # fmt: skip


def test_an_envoy_line() -> None:
    call = read(ENVOY)
    assert (call.format, call.model, call.provider, call.deployment, call.request_id) == ("envoy", "gpt-4o-mini", "openai", "b", "e-1")
    assert (leaves(call), call.event_time, call.duration_ms) == ({"input_fresh": 15, "output_visible": 7}, 1772442900_250000, 1526.0)
    assert (call.tags, call.status) == (None, "ok")


def test_an_envoy_line_in_the_words_of_the_conventions() -> None:
    line = {"gen_ai.usage.input_tokens": "15", "gen_ai.usage.output_tokens": "7", "gen_ai.request.model": "m", "gen_ai.response.model": "m-2026", "response_code": 200}
    call = read(line)
    assert (leaves(call), call.model_requested, call.model) == ({"input_fresh": 15, "output_visible": 7}, "m", "m-2026")


@pytest.mark.parametrize(
    ("changes", "status", "source"),
    [
        ({"genai_tokens_input": "-", "genai_tokens_output": "-", "response_code": 429}, "error", "none"),
        ({"genai_tokens_input": None, "genai_tokens_output": None, "response_code": 0, "response_flags": "DC"}, "cancelled", "none"),
    ],
)
def test_an_envoy_line_of_a_failure(changes: Json, status: str, source: str) -> None:
    call = read({**ENVOY, **changes})
    assert (call.status, call.usage_source) == (status, source)


def test_an_envoy_line_of_another_request() -> None:
    outcome = only({**ENVOY, "x-envoy-origin-path": "/v1/models"})
    assert isinstance(outcome, Skipped)
    assert outcome.reason == "control"


CLOUDFLARE: Json = {
    "id": "01", "created_at": "2026-03-02T09:15:00.250Z", "provider": "google-ai-studio", "model": "gemini-2.5-flash", "tokens_in": 10, "tokens_out": 4,
    "cost": 0.00002, "cached": False, "duration": 900, "status_code": 200, "success": True, "metadata": '{"team": "search", "release": 7}', "step": 1,
}  # fmt: skip


def test_a_cloudflare_row() -> None:
    call = read(CLOUDFLARE)
    assert (call.format, call.provider, call.model, call.attempt, call.team) == ("cloudflare", "gemini", "gemini-2.5-flash", 1, "search")
    assert (leaves(call), call.reported_cost) == ({"input_fresh": 10, "output_visible": 4}, 20_000_000)
    assert (call.tags, call.gateway_cache_hit) == ({"team": "search", "release": "7"}, False)
    assert read({**CLOUDFLARE, "cached": True}).gateway_cache_hit
    assert read({**CLOUDFLARE, "provider": "mistral", "success": False}).status == "error"
    assert read({**CLOUDFLARE, "cost": 0}).reported_cost is None


def test_portkey_wraps_the_bodies() -> None:
    headers = {"x-portkey-api-key": "pk-abcdefghijklmnop", "x-portkey-cache-status": "HIT"}
    record = {
        "request": {"url": "https://api.openai.com/v1/chat/completions", "headers": headers, "provider": "openai", "body": {"model": "gpt-4o", "messages": []}},
        "response": {"status": 200, "headers": headers, "response_time": 123, "body": {"id": "c", "object": "chat.completion", "model": "gpt-4o", "usage": {"prompt_tokens": 11, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4}}}},
        "metadata": {"traceId": "t1", "spanName": "answer", "team": "cx"},
    }
    call = read(record)
    assert (call.format, call.provider, call.duration_ms, call.trace_id, call.step, call.team) == ("portkey", "openai", 123.0, "t1", "answer", "cx")
    assert (leaves(call), call.gateway_cache_hit) == ({"input_fresh": 7, "input_cache_read": 4, "output_visible": 5}, True)
    plain = {**record, "response": {"status": 200, "body": record["response"]["body"]}}
    assert read(plain).format == "http_pair"


def test_helicone_tells_who_and_when_and_its_key_goes_nowhere() -> None:
    record = {
        "id": "h", "authorization": "Bearer abcdefghijklmnop", "heliconeMeta": {},
        "log": {"request": {"id": "r1", "userId": "u", "provider": "OPENAI", "isStream": False, "requestCreatedAt": "2026-03-02T09:15:00.250Z", "properties": {"app": "web"}},
                "response": {"id": "r2", "status": -3, "delayMs": 2000, "cost": 0}},
    }  # fmt: skip
    call = read(record)
    assert (call.format, call.provider, call.model, call.app, call.status, call.http_status) == ("helicone", "openai", "unknown", "web", "cancelled", 0)
    assert (call.usage_source, call.reported_cost, call.event_time, call.duration_ms) == ("none", None, 1772442900_250000, 2000.0)
    assert "abcdefgh" not in repr(call.__dict__)
    record["log"]["response"] = {"status": 200, "cachedLatency": 5}  # type: ignore[index]
    assert read(record).gateway_cache_hit


def test_usage_events() -> None:
    call = read({"model": "gpt-4o", "cost": 0.000225, "prompt_tokens": 10, "completion_tokens": 20, "total_tokens": 30})
    assert (call.format, leaves(call), call.reported_cost) == ("usage_event", {"input_fresh": 10, "output_visible": 20}, 225_000_000)
    taken, given = read({"model": "gpt-4o", "type": "input", "tokens": "1149"}), read({"model": "gpt-4o", "type": "output", "tokens": 3})
    assert (taken.format, leaves(taken), leaves(given)) == ("token_event", {"input_fresh": 1149}, {"output_visible": 3})
    other = only({"model": "gpt-4o", "type": "requests", "tokens": 3})
    assert isinstance(other, Undecodable)
    assert other.reason == "unknown_format"


@pytest.mark.parametrize(
    ("name", "form", "wanted", "cost", "at"),
    [
        ("kong_ai_log.json", "kong", {"input_fresh": 13, "output_visible": 12}, None, 1787113201_719000),
        ("envoy_ai_gateway_access_log.json", "envoy", {"input_fresh": 15, "output_visible": 7}, None, 1756572697_894000),
        ("portkey_post_logs.json", "portkey", {"input_fresh": 11, "output_visible": 5}, None, 0),
        ("helicone_message_data.json", "helicone", {}, 400_000_000, 1767225600_000000),
    ],
)
def test_samples_of_gateways(shared: Path, name: str, form: str, wanted: Json, cost: int | None, at: int) -> None:
    call = read(sample(shared, name))
    assert (call.format, leaves(call), call.reported_cost, call.event_time) == (form, wanted, cost, at)


def test_samples_of_openmeter(shared: Path) -> None:
    call = read(sample(shared, "cloudevents_openmeter_litellm.json")["data"])
    assert (leaves(call), call.reported_cost) == ({"input_fresh": 10, "output_visible": 20}, 225_000_000)
    assert leaves(read(sample(shared, "cloudevents_kafka_binary_headers.json")["kafka_value"])) == {"input_fresh": 1149}


ODD: tuple[Any, ...] = (None, True, -1, 1.5, 10**15, "", "x" * 600, "[", [], [None], {}, {"a": {"b": []}})


def spots(value: Any) -> list[tuple[Any, Any]]:
    """Every place inside of a value, as (container, key)."""
    found: list[tuple[Any, Any]] = []
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found.append((value, key))
        found += spots(value[key])
    return found


LANGFUSE: Json = {
    "batch": [
        {"type": "trace-create", "body": {"id": "t", "tags": ["a"], "metadata": {"x": 1}}},
        {"type": "generation-create", "body": {"id": "g", "traceId": "t", "model": "m", "input": [{"role": "user", "content": "Hi"}], "output": {"role": "assistant"}, "usageDetails": {"input": 1}, "usage": {"unit": "TOKENS"}, "modelParameters": {"t": 1}}},
    ]
}
ROW: Json = {"id": "o", "type": "GENERATION", "trace_id": "t", "usage_details": {"input": 1, "total": 1}, "cost_details": {"total": 1}, "latency": 1, "start_time": "2026-07-01 10:00:00", "metadata": {}, "input": {"messages": [{"role": "user"}]}, "output": "x", "model_parameters": "{}"}


@pytest.mark.parametrize("record", [SPEND, TRACKED, MODEL_ROW, KONG, FAILOVER, ENVOY, CLOUDFLARE, LANGFUSE, ROW], ids=lambda record: min(record))
def test_odd_values_anywhere_are_no_defects(record: Json) -> None:
    record = copy.deepcopy(record)
    for container, key in spots(record):
        held = container[key]
        for odd in ODD:
            container[key] = odd
            for outcome in decode_record(orjson.dumps(record)):
                assert not isinstance(outcome, Undecodable) or outcome.reason != "decoder_error", (key, odd, outcome.error)
        container[key] = held
