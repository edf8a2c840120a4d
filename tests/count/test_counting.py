"""What a counted call says: figures worked out by hand with tiktoken, and laws."""

from __future__ import annotations

import base64
import copy
import dataclasses
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.call import Call, Content, Media, Message, Part
from transforms.count import families
from transforms.count.counting import Counter, Settings
from transforms.count.families import family
from transforms.count.tokenizers import tiktoken_counter, tokenizer

KEY = b"a key for tests"
COUNTER = Counter(Settings(hash_key=KEY))


@pytest.fixture(scope="module")
def o200k() -> Callable[[str], int]:
    return tiktoken_counter("o200k_base")


def make(
    prompt: list[Message],
    output: list[Message] | None = None,
    model: str = "gpt-4o",
    tools: bytes = b"",
    schema: bytes = b"",
    **fields: Any,
) -> Call:
    call = Call()
    call.provider, call.model, call.api, call.operation = "openai", model, "openai.chat", "chat"
    for name, value in fields.items():
        setattr(call, name, value)
    call.content = Content(prompt=prompt, output=output or [], tools_json=tools, schema_json=schema)
    return call


def say(role: str, text: str, name: str = "") -> Message:
    return Message(role, (Part("text", text),), name)


def counted(call: Call, counter: Counter = COUNTER) -> Call:
    call = copy.copy(call)
    call.content = copy.copy(call.content)
    counter.count(call)
    return call


def framing(call: Call) -> int:
    assert call.counted_input is not None
    parts = (call.system_tokens, call.tools_tokens, call.history_tokens, call.tool_result_tokens, call.user_tokens)
    return call.counted_input - sum(parts)


def test_plain_chat(o200k: Callable[[str], int]) -> None:
    texts = ["You are terse.", "Hi!", "Hello, how can I help?", "Name the capital of France.", "And of Spain?"]
    roles = ["system", "user", "assistant", "user", "user"]
    call = counted(make([say(r, t) for r, t in zip(roles, texts, strict=True)], [say("assistant", "Paris. Madrid.")]))
    tokens = [o200k(text) for text in texts]
    assert call.counted_input == sum(tokens) + 4 * 5 + 3
    assert (call.system_messages, call.history_messages, call.user_messages) == (1, 2, 2)
    assert call.system_tokens == tokens[0]
    assert call.history_tokens == tokens[1] + tokens[2]
    assert call.user_tokens == tokens[3] + tokens[4]
    assert call.user_bytes == len("Name the capital of France.And of Spain?")
    assert framing(call) == 4 * 5 + 3
    assert call.counted_output == call.answer_tokens == o200k("Paris. Madrid.")
    assert (call.counted_with, call.count_quality) == ("o200k_base", "exact_tokenizer")
    assert call.content is None


def test_a_name_costs_one_more_than_itself() -> None:
    plain = counted(make([say("user", "Hi")]))
    named = counted(make([say("user", "Hi", "Ann")]))
    as_role = counted(make([say("user", "Hi", "user")]))
    assert plain.counted_input is not None
    assert named.counted_input == plain.counted_input + 2  # "Ann" is one token
    assert as_role.counted_input == plain.counted_input + 1
    call = Message("assistant", (Part("call", "{}", "f"),))
    unnamed = counted(make([say("user", "Hi"), call])).counted_input
    assert unnamed is not None
    assert counted(make([say("user", "Hi"), call._replace(name="Ann")])).counted_input == unnamed + 1


@pytest.mark.parametrize(
    ("model", "tokenizer", "reply"), [("gpt-4", "cl100k_base", 3), ("o3", "o200k_base", 2), ("gpt-5", "o200k_base", 2)]
)
def test_generations(model: str, tokenizer: str, reply: int) -> None:
    call = counted(make([say("user", "naïve café")], model=model))
    assert call.counted_with == tokenizer
    assert call.counted_input == tiktoken_counter(tokenizer)("naïve café") + 4 + reply


def test_tool_history(o200k: Callable[[str], int]) -> None:
    prompt = [
        say("user", "Weather in Rome?"),
        Message("assistant", (Part("call", '{"city": "Rome"}', "look_up"),)),
        Message("tool", (Part("result", "sunny"),)),  # names no tool: it answers the call before it
    ]
    call = counted(make(prompt))
    name = o200k("look_up")
    assert call.history_tokens == name + o200k('{"city":"Rome"}')
    assert (call.tool_result_tokens, call.tool_result_messages, call.tool_result_bytes) == (o200k("sunny"), 1, 5)
    assert call.user_tokens == o200k("Weather in Rome?")
    assert framing(call) == 4 + 8 + (5 + name) + 3
    named = [*prompt[:2], Message("tool", (Part("result", "sunny", "look_up"),))]
    assert counted(make(named)).counted_input == call.counted_input


def test_a_name_joins_with_the_dot_before_it_where_it_is_called(o200k: Callable[[str], int]) -> None:
    """``.file`` is one token, ``.knowledge`` is two; the result names the tool as it is."""
    assert (o200k("functions.file_search"), o200k("functions.knowledge_search")) == (3, 4)
    totals = []
    for name in ("file_search", "knowledge_search"):
        assert o200k(name) == 2
        call = Message("assistant", (Part("call", "{}", name),))
        prompt = [say("user", "Look it up."), call, Message("tool", (Part("result", "42", name),))]
        totals.append((counted(make(prompt)).counted_input, counted(make(prompt[:1], [call])).counted_output))
    assert (totals[1][0] - totals[0][0], totals[1][1] - totals[0][1]) == (1, 1)  # type: ignore[operator]


