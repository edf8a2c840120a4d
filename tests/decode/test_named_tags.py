"""Tags that the configuration names, from every place they may stand in."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.batch import RawBatch
from schemas.call import Call
from transforms.decode import DecodeSettings, decode_batch, decode_record, named_tag

Json = dict[str, Any]
NOON = 1_748_779_200_000_000


def pair(**fields: Any) -> Json:
    body = {"id": "c1", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    return {
        "url": "https://api.openai.com/v1/chat/completions",
        "status": 200,
        "request": {"model": "gpt-4o"},
        "response": body,
        **fields,
    }


def span(attributes: Json, resource: Json) -> Json:
    told = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": 1, **attributes}
    spans = [{"startTimeUnixNano": NOON * 1000, "attributes": told}]
    return {"resourceSpans": [{"resource": {"attributes": resource}, "scopeSpans": [{"spans": spans}]}]}


def taken(record: Json, *names: str, headers: dict[str, str] | None = None) -> Call:
    settings = DecodeSettings(tags=tuple(map(named_tag, names)))
    raw = RawBatch("f", b"s" * 16, b"s" * 16, NOON, [json.dumps(record).encode()], [0], headers=[headers] if headers else [])
    (call,) = decode_batch(raw, settings).calls
    assert "beside" not in vars(call)
    return call


def test_headers_of_the_call_and_of_its_message() -> None:
    record = pair(request_headers={"X-Team": "search", "baggage": "tenant=acme;ttl=1, plan=pro%20plus,broken"})
    call = taken(
        record,
        "header:X-Team=squad",
        "header:x-shift",
        "baggage:plan",
        "baggage:tenant",
        "baggage:lan",
        headers={"x-shift": "night"},
    )
    assert call.tags == {"squad": "search", "x-shift": "night", "plan": "pro plus", "tenant": "acme"}
    assert call.headers is None  # headers are kept only for ownership rules
    assert taken(record).tags is None


def test_labels_and_metadata_wherever_a_format_has_them() -> None:
    record = pair(metadata='{"ticket": "T-1"}', request={"model": "gpt-4o", "metadata": {"run": 7}}, labels={"release": "42"})
    assert taken(record, "metadata:ticket", "metadata:run=job", "label:release=version").tags == {
        "ticket": "T-1", "job": "7", "version": "42", "release": "42", "run": "7"}  # fmt: skip
    litellm = {"call_type": "acompletion", "custom_llm_provider": "openai", "model": "gpt-4o", "prompt_tokens": 3, "completion_tokens": 1,
               "metadata": {"user_api_key_org_id": "o1", "requester_metadata": {"ticket": "T-2"}}}  # fmt: skip
    assert taken(litellm, "metadata:ticket=t", "metadata:user_api_key_org_id=org").tags == {
        "t": "T-2", "org": "o1", "ticket": "T-2", "organization": "o1"}  # fmt: skip
    entry = {"logName": "projects/p/logs/l", "insertId": "1", "timestamp": "2025-06-01T12:00:00Z", "jsonPayload": pair(),
             "labels": {"Release": "43"}}  # fmt: skip
    assert taken(entry, "label:Release").tags == {"Release": "43"}


def test_attributes_of_telemetry() -> None:
    record = span(
        {"baggage.tenant": "acme", "my.shift": "night", "metadata": '{"ticket": "T-1"}'}, {"k8s.namespace.name": "desk"}
    )
    call = taken(
        record, "resource:k8s.namespace.name=namespace", "baggage:tenant", "attribute:my.shift", "metadata:ticket=t", "label:x"
    )
    assert call.tags == {"namespace": "desk", "tenant": "acme", "my.shift": "night", "t": "T-1", "ticket": "T-1"}
    assert call.tenant == "default"  # a tag says nothing of who pays
    labels = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "m", "gen_ai.usage.input_tokens": "1",
              "event.name": "gen_ai.client.inference.operation.details"}  # fmt: skip
    entry = {"logName": "l", "labels": labels, "resource": {"labels": {"location": "eu"}}, "timestamp": "2025-06-01T12:00:00Z"}
    assert (taken(entry, "resource:location").tags or {})["location"] == "eu"


def test_a_named_tag_fills_its_column_and_what_the_record_says_stands() -> None:
    headers = {"x-team": "header", "x-feature": "answers"}
    call = taken(
        pair(team="search", tags={"shift": "day"}),
        "header:x-team=team",
        "header:x-feature=feature",
        "header:x-team=shift",
        headers=headers,
    )
    assert (call.team, call.feature) == ("search", "answers")
    assert call.tags == {"team": "header", "feature": "answers", "shift": "day"}


def test_named_tags_are_not_the_ones_that_are_cut() -> None:
    call = taken(pair(tags={f"t{number:02}": "1" for number in range(40)}), "header:x-team=squad", headers={"x-team": "a"})
    assert call.tags is not None
    assert (call.tags["squad"], len(call.tags), call.flags) == ("a", 32, ("tags_cut",))


def test_no_secret_and_no_text_becomes_a_tag() -> None:
    for bad in (
        "header:authorization",
        "header:X-API-Key=team",
        "baggage:password",
        "attribute:my.secret_x=api_key",
        "metadata:session_token",
    ):
        with pytest.raises(ValueError, match="secret"):
            named_tag(bad)
    for text in ("gen_ai.input.messages", "gen_ai.prompt.0.content", "llm.input_messages.0.message.content", "mlflow.spanInputs"):
        with pytest.raises(ValueError, match="texts"):
            named_tag(f"attribute:{text}=t")
    call = taken(pair(), "header:x-note=note", headers={"x-note": "Bearer abcdefghijklmnopqrstuvwxyz and sk-abcdefghijklmnop"})
    assert call.tags == {"note": "Bearer *** and sk-***"}


@pytest.mark.parametrize("bad", ["", "team", "header:", "header: =x", "header:x=", "cookie-jar:x", "resource"])
def test_names_that_are_none(bad: str) -> None:
    with pytest.raises(ValueError, match="KIND:NAME"):
        named_tag(bad)


KINDS = ("header", "resource", "attribute", "baggage", "label", "metadata")
ANY = st.recursive(st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=9), lambda x: st.lists(x, max_size=2) | st.dictionaries(
    st.sampled_from(["x", "metadata", "labels", "requester_metadata"]), x, max_size=2), max_leaves=6)  # fmt: skip


@given(st.dictionaries(st.sampled_from(["metadata", "labels", "tags", "resource", "request_headers"]), ANY), st.text(max_size=30))
def test_whatever_stands_there_stops_no_worker(fields: Json, baggage: str) -> None:
    call = taken(pair(**fields), *(f"{kind}:x={kind}" for kind in KINDS), headers={"baggage": f"x={baggage}"})
    assert all(isinstance(value, str) for value in (call.tags or {}).values())


def test_nothing_is_kept_for_tags_that_nobody_named() -> None:
    (call,) = decode_record(json.dumps(span({}, {"k8s.namespace.name": "desk"})).encode())
    assert isinstance(call, Call)
    assert "beside" not in vars(call)
