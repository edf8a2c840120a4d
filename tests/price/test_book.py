"""The price book: reading and checking files, names, layers, versions and its rows."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.tables import PRICES
from tests.price.calls import batch, dollars
from transforms.price import Book, BookError, Key, book_rows, load_book, price_batch
from transforms.price.names import normalise
from transforms.price.rates import dollars as in_dollars
from transforms.price.rates import pico_rate

HEAD = 'providers = ["acme"]\nsource = "price list"\nrecorded = 2026-11-24\n'
MODEL = '[[model]]\nmodel = "m"\nprices = ['
CONFIRMED = HEAD + MODEL + '{ input = "1" }]\n[[confirmed]]\nmodel = "m"\nfrom = 2025-06-01\nrecorded = 2025-07-01\nreason = "the page"'


@pytest.fixture(scope="module")
def built_in() -> Book:
    return load_book()


def write(folder: Path, text: str, name: str = "acme.toml") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def book_of(tmp_path: Path, text: str) -> Book:
    return load_book([write(tmp_path / "own", text)], built_in=False)


def rate_of(book: Book, model: str, when: str = "2026-11-01", prompt: int = 1, **key: str) -> str:
    """The rate id of a key, or the reason why there is none."""
    call = {"provider": "acme", "model": model, "event_time": when, "input_fresh": prompt, **key}
    priced = price_batch(batch([call]), book, 1)
    return priced.rate_id[0] or priced.price_reason[0]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('providers = ["acme"', ["acme.toml", "TOML"]),
        (HEAD.replace('providers = ["acme"]', ""), ['"providers"', "missing"]),
        (HEAD + "colour = 1", ['unknown field "colour"', "providers"]),
        (HEAD + MODEL + '{ inputs = "1" }]', ["model 'm', price 1", 'unknown field "inputs"', "input"]),
        (HEAD + MODEL + "{ input = 1.5 }]", ["price 1", '"input"', "string"]),
        (HEAD + MODEL + '{ input = "1,5" }]', ['"input"', "not a decimal"]),
        (HEAD + MODEL + '{ input = "-1" }]', ['"input"', "zero or more"]),
        (HEAD + MODEL + '{ input = "NaN" }]', ['"input"', "zero or more"]),
        (HEAD + MODEL + '{ input = "0.0000001" }]', ['"input"', "6 decimals", "round"]),
        (HEAD + MODEL + '{ web_search = "0.0000000001" }]', ['"web_search"', "9 decimals"]),
        (HEAD + MODEL + '{ input = "2000000000" }]', ['"input"', "$1,000"]),
        (HEAD + MODEL + '{ output = "1", audio_input = "input" }]', ['"audio_input"', "no price"]),
        (HEAD + "[[fee]]\nrecorded = 2026-11-24\nsource = 's'", ["fee 1", "no price", "file_search"]),
        (HEAD + "[[fee]]\nrecorded = 2026-11-24\nrequest = '1'", ["fee 1", '"source"']),
        (HEAD + "[[fee]]\nsource = 's'\nrequest = '1'", ["fee 1", '"recorded"']),
        (HEAD + "[[fee]]\nrecorded = 2026-11-24\nsource = 's'\ninput = '1'", ["fee 1", 'unknown field "input"']),
        (HEAD + "[[fee]]\nmodels = ['x-*']\nrecorded = 2026-11-24\nsource = 's'\nrequest = '1'", ["fee 1", "'x-*'", "no model"]),
        (HEAD + MODEL + "{ }]", ["either prices or", "free"]),
        (HEAD + MODEL + '{ free = "gift", input = "1" }]', ["either prices or", "free"]),
        (HEAD + MODEL + "]", ['"prices"', "at least one"]),
        (HEAD + MODEL + '{ from = "2025-01-01", input = "1" }]', ['"from"', "without quotes"]),
        (HEAD + MODEL + '{ from = 2025-01-01T00:00:00, input = "1" }]', ['"from"', "time zone"]),
        (HEAD + MODEL + '{ from = 2025-01-02, to = 2025-01-01, input = "1" }]', ['"to"', "later"]),
        (HEAD + MODEL + '{ above = -1, input = "1" }]', ['"above"']),
        (HEAD + MODEL + '{ above = 10, input = "1" }]', ['"above"', "first band"]),
        (HEAD + MODEL + '{ window = "night", input = "1" }]', ['"window"', "windows.night"]),
        (HEAD + '[windows.night]\nhours = ["1-2"]', ["windows.night", '"hours"', "01:00-04:00"]),
        (HEAD + MODEL + '{ input = "1" }, { input = "2" }]', ["price 2", "overlaps", "acme/m"]),
        (
            HEAD + MODEL + '{ from = 2025-01-01, to = 2025-03-01, input = "1" }, { from = 2025-02-01, input = "2" }]',
            ["price 2", '"from"', "overlaps", "acme/m@2025-01-01", "shorten"],
        ),
        (HEAD + MODEL + '{ input = "1" }, { above = 5, to = 2025-01-01, input = "2" }]', ['"to"', "end together"]),
        (HEAD.replace('source = "price list"', "") + MODEL + '{ input = "1" }]', ['"source"', "where the figure"]),
        (HEAD.replace("recorded = 2026-11-24", "") + MODEL + '{ input = "1" }]', ['"recorded"', "date"]),
        (HEAD + MODEL + '{ input = "1" }]\n[[alias]]\nname = "x"\nmodel = "y"', ["'x'", "'y'", "no prices"]),
        (CONFIRMED.replace("from = 2025-06-01\n", ""), ["acme.toml, confirmed 'm'", '"from"', "missing", "2025-06-10"]),
        (CONFIRMED.replace("2025-06-01\n", '"2025-06-01"\n'), ["confirmed 'm'", '"from"', "without quotes"]),
        (CONFIRMED.replace("recorded = 2025-07-01\n", ""), ["confirmed 'm'", '"recorded"', "2026-11-24"]),
        (CONFIRMED.replace('reason = "the page"', ""), ["confirmed 'm'", '"reason"', "missing"]),
        (CONFIRMED.replace("reason", "by"), ["confirmed 'm'", 'unknown field "by"', "reason"]),
        (
            HEAD + MODEL + '{ input = "1" }]\n' + MODEL.replace('"m"', '"n"\nnames = ["m"]') + '{ input = "1" }]',
            ["'m'", "both", "at the same time"],
        ),
    ],
)
def test_mistakes_are_named_with_file_entry_field_and_fix(tmp_path: Path, text: str, parts: list[str]) -> None:
    with pytest.raises(BookError) as error:
        book_of(tmp_path, text)
    for part in parts:
        assert part in str(error.value)


FEES = """
[[fee]]
file_search = "2.5"
request = "9"
source = "page"
recorded = 2026-11-25

