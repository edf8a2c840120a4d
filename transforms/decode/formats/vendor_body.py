"""A vendor's answer alone: an application that logs what came back, and not what it sent.

A whole body; or a stream of one as ``{"stream": [chunks]}``, or as an array of its chunks. What an SDK adds to a body (boto3's
``ResponseMetadata``, Google's ``sdk_http_response``) is read beside it. A request alone is no call: nobody knows whether it was
answered.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from schemas.part import Part
from transforms.decode.errors import Undecodable
from transforms.decode.eventstream import is_event_stream
from transforms.decode.exchange import STREAM_STARTS, decoded_events
from transforms.decode.formats import http_pair
from transforms.decode.values import mapping, name, sequence

DESCRIBES: Final = "A vendor's answer alone, whole or the chunks of its stream, without the request"
SIGNS: Final[tuple[str, ...]] = (
    "object", "type", "usage", "usageMetadata", "usage_metadata", "candidates", "done", "stream", "meta", "results",
    "generation_token_count", "inputTextTokenCount", "num_tokens_generated", "predictions", "completion", "events",
)  # fmt: skip

_OBJECTS: Final = frozenset(
    {"chat.completion", "chat.completion.chunk", "response", "realtime.response", "text_completion", "interaction"}
)
_TYPES: Final = frozenset({"message", "completion"})
_CHUNK_TYPES: Final = frozenset(
    {"message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop", "ping",
     "message-start", "content-start", "content-delta", "content-end", "tool-plan-delta", "tool-call-start", "tool-call-delta",
     "tool-call-end", "citation-start", "citation-end", "message-end"}
)  # fmt: skip
_CHUNK_KEYS: Final = ("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "chunk")
_USAGE: Final = frozenset(
    {"prompt_tokens", "input_tokens", "inputTokens", "billed_units", "total_tokens", "seconds", "cost_in_usd_ticks"}
)
_ANSWERS: Final = frozenset(
    {"generation_token_count", "inputTextTokenCount", "num_tokens_generated", "usageMetadata", "usage_metadata"}
)
_ASKS: Final = frozenset({"messages", "contents", "prompt", "inputText", "modelInput"})
"""What requests have and answers do not."""


def detect(record: dict[str, Any]) -> bool:
    if "stream" in record and (is_stream(record["stream"]) or _holds_chunks(record["stream"])):
        return True
    if "events" in record and decoded_events(record["events"]) is not None:
        return True
    what, kind = record.get("object"), record.get("type")
    if type(what) is str and (what in _OBJECTS or (what == "list" and "usage" in record)):
        return True
    if type(kind) is str and ((kind in _TYPES and ("model" in record or "usage" in record)) or kind in _CHUNK_TYPES):
        return True
    if not _ASKS.isdisjoint(record) and "usage" not in record:
        return False
    usage = record.get("usage")
    if type(usage) is dict and not _USAGE.isdisjoint(usage):
        return _is_answer(record, usage)
    if not _ANSWERS.isdisjoint(record) or ("stopReason" in record and "output" in record):
        return True
    if "candidates" in record:
        return type(record["candidates"]) is list
    if "done" in record:
        return type(record["done"]) is bool and ("created_at" in record or "eval_count" in record)
    if "predictions" in record:
        first = sequence(record["predictions"])[:1]
        return bool(first) and "statistics" in mapping(mapping(first[0]).get("embeddings"))
    results = sequence(record.get("results"))
    if results:
        return "flagged" in mapping(results[0]) or "relevance_score" in mapping(results[0])
    return "billed_units" in mapping(record.get("meta"))


def _is_answer(record: dict[str, Any], usage: dict[str, Any]) -> bool:
    """Whether what stands beside usage is what a vendor answered: OpenAI's choices, Converse's output, Cohere's message …"""
    if "choices" in record:
        return type(record["choices"]) is list
    if "inputTokens" in usage:
        return "output" in record or "stopReason" in record or "metrics" in record
    if "billed_units" in usage:
        return True
    for field in ("data", "results", "outputs"):
        listed = sequence(record.get(field))
        if listed:
            return not _ITEMS.isdisjoint(mapping(listed[0]))
    return "text" in record and ("seconds" in usage or usage.get("type") in ("tokens", "duration"))


