"""Calls as rows: what each says and what none says, for no call, one and many."""

from __future__ import annotations

import pytest

from schemas.call import Call
from tests.sinks.samples import call
from transforms.rows import UNPRICED, call_rows


@pytest.mark.parametrize("count", [0, 1, 3])
def test_rows_hold_what_the_calls_say(count: int) -> None:
    calls = [call(n, team=f"t{n}", input_fresh=n or None, tags={"a": "b"}, flags=("x",)) for n in range(count)]
    rows = call_rows(calls)
    rows.validate(full=True)
    assert rows.schema == UNPRICED
    assert rows.num_rows == count
    for name in UNPRICED.names:
        if name in ("minute", "event_time", "reported_cost", "tags", "headers", "flags", "owner_rule"):
            continue
        assert rows.column(name).to_pylist() == [getattr(one, name.removeprefix("recorded_")) for one in calls], name
    assert rows.column("tags").to_pylist() == [[("a", "b")]] * count
    assert rows.column("flags").to_pylist() == [["x"]] * count


def test_columns_that_no_call_fills_have_their_defaults() -> None:
    rows = call_rows([call(1), call(2)])
    assert rows.column("feature").to_pylist() == ["", ""]
    assert rows.column("output_audio").to_pylist() == [None, None]
    assert rows.column("flags").to_pylist() == [[], []]
    assert rows.column("attempt").to_pylist() == [Call.attempt] * 2
