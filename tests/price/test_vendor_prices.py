"""Costs of single calls against sums worked out by hand from what the vendors publish."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from schemas.call import Call
from tests.price.calls import batch, dollars
from transforms.decode import decode_record
from transforms.price import Book, load_book, price_batch


@pytest.fixture(scope="module")
def book() -> Book:
    return load_book()


CASES: list[tuple[str, dict[str, Any], str]] = [
    ("gpt-4o", {"input_fresh": 1000, "output_visible": 500}, "0.0075"),
    ("gpt-4o cached half price", {"input_fresh": 1000, "input_cache_read": 1000, "output_visible": 0}, "0.00375"),
    ("gpt-4o batch", {"batch": True, "input_fresh": 1000, "output_visible": 500}, "0.00375"),
    ("gpt-4o batch: cached stays at 1.25", {"batch": True, "input_cache_read": 1_000_000}, "1.25"),
    ("gpt-4o priority 1.7x", {"service_tier": "priority", "input_fresh": 1_000_000}, "4.25"),
    ("gpt-4o before the alias moved", {"model": "gpt-4o", "event_time": "2024-10-01", "input_fresh": 1_000_000}, "5"),
    ("gpt-4o after the alias moved", {"model": "gpt-4o", "event_time": "2024-10-02", "input_fresh": 1_000_000}, "2.5"),
    ("o3 before the cut", {"model": "o3", "event_time": "2025-06-09", "output_reasoning": 1_000_000}, "40"),
    ("o3 before the cut: cached at a quarter", {"model": "o3", "event_time": "2025-06-09", "input_cache_read": 10**6}, "2.5"),
    ("o3 after the cut: cached", {"model": "o3", "event_time": "2025-06-10", "input_cache_read": 10**6}, "0.5"),
    ("o3 after the cut", {"model": "o3-2025-04-16", "event_time": "2025-06-10", "output_reasoning": 1_000_000}, "8"),
    (
        "luna before its cut to a fifth",
        {"model": "gpt-5.6-luna", "event_time": "2026-07-29", "input_fresh": 10**6},
        "2",
    ),
    ("luna after it", {"model": "gpt-5.6-luna", "event_time": "2026-07-30", "input_fresh": 10**5}, "0.02"),
    ("sol after 2026-08-21", {"model": "gpt-5.6-sol", "output_visible": 1000}, "0.02"),
    (
        "terra before 2026-07-30",
        {"model": "gpt-5.6-terra", "event_time": "2026-07-01", "output_visible": 1000},
        "0.015",
    ),
    ("cache write from 5.6 on", {"model": "gpt-5.6-terra", "input_cache_write_other": 1000}, "0.0025"),
    ("gpt-5.4 at the edge", {"model": "gpt-5.4", "input_fresh": 272_000, "output_visible": 1000}, "0.695"),
    ("gpt-5.4 over the edge", {"model": "gpt-5.4", "input_fresh": 272_001, "output_visible": 1000}, "1.382505"),
    ("gpt-5 file search", {"model": "gpt-5", "input_fresh": 1000, "file_searches": 4}, "0.01125"),
    ("gpt-5 web search", {"model": "gpt-5", "input_fresh": 0, "web_searches": 3}, "0.03"),
    (
        "audio",
        {"model": "gpt-4o-audio-preview", "input_audio": 100, "output_audio": 50, "input_fresh": 10},
        "0.008025",
    ),
    (
        "sonnet 4.5, every kind of input",
        {
            "provider": "anthropic",
            "model": "claude-sonnet-4-5-20250929",
            "input_fresh": 1000,
            "input_cache_read": 10_000,
            "input_cache_write_5m": 2000,
            "input_cache_write_1h": 500,
            "output_visible": 300,
        },
        "0.021",
    ),
    (
        "sonnet 4.5 long prompt: cache counts for the band",
        {
            "provider": "anthropic",
            "model": "claude-sonnet-4-5",
            "input_fresh": 1,
            "input_cache_read": 200_000,
            "output_visible": 1000,
        },
        "0.142506",
    ),
    (
        "opus 4.6 premium until 2026-03-13",
        {"provider": "anthropic", "model": "claude-opus-4-6", "event_time": "2026-03-12", "input_fresh": 200_001},
        "2.00001",
    ),
    (
        "opus 4.6 flat since",
        {"provider": "anthropic", "model": "claude-opus-4-6", "event_time": "2026-03-13", "input_fresh": 200_001},
        "1.000005",
    ),
    *(
        (
            f"haiku 3.5 on {day}",
            {"provider": "anthropic", "model": "claude-3-5-haiku-20241022", "event_time": day, "input_fresh": 10**6, **more},
            cost,
        )
        for day, more, cost in (
            ("2024-11-04", {"output_visible": 10**6}, "6"),  # $1 and $5 at first
            ("2024-12-02T23:59:59", {"batch": True, "output_visible": 10**6}, "3"),
            ("2024-12-03", {"output_visible": 10**6}, "4.8"),  # $0.80 and $4 on all platforms
            ("2024-12-03", {"batch": True, "output_visible": 10**6}, "2.4"),
        )
    ),
    (
        "haiku 3 has irregular cache prices",
        {
            "provider": "anthropic",
            "model": "claude-3-haiku-20240307",
            "input_cache_write_5m": 10**6,
            "input_cache_read": 10**6,
        },
        "0.33",
    ),
    (
        "US inference is 10 % more",
        {"provider": "anthropic", "model": "claude-opus-4-6", "region_scope": "us", "input_fresh": 10**6},
        "5.5",
    ),
    (
        "fast mode is twice the price",
        {"provider": "anthropic", "model": "claude-opus-5", "speed": "fast", "output_visible": 10**6},
        "50",
    ),
    (
        "gemini 2.5 pro up to 200k",
        {"provider": "gemini", "model": "models/gemini-2.5-pro", "input_fresh": 200_000, "output_reasoning": 1000},
        "0.26",
    ),
    (
        "gemini 2.5 pro above 200k",
        {"provider": "gemini", "model": "gemini-2.5-pro", "input_fresh": 200_001, "output_reasoning": 1000},
        "0.5150025",
    ),
    (
        "gemini tool use prompt is input, audio has its own price",
        {"provider": "gemini", "model": "gemini-2.5-flash", "input_tool_use": 10**6, "input_audio": 10**6},
        "1.3",
    ),
    (
        "gemini 3.6 flash doubles in 2027",
        {"provider": "gemini", "model": "gemini-3.6-flash", "event_time": "2027-01-01", "input_fresh": 10**6},
        "1.5",
    ),
    (
        "vertex path",
        {"provider": "vertex", "model": "publishers/google/models/gemini-2.0-flash", "output_visible": 10**6},
        "0.6",
    ),
    (
        "vertex version with @",
        {"provider": "vertex", "model": "claude-3-7-sonnet@20250219", "region_scope": "us-east5", "input_fresh": 10**6},
        "3",
    ),
    (
        "bedrock US profile is 10 % over global",
        {"provider": "bedrock", "model": "us.anthropic.claude-sonnet-4-5-20250929-v1:0", "input_fresh": 10**5},
        "0.33",
    ),
    (
        "bedrock global profile",
        {"provider": "bedrock", "model": "global.anthropic.claude-sonnet-4-5-20250929-v1:0", "input_fresh": 10**5},
        "0.3",
    ),
    (
        "bedrock ARN",
        {
            "provider": "bedrock",
            "model": "arn:aws:bedrock:us-east-1:1234:inference-profile/us.amazon.nova-micro-v1:0",
            "output_visible": 10**6,
        },
        "0.14",
    ),
    (
        "azure data zone is 10 % over",
        {"provider": "azure", "model": "gpt-5", "region_scope": "datazone", "input_fresh": 10**6},
        "1.375",
    ),
    (
        "mistral medium, alias before it moved",
        {"provider": "mistral", "model": "mistral-medium-latest", "event_time": "2026-06-15", "output_visible": 10**6},
        "2",
    ),
    (
        "mistral medium, alias after it moved",
        {"provider": "mistral", "model": "mistral-medium-latest", "event_time": "2026-06-16", "output_visible": 10**6},
        "7.5",
    ),
    (
        "mistral large 4: three prices in a month",
        {"provider": "mistral", "model": "mistral-large-4", "event_time": "2026-10-28", "input_fresh": 10**6},
        "1.36",
    ),
    (
        "mistral large 4, the third",
        {"provider": "mistral", "model": "mistral-large-4", "event_time": "2026-10-29", "input_fresh": 10**6},
        "0.7",
    ),
    (
        "deepseek v4 pro flat at 02:00 before 2026-08-17",
        {"provider": "deepseek", "model": "deepseek-v4-pro", "event_time": "2026-08-01T02:00:00", "input_fresh": 10**6},
        "0.435",
    ),
    (
        "deepseek v4 pro, Monday 02:00: peak",
        {"provider": "deepseek", "model": "deepseek-v4-pro", "event_time": "2026-11-02T02:00:00", "input_fresh": 10**6},
        "1.32",
    ),
    (
        "deepseek v4 pro, Saturday 02:00: off-peak",
        {"provider": "deepseek", "model": "deepseek-v4-pro", "event_time": "2026-10-31T02:00:00", "input_fresh": 10**6},
        "0.66",
    ),
    (
        "deepseek v4 pro, Monday 04:00: the window has ended",
        {"provider": "deepseek", "model": "deepseek-v4-pro", "event_time": "2026-11-02T04:00:00", "input_fresh": 10**6},
        "0.66",
    ),
    (
        "deepseek v3 at night, over midnight",
        {
            "provider": "deepseek",
            "model": "deepseek-chat",
            "event_time": "2025-03-01T00:29:00",
            "output_visible": 10**6,
        },
        "0.55",
    ),
    (
        "vertex is dearer than the Gemini API for 2.0 flash",
        {"provider": "gemini", "model": "gemini-2.0-flash", "input_fresh": 10**6, "input_audio": 10**6, "output_visible": 10**6},
        "1.2",
    ),
    (
        "azure cut luna after OpenAI did: before",
        {"provider": "azure", "model": "gpt-5.6-luna", "event_time": "2026-08-11", "output_visible": 10**6},
        "6",
    ),
    (
        "azure cut luna after OpenAI did: since, in a data zone, a long prompt",
        {
            "provider": "azure",
            "model": "gpt-5.6-luna-2026-07-09",
            "event_time": "2026-08-17",
            "region_scope": "datazone",
            "input_fresh": 272_001,
            "output_visible": 10**6,
        },
        "2.09968044",
    ),
    (
        "GovCloud costs a fifth more than the global profile",
        {"provider": "bedrock", "model": "us-gov.anthropic.claude-sonnet-5", "input_fresh": 10**6, "input_cache_write_5m": 10**6},
        "5.4",
    ),
    (
        "bedrock long prompts of sonnet 4.5",
        {
            "provider": "bedrock",
            "model": "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "input_cache_read": 200_001,
            "input_cache_write_1h": 10**6,
        },
        "13.33200066",
    ),
    ("a made image", {"model": "gpt-image-2", "output_image": 1000}, "0.03"),
    ("jais is 1.8, not 500", {"provider": "watsonx", "model": "core42/jais-13b-chat", "input_fresh": 10**6}, "1.8"),
    ("request fee", {"provider": "perplexity", "model": "sonar", "input_fresh": 1000, "output_visible": 1000}, "0.007"),
]


@pytest.mark.parametrize(("call", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_cost_is_what_the_vendor_bills(book: Book, call: dict[str, Any], expected: str) -> None:
    priced = price_batch(batch([call]), book, 1)
    assert priced.price_status == ["priced"], priced.price_reason
    assert dollars(priced.cost[0]) == Decimal(expected)


UNPRICED: list[tuple[dict[str, Any], str]] = [
    ({"provider": "nobody"}, "unknown_provider"),
    ({"model": "gpt-99"}, "unknown_model"),
    ({"model": "ft:gpt-99:org::id"}, "unknown_model"),
    ({"model": "gpt-3.5-turbo-0613", "batch": True}, "unknown_tier"),
    ({"service_tier": "auto"}, "unknown_tier"),
    ({"region_scope": "mars"}, "unknown_scope"),
    ({"input_audio": 5}, "no_rate:input_audio"),
    ({"input_cache_write_5m": 5}, "no_rate:input_cache_write_5m"),
    ({"provider": "gemini", "model": "gemini-2.5-flash", "web_searches": 1}, "no_rate:web_searches"),
    ({"provider": "azure", "model": "gpt-5", "file_searches": 1}, "no_rate:file_searches"),
    ({"provider": "local", "model": "gpt-5-mini-2025-08-07"}, "unknown_model"),
    ({"provider": "ollama", "model": "gpt-oss:120b-cloud"}, "unknown_model"),
]


@pytest.mark.parametrize(("call", "reason"), UNPRICED)
def test_unknown_is_null_and_never_zero(book: Book, call: dict[str, Any], reason: str) -> None:
    priced = price_batch(batch([{"input_fresh": 10, **call}]), book, 1)
    assert (priced.price_status, priced.price_reason) == (["unpriced"], [reason])
    assert priced.null.tolist() == [True]
    assert priced.cost_source == [""]


def test_what_ollama_serves_is_not_called_self_hosted(book: Book) -> None:
    (call,) = decode_record(
        b'{"provider": "ollama", "url": "https://ollama.com/v1/chat/completions", "request": {"model": "gpt-oss:120b", "messages": []},'
        b' "response": {"model": "gpt-oss:120b", "choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 3}}}'
    )
    assert isinstance(call, Call)
    assert call.provider == "ollama-cloud"
    priced = price_batch(batch([{"provider": call.provider, "model": call.model, "input_fresh": 9}]), book, 1)
    assert (priced.price_status, priced.rate_id) == (["free"], ["ollama-cloud/subscription"])


def test_self_hosted_models_are_free_by_statement(book: Book) -> None:
    calls = [{"provider": p, "model": "qwen3:4b", "input_fresh": 10} for p in ("ollama", "llamacpp", "vllm", "local")]
    priced = price_batch(batch(calls), book, 1)
    assert priced.price_status == ["free"] * 4
    assert priced.cost.tolist() == [0] * 4
    assert not priced.null.any()
    assert all(priced.rate_id)
