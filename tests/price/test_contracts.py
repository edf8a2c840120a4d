"""Contracts compiled into rates: against a plain loop over what their files say, and laws that hold for any of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fnmatch import fnmatchcase
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.price.calls import batch, dollars, micros
from transforms.price import Book, BookError, Key, Payer, PricedColumns, book_rows, explain, load_book, price_batch
from transforms.price.book import BUILT_IN as BUILT_IN_FOLDER
from transforms.price.contracts import overlap
from transforms.price.entries import Files

# -- a book and contracts that a loop can price -------------------------------------------------------------------------

LIST: Mapping[tuple[str, str, int], Mapping[str, str]] = {
    # model, tier, above → dollars per million
    ("large", "standard", 0): {"input": "3", "cache_read": "0.3", "output": "9"},
    ("large", "standard", 1000): {"input": "6", "cache_read": "0.6", "output": "18"},
    ("large", "batch", 0): {"input": "1.5", "cache_read": "0.15", "output": "4.5"},
    ("large", "batch", 1000): {"input": "3", "cache_read": "0.3", "output": "9"},
    ("small-1", "standard", 0): {"input": "0.000007", "cache_read": "0.000001", "output": "0.000011"},
    ("small-1", "batch", 0): {"input": "0.000003", "cache_read": "0.000001", "output": "0.000005"},
}
UNIT = {"input": "input_fresh", "cache_read": "input_cache_read", "output": "output_visible", "reasoning": "output_reasoning"}


class Date(str):
    """A date of TOML, which has no quotes."""


def quoted(value: object) -> str:
    if isinstance(value, Date):
        return value
    if isinstance(value, list):
        return f"[{', '.join(map(quoted, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def toml(contracts: Sequence[Mapping[str, Any]]) -> str:
    """Contracts as a file: fields first, then their tables."""
    lines = []
    for contract in contracts:
        lines.append("[[contract]]")
        lines += [f"{key} = {quoted(value)}" for key, value in contract.items() if key not in ("discounts", "price", "credit")]
        for key in ("discounts", "price", "credit"):
            for table in contract.get(key, []):
                lines.append(f"[[contract.{key}]]")
                lines += [f"{name} = {quoted(value)}" for name, value in table.items()]
    return "\n".join(lines) + "\n"


def acme() -> Files:
    lines = ['providers = ["acme"]', 'source = "x"', "recorded = 2026-11-24"]
    for model in ("large", "small-1"):
        prices = [(tier, above, fields) for (name, tier, above), fields in LIST.items() if name == model]
        lines += ["[[model]]", f'model = "{model}"', f'names = ["{model}-latest"]', "prices = ["]
        for tier, above, fields in prices:
            said = "".join(f', {key} = "{value}"' for key, value in fields.items())
            lines.append(f'  {{ tier = "{tier}", above = {above}{said} }},')
        lines.append("]")
    lines += ["[[model]]", 'model = "gift"', 'prices = [{ free = "a gift" }]']
    return (("acme.toml", "\n".join(lines)),)


def under(*contracts: Mapping[str, Any]) -> Book:
    return load_book([acme()], [(("contracts.toml", toml(contracts)),)] if contracts else (), built_in=False)


PLAIN = load_book([acme()], built_in=False)


def rounded(value: Decimal) -> int:
    return int(value.quantize(Decimal(1), ROUND_HALF_EVEN, Context(prec=60)))


def meant(pattern: str, text: str) -> bool:
    return bool(text) and fnmatchcase(text.lower(), pattern.lower())


def oracle(call: Mapping[str, Any], contracts: Sequence[Mapping[str, Any]]) -> tuple[int, int, str]:
    """List cost and cost in pico-dollars, and the contract, worked out call by call from what the files say."""
    prompt = call["input_fresh"] + call["input_cache_read"]
    tier = call["service_tier"]
    bands = [above for model, of, above in LIST if (model, of) == (call["model"], tier) and (prompt > above or not above)]
    at_list = LIST[call["model"], tier, max(bands)]
    rates = {unit: rounded(Decimal(at_list.get(field, at_list["output"])) * 10**6) for field, unit in UNIT.items()}
    chosen: Mapping[str, Any] | None = None
    for contract in contracts:
        limits = [("accounts", "account"), ("projects", "project")]
        if any(k in contract and not any(meant(p, call.get(field, "")) for p in contract[k]) for k, field in limits):
            continue
        start, end = (micros(contract[key]) if key in contract else None for key in ("from", "to"))
        if (start is not None and call["event_time"] < start) or (end is not None and call["event_time"] >= end):
            continue
        if chosen is None or sum(k in contract for k, _ in limits) > sum(k in chosen for k, _ in limits):
            chosen = contract
    listed = sum(call[unit] * rate for unit, rate in rates.items())
    if chosen is None:
        return listed, listed, ""
    cost = 0
    for field, unit in UNIT.items():
        rate = rates[unit]
        fields = ["reasoning", "output"] if field == "reasoning" else [field]
        best: tuple[int, str] = (-1, "0")
        if "discount" in chosen and not any(meant(p, call["model"]) for p in chosen.get("except_models", [])):
            best = (0, chosen["discount"])
        for one in chosen.get("discounts", []):
            if "models" in one and not any(meant(p, call["model"]) for p in one["models"]):
                continue
            if ("tiers" in one and tier not in one["tiers"]) or ("fields" in one and not set(fields) & set(one["fields"])):
                continue
            best = max(best, (len(one) - 1, one["percent"]))
        rate = rounded(Decimal(rate) * (100 - Decimal(best[1])) / 100)
        own = [
            (one.get("above", 0), one)
            for one in chosen.get("price", [])
            if (one["model"], one.get("tier", "standard")) == (call["model"], tier) and (prompt > one.get("above", 0) or not one.get("above"))
        ]
        if own:
            stated = max(own, key=lambda pair: pair[0])[1]
            rate = next((rounded(Decimal(stated[name]) * 10**6) for name in fields if name in stated), rate)
        cost += call[unit] * rate
    return listed, cost, chosen["name"]


percents = st.decimals(0, 100, places=4).map(str)
prices = st.decimals(0, 40, places=6).map(str)
FIELDS = ("input", "cache_read", "output", "reasoning")
models = st.sampled_from([["large"], ["small*"], ["*"], ["LARGE", "small-1"]])


def owns() -> st.SearchStrategy[list[dict[str, Any]]]:
    cells = st.tuples(st.sampled_from(["large", "small-1"]), st.sampled_from(["standard", "batch"]), st.sampled_from([0, 500, 1000, 2000]))
    fields = st.dictionaries(st.sampled_from(FIELDS), prices, min_size=1)
    return st.dictionaries(cells, fields, max_size=4).map(
        lambda found: [{"model": m, "tier": t, "above": a, **said} for (m, t, a), said in found.items()]
    )


@st.composite
def contract(draw: st.DrawFn, name: str, limits: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "providers": ["acme"], **limits}
    if draw(st.booleans()):
        made["from"] = Date(draw(st.sampled_from(["2026-01-01", "2026-03-01"])))
    if draw(st.booleans()):
        made["to"] = Date(draw(st.sampled_from(["2026-04-01", "2026-06-01"])))
    made["discount"] = draw(percents)
    if draw(st.booleans()):
        made["except_models"] = draw(models)
    special: list[dict[str, Any]] = []
    if draw(st.booleans()):
        special.append({"fields": draw(st.lists(st.sampled_from(["input", "output"]), min_size=1, unique=True))})
    if draw(st.booleans()):
        special.append({"tiers": ["batch"], "fields": ["cache_read", "output"]})
    if draw(st.booleans()):
        special.append({"tiers": ["batch"], "fields": ["input", "output"], "models": draw(models)})
    made["discounts"] = [{**one, "percent": draw(percents)} for one in special]
    made["price"] = draw(owns())
    return made


LIMITS: Sequence[tuple[str, Mapping[str, Any]]] = (
    ("everybody", {}),
    ("ours", {"accounts": ["org-1*"]}),
    ("theirs", {"accounts": ["org-2"]}),
    ("one project", {"accounts": ["org-1*"], "projects": ["p1", "q*"]}),
)
several = st.tuples(*(st.none() | contract(name, limits) for name, limits in LIMITS)).map(
    lambda some: [one for one in some if one is not None]
)
calls = st.fixed_dictionaries(
    {
        "provider": st.just("acme"),
        "model": st.sampled_from(["large", "small-1"]),
        "service_tier": st.sampled_from(["standard", "batch"]),
        "account": st.sampled_from(["", "org-1", "ORG-12", "org-2", "org-3"]),
        "project": st.sampled_from(["", "p1", "p2", "Q9"]),
        "event_time": st.tuples(
            st.sampled_from(["2026-01-01", "2026-03-01", "2026-04-01", "2026-06-01"]), st.sampled_from([-1, 0, 1])
        ).map(lambda pair: micros(pair[0]) + pair[1]),
        **{unit: st.sampled_from([0, 1, 7, 499, 500, 501, 999, 1001, 123_457]) for unit in UNIT.values()},
    }
)


def results(priced: PricedColumns) -> list[tuple[int, int, str]]:
    return list(zip(priced.list_cost.tolist(), priced.cost.tolist(), priced.contract, strict=True))


@given(several, st.lists(calls, min_size=1, max_size=25))
@settings(max_examples=120)
def test_every_price_equals_a_loop_over_the_contracts(contracts: list[dict[str, Any]], some: list[dict[str, Any]]) -> None:
    priced = price_batch(batch(some), under(*contracts), 1)
    assert set(priced.price_status) == {"priced"}
    assert results(priced) == [oracle(call, contracts) for call in some]
    for call, rate_id, name in zip(some, priced.rate_id, priced.contract, strict=True):
        assert rate_id.endswith(f"+{name}") if name else "+" not in rate_id, call


@given(several, st.lists(calls, min_size=2, max_size=20), st.randoms())
@settings(max_examples=30)
def test_neither_batches_nor_order_change_a_price(contracts: list[dict[str, Any]], some: list[dict[str, Any]], random: Any) -> None:
    book = under(*contracts)
    whole = results(price_batch(batch(some, dictionary=True), book, 1))
    assert [result for call in some for result in results(price_batch(batch([call]), under(*contracts[::-1]), 1))] == whole
    order = list(range(len(some)))
    random.shuffle(order)
    assert results(price_batch(batch([some[i] for i in order]), book, 1)) == [whole[i] for i in order]


def test_of_discounts_that_state_as_much_the_nearest_field_and_the_longest_pattern_count() -> None:
    def off(model: str, *discounts: Mapping[str, Any]) -> tuple[Decimal, Decimal]:
        said = [{**one, "percent": percent} for one, percent in zip(discounts, ("10", "50"), strict=True)]
        book = under({"name": "c", "providers": ["acme"], "discounts": said})
        rates = book.entries[book.plan(Key("acme", model)).row(micros("2020-06-01"), 1)].rates
        return Decimal(rates["output_visible"]) / 10**6, Decimal(rates["output_reasoning"]) / 10**6

    for wide, narrow in (("l*", "la*"), ("*", "*rge"), ("large*", "large-latest")):
        assert off("large", {"models": [wide]}, {"models": [narrow]}) == (Decimal("4.5"), Decimal("4.5"))
        assert off("large", {"models": [narrow]}, {"models": [wide]}) == (Decimal("8.1"), Decimal("8.1"))
    assert off("large", {"fields": ["output"]}, {"fields": ["reasoning"]}) == (Decimal("8.1"), Decimal("4.5"))


BUILT_IN = load_book()
NOTHING_OFF = [{"name": "none", "providers": ["openai", "anthropic", "gemini", "deepseek"], "discount": "0"}]
FREELY = load_book(contracts=[(("c.toml", toml(NOTHING_OFF)),)])
real = st.sampled_from(
    [("openai", "gpt-4o"), ("openai", "gpt-5.5"), ("anthropic", "claude-sonnet-4-5"), ("gemini", "gemini-2.5-pro"), ("deepseek", "deepseek-chat")]
)


@given(
    st.lists(
        st.tuples(real, st.sampled_from(["", "batch", "priority"]), st.integers(0, 400_000), st.integers(0, 9999), st.integers(0, 900)),
        min_size=1,
    ),
    st.integers(0, 365 * 24),
)
@settings(max_examples=50)
def test_nothing_off_is_the_list_price_to_the_last_digit(some: list[Any], hours: int) -> None:
    """Bands, tiers, windows of the day and names that moved: a contract leaves all of them as they are."""
    said = [
        {
            "provider": provider,
            "model": model,
            "service_tier": tier,
            "input_fresh": fresh,
            "input_cache_read": cached,
            "output_visible": output,
            "event_time": micros("2025-06-01") + hours * 3_600_000_000,
        }
        for (provider, model), tier, fresh, cached, output in some
    ]
    at_list, free = price_batch(batch(said), BUILT_IN, 1), price_batch(batch(said), FREELY, 1)
    for name in ("cost", "cost_input", "cost_cache_read", "cost_output", "cost_other", "list_cost", "null", "cost_error"):
        assert getattr(at_list, name).tolist() == getattr(free, name).tolist(), name
    assert (at_list.price_status, at_list.price_reason) == (free.price_status, free.price_reason)
    assert [rate_id and f"{rate_id}+none" for rate_id in at_list.rate_id] == free.rate_id


@given(percents, percents, st.lists(calls, min_size=1, max_size=8))
@settings(max_examples=40)
def test_more_off_never_costs_more(a: str, b: str, some: list[dict[str, Any]]) -> None:
    less, more = sorted((a, b), key=Decimal)
    costs = [
        price_batch(batch(some), under({"name": "c", "providers": ["acme"], "discount": percent}), 1) for percent in ("0", less, more, "100")
    ]
    for dear, cheap in pairwise(costs):
        assert (dear.cost >= cheap.cost).all()
        assert (dear.list_cost == cheap.list_cost).all()
    assert costs[0].cost.tolist() == costs[0].list_cost.tolist()
    assert set(costs[-1].cost.tolist()) == {0}


@pytest.mark.parametrize(
    ("percent", "fresh", "read", "output"),
    [
        ("33.3333", 5, 1, 7),  # of 7, 1 and 11 pico-dollars: 4.67, 0.67, 7.33
        ("50", 4, 0, 6),  # 3.5 → 4, 0.5 → 0, 5.5 → 6: half to even
    ],
)
def test_a_rate_is_rounded_once_and_not_per_call(percent: str, fresh: int, read: int, output: int) -> None:
    book = under({"name": "c", "providers": ["acme"], "discount": percent})
    for count in (1, 2, 3, 1_000_003):
        call = {"provider": "acme", "model": "small-1", "input_fresh": count, "input_cache_read": count, "output_visible": count}
        priced = price_batch(batch([call]), book, 1)
        assert [priced.cost_input[0], priced.cost_cache_read[0], priced.cost_output[0]] == [count * fresh, count * read, count * output]
        assert priced.list_cost[0] == count * (7 + 1 + 11)


def test_what_a_call_costs_without_a_rate_no_contract_changes() -> None:
    """A vendor's own figure, what is free, not billed or unpriced; and capacity that is paid by the hour."""
    usage = {"provider": "acme", "model": "large", "input_fresh": 100, "output_visible": 10}
    some = [
        {**usage, "reported_cost": Decimal("0.5"), "reported_cost_by": "vendor"},
        {**usage, "model": "gift"},
        {**usage, "gateway_cache_hit": True},
        {**usage, "deployment_type": "ptu"},
        {**usage, "model": "unheard-of"},
        {**usage, "input_audio": 1},
        usage,
    ]
    priced = price_batch(batch(some), under({"name": "c", "providers": ["acme"], "discount": "10"}), 1)
    assert priced.contract == ["", "", "", "", "", "", "c"]
    assert list(map(dollars, priced.list_cost))[:5] == [Decimal("0.5"), 0, 0, 0, 0]
    assert (priced.list_cost[:6] == priced.cost[:6]).all()
    assert priced.price_status == ["priced", "free", "not_billed", "not_billed", "unpriced", "unpriced", "priced"]
    assert (dollars(priced.list_cost[6]), dollars(priced.cost[6])) == (Decimal("0.00039"), Decimal("0.000351"))


