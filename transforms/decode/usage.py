"""Vendors' usage objects to the disjoint leaves of ``schemas.call.LEAVES``.

What the emitters mean by their figures, found in recorded traffic:

============================  ===========================  ============================
emitter                       input includes cached        output includes reasoning
============================  ===========================  ============================
OpenAI, Azure, OpenRouter     yes, reads and writes        yes
xAI                           yes                          no; the total holds both
Gemini behind an OpenAI URL   yes                          hidden: only in the total
Anthropic                     no                           yes
Bedrock Converse              no                           yes
Gemini, Vertex                yes; not tool-use prompts    no
============================  ===========================  ============================

Every function writes on the call it is given, and nothing else. A part that exceeds its whole is kept as reported, what
remains of the whole is 0, and the call is flagged and ``inconsistent``. Impossible values raise ``Undecodable``.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

from schemas.call import Call
from transforms.decode.values import MAX_COUNT, count, mapping, pico_dollars, sequence, text

XAI_TICK: Final = Decimal(100)
"""xAI reports costs in ticks of 10⁻¹⁰ dollars: 100 pico-dollars."""

_Json = Mapping[str, Any]


def inconsistent(call: Call, flag: str) -> None:
    """The vendor's figures contradict each other."""
    call.flag(flag)
    call.usage_quality = "inconsistent"


def _begin(call: Call, vendor_input: int | None, vendor_output: int | None, total: int | None) -> None:
    call.vendor_input = vendor_input
    call.vendor_output = vendor_output
    call.vendor_total = total
    call.usage_source = "vendor"
    if not call.usage_quality:
        call.usage_quality = "ok"


def _first(usage: _Json, *names: str) -> int | None:
    for each in names:
        value = usage.get(each)
        if value is not None:
            return count(value, f"usage.{each}")
    return None


def _part(details: _Json, field: str) -> int | None:
    value = details.get(field)
    if type(value) is int and 0 <= value <= MAX_COUNT:
        return value
    return None if value is None else count(value, f"usage details {field}")


def openai(call: Call, usage: _Json) -> None:
    """Chat, completions, embeddings, Responses, images: ``prompt_tokens`` or ``input_tokens``, parts in details."""
    prompt = count(usage.get("prompt_tokens"), "usage.prompt_tokens")
    if prompt is None:
        prompt = count(usage.get("input_tokens"), "usage.input_tokens")
    output = count(usage.get("completion_tokens"), "usage.completion_tokens")
    if output is None:
        output = count(usage.get("output_tokens"), "usage.output_tokens")
    total = count(usage.get("total_tokens"), "usage.total_tokens")
    if call.operation in ("embedding", "rerank"):
        prompt = total if prompt is None else prompt
        output = output or 0
    if prompt is None and output is None:
        if total is not None:
            _begin(call, None, None, total)
            call.usage_quality = "partial"
        _reported_cost(call, usage)  # of what is billed by the picture or the second
        return
    _begin(call, prompt, output, total)
    if prompt is None or output is None:
        call.usage_quality = "partial"

    details = mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    read = _part(details, "cached_tokens")
    if read is None:
        read = _first(usage, "prompt_cache_hit_tokens", "cache_read_input_tokens", "num_cached_tokens", "cached_tokens")
    write = _part(details, "cache_write_tokens")
    if write is None:
        write = _part(details, "cache_creation_tokens")
        if write is None:
            write = count(usage.get("cache_creation_input_tokens"), "usage.cache_creation_input_tokens")
    audio = _part(details, "audio_tokens") or 0
    image = _part(details, "image_tokens") or 0
    details = mapping(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))
    reasoning = _part(details, "reasoning_tokens")
    if reasoning is None:
        reasoning = _first(usage, "reasoning_tokens")
    audio_out = _part(details, "audio_tokens") or 0
    image_out = _part(details, "image_tokens") or 0

    inside = reasoning or 0  # reasoning that the output figure includes
    gap = 0 if total is None else total - (prompt or 0) - (output or 0)
    if gap:
        if gap == inside:
            inside = 0
        elif gap == audio:  # Mistral's audio models count it beside the prompt
            prompt = (prompt or 0) + audio
        elif gap > 0 and not reasoning and _is_gemini(call):
            reasoning = gap
            call.flag("hidden_reasoning")
        else:
            inconsistent(call, "total_mismatch")
    if prompt is not None:
        _input(call, prompt, read, write, audio, image)
        if write:
            _split_write(call, usage, details=mapping(usage.get("prompt_tokens_details")), total=write)
    if output is not None:
        visible = output - inside - audio_out - image_out
        if visible < 0:
            visible = 0
            inconsistent(call, "details_exceed_output")
        call.output_visible = visible
        call.output_reasoning = reasoning
        if audio_out:
            call.output_audio = audio_out
        if image_out:
            call.output_image = image_out
    _reported_cost(call, usage)


