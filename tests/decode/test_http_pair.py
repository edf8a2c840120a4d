"""Recorded pairs of each vendor, written by hand after the vendors' documents."""

from __future__ import annotations

import base64
import struct
from typing import Any

import orjson
import pytest

from schemas.call import Call, Content, Part
from schemas.part import Part as PartOfCall
from transforms.decode import Skipped, Undecodable, decode_record

Json = dict[str, Any]

USAGE = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def decode(record: Json) -> Call:
    outcomes = decode_record(orjson.dumps(record))
    assert len(outcomes) == 1
    call = outcomes[0]
    assert isinstance(call, Call), call
    return call


def content(call: Call) -> Content:
    assert call.content is not None
    return call.content


def refused(record: Any) -> Undecodable:
    outcomes = decode_record(orjson.dumps(record))
    assert len(outcomes) == 1
    assert isinstance(outcomes[0], Undecodable), outcomes
    return outcomes[0]


def chat(**more: Any) -> Json:
    return {
        "url": "https://api.openai.com/v1/chat/completions",
        "status": 200,
        "request": {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]},
        "response": {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1772409600,
            "model": "gpt-4o-2024-08-06",
            "service_tier": "default",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello"}, "finish_reason": "stop"}],
            "usage": USAGE,
        },
        **more,
    }


def chunk(delta: Json | None, reason: str | None = None, index: int = 0, **more: Any) -> Json:
    choices = [] if delta is None else [{"index": index, "delta": delta, "finish_reason": reason}]
    return {"id": "chatcmpl-2", "object": "chat.completion.chunk", "created": 1772409600, "model": "gpt-4o-2024-08-06",
            "choices": choices, "usage": None, **more}  # fmt: skip


def sse(chunks: list[Json], end: str = "\n\n") -> str:
    return "".join(f"data: {orjson.dumps(each).decode()}{end}" for each in chunks) + f"data: [DONE]{end}"


def test_a_chat_call() -> None:
    call = decode(chat())
    assert (call.provider, call.api, call.operation, call.format) == ("openai", "openai.chat", "chat", "http_pair")
    assert (call.model_requested, call.model) == ("gpt-4o", "gpt-4o-2024-08-06")
    assert (call.provider_call_id, call.stop_reason, call.service_tier) == ("chatcmpl-1", "stop", "default")
    assert (call.event_time, call.time_quality) == (1772409600_000000, "second")
    assert (call.status, call.http_status, call.tenant) == ("ok", 200, "default")
    assert (call.input_fresh, call.output_visible) == (9, 3)
    assert content(call).prompt == [("user", (("text", "Hi", "", None, False),), "")]
    assert content(call).output == [("assistant", (("text", "Hello", "", None, False),), "")]


def test_what_the_logger_knows() -> None:
    call = decode(
        chat(
            started_at="2026-03-02T09:15:00.250Z",
            duration_ms=812.5,
            ttft_ms=80,
            tenant="acme",
            team="search",
            app="helpdesk",
            feature="answer",
            environment="production",
            user="u1",
            trace_id="t1",
            session_id="s1",
            template="v7",
            agent="planner",
            step="3",
            attempt=2,
            tags={"release": "42", "build": 7, "ok": True, "deep": {"no": 1}, "api_key": "sk-abcdefghijk"},
        )
    )
    assert call.event_time == 1772442900_250000
    assert call.time_quality == "exact"
    assert call.end_time == 1772442900_250000 + 812_500
    assert (call.duration_ms, call.ttft_ms, call.attempt) == (812.5, 80.0, 2)
    assert (call.tenant, call.team, call.app, call.feature) == ("acme", "search", "helpdesk", "answer")
    assert (call.environment, call.end_user, call.trace_id, call.session_id) == ("production", "u1", "t1", "s1")
    assert (call.template, call.agent, call.step) == ("v7", "planner", "3")
    assert call.tags == {"release": "42", "build": "7", "ok": "true"}


