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

from schemas.call import LEAVES, Call, Message
from schemas.part import Part
from transforms.decode import Undecodable, decode_record


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


class Decoded(NamedTuple):
    """What the records were read as, each with the place of its record: (position, item, outcome)."""

    calls: list[Call]
    parts: list[tuple[int, str]]
    dead: list[tuple[int, str]]
    ignored: list[tuple[int, str]]


def decode_all(records: list[bytes]) -> Decoded:
    """Decode records one by one; the call that a part tells of counts as a call."""
    found = Decoded([], [], [], [])
    for position, data in enumerate(records):
        for item, outcome in enumerate(decode_record(data)):
            if isinstance(outcome, Part):
                found.parts.append((position, outcome.role))
                assert outcome.call is not None
                outcome = outcome.call
            if isinstance(outcome, Call):
                outcome.position, outcome.item = position, item
                found.calls.append(outcome)
            elif isinstance(outcome, Undecodable):
                found.dead.append((position, outcome.reason))
            else:
                found.ignored.append((position, outcome.reason))
    return found


@pytest.fixture(scope="module")
def decoded(lines: list[Line]) -> Decoded:
    return decode_all([line.data for line in lines])


def first_calls(batch: Decoded) -> dict[int, Call]:
    return {call.position: call for call in batch.calls if call.item == 0}


def test_nothing_is_lost(lines: list[Line], decoded: Decoded) -> None:
    outcomes = Counter(call.position for call in decoded.calls if call.item == 0)
    outcomes.update(position for position, _ in [*decoded.dead, *decoded.ignored])
    assert set(outcomes) == set(range(len(lines)))
    assert set(outcomes.values()) == {1}
    assert {reason for _, reason in decoded.ignored} == {"count_tokens"}


def test_no_success_with_usage_is_dead(lines: list[Line], decoded: Decoded) -> None:
    dead = sorted((lines[position].api, reason) for position, reason in decoded.dead)
    assert dead == [("replicate.predictions", "unsupported_body"), ("sagemaker.invoke", "unsupported_body")]
    assert not any(lines[position].usage for position, _ in decoded.dead)


def test_what_is_made_in_the_background_comes_in_parts(lines: list[Line], decoded: Decoded) -> None:
    """Those whose answers say that they are; no others."""
    expected = []
    for position, line in enumerate(lines):
        response = orjson.loads(line.data)["response"] if line.api == "openai.responses" else None
        if isinstance(response, dict) and "stream" in response:
            response = next((c["response"] for c in reversed(response["stream"]) if isinstance(c.get("response"), dict)), None)
        if isinstance(response, dict) and response.get("background"):
            expected.append((position, "queued" if response["status"] == "queued" else "final"))
    assert decoded.parts == expected
    assert Counter(role for _, role in expected) == {"queued": 5, "final": 3}


def test_every_counting_request_is_ignored(lines: list[Line], decoded: Decoded) -> None:
    ignored = {position for position, _ in decoded.ignored}
    assert ignored == {i for i, line in enumerate(lines) if line.api.endswith("count_tokens")}


def test_failed_calls_have_no_usage(lines: list[Line], decoded: Decoded) -> None:
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


class Told(NamedTuple):
    """What a vendor says it billed, in tokens; ``read``, ``written`` and ``thought`` are within input and output."""

    input: int
    output: int
    read: int = 0
    written: int = 0
    thought: int = 0


def openai_told(usage: dict[str, Any]) -> Told:
    """By the vendors' documents; the total is right where the parts fall short of it."""
    taken = usage.get("prompt_tokens_details") or usage.get("input_tokens_details") or {}
    made = usage.get("completion_tokens_details") or usage.get("output_tokens_details") or {}
    names = (
        "prompt_cache_hit_tokens",
        "cache_read_input_tokens",
        "num_cached_tokens",
        "cached_tokens",
        "cached_prompt_text_tokens",
    )
    read = taken.get("cached_tokens")
    if read is None:
        read = next((usage[name] for name in names if usage.get(name) is not None), 0)
    written = taken.get("cache_write_tokens")
    if written is None:
        written = taken.get("cache_creation_tokens", usage.get("cache_creation_input_tokens"))
    thought = made.get("reasoning_tokens")
    if thought is None:
        thought = number(usage.get("reasoning_tokens"))
    given = usage.get("prompt_tokens", usage.get("input_tokens"))
    output = number(usage.get("completion_tokens", usage.get("output_tokens")))
    total = usage.get("total_tokens")
    if given is None:
        return Told(number(total), 0)
    if total is not None and total != given + output:
        audio = number(taken.get("audio_tokens"))
        if audio and total == given + audio + output:  # Mistral bills audio beside the prompt
            given += audio
        else:  # xAI's reasoning, Gemini's hidden thoughts
            thought = thought or total - given - output
            output = total - given
    return Told(given, output, number(read), number(written), thought)