def test_an_error_bar_is_of_the_contracted_cost() -> None:
    call = {"provider": "acme", "model": "large", "input_fresh": 100, "usage_source": "counted", "counted_input_error": 10}
    priced = price_batch(batch([call]), under({"name": "c", "providers": ["acme"], "discount": "50"}), 1)
    assert (dollars(priced.cost[0]), dollars(priced.cost_error[0])) == (Decimal("0.00015"), Decimal("0.000015"))


@pytest.mark.parametrize(("price", "count"), [("0", 2**52), ("0", 2**37), ("0", 2**36), ("900000000", 999), ("900000000", 2000)])
def test_a_call_whose_list_cost_is_beyond_all_money_has_no_price(price: str, count: int) -> None:
    """What it costs might be held, but not what it would cost: NULL rather than a wrapped figure."""
    book = under({"name": "c", "providers": ["acme"], "price": [{"model": "large", "output": price}]})
    priced = price_batch(batch([{"provider": "acme", "model": "large", "output_visible": count}]), book, 1)
    fits = count * 9 < 10**12
    within = count * Decimal(price) < 10**12
    assert priced.price_reason == ([""] if fits and within else ["overflow"])
    assert dollars(priced.list_cost[0]) == (Decimal(count) * 9 / 10**6 if fits and within else 0)