def test_results_of_several_calls_are_one_message(o200k: Callable[[str], int]) -> None:
    calls = Message("assistant", (Part("call", '{"a": 1}', "f"), Part("call", "{}", "long_name_of_a_tool")))
    results = [Message("tool", (Part("result", "one\n"), Part("result", "more"))), Message("tool", (Part("result", "two"),))]
    prompt = [say("user", "Do both."), calls, *results]
    whole = counted(make(prompt))
    assert whole.tool_result_tokens == o200k('["one\\nmore", "two"]')
    assert framing(whole) == 4 + 7 + 13 + 3
    assert whole.tool_result_messages == 2
    counter = Counter(Settings(hash_key=KEY))
    for length in (3, 4):  # the second result comes with a later call, which goes on from the first
        after = counted(make([say("system", "Be brief."), *prompt[:length]]), counter)
    assert after.tool_result_tokens == whole.tool_result_tokens
    apart = counted(make(prompt, api="openai.responses"))
    assert apart.tool_result_tokens == o200k("one\n") + o200k("more") + o200k("two")


def test_results_beside_words_are_told_apart(o200k: Callable[[str], int]) -> None:
    mixed = Message("user", (Part("result", "42 degrees", "t"), Part("text", "Now in Celsius, please.")))
    call = counted(make([say("user", "How hot?"), Message("assistant", (Part("call", "{}", "t"),)), mixed]))
    assert call.tool_result_tokens == o200k("42 degrees")
    assert call.user_tokens == o200k("Now in Celsius, please.")
    assert call.history_tokens == o200k("How hot?") + o200k("t") + o200k("{}")
    assert (call.user_messages, call.tool_result_messages, call.history_messages) == (1, 1, 2)
    own = Message("assistant", (Part("result", "page", "web_search"), Part("text", "It says so.")))
    call = counted(make([say("user", "Look it up"), own]))
    assert (call.user_tokens, call.history_tokens) == (o200k("Look it up"), o200k("It says so."))


TOOLS = (
    b'[{"type":"function","function":{"name":"f","description":"Does f.","parameters":{"type":"object",'
    b'"properties":{"x":{"type":"string","description":"the x"}},"required":["x"]}}}]'
)
RENDERED = """# Tools

## functions

namespace functions {

// Does f.
type f = (_: {
// the x
x: string,
}) => any;

} // namespace functions"""


def test_tools(o200k: Callable[[str], int]) -> None:
    bare = counted(make([say("user", "Hi")]))
    call = counted(make([say("user", "Hi")], [say("assistant", "Yes")], tools=TOOLS))
    assert call.tools_tokens == o200k(RENDERED) - 1
    assert (call.tools_count, call.tools_bytes) == (1, len(TOOLS))
    assert framing(call) == framing(bare) + 4  # in a message of their own
    assert call.counted_output == o200k("Yes") + 1
    # Beside a system prompt they are joined to it by a blank line.
    beside = counted(make([say("system", "Be brief."), say("user", "Hi")], tools=TOOLS))
    joined = o200k(f"Be brief.\n\n{RENDERED}") - 1
    assert beside.counted_input == joined + o200k("Hi") + 8 + 3


def test_answer_with_a_call(o200k: Callable[[str], int]) -> None:
    call = counted(make([say("user", "Hi")], [Message("assistant", (Part("call", '{"x":1}', "f"),))], tools=TOOLS))
    assert call.answer_call_tokens == call.answer_tokens == o200k("f") + o200k('{"x":1}')
    assert call.counted_output == call.answer_tokens + 7


def test_answers_that_could_have_been_calls_name_their_schema(o200k: Callable[[str], int]) -> None:
    tools = b'[{"type":"function","function":{"name":"f"}}]'
    schema = b'{"name":"structured_answer","schema":{"type":"object"}}'
    answer = [say("assistant", "{}")]
    without = counted(make([say("user", "?")], answer, tools=tools))
    with_it = counted(make([say("user", "?")], answer, tools=tools, schema=schema))
    assert with_it.counted_output == without.counted_output + 2 + o200k("structured_answer")  # type: ignore[operator]
    alone = counted(make([say("user", "?")], answer, schema=schema))
    assert alone.counted_output == o200k("{}")


def test_calls_of_responses_are_written_as_one(o200k: Callable[[str], int]) -> None:
    items = [Message("assistant", (Part("call", "{}", name),)) for name in ("f", "g")]
    call = counted(make([say("user", "?")], items, api="openai.responses"))
    wrapper = '{"tool_uses":[{"recipient_name":"functions.f","parameters":{}},{"recipient_name":"functions.g","parameters":{}}]}'
    assert (call.answer_call_tokens, call.counted_output) == (o200k(wrapper), o200k(wrapper) + 11)
    one = counted(make([say("user", "?")], items[:1], api="openai.responses"))
    assert one.counted_output == o200k("functions.f") - 1 + o200k("{}") + 8


def answered(*parts: Part, choice: str = "", model: str = "gpt-4o", items: bool = False, **more: Any) -> int:
    """Tokens counted for an answer of ``parts``: one message, or ``items`` of the Responses API; ``more`` are fields of the call
    or of its content."""
    output = [Message("assistant", (part,)) for part in parts] if items else [Message("assistant", parts)]
    inside = {name: more.pop(name) for name in ("tools", "schema", "reasoned", "refused") if name in more}
    call = make([say("user", "?")], output, model, inside.pop("tools", b""), inside.pop("schema", b""), **more)
    if items:
        call.api = "openai.responses"
    assert call.content is not None
    call.content.tool_choice = choice
    for name, value in inside.items():
        setattr(call.content, name, value)
    found = counted(call).counted_output
    assert found is not None
    return found


