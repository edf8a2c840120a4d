"""The drift audit by a plain loop over calls, and calls to audit, made by hand: no decoder, counter or engine is involved."""

from __future__ import annotations

import math
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np

from schemas.audit import AuditDay
from schemas.batch import CallBatch, RowBatch, SegmentEnd
from schemas.call import Call
from schemas.tables import COSTS
from tests.sinks.samples import NOON, SEGMENT, call
from transforms import rows

PARTS = [name for name, _ in COSTS]
DAY = 86_400


@dataclass
class Billed:
    """A call and its costs in pico-dollars by part; None: it has no price."""

    call: Call
    costs: dict[str, int] | None = field(default_factory=dict)


def plain(number: int, day: int, reported: int, counted: int, rate: int = 2_500_000, **fields: Any) -> Billed:
    """A call of plain text on the ``day``-th day from 2025-06-01, whose prompt costs ``rate`` pico-dollars a token."""
    given = {
        "model": "gpt-4o",
        "api": "openai.chat",
        "endpoint_host": "api.openai.com",
        "usage_source": "vendor",
        "usage_quality": "ok",
        "counted_with": "o200k_base",
        "count_quality": "exact_tokenizer",
        "input_fresh": reported,
        "counted_input": counted,
    }
    made = call(number, NOON + day * DAY + number % 600 * 60, **(given | fields))
    return Billed(made, {"cost_input": reported * rate})


def any_call(number: int, rng: random.Random) -> Billed:
    """A call of any kind, also of those that must not be compared."""
    counted = rng.choice((0, rng.randrange(1, 50), rng.randrange(50, 5000)))
    fresh = max(0, counted + rng.choice((0, 0, 0, 37, rng.randrange(-40, 200))))
    answer = rng.randrange(0, 400)
    fields: dict[str, Any] = {
        "tenant": rng.choice(("acme", "b")),
        "provider": rng.choice(("openai", "azure")),
        "model": rng.choice(("gpt-4o", "o3-mini")),
        "endpoint_host": rng.choice(("", "proxy.local")),
        "usage_source": rng.choice(("vendor", "vendor", "gateway", "counted", "none")),
        "usage_quality": rng.choice(("ok", "ok", "ok", "inconsistent", "partial")),
        "count_quality": rng.choice(("exact_tokenizer", "exact_tokenizer", "estimate", "partial")),
        "flags": rng.choice(([], [], [], ["other_units"], ["hidden_reasoning"])),
        "input_fresh": rng.choice((fresh, fresh, None)),
        "input_cache_read": rng.choice((None, 0, 1024)),
        "input_cache_write_5m": rng.choice((None, 7)),
        "input_tool_use": rng.choice((None, 300)),
        "input_audio": rng.choice((None, None, 20)),
        "output_visible": rng.choice((answer, answer, None)),
        "output_reasoning": rng.choice((None, 0, 0, 64)),
        "output_audio": rng.choice((None, None, 0, 5)),
        "output_image": rng.choice((None, None, 0, 5)),
        "counted_input": rng.choice((counted, counted, counted, None)),
        "counted_output": rng.choice((answer, answer + rng.randrange(20), None)),
        "counted_input_error": rng.choice((None, 0, 30)),
        "counted_output_error": rng.choice((None, 0, 5)),
        "media_parts": rng.choice((0, 0, 0, 1)),
        "tools_count": rng.choice((0, 0, 2)),
        "tools_tokens": rng.choice((0, 0, 55)),
        "tool_result_messages": rng.choice((0, 0, 1)),
        "answer_call_tokens": rng.choice((0, 0, 9)),
    }
    one = plain(number, rng.randrange(4), 0, 0, **fields)
    if rng.random() < 0.1:
        one.costs = None
    elif rng.random() < 0.1:
        one.costs = {"cost_other": rng.randrange(1, 10**9)}  # a vendor that states a sum only
    else:
        one.costs = {name: rng.randrange(10**9) for name in PARTS}
    return one


def batch(calls: Sequence[Billed]) -> RowBatch:
    """What the price step would make of the calls."""
    values = {name: np.array([(one.costs or {}).get(name, 0) for one in calls], dtype=np.int64) for name in PARTS}
    total = sum(values.values())
    count = len(calls)
    null = np.array([one.costs is None for one in calls], dtype=np.bool_)
    words = {name: [""] * count for name in ("price_status", "price_reason", "cost_source", "contract", "rate_id")}
    money = SimpleNamespace(
        cost=total,
        null=null,
        **values,
        list_cost=total,
        cost_error=np.zeros(count, dtype=np.int64),
        error_unknown=np.zeros(count, dtype=np.bool_),
        book_version="test",
        **words,
    )
    only = [one.call for one in calls]
    made = CallBatch("calls.jsonl", SEGMENT, SEGMENT, NOON * 1_000_000, only, [c.position for c in only], [], [])
    made.end = SegmentEnd(0, max(c.position for c in only) + 100, len({c.position for c in only}), 0)
    return RowBatch(
        calls=rows.with_money(rows.call_rows(only), money, 1),
        receipts=rows.receipts(made),
        dead_letters=rows.dead_letters(made),
        segments=rows.segment_ends(made),
        minutes=rows.minutes_of(only),
        oldest=min(c.event_time for c in only),
        default_time=NOON * 1_000_000,
    )


