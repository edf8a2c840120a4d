"""A subscription of Pub/Sub as a feed: what was handed to this process is acknowledged when its rows are in the store."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pipelines.feeds import Feed, Standing
from pipelines.ledger import ledger_of, segment_ends
from pipelines.state import State
from sinks.clickhouse import Store
from sources.files import SourceError
from sources.held import Held, Shelf
from sources.pubsub import PubSubSettings, Subscription, hold, published

if TYPE_CHECKING:
    from google.cloud.pubsub_v1.subscriber.message import Message


class MessagesFeed(Feed):
    """The messages of a subscription. They have no end that could be read to."""

    def __init__(self, settings: PubSubSettings, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._settings = settings
        self._clock = clock
        self._shelf = Shelf(settings.source, settings.segment, clock)
        self._subscription: Subscription | None = None
        self._messages: Sequence[Message] = ()
        self._held: Held | None = None
        self._expected = 0.0

    def waiting(self, store: Store, state: State | None) -> tuple[Sequence[Held], int]:
        raise SourceError(f"{self._settings}: messages come without an end; follow them with --follow")

    def begin(self, store: Store, state: State) -> None:
        if self._subscription is None:
            self._subscription = Subscription(self._settings)
        rows = ledger_of(segment_ends(store, [self._settings.segment])).get(self._settings.segment, ())
        self._shelf.after(max((end for _, end in rows), default=0))

    def next(self, most: int) -> Sequence[Held]:
        if self._held is None:
            assert self._subscription is not None
            try:
                self._messages = self._subscription.take(most)
            except SourceError:
                self._subscription.close()
                self._subscription = None  # ``begin`` opens it again
                raise
            self._expected = min(map(published, self._messages), default=self._clock() * 1e6) / 1e6
            if self._messages:
                self._held = hold(self._messages, self._settings, self._shelf)
        return [self._held] if self._held else []

    def committed(self) -> None:
        if self._held is not None:
            for message in self._messages:
                message.ack()
            self._shelf.release(self._held)
            self._messages, self._held = (), None

    def standing(self) -> Standing:
        """Messages come in no order, so a moment that is quiet says little: late ones are late minutes."""
        behind = self._subscription is not None and self._subscription.waits > 0
        return Standing("1 subscription", None, self._expected, behind)

    def close(self) -> None:
        for message in self._messages:
            message.nack()
        if self._subscription is not None:
            self._subscription.close()
