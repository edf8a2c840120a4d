"""Telemetry: OTLP as JSON and protobuf, and the same conventions in Cloud Logging. Figures were written down by hand."""

from __future__ import annotations

import base64
import copy
import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from schemas.batch import RawBatch
from schemas.call import LEAVES, Call, Message, Part
from schemas.part import Part as CallPart
from schemas.reasons import DEAD_LETTER_REASONS, IGNORED_REASONS
from transforms.decode import DecodeSettings, Skipped, Undecodable, decode_batch, decode_record

Json = dict[str, Any]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
START = 1_785_238_220_123_456_789


def attributes(values: Json) -> list[Json]:
    return [{"key": key, "value": any_value(value)} for key, value in values.items()]


def any_value(value: Any) -> Json:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [any_value(each) for each in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": attributes(value)}}
    return {"stringValue": value}


def span(values: Json, number: int = 1, parent: int = 0, **more: Any) -> Json:
    return {
        "traceId": TRACE,
        "spanId": f"{number:016x}",
        "parentSpanId": f"{parent:016x}" if parent else "",
        "name": "s",
        "startTimeUnixNano": str(START),
        "endTimeUnixNano": str(START + 1_500_000_000),
        "attributes": attributes(values),
        **more,
    }


def traces(*spans: Any, scope: str = "test", resource: Json | None = None) -> Json:
    scoped = [{"scope": {"name": scope}, "spans": list(spans)}]
    return {"resourceSpans": [{"resource": {"attributes": attributes(resource or {})}, "scopeSpans": scoped}]}


def logs(values: Json, event: str = "gen_ai.client.inference.operation.details", **more: Any) -> Json:
    record = {"timeUnixNano": str(START), "eventName": event, "traceId": TRACE, "spanId": f"{1:016x}", **more}
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": [{**record, "attributes": attributes(values)}]}]}]}


CHAT: Json = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 10,
    "gen_ai.usage.output_tokens": 5,
}


def outcomes(record: Json | bytes) -> list[Any]:
    return list(decode_record(record if isinstance(record, bytes) else orjson.dumps(record)))


def one(values: Json, scope: str = "test", **more: Any) -> Call:
    (call,) = outcomes(traces(span(values, **more), scope=scope))
    assert isinstance(call, Call), call
    return call


def leaves(call: Call) -> Json:
    return {leaf: getattr(call, leaf) for leaf in LEAVES if getattr(call, leaf) is not None}


def reasons(record: Json | bytes) -> list[str]:
    return [
        "call" if isinstance(each, Call) else "part" if isinstance(each, CallPart) else each.reason for each in outcomes(record)
    ]


def shown(found: Sequence[Any]) -> list[Any]:
    """Outcomes in a form in which equal ones are equal."""
    plain = []
    for each in found:
        part = (each.key, each.role, each.rank) if isinstance(each, CallPart) else ()
        call = each.call if isinstance(each, CallPart) else each
        told = vars(call) if isinstance(call, Call) else (each.reason, getattr(each, "error", ""))
        plain.append((type(each).__name__, part, told))
    return plain


# ---- the samples


@pytest.mark.parametrize("name", ["otlp_json_traces_genai.json", "otlp_proto_traces_genai.binpb"])
def test_a_trace_of_the_current_conventions(shared: Path, name: str) -> None:
    call, agent, tool = outcomes((shared / "formats" / "samples" / name).read_bytes())
    assert (agent.reason, tool.reason) == ("roll_up", "not_a_model_call")
    assert isinstance(call, Call)
    assert (call.format, call.provider, call.operation) == ("otlp", "openai", "chat")
    assert (call.model_requested, call.model, call.endpoint_host) == ("gpt-4", "gpt-4-0613", "api.openai.com")
    assert leaves(call) == {"input_fresh": 32, "input_cache_read": 20, "output_visible": 35, "output_reasoning": 12}
    assert (call.vendor_input, call.vendor_output, call.usage_source, call.usage_quality) == (52, 47, "vendor", "ok")
    assert (call.event_time, call.end_time, call.duration_ms) == (1785238220_123456, 1785238221_323456, 1200.0)
    assert (call.time_quality, call.ttft_ms, call.stream, call.max_tokens) == ("exact", 420.0, True, 200)
    assert (call.trace_id, call.span_id, call.parent_span_id) == (TRACE, "00f067aa0ba902b7", "53995c3f42cd8ad8")
    assert (call.provider_call_id, call.session_id) == (
        "chatcmpl-9J3uIL87gldCFtiIbyaOvTeYBRA3l", "conv_5j66UpCpwteGg4YSxUnt7lPY")  # fmt: skip
    assert (call.app, call.team, call.environment, call.stop_reason) == ("checkout", "payments", "prod", "stop")
    assert call.tags == {"team": "payments", "service": "checkout"}
    assert call.content is not None
    assert call.content.complete
    assert call.content.prompt == [
        Message("system", (Part("text", "You are a helpful bot"),)),
        Message("user", (Part("text", "Tell me a joke about OpenTelemetry"),)),
    ]
    joke = " Why did the developer bring OpenTelemetry to the party? Because it always knows how to trace the fun!"
    assert call.content.output == [Message("assistant", (Part("reasoning", "short answer"), Part("text", joke)))]