def anthropic_told(usage: dict[str, Any], model: str) -> Told:
    """Input excludes the cache counters. Iterations of the model itself stand for the figures at the top."""
    steps = [step for step in usage.get("iterations") or [] if step.get("model") in (None, model)] or [usage]

    def total(key: str) -> int:
        return sum(number(step.get(key)) for step in steps)

    read, written = total("cache_read_input_tokens"), total("cache_creation_input_tokens")
    thought = number((usage.get("output_tokens_details") or {}).get("thinking_tokens"))
    return Told(total("input_tokens") + read + written, total("output_tokens"), read, written, thought)


def gemini_told(usage: dict[str, Any]) -> Told:
    def get(camel: str, snake: str) -> int:
        return number(usage.get(camel, usage.get(snake)))

    thought = get("thoughtsTokenCount", "thoughts_token_count")
    return Told(
        get("promptTokenCount", "prompt_token_count") + get("toolUsePromptTokenCount", "tool_use_prompt_token_count"),
        get("candidatesTokenCount", "candidates_token_count") + thought,
        get("cachedContentTokenCount", "cached_content_token_count"),
        0,
        thought,
    )


def bedrock_told(usage: dict[str, Any]) -> Told:
    read, written = (
        number(usage.get(name + "s", usage.get(name + "Count"))) for name in ("cacheReadInputToken", "cacheWriteInputToken")
    )
    return Told(number(usage.get("inputTokens")) + read + written, number(usage.get("outputTokens")), read, written)


def invoke_told(usage: dict[str, Any], model: str) -> Told | None:
    """InvokeModel has the usage of whose model it is; the last chunk of a stream has Bedrock's own."""
    if "input_tokens" in usage:
        return anthropic_told(usage, model)
    if "prompt_tokens" in usage:
        return openai_told(usage)
    if "inputTokens" in usage:
        return bedrock_told(usage)
    own = usage.get("amazon-bedrock-invocationMetrics")
    if own:
        return Told(number(own.get("inputTokenCount")), number(own.get("outputTokenCount")))
    if "inputTextTokenCount" in usage:
        return Told(number(usage["inputTextTokenCount"]), sum(map(number, usage.get("results.tokenCount") or [])))
    if "prompt_token_count" in usage:
        return Told(number(usage["prompt_token_count"]), number(usage["generation_token_count"]))
    return None


def told(line: Line, model: str) -> Told | None:
    """What the vendor reports for a line; ``None`` where it reports no tokens."""
    usage, api = line.usage, line.api
    assert usage is not None
    if set(usage) == {"_headers"}:  # headers are not in the corpus
        return None
    if api == "bedrock.invoke":
        return invoke_told(usage, model)
    if api == "anthropic.messages":
        return anthropic_told(usage, model)
    if api in ("gemini.generate", "gemini.embeddings"):
        return gemini_told(usage)
    if api == "gemini.interactions":
        thought, read = usage["total_thought_tokens"], usage["total_cached_tokens"]
        taken = usage["total_input_tokens"] + usage["total_tool_use_tokens"]
        return Told(taken, usage["total_output_tokens"] + thought, read, 0, thought)
    if api == "bedrock.converse":
        return bedrock_told(usage)
    if api.startswith("ollama."):
        return Told(number(usage.get("prompt_eval_count")), number(usage.get("eval_count")))
    if api.startswith("cohere."):
        billed = usage["billed_units"]
        if "input_tokens" not in billed:  # rerank, by searches
            return None
        return Told(billed["input_tokens"], number(billed.get("output_tokens")))
    if api == "alephalpha.complete":
        return Told(usage["num_tokens_prompt_total"], usage["num_tokens_generated"])
    if any("token" in key and usage[key] is not None for key in usage):
        return openai_told(usage)
    return None  # pictures and speech, by money alone


def test_leaves_are_what_the_vendors_report(lines: list[Line], decoded: Decoded) -> None:
    """Every call that reports tokens; those whose figures contradict each other keep them."""
    compared: Counter[str] = Counter()
    without: Counter[str] = Counter()
    inconsistent = 0
    for position, call in first_calls(decoded).items():
        line = lines[position]
        if not line.usage or line.status >= 400:
            continue
        expected = told(line, call.model)
        if expected is None:
            assert call.usage_source in ("none", "vendor"), line.usage
            without[line.api] += 1
            continue
        assert call.usage_source == "vendor", (line.api, line.usage)
        if call.usage_quality == "inconsistent":
            inconsistent += 1
            assert call.vendor_input == number(line.usage.get("prompt_tokens", line.usage.get("promptTokenCount"))), line.usage
            continue
        taken = sum(getattr(call, leaf) or 0 for leaf in LEAVES if leaf.startswith("input"))
        given = sum(getattr(call, leaf) or 0 for leaf in LEAVES if leaf.startswith("output"))
        written = sum(getattr(call, leaf) or 0 for leaf in LEAVES if leaf.startswith("input_cache_write"))
        found = Told(taken, given, call.input_cache_read or 0, written, call.output_reasoning or 0)
        assert found == expected, (line.api, line.provider, line.usage, call.flags)
        compared[line.api] += 1
    assert (compared.total(), inconsistent, without.total()) == (7432, 37, 34)
    assert compared["openai.chat"] > 3700
    assert compared["anthropic.messages"] > 970
    assert compared["openai.responses"] > 920
    assert compared["gemini.generate"] > 830
    assert compared["bedrock.converse"] > 295


