"""Bedrock: Converse, and InvokeModel with the native bodies of its vendors.

InvokeModel of Anthropic and of OpenAI-shaped models is read as those bodies are: see ``bodies.pick``.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call, Content, Message, Part
from transforms.decode import usage as usages
from transforms.decode.bodies import cohere, reported
from transforms.decode.bodies.reported import last_with
from transforms.decode.content import (
    ROLES,
    arguments_text,
    content_of,
    count_breakpoints,
    is_redacted,
    media_part,
)
from transforms.decode.exchange import Body, Exchange
from transforms.decode.history import read_history
from transforms.decode.values import count, dumps, mapping, milliseconds, name, sequence, text

METRICS: Final = "amazon-bedrock-invocationMetrics"


def ask(call: Call, x: Exchange) -> None:
    """A request of Converse, and of InvokeModel with Nova, whose messages are the same."""
    reported.ask(call, x)
    request = x.request
    content = content_of(call)
    tier = mapping(request.get("serviceTier")).get("type")
    if tier:
        call.service_tier_requested = name(tier)
    marks = 0
    system = request.get("system")
    if system:
        parts: list[Part] = []
        for block in sequence(system):
            read_block(block, parts, content)
            marks += type(block) is dict and "cachePoint" in block
        if parts:
            content.prompt.append(Message("system", tuple(parts)))
    messages = request.get("messages")
    if type(messages) is list:
        marks += read_history(messages, read_message, content)
    given = mapping(request.get("toolConfig"))
    tools = given.get("tools")
    if tools:
        content.tools_json = dumps(tools)
        marks += count_breakpoints(tools)
        for tool in sequence(tools):
            if not _CLIENT_TOOLS.issuperset(mapping(tool)):
                content.complete = False  # a tool of the vendor's: its description is in no log
    for kind, chosen in mapping(given.get("toolChoice")).items():
        content.tool_choice = name(mapping(chosen).get("name")) or kind
    shape = mapping(mapping(mapping(request.get("outputConfig")).get("textFormat")).get("structure")).get("jsonSchema")
    if shape:
        content.schema_json = dumps(shape)
    if request.get("promptVariables"):  # the prompt itself is kept by Bedrock
        content.complete = False
    if is_redacted(content.prompt):
        content.complete = False
    call.cache_breakpoints = marks


_CLIENT_TOOLS: Final = frozenset({"toolSpec", "cachePoint"})


def read_message(message: Any, content: Content, into: list[Message]) -> None:
    """One message of a request or an answer. Results of tools become messages of their own, of the role ``tool``."""
    if type(message) is not dict:
        return
    role = ROLES.get(text(message.get("role")) or "assistant", "user")
    said = message.get("content")
    if type(said) is str:
        into.append(Message(role, (Part("text", said),) if said else ()))
        return
    parts: list[Part] = []
    for block in sequence(said):
        if type(block) is dict and "toolResult" in block:
            results: list[Part] = []
            for each in sequence(mapping(block["toolResult"]).get("content")):
                _read_result(each, results, content)
            into.append(Message("tool", tuple(results)))
        else:
            read_block(block, parts, content)
    if parts:
        into.append(Message(role, tuple(parts)))


def read_block(block: Any, parts: list[Part], content: Content) -> None:
    """One content block of a prompt or an answer."""
    given = mapping(block)
    if "text" in given:
        parts.append(Part("text", text(given["text"])))
    elif "toolUse" in given:
        use = mapping(given["toolUse"])
        parts.append(Part("call", arguments_text(use.get("input")), name(use.get("name"))))
    elif "guardContent" in given:
        guarded = mapping(given["guardContent"])
        if "text" in guarded:
            parts.append(Part("text", text(mapping(guarded["text"]).get("text"))))
        else:
            _read_media("image", guarded.get("image"), parts, content)
    elif "reasoningContent" in given:
        thought = mapping(mapping(given["reasoningContent"]).get("reasoningText"))
        if thought:
            parts.append(Part("reasoning", text(thought.get("text"))))
        else:  # redacted
            content.complete = False
    elif "citationsContent" in given:
        cited = sequence(mapping(given["citationsContent"]).get("content"))
        parts += [Part("text", text(mapping(each).get("text"))) for each in cited]
    elif "cachePoint" not in given:
        for kind, field in (("image", "image"), ("file", "document"), ("video", "video"), ("audio", "audio")):
            if field in given:
                _read_media(kind, given[field], parts, content)
                return
        content.complete = False


def _read_media(kind: str, given: Any, parts: list[Part], content: Content) -> None:
    source = mapping(mapping(given).get("source"))
    if "text" in source:
        parts.append(Part("text", text(source["text"])))
        return
    if "bytes" not in source:  # in a bucket
        content.complete = False
    parts.append(media_part(kind, source.get("bytes"), "", mapping(given).get("name")))


def _read_result(block: Any, parts: list[Part], content: Content) -> None:
    given = mapping(block)
    if "text" in given:
        parts.append(Part("result", text(given["text"])))
    elif "json" in given:
        parts.append(Part("result", arguments_text(given["json"])))
    else:
        read_block(block, parts, content)


def _read_stream(chunks: list[Any], content: Content) -> None:
    """The answer of a stream: blocks by index, each begun and told in deltas. The payloads of events may stand alone."""
    blocks: dict[Any, tuple[list[str], list[str], list[str], str]] = {}  # text, thoughts, arguments; name of a tool
    for chunk in chunks:
        if type(chunk) is not dict:
            continue
        inner = mapping(chunk.get("contentBlockDelta") or chunk.get("contentBlockStart") or chunk)
        delta = inner.get("delta")
        index = name(inner.get("contentBlockIndex"))
        if type(delta) is not dict:
            begun = mapping(inner.get("start")).get("toolUse")
            if begun:
                blocks[index] = ([], [], [], name(mapping(begun).get("name")))
            continue
        block = blocks.get(index)
        if block is None:
            block = blocks[index] = ([], [], [], "")
        for key, value in delta.items():
            if key == "text":
                block[0].append(text(value))
            elif key == "toolUse":
                block[2].append(text(mapping(value).get("input")))
            elif key == "reasoningContent":
                block[1].append(text(mapping(value).get("text")))
                if "redactedContent" in mapping(value):
                    content.complete = False
            elif key not in ("citation", "p"):
                content.complete = False
    parts: list[Part] = []
    for said, thought, arguments, called in blocks.values():
        for kind, pieces in (("reasoning", thought), ("text", said)):
            whole = "".join(pieces)
            if whole:
                parts.append(Part(kind, whole))
        if called or arguments:
            parts.append(Part("call", "".join(arguments), called))
    if parts:
        content.output.append(Message("assistant", tuple(parts)))


def _converse(call: Call, x: Exchange) -> None:
    answer = x.answer
    content = content_of(call)
    if x.chunks is not None:
        call.stream = True
        _read_stream(x.chunks, content)
        for chunk in x.chunks:
            stop = mapping(chunk).get("messageStop") or (chunk if mapping(chunk).get("stopReason") else None)
            if stop:
                call.stop_reason = name(mapping(stop).get("stopReason"))
        answer = last_with(x, "metadata", "usage")
        answer = mapping(answer.get("metadata")) or answer
        if not call.stop_reason and x.chunks:
            call.status = "incomplete"
    else:
        call.stop_reason = name(answer.get("stopReason"))
        message = mapping(answer.get("output")).get("message")
        if message:
            read_message(message, content, content.output)
    if is_redacted(content.output):
        content.complete = False
    if call.stop_reason in ("guardrail_intervened", "content_filtered"):
        call.status = "blocked"
    metrics = mapping(answer.get("metrics"))
    if call.duration_ms is None:
        call.duration_ms = milliseconds(metrics.get("latencyMs"))
    speed = mapping(answer.get("performanceConfig")).get("latency")
    if speed:
        call.speed = name(speed)
    tier = answer.get("serviceTier")
    if tier:
        call.service_tier = name(tier.get("type") if type(tier) is dict else tier)
    usage = answer.get("usage")
    if type(usage) is dict:
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


def _ask_invoke(call: Call, x: Exchange) -> None:
    """The native prompts of Titan, Llama, Mistral and Cohere: one text each. Nova's messages are those of Converse."""
    request = x.request
    if "inferenceConfig" in request or "schemaVersion" in request or "toolConfig" in request or "messages" in request:
        ask(call, x)
        return
    if "chat_history" in request or "texts" in request:
        cohere.ask(call, x)
        return
    reported.ask(call, x)
    content = content_of(call)
    for key in ("inputText", "prompt"):
        given = request.get(key)
        if type(given) is str and given:
            content.prompt.append(Message("user", (Part("text", given),)))
    image = request.get("inputImage") or request.get("images")
    for each in image if type(image) is list else (image,):
        if each:
            content.prompt.append(Message("user", (media_part("image", each),)))
    if not content.prompt:
        content.complete = False  # a shape of its own, as that of a vendor's picture model


