"""Runs of LangSmith. Figures were written down by hand."""

from __future__ import annotations

from typing import Any, Final

import orjson
import pytest

from schemas.call import LEAVES, Call, Message, Part
from transforms.decode import Skipped, Undecodable, decode_record

Json = dict[str, Any]


def constructed(kind: str, **fields: Any) -> Json:
    """A message as LangChain writes its objects."""
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", kind], "kwargs": fields}


SAID: Final = constructed(
    "AIMessage",
    content="",
    type="ai",
    id="run-7",
    tool_calls=[{"name": "weather", "args": {"city": "Wien"}, "id": "call_1", "type": "tool_call"}],
    additional_kwargs={"tool_calls": [{"id": "call_1", "function": {"name": "weather", "arguments": '{"city":"Wien"}'}}]},
    response_metadata={"model_name": "gpt-5-2025-08-07", "finish_reason": "tool_calls", "id": "chatcmpl-1", "service_tier": "flex"},
    usage_metadata={"input_tokens": 1200, "output_tokens": 90, "total_tokens": 1290,
                    "input_token_details": {"flex_cache_read": 1024, "flex": 176}, "output_token_details": {"flex_reasoning": 64, "flex": 26}},
)  # fmt: skip
RUN: Final[Json] = {
    "id": "0199a5b0-0000-7000-8000-000000000001",
    "trace_id": "0199a5b0-0000-7000-8000-000000000000",
    "parent_run_id": "0199a5b0-0000-7000-8000-000000000000",
    "dotted_order": "20260302T091500000000Z0199a5b0",
    "session_id": "5d1f0000-0000-0000-0000-000000000000",
    "session_name": "support-bot",
    "run_type": "llm",
    "name": "ChatOpenAI",
    "status": "success",
    "start_time": "2026-03-02T09:15:00.250000",
    "first_token_time": "2026-03-02T09:15:00.750000",
    "end_time": "2026-03-02T09:15:02.250000",
    "tags": ["seq:step:2", "urgent"],
    "extra": {
        "metadata": {"ls_provider": "openai", "ls_model_name": "gpt-5", "ls_model_type": "chat", "thread_id": "t-1", "team": "care"},
        "invocation_params": {"model": "gpt-5", "temperature": 0.5, "_type": "openai-chat",
                              "tools": [{"type": "function", "function": {"name": "weather", "parameters": {}}}]},
    },
    "inputs": {"messages": [[
        constructed("SystemMessage", content="Be brief.", type="system"),
        constructed("HumanMessage", content=[{"type": "text", "text": "Rain?"}], type="human"),
    ]]},
    "outputs": {"generations": [[{"text": "", "type": "ChatGeneration", "message": SAID}]], "llm_output": None},
    "prompt_tokens": 1200, "completion_tokens": 90, "total_tokens": 1290, "total_cost": "0.00125",
}  # fmt: skip


def only(record: Json) -> Any:
    (outcome,) = decode_record(orjson.dumps(record))
    return outcome


def call_of(**changes: Any) -> Call:
    call = only({**RUN, **changes})
    assert isinstance(call, Call), call
    return call


def leaves(call: Call) -> Json:
    return {leaf: getattr(call, leaf) for leaf in LEAVES if getattr(call, leaf) is not None}


def test_a_run_of_langchain() -> None:
    call = call_of()
    assert (call.format, call.provider, call.operation, call.api) == ("langsmith", "openai", "chat", "openai.chat")
    assert (call.model_requested, call.model, call.provider_call_id) == ("gpt-5", "gpt-5-2025-08-07", "chatcmpl-1")
    assert leaves(call) == {"input_fresh": 176, "input_cache_read": 1024, "output_visible": 26, "output_reasoning": 64}
    assert (call.vendor_input, call.vendor_output, call.vendor_total) == (1200, 90, 1290)
    assert (call.usage_source, call.usage_quality, call.service_tier) == ("gateway", "ok", "flex")
    assert (call.event_time, call.time_quality, call.duration_ms, call.ttft_ms) == (1772442900_250000, "exact", 2000.0, 500.0)
    assert (call.status, call.stop_reason) == ("ok", "tool_calls")
    assert (call.span_id, call.trace_id, call.parent_span_id) == (RUN["id"], RUN["trace_id"], RUN["parent_run_id"])
    assert (call.app, call.step, call.session_id, call.team) == ("support-bot", "ChatOpenAI", "t-1", "care")
    assert call.tags is not None
    assert (call.tags["urgent"], call.tags["seq"]) == ("true", "step:2")
    assert not any(key.startswith("ls_") for key in call.tags)
    assert (call.reported_cost, call.reported_cost_by) == (1_250_000_000, "gateway")
    content = call.content
    assert content is not None
    assert content.prompt == [Message("system", (Part("text", "Be brief."),)), Message("user", (Part("text", "Rain?"),))]
    assert content.output == [Message("assistant", (Part("call", '{"city":"Wien"}', "weather"),))]
    assert orjson.loads(content.tools_json)[0]["function"]["name"] == "weather"


