"""Dollars equal to the last digit to an independent computation: 100,000 generated calls, and every call of the corpus."""

from __future__ import annotations

import gzip
import random
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from schemas.call import LEAVES, Call
from schemas.part import Part
from tests.price.calls import batch, dollars
from tests.price.oracle import BEGINNING, Oracle, instant, listed
from transforms.decode import decode_record
from transforms.price import Book, PricedColumns, load_book, price_batch
from transforms.price.book import BUILT_IN
from transforms.rows import call_rows

CALLS = 100_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(BUILT_IN)


@pytest.fixture(scope="module")
def book() -> Book:
    return load_book()


def generated(oracle: Oracle, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Calls that reach every rule: every model by every kind of name, edges of bands, of dates and of windows, tiers and scopes
    that are there and that are not, and everything for which no rate is asked."""
    rng = random.Random(seed)
    every = [
        (provider, file, model, price)
        for file in oracle.files
        for provider in file["providers"]
        for model in file["model"]
        for price in model["prices"]
    ]
    aliases = [(provider, file, alias) for file in oracle.files for provider in file["providers"] for alias in file.get("alias", [])]
    for number in range(count):
        provider, file, model, price = every[number % len(every)]
        name, cuts = rng.choice([model["model"], *model.get("names", [])]), [price.get("from"), price.get("to")]
        if number % 10 == 0:
            provider, file, alias = rng.choice(aliases)
            name, cuts = alias["name"], [alias.get("from"), alias.get("to")]
            price = rng.choice([one for model in file["model"] if model["model"] == alias["model"] for one in model["prices"]])
        call: dict[str, Any] = {
            "provider": provider if rng.random() < 0.99 else "nobody",
            "model": written(rng, name, file),
            "event_time": (moment(rng, cuts, file) - EPOCH) // timedelta(microseconds=1),
            "service_tier": rng.choice([*listed(price, "tier", "standard")] * 3 + file.get("standard_tiers", [""]) + ["warp"]),
            "region_scope": rng.choice([*listed(price, "scope", "")] * 4 + file.get("base_scopes", [""]) + ["", "mars"]),
            "usage_source": rng.choice(["vendor", "vendor", "gateway", "counted"]),
            "counted_input_error": 0,
            "counted_output_error": 0,
            "status": "ok",
            "http_status": 200,
            "batch": rng.random() < 0.05,
            "gateway_cache_hit": rng.random() < 0.01,
            "spillover": rng.random() < 0.5,
            "deployment_type": rng.choice([""] * 30 + ["payg", "ptu", "provisioned", "self_hosted"]),
            "speed": rng.choice([""] * 20 + ["standard", "fast"]),
        }
        if rng.random() < 0.03:
            call |= {"reported_cost": Decimal(rng.randrange(10**13)).scaleb(-12), "reported_cost_by": rng.choice(["vendor", "gateway"])}
        if rng.random() < 0.03:
            call |= {"status": rng.choice(["error", "blocked"]), "http_status": rng.choice([200, 400, 429])}
        call |= usage(rng, price)
        if number % 3 == 0:
            call |= aimed(rng, model, price, file)
        yield call


def aimed(rng: random.Random, model: dict[str, Any], price: dict[str, Any], file: dict[str, Any]) -> dict[str, Any]:
    """What a call needs for this very price to hold."""
    starts = [instant(one["from"], BEGINNING) for one in model["prices"] if "from" in one]
    at = instant(price["from"], BEGINNING) if "from" in price else min(starts, default=NOW) - timedelta(days=1)
    if "window" in price:
        window = file["windows"][price["window"]]
        hour, minute = map(int, window["hours"][0].split("-")[0].split(":"))
        while at.isoweekday() not in window.get("weekdays", range(1, 8)):
            at += timedelta(days=1)
        at = at.replace(hour=hour, minute=minute)
    return {
        "model": model["model"],
        "event_time": (at - EPOCH) // timedelta(microseconds=1),
        "service_tier": rng.choice(listed(price, "tier", "standard")),
        "region_scope": rng.choice(listed(price, "scope", "")).replace("*", "mars"),
        "input_fresh": price.get("above", 0) + rng.randrange(1, 100),
        "batch": False,
        "speed": "",
    }


def written(rng: random.Random, name: str, file: dict[str, Any]) -> str:
    """A name as logs have it: patterns filled, prefixes, cases, spaces, or a name nobody knows."""
    name = "".join(str(rng.randrange(10)) if c == "#" else rng.choice(["", "1", "x-2026"]) if c == "*" else c for c in name)
    kind = rng.randrange(12)
    if kind == 0:
        name = f"{rng.choice([*file.get('prefixes', []), *file['providers']])}/{name}"
    elif kind == 1:
        name = f" {name.upper()} "
    elif kind == 2:
        name = rng.choice(["models/", "publishers/google/models/", "arn:aws:bedrock:us-east-1::foundation-model/"]) + name
    elif kind == 3:
        name = rng.choice(["us.", "eu.", "global."]) + name
    elif kind == 4 and rng.random() < 0.2:
        name = rng.choice(["", "no-such-model", name + "-turbo"])
    return name


def moment(rng: random.Random, cuts: list[Any], file: dict[str, Any]) -> datetime:
    """A time at an edge of the price, of one of its windows, or any."""
    edges = [instant(cut, BEGINNING) for cut in cuts if cut is not None]
    tick = timedelta(microseconds=rng.choice([-1, 0, 1]))
    if edges and rng.random() < 0.4:
        return rng.choice(edges) + (tick if rng.random() < 0.7 else timedelta(days=rng.choice([-400, 400])))
    day = NOW - timedelta(days=rng.randrange(1000))
    if file.get("windows") and rng.random() < 0.8:
        window = rng.choice(list(file["windows"].values()))
        day = rng.choice([day, *(instant(one, day) for one in window.get("except_dates", []))])
        hour, minute = map(int, rng.choice([edge for hours in window["hours"] for edge in hours.split("-")]).split(":"))
        return day.replace(hour=hour, minute=minute, second=0) + tick
    return day + timedelta(seconds=rng.randrange(86_400))


def usage(rng: random.Random, price: dict[str, Any]) -> dict[str, int | None]:
    counts: dict[str, int | None] = {leaf: rng.choice([None, 0, 0, 1, rng.randrange(10 ** rng.randrange(1, 7))]) for leaf in LEAVES}
    for leaf in ("input_audio", "input_image", "input_tool_use", "input_cache_write_5m", "input_cache_write_1h", "output_audio"):
        counts[leaf] = counts[leaf] if rng.random() < 0.1 else None
    for leaf in ("output_image", "input_cache_write_other"):
        counts[leaf] = counts[leaf] if rng.random() < 0.1 else None
    if rng.random() < 0.3 and (edge := price.get("above")):
        for leaf in LEAVES:
            counts[leaf] = None if leaf.startswith("input_") else counts[leaf]
        cached = rng.randrange(edge)
        counts |= {"input_cache_read": cached, "input_fresh": edge - cached + rng.choice([-1, 0, 1])}
    if rng.random() < 0.01:
        counts = dict.fromkeys(LEAVES)
    searches = {name: rng.choice([None, 0, 3]) if rng.random() < 0.15 else None for name in ("web_searches", "file_searches")}
    return {**counts, **searches}


def test_100_000_generated_calls_cost_what_an_independent_computation_says(oracle: Oracle, book: Book) -> None:
    calls = list(generated(oracle, CALLS, seed=5))
    statuses: Counter[str] = Counter()
    entries: set[str] = set()
    for start in range(0, CALLS, 5_000):
        some = calls[start : start + 5_000]
        priced = price_batch(batch(some, dictionary=start % 10_000 == 0), book, 1)
        check(oracle, some, priced)
        statuses.update(f"{status} {reason}".split(":")[0] for status, reason in zip(priced.price_status, priced.price_reason, strict=True))
        entries |= set(priced.rate_id)
    print("\n", *(f"{count:>7,}  {status}\n" for status, count in statuses.most_common()))
    reached = len(entries - {""}) / len(book.entries)
    print(f"{reached:.1%} of {len(book.entries)} entries of the book")
    assert reached > 0.97
    assert statuses["priced "] > 0.3 * CALLS
    for reason in ("unknown_model", "unknown_tier", "unknown_scope", "before_first_price", "no_rate", "no_usage"):
        assert statuses[f"unpriced {reason}"] > 20, reason


def test_every_call_of_the_corpus_costs_what_an_independent_computation_says(oracle: Oracle, book: Book, shared: Path) -> None:
    calls: list[Call] = []
    with gzip.open(shared / "data" / "calls" / "calls.jsonl.gz") as lines:
        for outcome in chain.from_iterable(decode_record(line) for line in lines):
            call = outcome.call if isinstance(outcome, Part) else outcome
            if isinstance(call, Call):
                call.event_time = call.event_time or (NOW - EPOCH) // timedelta(microseconds=1)
                calls.append(call)
    priced = price_batch(call_rows(calls), book, 1)
    fields = ("provider", "model", "service_tier", "region_scope", "speed", "status", "http_status", "deployment_type", "spillover")
    fields += ("batch", "gateway_cache_hit", "event_time", "usage_source", "reported_cost_by", *LEAVES, "web_searches", "file_searches")
    check(
        oracle,
        [
            {name: getattr(call, name) for name in fields}
            | {"reported_cost": None if call.reported_cost is None else dollars(call.reported_cost)}
            for call in calls
        ],
        priced,
    )
    assert len(calls) > 7_500
    assert priced.price_status.count("priced") > 6_000


def check(oracle: Oracle, calls: list[dict[str, Any]], priced: PricedColumns) -> None:
    for number, call in enumerate(calls):
        verdict = oracle.price(call)
        reason = priced.price_reason[number]
        if reason.startswith("no_rate:") and verdict.reason.startswith("no_rate:"):
            reason = verdict.reason  # of several units without a rate each may be named
        assert (priced.price_status[number], reason) == (verdict.status, verdict.reason), call
        assert bool(priced.null[number]) == (verdict.parts is None), call
        if verdict.parts is None:
            continue
        assert dollars(priced.cost[number]) == verdict.cost, (call, verdict)
        parts = verdict.parts
        assert dollars(priced.cost_input[number]) == parts.get("input", 0)
        assert dollars(priced.cost_cache_read[number]) == parts.get("cache_read", 0)
        writes = sum((parts.get(name, Decimal(0)) for name in ("cache_write", "cache_write_5m", "cache_write_1h")), Decimal(0))
        assert dollars(priced.cost_cache_write[number]) == writes
        assert dollars(priced.cost_output[number]) == parts.get("output", 0)
        assert dollars(priced.cost_reasoning[number]) == parts.get("reasoning", 0)
