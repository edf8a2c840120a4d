"""The lines that ``make bench`` prints."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """One measured figure. ``must`` and ``goal``: what it has to reach and what it should; None where neither is set.

    Where ``at_most`` is true, smaller is better.
    """

    name: str
    value: float
    unit: str
    against: str
    must: float | None = None
    goal: float | None = None
    at_most: bool = False

    @property
    def reached(self) -> str:
        for mark, bound in (("goal", self.goal), ("must", self.must)):
            if bound is not None and (self.value <= bound if self.at_most else self.value >= bound):
                return mark
        return "" if self.must is None else "MISSED"

    def line(self) -> str:
        """name, value, unit, must, goal, what was reached, measured against what; separated by tabs."""
        sign = "<= " if self.at_most else ">= "
        bounds = [f"{sign}{bound:g}" if bound is not None else "-" for bound in (self.must, self.goal)]
        value = f"{self.value:,.0f}" if abs(self.value) >= 100 else f"{self.value:.{max(0, 2 - _magnitude(self.value))}f}"
        return "\t".join([self.name, value, self.unit, *bounds, self.reached or "-", self.against])


def _magnitude(value: float) -> int:
    return math.floor(math.log10(abs(value))) if value else 0


HEADER = "\t".join(["name", "value", "unit", "must", "goal", "reached", "measured against"])