SAY = Part("text", "Four plus five is nine.")  # 6 tokens
LOOK = Part("call", '{"isbn":"7"}', "look_up")  # 2 tokens of a name and 5 of arguments
ONE_TOOL = b'[{"type":"function","function":{"name":"look_up"}}]'


def test_the_token_that_ends_an_answer_is_told_by_some() -> None:
    def on(day: str, **more: Any) -> int:
        time = datetime.fromisoformat(day + "T12:00+00:00").timestamp()
        return answered(SAY, event_time=int(time) * 1_000_000, **more)

    assert [on(day) for day in ("2025-01-12", "2025-01-22", "2025-05-13", "2025-05-20")] == [6, 7, 7, 6]
    assert on("2025-03-14", params=b'{"stop":["\\nObservation:"]}') == 6  # it may have ended there
    assert on("2025-03-14", params=b'{"stop":[]}') == 7
    assert on("2025-03-14", stop_reason="length") == 6
    assert answered(SAY, provider="azure") == answered(SAY, items=True) == 7
    assert answered(SAY, items=True, stop_reason="max_output_tokens") == 6
    assert answered(SAY, refused=True) == 7


def test_words_before_a_call_are_closed_too() -> None:
    assert answered(SAY, LOOK, tools=ONE_TOOL) == 6 + 1 + 7 + 7
    assert answered(SAY, LOOK, tools=ONE_TOOL, provider="azure") == 6 + 2 + 7 + 8
    assert answered(SAY, LOOK, tools=ONE_TOOL, items=True) == 6 + 2 + 7 + 8
    assert answered(SAY, LOOK, model="gpt-5.4", items=True) == (6 + 4) + 3 + (7 + 11)


def test_a_call_whose_name_was_given() -> None:
    assert answered(LOOK, choice="look_up", tools=ONE_TOOL) == 5
    assert answered(LOOK, choice="required", tools=ONE_TOOL) == 7 + 7
    assert answered(LOOK, choice="look_up", tools=ONE_TOOL, items=True) == 5 + 1
    assert answered(LOOK, choice="required", tools=ONE_TOOL, items=True) == 5 + 1
    assert answered(LOOK, choice="look_up", tools=ONE_TOOL, model="gpt-5-mini") == 7 + 16  # there it was
    assert answered(SAY, choice="none", tools=ONE_TOOL, items=True) == answered(SAY, items=True)


def test_a_call_with_blanks_was_one_of_several_to_be(o200k: Callable[[str], int]) -> None:
    """Arguments come out of the wrapper call as Python writes JSON; models write them without blanks, or on lines."""
    spaced = Part("call", '{"a": 1, "b": 2}', "add")
    wrapper = '{"tool_uses":[{"recipient_name":"functions.add","parameters":{"a":1,"b":2}}]}'
    assert answered(spaced, tools=ONE_TOOL) == o200k(wrapper) + 10
    on_lines = Part("call", '{\n  "a": 1,\n  "b": 2\n}', "add")
    assert answered(on_lines, tools=ONE_TOOL) == o200k("add") + o200k('{"a":1,"b":2}') + 7
    assert answered(spaced, model="gpt-5") == o200k("add") + o200k('{"a":1,"b":2}') + 16


@pytest.mark.parametrize(
    ("model", "text", "call", "thought", "schema"),
    [("gpt-5", 4, 11, 2, 3), ("gpt-5.6-sol", 4, 11, 2, 4), ("o4-mini", 4, 11, 2, 3), ("o3-mini", 1, 11, 0, 3)],
)
def test_answers_of_models_that_reason_on_responses(model: str, text: int, call: int, thought: int, schema: int) -> None:
    assert answered(SAY, model=model, items=True) == 6 + text
    assert answered(LOOK, model=model, items=True) == 7 + call
    assert answered(SAY, model=model, items=True, reasoned=True) == 6 + text + thought
    assert answered(SAY, model=model, items=True, schema=b'{"name":"n","schema":{}}') == 6 + text + schema
    assert answered(Part("reasoning", "A summary."), SAY, model=model, items=True, reasoned=True) == 6 + text + thought


def test_what_models_of_gpt_5_are_told_before_tools() -> None:
    def around(description: str, choice: str = "", model: str = "gpt-5") -> int:
        tools = b'[{"type":"function","function":{"name":"look_up","description":"%s"}}]' % description.encode()
        call = make([say("user", "?")], model=model, tools=tools)
        assert call.content is not None
        call.content.tool_choice = choice
        return framing(counted(call))

    assert around("Looks.") == 4 + 4 + 82 + 2
    assert around("") == around("Looks.") - 1
    assert around("Looks.", "look_up") == around("Looks.")
    assert around("Looks.", "look_up", "gpt-4o") > around("Looks.", "", "gpt-4o")


def called(name: str, arguments: str = "{}", stored: bool = False) -> Message:
    return Message("assistant", (Part("call", arguments, name, stored=stored),))


def told(text: str, name: str) -> Message:
    return Message("tool", (Part("result", text, name),))


def history(*messages: Message, model: str = "gpt-4o", api: str = "openai.responses", **more: Any) -> int:
    """Tokens that ``messages`` add to a prompt of one question."""
    asked = counted(make([say("user", "?")], model=model, api=api, **more)).counted_input
    whole = counted(make([say("user", "?"), *messages], model=model, api=api, **more)).counted_input
    assert asked is not None
    assert whole is not None
    return whole - asked


