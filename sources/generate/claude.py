"""What Anthropic would report for Claude, made up, so that generated usage lies where that of recorded calls does.

Anthropic publishes no tokenizer. A text has its tokens of ``o200k_base`` times a ratio, and a few more or less, always the
same for the same text; what is written around texts is as recorded calls of Claude 4.5 show (docs/counting.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from math import sqrt
from typing import Any, Final
from zlib import crc32

from sources.generate.tokens import counter

RATIO: Final = 1.06
"""Tokens for one of ``o200k_base``. ``ctok``, a reconstruction of Claude's tokenizer, finds 1.07 in questions and answers of
this traffic, 1.03 in its system prompts and tools, 1.13 in arguments of calls; one sentence has 6 % more, another 6 % less."""

OPENING: Final = 4
"""What opens the answer."""
MESSAGE: Final = 3
"""Around each message. The system prompt has nothing around it."""

TOOLS: Final = 497
"""Instructions to call tools, which no log shows."""
TOOL: Final = 6
"""Around the JSON of each tool."""

CALL: Final = 24
CALL_ARGUMENT: Final = 13
RESULT: Final = 16
"""Around a tool call of the history, at each of its arguments, and around its result."""

ANSWER_TEXT: Final = 3
ANSWER_CALL: Final = 33
ANSWER_CALL_ARGUMENT: Final = 15
"""Around an answer of text, or one tool call and at each of its arguments."""


def text(said: str, tokens: int) -> int:
    """Tokens of a text that has ``tokens`` in ``o200k_base``."""
    chance = crc32(said.encode()) / 2**32 - 0.5
    return max(1, scaled(tokens) + round(chance * sqrt(tokens)))


def scaled(tokens: int) -> int:
    """The same of a text that is short, or always there."""
    return round(RATIO * tokens)


def tools(listed: Iterable[Mapping[str, Any]]) -> int:
    """Tokens that a tool list adds to the prompt: each tool is JSON with a blank after colons and commas."""
    count = counter("o200k_base")
    declared = [{"description": t["description"], "name": t["name"], "parameters": t["input_schema"]} for t in listed]
    return TOOLS + sum(TOOL + scaled(count(json.dumps(tool, ensure_ascii=False))) for tool in declared)
