"""Vertex AI's request-response logging: rows of its BigQuery table as JSON.

https://cloud.google.com/vertex-ai/generative-ai/docs/multimodal/request-response-logging. The bodies are protobuf's JSON with its
own names (``usage_metadata``), which the bodies of Gemini are read in, too. A row is written when the answer is there.
"""

from __future__ import annotations

import re
from typing import Any, Final

from schemas.call import Call
from schemas.part import Part
from transforms.decode.exchange import parse_json
from transforms.decode.formats import http_pair
from transforms.decode.values import mapping, milliseconds, name, text

DESCRIBES: Final = "Vertex AI request-response log, rows of its BigQuery table"
SIGNS: Final[tuple[str, ...]] = ("logging_time",)

_RESOURCE: Final = re.compile(r"projects/[\w.:-]+/locations/[\w-]+/")
_PUBLISHED: Final = re.compile(r"(?:^|/)publishers/")


def detect(record: dict[str, Any]) -> bool:
    return "logging_time" in record and ("full_request" in record or "request_payload" in record)


def decode(record: dict[str, Any]) -> list[Call | Part]:
    """The call of a row; rows are sampled at a rate that they do not tell."""
    asked = parse_json(record.get("full_request"))
    answer = parse_json(record.get("full_response"))
    if asked is None:
        asked = _payload(record.get("request_payload"))
    if answer is None:
        answer = _payload(record.get("response_payload"))
    notes = mapping(parse_json(record.get("metadata")))
    pair = {
        "url": _address(record, mapping(asked)),
        "request": {} if asked is None else asked,
        "response": answer,
        "ended_at": record.get("logging_time"),
        "duration_ms": milliseconds(notes.get("request_latency")),
        "sampling_rate": notes.get("sampling_rate"),
        "request_id": name(record.get("request_id")),
        "deployment": name(record.get("endpoint")),
    }
    return http_pair.decode(pair)


def _payload(rows: Any) -> Any:
    """What a deployed model was sent or answered: strings of JSON, one nearly always, more of a stream."""
    if type(rows) is not list or not rows:
        return None
    parts = [parse_json(each) for each in rows]
    return parts[0] if len(parts) == 1 else parts


def _address(record: dict[str, Any], asked: dict[str, Any]) -> str:
    """Where the model was asked: its resource, in the request or the row, and the method."""
    model = text(record.get("model"))
    if not model.startswith(("publishers/", "projects/")):
        model = f"publishers/google/models/{model}" if model and "/" not in model else text(asked.get("model"))
    place = _RESOURCE.match(text(asked.get("model"))) or _RESOURCE.match(text(record.get("endpoint")))
    if place and model.startswith("publishers/"):
        model = place.group() + model
    elif place and not _PUBLISHED.search(model):
        model = text(record.get("endpoint")) or model  # deployed by oneself: the endpoint is what is asked
    method = text(record.get("api_method"))
    method = method.rpartition(".")[2]
    method = method[:1].lower() + method[1:]
    return f"https://aiplatform.googleapis.com/v1/{model}:{method or 'generateContent'}"