def _is_gemini(call: Call) -> bool:
    return call.provider in ("gemini", "vertex") or "gemini" in call.model or "gemini" in call.model_requested


def _input(call: Call, prompt: int, read: int | None, write: int | None, audio: int, image: int) -> None:
    """Split an inclusive input figure."""
    fresh = prompt - (read or 0) - (write or 0)
    if fresh < 0:
        fresh = 0
        inconsistent(call, "cached_exceeds_input")
    elif audio or image:
        if fresh >= audio + image:
            fresh -= audio + image
            call.input_audio = audio or None
            call.input_image = image or None
        else:  # some of the media was cached and nothing says how much: it stays in the unsplit leaf
            call.flag("media_cached")
    call.input_fresh = fresh
    call.input_cache_read = read
    if write is not None:
        call.input_cache_write_other = write


def _split_write(call: Call, usage: _Json, details: _Json, total: int) -> None:
    """OpenAI-shaped gateways to Anthropic name the time to live the way Anthropic does."""
    split = mapping(usage.get("cache_creation") or details.get("cache_creation_token_details"))
    short = _part(split, "ephemeral_5m_input_tokens") or 0
    long = _part(split, "ephemeral_1h_input_tokens") or 0
    if not short and not long:
        return
    if short + long > total:
        inconsistent(call, "cache_write_split_exceeds_total")
        return
    call.input_cache_write_5m = short
    call.input_cache_write_1h = long
    call.input_cache_write_other = total - short - long


def _reported_cost(call: Call, usage: _Json) -> None:
    """What a vendor or gateway says the call cost: OpenRouter, Vercel and Perplexity in dollars, xAI in ticks."""
    cost = usage.get("cost")
    if cost is None:
        ticks = usage.get("cost_in_usd_ticks")
        if ticks is None:
            return
        amount = pico_dollars(ticks, XAI_TICK)
    else:
        if isinstance(cost, dict):
            cost = cost.get("total_cost")
        amount = pico_dollars(cost)
        if amount is not None and usage.get("is_byok") is True:
            upstream = pico_dollars(mapping(usage.get("cost_details")).get("upstream_inference_cost"))
            amount += upstream or 0  # the gateway's fee is not the bill where the key is the customer's own
    if amount is None:
        if cost is not None:
            call.flag("bad_reported_cost")
        return
    call.reported_cost = amount
    call.reported_cost_by = "gateway" if call.provider in ("openrouter", "vercel-gateway") else "vendor"


