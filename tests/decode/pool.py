"""Records to begin with: those of every sample file, recorded calls, and one written by hand for each format."""

from __future__ import annotations

import gzip
from itertools import islice
from pathlib import Path
from typing import Final

import orjson

from schemas.batch import RawBatch, RowBatch
from tests.decode.test_batch import GOOD
from tests.decode.test_event import FULL
from tests.decode.test_langsmith import RUN
from tests.decode.test_litellm import payload
from transforms.count import CountSettings
from transforms.decode import DecodeSettings
from transforms.work import CallWork

LARGEST: Final = 30_000
"""Bytes of a recorded call to begin with: larger ones take their time, and say no more."""

STREAM: Final = {
    "url": "https://api.openai.com/v1/chat/completions",
    "status": 200,
    "request": {"model": "gpt-4o", "stream": True, "tools": [{"type": "function", "function": {"name": "f"}}],
                "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                             {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]},
                             {"role": "tool", "tool_call_id": "c", "content": "42"}, {"role": "user", "content": "And?"}]},
    "response": {"stream": [
        {"id": "c", "model": "gpt-4o", "created": 1772409600, "choices": [{"index": 0, "delta": {"role": "assistant", "content": "a"}}]},
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{"}}]}}]},
        {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}},
    ]},
    "headers": {"x-request-id": "r", "content-type": "application/json"}, "metadata": {"team": "a"}, "started_at": "2026-03-02T09:15:00Z",
}  # fmt: skip

ANSWER: Final = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "Hi"}], "usage": {"input_tokens": 3, "output_tokens": 1},
}  # fmt: skip
BATCHED: Final = {
    "id": "batch_req_1", "custom_id": "row-7", "error": None,
    "response": {"status_code": 200, "request_id": "r", "body": {
        "id": "chatcmpl-1", "object": "chat.completion", "model": "gpt-4o", "created": 1772409600,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}}},
}  # fmt: skip
BEFORE_A_VENDOR: Final = {
    "id": "01J", "created_at": "2026-03-02T09:15:00Z", "provider": "openai", "model": "gpt-4o", "tokens_in": 9, "tokens_out": 1,
    "cost": 0.001, "cached": False, "duration": 812, "status_code": 200, "success": True, "metadata": '{"team": "a"}', "step": 0,
}  # fmt: skip
TRIED: Final = {
    "started_at": 1772442900250, "latencies": {"request": 976}, "request": {"id": "k"}, "response": {"status": 200}, "workspace_name": "w",
    "tries": [{"code": 503}, {}], "consumer": {"username": "a"}, "ai": {"proxy": {
        "tried_targets": [{"provider": "openai", "model": "gpt-4o", "host": "api.openai.com"}, {"provider": "azure", "host": "a.openai.azure.com"}],
        "cache": {"cache_status": "Miss", "embeddings_provider": "openai", "embeddings_model": "text-embedding-3-small"},
        "meta": {"provider_name": "azure", "request_model": "gpt-4o", "request_mode": "stream"},
        "usage": {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10, "cost": 0.001, "time_to_first_token": 3}}},
}  # fmt: skip
INFERENCE: Final = {
    "id": "0196c682", "inference_id": "0196c683", "model_name": "openai::gpt-4o", "model_provider_name": "openai", "input_tokens": 9,
    "output_tokens": 1, "raw_request": "", "raw_response": "", "episode_id": "e", "function_name": "f", "variant_name": "v",
    "tags": '{"team": "a", "tensorzero::api_key_public_id": "k"}', "timestamp": "2026-03-02 09:15:00",
}  # fmt: skip
GUARDED: Final = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}}, "stopReason": "end_turn",
    "usage": {"inputTokens": 9, "outputTokens": 1, "totalTokens": 10},
    "trace": {"guardrail": {"inputAssessment": {"g": {"invocationMetrics": {"usage": {"topicPolicyUnits": 1, "wordPolicyUnits": 0}}}}}},
}  # fmt: skip
LLM_LOG: Final = {
    "category": "GatewayLlmLogs", "correlationId": "k", "time": "2026-03-02T09:15:00Z",
    "properties": {"sequenceNumber": 1, "requestMessages": '[{"role": "user", "content": "Hi"}]', "responseMessages": "[]"},
}  # fmt: skip
PUT_TOGETHER: Final = {"pieces": [{"apimMessages": "k", "requestMessages": '[{"role": "us'}, {"apimMessages": "k", "requestMessages": 'er", "content": "Hi"}]'}]}
TOKENS: Final = {"model": "gpt-4o", "type": "input", "tokens": "9"}

BY_HAND: Final = (GOOD, STREAM, FULL, ANSWER, BATCHED, BEFORE_A_VENDOR, TOKENS, RUN, payload(), TRIED, INFERENCE, GUARDED, LLM_LOG, PUT_TOGETHER)


def sample_records(path: Path) -> list[bytes]:
    """The records of a sample file as a source hands them on: lines of JSON lines, else the whole file."""
    data = path.read_bytes()
    return [line for line in data.splitlines() if line.strip()] if path.suffix == ".jsonl" else [data]


def sample_files(shared: Path) -> list[Path]:
    return sorted(path for path in (shared / "formats" / "samples").iterdir() if path.name != "SOURCES.md")


def records(shared: Path) -> list[bytes]:
    """All of them; of long sample files the first 40 lines, of the recorded calls every seventy-ninth."""
    found = [orjson.dumps(record) for record in BY_HAND]
    for path in sample_files(shared):
        found += sample_records(path)[:40]
    with gzip.open(shared / "data" / "calls" / "calls.jsonl.gz") as lines:
        found += [line for line in islice(lines, 0, None, 79) if len(line) < LARGEST]
    return found


def work() -> CallWork:
    """All that is done to records, with payloads of dead letters kept, and the headers kept that somebody may want."""
    kept = frozenset({"x-team", "authorization", "cookie", "x-api-key", "x-request-url", "referer"})
    done = CallWork(DecodeSettings(keep_payloads=True), CountSettings(hash_key=b"k"))
    done._decode = DecodeSettings(keep_payloads=True, headers=kept)
    return done


def rows(done: CallWork, data: list[bytes]) -> RowBatch:
    batch = RawBatch("fuzz", b"s" * 16, b"o" * 16, 1_772_442_900_000_000, data, list(range(len(data))))
    return done.rows(batch, lambda stage, items, nanoseconds: None)