@pytest.mark.parametrize("name", ["otlp_json_logs_genai.json", "otlp_proto_logs_genai.binpb"])
def test_log_records_of_the_same_call(shared: Path, name: str) -> None:
    call, score = outcomes((shared / "formats" / "samples" / name).read_bytes())
    assert score.reason == "not_a_model_call"
    assert isinstance(call, Call)
    assert leaves(call) == {"input_fresh": 32, "input_cache_read": 20, "output_visible": 47}
    assert (call.event_time, call.end_time, call.time_quality) == (1785238221_323456, 1785238221_323456, "second")
    assert (call.trace_id, call.span_id, call.model, call.team) == (TRACE, "00f067aa0ba902b7", "gpt-4-0613", "payments")
    assert call.content is not None
    assert [message.role for message in call.content.prompt] == ["system", "user"]
    assert orjson.loads(call.content.tools_json) == [{"type": "function", "name": "get_weather"}]
    assert not call.content.complete  # the tool's schema, which the model read, is not there


def test_a_trace_of_openllmetry(shared: Path) -> None:
    (call,) = outcomes((shared / "formats" / "samples" / "otlp_json_traces_openllmetry_legacy.json").read_bytes())
    assert isinstance(call, Call)
    assert (call.provider, call.model_requested, call.model) == ("openai", "gpt-4o-mini", "gpt-4o-mini-2024-07-18")
    assert leaves(call) == {"input_fresh": 125, "input_cache_read": 1024, "output_visible": 353}
    assert (call.vendor_total, call.usage_quality, call.duration_ms, call.stream) == (1502, "ok", 2000.0, False)
    assert (call.app, call.end_user, call.step, call.stop_reason) == ("my-rag", "u1", "answer", "stop")
    assert call.tags == {"workflow": "rag", "service": "my-rag"}  # the user is a column, hashed later, and no tag
    assert call.content is not None
    assert call.content.prompt == [Message("user", (Part("text", "hi"),))]
    assert call.content.output == [Message("assistant", (Part("text", "hello"),))]


def test_an_entry_of_cloud_logging(shared: Path) -> None:
    (call,) = outcomes((shared / "formats" / "samples" / "gcp_otel_genai_log_entry.json").read_bytes())
    assert isinstance(call, Call)
    assert (call.format, call.provider, call.model, call.project) == ("otel_log_entry", "vertex", "gemini-2.5-flash", "acme-prod")
    assert leaves(call) == {"input_fresh": 120, "output_visible": 64}
    assert (call.event_time, call.trace_id, call.span_id) == (1785239420_123456, TRACE, "00f067aa0ba902b7")
    assert (call.app, call.stop_reason, call.content) == ("agent", "stop", None)


# ---- what is a call


def test_usage_of_a_trace_is_that_of_its_leaves() -> None:
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 20, "gen_ai.usage.output_tokens": 10}
    record = traces(span(agent, 1), span(CHAT, 2, 1), span(CHAT, 3, 1), span({"http.request.method": "GET"}, 4, 2))
    assert reasons(record) == ["roll_up", "call", "call", "not_a_model_call"]
    assert sum(call.input_fresh for call in outcomes(record) if isinstance(call, Call)) == 20
    result = decode_batch(RawBatch("files", b"s" * 16, b"o" * 16, 5, [orjson.dumps(record)], [70], [], 9), DecodeSettings())
    assert [(call.position, call.item) for call in result.calls] == [(70, 1), (70, 2)]
    assert [(each.item, each.reason) for each in result.ignored] == [(0, "roll_up"), (3, "not_a_model_call")]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"openinference.span.kind": "LLM", "llm.model_name": "m", "llm.token_count.prompt": 1}, "call"),
        ({"openinference.span.kind": "CHAIN", "llm.token_count.prompt": 1}, "roll_up"),
        ({"openinference.span.kind": "AGENT"}, "roll_up"),
        ({"openinference.span.kind": "TOOL"}, "not_a_model_call"),
        ({"openinference.span.kind": "RETRIEVER"}, "not_a_model_call"),
        ({"traceloop.span.kind": "workflow", "gen_ai.usage.input_tokens": 1}, "roll_up"),
        ({"llm.request.type": "completion", "gen_ai.usage.prompt_tokens": 1}, "call"),
        ({"ai.operationId": "ai.generateText", "ai.usage.promptTokens": 1}, "roll_up"),
        ({"ai.operationId": "ai.generateText.doGenerate", "gen_ai.usage.input_tokens": 1}, "call"),
        ({"ai.operationId": "ai.toolCall"}, "not_a_model_call"),
        ({"langfuse.observation.type": "generation", "gen_ai.usage.input_tokens": 1}, "call"),
        ({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "t"}, "not_a_model_call"),
        ({"gen_ai.operation.name": "create_agent", "gen_ai.request.model": "m"}, "not_a_model_call"),
        ({"gen_ai.operation.name": "its own", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 1}, "call"),
        ({"gen_ai.agent.name": "a", "gen_ai.usage.input_tokens": 1}, "roll_up"),
        ({"db.system": "postgresql"}, "not_a_model_call"),
        ({}, "not_a_model_call"),
    ],
)
def test_kinds_of_spans(values: Json, kind: str) -> None:
    assert reasons(traces(span(values))) == [kind]