def test_tags_fill_what_is_empty() -> None:
    call = decode(
        chat(team="search", metadata={"team": "other", "app": "helpdesk", "tenant": "evil"}, labels=["beta", "env:dev"])
    )
    assert (call.team, call.app, call.environment, call.tenant) == ("search", "helpdesk", "dev", "default")
    assert call.tags == {"team": "other", "app": "helpdesk", "tenant": "evil", "beta": "true", "env": "dev"}


def test_tags_are_bounded() -> None:
    call = decode(chat(tags={f"k{i}": "v" * 300 for i in range(40)}))
    assert call.tags is not None
    assert len(call.tags) == 32
    assert {len(value) for value in call.tags.values()} == {256}
    assert call.flags == ("tags_cut",)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"ended_at": 1772442901.0625, "duration_ms": 62.5}, 1772442901_000000),
        ({"timestamp": 1772442900250}, 1772442900_250000),
        ({"time": "2026-03-02 09:15:00"}, 1772442900_000000),
        ({"started_at": "1999-01-01T00:00:00Z"}, 1772409600_000000),
    ],
)
def test_times(given: Json, expected: int) -> None:
    call = decode(chat(**given))
    assert call.event_time == expected
    assert ("implausible_time" in call.flags) == ("started_at" in given)


def test_without_any_time() -> None:
    record = chat(started_at=12)
    del record["response"]["created"]
    call = decode(record)
    assert (call.event_time, call.time_quality, call.flags) == (0, "implausible", ("implausible_time",))
    del record["started_at"]
    call = decode(record)
    assert (call.event_time, call.time_quality) == (0, "")