def test_a_call_of_responses_without_its_id_costs_less() -> None:
    one, other = told("red", "add"), told("blue", "add")  # a token each; the call has two
    assert history(called("add", stored=True), one) == (2 + 8 + 1) + (1 + 5 + 1)
    assert history(called("add"), one) == (2 + 8 + 1) + (1 + 5 + 1) - 3
    both = history(called("add"), called("add"), one, other)
    assert both == history(called("add", stored=True), called("add", stored=True), one, other) == (4 + 11 + 1) + 2 * 7


def test_how_several_calls_of_a_turn_are_written_on_responses(o200k: Callable[[str], int]) -> None:
    """Each in a message of its own up to GPT-5.3, and as one call around them all from 5.4 on; vendors count 17 for each call and
    its result, and 16 and twice 7."""
    one, other = told("red", "add"), told("blue", "add")
    assert history(called("add"), one, model="gpt-5") == 2 + 2 + 17
    assert history(called("add"), called("add"), one, other, model="gpt-5") == 2 * (2 + 2 + 17)
    assert history(called("add"), one, model="gpt-5.4") == 2 + 2 + 13 + 7
    for number in (2, 4):
        uses = ",".join(['{"recipient_name":"functions.add","parameters":{}}'] * number)
        turn = [*[called("add")] * number, *[one] * number]
        assert history(*turn, model="gpt-5.4") == o200k(f'{{"tool_uses":[{uses}]}}') + number * 2 + 16 + number * 7


def test_a_result_names_its_tool_as_the_call_does_on_models_that_reason(o200k: Callable[[str], int]) -> None:
    assert (o200k("dice"), o200k("functions.dice")) == (1, 3)
    for model, more in (("gpt-4o", 1), ("gpt-5.4", 2), ("o4-mini", 2)):
        dice = history(called("dice"), told("6", "dice"), model=model)
        assert dice - history(called("add"), told("6", "add"), model=model) == more
        unnamed = Message("tool", (Part("result", "6"),))
        assert history(called("dice"), unnamed, model=model) == dice


def test_summaries_of_reasoning_cost_nothing() -> None:
    thought = Message("assistant", (Part("reasoning", "A summary of what was thought."),))
    for api in ("openai.chat", "openai.responses"):
        answer = say("assistant", "42")
        assert history(thought, answer, model="gpt-5", api=api) == history(answer, model="gpt-5", api=api)


def test_required_means_the_only_tool_on_responses() -> None:
    def prompt(choice: str, tools: bytes, api: str = "openai.responses") -> int:
        call = make([say("user", "?")], tools=tools, api=api)
        assert call.content is not None
        call.content.tool_choice = choice
        found = counted(call).counted_input
        assert found is not None
        return found

    two = b'[{"name":"look_up"},{"name":"add"}]'
    assert prompt("required", ONE_TOOL) == prompt("look_up", ONE_TOOL) == prompt("auto", ONE_TOOL) + 7 + 2
    assert prompt("required", two) == prompt("auto", two)
    assert prompt("required", ONE_TOOL, "openai.chat") == prompt("auto", ONE_TOOL, "openai.chat")


def test_what_responses_put_before_prompts_in_its_first_weeks() -> None:
    def prompt(day: str, tools: bytes = b"", model: str = "gpt-4o", api: str = "openai.responses") -> int:
        time = int(datetime.fromisoformat(day + "T12:00+00:00").timestamp()) * 1_000_000
        found = counted(make([say("user", "?")], tools=tools, api=api, model=model, event_time=time)).counted_input
        assert found is not None
        return found

    strict = b'[{"name":"f","strict":true}]'
    for tools, more in ((b"", 18), (b'[{"name":"f"}]', 21), (strict, 216)):
        assert prompt("2025-03-27", tools) - prompt("2025-05-20", tools) == more
    assert prompt("2025-03-27", model="o3-mini") == prompt("2025-05-20", model="o3-mini")
    assert prompt("2025-03-27", strict, api="openai.chat") == prompt("2025-05-20", strict, api="openai.chat")


def test_past_answers_that_could_have_been_calls_name_the_schema_too() -> None:
    schema = b'{"name":"Result","schema":{"type":"object"}}'
    past = [called("look_up"), told("42", "look_up"), say("assistant", "{}")]
    without = history(*past, api="openai.chat", tools=ONE_TOOL)
    assert history(*past, api="openai.chat", tools=ONE_TOOL, schema=schema) == without + 2 + 1
    beside = make([say("system", "Be terse."), say("user", "?")], model="gpt-5.4-nano", api="openai.responses", schema=schema)
    assert framing(counted(beside)) == 2 * 4 + 2  # a schema alone is a message of its own, and told four less


def test_embeddings_are_the_sum_of_their_texts(o200k: Callable[[str], int]) -> None:
    cl100k = tiktoken_counter("cl100k_base")
    call = make([say("user", "one text"), say("user", "another")], model="text-embedding-3-small")
    call.operation, call.api = "embedding", "openai.embeddings"
    assert call.content is not None
    call.content.token_inputs = 9
    call = counted(call)
    assert call.counted_input == call.user_tokens == cl100k("one text") + cl100k("another") + 9
    assert call.counted_output is None


