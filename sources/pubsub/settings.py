"""Which subscription, and how much of it to hold."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from sources.files import SourceError

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
