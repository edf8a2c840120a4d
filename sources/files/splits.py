"""What is planned of a file, how much of it is taken in, and what goes wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

SUFFIXES: Final = (".jsonl", ".ndjson", ".log", ".gz", ".zst", ".parquet")
"""What a folder is searched for. A file named outright is read whatever its name."""


class SourceError(Exception):
    """An input that is missing, unreadable or not what its name says; the message is one line for a person."""


class Refused(SourceError):
    """One object cannot be read as it is; others of its store can."""


class Replaced(Exception):
    """An object holds another version than the one that is being read."""


class Gone(Exception):
    """An object is no longer in its store."""


class Version(NamedTuple):
    """Which version of an object of a store: its mark there, its size in bytes, when it was written (UTC microseconds)."""

    tag: str
    size: int
    changed: int


@dataclass(frozen=True)
class FileLimits:
    """How much of a hostile file is taken in.

    A record longer than ``max_record_bytes`` is a dead letter and never held in memory. A compressed file that has
    grown past 1 GiB and more than ``max_expansion`` times its size is cut there, with a dead letter that says so.
    """

    max_record_bytes: int = 16 * 1024 * 1024
    max_expansion: int = 500
    batch_records: int = 1000
    batch_bytes: int = 8 * 1024 * 1024
    split_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True)
class Split:
    """A part of one file that one worker reads: ``[start, end)`` in bytes of a plain file, else the whole of it.

    ``segment`` is the fingerprint of the first 64 KiB of the decompressed content; ``origin`` that of its first
    record. ``default_time`` in UTC microseconds. ``size`` is the number of bytes on disk that the split covers, ``expected``
    the decompressed bytes it seems to hold; only progress depends on it. A file that is followed as it grows carries on the
    ledger's range that begins at ``first``, with its ``records`` and ``bytes`` up to ``start``.

    Of an object of a store, ``path`` is the address, ``version`` the one that is read; ``segment`` covers its size, too.
    """

    path: str
    kind: str  # text | gzip | zstd | parquet
    start: int
    end: int | None
    segment: bytes
    origin: bytes
    default_time: int
    size: int
    expected: int
    first: int | None = None
    records: int = 0
    bytes: int = 0
    version: Version | None = None

    @property
    def row(self) -> int:
        """Where the ledger's range begins that this split is part of."""
        return self.start if self.first is None else self.first


def why(error: Exception) -> str:
    """The error in one line, without the path."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error).splitlines()[0]
