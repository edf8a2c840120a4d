"""Mappings: home-made logs read by a few lines of TOML; what is expected is written out by hand."""

from __future__ import annotations

import pickle
from typing import Any

import orjson
import pytest

from schemas.batch import RawBatch
from schemas.call import Call, Message
from schemas.call import Part as Said
from schemas.part import Part
from transforms.decode import DecodeSettings, Skipped, Undecodable, decode_batch, decode_record
from transforms.decode.mapping import MAX_ITEMS
from transforms.decode.mapping_files import MappingError, mappings_in
from transforms.decode.registry import Outcome, index_of

Json = dict[str, Any]

OURS = """
[[mapping]]
name = "our-log"
when = { keys = ["llm", "at"], if = "kind != 'health'" }
skip = [ { if = "llm.model == 'echo'", reason = "control" }, "!(llm.model)" ]
none = ["n/a"]
json = ["labels"]

[mapping.fields]
id = "llm.id"
provider = { value = "openai" }
model = "llm.model"
started_at = { path = "at", unit = "ms" }
duration_ms = { path = "took", unit = "s" }
status = { path = "outcome", values = { OK = "ok", TIMEOUT = "cancelled" }, else = "error" }
http_status = "code"
team = "labels.team"
user = "who"
stream = "llm.streamed"
messages = "llm.turns[].{role: speaker, content: text}"
tags = "labels"

[mapping.fields.usage]
input_total = "not_null(llm.tokens.in, llm.tokens.prompt)"
cached_input = "llm.tokens.cached"
output_total = "llm.tokens.out"

[mapping.fields.reported_cost]
usd = { path = "price", unit = "cents" }
"""

RECORD: Json = {
    "at": 1772442900250,
    "kind": "call",
    "took": "1.25",
    "outcome": "OK",
    "code": "200",
    "who": 42,
    "price": "0.12",
    "labels": '{"team": "search", "release": 7, "nested": {"x": 1}}',
    "llm": {
        "id": "r-1",
        "model": "gpt-4o-mini",
        "streamed": "true",
        "tokens": {"in": 1200, "cached": "1024", "out": 80.0},
        "turns": [{"speaker": "user", "text": "Hi"}, {"speaker": "assistant", "text": "n/a"}],
    },
}


def outcomes(toml: str, record: Any) -> list[Outcome]:
    return decode_record(orjson.dumps(record), index=index_of(mappings_in([("our.toml", toml)])))


def call_of(toml: str, record: Any) -> Call:
    (outcome,) = outcomes(toml, record)
    assert isinstance(outcome, Call), outcome
    return outcome


def test_a_home_made_record_is_a_call() -> None:
    call = call_of(OURS, RECORD)
    assert (call.format, call.authority, call.provider, call.model, call.provider_call_id) == (
        "our-log",
        20,
        "openai",
        "gpt-4o-mini",
        "r-1",
    )
    assert (call.event_time, call.time_quality, call.duration_ms, call.end_time) == (
        1772442900_250000,
        "exact",
        1250.0,
        1772442901_500000,
    )
    assert (call.input_fresh, call.input_cache_read, call.output_visible) == (1200 - 1024, 1024, 80)
    assert (call.status, call.http_status, call.team, call.end_user, call.stream) == ("ok", 200, "search", "42", True)
    assert (call.reported_cost, call.reported_cost_by) == (1_200_000_000, "gateway")  # 0.12 cents are 0.0012 dollars
    assert call.tags == {"team": "search", "release": "7"}
    assert call.content is not None
    assert call.content.prompt == [Message("user", (Said("text", "Hi"),)), Message("assistant", (Said("text", "n/a"),))]