def test_a_bulk_export_holds_json_in_strings() -> None:
    strings = {field: orjson.dumps(RUN[field]).decode() for field in ("inputs", "outputs", "extra", "tags")}
    told, call = call_of(), call_of(**strings)
    assert {**told.__dict__, "content": None} == {**call.__dict__, "content": None}
    assert told.content == call.content


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"cache_read": 100, "cache_creation": 50}, {"input_fresh": 850, "input_cache_read": 100, "input_cache_write_other": 50}),
        (
            {"cache_read": 100, "cache_creation": 0, "ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 20},
            {"input_fresh": 850, "input_cache_read": 100, "input_cache_write_5m": 30, "input_cache_write_1h": 20,
             "input_cache_write_other": 0},
        ),
        (
            {"cache_creation": 60, "ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 20},
            {"input_fresh": 940, "input_cache_write_5m": 30, "input_cache_write_1h": 20, "input_cache_write_other": 10},
        ),
        ({"audio": 40}, {"input_fresh": 960, "input_audio": 40}),
        (None, {"input_fresh": 1000}),
    ],
)  # fmt: skip
def test_what_input_includes(details: Json | None, expected: Json) -> None:
    usage = {"input_tokens": 1000, "output_tokens": 10, "total_tokens": 1010, "input_token_details": details}
    said = constructed("AIMessageChunk", content=[{"type": "text", "text": "Yes"}], usage_metadata=usage,
                       response_metadata={"id": "msg_1", "model": "claude-opus-4", "stop_reason": "end_turn"})  # fmt: skip
    call = call_of(
        outputs={"generations": [[{"message": said}]]},
        extra={"metadata": {"ls_provider": "anthropic", "ls_model_name": "claude-opus-4"}},
    )
    assert leaves(call) == {**expected, "output_visible": 10}
    assert (call.provider, call.provider_call_id, call.stop_reason, call.usage_quality) == (
        "anthropic",
        "msg_1",
        "end_turn",
        "ok",
    )


def test_a_run_of_the_vendors_own_client() -> None:
    """Its wrapper keeps the answer, and takes the usage out of it."""
    answer = {"id": "chatcmpl-9", "object": "chat.completion", "model": "gpt-4o-2024-08-06", "created": 1772442901,
              "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
              "usage_metadata": {"input_tokens": 9, "output_tokens": 1, "total_tokens": 10}}  # fmt: skip
    call = call_of(
        inputs={"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}]},
        outputs=answer,
        extra={"metadata": {"ls_provider": "openai", "ls_model_name": "gpt-4o"}},
    )
    assert (call.model_requested, call.model, call.provider_call_id) == ("gpt-4o", "gpt-4o-2024-08-06", "chatcmpl-9")
    assert (leaves(call), call.stop_reason) == ({"input_fresh": 9, "output_visible": 1}, "stop")
    assert call.content is not None
    assert (call.content.prompt, call.content.output) == (
        [Message("user", (Part("text", "Hello"),))], [Message("assistant", (Part("text", "Hi"),))])  # fmt: skip


def test_where_messages_tell_no_usage_the_run_does() -> None:
    said = constructed("AIMessage", content="Hi", response_metadata={})
    call = call_of(outputs={"generations": [[{"message": said}]]}, prompt_token_details={"cache_read": 200})
    assert leaves(call) == {"input_fresh": 1000, "input_cache_read": 200, "output_visible": 90}


def test_texts_of_a_model_that_completes() -> None:
    call = call_of(inputs={"prompts": ["Once upon"]}, outputs={"generations": [[{"text": " a time"}]]})
    assert call.content is not None
    assert call.content.prompt == [Message("user", (Part("text", "Once upon"),))]
    assert call.content.output == [Message("assistant", (Part("text", " a time"),))]


def test_an_embedding() -> None:
    call = call_of(run_type="embedding", outputs=None, completion_tokens=0, total_tokens=1200)
    assert (call.operation, leaves(call)) == ("embedding", {"input_fresh": 1200, "output_visible": 0})


def test_a_run_that_failed() -> None:
    call = call_of(
        outputs=None, status="error", error="RateLimitError('429 …')", prompt_tokens=0, completion_tokens=0, total_tokens=0
    )
    assert (call.status, call.error_type) == ("error", "RateLimitError")
    key = "sk-proj-" + "Ab1" * 20
    call = call_of(outputs=None, status="error", error=f"Incorrect API key provided: {key}.", total_tokens=0)
    assert call.error_type.startswith("Incorrect API key provided: ")
    assert "Ab1" not in call.error_type


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"run_type": "chain"}, "roll_up"),
        ({"run_type": "tool"}, "not_a_model_call"),
        ({"run_type": "retriever"}, "not_a_model_call"),
        ({"status": "pending"}, "not_ended"),
        ({"end_time": None, "outputs": None}, "not_ended"),
    ],
)
def test_what_is_no_call(changes: Json, reason: str) -> None:
    outcome = only({**RUN, **changes})
    assert isinstance(outcome, Skipped)
    assert outcome.reason == reason


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"extra": {}, "outputs": None}, "extra.metadata.ls_model_name: the run names no model"),
        ({"outputs": None, "prompt_tokens": -1}, "usage.prompt_tokens: -1 is negative"),
    ],
)
def test_what_cannot_be_is_a_dead_letter(changes: Json, says: str) -> None:
    outcome = only({**RUN, **changes})
    assert isinstance(outcome, Undecodable)
    assert (outcome.reason, outcome.error, outcome.format_guess) == ("bad_value", says, "langsmith")
