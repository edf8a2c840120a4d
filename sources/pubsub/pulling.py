"""A stream of messages, held by this process until they are acknowledged."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from schemas.batch import RawBatch
from sources import held
from sources.files import SourceError
from sources.google import explained, missing
from sources.held import Held, Shelf
from sources.pubsub.messages import batches
from sources.pubsub.settings import PubSubSettings

if TYPE_CHECKING:
    from google.cloud.pubsub_v1.subscriber.message import Message


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
