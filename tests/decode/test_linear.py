"""Records made to be slow: the work on a record grows as the record does.

Work is counted, not timed: calls of functions, and characters that are handed to the tokenizer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Final

import orjson
import pytest

from schemas.batch import RawBatch
from tests.decode import pool
from tests.decode.test_batch import GOOD
from transforms.decode import decode_record
from transforms.decode.errors import Undecodable
from transforms.decode.record import MAX_ITEMS
from transforms.work import CallWork

CLAUDE: Final = "https://api.anthropic.com/v1/messages"


def chat(messages: Any, **more: Any) -> bytes:
    request = {"model": "gpt-4o", "messages": messages, **more.pop("request", {})}
    return orjson.dumps({**GOOD, "request": request, **more})


def said(text: str) -> bytes:
    return chat([{"role": "user", "content": text}])


def answered(response: Any, **more: Any) -> bytes:
    return orjson.dumps({**GOOD, **more, "response": response})


def advised(times: int) -> bytes:
    steps = [{"model": f"m{number}", "input_tokens": 1, "output_tokens": 1} for number in range(times)]
    usage = {"input_tokens": 1, "output_tokens": 1, "iterations": steps}
    return answered({"type": "message", "content": [], "usage": usage}, url=CLAUDE)


RECORDS: Final[dict[str, Callable[[int], bytes]]] = {
    "one letter": lambda n: said("a" * 10 * n),
    "spaces": lambda n: said(" " * 10 * n),
    "emoji": lambda n: said("👩\u200d" * n),
    "base64": lambda n: said("QmFzZTY0/+" * n),
    "digits": lambda n: said("7" * 10 * n),
    "tiny messages": lambda n: chat([{"role": "user", "content": "x"}] * n),
    "other tiny messages": lambda n: chat([{"role": "user", "content": str(number)} for number in range(n)]),
    "tiny blocks": lambda n: chat([{"role": "user", "content": [{"type": "text", "text": "x"}] * n}]),
    "tool calls": lambda n: chat([{"role": "assistant", "tool_calls": [{"function": {"name": f"f{i}", "arguments": "{}"}} for i in range(n)]}]),
    "tool results": lambda n: chat([{"role": "user", "content": [{"type": "tool_result", "content": "x"}] * n}], url=CLAUDE),
    "tools": lambda n: chat([], request={"tools": [{"type": "function", "function": {"name": f"f{i}"}} for i in range(n)]}),
    "keys": lambda n: chat([], **{f"k{number}": number for number in range(n)}),
    "keys of labels": lambda n: chat([], metadata={f"k{number}": "v" for number in range(n)}),
    "keys of settings": lambda n: chat([], request={f"k{number}": number for number in range(n)}),
    "headers": lambda n: chat([], headers={f"k{number}": "v" for number in range(n)}),
    "digits of a count": lambda n: answered({"choices": [], "usage": {"prompt_tokens": "1" * n}}),
    "digits of money": lambda n: answered({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "cost": "1" * n}}),
    "empty events": lambda n: answered("data:\n\n" * n),
    "broken events": lambda n: answered("data: {\n\n" * n),
    "JSON lines": lambda n: answered('{"a":1}\n' * n),
    "chunks": lambda n: answered({"stream": [{"choices": [{"index": i, "delta": {"content": "a"}}]} for i in range(n)]}),
    "other models within": advised,
    "nested": lambda n: b"[" * n,
    "nothings": lambda n: b"[" + b",".join([b"{}"] * n) + b"]",
    "calls": lambda n: b"[" + b",".join([orjson.dumps(GOOD)] * n) + b"]",
    "labels of a log entry": lambda n: orjson.dumps({"logName": "l", "insertId": "i", "labels": {f"k{i}": "v" for i in range(n)}, "jsonPayload": {}}),
}  # fmt: skip


def work_on(done: CallWork, data: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """Calls of functions, Python's and C's, that the rows of a record take; and characters that are counted."""
    calls = characters = 0

    def called(frame: Any, event: str, what: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    def counting(count: Callable[[str], int]) -> Callable[[str], int]:
        def counted(text: str) -> int:
            nonlocal characters
            characters += len(text)
            return count(text)

        return counted

    from transforms.count import counting as module
    from transforms.count.tokenizers import tokenizer

    class Counted:
        def __init__(self, name: str) -> None:
            self.count = counting(tokenizer(name).count)

    monkeypatch.setattr(module, "tokenizer", Counted)
    done._counter = module.Counter(module.Settings(hash_key=b"k"))  # nothing remembered
    sys.setprofile(called)
    try:
        pool.rows(done, [data])
    finally:
        sys.setprofile(None)
    return calls, characters


@pytest.fixture(scope="module")
def done() -> CallWork:
    return pool.work()


@pytest.mark.parametrize("name", RECORDS)
def test_work_grows_as_the_record_does(done: CallWork, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make = RECORDS[name]
    _, less, more = (work_on(done, make(size), monkeypatch) for size in (1, 500, 2000))
    assert more[0] <= 5 * less[0]  # four times the size: what grows with the square grows by sixteen
    assert more[1] <= 5 * less[1]
    assert more[1] <= 2 * len(make(2000))  # no text is counted more than twice


def test_the_payload_of_many_items_is_kept_once(done: CallWork) -> None:
    found = pool.rows(done, [b'[{"a":1},5,{"b":2}]', b"{}"]).dead_letters.to_pylist()
    assert [(dead["position"], dead["item"], dead["payload"]) for dead in found] == [
        (0, 0, '[{"a":1},5,{"b":2}]'),
        (0, 1, None),
        (0, 2, None),
        (1, 0, "{}"),
    ]


def test_what_no_column_holds_stops_no_worker(done: CallWork) -> None:
    many = [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}] * 70_000
    marked = chat([{"role": "user", "content": many}], url=CLAUDE)
    strange = [orjson.dumps({**GOOD, "status": status}) for status in (-1, 70_000, 2**63, 10**12 + 1)]
    found = pool.rows(done, [marked, *strange, orjson.dumps(GOOD), advised(70_000)])
    assert found.calls["cache_breakpoints"].to_pylist()[0] == 65_535
    assert [(dead["position"], dead["reason"]) for dead in found.dead_letters.to_pylist()] == [
        (1, "bad_value"), (3, "bad_value"), (4, "bad_value"), (6, "record_too_large"),
    ]  # fmt: skip


def test_a_call_that_makes_no_row_is_a_dead_letter(done: CallWork) -> None:
    """A defect, since decoders bound what they read; it costs that call alone."""
    good = orjson.dumps(GOOD)
    raw = RawBatch("s", bytes(16), bytes(16), 5, [good, good, good], [0, 1, 2], times=[7, 8, 9])
    batch = done.calls(raw, lambda *_: None)
    batch.calls[1].attempt = -1
    found = done.priced(batch, lambda *_: None)
    assert found.calls["position"].to_pylist() == [0, 2]
    assert [(dead["position"], dead["reason"]) for dead in found.dead_letters.to_pylist()] == [(1, "decoder_error")]
    assert found.receipts["outcome"].to_pylist() == ["call", "call", "dead_letter"]


def test_an_array_has_a_bound() -> None:
    assert len(decode_record(b"[" + b",".join([b"1"] * MAX_ITEMS) + b"]")) == MAX_ITEMS
    (refused,) = decode_record(b"[" + b",".join([b"1"] * (MAX_ITEMS + 1)) + b"]")
    assert isinstance(refused, Undecodable)
    assert refused.reason == "record_too_large"
