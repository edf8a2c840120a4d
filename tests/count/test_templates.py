"""Tools and calls as chat templates of open models write them, held to what such a prompt looks like as text."""

from __future__ import annotations

import json
import os

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.call import Call, Content, Message, Part
from transforms.count import Counter
from transforms.count.dialects import spaced
from transforms.count.templates import mistral_tools
from transforms.count.tokenizers import available, tokenizer

pytestmark = pytest.mark.skipif(
    not os.environ.get("CI") and not available("tekken"), reason="the extra tokenizers is not installed"
)

ADD = {"function": {"name": "add", "parameters": {"properties": {"x": {"type": "integer"}}, "required": ["x"], "type": "object"}}}
RUN = {"type": "function", "function": {"description": "Runs it.", "name": "run", "parameters": None}}
ADD_TEXT = (
    '{"type": "function", "function": {"name": "add", "description": "", "parameters": '
    '{"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}}}'
)
RUN_TEXT = '{"type": "function", "function": {"name": "run", "description": "Runs it.", "parameters": null}}'
TOOLS = orjson.dumps([ADD, RUN])


def counted(*said: Message, tools: bytes = b"", choice: str = "", answer: tuple[Part, ...] = (), stop: str = "stop") -> Call:
    one = Call()
    one.model, one.provider, one.api, one.operation, one.stop_reason = "ministral-3b", "mistral", "mistral.chat", "chat", stop
    one.content = Content()
    one.content.prompt = list(said)
    one.content.tools_json, one.content.tool_choice = tools, choice
    one.content.output = [Message("assistant", answer)] if answer else []
    Counter().count(one)
    return one


def say(role: str, *parts: Part) -> Message:
    return Message(role, parts)


HELLO = say("user", Part("text", "hello"))
PLAIN = 4  # <s> [INST] hello [/INST]


@pytest.mark.parametrize(
    ("choice", "listed", "begun"),
    [
        ("", f"[{ADD_TEXT}, {RUN_TEXT}]", 0),
        ("any", f"[{ADD_TEXT}, {RUN_TEXT}]", 0),
        ("add", f"[{ADD_TEXT}]", 3),  # [TOOL_CALLS] add [ARGS]
        ("none", "", 0),
    ],
)
def test_the_tools_that_a_choice_leaves_are_listed(choice: str, listed: str, begun: int) -> None:
    assert choice == "none" or mistral_tools(TOOLS, choice) == listed
    call = counted(HELLO, tools=TOOLS, choice=choice)
    around = 2 if listed else 0  # [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS]
    assert call.counted_input == PLAIN + tokenizer("tekken").count(listed) + around + begun
    assert (call.count_quality, call.counted_input_error) == ("exact_tokenizer", 0)
    assert call.tools_count == 2


def test_calls_and_results_stand_between_markers() -> None:
    count = tokenizer("tekken").count
    called = say("assistant", Part("call", '{"x":1}', "add"), Part("call", "{}", "run"))
    results = [say("tool", Part("result", "two", "add")), say("tool", Part("result", "done", "run"))]
    call = counted(HELLO, called, *results, tools=TOOLS)
    written = count("add") + count('{"x": 1}') + count("run") + count("{}") + count("two") + count("done")
    markers = 2 * 2 + 1 + 2 * 2  # [TOOL_CALLS] and [ARGS] of each, </s>, [TOOL_RESULTS] and [/TOOL_RESULTS] of each
    assert call.counted_input == counted(HELLO, tools=TOOLS).counted_input + written + markers  # type: ignore[operator]
    assert call.count_quality == "exact_tokenizer"


@pytest.mark.parametrize(("stop", "end"), [("tool_calls", 1), ("length", 0)])
def test_an_answer_that_calls_is_closed_unless_it_was_cut(stop: str, end: int) -> None:
    count = tokenizer("tekken").count
    call = counted(HELLO, tools=TOOLS, answer=(Part("call", '{"x":1}', "add"),), stop=stop)
    assert call.counted_output == count("add") + count('{"x": 1}') + 2 + end
    assert call.counted_output_error == 0


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20))
def test_arguments_and_schemas_keep_all_they_say(value: object) -> None:
    try:
        text = orjson.dumps(value).decode()
    except TypeError:  # orjson writes no lone surrogates and no integers of more than 64 bits
        return
    assert json.loads(spaced(text)) == value
    tools = orjson.dumps([{"name": "f", "parameters": value}])
    assert json.loads(mistral_tools(tools, ""))[0]["function"]["parameters"] == value


@pytest.mark.parametrize("tools", [b"", b"{", b"{}", b"[1]", b'[{"type":"web_search"}]', b"[" * 2000 + b"]" * 2000])
def test_what_is_no_list_of_functions_lists_none(tools: bytes) -> None:
    assert mistral_tools(tools, "") == ""
    assert spaced(tools.decode() or "x") is not None
