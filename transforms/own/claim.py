"""Who owns each call of a batch.

Rules are looked up once per distinct combination of what they look at, remembered from batch to batch, and the answers
are spread over the rows: logs repeat themselves, so a call costs less than a microsecond. The job and the re-tagging of
history use this same function on the same columns, which is why both come to the same owners.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.tables import CLAIMED, RECORDED, SAID, UNALLOCATED
from transforms.own.rules import NO_RULES, Owner, Rule, cuts_of, fields_of

_REMEMBERED: Final = 50_000
"""Combinations that are remembered. What logs name is not bounded, so the memory for it is."""

Ints = npt.NDArray[np.int64]
Answer = tuple[str, ...]


@dataclass(frozen=True)
class Match:
    """A rule that means a call and may claim it, and the owner it names at the call's time."""

    rule: Rule
    owner: Owner


class Claims:
    """Rules ready for look-ups. Immutable but for the memory of answers. ``rules``: in their order of precedence."""

    def __init__(self, rules: Sequence[Rule] = NO_RULES) -> None:
        self.rules = tuple(rules)
        self.cuts = cuts_of(rules)
        self.fields = tuple(field for field in fields_of(rules) if field not in SAID)
        """Columns looked at besides what the record says of its owner."""
        self._in_force: dict[int, list[Match]] = {}
        self._answers: dict[tuple[int, Answer], Answer] = {}

    def own(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """See ``own`` of this module."""
        return own(rows, self)

    def matches(self, period: int, said: Mapping[str, str]) -> list[Match]:
        """Every rule that means a call of this period and may claim it, in order of precedence.

        ``said``: values by field, ``recorded_team`` and the like among them. A rule is passed over where the record
        names another team than the rule does, unless the rule overrides records.
        """
        team = _named(said["recorded_team"]).casefold()
        return [
            match
            for match in self._rules_of(period)
            if (match.rule.override or not team or match.owner.team.casefold() in ("", team))
            and all(condition.holds(said[condition.field]) for condition in match.rule.conditions)
        ]

    def answer(self, period: int, values: Answer) -> Answer:
        """Values of ``CLAIMED`` for a call that says ``values`` of ``SAID`` and ``fields``; remembered."""
        key = (period, values)
        found = self._answers.get(key)
        if found is None:
            if len(self._answers) >= _REMEMBERED:
                self._answers.clear()
            said = dict(zip((*SAID, *self.fields), values, strict=True))
            matches = self.matches(period, said)
            found = self._answers[key] = owner_of(said, matches[0] if matches else None)
        return found

    def _rules_of(self, period: int) -> list[Match]:
        in_force = self._in_force.get(period)
        if in_force is None:
            inside = self.cuts[period - 1] if period else self.cuts[0] - 1 if self.cuts else 0
            owners = ((rule, rule.owner_at(inside)) for rule in self.rules)
            in_force = self._in_force[period] = [Match(rule, owner) for rule, owner in owners if owner is not None]
        return in_force


def owner_of(said: Mapping[str, str], match: Match | None) -> Answer:
    """Values of ``CLAIMED`` where ``match`` claims a call whose record says ``said`` (None: no rule does).

    What the record says stands, and the rule fills what it leaves open; an overriding rule is the other way round. Team
    and cost centre stay together: a rule that takes a call from a team does not leave it that team's cost centre.
    """
    recorded = {name: said[f"recorded_{name}"] for name in RECORDED}
    recorded["team"] = _named(recorded["team"])
    if match is None:
        return ((recorded.pop("team") or UNALLOCATED), *recorded.values(), "")
    stated = dict(zip(RECORDED, match.owner.said, strict=True))
    if match.rule.override:
        if stated["team"] and stated["team"].casefold() != recorded["team"].casefold():
            recorded["cost_center"] = ""
        owner = {name: stated[name] or recorded[name] for name in RECORDED}
    else:
        owner = {name: recorded[name] or stated[name] for name in RECORDED}
    return ((owner.pop("team") or UNALLOCATED), *owner.values(), match.rule.name)


def _named(team: str) -> str:
    """The team that a record names; one that says ``unallocated`` names none."""
    return "" if team == UNALLOCATED else team


def own(rows: pa.RecordBatch, claims: Claims) -> pa.RecordBatch:
    """The rows with ``CLAIMED`` filled in; every other column as it was.

    ``rows`` have ``event_time`` and ``SAID``, and each of ``claims.fields``: a column of that name, or of ``tags.x`` and
    ``headers.x`` the map.
    """
    if not rows.num_rows:
        return rows
    if not claims.rules:
        team = rows.column("recorded_team")
        team = pc.if_else(pc.equal(team, ""), UNALLOCATED, team)
        columns = [team, *(rows.column(name) for name in SAID[1:]), pa.repeat(pa.scalar(""), rows.num_rows)]
        return _with(rows, columns)
    times = rows.column("event_time").cast(pa.int64()).to_numpy()
    periods = np.searchsorted(np.array(claims.cuts, np.int64), times, side="right")
    coded = [_codes(rows, field) for field in (*SAID, *claims.fields)]
    key = periods.astype(np.int64)
    for codes, values in coded:
        key = key * len(values) + codes
        if len(values) > 1 and key.max(initial=0) > 2**31:  # so that the next product fits into 64 bits
            key = np.unique(key, return_inverse=True)[1].astype(np.int64)
    _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
    columns_said = [[values[code] for code in codes[first].tolist()] for codes, values in coded]
    answers = [
        claims.answer(period, said) for period, said in zip(periods[first].tolist(), zip(*columns_said, strict=True), strict=True)
    ]
    spread = pa.array(inverse)
    return _with(rows, [pa.array(column, pa.string()).take(spread) for column in zip(*answers, strict=True)])


def _with(rows: pa.RecordBatch, columns: Sequence[pa.Array]) -> pa.RecordBatch:
    given: dict[str, pa.Array] = dict(zip(CLAIMED, columns, strict=True))
    arrays = [given.get(field.name, column) for field, column in zip(rows.schema, rows.columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=rows.schema)


def _codes(rows: pa.RecordBatch, field: str) -> tuple[Ints, list[Any]]:
    """A text column as codes into its distinct values; what is missing is the empty text."""
    if rows.schema.get_field_index(field) >= 0:
        column = rows.column(field)
    else:
        maps, _, name = field.partition(".")
        column = pc.map_lookup(rows.column(maps), pa.scalar(name), "first")
    if column.null_count:
        column = pc.fill_null(column, "")
    encoded = pc.dictionary_encode(column)
    return encoded.indices.to_numpy().astype(np.int64), encoded.dictionary.to_pylist()
