"""Derive ``audit_days`` from calls: reported against counted tokens, whole days at a time, and read it.

Percentiles do not add up, so a day is made from all of its calls. That is too much for every block that is written: a day
is derived when it is asked for, and only if a call of it was written since (``refresh``). Rows are absolute; a key that no
longer has calls gets a row of zeros. Doing it twice changes nothing. A closed day stays as it is (``sinks.retention``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from schemas.audit import AuditDay
from schemas.call import LEAVES
from schemas.tables import AUDIT_DAYS, AUDIT_KEYS, AUDIT_MEASURES, AUDIT_MONEY
from sinks.clickhouse import Store
from sinks.retention import closed_before, floors

CALLS_PER_QUERY: Final = 2_000_000
"""Bound of one statement's calls, as far as days allow, and so of its memory."""

SETTLING: Final = 3600
"""Seconds for which a call may have been written without being seen: an insert takes no longer. Until a day was derived so long
after its last call was written, it is derived again."""

HIDDEN_REASONING: Final = r"(^|[-/.])o[1-9](-|$)|gpt-([5-9]|oss)|codex"
"""Models that write reasoning which no record shows; where their usage does not say how much, their answers are not compared."""

_DAY: Final = 86_400
_KEYS: Final = [column.name for column in AUDIT_KEYS]
_INTEGERS: Final = [name for name, _ in AUDIT_MEASURES]
_MONEY: Final = [name for name, _ in AUDIT_MONEY]

_CACHED: Final = [leaf for leaf in LEAVES if leaf.startswith("input_cache_")]
# Tokens of server-side tools (input_tool_use) are left out: the vendor itself says that they are not of the prompt.
_PROMPT: Final = ["input_fresh", *_CACHED, "input_audio", "input_image"]


def _sum(leaves: Sequence[str]) -> str:
    return "(" + " + ".join(f"ifNull({leaf}, 0)" for leaf in leaves) + ")"


_INPUT_CATEGORY: Final = (
    "multiIf(media_parts > 0, 'media', tools_count > 0, 'tools', tools_tokens > 0, 'schema',"
    " tool_result_messages > 0, 'tool history', 'plain text')"
)
_OUTPUT_CATEGORY: Final = "if(answer_call_tokens > 0, 'tool calls', 'text')"
_INPUT_COMPARED: Final = f"isNotNull(counted_input) AND ({' OR '.join(f'isNotNull({leaf})' for leaf in _PROMPT)})"
_OUTPUT_COMPARED: Final = (
    "isNotNull(counted_output) AND isNotNull(output_visible) AND ifNull(output_reasoning, 0) = 0"
    " AND ifNull(output_audio, 0) = 0 AND ifNull(output_image, 0) = 0 AND NOT has(flags, 'hidden_reasoning')"
    f" AND NOT (isNull(output_reasoning) AND match(model, '{HIDDEN_REASONING}'))"
)
_PROMPT_COST: Final = "ifNull(cost_input, 0) + ifNull(cost_cache_read, 0) + ifNull(cost_cache_write, 0)"
_REPORTED: Final = "usage_source IN ('vendor', 'gateway') AND usage_quality != 'partial' AND NOT has(flags, 'other_units')"


def _side(side: str, category: str, compared: str, reported: str, counted: str, cost: str, priced: str, error: str) -> str:
    """A side of a call as a tuple. ``cost`` is what ``priced`` tokens cost; ``error`` the half-width of the count's band."""
    none = "toInt64(-1)"
    band = f"multiIf(count_quality = 'exact_tokenizer', toInt64(0), count_quality = 'partial', {none}, ifNull({error}, {none}))"
    return (
        f"('{side}', {category}, {compared}, toInt64({reported}), toInt64(ifNull({counted}, 0)),"
        f" toDecimal128({cost}, 12), toInt64({priced}), {band})"
    )


_SIDES: Final = ", ".join(
    (
        _side(
            "input",
            _INPUT_CATEGORY,
            _INPUT_COMPARED,
            _sum(_PROMPT),
            "counted_input",
            _PROMPT_COST,
            _sum(["input_fresh", *_CACHED]),
            "counted_input_error",
        ),
        _side(
            "output",
            _OUTPUT_CATEGORY,
            _OUTPUT_COMPARED,
            "ifNull(output_visible, 0)",
            "counted_output",
            "ifNull(cost_output, 0)",
            "ifNull(output_visible, 0)",
            "counted_output_error",
        ),
    )
)