def anthropic(call: Call, usage: _Json) -> None:
    """Messages, also on Vertex and Bedrock: input excludes both cache counters, output includes thinking.

    ``iterations`` (compaction, server tools) replace the top-level figures, which cover the last one only. Iterations
    answered by another model are not counted here: see ``anthropic_advisors``.
    """
    steps = [step for step in sequence(usage.get("iterations")) if isinstance(step, dict) and not _advisor(step, call)]
    parts: list[_Json] = list(steps) or [usage]
    fresh = output = read = short = long = thinking = None
    for part in parts:
        fresh = _add(fresh, _first(part, "input_tokens"))
        output = _add(output, _first(part, "output_tokens"))
        read = _add(read, _first(part, "cache_read_input_tokens"))
        written = _first(part, "cache_creation_input_tokens")
        split = part.get("cache_creation")
        split = split if isinstance(split, dict) else {}
        five = _part(split, "ephemeral_5m_input_tokens") or 0
        hour = _part(split, "ephemeral_1h_input_tokens") or 0
        if written is None and (five or hour):
            written = five + hour
        if written is not None:
            rest = written - five - hour
            if rest < 0:  # the total is what is billed; the longer time to live stands
                inconsistent(call, "cache_write_split_exceeds_total")
                hour = min(hour, written)
            short = _add(short, written - hour)  # a part nobody names has the default time to live
            long = _add(long, hour)
        inner = part.get("output_tokens_details")
        if isinstance(inner, dict):
            thinking = _add(thinking, _part(inner, "thinking_tokens"))
    if fresh is None and output is None:
        return
    _begin(call, _first(usage, "input_tokens"), _first(usage, "output_tokens"), None)
    if fresh is None or output is None:
        call.usage_quality = "partial"
    if thinking is None and steps:
        thinking = _part(mapping(usage.get("output_tokens_details")), "thinking_tokens")
    call.input_fresh = fresh
    call.input_cache_read = read
    call.input_cache_write_5m = short
    call.input_cache_write_1h = long
    call.output_reasoning = thinking
    if output is not None:
        visible = output - (thinking or 0)
        if visible < 0:
            visible = 0
            inconsistent(call, "details_exceed_output")
        call.output_visible = visible
    tools = usage.get("server_tool_use")
    if isinstance(tools, dict):
        call.web_searches = _part(tools, "web_search_requests")
    tier = usage.get("service_tier")
    if isinstance(tier, str):
        call.service_tier = tier
        call.batch = tier == "batch"
    speed = usage.get("speed")
    if isinstance(speed, str):
        call.speed = speed
    geography = usage.get("inference_geo")
    if isinstance(geography, str) and geography not in ("", "not_available"):
        call.region_scope = geography
    _reported_cost(call, usage)


def _advisor(step: _Json, call: Call) -> bool:
    model = step.get("model")
    return isinstance(model, str) and model not in ("", call.model, call.model_requested)


def anthropic_advisors(call: Call, usage: _Json) -> list[tuple[str, _Json]]:
    """Iterations that another model answered, as (model, usage): each is a call of its own at that model's price."""
    steps = usage.get("iterations")
    if not steps:
        return []
    return [(step["model"], step) for step in sequence(steps) if isinstance(step, dict) and _advisor(step, call)]


def _add(left: int | None, right: int | None) -> int | None:
    if left is None:
        return right
    return left if right is None else left + right


def _modality(details: Any, wanted: str, count_name: str) -> int:
    """Tokens of one modality in Gemini's list of (modality, tokenCount)."""
    tokens = 0
    for entry in sequence(details):
        if isinstance(entry, dict) and str(entry.get("modality", "")).upper() == wanted:
            value = entry.get("tokenCount", entry.get("token_count", entry.get(count_name)))
            tokens += count(value, f"usage {wanted.lower()} tokens") or 0
    return tokens


def _camel_or_snake(usage: _Json, camel: str, snake: str) -> Any:
    value = usage.get(camel)
    return usage.get(snake) if value is None else value


