"""What a run reads, and goes on reading: one module for each kind of source, behind one interface.

A feed lives in the process that drives a local run. It plans pieces, which a step of the pipeline reads; what was read it
remembers in the state, and tells its source only after the rows are in the store.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from pipelines.ledger import reached, segment_ends
from pipelines.state import State
from sinks.clickhouse import Store
from sources.pieces import Piece
from sources.ranges import Position


@dataclass(frozen=True)
class Standing:
    """How a feed stands: its ``parts`` (as ``4 partitions``), and the records that wait in it (``lag``; None where nobody knows).

    ``expected``: event time (UTC seconds) of the oldest record still to come, as its source tells time; None before the first.
    ``behind``: more waits than the last pieces held.
    """

    parts: str = ""
    lag: int | None = 0
    expected: float | None = None
    behind: bool = False


class Feed(ABC):
    """A source that is read to what it holds now (``waiting``), or followed (all the others, in this order)."""

    def __init__(self) -> None:
        self._news: list[str] = []

    @abstractmethod
    def waiting(self, store: Store, state: State | None) -> tuple[Sequence[Piece], int]:
        """Everything there is now that was not read, and how many of its parts have nothing new.

        Raises:
            sources.files.SourceError: it is not there, cannot be reached or refuses.
        """

    def replaced(self, store: Store, state: State) -> Sequence[Piece]:
        """After ``waiting`` was read: what was replaced by something else meanwhile, and is to be read now."""
        return ()

    @abstractmethod
    def begin(self, store: Store, state: State) -> None:
        """Find out where to go on, by what state and store agree on, and record it where it is new. Called again after an
        epoch that failed.

        Raises:
            sources.files.SourceError: as ``waiting``.
        """

    @abstractmethod
    def next(self, most: int) -> Sequence[Piece]:
        """Pieces of the next epoch, with about ``most`` records; none if nothing waits.

        Raises:
            sources.files.SourceError: it does not answer.
        """

    @abstractmethod
    def committed(self) -> None:
        """The rows of the last pieces are in the store, and the state knows it: acknowledge, as far as the source wants it."""

    @abstractmethod
    def standing(self) -> Standing:
        """How it stands after the last pieces."""

    def news(self) -> Sequence[str]:
        """Lines for a person, each once."""
        said, self._news[:] = list(self._news), []
        return said

    def close(self) -> None:  # noqa: B027  (most hold nothing open)
        """Hang up."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def positions_of(state: State, store: Store) -> dict[bytes, Position]:
    """How far segments were read, by the state, as far as the store's ledger bears it out: one restored from a backup has
    less."""
    positions = state.positions()
    ends = reached(segment_ends(store, positions))
    for segment, known in positions.items():
        at = ends.get(segment, known.first)
        if known.records and at < known.next:
            positions[segment] = replace(known, next=at, first=at, records=0, bytes=0)
    return positions
