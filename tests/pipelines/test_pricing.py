"""``llm-finops prices`` and ``explain``: what a person sees of prices, in process, on small books and a small store."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result

from pipelines.cli import cli
from pipelines.errors import exit_code
from sinks.clickhouse import Store
from tests.pipelines.jobs import go
from tests.pipelines.test_cli import EVENTS
from tests.price.oracle import Oracle
from transforms.price import load_book
from transforms.price.entries import iso
from transforms.price.history import in_effect

BOOK = """
providers = ["acme"]
source = "price list"
recorded = 2026-01-01

[[model]]
model = "large"
names = ["large-####-##-##"]
prices = [
  { input = "2", cache_read = "0.2", output = "8" },
  { above = 1_000, input = "4", cache_read = "0.4", output = "12" },
  { tier = "batch", input = "1", cache_read = "0.1", output = "4" },
  { from = 2026-06-01, input = "1.5", cache_read = "0.15", output = "6" },
  { from = 2026-06-01, recorded = 2026-06-10, input = "1.6", cache_read = "0.15", output = "6" },
]

[[alias]]
name = "large-latest"
model = "large"
from = 2026-02-01
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "acme.toml").write_text(BOOK)
    return tmp_path / "own"


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, list(map(str, words)), env={"COLUMNS": "120", "NO_COLOR": "1"})


def rows(*words: str | Path) -> list[dict[str, Any]]:
    ran = run(*words, "--format", "json")
    assert ran.exit_code == 0, (ran.output, ran.exception)
    found: list[dict[str, Any]] = json.loads(ran.stdout)
    return found


def refused(*words: str | Path) -> tuple[int, str]:
    ran = run(*words)
    assert ran.exception is not None
    return (ran.exit_code if isinstance(ran.exception, SystemExit) else int(exit_code(ran.exception))), f"{ran.exception}{ran.output}"


def test_list_shows_what_holds_at_a_time_as_it_was_known(own: Path) -> None:
    def listed(*words: str) -> list[tuple[str, int, str]]:
        found = rows("prices", "list", "--provider", "acme", "--price-books", own, *words)
        return [(row["tier"], row["above"], row["input"]) for row in found]

    assert listed("--at", "2026-05-31") == [("standard", 0, "2"), ("standard", 1000, "4"), ("batch", 0, "1")]
    assert listed("--at", "2026-06-01", "--tier", "standard") == [("standard", 0, "1.6")]
    assert listed("--at", "2026-06-01", "--tier", "standard", "--known-on", "2026-06-09") == [("standard", 0, "1.5")]
    assert listed("--known-on", "2025-12-31") == listed("--model", "small*") == []
    screen = run("prices", "list", "--model", "gpt-5*").stdout
    assert max(map(len, screen.splitlines())) <= 120
    assert {"in", "cache", "read", "out"} <= set(screen.split())


def test_list_has_every_price_of_the_files(own: Path) -> None:
    told = {(row["tier"], row["above"], row["from"], row["output"]) for row in rows("prices", "show", "large", "--price-books", own)}
    stated = tomllib.loads(BOOK)["model"][0]["prices"]
    assert told == {(p.get("tier", "standard"), p.get("above", 0), str(p.get("from", "")), p["output"]) for p in stated}


@pytest.mark.parametrize("name", ["large", " Large-2026-01-01", "acme/large", "large-latest"])
def test_show_finds_a_model_by_names_as_logged(own: Path, name: str) -> None:
    found = rows("prices", "show", name, "--at", "2026-07-01", "--price-books", own)
    assert [row["recorded"] for row in found if row["corrected"]] == ["2026-01-01"]
    assert [row["input"] for row in found if row["holds"]] == ["1.6", "1"]
    assert found[0]["names"] == "large, large-####-##-##, large-latest (2026-02-01 to …)"
    screen = run("prices", "show", name, "--at", "2026-07-01", "--price-books", own).stdout
    for said in ("Corrected since", "2026-06-10", "large-latest", "source: price list"):
        assert said in screen


@pytest.mark.parametrize(
    ("at", "states"),
    [
        ("2026-05-31", ["in force", "in force", "announced", "in force"]),
        ("2026-06-01", ["past", "past", "in force", "in force"]),  # each price holds until the next one of its tier
    ],
)
def test_show_says_which_prices_are_in_force_on_the_day(own: Path, at: str, states: list[str]) -> None:
    found = rows("prices", "show", "large", "--at", at, "--price-books", own)
    assert [row["state"] for row in found] == [*states, "corrected"]
    lines = [line.split() for line in run("prices", "show", "large", "--at", at, "--price-books", own).stdout.splitlines()]
    shown = [line for line in lines if {"standard", "batch"} & set(line)]
    assert [" ".join(line[: len(state.split())]) for line, state in zip(shown, states, strict=False)] == states
    assert len(shown) == len(states) + 1  # the corrected one has no state