_RANKS: Final = "(0.05, 0.5, 0.95)"
_EXPRESSIONS: Final = {
    "calls": "count()",
    "exact_calls": "countIf(difference_ = 0)",
    "over_calls": "countIf(difference_ > 0)",
    "under_calls": "countIf(difference_ < 0)",
    "reported": "sum(reported_)",
    "counted": "sum(counted_)",
    "difference": "sum(difference_)",
    "absolute_difference": "sum(abs(difference_))",
    **{f"difference_p{p}": f"quantilesExactWeighted{_RANKS}(difference_, 1)[{n}]" for n, p in enumerate((5, 50, 95), 1)},
    **{
        f"ratio_p{p}": f"quantilesExactWeightedIf{_RANKS}(intDiv(reported_ * 1000, greatest(counted_, 1)), 1, counted_ > 0)[{n}]"
        for n, p in enumerate((5, 50, 95), 1)
    },
    "constant": "constant_.1",
    "constant_calls": "-constant_.2.1",
    "banded_calls": "countIf(band_ >= 0)",
    "unrated_calls": "countIf(NOT rated_)",
    # Of Decimals: each call's dollars are cut to 10^-12 toward zero, so that sums are the same in whatever order.
    "cost": "sum(if(rated_, cost_, toDecimal128(0, 12)))",
    "difference_cost": "sum(if(rated_, cost_ * difference_ / greatest(priced_, 1), toDecimal128(0, 12)))",
    "unexplained_cost": "sum(if(rated_, cost_ * beyond_ / greatest(priced_, 1), toDecimal128(0, 12)))",
}
_CONSTANT: Final = (
    "arraySort(pair -> pair.2, arrayMap((d, n) -> (d, (-toInt64(n), abs(d), d)),"
    " (sumMapIf([difference_], [toUInt64(1)], difference_ != 0) AS counts_).1, counts_.2))[1] AS constant_"
)


def refresh(store: Store, since: int = 0, until: int = 2**32 - 1) -> int:
    """Derive the days that lie in ``[since, until)`` (seconds since 1970; whole days) and whose calls have changed.

    Returns how many days were derived.
    """
    done = 0
    for days in _packed(_stale(store, since, until)):
        # Asked anew for each statement: rows expire an hour after their day is closed, no statement takes as long.
        floor = closed_before(floors(store), "calls", AUDIT_DAYS.name)
        if open_days := [day for day in days if day >= floor]:
            store.command(statement(store, open_days))
            done += len(open_days)
    return done


def _stale(store: Store, since: int, until: int) -> list[tuple[int, int]]:
    """Days of which a call was written since they were derived, or shortly before, and how many rows their calls have."""
    audited = f"SELECT day, max(version) AS version FROM {store.table(AUDIT_DAYS.name)} GROUP BY day"
    written = (
        "SELECT toStartOfDay(minute) AS day, count() AS rows, toUnixTimestamp64Milli(max(ingested_at)) * 1000 AS written"
        f" FROM {store.table('calls')} WHERE minute >= toDateTime({since}, 'UTC') AND minute < toDateTime({until}, 'UTC')"
        " GROUP BY day"
    )
    rows = store.rows(
        f"SELECT toUnixTimestamp(w.day) AS day_, w.rows FROM ({written}) AS w LEFT JOIN ({audited}) AS a ON w.day = a.day"
        f" WHERE toInt64(a.version) <= w.written + {SETTLING * 1_000_000}"
        # A clock that was set back must not leave days as they were.
        " OR toInt64(a.version) > toUnixTimestamp64Micro(now64(6)) ORDER BY day_"
    )
    return [(int(day), int(count)) for day, count in rows]


def _packed(days: Sequence[tuple[int, int]]) -> Iterator[list[int]]:
    """Days for one statement each: as many as have ``CALLS_PER_QUERY`` calls, and at least one."""
    some: list[int] = []
    calls = 0
    for day, count in days:
        if some and calls + count > CALLS_PER_QUERY:
            yield some
            some, calls = [], 0
        some.append(day)
        calls += count
    if some:
        yield some


