"""What was seen of late, within a bound on memory. What is kept is exact: a cache changes the time taken, nothing else."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Final

ENTRY_BYTES: Final = 320
"""What an entry takes besides its key, roughly: tuple, digest, dictionary slot."""


class Budget:
    """Bounds the memory of all its ``Recent`` together by keeping two generations of entries.

    New entries go to the young generation. When that holds half the budget it becomes the old one, and the old one is
    dropped; an entry found in the old generation moves to the young one. So what is used stays, at the cost of a
    dictionary look-up, and what is not goes after at most two turns.
    """

    __slots__ = ("half", "held", "members", "turns")

    def __init__(self, limit: int) -> None:
        self.half = limit // 2
        self.held = 0
        self.turns = 0
        self.members: list[Recent] = []

    def charge(self, size: int) -> None:
        """Account for ``size`` more bytes in the young generation."""
        self.held += size
        if self.held > self.half:
            self.held = 0
            self.turns += 1
            for member in self.members:
                member.old = member.young
                member.young = {}


class Recent:
    """Entries under a budget. ``young`` and ``old`` may be read directly where every nanosecond counts."""

    __slots__ = ("_budget", "old", "young")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.young: dict[Hashable, Any] = {}
        self.old: dict[Hashable, Any] = {}
        budget.members.append(self)

    def find(self, key: Hashable) -> Any:
        """The entry under ``key``, or ``None``. It is not moved: who uses it keeps it again, or its successor."""
        found = self.young.get(key)
        return self.old.get(key) if found is None else found

    def keep(self, key: Hashable, entry: Any, size: int) -> None:
        """Remember ``entry`` under ``key`` unless it is among the young; both together hold ``size`` bytes."""
        if key not in self.young:
            self._budget.charge(size + ENTRY_BYTES)
            self.young[key] = entry

    def put(self, key: Hashable, entry: Any, size: int, more: int) -> None:
        """Remember ``entry`` in the place of the one under ``key``, than which it holds ``more`` bytes."""
        self._budget.charge(more if key in self.young else size + ENTRY_BYTES)
        self.young[key] = entry
