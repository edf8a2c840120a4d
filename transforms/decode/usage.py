"""Vendors' usage objects to disjoint leaves. Vendors disagree on what includes what; each rule names its vendor.

A leaf that would come out negative is a contradiction in the record: it is flagged, the usage is ``inconsistent``, and
the part that was said to be inside is kept while the rest is 0, so that nothing reported is billed twice.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, Final

from schemas.call import Call
from transforms.decode.values import mapping, sequence, tokens, whole

PICO: Final = 10**12


def openai(call: Call, usage: dict[str, Any]) -> None:
    """Chat, Responses, embeddings and the many that speak like them: totals include their details.

    ``prompt_tokens`` includes cached, written, audio and image tokens; ``completion_tokens`` includes reasoning, but for
    vendors that hide it: Gemini's compatible endpoint and xAI's chat add it to the total only.
    """
    responses = "input_tokens" in usage or "output_tokens" in usage
    given, made = ("input_tokens", "output_tokens") if responses else ("prompt_tokens", "completion_tokens")
    total_in, total_out, total = tokens(usage, given), tokens(usage, made), tokens(usage, "total_tokens")
    if total_in is None and total_out is None:
        if total is None:
            return
        total_in = total  # embeddings of some vendors report only a total
    inside = mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    outside = mapping(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    cached = tokens(inside, "cached_tokens")
    if cached is None:  # DeepSeek, Mistral and others spell it at the top
        for name in ("prompt_cache_hit_tokens", "num_cached_tokens", "cached_tokens"):
            if (cached := tokens(usage, name)) is not None:
                break
    written = tokens(inside, "cache_write_tokens")
    audio_in, image_in = tokens(inside, "audio_tokens"), tokens(inside, "image_tokens")
    reasoning = tokens(outside, "reasoning_tokens")
    audio_out, image_out = tokens(outside, "audio_tokens"), tokens(outside, "image_tokens")
    hidden = (total or 0) - (total_in or 0) - (total_out or 0)
    visible_total = total_out
    if total is not None and hidden > 0:
        if reasoning == hidden or (not reasoning and _hides_reasoning(call)):
            visible_total, reasoning = (total_out or 0) + hidden, hidden
        else:
            call.flag("total_mismatch")
    elif total is not None and hidden < 0:
        call.flag("total_mismatch")
    _set_source(call, total_in, total_out, total)
    call.input_cache_read = cached
    call.input_cache_write_other = written
    call.input_audio = audio_in
    call.input_image = image_in
    call.input_fresh = _rest(call, total_in, "cached_exceeds_input", cached, written, audio_in, image_in)
    if visible_total is not None:
        call.output_reasoning = reasoning
        call.output_audio, call.output_image = audio_out, image_out
        call.output_visible = _rest(call, visible_total, "details_exceed_output", reasoning, audio_out, image_out)
    _reported_cost(call, usage)


def _hides_reasoning(call: Call) -> bool:
    return "gemini" in call.model.lower() or call.provider in ("gemini", "xai")


def _reported_cost(call: Call, usage: dict[str, Any]) -> None:
    """What OpenRouter says it charges, in dollars."""
    cost = usage.get("cost")
    if call.provider == "openrouter" and isinstance(cost, int | float) and not isinstance(cost, bool) and cost >= 0:
        call.reported_cost, call.reported_cost_by = pico(cost), "vendor"


def pico(dollars: float | int | str) -> int:
    """Dollars as they are written, in pico-dollars."""
    return int((Decimal(str(dollars)) * PICO).to_integral_value(ROUND_HALF_EVEN))


def anthropic(call: Call, usage: dict[str, Any]) -> None:
    """Messages: ``input_tokens`` excludes cache reads and writes; ``output_tokens`` includes thinking.

    With ``iterations`` (compaction, server tools) the top level covers only the last one, so the iterations are summed.
    The split of writes by life may be smaller than their total on streams: the rest is five-minute writes.
    """
    rounds = [one for one in sequence(usage.get("iterations")) if isinstance(one, dict)]
    parts = rounds or [usage]
    fresh = _sum(parts, "input_tokens")
    made = _sum(parts, "output_tokens")
    if fresh is None and made is None:
        return
    read = _sum(parts, "cache_read_input_tokens")
    written = _sum(parts, "cache_creation_input_tokens")
    splits = [mapping(part.get("cache_creation")) for part in parts]
    hour = _sum(splits, "ephemeral_1h_input_tokens")
    five = _sum(splits, "ephemeral_5m_input_tokens")
    if written is None:
        written = None if hour is None and five is None else (hour or 0) + (five or 0)
    _set_source(call, fresh, made, None)
    call.input_fresh, call.input_cache_read = fresh, read
    if written is not None:
        call.input_cache_write_1h = hour
        call.input_cache_write_5m = _rest(call, written, "cache_split_exceeds_total", hour)
    thinking = _sum([mapping(part.get("output_tokens_details")) for part in parts], "thinking_tokens")
    call.output_reasoning = thinking
    call.output_visible = _rest(call, made, "details_exceed_output", thinking)
    searches = mapping(usage.get("server_tool_use"))
    call.web_searches = tokens(searches, "web_search_requests")
    call.service_tier = str(usage.get("service_tier") or call.service_tier or "")
    call.speed = str(usage.get("speed") or "")
    geo = usage.get("inference_geo")
    if isinstance(geo, str) and geo not in ("", "not_available"):
        call.region_scope = geo
    if len(rounds) > 1:
        call.flag("iterations_summed")


def gemini(call: Call, usage: dict[str, Any]) -> None:
    """generateContent: prompt includes cached and excludes tool use; candidates exclude thoughts."""
    names = ("promptTokenCount", "prompt_token_count")
    spelled = 0 if names[0] in usage or "totalTokenCount" in usage or "candidatesTokenCount" in usage else 1

    def get(camel: str, snake: str) -> int | None:
        return tokens(usage, (camel, snake)[spelled])

    prompt = get(*names)
    visible = get("candidatesTokenCount", "candidates_token_count")
    thoughts = get("thoughtsTokenCount", "thoughts_token_count")
    cached = get("cachedContentTokenCount", "cached_content_token_count")
    tool = get("toolUsePromptTokenCount", "tool_use_prompt_token_count")
    total = get("totalTokenCount", "total_token_count")
    if prompt is None and visible is None:
        return
    by_kind = _by_modality(usage.get(("promptTokensDetails", "prompt_tokens_details")[spelled]))
    cached_kind = _by_modality(usage.get(("cacheTokensDetails", "cache_tokens_details")[spelled]))
    made_kind = _by_modality(usage.get(("candidatesTokensDetails", "candidates_tokens_details")[spelled]))
    audio = _less(by_kind.get("AUDIO"), cached_kind.get("AUDIO"))
    if total is not None and total != sum(n or 0 for n in (prompt, visible, thoughts, tool)):
        call.flag("total_mismatch")
    _set_source(call, prompt, visible, total)
    call.input_cache_read, call.input_tool_use, call.input_audio = cached, tool, audio
    call.input_fresh = _rest(call, prompt, "cached_exceeds_input", cached, audio)
    call.output_reasoning = thoughts
    call.output_audio, call.output_image = made_kind.get("AUDIO"), made_kind.get("IMAGE")
    if visible is not None or thoughts is not None:
        call.output_visible = _rest(call, visible or 0, "details_exceed_output", call.output_audio, call.output_image)
    traffic = str(usage.get("trafficType") or usage.get("serviceTier") or "")
    tiers = {"ON_DEMAND_FLEX": "flex", "ON_DEMAND_PRIORITY": "priority", "PROVISIONED_THROUGHPUT": "provisioned"}
    call.service_tier = tiers.get(traffic, traffic.lower() if traffic in ("flex", "priority", "batch") else "")


def bedrock(call: Call, usage: dict[str, Any]) -> None:
    """Converse and the native bodies of Nova: input excludes cache reads and writes."""
    fresh, made = tokens(usage, "inputTokens"), tokens(usage, "outputTokens")
    if fresh is None and made is None:
        return
    read = tokens(usage, "cacheReadInputTokens")
    read = tokens(usage, "cacheReadInputTokenCount") if read is None else read
    written = tokens(usage, "cacheWriteInputTokens")
    written = tokens(usage, "cacheWriteInputTokenCount") if written is None else written
    details = [d for d in sequence(usage.get("cacheDetails")) if isinstance(d, dict)]
    hour = _sum([d for d in details if d.get("ttl") == "1h"], "inputTokens") if details else None
    _set_source(call, fresh, made, tokens(usage, "totalTokens"))
    call.input_fresh, call.output_visible, call.input_cache_read = fresh, made, read
    if written is not None:
        call.input_cache_write_1h = hour
        call.input_cache_write_5m = _rest(call, written, "cache_split_exceeds_total", hour)


def plain(call: Call, given: int | None, made: int | None, reasoning: int | None = None) -> None:
    """Vendors that report only input and output."""
    if given is None and made is None:
        return
    _set_source(call, given, made, None)
    call.input_fresh = given
    call.output_reasoning = reasoning
    call.output_visible = _rest(call, made, "details_exceed_output", reasoning)


def _set_source(call: Call, given: int | None, made: int | None, total: int | None) -> None:
    call.vendor_input, call.vendor_output, call.vendor_total = given, made, total
    call.usage_source, call.usage_quality = "vendor", "inconsistent" if "total_mismatch" in call.flags else "ok"


def _rest(call: Call, total: int | None, flag: str, *parts: int | None) -> int | None:
    """What is left of ``total`` besides its parts."""
    if total is None:
        return None
    rest = total - sum(part or 0 for part in parts)
    if rest >= 0:
        return rest
    call.flag(flag)
    call.usage_quality = "inconsistent"
    return 0


def _less(total: int | None, part: int | None) -> int | None:
    return None if total is None else max(0, total - (part or 0))


def _sum(parts: list[dict[str, Any]], name: str) -> int | None:
    found = [n for part in parts if (n := tokens(part, name)) is not None]
    return sum(found) if found else None


def _by_modality(details: object) -> dict[str, int]:
    found: dict[str, int] = {}
    for detail in sequence(details):
        kind = mapping(detail).get("modality")
        count = whole(mapping(detail).get("tokenCount", mapping(detail).get("token_count")))
        if isinstance(kind, str) and count is not None:
            found[kind] = found.get(kind, 0) + count
    return found
