"""LangSmith: runs as its API and its exports give them (https://docs.langchain.com/langsmith/run-data-format).

A run of type ``llm`` or ``embedding`` is a call. Chains sum up the runs below them, and so do their tokens and costs; tools,
retrievers, prompts and parsers are no calls. Bulk exports hold ``inputs``, ``outputs`` and ``extra`` as JSON in strings.

``usage_metadata`` is LangChain's: input and output are whole, and details are within them, by a name that may begin with the
service tier. The columns of the run (``prompt_tokens`` …) say the same with less.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from transforms.decode import times
from transforms.decode import usage as usages
from transforms.decode.bodies import openai_chat, pick
from transforms.decode.content import params
from transforms.decode.context import promote_tags, read_tags
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.exchange import Exchange, parse_json
from transforms.decode.scrub import scrub
from transforms.decode.values import count, dumps, mapping, name, pico_dollars, sequence, string_tags, text, timestamp
from transforms.decode.web import Address, provider_of_body

DESCRIBES: Final = "LangSmith runs as exported or asked for; runs of models and embeddings are calls, chains are ignored"
SIGNS: Final[tuple[str, ...]] = ("run_type",)

_CALLS: Final = {"llm": "chat", "embedding": "embedding"}
_PROVIDERS: Final = {
    "amazon_bedrock": "bedrock",
    "azure_openai": "azure",
    "google_genai": "gemini",
    "google_vertexai": "vertex",
    "mistralai": "mistral",
}
_ROLES: Final = {"human": "user", "humanmessagechunk": "user", "ai": "assistant", "aimessagechunk": "assistant"}


def detect(record: dict[str, Any]) -> bool:
    return type(record.get("run_type")) is str and not {"trace_id", "dotted_order", "session_id"}.isdisjoint(record)


def decode(record: dict[str, Any]) -> list[Call]:
    """The call a run is."""
    kind = record["run_type"]
    if kind not in _CALLS:
        raise Skipped("roll_up" if kind == "chain" else "not_a_model_call")
    if record.get("status") == "pending" or not (record.get("end_time") or record.get("outputs") or record.get("error")):
        raise Skipped("not_ended")
    call = Call()
    call.api, call.operation = openai_chat.API, _CALLS[kind]
    asked, answer, extra = (mapping(parse_json(record.get(field))) for field in ("inputs", "outputs", "extra"))
    metadata, settings = mapping(extra.get("metadata")), mapping(extra.get("invocation_params"))
    messages = _messages_of(answer)
    said = mapping(mapping(messages[-1]).get("response_metadata")) if messages else {}
    _texts(call, asked, answer, messages, settings)
    _names(call, record, metadata, settings, mapping(answer.get("llm_output")), said)
    _who(call, record, metadata)
    _when(call, record)
    _usage(call, record, answer, messages, metadata)
    error = record.get("error")
    if error:
        call.status = "error"
        call.error_type = name(scrub(str(error)).partition("(")[0].strip(), 64) or "error"
    elif messages and not call.stop_reason:
        call.stop_reason = name(said.get("finish_reason") or said.get("stop_reason"))
    return [call]


def _names(call: Call, record: dict[str, Any], *places: dict[str, Any]) -> None:
    """Model, provider and ids; ``places`` are metadata, settings, and what the answer says."""
    metadata, settings, output, said = places
    asked = metadata.get("ls_model_name") or settings.get("model") or settings.get("model_name")
    call.model_requested = name(asked) or call.model_requested
    served = said.get("model_name") or said.get("model") or output.get("model_name") or output.get("model")
    call.model = name(served) or call.model or call.model_requested
    if not call.model:
        raise Undecodable("bad_value", "extra.metadata.ls_model_name: the run names no model", "langsmith")
    provider = name(metadata.get("ls_provider")).lower()
    call.provider = _PROVIDERS.get(provider, provider) or provider_of_body("", call.model, {})
    call.service_tier = call.service_tier or name(said.get("service_tier"))
    call.span_id, call.trace_id = name(record.get("id")), name(record.get("trace_id"))
    call.parent_span_id = name(record.get("parent_run_id"))
    call.provider_call_id = call.provider_call_id or name(said.get("id") or output.get("id")) or call.span_id


def _who(call: Call, record: dict[str, Any], metadata: dict[str, Any]) -> None:
    """The project is the application; the conversation is a thread, under one of three names."""
    call.app, call.step = name(record.get("session_name")), name(record.get("name"))
    call.session_id = next(
        (name(metadata[key]) for key in ("thread_id", "session_id", "conversation_id") if metadata.get(key)), ""
    )
    tags: dict[str, str] = {}
    string_tags({key: value for key, value in metadata.items() if not key.startswith("ls_")}, tags)
    read_tags(parse_json(record.get("tags")), tags)
    if tags:
        promote_tags(call, tags)


def _when(call: Call, record: dict[str, Any]) -> None:
    times.start(call, record.get("start_time"))
    times.end(call, record.get("end_time"))
    times.settle(call)
    first = timestamp(record.get("first_token_time"))
    if first is not None and call.event_time and first[0] >= call.event_time:
        call.ttft_ms = (first[0] - call.event_time) / 1000
        call.stream = True


# ---- texts


def _texts(call: Call, asked: dict[str, Any], answer: dict[str, Any], messages: list[Any], settings: dict[str, Any]) -> None:
    """Prompt and answer: bodies of the vendor, as the wrappers of its SDK keep them, or messages of LangChain."""
    if call.operation == "embedding":
        return
    x = Exchange(asked, answer, None, Address(), {})
    api, body = pick(x)
    if (
        not messages
        and body is not None
        and body.texts
        and body.operation == "chat"
        and ("choices" in answer or "content" in answer)
    ):
        call.api = api
        body.ask(call, x)
        body.reply(call, x)
        return
    prompt = [_message(each) for each in _flat(asked.get("messages"))]
    prompt += [{"role": "user", "content": each} for each in _flat(asked.get("prompts")) if type(each) is str]
    if not prompt and not messages:
        call.params = params(settings)
        return
    tools = {key: settings[key] for key in ("tools", "tool_choice", "response_format") if settings.get(key)}
    reply = {"choices": [{"message": _message(each)} for each in messages]}
    kept = {key: value for key, value in settings.items() if not key.startswith("_")}
    x = Exchange({**kept, **tools, "messages": prompt}, reply, None, Address(), {})
    openai_chat.ask(call, x)
    openai_chat.reply(call, x)
    if call.content is not None and not prompt:
        call.content.complete = False


def _flat(given: Any) -> list[Any]:
    """A list, or the one list within it: LangChain asks for batches of one."""
    some = sequence(given)
    return [each for inner in some for each in inner] if some and all(type(each) is list for each in some) else some


def _messages_of(answer: dict[str, Any]) -> list[Any]:
    """What was answered, as the fields of messages."""
    found: list[Any] = []
    for each in map(mapping, _flat(answer.get("generations"))):
        message = mapping(each.get("message"))
        found.append(_fields(message) if message else {"type": "ai", "content": each.get("text")})
    return found


def _fields(message: Any) -> dict[str, Any]:
    """The fields of a message, also of one that LangChain has written as an object of its own."""
    given = mapping(message)
    inner = given.get("kwargs")
    if type(inner) is not dict:
        return given
    path = sequence(given.get("id"))  # ["langchain", "schema", "messages", "HumanMessage"]
    kind = text(path[-1]).removesuffix("Chunk").removesuffix("Message").lower() if path else ""
    return {"type": kind, **inner}


def _message(message: Any) -> dict[str, Any]:
    """A message as OpenAI's, which all of LangChain's fields go into."""
    given = _fields(message)
    kind = text(given.get("role")) or text(given.get("type")).lower()
    blocks = given.get("content")
    calls = [
        {"function": {"name": each.get("name"), "arguments": dumps(each.get("args")).decode()}}
        for each in map(mapping, sequence(given.get("tool_calls")))
        if "args" in each
    ] or given.get("tool_calls") or mapping(given.get("additional_kwargs")).get("tool_calls")  # fmt: skip
    if type(blocks) is list and calls:  # Anthropic's blocks name them a second time
        blocks = [each for each in blocks if mapping(each).get("type") != "tool_use"]
    said = {"role": _ROLES.get(kind, kind), "content": blocks, "tool_calls": calls or None, "name": given.get("name")}
    return {key: value for key, value in said.items() if value is not None}


# ---- usage


def _usage(call: Call, record: dict[str, Any], answer: dict[str, Any], messages: list[Any], metadata: dict[str, Any]) -> None:
    """The vendor's own usage, where its body holds it, stands; else what the first place tells that has any."""
    if call.usage_source == "none":
        for place in (answer, *map(mapping, messages), metadata):
            given = mapping(place.get("usage_metadata"))
            if given:
                _of_langchain(call, given)
                break
        else:
            _of_langchain(call, {
                "input_tokens": record.get("prompt_tokens"),
                "output_tokens": record.get("completion_tokens"),
                "total_tokens": record.get("total_tokens"),
                "input_token_details": record.get("prompt_token_details"),
                "output_token_details": record.get("completion_token_details"),
            })  # fmt: skip
        if call.usage_source != "none":
            call.usage_source = "gateway"
    cost = pico_dollars(record.get("total_cost"))
    if cost:  # none where LangSmith knows no price
        call.reported_cost, call.reported_cost_by = cost, "gateway"


