"""What is known about texts seen before: their tokens, their keyed hash and their size.

Prompts repeat: system prompts, tool sets, and in agent traffic the whole history at every step.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from typing import Final, NamedTuple

from transforms.recent import Budget, Recent

DIGEST_BYTES: Final = 16
LONG_TEXT: Final = 32_768


class Entry(NamedTuple):
    """A text as counted: tokens, 16-byte keyed digest, UTF-8 length. ``items``: how many tools a tool set has."""

    tokens: int
    digest: bytes
    size: int
    items: int = 0


class Space(Recent):
    """The entries of one tokenizer and one hash key, under a shared budget.

    Texts of more than ``LONG_TEXT`` characters are not kept: their digest stands for them as the key, so that long
    unique texts cannot flush the cache. The digest is 128 bits wide and keyed. Keys of different meanings must differ
    in type or shape.
    """

    __slots__ = ("_count", "_key")

    def __init__(self, budget: Budget, count: Callable[[str], int], key: bytes) -> None:
        super().__init__(budget)
        self._count = count
        self._key = key

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

    def digest(self, data: bytes) -> bytes:
        """The keyed 16-byte digest of ``data``."""
        return hashlib.blake2b(data, digest_size=DIGEST_BYTES, key=self._key).digest()

    def together(self, digests: list[bytes]) -> bytes:
        """One digest for several texts in order: of one its own, of none ``b""``."""
        if len(digests) < 2:
            return digests[0] if digests else b""
        return hashlib.blake2b(b"".join(digests), digest_size=DIGEST_BYTES, key=self._key, person=b"list").digest()


def bits(digest: bytes) -> int:
    """The 64 bits of a digest that are stored; 0 for no text."""
    return int.from_bytes(digest[:8], "big")


def utf8(text: str) -> bytes:
    """UTF-8 of any ``str``: a lone surrogate becomes the three bytes it would have."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
