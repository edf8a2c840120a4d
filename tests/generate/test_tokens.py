"""How tools, answers of gpt-5 and all of Claude are counted, against what vendors reported for real requests."""

from __future__ import annotations

import gzip
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from sources.generate import claude, tokens
from sources.generate.tokens import counter, render_tools, system_with_tools
from tests.generate.oracle import encode

SIMPLE = {"string", "integer", "number", "boolean"}


def is_plain(tool: dict[str, Any]) -> bool:
    """Whether a tool is of the kind the generator makes: one line of description, plain described properties."""
    function = tool.get("function") or {}
    properties = function.get("parameters", {}).get("properties") or {}
    return (
        bool(properties)
        and "\n" not in function.get("description", "\n")
        and all(
            set(p) <= {"type", "description", "enum"} and "description" in p and p.get("type") in SIMPLE
            for p in properties.values()
        )
    )


def test_tools_cost_what_real_calls_reported(shared: Path) -> None:
    right = total = 0
    with gzip.open(shared / "data" / "calls" / "calls.jsonl.gz") as lines:
        for line in lines:
            if b'"tools"' not in line or b'"openai.chat"' not in line:
                continue
            call = orjson.loads(line)
            request = call["request"]
            messages, tools = request.get("messages", []), request.get("tools")
            if (
                call["provider"] not in ("openai", "azure")
                or not str(request.get("model")).startswith(("gpt-4o", "gpt-4.1"))
                or not call["usage"]
                or not tools
                or not all(is_plain(tool) for tool in tools)
                or [message["role"] for message in messages] not in (["system", "user"], ["user"])
                or not all(isinstance(message["content"], str) for message in messages)
                or "response_format" in request
                or isinstance(request.get("tool_choice"), dict)
            ):
                continue
            if len(messages) == 2:
                first = system_with_tools(counter("o200k_base"), messages[0]["content"], tools)
            else:
                first = len(encode(render_tools(tools))) - 1  # a message of its own
            counted = 3 + 3 + 1 + first + 3 + 1 + len(encode(messages[-1]["content"]))
            total += 1
            right += counted == call["usage"]["prompt_tokens"]
    assert total >= 30
    assert right == total


def real_calls(shared: Path, *marks: bytes) -> Iterator[dict[str, Any]]:
    """Whole answers to requests that are all there, of which a mark is in the line."""
    with gzip.open(shared / "data" / "calls" / "calls.jsonl.gz") as lines:
        for line in lines:
            if any(mark in line for mark in marks) and b"[ELIDED" not in line:
                call = orjson.loads(line)
                if call["status"] == 200 and call["usage"] and isinstance(call["response"], dict) and not call["stream"]:
                    yield call


def test_answers_of_gpt_5_cost_what_real_calls_reported(shared: Path) -> None:
    chat: Counter[int] = Counter()
    responses: dict[bool, Counter[int]] = {True: Counter(), False: Counter()}
    for call in real_calls(shared, b'"openai.chat"', b'"openai.responses"'):
        request, response, usage = call["request"], call["response"], call["usage"]
        asked = str(request.get("model"))
        if call["provider"] != "openai" or not re.match(r"gpt-5(-mini|-nano|\.[12])?(-20|$)", asked) or request.get("tools"):
            continue
        if call["api"] == "openai.chat" and "response_format" not in request and len(response["choices"]) == 1:
            said = response["choices"][0]["message"]["content"]
            details = usage["completion_tokens_details"]
            if said and response["choices"][0]["finish_reason"] == "stop":
                chat[usage["completion_tokens"] - details["reasoning_tokens"] - len(encode(said))] += 1
        elif call["api"] == "openai.responses" and "text" not in request and response.get("status") == "completed":
            kinds = [item["type"] for item in response["output"]]
            if kinds[-1:] == ["message"] and set(kinds) <= {"reasoning", "message"}:
                said = "".join(part.get("text", "") for part in response["output"][-1]["content"])
                visible = usage["output_tokens"] - usage["output_tokens_details"]["reasoning_tokens"]
                responses["reasoning" in kinds][visible - len(encode(said))] += 1
    assert chat[tokens.ANSWER_GPT5] > 0.9 * chat.total() > 18, chat
    # What is told of reasoning is a multiple of 64, and where that is less than there was, the rest is in the difference.
    without, after = responses[False], responses[True]
    assert without.most_common(1)[0][0] == tokens.ANSWER_GPT5_RESPONSES, without
    assert after.most_common(1)[0] >= (tokens.ANSWER_GPT5_RESPONSES + tokens.ANSWER_AFTER_THOUGHT, 10), after


def blocks_of(content: Any) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def of_claude(content: Any) -> int:
    """Tokens of texts, calls and results by the rules of the generator."""
    total = 0
    for block in blocks_of(content):
        if block["type"] == "tool_use":
            values = [one if isinstance(one, str) else orjson.dumps(one).decode() for one in block["input"].values()]
            said = [block["name"], *block["input"], *values]
            total += claude.CALL + claude.CALL_ARGUMENT * len(block["input"]) + sum(map(counter("o200k_base"), said))
        elif block["type"] == "tool_result":
            total += claude.RESULT + of_claude(block["content"])
        else:
            total += claude.scaled(len(encode(block["text"])))
    return total


def test_claude_costs_about_what_real_calls_reported(shared: Path) -> None:
    off: dict[bool, list[float]] = {True: [], False: []}
    answers: list[float] = []
    for call in real_calls(shared, b'"anthropic.messages"'):
        request, usage = call["request"], call["usage"]
        if not re.search(r"claude-(sonnet|haiku|opus)-4-[56]", str(request.get("model"))) or "max_tokens" not in request:
            continue
        tools, choice = request.get("tools") or [], request.get("tool_choice") or {"type": "auto"}
        known = {"model", "max_tokens", "system", "messages", "tools", "tool_choice", "temperature", "stream", "metadata"}
        if not set(request) <= known or choice["type"] != "auto" or any("input_schema" not in tool for tool in tools):
            continue
        if not set(re.findall(r'"type":"([a-z_0-9]+)"', orjson.dumps(request["messages"]).decode())) <= {
            "text", "tool_use", "tool_result", "ephemeral",
        }:  # fmt: skip
            continue
        if any("description" not in tool for tool in tools):
            continue
        expected = claude.OPENING + of_claude(request.get("system") or "")
        expected += sum(claude.MESSAGE + of_claude(message["content"]) for message in request["messages"])
        expected += claude.tools(tools) if tools else 0
        reported = usage["input_tokens"] + (usage.get("cache_read_input_tokens") or 0)
        reported += usage.get("cache_creation_input_tokens") or 0
        off[bool(tools)].append(reported / expected)
        said = call["response"]["content"]
        if [block["type"] for block in said] == ["text"] and call["response"]["stop_reason"] == "end_turn":
            answers.append(usage["output_tokens"] / (claude.ANSWER_TEXT + of_claude(said)))
        elif [block["type"] for block in said] == ["tool_use"]:
            (block,) = said
            more = claude.ANSWER_CALL - claude.CALL
            more += (claude.ANSWER_CALL_ARGUMENT - claude.CALL_ARGUMENT) * len(block["input"])
            answers.append(usage["output_tokens"] / (of_claude(said) + more))
    for ratios, least in ((off[True], 80), (off[False], 60), (answers, 100)):
        assert len(ratios) >= least
        assert 0.97 < statistics.median(ratios) < 1.03
        assert sum(0.9 < ratio < 1.1 for ratio in ratios) > 0.75 * len(ratios)
