"""Answers without their requests, and lines of batches: written by hand after the vendors' documents."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.call import LEAVES, Call
from schemas.part import Part
from transforms.decode import Undecodable, decode_record
from transforms.decode.registry import format_of

Json = dict[str, Any]

CHAT: Json = {
    "id": "chatcmpl-1", "object": "chat.completion", "created": 1772409600, "model": "gpt-4o-2024-08-06", "service_tier": "default",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12},
}  # fmt: skip
MESSAGE: Json = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hello"}], "usage": {"input_tokens": 9, "output_tokens": 3},
}  # fmt: skip
GEMINI: Json = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hello"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 3, "totalTokenCount": 12},
    "modelVersion": "gemini-2.5-flash", "responseId": "r1",
}  # fmt: skip
CONVERSE: Json = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}}, "stopReason": "end_turn",
    "usage": {"inputTokens": 9, "outputTokens": 3, "totalTokens": 12}, "metrics": {"latencyMs": 5},
}  # fmt: skip
OLLAMA: Json = {"model": "llama3", "created_at": "2026-03-02T09:15:00Z", "done": True, "prompt_eval_count": 9, "eval_count": 3}


def outcome(record: Any) -> Any:
    outcomes = decode_record(orjson.dumps(record))
    assert len(outcomes) == 1
    return outcomes[0]


def the_call(record: Any) -> Call:
    call = outcome(record)
    assert isinstance(call, Call), call
    return call


def said(call: Call) -> str:
    assert call.content is not None
    return "".join(part.text for message in call.content.output for part in message.parts)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (CHAT, ("openai.chat", "openai", "gpt-4o-2024-08-06", "chatcmpl-1")),
        ({key: value for key, value in CHAT.items() if key != "object"}, ("openai.chat", "openai", "gpt-4o-2024-08-06", "chatcmpl-1")),
        ({"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-5", "usage": {"input_tokens": 9, "output_tokens": 3},
          "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]}]},
         ("openai.responses", "openai", "gpt-5", "resp_1")),
        ({"id": "cmpl-1", "object": "text_completion", "model": "davinci", "choices": [{"text": "Hello"}],
          "usage": {"prompt_tokens": 9, "completion_tokens": 3}}, ("openai.completions", "unknown", "davinci", "cmpl-1")),
        (MESSAGE, ("anthropic.messages", "anthropic", "claude-sonnet-4-5", "msg_1")),
        (GEMINI, ("gemini.generate", "gemini", "gemini-2.5-flash", "r1")),
        ({"usage_metadata": {"prompt_token_count": 9, "candidates_token_count": 3}, "model_version": "gemini-2.5-pro",
          "candidates": [{"content": {"parts": [{"text": "Hello"}]}, "finish_reason": "STOP"}], "response_id": "r2"},
         ("gemini.generate", "vertex", "gemini-2.5-pro", "r2")),
        (CONVERSE, ("bedrock.converse", "bedrock", "", "")),
        ({"generation": "Hello", "prompt_token_count": 9, "generation_token_count": 3, "stop_reason": "stop"},
         ("bedrock.invoke", "bedrock", "", "")),
        ({"inputTextTokenCount": 9, "results": [{"tokenCount": 3, "outputText": "Hello"}]}, ("bedrock.invoke", "bedrock", "", "")),
        ({**OLLAMA, "message": {"role": "assistant", "content": "Hello"}}, ("ollama.chat", "ollama", "llama3", "")),
        ({**OLLAMA, "response": "Hello"}, ("ollama.generate", "ollama", "llama3", "")),
        ({"id": "1", "finish_reason": "COMPLETE", "message": {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]},
          "usage": {"billed_units": {"input_tokens": 9, "output_tokens": 3}}}, ("cohere.chat", "cohere", "", "1")),
    ],
)  # fmt: skip
def test_answers_alone(answer: Json, expected: tuple[str, ...]) -> None:
    call = the_call(answer)
    assert (call.api, call.provider, call.model, call.provider_call_id) == expected
    assert (call.input_fresh, call.output_visible, call.status, call.format) == (9, 3, "ok", "vendor_body")
    assert said(call) == "Hello"
    assert call.content is not None
    assert not call.content.complete  # what was asked is not there


def test_refusals_and_reasoning_are_marked() -> None:
    def marks(answer: Json) -> tuple[bool, bool]:
        content = the_call(answer).content
        assert content is not None
        return content.refused, content.reasoned

    message = {"role": "assistant", "content": None, "refusal": "No."}
    assert marks(CHAT) == (False, False)
    assert marks(CHAT | {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}) == (True, False)
    response = {"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-5", "usage": {"input_tokens": 9}}
    thought = {"type": "reasoning", "id": "rs_1", "summary": []}
    told = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]}
    refused = told | {"content": [{"type": "refusal", "refusal": "No."}]}
    assert marks(response | {"output": [told]}) == (False, False)
    assert marks(response | {"output": [thought, told]}) == (False, True)
    assert marks(response | {"output": [refused]}) == (True, False)
    done = [{"type": "response.output_item.done", "output_index": index, "item": item} for index, item in enumerate([thought, refused])]
    created = {"type": "response.created", "response": response | {"status": "in_progress"}}
    streamed = {"url": "https://api.openai.com/v1/responses", "status": 200, "request": {"model": "gpt-5", "input": "?"}}
    assert marks(streamed | {"response": {"stream": [created, *done]}}) == (True, True)


def test_calls_of_a_history_are_known_by_their_id_or_not() -> None:
    call = {"type": "function_call", "call_id": "call_1", "name": "look_up", "arguments": "{}"}
    request = {"model": "gpt-5", "input": [{"role": "user", "content": "?"}, call, call | {"id": "fc_1"}]}
    answer = {"id": "resp_1", "object": "response", "status": "completed", "model": "gpt-5", "usage": {"input_tokens": 9}}
    content = the_call({"url": "https://api.openai.com/v1/responses", "status": 200, "request": request, "response": answer}).content
    assert content is not None
    assert [message.parts[0].stored for message in content.prompt] == [False, False, True]


def test_vectors_alone() -> None:
    answer = {"object": "list", "data": [{"object": "embedding", "embedding": [0.1]}], "model": "text-embedding-3-small",
              "usage": {"prompt_tokens": 9, "total_tokens": 9}}  # fmt: skip
    call = the_call(answer)
    assert (call.api, call.operation, call.input_fresh, call.output_visible) == ("openai.embeddings", "embedding", 9, 0)


def test_what_sdks_add_to_an_answer() -> None:
    meta = {
        "RequestId": "x",
        "HTTPStatusCode": 200,
        "HTTPHeaders": {"x-amzn-requestid": "rq-1", "x-amzn-bedrock-service-tier": "flex"},
    }
    call = the_call({**CONVERSE, "ResponseMetadata": meta})
    assert (call.request_id, call.http_status, call.service_tier) == ("rq-1", 200, "flex")
    call = the_call({**GEMINI, "sdk_http_response": {"headers": {"x-goog-request-id": "rq-2"}}})
    assert call.request_id == "rq-2"
    call = the_call({"id": "resp_1", "object": "response", "status": "completed", "output": [], "metadata": {"team": "search"},
                     "usage": {"input_tokens": 9, "output_tokens": 3}})  # fmt: skip
    assert call.team == "search"


CHUNKS: list[Json] = [
    {"id": "c", "object": "chat.completion.chunk", "model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": "Hel"}}]},
    {"id": "c", "object": "chat.completion.chunk", "model": "gpt-4o",
     "choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]},
    {"id": "c", "object": "chat.completion.chunk", "model": "gpt-4o", "choices": [],
     "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}},
]  # fmt: skip
AZURE_FIRST = {"id": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": []}
EVENTS: list[Json] = [
    {
        "type": "message_start",
        "message": {"id": "m", "model": "claude-sonnet-4-5", "usage": {"input_tokens": 9, "output_tokens": 1}},
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello"}},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
    {"type": "message_stop"},
]
GEMINI_CHUNKS = [
    {"candidates": [{"content": {"parts": [{"text": "Hel"}]}}], "responseId": "r1", "usageMetadata": {"promptTokenCount": 9}},
    {**GEMINI, "candidates": [{"content": {"parts": [{"text": "lo"}]}, "finishReason": "STOP"}]},
]
LINES = [
    {"model": "llama3", "created_at": "2026-03-02T09:15:00Z", "response": "Hel", "done": False},
    {**OLLAMA, "response": "lo"},
]


def sse(chunks: list[Json]) -> str:
    return "".join(f"data: {orjson.dumps(chunk).decode()}\n\n" for chunk in chunks)


@pytest.mark.parametrize("chunks", [CHUNKS, [AZURE_FIRST, *CHUNKS], EVENTS, GEMINI_CHUNKS, LINES])
def test_streams_alone(chunks: list[Json]) -> None:
    """As an array that is the record, under ``stream``, and as the text of the stream."""
    for record in (chunks, {"stream": chunks}, {"stream": sse(chunks)}):
        call = the_call(record)
        assert (call.input_fresh, call.output_visible, call.stream, said(call)) == (9, 3, True, "Hello")


def test_arrays_of_answers_are_many() -> None:
    other = {**GEMINI, "responseId": "r2"}
    nameless = [{key: value for key, value in GEMINI.items() if key != "responseId"} for _ in range(2)]
    for array in ([CHAT, CHAT], [MESSAGE, MESSAGE], [GEMINI, other], nameless, [CONVERSE, CONVERSE]):
        outcomes = decode_record(orjson.dumps(array))
        assert [isinstance(each, Call) and each.input_fresh for each in outcomes] == [9, 9]
    one = [{**chunk, "responseId": ""} for chunk in GEMINI_CHUNKS]
    assert the_call(one).output_visible == 3


@pytest.mark.parametrize("chunk", [CHUNKS[0], EVENTS[0], EVENTS[3], LINES[0]])
def test_one_chunk_is_no_call(chunk: Json) -> None:
    letter = outcome(chunk)
    assert isinstance(letter, Undecodable)
    assert letter.reason == "not_a_call"


def test_the_last_chunk_of_a_chat_tells_its_usage() -> None:
    call = the_call(CHUNKS[2])
    assert (call.input_fresh, call.output_visible, call.provider_call_id) == (9, 3, "c")


@pytest.mark.parametrize(
    "record",
    [
        {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]},
        {"contents": [{"parts": [{"text": "Hi"}]}]},
        {"model": "gpt-4o", "input": "Hi", "stream": True},
        {"type": "message", "text": "a chat line of a product"},
        {"object": "list", "data": []},
        {"usage": {"cpu": 0.4}, "output": "x"},
        {"usage": {"prompt_tokens": 3}, "who": "a log of one's own"},
        {"done": True, "task": "sweep"},
        {"results": [{"name": "x"}]},
        {"predictions": [{"label": "cat"}]},
        {"stream": "stdout", "log": "plain text", "time": "2026-03-02T09:15:00Z"},
        {"events": [{"name": "click"}]},
        {"key": "k", "response": "ok"},
        {"custom_id": "a", "response": "a text of somebody's"},
        {"custom_id": "a", "response": {"text": "of somebody's"}},
        {"custom_id": "a", "result": "of somebody's"},
        {"done": True, "response": {"choices": []}},
    ],
)
def test_requests_and_others_records_are_not_taken_for_answers(record: Json) -> None:
    found = format_of(record)
    assert found is None or found.name not in ("vendor_body", "batch_item")


BATCH = {"id": "batch_req_1", "custom_id": "row-7", "error": None,
         "response": {"status_code": 200, "request_id": "rq-1", "body": CHAT}}  # fmt: skip


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (BATCH, ("openai.chat", "openai", "row-7", 9, 3)),
        ({"custom_id": "row-7", "result": {"type": "succeeded", "message": MESSAGE}}, ("anthropic.messages", "anthropic", "row-7", 9, 3)),
        ({"key": "row-7", "response": GEMINI}, ("gemini.generate", "gemini", "row-7", 9, 3)),
        ({"status": "", "processed_time": "2026-03-02T09:15:00Z", "request": {"contents": [{"parts": [{"text": "Hi"}]}]},
          "response": GEMINI}, ("gemini.generate", "gemini", None, 9, 3)),
        ({"recordId": "row-7", "modelInput": {"anthropic_version": "bedrock-2023-05-31", "messages": []}, "modelOutput": MESSAGE},
         ("anthropic.messages", "bedrock", "row-7", 9, 3)),
        ({"recordId": "row-7", "modelInput": {"messages": [{"role": "user", "content": [{"text": "Hi"}]}]}, "modelOutput": CONVERSE},
         ("bedrock.converse", "bedrock", "row-7", 9, 3)),
    ],
)  # fmt: skip
def test_lines_of_batches(line: Json, expected: tuple[Any, ...]) -> None:
    call = the_call(line)
    tag = (call.tags or {}).get("custom_id")
    assert (call.api, call.provider, tag, call.input_fresh, call.output_visible) == expected
    assert (call.batch, call.status, call.format, said(call)) == (True, "ok", "batch_item", "Hello")


def test_what_a_line_of_a_batch_says_beside_its_answer() -> None:
    assert (the_call(BATCH).request_id, the_call(BATCH).http_status) == ("rq-1", 200)
    failed = {**BATCH, "response": {"status_code": 400, "body": {"error": {"type": "invalid_request_error", "message": "x"}}}}
    call = the_call(failed)
    assert (call.status, call.error_type, call.http_status, call.usage_source) == ("error", "invalid_request_error", 400, "none")


@pytest.mark.parametrize(
    ("line", "status", "kind"),
    [
        ({"custom_id": "a", "response": None, "error": {"code": "batch_expired", "message": "x"}}, "error", "batch_expired"),
        ({"custom_id": "a", "result": {"type": "errored", "error": {"type": "error", "error": {"type": "overloaded_error"}}}},
         "error", "overloaded_error"),
        ({"custom_id": "a", "result": {"type": "expired"}}, "cancelled", "expired"),
        ({"custom_id": "a", "result": {"type": "canceled"}}, "cancelled", "canceled"),
        ({"recordId": "a", "modelInput": {"messages": []}, "error": {"errorCode": 400, "errorMessage": "x"}}, "error", "400"),
    ],
)  # fmt: skip
def test_lines_of_batches_that_failed(line: Json, status: str, kind: str) -> None:
    call = the_call(line)
    assert (call.status, call.error_type, call.batch, call.usage_source) == (status, kind, True, "none")


def test_a_line_of_what_a_batch_asks_is_no_call() -> None:
    letter = outcome(
        {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "gpt-4o", "messages": []}}
    )
    assert isinstance(letter, Undecodable)
    assert letter.reason == "not_a_call"


def test_real_answers_without_their_requests(shared: Path) -> None:
    """Every recorded success: alone it is recognised, and has the same usage as with its request and address."""
    same: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    with gzip.open(shared / "data" / "calls" / "calls.jsonl.gz") as lines:
        for line in lines:
            record = orjson.loads(line)
            if record["status"] >= 400:
                continue
            api, usage = record.pop("api"), record.pop("usage")
            whole, alone = outcome_of(record), outcome_of(record["response"])
            if whole is None or whole.usage_source == "none" or not usage:
                continue
            if alone is None:
                lost[api] += 1
                continue
            assert [getattr(alone, leaf) for leaf in LEAVES] == [getattr(whole, leaf) for leaf in LEAVES], (api, usage)
            same[api] += 1
    assert lost == {}
    assert same.total() > 7_400


def outcome_of(record: Any) -> Call | None:
    first = decode_record(orjson.dumps(record))[0]
    if isinstance(first, Part):
        return first.call
    return first if isinstance(first, Call) else None
