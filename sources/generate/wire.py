"""Requests and responses as vendors write them, whole and streamed.

Shapes follow what the vendors' public interfaces return: OpenAI chat completions, Responses and embeddings, Azure
OpenAI, Anthropic Messages. Nothing is random here: an ``Exchange`` holds all that is said.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from sources.generate.fleet import App, Arguments, Model

Json = dict[str, Any]

_CHUNK: Final = 100
"""Characters in one chunk of a stream. Vendors send one to a few tokens; longer chunks keep generated files small."""


@dataclass(slots=True)
class Exchange:
    """One attempt of one call: what is sent, what comes back, and what the vendor counts.

    ``prompt_tokens`` is all input, cached or not. ``error`` is "" or a key of ``ERRORS``. ``id`` is the part of the
    vendor's id after its prefix, ``second`` the start in seconds since 1970, ``seconds`` how long it took.
    """

    app: App
    model: Model
    id: str
    second: int
    seconds: float
    system: str
    messages: list[Json]
    tools: orjson.Fragment | None = None
    inputs: list[str] = field(default_factory=list)
    answer: str = ""
    call: Arguments | None = None
    stream: bool = False
    usage_in_stream: bool = True
    error: str = ""
    retry_after: int = 0
    prompt_tokens: int = 0
    cache_read: int = 0
    write_5m: int = 0
    write_1h: int = 0
    visible: int = 0
    reasoning: int = 0
    max_tokens: int = 1024
    user: str = ""


ERRORS: Final = {"rate_limit": 429, "server_error": 500, "overloaded": 529, "content_filter": 400, "too_long": 400}
"""Kinds of failed attempts and their HTTP status."""


# ---- messages of a history, as each interface wants them


def said(api: str, role: str, text: str) -> Json:
    """A message of text."""
    if api == "anthropic.messages":
        return {"role": role, "content": [{"type": "text", "text": text}]}
    if api == "openai.responses":
        kind = "input_text" if role == "user" else "output_text"
        return {"type": "message", "role": role, "content": [{"type": kind, "text": text}]}
    return {"role": role, "content": text}


def tool_round(api: str, key: str, call: Arguments, result: str) -> list[Json]:
    """A tool call of the model and what the tool answered. ``key`` links the two."""
    if api == "anthropic.messages":
        use = {"type": "tool_use", "id": f"toolu_{key}", "name": call.tool, "input": call.value}
        answer = {"type": "tool_result", "tool_use_id": f"toolu_{key}", "content": result}
        return [{"role": "assistant", "content": [use]}, {"role": "user", "content": [answer]}]
    function = {"name": call.tool, "arguments": call.json}
    return [
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": f"call_{key}", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": f"call_{key}", "content": result},
    ]  # fmt: skip


# ---- requests


_PATHS: Final = {
    "openai.chat": "chat/completions",
    "openai.responses": "responses",
    "openai.embeddings": "embeddings",
}


def url(app: App, model: Model) -> str:
    """Where the call is sent."""
    if app.provider == "anthropic":
        return "https://api.anthropic.com/v1/messages"
    path = _PATHS[app.api]
    if app.provider == "azure":
        return (f"https://{app.team}-eastus2.openai.azure.com/openai/deployments/{app.team}-{model.asked}/{path}"
                "?api-version=2024-10-21")  # fmt: skip
    return f"https://api.openai.com/v1/{path}"


def request(call: Exchange) -> Json:
    """The body that is sent."""
    app = call.app
    if app.api == "openai.embeddings":
        texts: Any = call.inputs if len(call.inputs) > 1 else call.inputs[0]
        return {"model": call.model.asked, "input": texts, "encoding_format": "base64"}
    if app.api == "anthropic.messages":
        return _anthropic_request(call)
    body: Json = {"model": f"{app.team}-{call.model.asked}" if app.provider == "azure" else call.model.asked}
    if app.api == "openai.responses":
        body |= {"instructions": call.system, "input": call.messages, "max_output_tokens": call.max_tokens,
                 "reasoning": {"effort": "low"}, "store": False, "stream": call.stream}  # fmt: skip
        return body
    body["messages"] = [{"role": "system", "content": call.system}, *call.messages]
    if call.model.reasons:
        body["reasoning_effort"] = "minimal"
        body["max_completion_tokens"] = call.max_tokens
    else:
        body["temperature"] = 0.2
        body["max_tokens"] = call.max_tokens
    if call.tools is not None:
        body["tools"] = call.tools
    if app.tier:
        body["service_tier"] = app.tier
    if call.stream:
        body["stream"] = True
        if call.usage_in_stream:
            body["stream_options"] = {"include_usage": True}
    if call.user:
        body["user"] = call.user
    return body


def _anthropic_request(call: Exchange) -> Json:
    system: Json = {"type": "text", "text": call.system}
    messages = call.messages
    if call.tools is not None:
        # Agents cache the fixed prefix for an hour and the history for five minutes, up to its last block.
        system["cache_control"] = {"type": "ephemeral", "ttl": "1h"}
        last = messages[-1]
        blocks = [*last["content"][:-1], {**last["content"][-1], "cache_control": {"type": "ephemeral"}}]
        messages = [*messages[:-1], {**last, "content": blocks}]
    body: Json = {"model": call.model.asked, "max_tokens": call.max_tokens, "system": [system], "messages": messages}
    if call.tools is not None:
        body["tools"] = call.tools
    if call.user:
        body["metadata"] = {"user_id": call.user}
    if call.stream:
        body["stream"] = True
    return body


# ---- responses


def response(call: Exchange) -> Json:
    """The body that comes back: an error, a whole answer, or ``{"stream": [chunks]}``."""
    if call.error:
        return _failure(call)
    api = call.app.api
    if api == "openai.embeddings":
        vectors = [{"object": "embedding", "index": i, "embedding": _VECTOR} for i in range(len(call.inputs))]
        usage = {"prompt_tokens": call.prompt_tokens, "total_tokens": call.prompt_tokens}
        return {"object": "list", "data": vectors, "model": call.model.answered, "usage": usage}
    if api == "anthropic.messages":
        return _anthropic_stream(call) if call.stream else _anthropic_answer(call)
    if api == "openai.responses":
        return _responses_stream(call) if call.stream else _responses_answer(call, "completed")
    return _chat_stream(call) if call.stream else _chat_answer(call)


def usage_of_chat(call: Exchange) -> Json:
    """Usage as OpenAI chat reports it: input includes cached tokens, output includes reasoning."""
    return {
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": call.visible + call.reasoning,
        "total_tokens": call.prompt_tokens + call.visible + call.reasoning,
        "prompt_tokens_details": {"cached_tokens": call.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": call.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


_SAFE: Final[Json] = {kind: {"filtered": False, "severity": "safe"} for kind in ("hate", "self_harm", "sexual", "violence")}
_PROMPT_FILTER: Final[list[Json]] = [{"prompt_index": 0, "content_filter_results": _SAFE}]
_VECTOR: Final = "AACAPwAAAAAAAIC/"
"""Base64 of three floats: real vectors are left out, they would be most of every file."""


def _chat_answer(call: Exchange) -> Json:
    message: Json = {"role": "assistant", "content": call.answer or None, "refusal": None, "annotations": []}
    if call.call is not None:
        function = {"name": call.call.tool, "arguments": call.call.json}
        message["tool_calls"] = [{"id": f"call_{call.id[:24]}", "type": "function", "function": function}]
    choice: Json = {"index": 0, "message": message, "logprobs": None,
                    "finish_reason": "tool_calls" if call.call is not None else "stop"}  # fmt: skip
    body: Json = {"id": f"chatcmpl-{call.id}", "object": "chat.completion", "created": call.second,
                  "model": call.model.answered, "choices": [choice], "usage": usage_of_chat(call)}  # fmt: skip
    if call.app.provider == "azure":
        choice["content_filter_results"] = _SAFE
        body["prompt_filter_results"] = _PROMPT_FILTER
    else:
        body["service_tier"] = call.app.tier or "default"
    body["system_fingerprint"] = "fp_" + call.model.answered[-10:].replace("-", "")
    return body


def _pieces(text: str) -> list[str]:
    return [text[at : at + _CHUNK] for at in range(0, len(text), _CHUNK)]


def _chunks(head: bytes, pieces: list[str], tail: bytes) -> list[Any]:
    dumps, fragment = orjson.dumps, orjson.Fragment
    return [fragment(head + dumps(piece) + tail) for piece in pieces]


def _chat_stream(call: Exchange) -> Json:
    azure = call.app.provider == "azure"
    base: Json = {"id": f"chatcmpl-{call.id}", "object": "chat.completion.chunk", "created": call.second,
                  "model": call.model.answered, "system_fingerprint": None}  # fmt: skip
    if not azure:
        base["service_tier"] = call.app.tier or "default"
    if call.usage_in_stream:
        base["usage"] = None

    def chunk(delta: Json, finish: str | None) -> Json:
        return {**base, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    chunks: list[Any] = []
    if azure:
        # The first chunk of Azure only says that the prompt was let through.
        chunks.append({"id": "", "object": "", "created": 0, "model": "", "choices": [],
                       "prompt_filter_results": _PROMPT_FILTER})  # fmt: skip
    if call.call is not None:
        opened = {"index": 0, "id": f"call_{call.id[:24]}", "type": "function",
                  "function": {"name": call.call.tool, "arguments": ""}}  # fmt: skip
        chunks.append(chunk({"role": "assistant", "content": None, "tool_calls": [opened]}, None))
        chunks += [
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}, None) for piece in _pieces(call.call.json)
        ]
    else:
        chunks.append(chunk({"role": "assistant", "content": "", "refusal": None}, None))
        head, tail = orjson.dumps(chunk({"content": "\x00"}, None)).split(b'"\\u0000"')
        chunks += _chunks(head, _pieces(call.answer), tail)
    chunks.append(chunk({}, "tool_calls" if call.call is not None else "stop"))
    if call.usage_in_stream:
        chunks.append({**base, "choices": [], "usage": usage_of_chat(call)})
    return {"stream": chunks}


def _responses_answer(call: Exchange, status: str) -> Json:
    done = status == "completed"
    output: list[Json] = []
    usage = None
    if done:
        text = {"type": "output_text", "annotations": [], "logprobs": [], "text": call.answer}
        output = [{"id": f"rs_{call.id}", "type": "reasoning", "summary": []}] if call.reasoning else []
        output.append(
            {"id": f"msg_{call.id}", "type": "message", "status": "completed", "role": "assistant", "content": [text]}
        )
        usage = {
            "input_tokens": call.prompt_tokens,
            "input_tokens_details": {"cached_tokens": call.cache_read},
            "output_tokens": call.visible + call.reasoning,
            "output_tokens_details": {"reasoning_tokens": call.reasoning},
            "total_tokens": call.prompt_tokens + call.visible + call.reasoning,
        }
    return {"id": f"resp_{call.id}", "object": "response", "created_at": call.second, "status": status,
            "background": False, "error": None, "incomplete_details": None, "instructions": call.system,
            "max_output_tokens": call.max_tokens, "model": call.model.answered, "output": output,
            "parallel_tool_calls": True, "previous_response_id": None, "reasoning": {"effort": "low", "summary": None},
            "service_tier": "default" if done else "auto", "store": False, "temperature": 1.0,
            "text": {"format": {"type": "text"}, "verbosity": "medium"}, "tool_choice": "auto", "tools": [],
            "top_p": 1.0, "truncation": "disabled", "usage": usage, "user": None, "metadata": {}}  # fmt: skip


def _responses_stream(call: Exchange) -> Json:
    item, index = f"msg_{call.id}", 1 if call.reasoning else 0
    head, tail = orjson.dumps(
        {"type": "response.output_text.delta", "item_id": item, "output_index": index, "content_index": 0, "delta": "\x00"}
    ).split(b'"\\u0000"')
    done = {"type": "response.output_text.done", "item_id": item, "output_index": index, "content_index": 0,
            "text": call.answer}  # fmt: skip
    return {"stream": [
        {"type": "response.created", "sequence_number": 0, "response": _responses_answer(call, "in_progress")},
        *_chunks(head, _pieces(call.answer), tail),
        done,
        {"type": "response.completed", "sequence_number": 9, "response": _responses_answer(call, "completed")},
    ]}  # fmt: skip


def _anthropic_usage(call: Exchange, output: int) -> Json:
    # Anthropic's input excludes what the cache served or stored.
    return {
        "input_tokens": call.prompt_tokens - call.cache_read - call.write_5m - call.write_1h,
        "cache_creation_input_tokens": call.write_5m + call.write_1h,
        "cache_read_input_tokens": call.cache_read,
        "cache_creation": {"ephemeral_5m_input_tokens": call.write_5m, "ephemeral_1h_input_tokens": call.write_1h},
        "output_tokens": output,
        "service_tier": "standard",
    }


def _anthropic_answer(call: Exchange) -> Json:
    content: list[Json] = [{"type": "text", "text": call.answer}] if call.answer else []
    if call.call is not None:
        use = {"type": "tool_use", "id": f"toolu_{call.id[:24]}", "name": call.call.tool, "input": call.call.value}
        content.append(use)
    return {"id": f"msg_{call.id}", "type": "message", "role": "assistant", "model": call.model.answered,
            "content": content, "stop_reason": "tool_use" if call.call is not None else "end_turn",
            "stop_sequence": None, "usage": _anthropic_usage(call, call.visible)}  # fmt: skip


def _anthropic_stream(call: Exchange) -> Json:
    start: Json = {"id": f"msg_{call.id}", "type": "message", "role": "assistant", "model": call.model.answered,
                   "content": [], "stop_reason": None, "stop_sequence": None,
                   "usage": _anthropic_usage(call, 1)}  # fmt: skip
    chunks: list[Any] = [{"type": "message_start", "message": start}]
    if call.call is not None:
        block: Json = {"type": "tool_use", "id": f"toolu_{call.id[:24]}", "name": call.call.tool, "input": {}}
        deltas: list[Any] = [
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": piece}}
            for piece in _pieces(call.call.json)
        ]
    else:
        block = {"type": "text", "text": ""}
        deltas = _chunks(
            b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":', _pieces(call.answer), b"}}"
        )
    chunks.append({"type": "content_block_start", "index": 0, "content_block": block})
    chunks += [{"type": "ping"}, *deltas, {"type": "content_block_stop", "index": 0}]
    stop = {"stop_reason": "tool_use" if call.call is not None else "end_turn", "stop_sequence": None}
    chunks.append({"type": "message_delta", "delta": stop, "usage": {"output_tokens": call.visible}})
    return {"stream": [*chunks, {"type": "message_stop"}]}


def _failure(call: Exchange) -> Json:
    kind = call.error
    if call.app.provider == "anthropic":
        type_, message = {
            "rate_limit": ("rate_limit_error", "This request would exceed your organization's rate limit."),
            "overloaded": ("overloaded_error", "Overloaded"),
            "too_long": ("invalid_request_error", "prompt is too long: 204211 tokens > 200000 maximum"),
        }.get(kind, ("api_error", "Internal server error"))
        return {"type": "error", "error": {"type": type_, "message": message}, "request_id": f"req_{call.id}"}
    if kind == "content_filter":
        verdict = {"hate": {"filtered": True, "severity": "high"}, "violence": {"filtered": False, "severity": "safe"}}
        inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": verdict}
        message = "The prompt triggered Azure OpenAI's content management policy. Please modify it and retry."
        return {"error": {"message": message, "type": None, "param": "prompt", "code": "content_filter", "status": 400,
                          "innererror": inner}}  # fmt: skip
    if kind == "rate_limit":
        message = f"Rate limit reached for {call.model.asked} on tokens per min. Try again in {call.retry_after}s."
        return {"error": {"message": message, "type": "tokens", "param": None, "code": "rate_limit_exceeded"}}
    if kind == "too_long":
        message = "This model's maximum context length is 128000 tokens."
        return {"error": {"message": message, "type": "invalid_request_error", "param": "messages",
                          "code": "context_length_exceeded"}}  # fmt: skip
    message = "The server had an error while processing your request."
    return {"error": {"message": message, "type": "server_error", "param": None, "code": None}}
