"""Batches of calls for the pricing tests, and an independent price: decimals, no shared code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from schemas.call import LEAVES

TEXTS = (
    "provider",
    "model",
    "service_tier",
    "region_scope",
    "speed",
    "status",
    "usage_source",
    "deployment_type",
    "reported_cost_by",
    "account",
    "project",
    "tenant",
)
DEFAULTS: Mapping[str, Any] = {
    "provider": "openai",
    "model": "gpt-4o-2024-08-06",
    "event_time": "2026-11-01",
    "status": "ok",
    "usage_source": "vendor",
    "batch": False,
    "spillover": False,
    "gateway_cache_hit": False,
    "http_status": 200,
}


def micros(text: str) -> int:
    """A UTC date or time as microseconds since 1970."""
    moment = datetime.fromisoformat(text).replace(tzinfo=UTC)
    return round(moment.timestamp()) * 1_000_000


def batch(calls: Sequence[Mapping[str, Any]], *, dictionary: bool = False) -> pa.RecordBatch:
    """Calls as a record batch with the columns pricing reads. Missing leaves are null; ``event_time`` is a text."""
    full = [{**DEFAULTS, **call} for call in calls]
    columns: dict[str, pa.Array] = {}
    for name in TEXTS:
        values = pa.array([call.get(name, "") for call in full], pa.string())
        columns[name] = values.dictionary_encode() if dictionary else values
    times = [t if isinstance(t := call["event_time"], int) else micros(t) for call in full]
    columns["event_time"] = pa.array(times, pa.int64()).cast(pa.timestamp("us", "UTC"))
    for name in ("batch", "spillover", "gateway_cache_hit"):
        columns[name] = pa.array([call[name] for call in full], pa.bool_())
    columns["http_status"] = pa.array([call["http_status"] for call in full], pa.uint16())
    for name in (*LEAVES, "web_searches", "file_searches", "counted_input_error", "counted_output_error"):
        columns[name] = pa.array([call.get(name) for call in full], pa.int64())
    reported = [call.get("reported_cost") for call in full]
    columns["reported_cost"] = pa.array(reported, pa.decimal128(18, 12))
    return pa.RecordBatch.from_pydict(columns)


def dollars(pico: int) -> Decimal:
    """Pico-dollars as dollars."""
    return Decimal(int(pico)).scaleb(-12)