def test_a_wrapper_of_a_call_carries_no_money_whatever_lies_between() -> None:
    between = {"http.request.method": "POST"}
    assert reasons(traces(span(CHAT, 1), span(between, 2, 1), span(CHAT, 3, 2))) == ["roll_up", "not_a_model_call", "call"]
    tool = {"gen_ai.operation.name": "execute_tool"}  # what a tool calls is on top of the call that asked for it
    assert reasons(traces(span(CHAT, 1), span(tool, 2, 1), span(CHAT, 3, 2))) == ["call", "not_a_model_call", "call"]
    embedding = {**CHAT, "gen_ai.operation.name": "embeddings"}
    assert reasons(traces(span(CHAT, 1), span(embedding, 2, 1))) == ["call", "call"]
    failed = {key: value for key, value in CHAT.items() if "usage" not in key} | {"error.type": "timeout"}
    assert reasons(traces(span(CHAT, 1), span(failed, 2, 1))) == ["call", "call"]  # the one below tells no usage
    assert reasons(traces(span(CHAT, 1, 2), span(CHAT, 2, 1))) == ["roll_up", "roll_up"]  # a circle: nobody's data


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[Json], int]:
    """Spans of a trace in any order, and the tokens of the model calls among them that are not made of others."""
    spans, total, number = [], 0, 0

    def grow(parent: int, depth: int) -> int:
        nonlocal number, total
        number += 1
        mine = number
        children = draw(st.integers(0, 3)) if depth < 3 else 0
        below = sum(grow(mine, depth + 1) for _ in range(children))
        tokens = below or draw(st.integers(1, 1000))
        operation = draw(st.sampled_from(["invoke_agent", "invoke_workflow", "chat"])) if below else "chat"
        total += 0 if below else tokens
        spans.append(span({**CHAT, "gen_ai.operation.name": operation, "gen_ai.usage.input_tokens": tokens}, mine, parent))
        return tokens

    grow(0, 0)
    return draw(st.permutations(spans)), total


@given(trees())
@settings(max_examples=60)
def test_roll_ups_never_carry_money(tree: tuple[list[Json], int]) -> None:
    spans, total = tree
    found = outcomes(traces(*spans))
    assert len(found) == len(spans)
    assert sum(call.input_fresh for call in found if isinstance(call, Call)) == total


# ---- usage


def test_the_same_tokens_in_every_generation() -> None:
    expected = {
        "input_fresh": 30,
        "input_cache_read": 50,
        "input_cache_write_other": 20,
        "output_visible": 33,
        "output_reasoning": 7,
    }
    base = {"gen_ai.request.model": "m"}
    for names in (
        ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cache_read.input_tokens",
         "gen_ai.usage.cache_write.input_tokens", "gen_ai.usage.reasoning.output_tokens"),
        ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens", "gen_ai.usage.cache_read.input_tokens",
         "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.reasoning_tokens"),
        ("gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens", "gen_ai.usage.cache_read_input_tokens",
         "gen_ai.usage.cache_creation_input_tokens", "llm.usage.reasoning_tokens"),
        ("llm.usage.prompt_tokens", "llm.usage.completion_tokens", "llm.usage.cache_read_input_tokens",
         "llm.usage.cache_creation_input_tokens", "llm.usage.reasoning_tokens"),
        ("llm.token_count.prompt", "llm.token_count.completion", "llm.token_count.prompt_details.cache_read",
         "llm.token_count.prompt_details.cache_write", "llm.token_count.completion_details.reasoning"),
    ):  # fmt: skip
        call = one({**base, **dict(zip(names, (100, 40, 50, 20, 7), strict=True))})
        assert leaves(call) == expected, names
        assert (call.vendor_input, call.vendor_output, call.usage_quality, call.flags) == (100, 40, "ok", ())


BESIDE: Json = {
    "gen_ai.system": "AWS",
    "gen_ai.request.model": "anthropic.claude-sonnet-4",
    "gen_ai.usage.prompt_tokens": 100,
    "gen_ai.usage.completion_tokens": 40,
    "gen_ai.usage.cache_read_input_tokens": 50,
    "gen_ai.usage.cache_creation_input_tokens": 20,
}


@pytest.mark.parametrize("total", [None, 140, 210])
def test_an_instrumentation_that_leaves_the_cache_out(total: int | None) -> None:
    call = one(
        {**BESIDE, **({} if total is None else {"llm.usage.total_tokens": total})}, scope="opentelemetry.instrumentation.bedrock"
    )
    assert leaves(call) == {"input_fresh": 100, "input_cache_read": 50, "input_cache_write_other": 20, "output_visible": 40}
    assert (call.provider, call.vendor_input, call.vendor_total, call.usage_quality) == ("bedrock", 100, total, "ok")


def test_figures_that_can_mean_nothing_else() -> None:
    beside = {**BESIDE, "gen_ai.usage.prompt_tokens": 60}  # less than what was cached
    assert leaves(one(beside))["input_fresh"] == 60
    assert one(beside).flags == ("input_excludes_cache",)
    summed = one({**BESIDE, "gen_ai.system": "openai", "llm.usage.total_tokens": 210})  # the total holds the cache on top
    assert (summed.input_fresh, summed.usage_quality, summed.flags) == (100, "ok", ("input_excludes_cache",))
    inside = one({**BESIDE, "gen_ai.system": "openai", "llm.usage.total_tokens": 140})
    assert (inside.input_fresh, inside.flags) == (30, ())