def _of_langchain(call: Call, given: dict[str, Any]) -> None:
    read, written = (mapping(parse_json(given.get(f"{side}_token_details"))) for side in ("input", "output"))
    minutes, hour = _detail(read, "ephemeral_5m_input_tokens"), _detail(read, "ephemeral_1h_input_tokens")
    writes = _detail(read, "cache_creation", "cache_write")
    if minutes or hour:  # then LangChain sets what they come to to zero
        writes = max(writes or 0, (minutes or 0) + (hour or 0))
    usages.openai(
        call,
        {
            "prompt_tokens": given.get("input_tokens"),
            "completion_tokens": given.get("output_tokens"),
            "total_tokens": given.get("total_tokens"),
            "prompt_tokens_details": {
                "cached_tokens": _detail(read, "cache_read"),
                "cache_write_tokens": writes,
                "audio_tokens": _detail(read, "audio"),
            },
            "cache_creation": {"ephemeral_5m_input_tokens": minutes, "ephemeral_1h_input_tokens": hour},
            "completion_tokens_details": {
                "reasoning_tokens": _detail(written, "reasoning"),
                "audio_tokens": _detail(written, "audio"),
            },
        },
    )


def _detail(details: dict[str, Any], *names: str) -> int | None:
    """The tokens of a detail; its name may begin with the tier that served, as in ``flex_cache_read``."""
    found = [
        tokens
        for key, value in details.items()
        if key.endswith(names) and (tokens := count(value, f"usage_metadata {key[:60]}")) is not None
    ]
    return sum(found) if found else None
