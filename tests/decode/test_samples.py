"""Vendors' answers as they were recorded, with what each of them says it took written out by hand."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.call import LEAVES, Call
from transforms.decode import decode_record

Json = dict[str, Any]

CACHED = {"input_cache_read": 0}
NO_CACHE = {"input_cache_read": 0, "input_cache_write_5m": 0, "input_cache_write_1h": 0}

# file without .json: wire format, provider, status, service tier, stream, leaves that the record tells
EXPECTED: dict[str, tuple[str, str, str, str, bool, dict[str, int]]] = {
    "anthropic_cache_read": (
        "anthropic.messages", "anthropic", "ok", "", False,
        {"input_fresh": 4, **NO_CACHE, "input_cache_read": 1163, "output_visible": 202},
    ),
    "anthropic_cache_write": (
        "anthropic.messages", "anthropic", "ok", "", False,
        {"input_fresh": 4, **NO_CACHE, "input_cache_write_5m": 1163, "output_visible": 187},
    ),
    "anthropic_cache_write_stream": (
        "anthropic.messages", "anthropic", "ok", "", True,
        {"input_fresh": 4, **NO_CACHE, "input_cache_write_5m": 1165, "output_visible": 201},
    ),
    "anthropic_messages_tools_service_tier": (
        "anthropic.messages", "anthropic", "ok", "standard", False, {"input_fresh": 568, **NO_CACHE, "output_visible": 58},
    ),
    "anthropic_structured_output_cache_creation_split": (
        "anthropic.messages", "anthropic", "ok", "standard", False, {"input_fresh": 222, **NO_CACHE, "output_visible": 39},
    ),
    "anthropic_thinking_stream": (
        "anthropic.messages", "anthropic", "ok", "", True, {"input_fresh": 52, **NO_CACHE, "output_visible": 216},
    ),
    "azure_chat": ("openai.chat", "azure", "ok", "", False,
                   {"input_fresh": 16, **CACHED, "output_visible": 22, "output_reasoning": 0}),
    "azure_chat_reasoning": ("openai.chat", "azure", "ok", "", False,
                             {"input_fresh": 11, **CACHED, "output_visible": 11, "output_reasoning": 192}),
    "azure_chat_stream": ("openai.chat", "azure", "ok", "", True, {}),
    "azure_embeddings_401": ("openai.embeddings", "azure", "error", "", False, {}),
    "azure_prompt_content_filtered": ("openai.chat", "azure", "blocked", "", False, {}),
    "bedrock_converse_cross_region_profile_arn": (
        "bedrock.converse", "bedrock", "ok", "", False,
        {"input_fresh": 20, **CACHED, "input_cache_write_other": 0, "output_visible": 72},
    ),
    "bedrock_converse_nova": ("bedrock.converse", "bedrock", "blocked", "", False, {"input_fresh": 54, "output_visible": 18}),
    "bedrock_converse_stream_nova": ("bedrock.converse", "bedrock", "blocked", "", True, {"input_fresh": 54, "output_visible": 18}),
    "bedrock_guardrail_converse": ("bedrock.converse", "bedrock", "blocked", "", False, {"input_fresh": 17, "output_visible": 17}),
    "bedrock_invoke_anthropic_stream": ("anthropic.messages", "bedrock", "ok", "", True, {"input_fresh": 16, "output_visible": 21}),
    "bedrock_invoke_llama3": ("bedrock.invoke", "bedrock", "ok", "", False, {"input_fresh": 8, "output_visible": 35}),
    "bedrock_invoke_nova_cross_region": (
        "bedrock.invoke", "bedrock", "ok", "", False,
        {"input_fresh": 7, **CACHED, "input_cache_write_other": 0, "output_visible": 53},
    ),
    "bedrock_invoke_titan_stream": ("bedrock.invoke", "bedrock", "blocked", "", True, {"input_fresh": 28, "output_visible": 188}),
    "cohere_v2_chat_tools": ("cohere.chat", "cohere", "ok", "", False, {"input_fresh": 62, "output_visible": 28}),
    "deepseek_chat_stream_usage": ("openai.chat", "deepseek", "ok", "", True, {"input_fresh": 32, **CACHED, "output_visible": 324}),
    "gemini_generate_content": (
        "gemini.generate", "gemini", "ok", "", False, {"input_fresh": 5, "output_visible": 877, "output_reasoning": 1058},
    ),
    "groq_chat_stream": ("openai.chat", "groq", "ok", "", True, {"input_fresh": 18, "output_visible": 73}),
    "mistral_chat_stream": ("openai.chat", "mistral", "ok", "", True, {"input_fresh": 11, "output_visible": 80}),
    "ollama_chat_stream": ("ollama.chat", "ollama", "ok", "", True, {"input_fresh": 17, "output_visible": 50}),
    "openai_chat_cached_read": (  # 1149 of which 1024 were cached
        "openai.chat", "openai", "ok", "default", False,
        {"input_fresh": 125, "input_cache_read": 1024, "output_visible": 353, "output_reasoning": 0},
    ),
    "openai_chat_reasoning": ("openai.chat", "openai", "ok", "default", False,
                              {"input_fresh": 11, **CACHED, "output_visible": 10, "output_reasoning": 192}),
    "openai_chat_service_tier_priority": (  # 82 of which 64 were thought
        "openai.chat", "openai", "ok", "priority", False,
        {"input_fresh": 8, **CACHED, "output_visible": 18, "output_reasoning": 64},
    ),
    "openai_chat_stream_no_usage": ("openai.chat", "openai", "ok", "default", True, {}),
    "openai_chat_tools": ("openai.chat", "openai", "ok", "default", False,
                          {"input_fresh": 40, **CACHED, "output_visible": 13, "output_reasoning": 0}),
    "openai_chat_tools_streaming": ("openai.chat", "openai", "ok", "default", True, {}),
    "openai_compat_stream_with_usage_proxy": ("openai.chat", "local", "ok", "", True,
                                              {"input_fresh": 10, **CACHED, "output_visible": 50}),
    "openai_completions_legacy": ("openai.completions", "openai", "ok", "", False, {"input_fresh": 8, "output_visible": 16}),
    "openai_embeddings": ("openai.embeddings", "openai", "ok", "", False, {"input_fresh": 8, "output_visible": 0}),
    "openai_error_400_image": ("openai.images", "openai", "error", "", False, {}),
    "openai_responses_reasoning": ("openai.responses", "openai", "ok", "default", False,
                                   {"input_fresh": 11, **CACHED, "output_visible": 67, "output_reasoning": 64}),
    "openai_responses_service_tier": ("openai.responses", "openai", "ok", "priority", False,
                                      {"input_fresh": 8, **CACHED, "output_visible": 15, "output_reasoning": 0}),
    "openai_responses_streaming": ("openai.responses", "openai", "ok", "default", True,
                                   {"input_fresh": 18, **CACHED, "output_visible": 80, "output_reasoning": 0}),
    "openai_responses_tool_calls": ("openai.responses", "openai", "ok", "default", False,
                                    {"input_fresh": 59, **CACHED, "output_visible": 45, "output_reasoning": 0}),
    "vllm_chat_stream_usage_null": ("openai.completions", "local", "ok", "", True, {}),
}  # fmt: skip


def the_call(record: Json) -> Call:
    outcomes = decode_record(orjson.dumps(record))
    assert len(outcomes) == 1
    call = outcomes[0]
    assert isinstance(call, Call), call
    return call


def leaves(call: Call) -> dict[str, int]:
    return {leaf: value for leaf in LEAVES if (value := getattr(call, leaf)) is not None}


def sample(shared: Path, name: str) -> Json:
    found = orjson.loads((shared / "formats" / "samples" / f"{name}.json").read_bytes())
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", EXPECTED)
def test_recorded_pairs(shared: Path, name: str) -> None:
    call = the_call(sample(shared, name))
    found = (call.api, call.provider, call.status, call.service_tier, call.stream, leaves(call))
    assert found == EXPECTED[name]
    assert call.usage_source == ("vendor" if EXPECTED[name][5] else "none")


@pytest.mark.parametrize("name", [name for name, told in EXPECTED.items() if told[2] == "ok" and not name.startswith("vllm")])
def test_recorded_answers_alone(shared: Path, name: str) -> None:
    """The answer without its request, as a body and as the text of it, has the same usage and says the same."""
    record = sample(shared, name)
    whole, answer = the_call(record), record["response"]["body"]
    call = the_call({"stream": answer} if isinstance(answer, str) else answer)
    assert leaves(call) == leaves(whole)
    assert call.content is not None
    assert whole.content is not None
    assert call.content.output == whole.content.output
    assert not call.content.complete


def framed(kind: str, payload: bytes) -> bytes:
    """One event of AWS' framing, after its specification: lengths, their checksum, headers, payload, checksum of all."""
    headers = b""
    for name, value in ((":event-type", kind), (":content-type", "application/json"), (":message-type", "event")):
        headers += bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
    head = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    head += struct.pack(">I", zlib.crc32(head))
    body = head + headers + payload
    return body + struct.pack(">I", zlib.crc32(body))


