"""A price that states no ``from`` is for nobody who calls before the model can have existed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from tests.price.calls import batch, micros
from tests.price.oracle import FIRST_API, Oracle, born
from transforms.price import Key, load_book, price_batch
from transforms.price.age import earliest
from transforms.price.book import BUILT_IN, NO_PRICE, Book
from transforms.price.explain import explain_call
from transforms.price.fields import utc
from transforms.price.history import holding


@pytest.fixture(scope="module")
def book() -> Book:
    return load_book()


def reason(book: Book, provider: str, model: str, at: datetime) -> str:
    row = book.plan(Key(provider, model)).row(micros(at.isoformat()), 100)
    return "" if row >= 0 else NO_PRICE[-1 - row]


def test_no_dated_name_of_the_book_has_a_price_before_its_date(book: Book) -> None:
    seen = 0
    for file in Oracle(BUILT_IN).files:
        for model in file["model"]:
            for name in (model["model"], *model.get("names", [])):
                told = re.search(r"(?<!\d)(20\d\d)-?([01]\d)-?([0-3]\d)(?!\d)", name)
                if not told or "*" in name or "#" in name:
                    continue
                seen += 1
                day = datetime(*map(int, told.groups()), tzinfo=UTC)  # type: ignore[arg-type]
                for provider in file["providers"]:
                    before = [reason(book, provider, name, day - timedelta(days=ago)) for ago in (3000, 400, 8)]
                    assert not {"", "after_last_price"} & set(before), (provider, name)
                    if all("from" not in price for price in model["prices"]):
                        assert reason(book, provider, name, day) != "before_first_price", (provider, name)
    assert seen > 100


def test_no_name_of_the_book_has_a_price_before_the_first_api(book: Book) -> None:
    for provider in book.providers:
        for rule in book.names(provider):
            assert reason(book, provider, rule.name, FIRST_API - timedelta(seconds=1)) not in ("", "after_last_price"), rule
    assert holding(book, micros("2020-05-31")) == []
    assert {entry.model for entry in holding(book, micros("2024-07-01"), "openai", "gpt-4o-20*")} == {"gpt-4o-2024-05-13"}


@pytest.mark.parametrize(
    ("name", "since"),
    [
        ("gpt-4o-2024-08-06", "2024-07-30"),
        ("openai/GPT-4o-2024-08-06 ", "2024-07-30"),
        ("claude-3-5-sonnet@20241022", "2024-10-15"),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", "2024-10-15"),
        ("gpt-4-32k-0613", "2023-06-06"),
        ("gpt-35-turbo-1106", "2023-10-30"),
        ("gpt-4-0125-preview", "2024-01-18"),
        ("mistral.mistral-large-2402-v1:0", "2024-01-25"),
        ("command-r-08-2024", "2024-07-25"),
        ("doubao-seed-1-6-250615", "2025-06-08"),
        ("ft:gpt-4o-mini-2024-07-18:acme:run-2029-01-01:x1", "2024-07-11"),
        ("gpt-4o-2024-08-06-of-2026-01-01", "2024-07-30"),
        ("deepseek-chat", "2020-06-01"),
        ("mixtral-8x7b-32768", "2020-06-01"),
        ("kimi-k2-0905-preview", "2020-06-01"),  # of which year it does not say
        ("m-20249999", "2020-06-01"),
        ("", "2020-06-01"),
    ],
)
def test_what_a_name_tells_of_its_age(name: str, since: str) -> None:
    assert f"{utc(earliest(name)):%Y-%m-%d}" == since
    assert born(name) == datetime.fromisoformat(since).replace(tzinfo=UTC)


def test_every_name_of_the_book_is_as_old_as_the_oracle_says(book: Book) -> None:
    names = {rule.name for provider in book.providers for rule in book.names(provider)}
    assert [name for name in names if utc(earliest(name)) != born(name)] == []


@pytest.mark.parametrize("when", ["2024-07-29T23:59:59", "2024-07-30"])
def test_calls_before_have_no_price_and_hear_why(book: Book, when: str) -> None:
    made = [{"model": model, "input_fresh": 10, "event_time": when} for model in ("gpt-4o-2024-08-06", "gpt-4")]
    priced = price_batch(batch(made), book, 1)
    early = when < "2024-07-30"
    assert (priced.price_status, priced.price_reason) == (
        (["unpriced", "priced"], ["before_first_price", ""]) if early else (["priced"] * 2, [""] * 2)
    )
    (row, _) = batch(made).to_pylist()
    why = explain_call(book, {**row, "event_time": micros(when)}).why
    assert ("no model named 'gpt-4o-2024-08-06' can have been called before 2024-07-30, unless" in why) == early


def test_a_stated_from_goes_before_what_the_name_tells(book: Book) -> None:
    text = 'providers = ["acme"]\nsource = "page"\nrecorded = 2026-01-01\n[[model]]\nmodel = "m-2026-01-01"\nprices = ['
    own = load_book([(("acme.toml", text + '{ from = 2025-06-01, input = "1" }]'),)], built_in=False)
    assert [reason(own, "acme", "m-2026-01-01", datetime(2025, m, 1, tzinfo=UTC)) for m in (5, 6)] == ["before_first_price", ""]


def test_names_that_are_anybodys_tell_nothing() -> None:
    text = 'providers = ["host"]\nsource = "page"\nrecorded = 2026-01-01\n[[model]]\nmodel = "*"\nprices = [{ input = "1" }]'
    own = load_book([(("host.toml", text),)], built_in=False)
    assert reason(own, "host", "mine-2029-01-01", datetime(2026, 1, 1, tzinfo=UTC)) == ""