def test_an_instrumentation_that_leaves_reasoning_out() -> None:
    values = {"gen_ai.system": "Google", "gen_ai.request.model": "gemini-2.5-pro", "gen_ai.usage.prompt_tokens": 10,
              "gen_ai.usage.completion_tokens": 5, "gen_ai.usage.reasoning_tokens": 90}  # fmt: skip
    call = one(values, scope="opentelemetry.instrumentation.google_generativeai")
    assert leaves(call) == {"input_fresh": 10, "output_visible": 5, "output_reasoning": 90}
    assert (call.provider, call.vendor_output, call.usage_quality) == ("gemini", 5, "ok")
    del values["gen_ai.usage.reasoning_tokens"]
    hidden = one({**values, "llm.usage.total_tokens": 105}, scope="opentelemetry.instrumentation.google_generativeai")
    assert (hidden.output_visible, hidden.output_reasoning, hidden.flags) == (5, 90, ("hidden_reasoning",))


def test_contradictions_are_flagged_and_impossible_counts_refused() -> None:
    call = one({**CHAT, "gen_ai.usage.cache_read.input_tokens": 11})
    assert (call.input_fresh, call.input_cache_read, call.usage_quality) == (0, 11, "inconsistent")
    for bad in (-1, 2.5, "many", True):
        found = outcomes(traces(span(CHAT, 1), span({**CHAT, "gen_ai.usage.input_tokens": bad}, 2), span(CHAT, 3)))
        assert [type(each).__name__ for each in found] == ["Call", "Undecodable", "Call"]
        assert (found[1].reason, found[1].format_guess) == ("bad_value", "otlp")
        assert "gen_ai.usage.input_tokens" in found[1].error


def test_media_in_and_out() -> None:
    call = one({**CHAT, "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 60, "gen_ai.usage.audio.input_tokens": 40,
                "gen_ai.usage.audio.cache_read.input_tokens": 10, "gen_ai.usage.cache_read.input_tokens": 15,
                "gen_ai.usage.image.output_tokens": 50})  # fmt: skip
    assert leaves(call) == {
        "input_fresh": 55, "input_cache_read": 15, "input_audio": 30, "output_visible": 10, "output_image": 50}  # fmt: skip


def test_an_embedding() -> None:
    call = one({"gen_ai.operation.name": "embeddings", "gen_ai.system": "az.ai.openai", "gen_ai.request.model": "text-embedding-3-small",
                "gen_ai.usage.input_tokens": 9})  # fmt: skip
    assert (call.operation, call.provider, call.status, leaves(call)) == (
        "embedding", "azure", "ok", {"input_fresh": 9, "output_visible": 0})  # fmt: skip


# ---- the rest of a call


def test_errors() -> None:
    asked = {key: value for key, value in CHAT.items() if "usage" not in key}
    call = one({**asked, "error.type": "429"}, status={"code": 2})
    assert (call.status, call.error_type, call.http_status, call.usage_source) == ("error", "429", 429, "none")
    event = {"name": "exception", "attributes": attributes({"exception.type": "openai.APITimeoutError"})}
    call = one(asked, status={"code": "STATUS_CODE_ERROR"}, events=[event])
    assert (call.status, call.error_type) == ("error", "openai.APITimeoutError")
    assert one({**CHAT, "gen_ai.response.finish_reasons": ["content_filter"]}).status == "blocked"


@pytest.mark.parametrize(
    ("values", "provider"),
    [
        ({"gen_ai.system": "openai", "server.address": "acme.openai.azure.com"}, "azure"),
        ({"gen_ai.system": "openai", "server.address": "api.groq.com", "server.port": 443}, "groq"),
        ({"gen_ai.system": "openai", "server.address": "llm.intern.example", "server.port": 8443}, "openai"),
        ({"gen_ai.system": "anthropic", "server.address": "api.anthropic.com"}, "anthropic"),
        ({"gen_ai.provider.name": "gcp.vertex_ai"}, "vertex"),
        ({"gen_ai.provider.name": "aws.bedrock", "server.address": "bedrock-runtime.eu-west-1.amazonaws.com"}, "bedrock"),
        ({"gen_ai.system": "Langchain"}, "openai"),
        ({"ai.model.provider": "anthropic.messages"}, "anthropic"),
        ({"llm.provider": "mistralai"}, "mistral"),
        ({}, "openai"),
    ],
)
def test_who_answered(values: Json, provider: str) -> None:
    asked = {key: value for key, value in CHAT.items() if key != "gen_ai.provider.name"}
    assert one({**asked, **values}).provider == provider


def test_who_asked() -> None:
    values = {**CHAT, "user.id": "u7", "session.id": "s1", "gen_ai.agent.name": "Tutor", "feature": "answers",
              "metadata": '{"release": "42", "api_key": "sk-secretsecret"}', "tag.tags": ["beta"],
              "traceloop.association.properties.ticket": "T-1", "openai.response.service_tier": "priority"}  # fmt: skip
    resource = {"service.name": "desk", "service.namespace": "support", "deployment.environment": "prod", "feature": "other",
                "cloud.provider": "aws", "cloud.account.id": "123456789012", "host.name": "h"}  # fmt: skip
    (call,) = outcomes(traces(span(values), resource=resource))
    assert (call.end_user, call.session_id, call.agent, call.feature, call.app) == ("u7", "s1", "Tutor", "answers", "desk")
    assert (call.environment, call.service_tier, call.account) == ("prod", "priority", "")
    assert call.tags == {"feature": "answers", "release": "42", "beta": "true", "ticket": "T-1", "service": "desk",
                         "service.namespace": "support", "cloud.account.id": "123456789012"}  # fmt: skip
    (call,) = outcomes(traces(span({**values, "gen_ai.provider.name": "aws.bedrock"}), resource=resource))
    assert call.account == "123456789012"
    (call,) = outcomes(traces(span(CHAT), resource={"llm_finops.tenant": "acme"}))
    assert call.tenant == "acme"


