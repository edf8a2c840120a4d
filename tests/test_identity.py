"""Laws of the call key and of the time a call is put at."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas.call import LEAVES, Call
from transforms.identity import HOUR, identify

NOW = 1_800_000_000_000_000
DEFAULT = 1_790_000_000_000_000
ORIGIN = b"o" * 16


def make(**fields: Any) -> Call:
    call = Call()
    for name, value in fields.items():
        setattr(call, name, value)
    return call


def done(call: Call, origin: bytes = ORIGIN, record: int = 1, default: int = DEFAULT, now: int = NOW, **more: int) -> Call:
    call = copy.copy(call)
    identify(call, origin, record, default, now, **more)
    return call


words = st.text(max_size=6) | st.sampled_from(["", "\ud800", '"', "a,b", "null"])
counts = st.none() | st.integers(0, 3) | st.sampled_from([-1, 2**63, 2**70])
FIELDS = ("tenant", "provider", "provider_call_id", "model", "content_hash", *LEAVES, "event_time", "time_quality")


@st.composite
def calls(draw: st.DrawFn) -> Call:
    call = Call()
    for name in ("tenant", "provider", "provider_call_id", "model"):
        setattr(call, name, draw(words))
    for name in ("request_id", "span_id"):
        setattr(call, name, draw(st.sampled_from(["", "", "r1", "r2"])))
    call.content_hash = draw(st.sampled_from([b"", b"x" * 16, b"y" * 16]))
    for leaf, value in draw(st.dictionaries(st.sampled_from(LEAVES), counts, max_size=3)).items():
        setattr(call, leaf, value)
    call.event_time, call.time_quality = draw(
        st.sampled_from([(0, ""), (NOW, "exact"), (NOW, "second"), (NOW + 1, "exact"), (NOW + 9 * HOUR, "exact")])
    )
    call.position, call.item = draw(st.integers(0, 2)), draw(st.integers(0, 1))
    return call


@settings(max_examples=100, deadline=None)
@given(calls(), st.integers(0, 2**62), st.integers(0, 2**62))
def test_a_redelivery_has_the_same_key(call: Call, default: int, now: int) -> None:
    first, second = done(call), done(call, default=default, now=now)
    assert first.call_key == second.call_key
    assert len(first.call_key) == 16


@settings(max_examples=150, deadline=None)
@given(calls(), calls(), st.integers(0, 2), st.integers(0, 2))
def test_keys_are_equal_only_for_equal_calls(one: Call, other: Call, record: int, other_record: int) -> None:
    def said(call: Call, record: int) -> tuple[Any, ...]:
        own = call.event_time if call.time_quality else 0
        told = tuple(getattr(call, name) for name in FIELDS[:-2])
        if not call.provider_call_id:
            told = (*told, call.request_id, call.span_id)
        if own:
            return (*told, own)
        return (*told, 0, record) if call.provider_call_id else (*told, 0, record, call.position, call.item)

    keys_equal = done(one, record=record).call_key == done(other, record=other_record).call_key
    assert keys_equal == (said(one, record) == said(other, other_record))


def test_fields_do_not_run_into_each_other() -> None:
    fields = [
        ("ab", "c", "", ""),
        ("a", "bc", "", ""),
        ("", "abc", "", ""),
        ("", "", "abc", ""),
        ("", "", "ab", "c"),
        ('a","b', "", "", ""),
        ("a", "b", "", ""),
    ]
    keys = set()
    for tenant, provider, known, model in fields:
        call = make(tenant=tenant, provider=provider, provider_call_id=known, model=model)
        call.event_time, call.time_quality = NOW, "exact"
        keys.add(done(call).call_key)
    assert len(keys) == len(fields)


def test_a_retry_is_another_call() -> None:
    same = {"content_hash": b"c" * 16, "model": "m", "input_fresh": 5, "event_time": NOW, "time_quality": "second"}
    assert done(make(provider_call_id="one", **same)).call_key != done(make(provider_call_id="two", **same)).call_key


@pytest.mark.parametrize("known", ["request_id", "span_id"])
def test_calls_without_an_id_are_told_apart_by_their_request(known: str) -> None:
    """Two workers that embed the same text in the same microsecond: vendors give embeddings no id."""
    same = {"content_hash": b"c" * 16, "model": "m", "input_fresh": 5, "event_time": NOW, "time_quality": "exact"}
    assert done(make(**same, **{known: "one"})).call_key != done(make(**same, **{known: "two"})).call_key
    with_id = same | {"provider_call_id": "i"}
    assert done(make(**with_id, **{known: "one"})).call_key == done(make(**with_id, **{known: "two"})).call_key


def test_unknown_is_not_zero() -> None:
    assert done(make(provider_call_id="i")).call_key != done(make(provider_call_id="i", input_fresh=0)).call_key


@pytest.mark.parametrize("change", [{"position": 8}, {"item": 1}])
def test_the_place_counts_only_without_id_and_time(change: dict[str, int]) -> None:
    bare = {"content_hash": b"c" * 16}
    assert done(make(**bare)).call_key != done(make(**bare, **change)).call_key
    assert done(make(**bare)).call_key != done(make(**bare), origin=b"p" * 16).call_key
    assert done(make(**bare)).call_key != done(make(**bare), record=2).call_key
    for known in ({"provider_call_id": "i"}, {"event_time": NOW, "time_quality": "exact"}):
        moved = done(make(**bare, **known, **change), origin=b"p" * 16)
        assert done(make(**bare, **known)).call_key == moved.call_key


def test_what_else_the_record_says_counts_only_without_a_time() -> None:
    dated = make(provider_call_id="i", event_time=NOW, time_quality="exact")
    assert done(dated).call_key == done(dated, record=2).call_key
    assert done(make(provider_call_id="i")).call_key != done(make(provider_call_id="i"), record=2).call_key


def test_undated_calls_take_the_transports_time() -> None:
    call = done(make())
    assert (call.event_time, call.time_quality, call.flags) == (DEFAULT, "transport", ())


def test_dated_calls_keep_their_time() -> None:
    call = done(make(event_time=NOW + HOUR, time_quality="second"))
    assert (call.event_time, call.time_quality, call.flags) == (NOW + HOUR, "second", ())


def test_times_in_the_future_are_refused() -> None:
    call = done(make(event_time=NOW + HOUR + 1, time_quality="exact"))
    assert (call.event_time, call.time_quality, call.flags) == (DEFAULT, "implausible", ("future_time",))
    assert done(make(event_time=NOW + 11, time_quality="exact"), max_future=10).time_quality == "implausible"


@settings(max_examples=50, deadline=None)
@given(calls())
def test_the_time_is_always_set(call: Call) -> None:
    assume(call.event_time != NOW + 9 * HOUR)
    told = call.event_time
    call = done(call)
    assert call.event_time == (told or DEFAULT)
    assert call.time_quality in ("exact", "second", "transport")


def test_a_time_the_decoder_refused_stays_refused() -> None:
    call = done(make(time_quality="implausible"))
    assert (call.event_time, call.time_quality) == (DEFAULT, "implausible")
