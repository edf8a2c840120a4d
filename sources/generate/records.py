"""Log records: an exchange in the envelope of the logger that saw it, and its facts for the truth file."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson

from sources.generate import wire
from sources.generate.settings import moment
from sources.generate.wire import ERRORS, Exchange, Json

LEAVES: Final = (
    "input_fresh",
    "input_cache_read",
    "input_cache_write_5m",
    "input_cache_write_1h",
    "output_visible",
    "output_reasoning",
)
"""The leaves of ``schemas.call.LEAVES`` that this traffic has, in the order of ``Facts.leaves``."""


class Facts(NamedTuple):
    """What is true of a call, whatever its record tells. ``time`` is its start in UTC microseconds.

    ``leaves`` are the tokens the vendor counts, in the order of ``LEAVES``; ``reported`` whether the record shows them.
    ``logger`` is http | litellm | event.
    """

    provider: str
    model: str
    team: str
    app: str
    logger: str
    status: int
    time: int
    leaves: tuple[int, int, int, int, int, int]
    reported: bool


class Record(NamedTuple):
    """One line of a log.

    ``written`` is when it stands in the log (UTC microseconds; records come in this order). ``kind`` is call, duplicate
    (a second copy, byte for byte) or broken. ``marks`` name what is unusual: late, undated, no_id, redacted_id, secret,
    stream_without_usage, and the way a broken record is broken.
    """

    written: int
    kind: str
    value: bytes
    facts: Facts
    marks: tuple[str, ...] = ()


@dataclass(slots=True)
class Frame:
    """What the logger knows besides the exchange. ``labels`` go into the record as they are."""

    start: int
    labels: Json
    attempt: int
    tags: dict[str, str]
    ttft_ms: float | None = None
    dated: bool = True
    id: str = "own"  # own | none | redacted
    secret: str = ""
    via: str = "http"


def facts(call: Exchange, frame: Frame) -> Facts:
    """The facts of an exchange."""
    failed = call.error != ""
    fresh = call.prompt_tokens - call.cache_read - call.write_5m - call.write_1h
    leaves = (fresh, call.cache_read, call.write_5m, call.write_1h, call.visible, call.reasoning)
    return Facts(
        call.app.provider,
        call.model.answered,
        call.app.team,
        call.app.name,
        frame.via,
        ERRORS[call.error] if failed else 200,
        frame.start,
        (0, 0, 0, 0, 0, 0) if failed else leaves,
        not failed and (call.usage_in_stream or not call.stream),
    )


def http_pair(call: Exchange, frame: Frame) -> Json:
    """A recorded request and its response, with labels of the logger."""
    app = call.app
    failed = call.error != ""
    body = wire.response(call)
    record: Json = {}
    if frame.dated:
        record["started_at"] = iso(frame.start)
        record["duration_ms"] = round(call.seconds * 1000, 1)
    if frame.ttft_ms is not None:
        record["ttft_ms"] = round(frame.ttft_ms, 1)
    record |= {
        "provider": app.provider,
        "method": "POST",
        "url": wire.url(app, call.model),
        "status": ERRORS[call.error] if failed else 200,
        "stream": call.stream,
        **frame.labels,
        "attempt": frame.attempt,
        "tags": frame.tags,
    }
    headers = {"content-type": "application/json"}
    if frame.id == "own":
        headers["request-id" if app.provider == "anthropic" else "x-request-id"] = f"req_{call.id[:24]}"
    else:
        _take_id(body, "" if frame.id == "none" else "REDACTED_1")
    if call.retry_after:
        headers["retry-after"] = str(call.retry_after)
    if app.provider == "azure":
        headers["x-ms-region"] = "East US 2"
        headers["x-ms-deployment-name"] = f"{app.team}-{call.model.asked}"
    if frame.secret:
        record["request_headers"] = _secret_header(app.provider, frame.secret)
    record["response_headers"] = headers
    record["request"] = wire.request(call)
    record["response"] = body
    return record


def _take_id(body: Json, instead: str) -> None:
    """Remove the vendor's id from a whole body, or put ``instead`` after its prefix."""
    body.pop("request_id", None)
    own = body.pop("id", "")
    if own and instead:
        mark = "-" if own.startswith("chatcmpl-") else "_"
        body["id"] = own.partition(mark)[0] + mark + instead


