"""What parts tell together is the same in any order, however often they come; who stands is found by a plain loop here."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.batch import RawBatch
from schemas.call import LEAVES, Call
from schemas.part import Place, Standing, StoredPart
from tests import split
from transforms.decode import DecodeSettings, JoinSettings, decode_batch
from transforms.join import call_of, complete, merge, observed_key, overlaps, part_key, pieces, told, whole

START = 1_772_445_600_000_000
KEY = part_key("acme", "k")

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
LABELS = ("team", "model", "provider", "region", "trace_id", "status")


def part(place: int, said: dict[str, Any], role: str = "update", rank: int = 0, time: int = 0, **more: Any) -> StoredPart:
    call = Call()
    call.event_time, call.time_quality = START + time, "exact"
    for name, value in said.items():
        setattr(call, name, value)
    known = {"number": 0, "of": 0, "needs": (), "size": 0} | more
    return StoredPart(
        KEY, "acme", Place("a.jsonl", bytes(16), place, 0), place, role, rank, known["number"], known["of"], tuple(known["needs"]),
        "split", START + time, START, 20_000, told(call), known["size"],
    )  # fmt: skip


@st.composite
def parts(draw: st.DrawFn) -> list[StoredPart]:
    """Some parts of one call, at places of their own; what they tell overlaps and contradicts itself."""
    found = []
    for place in range(draw(st.integers(1, 6))):
        said: dict[str, Any] = {name: draw(st.sampled_from(["a", "b", "c"])) for name in draw(st.sets(st.sampled_from(LABELS)))}
        if draw(st.booleans()):
            said |= {leaf: draw(st.integers(0, 9)) for leaf in draw(st.sets(st.sampled_from(LEAVES), min_size=1))}
            said |= {"usage_source": draw(st.sampled_from(["vendor", "gateway"])), "usage_quality": "ok"}
        if draw(st.booleans()):
            said |= {"reported_cost": draw(st.integers(0, 99)), "reported_cost_by": "vendor"}
        if draw(st.booleans()):
            said |= {"counted_input": draw(st.integers(0, 99)), "user_tokens": 1, "count_quality": "estimate"}
        if draw(st.booleans()):
            said["tags"] = draw(st.dictionaries(st.sampled_from("xyz"), texts, min_size=1))
        if draw(st.booleans()):
            said["flags"] = tuple(draw(st.sets(st.sampled_from(["f", "g"]), min_size=1)))
        needs = draw(st.sampled_from([(), ("request", "response")]))
        role = draw(st.sampled_from(["request", "response", "update"]))
        found.append(part(place, said, role, draw(st.integers(-1, 2)), draw(st.integers(0, 3)), needs=needs))
    return found


@given(parts(), st.randoms(use_true_random=False), st.integers(0, 8))
def test_neither_order_nor_repetition_changes_a_call(some: list[StoredPart], chance: random.Random, more: int) -> None:
    again = [*some, *(chance.choice(some) for _ in range(more))]
    chance.shuffle(again)
    assert merge(again).__dict__ == merge(some).__dict__


@given(parts(), st.randoms(use_true_random=False))
def test_however_it_is_cut_into_batches_it_ends_in_the_same_call(some: list[StoredPart], chance: random.Random) -> None:
    """Each batch writes the call anew; the first write fixes its time and its place, and nothing else."""
    there: list[StoredPart] = []
    standing: Standing | None = None
    rest = chance.sample(some, len(some))
    while rest:
        size = chance.randint(1, len(rest))
        there, rest = there + rest[:size], rest[size:]
        call = merge(there, standing)
        standing = standing or Standing(call.event_time, call.time_quality, Place(call.source, call.segment, call.position, call.item))
    fixed = ("event_time", "time_quality", "source", "segment", "position", "item")
    assert {k: v for k, v in call.__dict__.items() if k not in fixed} == {
        k: v for k, v in merge(some).__dict__.items() if k not in fixed
    }
    assert (call.event_time, call.position) == (standing.event_time, standing.place.position)


@given(parts())
def test_of_contradicting_parts_the_higher_rank_stands_and_of_equal_ones_the_later(some: list[StoredPart]) -> None:
    call = merge(some)
    for name in LABELS:
        says = [(p.rank, p.time, p.place.position, p.told[name]) for p in some if name in p.told]
        if says:
            assert getattr(call, name) == max(says)[3]
    tags: dict[str, str] = {}
    for p in sorted(some, key=lambda p: (p.rank, p.time, p.place.position)):
        tags |= {name[5:]: value for name, value in p.told.items() if name.startswith("tags.")}
    assert (call.tags or {}) == tags
    assert set(call.flags) - {"partial"} == {name[6:] for p in some for name in p.told if name.startswith("flags.")}
    assert call.event_time == min(p.time for p in some)
    assert (call.tenant, call.call_key) == ("acme", KEY)


@given(parts())
def test_usage_is_that_of_one_part_never_a_mixture(some: list[StoredPart]) -> None:
    call = merge(some)
    order = {"vendor": 1, "gateway": 0}
    having = [p for p in some if "usage_source" in p.told]
    if not having:
        assert (call.usage_source, [getattr(call, leaf) for leaf in LEAVES]) == ("none", [None] * len(LEAVES))
        return
    best = max(having, key=lambda p: (order[p.told["usage_source"]], p.rank, p.time, p.place.position))
    for leaf in LEAVES:
        assert getattr(call, leaf) == (int(best.told[leaf]) if leaf in best.told else None)
    assert call.usage_source == best.told["usage_source"]


@given(parts())
def test_what_is_not_whole_says_so(some: list[StoredPart]) -> None:
    roles = {p.role for p in some}
    missing = any(p.needs for p in some) and not {"request", "response"} <= roles
    call = merge(some)
    assert whole(some) is not missing
    assert ("partial" in call.flags) is missing
    if call.usage_source != "none":
        assert call.usage_quality == ("partial" if missing else "ok")


def test_counts_of_the_two_halves_are_the_usage_where_nothing_was_reported() -> None:
    asked = {"model": "gpt-4o", "provider": "openai", "operation": "chat", "counted_input": 40, "count_quality": "exact_tokenizer"}
    stood_in = {"usage_source": "counted", "usage_quality": "partial"}
    request = part(1, asked | stood_in | {"input_fresh": 40}, "request", needs=("request", "response"))
    answer = {"model": "gpt-4o", "provider": "openai", "operation": "chat", "counted_output": 7, "count_quality": "exact_tokenizer"}
    answer["counted_output_error"] = 0
    response = part(2, answer | stood_in | {"output_visible": 7}, "response")
    call = merge([response, request])
    assert (call.input_fresh, call.output_visible, call.usage_source, call.usage_quality) == (40, 7, "counted", "ok")
    assert (call.counted_input, call.counted_output, call.count_quality) == (40, 7, "exact_tokenizer")
    refused = merge([request, part(3, {"status": "error", "http_status": 429}, "response", rank=1)])
    assert (refused.status, refused.input_fresh, refused.usage_source) == ("error", None, "none")


def test_reported_usage_stands_above_a_count_whoever_ranks_higher() -> None:
    counted = part(1, {"counted_input": 40, "input_fresh": 40, "usage_source": "counted"}, rank=9, time=9)
    reported = part(2, {"input_fresh": 38, "usage_source": "vendor", "usage_quality": "ok"})
    call = merge([counted, reported])
    assert (call.input_fresh, call.usage_source, call.counted_input) == (38, "vendor", 40)


VALUES: dict[str, Any] = {
    "team": "Zoë", "input_fresh": 0, "duration_ms": 0.1, "stream": True, "content_hash": b"\x00" * 15 + b"\xff",
    "flags": ("a", "b.c"), "tags": {"x.y": "", "z": "1"}, "status": "ok", "reported_cost": 10**17, "attempt": 2, "max_tokens": None,
}  # fmt: skip


def test_what_a_call_tells_comes_back_and_what_it_does_not_tell_is_not_told() -> None:
    call = Call()
    call.event_time, call.time_quality = START, "exact"
    for name, value in VALUES.items():
        setattr(call, name, value)
    call.model = ""  # an adapter may set what is not there
    said = told(call)
    assert not {"model", "max_tokens", "content", "tenant"} & said.keys()
    back = call_of(said)
    for name, value in VALUES.items():
        assert getattr(back, name) == value, name
    assert call_of({**said, "a_field_of_tomorrow": "1"}).__dict__ == back.__dict__


def test_every_field_of_a_call_has_a_way_there_and_back() -> None:
    samples = {str: "x", int: 7, float: 1.5, bool: True, bytes: b"\x01" * 16, tuple: ("f",), dict: {"k": "v"}}
    for name, default in vars(Call).items():
        if name.startswith("_") or callable(default) or name in ("content", "params"):
            continue
        hint = str(Call.__annotations__[name])
        kind = next(kind for kind in (bool, float, int, bytes, tuple, dict, str) if hint.startswith(kind.__name__))
        call = Call()
        setattr(call, name, samples[kind])
        if name in told(call):
            assert getattr(call_of(told(call)), name) == samples[kind], name


def test_pieces_are_a_record_once_all_numbers_are_there() -> None:
    some = [part(n, {}, "piece", number=n, of=3, size=1) for n in range(3)]
    assert pieces([some[2], some[0], some[1], some[0]]) == some
    assert complete(pieces(some))
    assert not complete(pieces(some[:2]))
    assert not complete(pieces(some[1:]))
    assert not complete([])


@pytest.mark.parametrize(
    ("source", "patterns", "wanted"),
    [
        ("kafka:gateway/3", ("kafka:gateway",), True),
        ("kafka:gateway-2/3", ("kafka:gateway",), False),
        ("logging:projects/p", ("kafka:gateway", "logging:*"), True),
        ("/logs/sdk/a.jsonl", ("/logs/sdk",), True),
        ("/logs/sdk/a.jsonl", (), False),
    ],
)
def test_sources_overlap_that_are_declared_to(source: str, patterns: tuple[str, ...], wanted: bool) -> None:
    assert overlaps(source, patterns) is wanted


def test_answers_of_a_cache_and_further_attempts_are_calls_of_their_own() -> None:
    def seen(**said: Any) -> str:
        call = Call()
        for name, value in ({"provider_call_id": "chatcmpl-1"} | said).items():
            setattr(call, name, value)
        return observed_key(call)

    assert seen() == seen(attempt=1) == seen(team="other")
    assert len({seen(), seen(attempt=2), seen(gateway_cache_hit=True), seen(provider_call_id="chatcmpl-2")}) == 4


def test_a_part_that_tells_nothing_has_the_time_of_its_transport() -> None:
    silent = part(1, {}, time=5)._replace(told={})
    assert merge([silent]).event_time == START + 5
    dated = part(2, {}, time=9)
    assert (merge([silent, dated]).event_time, merge([silent, dated]).time_quality) == (START + 9, "exact")


@pytest.mark.parametrize(
    ("number", "of", "text", "reason"),
    [(0, 2, "x", ""), (2, 2, "x", "bad_value"), (-1, 2, "x", "bad_value"), (0, 0, "x", "bad_value"), (0, 10**9, "x", "bad_value"),
     (0, 2, "x" * 101, "record_too_large")],
)  # fmt: skip
def test_a_piece_that_cannot_be_one_is_a_dead_letter(
    number: int, of: int, text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transforms.decode.registry.FORMATS", split.FORMATS)
    record = split.lines([{"piece": "p", "number": number, "of": of, "text": text}])
    raw = RawBatch("a", bytes(16), bytes(16), START, [record], [0])
    batch = decode_batch(raw, DecodeSettings(join=JoinSettings(max_bytes=100)))
    assert [letter.reason for letter in batch.dead] == ([reason] if reason else [])
    assert len(batch.parts) == (not reason)


def test_a_key_is_of_its_tenant() -> None:
    assert part_key("acme", "k") != part_key("zenith", "k")
    assert part_key("acme", "k") == KEY