def _read_answer(x: Exchange, content: Content) -> None:
    """What a native answer, or the chunks of one, says."""
    if x.chunks is None:
        message = mapping(x.answer.get("output")).get("message")
        if message:
            read_message(message, content, content.output)
            return
        each_said = [said for said in _said(x.answer) if said]
    else:
        _read_stream(x.chunks, content)
        each_said = ["".join(said for chunk in x.chunks for said in _said(mapping(chunk)))]
    content.output += [Message("assistant", (Part("text", said),)) for said in each_said if said]
    if is_redacted(content.output):
        content.complete = False


def _said(answer: dict[str, Any]) -> list[str]:
    """The texts of a native answer: Llama's generation, Titan's results, Mistral's outputs, Cohere's generations …"""
    listed = answer.get("results") or answer.get("outputs") or answer.get("generations")
    found = [text(mapping(each).get("outputText") or mapping(each).get("text")) for each in sequence(listed)]
    if answer.get("event_type") == "stream-end":  # says all of it again
        return []
    return found or [text(answer.get(key)) for key in ("generation", "outputText", "completion", "text") if answer.get(key)]


def _invoke(call: Call, x: Exchange) -> None:
    metrics = invocation_metrics(call, x)
    answer = x.answer
    _read_answer(x, content_of(call))
    if x.chunks is not None:
        call.stream = True
        titan = last_with(x, "inputTextTokenCount")
        answer = mapping(last_with(x, "metadata").get("metadata")) or titan
        ended = last_with(x, "messageStop", "completionReason", "stop_reason")
        reason = mapping(ended.get("messageStop")).get("stopReason")
        call.stop_reason = name(reason or ended.get("completionReason") or ended.get("stop_reason"))
        if not call.stop_reason and not metrics:
            call.status = "incomplete"
    if answer.get("amazon-bedrock-guardrailAction") == "INTERVENED":
        call.status = "blocked"
    call.stop_reason = call.stop_reason or name(answer.get("stopReason") or answer.get("stop_reason"))
    if "embedding" in answer or "embeddings" in answer:
        call.operation = "embedding"
    call.provider_call_id = name(answer.get("id") or answer.get("generation_id"))
    usage = answer.get("usage")
    if type(usage) is dict and ("inputTokens" in usage or "outputTokens" in usage):
        usages.bedrock(call, usage)
    elif type(usage) is dict and "prompt_tokens" in usage:
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
        if results:
            call.stop_reason = call.stop_reason or name(mapping(results[0]).get("completionReason"))


BODIES: Final[tuple[Body, ...]] = (
    Body("bedrock.converse", "chat", "Bedrock Converse", True, ask, _converse),
    Body("bedrock.invoke", "chat", "Bedrock InvokeModel (Nova, Llama, Titan, Mistral, Cohere)", True, _ask_invoke, _invoke),
)