def test_show_says_what_an_own_price_overrules(own: Path) -> None:
    (own / "acme.toml").write_text(BOOK.replace('"acme"', '"openai"').replace('"large"', '"gpt-4o-mini"').split("[[alias]]")[0])
    found = rows("prices", "show", "gpt-4o-mini", "--provider", "openai", "--at", "2026-07-01", "--price-books", own)
    states = {(row["tier"], row["from"], "#" in row["rate_id"]): row["state"] for row in found if not row["corrected"]}
    assert states["batch", "", False] == states["standard", "", False] == "overruled"
    assert states["batch", "", True] == states["standard", "2026-06-01", True] == "in force"


@pytest.mark.parametrize("model", ["deepseek-v4-pro", "claude-sonnet-4-5", "gpt-5.6-luna", "gemini-3.6-flash"])
def test_show_fits_a_terminal_of_100_columns(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    ran = CliRunner().invoke(cli, ["prices", "show", model], env={"COLUMNS": "100", "NO_COLOR": "1"})
    assert max(map(len, ran.stdout.splitlines())) <= 100
    states = [line.split("  ")[0] for line in ran.stdout.splitlines() if line.startswith(("in force ", "past ", "announced "))]
    assert len(states) > 1  # a row for each price, not a list of fields
    assert "in force" in states


def test_show_reads_an_alias_at_its_time_and_names_what_is_near(own: Path) -> None:
    at = ("--price-books", own, "--provider", "openai", "--at")
    assert {row["model"] for row in rows("prices", "show", "gpt-4o", *at, "2024-06-01")} == {"gpt-4o-2024-05-13"}
    assert {row["model"] for row in rows("prices", "show", "gpt-4o", *at, "2024-10-02")} == {"gpt-4o-2024-08-06"}
    code, said = refused("prices", "show", "largge-latest", "--price-books", own)
    assert (code, "did you mean acme/large-latest" in said) == (1, True)


def test_diff_names_what_changed_with_old_new_and_ratio(own: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(BOOK.replace('"batch", input = "1"', '"batch", input = "1.25"').replace("above = 1_000", "above = 2_000"))
    found = rows("prices", "diff", own, other)
    (batch,) = [row for row in found if row["kind"] == "changed" and row["field"] == "input"]
    assert (batch["rate_id"], batch["old"], batch["new"], batch["ratio"]) == ("acme/large:batch", "1", "1.25", "1.25")
    assert {row["rate_id"] for row in found if row["kind"] == "added"} == {"acme/large:>2000"}
    assert {row["rate_id"] for row in found if row["kind"] == "removed"} == {"acme/large:>1000"}
    assert rows("prices", "diff", own, own) == []
    assert {row["kind"] for row in rows("prices", "diff", "built-in@2020-01-01", "built-in", "--provider", "cohere")} == {"added"}
    assert refused("prices", "diff", own, tmp_path / "absent")[0] == 2


WHAT_IF = """
providers = ["openai"]
source = "what if"
recorded = 2026-11-01
[[model]]
model = "gpt-4o-2024-08-06"
prices = [{ input = "5", cache_read = "1.25", output = "10" }, { from = 2027-01-01, tier = "batch", input = "3", output = "9" }]
"""


def test_diff_lays_a_folder_over_the_built_in_book_as_a_run_does(own: Path, tmp_path: Path) -> None:
    (own / "acme.toml").write_text(WHAT_IF)
    found = rows("prices", "diff", "built-in", own)
    said = {(row["kind"], row["rate_id"].removeprefix("openai/gpt-4o-2024-08-06"), row["field"]): (row["old"], row["new"]) for row in found}
    assert said == {
        ("changed", "", "input"): ("2.5", "5"),
        ("changed", "", "tool_use"): ("2.5", "5"),
        ("changed", ":batch", "to"): (None, "2027-01-01"),
        ("added", ":batch@2027-01-01", "input"): (None, "3"),
        ("added", ":batch@2027-01-01", "tool_use"): (None, "3"),
        ("added", ":batch@2027-01-01", "output"): (None, "9"),
        ("added", ":batch@2027-01-01", "reasoning"): (None, "9"),
        **{("changed", "", field): (old, None) for field, old in (("image_input", "2.5"), ("web_search", "10"), ("file_search", "2.5"))},
    }
    assert "0 removed" in run("prices", "diff", "built-in", own).stdout
    assert rows("prices", "diff", "built-in", f"built-in+{own}") == found
    turned = rows("prices", "diff", own, "built-in")
    assert {(row["rate_id"], row["field"], row["new"], row["old"]) for row in turned} == {
        (row["rate_id"], row["field"], row["old"], row["new"]) for row in found
    }
    alone = rows("prices", "diff", "built-in", own, "--alone")
    assert len({row["rate_id"] for row in alone if row["kind"] == "removed"}) > 1_000


def test_a_price_that_an_own_one_interrupts_goes_on_afterwards(own: Path) -> None:
    sale = '{ from = 2026-07-01, to = 2026-08-01, input = "1", cache_read = "0.15", output = "6" }'
    (own / "sale.toml").write_text(WHAT_IF.replace("openai", "acme").split("[[model]]")[0] + f'[[model]]\nmodel = "large"\nprices = [{sale}]')
    layers = [(("acme.toml", BOOK),), (("sale.toml", (own / "sale.toml").read_text()),)]
    held = [e for e in in_effect(load_book(layers, built_in=False).entries) if e.tier == "standard" and not e.above]
    spans = sorted((iso(max(e.valid_from, 0)), iso(min(e.valid_to, 10**16)), e.listed["input_fresh"]) for e in held)
    end = iso(10**16)
    assert spans == [
        ("1970-01-01", "2026-06-01", "2"),
        ("2026-06-01", "2026-07-01", "1.6"),
        ("2026-07-01", "2026-08-01", "1"),
        ("2026-08-01", end, "1.6"),
    ]


def checked(own: Path, text: str, *words: str) -> tuple[int, list[tuple[str, str, str, str]]]:
    (own / "acme.toml").write_text(text)
    ran = run("prices", "check", own, "--today", "2026-06-20", "--format", "json", *words)
    found = json.loads(ran.stdout)
    assert all(row["file"] == "acme.toml" and row["finding"] and row["fix"] for row in found)
    code = 0 if ran.exception is None else int(exit_code(ran.exception))
    return code, [(row["severity"], row["check"], row["entry"], row["field"]) for row in found]


BATCH = '{ tier = "batch", input = "1", cache_read = "0.1", output = "4" },'
GAP = BATCH.replace("input", "to = 2026-03-01, input") + BATCH.replace("input", "from = 2026-04-01, input")
LATER = "{ from = 2026-06-01, recorded"


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (BATCH, GAP, ("error", "gap", "model 'large', price 4", "from")),
        (LATER, LATER.replace("recorded", "to = 2026-07-01, recorded"), None),
        ('input = "1.6"', 'input = "16"', ("warning", "jump", "model 'large', price 5", "input")),
        ('input = "1.6"', 'input = "0.66"', ("warning", "jump", "model 'large', price 5", "input")),
        ('input = "1.6"', 'input = "6.00"', None),
        ('cache_read = "0.4"', 'cache_read = "4.1"', ("warning", "order", "model 'large', price 2", "cache_read")),
        ('output = "12"', 'output = "3"', ("warning", "order", "model 'large', price 2", "output")),
        ('input = "1", cache', 'input = "2.1", cache', ("warning", "order", "model 'large', price 3", "input")),
        ("recorded = 2026-01-01", "recorded = 2025-12-01", ("warning", "stale", "model 'large', price 3", "recorded")),
        ('model = "large"\nfrom', 'model = "lage"\nfrom', ("error", "refused", "alias 'large-latest'", "")),
        ('input = "1.6"', 'input = "-1"', ("error", "refused", "model 'large', price 5", "input")),
        ("recorded = 2026-06-10, ", "", ("error", "refused", "model 'large', price 5", "from")),
        ("[[alias]]", "[[alias", ("error", "refused", "", "")),
    ],
)
def test_check_names_file_entry_field_and_fix(own: Path, old: str, new: str, wanted: tuple[str, ...] | None) -> None:
    assert old in BOOK
    code, found = checked(own, BOOK.replace(old, new, 1))
    if wanted is None:
        assert (code, found) == (0, [])
    else:
        assert wanted in found
        assert code == (1 if wanted[0] == "error" else 0)
        assert checked(own, BOOK.replace(old, new, 1), "--strict")[0] == 1


