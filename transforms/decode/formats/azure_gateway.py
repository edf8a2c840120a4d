"""Azure's logs of calls: API Management's gateway, and the diagnostics of Azure OpenAI.

API Management writes ``GatewayLogs``, one record for each request, with bodies of up to 8 KiB as strings
(https://learn.microsoft.com/azure/azure-monitor/reference/tables/apimanagementgatewaylogs), and ``GatewayLlmLogs``, whose records
tell of one call together: one its usage, further ones its messages, cut at 32 KiB and numbered
(https://learn.microsoft.com/azure/azure-monitor/reference/tables/apimanagementgatewayllmlog). Policies that log to an event hub
(``log-to-eventhub``) write bodies under names of their own; ``requestBody`` and ``responseBody`` are read. The diagnostics of
Azure OpenAI tell neither tokens nor texts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from schemas.call import Call
from schemas.part import OPEN_ENDED, PIECES, Part
from transforms.decode.bodies import openai_chat
from transforms.decode.content import content_of
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.exchange import parse_json, read_answer
from transforms.decode.formats import http_pair
from transforms.decode.values import count, dumps, mapping, name, sequence, text
from transforms.decode.web import address

DESCRIBES: Final = "Azure API Management: gateway logs, LLM logs, log-to-eventhub; diagnostics of Azure OpenAI are ignored"
SIGNS: Final[tuple[str, ...]] = ("category", "Category", "responseBody", "backendResponseBody", PIECES)

_LLM: Final = frozenset({"GatewayLlmLogs", "ApiManagementGatewayLlmLog"})
_GATEWAY: Final = frozenset({"GatewayLogs", "ApiManagementGatewayLogs"})
_WITHOUT_TOKENS: Final = frozenset({"RequestResponse", "Audit", "Trace", "DeveloperPortalAuditLogs", "WebSocketConnectionLogs"})
_BODIES: Final = frozenset({"requestBody", "responseBody", "backendRequestBody", "backendResponseBody"})
_CUT: Final = "apimMessages"
"""In a piece of messages, the id of their call."""

_TAGS: Final = {
    "api": "apiId",
    "operation": "operationId",
    "product": "productId",
    "gateway_region": "location",
}


_SIDES: Final = ("requestMessages", "responseMessages")


def detect(record: dict[str, Any]) -> bool:
    if PIECES in record:
        return _CUT in mapping((sequence(record[PIECES]) or [None])[0])
    kind = record.get("category", record.get("Category"))
    if type(kind) is str and (kind in _LLM or kind in _GATEWAY):
        return True
    if type(kind) is str and kind in _WITHOUT_TOKENS:
        return "resourceId" in record or "operationName" in record
    return "responseBody" in record or "backendResponseBody" in record


def decode(record: dict[str, Any]) -> Iterable[Call | Part]:
    """A call, or a part of one.

    Raises:
        Skipped: it tells of no call, or neither of its tokens nor its texts.
    """
    if PIECES in record:
        return [_put_together(list(map(mapping, sequence(record[PIECES]))))]
    kind = text(record.get("category", record.get("Category")))
    if kind in _WITHOUT_TOKENS:
        raise Skipped("no_tokens")
    said = parse_json(record.get("properties"))
    if type(said) is not dict:
        if "properties" in record:
            raise Undecodable("bad_value", f"properties: {str(said)[:60]!r} is no object", "azure_gateway")
        said = {}
    around = {key[:1].lower() + key[1:]: value for key, value in (record | said).items()}
    return [_llm_part(around)] if kind in _LLM else _gateway(around, own=kind not in _GATEWAY)


# -- LLM logs ------------------------------------------------------------------------------------------------------


def _llm_part(said: dict[str, Any]) -> Part:
    """One of the records of a call: that with its usage makes it whole, the others hold its messages, or a piece of them.

    Messages alone are counted as those of a model that is not known: only the record with the usage names it.
    """
    key = name(said.get("correlationId")) or name(said.get("requestId"))
    if not key:
        raise Undecodable("bad_value", "neither correlationId nor requestId is there", "azure_gateway")
    number = said.get("sequenceNumber", 0)
    if not any(said.get(field) is not None for field in ("promptTokens", "completionTokens", "totalTokens")):
        given = [said.get(side) for side in _SIDES]
        if any(type(each) is str and each and type(parse_json(each)) is not list for each in given):
            return _piece(key, number, given)
        return Part(f"apim:{key}", f"messages-{name(number)}", _messages(*map(parse_json, given)), needs=("usage",))
    model, deployment = name(said.get("modelName")), name(said.get("deploymentName"))
    asked = parse_json(said.get("requestMessages"))
    answered = parse_json(said.get("responseMessages"))
    pair = _around(said) | {
        "provider": "azure" if deployment else None,
        "deployment": deployment,
        "stream": said.get("isStreamCompletion") is True,
        "request": {"model": deployment or model, "messages": asked if type(asked) is list else []},
        "response": {
            "id": said.get("requestId"),
            "object": "chat.completion",
            "model": model,
            "choices": [{"index": n, "message": each} for n, each in enumerate(answered)] if type(answered) is list else [],
            "usage": {
                "prompt_tokens": said.get("promptTokens"),
                "completion_tokens": said.get("completionTokens"),
                "total_tokens": said.get("totalTokens"),
            },
        },
    }
    (call,) = (outcome for outcome in http_pair.decode(pair) if isinstance(outcome, Call))
    call.usage_source = "gateway"
    if call.content is not None:
        if type(asked) is not list:
            call.content = None
        elif type(answered) is not list:
            call.content.complete = False
    return Part(f"apim:{key}", "usage", call, needs=("usage",), rank=1)


def _piece(key: str, number: Any, given: list[Any]) -> Part:
    """A piece of messages that were cut. How many there are nobody tells; but the text of a whole list has one end."""
    place = count(number, "sequenceNumber") or 0
    data = dumps({_CUT: key, **{side: each for side, each in zip(_SIDES, given, strict=True) if type(each) is str}})
    return Part(f"apim:{key}:messages", str(place), data=data, number=place, of=OPEN_ENDED)


def _put_together(pieces: list[dict[str, Any]]) -> Part:
    """The messages of a call, from all pieces of them that are there: the prompt, the answer, as far as either is whole."""
    asked, answered = (parse_json("".join(text(piece.get(side)) for piece in pieces), 1) for side in _SIDES)
    call = _messages(asked, answered)
    cut = any(type(side) is str and side for side in (asked, answered))
    return Part(f"apim:{name(pieces[0].get(_CUT))}", "messages", call, needs=("usage",), rank=-1 if cut else 0)


def _messages(asked: Any, answered: Any) -> Call | None:
    """What a list of messages tells of its call: nothing but texts. None where neither is a list."""
    if type(asked) is not list and type(answered) is not list:
        return None
    call = Call()
    call.api, call.operation = openai_chat.API, "chat"
    content = content_of(call)
    content.prompt += [openai_chat.read_message(each, content) for each in map(mapping, sequence(asked))]
    content.output += [openai_chat.read_message({"role": "assistant", **mapping(each)}, content) for each in sequence(answered)]
    return call


# -- gateway logs --------------------------------------------------------------------------------------------------


def _gateway(said: dict[str, Any], *, own: bool) -> list[Call | Part]:
    """The call of a request, by what the gateway sent to the vendor and got from it, else by what the client did.

    ``own``: an operator's policy wrote the record, and perhaps labels beside the bodies.
    """
    sent = _whole(said.get("backendRequestBody"), said.get("requestBody"))
    got = _whole(said.get("backendResponseBody"), said.get("responseBody"))
    reached = bool(said.get("backendUrl"))
    url = text(said.get("backendUrl")) or text(said.get("url"))
    if not sent and not got:
        raise Skipped("no_tokens" if address(url).api else "plain_log")
    pair = ({key: value for key, value in said.items() if key not in _BODIES} if own else {}) | _around(said)
    pair |= {
        "url": url,
        "status": said.get("backendResponseCode") or said.get("responseCode") or said.get("statusCode") or said.get("status"),
        "request": sent,
        "response": got,
        "request_headers": said.get("backendRequestHeaders") or said.get("requestHeaders"),
        "response_headers": said.get("backendResponseHeaders") or said.get("responseHeaders"),
    }
    if not reached and "/deployments/" in url:
        pair["provider"] = "azure"
    if said.get("cache") == "hit":
        pair["gateway_cache_hit"] = True
    try:
        return http_pair.decode(pair)
    except Undecodable as problem:
        if problem.reason == "unsupported_body" and not own and not address(url).api:
            raise Skipped("plain_log") from None  # a request to another API behind the same gateway
        raise


def _whole(*bodies: Any) -> Any:
    """The first body that is not cut, else the first that is there."""
    there = [body for body in bodies if body not in (None, "", {})]
    for body in there:
        if not read_answer(body)[2]:
            return body
    return there[0] if there else None


def _around(said: dict[str, Any]) -> dict[str, Any]:
    """What both kinds of records tell of a request beside its bodies."""
    tags = {tag: said.get(field) for tag, field in _TAGS.items()}
    given = said.get("tags")
    tags |= given if type(given) is dict else {}
    return {
        "time": said.get("time") or said.get("timeGenerated") or said.get("timestamp"),
        "duration_ms": said.get("durationMs") if said.get("durationMs") is not None else said.get("totalTime"),
        "request_id": said.get("correlationId"),
        "api_key_alias": said.get("apimSubscriptionId"),
        "tags": {tag: value for tag, value in tags.items() if value not in (None, "")},
    }