def test_prices_of_the_store_hold_every_rate_that_calls_name() -> None:
    said = {"name": "c", "providers": ["acme"], "discount": "12.5", "price": [{"model": "large-latest", "above": 500, "input": "2"}]}
    book = under({**said, "from": Date("2026-01-01"), "to": Date("2027-01-01")})
    rows = {(row["rate_id"], row["leaf"]): row for row in book_rows(book)}
    assert rows["acme/large", "input_fresh"]["usd_per_million"] == 3
    assert rows["acme/large+c", "input_fresh"]["usd_per_million"] == Decimal("2.625")
    assert rows["acme/large:>500+c", "input_fresh"]["usd_per_million"] == 2
    assert rows["acme/large:>500+c", "output_visible"]["usd_per_million"] == Decimal("7.875")
    assert [(rows[name, "output_visible"]["band_min"], rows[name, "output_visible"]["band_max"]) for name in
            ("acme/large", "acme/large:>1000", "acme/large+c", "acme/large:>500+c", "acme/large:>1000+c")] == [
        (0, 1000), (1000, None), (0, 500), (500, 1000), (1000, None)
    ]  # fmt: skip
    row = rows["acme/large+c", "input_fresh"]
    assert (f"{row['valid_from']:%Y-%m-%d}", f"{row['valid_to']:%Y-%m-%d}") == ("2026-01-01", "2027-01-01")
    assert "contract c" in row["source"]
    assert len(rows) == len(book_rows(book))