def test_parts_are_what_the_vendors_report(lines: list[Line], decoded: Decoded) -> None:
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


def test_providers_without_their_label(lines: list[Line]) -> None:
    """Host and body alone name the provider, but for placeholders a recorder put in place of the host."""
    records = []
    for line in lines:
        record = orjson.loads(line.data)
        del record["provider"]
        records.append(orjson.dumps(record))
    wrong = Counter(
        (lines[position].provider, call.provider)
        for position, call in first_calls(decode_all(records)).items()
        if call.provider not in (lines[position].provider, "ollama-cloud")  # whose calls have the label of the software
    )
    for (expected, found), times in wrong.items():
        assert found == "unknown" or expected in ("vertex", "api.avian.io"), (expected, found, times)
    assert wrong.total() < 150


def test_other_models_within_a_call_are_calls_of_their_own(lines: list[Line], decoded: Decoded) -> None:
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


def test_streamed_answers_are_put_together(lines: list[Line], decoded: Decoded) -> None:
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


# Objects of the user's or about the answer, whose fields may be called as texts are.
APART = {"functionResponse", "function_response", "functionCall", "function_call", "groundingMetadata", "grounding_metadata",
         "json", "toolUse", "tool_calls", "toolResponse"}  # fmt: skip


def texts_under(value: Any, key: str) -> list[str]:
    """Every text in a JSON value that stands under a key, wherever it is."""
    if isinstance(value, dict):
        own = [value[key]] if isinstance(value.get(key), str) else []
        return own + [found for name, inner in value.items() if name not in APART for found in texts_under(inner, key)]
    return [found for inner in value for found in texts_under(inner, key)] if isinstance(value, list) else []


# Where the texts of a prompt lie, the key they stand under there and in answers, and where these lie.
TEXTS = {
    "gemini.generate": (("systemInstruction", "system_instruction", "contents"), "text", "text", "candidates"),
    "bedrock.converse": (("system", "messages"), "text", "text", "output"),
    "ollama.chat": (("messages",), "content", "content", "message"),
    "xai.grpc_chat": (("messages",), "text", "content", "outputs"),
}


def said(messages: list[Message], *kinds: str) -> list[str]:
    return [part.text for message in messages for part in message.parts if part.kind in kinds]


def test_prompts_say_what_was_sent(lines: list[Line], decoded: Decoded) -> None:
    """Every text that was sent is in the prompt, and the prompt has no other."""
    compared: Counter[str] = Counter()
    for position, call in first_calls(decoded).items():
        line = lines[position]
        request = orjson.loads(line.data)["request"] if line.api in TEXTS else {}
        if call.content is None or line.api not in TEXTS or isinstance(request.get("contents"), str) or "config" in request:
            continue  # an SDK's own shape
        places, key, _, _ = TEXTS[line.api]
        sent = [text for place in places for text in texts_under(request.get(place), key) if text]
        prompt = call.content.prompt
        assert set(said(prompt, "text")) - {""} <= set(sent), line.api
        everything = said(prompt, "text", "reasoning", "result")
        assert all(any(text in each for each in everything) for text in sent), (line.api, sent, everything)
        compared[line.api] += 1
    assert compared["gemini.generate"] > 700
    assert compared["bedrock.converse"] > 280
    assert compared["ollama.chat"] > 40
    assert compared["xai.grpc_chat"] > 50


def test_answers_say_what_came_back(lines: list[Line], decoded: Decoded) -> None:
    """The same letters, in whatever order several answers and blocks are put together."""
    compared: Counter[str] = Counter()
    for position, call in first_calls(decoded).items():
        line = lines[position]
        if call.content is None or line.api not in TEXTS or line.status >= 400:
            continue
        response = orjson.loads(line.data)["response"]
        _, _, key, place = TEXTS[line.api]
        chunks = response if isinstance(response, list) else response.get("stream", [response])
        if line.api == "bedrock.converse" and "stream" in response:
            came = [text for chunk in chunks for text in texts_under(chunk.get("contentBlockDelta"), key)]
        elif line.api == "xai.grpc_chat" and "stream" in response:
            came = [text for chunk in chunks for text in texts_under(chunk["chunk"].get("outputs"), key)]
        else:
            came = [text for chunk in chunks for text in texts_under(chunk.get(place), key)]
        output = said(call.content.output, "text", "reasoning")
        if line.api in ("ollama.chat", "xai.grpc_chat"):  # thoughts stand under another key
            output = said(call.content.output, "text")
        if (
            '"code' in line.data.decode() or "citation" in line.data.decode() or b"SERVER_SIDE" in line.data
        ):  # what hosted tools wrote is not read
            continue
        assert Counter("".join(output)) == Counter("".join(came)), (line.api, output, came)
        compared[line.api] += 1
    assert compared["gemini.generate"] > 600, compared
    assert compared["bedrock.converse"] > 200
    assert compared.total() > 900
