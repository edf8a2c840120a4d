"""Which entries this process has brought into the store already: a second look, or a sweep after the tail, leaves them out."""

from __future__ import annotations

from typing import Final

Window = tuple[bytes, int]
"""A segment, and the position at which a piece of it starts."""


class Seen:
    """Hashes of entries (``entries.identity``). Without them entries would only be read twice: they count once in any case."""

    def __init__(self) -> None:
        self._reading: dict[Window, set[int]] = {}
        self._kept: dict[Window, tuple[int, set[int]]] = {}

    def begin(self, segment: bytes, start: int) -> tuple[set[int], set[int]]:
        """A piece is read: the entries that are known, and a set, empty yet, of those that it holds."""
        fresh = self._reading[segment, start] = set()
        return set[int]().union(*(marks for _, marks in self._kept.values())), fresh

    def keep(self, segment: bytes, start: int, end: int) -> None:
        """The rows of a piece, none of whose entries was received after ``end`` (UTC microseconds), are in the store."""
        marks = self._reading.pop((segment, start), None)
        if marks:
            self._kept[segment, start] = end, marks

    def forget(self, before: int) -> None:
        """No entry that was received before this time is read again."""
        self._kept = {window: kept for window, kept in self._kept.items() if kept[0] > before}

    def clear(self) -> None:
        self._reading.clear()
        self._kept.clear()


SEEN: Final = Seen()