def test_azure() -> None:
    record = chat(
        url="https://acme.openai.azure.com/openai/deployments/gpt4o-prod/chat/completions?api-version=2024-10-21",
        response_headers={
            "X-Request-Id": "req-1",
            "x-ms-region": "East US 2",
            "x-ms-spillover-from-deployment": "gpt4o-ptu",
            "x-ms-deployment-name": "gpt4o-prod",
            "retry-after": "2",
        },
    )
    first = {"id": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": [{}]}
    record["response"] = sse([first, chunk({"role": "assistant", "content": "Hel"}), chunk({"content": "lo"}, "stop"),
                              chunk(None, usage=USAGE)])  # fmt: skip
    call = decode(record)
    assert (call.provider, call.deployment, call.region) == ("azure", "gpt4o-prod", "eastus2")
    assert (call.provider_call_id, call.model) == ("chatcmpl-2", "gpt-4o-2024-08-06")
    assert (call.request_id, call.spillover, call.retry_after_ms) == ("req-1", True, 2000)
    assert call.event_time == 1772409600_000000
    assert (call.stream, call.input_fresh) == (True, 9)
    assert content(call).output[0].parts == (Part("text", "Hello"),)


TOOL_CHUNKS = [
    chunk({"role": "assistant", "content": None}),
    chunk({"reasoning_content": "hm"}),
    chunk({"tool_calls": [{"index": 0, "id": "a", "function": {"name": "look", "arguments": '{"q'}}]}),
    chunk({"tool_calls": [{"index": 1, "id": "b", "function": {"name": "find", "arguments": "{}"}}]}),
    chunk({"tool_calls": [{"index": 0, "function": {"arguments": '":1}'}}]}),
    chunk({}, "tool_calls"),
    chunk(None, usage=USAGE, service_tier="flex"),
]


@pytest.mark.parametrize(
    "response",
    [
        {"stream": TOOL_CHUNKS},
        TOOL_CHUNKS,
        sse(TOOL_CHUNKS),
        sse(TOOL_CHUNKS, "\r\n\r\n"),
        ": ping\n\nevent: message\n" + sse(TOOL_CHUNKS),
        {"stream": sse(TOOL_CHUNKS)},
        "\n".join(orjson.dumps(each).decode() for each in TOOL_CHUNKS),
        orjson.dumps({"stream": TOOL_CHUNKS}).decode(),
        {"status": 200, "headers": {}, "body": sse(TOOL_CHUNKS)},
    ],
)
def test_tool_calls_of_a_stream_are_put_together(response: Any) -> None:
    call = decode(chat(response=response))
    assert content(call).output == [
        ("assistant", (Part("reasoning", "hm"), Part("call", '{"q":1}', "look"), Part("call", "{}", "find")), "")
    ]
    assert (call.stop_reason, call.service_tier, call.status) == ("tool_calls", "flex", "ok")
    assert (call.input_fresh, call.output_visible, call.stream) == (9, 3, True)


def test_several_choices_of_a_stream_do_not_mix() -> None:
    chunks = [chunk({"content": "a"}), chunk({"content": "x"}, index=1), chunk({"content": "b"}, "stop"),
              chunk({"content": "y"}, "length", 1)]  # fmt: skip
    call = decode(chat(response={"stream": chunks}))
    assert [message.parts[0].text for message in content(call).output] == ["ab", "xy"]


def test_a_cut_stream_is_incomplete() -> None:
    text = sse([chunk({"content": "Hel"}), chunk({"content": "lo"})]).removesuffix("data: [DONE]\n\n") + 'data: {"id": "ch'
    call = decode(chat(response=text))
    assert (call.status, call.usage_source, call.flags) == ("incomplete", "none", ("response_cut",))
    assert content(call).output[0].parts == (Part("text", "Hello"),)
    assert not content(call).complete


def test_groqs_usage_is_elsewhere() -> None:
    call = decode(chat(url="https://api.groq.com/openai/v1/chat/completions",
                       response={"stream": [chunk({"content": "x"}, "stop", x_groq={"usage": USAGE})]}))  # fmt: skip
    assert (call.provider, call.input_fresh) == ("groq", 9)


def png(width: int, height: int) -> str:
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + bytes(40)
    return "data:image/png;base64," + base64.b64encode(data).decode()


def test_every_part_of_a_chat_message() -> None:
    record = chat()
    record["request"] |= {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "name": "ann", "content": [
                {"type": "text", "text": "What is this?", "cache_control": {"type": "ephemeral"}},
                {"type": "image_url", "image_url": {"url": png(640, 480), "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            ]},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": "a cat"},
        ],
        "tools": [{"type": "function", "function": {"name": "look"}}],
        "tool_choice": {"type": "function", "function": {"name": "look"}},
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
        "max_completion_tokens": 50,
        "temperature": 0,
        "service_tier": "auto",
        "prompt_cache_key": "k",
        "user": "u",
        "metadata": {"team": "search"},
    }  # fmt: skip
    call = decode(record)
    prompt = content(call).prompt
    assert [message.role for message in prompt] == ["developer", "user", "assistant", "tool"]
    assert prompt[1].name == "ann"
    image, audio = prompt[1].parts[1].media, prompt[1].parts[2].media
    assert image is not None
    assert audio is not None
    assert (image.kind, image.width, image.height, image.size, image.detail) == ("image", 640, 480, 64, "low")
    assert (audio.kind, audio.size) == ("audio", 3)
    assert prompt[2].parts == (Part("call", "{}", "look"),)
    assert prompt[3].parts == (Part("result", "a cat"),)
    assert orjson.loads(content(call).tools_json) == record["request"]["tools"]
    assert orjson.loads(content(call).schema_json) == {"name": "s", "schema": {"type": "object"}}
    assert content(call).tool_choice == "look"
    assert (call.max_tokens, call.service_tier_requested, call.cache_key, call.end_user) == (50, "auto", "k", "u")
    assert (call.team, call.cache_breakpoints) == ("search", 1)
    assert orjson.loads(call.params) == {
        key: record["request"][key]
        for key in ("max_completion_tokens", "prompt_cache_key", "response_format", "service_tier", "temperature", "tool_choice")
    }


def test_params_do_not_depend_on_the_order_of_keys() -> None:
    one, other = chat(), chat()
    one["request"] |= {"temperature": 1, "seed": 2}
    other["request"] = {"seed": 2, "temperature": 1, **other["request"]}
    assert decode(one).params == decode(other).params


def responses(**more: Any) -> Json:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1772409600,
        "completed_at": 1772409605,
        "status": "completed",
        "model": "gpt-5-2025-08-07",
        "service_tier": "flex",
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["a", "b"]},
            {"type": "file_search_call", "id": "fs_2", "status": "completed", "queries": ["c"]},
            {"type": "function_call", "name": "look", "arguments": "{}", "call_id": "c"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello"}]},
        ],
        "usage": {
            "input_tokens": 20,
            "input_tokens_details": {"cached_tokens": 5},
            "output_tokens": 10,
            "output_tokens_details": {"reasoning_tokens": 4},
            "total_tokens": 30,
        },
        **more,
    }