_ITEMS: Final = frozenset({"embedding", "b64_json", "url", "relevance_score", "message"})
"""What a vector, a picture, a document's rank, an answer of xAI is known by."""


def is_stream(items: Any) -> bool:
    """Whether a list is the chunks of one answer rather than several records."""
    if type(items) is not list or not items:
        return False
    for first in items[:2]:  # Azure's first chunk says nothing of itself
        if type(first) is not dict:
            return False
        what, kind, event = first.get("object"), first.get("type"), first.get("event_type")
        if what == "chat.completion.chunk" or any(key in first for key in _CHUNK_KEYS) or first.get("done") is False:
            return True
        if type(kind) is str and (kind in _CHUNK_TYPES or (kind.startswith("response.") and kind != "response.done")):
            return True
        if type(event) is str and (event.startswith("interaction.") or event == "stream-start"):
            return True
    if len(items) == 1:
        return False
    first = items[0]
    if first.get("object") == "text_completion":
        return len({name(mapping(item).get("id")) for item in items}) == 1
    return "generation" in first or ("candidates" in first and _one_answer(items))


_HELD: Final = ("choices", "candidates", "usageMetadata", "sdk_http_response", "generation", "outputText", "completion")


def _holds_chunks(items: Any) -> bool:
    """Whether a list, or a text, that is called a stream is one."""
    if type(items) is str:
        return items.startswith(STREAM_STARTS) or items[:1] == "{" or is_event_stream(items)
    first = items[0] if type(items) is list and items else None
    return type(first) is dict and any(key in first for key in _HELD)


def _one_answer(items: list[Any]) -> bool:
    """Whether what looks like several answers of Gemini is one in pieces: they have one id, or only the last has an end."""
    ids = {name(mapping(item).get("responseId") or mapping(item).get("response_id")) for item in items}
    if ids != {""}:
        return len(ids) == 1
    ended = [_ended(mapping(item)) for item in items]
    return not any(ended[:-1])


def _ended(chunk: dict[str, Any]) -> bool:
    return any("finishReason" in mapping(c) or "finish_reason" in mapping(c) for c in sequence(chunk.get("candidates")))


def decode(record: dict[str, Any]) -> list[Call | Part]:
    """The call an answer tells of. What was asked is unknown, so its content is not whole.

    Raises:
        Undecodable: it is one chunk of a stream, and does not say what the whole took.
    """
    alone = _chunk_alone(record)
    if alone and not _says_all(record):
        shown = name(record.get("type") or record.get("object")) or "a chunk"
        raise Undecodable("not_a_call", f"{shown}: a piece of a stream by itself; its chunks belong into one record")
    pair: dict[str, Any] = {"response": {"stream": [record]} if alone else record}
    boto = record.get("ResponseMetadata")
    google = record.get("sdk_http_response")
    if type(boto) is dict:
        pair["response_headers"], pair["status"] = boto.get("HTTPHeaders"), boto.get("HTTPStatusCode")
    elif type(google) is dict:
        pair["response_headers"] = google.get("headers")
    labels = record.get("metadata")
    if type(labels) is dict and record.get("object") in ("response", "chat.completion"):  # the vendor says them again
        pair["request"] = {"metadata": labels}
    outcomes = http_pair.decode(pair)
    for outcome in outcomes:
        call = outcome.call if isinstance(outcome, Part) else outcome
        if call is not None and call.content is not None:
            call.content.complete = False
    return outcomes


def _chunk_alone(record: dict[str, Any]) -> bool:
    kind = record.get("type")
    return (
        record.get("object") == "chat.completion.chunk"
        or (type(kind) is str and kind in _CHUNK_TYPES)
        or record.get("done") is False
    )


def _says_all(record: dict[str, Any]) -> bool:
    """Whether a chunk is the last of a chat, with the usage of the whole."""
    usage = record.get("usage") or mapping(record.get("x_groq")).get("usage")
    choices = sequence(record.get("choices"))
    return (
        bool(usage)
        and record.get("object") == "chat.completion.chunk"
        and (not choices or bool(mapping(choices[0]).get("finish_reason")))
    )