def audited(calls: Iterable[Billed]) -> list[AuditDay]:
    """``audit_days`` of calls with different keys, by a plain loop."""
    groups: dict[tuple[Any, ...], list[_Side]] = defaultdict(list)
    for one in calls:
        for side in _sides(one):
            c = one.call
            day = datetime.fromtimestamp(c.event_time // 1_000_000, UTC).date()
            labels = (c.provider, c.model, c.api, c.endpoint_host, c.usage_source, side.side, side.category)
            groups[c.tenant, day, *labels, c.count_quality, c.counted_with].append(side)
    return [_row(key, groups[key]) for key in sorted(groups)]


@dataclass
class _Side:
    side: str
    category: str
    reported: int
    counted: int
    cost: int | None
    priced: int
    band: int | None

    @property
    def difference(self) -> int:
        return self.reported - self.counted

    @property
    def beyond(self) -> int:
        if self.band is None:
            return 0
        return max(0, abs(self.difference) - self.band) * (1 if self.difference > 0 else -1)

    def dollars(self, tokens: int) -> int:
        """Pico-dollars of so many tokens at the price of the call, cut toward zero."""
        return int(Fraction(self.cost * tokens, self.priced)) if self.cost is not None else 0


def _sides(one: Billed) -> Iterable[_Side]:
    c, costs = one.call, one.costs
    if c.usage_source not in ("vendor", "gateway") or c.usage_quality == "partial" or "other_units" in c.flags:
        return

    def band(error: int | None) -> int | None:
        return {"exact_tokenizer": 0, "partial": None}.get(c.count_quality, error)

    def cost(of: int, priced: int) -> int | None:
        known = costs is not None and priced > 0 and not (of == 0 and costs.get("cost_other", 0))
        return of if known else None

    paid = costs or {}
    cached = [c.input_cache_read, c.input_cache_write_5m, c.input_cache_write_1h, c.input_cache_write_other]
    leaves = [c.input_fresh, *cached, c.input_audio, c.input_image]
    if c.counted_input is not None and any(leaf is not None for leaf in leaves):
        priced = sum(leaf or 0 for leaf in [c.input_fresh, *cached])
        if c.media_parts:
            category = "media"
        elif c.tools_count:
            category = "tools"
        elif c.tools_tokens:
            category = "schema"
        else:
            category = "tool history" if c.tool_result_messages else "plain text"
        of = sum(paid.get(name, 0) for name in ("cost_input", "cost_cache_read", "cost_cache_write"))
        reported = sum(leaf or 0 for leaf in leaves)
        yield _Side("input", category, reported, c.counted_input, cost(of, priced), priced, band(c.counted_input_error))
    shown = not c.output_audio and not c.output_image and "hidden_reasoning" not in c.flags
    reasons = c.output_reasoning if c.output_reasoning is not None else int(c.model.startswith("o3"))
    if c.counted_output is not None and c.output_visible is not None and shown and not reasons:
        priced = c.output_visible
        category = "tool calls" if c.answer_call_tokens else "text"
        of = paid.get("cost_output", 0)
        yield _Side("output", category, priced, c.counted_output, cost(of, priced), priced, band(c.counted_output_error))


def nearest_rank(values: Sequence[int], share: float) -> int:
    return sorted(values)[max(0, math.ceil(len(values) * share) - 1)] if values else 0


def _row(key: tuple[Any, ...], sides: Sequence[_Side]) -> AuditDay:
    differences = [s.difference for s in sides]
    ratios = [s.reported * 1000 // s.counted for s in sides if s.counted]
    constants = Counter(d for d in differences if d)
    constant, constant_calls = min(constants.items(), key=lambda item: (-item[1], abs(item[0]), item[0]), default=(0, 0))
    picos = [sum(s.cost or 0 for s in sides), sum(s.dollars(s.difference) for s in sides), sum(s.dollars(s.beyond) for s in sides)]
    return AuditDay(
        *key,
        len(sides),
        differences.count(0),
        sum(d > 0 for d in differences),
        sum(d < 0 for d in differences),
        sum(s.reported for s in sides),
        sum(s.counted for s in sides),
        sum(differences),
        sum(map(abs, differences)),
        *(nearest_rank(differences, share) for share in (0.05, 0.5, 0.95)),
        *(nearest_rank(ratios, share) for share in (0.05, 0.5, 0.95)),
        constant,
        constant_calls,
        sum(s.band is not None for s in sides),
        sum(s.cost is None for s in sides),
        *(Decimal(pico).scaleb(-12) for pico in picos),
    )


def day_of(number: int) -> date:
    """The ``number``-th day from 2025-06-01."""
    return datetime.fromtimestamp(NOON + number * DAY, UTC).date()
