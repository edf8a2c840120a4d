"""What was known when: prices recorded later change nothing of what was known before, against a plain loop over the TOML."""

from __future__ import annotations

import re
import tomllib
from datetime import date, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.price.calls import micros
from transforms.price import Book, BookError, Key, load_book
from transforms.price.book import BUILT_IN
from transforms.price.entries import Files
from transforms.price.fields import FOREVER

HEAD = 'providers = ["acme"]\nsource = "price list"\nrecorded = 2026-01-01\n'
DAYS = [date(2026, 1, 1) + timedelta(days=10 * number) for number in range(6)]
STARTS = ["", "2026-01-05", "2026-01-20", "2026-02-10"]


@st.composite
def files(draw: st.DrawFn) -> Files:
    """A file of one model whose prices are corrected now and then, each a price of a date as written down on a day."""
    facts = draw(
        st.dictionaries(
            st.tuples(st.sampled_from(STARTS), st.sampled_from(["standard", "batch"]), st.sampled_from(DAYS)),
            st.tuples(st.integers(1, 99), st.booleans()),
            min_size=1,
            max_size=12,
        )
    )
    lines = []
    for (start, tier, day), (price, banded) in facts.items():
        head = f'{{ tier = "{tier}", recorded = {day}, ' + (f"from = {start}, " if start else "")
        lines.append(head + f'input = "{price}" }},')
        lines += [head + f'above = 100, input = "{price + 100}" }},'] if banded else []
    text = HEAD + '[[model]]\nmodel = "m"\nprices = [\n' + "\n".join(draw(st.permutations(lines))) + "\n]\n"
    return (("acme.toml", text),)


def known(folder: Files, day: date | None) -> Book:
    return load_book([folder], built_in=False, known_on=day)


def said(folder: Files, tier: str, at: str, prompt: int, day: date) -> str:
    """The price of a call by the text of the file: the start that holds, as last written down until the day."""
    prices: list[dict[str, Any]] = tomllib.loads(folder[0][1])["model"][0]["prices"]
    seen = [one for one in prices if one["recorded"] <= day and one["tier"] == tier]
    begun = [one for one in seen if str(one.get("from", "")) <= at]
    if not begun:
        return ""
    start = max(str(one.get("from", "")) for one in begun)
    ours = [one for one in begun if str(one.get("from", "")) == start]
    last = max(one["recorded"] for one in ours)
    banded = {one.get("above", 0): one["input"] for one in ours if one["recorded"] == last}
    return str(banded[100] if prompt > 100 and 100 in banded else banded[0])


def found(book: Book, tier: str, at: str, prompt: int) -> str:
    row = book.plan(Key("acme", "m", tier)).row(micros(at), prompt)
    return book.entries[row].listed["input_fresh"] if row >= 0 else ""


@given(files(), st.sampled_from(DAYS), st.sampled_from(["2025-12-31", "2026-01-05", "2026-02-09", "2026-02-10", "2027-01-01"]))
@settings(max_examples=150, deadline=None)
def test_a_price_is_the_one_recorded_last_until_the_day(folder: Files, day: date, at: str) -> None:
    book = known(folder, day)
    for tier in ("standard", "batch"):
        for prompt in (1, 100, 101):
            assert found(book, tier, at, prompt) == said(folder, tier, at, prompt, day)


@given(files())
@settings(max_examples=60, deadline=None)
def test_knowledge_only_grows_and_the_last_of_it_is_the_book(folder: Files) -> None:
    books = [known(folder, day) for day in DAYS]
    for earlier, later in pairwise(books):
        whole = {(e.rate_id, e.recorded, e.listed["input_fresh"]) for e in (*later.entries, *later.corrected)}
        assert {(e.rate_id, e.recorded, e.listed["input_fresh"]) for e in (*earlier.entries, *earlier.corrected)} <= whole
        facts = [len(book.entries) + len(book.corrected) for book in (earlier, later)]
        assert (earlier.book_version == later.book_version) == (facts[0] == facts[1])
    now = known(folder, None)
    assert (now.entries, now.corrected, now.book_version) == (books[-1].entries, books[-1].corrected, books[-1].book_version)


def test_the_built_in_book_is_known_on_the_days_it_was_recorded() -> None:
    book = load_book()
    days = sorted({day for path in BUILT_IN.glob("*.toml") for day in re.findall(r"recorded = ([0-9-]{10})", path.read_text("utf-8"))})
    assert book.book_version.startswith(days[-1])
    assert load_book(known_on=date.fromisoformat(days[-1])).book_version == book.book_version
    before = load_book(known_on=date.fromisoformat(days[0]) - timedelta(days=1))
    assert before.entries == ()
    assert before.plan(Key("openai", "gpt-4o")).only == -2  # unknown_model
    for day in days:
        load_book(known_on=date.fromisoformat(day))


