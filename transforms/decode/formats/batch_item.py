"""One line of the results of a batch: an answer, the caller's own id for it, and at times the request.

OpenAI, Azure, Groq and Mistral write ``{custom_id, response: {status_code, request_id, body}, error}``; Anthropic
``{custom_id, result: {type, message | error}}``; Gemini ``{key, response | error}``; Vertex ``{request, response, status,
processed_time}``; Bedrock ``{recordId, modelInput, modelOutput | error}``. All are billed at the price of a batch.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from schemas.part import Part
from transforms.decode.errors import Undecodable
from transforms.decode.formats import http_pair
from transforms.decode.scrub import set_tags
from transforms.decode.values import mapping, name

DESCRIBES: Final = "One line of a batch's results: OpenAI, Azure, Groq, Mistral, Anthropic, Gemini, Vertex, Bedrock"
SIGNS: Final[tuple[str, ...]] = ("custom_id", "key", "processed_time", "recordId")


def detect(record: dict[str, Any]) -> bool:
    answer = record.get("response")
    if "custom_id" in record:
        if type(answer) is dict:
            return "body" in answer or "status_code" in answer
        if "result" in record:
            return "type" in mapping(record["result"])
        return type(record.get("error")) is dict if "response" in record else "body" in record and "url" in record
    if "recordId" in record:
        return "modelInput" in record or "modelOutput" in record
    if "processed_time" in record:
        return "request" in record and "response" in record
    return type(record.get("key")) is str and type(answer) is dict and not _GEMINI.isdisjoint(answer)


_GEMINI: Final = frozenset({"candidates", "usageMetadata", "usage_metadata", "promptFeedback"})


def decode(record: dict[str, Any]) -> list[Call | Part]:
    """The call a line is.

    Raises:
        Undecodable: it is a line of the requests of a batch, not of its results.
    """
    pair, ended = _pair(record)
    outcomes = http_pair.decode(pair)
    own = name(record.get("custom_id") or record.get("key") or record.get("recordId"))
    for outcome in outcomes:
        call = outcome.call if isinstance(outcome, Part) else outcome
        if call is None:
            continue
        call.batch = True
        if ended:
            call.status = ended
        request_id = name(mapping(record.get("response")).get("request_id"))
        call.request_id = call.request_id or request_id
        if own:
            set_tags(call, {**(call.tags or {}), "custom_id": own})
        if "request" not in pair and call.content is not None:
            call.content.complete = False
    return outcomes


_ENDS: Final = {"canceled": "cancelled", "expired": "cancelled"}


def _pair(record: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The line as a request and its answer, and how it ended where the answer does not say."""
    if "result" in record:
        result = mapping(record["result"])
        kind = result.get("type")
        if kind == "succeeded":
            return {"response": result.get("message"), "provider": "anthropic"}, ""
        error = mapping(result.get("error"))
        failed = {"type": "error", "error": error.get("error") or error or {"type": name(kind)}}
        return {"response": failed, "provider": "anthropic"}, _ENDS.get(name(kind), "")
    if "recordId" in record:
        made = record.get("modelOutput")
        if made is None:
            made = {"error": _error(record.get("error"))}
        return {"request": record.get("modelInput"), "response": made, "provider": "bedrock"}, ""
    response = mapping(record.get("response"))
    if "custom_id" not in record:
        asked = {"request": record["request"]} if record.get("request") else {}
        return {"response": response or {"error": _error(record.get("error") or record.get("status"))}, **asked}, ""
    if "response" not in record:
        raise Undecodable("not_a_call", "a line of the requests of a batch: its results are calls")
    if "body" not in response:
        return {"response": {"error": _error(record.get("error"))}}, ""
    return {"response": response["body"], "status": response.get("status_code")}, ""


def _error(error: Any) -> dict[str, Any]:
    """What went wrong, as vendors say it in a body."""
    if type(error) is dict and error:
        given = mapping(error)
        return {"type": given.get("type") or name(given.get("code") or given.get("errorCode") or given.get("status"))}
    return {"type": "batch_error"}
