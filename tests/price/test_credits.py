"""Credits, against a loop that spends dollar by dollar; laws of drawing and sharing."""

from __future__ import annotations

from datetime import UTC, date, datetime
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.price.contracts import Credit
from transforms.price.credits import begins, draw, ends, rate, run_out, shares
from transforms.price.fields import EVER, FOREVER

DAY = 86_400_000_000

credit_lists = st.lists(
    st.tuples(st.integers(1, 12), st.none() | st.integers(0, 8), st.integers(1, 8) | st.none()), max_size=4
).map(
    lambda some: tuple(
        Credit(
            f"c{number}",
            amount,
            EVER if start is None else start * DAY,
            FOREVER if length is None else ((start or 0) + length) * DAY,
        )
        for number, (amount, start, length) in enumerate(some)
    )
)
day_costs = st.dictionaries(st.integers(0, 12), st.integers(0, 30), max_size=12)


def spend(costs: dict[int, int], credits: tuple[Credit, ...]) -> tuple[dict[int, int], dict[str, int], dict[str, int]]:
    """Dollar by dollar: each is paid for by the credit that ends first, of those that hold and have something left.

    What was paid by day, what is left by credit, and the day of the last dollar of those of which nothing is.
    """
    gone: dict[str, int] = {}
    left = {credit.name: credit.amount for credit in credits}
    paid = dict.fromkeys(costs, 0)
    for day, cost in sorted(costs.items()):
        for _ in range(cost):
            able = [one for one in credits if one.start <= day * DAY < one.end and left[one.name]]
            if able:
                name = min(able, key=lambda one: (one.end, one.start, one.name)).name
                left[name] -= 1
                paid[day] += 1
                if not left[name]:
                    gone[name] = day
    return paid, left, gone


@given(day_costs, credit_lists)
def test_credits_pay_as_if_each_dollar_was_spent_one_by_one(costs: dict[int, int], credits: tuple[Credit, ...]) -> None:
    paid, left, gone = spend(costs, credits)
    drawn = draw(costs, credits)
    assert dict(drawn.days) == paid
    assert {use.credit.name: use.left for use in drawn.uses} == left
    assert {use.credit.name: use.used_up for use in drawn.uses if use.used_up is not None} == gone
    assert sum(drawn.days.values()) == sum(use.used for use in drawn.uses)
    assert all(0 <= drawn.days[day] <= cost for day, cost in costs.items()), "effective cost is never below 0"
    assert all(0 <= use.used <= use.credit.amount for use in drawn.uses)


@given(day_costs, credit_lists, st.integers(0, 12))
def test_neither_the_order_of_days_nor_later_ones_change_what_was_paid(
    costs: dict[int, int], credits: tuple[Credit, ...], until: int
) -> None:
    backwards = draw(dict(sorted(costs.items(), reverse=True)), credits[::-1])
    assert backwards == draw(costs, credits)
    before = draw({day: cost for day, cost in costs.items() if day < until}, credits)
    assert all(draw(costs, credits).days[day] == paid for day, paid in before.days.items())


@given(day_costs, credit_lists, st.integers(0, 9))
def test_the_day_that_a_credit_runs_out_is_when_nothing_is_left(
    costs: dict[int, int], credits: tuple[Credit, ...], a_day: int
) -> None:
    last = 12
    found = run_out(draw(costs, credits).uses, a_day, last)
    assert found == spend({**costs, **dict.fromkeys(range(last + 1, 100), a_day)}, credits)[2]


@given(st.lists(st.integers(0, 10**18), max_size=9).filter(sum), st.floats(0, 1))
def test_shares_add_up_and_are_in_proportion(weights: list[int], part: float) -> None:
    amount = int(sum(weights) * Fraction(part))
    found = shares(amount, weights)
    assert sum(found) == amount
    for share, weight in zip(found, weights, strict=True):
        assert abs(share - Fraction(amount * weight, sum(weights))) < 1
        assert share <= weight


def test_nothing_is_shared_among_nothing() -> None:
    assert shares(0, [0, 0]) == [0, 0]


@pytest.mark.parametrize(
    ("costs", "last", "a_day"),
    [
        ({}, 20, 0),
        ({20: 70}, 20, 70),  # its first day is all there is
        ({19: 10, 20: 1000}, 20, 10),  # a day that may go on is left out
        ({18: 10, 20: 1000}, 20, 5),
        ({0: 10**6, **dict.fromkeys(range(13, 20), 14), 20: 1000}, 20, 14),
        ({0: 10**6, 13: 70}, 20, 10),
        ({0: 10**6, 12: 70}, 20, 0),
    ],
)
def test_the_rate_is_the_mean_of_the_week_before_the_last_day(costs: dict[int, int], last: int, a_day: int) -> None:
    assert rate(costs, last) == a_day


def test_days_of_a_credit() -> None:
    first, after = ((day - date(1970, 1, 1)).days for day in (date(2026, 1, 1), date(2026, 7, 1)))
    start, end = (round(datetime(2026, month, 1, tzinfo=UTC).timestamp()) * 1_000_000 for month in (1, 7))
    credit = Credit("c", 1, start, end)
    assert (begins(credit), ends(credit)) == (first, after)
    assert list(draw(dict.fromkeys(range(first - 1, after + 1), 0) | {first - 1: 1, after: 1}, (credit,)).days.values()).count(1) == 0
    assert draw({after - 1: 1}, (credit,)).uses[0].used_up == after - 1
    assert (begins(Credit("c", 1, EVER, FOREVER)), ends(Credit("c", 1, EVER, FOREVER))) == (None, None)