JUMPING = BOOK.replace('input = "1.6", cache_read = "0.15", output = "6"', 'input = "16", cache_read = "0.15", output = "20"')
CONFIRMED = '\n[[confirmed]]\nmodel = "large"\nfrom = 2026-06-01\nrecorded = 2026-06-10\nreason = "letter of the vendor"\n'
JUMP = ("warning", "jump", "model 'large', price 5", "input")
NOTHING = ("warning", "confirmed", "confirmed 'large'", "from")


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ("", "", []),
        ("from =", 'tier = "standard"\nscope = "global"\nfrom =', [NOTHING, JUMP]),  # there is no such scope
        ("from =", 'tier = "standard"\nfrom =', []),
        ("from =", 'tier = "batch"\nfrom =', [NOTHING, JUMP]),
        ("2026-06-01", "2026-06-02", [NOTHING, JUMP]),
        ("2026-06-10", "2026-06-09", [NOTHING, JUMP]),  # what was recorded after it is asked about again
        ('"large"', '"lage"', [(*NOTHING[:2], "confirmed 'lage'", "from"), JUMP]),
    ],
)
def test_a_confirmed_jump_is_no_finding_and_a_needless_confirmation_is_one(
    own: Path, old: str, new: str, wanted: list[tuple[str, ...]]
) -> None:
    confirmed = CONFIRMED.replace(old, new, 1) if old else CONFIRMED
    assert checked(own, JUMPING + confirmed) == (0, wanted)
    assert checked(own, BOOK + CONFIRMED) == (0, [NOTHING])  # the price does not jump


