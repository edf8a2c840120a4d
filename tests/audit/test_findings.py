"""Faults that are put into generated calls are found, with their day, size and dollars; calls without fault give nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.audit.loop import Billed, audited, day_of, plain
from transforms.audit import MEANINGS, Finding, Kind, findings

RATE = 2_500_000
Fault = Callable[[int, int, random.Random], int]
"""Reported tokens of a call by its day, its counted tokens, and chance."""


def traffic(fault: Fault, days: int = 10, calls: int = 30, seed: int = 1, first: int = 1, **fields: Any) -> list[Billed]:
    """Calls of some days with prompts of 100 to 2,000 tokens."""
    rng = random.Random(seed)
    made = []
    for number in range(days * calls):
        day, counted = number // calls, rng.randrange(100, 2000)
        made.append(plain(first + number, day, fault(day, counted, rng), counted, RATE, **fields))
    return made


def true(day: int, counted: int, rng: random.Random) -> int:
    """What is real: of a hundred calls four are counted wrong, by what the log does not show of them."""
    return counted + (rng.choice((-60, -3, 1, 2, 7, 40, 900)) if rng.random() < 0.04 else 0)


def estimated(day: int, counted: int, rng: random.Random) -> int:
    return round(counted * rng.gauss(1.02, 0.08))


def found(*calls: list[Billed]) -> list[Finding]:
    return findings(audited(one for some in calls for one in some))


def dollars(calls: list[Billed], tokens: Callable[[Billed], Decimal | int]) -> Decimal:
    return sum((Decimal(tokens(one) * RATE) for one in calls), Decimal(0)) / 10**12


def difference(one: Billed) -> int:
    assert one.call.input_fresh is not None
    assert one.call.counted_input is not None
    return one.call.input_fresh - one.call.counted_input


@pytest.mark.parametrize("seed", range(20))
def test_calls_without_fault_give_no_finding(seed: int) -> None:
    exact = traffic(true, days=25, calls=1 + seed * 2, seed=seed)
    guessed = traffic(estimated, days=25, calls=1 + seed * 2, seed=seed, count_quality="estimate", model="claude-sonnet-4-5")
    part = traffic(lambda d, c, r: c + r.randrange(5000), seed=seed, count_quality="partial", model="gemini-2.5-flash")
    assert found(exact, guessed, part) == []


def test_a_proxy_that_adds_a_text_is_told_from_the_other_host_that_does_not() -> None:
    through = traffic(lambda d, c, r: true(d, c, r) + 37 * (d >= 5), first=1000, endpoint_host="proxy.local")
    mini = traffic(lambda d, c, r: c + 37 * (d >= 6), first=2000, endpoint_host="proxy.local", model="gpt-4o-mini")
    direct = traffic(true, seed=2)
    (one,) = found(through, mini, direct)
    assert (one.kind, one.endpoint_host, one.tokens) == (Kind.PROXY_TEXT, "proxy.local", 37)
    assert (one.models, one.first_day, one.last_day) == (("gpt-4o", "gpt-4o-mini"), day_of(5), day_of(9))
    hit = [some for some in (*through, *mini) if difference(some) == 37]
    assert one.seen_in == len(hit) > 250
    assert (one.elsewhere, one.elsewhere_calls) == ("api.openai.com", 300)
    assert one.elsewhere_exact == sum(difference(some) == 0 for some in direct) > 250
    assert abs(one.dollars - dollars(hit, lambda _: 37)) < one.dollars / 100  # other differences share a day's average price
    assert abs(one.dollars_per_day - one.dollars / 5) < Decimal("1e-11")
    assert "+37 tokens on 26" in one.evidence


def test_a_hidden_text_on_all_hosts_to_the_last_digit() -> None:
    calls = traffic(lambda d, c, r: c + 820 * (d >= 4))
    (one,) = found(calls)
    hit = [some for some in calls if difference(some)]
    assert (one.kind, one.tokens, one.first_day, one.last_day) == (Kind.HIDDEN_TEXT, 820, day_of(4), day_of(9))
    assert (one.calls, one.seen_in, one.dollars) == (180, 180, dollars(hit, lambda _: 820))


def test_a_text_on_a_part_of_the_calls_of_one_series() -> None:
    (one,) = found(traffic(lambda d, c, r: c + 40 * (r.random() < 0.3)))
    assert (one.kind, one.tokens) == (Kind.HIDDEN_TEXT, 40)


@pytest.mark.parametrize("quality", ["exact_tokenizer", "estimate"])
@pytest.mark.parametrize("factor", [1.3, 0.8])
def test_a_change_of_tokenizer_is_found_on_its_day(quality: str, factor: float) -> None:
    base = true if quality == "exact_tokenizer" else estimated
    calls = traffic(lambda d, c, r: round(base(d, c, r) * (factor if d >= 6 else 1)), count_quality=quality, days=12)
    (one,) = found(calls)
    assert (one.kind, one.first_day, one.last_day) == (Kind.TOKENIZER_CHANGE, day_of(6), day_of(11))
    assert one.before is not None
    assert one.after is not None
    assert one.after / one.before == pytest.approx(factor, rel=0.03)
    since = [some for some in calls if some.call.event_time >= min(c.call.event_time for c in calls[180:])]
    more = dollars(since, lambda some: Decimal(some.call.input_fresh or 0) * (1 - Decimal(1) / Decimal(str(factor))))
    assert float(one.dollars) == pytest.approx(float(more), rel=0.1)


def test_a_ratio_that_comes_back_is_no_change_that_stayed() -> None:
    assert found(traffic(lambda d, c, r: round(c * (1.0, 1.3)[d % 2]), count_quality="estimate", days=20)) == []


def test_an_estimate_needs_days_before_and_after() -> None:
    calls = traffic(lambda d, c, r: round(c * (1.3 if d >= 2 else 1)), count_quality="estimate", days=8)
    assert found(calls) == []


def test_a_vendor_that_reports_five_percent_too_much() -> None:
    calls = traffic(lambda d, c, r: -(-c * 105 // 100) if d >= 3 else true(d, c, r))
    (one,) = found(calls)
    assert (one.kind, one.first_day, one.last_day) == (Kind.OVER_REPORTING, day_of(3), day_of(9))
    since = calls[90:]
    assert one.seen_in == sum(difference(some) > 0 for some in since) == one.calls == 210
    assert one.dollars == dollars(since, difference)
    assert one.tokens == sum(map(difference, since))
    assert one.after is not None
    assert 1050 <= one.after <= 1055


@pytest.mark.parametrize(
    ("kind", "fault"),
    [
        (Kind.UNDER_REPORTING, lambda d, c, r: c * 9 // 10),
        (Kind.TEXT_NOT_REPORTED, lambda d, c, r: c // 4),
        (Kind.TEXT_NOT_LOGGED, lambda d, c, r: c + r.randrange(50, 4000)),
    ],
)
def test_levels_of_other_kinds(kind: Kind, fault: Fault) -> None:
    calls = traffic(fault)
    (one,) = found(calls)
    assert (one.kind, one.calls, one.dollars) == (kind, 300, dollars(calls, difference))


def test_what_is_seen_in_few_calls_or_is_small_is_no_finding() -> None:
    assert found(traffic(lambda d, c, r: c + 37, days=1, calls=19)) == []
    assert found(traffic(lambda d, c, r: c + 2)) == []  # framing: no text has two tokens
    assert found(traffic(lambda d, c, r: c + r.choice((1, 2)))) == []
    assert found(traffic(lambda d, c, r: c + c // 200)) == []
    assert found(traffic(lambda d, c, r: c + 40 * (r.random() < 0.05), calls=60)) == []  # thirty calls, a twentieth of all
    assert found(traffic(lambda d, c, r: c + r.choice((0, 0, 40, r.randrange(1, 900))))) == []  # half of the wrong ones alike


def test_nothing_is_compared_across_tenants() -> None:
    through = traffic(lambda d, c, r: c + 37, first=1000, endpoint_host="proxy.local")
    direct = traffic(true, tenant="other")
    (one,) = found(through, direct)
    assert (one.kind, one.tenant, one.elsewhere_calls) == (Kind.HIDDEN_TEXT, "acme", 0)


def test_the_most_dollars_come_first() -> None:
    small = traffic(lambda d, c, r: c + 10, model="a")
    large = traffic(lambda d, c, r: c * 2 + r.randrange(9), first=1000, model="b")
    assert [one.models for one in found(small, large)] == [("b",), ("a",)]


@given(st.randoms(use_true_random=False), st.sampled_from([37, 400]), st.integers(1, 8))
def test_the_order_of_rows_says_nothing(rng: random.Random, constant: int, day: int) -> None:
    calls = traffic(lambda d, c, r: c + constant * (d >= day), calls=25)
    rows = audited([*calls, *traffic(lambda d, c, r: c * 11 // 10, first=5000, model="x", calls=5)])
    wanted = findings(rows)
    rng.shuffle(rows)
    assert findings(rows) == wanted
    assert [(one.kind, one.first_day) for one in wanted if one.models == ("gpt-4o",)] == [(Kind.HIDDEN_TEXT, day_of(day))]


def test_every_kind_has_a_meaning() -> None:
    assert set(MEANINGS) == set(Kind)
