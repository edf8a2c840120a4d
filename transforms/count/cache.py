"""What is known about texts seen before: their tokens, their keyed hash and their size.

Prompts repeat: system prompts, tool sets, and in agent traffic the whole history at every step. An entry is exact, so
a cache changes the time that counting takes and nothing else.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple

DIGEST_BYTES: Final = 16
LONG_TEXT: Final = 32_768
ENTRY_BYTES: Final = 320
"""What an entry takes besides its key, roughly: tuple, digest, dictionary slot."""


class Entry(NamedTuple):
    """A text as counted: tokens, 16-byte keyed digest, UTF-8 length. ``items``: how many tools a tool set has."""

    tokens: int
    digest: bytes
    size: int
    items: int = 0


class Budget:
    """Bounds the memory of all spaces together by keeping two generations of entries.

    New entries go to the young generation. When that holds half the budget it becomes the old one, and the old one is
    dropped; an entry found in the old generation moves to the young one. So what is used stays, at the cost of a
    dictionary look-up, and what is not goes after at most two turns.
    """

    __slots__ = ("half", "held", "spaces", "turns")

    def __init__(self, limit: int) -> None:
        self.half = limit // 2
        self.held = 0
        self.turns = 0
        self.spaces: list[Space] = []

    def charge(self, size: int) -> None:
        """Account for a new entry of ``size`` bytes in the young generation."""
        self.held += size
        if self.held > self.half:
            self.held = 0
            self.turns += 1
            for space in self.spaces:
                space.old = space.young
                space.young = {}


class Space:
    """The entries of one tokenizer and one hash key, under a shared budget.

    Texts of more than ``LONG_TEXT`` characters are not kept: their digest stands for them as the key, so that long
    unique texts cannot flush the cache. The digest is 128 bits wide and keyed. Keys of different meanings must differ
    in type or shape.
    """

    __slots__ = ("_budget", "_count", "_key", "old", "young")

    def __init__(self, budget: Budget, count: Callable[[str], int], key: bytes) -> None:
        self._budget = budget
        self._count = count
        self._key = key
        self.young: dict[Hashable, Any] = {}
        self.old: dict[Hashable, Any] = {}
        budget.spaces.append(self)

    def text(self, text: str) -> Entry:
        """The entry of ``text``, remembered."""
        found: Entry | None = self.young.get(text)
        if found is not None:
            return found
        if len(text) > LONG_TEXT:
            return self.once(text)
        found = self.old.get(text)
        if found is None:
            found = self.once(text)
        self.keep(text, found, sys.getsizeof(text))
        return found

    def once(self, text: str) -> Entry:
        """The entry of ``text``, remembered only by its digest, and only if it is long."""
        data = utf8(text)
        digest = self.digest(data)
        if len(text) <= LONG_TEXT:
            return Entry(self._count(text), digest, len(data))
        found: Entry | None = self.young.get(digest) or self.old.get(digest)
        if found is None:
            found = Entry(self._count(text), digest, len(data))
        self.keep(digest, found, len(digest))
        return found

    def keep(self, key: Hashable, entry: Any, size: int) -> None:
        """Remember ``entry`` under ``key``, which holds ``size`` bytes."""
        if key not in self.young:
            self._budget.charge(size + ENTRY_BYTES)
            self.young[key] = entry

    def digest(self, data: bytes) -> bytes:
        """The keyed 16-byte digest of ``data``."""
        return hashlib.blake2b(data, digest_size=DIGEST_BYTES, key=self._key).digest()

    def together(self, digests: list[bytes]) -> bytes:
        """One digest for several texts in order: of one its own, of none ``b""``."""
        if len(digests) < 2:
            return digests[0] if digests else b""
        return hashlib.blake2b(b"".join(digests), digest_size=DIGEST_BYTES, key=self._key, person=b"list").digest()


def utf8(text: str) -> bytes:
    """UTF-8 of any ``str``: a lone surrogate becomes the three bytes it would have."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
