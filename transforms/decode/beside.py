"""What the transport says beside a record: the headers of a Kafka message, of which CloudEvents has its own.

A message's headers join those of the call, where ownership rules find them; what the record itself says goes before them.
The attributes of a CloudEvent in binary mode (Kafka protocol binding 1.0.2, section 3.2) are headers named ``ce_*``.
"""

from __future__ import annotations

from schemas.call import Call
from transforms.decode import times

EVENT_TIME = "ce_time"


def read_beside(call: Call, headers: dict[str, str]) -> None:
    """Take up ``headers`` (names in lower case). The time of a CloudEvent is that of a call that carries none."""
    call.headers = {**headers, **(call.headers or {})}
    if not call.event_time and EVENT_TIME in headers:
        times.start(call, headers[EVENT_TIME])