def test_confirmations_change_no_price_and_are_known_from_their_day(own: Path) -> None:
    books = []
    for text in (JUMPING, JUMPING + CONFIRMED):
        (own / "acme.toml").write_text(text)
        books.append(load_book([own], built_in=False))
    assert books[0].book_version == books[1].book_version
    assert [one.reason for one in books[1].confirmed("acme")] == ["letter of the vendor"]
    assert load_book([own], built_in=False, known_on=date(2026, 6, 9)).confirmed("acme") == ()


def test_an_alias_of_a_time_without_a_price_is_an_error(own: Path) -> None:
    dated = BOOK.replace('{ input = "2", cache', '{ from = 2026-03-01, input = "2", cache').replace("{ above", "{ from = 2026-03-01, above")
    code, found = checked(own, dated.replace('tier = "batch"', 'from = 2026-03-01, tier = "batch"') + "to = 2026-02-15\n")
    assert (code, found) == (1, [("error", "alias", "alias 'large-latest'", "model")])


def test_the_built_in_book_has_no_errors() -> None:
    found = rows("prices", "check", "--today", "2026-11-27")
    assert {(row["severity"], row["check"]) for row in found} == {("warning", "jump")}
    assert {row["file"] for row in found} == {"avian.toml", "openrouter.toml", "vertex.toml"}  # what nothing bears out


DEAL = '[[contract]]\nname = "deal"\nproviders = ["acme"]\n'
WRONG: dict[str, tuple[str, str]] = {
    "syntax": ("[[contract]\n", "cannot be read as TOML"),
    "model": (DEAL + '[[contract.price]]\nmodel = "lrge"\ninput = "1"\n', "'lrge' is no model"),
    "percent": (DEAL + 'discount = "110"\n', '"110"'),
    "provider": (DEAL.replace("acme", "acne") + 'discount = "1"\n', "'acne' has no prices"),
}


@pytest.mark.parametrize("by", ["option", "environment"])
def test_check_refuses_what_is_wrong_with_contracts_as_explain_does(own: Path, tmp_path: Path, by: str) -> None:
    asked = ("explain", "--provider", "acme", "--model", "large", "--input", "1", "--price-books", own)
    paths = {name: tmp_path / f"{name}.toml" for name in (*WRONG, "absent")}
    for name, (text, _) in WRONG.items():
        paths[name].write_text(text)
    named = [word for path in paths.values() for word in ("--price-contracts", str(path))] if by == "option" else []
    env = {} if by == "option" else {"LLM_FINOPS_PRICE__CONTRACTS": json.dumps(list(map(str, paths.values())))}
    words = ["prices", "check", str(own), "--today", "2026-06-20", "--format", "json", *named]
    ran = CliRunner().invoke(cli, words, env=env)
    found = {row["file"].rpartition("/")[2]: row for row in json.loads(ran.stdout)}
    assert int(exit_code(ran.exception or AssertionError())) == 1
    assert found.keys() == {f"{name}.toml" for name in paths}  # each of them, not the first alone
    for name, path in paths.items():
        row, (code, said) = found[f"{name}.toml"], refused(*asked, "--price-contracts", path)
        assert (row["severity"], code) == ("error", 2)
        assert row["finding"] in said
        assert WRONG.get(name, ("", "No such file"))[1] in row["finding"]