def test_messages_of_openinference_and_of_events() -> None:
    values = {
        "openinference.span.kind": "LLM", "llm.model_name": "gpt-4o", "llm.token_count.prompt": 5, "llm.token_count.completion": 2,
        "llm.input_messages.0.message.role": "system", "llm.input_messages.0.message.content": "Be brief",
        "llm.input_messages.10.message.role": "user",
        "llm.input_messages.10.message.contents.0.message_content.type": "text",
        "llm.input_messages.10.message.contents.0.message_content.text": "last",
        "llm.input_messages.2.message.role": "user", "llm.input_messages.2.message.content": "__REDACTED__",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "f",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": "{}",
        "llm.tools.0.tool.json_schema": '{"type": "function", "function": {"name": "f"}}',
        "llm.invocation_parameters": '{"temperature": 0.5, "max_tokens": 7}',
    }  # fmt: skip
    call = one(values)
    assert call.content is not None
    assert call.content.prompt == [
        Message("system", (Part("text", "Be brief"),)), Message("user", ()), Message("user", (Part("text", "last"),))]  # fmt: skip
    assert call.content.output == [Message("assistant", (Part("call", "{}", "f"),))]
    assert orjson.loads(call.content.tools_json) == [{"type": "function", "function": {"name": "f"}}]
    assert (call.content.complete, call.max_tokens, call.params) == (False, 7, b'{"max_tokens":7,"temperature":0.5}')
    events = [
        {"name": "gen_ai.user.message", "attributes": attributes({"gen_ai.event.content": '{"content": "Hi"}'})},
        {
            "name": "gen_ai.choice",
            "attributes": attributes({"gen_ai.event.content": '{"index": 0, "message": {"content": "Ho"}}'}),
        },
    ]
    call = one(CHAT, events=events)
    assert call.content is not None
    assert call.content.prompt == [Message("user", (Part("text", "Hi"),))]
    assert call.content.output == [Message("assistant", (Part("text", "Ho"),))]


def test_parts_of_messages() -> None:
    said = [
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "1", "name": "f", "arguments": {"a": 1}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": "ok"}]},
        {
            "role": "user",
            "parts": [{"type": "blob", "modality": "image", "content": base64.b64encode(b"GIF89a\2\0\3\0").decode()}],
        },
    ]
    call = one(
        {
            **CHAT,
            "gen_ai.input.messages": orjson.dumps(said).decode(),
            "gen_ai.system_instructions": '[{"type":"text","content":"S"}]',
        }
    )
    assert call.content is not None
    system, asked, answered, shown_ = call.content.prompt
    assert system == Message("system", (Part("text", "S"),))
    assert asked == Message("assistant", (Part("call", '{"a":1}', "f"),))
    assert answered == Message("tool", (Part("result", "ok"),))
    assert shown_.parts[0].media is not None
    assert (shown_.parts[0].media.width, shown_.parts[0].media.height) == (2, 3)


def test_texts_that_were_cut_cost_no_money() -> None:
    call = one({**CHAT, "gen_ai.input.messages": '[{"role": "user", "parts": [{"type": "te', "gen_ai.output.messages": "[{"})
    assert (call.input_fresh, call.output_visible, call.flags) == (10, 5, ("request_cut", "response_cut"))
    assert call.content is not None
    assert not call.content.complete
    deep = "[" * 200 + "]" * 200
    assert one({**CHAT, "gen_ai.tool.definitions": deep, "gen_ai.input.messages": "[5, null]"}).input_fresh == 10


# ---- a call that several records tell of


def test_a_span_and_a_log_record_that_make_one_call_together() -> None:
    asked = {key: value for key, value in CHAT.items() if "usage" not in key}
    (bare,) = outcomes(traces(span(asked)))
    (texts,) = outcomes(
        logs({**asked, "gen_ai.output.messages": [{"role": "assistant", "parts": [{"type": "text", "content": "x"}]}]})
    )
    assert isinstance(bare, CallPart)
    assert isinstance(texts, CallPart)
    assert bare.key == texts.key == f"otel:{TRACE}:{1:016x}"
    assert (bare.role, texts.role, bare.needs, texts.needs) == ("span", "content", (), ())
    assert bare.rank > texts.rank  # the span knows when it began
    assert (bare.format, texts.format) == ("otlp", "otlp")
    assert bare.call is not None
    assert texts.call is not None
    assert (bare.call.model, bare.call.tenant, bare.call.event_time) == ("gpt-4o", "default", 1785238220_123456)
    assert texts.call.content is not None
    assert reasons(traces(span(CHAT))) == reasons(logs(CHAT)) == ["call"]  # either tells of all that is billed
    said = {**asked, "gen_ai.output.messages": '[{"role": "assistant", "parts": [{"type": "text", "content": "x"}]}]'}
    assert reasons(traces(span(said))) == ["call"]  # counted from its own texts
    (alone,) = outcomes(traces(span(asked, traceId="", spanId="")))
    assert (alone.status, alone.flags) == ("incomplete", ("no_answer",))


