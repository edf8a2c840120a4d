"""Stores of objects, as they are seen here: keys are listed, ranges of one version of an object are fetched.

The clients are those of the vendors. Beam's file systems list neither entity tags nor generations, and fetch ranges of
whatever an object holds at that moment; and workers, which read, do without Beam.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import cache
from typing import IO, Final, NamedTuple, Protocol, cast

from sources.files.splits import Version
from sources.objects.addresses import PATIENCE_S, parse

_BLOCK: Final = 4 << 20


class Object(NamedTuple):
    """One object: its address, and which version of it was listed."""

    path: str
    version: Version


class ObjectStore(Protocol):
    """What is asked of a store. Everything that fails in passing is tried again by its client, for some time."""

    def objects(self, bucket: str, prefix: str) -> Iterator[tuple[str, Version]]:
        """Keys that begin with ``prefix`` and their versions, in order of the keys, page by page.

        Raises:
            SourceError: no such bucket, no right to list it, or it does not answer.
        """

    def fetch(self, bucket: str, key: str, version: Version, start: int, end: int) -> bytes:
        """The bytes ``[start, end)`` of this version and no other.

        Raises:
            Replaced: the key holds another version now.
            Gone: there is no such object any more.
            SourceError: no right to read it, it must be restored first, or the store does not answer.
        """


@cache
def store_of(scheme: str, patience_s: float) -> ObjectStore:
    """The client of this process for a scheme, which tries again for about ``patience_s`` seconds.

    Raises:
        SourceError: the extra with the client is not installed, or there are no credentials.
    """
    if scheme == "s3":
        from sources.objects.s3 import S3

        return S3(patience_s)
    from sources.objects.gcs import Gcs

    return Gcs(patience_s)


def open_version(path: str, version: Version, block: int = _BLOCK) -> IO[bytes]:
    """An object as a file: read in ranges of ``block`` bytes, each of this very version; ``read`` raises as ``fetch`` does."""
    address = parse(path)
    store = store_of(address.scheme, PATIENCE_S)

    def fetch(start: int, end: int) -> bytes:
        return store.fetch(address.bucket, address.key, version, start, end)

    return cast("IO[bytes]", io.BufferedReader(_Ranges(fetch, version.size, block)))


class _Ranges(io.RawIOBase):
    """A file of ``size`` bytes, fetched ``block`` by block; the last one is kept."""

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, block: int) -> None:
        super().__init__()
        self._fetch = fetch
        self._size = size
        self._block = block
        self._at = 0
        self._kept = b""
        self._kept_from = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._at >= self._size:
            return 0
        if not self._kept_from <= self._at < self._kept_from + len(self._kept):
            self._kept = self._fetch(self._at, min(self._at + self._block, self._size))
            self._kept_from = self._at
        start = self._at - self._kept_from
        data = self._kept[start : start + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)
