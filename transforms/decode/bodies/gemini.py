"""Gemini and Vertex: generateContent, embeddings, predictions and interactions, by their reported usage."""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from transforms.decode import usage as usages
from transforms.decode.bodies.reported import body, last_with
from transforms.decode.exchange import Exchange
from transforms.decode.times import created
from transforms.decode.values import count, mapping, name, sequence

_TRAFFIC: Final = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    "PROVISIONED_THROUGHPUT": "provisioned",
}
_BLOCKED: Final = frozenset({"SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION", "IMAGE_SAFETY", "MODEL_ARMOR"})


def _either(given: dict[str, Any], camel: str, snake: str) -> Any:
    value = given.get(camel)
    return given.get(snake) if value is None else value


def _generate(call: Call, x: Exchange) -> None:
    chunks = [x.answer] if x.chunks is None else [chunk for chunk in x.chunks if chunk.__class__ is dict]
    searches = 0
    for chunk in chunks:
        call.provider_call_id = call.provider_call_id or name(_either(chunk, "responseId", "response_id"))
        call.model = call.model or name(_either(chunk, "modelVersion", "model_version"))
        created(call, _either(chunk, "createTime", "create_time"))
        blocked = mapping(_either(chunk, "promptFeedback", "prompt_feedback"))
        if blocked.get("blockReason") or blocked.get("block_reason"):
            call.status = "blocked"
            call.stop_reason = name(_either(blocked, "blockReason", "block_reason"))
        for candidate in sequence(chunk.get("candidates")):
            one = mapping(candidate)
            reason = _either(one, "finishReason", "finish_reason")
            if reason:
                call.stop_reason = name(reason)
                if reason in _BLOCKED:
                    call.status = "blocked"
            grounding = mapping(_either(one, "groundingMetadata", "grounding_metadata"))
            queries = _either(grounding, "webSearchQueries", "web_search_queries")
            searches = max(searches, len(sequence(queries)))
    if searches:
        call.web_searches = searches
    for chunk in reversed(chunks):  # repeated and cumulative: the last one stands
        usage = _either(chunk, "usageMetadata", "usage_metadata")
        if usage.__class__ is dict:
            usages.gemini(call, usage)
            tier = _either(usage, "trafficType", "traffic_type")
            served = usage.get("serviceTier") or usage.get("service_tier")
            if tier in _TRAFFIC:
                call.service_tier = _TRAFFIC[tier]
                if tier == "PROVISIONED_THROUGHPUT":
                    call.deployment_type = "ptu"
            elif served.__class__ is str:
                call.service_tier = name(served).lower()
            break
    if call.usage_source != "none" and not call.stop_reason and call.stream:
        call.status = "incomplete"


def _embeddings(call: Call, x: Exchange) -> None:
    usage = _either(x.answer, "usageMetadata", "usage_metadata")
    if usage.__class__ is dict:
        usages.gemini(call, usage)


def _predict(call: Call, x: Exchange) -> None:
    """Vertex text embeddings count tokens per instance."""
    tokens = None
    for prediction in sequence(x.answer.get("predictions")):
        statistics = mapping(mapping(mapping(prediction).get("embeddings")).get("statistics"))
        counted = count(statistics.get("token_count"), "statistics.token_count")
        if counted is not None:
            tokens = (tokens or 0) + counted
    if tokens is not None:
        usages.plain(call, tokens, 0, "statistics")


def _interactions(call: Call, x: Exchange) -> None:
    """The figures are disjoint: their total is input, output, thoughts and tool use; cached is part of input."""
    answer = x.answer
    if x.chunks is not None:
        call.stream = True
        answer = mapping(last_with(x, "interaction").get("interaction"))
    call.provider_call_id = name(answer.get("id"))
    call.model = name(answer.get("model"))
    created(call, answer.get("created"))
    usage = mapping(answer.get("usage"))
    if not usage:
        return
    usages.gemini(
        call,
        {
            "promptTokenCount": usage.get("total_input_tokens"),
            "candidatesTokenCount": usage.get("total_output_tokens"),
            "thoughtsTokenCount": usage.get("total_thought_tokens"),
            "cachedContentTokenCount": usage.get("total_cached_tokens"),
            "toolUsePromptTokenCount": usage.get("total_tool_use_tokens"),
            "totalTokenCount": usage.get("total_tokens"),
        },
    )


BODIES: Final = (
    body("gemini.generate", "chat", "Gemini and Vertex generateContent", _generate),
    body("gemini.embeddings", "embedding", "Gemini and Vertex embedContent", _embeddings),
    body("gemini.interactions", "chat", "Gemini interactions", _interactions),
    body("vertex.predict", "embedding", "Vertex predict, for text embeddings", _predict),
)
