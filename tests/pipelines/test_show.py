"""What a table looks like for people, in JSON and in CSV; errors and progress on standard error."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.progress import Progress, Reading, line
from pipelines.show import (
    Column,
    Format,
    Kind,
    Table,
    as_csv,
    as_json,
    dollars,
    human_amount,
    human_bytes,
    human_money,
    human_seconds,
    show,
    table_of,
)
from pipelines.text import printable

SPEND = Table(
    [
        Column("team"),
        Column("model"),
        Column("calls", Kind.COUNT),
        Column("input_tokens", Kind.COUNT),
        Column("output_tokens", Kind.COUNT),
        Column("spend", Kind.MONEY),
        Column("share", Kind.SHARE),
    ],
    [
        ["search", "openai/gpt-5-mini-2025-08-07", 12_345, 123_456_789, 987_654, Decimal("1234.5678901"), 0.531],
        ["support", "anthropic/claude-sonnet-4", 5, 1, 0, Decimal("0.000123456000"), 0.1],
        ["日本語チーム", None, 0, 0, 0, None, 0.0],
    ],
    "Spend by team",
    "3 teams",
)


def printed(table: Table, fmt: str = "table", columns: int = 80, monkeypatch: pytest.MonkeyPatch | None = None) -> str:
    file = io.StringIO()
    if monkeypatch:
        monkeypatch.setenv("COLUMNS", str(columns))
    show(table, fmt, file)
    return file.getvalue()


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("1234.56", "$1,234.56"),
        ("0.000123", "$0.000123"),
        ("0", "$0.00"),
        ("0.000000000000", "$0.00"),
        ("-0.000", "$0.00"),
        ("1", "$1.00"),
        ("0.5", "$0.50"),
        ("0.0456789", "$0.0457"),
        ("0.000000000001", "$0.000000000001"),
        ("0.9999", "$1.00"),
        ("-12.345", "-$12.34"),
        ("-0.0001", "-$0.0001"),
        ("9223372036854775807.999", "$9,223,372,036,854,775,808.00"),
    ],
)
def test_money_for_people(amount: str, text: str) -> None:
    assert human_money(Decimal(amount)) == text


def test_an_amount_in_another_currency_has_its_code_and_no_sign_of_the_dollar() -> None:
    assert human_amount(Decimal("-1234.5"), "EUR") == "-1,234.50 EUR"
    assert human_amount(Decimal("0.4257"), "USD") == "$0.426"
    table = Table([Column("billed", Kind.AMOUNT)], [[human_amount(0, "EUR")], [human_amount(12, "USD")]])
    printed = io.StringIO()
    show(table, file=printed)
    assert [line.rstrip() for line in printed.getvalue().splitlines()[2:]] == ["0.00 EUR", "  $12.00"]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=12, min_value=-(10**15), max_value=10**15))
def test_money_for_people_is_the_amount_rounded_to_what_is_shown(amount: Decimal) -> None:
    shown = human_money(amount)
    back = Decimal(shown.replace("$", "").replace(",", ""))
    step = Decimal(1).scaleb(-len(shown.partition(".")[2]))
    assert abs(back - amount) <= max(step, abs(amount) / 200) / 2
    assert abs(amount) < 1 or back == amount.quantize(Decimal("0.01"), ROUND_HALF_EVEN)


@given(st.integers(min_value=-(10**30), max_value=10**30))
def test_pico_dollars_become_dollars_exactly(pico: int) -> None:
    table = Table([Column("spend", Kind.MONEY)], [[dollars(pico)]])
    whole, _, fraction = json.loads(as_json(table))[0]["spend"].lstrip("-").partition(".")
    assert int(whole + fraction.ljust(12, "0")) == abs(pico)
    assert len(fraction) <= 12
    assert as_csv(table).splitlines()[1].startswith("-") == (pico < 0)


def test_a_table_of_80_columns_holds_every_number_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(SPEND, columns=80, monkeypatch=monkeypatch)
    assert max(map(len, text.splitlines())) <= 80
    for piece in ("Spend by team", "12,345", "123,456,789", "987,654", "$1,234.57", "$0.000123", "53.1 %", "3 teams"):
        assert piece in text
    header = next(row for row in text.splitlines() if row.startswith("team"))
    row = next(row for row in text.splitlines() if row.startswith("search"))
    for title, number in (("calls", "12,345"), ("spend", "$1,234.57"), ("share", "53.1 %")):
        assert header.index(title) + len(title) == row.index(number) + len(number)
    assert "\x1b" not in text
    assert all(row == row.rstrip() for row in text.splitlines())


def test_what_does_not_fit_is_shown_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(SPEND, columns=40, monkeypatch=monkeypatch)
    assert max(map(len, text.splitlines())) <= 40
    assert re.search(r"^input tokens +123,456,789$", text, re.MULTILINE)
    assert len(re.findall(r"^team ", text, re.MULTILINE)) == 3


@settings(max_examples=40)
@given(
    width=st.integers(40, 160),
    rows=st.lists(
        st.tuples(st.text(max_size=40), st.integers(0, 10**12), st.decimals(0, 10**6, places=12)),
        min_size=1,
        max_size=5,
    ),
)
def test_no_number_is_ever_cut(width: int, rows: list[tuple[str, int, Decimal]]) -> None:
    columns = [Column("name"), Column("calls_made_by_it", Kind.COUNT), Column("spend", Kind.MONEY)]
    with pytest.MonkeyPatch.context() as patch:
        text = printed(Table(columns, rows), columns=width, monkeypatch=patch)
    for _, count, money in rows:
        assert f"{count:,}" in text
        assert human_money(money) in text


def test_unknown_is_not_zero() -> None:
    table = Table([Column("spend", Kind.MONEY), Column("calls", Kind.COUNT)], [[None, 0]], single=True)
    assert re.findall(r"\S+$", printed(table), re.MULTILINE) == ["-", "0"]
    assert json.loads(as_json(table)) == {"spend": None, "calls": 0}
    assert as_csv(table) == "spend,calls\n,0\n"


def test_a_single_row_is_one_object_and_a_list_for_people() -> None:
    first = datetime(2025, 11, 20, 3, 4, tzinfo=UTC)
    columns = [Column("first", Kind.TIME, "from"), Column("took", Kind.SECONDS), Column("read", Kind.BYTES)]
    table = table_of([{"read": 1_500_000, "took": 754, "first": first}], columns, single=True)
    assert json.loads(as_json(table)) == {"first": "2025-11-20T03:04:00+00:00", "took": 754, "read": 1_500_000}
    assert printed(table) == "from  2025-11-20 03:04 UTC\ntook  12 min 34 s\nread  1.5 MB\n"


def test_no_rows() -> None:
    table = Table([Column("team"), Column("calls", Kind.COUNT)], [])
    assert printed(table) == "nothing to show\n"
    assert as_json(table) == "[]\n"
    assert as_csv(table) == "team,calls\n"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", " =", "\uff1d"])
def test_csv_starts_no_formula(start: str) -> None:
    table = Table([Column("team"), Column("spend", Kind.MONEY)], [[f"{start}1+1", Decimal("-1.5")]])
    cells = list(csv.reader(io.StringIO(as_csv(table), newline="")))[1]
    assert cells == [f"'{start}1+1", "-1.5"]


@given(st.lists(st.tuples(st.text(), st.integers(), st.booleans() | st.none()), max_size=5))
def test_json_and_csv_give_back_what_was_put_in(rows: list[tuple[str, int, bool | None]]) -> None:
    columns = [Column("text"), Column("count", Kind.COUNT), Column("flag")]
    table = Table(columns, rows)
    read = json.loads(as_json(table))
    assert [(row["text"], int(row["count"]), row["flag"]) for row in read] == rows
    cells = list(csv.reader(io.StringIO(as_csv(table), newline="")))[1:]
    assert [int(row[1]) for row in cells] == [row[1] for row in rows]
    for (text, _, _), row in zip(rows, cells, strict=True):
        assert row[0] in (text, f"'{text}")


def test_text_cannot_steer_the_terminal() -> None:
    table = Table([Column("team")], [["\x1b[31mred\x07\nnext\u202elast\ud800 [bold]x[/bold]"]])
    assert "\\x1b[31mred\\x07\\nnext\\u202elast\\ud800" in printed(table)
    assert "[bold]x[/bold]" in printed(table)
    assert json.loads(as_json(table))[0]["team"].endswith("last? [bold]x[/bold]")
    assert printable("plain – ünïcödé 日本") == "plain – ünïcödé 日本"


def test_a_float_is_no_money() -> None:
    with pytest.raises(TypeError, match="spend holds money, not float"):
        show(Table([Column("spend", Kind.MONEY)], [[0.1]]), file=io.StringIO())
    with pytest.raises(TypeError, match="calls holds count, not float"):
        as_json(Table([Column("calls", Kind.COUNT)], [[1.0]]))


def test_every_format_can_be_named() -> None:
    assert [str(fmt) for fmt in Format] == ["table", "json", "csv"]
    assert json.loads(printed(SPEND, "json"))[0]["spend"] == "1234.5678901"
    assert printed(SPEND, "csv").splitlines()[2] == "support,anthropic/claude-sonnet-4,5,1,0,0.000123456,0.1"


def test_a_plain_locale_gets_plain_lines() -> None:
    program = "from pipelines.show import *\nshow(Table([Column('team'), Column('calls', Kind.COUNT)], [['a', 1]]))\n"
    environ = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, check=True, timeout=60)
    assert done.stdout.decode("ascii").splitlines()[0].replace("|", " ").split() == ["team", "calls"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4231, "0.42 s"), (12.34, "12.3 s"), (59.96, "1 min 0 s"), (250, "4 min 10 s"), (11_100, "3 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (5 * 10**12, "5,000 GB")]
)
def test_sizes(size: int, text: str) -> None:
    assert human_bytes(size) == text


@dataclass
class FakeTally:
    calls: int = 0
    bytes: int = 0
    cost_pico: int = 0
    dead: int = 0
    total_bytes: int | None = None


def test_a_line_of_progress() -> None:
    before = Reading(1_000, 10, 0, 0, None, 2.0)
    now = Reading(5_000, 30_000_000, 1_230_000_000_000, 3, 60_000_000, 4.0)
    assert line(now) == "5,000 calls, 3 dead letters, 30.0 MB (50%), $1.23, 1,250 calls/s, 4.00 s"
    assert "2,000 calls/s" in line(now, before)
    assert line(Reading(0, 0, 0, 0, None, 0.0)) == "0 calls, 0 B, $0.00, 0 calls/s, 0.00 s"
    assert Reading(0, 7, 0, 0, 5, 0.0).share == 1.0


def test_progress_without_a_terminal_writes_lines_and_the_last_state() -> None:
    tally, file = FakeTally(), io.StringIO()
    with Progress(tally, file, line_seconds=0.01):
        tally.calls, tally.bytes = 7, 900
        time.sleep(0.05)
        tally.calls = 12
    lines = file.getvalue().splitlines()
    assert len(lines) >= 2
    assert all(row.startswith("progress: ") for row in lines)
    assert lines[-1].startswith("progress: 12 calls, 900 B, $0.00")


class FakeTerminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_draws_a_bar_and_leaves_standard_output_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    tally, file = FakeTally(total_bytes=100), FakeTerminal()
    with Progress(tally, file):
        print("result")
        tally.calls, tally.bytes = 3, 100
    assert "3 calls, 100 B (100%)" in file.getvalue()
    assert capsys.readouterr().out == "result\n"


def test_progress_is_quiet_when_told_and_survives_a_closed_file() -> None:
    file = io.StringIO()
    with Progress(FakeTally(), file, quiet=True):
        pass
    assert file.getvalue() == ""
    file.close()

    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with Progress(FakeTally(), Closed(), line_seconds=0.01):
        time.sleep(0.03)


def test_an_error_passes_through_progress() -> None:
    with pytest.raises(ValueError, match="inside"), Progress(FakeTally(), io.StringIO()):
        raise ValueError("inside")
