"""What is wrong in calls, prices or contracts: a finding or a refusal that names the place and the fix, never a silent zero."""

from __future__ import annotations

import gzip
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas.call import LEAVES, Call
from tests.decode.test_corpus import decode_all
from tests.price.calls import DEFAULTS, batch, dollars, micros
from tests.price.oracle import Oracle
from transforms.decode import Undecodable, decode_record
from transforms.price import BookError, load_book, price_batch
from transforms.price.book import BUILT_IN, Book
from transforms.price.explain import explain_call

EVENT = {
    "schema": "llm-finops/call/v1",
    "provider": "openai",
    "model": "gpt-4o-mini-2024-07-18",
    "id": "e1",
    "started_at": "2026-11-01T00:00:00Z",
}


@pytest.fixture(scope="module")
def book() -> Book:
    return load_book()


# -- calls


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_negative_leaf_is_a_dead_letter_that_names_it(leaf: str) -> None:
    (found,) = decode_record(orjson.dumps({**EVENT, "usage": {leaf: -5}}))
    assert isinstance(found, Undecodable)
    assert (found.reason, found.error) == ("bad_value", f"usage.{leaf}: -5 is not a whole number of 0 to 1000000000000")


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_negative_leaf_that_got_past_has_no_price(book: Book, leaf: str) -> None:
    priced = price_batch(batch([{"input_fresh": 10, "output_visible": 10, leaf: -5}]), book, 1)
    assert (priced.price_status, priced.price_reason, priced.null.tolist()) == (["unpriced"], ["bad_value"], [True])


def _cached(value: Any) -> tuple[int, int] | None:
    """Cached and all prompt tokens of the last usage in an answer that tells more cached ones than there were."""
    if isinstance(value, dict):
        details, prompt = value.get("prompt_tokens_details"), value.get("prompt_tokens")
        cached = details.get("cached_tokens") if isinstance(details, dict) else None
        if isinstance(cached, int) and isinstance(prompt, int) and cached > prompt:
            return cached, prompt
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for one in reversed(list(inner)) if (found := _cached(one))), None)


def test_22_real_calls_with_more_cached_than_prompt_tokens_are_flagged_and_not_clamped(book: Book, shared: Path) -> None:
    with gzip.open(shared / "data" / "calls" / "calls.jsonl.gz") as lines:
        odd = [(record, told) for record in map(orjson.loads, lines) if (told := _cached(record["response"]))]
    assert len(odd) == 22
    oracle = Oracle(BUILT_IN)
    statuses = set()
    for record, (cached, _) in odd:
        lines_of = [orjson.dumps({name: value for name, value in record.items() if name not in ("usage", "api")})]
        (call,) = decode_all(lines_of).calls
        assert isinstance(call, Call)
        assert (call.input_fresh, call.input_cache_read) == (0, cached)
        assert call.usage_quality == "inconsistent"
        assert "cached_exceeds_input" in call.flags
        fields = {name: getattr(call, name) for name in (*LEAVES, "service_tier")}
        for model in (call.model, "gpt-4o-mini-2024-07-18"):  # as it was made, and as if a model with a price had answered
            at = {**DEFAULTS, **fields, "provider": call.provider if model == call.model else "openai", "model": model}
            priced = price_batch(batch([{**at, "event_time": micros("2026-11-01")}]), book, 1)
            wanted = oracle.price({**at, "event_time": micros("2026-11-01")})
            assert (priced.price_status[0], priced.price_reason[0]) == (wanted.status, wanted.reason)
            assert priced.null[0] == (wanted.cost is None)
            assert wanted.cost is None or dollars(priced.cost[0]) == wanted.cost >= cached * Decimal("0.075") / 10**6
            statuses.add(wanted.status)
    assert "priced" in statuses


@pytest.mark.parametrize(
    ("call", "reason", "parts"),
    [
        ({"service_tier": "warp"}, "unknown_tier", ["no price in this tier", "it has ", "standard", "batch", "priority"]),
        ({"region_scope": "mars"}, "unknown_scope", ["this region scope", "it has the base"]),
        ({"model": "gpt-4p"}, "unknown_model", ["no such model", "it has openai/gpt-4"]),
        ({"provider": "opnai"}, "unknown_provider", ["no such provider", "anthropic, ", "openai, "]),
        (
            {"model": "gpt-5.6-luna", "service_tier": "priority", "event_time": "2026-07-29"},
            "before_first_price",
            ["before the first price", "that is of 2026-07-30"],
        ),
    ],
)
def test_a_call_without_a_price_says_what_there_is_and_where_to_state_it(
    book: Book, call: dict[str, Any], reason: str, parts: list[str]
) -> None:
    (row,) = batch([{"input_fresh": 10, **call}]).to_pylist()
    found = explain_call(book, {**row, "event_time": micros(call.get("event_time", "2026-11-01"))})
    assert (found.status, found.reason, found.cost) == ("unpriced", reason, None)
    for part in (*parts, "--price-books"):
        assert part in found.why


@pytest.mark.parametrize(
    ("call", "reason", "parts"),
    [
        ({"model": "gpt-4-0613", "input_cache_read": 5}, "no_rate:input_cache_read", ['"cache_read"', "openai/gpt-4", "--price-books"]),
        ({"input_fresh": 2**53 + 1}, "overflow", ["input_fresh is 9,007,199,254,740,993;"]),
        ({"input_fresh": 4 * 10**11}, "overflow", ["most of it is input_fresh: 400,000,000,000 x $2.5 per 1,000,000 = $1000000;"]),
        ({"output_visible": -5}, "bad_value", ["output_visible is -5;"]),
        ({"reported_cost": -5, "reported_cost_by": "vendor"}, "bad_value", ["reported_cost is $-5;"]),
    ],
)
def test_a_figure_that_cannot_be_priced_is_named(book: Book, call: dict[str, Any], reason: str, parts: list[str]) -> None:
    (row,) = batch([{"model": "gpt-4o-2024-08-06", "input_fresh": 10, **call}]).to_pylist()
    found = explain_call(book, {**row, "event_time": micros("2026-11-01")})
    assert (found.status, found.reason, found.cost) == ("unpriced", reason, None)
    for part in (*parts, "mend the log's"):
        assert part in found.why


