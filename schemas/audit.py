"""One row of ``audit_days``: reported against counted tokens of one kind of calls on one day."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Final, NamedTuple

EXACT: Final = "exact_tokenizer"
ESTIMATE: Final = "estimate"
INPUT: Final = "input"
OUTPUT: Final = "output"


class AuditDay(NamedTuple):
    """The columns of ``audit_days`` less its version, by name; what they mean is said there (``schemas.tables``)."""

    tenant: str
    day: date
    provider: str
    model: str
    api: str
    endpoint_host: str
    usage_source: str
    side: str
    category: str
    count_quality: str
    counted_with: str
    calls: int
    exact_calls: int
    over_calls: int
    under_calls: int
    reported: int
    counted: int
    difference: int
    absolute_difference: int
    difference_p5: int
    difference_p50: int
    difference_p95: int
    ratio_p5: int
    ratio_p50: int
    ratio_p95: int
    constant: int
    constant_calls: int
    banded_calls: int
    unrated_calls: int
    cost: Decimal
    difference_cost: Decimal
    unexplained_cost: Decimal
