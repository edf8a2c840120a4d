"""Prove a store: every record has a receipt, every receipt its call, and minutes equal calls to the last digit.

All checks are queries over what is stored, independent of the job that wrote it. Differences are shown by segment and
by minute; ``repair`` marks those minutes dirty and goes the ordinary recompute way.

What may have expired proves nothing: each law is checked from where all its tables are still whole (``sinks.retention``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from schemas.tables import COSTS, DIMENSIONS, MEASURES, MONEY_MEASURES
from sinks.clickhouse import Store
from sinks.join import unaccounted
from sinks.recompute import recompute
from sinks.retention import closed_before, floors

SHOWN: Final = 20
"""Differences shown per check; all are counted."""

_DAY: Final = 86_400


@dataclass(frozen=True)
class Check:
    """One law and what contradicts it. ``checked`` is how many things were compared; ``differences`` how many differ."""

    name: str
    law: str
    checked: int
    differences: int
    examples: list[dict[str, Any]] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return self.differences == 0


@dataclass(frozen=True)
class Proof:
    """All checks, the ledger by outcome, and the minutes (seconds since 1970) that contradict the calls."""

    checks: list[Check]
    ledger: dict[str, int]
    dirty: list[int]

    @property
    def holds(self) -> bool:
        return all(check.holds for check in self.checks)


def reconcile(store: Store) -> Proof:
    """Check the whole store; see ``Proof``."""
    closed = floors(store)
    minutes, dirty = _minutes_equal_calls(store)
    return Proof(
        [
            _records_have_receipts(store, closed["receipts"]),
            _receipts_belong_to_segments(store),
            _receipts_have_calls(store, closed["calls"]),
            _calls_have_receipts(store, closed["calls"], closed["receipts"]),
            _dead_letters_kept(store, closed_before(closed, "receipts", "dead_letters")),
            _parts_are_joined(store),
            _one_minute_per_call(store),
            _parts_sum_up(store),
            minutes,
            _rollup_equals(store, "hours", "hour", "minutes", "minute", 3600),
            _rollup_equals(store, "days", "day", "hours", "hour", 86_400),
        ],
        ledger(store),
        dirty,
    )


Span = tuple[int, int]
"""First and last minute of a stretch of time, in seconds since 1970."""


def repair(store: Store, span: Span | None = None) -> int:
    """Recompute every minute that contradicts the calls, or whose hour or day contradicts it; how many there were.

    With a ``span`` only its minutes, and the hours and days that they lie in, are looked at.
    """
    rows = store.rows(f"SELECT DISTINCT toUInt32(time_) FROM ({_minutes_gap(store, span)})")
    stale = {int(minute) for (minute,) in rows}
    for table, time, below, below_time, seconds in (
        ("hours", "hour", "minutes", "minute", 3600),
        ("days", "day", "hours", "hour", 86_400),
    ):
        rows = store.rows(
            f"SELECT DISTINCT toUInt32(time_) FROM ({_rollup_gap(store, table, time, below, below_time, seconds, span)})"
        )
        stale.update(int(start) for (start,) in rows)
    return recompute(store, stale) if stale else 0


def ledger(store: Store) -> dict[str, int]:
    """Items by what became of them. ``duplicate``: receipts of calls that another receipt already stands for.

    Only if there are any, ``joined``: parts of calls, and of these ``waiting``: those of calls that are not written yet.
    """
    outcomes = store.rows(f"SELECT outcome, count() FROM {store.table('receipts')} FINAL GROUP BY outcome")
    items = {str(outcome): int(count) for outcome, count in outcomes}
    distinct = store.rows(f"SELECT uniqExact(call_key) FROM {store.table('receipts')} FINAL WHERE outcome = 'call'")[0][0]
    calls = items.pop("call", 0)
    waiting = store.rows(f"SELECT toInt64(sum(parts)) FROM {unaccounted(store)}")[0][0] if items.get("joined") else 0
    records = store.rows(f"SELECT count() FROM (SELECT DISTINCT segment, position, record_hash FROM {store.table('receipts')})")[
        0
    ][0]
    return {
        "records": int(records),
        "items": calls + sum(items.values()),
        "call": int(distinct),
        "duplicate": calls - int(distinct),
        "dead_letter": items.pop("dead_letter", 0),
        "ignored": items.pop("ignored", 0),
        **items,
        **({"waiting": int(waiting)} if waiting else {}),
    }


def _check(store: Store, name: str, law: str, checked: str, differing: str, order: str = "") -> Check:
    total = int(store.rows(checked)[0][0])
    wrong = int(store.rows(f"SELECT count() FROM ({differing})")[0][0])
    examples = store.named_rows(f"{differing} {order} LIMIT {SHOWN}") if wrong else []
    return Check(name, law, total, wrong, examples)


def _since(floor: int) -> str:
    """From when on all that was written with a range is still there: a range may have taken a day to read."""
    return f"ingested_at >= toDateTime({floor + _DAY if floor else 0}, 'UTC')"


def _records_have_receipts(store: Store, floor: int) -> Check:
    segments, receipts = store.table("segments"), store.table("receipts")
    ranges = f"(SELECT * FROM {segments} FINAL WHERE {_since(floor)})"
    # How many receipts lie in [start, end) is a difference of two running counts, so ranges may overlap.
    running = (
        "SELECT segment, position, row_number() OVER (PARTITION BY segment ORDER BY position) AS n"
        f" FROM (SELECT DISTINCT segment, position FROM {receipts})"
    )
    differing = (
        "SELECT source, hex(segment) AS segment_id, start, end, records, upto - before AS receipts FROM ("
        "  SELECT s.source AS source, s.segment AS segment, s.start AS start, s.end AS end, s.records AS records,"
        "    e.n AS upto, b.n AS before"
        f" FROM {ranges} AS s"
        f" ASOF LEFT JOIN ({running}) AS e ON s.segment = e.segment AND s.end > e.position"
        f" ASOF LEFT JOIN ({running}) AS b ON s.segment = b.segment AND s.start > b.position"
        ") WHERE records != upto - before"
    )
    return _check(
        store,
        "records = receipts",
        "every record that a source read has a receipt",
        f"SELECT sum(records) FROM {ranges}",
        differing,
        "ORDER BY source, start",
    )


def _receipts_belong_to_segments(store: Store) -> Check:
    segments, receipts = store.table("segments"), store.table("receipts")
    differing = (
        "SELECT hex(r.segment) AS segment_id, count() AS receipts, min(r.position) AS first, max(r.position) AS last"
        f" FROM {receipts} AS r"
        f" LEFT JOIN (SELECT segment, max(end) AS end FROM {segments} FINAL GROUP BY segment) AS s ON r.segment = s.segment"
        " WHERE r.position >= s.end GROUP BY r.segment"
    )
    return _check(
        store,
        "segments are finished",
        "every segment that was begun was read to its end",
        f"SELECT uniqExact(segment) FROM {receipts}",
        differing,
        "ORDER BY segment_id",
    )


def _receipts_have_calls(store: Store, floor: int) -> Check:
    receipts, calls = store.table("receipts"), store.table("calls")
    known = f"{receipts} FINAL WHERE outcome = 'call' AND minute >= toDateTime({floor}, 'UTC')"
    return _check(
        store,
        "receipts = calls",
        "every receipt of a call has its call",
        f"SELECT count() FROM {known}",
        f"SELECT hex(segment) AS segment_id, position, item, hex(call_key) AS key FROM {known}"
        f" AND call_key NOT IN (SELECT call_key FROM {calls})",
        "ORDER BY segment_id, position",
    )


def _calls_have_receipts(store: Store, calls_floor: int, receipts_floor: int) -> Check:
    receipts, calls, segments = store.table("receipts"), store.table("calls"), store.table("segments")
    # A row that got another owner is younger than its receipt, so the age of a receipt is that of the range it was read in.
    old = f"SELECT segment FROM {segments} FINAL WHERE NOT ({_since(receipts_floor)})" if receipts_floor else ""
    known = (
        f"{calls} FINAL WHERE minute >= toDateTime({calls_floor}, 'UTC') AND {_since(receipts_floor)}"
        + (f" AND segment NOT IN ({old})" if old else "")
    )
    return _check(
        store,
        "calls = receipts",
        "every call has a receipt, as long as receipts are kept",
        f"SELECT count() FROM {known}",
        f"SELECT hex(call_key) AS key, minute, source, position FROM {known}"
        f" AND call_key NOT IN (SELECT call_key FROM {receipts} WHERE outcome IN ('call', 'joined'))",
        "ORDER BY minute",
    )


def _dead_letters_kept(store: Store, floor: int) -> Check:
    receipts, dead = store.table("receipts"), store.table("dead_letters")
    key = "(segment, position, item, record_hash)"
    known = f"{receipts} FINAL WHERE outcome = 'dead_letter' AND {_since(floor)}"
    return _check(
        store,
        "dead letters kept",
        "every receipt of a dead letter has it, with its reason",
        f"SELECT count() FROM {known}",
        f"SELECT hex(segment) AS segment_id, position, item, reason FROM {known} AND {key} NOT IN (SELECT {key} FROM {dead})",
        "ORDER BY segment_id, position",
    )


def _parts_are_joined(store: Store) -> Check:
    parts = store.table("parts")
    return _check(
        store,
        "parts = calls",
        "every call in parts is written once it is whole, or was waited for long enough",
        f"SELECT uniqExact(call_key) FROM {parts}",
        f"SELECT hex(call_key) AS key, parts, until FROM {unaccounted(store)} WHERE due",
        "ORDER BY key",
    )


def _one_minute_per_call(store: Store) -> Check:
    calls = store.table("calls")
    return _check(
        store,
        "one minute per call",
        "no call is counted in two minutes",
        f"SELECT count() FROM {calls} FINAL",
        f"SELECT hex(call_key) AS key, count() AS rows, min(minute) AS first, max(minute) AS last FROM {calls} FINAL"
        " GROUP BY call_key HAVING rows > 1",
        "ORDER BY key",
    )


def _parts_sum_up(store: Store) -> Check:
    calls = store.table("calls")
    parts = " + ".join(f"ifNull({name}, 0)" for name, _ in COSTS)
    return _check(
        store,
        "cost = sum of its parts",
        "a call's cost is exactly the sum of its lines",
        f"SELECT count() FROM {calls} FINAL WHERE isNotNull(cost)",
        f"SELECT hex(call_key) AS key, minute, toString(cost) AS total, toString({parts}) AS parts FROM {calls} FINAL"
        f" WHERE ifNull(cost, 0) != {parts}",
        "ORDER BY minute",
    )


_KEYS: Final = ", ".join(c.name for c in DIMENSIONS)
_INTEGERS: Final = ("calls", *(name for name, _, _ in MEASURES))
_SUMS: Final = (*_INTEGERS, *(name for name, _, _ in MONEY_MEASURES))


def _within(span: Span | None, floor: int, time: str, seconds: int) -> str:
    """The condition that ``time`` is not closed and lies in one of the periods that a span touches."""
    where = f" WHERE {time} >= toDateTime({floor}, 'UTC')"
    if span is None:
        return where
    first, end = span[0] // seconds * seconds, (span[1] // seconds + 1) * seconds
    return f"{where} AND {time} >= toDateTime({first}, 'UTC') AND {time} < toDateTime({end}, 'UTC')"


def _minutes_gap(store: Store, span: Span | None = None) -> str:
    expressions = {"calls": "toInt64(count())"}
    expressions |= {name: f"toInt64({expression})" for name, expression, _ in MEASURES}
    expressions |= {name: expression for name, expression, _ in MONEY_MEASURES}
    truth = ", ".join(f"{expressions[name]} AS {name}_" for name in _SUMS)
    derived = ", ".join(f"-sum({name}) AS {name}_" for name in _SUMS)
    where = _within(span, closed_before(floors(store), "calls", "minutes"), "minute", 60)
    return _gap(
        f"SELECT minute AS time_, {_KEYS}, {truth} FROM {store.table('calls')} FINAL{where} GROUP BY time_, {_KEYS}",
        f"SELECT minute AS time_, {_KEYS}, {derived} FROM {store.table('minutes')} FINAL{where} GROUP BY time_, {_KEYS}",
    )


def _minutes_equal_calls(store: Store) -> tuple[Check, list[int]]:
    gap = _minutes_gap(store)
    check = _check(
        store,
        "calls = minutes",
        "minutes equal the calls they are made of, to the last digit",
        f"SELECT count() FROM {store.table('minutes')} FINAL",
        gap,
        "ORDER BY time_",
    )
    dirty = store.rows(f"SELECT DISTINCT toUInt32(time_) FROM ({gap})") if not check.holds else []
    return check, sorted(int(minute) for (minute,) in dirty)


def _rollup_gap(store: Store, table: str, time: str, below: str, below_time: str, seconds: int, span: Span | None = None) -> str:
    period = f"toDateTime(intDiv(toUInt32({below_time}), {seconds}) * {seconds}, 'UTC')"
    truth = ", ".join(f"sum({name}) AS {name}_" for name in _SUMS)
    derived = ", ".join(f"-sum({name}) AS {name}_" for name in _SUMS)
    floor = closed_before(floors(store), below, table)
    return _gap(
        f"SELECT {period} AS time_, {_KEYS}, {truth} FROM {store.table(below)} FINAL{_within(span, floor, below_time, seconds)}"
        f" GROUP BY time_, {_KEYS}",
        f"SELECT {time} AS time_, {_KEYS}, {derived} FROM {store.table(table)} FINAL{_within(span, floor, time, seconds)}"
        f" GROUP BY time_, {_KEYS}",
    )


def _rollup_equals(store: Store, table: str, time: str, below: str, below_time: str, seconds: int) -> Check:
    return _check(
        store,
        f"{below} = {table}",
        f"{table} equal the {below} they are made of, to the last digit",
        f"SELECT count() FROM {store.table(table)} FINAL",
        _rollup_gap(store, table, time, below, below_time, seconds),
        "ORDER BY time_",
    )


def _gap(truth: str, derived: str) -> str:
    """Rows where two sets of sums differ: the difference of each sum, by time and key."""
    totals = ", ".join(f"sum({name}_) AS {name}" for name in _SUMS)
    differs = " OR ".join(f"{name} != 0" for name in _SUMS)
    return f"SELECT time_, {_KEYS}, {totals} FROM ({truth} UNION ALL {derived}) GROUP BY time_, {_KEYS} HAVING {differs}"
