"""The decoder reads from every record what the generator knows of it: each is the other's oracle."""

from __future__ import annotations

from collections import Counter

import pytest

from schemas.call import Call
from sources.generate import BROKEN, LEAVES, Record, generate
from tests.generate.conftest import SETTINGS
from transforms.decode import Undecodable, decode_record


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return list(generate(SETTINGS))


def test_calls_are_read_as_they_were(records: list[Record]) -> None:
    wrong: Counter[tuple[str, str, object, object]] = Counter()
    for record in records:
        if record.kind != "call":
            continue
        facts = record.facts
        (call,) = decode_record(record.value)
        assert isinstance(call, Call), (facts.logger, call)
        found: dict[str, object] = {"provider": call.provider, "team": call.team, "app": call.app}
        expected: dict[str, object] = {"provider": facts.provider, "team": facts.team, "app": facts.app}
        found["time"], expected["time"] = call.event_time, 0 if "undated" in record.marks else facts.time
        found["failed"], expected["failed"] = call.status != "ok", facts.status != 200
        if facts.status == 200:
            found["model"], expected["model"] = call.model, facts.model
        found["reported"], expected["reported"] = call.usage_source != "none", facts.reported
        if facts.reported:
            found |= {leaf: getattr(call, leaf) or 0 for leaf in LEAVES}
            expected |= dict(zip(LEAVES, facts.leaves, strict=True))
        for name in expected:
            if found[name] != expected[name]:
                wrong[facts.app, name, found[name], expected[name]] += 1
    assert not wrong


def test_broken_records_are_refused_for_the_reason_the_truth_expects(records: list[Record]) -> None:
    for record in records:
        if record.kind == "broken":
            (outcome,) = decode_record(record.value)
            assert isinstance(outcome, Undecodable)
            assert outcome.reason == BROKEN[record.marks[0]]