@pytest.mark.parametrize(
    ("event", "values", "reason"),
    [
        ("gen_ai.user.message", {"gen_ai.system": "openai"}, "message_event"),
        ("gen_ai.choice", {"gen_ai.system": "openai"}, "message_event"),
        ("gen_ai.evaluation.result", {"gen_ai.evaluation.name": "x"}, "not_a_model_call"),
        ("", {"log.iostream": "stdout"}, "plain_log"),
        ("gen_ai.client.inference.operation.details", {**CHAT, "gen_ai.operation.name": "invoke_agent"}, "roll_up"),
    ],
)
def test_log_records_that_are_no_calls(event: str, values: Json, reason: str) -> None:
    assert reasons(logs(values, event)) == [reason]


PAIR: Json = {
    "url": "https://api.openai.com/v1/chat/completions",
    "status": 200,
    "request": {"model": "gpt-4o"},
    "response": {"id": "c1", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}},
}


def test_what_an_application_logs_is_read_as_if_it_had_come_alone() -> None:
    (alone,) = outcomes(PAIR)
    for body in ({"stringValue": orjson.dumps(PAIR).decode()}, any_value(PAIR)):
        (call,) = outcomes(logs({"log.file.name": "calls.jsonl"}, event="", body=body))
        assert isinstance(call, Call)
        assert (call.format, call.provider_call_id, leaves(call)) == ("http_pair", "c1", leaves(alone))
        assert (call.event_time, call.transport_time) == (0, START // 1000)  # the time it was handed over, for a call without one
        assert (call.headers or {})["log.file.name"] == "calls.jsonl"
    request = ExportLogsServiceRequest()
    made = request.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=START)
    made.body.string_value = orjson.dumps(PAIR).decode()
    assert reasons(request.SerializeToString()) == ["call"]
    for line in ('{"msg": "started"}', "{broken", "plain", "[1]", ""):
        assert reasons(logs({}, event="", body={"stringValue": line})) == ["plain_log"]
    bad = {**PAIR, "response": {**PAIR["response"], "usage": {"prompt_tokens": -1}}}
    (letter,) = outcomes(logs({}, event="", body={"stringValue": orjson.dumps(bad).decode()}))
    assert (letter.reason, orjson.loads(letter.inside)) == ("bad_value", bad)
    nested: Json = PAIR
    for _ in range(7):
        nested = logs({}, event="", body={"stringValue": orjson.dumps(nested).decode()})
    assert reasons(nested) == ["plain_log"]  # deeper than anybody wraps


# ---- how it is written


def test_other_spellings() -> None:
    snake = {
        "resource_spans": [{"resource": {"attributes": {"service.name": "s"}}, "scope_spans": [{"scope": {"name": "x"}, "spans": [{
            "trace_id": base64.b64encode(bytes.fromhex(TRACE)).decode(), "span_id": base64.b64encode(bytes(7) + b"\1").decode(),
            "start_time_unix_nano": START, "end_time_unix_nano": START + 1_500_000_000,
            "attributes": [{"key": key, "value": {"string_value": str(value)}} for key, value in CHAT.items()]}]}]}]}  # fmt: skip
    (call,) = outcomes(snake)
    (usual,) = outcomes(traces(span(CHAT), resource={"service.name": "s"}, scope="x"))
    assert shown([call]) == shown([usual])
    assert one({**CHAT, "gen_ai.request.seed": -(2**63)}).params == b'{"seed":-9223372036854775808}'
    assert reasons({"resourceMetrics": []}) == ["not_a_model_call"]
    assert reasons({"resourceSpans": []}) == ["blank"]
    assert reasons({"resourceSpans": [5, {"scopeSpans": [None, {"spans": ["x"]}]}]}) == ["bad_value"] * 3


PLAIN = st.one_of(
    st.text(max_size=12), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.binary(max_size=4), st.none()
)
VALUES = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3), max_leaves=6
)
NAMES = [*CHAT, "gen_ai.usage.cache_read.input_tokens", "gen_ai.response.time_to_first_chunk", "gen_ai.request.temperature",
         "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.response.finish_reasons", "gen_ai.response.id", "error.type",
         "gen_ai.prompt.0.role", "gen_ai.prompt.0.content", "llm.invocation_parameters", "metadata", "user.id", "team", "x"]  # fmt: skip
USUAL = st.one_of(
    VALUES,
    st.integers(0, 10**6),
    st.sampled_from(
        ["chat", "embeddings", "invoke_agent", "gpt-4o", '[{"role": "user", "parts": [{"type": "text", "content": "é"}]}]']
    ),
)


def to_any(value: Any) -> AnyValue:
    made = AnyValue()
    if isinstance(value, bool):
        made.bool_value = value
    elif isinstance(value, int):
        made.int_value = value
    elif isinstance(value, float):
        made.double_value = value
    elif isinstance(value, str):
        made.string_value = value
    elif isinstance(value, bytes):
        made.bytes_value = value
    elif isinstance(value, list):
        made.array_value.values.extend(map(to_any, value))
        made.array_value.SetInParent()
    elif isinstance(value, dict):
        made.kvlist_value.values.extend(map(to_pair, value.items()))
        made.kvlist_value.SetInParent()
    return made


def to_pair(item: tuple[str, Any]) -> KeyValue:
    return KeyValue(key=item[0], value=to_any(item[1]))


