"""Bytes that must be kept for a while and that nobody should read: pieces of records hold text, and perhaps keys."""

from __future__ import annotations

import hashlib
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

SEAL_BYTES: Final = 16
"""How much longer bytes become."""


class SealError(Exception):
    """Sealed with another key, or changed since."""


class Seal:
    """Seals with a key made of the hash key, AES-256 in SIV mode (RFC 5297).

    Equal bytes are sealed alike, so that what is written again is the same row. ``whose`` is whom they belong to: they cannot be
    opened as another's.
    """

    def __init__(self, hash_key: bytes) -> None:
        self._cipher = AESSIV(hashlib.blake2b(hash_key, digest_size=64, person=b"seal").digest())

    def close(self, data: bytes, whose: bytes) -> bytes:
        """The bytes, sealed: ``SEAL_BYTES`` more than they were; none stay none."""
        return self._cipher.encrypt(data, [whose]) if data else b""

    def open(self, sealed: bytes, whose: bytes) -> bytes:
        """The bytes as they were.

        Raises:
            SealError: they are not whole, or of another key or owner.
        """
        try:
            return self._cipher.decrypt(sealed, [whose]) if sealed else b""
        except InvalidTag:
            raise SealError from None
