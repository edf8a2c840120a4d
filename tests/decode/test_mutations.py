"""Records made wrong at random: none raises, none is lost, none makes a decoder fail, no secret in one goes anywhere.

A few thousand in ``make test``, 100,000 with ``make fuzz``; the same ones each time.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import orjson
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from schemas.batch import DeadLetter, RowBatch
from schemas.call import Call
from schemas.reasons import DEAD_LETTER_REASONS, IGNORED_REASONS
from tests.decode import pool
from tests.decode.mutations import Step, mutate
from transforms.decode import FORMATS, decode_record
from transforms.work import CallWork

TOGETHER: Final = 8
"""Records in a batch."""

NUMBERS = st.integers(0, 2**31 - 1)
STEPS = st.lists(st.builds(Step, st.integers(0, 255), NUMBERS, NUMBERS), min_size=0, max_size=5)
BATCHES = st.lists(st.tuples(NUMBERS, STEPS), min_size=TOGETHER, max_size=TOGETHER)

SHORT: Final = 250
LONG: Final = 100_000 // TOGETHER


def repeatable(examples: int) -> Any:
    """Hypothesis as a generator of the same records each time, that shrinks what fails."""
    unhealthy = [
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
        HealthCheck.function_scoped_fixture,
    ]
    phases = [Phase.generate, Phase.shrink]
    return settings(
        max_examples=examples, derandomize=True, database=None, deadline=None, phases=phases, suppress_health_check=unhealthy
    )


@pytest.fixture(scope="module")
def seeds(shared: Path) -> list[bytes]:
    return pool.records(shared)


@pytest.fixture(scope="module")
def done() -> CallWork:
    return pool.work()


def made(seeds: list[bytes], plan: list[tuple[int, list[Step]]]) -> list[bytes]:
    return [mutate(seeds[which % len(seeds)], steps) for which, steps in plan]


def check_ledger(data: list[bytes], found: RowBatch) -> Counter[str]:
    """Every record has its items, numbered from 0, each with one receipt that says what became of it; by state and reason."""
    receipts = found.receipts.to_pylist()
    items: dict[int, list[int]] = {}
    for receipt in receipts:
        items.setdefault(receipt["position"], []).append(receipt["item"])
    assert set(items) == set(range(len(data))), "a record without a receipt"
    assert all(sorted(some) == list(range(len(some))) for some in items.values()), items
    states = Counter(receipt["outcome"] for receipt in receipts)
    assert found.records == len(data)
    assert states["call"] == found.calls.num_rows
    assert states["dead_letter"] == found.dead_letters.num_rows
    assert states["ignored"] == found.ignored
    assert states["joined"] == found.parts.num_rows
    assert states.total() == len(receipts)
    calls = {
        (call["position"], call["item"]): call["call_key"]
        for call in found.calls.select(["position", "item", "call_key"]).to_pylist()
    }
    told = {(one["position"], one["item"]): one["call_key"] for one in receipts if one["outcome"] == "call"}
    assert told == calls
    for receipt in receipts:
        assert (
            receipt["reason"]
            in {"call": {""}, "joined": {""}, "dead_letter": DEAD_LETTER_REASONS, "ignored": IGNORED_REASONS}[receipt["outcome"]]
        )
    broken = [dead["error"] for dead in found.dead_letters.to_pylist() if dead["reason"] == "decoder_error"]
    assert not broken, broken
    return Counter(f"{receipt['outcome']} {receipt['reason']}".strip() for receipt in receipts)


@pytest.mark.parametrize("odd", [[], {}, [1], {"a": 1}, 5, True])
def test_names_that_are_none(odd: Any) -> None:
    """What stands where a role, an index, a reason or a tier is read is no defect, whatever it is."""
    record = orjson.loads(orjson.dumps(pool.STREAM))
    record["request"]["messages"][1]["role"] = odd
    for chunk in record["response"]["stream"][:3]:
        chunk["choices"][0]["index"] = chunk["choices"][0]["finish_reason"] = odd
        for call in chunk["choices"][0]["delta"].get("tool_calls", ()):
            call["index"] = odd
    events: list[Any] = [
        {
            "type": "message_start",
            "message": {"id": "m", "model": "claude-opus-4", "usage": {"input_tokens": 3, "output_tokens": 1}},
        },
        {"type": "content_block_start", "index": odd, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": odd, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    ]
    claude = {"request": {"model": "claude-opus-4", "messages": [{"role": odd, "content": "Hi"}]}, "response": {"stream": events}}
    usage = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5, "trafficType": odd}
    gemini = {"request": {"contents": []}, "response": {"candidates": [{"finishReason": odd}], "usageMetadata": usage}}
    generate = {"request": {"model": "command"}, "response": {"type": odd, "meta": {"billed_units": {"input_tokens": 3, "output_tokens": 2}}}}
    for each, tokens in ((record, (9, 3)), (claude, (3, 2)), (gemini, (3, 2)), (generate, (3, 2))):
        (call,) = decode_record(orjson.dumps(each))
        assert isinstance(call, Call), call
        assert (call.input_fresh, call.output_visible) == tokens
    for key in ("type", "object", "event_type", "choices", "results", "data", "usage", "chunk"):
        for outcome in decode_record(orjson.dumps({"request": {"model": "gpt-4o", "messages": []}, "response": {key: odd}})):
            assert not isinstance(outcome, DeadLetter) or outcome.reason != "decoder_error", (key, outcome)


@pytest.mark.parametrize("seconds", [1e308, -1.0, 2.0**60])
def test_a_duration_that_is_none(seeds: list[bytes], seconds: float) -> None:
    found = 0
    for data in seeds:
        if b'"latency_s"' in data:
            record = orjson.loads(data)
            for one in record if isinstance(record, list) else [record]:
                one["metrics"] = {**one["metrics"], "latency_s": seconds}
            for outcome in decode_record(orjson.dumps(record)):
                assert isinstance(outcome, Call), outcome
                assert outcome.duration_ms is None
                found += 1
    assert found


def test_records_to_begin_with_are_of_every_format(seeds: list[bytes]) -> None:
    found = {getattr(outcome, "format", "") for data in seeds for outcome in decode_record(data)}
    assert found >= {form.name for form in FORMATS}


def test_mutated_records(seeds: list[bytes], done: CallWork) -> None:
    outcomes: Counter[str] = Counter()

    @repeatable(SHORT)
    @given(BATCHES)
    def check(plan: list[tuple[int, list[Step]]]) -> None:
        data = made(seeds, plan)
        outcomes.update(check_ledger(data, pool.rows(done, data)))

    check()
    assert outcomes["call"] > SHORT  # or else nothing but the refusal of what is no JSON was tested
    assert len([name for name in outcomes if name.startswith("dead_letter")]) >= 5


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_many_mutated_records(seeds: list[bytes], done: CallWork) -> None:
    outcomes: Counter[str] = Counter()
    slowest: list[tuple[float, int, str]] = []

    @repeatable(LONG)
    @given(BATCHES)
    def check(plan: list[tuple[int, list[Step]]]) -> None:
        data = made(seeds, plan)
        began = time.perf_counter()
        found = pool.rows(done, data)
        seconds = time.perf_counter() - began
        outcomes.update(check_ledger(data, found))
        slowest.append((seconds, sum(map(len, data)), repr(plan)[:160]))
        slowest.sort(reverse=True)
        del slowest[10:]

    check()
    print("\noutcomes of mutated records:")
    for name, times in outcomes.most_common():
        print(f"{times:9,}  {name}")
    print(f"slowest batches of {TOGETHER}:")
    for seconds, size, plan in slowest:
        print(f"{seconds * 1000:9,.1f} ms for {size:,} bytes: {plan}")
    assert outcomes["call"] > LONG