def test_images_by_the_published_rules() -> None:
    def image(model: str, *media: Any) -> Call:
        return counted(make([Message("user", (Part("text", "?"), Part("media", "", media=Media("image", *media))))], model=model))

    bare = counted(make([say("user", "?")])).user_tokens
    assert image("gpt-4o", 1024, 1024).user_tokens == bare + 765  # 85 + 4 tiles of 170, OpenAI's own example
    assert image("gpt-4o", 2048, 4096).user_tokens == bare + 1105  # OpenAI's own example
    assert image("gpt-4o", 4096, 4096, 0, "low").user_tokens == bare + 85  # likewise
    assert image("gpt-4o-mini", 512, 512).user_tokens == bare + 2833 + 5667
    unknown = image("gpt-4o", 0, 0)  # at least one tile
    assert (unknown.media_parts, unknown.count_quality, unknown.user_tokens) == (1, "partial", bare + 255)
    assert image("gpt-4.1-mini", 0, 0).user_tokens == bare


@pytest.mark.parametrize(
    ("model", "width", "height", "billed"),  # as vendors billed pictures of recorded calls
    [
        ("gpt-4.1-mini", 640, 480, 488),
        ("gpt-4.1-mini", 300, 346, 179),
        ("gpt-4.1-nano", 540, 360, 503),
        ("o4-mini", 640, 480, 517),
        ("gpt-5-mini", 597, 566, 413),
        ("gpt-5.4-nano", 512, 512, 312),
    ],
)
def test_images_by_patches(model: str, width: int, height: int, billed: int) -> None:
    media = Part("media", "", media=Media("image", width, height))
    with_it = counted(make([Message("user", (Part("text", "?"), media))], model=model))
    assert with_it.user_tokens == counted(make([say("user", "?")], model=model)).user_tokens + billed


def test_a_picture_whose_size_its_link_hints_at_is_counted_and_marked() -> None:
    def seen(media: Media) -> Call:
        return counted(make([Message("user", (Part("media", "", media=media),))]))

    told, hinted, blind = seen(Media("image", 612, 408)), seen(Media("image", 612, 408, guessed=True)), seen(Media("image"))
    assert told.user_tokens == hinted.user_tokens == 85 + 2 * 170
    assert (told.count_quality, hinted.count_quality) == ("exact_tokenizer", "partial")
    assert hinted.content_hash == blind.content_hash != told.content_hash


def test_sound_is_ten_tokens_a_second_and_four() -> None:
    """Vendors bill 6 for 0.2 s, and 41 for 3.7 s."""
    for length, billed in ((200, 6), (3_700, 41)):
        part = Part("media", "", media=Media("audio", milliseconds=length))
        call = counted(make([Message("user", (part,))], model="gpt-4o-audio-preview"))
        assert (call.user_tokens, call.count_quality) == (billed, "exact_tokenizer")
    unknown = counted(make([Message("user", (Part("media", "", media=Media("audio")),))]))
    assert (unknown.user_tokens, unknown.count_quality) == (0, "partial")


def test_estimate_and_partial_are_marked() -> None:
    call = counted(make([say("user", "Hello there")], model="claude-sonnet-4-5"))
    assert (call.count_quality, call.counted_with) == ("estimate", "o200k_apart3")
    cut = make([say("user", "Hello there")])
    assert cut.content is not None
    cut.content.complete = False
    assert counted(cut).count_quality == "partial"


