"""Calls and row batches for tests of the sink, made by hand: no decoder, counter or price book is involved."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from schemas.batch import CallBatch, DeadLetter, Ignored, RowBatch, SegmentEnd
from schemas.call import Call
from transforms import rows

NOON = 1_748_779_200  # 2025-06-01 12:00 UTC
SEGMENT = b"s" * 16


def call(number: int, minute: int = NOON, **fields: Any) -> Call:
    """The ``number``-th call of a segment, in the given minute (seconds since 1970)."""
    made = Call()
    made.tenant = "acme"
    made.source = "calls.jsonl"
    made.segment = SEGMENT
    made.position = number * 100
    made.call_key = number.to_bytes(16, "big")
    made.content_hash = bytes(16)
    made.event_time = minute * 1_000_000 + number
    made.time_quality = "exact"
    made.provider = "openai"
    made.model = "gpt-4o"
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def money(costs: list[int | None], part: str = "cost_input") -> Any:
    """What pricing would say: each cost in pico-dollars, all of it in one part; None is unpriced."""
    count = len(costs)
    values = np.array([cost or 0 for cost in costs], dtype=np.int64)
    parts = {name: np.zeros(count, dtype=np.int64) for name, _ in rows.COSTS} | {part: values}
    return SimpleNamespace(
        cost=values,
        null=np.array([cost is None for cost in costs], dtype=np.bool_),
        **parts,
        list_cost=values,
        cost_error=np.zeros(count, dtype=np.int64),
        error_unknown=np.zeros(count, dtype=np.bool_),
        price_status=["unpriced" if cost is None else "priced" for cost in costs],
        price_reason=["unknown_model" if cost is None else "" for cost in costs],
        cost_source=["" if cost is None else "usage" for cost in costs],
        contract=[""] * count,
        rate_id=["r1"] * count,
        book_version="test",
    )


def batch(
    calls: list[Call],
    costs: list[int | None] | None = None,
    dead: list[DeadLetter] | None = None,
    ignored: list[Ignored] | None = None,
    end: bool = True,
) -> RowBatch:
    """A row batch as the price step makes it. With ``end`` it closes its segment, with a true count of its records."""
    dead, ignored = dead or [], ignored or []
    segment_end = None
    if end:
        last = max([0, *(c.position for c in calls), *(d.position for d in dead), *(i.position for i in ignored)])
        positions = {c.position for c in calls} | {d.position for d in dead} | {i.position for i in ignored}
        segment_end = SegmentEnd(0, last + 100, len(positions), last + 100)
    made = CallBatch(
        "calls.jsonl",
        SEGMENT,
        SEGMENT,
        NOON * 1_000_000,
        calls,
        [c.position for c in calls],
        dead,
        ignored,
        end=segment_end,
    )
    unpriced = rows.call_rows(calls)
    priced = rows.with_money(unpriced, money(costs if costs is not None else [1_000_000] * len(calls)), 1)
    return RowBatch(
        calls=priced,
        receipts=rows.receipts(made),
        dead_letters=rows.dead_letters(made),
        segments=rows.segment_ends(made),
        minutes=rows.minutes_of(calls),
        oldest=min((c.event_time for c in calls), default=0),
        default_time=NOON * 1_000_000,
    )


def table(batches: list[RowBatch]) -> pa.Table:
    """Rows of ``calls`` of several batches."""
    return pa.Table.from_batches([b.calls for b in batches])