def binary(record: Json) -> tuple[Json, bytes]:
    """A recorded stream of Bedrock whose events somebody decoded, as the bytes that came over the wire."""
    data = b""
    for event in record["response"]["body"]["events"]:
        payload = event["payload"]
        if event["event_type"] == "chunk":
            inner = orjson.dumps(payload["__decoded_bytes__"])
            payload = {"bytes": base64.b64encode(inner).decode(), "p": "abc"}
        data += framed(event["event_type"], orjson.dumps(payload))
    return {**record, "response": {**record["response"], "body": base64.b64encode(data).decode()}}, data


STREAMS = ["bedrock_converse_stream_nova", "bedrock_invoke_anthropic_stream", "bedrock_invoke_titan_stream"]


@pytest.mark.parametrize("name", STREAMS)
def test_streams_of_aws_in_binary(shared: Path, name: str) -> None:
    record = sample(shared, name)
    decoded, (raw, _) = the_call(record), binary(record)
    call = the_call(raw)
    assert leaves(call) == EXPECTED[name][5]
    assert call.content == decoded.content
    assert (call.stream, call.stop_reason, call.status) == (True, decoded.stop_reason, decoded.status)
    assert decoded.content is not None
    assert decoded.content.output


@pytest.mark.parametrize("name", STREAMS)
def test_streams_of_aws_that_were_cut(shared: Path, name: str) -> None:
    """A cut within the last event loses that one, and is told; one within the first leaves nothing."""
    record, data = binary(sample(shared, name))
    for end in (len(data) - 1, len(data) - 5, 40):
        record["response"]["body"] = base64.b64encode(data[:end]).decode()
        call = the_call(record)
        assert "response_cut" in call.flags
        assert call.content is not None
        assert not call.content.complete
        if end == 40:
            assert call.usage_source == "none"


