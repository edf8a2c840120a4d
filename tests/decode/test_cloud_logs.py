"""Logs that clouds write of calls: Bedrock's invocation log, Vertex' rows, Azure's gateway."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from schemas.call import Call
from schemas.part import Part
from transforms.decode import Skipped, Undecodable, decode_record

JULY_29 = 1_785_319_200_000_000
"""2026-07-29T10:00:00Z in microseconds."""


def dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def call_of(record: dict[str, Any]) -> Call:
    (call,) = decode_record(dump(record))
    assert isinstance(call, Call), call
    return call


def sample(shared: Path, name: str) -> Call:
    (call,) = decode_record((shared / "formats" / "samples" / name).read_bytes())
    assert isinstance(call, Call), call
    return call


def used(call: Call) -> tuple[int | None, ...]:
    return call.input_fresh, call.input_cache_read, call.input_cache_write_other, call.output_visible, call.output_reasoning


# -- Bedrock -------------------------------------------------------------------------------------------------------


def test_bedrock_log_of_converse(shared: Path) -> None:
    for name in ("bedrock_model_invocation_log_converse.json", "bedrock_cloudwatch_subscription_envelope.json"):
        call = sample(shared, name)
        assert (call.format, call.provider, call.api, call.status) == ("bedrock_log", "bedrock", "bedrock.converse", "ok")
        assert used(call) == (20, 4096, 0, 18, None)
        assert (call.usage_source, call.usage_quality, call.stop_reason, call.duration_ms) == ("vendor", "ok", "end_turn", 1200.0)
        assert (call.event_time, call.time_quality) == (JULY_29, "second")
        assert call.model_requested.endswith(":application-inference-profile/a1b2c3d4e5f6")
        assert (call.account, call.region, call.region_scope) == ("123456789012", "us-west-2", "")
        assert call.provider_call_id == call.request_id == "0b3a4e8e-7a51-4a2e-9a36-4f3f3f7f2b11"
        assert (call.team, call.feature) == ("claims", "triage")
        assert call.tags == {"principal": "assumed-role/claims-api", "principal_session": "i-0abc", "team": "claims", "feature": "triage"}
        assert call.flags == ()


def test_bedrock_log_of_a_stream_of_anthropic(shared: Path) -> None:
    call = sample(shared, "bedrock_model_invocation_log_invoke_stream.json")
    assert (call.api, call.stream, call.status) == ("anthropic.messages", True, "ok")
    assert used(call) == (8, None, None, 5, None)
    assert (call.provider_call_id, call.request_id) == ("msg_01abc", "6f9e9644-0000-4c3c-892f-b51372320d5e")
    assert (call.model_requested, call.region, call.region_scope) == ("anthropic.claude-3-haiku-20240307-v1:0", "us-east-1", "regional")
    assert (call.event_time, call.tags) == (JULY_29 + 1_000_000, {"principal": "user/jane"})


def test_bedrock_log_whose_bodies_were_put_into_s3(shared: Path) -> None:
    call = sample(shared, "bedrock_model_invocation_log_s3_offloaded.json")
    assert used(call) == (51_000, None, None, 2_100, None)
    assert (call.status, call.stream, call.flags) == ("ok", True, ("body_offloaded",))
    assert (call.model_requested, call.region, call.region_scope) == ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", "eu-west-1", "eu")
    assert call.content is None or not call.content.complete


def bedrock(**more: Any) -> dict[str, Any]:
    """As Bedrock writes it, with the type stripped, as some forwarders do."""
    record: dict[str, Any] = {
        "timestamp": "2026-07-29T10:00:00Z",
        "accountId": "123456789012",
        "region": "us-east-1",
        "requestId": "r1",
        "operation": "InvokeModel",
        "modelId": "amazon.titan-embed-text-v2:0",
        "input": {"inputBodyJson": {"inputText": "hi"}, "inputTokenCount": 2},
        "output": {"outputBodyJson": {"embedding": [0.5]}, "outputTokenCount": 0},
    }
    return record | more


def test_bedrock_counts_of_the_record_stand_where_the_body_tells_none() -> None:
    call = call_of(bedrock(input={"inputTokenCount": 9.0, "cacheReadInputTokenCount": "4", "cacheWriteInputTokenCount": 3}, output={"outputTokenCount": 2}))
    assert used(call) == (9, 4, 3, 2, None)
    assert call.provider_call_id == "r1"


def test_bedrock_body_that_contradicts_its_record_is_flagged() -> None:
    body = {"output": {"message": {"role": "assistant", "content": []}}, "stopReason": "end_turn", "usage": {"inputTokens": 5, "outputTokens": 7, "totalTokens": 12}}
    said = {"operation": "Converse", "modelId": "amazon.nova-lite-v1:0", "input": {"inputBodyJson": json.dumps({"messages": []}), "inputTokenCount": 5}}
    call = call_of(bedrock(**said, output={"outputBodyJson": json.dumps(body), "outputTokenCount": 7}))
    assert (used(call), call.usage_quality, call.flags) == ((5, None, None, 7, None), "ok", ())
    call = call_of(bedrock(**said, output={"outputBodyJson": body, "outputTokenCount": 8}))
    assert (used(call), call.usage_quality, call.flags) == ((5, None, None, 7, None), "inconsistent", ("log_mismatch",))


def test_bedrock_stream_that_a_guardrail_stopped_ends_with_a_string() -> None:
    chunks = [{"type": "message_start", "message": {"id": "msg_1", "model": "claude", "usage": {"input_tokens": 3, "output_tokens": 1}}}, "[DONE]"]
    said = {"operation": "InvokeModelWithResponseStream", "modelId": "anthropic.claude-3-haiku-20240307-v1:0"}
    call = call_of(bedrock(**said, input={"inputBodyJson": {"anthropic_version": "b", "messages": []}, "inputTokenCount": 3}, output={"outputBodyJson": chunks}))
    assert (call.provider_call_id, call.input_fresh) == ("msg_1", 3)


def test_bedrock_call_that_failed_or_was_routed_or_has_no_operation() -> None:
    call = call_of(bedrock(errorCode="ThrottlingException", status="429", output={}))
    assert (call.status, call.error_type, call.http_status, call.usage_source) == ("error", "ThrottlingException", 429, "none")
    call = call_of(bedrock(errorCode="ModelErrorException", output={}))
    assert (call.status, call.error_type, call.http_status) == ("error", "ModelErrorException", 0)
    call = call_of(bedrock(inferenceRegion="us-east-1", operation=None))
    assert (call.region, call.region_scope, call.api) == ("us-east-1", "regional", "bedrock.invoke")
    call = call_of(bedrock(region=7, identity={"arn": "arn:aws:iam::1:user/team/jane"}))
    assert (call.region, call.region_scope, call.tags) == ("", "", {"principal": "user/team/jane"})


@pytest.mark.parametrize(
    "more", [{"modelId": 7}, {"input": {"inputTokenCount": -1}}, {"input": {"inputTokenCount": 1.5}}, {"output": {"outputTokenCount": 10**13}}]
)
def test_bedrock_values_that_cannot_be(more: dict[str, Any]) -> None:
    (letter,) = decode_record(dump(bedrock(schemaType="ModelInvocationLog", **more)))
    assert isinstance(letter, Undecodable)
    assert (letter.reason, letter.format_guess) == ("bad_value", "bedrock_log")


# what the recorded trace says, added up by hand: input, then output
GUARDED = {
    "guardrail.contentPolicyUnits": "2", "guardrail.sensitiveInformationPolicyFreeUnits": "1", "guardrail.sensitiveInformationPolicyUnits": "2",
    "guardrail.topicPolicyUnits": "2", "guardrail.wordPolicyUnits": "2",
}  # fmt: skip


def test_units_of_a_guardrail_are_tags_of_the_call(shared: Path) -> None:
    pair = json.loads((shared / "formats" / "samples" / "bedrock_guardrail_converse.json").read_bytes())
    call = call_of(pair)
    assert (call.tags, call.flags, call.status) == (GUARDED, ("guardrail_units",), "blocked")
    body = pair["response"]["body"]
    said = {"operation": "Converse", "modelId": "amazon.titan-text-express-v1", "requestMetadata": {"team": "a"}}
    call = call_of(bedrock(**said, input={"inputTokenCount": 17}, output={"outputBodyJson": body, "outputTokenCount": 17}))
    assert (call.tags, call.team) == (GUARDED | {"team": "a"}, "a")
    stream = [{"messageStart": {"role": "assistant"}}, {"metadata": {"usage": body["usage"], "trace": body["trace"]}}]
    assert call_of({**pair, "response": {"stream": stream}}).tags == GUARDED
    alone = call_of(body)
    assert (alone.provider, alone.tags) == ("bedrock", GUARDED)


def test_units_of_a_guardrail_around_another_vendors_body() -> None:
    usage = {"topicPolicyUnits": 3, "wordPolicyUnits": 0, "contentPolicyUnits": -1, "contentPolicyImageUnits": "x", "automatedReasoningPolicies": 7}
    trace = {"guardrail": {"input": {"g": {"invocationMetrics": {"usage": usage}}}, "outputs": [{"g": {"invocationMetrics": {"usage": {"topicPolicyUnits": 1}}}}]}}
    answer = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": {"input_tokens": 0, "output_tokens": 0}, "amazon-bedrock-trace": trace}
    said = {"modelId": "anthropic.claude-3-haiku-20240307-v1:0", "input": {"inputBodyJson": {"anthropic_version": "b", "messages": []}, "inputTokenCount": 0}}
    call = call_of(bedrock(**said, output={"outputBodyJson": {**answer, "amazon-bedrock-guardrailAction": "INTERVENED"}}))
    assert (call.tags, call.flags, used(call)[0]) == ({"guardrail.topicPolicyUnits": "4"}, ("guardrail_units",), 0)
    for odd in (None, [], "x", {"guardrail": [[[[[[[[usage]]]]]]]]}, {"guardrail": {"input": {"g": {"invocationMetrics": []}}}}):
        call = call_of(bedrock(**said, output={"outputBodyJson": {**answer, "amazon-bedrock-trace": odd}}))
        assert (call.tags, call.flags) == (None, ())


# -- Vertex --------------------------------------------------------------------------------------------------------


def test_vertex_row(shared: Path) -> None:
    call = sample(shared, "vertex_request_response_bigquery_row.json")
    assert (call.format, call.provider, call.api, call.status) == ("vertex_log", "vertex", "gemini.generate", "ok")
    assert used(call) == (3, None, None, 29, 901)
    assert (call.vendor_total, call.usage_quality, call.service_tier) == (933, "ok", "standard")
    assert (call.model_requested, call.model, call.provider_call_id) == ("gemini-2.5-pro", "gemini-2.5-pro", "y0S_example")
    assert (call.project, call.region, call.region_scope) == ("acme-prod", "us-central1", "regional")
    # written at 21:04:22.248, after 11.225994 s
    assert (call.event_time, call.time_quality, call.duration_ms) == (1_788_901_451_022_006, "exact", 11225.994)
    assert (call.request_id, call.max_tokens, call.stop_reason) == ("5374205265901353984", 8192, "STOP")


def row(**more: Any) -> dict[str, Any]:
    return {"logging_time": "2026-09-08T21:04:22Z", "request_id": 7, "model": "gemini-2.5-flash", "api_method": "StreamGenerateContent"} | more


def test_vertex_bodies_as_strings_and_of_a_stream() -> None:
    chunks = [{"candidates": []}, {"model_version": "gemini-2.5-flash", "usage_metadata": {"prompt_token_count": "6", "candidates_token_count": "2", "total_token_count": "8"}}]
    call = call_of(row(full_request=json.dumps({"contents": [], "labels": {"team": "search"}}), full_response=json.dumps(chunks), metadata='{"request_latency": 1000}'))
    assert (used(call), call.stream, call.team) == ((6, None, None, 2, None), True, "search")
    assert (call.model_requested, call.duration_ms) == ("gemini-2.5-flash", 1000.0)


def test_vertex_row_of_claude_and_of_a_deployed_model() -> None:
    answer = {"type": "message", "id": "msg_1", "model": "claude-sonnet-4-5", "content": [], "usage": {"input_tokens": 4, "output_tokens": 2}}
    asked = {"anthropic_version": "vertex-2023-10-16", "messages": []}
    call = call_of(row(model="publishers/anthropic/models/claude-sonnet-4-5@20250929", api_method="RawPredict", full_request=asked, full_response=answer))
    assert (call.provider, call.api, call.input_fresh, call.model_requested) == ("vertex", "anthropic.messages", 4, "claude-sonnet-4-5@20250929")
    body = {"object": "chat.completion", "model": "llama", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    deployed = row(model="", api_method="", endpoint="projects/p/locations/europe-west4/endpoints/9", request_payload=['{"messages": []}'], response_payload=[json.dumps(body)])
    call = call_of({**deployed, "api_method": "RawPredict", "model": "projects/p/locations/europe-west4/models/1"})
    assert (call.api, call.input_fresh, call.region, call.project) == ("openai.chat", 3, "europe-west4", "p")


# -- Azure ---------------------------------------------------------------------------------------------------------


def test_gateway_log_is_one_call_though_both_sides_are_in_it(shared: Path) -> None:
    call = sample(shared, "azure_apim_gateway_logs_eventhub.json")
    assert (call.format, call.provider, call.api, call.status, call.http_status) == ("azure_gateway", "azure", "openai.chat", "ok", 200)
    assert (used(call), call.vendor_total) == ((14, None, None, 8, None), 22)
    assert (call.model, call.deployment, call.endpoint_host) == ("gpt-4o-mini-2024-07-18", "gpt-chat-pilot", "aoai-01.openai.azure.com")
    assert (call.event_time, call.time_quality, call.duration_ms) == (1_782_973_891_446_590, "exact", 176.0)
    assert (call.request_id, call.provider_call_id) == ("99789635-0000-480f-8182-a3a3c477a6a4", "chatcmpl-9gRLexample")
    assert (call.tags or {})["api"] == "azure-openai-service-api"


ANSWER = {"id": "c1", "object": "chat.completion", "model": "gpt-4o-mini-2024-07-18", "choices": [], "usage": {"prompt_tokens": 14, "completion_tokens": 8}}
BACKEND = "https://a.openai.azure.com/openai/deployments/pilot/chat/completions?api-key=secret-in-url"


def gateway(**properties: Any) -> dict[str, Any]:
    return {"category": "GatewayLogs", "time": "2026-07-02T06:31:31Z", "correlationId": "k", "properties": properties}


def test_gateway_log_whose_backend_body_was_cut_takes_the_clients() -> None:
    whole = json.dumps(ANSWER)
    call = call_of(gateway(backendUrl=BACKEND, backendResponseBody=whole[:40], responseBody=whole, requestBody="{}", responseCode=200))
    assert (call.input_fresh, "response_cut" in call.flags) == (14, False)
    assert "secret-in-url" not in repr(call)
    stream = "data: " + json.dumps({"id": "c2", "object": "chat.completion.chunk", "model": "m", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1}}) + "\n\ndata: [DONE]\n\n"
    call = call_of(gateway(backendUrl=BACKEND, backendResponseBody=stream, responseBody=stream[:30], requestBody='{"stream": true}'))
    assert (call.input_fresh, call.provider_call_id) == (5, "c2")


def test_gateway_log_as_properties_in_a_string_and_of_the_tables_names() -> None:
    said = {"backendUrl": BACKEND, "backendRequestBody": "{}", "backendResponseBody": json.dumps(ANSWER), "backendResponseCode": 200, "apimSubscriptionId": "sub-1", "cache": "hit"}
    call = call_of({**gateway(), "properties": json.dumps(said)})
    assert (call.input_fresh, call.api_key_alias, call.gateway_cache_hit) == (14, "sub-1", True)
    table = {key[:1].upper() + key[1:]: value for key, value in said.items()}
    call = call_of({"Category": "GatewayLogs", "OperationName": "o", "TimeGenerated": "2026-07-02T06:31:31Z", **table})
    assert (call.input_fresh, call.event_time) == (14, 1_782_973_891_000_000)


def test_gateway_log_of_a_call_that_the_gateway_refused() -> None:
    url = "https://apim.azure-api.net/deployments/pilot/chat/completions"
    body = json.dumps({"error": {"code": "TooManyRequests", "message": "wait"}})
    call = call_of(gateway(url=url, requestBody='{"messages": []}', responseBody=body, responseCode=429))
    assert (call.provider, call.status, call.error_type, call.http_status, call.usage_source) == ("azure", "error", "TooManyRequests", 429, "none")


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"url": BACKEND, "responseCode": 200}, "no_tokens"),
        ({"url": "https://apim.azure-api.net/orders/7", "responseCode": 200}, "plain_log"),
        ({"url": "https://apim.azure-api.net/orders/7", "requestBody": "{}", "responseBody": '{"order": 7}', "responseCode": 200}, "plain_log"),
    ],
)
def test_requests_to_other_apis_and_those_without_bodies_are_ignored(properties: dict[str, Any], reason: str) -> None:
    (skipped,) = decode_record(dump(gateway(**properties)))
    assert isinstance(skipped, Skipped)
    assert skipped.reason == reason


def test_diagnostics_of_azure_openai_tell_no_tokens(shared: Path) -> None:
    (skipped,) = decode_record((shared / "formats" / "samples" / "azure_openai_diagnostic_eventhub.json").read_bytes())
    assert isinstance(skipped, Skipped)
    assert skipped.reason == "no_tokens"
    (letter,) = decode_record(dump({"category": "GatewayLogs", "properties": "{cut"}))
    assert isinstance(letter, Undecodable)
    assert letter.reason == "bad_value"


def test_what_a_policy_logs_to_an_event_hub() -> None:
    record = {"requestBody": {"model": "gpt-4o-mini", "messages": []}, "responseBody": ANSWER, "statusCode": 200, "team": "search", "time": "2026-07-02T06:31:31Z", "tags": {"release": "42"}}
    call = call_of(record)
    assert (call.input_fresh, call.team, call.tags, call.http_status) == (14, "search", {"release": "42"}, 200)
    (letter,) = decode_record(dump({"requestBody": {}, "responseBody": {"order": 7}}))
    assert isinstance(letter, Undecodable)
    assert letter.reason == "unsupported_body"


# -- LLM logs: records that tell of one call together --------------------------------------------------------------


def parts(data: bytes) -> list[Part]:
    found = [outcome for line in data.splitlines() for outcome in decode_record(line)]
    assert all(isinstance(each, Part) for each in found), found
    return [each for each in found if isinstance(each, Part)]


def test_llm_log_carries_its_usage_in_one_of_its_records(shared: Path) -> None:
    usage, first, second = parts((shared / "formats" / "samples" / "azure_apim_gateway_llm_logs_eventhub.jsonl").read_bytes())
    assert [part.key for part in (usage, first, second)] == ["apim:99789635", "apim:99789635:messages", "apim:99789635:messages"]
    assert [(part.role, part.number, part.of) for part in (first, second)] == [("1", 1, 100_000), ("2", 2, 100_000)]  # nobody tells how many
    assert (usage.role, usage.needs) == ("usage", ("usage",))
    call = usage.call
    assert call is not None
    assert (used(call), call.vendor_total, call.usage_source) == ((14, None, None, 8, None), 22, "gateway")
    assert (call.provider, call.deployment, call.model, call.stream) == ("azure", "gpt-chat-pilot", "gpt-4o-mini", True)
    assert (call.provider_call_id, call.request_id, call.event_time) == ("chatcmpl-1", "99789635", 1_782_973_891_446_590)
    assert (call.content, call.status, call.format) == (None, "ok", "azure_gateway")
    (whole,) = parts(dump({"pieces": [json.loads(piece.data) for piece in (first, second)]}))
    assert (whole.key, whole.needs, whole.rank) == ("apim:99789635", ("usage",), 0)
    assert whole.call is not None
    assert whole.call.content is not None
    assert [(m.role, m.parts[0].text) for m in whole.call.content.prompt] == [("user", "capital of tamilnadu?")]
    assert not whole.call.content.output
    (half,) = parts(dump({"pieces": [json.loads(first.data)]}))
    assert (half.key, half.call, half.rank) == ("apim:99789635", None, -1)  # until the rest is there it tells nothing


def test_llm_log_that_holds_its_messages_whole() -> None:
    said = {"promptTokens": 3, "completionTokens": 1, "modelName": "gpt-4o", "sequenceNumber": 0, "requestMessages": '[{"role": "user", "content": "Hi"}]'}
    record = {"category": "GatewayLlmLogs", "correlationId": "k", "properties": {**said, "responseMessages": '[{"role": "assistant", "content": "Yo"}]'}}
    (part,) = parts(dump(record))
    assert part.call is not None
    content = part.call.content
    assert content is not None
    assert ([m.parts[0].text for m in content.prompt], [m.parts[0].text for m in content.output], content.complete) == (["Hi"], ["Yo"], True)
    (part,) = parts(dump({**record, "properties": said}))
    assert part.call is not None
    assert part.call.content is not None
    assert not part.call.content.complete
    (letter,) = decode_record(dump({"category": "GatewayLlmLogs", "properties": {"sequenceNumber": 1}}))
    assert isinstance(letter, Undecodable)
    assert letter.reason == "bad_value"


def test_llm_log_whose_messages_come_whole_in_records_of_their_own() -> None:
    """As Azure writes what is shorter than 32 KiB: 1 is the prompt, 2 the answer. They are not kept as pieces."""
    around = {"category": "GatewayLlmLogs", "correlationId": "k"}
    asked = '[{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}]'
    (prompt,) = parts(dump({**around, "properties": {"sequenceNumber": 1, "requestMessages": asked}}))
    (answer,) = parts(dump({**around, "properties": {"sequenceNumber": 2, "responseMessages": '[{"role": "assistant", "content": "Yo"}]'}}))
    for part in (prompt, answer):
        assert (part.key, part.needs, part.data, part.rank) == ("apim:k", ("usage",), b"", 0)
        assert part.call is not None
        assert part.call.content is not None
        assert (part.call.model, part.call.usage_source, part.call.status) == ("", "none", "ok")
    assert prompt.call is not None
    assert prompt.call.content is not None
    assert [m.role for m in prompt.call.content.prompt] == ["system", "user"]
    assert answer.call is not None
    assert answer.call.content is not None
    assert [m.parts[0].text for m in answer.call.content.output] == ["Yo"]


def test_llm_log_of_which_the_answer_is_whole_and_the_prompt_lacks_its_end() -> None:
    around = {"apimMessages": "k"}
    pieces = [{**around, "requestMessages": '[{"role": "us'}, {**around, "responseMessages": '[{"content": "a '}, {**around, "responseMessages": 'b"}]'}]
    (part,) = parts(dump({"pieces": pieces}))
    assert part.call is not None
    assert part.call.content is not None
    assert (part.rank, part.call.content.prompt, part.call.content.output[0].parts[0].text) == (-1, [], "a b")
    for odd in ([], [None], [{}], "x", [{"apimMessages": None}], [{"apimMessages": "k"}]):
        for outcome in decode_record(dump({"pieces": odd})):
            assert not isinstance(outcome, Undecodable) or outcome.reason in ("unknown_format", "bad_value")