def _secret_header(provider: str, secret: str) -> Json:
    if provider == "azure":
        return {"api-key": f"fake{secret}"}
    if provider == "anthropic":
        return {"x-api-key": f"sk-ant-fake-{secret}", "anthropic-version": "2023-06-01"}
    return {"authorization": f"Bearer sk-fake-{secret}"}


def litellm(call: Exchange, frame: Frame) -> Json:
    """A record of the LiteLLM proxy (StandardLoggingPayload). Through it every vendor looks like OpenAI chat."""
    app = call.app
    failed = call.error != ""
    start, end = frame.start / 1e6, frame.start / 1e6 + call.seconds
    usage: Json = {} if failed else wire.usage_of_chat(call)
    answer: Json | None = None
    if not failed:
        message = {"role": "assistant", "content": call.answer, "tool_calls": None, "function_call": None}
        answer = {"id": f"chatcmpl-{call.id}", "created": call.second, "model": call.model.answered,
                  "object": "chat.completion", "system_fingerprint": None, "usage": usage,
                  "choices": [{"finish_reason": "stop", "index": 0, "message": message}]}  # fmt: skip
    host = "https://api.anthropic.com" if app.provider == "anthropic" else "https://api.openai.com"
    labels = frame.labels
    return {
        "id": f"chatcmpl-{call.id}" if not failed else f"litellm-{call.id}",
        "trace_id": labels["trace_id"],
        "call_type": "acompletion",
        "cache_hit": None,
        "stream": call.stream,
        "status": "failure" if failed else "success",
        "custom_llm_provider": app.provider,
        "saved_cache_cost": 0.0,
        "startTime": start,
        "endTime": end,
        "completionStartTime": end,
        "response_time": call.seconds,
        "model": call.model.answered,
        "metadata": {
            "user_api_key_hash": None,
            "user_api_key_alias": f"{app.team}-{labels['environment']}",
            "user_api_key_team_id": f"team-{app.team}",
            "user_api_key_team_alias": app.team,
            "user_api_key_user_id": labels["user"],
            "user_api_key_org_id": None,
            "spend_logs_metadata": None,
            "requester_metadata": {
                "app": app.name,
                "feature": app.feature,
                "environment": labels["environment"],
                "template": labels["template"],
                "session_id": labels["session_id"],
                **frame.tags,
            },
            "usage_object": usage or None,
        },
        "cache_key": None,
        "response_cost": None,
        "total_tokens": usage.get("total_tokens", 0),
        "prompt_tokens": usage.get("prompt_tokens", 0),
        "completion_tokens": usage.get("completion_tokens", 0),
        "request_tags": [f"app:{app.name}", f"environment:{labels['environment']}"],
        "end_user": labels["user"],
        "api_base": f"{host}/v1",
        "model_group": call.model.asked,
        "model_id": None,
        "requester_ip_address": None,
        "messages": _plain_messages(call),
        "response": answer,
        "model_parameters": {"temperature": 0.2, "max_tokens": call.max_tokens},
        "hidden_params": {"litellm_model_name": call.model.asked, "api_base": host, "response_cost": None},
        "model_map_information": None,
        "error_str": "the upstream call failed" if failed else None,
        "error_information": {
            "error_code": str(ERRORS[call.error]) if failed else "",
            "error_class": {"rate_limit": "RateLimitError", "": ""}.get(call.error, "APIError"),
            "llm_provider": app.provider if failed else "",
        },
    }