def responses_pair(response: Any, **request: Any) -> Json:
    asked = {"model": "gpt-5", "instructions": "Be brief.", "input": "Hi", **request}
    return {"url": "https://api.openai.com/v1/responses", "status": 200, "request": asked, "response": response}


RESPONSES_STREAM = {
    "stream": [
        {"type": "response.created", "response": responses(status="in_progress", usage=None, output=[], service_tier="auto")},
        {"type": "response.output_text.delta", "output_index": 0, "delta": "Hel"},
        {"type": "response.completed", "response": responses()},
    ]
}


@pytest.mark.parametrize("response", [responses(), RESPONSES_STREAM])
def test_a_responses_call(response: Json) -> None:
    call = decode(responses_pair(response))
    assert (call.api, call.model, call.service_tier, call.status) == ("openai.responses", "gpt-5-2025-08-07", "flex", "ok")
    assert (call.input_fresh, call.input_cache_read, call.output_visible, call.output_reasoning) == (15, 5, 6, 4)
    assert (call.event_time, call.end_time) == (1772409600_000000, 1772409605_000000)
    assert (call.web_searches, call.file_searches) == (1, 2)
    assert content(call).prompt == [("system", (Part("text", "Be brief."),), ""), ("user", (Part("text", "Hi"),), "")]
    kinds = [part.kind for message in content(call).output for part in message.parts]
    assert kinds == ["reasoning", "call", "text"]


def test_an_aborted_responses_stream_keeps_what_was_said() -> None:
    chunks = [*RESPONSES_STREAM["stream"][:2], {"type": "response.output_text.delta", "output_index": 0, "delta": "lo"}]
    call = decode(responses_pair({"stream": chunks}))
    assert (call.status, call.usage_source) == ("incomplete", "none")
    assert content(call).output == [("assistant", (Part("text", "Hello"),), "")]


@pytest.mark.parametrize(
    "request_",
    [
        {"previous_response_id": "resp_0"},
        {"conversation": "conv_1"},
        {"tools": [{"type": "web_search"}]},
        {"reasoning": {"effort": "low", "mode": "pro"}},
    ],
)
def test_what_the_vendor_holds_makes_content_incomplete(request_: Json) -> None:
    assert content(decode(responses_pair(responses()))).complete is False  # it searched the web
    plain = responses(output=[])
    assert content(decode(responses_pair(plain))).complete is True
    assert content(decode(responses_pair(plain, **request_))).complete is False


@pytest.mark.parametrize(
    ("status", "expected"),
    [("incomplete", "incomplete"), ("failed", "error"), ("cancelled", "cancelled")],
)
def test_statuses_of_responses(status: str, expected: str) -> None:
    error = {"code": "server_error", "message": "x"} if status == "failed" else None
    call = decode(responses_pair(responses(status=status, error=error)))
    assert call.status == expected
    assert call.error_type == ("server_error" if error else "")


def part_of(record: Json) -> PartOfCall:
    outcomes = decode_record(orjson.dumps(record))
    assert len(outcomes) == 1
    assert isinstance(outcomes[0], PartOfCall), outcomes
    return outcomes[0]


