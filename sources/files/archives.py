"""Archives: which kind one is, by its content, and what is in it, decompressed."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import IO, Final, cast

from backports import zstd

HEAD: Final = 64 * 1024
"""Bytes of the decompressed content that a file is known by."""

BROKEN: Final = (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError)


def kind_of(magic: bytes) -> str:
    """``gzip``, ``zstd``, ``parquet`` or ``text``, by the first four bytes."""
    if magic[:2] == b"\x1f\x8b":
        return "gzip"
    if magic == b"\x28\xb5\x2f\xfd":
        return "zstd"
    return "parquet" if magic == b"PAR1" else "text"


def unpacked(file: str | Path | IO[bytes], kind: str) -> IO[bytes]:
    """A file as a stream of its decompressed content."""
    if kind == "gzip":
        return cast("IO[bytes]", gzip.open(file, "rb"))
    if kind == "zstd":
        return cast("IO[bytes]", zstd.open(file, "rb"))
    return open(file, "rb", buffering=0) if isinstance(file, str | Path) else file


def text_head(file: str | Path | IO[bytes], kind: str) -> bytes:
    """The first 64 KiB of the decompressed content, or what there is of them."""
    head = b""
    with unpacked(file, kind) as stream:
        try:
            while len(head) < HEAD and (block := some(stream, HEAD - len(head))):
                head += block
        except BROKEN:
            pass  # the reader reports it, at its position
    return head


def some(file: IO[bytes], size: int) -> bytes:
    """At most ``size`` bytes, as soon as there are any: ``read`` would drop what precedes a break in an archive."""
    data: bytes = file.read1(size) if hasattr(file, "read1") else file.read(size)
    return data
