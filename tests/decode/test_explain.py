"""What an explanation claims, against deleting and changing the parts of small records by hand."""

from __future__ import annotations

import base64
import copy
import gzip
from typing import Any

import orjson
import pytest

from schemas.call import Call
from transforms.decode import decode_record
from transforms.decode.explain import Explained, altered, explain
from transforms.decode.mapping_files import mappings_in

Json = dict[str, Any]

PAIR: Json = {
    "url": "https://api.openai.com/v1/chat/completions",
    "status": 200,
    "started_at": "2026-03-02T09:15:00.250Z",
    "request": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "a private question"}], "n": 1},
    "response": {
        "id": "chatcmpl-1",
        "model": "gpt-4o-mini-2024-07-18",
        "object": "chat.completion",
        "system_fingerprint": "fp_1",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "a private answer"}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14, "prompt_tokens_details": {"cached_tokens": 3}},
    },
    "team": "search",
    "tags": {"release": "42"},
    "notes": {"reviewed": True, "by": ["x", "y"]},
}

OTHERS: Json = {str: ["zzz", "", "7"], int: [0, 123_456, 10**9], bool: [True, False]}
"""Other values of a type, none of them made by the code under test."""


def call_of(record: Any) -> Call | None:
    (outcome,) = decode_record(orjson.dumps(record))
    return outcome if isinstance(outcome, Call) else None


def differing(record: Any) -> frozenset[str]:
    """The fields in which the call of a record differs from that of ``PAIR``, found with nothing but ``getattr``."""
    before, after = call_of(PAIR), call_of(record)
    assert before is not None
    if after is None:
        return frozenset({"outcome"})
    names = [name for name in Call.__dataclass_fields__ if name != "inside_hash"]
    empty: tuple[Any, ...] = ("", 0, None, (), {}, b"", False)
    return frozenset(
        name for name in names
        if getattr(before, name) != getattr(after, name) and not (getattr(before, name) in (None, {}) and getattr(after, name) in empty[2:5])
    )  # fmt: skip


def leaves(value: Any, path: str = "") -> list[tuple[str, Any, Any]]:
    """Every single value, as (path, container, key)."""
    found = []
    for key in list(value) if isinstance(value, dict) else range(len(value)):
        here = f"{path}[{key}]" if isinstance(value, list) else f"{path}.{key}".lstrip(".")
        found += leaves(value[key], here) if isinstance(value[key], dict | list) else [(here, value, key)]
    return found


def test_every_claim_holds_on_a_small_record() -> None:
    found = explain(orjson.dumps(PAIR))
    assert found.routes == ("http_pair",)
    claimed = {source.path: source for source in found.sources}
    spare = [left.path for left in found.left_over]
    work = copy.deepcopy(PAIR)
    for path, container, key in leaves(work):
        held, order = container[key], list(container.items()) if isinstance(container, dict) else None
        assert not isinstance(container, list) or path.startswith("notes.by")
        del container[key]
        without = differing(work)
        if isinstance(container, dict):
            container.clear()
            container.update(order or ())
        else:
            container.insert(key, held)
        changed = set()
        for other in OTHERS[type(held)]:
            container[key] = other
            changed |= differing(work)
        container[key] = held
        if path in claimed:
            assert frozenset(claimed[path].removed) == without, path
            assert without or changed, path
        else:
            assert any(path == left or path.startswith((f"{left}.", f"{left}[")) for left in spare), path
            assert not without, path
            assert not changed, path
    assert {"response.system_fingerprint", "notes", "response.choices[0].index"} <= set(spare)


def test_the_fields_that_matter_come_from_where_they_stand() -> None:
    sources = explain(orjson.dumps(PAIR)).from_where()
    assert sources["model"] == ["response.model"]
    assert sources["team"] == ["team"]
    assert sources["tags"] == ["tags.release"]
    # without the whole, its parts are not told either
    assert set(sources["input_cache_read"]) == set(sources["input_fresh"])
    assert set(sources["input_fresh"]) == {"response.usage.prompt_tokens", "response.usage.prompt_tokens_details.cached_tokens"}
    assert "request.messages[0].content" in sources["content"]