# Where the oracle's authors map a vendor's usage: the extractor of the vendor itself.
EXTRACTORS = {
    "anthropic": ("anthropic/default",),
    "bedrock_converse": ("aws/default",),
    "gemini": ("google/default",),
    "openai_responses": ("openai/responses",),
    "openrouter": ("openrouter/chat", "openai/responses"),
    "openai_chat": ("openai/chat", "openai/embeddings"),
    "cohere": ("cohere/default",),
    "cohere_embed": ("cohere/embeddings",),
    "mistral": ("mistral/default",),
    "groq": ("groq/default",),
    "deepseek": ("deepseek/chat",),
}
URLS = {
    "anthropic": "https://api.anthropic.com/v1/messages",
    "bedrock_converse": "https://bedrock-runtime.us-east-1.amazonaws.com/model/amazon.nova-lite-v1%3A0/converse",
    "gemini": "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent",
    "openai_responses": "https://api.openai.com/v1/responses",
    "openrouter": "https://openrouter.ai/api/v1/chat/completions",
    "openai_chat": "https://api.openai.com/v1/chat/completions",
    "cohere": "https://api.cohere.com/v2/chat",
    "cohere_embed": "https://api.cohere.com/v2/embed",
    "mistral": "https://api.mistral.ai/v1/chat/completions",
    "groq": "https://api.groq.com/openai/v1/chat/completions",
    "deepseek": "https://api.deepseek.com/chat/completions",
}


