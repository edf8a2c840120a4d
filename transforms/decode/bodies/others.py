"""Wire formats of which nothing but the reported usage is read: Ollama, Cohere, rerankers, images, audio …"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from transforms.decode import usage as usages
from transforms.decode.bodies.reported import body, last_with
from transforms.decode.errors import Undecodable
from transforms.decode.exchange import Exchange
from transforms.decode.times import created
from transforms.decode.values import count, mapping, milliseconds, name, sequence


def _identity(call: Call, answer: dict[str, Any]) -> None:
    call.provider_call_id = name(answer.get("id"))
    call.model = name(answer.get("model"))
    created(call, answer.get("created"))
    tier = answer.get("service_tier")
    if tier:
        call.service_tier = name(tier)


def _openai_usage(call: Call, x: Exchange) -> None:
    """Images, transcriptions, rerankers: OpenAI's usage, wherever the last chunk has it."""
    answer = last_with(x, "usage")
    if mapping(mapping(answer.get("meta")).get("billed_units")).get("search_units") is not None:
        raise Undecodable("unsupported_body", f"{call.api}: it is billed by search units, which are not carried yet")
    _identity(call, answer)
    if x.chunks is not None:
        call.stream = True
    usage = answer.get("usage")
    if usage.__class__ is dict:
        usages.openai(call, usage)


def _ollama(call: Call, x: Exchange) -> None:
    """Durations are nanoseconds; the prompt's count is left out where all of it was cached."""
    answer = last_with(x, "done")
    call.stream = call.stream or x.chunks is not None
    call.model = name(answer.get("model"))
    call.stop_reason = name(answer.get("done_reason"))
    total = milliseconds(answer.get("total_duration"))
    if total is not None and call.duration_ms is None:
        call.duration_ms = total / 1e6
    output = answer.get("eval_count")
    if call.operation == "embedding" and output is None:
        output = 0
    usages.plain(call, answer.get("prompt_eval_count"), output, "eval_count")
    if x.chunks is not None and not answer:
        call.status = "incomplete"


def _cohere(call: Call, x: Exchange) -> None:
    """Billed units are what is paid for; ``tokens`` beside them counts Cohere's own preamble too."""
    answer = x.answer
    if x.chunks is not None:
        call.stream = True
        answer = mapping(last_with(x, "id"))
        call.provider_call_id = name(answer.get("id"))
        answer = mapping(last_with(x, "delta").get("delta"))
        for chunk in reversed(x.chunks):
            delta = mapping(mapping(chunk).get("delta"))
            if "usage" in delta:
                answer = delta
                break
    else:
        call.provider_call_id = name(answer.get("id"))
    call.stop_reason = name(answer.get("finish_reason"))
    billed = mapping(mapping(answer.get("usage") or answer.get("meta")).get("billed_units"))
    taken = billed.get("input_tokens")
    images = count(billed.get("image_tokens"), "billed_units.image_tokens")
    output = billed.get("output_tokens", 0 if call.operation == "embedding" else None)
    if taken is None and images is None:
        return
    usages.plain(call, taken or 0, output, "billed_units")
    if images:
        call.input_image = images


def _xai(call: Call, x: Exchange) -> None:
    """xAI's gRPC interface as JSON: reasoning is outside of completion, the total holds both."""
    answer = last_with(x, "usage")
    if x.chunks is not None:
        call.stream = True
        for chunk in reversed(x.chunks):  # each wraps the answer so far
            inner = mapping(mapping(chunk).get("chunk"))
            if inner.get("usage"):
                answer = inner
                break
    _identity(call, answer)
    for output in sequence(answer.get("outputs")):
        call.stop_reason = name(mapping(output).get("finish_reason")) or call.stop_reason
    usage = answer.get("usage")
    if usage.__class__ is dict:
        usages.openai(
            call,
            {
                **usage,
                "prompt_tokens_details": {
                    "cached_tokens": usage.get("cached_prompt_text_tokens"),
                    "image_tokens": usage.get("prompt_image_tokens"),
                },
            },
        )


def _aleph_alpha(call: Call, x: Exchange) -> None:
    call.model = name(x.answer.get("model_version"))
    usages.plain(call, x.answer.get("num_tokens_prompt_total"), x.answer.get("num_tokens_generated"), "num_tokens")


BODIES: Final = (
    body("openai.images", "image", "OpenAI images", _openai_usage),
    body("openai.audio", "audio", "OpenAI speech and transcription", _openai_usage),
    body("rerank", "rerank", "Rerankers that report tokens", _openai_usage),
    body("ollama.chat", "chat", "Ollama chat", _ollama),
    body("ollama.generate", "completion", "Ollama generate", _ollama),
    body("ollama.embeddings", "embedding", "Ollama embeddings", _ollama),
    body("cohere.chat", "chat", "Cohere chat", _cohere),
    body("cohere.embeddings", "embedding", "Cohere embed", _cohere),
    body("xai.grpc_chat", "chat", "xAI's gRPC chat as JSON", _xai),
    body("alephalpha.complete", "completion", "Aleph Alpha complete", _aleph_alpha),
)
