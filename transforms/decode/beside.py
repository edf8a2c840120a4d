"""What the transport says beside a record: headers of a Kafka message, attributes of a Pub/Sub message; CloudEvents has its own.

A message's headers join those of the call, where ownership rules find them; what the record itself says goes before them.
The attributes of a CloudEvent in binary mode are headers named ``ce_*`` (Kafka protocol binding 1.0.2, section 3.2), attributes
named ``ce-*`` with Pub/Sub. Its source and id together are its identity, whichever way it comes.
"""

from __future__ import annotations

from schemas.call import Call
from transforms.decode import times

EVENT_TIMES = ("ce_time", "ce-time")


def event_id(headers: dict[str, str]) -> str:
    """What identifies a CloudEvent: producers give no two events the same source and id. Empty where it is none."""
    for mark in ("ce_", "ce-"):
        if headers.get(f"{mark}id") and headers.get(f"{mark}source"):
            return f"cloudevent:{headers[f'{mark}source']} {headers[f'{mark}id']}"
    return ""


def read_beside(call: Call, headers: dict[str, str]) -> None:
    """Take up ``headers`` (names in lower case). The time of a CloudEvent is that of a call that carries none."""
    call.headers = {**headers, **(call.headers or {})}
    call.transport_id = call.transport_id or event_id(headers)
    for name in EVENT_TIMES:
        if not call.event_time and name in headers:
            times.start(call, headers[name])
