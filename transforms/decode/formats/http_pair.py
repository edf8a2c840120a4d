"""A recorded HTTP request and its response: what a proxy, a middleware or an SDK hook writes down.

An object with ``request`` and ``response`` (bodies, parsed or as strings; or objects that wrap a ``body``), and around
them whatever the logger knows: ``url``, ``status``, headers, times, and who asked.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from schemas.part import Part
from transforms.decode import times
from transforms.decode.bodies import guardrails, pick
from transforms.decode.bodies.bedrock import usage_of_headers
from transforms.decode.context import read_context, request_tags
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.exchange import Body, Exchange, parse_json, read_answer
from transforms.decode.salvage import salvage
from transforms.decode.values import count, mapping, name
from transforms.decode.web import (
    CONTROL,
    COUNT_TOKENS,
    Address,
    account_of_arn,
    address,
    apply_headers,
    headers,
    profile_scope,
    provider_of_body,
)

DESCRIBES: Final = "A recorded HTTP request with its response, whole or streamed; the logger's labels beside them"
SIGNS: Final[tuple[str, ...]] = ("request", "response", "url")

_WRAPPER_KEYS: Final = frozenset({"method", "uri", "url", "headers"})
"""What only a request with its transport around it has; no vendor's body does."""


def detect(record: dict[str, Any]) -> bool:
    return ("request" in record or "response" in record or ("url" in record and "status" in record)) and (
        (type(record.get("schema")) is not str or not record["schema"].startswith("llm-finops/"))
        and not ("done" in record and "created_at" in record and "request" not in record)  # Ollama's: its text is its response
    )


def decode(record: dict[str, Any]) -> list[Call | Part]:
    """One call, and one more for each other model the vendor asked on the way; a part of one that is made in the background."""
    asked: Any = record.get("request")
    response: Any = record.get("response")
    wrapped = wrapper = _NOTHING
    if type(asked) is dict and not _WRAPPER_KEYS.isdisjoint(asked):
        asked, wrapped = asked.get("body"), asked  # logged with its method and headers around it
    if type(response) is dict and ("headers" in response or ("body" in response and "status" in response)):
        response, wrapper = response.get("body"), response
    if type(asked) is not dict:
        asked = parse_json(asked)
    if asked is None and response is None:
        raise Undecodable("not_a_call", "neither a request nor a response is there")
    answer, chunks, cut = read_answer(response)

    url = record.get("url") or record.get("uri") or wrapped.get("uri") or wrapped.get("url")
    where = address(url) if type(url) is str else _NOWHERE
    if where.api in (COUNT_TOKENS, CONTROL):
        raise Skipped(where.api)
    status = record.get("status")
    if type(status) is not int or not 0 <= status <= 599:
        for place, field in ((record, "status_code"), (wrapper, "status"), (wrapper, "status_code")):
            status = place.get(field) if status is None else status
        status = min(count(status, "status") or 0, 599)

    call = Call()
    call.__dict__.update(where.columns)
    with_headers = read_context(call, record)
    headers_found = _NO_HEADERS
    if with_headers or wrapped or wrapper:
        headers_found = headers(
            record.get("headers"),
            record.get("request_headers"),
            wrapped.get("headers"),
            record.get("response_headers"),
            wrapper.get("headers"),
        )
    asked_whole = type(asked) is dict
    x = Exchange(asked if asked_whole else _NOTHING, answer, chunks, where, headers_found, status)
    if not asked_whole and type(asked) is str:
        x.request_cut = True
        x.request = _of_cut(asked)
    x.answer_cut = cut
    return _read(call, x)


_CALLER_LABELS: Final = frozenset({"metadata", "requestMetadata", "labels"})
_NO_HEADERS: Final[dict[str, str]] = {}


_NOTHING: Final[dict[str, Any]] = {}
_NOWHERE: Final = Address()

_OF_CUT: Final = frozenset(
    {"model", "modelId", "stream", "max_tokens", "max_completion_tokens", "max_output_tokens", "service_tier", "speed", "user",
     "safety_identifier", "prompt_cache_key", "background", "metadata", "requestMetadata", "labels"}
)  # fmt: skip
"""What a request that was cut still says for sure. Its prompt is not read: half of it would pass for the whole."""


def _of_cut(text: str) -> dict[str, Any]:
    found = salvage(text.lstrip("\ufeff \r\n\t"))
    return {key: found[key] for key in _OF_CUT.intersection(found)} if isinstance(found, dict) else {}