@pytest.mark.parametrize(
    ("changes", "column", "wanted"),
    [
        ({"outcome": "TIMEOUT"}, "status", "cancelled"),
        ({"outcome": "?"}, "status", "error"),
        ({"outcome": None}, "status", "error"),
        ({"price": 0}, "reported_cost", None),
        ({"price": 1.2345678901234567e-05}, "reported_cost", 123_457),  # 0.00000012345678901234567 dollars
        ({"price": 1e-40}, "reported_cost", None),
        ({"price": None}, "reported_cost", None),
        ({"who": "n/a"}, "end_user", ""),
        ({"who": "sk-proj-abcdefghijklmnop"}, "end_user", "sk-***"),
        ({"took": None}, "duration_ms", None),
        ({"at": "1772442900250"}, "event_time", 1772442900_250000),
        ({"labels": None}, "tags", None),
    ],
)
def test_single_values(changes: Json, column: str, wanted: object) -> None:
    assert getattr(call_of(OURS, {**RECORD, **changes}), column) == wanted


def test_one_total_alone_is_partial() -> None:
    call = call_of(OURS, {**RECORD, "llm": {"model": "m", "tokens": {"prompt": 9}}})
    assert (call.input_fresh, call.output_visible, call.usage_quality) == (9, None, "partial")
    assert (call.vendor_input, call.vendor_output, call.usage_source) == (9, None, "vendor")


def test_no_total_is_no_usage() -> None:
    call = call_of(OURS, {**RECORD, "llm": {"model": "m", "tokens": {"cached": 3}}})
    assert (call.usage_source, call.input_fresh, call.input_cache_read) == ("none", None, None)


@pytest.mark.parametrize(("model", "reason"), [("echo", "control"), ("", "left_out"), (None, "left_out")])
def test_what_is_skipped(model: object, reason: str) -> None:
    (outcome,) = outcomes(OURS, {**RECORD, "llm": {"model": model}})
    assert isinstance(outcome, Skipped)
    assert outcome.reason == reason


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"llm": {"model": "m", "tokens": {"in": -1, "out": 1}}}, "usage.input_total: -1 is negative"),
        ({"llm": {"model": "m", "tokens": {"in": 1.5, "out": 1}}}, "usage.input_total: 1.5 is not a whole number"),
        ({"at": "today"}, "started_at: 'today' is not a number"),
        ({"at": 10**18}, "started_at: 1000000000000000000 is not a time in ms since 1970"),
        ({"code": 700}, "http_status: 700 is not a whole number of 0 to 599"),
        ({"price": -1}, "reported_cost.usd: '-0.01' is not a decimal number"),
        ({"llm": {"model": "x" * 600}}, "model: "),
    ],
)
def test_impossible_values_are_dead_letters_that_name_the_field(changes: Json, words: str) -> None:
    (outcome,) = outcomes(OURS, {**RECORD, **changes})
    assert isinstance(outcome, Undecodable)
    assert (outcome.reason, outcome.format_guess) == ("bad_value", "our-log")
    assert outcome.error.startswith(words)


def test_other_records_are_read_as_ever() -> None:
    (call,) = outcomes(OURS, {"schema": "llm-finops/call/v1", "model": "gpt-4o", "usage": {"input_fresh": 1}})
    assert isinstance(call, Call)
    assert call.format == "event"
    for other in ({**RECORD, "kind": "health"}, {"at": 1, "other": 2}):
        (unknown,) = outcomes(OURS, other)
        assert isinstance(unknown, Undecodable)
        assert unknown.reason == "unknown_format"


def test_mappings_go_before_what_comes_along() -> None:
    own = '[[mapping]]\nname = "mine"\nwhen = { keys = ["request", "response"] }\n[mapping.fields]\nmodel = "request.model"\n'
    assert call_of(own, {"request": {"model": "gpt-4o"}, "response": {}}).format == "mine"


PAIRS = """
[[mapping]]
name = "proxy-log"
as = "http_pair"
when = { any = ["upstream_call", "downstream_call"] }
[mapping.fields]
request = "not_null(upstream_call, downstream_call).sent"
response = "not_null(upstream_call, downstream_call).got"
url = "target"
status = "code"
started_at = { path = "t", unit = "s" }
tags = { zone = "zone", tier = { value = "gold" } }
app = "service_id"
"""


