"""Ownership rules: which calls each means, and who owns them, either once or as a history of periods. ``files`` reads them.

Periods are half-open in UTC at event time; those of one rule follow each other without gap or overlap.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from schemas.tables import RECORDED

EVER: Final = -(2**62)
FOREVER: Final = 2**62
"""Start and end of a period that names none, in UTC microseconds: earlier and later than any event."""


@dataclass(frozen=True)
class Condition:
    """``field`` has one of ``values``: exact, or with ``*`` for any text. Case does not matter.

    ``field`` is a column of ``calls`` (``recorded_team`` for what the record says of its team), ``tags.NAME`` or
    ``headers.NAME``. The empty value means that the record says nothing, and only itself matches it.
    """

    field: str
    values: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """All of its values are plain ones."""
        return not any("*" in value for value in self.values)

    @property
    def literal(self) -> int:
        """How specific its widest value is: the characters that match only themselves."""
        return min(len(value.replace("*", "")) for value in self.values)

    @cached_property
    def _plain(self) -> frozenset[str]:
        return frozenset(value.casefold() for value in self.values if "*" not in value)

    @cached_property
    def _patterns(self) -> re.Pattern[str] | None:
        # Runs of * are one: two of them side by side would be tried in every combination.
        wide = [re.sub(r"\*+", "*", value.casefold()) for value in self.values if "*" in value]
        parts = (".*".join(map(re.escape, value.split("*"))) for value in wide)
        return re.compile("|".join(parts), re.DOTALL) if wide else None

    def holds(self, value: str) -> bool:
        """Whether a value of the field is meant."""
        value = value.casefold()
        if value in self._plain:
            return True
        return bool(value) and self._patterns is not None and self._patterns.fullmatch(value) is not None


@dataclass(frozen=True)
class Owner:
    """Who owns the calls of a rule from ``start`` to ``end`` (UTC microseconds, end exclusive). Empty: not said."""

    team: str = ""
    app: str = ""
    feature: str = ""
    environment: str = ""
    cost_center: str = ""
    start: int = EVER
    end: int = FOREVER

    @property
    def said(self) -> tuple[str, ...]:
        """The owner's values in the order of ``schemas.tables.RECORDED``."""
        return tuple(getattr(self, name) for name in RECORDED)


@dataclass(frozen=True)
class Rule:
    """One rule. ``place`` is the file it stands in; ``owners`` are its periods, the earliest first."""

    name: str
    conditions: tuple[Condition, ...]
    owners: tuple[Owner, ...]
    priority: int = 0
    override: bool = False
    place: str = ""

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """Precedence, the lowest first: by priority, number of conditions, how many are exact, literal characters."""
        return (
            -self.priority,
            -len(self.conditions),
            -sum(condition.exact for condition in self.conditions),
            -sum(condition.literal for condition in self.conditions),
        )

    def clashes(self, other: Rule) -> bool:
        """Whether only chance decides between the two where both mean a call: lengths of texts in different fields, names."""
        fields = [{condition.field for condition in rule.conditions} for rule in (self, other)]
        return self.rank[:3] == other.rank[:3] and (self.rank == other.rank or fields[0] != fields[1])

    def owner_at(self, micros: int) -> Owner | None:
        """Whom it names at a time, if it holds then."""
        return next((owner for owner in self.owners if owner.start <= micros < owner.end), None)


NO_RULES: Final[tuple[Rule, ...]] = ()


def fields_of(rules: Iterable[Rule]) -> tuple[str, ...]:
    """The fields that rules look at, each once."""
    return tuple(sorted({condition.field for rule in rules for condition in rule.conditions}))


def headers_of(rules: Iterable[Rule]) -> frozenset[str]:
    """Names of the headers that rules look at, in lower case: those that decode has to keep."""
    return frozenset(field.removeprefix("headers.") for field in fields_of(rules) if field.startswith("headers."))


def cuts_of(rules: Iterable[Rule]) -> tuple[int, ...]:
    """The instants at which a rule begins or ends to hold, in UTC microseconds: between two, the rules are the same."""
    cuts = {time for rule in rules for owner in rule.owners for time in (owner.start, owner.end)}
    return tuple(sorted(cuts - {EVER, FOREVER}))
