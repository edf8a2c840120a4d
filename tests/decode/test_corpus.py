"""Every real call of the shared corpus, against the vendors' usage read by plain code of its own.

``usage`` of a corpus line is the vendor's object, kept beside the pair. The decoder never sees it.
"""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest

from schemas.batch import CallBatch, RawBatch
from schemas.call import LEAVES, Call
from transforms.decode import DecodeSettings, decode_batch

TEXT_APIS = {"openai.chat", "openai.responses", "openai.embeddings", "anthropic.messages", "mistral.chat"}


class Line(NamedTuple):
    """A line of the corpus without what the decoder must not see, and what was left out."""

    data: bytes
    api: str
    provider: str
    status: int
    usage: dict[str, Any] | None


@pytest.fixture(scope="module")
def lines(shared: Path) -> list[Line]:
    result = []
    with gzip.open(shared / "data" / "calls" / "calls.jsonl.gz") as file:
        for line in file:
            record = orjson.loads(line)
            usage = record.pop("usage")
            api = record.pop("api")
            result.append(Line(orjson.dumps(record), api, record["provider"], record["status"], usage))
    return result


@pytest.fixture(scope="module")
def decoded(lines: list[Line]) -> CallBatch:
    positions = list(range(len(lines)))
    raw = RawBatch("corpus", bytes(16), bytes(16), 0, [line.data for line in lines], positions)
    return decode_batch(raw, DecodeSettings())


def first_calls(batch: CallBatch) -> dict[int, Call]:
    return {call.position: call for call in batch.calls if call.item == 0}


def test_nothing_is_lost(lines: list[Line], decoded: CallBatch) -> None:
    outcomes = Counter(call.position for call in decoded.calls if call.item == 0)
    outcomes.update(dead.position for dead in decoded.dead)
    outcomes.update(ignored.position for ignored in decoded.ignored)
    assert set(outcomes) == set(range(len(lines)))
    assert set(outcomes.values()) == {1}
    assert {dead.reason for dead in decoded.dead} == {"unsupported_body"}
    assert {ignored.reason for ignored in decoded.ignored} == {"count_tokens"}


def test_only_bodies_without_token_usage_are_dead(lines: list[Line], decoded: CallBatch) -> None:
    for dead in decoded.dead:
        line = lines[dead.position]
        assert line.api not in TEXT_APIS
        tokens = {key for key in line.usage or () if "token" in key.lower() and line.usage and line.usage[key]}
        assert not tokens, (line.api, line.usage)


def test_every_counting_request_is_ignored(lines: list[Line], decoded: CallBatch) -> None:
    ignored = {item.position for item in decoded.ignored}
    assert ignored == {i for i, line in enumerate(lines) if line.api.endswith("count_tokens")}


def test_failed_calls_have_no_usage(lines: list[Line], decoded: CallBatch) -> None:
    failed = 0
    for position, call in first_calls(decoded).items():
        if lines[position].status >= 400:
            failed += 1
            assert call.status in ("error", "blocked")
            assert call.http_status == lines[position].status
            assert call.error_type
            assert call.usage_source == "none"
    assert failed > 180


def number(value: Any) -> int:
    return int(value) if value is not None else 0


def openai_totals(usage: dict[str, Any]) -> tuple[int, int]:
    """All input and all output tokens, by the vendors' documents: total is right where the parts fall short of it."""
    given = usage.get("prompt_tokens", usage.get("input_tokens"))
    output = number(usage.get("completion_tokens", usage.get("output_tokens")))
    total = usage.get("total_tokens")
    if given is None:
        return number(total), 0
    if total is None or total == given + output:
        return given, output
    audio = number((usage.get("prompt_tokens_details") or {}).get("audio_tokens"))
    if audio and total == given + audio + output:  # Mistral bills audio beside the prompt
        return given + audio, output
    return given, total - given  # xAI's reasoning, Gemini's hidden thoughts


def anthropic_totals(usage: dict[str, Any], model: str) -> tuple[int, int]:
    """Input excludes the cache counters. Iterations of the model itself stand for the figures at the top."""
    steps = [step for step in usage.get("iterations") or [] if step.get("model") in (None, model)] or [usage]
    taken = sum(
        number(step.get(key))
        for step in steps
        for key in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    )
    return taken, sum(number(step.get("output_tokens")) for step in steps)


def gemini_totals(usage: dict[str, Any]) -> tuple[int, int]:
    def get(camel: str, snake: str) -> int:
        return number(usage.get(camel, usage.get(snake)))

    taken = get("promptTokenCount", "prompt_token_count") + get("toolUsePromptTokenCount", "tool_use_prompt_token_count")
    return taken, get("candidatesTokenCount", "candidates_token_count") + get("thoughtsTokenCount", "thoughts_token_count")


def bedrock_totals(usage: dict[str, Any]) -> tuple[int, int]:
    taken = number(usage.get("inputTokens"))
    for name in ("cacheReadInputToken", "cacheWriteInputToken"):
        taken += number(usage.get(name + "s", usage.get(name + "Count")))
    return taken, number(usage.get("outputTokens"))