def values(found: Explained) -> str:
    return " ".join(found.value(name) for name in found.from_where())


def test_texts_of_prompts_are_told_by_counts_and_hashes() -> None:
    found = explain(orjson.dumps(PAIR))
    assert found.value("content").startswith("1 messages in, 1 out, 34 characters, sha256 ")
    assert "private" not in values(found) + repr(found.sources) + repr(found.left_over)


def test_values_are_as_people_write_them() -> None:
    found = explain(orjson.dumps({"schema": "llm-finops/call/v1", "model": "m", "user": "ann", "started_at": 1772442900.25, "reported_cost": {"usd": "0.5"}, "tags": {"note": "Bearer abcdefghijklmnop"}}))
    assert (found.value("event_time"), found.value("reported_cost")) == ("2026-03-02T09:15:00.250000+00:00", "0.500000000000 dollars")
    assert (found.value("end_user"), found.value("tags"), found.value("status")) == ("a text of 3 characters", "note=Bearer ***", "ok")
    assert found.value("region") == "-"


def test_objects_in_strings_and_in_envelopes_are_looked_into() -> None:
    inner = {**PAIR, "request": orjson.dumps(PAIR["request"]).decode()}
    for pack, word in ((lambda data: data, "base64"), (gzip.compress, "gzip")):
        data = base64.b64encode(pack(orjson.dumps(inner))).decode()
        found = explain(orjson.dumps({"message": {"data": data, "messageId": "7", "attributes": {}}, "subscription": "s"}))
        assert found.routes == ("pubsub_message > http_pair",)
        sources = found.from_where()
        assert sources["model_requested"] == [f"message.data ({word}).request (JSON).model"]
        assert sources["transport_id"] == ["message.messageId"]
        assert "subscription" in {left.path for left in found.left_over}


def test_many_calls_in_one_record_are_told_apart() -> None:
    event = {"schema": "llm-finops/call/v1", "model": "a"}
    found = explain(orjson.dumps([event, {**event, "model": "b"}]))
    assert [view["outcome"] for view in found.outcomes] == ["call", "call"]
    assert found.from_where()["[1].model"] == ["[1].model"]
    assert (found.value("[0].model"), found.value("[1].model")) == ("a", "b")


def test_a_dead_letter_is_explained_by_what_is_wrong() -> None:
    bad = copy.deepcopy(PAIR)
    bad["response"]["usage"]["prompt_tokens"] = -5
    found = explain(orjson.dumps(bad))
    assert found.outcomes[0]["reason"] == "bad_value"
    assert "response.usage.prompt_tokens" in found.from_where()["error"]


@pytest.mark.parametrize(("record", "reason"), [(b"{cut", "not_json"), (b'"text"', "not_an_object"), (b"\x1f\x8bno", "corrupt_record")])
def test_what_is_no_record_has_an_outcome_alone(record: bytes, reason: str) -> None:
    found = explain(record)
    assert (found.outcomes[0]["reason"], found.sources, found.left_over) == (reason, [], [])


def test_the_limit_is_kept_and_told() -> None:
    whole, some = explain(orjson.dumps(PAIR)), explain(orjson.dumps(PAIR), limit=20)
    assert (whole.unseen, some.unseen > 0, some.decodes <= 20) == (0, True, True)
    assert {left.path for left in some.left_over} <= {left.path for left in whole.left_over}


def test_fields_of_a_mapping() -> None:
    own = mappings_in([("x", '[[mapping]]\nname = "ours"\nwhen = { keys = ["k"] }\nfields = { model = "a.m || b", team = "t" }\n')])
    found = explain(orjson.dumps({"k": 1, "a": {"m": "x"}, "b": "y", "t": "s"}), mappings=own)
    assert found.routes == ("ours",)
    assert found.from_where()["model"] == ["a.m"]
    assert [left.path for left in found.left_over] == ["b"]


@pytest.mark.parametrize("value", [0, 2**63, -1, 1.5, 1e300, True, "", "7", "2026-03-02T09:59:59Z", "?", [1], {"a": "x"}, '{"a": 1}'])
def test_another_value_has_the_same_type(value: Any) -> None:
    other = altered(value)
    assert type(other) is type(value)
    assert other != value