def test_any_change_of_a_contract_changes_the_version_of_the_book() -> None:
    said = {"name": "c", "providers": ["acme"], "discount": "10", "credit": [{"name": "gift", "amount": "5"}]}
    others = [
        {**said, "name": "d"},
        {**said, "discount": "11"},
        {**said, "accounts": ["org-1"]},
        {**said, "from": Date("2026-01-01")},
        {**said, "except_models": ["large"]},
        {**said, "credit": [{"name": "gift", "amount": "6"}]},
    ]
    versions = [PLAIN.book_version, under(said).book_version, *(under(other).book_version for other in others)]
    assert len(set(versions)) == len(versions)
    assert under(said).book_version == versions[1]
    assert load_book([acme()], [()], built_in=False).book_version == PLAIN.book_version


def test_a_name_stands_for_the_model_it_means() -> None:
    """Whatever name of it a call has; a name that moves means one model only while it stays."""
    said = {"name": "c", "providers": ["openai"], "from": Date("2026-01-01"), "price": [{"model": "gpt-4o", "input": "2", "output": "8"}]}
    book = load_book(contracts=[(("c.toml", toml([said])),)])
    some = [{"model": m, "input_fresh": 10**6, "output_visible": 10**6} for m in ("gpt-4o", "gpt-4o-2024-08-06", "gpt-4o-2024-05-13")]
    priced = price_batch(batch(some), book, 1)
    assert [dollars(cost) for cost in priced.cost] == [10, 10, 20]
    del said["from"]
    with pytest.raises(BookError, match=r"price 1 \('gpt-4o'\).*means gpt-4o-2024-05-13 and then gpt-4o-2024-08-06.*state a price for each"):
        load_book(contracts=[(("c.toml", toml([said])),)])


