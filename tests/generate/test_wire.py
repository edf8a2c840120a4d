"""The shapes of records, and what vendors would report for them."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from datetime import datetime
from typing import Any

import pytest

from sources.generate.tokens import render_tools
from tests.generate.conftest import Run
from tests.generate.oracle import chat_prompt, encode


@pytest.fixture(scope="module")
def pairs(run: Run) -> list[dict[str, Any]]:
    """HTTP pairs that are calls."""
    return [
        record
        for record in run.parsed()
        if "request" in record and "url" in record and record["response"].get("id") != "chatcmpl-negative"
    ]


@pytest.fixture(scope="module")
def through_proxy(run: Run) -> list[dict[str, Any]]:
    return [record for record in run.parsed() if "call_type" in record and "severity" not in record]


def api_of(pair: dict[str, Any]) -> str:
    return str(pair["url"].split("?")[0].rsplit("/", 1)[-1])


def test_every_vendor_and_interface_occurs(pairs: list[dict[str, Any]], through_proxy: list[dict[str, Any]]) -> None:
    seen = {(pair["provider"], api_of(pair), pair["stream"]) for pair in pairs}
    assert {
        ("openai", "completions", False), ("openai", "completions", True), ("openai", "responses", False),
        ("openai", "responses", True), ("openai", "embeddings", False), ("azure", "completions", False),
        ("azure", "completions", True), ("azure", "embeddings", False), ("anthropic", "messages", False),
        ("anthropic", "messages", True),
    } <= seen  # fmt: skip
    assert {record["custom_llm_provider"] for record in through_proxy} == {"openai", "anthropic"}


def test_labels_and_times(pairs: list[dict[str, Any]]) -> None:
    for pair in pairs:
        for name in ("team", "app", "feature", "environment", "user", "trace_id", "session_id", "template"):
            assert isinstance(pair[name], str), name
            assert pair[name], name
        if "started_at" in pair:
            assert re.fullmatch(r"2026-03-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", pair["started_at"])
            assert pair["duration_ms"] > 0
        assert all(isinstance(value, str) for value in pair["tags"].values())
        if "created" in pair["response"] and "started_at" in pair:
            started = datetime.fromisoformat(pair["started_at"])
            assert int(started.timestamp()) == pair["response"]["created"]


def whole_chat(pair: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """Text and usage of a chat answer, assembled from its chunks if it was streamed."""
    body = pair["response"]
    if "stream" not in body:
        return body["choices"][0]["message"]["content"] or "", body["usage"]
    text, usage = "", None
    for chunk in body["stream"]:
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
        usage = chunk.get("usage") or usage
    return text, usage


def test_openai_chat_usage_is_the_published_count(pairs: list[dict[str, Any]]) -> None:
    checked = 0
    for pair in pairs[::2]:
        if pair["status"] != 200 or api_of(pair) != "completions" or "tools" in pair["request"]:
            continue
        text, usage = whole_chat(pair)
        if usage is None:
            assert pair["stream"]
            assert "stream_options" not in pair["request"]
            continue
        reasons = pair["request"]["model"].startswith("gpt-5")  # it names its channel: in the answer, not before it
        assert usage["prompt_tokens"] == chat_prompt(pair["request"]["messages"]) - reasons
        assert usage["completion_tokens"] == len(encode(text)) + (pair["provider"] == "azure") + 9 * reasons
        assert {"max_tokens", "temperature"} <= pair["request"].keys() or reasons
        assert {"max_completion_tokens", "reasoning_effort"} <= pair["request"].keys() or not reasons
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
        cached = usage["prompt_tokens_details"]["cached_tokens"]
        assert cached == 0 or (cached >= 1024 and cached % 128 == 0 and cached <= usage["prompt_tokens"])
        checked += 1
    assert checked > 800


def test_agents_on_openai_pay_for_tools_calls_and_results(pairs: list[dict[str, Any]]) -> None:
    checked = 0
    for pair in pairs:
        if pair.get("agent") != "ops-agent" or pair["status"] != 200:
            continue
        system, *rest = pair["request"]["messages"]
        # The rendering is checked against real calls in test_tokens.
        expected = 3 + 3 + 1 + len(encode(system["content"] + "\n\n" + render_tools(pair["request"]["tools"]))) - 1
        name = ""
        for message in rest:
            if message.get("tool_calls"):
                function = message["tool_calls"][0]["function"]
                name = function["name"]
                expected += 8 + len(encode(name)) + len(encode(function["arguments"]))
            elif message["role"] == "tool":
                expected += 5 + len(encode(name)) + len(encode(message["content"]))
            else:
                expected += 3 + 1 + len(encode(message["content"]))
        assert pair["response"]["usage"]["prompt_tokens"] == expected
        checked += 1
    assert checked > 20


def test_proxy_usage_is_the_published_count(through_proxy: list[dict[str, Any]]) -> None:
    for record in through_proxy[::2]:
        if record["status"] == "failure":
            assert record["response"] is None
            assert record["error_information"]["error_code"] in ("400", "429", "500", "529")
            continue
        assert record["response"]["usage"]["prompt_tokens"] == record["prompt_tokens"]
        assert record["total_tokens"] == record["prompt_tokens"] + record["completion_tokens"]
        if record["custom_llm_provider"] == "openai":
            assert record["prompt_tokens"] == chat_prompt(record["messages"])


def test_embeddings_are_counted_with_their_own_table(pairs: list[dict[str, Any]]) -> None:
    checked = 0
    for pair in pairs[::3]:
        if api_of(pair) == "embeddings" and pair["status"] == 200:
            texts = pair["request"]["input"]
            texts = [texts] if isinstance(texts, str) else texts
            expected = sum(len(encode(text, "cl100k_base")) for text in texts)
            assert pair["response"]["usage"] == {"prompt_tokens": expected, "total_tokens": expected}
            assert len(pair["response"]["data"]) == len(texts)
            checked += 1
    assert checked > 300


def test_retrieval_embeds_the_question_it_then_asks(pairs: list[dict[str, Any]]) -> None:
    traces: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    for pair in pairs:
        if pair["app"] == "docs-rag":
            traces[pair["trace_id"]][pair["feature"]] = pair
    both = [trace for trace in traces.values() if len(trace) == 2]
    assert len(both) > 0.9 * len(traces)
    for trace in both:
        question = trace["embed-query"]["request"]["input"]
        assert trace["ask-docs"]["request"]["messages"][1]["content"].split("\n\n")[0] == question


def test_responses_streams_end_with_the_whole_answer(pairs: list[dict[str, Any]]) -> None:
    closings = set()
    for pair in pairs:
        if api_of(pair) != "responses" or pair["status"] != 200:
            continue
        body = pair["response"]
        if pair["stream"]:
            deltas = [c for c in body["stream"] if c["type"] == "response.output_text.delta"]
            assert body["stream"][0]["response"]["usage"] is None
            body = body["stream"][-1]["response"]
            assert "".join(c["delta"] for c in deltas) == body["output"][-1]["content"][0]["text"]
            assert {body["output"][c["output_index"]]["type"] for c in deltas} == {"message"}
        assert body["status"] == "completed"
        usage = body["usage"]
        reasoning = usage["output_tokens_details"]["reasoning_tokens"]
        assert [item["type"] for item in body["output"]] == ["reasoning", "message"][reasoning == 0 :]
        closing = 6 if reasoning else 4
        assert usage["output_tokens"] - reasoning == len(encode(body["output"][-1]["content"][0]["text"])) + closing
        closings.add(closing)
    assert closings == {4, 6}


def anthropic_usage(pair: dict[str, Any]) -> dict[str, Any]:
    body = pair["response"]
    if not pair["stream"]:
        return dict(body["usage"])
    deltas = [chunk["usage"] for chunk in body["stream"] if chunk["type"] == "message_delta"]
    return {**body["stream"][0]["message"]["usage"], **deltas[-1]}


def test_agents_repeat_their_tools_grow_their_history_and_read_it_from_the_cache(pairs: list[dict[str, Any]]) -> None:
    runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for pair in pairs:
        if pair.get("agent") == "code-agent" and pair["status"] == 200 and "started_at" in pair:
            runs[pair["session_id"]].append(pair)
    assert runs
    for steps in runs.values():
        steps.sort(key=lambda pair: pair["started_at"])
        tools = [pair["request"]["tools"] for pair in steps]
        assert all(each == tools[0] for each in tools)
        for before, after in itertools.pairwise(steps):
            was, now = before["request"]["messages"], after["request"]["messages"]
            if len(now) == len(was):
                continue  # the same step, tried again
            assert len(now) > len(was)
            assert now[0]["content"][0]["text"] == was[0]["content"][0]["text"]
        for pair in steps:
            usage = anthropic_usage(pair)
            assert min(usage[n] for n in ("input_tokens", "cache_read_input_tokens", "output_tokens")) >= 0
            assert sum(usage["cache_creation"].values()) == usage["cache_creation_input_tokens"]
    lengths = [max(int(pair["step"].removeprefix("step-")) for pair in steps) for steps in runs.values()]
    assert max(lengths) <= 40
    usages = [anthropic_usage(pair) for steps in runs.values() for pair in steps]
    read = sum(usage["cache_read_input_tokens"] for usage in usages)
    written = sum(usage["cache_creation_input_tokens"] for usage in usages)
    assert read > written  # also with the incident in which nothing is read


def test_failures_have_the_shape_of_their_vendor(pairs: list[dict[str, Any]]) -> None:
    failed = [pair for pair in pairs if pair["status"] != 200]
    assert {pair["status"] for pair in failed} >= {400, 429, 500}
    for pair in failed:
        error = pair["response"]["error"]
        assert error["message"]
        assert "usage" not in pair["response"]
        assert ("retry-after" in pair["response_headers"]) == (pair["status"] == 429)
        if pair["provider"] == "anthropic":
            assert pair["response"]["type"] == "error"


def test_retries_follow_failures_in_the_same_trace(pairs: list[dict[str, Any]]) -> None:
    retries = [pair for pair in pairs if pair["attempt"] > 1]
    assert retries
    failed = {(pair["session_id"], pair["trace_id"], pair["attempt"]) for pair in pairs if pair["status"] != 200}
    # A few of the failures were among the records that were broken.
    known = sum((pair["session_id"], pair["trace_id"], pair["attempt"] - 1) in failed for pair in retries)
    assert known >= 0.9 * len(retries)


def test_keys_in_headers_are_fake_and_nothing_else_looks_like_one(run: Run) -> None:
    text = b"\n".join(run.lines)
    keys = re.findall(rb'"(?:authorization|api-key|x-api-key)":"([^"]+)"', text)
    assert keys
    for key in keys:
        assert re.fullmatch(rb"(Bearer sk-fake-|sk-ant-fake-|fake)[0-9a-f]{24}", key)
    for kind in (rb"sk-(?!fake|ant-fake)[A-Za-z0-9_-]{8,}", rb"AKIA[0-9A-Z]{16}", rb"ghp_\w{20,}", rb"AIza[\w-]{30,}"):
        assert not re.search(kind, text)
    assert b"@" not in text  # no addresses of people