MODEL = '[[model]]\nmodel = "m"\nprices = ['
PRICES = '{ input = "1" }, { above = 100, input = "2" }, { from = 2026-06-01, input = "3" }, '


def of(*parts: str) -> Files:
    return (("acme.toml", HEAD + "".join(parts)),)


def test_a_correction_replaces_all_bands_and_leaves_other_dates_alone() -> None:
    folder = of(MODEL, PRICES, '{ recorded = 2026-03-01, input = "1.5" }]')
    now, then = known(folder, None), known(folder, date(2026, 2, 28))
    assert [found(then, "", "2026-05-01", prompt) for prompt in (1, 101)] == ["1", "2"]
    assert [found(now, "", "2026-05-01", prompt) for prompt in (1, 101)] == ["1.5", "1.5"]
    assert [found(book, "", "2026-06-01", 101) for book in (now, then)] == ["3", "3"]
    assert [(one.rate_id, one.recorded) for one in now.corrected] == [("acme/m", "2026-01-01"), ("acme/m:>100", "2026-01-01")]
    assert then.corrected == ()
    assert now.book_version.startswith("2026-03-01-")
    assert then.book_version == known(of(MODEL, PRICES, "]"), None).book_version
    assert now.entries[0].valid_to < FOREVER


def test_a_correction_may_end_a_price_and_say_that_it_is_free() -> None:
    folder = of(MODEL, '{ input = "1" }, { recorded = 2026-03-01, free = "gift", to = 2026-05-01 }]')
    row = known(folder, None).plan(Key("acme", "m")).row(micros("2026-04-30"), 1)
    assert known(folder, None).entries[row].free == "gift"
    assert found(known(folder, date(2026, 2, 1)), "", "2026-05-02", 1) == "1"
    assert found(known(folder, None), "", "2026-05-02", 1) == ""


def test_twins_of_one_day_and_a_correction_without_its_first_band_are_refused() -> None:
    with pytest.raises(BookError, match=r"acme.toml, model 'm', price 2: .*\"from\": overlaps acme/m .*later \"recorded\""):
        known(of(MODEL, '{ input = "1" }, { input = "2" }]'), None)
    with pytest.raises(BookError, match=r"price 2: field \"above\": state the price of the first band"):
        known(of(MODEL, '{ input = "1" }, { above = 5, recorded = 2026-03-01, input = "2" }]'), None)
    with pytest.raises(BookError, match=r"price 1: field \"recorded\" .*without quotes"):
        known(of(MODEL, '{ input = "1", recorded = "2026-03-01" }]'), None)
    with pytest.raises(BookError, match=r"price 1: field \"recorded\""):
        known(of(MODEL, '{ input = "1", recorded = 2026-03-01T10:00:00Z }]'), None)


def test_an_alias_that_moved_is_closed_by_a_correction() -> None:
    two = '{ input = "1" }]\n[[model]]\nmodel = "n"\nprices = [{ input = "2" }]\n'
    alias = '[[alias]]\nname = "latest"\nmodel = "m"\n'
    moved = '[[alias]]\nname = "latest"\nmodel = "m"\nto = 2026-03-01\nrecorded = 2026-03-02\n'
    moved += '[[alias]]\nname = "latest"\nmodel = "n"\nfrom = 2026-03-01\nrecorded = 2026-03-02\n'
    folder = of(MODEL, two, alias, moved)

    def read(day: date | None, at: str) -> str:
        book = known(folder, day)
        return book.rate_ids[book.plan(Key("acme", "latest")).row(micros(at), 1)]

    assert [read(day, "2026-04-01") for day in (date(2026, 3, 1), date(2026, 3, 2), None)] == ["acme/m", "acme/n", "acme/n"]
    assert read(None, "2026-02-28") == "acme/m"
    with pytest.raises(BookError, match="means both 'm' and 'n' at the same time"):
        known(of(MODEL, two, alias, moved.replace("recorded = 2026-03-02\n", "")), None)


def test_own_prices_recorded_later_lie_over_the_book_only_then() -> None:
    own = (("own.toml", HEAD.replace("acme", "openai").replace("2026-01-01", "2027-01-01") + '[[model]]\nmodel = "gpt-5"\nprices = [{ input = "9" }]\n'),)
    for day, rate_id in ((date(2026, 12, 31), "openai/gpt-5"), (date(2027, 1, 1), "openai/gpt-5#1")):
        book = load_book([own], known_on=day)
        assert book.rate_ids[book.plan(Key("openai", "gpt-5")).row(micros("2026-12-01"), 1)] == rate_id