def test_prices_hold_in_every_window_of_the_day() -> None:
    said = {"name": "c", "providers": ["deepseek"], "from": Date("2026-10-01"), "discount": "10"}
    book = load_book(contracts=[(("c.toml", toml([said])),)])
    for hour in range(24):
        call = {"provider": "deepseek", "model": "deepseek-chat", "event_time": micros(f"2026-11-03T{hour:02}:30"), "output_visible": 1000}
        priced = price_batch(batch([call]), book, 1)
        assert priced.cost[0] * 10 == priced.list_cost[0] * 9


def test_the_sum_of_a_call_shows_list_and_contracted_rates() -> None:
    book = under({"name": "c", "providers": ["acme"], "accounts": ["org-1"], "discount": "12.5"})
    usage = {"input_fresh": 100, "output_visible": 10}
    some = [explain(book, usage, Key("acme", "large"), micros("2020-06-01"), Payer(account)) for account in ("org-1", "org-2")]
    assert list(map(str, some[0].lines)) == [
        "input_fresh: 100 x $2.625 (list $3) per 1,000,000 = $0.0002625",
        "output_visible: 10 x $7.875 (list $9) per 1,000,000 = $0.00007875",
    ]
    assert (some[0].entry and some[0].entry.contract, some[0].rate_id, some[0].total) == ("c", "acme/large+c", 341_250_000)
    assert (some[1].entry and some[1].entry.contract, some[1].rate_id, some[1].total) == ("", "acme/large", 390_000_000)
    assert str(some[1].lines[0]) == "input_fresh: 100 x $3 per 1,000,000 = $0.0003"