@pytest.fixture
def without_gemma(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package with Gemini's tables is not here."""
    monkeypatch.setattr(families, "available", lambda name: not name.startswith("gemma"))
    family.cache_clear()
    yield
    family.cache_clear()


@pytest.mark.usefixtures("without_gemma")
def test_what_stands_in_for_a_tokenizer_and_how_far_it_may_be_off(o200k: Callable[[str], int]) -> None:
    text = "12345 + 1.\nDone, 77 of 100."
    expected = sum(map(o200k, [*"12345", " +", " ", "1", ".", "\n", "Done", ",", " ", *"77", " of", " ", *"100", "."]))
    call = counted(make([say("user", text)], [say("assistant", text)], model="gemini-2.5-flash", provider="gemini", api="gemini.generate"))
    assert (call.user_tokens, call.counted_input) == (expected, expected + 1)
    assert call.counted_input_error == 1 + 1  # 2.5 % of 23, rounded
    assert (call.counted_output, call.counted_output_error) == (expected, None)  # it thinks, and no record shows how much
    assert (call.usage_quality, call.count_quality) == ("partial", "estimate")
    older = counted(make([say("user", text)], [say("assistant", text)], model="gemini-2.0-flash", provider="gemini"))
    assert (older.counted_input, older.counted_output_error) == (expected, 1 + 1)
    assert counted(make([say("user", text)], model="gemini-2.5-flash", provider="vertex")).counted_input == expected


def test_what_a_vendor_adds_unseen() -> None:
    def claude(**more: Any) -> int:
        call = make([say("user", "What is new?")], model="claude-sonnet-4-5", provider="anthropic", api="anthropic.messages")
        assert call.content is not None
        for name, value in more.items():
            setattr(call.content, name, value)
        return counted(call).counted_input or 0

    plain, schema = claude(), b'{"schema":{"type":"object"}}'
    assert claude(thinking=True) == plain + 29
    # {" type ": ␣" object "} are six tokens, as they are in o200k_base
    assert claude(schema_json=schema) - plain == 98 + round(1.03 * (o200k_tokens('{"type": "object"}') * 1360 // 1000))
    tools = b'[{"name":"now","description":"","input_schema":{}}]'
    auto, forced = claude(tools_json=tools), claude(tools_json=tools, tool_choice="any")
    assert auto - plain == 497 + round(1.03 * (6 + o200k_tokens('{"name": "now", "parameters": {}}')))
    assert forced - auto == 589 - 497
    assert claude(tools_json=tools, tool_choice="none") == auto


ADD = {
    "name": "add",
    "description": "Add x and y together",
    "parameters": {
        "type": "object",
        "properties": {
            "x": {"type": "number", "description": "The first operand"},
            "y": {"type": "number", "description": "The second operand"},
        },
        "required": ["x", "y"],
    },
}
"""A tool whose texts are 4 to 5 plain words each: one token a word, in any table."""


@pytest.mark.parametrize(
    ("model", "provider", "tokens"),
    [
        # 18, its name and its description; of each argument twice its name, 8 and its description: a vendor's own count
        ("gemini-2.5-flash", "gemini", 18 + 1 + 5 + 2 * (2 + 8 + 3)),
        # <start>declaration:add{description:<escape>…<escape>,parameters:{properties:{x:{description:<escape>…<escape>,
        # type:<escape>NUMBER<escape>},y:{…}},required:[<escape>x<escape>,<escape>y<escape>],type:<escape>OBJECT<escape>}}<end>
        ("gemini-3-flash", "gemini", 18 + 1 + 5 + 2 + 2 * (2 + 1 + 5 + 3 + 5) + 3 + 5 + 2),
        # name and description, object, x and y required; of each its name, number and its description
        ("gemini-2.0-flash", "gemini", 1 + 5 + 1 + 2 + 2 * (1 + 1 + 3)),
        ("gemini-2.5-flash", "vertex", 1 + 5 + 1 + 2 + 2 * (1 + 1 + 3)),
    ],
)
def test_tools_of_gemini(model: str, provider: str, tokens: int) -> None:
    tools = orjson.dumps([{"functionDeclarations": [ADD]}])
    call = counted(make([say("user", "Hi")], model=model, tools=tools, provider=provider, api="gemini.generate"))
    assert call.tools_tokens == tokens


def _sealed(records: list[int]) -> str:
    """A signature of records of so many bytes, each with its mark and its length before it."""
    data = b""
    for size in records:
        data += b"\x0a" + (bytes([size]) if size < 128 else bytes([size & 127 | 128, size >> 7])) + bytes(size)
    return base64.urlsafe_b64encode(data).decode()


def test_thoughts_that_only_the_vendor_can_read_are_judged_by_their_signature() -> None:
    def asked(signature: str, *after: Message, **more: Any) -> Call:
        called = Message("assistant", (Part("sealed", signature), Part("call", "{}", "now")))
        answered = Message("tool", (Part("result", '{"time":"noon"}', "now"),))
        prompt = [say("user", "When?"), called, answered, *after]
        return counted(make(prompt, **{"model": "gemini-3-flash", "provider": "gemini", "api": "gemini.generate", **more}))

    bare = asked("")
    long, streamed = asked(_sealed([597])), asked(_sealed([200, 397]))
    less = bare.counted_input or 0
    assert long.counted_input == less + (600 - 60) * 100 // 395
    assert streamed.counted_input == less + (603 - 92) * 100 // 395
    assert long.history_tokens - bare.history_tokens == long.counted_input - less
    assert (long.counted_input_error or 0) > (bare.counted_input_error or 0) + 20
    # the turn is over once the user speaks; Gemini 2.5 reads its thoughts again where it streams
    spoken = asked(_sealed([597]), say("user", "Thanks"))
    assert spoken.counted_input == asked("", say("user", "Thanks")).counted_input
    older = {"model": "gemini-2.5-flash"}
    assert asked(_sealed([597]), **older).counted_input == asked("", **older).counted_input
    assert asked(_sealed([597]), stream=True, **older).counted_input == (asked("", **older).counted_input or 0) + 136
    # what stands in for a signature means no thoughts, what a recorder wrote over it that nobody knows
    assert asked("skip_thought_signature_validator").counted_input == bare.counted_input
    assert (bare.count_quality, asked("REDACTED").count_quality) == ("estimate", "partial")
    assert asked("REDACTED").counted_input_error is None


@pytest.mark.parametrize(
    ("model", "width", "height", "tokens"),
    [
        ("gemini-3-flash", 128, 128, 33 * 33),  # vendors' own counts
        ("gemini-3-flash", 300, 346, 31 * 35),
        ("gemini-3-flash", 1, 5000, 2366),
        ("gemini-2.5-flash", 640, 480, 258),
        ("gemini-2.0-flash", 100, 384, 258),
        ("gemini-2.0-flash", 640, 480, 5 * 258),
        ("gemini-2.0-flash", 1024, 1024, 5 * 258),
    ],
)
def test_pictures_of_gemini(model: str, width: int, height: int, tokens: int) -> None:
    seen = Message("user", (Part("media", "", media=Media("image", width, height)),))
    call = counted(make([seen], model=model, provider="gemini", api="gemini.generate"))
    assert (call.user_tokens, call.count_quality) == (tokens, "estimate")


def o200k_tokens(text: str) -> int:
    return tiktoken_counter("o200k_base")(text)


def test_an_exact_count_has_no_error() -> None:
    call = counted(make([say("user", "Hi")], [say("assistant", "Hello")]))
    assert (call.counted_input_error, call.counted_output_error) == (0, 0)
    thinks = counted(make([say("user", "Hi")], [say("assistant", "Hello")], model="o3"))
    assert (thinks.counted_input_error, thinks.counted_output_error) == (0, None)
    seen = Message("user", (Part("media", "", media=Media("image")),))
    blind = counted(make([seen], model="claude-sonnet-4-5"))
    assert (blind.count_quality, blind.counted_input_error) == ("partial", None)


def test_counts_stand_in_for_usage_nobody_reported() -> None:
    call = counted(make([say("user", "Hi")], [say("assistant", "Hello")]))
    assert (call.input_fresh, call.output_visible) == (call.counted_input, call.counted_output)
    assert (call.usage_source, call.usage_quality) == ("counted", "ok")
    assert counted(make([say("user", "Hi")], [say("assistant", "Hello")], model="gpt-5")).usage_quality == "partial"
    assert counted(make([say("user", "Hi")])).usage_quality == "partial"
    failed = counted(make([say("user", "Hi")], status="error"))
    assert (failed.usage_source, failed.input_fresh) == ("none", None)
    cut = counted(make([say("user", "Hi")], [say("assistant", "He")], status="cancelled", stream=True))
    assert cut.usage_source == "counted"


def test_reported_usage_stays() -> None:
    call = counted(make([say("user", "Hi")], [say("assistant", "Hello")], usage_source="vendor", input_fresh=99))
    assert (call.input_fresh, call.output_visible, call.usage_source) == (99, None, "vendor")
    bare = Call()
    bare.usage_source, bare.input_fresh, bare.content = "vendor", 5, Content()
    bare = counted(bare)
    assert (bare.counted_input, bare.counted_output, bare.count_quality) == (None, None, "")
    no_content = Call()
    COUNTER.count(no_content)
    assert no_content.counted_input is None


texts = st.text(max_size=30) | st.sampled_from(["", "Be brief.", "x" * 50, "\ud800", "<|im_end|>"])
names = st.sampled_from(["", "", "f", "look_up", "user"])
medias = st.builds(
    Media, st.sampled_from(["image", "audio"]), st.integers(-1, 9999), st.integers(-1, 9999), guessed=st.just(False), milliseconds=st.just(700)
)
parts = st.builds(Part, st.sampled_from(["text", "call", "result", "reasoning"]), texts, names, st.none(), st.just(False)) | st.builds(
    Part, st.just("media"), st.just(""), names, medias | st.none(), st.just(False)
)
messages = st.builds(
    Message,
    st.sampled_from(["system", "developer", "user", "assistant", "tool", "narrator"]),
    st.lists(parts, max_size=3).map(tuple),
    names,
)
contents = st.builds(
    Content,
    prompt=st.lists(messages, max_size=7),
    output=st.lists(messages, max_size=2),
    tools_json=st.sampled_from([b"", TOOLS, b"[]", b"not json", b'[{"type":"web_search"}]', b'[{"name":"g"}]', b"[1]"]),
    schema_json=st.sampled_from([b"", b'{"name":"r","schema":{"type":"object"}}', b"?", b"[]"]),
    tool_choice=st.sampled_from(["", "auto", "f"]),
    token_inputs=st.integers(0, 9),
    complete=st.booleans(),
)


@st.composite
def calls(draw: st.DrawFn) -> Call:
    call = Call()
    call.content = draw(contents)
    call.model = draw(st.sampled_from(["gpt-4o", "gpt-5-mini", "o4-mini", "gpt-4", "claude-opus-4-1", "gemini-2.5-pro", ""]))
    call.api = draw(st.sampled_from(["openai.chat", "openai.responses", "anthropic.messages", ""]))
    call.operation = draw(st.sampled_from(["chat", "completion", "embedding"]))
    call.params = draw(st.sampled_from([b"", b'{"n":1}']))
    return call


@settings(max_examples=200, deadline=None)
@given(calls())
def test_laws_of_any_call(call: Call) -> None:
    content = call.content
    assert content is not None
    done = counted(call)
    again = counted(call)
    fresh = counted(call, Counter(Settings(hash_key=KEY)))
    starved = counted(call, Counter(Settings(hash_key=KEY, cache_bytes=0)))
    assert vars(done) == vars(again) == vars(fresh) == vars(starved)
    if done.counted_input is not None:
        around = framing(done)
        assert around >= 0
        if call.operation != "chat":
            assert around == 0
        sides = ("system", "tools", "history", "tool_result", "user")
        assert all(getattr(done, f"{side}_tokens") >= 0 for side in sides)
        assert all(0 <= getattr(done, f"{side}_hash") < 2**64 for side in sides)
        results = sum(p.kind != "media" for m in content.prompt for p in m.parts)
        assert done.tool_result_messages <= results + sum(m.role == "tool" for m in content.prompt)
        shown = sum(len(p.text.encode("utf-8", "surrogatepass")) for m in content.prompt for p in m.parts if p.kind != "media")
        assert done.system_bytes + done.history_bytes + done.tool_result_bytes + done.user_bytes == shown
    if done.counted_output is not None:
        assert done.counted_output >= done.answer_tokens >= done.answer_call_tokens >= 0
    assert len(done.content_hash) == 16


@st.composite
def conversations(draw: st.DrawFn) -> list[Call]:
    """Calls of one model whose prompts grow from, or are cut from, those before them."""
    turn = st.sampled_from(
        [
            say("user", "one"),
            say("user", "two"),
            say("assistant", "three"),
            Message("assistant", (Part("call", "{}", "f"),)),
            Message("assistant", (Part("call", "{}", "g", stored=True),)),
            Message("assistant", (Part("call", "{}", "f"), Part("call", "{}", "g"))),
            Message("tool", (Part("result", "four"),)),
            Message("user", (Part("result", "five"), Part("text", "six"))),
            Message("user", (Part("media", "", "", Media("image", 9, 9)),)),
        ]
    )
    prompts = [draw(st.lists(turn, min_size=2, max_size=5))]
    for _ in range(draw(st.integers(1, 6))):
        before = draw(st.sampled_from(prompts))
        prompts.append(before[: len(before) - draw(st.integers(0, 2))] + draw(st.lists(turn, max_size=4)))
    api = draw(st.sampled_from(["openai.chat", "openai.responses", "anthropic.messages"]))
    model = draw(st.sampled_from(["gpt-4o", "gpt-5", "gpt-5.4", "claude-opus-4-1"]))
    return [make(list(p), model=model, api=api, tools=draw(st.sampled_from([b"", TOOLS]))) for p in prompts]


@settings(max_examples=300, deadline=None)
@given(conversations())
def test_a_conversation_counts_the_same_step_by_step_and_each_alone(given: list[Call]) -> None:
    one = Counter(Settings(hash_key=KEY))
    steps = [vars(counted(call, one)) for call in given]
    assert steps == [vars(counted(call, Counter(Settings(hash_key=KEY)))) for call in given]


@pytest.mark.parametrize("length", [32_768, 32_769, 70_000])
def test_long_texts_count_like_short_ones(length: int, o200k: Callable[[str], int]) -> None:
    text = ("word " * length)[:length]
    first, again = counted(make([say("user", text)])), counted(make([say("user", text)]))
    assert first.user_tokens == again.user_tokens == o200k(text)
    assert (first.user_hash, first.content_hash) == (again.user_hash, again.content_hash)
    assert first.user_hash != counted(make([say("user", text + "!")])).user_hash


@settings(max_examples=200, deadline=None)
@given(calls(), calls())
def test_the_content_hash_tells_contents_apart(one: Call, other: Call) -> None:
    first, second = counted(one).content_hash, counted(other).content_hash

    def said(call: Call) -> tuple[Any, ...]:
        content = dataclasses.replace(call.content, complete=True) if call.content else None
        return (content, call.params)

    assert (first == second) == (said(one) == said(other))


def test_hashes_need_the_key_and_the_tenant() -> None:
    call = make([say("system", "secret prompt"), say("user", "Hi")])
    base = counted(call)
    other_key = counted(call, Counter(Settings(hash_key=b"another")))
    tenant = copy.copy(call)
    tenant.tenant = "acme"
    other_tenant = counted(tenant)
    assert len({base.system_hash, other_key.system_hash, other_tenant.system_hash}) == 3
    assert len({base.content_hash, other_key.content_hash, other_tenant.content_hash}) == 3
    assert base.system_hash == counted(make([say("system", "secret prompt")], model="gpt-4")).system_hash
    assert "a key" not in repr(Settings(hash_key=KEY))
    with pytest.raises(ValueError, match="65 bytes"):
        Settings(hash_key=b"x" * 65)


def test_a_hash_follows_its_own_component_only() -> None:
    def history(*middle: Message) -> Call:
        return counted(make([say("system", "s"), *middle, say("user", "last")]))

    one = history(say("user", "a"), say("assistant", "b"))
    two = history(say("user", "a"), say("assistant", "c"))
    assert (one.system_hash, one.user_hash) == (two.system_hash, two.user_hash)
    assert one.history_hash != two.history_hash
    assert one.content_hash != two.content_hash


def test_the_cache_is_bounded_and_survives_long_texts() -> None:
    counter = Counter(Settings(hash_key=KEY, cache_bytes=1 << 20))
    for number in range(40):
        counted(make([say("system", "kept " * 50), say("user", f"{number} " + "long unique text " * 3000)]), counter)
    (space,) = counter._spaces.values()
    assert counter._budget.turns == 0  # 2 MB went by; only digests were kept
    assert say("system", "kept " * 50) in space.young
    for number in range(3000):
        counted(make([say("system", "kept " * 50), say("user", f"{number} unique " * 20)]), counter)
    assert counter._budget.turns >= 2
    assert say("system", "kept " * 50) in {**space.old, **space.young}
    held = sum(len(m.parts[0].text) for m in {**space.old, **space.young} if isinstance(m, Message))
    assert held < 1 << 20


DEEP = {
    "lists": "[" * 1000 + "]" * 1000,
    "objects": '{"a":' * 1000 + "1" + "}" * 1000,
    "lists in an object": '{"a":' + "[" * 250 + "]" * 250 + "}",
}


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5", "claude-sonnet-4-5", "gemini-2.5-flash", "gemini-3-pro", "ministral-3b", "llama-3.3-70b"])
@pytest.mark.parametrize("text", DEEP.values(), ids=DEEP)
def test_json_that_is_nested_too_deep_to_be_written_again_counts_as_text(model: str, text: str) -> None:
    """A record may hold what makes writers of JSON give up: that must stop no worker, and cost what its text does."""
    turns = [
        say("user", "go"),
        Message("assistant", (Part("call", text, "f"),)),
        Message("tool", (Part("result", text, "f"),)),
    ]
    provider = "gemini" if "gemini" in model else "mistral" if "ministral" in model else ""
    schema = b'{"name":"f","schema":' + text.encode() + b"}"
    tools = b'[{"type":"function","function":{"name":"f","parameters":' + text.encode() + b"}}]"
    whole = tokenizer(family(model, provider).tokenizer).count(text)
    for more in ({}, {"tools": tools}, {"schema": schema}):
        call = counted(make(turns, turns[1:2], model=model, provider=provider, **more))
        assert call.counted_input is not None
        assert call.counted_input >= 2 * whole
        assert call.answer_call_tokens >= whole
