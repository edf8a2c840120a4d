"""Bedrock: Converse, and InvokeModel with the native bodies of its vendors, by their reported usage.

InvokeModel of Anthropic and of OpenAI-shaped models is read as those bodies are: see ``bodies.pick``.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from transforms.decode import usage as usages
from transforms.decode.bodies.reported import body, last_with
from transforms.decode.exchange import Exchange
from transforms.decode.values import count, mapping, milliseconds, name, sequence

METRICS: Final = "amazon-bedrock-invocationMetrics"


def _converse(call: Call, x: Exchange) -> None:
    answer = x.answer
    if x.chunks is not None:
        call.stream = True
        for chunk in x.chunks:
            stop = mapping(chunk).get("messageStop") or (chunk if mapping(chunk).get("stopReason") else None)
            if stop:
                call.stop_reason = name(mapping(stop).get("stopReason"))
        answer = last_with(x, "metadata", "usage")
        answer = mapping(answer.get("metadata")) or answer
    else:
        call.stop_reason = name(answer.get("stopReason"))
    if call.stop_reason in ("guardrail_intervened", "content_filtered"):
        call.status = "blocked"
    metrics = mapping(answer.get("metrics"))
    if call.duration_ms is None:
        call.duration_ms = milliseconds(metrics.get("latencyMs"))
    speed = mapping(answer.get("performanceConfig")).get("latency")
    if speed:
        call.speed = name(speed)
    tier = answer.get("serviceTier")
    call.service_tier = name(mapping(tier).get("type") if tier.__class__ is dict else tier)
    usage = answer.get("usage")
    if usage.__class__ is dict:
        usages.bedrock(call, usage)


def invocation_metrics(call: Call, x: Exchange) -> dict[str, Any]:
    """The figures Bedrock itself adds to the last chunk of a stream; sets time to first byte and latency."""
    metrics = mapping(last_with(x, METRICS).get(METRICS))
    if metrics:
        if call.ttft_ms is None:
            call.ttft_ms = milliseconds(metrics.get("firstByteLatency"))
        if call.duration_ms is None:
            call.duration_ms = milliseconds(metrics.get("invocationLatency"))
    return metrics


_HEADERS: Final = {
    "x-amzn-bedrock-input-token-count": "inputTokens",
    "x-amzn-bedrock-output-token-count": "outputTokens",
    "x-amzn-bedrock-cache-read-input-token-count": "cacheReadInputTokens",
    "x-amzn-bedrock-cache-write-input-token-count": "cacheWriteInputTokens",
}


def usage_of_headers(call: Call, headers: dict[str, str]) -> None:
    """Bedrock states the usage of every InvokeModel in its headers, whatever the body says."""
    given = {leaf: headers[header] for header, leaf in _HEADERS.items() if header in headers}
    if given:
        usages.bedrock(call, given)


def _invoke(call: Call, x: Exchange) -> None:
    metrics = invocation_metrics(call, x)
    answer = x.answer
    if x.chunks is not None:
        call.stream = True
        titan = last_with(x, "inputTextTokenCount")
        answer = mapping(last_with(x, "metadata").get("metadata")) or titan
    if answer.get("amazon-bedrock-guardrailAction") == "INTERVENED":
        call.status = "blocked"
    call.stop_reason = name(answer.get("stopReason") or answer.get("stop_reason"))
    call.provider_call_id = name(answer.get("id") or answer.get("generation_id"))
    usage = answer.get("usage")
    if usage.__class__ is dict and ("inputTokens" in usage or "outputTokens" in usage):
        usages.bedrock(call, usage)
    elif usage.__class__ is dict and "prompt_tokens" in usage:
        usages.openai(call, usage)
    elif metrics:
        usages.bedrock(call, metrics)
    elif "prompt_token_count" in answer or "generation_token_count" in answer:  # Llama
        usages.plain(call, answer.get("prompt_token_count"), answer.get("generation_token_count"), "token_count")
    elif "inputTextTokenCount" in answer:  # Titan
        results = sequence(answer.get("results"))
        output = sum(count(mapping(each).get("tokenCount"), "results.tokenCount") or 0 for each in results)
        if "totalOutputTextTokenCount" in answer:
            output = count(answer["totalOutputTextTokenCount"], "totalOutputTextTokenCount") or 0
        usages.plain(call, answer["inputTextTokenCount"], output, "token count")
        if "embedding" in answer:
            call.operation = "embedding"
        elif results:
            call.stop_reason = call.stop_reason or name(mapping(results[0]).get("completionReason"))


BODIES: Final = (
    body("bedrock.converse", "chat", "Bedrock Converse", _converse),
    body("bedrock.invoke", "chat", "Bedrock InvokeModel (Nova, Llama, Titan …)", _invoke),
)