def test_responses_made_in_the_background_come_in_parts() -> None:
    """Asked for, polled, fetched: three records, of one call."""
    asked = responses_pair(responses(status="queued", background=True, usage=None, output=[]), background=True)
    polled = {**asked, "url": "https://api.openai.com/v1/responses/resp_1", "request": None,
              "response": responses(status="in_progress", background=True, usage=None, output=[])}  # fmt: skip
    fetched = {**polled, "response": responses(background=True)}
    parts = [part_of(record) for record in (asked, polled, fetched)]
    assert {part.key for part in parts} == {f"openai.responses:{responses()['id']}"}
    assert [part.role for part in parts] == ["queued", "in_progress", "final"]
    assert [part.needs for part in parts] == [("final",)] * 3
    assert [part.format for part in parts] == ["http_pair"] * 3
    calls = [part.call for part in parts]
    assert [call and call.usage_source for call in calls] == ["none", "none", "vendor"]
    assert [call and call.status for call in calls] == ["incomplete", "incomplete", "ok"]


def test_only_what_says_so_was_made_in_the_background() -> None:
    assert decode(responses_pair(responses(background=False))).status == "ok"
    assert decode(responses_pair(responses(status="in_progress", background=False, usage=None))).status == "incomplete"
    assert part_of(responses_pair(responses(status="in_progress", usage=None))).role == "in_progress"
    nameless = decode(responses_pair(responses(status="queued", background=True, usage=None, id=None)))
    assert nameless.status == "incomplete"  # nothing to join it by
    failed = responses(status="failed", background=True, error={"code": "server_error"}, usage=None)
    assert part_of(responses_pair(failed)).role == "final"


def embeddings(given: Any) -> Call:
    return decode({
        "url": "https://api.openai.com/v1/embeddings",
        "status": 200,
        "request": {"model": "text-embedding-3-small", "input": given},
        "response": {"object": "list", "data": [], "model": "text-embedding-3-small",
                     "usage": {"prompt_tokens": 8, "total_tokens": 8}},
    })  # fmt: skip


def test_embeddings() -> None:
    call = embeddings(["one", "two"])
    assert (call.operation, call.input_fresh, call.output_visible) == ("embedding", 8, 0)
    assert [message.parts[0].text for message in content(call).prompt] == ["one", "two"]
    assert content(embeddings("one")).prompt[0].parts == (Part("text", "one"),)
    assert content(embeddings([1, 2, 3])).token_inputs == 3
    assert content(embeddings([[1, 2], [3]])).token_inputs == 3


ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-5",
    "stop_reason": "end_turn",
    "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "Hello"},
                {"type": "tool_use", "id": "t", "name": "look", "input": {"q": 1}}],
    "usage": {"input_tokens": 4, "cache_read_input_tokens": 6, "cache_creation_input_tokens": 0, "output_tokens": 12,
              "service_tier": "priority", "inference_geo": "global"},
}  # fmt: skip

ANTHROPIC_STREAM = {
    "stream": [
        {"type": "message_start", "message": {**ANTHROPIC, "content": [], "stop_reason": None,
                                              "usage": {**ANTHROPIC["usage"], "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "hm"}},
        {"type": "ping"},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hel"}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "lo"}},
        {"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "name": "look", "input": {}}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"q"'}},
        {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ":1}"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 12}},
        {"type": "message_stop"},
    ]
}  # fmt: skip


def anthropic_pair(response: Any, **more: Any) -> Json:
    return {
        "url": "https://api.anthropic.com/v1/messages",
        "status": 200,
        "request": {
            "model": "claude-sonnet-5",
            "max_tokens": 100,
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "u", "name": "look", "input": {"q": 0}}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "u", "content": [{"type": "text", "text": "nothing"}]},
                    {"type": "text", "text": "Again", "cache_control": {"type": "ephemeral"}}]},
            ],
            "metadata": {"user_id": "u1"},
        },
        "response": response,
        **more,
    }  # fmt: skip


