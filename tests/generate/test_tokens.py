"""How tools are counted, against what OpenAI and Azure reported for real requests."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson

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