def _read(call: Call, x: Exchange) -> list[Call | Part]:
    """Fill the call from the exchange, by the body its wire format has."""
    api, body = pick(x)
    error = _error_of(x)
    if body is None and error is None:
        shown = api or f"with the keys {', '.join(list(x.answer)[:8]) or ', '.join(list(x.request)[:8])}"
        raise Undecodable("unsupported_body", f"a body {shown[:200]} is not read yet", api)
    call.api = api
    call.operation = "chat" if body is None else body.operation
    call.http_status = x.status
    if x.headers:
        apply_headers(call, x.headers)
        call.headers = x.headers
    if not _CALLER_LABELS.isdisjoint(x.request):
        request_tags(call, x.request)
    if body is not None:
        body.ask(call, x)
        if error is None:
            body.reply(call, x)
            if x.headers and call.usage_source == "none":
                usage_of_headers(call, x.headers)
    elif not call.model_requested:
        call.model_requested = name(x.request.get("model"))
    if error is not None:
        call.status, call.error_type = error
        call.usage_source = "none"
    _finish(call, x)
    if call.provider == "bedrock":
        guardrails.read_units(call, x)
    content = call.content
    if error is None and call.status == "ok" and call.usage_source == "none" and not _answered(call, x, body):
        call.status = "incomplete"
        if not x.answer_cut or not content or not content.output:
            call.flag("no_answer")  # nothing of the answer was logged, or nothing that is known
    for other in x.extra:
        _finish(other, x)
    if x.polled and call.provider_call_id:
        return [Part(f"{api}:{call.provider_call_id}", x.polled, call, ("final",))]
    return [call, *x.extra]


def _answered(call: Call, x: Exchange, body: Body | None) -> bool:
    """Whether a call that reports no usage was answered."""
    if body is not None and not body.texts:  # a picture, a voice: carried, whatever it is billed by
        return bool(x.answer or x.chunks or 200 <= x.status < 300)
    if call.operation == "embedding":
        return True
    content = call.content
    return content is not None and bool(content.output) and (call.stream or not x.answer_cut)


def _finish(call: Call, x: Exchange) -> None:
    """What follows from the rest once the body is read."""
    if not call.model_requested:
        call.model_requested = x.address.model or call.deployment
    if not call.model:
        call.model = call.model_requested
    if not call.provider:
        call.provider = provider_of_body(call.api, call.model, x.answer)
    if call.provider == "bedrock" and not call.account and call.model_requested.startswith("arn:"):
        call.account = account_of_arn(call.model_requested)
    if call.provider == "bedrock" and not call.region_scope:
        call.region_scope = profile_scope(call.model_requested)
    if call.provider == "azure" and not call.deployment and call.model_requested != call.model:
        call.deployment = call.model_requested
    if x.request_cut:
        call.flag("request_cut")
    if x.answer_cut:
        call.flag("response_cut")
    content = call.content
    if content is not None and (x.request_cut or x.answer_cut):
        content.complete = False
    times.settle(call)


def _error_of(x: Exchange) -> tuple[str, str] | None:
    """Status and type of a call that failed, ``None`` for one that did not.

    What a guardrail or a content filter refused before an answer is ``blocked``.
    """
    answer = x.answer
    if x.status < 400 and not answer.get("error"):
        if not x.status and answer.get("type") == "error":
            return "error", name(mapping(answer.get("error")).get("type"))
        return _error_in_stream(x)
    if x.status < 400 and ("output" in answer or "choices" in answer):  # Responses that failed say so themselves
        return None
    error = answer.get("error")
    kind: Any = ""
    inner = mapping(error)
    code = inner.get("code")
    if inner:
        kind = inner.get("type") or inner.get("status") or code
        if not isinstance(kind, str):
            kind = code
        filtered = code == "content_filter" or (inner.get("innererror") and "content_filter" in str(inner["innererror"]))
        if filtered:
            return "blocked", "content_filter"
    elif isinstance(error, str):
        kind = x.headers.get("x-amzn-errortype", "").partition(":")[0] or "error"
    else:
        kind = answer.get("__type") or answer.get("type") or answer.get("code")
        if kind is None and "_exception" in answer:
            kind = mapping(answer["_exception"]).get("type")
        kind = kind or x.headers.get("x-amzn-errortype", "").partition(":")[0]
    return "error", name(kind) or (f"http_{x.status}" if x.status else "error")


def _error_in_stream(x: Exchange) -> tuple[str, str] | None:
    """A stream whose only content is an error."""
    if x.chunks is None or not x.chunks or len(x.chunks) > 2:
        return None
    error = mapping(x.chunks[0]).get("error")
    if not error:
        return None
    return "error", name(mapping(error).get("type") or mapping(error).get("code")) or "error"