def test_memory_of_payers_is_bounded() -> None:
    book = under({"name": "c", "providers": ["acme"], "accounts": ["org-1*"], "discount": "1"})
    for number in range(50_100):
        book.plan(Key("acme", "large"), Payer(f"org-{number}"))
    assert len(book._payers) <= 50_000
    assert len(book._plans) == 2, "payers share the plan of their contract"
    book.plan(Key("acme", "large"), Payer("x" * 10_000))
    assert ("acme", Payer("x" * 10_000)) not in book._payers


patterns = st.text("ab*", max_size=3)
WORDS = ["".join(letters) for size in range(1, 7) for letters in product("ab", repeat=size)]


@given(patterns, patterns)
@settings(max_examples=300)
def test_patterns_overlap_where_some_text_is_meant_by_both(a: str, b: str) -> None:
    """Against every text of up to 6 letters: two patterns of 3 characters that have a text in common have so short a one."""
    both = any(matches(a, word) and matches(b, word) for word in WORDS)
    assert overlap([a], [b]) == (both or a == b == "")


def matches(pattern: str, word: str) -> bool:
    return bool(re.fullmatch(pattern.replace("*", ".*"), word))


# -- what is wrong ------------------------------------------------------------------------------------------------------

OPENAI = tuple((f"{name}.toml", (BUILT_IN_FOLDER / f"{name}.toml").read_text(encoding="utf-8")) for name in ("openai", "anthropic"))
HEAD = '[[contract]]\nname = "a"\nproviders = ["openai"]\n'
OFF = 'discount = "10"\n'
OTHER = HEAD.replace('"a"', '"b"')
WRONG = {
    "": r"c\.toml: contract: is missing: write \[\[contract\]\]",
    "x = [": r"c\.toml: cannot be read as TOML",
    '[contract]\nname = "a"': r"contract: is written with two brackets: \[\[contract\]\]",
    '[[contracts]]\nname = "a"': r'unknown table "contracts": write \[\[contract\]\]',
    '[[contract]]\nproviders = ["openai"]': r'c\.toml, contract \'number 1\': field "name" is missing',
    HEAD: r"contract 'a': changes nothing: state a \"discount\"",
    HEAD + 'discunt = "1"': r'contract \'a\': unknown field "discunt"; it may be one of .*discount',
    HEAD.replace('"a"', '"a+b"') + OFF: r'field "name": begins with a letter or digit',
    HEAD.replace("openai", "opneai") + OFF: r"field \"providers\": 'opneai' has no prices in the book; did you mean 'openai'\?",
    HEAD.replace('["openai"]', "[]") + OFF: r'field "providers" is missing: name at least one',
    HEAD + "discount = 12.5": r'field "discount": write 12\.5 as a string',
    HEAD + 'discount = "120"': r'field "discount": "120" is not a percentage from 0 to 100',
    HEAD + 'discount = "-1"': r'field "discount": "-1" is not a percentage',
    HEAD + 'discount = "ten"': r'field "discount": "ten" is not a decimal number such as "12\.5"',
    HEAD + 'discount = "nan"': r'field "discount": "nan" is not a decimal number',
    HEAD + 'discount = "1e-99999999"': r'field "discount": "1e-99999999" has more than 12 decimals',
    HEAD + OFF + "from = 2026-02-01\nto = 2026-01-01": r'field "to" must be later than "from"',
    HEAD + OFF + 'from = "2026-02-01"': r'field "from": .* is not a date; write it without quotes',
    HEAD + OFF + "accounts = []": r'field "accounts": is empty and would mean nothing; leave it out to mean everything',
    HEAD + OFF + "accounts = [1]": r'field "accounts": \[1\] is neither a text nor a list of texts',
    HEAD + OFF + f'accounts = ["{"*a" * 9}"]': r'field "accounts": a text may have 512 characters and 8 of \*',
    HEAD + 'except_models = ["o3"]': r'field "except_models": excepts from "discount", which is missing',
    HEAD + OFF + 'except_models = ["gtp-5*"]': r"'gtp-5\*' matches no model .* of openai .*; did you mean 'gpt-5'",
    HEAD + '[[contract.price]]\nmodel = "gpt-4oo"\ninput = "1"': r"price 1 \('gpt-4oo'\): field \"model\".*did you mean 'gpt-4o'",
    HEAD + '[[contract.price]]\nmodel = "zzz"\ninput = "1"': r"'zzz' is no model .*; mend it, or add its list price in a folder",
    HEAD + '[[contract.price]]\nmodel = "gpt-4o*"\ninput = "1"': r"a price is for one model; write one for each, or a discount",
    HEAD + '[[contract.price]]\nmodel = "o3"\ninput = 1.5': r'price 1 \(\'o3\'\): field "input": write 1\.5 as a string',
    HEAD + '[[contract.price]]\nmodel = "o3"\ninput = "1.1234567"': r'field "input": "1\.1234567" has more than 6 decimals',
    HEAD + '[[contract.price]]\nmodel = "o3"\ninput = "-1"': r'field "input": "-1" is not a price: it must be zero or more',
    HEAD + '[[contract.price]]\nmodel = "o3"': r"states no price: write at least one of input",
    HEAD + '[[contract.price]]\nmodel = "o3"\ninput = "1"\nabove = "x"': r"field \"above\": 'x' is not a number of prompt tokens",
    HEAD + '[[contract.price]]\nmodel = "o3"\ninput = "1"\ntier = ["a"]': r"field \"tier\": .* is not a text; write a .* for each tier",
    HEAD + '[[contract.price]]\nmodel = "o3"\ninput = "1"\ntier = "fast"': r"the book has no price of openai/o3 in tier 'fast', but in tier",
    HEAD + '[[contract.price]]\nmodel = "o3"\naudio_input = "1"': r'field "audio_input": the book has no list price of it, only of .*input',
    HEAD + 2 * '[[contract.price]]\nmodel = "o3"\ninput = "1"\n': r"price 2 .* is for the same model, tier, scope and band as .*price 1",
    HEAD + '[[contract.discounts]]\npercent = "1"': r'discounts 1: state what it is for: .*for everything there is "discount"',
    HEAD + '[[contract.discounts]]\nmodels = ["o3"]': r'discounts 1: field "percent" is missing',
    HEAD + '[[contract.discounts]]\nmodels = ["o33"]\npercent = "1"': r"discounts 1: field \"models\": 'o33' is no model .*mean .*'o3'",
    HEAD + '[[contract.discounts]]\ntiers = ["bacth"]\npercent = "1"': r"field \"tiers\": 'bacth' is none of what the book has: 'batch'",
    HEAD + '[[contract.discounts]]\nfields = ["inputs"]\npercent = "1"': r"field \"fields\": 'inputs' is none of .*did you mean 'input'",
    HEAD
    + '[[contract.discounts]]\ntiers = ["batch"]\npercent = "1"\n[[contract.discounts]]\nfields = ["input"]\npercent = "2"': (
        r"discounts 2: is as special as discounts 1 for input of openai/.*batch, and says another percent; let one of them state more"
    ),
    HEAD + '[[contract.credit]]\nname = "c"\namount = "0"': r'credit \'c\': field "amount": "0" is not an amount of dollars above 0',
    HEAD + '[[contract.credit]]\nname = "c"\namount = "1e-13"': r'field "amount": "1e-13" has more than 12 decimals',
    HEAD + '[[contract.credit]]\nname = "c"\namount = 5': r'field "amount": write 5 as a string',
    HEAD + '[[contract.credit]]\nname = "c"': r'field "amount" is missing',
    HEAD + 2 * '[[contract.credit]]\nname = "c"\namount = "1"\n': r"credit 'c': another credit of this contract has this name",
    HEAD + '[[contract.credit]]\nname = "c"\namount = "1"\nfrom = 2026-01-01T10:00:00Z': r'field "from": .*whole UTC days',
    HEAD + 'to = 2026-01-01\n[[contract.credit]]\nname = "c"\namount = "1"\nfrom = 2026-02-01': r"the contract holds on no day of the credit",
    HEAD + OFF + HEAD + OFF: r"contract 'a': another one, in c\.toml, has this name; give one of them another",
    HEAD + OFF + OTHER + OFF: r"contract 'b': is for the same calls as contract 'a' \(c\.toml\): provider openai; end one where the other",
    HEAD + OFF + 'accounts = ["x*"]\nto = 2026-02-01\n' + OTHER + OFF + 'projects = ["p"]\nfrom = 2026-01-01': (
        r"provider openai from 2026-01-01 until 2026-02-01; end one where the other begins"
    ),
    HEAD + OFF + 'accounts = ["x*"]\n' + OTHER + OFF + 'accounts = ["*y", "z"]': r"contract 'b': is for the same calls as contract 'a'",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: re.sub(r"\W+", " ", text)[-60:])