@pytest.mark.parametrize("response", [ANTHROPIC, ANTHROPIC_STREAM])
def test_an_anthropic_call(response: Json) -> None:
    call = decode(anthropic_pair(response))
    assert (call.provider, call.api, call.provider_call_id) == ("anthropic", "anthropic.messages", "msg_1")
    assert (call.input_fresh, call.input_cache_read, call.output_visible) == (4, 6, 12)
    assert (call.stop_reason, call.service_tier, call.region_scope) == ("end_turn", "priority", "global")
    assert (call.max_tokens, call.end_user, call.cache_breakpoints) == (100, "u1", 2)
    assert [(message.role, [part.text for part in message.parts]) for message in content(call).prompt] == [
        ("system", ["Be brief."]), ("user", ["Hi"]), ("assistant", ['{"q":0}']), ("tool", ["nothing"]), ("user", ["Again"])
    ]  # fmt: skip
    assert content(call).output == [
        ("assistant", (Part("reasoning", "hm"), Part("text", "Hello"), Part("call", '{"q":1}', "look")), "")
    ]


def test_an_aborted_anthropic_stream_has_its_input() -> None:
    call = decode(anthropic_pair({"stream": ANTHROPIC_STREAM["stream"][:6]}))
    assert (call.status, call.usage_quality) == ("incomplete", "partial")
    assert (call.input_fresh, call.output_visible) == (4, None)


def test_an_advisor_is_a_call_of_its_own() -> None:
    usage = {"input_tokens": 10, "output_tokens": 5, "iterations": [
        {"type": "message", "input_tokens": 10, "output_tokens": 5},
        {"type": "advisor_message", "model": "claude-opus-4-8", "input_tokens": 70, "output_tokens": 2}]}  # fmt: skip
    outcomes = decode_record(orjson.dumps(anthropic_pair({**ANTHROPIC, "usage": usage}, team="search")))
    assert [(o.model, o.input_fresh, o.output_visible, o.team) for o in outcomes if isinstance(o, Call)] == [
        ("claude-sonnet-5", 10, 5, "search"),
        ("claude-opus-4-8", 70, 2, "search"),
    ]


def test_anthropic_on_vertex_and_bedrock() -> None:
    url = "https://us-east5-aiplatform.googleapis.com/v1/projects/p/locations/us-east5/publishers/anthropic/models/claude-x:rawPredict"
    record = anthropic_pair(ANTHROPIC, url=url)
    del record["request"]["model"]
    call = decode(record)
    assert (call.provider, call.region, call.model_requested) == ("vertex", "us-east5", "claude-x")
    url = "https://bedrock-runtime.eu-central-1.amazonaws.com/model/eu.anthropic.claude-x-v1%3A0/invoke"
    record = anthropic_pair({**ANTHROPIC, "usage": None}, url=url)
    del record["request"]["model"]
    record["response_headers"] = {"x-amzn-bedrock-input-token-count": "13", "x-amzn-bedrock-output-token-count": "21"}
    call = decode(record)
    assert (call.provider, call.api, call.region, call.region_scope) == ("bedrock", "anthropic.messages", "eu-central-1", "eu")
    assert call.model_requested == "eu.anthropic.claude-x-v1:0"
    assert (call.input_fresh, call.output_visible) == (13, 21)


