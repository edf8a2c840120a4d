"""``llm-finops owners``: how much of the spend has an owner under the current rules, and what a changed rule moves."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import IO, Any, Final

import orjson

from pipelines.show import Column, Format, Kind, Table, as_csv, as_json, show, table_of
from pipelines.state import State
from schemas.tables import CLAIMED, RECORDED, SAID, UNALLOCATED
from sinks.clickhouse import Store
from sinks.reconcile import Span
from sinks.retag import Group, groups, minutes_of, retag, spans
from transforms.own import Claims, Match, Rule, headers_of

TOP: Final = 10
"""Groups of unallocated calls that are shown."""

TELLING: Final = (
    "api_key_alias",
    "project",
    "account",
    "recorded_app",
    "deployment",
    "agent",
    "template",
    "endpoint_host",
    "model",
)
"""What a rule for unallocated calls would best look at: the first of these that a call says anything of."""

_RULE: Final = CLAIMED.index("owner_rule")
_CALLS: Final = Column("calls", Kind.COUNT)
_SPEND: Final = Column("spend", Kind.MONEY)
_UNPRICED: Final = Column("unpriced_calls", Kind.COUNT, "of these unpriced")

Progress = Callable[[int], None]
"""Told how many spans of time are done."""


@dataclass
class Sum:
    """Calls, their dollars, and how many of them have no price, so no part in the dollars."""

    calls: int = 0
    spend: Decimal = Decimal(0)
    unpriced: int = 0

    def add(self, group: Group) -> None:
        self.calls += group.calls
        self.spend += group.spend
        self.unpriced += group.unpriced

    def row(self) -> dict[str, Any]:
        return {"calls": self.calls, "spend": self.spend, "unpriced_calls": self.unpriced}


def _sums() -> defaultdict[Any, Sum]:
    return defaultdict(Sum)


@dataclass
class Coverage:
    """Who owns all calls of a store under ``rules``.

    ``claimed`` is by rule, by record (``record``) or by nobody (``unallocated``). ``meant`` are the calls that a rule
    means and may claim, also where another one goes first. ``conflicts`` are by the winning rule and one that
    clashes with it and names another owner. ``open`` are unallocated calls by the field and value that tell most of them.
    ``stale`` calls are stored with another owner. ``headers`` are those that some call holds.
    """

    rules: tuple[Rule, ...]
    total: Sum = field(default_factory=Sum)
    stale: Sum = field(default_factory=Sum)
    claimed: defaultdict[str, Sum] = field(default_factory=_sums)
    by_rule: defaultdict[str, Sum] = field(default_factory=_sums)
    meant: defaultdict[str, Sum] = field(default_factory=_sums)
    conflicts: defaultdict[tuple[str, str], Sum] = field(default_factory=_sums)
    open: defaultdict[tuple[str, str], Sum] = field(default_factory=_sums)
    headers: set[str] = field(default_factory=set)

    def add(self, group: Group, matches: Sequence[Match]) -> None:
        """Count a group; ``matches`` are the rules that mean it, the one that claims it first."""
        self.total.add(group)
        self.headers |= {
            name.removeprefix("headers.") for name, value in group.said.items() if value and name.startswith("headers.")
        }
        if group.stored != group.owner:
            self.stale.add(group)
        rule, team = group.owner[_RULE], group.owner[0]
        self.claimed["rule" if rule else "record" if team != UNALLOCATED else UNALLOCATED].add(group)
        if rule:
            self.by_rule[rule].add(group)
        elif team == UNALLOCATED:
            self.open[next(((name, group.said[name]) for name in TELLING if group.said[name]), ("", ""))].add(group)
        for match in matches:
            self.meant[match.rule.name].add(group)
        for other in matches[1:]:
            if matches[0].rule.clashes(other.rule) and other.owner.said != matches[0].owner.said:
                self.conflicts[matches[0].rule.name, other.rule.name].add(group)

    def exceeds(self, percent: float) -> bool:
        """Whether more than this share of the dollars (of the calls, where there are no dollars) has no owner."""
        nobody, limit = self.claimed[UNALLOCATED], Decimal(str(percent))
        if self.total.spend:
            return nobody.spend * 100 > limit * self.total.spend
        return nobody.calls * 100 > limit * self.total.calls

    def unallocated_share(self) -> str:
        """What ``exceeds`` looks at, in words."""
        share = _share(self.claimed[UNALLOCATED], self.total)
        if self.total.spend:
            return f"{share['spend_share']:.2%} of the dollars"
        return f"{share['calls_share'] or 0:.2%} of the calls"


def coverage(store: Store, rules: tuple[Rule, ...], progress: Progress = lambda _: None) -> Coverage:
    """Decide for all history under ``rules``. Nothing is written."""
    claims, found = Claims(rules), Coverage(rules)
    remembered: dict[tuple[Any, ...], list[Match]] = {}
    looked_at = (*SAID, *claims.fields)
    for number, span in enumerate(spans(store)):
        if len(remembered) > 100_000:
            remembered.clear()
        for group in groups(store, claims, span, TELLING):
            key = (group.period, *(group.said[name] for name in looked_at))
            if key not in remembered:
                remembered[key] = claims.matches(group.period, group.said)
            found.add(group, remembered[key])
        progress(number + 1)
    return found


def sections(found: Coverage) -> dict[str, Table]:
    """Every table of ``owners check`` by name, with exact values."""
    shares = [Column("calls_share", Kind.SHARE, "of all calls"), Column("spend_share", Kind.SHARE, "of all dollars")]
    kinds = [
        {"claimed_by": kind, **found.claimed[kind].row(), **_share(found.claimed[kind], found.total)}
        for kind in ("rule", "record", UNALLOCATED)
    ]
    rules = []
    for rule in found.rules:
        meant, claims = found.meant[rule.name], found.by_rule[rule.name]
        status = "claims" if claims.calls else "shadowed" if meant.calls else "dead"
        rules.append(
            {"rule": rule.name, "status": status, **claims.row(), **_share(claims, found.total), "meant_calls": meant.calls}
        )
    conflicts = [
        {"rule": winner, "other": other, **sums.row()}
        for (winner, other), sums in sorted(found.conflicts.items(), key=lambda item: (-item[1].spend, item[0]))
    ]
    groups_open = sorted(found.open.items(), key=lambda item: (-item[1].spend, -item[1].calls, item[0]))[:TOP]
    unallocated = [
        {"field": _key(name), "value": value, **sums.row(), "suggestion": when(name, value)}
        for (name, value), sums in groups_open
    ]
    figures = [_CALLS, _UNPRICED, _SPEND]
    notes = ["dead: means no call in this store; shadowed: other rules go first for every call it means"]
    if unseen := sorted(headers_of(found.rules) - found.headers):
        notes.append(f"no call here holds the header {', '.join(unseen)}: kept only of logs read after a rule named it")
    stale = f"{found.stale.calls:,} calls are stored with another owner: llm-finops owners apply" if found.stale.calls else ""
    return {
        "coverage": table_of(kinds, [Column("claimed_by"), *figures, *shares], "Coverage", stale),
        "rules": table_of(
            rules,
            [Column("rule"), Column("status"), *figures, shares[1], Column("meant_calls", Kind.COUNT, "calls meant")],
            "Rules in order of precedence",
            "; ".join(notes),
        ),
        "conflicts": table_of(
            conflicts,
            [Column("rule"), Column("other", title="other rule"), *figures],
            "Conflicts",
            "nothing makes the first more specific than the other: give one of them a priority or a condition more",
        ),
        "unallocated": table_of(
            unallocated, [Column("field"), Column("value"), *figures, Column("suggestion")], "Unallocated, the largest first"
        ),
    }


SECTIONS: Final = ("coverage", "rules", "conflicts", "unallocated")
"""Tables of ``owners check``."""


def print_check(found: Coverage, fmt: str, only: str | None, file: IO[str] | None = None) -> None:
    """All tables, or one; CSV is one, ``coverage`` if not said otherwise."""
    file = file or sys.stdout
    tables = sections(found)
    if only:
        show(tables[only], fmt, file)
    elif fmt == Format.CSV:
        file.write(as_csv(tables["coverage"]))
    elif fmt == Format.JSON:
        everything = {name: orjson.loads(as_json(table)) for name, table in tables.items()}
        file.write(orjson.dumps(everything, option=orjson.OPT_APPEND_NEWLINE).decode())
    else:
        shown = [table for name, table in tables.items() if table.rows or name == "coverage"]
        for number, table in enumerate(shown):
            if number:
                file.write("\n")
            show(table, fmt, file)


def when(name: str, value: str) -> str:
    """The condition of a rule for calls that say ``value`` of a column; empty where they say nothing of any."""
    return f"when = {{ {_key(name)} = {json.dumps(value, ensure_ascii=False)} }}" if name else ""


def _key(name: str) -> str:
    return name.removeprefix("recorded_")


def _share(part: Sum, total: Sum) -> dict[str, float | None]:
    return {
        "calls_share": part.calls / total.calls if total.calls else None,
        "spend_share": float(part.spend / total.spend) if total.spend else None,
    }


# ---- re-tagging


@dataclass
class Moves:
    """Calls whose owner changes, by the old owner and the new one (values of ``CLAIMED``)."""

    sums: defaultdict[tuple[tuple[str, ...], tuple[str, ...]], Sum] = field(default_factory=_sums)

    def add(self, found: Iterable[Group]) -> None:
        for group in found:
            if group.stored != group.owner:
                self.sums[group.stored, group.owner].add(group)

    @property
    def calls(self) -> int:
        return sum(one.calls for one in self.sums.values())


def moves(store: Store, rules: tuple[Rule, ...], over: Sequence[Span], progress: Progress = lambda _: None) -> Moves:
    """What ``apply`` would move in these spans. Nothing is written."""
    claims, found = Claims(rules), Moves()
    for number, span in enumerate(over):
        found.add(groups(store, claims, span))
        progress(number + 1)
    return found


def apply(
    store: Store, rules: tuple[Rule, ...], over: Sequence[Span], wait_s: float = 0, progress: Progress = lambda _: None
) -> Moves:
    """Give the calls of these spans the owners that ``rules`` name; what that moved.

    Killed at any moment, it is finished by doing it again. No other run of this machine writes the store meanwhile.
    """
    claims, found = Claims(rules), Moves()
    with State(store.address, wait_s=wait_s) as state:
        for number, span in enumerate(over):
            some = groups(store, claims, span)
            found.add(some)
            dirty = minutes_of(store, span) if any(group.stored != group.owner for group in some) else []
            state.touch(dirty)  # before the rows: if this is killed, the next run recomputes them
            retag(store, claims, span)
            state.clean(dirty)
            progress(number + 1)
    return found


def moves_table(found: Moves, done: bool, fmt: str) -> Table:
    """The diff in calls and dollars, the largest first. For people, only the fields that differ; for scripts, all."""
    title = "Moved" if done else "Would move"
    note = f"{found.calls:,} calls {'moved' if done else 'would move'}" if found.calls else "every call has its owner already"
    ordered = sorted(found.sums.items(), key=lambda item: (-item[1].spend, -item[1].calls, item[0]))
    if fmt == Format.TABLE:
        rows = [{"old": _told(old, new), "new": _told(new, old), **sums.row()} for (old, new), sums in ordered]
        return table_of(rows, [Column("old"), Column("new"), _CALLS, _UNPRICED, _SPEND], title, note)
    sides = [*(f"old_{name}" for name in CLAIMED), *(f"new_{name}" for name in CLAIMED)]
    rows = [{**dict(zip(sides, (*old, *new), strict=True)), **sums.row()} for (old, new), sums in ordered]
    return table_of(rows, [*map(Column, sides), _CALLS, _UNPRICED, _SPEND], title, note)


def _told(owner: tuple[str, ...], other: tuple[str, ...]) -> str:
    """The team, and what else differs from the other owner."""
    parts = [owner[0] or "(none)"]
    titles = [name.replace("_", " ") for name in RECORDED[1:]] + ["rule"]
    parts += [f"{title} {mine or '(none)'}" for title, mine, its in zip(titles, owner[1:], other[1:], strict=True) if mine != its]
    return ", ".join(parts)
