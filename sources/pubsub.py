"""Pub/Sub as a source: messages of one subscription, acknowledged when their rows are in the store.

The client holds the leases of what it was given and extends them; a process that dies loses them, and the service hands the
messages out again, perhaps to another. Such a message is the same call, by its id. Nothing tells how many messages wait.
"""

from __future__ import annotations

import hashlib
import queue
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from schemas.batch import RawBatch, pubsub_id
from sources import held
from sources.files import SourceError, too_large
from sources.google import explained, missing
from sources.held import Held, Shelf

if TYPE_CHECKING:
    from google.cloud.pubsub_v1.subscriber.message import Message

SCHEME: Final = "pubsub://"
_NAME: Final = re.compile(r"projects/[^/]+/subscriptions/[^/]+")


@dataclass(frozen=True)
class PubSubSettings:
    """Which ``subscription``, and how much of it this process may hold that is not acknowledged.

    ``patience_s``: how long it may take to open it. Credentials are the application's default ones.
    """

    subscription: str
    max_messages: int = 20_000
    max_bytes: int = 256 << 20
    max_record_bytes: int = 16 << 20
    batch_records: int = 1000
    batch_bytes: int = 8 << 20
    patience_s: float = 60.0

    def __str__(self) -> str:
        return SCHEME + self.subscription

    @property
    def source(self) -> str:
        """How it is named in every table."""
        return f"pubsub:{self.subscription}"

    @property
    def segment(self) -> bytes:
        return hashlib.blake2b(self.subscription.encode(), digest_size=16, person=b"pubsub").digest()


def is_address(text: str) -> bool:
    """Whether an input names a subscription."""
    return text.startswith(SCHEME)


def parse(text: str) -> str:
    """The subscription of ``pubsub://projects/P/subscriptions/S``.

    Raises:
        SourceError: it names none.
    """
    name = text.removeprefix(SCHEME).strip("/")
    if not _NAME.fullmatch(name):
        raise SourceError(f"{text}: name a subscription, for example {SCHEME}projects/my-project/subscriptions/llm-calls")
    return name


def read(piece: Held, settings: PubSubSettings) -> Iterator[RawBatch]:
    """The batches of messages that this process holds."""
    return held.read(piece)


class Subscription:
    """A stream of messages that is open from the start, held by this process until they are acknowledged.

    Raises:
        SourceError: the library is not installed, there are no credentials; or the subscription is not there, or not for us.
    """

    def __init__(self, settings: PubSubSettings) -> None:
        self._settings = settings
        self._messages: queue.Queue[Message] = queue.Queue()
        self._client = _client(settings)
        try:
            _refuse(self._client, settings)
        except SourceError:
            self._client.close()
            raise
        from google.cloud.pubsub_v1.types import FlowControl

        room = FlowControl(max_messages=settings.max_messages, max_bytes=settings.max_bytes)
        self._pull = self._client.subscribe(settings.subscription, callback=self._messages.put, flow_control=room)

    def take(self, most: int) -> list[Message]:
        """Up to ``most`` messages that came in meanwhile.

        Raises:
            SourceError: the stream has ended: the subscription was deleted, or is not for us any more.
        """
        found: list[Message] = []
        with suppress(queue.Empty):
            while len(found) < most:
                found.append(self._messages.get_nowait())
        if not found and self._pull.done():
            error = self._pull.exception()
            raise explained(error, str(self._settings)) if error else SourceError(f"{self._settings}: the stream has ended")
        return found

    @property
    def waits(self) -> int:
        """Messages that are here and were not taken."""
        return self._messages.qsize()

    def close(self) -> None:
        """Give back what was not acknowledged, and hang up: what was, the service is told before."""
        with suppress(queue.Empty):
            while True:
                self._messages.get_nowait().nack()
        self._pull.cancel()
        with suppress(Exception):
            self._pull.result(timeout=10)
        self._client.close()


def hold(messages: Sequence[Message], settings: PubSubSettings, shelf: Shelf) -> Held:
    """Hold messages as batches of records."""
    return shelf.hold(lambda start: batches(messages, settings, start))


def batches(messages: Sequence[Message], settings: PubSubSettings, start: int) -> list[RawBatch]:
    """Messages as batches, at positions from ``start`` on. Their time is that of their publication."""
    found = [RawBatch(settings.source, settings.segment, settings.segment, 0)]
    for position, message in enumerate(messages, start):
        batch = found[-1]
        if batch.bytes_read > settings.batch_bytes or len(batch.positions) >= settings.batch_records:
            found.append(batch := RawBatch(settings.source, settings.segment, settings.segment, 0))
        time_ = published(message)
        batch.bytes_read += len(message.data)
        batch.default_time = min(batch.default_time or time_, time_)
        if len(message.data) > settings.max_record_bytes:
            batch.rejects.append(too_large(message.data, position, settings.max_record_bytes))
            continue
        batch.records.append(message.data)
        batch.positions.append(position)
        batch.times.append(time_)
        batch.ids.append(pubsub_id(message.message_id))
        batch.headers.append({str(name).lower(): str(value) for name, value in message.attributes.items()})
    return found


def published(message: Message) -> int:
    """When a message was published, in UTC microseconds."""
    moment = message.publish_time
    return int(moment.timestamp() * 1_000_000) if moment is not None else time.time_ns() // 1000


def _client(settings: PubSubSettings) -> Any:
    try:
        from google.cloud.pubsub_v1 import SubscriberClient
    except ImportError as error:
        raise missing(str(settings)) from error
    try:
        return SubscriberClient()
    except Exception as error:
        raise explained(error, str(settings)) from error


def probe(settings: PubSubSettings) -> None:
    """Ask for the subscription, without taking a message.

    Raises:
        SourceError: it is not there, or the service does not answer.
    """
    client = _client(settings)
    try:
        _refuse(client, settings)
    finally:
        client.close()


def _refuse(client: Any, settings: PubSubSettings) -> None:
    """A stream says only after a while, or never, why it brings nothing."""
    from google.api_core.exceptions import Forbidden, ServiceUnavailable
    from google.api_core.retry import Retry, if_exception_type

    most = settings.patience_s
    waits = Retry(predicate=if_exception_type(ServiceUnavailable), initial=0.5, maximum=10.0, timeout=most)
    try:
        client.get_subscription(subscription=settings.subscription, retry=waits, timeout=most)
    except Forbidden:
        pass  # whoever may read a subscription need not be allowed to look at it
    except Exception as error:
        raise explained(error, str(settings)) from error