@pytest.mark.parametrize(
    ("url", "request_", "response", "expected"),
    [
        ("https://generativelanguage.googleapis.com/v1beta/models/gemini-3-flash:generateContent", {"contents": []},
         {"responseId": "r", "modelVersion": "gemini-3-flash-001", "candidates": [{"finishReason": "STOP"}],
          "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": 2, "totalTokenCount": 7}},
         ("gemini", "gemini-3-flash-001", 5, 2)),
        ("https://bedrock-runtime.us-west-2.amazonaws.com/model/us.amazon.nova-lite-v1:0/converse", {"messages": []},
         {"stopReason": "end_turn", "usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7}},
         ("bedrock", "us.amazon.nova-lite-v1:0", 5, 2)),
        ("https://bedrock-runtime.us-west-2.amazonaws.com/model/meta.llama3-8b/invoke", {"prompt": "Hi"},
         {"generation": "x", "prompt_token_count": 5, "generation_token_count": 2}, ("bedrock", "meta.llama3-8b", 5, 2)),
        ("http://localhost:11434/api/chat", {"model": "llama3"},
         {"stream": [{"done": False}, {"model": "llama3", "done": True, "prompt_eval_count": 5, "eval_count": 2}]},
         ("ollama", "llama3", 5, 2)),
        ("https://api.cohere.com/v2/chat", {"model": "command-a"},
         {"id": "x", "usage": {"billed_units": {"input_tokens": 5, "output_tokens": 2}, "tokens": {"input_tokens": 900}}},
         ("cohere", "command-a", 5, 2)),
    ],
)  # fmt: skip
def test_bodies_carried_by_their_usage(url: str, request_: Json, response: Json, expected: tuple[str, str, int, int]) -> None:
    call = decode({"url": url, "status": 200, "request": request_, "response": response})
    assert (call.provider, call.model, call.input_fresh, call.output_visible) == expected


@pytest.mark.parametrize(
    ("response", "status", "expected"),
    [
        ({"error": {"type": "invalid_request_error", "code": "x"}}, 400, ("error", "invalid_request_error")),
        ({"error": {"code": "content_filter", "innererror": {}}}, 400, ("blocked", "content_filter")),
        ({"type": "error", "error": {"type": "overloaded_error"}}, 529, ("error", "overloaded_error")),
        ({"message": "no", "__type": "AccessDenied"}, 403, ("error", "AccessDenied")),
        ({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED"}}, 429, ("error", "RESOURCE_EXHAUSTED")),
        ("<html>bad gateway</html>", 502, ("error", "http_502")),
        (None, 500, ("error", "http_500")),
        ({"error": {"type": "server_error"}}, None, ("error", "server_error")),
    ],
)
def test_errors_are_calls_without_usage(response: Any, status: int | None, expected: tuple[str, str]) -> None:
    call = decode(chat(response=response, status=status))
    assert (call.status, call.error_type) == expected
    assert (call.usage_source, call.http_status) == ("none", status or 0)
    assert call.model == "gpt-4o"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://api.anthropic.com/v1/messages/count_tokens", "count_tokens"),
        ("https://bedrock-runtime.us-east-1.amazonaws.com/model/x/count-tokens", "count_tokens"),
        ("https://generativelanguage.googleapis.com/v1beta/models/gemini-3:countTokens", "count_tokens"),
        ("https://api.openai.com/v1/responses/input_tokens", "count_tokens"),
        ("https://api.openai.com/v1/models", "control"),
        ("https://api.openai.com/v1/files/file-1", "control"),
    ],
)
def test_requests_nobody_bills_are_ignored(url: str, reason: str) -> None:
    outcomes = decode_record(orjson.dumps(chat(url=url)))
    assert [o.reason for o in outcomes if isinstance(o, Skipped)] == [reason]


def test_bodies_in_wrappers_and_strings() -> None:
    plain = chat()
    request, response = plain["request"], plain["response"]
    wrapped = {
        "request": {"method": "POST", "uri": plain["url"], "body": orjson.dumps(request).decode()},
        "response": {"status": 200, "headers": {"x-request-id": ["req-9"]}, "body": orjson.dumps(response).decode()},
    }
    call = decode(wrapped)
    assert (call.provider, call.request_id, call.http_status, call.input_fresh) == ("openai", "req-9", 200, 9)
    assert content(call).prompt == content(decode(plain)).prompt


def test_a_cut_request_is_told() -> None:
    call = decode(chat(request='{"model": "gpt-4o", "messages": [{"role": "us'))
    assert call.flags == ("request_cut",)
    assert call.input_fresh == 9
    assert not content(call).complete


