"""Renderings of tools and schemas, written out by hand, and hostile ones."""

from __future__ import annotations

import time
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transforms.count import families
from transforms.count.families import family
from transforms.count.rules import compact, last_run, parallel, render_schema, render_tools, results
from transforms.count.tokenizers import PACKAGED, tokenizer


def rendered(*properties: tuple[str, object], required: tuple[str, ...] = (), **more: Any) -> str:
    schema = {"type": "object", "properties": dict(properties), "required": list(required), **more}
    text = render_tools(orjson.dumps([{"type": "function", "function": {"name": "t", "parameters": schema}}])).text
    return text.removeprefix("# Tools\n\n## functions\n\nnamespace functions {\n\ntype t = (_: ").removesuffix(
        ") => any;\n\n} // namespace functions"
    )


def test_types() -> None:
    assert rendered(("a", {"type": "integer"}), ("b", {"enum": ["x", "y"]}), required=("a",)) == (
        '{\na: number,\nb?: "x" | "y",\n}'
    )
    assert rendered(("a", {"type": "array", "items": {"type": "string"}}), ("b", {"type": "array"})) == (
        "{\na?: string[],\nb?: any[],\n}"
    )
    assert rendered(("a", {"anyOf": [{"type": "boolean"}, {"type": "null"}], "default": None})) == (
        "{\na?: boolean | null, // default: null\n}"
    )
    assert rendered(("a", {"type": "object", "properties": {"b": {"type": "number"}}})) == "{\na?: {\nb?: number,\n},\n}"
    assert rendered(("a", {"$ref": "#/$defs/A"}), definitions={"A": {"const": 1}}) == "{\na?: 1,\n}"
    assert rendered(("a", {"title": "A", "description": " one \n\n two "})) == "{\n// A\n//\n// one\n//\n// two\na?: any,\n}"


def test_types_with_comments_of_their_own_begin_on_a_new_line() -> None:
    author = {"title": "Author", "description": "Who.", "type": "object", "properties": {"name": {"type": "string"}}}
    assert rendered(("a", {"$ref": "#/$defs/A"}), required=("a",), **{"$defs": {"A": author}}) == (
        "{\na:\n// Author\n//\n// Who.\n{\nname?: string,\n},\n}"
    )
    assert rendered(("a", {"type": "array", "items": author}), required=("a",)) == (
        "{\na: Array<\n// Author\n//\n// Who.\n{\nname?: string,\n}\n>,\n}"
    )
    assert rendered(("a", {"type": ["string", "null"], "description": "D"}), required=("a",)) == (
        "{\n// D\na:\n | \n// D\nstring\n | \n// D\nnull,\n}"
    )
    assert rendered(("a", {"type": ["string", "null"]}), required=("a",), description="All") == "// All\n{\na: string | null,\n}"
    tool = {"name": "t", "parameters": {"properties": {"a": {"type": ["string", "null"], "description": "D"}}, "required": ["a"]}}
    assert "a: string | null,\n" in render_tools(orjson.dumps([tool]), responses=True).text


def test_tools_of_other_vendors_and_shapes() -> None:
    wrapped = {"toolSpec": {"name": "t", "inputSchema": {"json": {"properties": {"a": {"type": "string"}}}}}}
    flat = {"name": "t", "input_schema": {"properties": {"a": {"type": "string"}}}}
    chat = {"function": {"name": "t", "parameters": {"properties": {"a": {"type": "string"}}}}}
    texts = {render_tools(orjson.dumps([tool])).text for tool in (wrapped, flat, chat)}
    assert len(texts) == 1
    assert render_tools(b'[{"type":"web_search"}]') == ("", 0, 1)
    assert render_tools(b"cut {") == ("cut {", 0, 1)


def test_schema_leaves_out_keywords_but_not_properties_of_that_name() -> None:
    inner = {"type": "array", "maxItems": 3, "default": False}
    schema = {"type": "object", "properties": {"required": inner}, "required": ["required"], "additionalProperties": False}
    shape = render_schema(orjson.dumps({"name": "n", "description": "d", "strict": True, "schema": schema}))
    assert shape.name == "n"
    assert shape.text == ('# Response Formats\n\n## n\n\n// d\n{"type":"object","properties":{"required":{"type":"array"}}}')


def test_calls() -> None:
    assert compact('{ "a": [1, 2] }') == '{"a":[1,2]}'
    assert compact('{"a": ') == '{"a": '
    assert parallel([("f", "{}"), ("g", '{"x": 1}')]) == (
        '{"tool_uses":[{"recipient_name":"functions.f","parameters":{}},{"recipient_name":"functions.g","parameters":{"x":1}}]}'
    )


def test_results_of_several_calls_are_a_list() -> None:
    assert results(["a\nb", 'say "é"']) == '["a\\nb", "say \\"é\\""]'


def test_hostile_schemas_end() -> None:
    names = [f"d{number}" for number in range(60)]
    loop = {"anyOf": [{"$ref": f"#/$defs/{name}"} for name in names]}
    deep: dict[str, object] = {}
    for _ in range(60):
        deep = {"type": "object", "properties": {"a": deep}, "items": deep}
    tools = [
        {"name": "t", "parameters": {"properties": {"a": loop}, "$defs": dict.fromkeys(names, loop)}},
        {"name": "u", "parameters": {"properties": {"a": {"type": "array", "items": {"$ref": "#/$defs/a"}}}}},
    ]
    start = time.process_time()
    assert len(render_tools(orjson.dumps(tools)).text) < 1_000_000
    assert time.process_time() - start < 2
    nested: object = 1
    for _ in range(100):
        nested = {"properties": {"a": nested}}
    render_tools(orjson.dumps([{"name": "t", "parameters": nested}]))
    render_schema(orjson.dumps({"schema": nested}))


json = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "function",
                    "parameters",
                    "properties",
                    "type",
                    "items",
                    "enum",
                    "required",
                    "anyOf",
                    "$ref",
                    "$defs",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=300, deadline=None)
@given(json)
def test_any_json_is_rendered(value: object) -> None:
    data = orjson.dumps(value)
    render_tools(data)
    render_tools(orjson.dumps([{"name": "t", "parameters": {"properties": {"a": value}}}]))
    render_schema(data)


@pytest.mark.parametrize("encoding", ["o200k_base", "cl100k_base"])
@settings(max_examples=300, deadline=None)
@given(text=st.text(max_size=40) | st.text(alphabet="ab1 .,'\n\r\t!/é\u0301日", max_size=30))
def test_joining_costs_what_joining_to_the_end_costs(encoding: str, text: str) -> None:
    count = tokenizer(encoding).count
    end = last_run(text)
    assert text.endswith(end)
    whole = count(text + "\n\n# Tools") - count(text)
    assert whole == count(end + "\n\n") - count(end) + count("# Tools")


@pytest.mark.parametrize(
    ("model", "name", "tokenizer_name", "exact"),
    [
        ("gpt-3.5-turbo-0125", "gpt-4", "cl100k_base", True),
        ("gpt-35-turbo", "gpt-4", "cl100k_base", True),
        ("gpt-4-0613", "gpt-4-0613", "cl100k_base", True),
        ("gpt-4o-2024-08-06", "gpt-4o", "o200k_base", True),
        ("openai/gpt-4o-mini", "gpt-4o-mini", "o200k_base", True),
        ("gpt-4.1-2025-04-14", "gpt-4o", "o200k_base", True),
        ("gpt-4.5-preview", "gpt-4o", "o200k_base", True),
        ("gpt-4o-mini-search-preview-2025-03-11", "gpt-4o-search", "o200k_base", True),
        ("gpt-3.5-turbo-0301", "gpt-3.5-0301", "cl100k_base", True),
        ("gpt-4-1106-preview", "gpt-4", "cl100k_base", True),
        ("chatgpt-4o-latest", "gpt-4o", "o200k_base", True),
        ("o3-mini-2025-01-31", "o3-mini", "o200k_base", True),
        ("o1-2024-12-17", "o-series", "o200k_base", True),
        ("o4-mini", "o4-mini", "o200k_base", True),
        ("gpt-5-2025-08-07", "gpt-5", "o200k_base", True),
        ("gpt-5.4-mini-2026-03-17", "gpt-5.4-mini", "o200k_base", True),
        ("gpt-6.1-sol", "gpt-5", "o200k_base", True),
        ("gpt-5-codex", "gpt-5", "o200k_base", True),
        ("openai.gpt-oss-20b-1:0", "gpt-oss", "o200k_harmony", True),
        ("text-davinci-003", "unknown", "o200k_base", False),
        ("davinci", "unknown", "o200k_base", False),
        ("davinci-002", "gpt-4", "cl100k_base", True),
        ("davinci:2023-07-21-v2", "gpt-4", "cl100k_base", True),
        ("babbage-002", "gpt-4", "cl100k_base", True),
        ("text-embedding-3-large", "embedding", "cl100k_base", True),
        ("text-embedding-ada-002-v2", "embedding", "cl100k_base", True),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", "claude-3.5", "o200k_apart3", False),
        ("claude-3-opus-20240229", "claude-3", "o200k_apart3", False),
        ("claude-2.1", "claude-3", "o200k_apart3", False),
        ("claude-sonnet-4-20250514", "claude-4", "o200k_apart3", False),
        ("claude-opus-4-1-20250805", "claude-4", "o200k_apart3", False),
        ("claude-haiku-4-5-20251001", "claude-4.5", "o200k_apart3", False),
        ("anthropic/claude-4.6-sonnet-20260217", "claude-4.5", "o200k_apart3", False),
        ("claude-opus-4-7", "claude-4.7", "o200k_apart3", False),
        ("claude-opus-4-8", "claude-4.8", "o200k_apart3", False),
        ("claude-sonnet-5", "claude-4.8", "o200k_apart3", False),
        ("gemini-2.5-flash", "gemini-2.5", "o200k_apart", False),
        ("gemini-3-pro-preview", "gemini", "o200k_apart", False),
        ("models/gemini-2.0-flash-001", "gemini-2.0", "o200k_apart", False),
        ("meta-llama/llama-3-3-70b-instruct", "llama-3.1", "o200k_base", False),
        ("llama3-8b-8192", "llama", "o200k_base", False),
        ("deepseek-chat", "deepseek", "o200k_base", False),
        ("solar-pro-2", "unknown", "o200k_base", False),
        ("", "unknown", "o200k_base", False),
    ],
)
def test_families(monkeypatch: pytest.MonkeyPatch, model: str, name: str, tokenizer_name: str, exact: bool) -> None:
    monkeypatch.setattr(families, "available", lambda name: name not in PACKAGED)  # without the extra tokenizers
    found = family.__wrapped__(model)
    assert (found.name, found.tokenizer, found.exact) == (name, tokenizer_name, exact)
