"""Spans and traces of MLflow. Figures were written down by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.call import LEAVES, Call, Message, Part
from transforms.decode import decode_record

Json = dict[str, Any]
START = 1_772_710_823_888_277_097


def span(kind: str, number: int = 1, parent: int = 0, **values: Any) -> Json:
    """As MLflow writes it: each attribute as JSON in a string."""
    told = {"mlflow.spanType": kind, **{f"mlflow.{key.replace('_', '.', 1)}": value for key, value in values.items()}}
    return {
        "trace_id": "uSDDdUfXlTq84vG5Kyj1dA==",
        "span_id": f"{number:016x}",
        "parent_span_id": f"{parent:016x}" if parent else None,
        "name": "s",
        "start_time_unix_nano": START,
        "end_time_unix_nano": START + 2_000_000_000,
        "events": [],
        "status": {"code": "STATUS_CODE_OK", "message": ""},
        "attributes": {key: orjson.dumps(value).decode() for key, value in told.items()},
    }


USAGE = {"input_tokens": 27, "output_tokens": 641, "total_tokens": 668}


def outcomes(record: Json) -> list[Any]:
    return list(decode_record(orjson.dumps(record)))


def leaves(call: Call) -> Json:
    return {leaf: getattr(call, leaf) for leaf in LEAVES if getattr(call, leaf) is not None}


def test_a_span(shared: Path) -> None:
    (call,) = decode_record((shared / "formats" / "samples" / "mlflow_span.json").read_bytes())
    assert isinstance(call, Call)
    assert (call.format, call.provider, call.operation, call.api) == ("mlflow", "openai", "chat", "openai.chat")
    assert (call.model_requested, call.model, call.provider_call_id) == ("gpt-4.1", "gpt-4.1-2025-04-14", "chatcmpl-1")
    assert leaves(call) == {"input_fresh": 27, "output_visible": 641}
    assert (call.vendor_total, call.usage_quality) == (668, "ok")
    assert (call.event_time, call.duration_ms) == (1772710823_888277, 1353.674)
    assert (call.trace_id, call.span_id, call.parent_span_id) == (
        "b920c37547d7953abce2f1b92b28f574", "02cd40fa2e8224ae", "3d8ac660f640a0ad")  # fmt: skip
    assert call.content is not None
    assert call.content.prompt == [Message("user", (Part("text", "hi"),))]


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("CHAT_MODEL", "call"),
        ("LLM", "call"),
        ("EMBEDDING", "call"),
        ("AGENT", "roll_up"),
        ("CHAIN", "roll_up"),
        ("TOOL", "not_a_model_call"),
        ("RETRIEVER", "not_a_model_call"),
        ("RERANKER", "not_a_model_call"),
        ("UNKNOWN", "roll_up"),  # tokens, and no model
    ],
)
def test_kinds_of_spans(kind: str, outcome: str) -> None:
    (found,) = outcomes(span(kind, chat_tokenUsage=USAGE))
    assert ("call" if isinstance(found, Call) else found.reason) == outcome


def test_the_leaves_of_a_trace_are_billed_and_its_sum_is_not() -> None:
    wrapped = [
        span("AGENT", 1, chat_tokenUsage={"input_tokens": 54}),
        span("LLM", 2, 1, chat_tokenUsage=USAGE),
        span("CHAT_MODEL", 3, 2, chat_tokenUsage=USAGE),
        span("CHAT_MODEL", 4, 1, chat_tokenUsage=USAGE, llm_model="gpt-4.1", llm_provider="openai"),
    ]
    info = {
        "trace_id": "tr-b920c37547d7953abce2f1b92b28f574",
        "trace_metadata": {
            "mlflow.trace.tokenUsage": '{"input_tokens": 54}',
            "mlflow.trace.user": "u",
            "mlflow.trace.session": "s",
        },
        "tags": {"release": "42", "mlflow.traceName": "t"},
    }
    found = outcomes({"info": info, "data": {"spans": wrapped}})
    assert [each.reason for each in found[:2]] == ["roll_up", "roll_up"]
    assert [leaves(each) for each in found[2:]] == [{"input_fresh": 27, "output_visible": 641}] * 2
    assert (found[3].model, found[3].provider, found[3].end_user, found[3].session_id) == ("gpt-4.1", "openai", "u", "s")
    assert found[3].tags == {"release": "42"}
    assert [each.reason for each in outcomes({"info": info, "data": {"spans": []}})] == ["blank"]


def test_usage_in_the_vendors_own_answer_goes_first() -> None:
    request = {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
    answer = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5-20250929", "stop_reason": "end_turn",
              "content": [{"type": "text", "text": "Ho"}],
              "usage": {"input_tokens": 3, "cache_read_input_tokens": 1000, "cache_creation_input_tokens": 0, "output_tokens": 2}}  # fmt: skip
    values = {"spanInputs": request, "spanOutputs": answer, "chat_tokenUsage": {"input_tokens": 3, "output_tokens": 2}}
    (call,) = outcomes(span("CHAT_MODEL", **values))
    assert (call.provider, call.api, call.model, call.provider_call_id) == (
        "anthropic", "anthropic.messages", "claude-sonnet-4-5-20250929", "msg_1")  # fmt: skip
    assert leaves(call) == {
        "input_fresh": 3, "input_cache_read": 1000, "input_cache_write_5m": 0, "input_cache_write_1h": 0, "output_visible": 2}  # fmt: skip
    assert call.content is not None
    assert call.content.output == [Message("assistant", (Part("text", "Ho"),))]
    assert (call.max_tokens, call.stop_reason) == (9, "end_turn")


def test_spans_that_are_exported_as_otlp() -> None:
    def exported(record: Json) -> Json:
        ids = {"traceId": "b920c37547d7953abce2f1b92b28f574", "spanId": record["span_id"], "startTimeUnixNano": START}
        return {
            **ids,
            "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in record["attributes"].items()],
        }

    spans = [
        exported(span("CHAT_MODEL", 1, chat_tokenUsage=USAGE, llm_model="gpt-4.1")),
        exported(span("AGENT", 2, chat_tokenUsage=USAGE)),
        exported(span("RETRIEVER", 3)),
    ]
    call, agent, other = outcomes({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]})
    assert (call.format, call.model, leaves(call)) == ("otlp", "gpt-4.1", {"input_fresh": 27, "output_visible": 641})
    assert (agent.reason, other.reason) == ("roll_up", "not_a_model_call")


def test_bare_values_of_bridged_spans_and_failures() -> None:
    record = span("CHAT_MODEL")
    record["attributes"] |= {"gen_ai.usage.input_tokens": "63", "gen_ai.usage.output_tokens": 7, "gen_ai.request.model": "gpt-4o"}
    (call,) = outcomes(record)
    assert (call.model, leaves(call)) == ("gpt-4o", {"input_fresh": 63, "output_visible": 7})
    failed = span("CHAT_MODEL", spanInputs={"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]})
    failed["status"] = {"code": "STATUS_CODE_ERROR"}
    failed["events"] = [{"name": "exception", "attributes": {"exception.type": "RateLimitError"}}]
    (call,) = outcomes(failed)
    assert (call.status, call.error_type, call.model, call.usage_source) == ("error", "RateLimitError", "gpt-4o", "none")
    (call,) = outcomes(span("LLM"))
    assert (call.status, call.flags) == ("incomplete", ("no_answer",))