def event(call: Exchange, frame: Frame) -> Json:
    """A record of an app that logs the project's own event (``llm-finops/call/v1``)."""
    app = call.app
    failed = call.error != ""
    record: Json = {
        "schema": "llm-finops/call/v1",
        "id": f"msg_{call.id}",
        "provider": app.provider,
        "api": app.api,
        "operation": "chat",
        "model": call.model.answered,
        "model_requested": call.model.asked,
        "started_at": iso(frame.start),
        "duration_ms": round(call.seconds * 1000, 1),
        "status": "error" if failed else "ok",
        "http_status": ERRORS[call.error] if failed else 200,
        **frame.labels,
        "attempt": frame.attempt,
        "tags": frame.tags,
        "max_tokens": call.max_tokens,
        "messages": _plain_messages(call),
    }
    if failed:
        record["error_type"] = call.error
        return record
    record["stop_reason"] = "end_turn"
    record["output"] = [{"role": "assistant", "content": call.answer}]
    record["usage"] = dict(zip(LEAVES[:5], facts(call, frame).leaves, strict=False))
    return record


def _plain_messages(call: Exchange) -> list[Json]:
    """System prompt and messages of text as plain role and content, whatever interface they were made for."""
    messages: list[Json] = [{"role": "system", "content": call.system}]
    for message in call.messages:
        content = message["content"]
        messages.append({"role": message["role"], "content": content if isinstance(content, str) else content[0]["text"]})
    return messages


BROKEN: Final = {
    "cut_json": "not_json",
    "invalid_utf8": "not_json",
    "nan": "not_json",
    "not_an_object": "not_an_object",
    "missing_fields": "not_a_call",
    "negative_tokens": "bad_value",
    "unknown_format": "unknown_format",
}
"""How a record can be broken, and the dead-letter reason (``schemas.reasons``) that says so."""


def break_record(kind: str, value: bytes, record: Json, start: int, at: float) -> bytes:
    """A record damaged in one of the ways of ``BROKEN``. ``value`` is ``record`` as JSON.

    ``start`` is the time of the call, ``at`` how far into the record it is cut (0 to 1).
    """
    if kind == "cut_json":
        figures = value.find(b'"usage')  # what is cut behind the vendor's figures is still a call
        return value[: 2 + int(at * ((len(value) if figures < 0 else figures) - 3))]
    if kind == "invalid_utf8":
        place = value.index(b'"', 1)
        return value[:place] + b"\xff\xc3\x28" + value[place:]
    if kind == "nan":
        return b'{"duration_ms":NaN,' + value[1:]
    if kind == "not_an_object":
        return orjson.dumps(f"{iso(start)} logger restarted, {len(value)} bytes lost")
    if kind == "missing_fields":
        return orjson.dumps({k: v for k, v in record.items() if k not in ("request", "response")})
    if kind == "negative_tokens":
        model = "gpt-4o-mini-2024-07-18"
        usage = {"prompt_tokens": -7, "completion_tokens": 3, "total_tokens": -4}
        message = {"role": "assistant", "content": "Done."}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        body = {"id": "chatcmpl-negative", "object": "chat.completion", "created": start // 1_000_000, "model": model,
                "choices": [choice], "usage": usage}  # fmt: skip
        asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Is it done?"}]}
        url = "https://api.openai.com/v1/chat/completions"
        return orjson.dumps({"started_at": iso(start), "url": url, "status": 200,
                             "stream": False, "request": asked, "response": body})  # fmt: skip
    return orjson.dumps({"ts": iso(start), "severity": "INFO", "msg": "worker heartbeat", "queue": 12})


def iso(time: int) -> str:
    """A time as ISO 8601 in UTC with microseconds."""
    minute, rest = divmod(time, 60_000_000)
    return f"{_minute(minute)}:{rest // 1_000_000:02d}.{rest % 1_000_000:06d}Z"


@functools.lru_cache(maxsize=4096)
def _minute(minute: int) -> str:
    return moment(minute * 60_000_000).strftime("%Y-%m-%dT%H:%M")
