"""A topic that results are also sent to: dead letters, and whatever else is told to other programs.

At least once: what ``flush`` returned for is acknowledged by all replicas in sync. The producer is idempotent, so its own retries
write nothing twice; what is sent again after a crash is there twice, under the same key. Keys are deterministic: a consumer that
knows a key has seen the message.

A topic that cannot be written to holds up who writes to it. Nothing is dropped, and nothing waits for longer than ``patience_s``
without an error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from kafka import KafkaProducer
    from kafka.producer.future import FutureRecordMetadata

_LOG: Final = logging.getLogger(__name__)

SAY_S: Final = 10.0
"""How often a line says that a topic is waited for."""

_MAY_NOT: Final = "not allowed: this user may not write to the topic"
_TOO_LONG: Final = "a message is longer than the topic takes; raise its max.message.bytes"
_CLOSE_S: Final = 1.0
_GRACE_S: Final = 5.0  # the client itself gives up after the patience; this is for a client that does not


class OutletError(Exception):
    """The topic refuses what is sent, or is not there; the message is one line for a person."""


class OutletUnavailable(OutletError):
    """The topic does not answer: it may be there again without anybody changing the job."""


class Message(NamedTuple):
    """What is sent. ``smaller`` is sent for ``value`` where the topic takes no message about as long; empty: nothing is."""

    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...] = ()
    smaller: bytes = b""


@dataclass(frozen=True)
class OutletSettings:
    """Which topic, and how to reach it. It is sent to workers, so secrets are none of it.

    ``client`` gives what every client of kafka-python is told, passwords included, from the environment of its process;
    ``explain`` turns an error of a client into one line for a person.
    """

    name: str  # as a person knows it, brokers included
    topic: str
    client: Callable[[], Mapping[str, Any]]
    explain: Callable[[Exception], str]
    patience_s: float = 60.0

    def check(self) -> str:
        """Ask the brokers whether the topic is there and may be written to; one line of what was found. Nothing is written.

        Raises:
            OutletUnavailable: the brokers do not answer, or do not let this user in.
            OutletError: there is no such topic, or this user may not write to it.
        """
        from kafka import KafkaAdminClient, errors

        try:
            admin = KafkaAdminClient(**self.client())
            try:
                (found,) = admin.describe_topics([self.topic])
            finally:
                admin.close()
        except Exception as error:  # the client raises anything
            raise self._failed(error) from error
        code = found["error_code"]
        if code == errors.UnknownTopicOrPartitionError.errno:
            raise OutletError(f"{self.name}: no such topic; make it, or name another")
        if code:
            raise self._failed(errors.for_code(code)(self.topic))
        allowed = found.get("authorized_operations") or ()  # brokers before 2.3 do not say
        if allowed and not {"WRITE", "ALL"} & set(allowed):
            raise OutletError(f"{self.name}: {_MAY_NOT}")
        return f"{self.name}: {len(found['partitions']):,} partitions"

    def _failed(self, error: Exception) -> OutletError:
        """What to raise for an error of a client: something else where waiting may help."""
        from kafka import errors

        if isinstance(error, OutletError):
            return error
        if isinstance(error, errors.MessageSizeTooLargeError):
            return OutletError(f"{self.name}: {_TOO_LONG}")
        if "AuthorizationFailed" in str(error):  # also where the client wraps it in an error that says nothing
            return OutletError(f"{self.name}: {_MAY_NOT}")
        # Not only errors that the client calls retriable: a broker that lost what it knew of a producer takes a new one.
        passes = isinstance(error, errors.KafkaError | OSError) and not isinstance(
            error,
            errors.InvalidTopicError | errors.UnsupportedVersionError | errors.KafkaConfigurationError,
        )
        return (OutletUnavailable if passes else OutletError)(self.explain(error))


class Outlet:
    """Sends to one topic. It connects with the first message. Not thread-safe."""

    def __init__(self, settings: OutletSettings) -> None:
        self._settings = settings
        self._producer: KafkaProducer | None = None
        self._sent: list[tuple[Message, FutureRecordMetadata]] = []
        self._most = 1 << 62  # a longer value may be refused

    def send(self, messages: Sequence[Message]) -> None:
        """Hand messages to the producer. They are there only after ``flush``.

        Raises:
            OutletError: as ``flush`` does. What was handed over since the last ``flush`` must be sent again.
        """
        if messages:
            self._guarded(lambda: self._sent.extend((message, self._hand_over(message)) for message in messages))

    def flush(self) -> None:
        """Wait until everything that was sent is acknowledged.

        Raises:
            OutletUnavailable: the brokers do not answer within the patience, or not enough of them are in sync.
            OutletError: the topic refuses a message. Of what was sent since the last ``flush``, anything may be there or not.
        """
        if self._sent:
            self._guarded(self._wait)

    def close(self) -> None:
        """Let go of the connection; what was sent without ``flush`` is given up."""
        self._sent = []
        self._let_go()

    def _let_go(self) -> None:
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            producer.close(timeout=_CLOSE_S)
        except Exception:  # not all was acknowledged: the thread would go on trying
            with suppress(Exception):
                producer._sender.force_close()

    def _guarded(self, do: Callable[[], None]) -> None:
        """Errors become ours. After one the producer is made anew, since some of its errors never end."""
        try:
            do()
        except Exception as error:
            failed = self._settings._failed(error)
            self.close()
            raise failed from error

    def _hand_over(self, message: Message) -> FutureRecordMetadata:
        self._producer = self._producer or self._connected()
        return self._producer.send(self._settings.topic, self._value(message), message.key, list(message.headers))

    def _value(self, message: Message) -> bytes:
        """What is sent of a message, by what is known of the topic."""
        return message.smaller if message.smaller and len(message.value) > self._most else message.value

    def _connected(self) -> KafkaProducer:
        from kafka import KafkaProducer

        patience_ms = int(self._settings.patience_s * 1000)
        return KafkaProducer(
            **{
                **self._settings.client(),
                "enable_idempotence": True,
                "acks": "all",
                "allow_auto_create_topics": False,
                "linger_ms": 5,
                "max_request_size": 64 << 20,  # what is too long is for the topic to say
                "max_block_ms": patience_ms,
                "delivery_timeout_ms": patience_ms,
                "request_timeout_ms": min(30_000, max(500, patience_ms // 2)),
                "reconnect_backoff_max_ms": 1_000,
                "metrics_enabled": False,
            }
        )

    def _wait(self) -> None:
        while refused := self._too_long(self._sent):
            # One of them is too long, and the producer has failed all that were with it: it takes nothing more after that.
            self._let_go()
            longest = refused.pop(max(range(len(refused)), key=lambda at: len(self._value(refused[at]))))
            if self._too_long([(longest, self._hand_over(longest))]):
                self._let_go()
                value = self._value(longest)
                if value is not longest.value or not longest.smaller:
                    raise OutletError(f"{self._settings.name}: {_TOO_LONG}")
                self._most = len(value) // 2  # so that few tries find what the topic takes
                refused.append(longest)
            self._sent = [(message, self._hand_over(message)) for message in refused]
        self._sent = []

    def _too_long(self, sent: Sequence[tuple[Message, FutureRecordMetadata]]) -> list[Message]:
        """Wait for messages; those that failed because one of them is longer than the topic takes."""
        from kafka import errors

        until = time.monotonic() + self._settings.patience_s + _GRACE_S
        refused = []
        for message, future in sent:
            try:
                self._acknowledged(future, until)
            except errors.MessageSizeTooLargeError:
                refused.append(message)
        return refused

    def _acknowledged(self, future: FutureRecordMetadata, until: float) -> None:
        from kafka import errors

        while not future.is_done:
            left = until - time.monotonic()
            try:
                future.get(timeout=max(0.0, min(left, SAY_S)))
            except errors.KafkaTimeoutError:
                if future.is_done or left <= 0:
                    raise
                _LOG.warning("%s: not acknowledged yet; waiting for up to %.0f s more", self._settings.name, left)
        future.get(timeout=0)