def totals(line: Line, model: str) -> tuple[int, int] | None:
    """Input and output tokens the vendor reports for a line, ``None`` for bodies not compared here."""
    usage = line.usage
    assert usage is not None
    if line.api == "anthropic.messages":
        return anthropic_totals(usage, model)
    if line.api == "gemini.generate":
        return gemini_totals(usage)
    if line.api == "bedrock.converse":
        return bedrock_totals(usage)
    if line.api in ("ollama.chat", "ollama.generate"):
        return number(usage.get("prompt_eval_count")), number(usage.get("eval_count"))
    if line.api == "cohere.chat":
        billed = usage["billed_units"]
        return billed["input_tokens"], billed["output_tokens"]
    if line.api == "bedrock.invoke" and "input_tokens" in usage:
        return anthropic_totals(usage, model)
    if line.api.startswith("openai.") or line.api in ("mistral.chat", "mistral.embeddings", "xai.grpc_chat", "rerank"):
        return openai_totals(usage) if "total_tokens" in usage or "prompt_tokens" in usage else None
    return None


def test_leaves_sum_to_what_the_vendors_report(lines: list[Line], decoded: CallBatch) -> None:
    compared: Counter[str] = Counter()
    inconsistent = 0
    for position, call in first_calls(decoded).items():
        line = lines[position]
        if not line.usage or call.usage_source == "none":
            continue
        expected = totals(line, call.model)
        if expected is None:
            continue
        if call.usage_quality == "inconsistent":
            inconsistent += 1
            continue
        taken = sum(getattr(call, leaf) or 0 for leaf in LEAVES if leaf.startswith("input"))
        given = sum(getattr(call, leaf) or 0 for leaf in LEAVES if leaf.startswith("output"))
        assert (taken, given) == expected, (line.api, line.provider, line.usage, call.flags)
        compared[line.api] += 1
    assert compared["openai.chat"] > 3700
    assert compared["anthropic.messages"] > 970
    assert compared["openai.responses"] > 920
    assert compared["gemini.generate"] > 830
    assert compared["bedrock.converse"] > 295
    assert inconsistent < 45


def test_parts_are_what_the_vendors_report(lines: list[Line], decoded: CallBatch) -> None:
    """Cached and reasoning tokens of OpenAI's own traffic, where the names are certain."""
    compared = 0
    for position, call in first_calls(decoded).items():
        line = lines[position]
        if line.provider not in ("openai", "anthropic") or not line.usage or call.usage_source == "none":
            continue
        usage = line.usage
        if line.provider == "anthropic" and line.api == "anthropic.messages" and not usage.get("iterations"):
            assert number(call.input_cache_read) == number(usage.get("cache_read_input_tokens"))
            written = number(call.input_cache_write_5m) + number(call.input_cache_write_1h)
            assert written == number(usage.get("cache_creation_input_tokens"))
        elif line.api in ("openai.chat", "openai.responses"):
            taken = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
            given = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
            assert number(call.input_cache_read) == number(taken.get("cached_tokens"))
            assert number(call.output_reasoning) == number(given.get("reasoning_tokens"))
            assert number(call.input_audio) == number(taken.get("audio_tokens"))
        else:
            continue
        compared += 1
    assert compared > 3200


def test_usage_is_never_lost(lines: list[Line], decoded: CallBatch) -> None:
    """A success that reports usage has it; InvokeModel's headers are not in the corpus."""
    for position, call in first_calls(decoded).items():
        line = lines[position]
        if line.usage and line.status < 400 and set(line.usage) != {"_headers"}:
            assert call.usage_source == "vendor", (line.api, line.usage)


def test_providers_without_their_label(lines: list[Line]) -> None:
    """Host and body alone name the provider, but for placeholders a recorder put in place of the host."""
    records = []
    for line in lines:
        record = orjson.loads(line.data)
        del record["provider"]
        records.append(orjson.dumps(record))
    raw = RawBatch("corpus", bytes(16), bytes(16), 0, records, list(range(len(records))))
    wrong = Counter(
        (lines[position].provider, call.provider)
        for position, call in first_calls(decode_batch(raw, DecodeSettings())).items()
        if call.provider != lines[position].provider
    )
    for (expected, found), times in wrong.items():
        assert found == "unknown" or expected in ("vertex", "api.avian.io"), (expected, found, times)
    assert wrong.total() < 150


def test_other_models_within_a_call_are_calls_of_their_own(lines: list[Line], decoded: CallBatch) -> None:
    others = [call for call in decoded.calls if call.item > 0]
    for call in others:
        usage = lines[call.position].usage
        assert usage is not None
        steps = [step for step in usage["iterations"] if step.get("model") == call.model]
        assert (call.input_fresh, call.output_visible) == (steps[0]["input_tokens"], steps[0]["output_tokens"])
        assert call.content is None
    assert len(others) == 4


def texts_of_chunks(chunks: list[Any]) -> str:
    """What a chat stream says in its first choice, by the plainest loop."""
    said = refused = ""
    for chunk in chunks:
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            if choice.get("index", 0) == 0:
                said += delta["content"] if isinstance(delta.get("content"), str) else ""
                refused += delta.get("refusal") or ""
    return said + refused


def test_streamed_answers_are_put_together(lines: list[Line], decoded: CallBatch) -> None:
    compared = 0
    for position, call in first_calls(decoded).items():
        line = lines[position]
        response = orjson.loads(line.data)["response"] if line.api in ("openai.chat", "openai.responses") else {}
        if "stream" not in response or call.content is None:
            continue
        if line.api == "openai.chat":
            expected = texts_of_chunks(response["stream"])
            said = "".join(p.text for m in call.content.output[:1] for p in m.parts if p.kind == "text")
        else:
            expected = "".join(c["text"] for c in response["stream"] if c["type"] == "response.output_text.done")
            said = "".join(p.text for m in call.content.output for p in m.parts if p.kind == "text")
        if line.api == "openai.responses" and "refusal" in line.data.decode():
            continue
        assert said == expected
        compared += 1
    assert compared > 1700