def statement(store: Store, days: Sequence[int]) -> str:
    """The one statement that replaces ``days`` (seconds since 1970, starts of UTC days, ascending)."""
    keys = ", ".join(_KEYS)
    dirty = ", ".join(map(str, days))
    first, last = f"toDateTime({days[0]}, 'UTC')", f"toDateTime({days[-1] + _DAY - 1}, 'UTC')"
    figures = [*_INTEGERS, *_MONEY]
    fresh = ", ".join(
        f"{_EXPRESSIONS[name] if name in _MONEY else f'toInt64({_EXPRESSIONS[name]})'} AS {name}__" for name in figures
    )
    zeros = ", ".join(f"{'toDecimal128(0, 12)' if name in _MONEY else 'toInt64(0)'} AS {name}__" for name in figures)
    totals = ", ".join(f"sum({name}__) AS {name}" for name in figures)
    labels = ", ".join(name for name in _KEYS if name not in ("side", "category"))
    return (
        f"INSERT INTO {store.table(AUDIT_DAYS.name)} (day, {keys}, {', '.join(figures)}, version)\n"
        f"SELECT day_, {keys}, {totals},"
        f" greatest(toUInt64(toUnixTimestamp64Micro(now64(6))), max(version_) + 1)\n"
        f"FROM (\n"
        f"  SELECT day_, {keys}, {_CONSTANT}, {fresh}, toUInt64(0) AS version_\n"
        f"  FROM (\n"
        f"    SELECT day_, {labels}, side_.1 AS side, side_.2 AS category, side_.4 AS reported_, side_.5 AS counted_,\n"
        f"      side_.6 AS cost_, side_.7 AS priced_, side_.8 AS band_, reported_ - counted_ AS difference_,\n"
        f"      multiIf(band_ < 0, toInt64(0), difference_ > 0, greatest(difference_ - band_, 0),"
        f" least(difference_ + band_, 0)) AS beyond_,\n"
        f"      priced AND priced_ > 0 AND NOT (cost_ = 0 AND other) AS rated_\n"
        f"    FROM (\n"
        f"      SELECT toStartOfDay(minute) AS day_, {labels}, isNotNull(cost) AS priced, ifNull(cost_other, 0) != 0 AS other,\n"
        f"        arrayJoin(arrayFilter(one -> one.3, [{_SIDES}])) AS side_\n"
        f"      FROM {store.table('calls')} FINAL\n"
        f"      WHERE minute BETWEEN {first} AND {last} AND toUInt32(day_) IN ({dirty}) AND {_REPORTED}\n"
        f"    )\n"
        f"  ) GROUP BY day_, {keys}\n"
        f"  UNION ALL\n"
        f"  SELECT day AS day_, {keys}, (toInt64(0), (toInt64(0), toUInt64(0), toInt64(0))) AS constant_, {zeros},"
        f" version AS version_\n"
        f"  FROM {store.table(AUDIT_DAYS.name)} FINAL\n"
        f"  WHERE day BETWEEN {first} AND {last} AND toUInt32(day) IN ({dirty})\n"
        f") GROUP BY day_, {keys}"
    )


def audit_days(
    store: Store, since: int = 0, until: int = 2**32 - 1, where: Mapping[str, Sequence[str]] | None = None
) -> list[AuditDay]:
    """Rows of the days that begin in ``[since, until)``, of which each column in ``where`` has one of its values; in the order
    of the table's key."""
    chosen = {name: list(values) for name, values in (where or {}).items()}
    if unknown := chosen.keys() - set(_KEYS):
        raise ValueError(f"audit_days is not grouped by {', '.join(sorted(unknown))}")
    conditions = "".join(f" AND {name} IN {{{name}:Array(String)}}" for name in chosen)
    columns = ", ".join("toDate(day)" if name == "day" else name for name in AuditDay._fields)
    rows = store.rows(
        f"SELECT {columns} FROM {store.table(AUDIT_DAYS.name)} FINAL WHERE calls != 0"
        f" AND day >= toDateTime({since}, 'UTC') AND day < toDateTime({until}, 'UTC'){conditions} ORDER BY {AUDIT_DAYS.order_by}",
        chosen,
    )
    return [AuditDay._make(row) for row in rows]
