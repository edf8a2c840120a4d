"""The figures of ``llm-finops summary``: read from rollups, except prompts, which are read from calls.

Top-N and "other" exist only here, at query time. Token and dollar totals are exact; a NULL in ``spend`` would be a
lie, so unpriced calls are a column of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from schemas.call import LEAVES
from schemas.tables import UNALLOCATED
from sinks.clickhouse import Store
from sinks.dead_letters import living

_INPUT: Final = " + ".join(f"d.{leaf}" for leaf in LEAVES if leaf.startswith("input_"))
_OUTPUT: Final = " + ".join(f"d.{leaf}" for leaf in LEAVES if leaf.startswith("output_"))

GROUPS: Final = {
    "team": f"if(team = '', '{UNALLOCATED}', team)",
    "app": "app",
    "model": "concat(provider, '/', model)",
    "provider": "provider",
    "environment": "environment",
    "feature": "feature",
    "cost_center": "cost_center",
}
"""What spend can be shown by, and its expression over the rollups."""

_SUMS: Final = (
    f"sum(d.calls) AS calls, sum({_INPUT}) AS input_tokens, sum(d.input_cache_read) AS cached_tokens,"
    f" sum({_OUTPUT}) AS output_tokens, sum(d.cost) AS spend, sumIf(d.calls, d.price_status = 'unpriced') AS unpriced_calls"
)


def _living(store: Store, table: str) -> str:
    """Rows of a rollup that still have calls, as a table of its own: sums may then have the names of its columns."""
    return f"(SELECT * FROM {store.table(table)} FINAL WHERE calls != 0) AS d"


@dataclass(frozen=True)
class Totals:
    """The whole store: its period, its sums, and how the last run went."""

    first: datetime | None
    last: datetime | None
    calls: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    spend: Decimal
    unpriced_calls: int
    run: dict[str, Any]


def totals(store: Store) -> Totals:
    """Totals of everything in the store."""
    sums = store.named_rows(f"SELECT {_SUMS} FROM {_living(store, 'days')}")[0]
    period = store.rows(f"SELECT min(minute), max(minute), count() FROM {store.table('minutes')} FINAL WHERE calls != 0")
    first, last, count = period[0]
    runs = store.named_rows(
        f"SELECT started_at, ended_at, state, records, calls, dead_letters, ignored, bytes, seconds"
        f" FROM {store.table('runs')} FINAL ORDER BY started_at DESC LIMIT 1"
    )
    first, last = (minute.replace(tzinfo=UTC) for minute in (first, last))  # which servers leave away
    return Totals(first if count else None, last if count else None, run=runs[0] if runs else {}, **sums)


def spend_by(store: Store, group: str, top: int = 8) -> list[dict[str, Any]]:
    """Spend and tokens by one of ``GROUPS``: the ``top`` largest by spend, the rest as "other (n)"."""
    rows = store.named_rows(
        f"SELECT {GROUPS[group]} AS name, {_SUMS} FROM {_living(store, 'days')}"
        " GROUP BY name ORDER BY spend DESC, calls DESC, name"
    )
    return _with_other(rows, top)


def spend_by_hour(store: Store) -> list[dict[str, Any]]:
    """Spend and tokens by UTC hour of the day, over all days: 24 rows where there are calls in each."""
    return store.named_rows(
        f"SELECT formatDateTime(hour, '%H:00', 'UTC') AS name, {_SUMS} FROM {_living(store, 'hours')} GROUP BY name ORDER BY name"
    )


def top_prompts(store: Store, top: int = 8) -> list[dict[str, Any]]:
    """Prompts by spend: the template's name, else the hash of its system message; with what its fixed part is worth.

    ``fixed_tokens`` is the mean of counted system and tool-schema tokens per call: what is paid again on every call.
    """
    return store.named_rows(
        "SELECT multiIf(template != '', template, system_hash != 0, concat('system ', lower(hex(system_hash))),"
        " '(no system prompt)') AS name, any(app) AS app, count() AS calls,"
        f" sum({' + '.join(f'ifNull({leaf}, 0)' for leaf in LEAVES if leaf.startswith('input_'))}) AS input_tokens,"
        " sum(ifNull(input_cache_read, 0)) AS cached_tokens,"
        f" sum({' + '.join(f'ifNull({leaf}, 0)' for leaf in LEAVES if leaf.startswith('output_'))}) AS output_tokens,"
        " sum(ifNull(cost, 0)) AS spend, countIf(price_status = 'unpriced') AS unpriced_calls,"
        " toInt64(round(avg(system_tokens + tools_tokens))) AS fixed_tokens"
        f" FROM {store.table('calls')} FINAL GROUP BY name ORDER BY spend DESC, calls DESC, name LIMIT {int(top)}"
    )


def price_shares(store: Store) -> list[dict[str, Any]]:
    """Calls, tokens and spend by price status."""
    return store.named_rows(
        f"SELECT price_status AS name, {_SUMS} FROM {_living(store, 'days')} GROUP BY name ORDER BY spend DESC, calls DESC, name"
    )


ORIGINS: Final = ("billed", "vendor_reported", "usage", "counted", "estimated")
"""Where dollars come from, as ``cost_source`` says it, the surest first."""


def provenance(store: Store) -> list[dict[str, Any]]:
    """Spend by where it comes from, the surest first, and its error bar: half the width of what holds nine of ten true values."""
    sources = [name for name in ORIGINS if name != "usage"]
    sums = ", ".join(f"sum(d.cost_{name}) AS {name}" for name in sources)
    row = store.named_rows(f"SELECT sum(d.cost) AS spend, sum(d.cost_error) AS error, {sums} FROM {_living(store, 'days')}")[0]
    spend = {name: row[name] for name in sources}
    spend["usage"] = row["spend"] - sum(spend.values())
    none = Decimal(0)
    return [{"name": name, "spend": spend[name], "error": row["error"] if name == "estimated" else none} for name in ORIGINS]


DOUBTS: Final = {
    "inconsistent": ("usage_quality = 'inconsistent'", "tokens that were reported contradict each other; calls.flags says how"),
    "no_time": ("time_quality = 'transport'", "the log says no time: dated, and priced, by when they were sent or read"),
    "odd_time": ("time_quality = 'implausible'", "the log's time cannot be: dated, and priced, by when they were sent or read"),
}
"""What makes the figures of a call doubtful though they are there: the condition, and what it means."""


def doubts(store: Store) -> list[dict[str, Any]]:
    """Calls and spend of what is doubtful; a call may be in several."""
    sums = ", ".join(f"countIf({of}), sumIf(ifNull(cost, 0), {of})" for of, _ in DOUBTS.values())
    row = store.rows(f"SELECT {sums} FROM {store.table('calls')} FINAL")[0]
    pairs = zip(DOUBTS, row[::2], row[1::2], strict=True)
    return [{"name": name, "calls": calls, "spend": spend, "meaning": DOUBTS[name][1]} for name, calls, spend in pairs if calls]


def unpriced(store: Store) -> list[dict[str, Any]]:
    """Why calls have no price: reason, provider, model and how many, most first."""
    return store.named_rows(
        f"SELECT price_reason AS reason, provider, model, count() AS calls FROM {store.table('calls')} FINAL"
        f" WHERE price_status = 'unpriced' GROUP BY reason, provider, model ORDER BY calls DESC, reason, model"
    )


def dead_letters(store: Store) -> list[dict[str, Any]]:
    """Dead letters by reason, with one example each; those that became something else later are not dead."""
    return store.named_rows(
        "SELECT reason, count() AS letters, sum(size) AS bytes, any(error) AS example"
        f" FROM {living(store)} GROUP BY reason ORDER BY letters DESC, reason"
    )


def _with_other(rows: list[dict[str, Any]], top: int) -> list[dict[str, Any]]:
    head, tail = rows[:top], rows[top:]
    for row in head:
        row["name"] = row["name"] or "(none)"
    if not tail:
        return head
    other = {key: sum(row[key] for row in tail) for key in tail[0] if key != "name"}
    return [*head, {"name": f"other ({len(tail)})", **other}]