def test_a_pair_with_bodies_in_strings() -> None:
    answer = {
        "id": "msg_1",
        "type": "message",
        "model": "claude-sonnet-4-5",
        "content": [],
        "usage": {"input_tokens": 7, "output_tokens": 2, "cache_read_input_tokens": 5},
    }
    record = {
        "downstream_call": {"sent": '{"model": "claude-sonnet-4-5", "messages": []}', "got": orjson.dumps(answer).decode()},
        "target": "https://api.anthropic.com/v1/messages",
        "code": 200,
        "t": 1772442900,
        "zone": "b",
        "service_id": 7,
    }
    call = call_of(PAIRS, record)
    assert (call.format, call.authority, call.api, call.provider) == ("proxy-log", 30, "anthropic.messages", "anthropic")
    assert (call.input_fresh, call.input_cache_read, call.output_visible) == (7, 5, 2)
    assert (call.event_time, call.time_quality, call.tags, call.app) == (
        1772442900_000000,
        "second",
        {"zone": "b", "tier": "gold"},
        "7",
    )


EACH = """
[[mapping]]
name = "nightly"
when = { keys = ["runs"] }
each = "runs[?llm]"
skip = "item.dry"
[mapping.fields]
model = "item.llm"
app = "record.job"
usage = { input_fresh = "item.i", output_visible = "item.o" }
"""


def test_one_record_may_hold_many_calls() -> None:
    runs = [{"llm": "a", "i": 1, "o": 2}, {"other": 1}, {"llm": "b", "dry": True}, {"llm": "c", "i": "x"}, {"llm": "d", "i": 5}]
    found = outcomes(EACH, {"job": "nightly", "runs": runs})
    assert [type(outcome).__name__ for outcome in found] == ["Call", "Skipped", "Undecodable", "Call"]
    first, last = found[0], found[3]
    assert isinstance(first, Call)
    assert isinstance(last, Call)
    assert (first.model, first.app, first.input_fresh, first.output_visible) == ("a", "nightly", 1, 2)
    assert (last.model, last.input_fresh, last.output_visible) == ("d", 5, None)


@pytest.mark.parametrize(
    ("runs", "reason"),
    [([], "left_out"), (None, "bad_value"), ("x", "bad_value"), ([{"llm": "m"}] * (MAX_ITEMS + 1), "record_too_large")],
)
def test_lists_that_hold_no_calls_or_too_many(runs: object, reason: str) -> None:
    (outcome,) = outcomes(EACH, {"runs": runs})
    assert isinstance(outcome, Skipped | Undecodable)
    assert outcome.reason == reason


TWO_LINES = """
[[mapping]]
name = "asked"
as = "http_pair"
when = { keys = ["prompt_line", "rid"] }
join = { group = "two-lines", key = "rid", role = { value = "request" }, needs = ["request", "response"] }
fields = { request = "prompt_line", started_at = "t" }

[[mapping]]
name = "answered"
when = { keys = ["answer_line"] }
join = { group = "two-lines", key = "rid", role = "kind", needs = ["request", "response"], rank = 1 }
fields = { model = "answer_line.model", usage = { input_fresh = "answer_line.i", output_visible = "answer_line.o" } }
"""


def test_two_lines_of_a_call_are_parts_of_it() -> None:
    (asked,) = outcomes(
        TWO_LINES,
        {"rid": "r1", "t": 1772442900, "prompt_line": {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}},
    )
    (answered,) = outcomes(TWO_LINES, {"rid": "r1", "kind": "response", "answer_line": {"i": 3, "o": 4}})
    assert isinstance(asked, Part)
    assert isinstance(answered, Part)
    assert (asked.key, asked.role, asked.needs, asked.rank, asked.format) == (
        "two-lines:r1",
        "request",
        ("request", "response"),
        0,
        "asked",
    )
    assert (answered.key, answered.role, answered.needs, answered.rank) == (
        "two-lines:r1",
        "response",
        ("request", "response"),
        1,
    )
    assert asked.call is not None
    assert answered.call is not None
    assert (asked.call.model_requested, asked.call.event_time, asked.call.status, asked.call.flags) == (
        "gpt-4o",
        1772442900_000000,
        "ok",
        (),
    )
    assert (answered.call.input_fresh, answered.call.output_visible, answered.call.model) == (3, 4, "")


