"""Whether a job on Flink writes what waits for it, and when to submit it anew: a pure function over observations.

A job's state does not tell: one that is RUNNING, with checkpoints that complete, may write nothing. What tells is the ledger of
the store, which goes on while records wait in the topic.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

HOUR_S = 3600.0


@dataclass(frozen=True)
class Limits:
    """When a job is silent, and how often it may be submitted anew; all times in seconds.

    ``silent_s``: nothing at all was written while records wait. ``partition_s``: one partition stands still while others come
    forward; a job that catches up reads many partitions in turn, so this is longer. There are at most ``per_hour`` restarts;
    after the first the next one waits for ``pause_s``, after the second for twice as long, and so on up to ``most_pause_s``.
    """

    silent_s: float = 120
    partition_s: float = 600
    pause_s: float = 60
    most_pause_s: float = 900
    per_hour: int = 6


class Place(NamedTuple):
    """One partition: the offset that the store's ledger leads up to, and how many records wait behind it."""

    written: int
    waits: int


@dataclass(frozen=True)
class Seen:
    """What was observed ``at`` a moment of a clock that only goes forward. None: store, broker or Flink did not answer."""

    at: float
    places: Mapping[str, Place] | None = None
    runs: bool | None = None


@dataclass(frozen=True)
class Known:
    """What is remembered: since when nothing was written, of all and of each partition, and when the job was submitted anew."""

    at: float
    since: float
    written: Mapping[str, tuple[int, float]] = field(default_factory=dict)
    restarts: tuple[float, ...] = ()

    def silent_s(self) -> float:
        return self.at - self.since


class Do(StrEnum):
    """What to do: nothing; submit anew; or nothing yet, although it is wanted, because too many restarts did not help."""

    WAIT = "wait"
    RESTART = "restart"
    HOLD = "hold"


class Verdict(NamedTuple):
    """What to do and why: ``cause`` is ``gone``, ``silent`` or ``partition``. A restart is held until ``not_before``."""

    do: Do
    cause: str = ""
    why: str = ""
    not_before: float = 0.0


def judge(known: Known, seen: Seen, limits: Limits) -> tuple[Known, Verdict]:
    """Take an observation in, and say what to do about the job."""
    if seen.places is None or seen.runs is None:
        return _paused(known, seen.at), Verdict(Do.WAIT)
    known = _observed(known, seen.at, seen.places)
    cause, why = _complaint(known, seen.places, seen.runs, limits)
    if not cause:
        return known, Verdict(Do.WAIT)
    not_before = _not_before(known.restarts, limits)
    if seen.at < not_before:
        return known, Verdict(Do.HOLD, cause, why, not_before)
    return afresh(replace(known, restarts=(*known.restarts, seen.at)), seen.at), Verdict(Do.RESTART, cause, why)


def afresh(known: Known, at: float) -> Known:
    """Begin to count silence anew: a job was submitted."""
    written = {name: (offset, at) for name, (offset, _) in known.written.items()}
    return replace(known, at=at, since=at, written=written)


def waiting(places: Mapping[str, Place]) -> int:
    """Records that wait in all partitions."""
    return sum(place.waits for place in places.values())


def _paused(known: Known, at: float) -> Known:
    """While nobody knows what was written, no silence is counted, and none is forgotten."""
    blind = at - known.at
    written = {name: (offset, since + blind) for name, (offset, since) in known.written.items()}
    return replace(known, at=at, since=known.since + blind, written=written)


def _observed(known: Known, at: float, places: Mapping[str, Place]) -> Known:
    """A partition is silent since it last came forward, or since when nothing waited in it; all together likewise."""
    written = {}
    moved = not waiting(places)
    for name, place in places.items():
        before, since = known.written.get(name, (None, at))
        still = before == place.written and place.waits > 0
        moved |= before is not None and before != place.written
        written[name] = place.written, since if still else at
    restarts = tuple(one for one in known.restarts if at - one < HOUR_S)
    return Known(at, at if moved else known.since, written, restarts)


def _complaint(known: Known, places: Mapping[str, Place], runs: bool, limits: Limits) -> tuple[str, str]:
    if not runs:
        return "gone", "no job runs"
    if known.silent_s() >= limits.silent_s:
        return "silent", f"nothing was written for {known.silent_s():.0f} s while {waiting(places):,} records wait"
    for name, (_, since) in sorted(known.written.items(), key=lambda one: one[1][1]):
        if (still_s := known.at - since) >= limits.partition_s:
            return "partition", f"{name} stands still for {still_s:.0f} s while {places[name].waits:,} records wait in it"
    return "", ""


def _not_before(restarts: tuple[float, ...], limits: Limits) -> float:
    """When the next restart may be, after these of the last hour."""
    if not restarts:
        return 0.0
    pause = min(limits.most_pause_s, limits.pause_s * 2.0 ** (len(restarts) - 1))
    not_before = restarts[-1] + pause
    if len(restarts) >= limits.per_hour:
        not_before = max(not_before, restarts[-limits.per_hour] + HOUR_S)
    return not_before