[[fee]]
models = ["big*"]
cache_storage = "4.5"
source = "page"
recorded = 2026-11-24
"""


def test_fees_are_of_all_models_that_match_and_do_not_state_them(tmp_path: Path) -> None:
    text = HEAD + FEES + MODEL + '{ input = "1", request = "4" }]\n'
    text += MODEL.replace('"m"', '"big"') + '{ input = "2" }]\n' + MODEL.replace('"m"', '"gift"') + '{ free = "gift" }]'
    folder = write(tmp_path / "own", text)
    listed = {entry.model: dict(entry.listed) for entry in load_book([folder], built_in=False).entries}
    assert listed["m"] == {"input_fresh": "1", "input_tool_use": "1", "requests": "4", "file_searches": "2.5"}
    assert listed["big"].keys() - listed["m"].keys() == {"cache_storage_hours"}
    assert (listed["big"]["requests"], listed["gift"]) == ("9", {})
    before = load_book([folder], built_in=False, known_on=date(2026, 11, 24))
    assert not any({"file_searches", "requests"} & entry.listed.keys() for entry in before.entries if entry.model != "m")
    priced = price_batch(batch([{"provider": "acme", "model": "big", "input_fresh": 1, "file_searches": 2}]), book_of(tmp_path, text), 1)
    assert dollars(priced.cost[0]) == Decimal("0.014002")  # 2 searches, the request and a token


def test_an_empty_or_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BookError, match="no price book"):
        load_book([tmp_path / "nothing"])


def test_a_price_holds_until_the_next_and_gaps_have_none(tmp_path: Path) -> None:
    text = (
        HEAD
        + MODEL
        + '{ from = 2025-01-01, input = "1" }, { from = 2025-02-01, to = 2025-03-01, input = "2" },'
        + ' { from = 2025-04-01T12:00:00Z, to = 2025-05-01, input = "3" }]'
    )
    book = book_of(tmp_path, text)
    assert rate_of(book, "m", "2024-12-31") == "before_first_price"
    assert rate_of(book, "m", "2025-01-31") == "acme/m@2025-01-01"
    assert rate_of(book, "m", "2025-02-01") == "acme/m@2025-02-01"
    assert rate_of(book, "m", "2025-03-01") == "after_last_price"
    assert rate_of(book, "m", "2025-04-01T11:59:59") == "after_last_price"
    assert rate_of(book, "m", "2025-04-01T12:00:00") == "acme/m@2025-04-01T12:00:00Z"
    assert rate_of(book, "m", "2025-05-01") == "after_last_price"


def test_a_new_date_replaces_all_bands(tmp_path: Path) -> None:
    text = HEAD + MODEL + '{ input = "1" }, { above = 100, input = "2" }, { from = 2026-01-01, input = "3" }]'
    book = book_of(tmp_path, text)
    assert rate_of(book, "m", "2025-12-31", 100) == "acme/m"
    assert rate_of(book, "m", "2025-12-31", 101) == "acme/m:>100"
    assert rate_of(book, "m", "2026-01-01", 101) == "acme/m@2026-01-01"


def test_plain_names_go_before_patterns_and_long_patterns_before_short(tmp_path: Path) -> None:
    models = [("a", '["x-*"]'), ("b", '["x-big-*"]'), ("c", '["x-big-1"]'), ("d", '["x-####-##"]')]
    text = HEAD + "".join(f'[[model]]\nmodel = "{m}"\nnames = {n}\nprices = [{{ input = "1" }}]\n' for m, n in models)
    book = book_of(tmp_path, text)
    names = ("x-1", "x-big-2", "x-big-1", "x-2025-01", "X-Big-1 ", "acme/x-big-1", "x", "y-1")
    found = [rate_of(book, name) for name in names]
    assert found == ["acme/a", "acme/b", "acme/c", "acme/d", "acme/c", "acme/c", "unknown_model", "unknown_model"]


def test_an_alias_that_moved_is_read_at_the_time_of_the_call(tmp_path: Path) -> None:
    text = (
        HEAD
        + MODEL
        + '{ input = "1" }]\n[[model]]\nmodel = "n"\nprices = [{ input = "2" }]\n'
        + '[[alias]]\nname = "latest"\nmodel = "m"\nfrom = 2025-01-01\nto = 2025-06-01\n'
        + '[[alias]]\nname = "latest"\nmodel = "n"\nfrom = 2025-06-01\n'
    )
    book = book_of(tmp_path, text)
    days = ("2024-12-31", "2025-01-01", "2025-05-31", "2025-06-01")
    assert [rate_of(book, "latest", day) for day in days] == ["before_first_price", "acme/m", "acme/m", "acme/n"]


def test_scopes(tmp_path: Path) -> None:
    text = HEAD + 'base_scopes = ["global"]\n' + MODEL
    text += '{ input = "1" }, { scope = ["us", "eu"], input = "2" }, { scope = "*", tier = "batch", input = "3" }]'
    book = book_of(tmp_path, text)
    assert rate_of(book, "m", region_scope="global") == "acme/m"
    assert rate_of(book, "m", region_scope="EU") == "acme/m:eu"
    assert rate_of(book, "m", region_scope="jp") == "unknown_scope"
    own = book_of(tmp_path, text.replace('["global"]', '["global", "us"]').replace('["us", "eu"]', '"us"'))
    assert rate_of(own, "m", region_scope="us") == "acme/m:us"
    assert rate_of(book, "m", region_scope="jp", service_tier="batch") == "acme/m:batch:*"


def test_own_prices_replace_the_books_while_they_hold(tmp_path: Path) -> None:
    own = HEAD.replace("acme", "openai") + '[[model]]\nmodel = "gpt-5.4"\nnames = ["contoso-chat"]\nprices = ['
    own += '{ from = 2026-06-01, to = 2026-07-01, input = "1", output = "2" }]'
    book = load_book([write(tmp_path / "own", own)])

    def cost(model: str, when: str, prompt: int = 1000) -> tuple[int, str]:
        call = {"provider": "openai", "model": model, "event_time": when, "input_fresh": prompt}
        priced = price_batch(batch([call]), book, 1)
        return int(priced.cost[0]), priced.rate_id[0]

    assert cost("gpt-5.4", "2026-05-31") == (2_500_000_000, "openai/gpt-5.4")
    assert cost("gpt-5.4", "2026-06-01") == (1_000_000_000, "openai/gpt-5.4@2026-06-01#1")
    assert cost("contoso-chat", "2026-06-30", 300_000) == (300_000_000_000, "openai/gpt-5.4@2026-06-01#1")
    assert cost("gpt-5.4", "2026-07-01", 300_000) == (1_500_000_000_000, "openai/gpt-5.4:>272000")
    assert cost("gpt-4o", "2026-06-01") == (2_500_000_000, "openai/gpt-4o-2024-08-06")


def test_version_follows_prices_and_nothing_else(tmp_path: Path, built_in: Book) -> None:
    def version(name: str, text: str) -> str:
        return load_book([write(tmp_path / name, text)], built_in=False).book_version

    text = HEAD + MODEL + '{ input = "1" }]'
    assert version("a", text) == version("b", "# a comment\n" + text.replace('"1"', '"1.0"'))
    assert version("a", text).startswith("2026-11-24-")
    assert version("a", text) != version("c", text.replace('"1"', '"2"'))
    assert version("a", text) != version("d", text.replace('model = "m"', 'model = "m"\nnames = ["n"]'))
    code = "from transforms.price import load_book; print(load_book().book_version)"
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
            env={"PYTHONHASHSEED": seed},
        )
        assert run.stdout.strip() == built_in.book_version


def test_rows_hold_every_price_once(built_in: Book) -> None:
    rows = book_rows(built_in)
    assert len({(row["rate_id"], row["leaf"]) for row in rows}) == len(rows)
    by_key = {(row["rate_id"], row["leaf"]): row for row in rows}
    row = by_key["openai/gpt-5.4:>272000", "output_visible"]
    assert row["usd_per_million"] == Decimal("22.5")
    assert (row["band_min"], row["band_max"]) == (272_000, None)
    assert by_key["openai/gpt-5.4", "output_visible"]["band_max"] == 272_000
    old = by_key["openai/o3", "input_fresh"]
    assert (old["valid_from"], old["valid_to"]) == (datetime(1970, 1, 1, tzinfo=UTC), datetime(2025, 6, 10, tzinfo=UTC))
    assert by_key["openai/gpt-5", "web_searches"]["usd_per_million"] == 10_000
    assert by_key["ollama/self-hosted", "*"]["usd_per_million"] == 0
    table = pa.Table.from_pylist(rows, PRICES.arrow)
    assert table.num_rows == len(rows)
    assert not set(PRICES.arrow.names) - set(rows[0])
    assert all(row["source"] and row["recorded"] and row["book_version"] == built_in.book_version for row in rows)


def test_every_entry_of_the_book_is_reached_by_its_own_name_and_time(built_in: Book) -> None:
    for row, entry in enumerate(built_in.entries):
        if entry.window or "*" in entry.model or entry.free:
            continue
        scope = "somewhere" if entry.scope == "*" else entry.scope
        plan = built_in.plan(Key(entry.provider, entry.model, entry.tier, scope))
        rows = {int(r) for r in plan.table.flat}
        assert row in rows, entry.rate_id


@given(st.decimals(min_value=0, max_value=10_000, places=6, allow_nan=False))
def test_prices_are_exact_integers(price: Decimal) -> None:
    assert pico_rate(str(price), "input_fresh") == price * 10**6
    assert Decimal(in_dollars(pico_rate(str(price), "input_fresh"))) == price / 10**6


@pytest.mark.parametrize(
    ("model", "prefixes", "spelling", "scope"),
    [
        (" GPT-4o ", {"openai"}, "gpt-4o", ""),
        ("models/gemini-2.5-pro", set(), "gemini-2.5-pro", ""),
        ("projects/p/locations/us/publishers/google/models/gemini-2.5-pro", set(), "gemini-2.5-pro", ""),
        ("claude-sonnet-4@20250514", set(), "claude-sonnet-4-20250514", ""),
        ("eu.anthropic.claude-x-v1:0", set(), "anthropic.claude-x-v1:0", "eu"),
        ("us-gov.anthropic.claude-x", set(), "anthropic.claude-x", "us-gov"),
        ("bedrock/global.amazon.nova", {"bedrock"}, "amazon.nova", "global"),
        ("ft:gpt-4o-2024-08-06:org::id", {"openai"}, "ft:gpt-4o-2024-08-06:org::id", ""),
        ("meta-llama/llama-3", {"groq"}, "meta-llama/llama-3", ""),
    ],
)
def test_spellings_of_names(model: str, prefixes: set[str], spelling: str, scope: str) -> None:
    name = normalise(model, prefixes)
    assert (name.spellings[-1], name.scope) == (spelling, scope)


def test_memory_of_look_ups_is_bounded(built_in: Book) -> None:
    first = built_in.plan(Key("openai", "gpt-4o"))
    for number in range(50_100):
        built_in.plan(Key("nobody", f"m{number}"))
    assert built_in.plan(Key("ollama", "m" * 10_000)).only == -2  # unknown_model, and not remembered
    again = built_in.plan(Key("openai", "gpt-4o"))
    assert (again.table == first.table).all()
    assert len(built_in._plans) <= 50_000
