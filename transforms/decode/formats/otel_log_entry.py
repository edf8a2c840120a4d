"""Entries of Cloud Logging that OpenTelemetry wrote: a call whose attributes are the labels of its entry, all of them texts.

Google's exporters write one entry for each ``gen_ai.client.inference.operation.details``. Texts are, as a rule, not in it:
entries are small, so prompts are uploaded and the entry holds links to them (``gen_ai.input.messages_ref``).
"""

from __future__ import annotations

from typing import Any, Final

from transforms.decode.formats.otlp import read_log
from transforms.decode.otel import TELLING, Given, resource_of
from transforms.decode.spans import Outcome
from transforms.decode.values import mapping, name

DESCRIBES: Final = "Cloud Logging entries that OpenTelemetry wrote, the call in their labels: see [spans](#spans)"
SIGNS: Final[tuple[str, ...]] = ("logName",)


def detect(record: dict[str, Any]) -> bool:
    return any(_is_told(record.get(place)) for place in ("labels", "jsonPayload"))


def _is_told(place: Any) -> bool:
    return type(place) is dict and (not TELLING.isdisjoint(place) or name(place.get("event.name")).startswith("gen_ai."))


def decode(record: dict[str, Any]) -> list[Outcome]:
    """The call that an entry tells of, or part of it."""
    payload = record.get("jsonPayload")
    attributes = {**mapping(payload), **mapping(record.get("labels"))}
    about = mapping(mapping(record.get("resource")).get("labels"))
    service = about.get("service_name") or about.get("job")  # of Cloud Run; of what names itself, as OpenTelemetry does
    resource = {
        **about,
        "service.name": attributes.get("service.name") or service,
        "cloud.provider": "gcp",
        "cloud.account.id": about.get("project_id"),
    }
    log = name(record.get("logName")).rpartition("/")[2]
    event = name(attributes.get("event.name")) or log
    time = record.get("timestamp") or record.get("receiveTimestamp")
    trace = name(record.get("trace")).rpartition("/")[2]
    return [read_log(event, Given(attributes, resource_of(resource), ""), time, trace, name(record.get("spanId")))]
