"""Bodies whose end was cut off by who logged them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.call import LEAVES, Call
from transforms.decode import Skipped, Undecodable, decode_record
from transforms.decode.salvage import salvage

Json = dict[str, Any]
TEXTS = st.text('a"\\{}[],: 1é\n', max_size=8)
JSON = st.recursive(
    st.one_of(st.integers(-9, 10**6), TEXTS, st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.one_of(TEXTS, st.just("usage")), inner, max_size=4)),
    max_leaves=12,
)


def is_beginning(part: Any, whole: Any) -> bool:
    """Whether a value is another one that was cut: each item and field is there as it was, but for the last of each list."""
    if part == whole and type(part) is type(whole):
        return True
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(key in whole and is_beginning(value, whole[key]) for key, value in part.items())
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and all(map(is_beginning, part, whole))
    return False


def units(value: Any) -> list[Any]:
    """Every object under the name of usage, in order."""
    if isinstance(value, dict):
        return [
            found
            for key, inner in value.items()
            for found in ([inner] if key == "usage" and isinstance(inner, dict) else units(inner))
        ]
    return [found for inner in value for found in units(inner)] if isinstance(value, list) else []


@given(st.one_of(st.dictionaries(TEXTS, JSON, max_size=4), st.lists(JSON, max_size=4)), st.integers(0, 400))
def test_nothing_is_read_that_was_not_there(value: Any, end: int) -> None:
    text = orjson.dumps(value).decode()
    found = salvage(text[:end])
    if end >= len(text):
        assert found == value
    if found is not None:
        assert is_beginning(found, value)
        assert all(unit in units(value) for unit in units(found))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a":12', None),  # 12 may have been 123
        ('{"a":12,', {"a": 12}),
        ('{"a":12}', {"a": 12}),
        ('{"a":12}, and more', {"a": 12}),
        ('{"a":"x","b":"y', {"a": "x"}),
        ('{"a":"x","b":"y\\', {"a": "x"}),
        ('{"a":"{[,","b', {"a": "{[,"}),
        ('{"a":{"b":[1,2', {"a": {"b": [1]}}),
        ('{"id":"x","usage":{"in":1,"out":2', {"id": "x"}),
        ('{"id":"x","usage":{"in":1,"out":2}', {"id": "x", "usage": {"in": 1, "out": 2}}),
        ('{"id":"x","usage":{"in":1,"details":{"c":1}', {"id": "x"}),
        ('{"id":"x","text":"\\"usage\\":{","n":1,', {"id": "x", "text": '"usage":{', "n": 1}),
        ('[{"a":1},{"a":2},{"b', [{"a": 1}, {"a": 2}]),
        ('{"a":1]', None),
        ("{" * 1000, None),
        ("plain", None),
        ("", None),
    ],
)
def test_what_is_whole_of_a_cut_text(text: str, expected: Any) -> None:
    found = salvage(text)
    assert (found or None) == expected


def test_long_texts_take_one_pass() -> None:
    """Quotes, backslashes and brackets in numbers that would stop anything that looks back."""
    for filler in ('"' * 200_000, "\\" * 200_000, "[{" * 100_000, '{"usage":' * 50_000, '"usage"   :   ' * 20_000):
        salvage('{"a":"' + filler)
        salvage('{"a":1,' + filler)


REQUEST = {"model": "gpt-4o", "user": "u1", "stream": False, "messages": [{"role": "user", "content": "Hi, how are you?"}]}
USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def chat(request: Any, response: Any) -> Call:
    outcomes = decode_record(
        orjson.dumps(
            {"url": "https://api.openai.com/v1/chat/completions", "status": 200, "request": request, "response": response}
        )
    )
    assert len(outcomes) == 1
    assert isinstance(outcomes[0], Call), outcomes
    return outcomes[0]


def leaves(call: Call) -> dict[str, int]:
    return {leaf: value for leaf in LEAVES if (value := getattr(call, leaf)) is not None}


def test_usage_before_the_cut_is_read() -> None:
    """Some servers write usage before the choices."""
    body = orjson.dumps(
        {
            "id": "c1",
            "model": "gpt-4o-2024-08-06",
            "usage": USAGE,
            "choices": [{"index": 0, "message": {"content": "A long story"}}],
        }
    ).decode()
    call = chat(REQUEST, body[: body.index("long")])
    assert (call.provider_call_id, call.model, leaves(call)) == (
        "c1",
        "gpt-4o-2024-08-06",
        {"input_fresh": 9, "output_visible": 3},
    )
    assert (call.status, call.flags) == ("ok", ("response_cut",))
    assert call.content is not None
    assert not call.content.complete


def test_every_cut_of_an_answer() -> None:
    """Cut anywhere, usage is all there or not at all; who answered is told as soon as it was written."""
    whole = {"id": "c1", "model": "m", "choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
             "usage": {**USAGE, "prompt_tokens_details": {"cached_tokens": 4}}}  # fmt: skip
    body = orjson.dumps(whole).decode()
    for end in range(1, len(body)):
        call = chat(REQUEST, body[:end])
        assert "response_cut" in call.flags
        found = leaves(call)
        assert found in ({}, {"input_fresh": 5, "input_cache_read": 4, "output_visible": 3}), body[:end]
        if not found:
            assert (call.usage_source, call.status) == ("none", "incomplete")
        if end > body.index('"choices"'):
            assert (call.provider_call_id, call.model) == ("c1", "m")
    assert leaves(chat(REQUEST, body[:-1]))


def test_a_cut_request_tells_its_model_and_nothing_of_its_prompt() -> None:
    body = orjson.dumps({**REQUEST, "tools": [{"type": "function"}]}).decode()
    call = chat(body[:-4], {"id": "c1", "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}], "usage": USAGE})
    assert (call.model_requested, call.end_user, call.flags) == ("gpt-4o", "u1", ("request_cut",))
    assert call.content is not None
    assert (call.content.prompt, call.content.tools_json, call.content.complete) == ([], b"", False)
    assert leaves(call) == {"input_fresh": 9, "output_visible": 3}


def test_a_cut_stream_tells_what_is_whole_of_its_last_event() -> None:
    events: list[Json] = [
        {"type": "message_start", "message": {"id": "m", "model": "claude-sonnet-4-5",
                                              "usage": {"input_tokens": 9, "output_tokens": 1}}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 30}, "more": "…"},
    ]  # fmt: skip
    text = "".join(f"event: {event['type']}\ndata: {orjson.dumps(event).decode()}\n\n" for event in events)
    record = {"url": "https://api.anthropic.com/v1/messages", "status": 200, "request": {"model": "claude-sonnet-4-5"}}
    for end, expected in ((text.index('"more"'), 30), (text.index("30") + 1, None), (text.index("event: message_delta"), None)):
        outcome = decode_record(orjson.dumps({**record, "response": text[:end]}))[0]
        assert isinstance(outcome, Call)
        assert (outcome.input_fresh, outcome.output_visible) == (9, expected), text[:end]


def test_a_cut_array_of_gemini() -> None:
    chunks = [
        {"candidates": [{"content": {"parts": [{"text": each}]}}], "usageMetadata": {"promptTokenCount": 9}} for each in "ab"
    ]
    text = orjson.dumps(chunks, option=orjson.OPT_INDENT_2).decode()
    url = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:streamGenerateContent"
    outcome = decode_record(orjson.dumps({"url": url, "status": 200, "request": {}, "response": text[:-30]}))[0]
    assert isinstance(outcome, Call)
    assert (outcome.input_fresh, outcome.status, outcome.flags) == (9, "incomplete", ("response_cut",))
    assert outcome.usage_quality == "partial"  # each chunk says more than the one before


def test_figures_at_the_top_of_a_body_are_told_one_by_one() -> None:
    """Llama's two counts are no object: the first may be there without the second, and the usage is partial then."""
    body = '{"generation":"Hello","prompt_token_count":6,"generation_token_count":18,"stop_reason":"stop"}'
    url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/meta.llama3-8b-instruct-v1%3A0/invoke"
    for end, expected in ((body.index("18") + 1, (6, None, "partial")), (body.index("stop_r"), (6, 18, "ok"))):
        outcome = decode_record(orjson.dumps({"url": url, "status": 200, "request": {"prompt": "Hi"}, "response": body[:end]}))[0]
        assert isinstance(outcome, Call)
        assert (outcome.input_fresh, outcome.output_visible, outcome.usage_quality) == expected


