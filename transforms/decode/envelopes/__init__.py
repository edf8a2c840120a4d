"""What a record is wrapped in on its way: envelopes that transports put around it, peeled off before its format is told.

An envelope is a function that opens one kind of them, found by a key that it cannot be without. Only records that no format
recognises are asked, so those without an envelope pay nothing. What an envelope says of the record inside (a time, an
identity, labels) is what a transport says: the record itself goes before it.

One module for each family of transports; ``opened`` has what they share. Depth, layers of packing and decompressed bytes have
bounds: ``MAX_ENVELOPES``, ``MAX_PACKED``, ``MAX_INFLATED``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from transforms.decode.envelopes import aws, events, google
from transforms.decode.envelopes.opened import (
    MAX_ENVELOPES,
    MAX_INFLATED,
    MAX_PACKED,
    Around,
    Budget,
    Held,
    Opened,
    packed_text,
    parsed,
)
from transforms.decode.errors import Skipped

__all__ = [
    "ENVELOPES",
    "MAX_ENVELOPES",
    "MAX_INFLATED",
    "MAX_PACKED",
    "Around",
    "Budget",
    "Envelope",
    "Held",
    "Opened",
    "open_envelopes",
    "packed_text",
    "parsed",
]

Envelope = Callable[[dict[str, Any]], Held | list[Held] | None]

ENVELOPES: Final[dict[str, Envelope]] = {
    "message": google.pubsub_message,
    "receivedMessages": google.pubsub_pull,
    "logName": google.log_entry,
    "specversion": events.cloud_event,
    "records": events.many_records,
    "messageType": aws.subscription,
    "awslogs": aws.lambda_logs,
    "TopicArn": aws.notification,
    "Records": aws.triggered,
    "Messages": aws.received,
    "detail-type": events.bridge_event,
    "payload": events.connect_record,
}
"""By a key that gives it away: what opens an envelope, or says that it is none (None).

Raises ``Undecodable`` for one that cannot be opened, ``Skipped`` for one that holds no record of anything.
"""


def open_envelopes(record: dict[str, Any]) -> list[Held]:
    """What is in the envelope that a parsed record is; nothing if it is none.

    Raises:
        Undecodable: it cannot be opened.
        Skipped: it holds no record of anything.
    """
    for key, envelope in ENVELOPES.items():
        if key in record and (held := envelope(record)) is not None:
            if type(held) is not list:
                return [held]  # type: ignore[list-item]
            if not held:
                raise Skipped("blank")
            return held
    return []
