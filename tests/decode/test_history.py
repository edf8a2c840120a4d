"""Remembering how prompts begin changes the time that reading takes, and nothing else."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.call import Call, Content, Message
from transforms.decode import decode_record, history
from transforms.decode.bodies import openai_chat
from transforms.recent import Budget, Recent

Json = dict[str, Any]

URLS = {
    "chat": "https://api.openai.com/v1/chat/completions",
    "messages": "https://api.anthropic.com/v1/messages",
    "responses": "https://api.openai.com/v1/responses",
}
TURNS: dict[str, list[Any]] = {
    "chat": [
        {"role": "system", "content": "Be terse."},
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]},
        {"role": "assistant", "content": "redacted-by-litellm"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "found"},
        {"role": "tool", "tool_call_id": "1", "content": {"n": 1}},
        {"role": "tool", "tool_call_id": "1", "content": {"n": 1.0}},
        {"role": "tool", "tool_call_id": "1", "content": {"n": True}},
    ],
    "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "user", "content": [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": [{"type": "tool_result", "content": "a"}, {"type": "text", "text": "b"}]},
        {"role": "user", "content": [{"type": "tool_result", "content": "a"}, {"type": "tool_result", "content": "b"}]},
        {"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": {"n": 1}}]},
        {"role": "assistant", "content": [{"type": "tool_use", "name": "f", "input": {"n": 1.0}}]},
        {"role": "assistant", "content": [{"type": "redacted_thinking"}]},
        {"role": "assistant", "content": "[REDACTED]"},
    ],
    "responses": [
        "Hi",
        "Hi!",
        1,
        12,
        {"role": "user", "content": "Hi"},
        {"type": "function_call", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "output": "a"},
        {"type": "reasoning", "encrypted_content": "x"},
    ],
}


def record(api: str, turns: list[Any]) -> bytes:
    request = {"model": "m", "input" if api == "responses" else "messages": turns}
    return orjson.dumps({"url": URLS[api], "request": request, "response": {"usage": {"input_tokens": 1, "output_tokens": 1}}})


def read(data: bytes) -> tuple[Content, int]:
    (call,) = decode_record(data)
    assert isinstance(call, Call), call
    assert call.content is not None
    return call.content, call.cache_breakpoints


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "_KNOWN", Recent(Budget(1 << 20)))


@st.composite
def prompts(draw: st.DrawFn) -> tuple[str, list[list[Any]]]:
    """Prompts of one wire format: each grown from, cut from, or changed at the end against, one before it."""
    api = draw(st.sampled_from(sorted(TURNS)))
    turn = st.sampled_from(TURNS[api])
    made = [draw(st.lists(turn, min_size=2, max_size=6))]
    for _ in range(draw(st.integers(1, 6))):
        before = draw(st.sampled_from(made))
        kept = before[: len(before) - draw(st.integers(0, min(6, len(before))))]
        made.append(kept + draw(st.lists(turn, max_size=5)))
    return api, made


@settings(max_examples=300, deadline=None)
@given(prompts())
def test_a_prompt_reads_the_same_whatever_was_read_before(given: tuple[str, list[list[Any]]]) -> None:
    api, made = given
    records = [record(api, turns) for turns in made]
    with pytest.MonkeyPatch.context() as patch:
        after_others = [read(data) for data in records]
        alone = []
        for data in records:
            patch.setattr(history, "_KNOWN", Recent(Budget(1 << 20)))
            alone.append(read(data))
    assert after_others == alone


@pytest.mark.usefixtures("pure")
def test_only_what_is_new_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    plain = openai_chat.read_message

    def spy(message: Any, content: Content) -> Message:
        seen.append(message)
        return plain(message, content)

    monkeypatch.setattr(openai_chat, "read_message", spy)
    turns = [{"role": "user", "content": str(number)} for number in range(30)]
    read(record("chat", turns[:20]))
    assert len(seen) == 20
    read(record("chat", turns[:22]))
    assert seen[20:] == turns[20:22]
    marked = [*turns[:21], {**turns[21], "name": "moved"}, *turns[22:24]]  # the last message as it was has changed since
    seen.clear()
    content, _ = read(record("chat", marked))
    assert len(seen) <= 4
    assert content.prompt[21].name == "moved"


@pytest.mark.usefixtures("pure")
def test_what_is_known_is_bounded() -> None:
    budget = Budget(200_000)
    known = Recent(budget)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "_KNOWN", known)
        for session in range(500):
            turns = [{"role": "user", "content": f"{session} {number} " + "x" * 200} for number in range(6)]
            read(record("chat", turns))
    assert budget.turns > 2
    assert sum(len(entry.data) for entry in [*known.young.values(), *known.old.values()]) < 200_000


def test_a_prompt_too_deep_to_write_again_is_still_read() -> None:
    deep: Any = "x"
    for _ in range(253):
        deep = [deep]
    turns = [{"role": "user", "content": "Hi"}] * 5 + [{"role": "tool", "content": "y", "z": deep}]
    data = b'{"url":"%s","request":{"model":"m","messages":[' % URLS["chat"].encode()
    data += b",".join([orjson.dumps(turn) for turn in turns[:5]])
    data += b',{"role":"tool","content":"y","z":' + b"[" * 400 + b"]" * 400 + b"}]},"
    data += b'"response":{"usage":{"prompt_tokens":1,"completion_tokens":1}}}'
    content, _ = read(data)
    assert len(content.prompt) == 6
