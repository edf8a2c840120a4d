"""When requests come: the rhythm of days and weeks, and bursts inside a minute.

Burstiness follows public traces: the tenants of ServeGen (Alibaba Model Studio, 10-minute windows) have coefficients of
variation of the time between requests of 0.75, 1.2, 2.1 and 5.2 at the 10th, 50th, 75th and 90th percentile, against 1
for a Poisson process. Here a gamma factor on each minute and small clusters give about 1.2 to 2.
"""

from __future__ import annotations

import functools
import random
from math import exp, sqrt
from typing import Final

MINUTE: Final = 60_000_000
_WEEK: Final = 7 * 24 * 60
# 1970-01-01 was a Thursday: minute 0 of our week is Monday 00:00 UTC.
_THURSDAY: Final = 3 * 24 * 60

_ZONES: Final = ((1.0, 0.6), (-5.0, 0.4))
"""Offices: hours east of UTC, and the part of the staff that works there."""

_NIGHT: Final = 0.06
_WEEKEND: Final = 0.2

GAMMA_SHAPE: Final = 6.0
CLUSTER: Final = 0.12
"""Share of requests that bring others with them, one on average, within a second."""


def _office(hour: float) -> float:
    """How busy an office is at a local hour of a working day, 0 to 1, with a dip at lunch."""
    day = 1 / (1 + exp(-2.2 * (hour - 8.7))) / (1 + exp(1.6 * (hour - 17.6)))
    return day * (1 - 0.18 * exp(-((hour - 12.7) ** 2) / 0.5))


@functools.cache
def week(profile: str) -> tuple[float, ...]:
    """Weight of each minute of a week from Monday 00:00 UTC: business | flat (always on) | night (batches)."""
    return tuple(_weight(profile, minute) for minute in range(_WEEK))


def _weight(profile: str, minute: int) -> float:
    hour = minute % 1440 / 60
    if profile == "night":
        return 1.0 if 1 <= hour < 4 else 0.0
    busy = 0.0
    for east, part in _ZONES:
        local = (minute + east * 60) % _WEEK
        weekend = _WEEKEND if local >= 5 * 1440 else 1.0
        busy += part * weekend * _office(local % 1440 / 60)
    return 0.7 + 0.3 * busy if profile == "flat" else _NIGHT + (1 - _NIGHT) * busy


def weight(profile: str, time: int) -> float:
    """Weight of the minute that holds ``time``."""
    return week(profile)[(time // MINUTE + _THURSDAY) % _WEEK]


def total_weight(profile: str, begin: int, end: int) -> float:
    """Sum of the weights of the minutes that begin in ``[begin, end)``; whole weeks are summed once."""
    weights = week(profile)
    first = begin // MINUTE + _THURSDAY
    minutes = -(-(end - begin) // MINUTE)
    weeks, rest = divmod(minutes, _WEEK)
    return weeks * sum(weights) + sum(weights[(first + i) % _WEEK] for i in range(rest))


def poisson(rng: random.Random, mean: float) -> int:
    """A Poisson draw; beyond a mean of 30 by its normal approximation."""
    if mean <= 0:
        return 0
    if mean > 30:
        return max(0, round(mean + sqrt(mean) * rng.normalvariate(0.0, 1.0)))
    floor, number, product = exp(-mean), 0, rng.random()
    while product > floor:
        number += 1
        product *= rng.random()
    return number


def arrivals(rng: random.Random, mean: float, start: int, length: int) -> list[int]:
    """Times in ``[start, start + length)`` of about ``mean`` requests, in no order, with clusters."""
    draw = rng.random
    times: list[int] = []
    for _ in range(poisson(rng, mean / (1 + CLUSTER))):
        at = draw() * length
        times.append(start + int(at))
        if draw() < CLUSTER:
            while draw() < 0.5:  # one more on average
                near = at + draw() * 1e6
                times.append(start + int(near if near < length else at))
    return times
