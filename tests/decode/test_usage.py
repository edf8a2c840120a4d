"""Usage to disjoint leaves: vendors' own figures by hand, and laws."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.call import LEAVES, Call
from transforms.decode import usage as usages
from transforms.decode.errors import Undecodable


def leaves(call: Call) -> dict[str, int]:
    return {leaf: getattr(call, leaf) for leaf in LEAVES if getattr(call, leaf)}


def openai(usage: dict[str, Any], provider: str = "openai", operation: str = "chat", model: str = "m") -> Call:
    call = Call()
    call.provider, call.operation, call.model = provider, operation, model
    usages.openai(call, usage)
    return call


def test_cached_and_reasoning_are_inside_of_openais_totals() -> None:
    call = openai(
        {
            "prompt_tokens": 1149,
            "completion_tokens": 82,
            "total_tokens": 1231,
            "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 64},
        }
    )
    assert leaves(call) == {
        "input_fresh": 125,
        "input_cache_read": 1024,
        "output_visible": 18,
        "output_reasoning": 64,
    }
    assert (call.usage_source, call.usage_quality, call.flags) == ("vendor", "ok", ())
    assert (call.vendor_input, call.vendor_output, call.vendor_total) == (1149, 82, 1231)


def test_cache_writes_are_inside_of_openais_input() -> None:
    call = openai(
        {
            "input_tokens": 1000,
            "output_tokens": 10,
            "total_tokens": 1010,
            "input_tokens_details": {"cached_tokens": 300, "cache_write_tokens": 600},
        }
    )
    assert leaves(call) == {
        "input_fresh": 100,
        "input_cache_read": 300,
        "input_cache_write_other": 600,
        "output_visible": 10,
    }


def test_audio_and_images_are_split_out() -> None:
    call = openai(
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "prompt_tokens_details": {"audio_tokens": 60, "image_tokens": 10},
            "completion_tokens_details": {"audio_tokens": 30, "reasoning_tokens": 5},
        }
    )
    assert leaves(call) == {
        "input_fresh": 30,
        "input_audio": 60,
        "input_image": 10,
        "output_visible": 15,
        "output_audio": 30,
        "output_reasoning": 5,
    }


def test_media_that_may_have_been_cached_is_not_split() -> None:
    call = openai(
        {
            "prompt_tokens": 100,
            "completion_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": 50, "image_tokens": 90},
        }
    )
    assert leaves(call) == {"input_fresh": 50, "input_cache_read": 50, "output_visible": 1}
    assert call.flags == ("media_cached",)


def test_xais_reasoning_is_outside_of_completion() -> None:
    call = openai(
        {
            "prompt_tokens": 468,
            "completion_tokens": 82,
            "total_tokens": 870,
            "prompt_tokens_details": {"cached_tokens": 305},
            "completion_tokens_details": {"reasoning_tokens": 320},
            "cost_in_usd_ticks": 2488500,
        },
        provider="xai",
    )
    assert leaves(call) == {
        "input_fresh": 163,
        "input_cache_read": 305,
        "output_visible": 82,
        "output_reasoning": 320,
    }
    assert call.usage_quality == "ok"
    assert call.reported_cost == 248_850_000  # 0.00024885 dollars


def test_geminis_thoughts_hide_in_the_total() -> None:
    usage = {"prompt_tokens": 35, "completion_tokens": 12, "total_tokens": 109}
    call = openai(usage, provider="gemini")
    assert leaves(call) == {"input_fresh": 35, "output_visible": 12, "output_reasoning": 62}
    assert call.flags == ("hidden_reasoning",)
    other = openai(usage)
    assert (other.usage_quality, other.flags) == ("inconsistent", ("total_mismatch",))


def test_mistrals_audio_is_beside_the_prompt() -> None:
    call = openai(
        {
            "prompt_tokens": 9,
            "total_tokens": 632,
            "completion_tokens": 248,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 375},
        }
    )
    assert leaves(call) == {"input_fresh": 9, "input_audio": 375, "output_visible": 248}
    assert call.usage_quality == "ok"


@pytest.mark.parametrize(
    "details",
    [
        {"prompt_cache_hit_tokens": 40, "prompt_cache_miss_tokens": 60},
        {"cached_tokens": 40},
        {"num_cached_tokens": 40},
        {"cache_read_input_tokens": 40},
    ],
)
def test_other_names_of_cached(details: dict[str, int]) -> None:
    call = openai({"prompt_tokens": 100, "completion_tokens": 1, "total_tokens": 101, **details})
    assert (call.input_fresh, call.input_cache_read) == (60, 40)


def test_a_part_above_its_whole_is_kept_and_flagged() -> None:
    call = openai({"prompt_tokens": 10, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 161}})
    assert (call.input_fresh, call.input_cache_read) == (0, 161)
    assert (call.usage_quality, call.flags) == ("inconsistent", ("cached_exceeds_input",))
    call = openai({"prompt_tokens": 10, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 25}})
    assert (call.output_visible, call.output_reasoning) == (0, 25)
    assert (call.usage_quality, call.flags) == ("inconsistent", ("details_exceed_output",))


def test_embeddings_have_no_output() -> None:
    for usage in ({"prompt_tokens": 8, "total_tokens": 8}, {"total_tokens": 8}):
        call = openai(usage, operation="embedding")
        assert (call.input_fresh, call.output_visible) == (8, 0)
        assert call.usage_quality == "ok"


def test_null_is_not_zero() -> None:
    call = openai({"prompt_tokens": 5, "completion_tokens": 1})
    assert call.input_cache_read is None
    assert call.output_reasoning is None
    assert openai({}).usage_source == "none"
    partial = openai({"prompt_tokens": 5})
    assert (partial.output_visible, partial.usage_quality) == (None, "partial")


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -7, "completion_tokens": 3},
        {"prompt_tokens": True, "completion_tokens": 3},
        {"prompt_tokens": 7, "completion_tokens": 3.5},
        {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": -1}},
        {"prompt_tokens": "many", "completion_tokens": 3},
    ],
)
def test_impossible_values_are_refused(usage: dict[str, Any]) -> None:
    with pytest.raises(Undecodable) as caught:
        openai(usage)
    assert caught.value.reason == "bad_value"


def test_costs_of_gateways() -> None:
    paid = {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.000543}
    assert openai(paid, "openrouter").reported_cost == 543_000_000
    own_key = {**paid, "cost": 0.0001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.002}}
    assert openai(own_key, "openrouter").reported_cost == 2_100_000_000
    perplexity = {**paid, "cost": {"total_cost": 0.006, "request_cost": 0.005}}
    assert openai(perplexity, "perplexity").reported_cost == 6_000_000_000
    assert openai({**paid, "cost": -1}, "x").flags == ("bad_reported_cost",)


def anthropic(usage: dict[str, Any], model: str = "claude-sonnet-5") -> Call:
    call = Call()
    call.model = model
    usages.anthropic(call, usage)
    return call


def test_anthropics_input_excludes_the_cache() -> None:
    call = anthropic(
        {
            "input_tokens": 4,
            "cache_creation_input_tokens": 1163,
            "cache_read_input_tokens": 20,
            "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 163},
            "output_tokens": 80,
            "output_tokens_details": {"thinking_tokens": 50},
            "server_tool_use": {"web_search_requests": 2},
            "service_tier": "standard",
            "inference_geo": "us",
        }
    )
    assert leaves(call) == {
        "input_fresh": 4,
        "input_cache_read": 20,
        "input_cache_write_5m": 1000,
        "input_cache_write_1h": 163,
        "output_visible": 30,
        "output_reasoning": 50,
    }
    assert (call.web_searches, call.service_tier, call.region_scope) == (2, "standard", "us")


def test_what_a_cache_write_does_not_split_is_five_minutes() -> None:
    call = anthropic(
        {
            "input_tokens": 1,
            "output_tokens": 1,
            "cache_creation_input_tokens": 184_457,
            "cache_creation": {"ephemeral_5m_input_tokens": 31_490, "ephemeral_1h_input_tokens": 7},
        }
    )
    assert (call.input_cache_write_5m, call.input_cache_write_1h) == (184_450, 7)
    call = anthropic({"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 9})
    assert (call.input_cache_write_5m, call.input_cache_write_1h) == (9, 0)


def test_a_split_above_its_total_is_flagged_and_the_total_stands() -> None:
    call = anthropic(
        {
            "input_tokens": 1,
            "output_tokens": 1,
            "cache_creation_input_tokens": 10,
            "cache_creation": {"ephemeral_5m_input_tokens": 8, "ephemeral_1h_input_tokens": 6},
        }
    )
    assert (call.input_cache_write_5m, call.input_cache_write_1h) == (4, 6)
    assert call.usage_quality == "inconsistent"


def test_iterations_are_summed() -> None:
    call = anthropic(
        {
            "input_tokens": 220,
            "output_tokens": 8,
            "iterations": [
                {"type": "compaction", "input_tokens": 55196, "output_tokens": 125, "cache_read_input_tokens": 3},
                {"type": "message", "input_tokens": 220, "output_tokens": 8},
            ],
        }
    )
    assert leaves(call) == {"input_fresh": 55416, "output_visible": 133, "input_cache_read": 3}


def test_iterations_of_another_model_are_not_this_models() -> None:
    usage = {
        "input_tokens": 2390,
        "output_tokens": 121,
        "iterations": [
            {"type": "message", "input_tokens": 1128, "output_tokens": 110},
            {"type": "advisor_message", "model": "claude-opus-4-8", "input_tokens": 2518, "output_tokens": 22},
            {"type": "message", "input_tokens": 1262, "output_tokens": 11},
        ],
    }
    call = anthropic(usage)
    assert leaves(call) == {"input_fresh": 2390, "output_visible": 121}
    assert [(model, step["input_tokens"]) for model, step in usages.anthropic_advisors(call, usage)] == [
        ("claude-opus-4-8", 2518)
    ]


def test_gemini_in_both_spellings() -> None:
    camel = {
        "promptTokenCount": 300,
        "cachedContentTokenCount": 100,
        "candidatesTokenCount": 40,
        "thoughtsTokenCount": 60,
        "toolUsePromptTokenCount": 20,
        "totalTokenCount": 420,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 170}, {"modality": "AUDIO", "tokenCount": 130}],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 50}],
        "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 30}],
    }
    snake = {
        "prompt_token_count": 300,
        "cached_content_token_count": 100,
        "candidates_token_count": 40,
        "thoughts_token_count": 60,
        "tool_use_prompt_token_count": "20",
        "total_token_count": 420,
        "prompt_tokens_details": [{"modality": "TEXT", "token_count": 170}, {"modality": "AUDIO", "token_count": 130}],
        "cache_tokens_details": [{"modality": "AUDIO", "token_count": 50}],
        "candidates_tokens_details": [{"modality": "IMAGE", "token_count": 30}],
    }
    for usage in (camel, snake):
        call = Call()
        usages.gemini(call, usage)
        assert leaves(call) == {
            "input_fresh": 120,
            "input_cache_read": 100,
            "input_audio": 80,
            "input_tool_use": 20,
            "output_visible": 10,
            "output_image": 30,
            "output_reasoning": 60,
        }
        assert call.usage_quality == "ok"


def test_bedrocks_aliases_are_not_added() -> None:
    call = Call()
    usages.bedrock(
        call,
        {
            "inputTokens": 10,
            "outputTokens": 5,
            "totalTokens": 45,
            "cacheReadInputTokens": 20,
            "cacheReadInputTokenCount": 20,
            "cacheWriteInputTokens": 10,
            "cacheWriteInputTokenCount": 10,
            "cacheDetails": [{"inputTokens": 7, "ttl": "1h"}],
        },
    )
    assert leaves(call) == {
        "input_fresh": 10,
        "input_cache_read": 20,
        "input_cache_write_1h": 7,
        "input_cache_write_other": 3,
        "output_visible": 5,
    }
    assert call.usage_quality == "ok"


COUNTS = st.integers(0, 10**6)


@given(*[COUNTS] * 5, st.booleans())
def test_leaves_of_consistent_openai_usage_sum_to_its_total(
    fresh: int, read: int, write: int, visible: int, reasoning: int, with_total: bool
) -> None:
    prompt, output = fresh + read + write, visible + reasoning
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": output,
        "prompt_tokens_details": {"cached_tokens": read, "cache_write_tokens": write},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    if with_total:
        usage["total_tokens"] = prompt + output
    call = openai(usage)
    assert sum(leaves(call).values()) == prompt + output
    assert (call.input_fresh, call.output_visible) == (fresh, visible)
    assert call.usage_quality == "ok"


ANY_COUNT = st.one_of(st.none(), st.integers(-5, 50), st.sampled_from(["3", "x", 2.0, 2.5, True]))


@given(
    st.dictionaries(
        st.sampled_from(["prompt_tokens", "completion_tokens", "total_tokens", "cached_tokens", "cache_creation_input_tokens"]),
        ANY_COUNT,
    ),
    st.dictionaries(st.sampled_from(["cached_tokens", "audio_tokens", "image_tokens", "cache_write_tokens"]), ANY_COUNT),
    st.dictionaries(st.sampled_from(["reasoning_tokens", "audio_tokens", "image_tokens"]), ANY_COUNT),
)
def test_any_usage_gives_leaves_of_zero_or_more_or_is_refused(
    top: dict[str, Any], inside: dict[str, Any], outside: dict[str, Any]
) -> None:
    usage = {**top, "prompt_tokens_details": inside, "completion_tokens_details": outside}
    try:
        call = openai(usage)
    except Undecodable:
        return
    values = leaves(call)
    assert all(value > 0 for value in values.values())
    whole = (call.vendor_input or 0) + (call.vendor_output or 0)
    if call.usage_quality == "ok" and call.vendor_total in (None, whole):
        assert sum(values.values()) == whole