def gemini(call: Call, usage: _Json) -> None:
    """generateContent of Gemini and Vertex: prompt includes cached and excludes tool use, candidates exclude thoughts.

    Both spellings, REST's ``promptTokenCount`` and the protobuf's ``prompt_token_count``.
    """
    prompt = count(_camel_or_snake(usage, "promptTokenCount", "prompt_token_count"), "usage.promptTokenCount")
    output = count(_camel_or_snake(usage, "candidatesTokenCount", "candidates_token_count"), "usage.candidatesTokenCount")
    thoughts = count(_camel_or_snake(usage, "thoughtsTokenCount", "thoughts_token_count"), "usage.thoughtsTokenCount")
    tool_use = count(
        _camel_or_snake(usage, "toolUsePromptTokenCount", "tool_use_prompt_token_count"),
        "usage.toolUsePromptTokenCount",
    )
    cached = count(
        _camel_or_snake(usage, "cachedContentTokenCount", "cached_content_token_count"), "usage.cachedContentTokenCount"
    )
    total = count(_camel_or_snake(usage, "totalTokenCount", "total_token_count"), "usage.totalTokenCount")
    if prompt is None and output is None and total is None:
        return
    _begin(call, prompt, output, total)
    read = _camel_or_snake(usage, "promptTokensDetails", "prompt_tokens_details")
    if read is None:
        read = usage.get("promptTokenDetails")  # the embedding models' spelling
    stored = _camel_or_snake(usage, "cacheTokensDetails", "cache_tokens_details")
    audio = _modality(read, "AUDIO", "tokens") - _modality(stored, "AUDIO", "tokens")
    image = _modality(read, "IMAGE", "tokens") - _modality(stored, "IMAGE", "tokens")
    if prompt is not None:
        _input(call, prompt, cached, None, max(audio, 0), max(image, 0))
    call.input_tool_use = tool_use
    written = _camel_or_snake(usage, "candidatesTokensDetails", "candidates_tokens_details")
    audio_out = _modality(written, "AUDIO", "tokens")
    image_out = _modality(written, "IMAGE", "tokens")
    visible = (output or 0) - audio_out - image_out
    if visible < 0:
        visible = 0
        inconsistent(call, "details_exceed_output")
    call.output_visible = visible  # absent candidates are none: all thought, or blocked
    call.output_reasoning = thoughts
    call.output_audio = audio_out or None
    call.output_image = image_out or None
    if total is not None and total != (prompt or 0) + (output or 0) + (thoughts or 0) + (tool_use or 0):
        inconsistent(call, "total_mismatch")


def bedrock(call: Call, usage: _Json) -> None:
    """Converse, and InvokeModel of Nova: input excludes both cache counters; the ``…Count`` names are their aliases."""
    fresh = _first(usage, "inputTokens", "inputTokenCount")
    output = _first(usage, "outputTokens", "outputTokenCount")
    if fresh is None and output is None:
        return
    read = _first(usage, "cacheReadInputTokens", "cacheReadInputTokenCount")
    written = _first(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
    total = _first(usage, "totalTokens")
    _begin(call, fresh, output, total)
    call.input_fresh = fresh
    call.input_cache_read = read
    call.output_visible = output
    if written is not None:
        by_ttl = {"5m": 0, "1h": 0}
        for entry in sequence(usage.get("cacheDetails")):
            ttl = text(mapping(entry).get("ttl"))
            if ttl in by_ttl:
                by_ttl[ttl] += count(entry.get("inputTokens"), "usage.cacheDetails.inputTokens") or 0
        rest = written - by_ttl["5m"] - by_ttl["1h"]
        if rest < 0:
            inconsistent(call, "cache_write_split_exceeds_total")
            rest, by_ttl = written, {"5m": 0, "1h": 0}
        if by_ttl["5m"] or by_ttl["1h"]:
            call.input_cache_write_5m = by_ttl["5m"]
            call.input_cache_write_1h = by_ttl["1h"]
        call.input_cache_write_other = rest
    if total is not None and total != (fresh or 0) + (output or 0) + (read or 0) + (written or 0):
        inconsistent(call, "total_mismatch")


def plain(call: Call, fresh: object, output: object, field: str, *, read: object = None, reasoning: object = None) -> None:
    """Usage that is two figures and no more: both exclude what is given beside them."""
    taken = count(fresh, f"{field} input")
    given = count(output, f"{field} output")
    if taken is None and given is None:
        return
    _begin(call, taken, given, None)
    if taken is None or given is None:
        call.usage_quality = "partial"
    call.input_fresh = taken
    call.output_visible = given
    call.input_cache_read = count(read, f"{field} cached")
    call.output_reasoning = count(reasoning, f"{field} reasoning")


def leaves(call: Call, given: Mapping[str, int], total: int | None = None) -> None:
    """Usage that is disjoint already, by the names of leaves; ``total`` is what the record says that they come to."""
    if not given:
        return
    taken = [tokens for leaf, tokens in given.items() if leaf.startswith("input")]
    made = [tokens for leaf, tokens in given.items() if leaf.startswith("output")]
    _begin(call, sum(taken) if taken else None, sum(made) if made else None, total)
    if not taken or (not made and call.operation != "embedding"):
        call.usage_quality = "partial"
    for leaf, tokens in given.items():
        setattr(call, leaf, tokens)
    if total is not None and total != sum(given.values()):
        inconsistent(call, "total_mismatch")
