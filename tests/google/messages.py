"""Pub/Sub, as its published interface describes it (google.pubsub.v1.Subscriber), with one subscription.

A message is handed out until it is acknowledged: again when its lease ends, when it is given back, and now and then for no reason.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1.types import (
    AcknowledgeRequest,
    GetSubscriptionRequest,
    ModifyAckDeadlineRequest,
    PubsubMessage,
    ReceivedMessage,
    StreamingPullRequest,
    StreamingPullResponse,
    Subscription,
)

from tests.google.serving import Faults, serving, streaming, unary

_RESPONSE = 100
"""Messages of one response, at most."""

SUBSCRIPTION = "projects/acme/subscriptions/llm-calls"


@dataclass
class _Kept:
    message: PubsubMessage
    leased_until: float = 0.0
    deliveries: int = 0
    acknowledged: bool = False


@dataclass
class PubSubService:
    """The subscription, and what is to go wrong. ``again``: the share of messages that are handed out once more than needed;
    ``acked`` is told how many messages are acknowledged, after each time that some are."""

    again: float = 0.0
    acked: Callable[[int], None] = lambda count: None
    faults: Faults = field(default_factory=Faults)
    port: int = 0
    cut: threading.Event = field(default_factory=threading.Event)
    deleted: bool = False
    may_look: bool = True
    streams: int = 0
    given_back: int = 0
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _random: random.Random = field(default_factory=lambda: random.Random(1))

    def publish(self, values: Sequence[bytes], **attributes: str) -> None:
        with self._lock:
            for value in values:
                number = str(9_000_000 + len(self._kept))
                message = PubsubMessage(data=value, message_id=number, publish_time=datetime.now(UTC), attributes=attributes)
                self._kept[number] = _Kept(message)

    @property
    def left(self) -> int:
        """Messages that are not acknowledged."""
        with self._lock:
            return sum(not kept.acknowledged for kept in self._kept.values())

    @property
    def deliveries(self) -> int:
        with self._lock:
            return sum(kept.deliveries for kept in self._kept.values())

    def _get(self, asked: GetSubscriptionRequest, context: grpc.ServicerContext) -> Subscription:
        self.faults.called("get", context)
        if not self.may_look:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "User not authorized to perform this action.")
        self._there(asked.subscription, context)
        return Subscription(name=asked.subscription, topic="projects/acme/topics/llm", ack_deadline_seconds=10)

    def _there(self, name: str, context: grpc.ServicerContext) -> None:
        if name != SUBSCRIPTION or self.deleted:
            context.abort(grpc.StatusCode.NOT_FOUND, f"Resource not found (resource={name.rpartition('/')[2]}).")

    def _pull(self, asked: Iterator[StreamingPullRequest], context: grpc.ServicerContext) -> Iterator[StreamingPullResponse]:
        first = next(asked)
        self.faults.called("pull", context)
        self._there(first.subscription, context)
        threading.Thread(target=self._hear, args=(asked,), daemon=True).start()
        self.cut.clear()
        self.streams += 1
        mine: set[str] = set()
        try:
            while context.is_active():
                self._there(first.subscription, context)
                if self.cut.is_set():
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the stream was cut")
                found = self._due(first.max_outstanding_messages, mine, first.stream_ack_deadline_seconds)
                if found:
                    yield StreamingPullResponse(received_messages=found)
                else:
                    time.sleep(0.02)
        finally:
            self.streams -= 1

    def _due(self, most: int, mine: set[str], lease_s: float) -> list[ReceivedMessage]:
        """Messages to hand out, as many as the stream may still hold."""
        now = time.monotonic()
        found = []
        with self._lock:
            mine -= {number for number in mine if self._kept[number].acknowledged}
            for number, kept in self._kept.items():
                if len(found) == _RESPONSE or len(mine) >= most:
                    break
                if not kept.acknowledged and kept.leased_until < now:
                    twice = kept.deliveries == 0 and self._random.random() < self.again
                    kept.leased_until = 0.0 if twice else now + lease_s
                    kept.deliveries += 1
                    mine.add(number)
                    found.append(ReceivedMessage(ack_id=f"{number}:{kept.deliveries}", message=kept.message, delivery_attempt=0))
        return found

    def _hear(self, asked: Iterator[StreamingPullRequest]) -> None:
        try:
            for request in asked:
                self._modify(request.modify_deadline_ack_ids, request.modify_deadline_seconds)
        except Exception:  # the stream has ended
            return

    def _acknowledge(self, asked: AcknowledgeRequest, context: grpc.ServicerContext) -> Empty:
        self.faults.called("ack", context)
        with self._lock:
            for ack in asked.ack_ids:
                self._kept[ack.partition(":")[0]].acknowledged = True
            count = sum(kept.acknowledged for kept in self._kept.values())
        self.acked(count)
        return Empty()

    def _extend(self, asked: ModifyAckDeadlineRequest, context: grpc.ServicerContext) -> Empty:
        self._modify(asked.ack_ids, [asked.ack_deadline_seconds] * len(asked.ack_ids))
        return Empty()

    def _modify(self, acks: Sequence[str], seconds: Sequence[int]) -> None:
        now = time.monotonic()
        with self._lock:
            for ack, more in zip(acks, seconds, strict=True):
                self._kept[ack.partition(":")[0]].leased_until = now + more if more else 0.0
                self.given_back += not more

    @contextmanager
    def running(self, port: int = 0) -> Iterator[PubSubService]:
        methods = {
            "GetSubscription": unary(self._get, GetSubscriptionRequest, Subscription.serialize),
            "StreamingPull": streaming(self._pull, StreamingPullRequest, StreamingPullResponse.serialize),
            "Acknowledge": unary(self._acknowledge, AcknowledgeRequest, Empty.SerializeToString),
            "ModifyAckDeadline": unary(self._extend, ModifyAckDeadlineRequest, Empty.SerializeToString),
        }
        with serving("google.pubsub.v1.Subscriber", methods, port=port) as self.port:
            yield self
