"""Derive minutes from calls, hours from minutes, days from hours: always whole, always from the truth.

Rows are absolute. A key that no longer has calls gets a row of zeros, so that nothing stale remains. The version is
the server's clock in the same query, raised above any version the key already has; the recompute that starts after
the last insert therefore sees every call and wins, in whatever order recomputes run. Doing it twice changes nothing.

A period that is closed, of which calls (or minutes, or hours) may have expired, is left as it is: recomputed from what is
left it would shrink to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

from schemas.tables import DAYS, DIMENSIONS, HOURS, MEASURES, MINUTES, MONEY_MEASURES, Table
from sinks.clickhouse import Store
from sinks.retention import closed_before, floors

MINUTES_PER_QUERY: Final = 20_000
"""Bound of one query's minutes, and so of its memory. One query for many minutes is 4-8 times cheaper than many."""

_KEYS: Final = [c.name for c in DIMENSIONS]
_SUMS: Final = ["calls", *(name for name, _, _ in MEASURES), *(name for name, _, _ in MONEY_MEASURES), "duration_ms"]


@dataclass(frozen=True)
class _Level:
    """A rollup and what it is made of: the time of a row, and the expression of each sum over the level below."""

    table: Table
    time: str
    seconds: int
    source: str
    source_time: str
    sums: dict[str, str]


def _from_calls() -> dict[str, str]:
    sums = {"calls": "toInt64(count())"}
    sums |= {name: f"toInt64({expression})" for name, expression, _ in MEASURES}
    sums |= {name: expression for name, expression, _ in MONEY_MEASURES}
    return {**sums, "duration_ms": "sum(ifNull(duration_ms, 0))"}


_LEVELS: Final = (
    _Level(MINUTES, "minute", 60, "calls", "minute", _from_calls()),
    _Level(HOURS, "hour", 3600, "minutes", "minute", {name: f"sum({name})" for name in _SUMS}),
    _Level(DAYS, "day", 86_400, "hours", "hour", {name: f"sum({name})" for name in _SUMS}),
)


def recompute(store: Store, minutes: Iterable[int]) -> int:
    """Replace these minutes, their hours and their days, less what is closed. ``minutes`` are seconds since 1970; the number
    of minutes replaced."""
    dirty: Sequence[int] = sorted({minute // 60 * 60 for minute in minutes})
    replaced = 0
    for level in _LEVELS:
        times = sorted({minute // level.seconds * level.seconds for minute in dirty})
        for some in _chunks(times, MINUTES_PER_QUERY):
            # Asked anew for each statement: rows expire an hour after their day is closed, no statement takes as long.
            floor = closed_before(floors(store), level.source, level.table.name)
            if still := [time for time in some if time >= floor]:
                store.command(statement(store, level, still))
                replaced += len(still) if level.seconds == 60 else 0
    return replaced


def statement(store: Store, level: _Level, times: Sequence[int]) -> str:
    """The one statement that replaces rows of ``level`` at ``times`` (seconds since 1970, starts of its periods)."""
    keys = ", ".join(_KEYS)
    dirty = ", ".join(map(str, times))
    first, last = f"toDateTime({times[0]}, 'UTC')", f"toDateTime({times[-1] + level.seconds - 1}, 'UTC')"
    period = f"toDateTime(intDiv(toUInt32({level.source_time}), {level.seconds}) * {level.seconds}, 'UTC')"
    fresh = ", ".join(f"{level.sums[name]} AS {name}_" for name in _SUMS)
    zeros = ", ".join(f"{_zero(name)} AS {name}_" for name in _SUMS)
    totals = ", ".join(f"sum({name}_) AS {name}" for name in _SUMS)
    return (
        f"INSERT INTO {store.table(level.table.name)} ({level.time}, {keys}, {', '.join(_SUMS)}, version)\n"
        f"SELECT time_, {keys}, {totals},"
        f" greatest(toUInt64(toUnixTimestamp64Micro(now64(6))), max(version_) + 1)\n"
        f"FROM (\n"
        f"  SELECT {period} AS time_, {keys}, {fresh}, toUInt64(0) AS version_\n"
        f"  FROM {store.table(level.source)} FINAL\n"
        f"  WHERE {level.source_time} BETWEEN {first} AND {last} AND toUInt32(time_) IN ({dirty})\n"
        f"  GROUP BY time_, {keys}\n"
        f"  UNION ALL\n"
        f"  SELECT {level.time} AS time_, {keys}, {zeros}, version AS version_\n"
        f"  FROM {store.table(level.table.name)} FINAL\n"
        f"  WHERE {level.time} BETWEEN {first} AND {last} AND toUInt32({level.time}) IN ({dirty})\n"
        f") GROUP BY time_, {keys}"
    )


def _zero(name: str) -> str:
    if name == "duration_ms":
        return "toFloat64(0)"
    return "toDecimal128(0, 12)" if any(name == money for money, _, _ in MONEY_MEASURES) else "toInt64(0)"


def _chunks(items: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