def test_a_field_that_an_own_price_lacks_is_to_be_written_there() -> None:
    text = ACME + '{ input = "1", output = "2" }]'
    (row,) = batch([{"provider": "acme", "model": "m", "input_cache_write_1h": 5}]).to_pylist()
    found = explain_call(load_book([(("acme.toml", text),)]), {**row, "event_time": micros("2026-11-01")})
    assert "write the field \"cache_write_1h\" of acme/m#1 (acme.toml, model 'm', price 1) there" in found.why


@pytest.mark.parametrize("model", ["gpt-4o-2024-08-06  ", "\tgpt-4o-2024-08-06\n", " GPT-4o-2024-08-06 "])
def test_spaces_around_a_model_do_not_matter(book: Book, model: str) -> None:
    priced = price_batch(batch([{"model": model, "input_fresh": 10**6}]), book, 1)
    assert (priced.price_status, dollars(priced.cost[0])) == (["priced"], Decimal("2.5"))


# -- prices and contracts

ACME = 'providers = ["acme"]\nsource = "page"\nrecorded = 2026-01-01\n[[model]]\nmodel = "m"\nprices = ['
DEAL = '[[contract]]\nname = "deal"\nproviders = ["openai"]\nfrom = 2026-01-01\n'


@pytest.mark.parametrize(
    ("prices", "parts"),
    [
        ('{ input = "1" }, { input = "2" }]', ["acme.toml", "'m', price 2", '"from"', "overlaps acme/m", "remove one"]),
        (
            '{ to = 2026-03-01, from = 2026-01-01, input = "1" }, { from = 2026-02-01, input = "2" }]',
            ["acme.toml", "price 2", '"from"', "overlaps acme/m@2026-01-01", "shorten"],
        ),
        ('{ input = "1" ', ["acme.toml", "cannot be read as TOML", "line"]),
        ('{ input = "-1" }]', ["acme.toml", "price 1", '"input"', "zero or more"]),
        ('{ input = "0", output = "0" }]', ["acme.toml, model 'm', price 1", '"input"', '{ free = "reason" }']),
        ('{ input = "0.0" }]', ["acme.toml, model 'm', price 1", "every call would cost nothing"]),
        ('{ input = "0", cache_read = "1", output = "0", web_search = "10" }]', ["price 1", "every call would cost nothing"]),
        ('{ tier = "standard" }]', ["acme.toml", "price 1", "state either prices or", "free"]),
    ],
)
def test_a_wrong_book_is_refused_by_entry_field_and_fix(prices: str, parts: list[str]) -> None:
    with pytest.raises(BookError) as refused:
        load_book([(("acme.toml", ACME + prices),)])
    for part in parts:
        assert part in str(refused.value)


@pytest.mark.parametrize(
    "price",
    [
        'free = "a gift"',
        'input = "1", cache_write = "0", output = "0"',  # an embedding; writes that cost nothing
        'input = "0", output = "0", request = "5"',  # paid by the request
        'input = "0", image_output = "30"',
        'input = "0", output = "4"',
    ],
)
def test_a_price_in_which_something_costs_or_that_is_stated_free_is_taken(price: str) -> None:
    assert load_book([(("acme.toml", f"{ACME}{{ {price} }}]"),)], built_in=False).entries


NAMED = """
providers = ["acme"]
source = "page"
recorded = 2026-01-01
prefixes = ["acme-ai"]
[[model]]
model = "large"
names = ["big"]
prices = [{ tier = "batch", scope = ["eu"], input = "1" }]
[[alias]]
name = "latest"
model = "large"
"""


@pytest.mark.parametrize("blank", [" {}", "{} ", "\u00a0{}", "{}\u200b", "{}\\n"], ids=ascii)
@pytest.mark.parametrize("name", ["acme", "acme-ai", "large", "big", "batch", "eu", "latest"])
def test_blanks_around_a_name_of_the_book_are_refused_by_entry(name: str, blank: str) -> None:
    with pytest.raises(BookError) as refused:
        load_book([(("acme.toml", NAMED.replace(f'"{name}"', f'"{blank.format(name)}"', 1)),)], built_in=False)
    assert f'; write "{name}"' in str(refused.value)
    assert str(refused.value).startswith("acme.toml, model 'l" if name in ("big", "batch", "eu") else "acme.toml")
    assert load_book([(("acme.toml", NAMED),)], built_in=False).entries


def test_blanks_around_a_model_of_a_contract_are_refused() -> None:
    with pytest.raises(BookError, match=r"deal\.toml, contract 'deal', price 1 .*: field \"model\": 'gpt-4o ' has blanks"):
        load_book(contracts=[(("deal.toml", DEAL + '[[contract.price]]\nmodel = "gpt-4o "\ninput = "1"\n'),)])


def test_a_contract_for_an_unknown_model_is_refused_by_name_and_fix() -> None:
    text = DEAL + '[[contract.price]]\nmodel = "gpt-5o"\ninput = "1"\n'
    with pytest.raises(BookError) as refused:
        load_book(contracts=[(("deal.toml", text),)])
    for part in ("deal.toml", "'deal'", '"model"', "'gpt-5o' is no model", "did you mean", "'gpt-5'"):
        assert part in str(refused.value)