def test_a_cut_answer_that_says_nothing() -> None:
    call = chat(REQUEST, '{"id": "chatcm')
    assert (call.status, call.usage_source, call.flags) == ("incomplete", "none", ("response_cut", "no_answer"))


# -- records that are cut themselves -----------------------------------------------------------------------------------


WHOLE: Json = {
    "url": "https://api.openai.com/v1/chat/completions", "status": 200, "started_at": "2026-03-02T09:15:00.25Z",
    "response": {"id": "chatcmpl-1", "model": "gpt-4o", "usage": {"prompt_tokens": 1200, "completion_tokens": 34, "total_tokens": 1234},
                 "choices": [{"index": 0, "message": {"role": "assistant", "content": "Grüße"}, "finish_reason": "stop"}]},
    "request": {"model": "gpt-4o", "messages": [{"role": "user", "content": "long " * 50}]},
}  # fmt: skip


def envelope(data: bytes) -> bytes:
    event = {"id": "1", "timestamp": 1772442900000, "message": data.decode("utf-8", "ignore")}
    return orjson.dumps({"messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "g", "logStream": "s", "logEvents": [event]})


@pytest.mark.parametrize("wrap", [bytes, envelope])
def test_of_a_cut_record_usage_is_read_as_a_whole_or_not_at_all(wrap: Callable[[bytes], bytes]) -> None:
    data = orjson.dumps(WHOLE)
    seen = set()
    for end in range(len(data)):
        (outcome,) = decode_record(wrap(data[:end]))
        if isinstance(outcome, Call):
            assert (outcome.input_fresh, outcome.output_visible, outcome.model) == (1200, 34, "gpt-4o")
            assert "record_cut" in outcome.flags
            assert outcome.content is None or not outcome.content.complete
            assert outcome.provider == "openai"
            seen.add(end)
        else:
            assert isinstance(outcome, Undecodable | Skipped)
            assert outcome.reason in ("not_json", "blank", "plain_log")
    assert seen == set(range(data.index(b"1234}") + 5, len(data)))
    (call,) = decode_record(wrap(data))
    assert isinstance(call, Call)
    assert "record_cut" not in call.flags


def test_usage_of_a_cut_stream_may_have_been_growing() -> None:
    begins = {"type": "message_start", "message": {"id": "msg_1", "model": "claude-opus-4",
                                                   "usage": {"input_tokens": 9, "output_tokens": 1}}}  # fmt: skip
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "x" * 40}}
    data = orjson.dumps({"url": "https://api.anthropic.com/v1/messages", "response": {"stream": [begins, delta, delta]}})
    (call,) = decode_record(data[:-60])
    assert isinstance(call, Call)
    assert (call.input_fresh, call.status, call.usage_quality, call.flags) == (9, "incomplete", "partial", ("record_cut",))


def test_half_a_span_is_no_call() -> None:
    """Its attributes are a list: the one that tells the answer's tokens may be behind the cut."""
    attributes = [{"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
                  {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "9"}},
                  {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "3"}}]  # fmt: skip
    span = {"traceId": "0" * 31 + "1", "spanId": "0" * 15 + "1", "attributes": attributes}
    data = orjson.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})
    for end in range(1, len(data)):
        (outcome,) = decode_record(data[:end])
        assert isinstance(outcome, Undecodable)
