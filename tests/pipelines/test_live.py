"""What a run that follows its input shows, by a clock and a tally of the test's own."""

from __future__ import annotations

import io
import itertools
import time

from rich.console import Console

from pipelines.live import Following, Watch
from tests.pipelines.test_show import FakeTally


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def drawn(view: Following) -> str:
    console = Console(file=io.StringIO(), width=110)
    console.print(view.picture())
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_rates_are_those_of_the_last_seconds() -> None:
    tally, clock = FakeTally(), Clock()
    tally.calls = tally.cost_pico = 0
    view = Following(tally, Watch(), io.StringIO(), clock=clock)
    for second in range(31):
        clock.now = float(second)
        tally.calls += 100 if second > 15 else 7
        tally.cost_pico += 2 * 10**12 if second > 15 else 0
        line = view.line()
    assert "100 calls/s, $120.00/min" in line
    clock.now = 45.0
    view.line()
    clock.now = 46.0
    assert ", 0 calls/s, $0.00/min" in view.line()  # it has stopped since


def test_the_picture_says_what_waits_and_what_was_said() -> None:
    tally = FakeTally()
    watch = Watch("kafka://b:9092/calls", "4 partitions", 1234, time.time() - 121, 3, 2, 0.61)
    view = Following(tally, watch, io.StringIO(), clock=itertools.count().__next__)
    text = drawn(view)
    for wanted in ("kafka://b:9092/calls, 4 partitions", "lag 1,234 records", "watermark 2 min", "open minutes 3", "late minutes 2", "last epoch 0.61 s", "Ctrl-C"):
        assert wanted in text, text
    view.say("the topic calls is gone\x1b[31m; waiting for it")
    text = drawn(view)
    assert "the topic calls is gone" in text
    assert "\x1b[31m" not in text


def test_without_a_terminal_it_writes_lines_and_what_is_said() -> None:
    file = io.StringIO()
    with Following(FakeTally(), Watch(lag=5), file, line_seconds=0.01) as view:
        view.say("there again")
        time.sleep(0.1)
    lines = file.getvalue().splitlines()
    assert "there again" in lines
    assert all(line.startswith("progress: ") for line in lines if line != "there again")
    assert "lag 5" in lines[-1]


def test_quiet_shows_nothing_but_what_is_said() -> None:
    file = io.StringIO()
    with Following(FakeTally(), Watch(), file, quiet=True) as view:
        view.say("unreachable")
    assert file.getvalue() == "unreachable\n"
