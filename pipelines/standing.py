"""Whether what was read of a file or an object still is what is there, and what of it is left."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from pipelines.ledger import Ends
from sources.files import Split, Version

_TAIL: Final = 4096
WHOLE: Final = b" whole"
"""Stands behind the tag of a version that one split read to its end."""


class Done(NamedTuple):
    """A range that was read, with size and time of the file then, or of the object's version.

    ``tail``: a hash of the last bytes before ``stop``; of an object its version's tag; empty where neither can be known.
    """

    start: int
    stop: int
    size: int
    changed: int
    tail: bytes


def stands(done: Done, split: Split, ends: Ends) -> bool:
    """Whether what was read is in the store, and still is what the file begins with."""
    if not in_ledger(done, split.path, split.segment, ends):
        return False
    if split.version is not None:
        return is_version(done, split.version)
    stat = os.stat(split.path)
    if (stat.st_size, stat.st_mtime_ns) == (done.size, done.changed):
        return True
    return split.kind == "text" and stat.st_size >= done.stop and done.tail != b"" and tail_of(split, done.stop) == done.tail


def marks(split: Split) -> tuple[int, int, bytes]:
    """Which version of an object was read, and whether by one split: what of an archive is missing no position would tell."""
    assert split.version is not None
    return split.version.size, split.version.changed, split.version.tag.encode() + (WHOLE if split.end is None else b"")


def is_version(done: Done, version: Version) -> bool:
    """Whether it is this version that was read."""
    return (done.size, done.changed, done.tail.removesuffix(WHOLE)) == (version.size, version.changed, version.tag.encode())


def in_ledger(done: Done, path: str, segment: bytes, ends: Ends) -> bool:
    """Whether the store's ledger has it, too."""
    known = ends.get((path, segment, done.start))
    return known is not None and known.end >= done.stop


def rest_of(split: Split, done: Sequence[Done]) -> Split | None:
    """What of a split no range of ``done`` covers; nothing but plain files can be read from the middle."""
    if split.kind != "text":
        return None if any(one.start == split.start for one in done) else split
    end = split.end
    if end is None:
        end = split.version.size if split.version is not None else os.stat(split.path).st_size
    start = split.start
    for one in done:
        if one.start <= start < one.stop:
            start = one.stop
    if start >= end:
        return None
    return replace(split, start=start, size=end - start, expected=end - start) if start != split.start else split


def tail_of(split: Split, stop: int) -> bytes:
    """Hash of the last bytes before ``stop``, by which a file that grew is told from one that was rewritten."""
    if split.kind != "text" or not stop:
        return b""
    with open(split.path, "rb") as file:
        file.seek(max(0, stop - _TAIL))
        return hashlib.sha256(file.read(min(stop, _TAIL))).digest()


def ends_lines(path: str, stop: int) -> bool:
    """Whether the last line that was read as one ends with a line break; else it may have been the half of one."""
    with open(path, "rb") as file:
        file.seek(stop - 1)
        while block := file.read(1 << 20):
            if b"\n" in block:
                return True
    return False
