"""What every source has in common: it plans pieces, each of which one worker reads in one go. A part of a file is one, a range
of offsets is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from schemas.batch import RawBatch


class Piece(Protocol):
    """What every source plans: which segment of which ``path`` (as tables name it), and a guess of its bytes."""

    @property
    def path(self) -> str: ...
    @property
    def segment(self) -> bytes: ...
    @property
    def start(self) -> int: ...
    @property
    def expected(self) -> int: ...


Reader = Callable[[Any], Iterator[RawBatch]]
"""Reads a piece of its source: batches in order, the last one with the ``SegmentEnd``. Can be pickled."""
