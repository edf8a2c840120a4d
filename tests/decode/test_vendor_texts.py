"""What is said in each vendor's format, whole and streamed: written by hand after the vendors' documents."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.call import Call, Content, Message, Part
from transforms.count import Counter
from transforms.decode import decode_record

Json = dict[str, Any]
PIXEL = "R0lGODlhAQABAAAAACw="  # the head of a GIF of one pixel
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def decode(url: str, request: Any, response: Any, **more: Any) -> Call:
    record = {"url": url, "status": 200, "request": request, "response": response, **more}
    outcomes = decode_record(orjson.dumps(record))
    assert len(outcomes) == 1
    call = outcomes[0]
    assert isinstance(call, Call), call
    return call


def content(call: Call) -> Content:
    assert call.content is not None
    return call.content


def said(messages: list[Message]) -> list[tuple[str, list[tuple[str, str, str]]]]:
    return [(message.role, [(part.kind, part.text, part.name) for part in message.parts]) for message in messages]


GEMINI = "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent"
GEMINI_REQUEST: Json = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {"role": "user", "parts": [{"text": "Weather?"}, {"inlineData": {"mimeType": "image/gif", "data": PIXEL}}]},
        {"role": "model", "parts": [{"functionCall": {"name": "weather", "args": {"city": "Rome"}}}]},
        {"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"sky": "blue"}}}, {"text": "And?"}]},
    ],
    "tools": [{"functionDeclarations": [{"name": "weather", "parameters": SCHEMA}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["weather"]}},
    "generationConfig": {"responseSchema": SCHEMA, "maxOutputTokens": 99},
}
GEMINI_SNAKE: Json = {
    "system_instruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {"role": "user", "parts": [{"text": "Weather?"}, {"inline_data": {"mime_type": "image/gif", "data": PIXEL}}]},
        {"role": "model", "parts": [{"function_call": {"name": "weather", "args": {"city": "Rome"}}}]},
        {"role": "user", "parts": [{"function_response": {"name": "weather", "response": {"sky": "blue"}}}, {"text": "And?"}]},
    ],
    "tools": [{"function_declarations": [{"name": "weather", "parameters": SCHEMA}]}],
    "tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["weather"]}},
    "generation_config": {"response_schema": SCHEMA, "max_output_tokens": 99},
}
GEMINI_USAGE = {"promptTokenCount": 20, "candidatesTokenCount": 4, "thoughtsTokenCount": 3, "totalTokenCount": 27}


def gemini_chunk(*parts: Json, **more: Any) -> Json:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, **more}], "usageMetadata": GEMINI_USAGE,
            "modelVersion": "gemini-2.5-flash", "responseId": "r1"}  # fmt: skip


GEMINI_ANSWERS = [
    gemini_chunk({"text": "Hm.", "thought": True}, {"text": "It is blue."}, finishReason="STOP"),
    [gemini_chunk({"text": "H", "thought": True}), gemini_chunk({"text": "m.", "thought": True}, {"text": "It is"}),
     gemini_chunk({"text": " blue."}, finishReason="STOP")],
]  # fmt: skip


@pytest.mark.parametrize("request_", [GEMINI_REQUEST, GEMINI_SNAKE])
@pytest.mark.parametrize("answer", GEMINI_ANSWERS)
def test_gemini(request_: Json, answer: Any) -> None:
    call = decode(GEMINI, request_, answer)
    assert said(content(call).prompt) == [
        ("system", [("text", "Be brief.", "")]),
        ("user", [("text", "Weather?", ""), ("media", "", "")]),
        ("assistant", [("call", '{"city":"Rome"}', "weather")]),
        ("tool", [("result", '{"sky":"blue"}', "weather")]),
        ("user", [("text", "And?", "")]),
    ]
    image = content(call).prompt[1].parts[1].media
    assert image is not None
    assert (image.kind, image.width, image.height) == ("image", 1, 1)
    assert said(content(call).output) == [("assistant", [("reasoning", "Hm.", ""), ("text", "It is blue.", "")])]
    assert orjson.loads(content(call).tools_json) == request_["tools"]
    assert orjson.loads(content(call).schema_json) == SCHEMA
    assert (content(call).tool_choice, content(call).complete, call.max_tokens) == ("weather", True, 99)
    assert (call.input_fresh, call.output_visible, call.output_reasoning, call.stop_reason) == (20, 4, 3, "STOP")
    assert call.stream is (answer is GEMINI_ANSWERS[1])


def test_what_gemini_is_given_back() -> None:
    """Sealed thoughts stand before the call they belong to, files with the result they came with; tools that are null are none."""
    png = "iVBORw0KGgoAAAANSUhEUgAAAgAAAAP_"  # 512 by 1023, in base64 for URLs
    answered = {"name": "see", "response": {"ok": True}, "parts": [{"inlineData": {"mimeType": "image/png", "data": png}}]}
    request = {
        "contents": [
            {"role": "user", "parts": [{"text": "Look"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "see", "args": {}}, "thoughtSignature": "c2VhbA=="}]},
            {"role": "user", "parts": [{"functionResponse": answered}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "see"}], "codeExecution": None}],
    }
    answer = [
        gemini_chunk({"text": "It is", "thoughtSignature": "c2VhbA=="}),
        gemini_chunk({"text": " blue.", "thoughtSignature": "c2VhbA=="}, finishReason="STOP"),
    ]
    call = decode(GEMINI, request, answer)
    assert said(content(call).prompt) == [
        ("user", [("text", "Look", "")]),
        ("assistant", [("sealed", "c2VhbA==", ""), ("call", "{}", "see")]),
        ("tool", [("result", '{"ok":true}', "see"), ("media", "", "see")]),
    ]
    picture = content(call).prompt[2].parts[1].media
    assert picture is not None
    assert (picture.width, picture.height) == (512, 1023)
    assert said(content(call).output) == [("assistant", [("text", "It is blue.", "")])]
    assert content(call).complete


@pytest.mark.parametrize(
    "more",
    [
        {"cachedContent": "cachedContents/1"},
        {"tools": [{"googleSearch": {}}]},
        {"contents": [{"parts": [{"fileData": {"mimeType": "video/mp4", "fileUri": "https://example.com/v"}}]}]},
        {"contents": [{"parts": [{"executableCode": {"code": "1+1"}}]}]},
        {"systemInstruction": {"parts": [{"text": "[REDACTED]"}]}},
    ],
)
def test_what_gemini_reads_and_no_log_holds(more: Json) -> None:
    assert content(decode(GEMINI, {**GEMINI_REQUEST, **more}, GEMINI_ANSWERS[0])).complete is False


def test_what_sdks_of_gemini_write() -> None:
    """A prompt that is a text, settings in ``config``; what a blocked prompt has of an answer."""
    config = {"system_instruction": "Be brief.", "response_schema": SCHEMA}
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 5, "totalTokenCount": 5}}
    call = decode(GEMINI, {"contents": "Hi", "config": config}, blocked)
    assert said(content(call).prompt) == [("system", [("text", "Be brief.", "")]), ("user", [("text", "Hi", "")])]
    assert content(call).schema_json
    assert (call.status, call.input_fresh, content(call).output) == ("blocked", 5, [])


def test_a_stream_of_gemini_without_an_end() -> None:
    call = decode(GEMINI, GEMINI_REQUEST, GEMINI_ANSWERS[1][:2])
    assert (call.status, call.usage_source) == ("incomplete", "vendor")


@pytest.mark.parametrize(
    ("usage", "tier", "kind"),
    [
        ({"trafficType": "PROVISIONED_THROUGHPUT"}, "provisioned", "ptu"),
        ({"trafficType": "ON_DEMAND_FLEX"}, "flex", ""),
        ({"traffic_type": "ON_DEMAND_PRIORITY"}, "priority", ""),
        ({"serviceTier": "PRIORITY"}, "priority", ""),
    ],
)
def test_tiers_of_gemini_as_served(usage: Json, tier: str, kind: str) -> None:
    answer = {**gemini_chunk({"text": "Hi"}, finishReason="STOP"), "usageMetadata": {**GEMINI_USAGE, **usage}}
    call = decode(GEMINI, GEMINI_REQUEST, answer)
    assert (call.service_tier, call.deployment_type) == (tier, kind)


def test_embeddings_of_google() -> None:
    base = "https://generativelanguage.googleapis.com/v1beta/models/gemini-embedding-001"
    one = {"content": {"parts": [{"text": "one"}]}}
    two = {"content": {"parts": [{"text": "two"}]}}
    call = decode(f"{base}:batchEmbedContents", {"requests": [one, two]}, {"embeddings": []})
    assert said(content(call).prompt) == [("user", [("text", "one", "")]), ("user", [("text", "two", "")])]
    assert (call.status, call.usage_source) == ("ok", "none")
    call = decode(f"{base}:embedContent", one, {"embedding": {}, "usageMetadata": {"promptTokenCount": 1}})
    assert (said(content(call).prompt), call.input_fresh) == ([("user", [("text", "one", "")])], 1)
    predict = (
        "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/publishers/google/models/t:predict"
    )
    answer = {"predictions": [{"embeddings": {"statistics": {"token_count": 3}}}]}
    call = decode(predict, {"instances": [{"content": "one two"}]}, answer)
    assert (said(content(call).prompt), call.input_fresh, call.region) == (
        [("user", [("text", "one two", "")])],
        3,
        "us-central1",
    )


def test_interactions_of_gemini() -> None:
    url = "https://generativelanguage.googleapis.com/v1beta/interactions"
    request = {"model": "gemini-3-flash", "input": [{"type": "user_input", "content": [{"type": "text", "text": "Hi"}]}]}
    usage = {"total_input_tokens": 5, "total_output_tokens": 2, "total_thought_tokens": 4, "total_tokens": 11}
    ended = {"id": "v1_1", "model": "gemini-3-flash", "object": "interaction", "status": "completed", "service_tier": "flex",
             "usage": usage}  # fmt: skip
    steps = [{"type": "thought"}, {"type": "model_output", "content": [{"type": "text", "text": "Hello"}]},
             {"type": "function_call", "name": "add", "arguments": {"x": 1}}]  # fmt: skip
    stream = [
        {"event_type": "interaction.created", "interaction": {"id": "v1_1", "status": "in_progress"}},
        {"event_type": "step.start", "index": 0, "step": {"type": "thought"}},
        {"event_type": "step.start", "index": 1, "step": {"type": "model_output"}},
        {"event_type": "step.delta", "index": 1, "delta": {"type": "text", "text": "Hel"}},
        {"event_type": "step.delta", "index": 1, "delta": {"type": "text", "text": "lo"}},
        {"event_type": "step.start", "index": 2, "step": {"type": "function_call", "name": "add", "arguments": {}}},
        {"event_type": "step.delta", "index": 2, "delta": {"type": "arguments_delta", "arguments": '{"x":1}'}},
        {"event_type": "interaction.completed", "interaction": ended},
    ]
    for answer in ({**ended, "steps": steps}, {"stream": stream}):
        call = decode(url, request, answer)
        assert said(content(call).prompt) == [("user", [("text", "Hi", "")])]
        assert said(content(call).output) == [
            ("assistant", [("text", "Hello", "")]),
            ("assistant", [("call", '{"x":1}', "add")]),
        ]
        assert (call.input_fresh, call.output_visible, call.output_reasoning, call.service_tier) == (5, 2, 4, "flex")
    assert content(decode(url, {**request, "previous_interaction_id": "v1_0"}, {**ended, "steps": steps})).complete is False


CONVERSE = "https://bedrock-runtime.eu-west-1.amazonaws.com/model/eu.amazon.nova-lite-v1%3A0/converse"
CONVERSE_REQUEST: Json = {
    "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
    "messages": [
        {"role": "user", "content": [{"text": "Weather?"}, {"image": {"format": "gif", "source": {"bytes": PIXEL}}}]},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t", "name": "weather", "input": {"city": "Rome"}}}]},
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "t", "content": [{"json": {"sky": "blue"}}, {"text": "ok"}]}},
                {"guardContent": {"text": {"text": "And?"}}},
                {"cachePoint": {"type": "default"}},
            ],
        },
    ],
    "toolConfig": {
        "tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": SCHEMA}}}, {"cachePoint": {"type": "default"}}],
        "toolChoice": {"tool": {"name": "weather"}},
    },
    "inferenceConfig": {"maxTokens": 99},
    "serviceTier": {"type": "priority"},
}
CONVERSE_USAGE = {"inputTokens": 20, "outputTokens": 7, "totalTokens": 27}
CONVERSE_ANSWER: Json = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "s"}}},
                {"text": "It is blue."},
                {"toolUse": {"toolUseId": "u", "name": "weather", "input": {"city": "Oslo"}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": CONVERSE_USAGE,
    "metrics": {"latencyMs": 300},
    "serviceTier": {"type": "default"},
}
CONVERSE_STREAM: Json = {
    "stream": [
        {"messageStart": {"role": "assistant"}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"reasoningContent": {"text": "Hm."}}}},
        {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"reasoningContent": {"signature": "s"}}}},
        {"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"text": "It is"}}},
        {"contentBlockDelta": {"contentBlockIndex": 1, "delta": {"text": " blue."}}},
        {"contentBlockStart": {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "u", "name": "weather"}}}},
        {"contentBlockDelta": {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '{"city":'}}}},
        {"contentBlockDelta": {"contentBlockIndex": 2, "delta": {"toolUse": {"input": '"Oslo"}'}}}},
        {"contentBlockStop": {"contentBlockIndex": 2}},
        {"messageStop": {"stopReason": "tool_use"}},
        {"metadata": {"usage": CONVERSE_USAGE, "metrics": {"latencyMs": 300}, "serviceTier": {"type": "default"}}},
    ]
}


@pytest.mark.parametrize("answer", [CONVERSE_ANSWER, CONVERSE_STREAM])
def test_converse(answer: Json) -> None:
    call = decode(CONVERSE, CONVERSE_REQUEST, answer)
    assert said(content(call).prompt) == [
        ("system", [("text", "Be brief.", "")]),
        ("user", [("text", "Weather?", ""), ("media", "", "")]),
        ("assistant", [("call", '{"city":"Rome"}', "weather")]),
        ("tool", [("result", '{"sky":"blue"}', ""), ("result", "ok", "")]),
        ("user", [("text", "And?", "")]),
    ]
    assert said(content(call).output) == [
        ("assistant", [("reasoning", "Hm.", ""), ("text", "It is blue.", ""), ("call", '{"city":"Oslo"}', "weather")])
    ]
    assert (content(call).tool_choice, content(call).complete, call.max_tokens) == ("weather", True, 99)
    assert orjson.loads(content(call).tools_json) == CONVERSE_REQUEST["toolConfig"]["tools"]
    assert call.cache_breakpoints == 3
    assert (call.service_tier_requested, call.service_tier, call.region_scope) == ("priority", "default", "eu")
    assert (call.input_fresh, call.output_visible, call.stop_reason, call.duration_ms) == (20, 7, "tool_use", 300)


def test_converse_without_an_end_and_with_what_is_elsewhere() -> None:
    call = decode(CONVERSE, CONVERSE_REQUEST, {"stream": CONVERSE_STREAM["stream"][:5]})
    assert (call.status, call.usage_source) == ("incomplete", "none")
    assert said(content(call).output) == [("assistant", [("reasoning", "Hm.", ""), ("text", "It is blue.", "")])]
    bucket = {"role": "user", "content": [{"document": {"name": "d", "source": {"s3Location": {"uri": "s3://b/d"}}}}]}
    for request in ({"messages": [bucket]}, {"promptVariables": {"x": {"text": "1"}}}):
        assert content(decode(CONVERSE, request, CONVERSE_ANSWER)).complete is False


INVOKE = "https://bedrock-runtime.us-east-1.amazonaws.com/model/{}/invoke"
HI = [("user", [("text", "Hi", "")])]
HELLO = [("assistant", [("text", "Hello", "")])]


@pytest.mark.parametrize(
    ("model", "request_", "response", "reason"),
    [
        ("amazon.titan-text-express-v1", {"inputText": "Hi", "textGenerationConfig": {"maxTokenCount": 9}},
         {"inputTextTokenCount": 1, "results": [{"tokenCount": 2, "outputText": "Hello", "completionReason": "FINISH"}]}, "FINISH"),
        ("amazon.titan-text-express-v1", {"inputText": "Hi"},
         {"stream": [{"outputText": "Hel", "inputTextTokenCount": 1.0},
                     {"outputText": "lo", "totalOutputTextTokenCount": 2.0, "completionReason": "FINISH",
                      "amazon-bedrock-invocationMetrics": {"inputTokenCount": 1, "outputTokenCount": 2}}]}, "FINISH"),
        ("meta.llama3-8b-instruct-v1:0", {"prompt": "Hi", "max_gen_len": 9},
         {"generation": "Hello", "prompt_token_count": 1, "generation_token_count": 2, "stop_reason": "stop"}, "stop"),
        ("meta.llama3-8b-instruct-v1:0", {"prompt": "Hi"},
         {"stream": [{"generation": "Hel", "prompt_token_count": 1, "generation_token_count": 1, "stop_reason": None},
                     {"generation": "lo", "prompt_token_count": None, "generation_token_count": 2, "stop_reason": "stop",
                      "amazon-bedrock-invocationMetrics": {"inputTokenCount": 1, "outputTokenCount": 2}}]}, "stop"),
        ("amazon.nova-micro-v1:0", {"messages": [{"role": "user", "content": [{"text": "Hi"}]}], "inferenceConfig": {}},
         {"output": {"message": {"role": "assistant", "content": [{"text": "Hello"}]}}, "stopReason": "end_turn",
          "usage": {"inputTokens": 1, "outputTokens": 2, "totalTokens": 3}}, "end_turn"),
        ("amazon.nova-micro-v1:0", {"messages": [{"role": "user", "content": [{"text": "Hi"}]}], "schemaVersion": "messages-v1"},
         {"stream": [{"messageStart": {"role": "assistant"}}, {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": "Hello"}}},
                     {"messageStop": {"stopReason": "end_turn"}},
                     {"metadata": {"usage": {"inputTokens": 1, "outputTokens": 2}}}]}, "end_turn"),
        ("mistral.mistral-7b-instruct-v0:2", {"prompt": "Hi"},
         {"outputs": [{"text": "Hello", "stop_reason": "stop"}]}, ""),
        ("cohere.command-text-v14", {"prompt": "Hi"},
         {"id": "1", "generations": [{"text": "Hello", "finish_reason": "COMPLETE"}], "prompt": "Hi"}, ""),
        ("cohere.command-r-v1:0", {"message": "Hi", "chat_history": []}, {"text": "Hello", "generation_id": "1"}, ""),
    ],
)  # fmt: skip
def test_native_bodies_of_bedrock(model: str, request_: Json, response: Json, reason: str) -> None:
    headers = {"x-amzn-bedrock-input-token-count": "1", "x-amzn-bedrock-output-token-count": "2"}
    call = decode(INVOKE.format(model), request_, response, response_headers=headers)
    assert (said(content(call).prompt), said(content(call).output)) == (HI, HELLO)
    assert (call.input_fresh, call.output_visible, call.usage_source) == (1, 2, "vendor")
    assert (call.api, call.operation, call.status, call.stop_reason) == ("bedrock.invoke", "chat", "ok", reason)


def test_a_native_stream_without_an_end() -> None:
    chunks = [{"generation": "Hel", "prompt_token_count": 1, "generation_token_count": 1, "stop_reason": None}]
    call = decode(INVOKE.format("meta.llama3-8b-instruct-v1:0"), {"prompt": "Hi"}, {"stream": chunks})
    assert (call.status, call.usage_source, said(content(call).output)) == (
        "incomplete", "none", [("assistant", [("text", "Hel", "")])],
    )  # fmt: skip


def test_vectors_of_bedrock() -> None:
    call = decode(
        INVOKE.format("amazon.titan-embed-text-v2:0"), {"inputText": "Hi"}, {"embedding": [0.1], "inputTextTokenCount": 1}
    )
    assert (call.operation, said(content(call).prompt), call.input_fresh) == ("embedding", HI, 1)
    call = decode(INVOKE.format("cohere.embed-english-v3"), {"texts": ["Hi"]}, {"embeddings": [[0.1]], "id": "1"})
    assert (call.operation, said(content(call).prompt), call.status) == ("embedding", HI, "ok")


def test_a_tier_in_the_headers_of_bedrock() -> None:
    headers = {"x-amzn-bedrock-service-tier": "flex"}
    answer = {"generation": "Hello", "prompt_token_count": 1, "generation_token_count": 2}
    call = decode(INVOKE.format("meta.llama3-8b-instruct-v1:0"), {"prompt": "Hi"}, answer, response_headers=headers)
    assert call.service_tier == "flex"


def test_ollama() -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}]
    request = {
        "model": "qwen3",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?", "images": [PIXEL]},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Rome"}}}],
            },
            {"role": "tool", "tool_name": "weather", "content": "blue"},
        ],
        "tools": tools,
        "format": SCHEMA,
        "options": {"num_predict": 99},
    }
    end = {"model": "qwen3", "created_at": "2026-03-02T09:15:00.25Z", "done": True, "done_reason": "stop", "prompt_eval_count": 9,
           "eval_count": 4, "total_duration": 2_000_000_000}  # fmt: skip
    whole = {**end, "message": {"role": "assistant", "thinking": "Hm.", "content": "It is blue."}}
    lines = [
        {"model": "qwen3", "message": {"role": "assistant", "content": "", "thinking": "Hm."}, "done": False},
        {"model": "qwen3", "message": {"role": "assistant", "content": "It is"}, "done": False},
        {"model": "qwen3", "message": {"role": "assistant", "content": " blue."}, "done": False},
        {**end, "message": {"role": "assistant", "content": ""}},
    ]
    for answer in (whole, "\n".join(orjson.dumps(line).decode() for line in lines)):
        call = decode("http://localhost:11434/api/chat", request, answer)
        assert said(content(call).prompt) == [
            ("system", [("text", "Be brief.", "")]),
            ("user", [("text", "Weather?", ""), ("media", "", "")]),
            ("assistant", [("call", '{"city":"Rome"}', "weather")]),
            ("tool", [("result", "blue", "weather")]),
        ]
        assert said(content(call).output) == [("assistant", [("reasoning", "Hm.", ""), ("text", "It is blue.", "")])]
        assert (orjson.loads(content(call).tools_json), orjson.loads(content(call).schema_json)) == (tools, SCHEMA)
        assert (call.input_fresh, call.output_visible, call.max_tokens, call.duration_ms) == (9, 4, 99, 2000)
        assert (call.stream, call.stop_reason, content(call).complete) == (answer is not whole, "stop", True)


def test_ollama_generate_and_embed() -> None:
    end = {"model": "llama3", "done": True, "eval_count": 2}
    call = decode("http://localhost:11434/api/generate", {"model": "llama3", "prompt": "Hi"}, {**end, "response": "Hello"})
    assert (said(content(call).prompt), said(content(call).output), call.usage_quality) == (HI, HELLO, "partial")
    more = {"model": "llama3", "prompt": "Hi", "context": [1, 2]}
    assert content(decode("http://localhost:11434/api/generate", more, {**end, "response": "Hello"})).complete is False
    answer = {"model": "e", "embeddings": [[0.1]], "prompt_eval_count": 1}
    call = decode("http://localhost:11434/api/embed", {"model": "e", "input": ["Hi"]}, answer)
    assert (said(content(call).prompt), call.input_fresh, call.output_visible) == (HI, 1, 0)


def test_cohere() -> None:
    request = {
        "model": "command-r",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {"role": "assistant", "tool_plan": "I will look.",
             "tool_calls": [{"id": "t", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Rome"}'}}]},
            {"role": "tool", "tool_call_id": "t", "content": [{"type": "document", "document": {"data": "blue"}}]},
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}],
    }  # fmt: skip
    usage = {"billed_units": {"input_tokens": 9, "output_tokens": 4}, "tokens": {"input_tokens": 900, "output_tokens": 8}}
    whole = {
        "id": "1", "finish_reason": "COMPLETE", "usage": usage,
        "message": {"role": "assistant", "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Blue."}]},
    }  # fmt: skip
    stream = {"stream": [
        {"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant"}}},
        {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "thinking", "thinking": ""}}}},
        {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"thinking": "Hm."}}}},
        {"type": "content-delta", "index": 1, "delta": {"message": {"content": {"text": "Bl"}}}},
        {"type": "content-delta", "index": 1, "delta": {"message": {"content": {"text": "ue."}}}},
        {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": usage}},
    ]}  # fmt: skip
    for answer in (whole, stream):
        call = decode("https://api.cohere.com/v2/chat", request, answer)
        assert said(content(call).prompt) == [
            ("user", [("text", "Weather?", "")]),
            ("assistant", [("text", "I will look.", ""), ("call", '{"city":"Rome"}', "weather")]),
            ("tool", [("result", "blue", "")]),
        ]
        assert said(content(call).output) == [("assistant", [("reasoning", "Hm.", ""), ("text", "Blue.", "")])]
        assert (call.input_fresh, call.output_visible, call.provider_call_id, call.stop_reason) == (9, 4, "1", "COMPLETE")
    cut = decode("https://api.cohere.com/v2/chat", request, {"stream": stream["stream"][:4]})
    assert (cut.status, said(cut.content.output if cut.content else [])) == (
        "incomplete", [("assistant", [("reasoning", "Hm.", ""), ("text", "Bl", "")])],
    )  # fmt: skip


def test_tool_calls_in_a_stream_of_cohere() -> None:
    stream = [
        {"type": "message-start", "id": "1"},
        {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "I will look."}}},
        {"type": "tool-call-start", "index": 0, "delta": {"message": {"tool_calls": {"function": {"name": "weather", "arguments": ""}}}}},
        {"type": "tool-call-delta", "index": 0, "delta": {"message": {"tool_calls": {"function": {"arguments": '{"city":'}}}}},
        {"type": "tool-call-delta", "index": 0, "delta": {"message": {"tool_calls": {"function": {"arguments": '"Rome"}'}}}}},
        {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL"}},
    ]  # fmt: skip
    call = decode("https://api.cohere.com/v2/chat", {"model": "c", "messages": []}, {"stream": stream})
    assert said(content(call).output) == [("assistant", [("text", "I will look.", ""), ("call", '{"city":"Rome"}', "weather")])]


def test_the_first_version_of_cohere_and_embed() -> None:
    request = {
        "model": "command",
        "preamble": "Be brief.",
        "chat_history": [{"role": "CHATBOT", "message": "Hey"}],
        "message": "Hi",
    }
    billed = {"billed_units": {"input_tokens": 3, "output_tokens": 1}}
    call = decode("https://api.cohere.com/v1/chat", request, {"text": "Hello", "generation_id": "g", "meta": billed})
    assert said(content(call).prompt) == [
        ("system", [("text", "Be brief.", "")]), ("assistant", [("text", "Hey", "")]), ("user", [("text", "Hi", "")]),
    ]  # fmt: skip
    assert (said(content(call).output), call.input_fresh, call.provider_call_id) == (HELLO, 3, "g")
    embed = {"id": "1", "embeddings": {}, "meta": {"billed_units": {"input_tokens": 1}}}
    call = decode("https://api.cohere.com/v2/embed", {"model": "e", "texts": ["Hi"]}, embed)
    assert (said(content(call).prompt), call.input_fresh, call.output_visible) == (HI, 1, 0)


def test_xai_over_grpc() -> None:
    request = {
        "model": "grok-4",
        "messages": [
            {"role": "ROLE_SYSTEM", "content": [{"text": "Be brief."}]},
            {"role": "ROLE_USER", "content": [{"text": "Hi"}]},
        ],
        "tools": [{"function": {"name": "weather", "parameters": "{}"}}],
    }
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 2,
        "reasoning_tokens": 5,
        "total_tokens": 16,
        "cached_prompt_text_tokens": 4,
    }
    call_ = {"function": {"name": "weather", "arguments": "{}"}}
    whole = {"id": "1", "model": "grok-4", "usage": usage, "outputs": [
        {"finish_reason": "REASON_STOP", "message": {"role": "ROLE_ASSISTANT", "content": "Hello", "tool_calls": [call_]}}]}  # fmt: skip
    pieces = [{"content": "Hel", "role": "ROLE_ASSISTANT"}, {"content": "lo"}, {"tool_calls": [call_]}]
    stream = {
        "stream": [{"chunk": {"id": "1", "model": "grok-4", "usage": usage, "outputs": [{"delta": piece}]}} for piece in pieces]
    }
    for answer in (whole, stream):
        call = decode("grpc://api.x.ai/xai_api.Chat/GetCompletion", request, answer)
        assert said(content(call).prompt) == [("system", [("text", "Be brief.", "")]), *HI]
        assert said(content(call).output) == [("assistant", [("text", "Hello", ""), ("call", "{}", "weather")])]
        assert (call.input_fresh, call.input_cache_read, call.output_visible, call.output_reasoning) == (5, 4, 2, 5)
    search = {**request, "tools": [{"web_search": {}}]}
    assert content(decode("grpc://api.x.ai/xai_api.Chat/GetCompletion", search, whole)).complete is False


def test_older_completions() -> None:
    answer: Json = {
        "type": "completion",
        "id": "compl_1",
        "model": "claude-2.1",
        "completion": "Hello",
        "stop_reason": "stop_sequence",
    }
    for response in (answer, {"stream": [{**answer, "completion": "Hel", "stop_reason": None}, {**answer, "completion": "lo"}]}):
        call = decode("https://api.anthropic.com/v1/complete", {"model": "claude-2.1", "prompt": "Hi"}, response)
        assert (said(content(call).prompt), said(content(call).output)) == (HI, HELLO)
        assert (call.api, call.status, call.stop_reason, call.provider_call_id) == (
            "anthropic.complete", "ok", "stop_sequence", "compl_1",
        )  # fmt: skip
    answer = {"completions": [{"completion": "Hello", "finish_reason": "end"}], "model_version": "1", "num_tokens_prompt_total": 1,
              "num_tokens_generated": 2}  # fmt: skip
    call = decode("https://api.aleph-alpha.com/complete", {"prompt": [{"type": "text", "data": "Hi"}]}, answer)
    assert (said(content(call).prompt), said(content(call).output), call.input_fresh, call.output_visible) == (HI, HELLO, 1, 2)


AUDIO = {"total_tokens": 60, "input_tokens": 40, "output_tokens": 20,
         "input_token_details": {"text_tokens": 10, "audio_tokens": 30, "cached_tokens": 16,
                                 "cached_tokens_details": {"text_tokens": 6, "audio_tokens": 10}},
         "output_token_details": {"text_tokens": 5, "audio_tokens": 15}}  # fmt: skip


def test_a_turn_of_a_voice_session() -> None:
    """40 in: 16 cached, 20 fresh sound, 4 fresh text. 20 out: 15 sound, 5 text."""
    response = {"object": "realtime.response", "id": "resp_1", "status": "completed", "model": "gpt-realtime", "usage": AUDIO}
    outcomes = decode_record(orjson.dumps({"type": "response.done", "event_id": "e1", "response": response}))
    call = outcomes[0]
    assert isinstance(call, Call)
    assert (call.api, call.status, call.provider_call_id, call.model) == ("openai.realtime", "ok", "resp_1", "gpt-realtime")
    assert (call.input_fresh, call.input_cache_read, call.input_audio) == (4, 16, 20)
    assert (call.output_visible, call.output_audio) == (5, 15)
    cancelled = {**response, "status": "cancelled", "status_details": {"reason": "turn_detected"}}
    outcome = decode_record(orjson.dumps({"type": "response.done", "response": cancelled}))[0]
    assert isinstance(outcome, Call)
    assert (outcome.status, outcome.stop_reason) == ("cancelled", "turn_detected")


def test_a_turn_of_gemini_live() -> None:
    usage = {"promptTokenCount": 30, "responseTokenCount": 12, "totalTokenCount": 42, "trafficType": "ON_DEMAND",
             "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 25}, {"modality": "TEXT", "tokenCount": 5}],
             "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 12}]}  # fmt: skip
    outcomes = decode_record(orjson.dumps({"serverContent": {"turnComplete": True}, "usageMetadata": usage}))
    call = outcomes[0]
    assert isinstance(call, Call)
    assert (call.api, call.status, call.service_tier) == ("gemini.live", "ok", "standard")
    assert (call.input_fresh, call.input_audio, call.output_visible, call.output_audio) == (5, 25, 0, 12)


@pytest.mark.parametrize(
    ("path", "request_", "response", "expected"),
    [
        ("images/generations", {"model": "gpt-image-1", "prompt": "x"},
         {"created": 1772409600, "data": [{"b64_json": "aGk="}], "usage": {"input_tokens": 10, "output_tokens": 200, "total_tokens": 210,
          "input_tokens_details": {"text_tokens": 10, "image_tokens": 0}}}, ("image", 10, 200, ())),
        ("images/generations", {"model": "dall-e-3", "prompt": "x"}, {"created": 1772409600, "data": [{"url": "https://x"}]},
         ("image", None, None, ())),
        ("audio/transcriptions", {"model": "gpt-4o-transcribe"},
         {"text": "Hi", "usage": {"type": "tokens", "input_tokens": 14, "output_tokens": 2, "total_tokens": 16,
                                  "input_token_details": {"text_tokens": 4, "audio_tokens": 10}}}, ("audio", 4, 2, ())),
        ("audio/transcriptions", {"model": "whisper-1"}, {"text": "Hi", "usage": {"type": "duration", "seconds": 3}},
         ("audio", None, None, ("other_units",))),
        ("audio/speech", {"model": "tts-1", "input": "Hi"}, None, ("audio", None, None, ())),
        ("moderations", {"model": "omni-moderation-latest", "input": "Hi"},
         {"id": "modr-1", "model": "omni-moderation-latest", "results": [{"flagged": False}]}, ("moderation", None, None, ())),
        ("rerank", {"query": "x", "documents": ["a"]},
         {"id": "1", "results": [], "meta": {"billed_units": {"search_units": 1}}}, ("rerank", None, None, ("other_units",))),
    ],
)  # fmt: skip
def test_what_is_carried_though_it_is_not_counted(path: str, request_: Json, response: Any, expected: tuple[Any, ...]) -> None:
    call = decode(f"https://api.openai.com/v1/{path}", request_, response)
    assert (call.operation, call.input_fresh, call.output_visible, call.flags) == expected
    assert (call.status, call.content) == ("ok", None)
    if "transcribe" in str(request_.get("model")):
        assert call.input_audio == 10


def test_money_without_tokens_is_kept() -> None:
    answer = {"text": "Hi", "usage": {"cost": 0.0006, "seconds": 6}}
    call = decode("https://openrouter.ai/api/v1/audio/transcriptions", {"model": "openai/whisper-1"}, answer)
    assert (call.reported_cost, call.reported_cost_by, call.usage_source) == (600_000_000, "gateway", "none")


def test_everything_that_is_read_can_be_counted() -> None:
    counter = Counter()
    for url, request, answer in ((GEMINI, GEMINI_REQUEST, GEMINI_ANSWERS[0]), (CONVERSE, CONVERSE_REQUEST, CONVERSE_ANSWER)):
        call = decode(url, request, answer)
        counter.count(call)
        assert (call.counted_input or 0) > 5
        assert (call.counted_output or 0) > 2
        assert (call.system_messages, call.tool_result_messages, call.user_messages) == (1, 1, 1)
        assert call.tools_tokens > 0


def test_parts_are_plain_tuples() -> None:
    """Content goes between processes: what is in it are the types of ``schemas.call``."""
    call = decode(CONVERSE, CONVERSE_REQUEST, CONVERSE_STREAM)
    assert all(type(part) is Part for message in content(call).prompt for part in message.parts)


JUNK: list[Any] = [None, 0, -1, 2.5, True, "", "x", [], {}, [1], [None], {"a": 1}, [{"type": []}], {"text": 5}, {"text": []}, "9" * 30]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every field and item within a value, as what holds it and its key there."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [place for key in keys for place in ((value, key), *places(value[key]))]


@pytest.mark.parametrize(
    ("url", "request_", "answer"),
    [(GEMINI, GEMINI_REQUEST, GEMINI_ANSWERS[0]), (GEMINI, GEMINI_SNAKE, GEMINI_ANSWERS[1]),
     (CONVERSE, CONVERSE_REQUEST, CONVERSE_ANSWER), (CONVERSE, CONVERSE_REQUEST, CONVERSE_STREAM)],
)  # fmt: skip
def test_a_value_of_any_type_in_any_place(url: str, request_: Json, answer: Any) -> None:
    """No decoder fails on it: it is a call, or a dead letter that names the field."""
    record = {"url": url, "status": 200, "request": request_, "response": answer}
    text = orjson.dumps(record)
    for number in range(len(places(record))):
        for junk in JUNK:
            changed = orjson.loads(text)
            holder, key = places(changed)[number]
            holder[key] = junk
            for outcome in decode_record(orjson.dumps(changed)):
                assert isinstance(outcome, Call) or outcome.reason != "decoder_error", (outcome.error, junk, key)


def test_the_scope_of_a_profile_that_only_the_body_names() -> None:
    record = {"request": {"modelId": "us.amazon.nova-lite-v1:0", **CONVERSE_REQUEST}, "response": CONVERSE_ANSWER}
    call = decode_record(orjson.dumps(record))[0]
    assert isinstance(call, Call)
    assert (call.provider, call.model, call.region_scope) == ("bedrock", "us.amazon.nova-lite-v1:0", "us")