def inclusive(call: Call) -> dict[str, int]:
    """Our leaves in the oracle's terms: input and output include their parts."""
    written = sum(getattr(call, f"input_cache_write_{ttl}") or 0 for ttl in ("5m", "1h", "other"))
    taken = sum(getattr(call, leaf) or 0 for leaf in LEAVES if leaf.startswith("input"))
    given = sum(getattr(call, leaf) or 0 for leaf in LEAVES if leaf.startswith("output"))
    found = {
        "input_tokens": taken,
        "output_tokens": given,
        "cache_read_tokens": call.input_cache_read or 0,
        "cache_write_tokens": written,
        "output_reasoning_tokens": call.output_reasoning or 0,
    }
    return {key: value for key, value in found.items() if value}


def test_usage_bodies_against_another_projects_extraction(shared: Path) -> None:
    """125 usage objects as vendors wrote them, with what another project's price tables make of them."""
    equal, differing = 0, []
    for line in (shared / "formats" / "samples" / "usage_bodies_real.jsonl").read_bytes().splitlines():
        record = orjson.loads(line)
        family, body = record["family"], record["body"]
        read = next(
            each["usage"]
            for extractor in EXTRACTORS[family]
            for each in record["genai_prices_extracted"]
            if extractor in each["by"]
        )
        outcome = decode_record(orjson.dumps({"url": URLS[family], "status": 200, "request": {}, "response": body}))[0]
        assert isinstance(outcome, Call)
        found = inclusive(outcome)
        if found == {key: value for key, value in read.items() if value and key in _COMPARED}:
            equal += 1
        else:
            differing.append((family, found, read))
    assert equal == 120
    assert differing == [
        # Compaction: the figures at the top cover the last iteration only. The oracle reads these; all iterations are billed:
        # 100 fresh and 55,096 written, then 180; 82 and 8 given.
        (
            "anthropic",
            {"input_tokens": 100 + 55_096 + 180, "cache_write_tokens": 55_096, "output_tokens": 82 + 8},
            {"input_tokens": 180, "output_tokens": 8},
        ),
        ("anthropic", {"input_tokens": 55_196 + 220, "output_tokens": 125 + 8}, {"input_tokens": 220, "output_tokens": 8}),
        # Mistral names what was cached beside the prompt's figure; the oracle does not know the field.
        (
            "mistral",
            {"input_tokens": 70, "output_tokens": 12, "cache_read_tokens": 69},
            {"input_tokens": 70, "output_tokens": 12},
        ),
        # Gemini behind OpenAI's interface hides its thoughts: they are in the total alone, and are billed.
        (
            "openai_chat",
            {"input_tokens": 35, "output_tokens": 109 - 35, "output_reasoning_tokens": 109 - 35 - 12},
            {"input_tokens": 35, "output_tokens": 12},
        ),
        (
            "openai_chat",
            {"input_tokens": 66, "output_tokens": 100 - 66, "output_reasoning_tokens": 100 - 66 - 6},
            {"input_tokens": 66, "output_tokens": 6},
        ),
    ]


_COMPARED = frozenset({"input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens"})