def test_check_takes_right_contracts_and_refuses_two_for_the_same_calls(own: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one.toml", tmp_path / "other.toml"
    one.write_text(DEAL + 'discount = "10"\n')
    other.write_text(DEAL.replace("deal", "more") + 'discount = "20"\n')
    words = ("prices", "check", own, "--today", "2026-06-20", "--price-contracts", one)
    assert "0 errors, 0 warnings in prices and 1 files" in run(*words).stdout
    both = run(*words, "--price-contracts", other)
    assert "is for the same calls as contract 'deal'" in " ".join(both.stdout.split())
    assert int(exit_code(both.exception or AssertionError())) == 1


@pytest.mark.parametrize("width", [40, 100])
def test_check_breaks_no_word(own: Path, width: int) -> None:
    (own / "acme.toml").write_text(BOOK.replace('input = "1.6"', 'input = "16"').replace('"acme"', '"a-vendor-of-a-very-long-name"'))
    words = ["prices", "check", str(own), "--today", "2026-06-20"]
    screen = CliRunner().invoke(cli, words, env={"COLUMNS": str(width), "NO_COLOR": "1"}).stdout
    found = rows(*words)
    assert found
    assert {word for row in found for text in (row["finding"], row["fix"]) for word in text.split()} <= set(screen.split())


# -- other people's lists

LITELLM: dict[str, Any] = {
    "sample_spec": {"input_cost_per_token": 0, "litellm_provider": "one of https://..."},
    "large": {
        "litellm_provider": "acme",
        "input_cost_per_token": 1.6e-06,
        "cache_read_input_token_cost": 1.5e-07,
        "output_cost_per_token": 7e-06,
        "output_cost_per_token_batches": 4e-06,
        "input_cost_per_token_batches": 1e-06,
        "input_cost_per_token_above_200k_tokens": 3.2e-06,
        "supports_vision": True,
    },
    "acme/fine": {"litellm_provider": "acme", "input_cost_per_token": 1.23456789e-12},
    "acme/film": {"litellm_provider": "acme", "output_cost_per_second": 0.1},
    "acme/gift": {"litellm_provider": "acme", "input_cost_per_token": 0, "output_cost_per_token": 0.0},
}
GENAI: list[dict[str, Any]] = [
    {
        "id": "acme",
        "models": [
            {
                "id": "large",
                "match": {"or": [{"equals": "large"}, {"starts_with": "large-v"}]},
                "prices": [
                    {"prices": {"input_mtok": 2, "output_mtok": {"base": 8, "tiers": [{"start": 1000, "price": 12}]}}},
                    {"constraint": {"start_date": "2026-06-01"}, "prices": {"input_mtok": 1.7, "cache_read_mtok": 0.15, "output_mtok": 6}},
                ],
                "price_variants": [{"when": {"processing": "batch"}, "prices": {"input_mtok": 1, "cache_read_mtok": 0.1, "output_mtok": 4}}],
            },
            {"id": "night", "match": {"equals": "night"}, "prices": [{"constraint": {"start_time": "00:30:00Z"}, "prices": {"input_mtok": 1}}]},
            {"id": "reels", "match": {"equals": "reels"}, "prices": {"input_video_mtok": 3}},
        ],
    }
]


def test_litellm_prices_become_exact_proposals(own: Path, tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(json.dumps(LITELLM))
    words = ("prices", "import", "litellm", "--file", tmp_path / "map.json", "--price-books", own, "--today", "2026-07-01")
    before = (own / "acme.toml").read_text()
    found = rows(*words)
    changed = {(row["price"], row["field"]): (row["ours"], row["theirs"]) for row in found if row["kind"] == "changed"}
    assert changed["acme/large", "output"] == ("6", "7")
    assert ("acme/large", "input") not in changed
    reasons = {row["price"]: row["reason"] for row in found if row["kind"] == "not mapped"}
    assert set(reasons) == {"acme/fine", "acme/film", "acme/gift"}
    assert "decimals" in reasons["acme/fine"]
    assert "output_cost_per_second" in reasons["acme/film"]
    assert "free" in reasons["acme/gift"]
    run(*words, "--out", tmp_path / "proposed")
    (file,) = (tmp_path / "proposed").iterdir()
    said = tomllib.loads(file.read_text())
    assert (str(said["recorded"]), said["source"]) == ("2026-07-01", "litellm, map.json")
    prices = {(p.get("tier", "standard"), p.get("above", 0)): (p["input"], p["output"]) for p in said["model"][0]["prices"]}
    assert prices == {("standard", 0): ("1.6", "7"), ("standard", 200_000): ("3.2", "7"), ("batch", 0): ("1", "4")}
    assert Oracle(tmp_path / "proposed").of("acme")
    assert run("prices", "list", "--price-books", tmp_path / "proposed", "--provider", "acme").exit_code == 0
    assert (own / "acme.toml").read_text() == before
    assert refused(*words, "--out", tmp_path / "proposed")[0] == 3


@pytest.mark.parametrize("width", [50, 100])
def test_new_prices_of_a_list_are_shown_with_their_figures_and_whole_names(own: Path, tmp_path: Path, width: int) -> None:
    name = "a-model-with-a-name-of-more-than-forty-characters-2026-02-01"
    new = {"litellm_provider": "acme", "input_cost_per_token": 3e-07, "output_cost_per_token": 1.5e-06, "input_cost_per_audio_token": 9e-06}
    (tmp_path / "map.json").write_text(json.dumps({name: new, **LITELLM}))
    words = ["prices", "import", "litellm", "--file", tmp_path / "map.json", "--price-books", own, "--today", "2026-07-01"]
    found = [row for row in rows(*words) if row["kind"] == "new" and row["price"] == f"acme/{name}"]
    assert {row["field"]: (row["ours"], row["theirs"]) for row in found} == {
        "input": (None, "0.3"),
        "audio_input": (None, "9"),
        "output": (None, "1.5"),
    }
    screen = CliRunner().invoke(cli, list(map(str, words)), env={"COLUMNS": str(width), "NO_COLOR": "1"}).stdout
    lines = [line.strip() for line in screen.splitlines()]
    at = lines.index(f"acme/{name}")
    assert "input 0.3, audio_input 9, output 1.5 the book says unknown_model" in " ".join(lines[at + 1 : at + 4])
    assert "acme/film" in lines


def claude(price: float, **more: Any) -> dict[str, Any]:
    million = 1e-6
    return {
        "litellm_provider": "bedrock_converse",
        "input_cost_per_token": price * million,
        "input_cost_per_token_above_200k_tokens": 2 * price * million,
        "cache_creation_input_token_cost": 1.25 * price * million,
        "cache_creation_input_token_cost_above_1hr": 2 * price * million,
        "cache_creation_input_token_cost_above_1hr_above_200k_tokens": 4 * price * million,
        "output_cost_per_token": 5 * price * million,
        **more,
    }


PLACES: dict[str, Any] = {
    "acme.claude-x": claude(4),
    "global.acme.claude-x": claude(4),
    "eu.acme.claude-x": claude(5),
    "bedrock/us-gov-west-1/acme.claude-x": claude(6),
    "acme.claude-y": claude(4),
    "us.acme.claude-y": claude(4),
    "azure/lar": {"litellm_provider": "azure", "input_cost_per_token": 1.0000000000000001e-07, "output_cost_per_token": 8e-07},
    "azure/us/lar": {"litellm_provider": "azure", "input_cost_per_token": 1.1e-07, "output_cost_per_token": 8.8e-07},
    "azure/eu/lar": {"litellm_provider": "azure", "input_cost_per_token": 1.1e-07, "output_cost_per_token": 9e-07},
    "azure/global/lar": {"litellm_provider": "azure", "input_cost_per_token": 1e-07, "output_cost_per_token": 8e-07},
    "picture": {
        "litellm_provider": "acme",
        "input_cost_per_token": 2e-06,
        "input_cost_per_image_token": 2e-06,
        "input_cost_per_audio_token": 9e-06,
        "input_cost_per_token_above_200k_tokens": 4e-06,
        "output_cost_per_token": 6e-06,
        "output_cost_per_token_ultrafast": 24e-06,
        "cache_creation_input_token_cost": 0,
        "regional_processing_uplift_multiplier_eu": 1.1,
    },
    "vectors": {"litellm_provider": "acme", "mode": "embedding", "input_cost_per_token": 1e-07, "output_cost_per_token": 0},
    "night": {"litellm_provider": "acme", "input_cost_per_token": 1e-07, "off_peak_pricing": {"windows": []}},
}


def test_litellm_names_and_fields_of_regions_bands_and_caches_are_understood(tmp_path: Path) -> None:
    (tmp_path / "map.json").write_text(json.dumps(PLACES))
    words = ("prices", "import", "litellm", "--file", tmp_path / "map.json", "--today", "2026-07-01", "--out", tmp_path / "out")
    reasons = {row["price"]: row["reason"] for row in rows(*words) if row["kind"] == "not mapped"}
    assert {name: reason.split()[-1] for name, reason in reasons.items()} == {"azure/eu/lar": "'datazone'", "acme/night": "hand"}
    proposed = {
        (file.stem, model["model"], price.get("tier", "standard"), price.get("scope", ""), price.get("above", 0)): price
        for file in (tmp_path / "out").iterdir()
        for model in tomllib.loads(file.read_text())["model"]
        for price in model["prices"]
    }
    x, y = ("bedrock", "acme.claude-x", "standard"), ("bedrock", "acme.claude-y", "standard")
    assert {key[3] for key in proposed if key[:3] == x} == {"global", "eu", "us-gov-west-1"}  # its bare name is the global price
    assert {key[3] for key in proposed if key[:3] == y} == {"", "us"}
    written = {name: proposed[(*x, "eu", 0)][name] for name in ("cache_write", "cache_write_5m", "cache_write_1h")}
    assert written == {"cache_write": "6.25", "cache_write_5m": "6.25", "cache_write_1h": "10"}
    assert [proposed[(*x, "eu", 200_000)][name] for name in ("input", "cache_write_1h", "output")] == ["10", "20", "25"]
    azure = {key[3]: price["input"] for key, price in proposed.items() if key[0] == "azure"}
    assert azure == {"": "0.1", "datazone": "0.11"}
    picture = {key[2:]: price for key, price in proposed.items() if key[1] == "picture"}
    long = picture["standard", "", 200_000]
    assert [long[name] for name in ("input", "image_input", "audio_input")] == ["4", "4", "9"]  # an image costs what text does
    assert [picture["standard", "eu", above]["output"] for above in (0, 200_000)] == ["6.6", "6.6"]
    assert picture["ultrafast", "", 0] == {"tier": "ultrafast", "output": "24"}
    assert not any("cache_write" in price for price in picture.values())
    assert "output" not in proposed["acme", "vectors", "standard", "", 0]
    assert run("prices", "list", "--price-books", tmp_path / "out", "--provider", "acme").exit_code == 0


def test_one_difference_is_told_once(own: Path, tmp_path: Path) -> None:
    twice = {f"acme/{name}": {**LITELLM["large"], "output_cost_per_token_batches": 5e-06} for name in ("large", "large-2026-02-01")}
    (tmp_path / "map.json").write_text(json.dumps(twice))
    found = rows("prices", "import", "litellm", "--file", tmp_path / "map.json", "--price-books", own, "--today", "2026-07-01")
    batch = [(row["price"], row["field"]) for row in found if row["kind"] == "changed" and ":batch" in row["price"]]
    assert batch == [("acme/large-2026-02-01:batch", "output")]  # reasoning is billed as output, and both names are one model


def test_genai_prices_keep_dates_bands_and_tiers(own: Path, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text(json.dumps(GENAI))
    words = ("prices", "import", "genai-prices", "--file", tmp_path / "data.json", "--price-books", own, "--today", "2026-07-01")
    found = rows(*words, "--out", tmp_path / "proposed")
    (changed,) = [row for row in found if row["kind"] == "changed" and row["field"] == "input"]
    assert (changed["price"], changed["ours"], changed["theirs"]) == ("acme/large@2026-06-01", "1.6", "1.7")
    reasons = {row["price"]: row["reason"] for row in found if row["kind"] == "not mapped"}
    assert "hour" in reasons["acme/night"]
    assert "input_video_mtok" in reasons["acme/reels"]
    (model,) = tomllib.loads((tmp_path / "proposed" / "acme.toml").read_text())["model"]
    assert model["names"] == ["large-v*"]
    assert [(str(p.get("from", "")), p.get("above", 0), p["output"]) for p in model["prices"]] == [
        ("", 0, "8"), ("", 1000, "12"), ("2026-06-01", 0, "6"), ("", 0, "4"),
    ]  # fmt: skip


@pytest.mark.parametrize(("source", "text"), [("litellm", "[]"), ("genai-prices", "{}"), ("litellm", "{"), ("genai-prices", '[{"id": "a"}]')])
def test_what_is_no_list_is_refused(tmp_path: Path, source: str, text: str) -> None:
    (tmp_path / "list.json").write_text(text)
    code, said = refused("prices", "import", source, "--file", tmp_path / "list.json")
    assert (code, "list.json" in said, "--file" in said) == (3, True, True)
    assert refused("prices", "import", source, "--file", tmp_path / "absent.json")[0] == 3


# -- the sum behind a call

BOTH = [{**EVENTS[0], "id": f"twin-{n}", "request_id": "together", "started_at": f"2026-03-02T11:0{n}:00Z"} for n in range(2)]
OTHERS = [
    {**EVENTS[0], "id": "stranger", "model": "gpt-99"},
    {**EVENTS[0], "id": "failed", "status": "error", "usage": None},
    {**EVENTS[0], "id": "odd", "usage": {"input_total": 100, "cached_input": 300, "output_total": 10}},
    {**EVENTS[0], "id": "dear", "reported_cost": {"usd": "0.5", "by": "gateway"}},
    {name: value for name, value in EVENTS[0].items() if name != "started_at"} | {"id": "when"},
    {**EVENTS[0], "id": "mine", "provider": "acme", "model": "large-latest", "usage": {"input_fresh": 1001, "output_visible": 10}},
]


class Filled(NamedTuple):
    """A store that holds the calls, as ``--to`` takes it, and the own prices that they went by."""

    to: str
    books: Path


@pytest.fixture(scope="module")
def filled(module_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    folder = tmp_path_factory.mktemp("explain")
    (folder / "log.jsonl").write_text("".join(json.dumps(event) + "\n" for event in (*EVENTS, *BOTH, *OTHERS)))
    (folder / "own").mkdir()
    (folder / "own" / "acme.toml").write_text(BOOK)
    go(module_store.address, folder / "log.jsonl", books=(folder / "own",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.stores.open_store", lambda _: module_store)
        yield Filled(str(module_store.address), folder / "own")


def explained(store: str, call: str, *words: str | Path) -> dict[str, Any]:
    ran = run("explain", call, "--to", store, "--format", "json", *words)
    assert ran.exit_code == 0, (ran.output, ran.exception)
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_explain_adds_up_to_what_the_store_has(filled: Filled) -> None:
    store, at = filled
    for call, cost in (("chatcmpl-3", Decimal("0.0035")), ("mine", (1001 * Decimal(4) + 10 * Decimal(12)) / 10**6)):
        one = explained(store, call, "--price-books", at)
        assert (Decimal(one["cost"]), one["stored"]) == (cost, "equal")
        assert sum(Decimal(line["amount"]) for line in one["lines"]) == cost
        assert all(Decimal(line["rate"]) * line["quantity"] / line["per"] == Decimal(line["amount"]) for line in one["lines"])
    assert (one["read_as"], one["band"], one["recorded"]) == ("large-latest of large", "prompts above 1,000 tokens", "2026-01-01")
    assert explained(store, one["call_key"], "--price-books", at) == one
    screen = run("explain", "mine", "--to", store, "--price-books", at).stdout
    assert "acme/large:>1000" in screen
    other = explained(store, "mine")
    assert (other["price_status"], other["price_reason"]) == ("unpriced", "unknown_provider")
    assert other["stored"].startswith("$0.004124 (priced), priced with another book: ")


def test_explain_says_why_there_is_no_sum(filled: Filled) -> None:
    store = filled.to
    stranger, failed = explained(store, "stranger"), explained(store, "failed")
    assert (stranger["price_reason"], stranger["cost"], stranger["lines"]) == ("unknown_model", None, [])
    assert (failed["price_status"], failed["cost"], failed["why"]) == ("not_billed", "0", "it failed and no usage was reported")
    assert refused("explain", "absent", "--to", store)[0] == 1
    code, said = refused("explain", "together", "--to", store)
    assert (code, "2 calls" in said, "call_key" in said) == (2, True, True)


def test_explain_says_what_is_odd_about_a_call(filled: Filled) -> None:
    odd, dear, when = (explained(filled.to, call) for call in ("odd", "dear", "when"))
    assert (odd["usage"], odd["flags"]) == ("inconsistent; the vendor reported input 100, output 10", "cached_exceeds_input")
    assert dear["stated_cost"] == "$0.5 by gateway"
    assert when["time_is_of"] == "when it was sent or read: the log says no time"
    assert not {"usage", "flags", "stated_cost", "time_is_of"} & explained(filled.to, "chatcmpl-3").keys()


def test_explain_without_a_store(own: Path) -> None:
    words = ("--provider", "acme", "--model", "large", "--input", "1001", "--output", "10", "--price-books", own, "--at")
    costs = {"2026-05-31": "0.004124", "2026-06-01": "0.0016616"}
    assert {at: json.loads(run("explain", *words, at, "--format", "json").stdout)["cost"] for at in costs} == costs
    assert refused("explain")[0] == refused("explain", "x", *words, "2026-01-01")[0] == 2
    assert refused("explain", "--provider", "acme", "--model", "large", "--input", "-1")[0] == 2
    tier = json.loads(run("explain", *words, "2026-05-31", "--tier", "gold", "--format", "json").stdout)
    assert (tier["price_reason"], tier["cost"]) == ("unknown_tier", None)