def test_what_is_wrong_is_refused_with_its_place_and_the_fix(text: str) -> None:
    with pytest.raises(BookError, match=WRONG[text]) as error:
        load_book([OPENAI], [(("c.toml", text),)], built_in=False)
    assert str(error.value).startswith("c.toml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text",
    [
        HEAD + OFF + "to = 2026-02-01\n" + OTHER + OFF + "from = 2026-02-01",
        HEAD + OFF + OTHER + OFF + 'accounts = ["x"]',
        HEAD + OFF + 'accounts = ["x*"]\n' + OTHER + OFF + 'accounts = ["y*"]',
        HEAD + OFF + 'accounts = [""]\n' + OTHER + OFF + 'accounts = ["*"]',
        HEAD + OFF + 'accounts = ["x"]\n' + OTHER + OFF + 'accounts = ["x"]\nprojects = ["p"]',
        HEAD + OFF + OTHER.replace("openai", "anthropic") + OFF,
        HEAD + '[[contract.credit]]\nname = "c"\namount = "1"',
    ],
)
def test_contracts_that_do_not_meet_or_of_which_one_is_more_special_stand_together(text: str) -> None:
    assert load_book([OPENAI], [(("c.toml", text),)], built_in=False).contracts


def test_the_example_of_the_documentation_means_what_it_says() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "contracts.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    book = load_book(contracts=[(("example.toml", example),)])
    payer = Payer("org-91", "proj-7", "default")

    def paid(model: str, tier: str = "", prompt: int = 1, at: str = "2026-06-01") -> dict[str, Decimal]:
        entry = book.entries[book.plan(Key("openai", model, tier), payer).row(micros(at), prompt)]
        return {unit: Decimal(rate) / 10**6 for unit, rate in entry.rates.items() if unit != "web_searches"}

    # The vendor's list: gpt-4o 2.50, 1.25 cached, 10; gpt-4.1 2, 0.50, 8, in batches 1, 4; gpt-5.5 5, 0.50, 30, long 10, 1, 45.
    four = paid("gpt-4o-2024-08-06")
    assert (four["input_fresh"], four["input_cache_read"], four["output_visible"], four["output_reasoning"]) == (2, Decimal("1.09375"), 8, 8)
    assert (paid("gpt-4.1")["input_fresh"], paid("gpt-4.1")["output_visible"]) == (Decimal("1.75"), 7)
    batched = paid("gpt-4.1", "batch")
    at_list = book.entries[book.plan(Key("openai", "gpt-4.1", "batch")).row(micros("2026-06-01"), 1)].rates
    assert batched["input_cache_read"] == Decimal(at_list["input_cache_read"]) * 80 / 100 / 10**6
    assert batched["input_fresh"] == Decimal("0.875")
    assert (paid("gpt-5.5")["input_fresh"], paid("gpt-5.5")["output_visible"]) == (5, 30)
    long = paid("gpt-5.5", prompt=300_000)
    assert (long["input_fresh"], long["output_visible"], long["output_reasoning"]) == (10, 40, 40)
    assert paid("gpt-4o-2024-08-06", at="2027-01-01")["input_fresh"] == Decimal("2.5")


def test_files_are_named_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(BookError, match=r"none\.toml: No such file"):
        load_book(contracts=[tmp_path / "none.toml"])
    with pytest.raises(BookError, match="no contracts: a file, or a folder of"):
        load_book(contracts=[tmp_path])
    (tmp_path / "b.toml").write_bytes(b"\xff")
    with pytest.raises(BookError, match=r"b\.toml: cannot be read as TOML"):
        load_book(contracts=[tmp_path])
    (tmp_path / "b.toml").write_text(HEAD + OFF)
    assert [contract.name for contract in load_book(contracts=[tmp_path]).contracts] == ["a"]