def test_without_the_id_that_parts_share_a_record_stands_for_itself() -> None:
    (alone,) = outcomes(TWO_LINES, {"kind": "response", "answer_line": {"model": "m", "i": 3, "o": 4}})
    assert isinstance(alone, Call)


def mapping(**changes: str) -> str:
    """A small mapping with lines changed; an empty one is left out."""
    lines = {"name": 'name = "m"', "when": 'when = { keys = ["k"] }', "fields": '[mapping.fields]\nmodel = "a"'}
    said = {**lines, **changes}
    last = said.pop("fields")
    return "\n".join(["[[mapping]]", *said.values(), last])


BROKEN = [
    ("[[mapping", "x.toml: not valid TOML: "),
    ("", "x.toml: no mapping here: write [[mapping]] and its keys below"),
    ("[maping]\n", "x.toml: unknown key maping; write [[mapping]] and its keys below"),
    (mapping(name=""), "x.toml: mapping 1: name: must be 1 to 60 letters, digits, - and _"),
    (mapping() + "\n" + mapping(), "x.toml: two mappings are named 'm': give one of them another name"),
    (mapping(a="wen = 1"), "x.toml: mapping 'm': wen: is unknown; did you mean when?"),
    (mapping(when=""), "x.toml: mapping 'm': when: is missing: name keys that its records have"),
    (mapping(when='when = { if = "k" }'), "x.toml: mapping 'm': when: must name keys (all of them must be there) or any (one of them)"),
    (mapping(when="when = { keys = [1] }"), "x.toml: mapping 'm': when.keys: must be a list of texts"),
    (mapping(when='when = { keys = ["k"], if = "a =" }'), "x.toml: mapping 'm': when.if: 'a =' is not a JMESPath expression: "),
    (mapping(a='as = "evnt"'), "x.toml: mapping 'm': as: must be one of event, http_pair"),
    (mapping(a='each = "a["'), "x.toml: mapping 'm': each: 'a[' is not a JMESPath expression: "),
    (mapping(a='skip = { if = "a", reason = "because" }'), "x.toml: mapping 'm': skip.reason: must be one of count_tokens, "),
    (mapping(a="skip = [{}]"), "x.toml: mapping 'm': skip: must be a text of 1 to 1000 characters"),
    (mapping(a="authority = 200"), "x.toml: mapping 'm': authority: must be a whole number of 0 to 100"),
    (mapping(a='none = "x"'), "x.toml: mapping 'm': none: must be a list of texts"),
    (mapping(fields=""), "x.toml: mapping 'm': fields: is missing: write [mapping.fields] and what fills each field below"),
    (mapping(fields='[mapping.fields]\nteam = "a"'), "x.toml: mapping 'm': fields.model: is missing: say where the model is named"),
    (mapping(fields='[mapping.fields]\nmodle = "a"'), "x.toml: mapping 'm': fields.modle: is unknown; did you mean model?"),
    (mapping(fields="[mapping.fields]\nmodel = 1"), "x.toml: mapping 'm': model: must be an expression, or a table with path or value"),
    (mapping(fields="[mapping.fields]\nmodel = {}"), "x.toml: mapping 'm': model: must have either path, an expression, or value, a constant"),
    (mapping(fields='[mapping.fields]\nmodel = "a..b"'), "x.toml: mapping 'm': model: 'a..b' is not a JMESPath expression: "),
    (mapping(fields='[mapping.fields]\nmodel = "lenght(a)"'), "x.toml: mapping 'm': model: lenght() is no function of JMESPath; did you mean length?"),
    (mapping(fields='[mapping.fields]\nmodel = "length(a, b)"'), "x.toml: mapping 'm': model: length() takes 1 arguments, not 2"),
    (mapping(fields=f'[mapping.fields]\nmodel = "{"a" * 1001}"'), "x.toml: mapping 'm': model: must be a text of 1 to 1000 characters"),
    (mapping(fields='[mapping.fields]\nmodel = { path = "a", unit = "s" }'), "x.toml: mapping 'm': model.unit: only times, durations and money have units"),
    (mapping(fields='[mapping.fields]\nmodel = "a"\nstarted_at = { path = "t", unit = "min" }'), "x.toml: mapping 'm': started_at.unit: must be one of s, ms, us, ns"),
    (mapping(fields='[mapping.fields]\nmodel = { path = "a", else = "x" }'), "x.toml: mapping 'm': model.else: belongs to values, which is missing"),
    (mapping(fields='[mapping.fields]\nmodel = { value = "a", unit = "s" }'), "x.toml: mapping 'm': model: a constant value stands alone"),
    (mapping(fields='[mapping.fields]\nmodel = "a"\nusage = { inputs = "a" }'), "x.toml: mapping 'm': usage.inputs: is unknown; did you mean input_fresh?"),
    (mapping(fields='[mapping.fields]\nmodel = "a"\nusage = { input_fresh = "a", output_total = "b" }'), "x.toml: mapping 'm': usage: input_fresh is a leaf and output_total a total: "),
    (mapping(fields='[mapping.fields]\nmodel = "a"\nusage = { cached_input = "a" }'), "x.toml: mapping 'm': usage: cached_input is a part of a total: "),
    (mapping(fields='[mapping.fields]\nmodel = "a"\napi_key_alias = "headers.authorization"'), "x.toml: mapping 'm': api_key_alias: reads authorization, which holds a secret; secrets are never kept"),
    (mapping(fields='[mapping.fields]\nmodel = "a"\ntags = { k = "api_key" }'), "x.toml: mapping 'm': tags.k: reads api_key, which holds a secret; secrets are never kept"),
    (mapping(a='as = "http_pair"', fields='[mapping.fields]\nurl = "a"'), "x.toml: mapping 'm': fields: names neither request nor response"),
    (mapping(a='join = { key = "a" }'), "x.toml: mapping 'm': join: must have key, an expression for the id that the parts share, and role"),
    (mapping(a='join = { key = "a", role = "b", need = [] }'), "x.toml: mapping 'm': join.need: is unknown; did you mean needs?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "line"), BROKEN)
def test_a_broken_file_is_one_line_that_names_the_place(text: str, line: str) -> None:
    with pytest.raises(MappingError) as caught:
        mappings_in([("x.toml", text)])
    said = str(caught.value)
    assert said.startswith(line)
    assert "\n" not in said


def test_secrets_among_whole_objects_are_left_out() -> None:
    own = mapping(fields='[mapping.fields]\nmodel = "a"\ntags = "headers"')
    headers = {"Authorization": "Bearer abcdefghijklmnop", "x-team": "search", "note": "key sk-abcdefghijklmnop"}
    assert call_of(own, {"k": 1, "a": "m", "headers": headers}).tags == {"x-team": "search", "note": "key sk-***"}


def test_an_expression_that_fails_on_a_record_tells_nothing_of_its_texts() -> None:
    own = mapping(fields='[mapping.fields]\nmodel = "a"\nteam = "join(\',\', b)"')
    (outcome,) = outcomes(own, {"k": 1, "a": "m", "b": ["secret prompt", 1]})
    assert isinstance(outcome, Undecodable)
    assert outcome.reason == "bad_value"
    assert outcome.error == "team: join(',', b) cannot be worked out here: JMESPathTypeError"


def test_settings_with_mappings_go_to_workers_and_stay_hashable() -> None:
    settings = DecodeSettings(mappings=mappings_in([("our.toml", OURS)]))
    there = pickle.loads(pickle.dumps(settings))
    assert there == settings
    assert hash(there) == hash(settings)
    raw = RawBatch("file", b"s" * 16, b"s" * 16, 0, [orjson.dumps(RECORD)], [0])
    assert [call.format for call in decode_batch(raw, there).calls] == ["our-log"]
    assert decode_batch(raw, DecodeSettings()).dead[0].reason == "unknown_format"
