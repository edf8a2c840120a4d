"""The driver: every record has an outcome, positions and hashes are right, secrets stay out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.batch import DeadLetter, RawBatch, SegmentEnd
from schemas.reasons import DEAD_LETTER_REASONS, IGNORED_REASONS
from transforms.decode import FORMATS, DecodeSettings, decode_batch, decode_record, format_table
from transforms.decode.scrub import is_secret_name, payload, scrub

GOOD: dict[str, Any] = {
    "url": "https://api.openai.com/v1/chat/completions",
    "status": 200,
    "request": {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]},
    "response": {"id": "c", "object": "chat.completion", "model": "gpt-4o", "created": 1772409600,
                 "choices": [{"message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
                 "usage": {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}},
}  # fmt: skip


def batch(records: list[bytes], rejects: list[DeadLetter] | None = None) -> RawBatch:
    return RawBatch("files", b"s" * 16, b"o" * 16, 5, records, [100 * i for i in range(len(records))], rejects or [], 999,
                    SegmentEnd(0, 10, 3, 999))  # fmt: skip


def test_outcomes_and_where_they_come_from() -> None:
    good = orjson.dumps(GOOD)
    array = b"[" + good + b",5," + good + b"]"
    reject = DeadLetter(7, 0, "record_too_large", "too long", "", 10**9, 0)
    records = [good, b"", b"{", array, orjson.dumps({**GOOD, "tenant": "acme"})]
    result = decode_batch(batch(records, [reject]), DecodeSettings(tenant="t0"))
    assert [(call.position, call.item, call.tenant) for call in result.calls] == [
        (0, 0, "t0"), (300, 0, "t0"), (300, 2, "t0"), (400, 0, "acme")]  # fmt: skip
    assert {(call.source, call.segment) for call in result.calls} == {("files", b"s" * 16)}
    assert [(dead.position, dead.item, dead.reason) for dead in result.dead] == [
        (7, 0, "record_too_large"), (200, 0, "not_json"), (300, 1, "not_an_object")]  # fmt: skip
    assert [(item.position, item.reason) for item in result.ignored] == [(100, "blank")]
    expected = int.from_bytes(hashlib.sha256(good).digest()[:8], "big") >> 1
    assert result.record_hashes[0] == expected < 2**63
    assert (result.records, result.bytes_read, result.default_time) == (6, 999, 5)
    assert (result.origin, result.end) == (b"o" * 16, SegmentEnd(0, 10, 3, 999))


def test_payloads_are_kept_only_if_asked_and_without_keys() -> None:
    record = orjson.dumps({"hello": 1, "authorization": "Bearer abcdefghijklmnop", "u": "https://x/?key=AIzaSyA1234567890"})
    assert decode_batch(batch([record]), DecodeSettings()).dead[0].payload is None
    kept = decode_batch(batch([record]), DecodeSettings(keep_payloads=True)).dead[0].payload
    assert kept is not None
    assert "hello" in kept
    assert "abcdefgh" not in kept
    assert "AIza" not in kept
    small = decode_batch(batch([record * 999]), DecodeSettings(keep_payloads=True, max_payload=50)).dead[0].payload
    assert small is not None
    assert len(small) == 50


SECRET = "Zq7w" * 8


@pytest.mark.parametrize(
    "text",
    [
        f'{{"authorization": "Bearer {SECRET}"}}',
        f'{{"api-key": "{SECRET}", "a": 1}}',
        f'{{"X-Api-Key":["{SECRET}"]}}',
        f'{{"x-goog-api-key" : "{SECRET}"}}',
        f'{{"user_api_key": "{SECRET}"}}',
        json.dumps({"headers": json.dumps({"Authorization": f"Basic {SECRET}"})}),
        json.dumps({"a": json.dumps({"headers": json.dumps({"api_key": SECRET})})}),
        f"GET /v1?key={SECRET}&alt=sse HTTP/1.1",
        f"https://user:{SECRET}@host/path",
        f"Authorization: Bearer {SECRET}\r\nAccept: */*",
        f"sk-proj-{SECRET}",
        f"my key is sk-ant-api03-{SECRET}, keep it",
        f"gsk_{SECRET} hf_{SECRET} xai-{SECRET}",
        f"eyJ{SECRET}.{SECRET}.{SECRET}",
        f'{{"password": "a\\"{SECRET}"}}',
        f'{{"api_key": "{SECRET}',
    ],
)
def test_secrets_are_masked(text: str) -> None:
    assert SECRET not in scrub(text)


@pytest.mark.parametrize(
    "text", ["", "max_tokens: 5", '{"prompt_tokens": 5, "cached_tokens": 3}', "the task-oriented risk-free desk"]
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert scrub(text) == text


def test_names_of_secrets() -> None:
    assert all(map(is_secret_name, ["http.request.header.authorization", "db.password"]))
    assert all(map(is_secret_name, ["Authorization", "api_key", "openai-api-key", "Cookie", "client_secret", "password"]))
    assert not any(map(is_secret_name, ["team", "prompt_cache_key", "max_tokens", "api_key_alias", "token_count"]))


@given(st.binary(max_size=400), st.integers(1, 100))
def test_a_payload_is_bounded_text(data: bytes, limit: int) -> None:
    kept = payload(data, limit)
    assert len(kept) <= limit
    kept.encode("utf-8")


LEAF = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**13), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
JSON = st.recursive(
    LEAF,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=8,
)


def spots(value: Any) -> list[tuple[Any, Any]]:
    """Every place inside of a value, as (container, key)."""
    found: list[tuple[Any, Any]] = []
    for key in list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        found.append((value, key))
        found += spots(value[key])
    return found


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_record_stops_a_worker(data: st.DataObject) -> None:
    """Whatever stands anywhere in a record, each item has one outcome, with a reason that is known."""
    kinds = [
        GOOD,
        {**GOOD, "response": {"stream": [{"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"name": "f"}}]}}]}]}},
        {**GOOD, "url": "https://api.anthropic.com/v1/messages",
         "request": {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text"}]}]}]},
         "response": {"type": "message", "content": [{"type": "text", "text": "x"}], "usage": {"input_tokens": 1, "iterations": [{}]}}},
        {**GOOD, "url": "https://api.openai.com/v1/responses", "request": {"input": [{"role": "user", "content": []}]},
         "response": {"object": "response", "output": [{"type": "message", "content": [{}]}], "usage": {"input_tokens": 1}}},
        {**GOOD, "url": "https://x.googleapis.com/v1/models/m:generateContent",
         "response": {"candidates": [{}], "usageMetadata": {"promptTokensDetails": [{}]}}},
        {"call_type": "completion", "custom_llm_provider": "x", "metadata": {"usage_object": {}}, "response": {"choices": [{}]}},
    ]  # fmt: skip
    record = orjson.loads(orjson.dumps(data.draw(st.sampled_from(kinds))))
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(spots(record)))
        try:
            container[key] = data.draw(JSON)
        except (KeyError, IndexError):
            continue
    result = decode_batch(batch([orjson.dumps(record)]), DecodeSettings(keep_payloads=True))
    assert len(result.calls) + len(result.dead) + len(result.ignored) == 1
    assert all(dead.reason in DEAD_LETTER_REASONS and dead.error for dead in result.dead)
    assert all(item.reason in IGNORED_REASONS for item in result.ignored)
    for call in result.calls:
        assert isinstance(call.model, str)
        assert isinstance(call.params, bytes)


@given(st.binary(max_size=200))
def test_no_bytes_stop_a_worker(data: bytes) -> None:
    assert len(decode_record(data)) >= 1


@pytest.mark.usefixtures("pure")
def test_a_defect_costs_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(record: dict[str, Any]) -> list[Any]:
        raise RuntimeError("sk-abcdefghijklmnop broke")

    monkeypatch.setattr("transforms.decode.registry.FORMATS", tuple(form._replace(decode=broken) for form in FORMATS))
    dead = decode_batch(batch([orjson.dumps(GOOD)]), DecodeSettings()).dead[0]
    assert dead.reason == "decoder_error"
    assert "RuntimeError" in dead.error
    assert "abcdefgh" not in dead.error


def test_the_documentation_lists_every_format() -> None:
    page = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")
    assert format_table() in page


LINE = orjson.dumps(GOOD)


@pytest.mark.parametrize("data", [b"\xef\xbb\xbf" + LINE + b"\r", LINE + b"\0\0", b"\0" * 99 + LINE, b"\xef\xbb\xbf" + LINE + b" \r\n\0"])
def test_a_byte_order_mark_and_padding_cost_no_call(data: bytes) -> None:
    """What Windows writes at the start of a file, and what is left of a file that was cut while it was written."""
    (wanted,), (found,) = decode_record(LINE), decode_record(data)
    assert found.__dict__ == wanted.__dict__


def test_a_cut_line_after_a_byte_order_mark_is_read_as_any_other() -> None:
    cut = LINE[: LINE.index(b'"total_tokens": 12}'.replace(b" ", b"")) + len(b'"total_tokens":12}')]
    (wanted,), (found,) = decode_record(cut), decode_record(b"\xef\xbb\xbf" + cut)
    assert found.__dict__ == wanted.__dict__
    assert "record_cut" in found.__dict__["flags"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (json.dumps(GOOD).encode("utf-16"), "it looks like UTF-16; JSON is UTF-8"),
        (json.dumps(GOOD).encode("utf-16-be"), "it looks like UTF-16"),
        (b"\0" + json.dumps(GOOD).encode("utf-16-le")[:-1], "it looks like UTF-16"),  # a line that is not the first
        ('{"a": "Größe"}'.encode("latin-1"), "not UTF-8: byte 0xf6 at 9"),
        (b'{"a": NaN}', "NaN at 6 is no number in JSON; null is what is not known"),
        (b'{"a": [1, -Infinity]}', "Infinity"),
        (b"hello", "line 1 column 1"),
    ],
)
def test_what_is_no_json_says_why(data: bytes, said: str) -> None:
    (letter,) = decode_record(data)
    assert (letter.reason, said in letter.error) == ("not_json", True), letter.error  # type: ignore[union-attr]


@pytest.mark.parametrize("data", [b"\0" * 512, b"\xef\xbb\xbf", b"\0 \r"])
def test_padding_alone_is_a_blank_line(data: bytes) -> None:
    (ignored,) = decode_record(data)
    assert ignored.reason == "blank"  # type: ignore[union-attr]