TIMES = st.one_of(st.integers(START, START + 10**12), st.integers(0, 2**64 - 1), st.just(0))
ATTRIBUTES = st.dictionaries(st.sampled_from(NAMES), USUAL, max_size=10)
SPANS = st.tuples(
    st.binary(min_size=8, max_size=8),
    st.binary(max_size=8),
    TIMES,
    TIMES,
    st.booleans(),
    ATTRIBUTES,
    ATTRIBUTES,
    st.integers(0, 2),
)


@given(st.lists(SPANS, min_size=1, max_size=4), st.dictionaries(st.text(max_size=6), VALUES, max_size=3), st.booleans())
@settings(max_examples=200)
def test_protobuf_and_json_give_the_same(spans: list[Any], resource: Json, hexadecimal: bool) -> None:
    request = ExportTraceServiceRequest()
    scoped = request.resource_spans.add()
    scoped.resource.attributes.extend(map(to_pair, resource.items()))
    scope = scoped.scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.bedrock"
    for number, parent, start, end, base, some, event, code in spans:
        made = scope.spans.add(trace_id=bytes.fromhex(TRACE), span_id=number, parent_span_id=parent if len(parent) == 8 else b"")
        made.start_time_unix_nano, made.end_time_unix_nano, made.status.code = start, end, code
        made.attributes.extend(map(to_pair, {**(CHAT if base else {}), **some}.items()))
        made.events.add(name="gen_ai.user.message").attributes.extend(map(to_pair, event.items()))
    json = MessageToDict(request)
    if hexadecimal:  # as the specification of OTLP wants it, other than protobuf's own JSON
        for each in json["resourceSpans"][0]["scopeSpans"][0]["spans"]:
            for key in ("traceId", "spanId", "parentSpanId"):
                if key in each:
                    each[key] = base64.b64decode(each[key]).hex()
    found = outcomes(request.SerializeToString())
    assert shown(found) == shown(outcomes(json))
    assert len(found) == len(spans)
    assert "decoder_error" not in {getattr(each, "reason", "") for each in found}


@given(
    st.lists(
        st.tuples(TIMES, st.booleans(), ATTRIBUTES, st.sampled_from(["", "gen_ai.client.inference.operation.details"])),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=100)
def test_log_records_as_protobuf_and_as_json_give_the_same(records: list[Any]) -> None:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    for time, base, some, event in records:
        made = scope.log_records.add(
            observed_time_unix_nano=START, trace_id=bytes.fromhex(TRACE), span_id=bytes(8), event_name=event
        )
        made.time_unix_nano = time if START <= time < START + 10**13 else 0
        made.attributes.extend(map(to_pair, {**(CHAT if base else {}), **some}.items()))
        made.body.string_value = "said"
    assert shown(outcomes(request.SerializeToString())) == shown(outcomes(MessageToDict(request)))


def test_protobuf_in_other_things() -> None:
    request = ExportTraceServiceRequest()
    made = request.resource_spans.add().scope_spans.add().spans.add(trace_id=bytes(15) + b"1", span_id=bytes(7) + b"1")
    made.start_time_unix_nano = START
    made.attributes.extend(map(to_pair, CHAT.items()))
    data = request.SerializeToString()
    assert reasons(data) == ["call"]
    assert reasons(gzip.compress(data)) == ["call"]
    message = {"message": {"data": base64.b64encode(data).decode(), "messageId": "1", "attributes": {"x-team": "a"}}}
    assert reasons(message) == ["call"]


SECRETS: Json = {
    "http.request.header.authorization": ["Zm9vOmJhcg== hush-hush-1"],
    "app.db.password": "hush-hush-2",
    "x-api-key": "hush-hush-3",
    "url.full": "https://x.example/v1?key=hush-hush-4",
    "gen_ai.usage.input_tokens": -1,
}


def test_no_secret_of_a_span_is_kept_in_a_dead_letter() -> None:
    request = ExportTraceServiceRequest()
    made = request.resource_spans.add().scope_spans.add().spans.add(trace_id=bytes(15) + b"1", span_id=bytes(7) + b"1")
    made.attributes.extend(map(to_pair, {**CHAT, **SECRETS, "kept": "this stays"}.items()))
    json = orjson.dumps(traces(span({**CHAT, **SECRETS, "kept": "this stays"})))
    for data in (request.SerializeToString(), gzip.compress(request.SerializeToString()), json, gzip.compress(json)):
        raw = RawBatch("files", b"s" * 16, b"o" * 16, 5, [data], [0], [], 9)
        (letter,) = decode_batch(raw, DecodeSettings(keep_payloads=True)).dead
        assert letter.payload is not None
        assert "hush-hush" not in letter.payload
        assert "this stays" in letter.payload


def test_metrics_are_no_calls() -> None:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="gen_ai.client.token.usage")
    metric.sum.data_points.add(as_int=5)
    assert reasons(request.SerializeToString()) == ["not_a_model_call"]


@given(st.binary(max_size=120))
def test_other_bytes_are_no_telemetry(data: bytes) -> None:
    (found,) = decode_record(b"\n" + data)
    assert isinstance(found, Undecodable | Skipped)
    assert found.reason in ("not_json", "blank", "not_an_object", "unknown_format")


