"""Pricing of batches: rules of status and source, exactness, and laws that hold for any usage."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.call import LEAVES
from schemas.tables import COSTS
from tests.price.calls import DEFAULTS, batch, dollars, micros
from transforms.price import Book, Key, PricedColumns, explain, explain_call, load_book, price_batch
from transforms.price.explain import WHY
from transforms.price.pricing import REASONS


@pytest.fixture(scope="module")
def book() -> Book:
    return load_book()


BOOK = load_book()


def one(book: Book, **call: Any) -> tuple[str, str, str, int | None]:
    priced = price_batch(batch([call]), book, 1)
    cost = None if priced.null[0] else int(priced.cost[0])
    return priced.price_status[0], priced.price_reason[0], priced.cost_source[0], cost


PRICE_LISTS: dict[tuple[str, str], dict[str, str]] = {
    # dollars per million, read from the vendors' pages
    ("openai", "gpt-4.1-mini"): {"input_fresh": "0.4", "input_cache_read": "0.1", "output_visible": "1.6"},
    ("openai", "gpt-5-nano"): {"input_fresh": "0.05", "input_cache_read": "0.005", "output_visible": "0.4"},
    ("anthropic", "claude-haiku-4-5"): {
        "input_fresh": "1",
        "input_cache_read": "0.1",
        "input_cache_write_5m": "1.25",
        "input_cache_write_1h": "2",
        "output_visible": "5",
    },
    ("anthropic", "claude-opus-5-5"): {
        "input_fresh": "4",
        "input_cache_read": "0.2",
        "input_cache_write_5m": "5",
        "input_cache_write_1h": "8",
        "output_visible": "20",
    },
    ("deepseek", "deepseek-reasoner"): {"input_fresh": "0.28", "input_cache_read": "0.028", "output_visible": "0.42"},
    ("gemini", "gemini-2.5-flash"): {
        "input_fresh": "0.3",
        "input_cache_read": "0.03",
        "input_audio": "1",
        "input_image": "0.3",
        "input_tool_use": "0.3",
        "output_visible": "2.5",
    },
}


def test_thousands_of_random_usages_equal_an_independent_decimal_sum() -> None:
    rng = random.Random(7)
    calls, expected = [], []
    for _ in range(5000):
        (provider, model), prices = rng.choice(list(PRICE_LISTS.items()))
        prices = {**prices, "output_reasoning": prices["output_visible"]}
        usage = {leaf: rng.choice([None, 0, rng.randrange(10 ** rng.randrange(1, 9))]) for leaf in prices}
        usage["input_fresh"] = rng.randrange(10_000_000)
        calls.append({"provider": provider, "model": model, **usage})
        expected.append({k: Decimal(v or 0) * Decimal(prices[k]) / 10**6 for k, v in usage.items()})
    priced = price_batch(batch(calls, dictionary=True), BOOK, 1)
    assert set(priced.price_status) == {"priced"}
    for i, parts in enumerate(expected):
        assert dollars(priced.cost[i]) == sum(parts.values())
        assert dollars(priced.cost_input[i]) == parts["input_fresh"]
        assert dollars(priced.cost_cache_read[i]) == parts["input_cache_read"]
        writes = [v for k, v in parts.items() if "cache_write" in k]
        assert dollars(priced.cost_cache_write[i]) == sum(writes)
        assert dollars(priced.cost_output[i]) == parts["output_visible"]
        assert dollars(priced.cost_reasoning[i]) == parts["output_reasoning"]
        others = [v for k, v in parts.items() if k in ("input_audio", "input_image", "input_tool_use")]
        assert dollars(priced.cost_other[i]) == sum(others)


ANTHROPIC = ("input_fresh", "input_cache_read", "input_cache_write_5m", "input_cache_write_1h", "output_visible")
usages = st.fixed_dictionaries({leaf: st.integers(0, 40_000) for leaf in ANTHROPIC})


@given(usages, usages)
@settings(max_examples=60, deadline=None)
def test_cost_adds_up_over_splits_of_a_call_within_a_band(a: dict[str, int], b: dict[str, int]) -> None:
    both = {leaf: a[leaf] + b[leaf] for leaf in ANTHROPIC}
    base = {"provider": "anthropic", "model": "claude-sonnet-4-6"}
    cost = price_batch(batch([{**base, **a}, {**base, **b}, {**base, **both}]), BOOK, 1).cost.tolist()
    assert cost[0] + cost[1] == cost[2]


@given(usages, st.sampled_from(ANTHROPIC[1:4]), st.data())
@settings(max_examples=60, deadline=None)
def test_leaves_do_not_overlap_so_moving_tokens_moves_their_price_alone(usage: dict[str, int], leaf: str, data: st.DataObject) -> None:
    moved = data.draw(st.integers(0, usage["input_fresh"]))
    other = {**usage, "input_fresh": usage["input_fresh"] - moved, leaf: usage[leaf] + moved}
    base = {"provider": "anthropic", "model": "claude-sonnet-4-6"}
    before, after = price_batch(batch([{**base, **usage}, {**base, **other}]), BOOK, 1).cost.tolist()
    prices = {"input_cache_read": "0.3", "input_cache_write_5m": "3.75", "input_cache_write_1h": "6"}  # of $3 a million
    assert dollars(after) - dollars(before) == moved * (Decimal(prices[leaf]) - 3) / 10**6


def test_a_rate_is_looked_up_once_for_each_distinct_key_of_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Key] = []
    plan = Book.plan
    monkeypatch.setattr(Book, "plan", lambda self, key: asked.append(key) or plan(self, key))
    rng = random.Random(3)
    models, tiers = ("gpt-4o", "gpt-5.4", "o3", "nobody's"), ("", "priority", "flex")
    calls = [{"model": rng.choice(models), "service_tier": rng.choice(tiers), "input_fresh": n} for n in range(2_000)]
    price_batch(batch(calls), BOOK, 1)
    assert sorted(asked) == sorted({Key("openai", call["model"], call["service_tier"]) for call in calls})


@given(st.integers(0, 400_000), st.integers(0, 400_000), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_the_band_is_a_cliff_for_the_whole_request(fresh: int, cached: int, output: int) -> None:
    call = {"model": "gpt-5.5", "input_fresh": fresh, "input_cache_read": cached, "output_visible": output}
    got = price_batch(batch([call]), BOOK, 1).cost[0]
    long = fresh + cached > 272_000
    per_million = (10, 1, 45) if long else (5, Decimal("0.5"), 30)
    expected = sum(Decimal(n) * Decimal(p) for n, p in zip((fresh, cached, output), per_million, strict=True)) / 10**6
    assert dollars(got) == expected


@given(st.lists(st.sampled_from([None, 0, 1, 7, 2**31, 2**53, 2**62, 2**63 - 1, -1]), min_size=12, max_size=12))
@settings(max_examples=150, deadline=None)
def test_any_usage_gives_an_exact_cost_or_none(counts: list[int | None]) -> None:
    call = {"provider": "anthropic", "model": "claude-opus-4-1", **dict(zip(LEAVES, counts, strict=True))}
    priced = price_batch(batch([call]), BOOK, 1)
    prices = dict(zip(ANTHROPIC, map(Decimal, ("15", "1.5", "18.75", "30", "75")), strict=True))
    prices |= {
        "input_cache_write_other": Decimal("18.75"),
        "input_tool_use": Decimal(15),
        "input_image": Decimal(15),
        "output_reasoning": Decimal(75),
    }
    used = {leaf: n for leaf, n in zip(LEAVES, counts, strict=True) if n}
    exact = sum((Decimal(n) * prices.get(leaf, Decimal(0)) for leaf, n in used.items()), Decimal(0)) / 10**6
    fine = (
        any(n is not None for n in counts)
        and all(0 <= n <= 2**53 for n in used.values())
        and used.keys() <= prices.keys()
        and exact < 10**6
    )
    if fine:
        assert dollars(priced.cost[0]) == exact
        assert priced.price_status == ["priced"]
    else:
        assert priced.price_status == ["unpriced"]
        assert priced.null[0]
        assert priced.price_reason[0]


calls_of_any_kind = st.fixed_dictionaries(
    {
        "provider": st.sampled_from(["openai", "anthropic", "ollama", "nobody"]),
        "model": st.sampled_from(["gpt-4o", "gpt-5.4", "claude-sonnet-4-5", "?"]),
        "service_tier": st.sampled_from(["", "default", "priority", "flex", "x"]),
        "status": st.sampled_from(["ok", "error", "blocked", "cancelled"]),
        "usage_source": st.sampled_from(["vendor", "gateway", "counted", "none"]),
        "gateway_cache_hit": st.booleans(),
        "reported_cost_by": st.sampled_from(["", "vendor", "gateway"]),
        "reported_cost": st.sampled_from([None, Decimal("0.000001"), Decimal("-1"), Decimal("999999.999999999999")]),
        "deployment_type": st.sampled_from(["", "payg", "ptu", "self_hosted"]),
        "input_fresh": st.sampled_from([None, 0, 10, 300_000]),
        "output_audio": st.sampled_from([None, 0, 1]),
        "event_time": st.sampled_from(["2023-01-01", "2024-09-01", "2026-11-01"]),
    }
)


@given(st.lists(calls_of_any_kind, min_size=1, max_size=12))
@settings(max_examples=80, deadline=None)
def test_parts_sum_to_the_cost_and_order_and_company_do_not_matter(calls: list[dict[str, Any]]) -> None:
    priced = price_batch(batch(calls), BOOK, 1)
    parts = sum(getattr(priced, name).astype(object) for name, _ in COSTS)
    assert (parts == priced.cost.astype(object)).all()
    assert [s == "unpriced" for s in priced.price_status] == priced.null.tolist()
    assert all(
        bool(r) == (s in ("unpriced", "not_billed") or r == "self_hosted")
        for s, r in zip(priced.price_status, priced.price_reason, strict=True)
    )
    for i, call in enumerate(calls):
        alone = price_batch(batch([call], dictionary=True), BOOK, 1)
        assert row(alone, 0) == row(priced, i)


def row(priced: PricedColumns, i: int) -> tuple[Any, ...]:
    money = [int(getattr(priced, name)[i]) for name in ("cost", *(name for name, _ in COSTS))]
    texts = (priced.price_status[i], priced.price_reason[i], priced.cost_source[i], priced.rate_id[i])
    return (*money, bool(priced.null[i]), *texts)


def test_who_says_what_a_call_cost(book: Book) -> None:
    usage = {"input_fresh": 1000}
    assert one(book, **usage) == ("priced", "", "usage", 2_500_000_000)
    counted = {**usage, "usage_source": "counted", "counted_input_error": 0}
    assert one(book, **counted) == ("estimated", "", "counted", 2_500_000_000)
    assert one(book, **{**counted, "counted_input_error": 1}) == ("estimated", "", "estimated", 2_500_000_000)
    assert one(book, **{**counted, "counted_input_error": None}) == ("estimated", "", "estimated", 2_500_000_000)
    vendor = {"reported_cost": Decimal("0.0123"), "reported_cost_by": "vendor"}
    assert one(book, **usage, **vendor) == ("priced", "", "vendor_reported", 12_300_000_000)
    assert one(book, provider="nobody", **vendor)[3] == 12_300_000_000
    gateway = {**vendor, "reported_cost_by": "gateway"}
    assert one(book, **usage, **gateway) == ("priced", "", "usage", 2_500_000_000)
    priced = price_batch(batch([{**usage, **vendor}]), book, 1)
    assert priced.cost_other[0] == 12_300_000_000
    assert priced.rate_id == [""]


def test_calls_that_nobody_bills(book: Book) -> None:
    usage = {"input_fresh": 1000}
    assert one(book, status="error", http_status=429, usage_source="none") == ("not_billed", "not_served", "stated", 0)
    counted = {**usage, "usage_source": "counted"}
    assert one(book, status="error", http_status=500, **counted)[0] == "not_billed"
    assert one(book, status="blocked", http_status=400, usage_source="none")[0] == "not_billed"
    assert one(book, **usage, gateway_cache_hit=True) == ("not_billed", "gateway_cache_hit", "stated", 0)
    assert one(book, **usage, deployment_type="ptu") == ("not_billed", "capacity", "stated", 0)
    assert one(book, **usage, deployment_type="ptu", spillover=True)[0] == "priced"
    assert one(book, **usage, deployment_type="self_hosted")[0] == "free"


def test_failures_that_are_billed(book: Book) -> None:
    assert one(book, status="error", input_fresh=1000) == ("priced", "", "usage", 2_500_000_000)
    assert one(book, status="incomplete", input_fresh=1000)[0] == "priced"
    assert one(book, status="cancelled", usage_source="none") == ("unpriced", "no_usage", "", None)
    assert one(book, status="ok", usage_source="none") == ("unpriced", "no_usage", "", None)


def test_zero_usage_is_known_and_costs_zero(book: Book) -> None:
    assert one(book, input_fresh=0, output_visible=0) == ("priced", "", "usage", 0)


def test_impossible_figures_are_refused(book: Book) -> None:
    assert one(book, input_fresh=-1)[:2] == ("unpriced", "bad_value")
    assert one(book, input_fresh=2**60)[:2] == ("unpriced", "overflow")
    assert one(book, input_fresh=2**53)[:2] == ("unpriced", "overflow")
    assert one(book, input_fresh=399_999_999_999)[3] == 399_999_999_999 * 2_500_000
    assert one(book, input_fresh=400_000_000_000)[:2] == ("unpriced", "overflow")
    assert one(book, reported_cost=Decimal(-1), reported_cost_by="vendor")[:2] == ("unpriced", "bad_value")


def test_tier_as_served_decides(book: Book) -> None:
    tiers = ["", "default", "standard", " Default ", "flex", "priority"]
    calls = [{"model": "gpt-5", "service_tier": tier, "output_visible": 1_000_000} for tier in tiers]
    assert [dollars(c) for c in price_batch(batch(calls), book, 1).cost] == [10, 10, 10, 10, 5, 20]


def test_columns_may_be_missing_sliced_plain_or_dictionary_encoded(book: Book) -> None:
    calls = [{"input_fresh": 1000 * i, "output_visible": None if i % 2 else i} for i in range(20)]
    full = batch(calls)
    expected = price_batch(full, book, 1).cost.tolist()
    assert price_batch(full.slice(5, 9), book, 1).cost.tolist() == expected[5:14]
    assert price_batch(batch(calls, dictionary=True).slice(5, 9), book, 1).cost.tolist() == expected[5:14]
    few = full.select(["provider", "model", "input_fresh", "output_visible"])
    with_times = few.append_column("event_time", pa.array([micros("2026-11-01")] * 20, pa.int64()))
    assert price_batch(with_times, book, 1).cost.tolist() == expected
    none = price_batch(full.slice(0, 0), book, 1)
    assert none.cost.tolist() == []
    assert none.rate_id == []


def test_every_row_says_which_entry_and_book_priced_it(book: Book) -> None:
    calls = [
        {"model": "gpt-5.4", "input_fresh": 272_001},
        {"model": "o3", "event_time": "2026-01-01", "input_fresh": 1},
    ]
    priced = price_batch(batch(calls), book, 4)
    assert priced.rate_id == ["openai/gpt-5.4:>272000", "openai/o3@2025-06-10"]
    assert priced.book_version == book.book_version
    assert priced.price_run == 4


@given(
    st.sampled_from(
        [
            ("openai", "gpt-5.4"),
            ("openai", "gpt-5.6-luna"),
            ("openai", "gpt-4o"),
            ("deepseek", "deepseek-v4-flash"),
            ("deepseek", "deepseek-chat"),
            ("gemini", "gemini-2.5-pro"),
        ]
    ),
    st.lists(st.tuples(st.integers(1_690_000_000, 1_810_000_000), st.integers(0, 300_000)), min_size=1, max_size=20),
)
@settings(max_examples=60, deadline=None)
def test_looking_up_at_once_one_by_one_and_explaining_agree(key: tuple[str, str], calls: list[tuple[int, int]]) -> None:
    plan = BOOK.plan(Key(*key))
    times = np.array([seconds * 1_000_000 for seconds, _ in calls], np.int64)
    prompts = np.array([prompt for _, prompt in calls], np.int64)
    together = plan.rows(times, prompts).tolist()
    assert together == [plan.row(int(t), int(p)) for t, p in zip(times, prompts, strict=True)]
    for (seconds, prompt), found in zip(calls, together, strict=True):
        sum_ = explain(BOOK, {"input_fresh": prompt, "output_visible": 9}, Key(*key), seconds * 1_000_000)
        assert sum_.rate_id == BOOK.rate_ids[found]
        assert sum_.total == sum(line.amount or 0 for line in sum_.lines)


def test_explain_shows_the_sum_line_by_line(book: Book) -> None:
    usage = {"input_fresh": 1000, "input_cache_read": 2000, "output_visible": 0, "output_reasoning": 300}
    found = explain(book, usage, Key("openai", "gpt-4o-2024-08-06"), micros("2026-11-01"))
    assert [str(line) for line in found.lines] == [
        "input_fresh: 1,000 x $2.5 per 1,000,000 = $0.0025",
        "input_cache_read: 2,000 x $1.25 per 1,000,000 = $0.0025",
        "output_reasoning: 300 x $10 per 1,000,000 = $0.003",
    ]
    assert found.total == 8_000_000_000
    assert explain(book, {"input_fresh": 1}, Key("openai", "gpt-99"), 0).reason == "unknown_model"
    assert explain(book, {"input_audio": 1}, Key("openai", "gpt-4o"), micros("2026-11-01")).reason == "no_rate:input_audio"
    with pytest.raises(ValueError, match="no such leaf"):
        explain(book, {"tokens": 1}, Key("openai", "gpt-4o"), 0)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "model": st.sampled_from(["gpt-5.4", "gpt-5.4 ", "gpt-99", "gpt-4o-audio-preview", "o3"]),
                "service_tier": st.sampled_from(["", "batch", "gold", "priority"]),
                "input_fresh": st.sampled_from([None, 0, 1, 272_000, 272_001, -1]),
                "input_audio": st.sampled_from([None, 3]),
                "output_visible": st.sampled_from([None, 7]),
                "usage_source": st.sampled_from(["vendor", "counted"]),
                "status": st.sampled_from(["ok", "error"]),
                "deployment_type": st.sampled_from(["", "ptu", "self_hosted"]),
                "event_time": st.sampled_from([micros("2020-01-01"), micros("2026-11-01")]),
            }
        ),
        min_size=1,
        max_size=5,
    )
)
@settings(deadline=None)
def test_an_explained_call_adds_up_to_its_cost_or_says_why_there_is_no_sum(calls: list[dict[str, Any]]) -> None:
    priced = price_batch(batch(calls), BOOK, 1)
    for number, call in enumerate(calls):
        found = explain_call(BOOK, {**DEFAULTS, **call})
        assert (found.status, found.reason) == (priced.price_status[number], priced.price_reason[number])
        assert found.cost == (None if priced.null[number] else int(priced.cost[number]))
        if found.why:
            assert not any(line.amount is None for line in found.lines) or found.reason.startswith("no_rate:")
        else:
            assert found.cost == sum(line.amount or 0 for line in found.lines)
            assert found.entry is not None
            assert found.entry.rate_id == priced.rate_id[number]


def test_every_reason_is_explained_in_words() -> None:
    assert set(WHY) == {reason for reason in REASONS if reason and not reason.startswith("no_rate:")}