def test_dead_letters_say_why() -> None:
    negative = chat()
    negative["response"]["usage"] = {"prompt_tokens": -7, "completion_tokens": 3}
    letter = refused(negative)
    assert (letter.reason, letter.format_guess) == ("bad_value", "http_pair")
    assert "prompt_tokens" in letter.error
    assert "-7" in letter.error
    assert refused({"url": "https://api.openai.com/v1/chat/completions", "status": 200}).reason == "not_a_call"
    speech = {"url": "https://api.openai.com/v1/audio/speech", "status": 200, "request": {}, "response": {"_len": 1}}
    assert decode(speech).usage_source == "none"  # carried, though what it costs is not told
    unknown = {"url": "https://api.openai.com/v1/unheard", "status": 200, "request": {}, "response": {"_len": 1}}
    assert refused(unknown).reason == "unsupported_body"
    assert refused({"a": 1}).reason == "unknown_format"
    assert refused(5).reason == "not_an_object"
    assert refused([]).reason == "not_an_object"


@pytest.mark.parametrize("data", [b"{", b'{"a": NaN}', b'{"a": Infinity}', b"\xff\xfe", b'"\xc3\x28"', b"[" * 100_000, b"{} {}"])
def test_what_is_not_json(data: bytes) -> None:
    assert [o.reason for o in decode_record(data) if isinstance(o, Undecodable)] == ["not_json"]


@pytest.mark.parametrize("data", [b"", b"  \n", b"\r"])
def test_blank_lines(data: bytes) -> None:
    assert [o.reason for o in decode_record(data) if isinstance(o, Skipped)] == ["blank"]


def test_deep_settings_do_not_stop_a_worker() -> None:
    deep: Any = 1
    for _ in range(600):
        deep = [deep]
    record = chat()
    record["request"]["tools"] = [{"function": deep}]
    text = orjson.dumps({**record, "request": None})[:-1]
    nested = b'{"model":"m","messages":[],"tools":' + b"[" * 600 + b"]" * 600 + b"}"
    data = text.replace(b'"request":null', b'"request":' + nested) + b"}"
    outcome = decode_record(data)[0]
    assert isinstance(outcome, Undecodable)
    assert outcome.reason == "not_json"


def test_no_host_is_no_guess() -> None:
    record = chat(url="https://llm.internal.example.co.uk/v1/chat/completions")
    assert decode(record).provider == "example"
    assert decode(chat(provider="Azure")).provider == "azure"
    assert decode(chat(url=None)).provider == "openai"
    del record["url"]
    record["request"]["model"] = record["response"]["model"] = "my-model"
    assert decode(record).provider == "unknown"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://user:hunter2@api.openai.com/v1/chat/completions", "api.openai.com"),
        ("https://user:hunter2", "user"),  # cut
        ("https://user:hunter2/v1/chat/completions", "user"),
        ("http://[::1]:8000/v1/chat/completions", "[::1]:8000"),
        ("http://localhost:8000/v1/chat/completions", "localhost:8000"),
    ],
)
def test_a_host_holds_no_password(url: str, host: str) -> None:
    assert decode(chat(url=url)).endpoint_host == host


def test_an_answer_that_was_not_logged_is_told() -> None:
    for response in (None, {}, {"unknown": 1}):
        call = decode(chat(response=response))
        assert (call.status, call.flags, call.usage_source) == ("incomplete", ("no_answer",), "none")


def test_access_logs_without_bodies_are_no_calls() -> None:
    record = {
        "request": {"method": "POST", "uri": "/v1/chat/completions", "headers": {}},
        "response": {"status": 200, "headers": {}},
    }
    assert refused(record).reason == "not_a_call"


def test_events_of_bedrocks_sdk() -> None:
    chunks = [{"chunk": {"bytes": base64.b64encode(orjson.dumps(each)).decode()}} for each in ANTHROPIC_STREAM["stream"]]
    url = "https://bedrock-runtime.us-east-1.amazonaws.com/model/anthropic.claude-x/invoke-with-response-stream"
    call = decode(anthropic_pair({"stream": chunks}, url=url))
    assert (call.input_fresh, call.output_visible, call.stream) == (4, 12, True)
    assert content(call).output[0].parts[1] == Part("text", "Hello")