def test_other_messages_of_protobuf_are_no_telemetry() -> None:
    from google.protobuf.descriptor_pb2 import DESCRIPTOR, FileDescriptorProto, FileDescriptorSet

    file = FileDescriptorProto()
    DESCRIPTOR.CopyToProto(file)
    assert reasons(file.SerializeToString()) == ["not_json"]
    assert reasons(FileDescriptorSet(file=[file]).SerializeToString()) == ["not_json"]
    short = ExportTraceServiceRequest()
    short.resource_spans.add().scope_spans.add().spans.add(trace_id=b"short", span_id=bytes(8))
    assert reasons(short.SerializeToString()) == ["not_json"]


# ---- whatever stands in it

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=5,
)


def spots(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found += [(value, key), *spots(value[key])]
    return found


RECORDS: list[Json] = [
    traces(span({**CHAT, "gen_ai.input.messages": [{"role": "user", "parts": [{"type": "text", "content": "x"}]}]}, 1), span(CHAT, 2, 1)),
    traces(span({"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "[{}]", "gen_ai.request.model": "m", "llm.usage.total_tokens": 4},
                events=[{"name": "exception", "attributes": attributes({"exception.type": "E"})}], status={"code": 2})),
    logs({**CHAT, "gen_ai.tool.definitions": [{"type": "function", "name": "f"}]}),
    {"logName": "l", "labels": {**CHAT, "event.name": "gen_ai.client.inference.operation.details"}, "timestamp": "2026-01-01T00:00:00Z", "trace": "p/t"},
    {"trace_id": "x", "start_time_unix_nano": START, "attributes": {"mlflow.spanType": '"LLM"', "mlflow.spanInputs": '{"messages": [{"role": "user"}]}',
     "mlflow.spanOutputs": '{"choices": [{"message": {}}], "usage": {"prompt_tokens": 1}}', "mlflow.chat.tokenUsage": '{"input_tokens": 1}'}},
]  # fmt: skip


def message() -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    for number in range(2):
        made = scope.spans.add(trace_id=bytes(15) + b"1", span_id=bytes(7) + bytes([number + 1]), start_time_unix_nano=START)
        made.attributes.extend(
            map(to_pair, {**CHAT, "gen_ai.input.messages": [{"role": "user", "parts": [{"content": "x"}]}]}.items())
        )
    return request.SerializeToString()


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6), st.integers(0, 2000))
@settings(max_examples=300)
def test_no_broken_protobuf_stops_a_worker(flips: list[tuple[int, int]], size: int) -> None:
    data = bytearray(message())
    for place, value in flips:
        data[place % len(data)] = value
    for found in decode_record(bytes(data)) + decode_record(bytes(data[:size])):
        assert getattr(found, "reason", "") != "decoder_error", found


@given(st.data())
@settings(max_examples=300)
def test_no_telemetry_stops_a_worker(data: st.DataObject) -> None:
    record = copy.deepcopy(data.draw(st.sampled_from(RECORDS)))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(spots(record)))
        try:
            container[key] = data.draw(JSON)
        except (KeyError, IndexError):
            continue
    raw = RawBatch("files", b"s" * 16, b"o" * 16, 5, [orjson.dumps(record)], [0], [], 9)
    result = decode_batch(raw, DecodeSettings(keep_payloads=True))
    assert len(result.calls) + len(result.dead) + len(result.ignored) + len(result.parts) >= 1
    assert {dead.reason for dead in result.dead} <= DEAD_LETTER_REASONS.keys() - {"decoder_error"}
    assert {item.reason for item in result.ignored} <= IGNORED_REASONS.keys()


# ---- texts that were uploaded

REFS: Json = {
    "gen_ai.input.messages_ref": "gs://prompts/1_inputs.jsonl",
    "gen_ai.output.messages_ref": "gs://prompts/1_outputs.jsonl",
    "gen_ai.system_instructions_ref": "gs://prompts/1_system.jsonl",
}


def test_texts_that_were_uploaded_are_elsewhere_not_missing() -> None:
    call = one({**CHAT, **REFS})
    assert (call.flags, call.status, call.content) == (("body_offloaded",), "ok", None)
    no_usage = {key: value for key, value in CHAT.items() if "usage" not in key}
    uploaded, missing = (one({**no_usage, **more}, spanId="") for more in (REFS, {}))
    assert (uploaded.status, uploaded.flags) == ("ok", ("body_offloaded",))
    assert (missing.status, missing.flags) == ("incomplete", ("no_answer",))
    unanswered = one({**no_usage, "gen_ai.input.messages_ref": "gs://prompts/1_inputs.jsonl"}, spanId="")
    assert (unanswered.status, unanswered.flags) == ("incomplete", ("body_offloaded", "no_answer"))
    (logged,) = outcomes(logs({**no_usage, **REFS}, spanId=""))
    assert (logged.status, logged.flags) == ("ok", ("body_offloaded",))


def test_a_link_beside_texts_makes_them_a_part_and_an_empty_one_is_none() -> None:
    said = '[{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]'
    call = one({**CHAT, "gen_ai.input.messages": said, "gen_ai.output.messages_ref": "gs://prompts/1_outputs.jsonl"})
    assert call.content is not None
    assert (call.content.complete, call.flags) == (False, ("body_offloaded",))
    assert one({**CHAT, "gen_ai.input.messages_ref": ""}).flags == ()


def test_a_sample_of_uploaded_texts(shared: Path) -> None:
    (call,) = outcomes((shared / "formats" / "samples" / "gcp_otel_genai_log_entry.json").read_bytes())
    assert call.flags == ("body_offloaded",)
