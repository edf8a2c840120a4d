"""LiteLLM's StandardLoggingPayload: what its proxy and SDK hand to every logging callback.

Usage is taken from the vendor's own object where the payload carries it (``metadata.usage_object``, ``response.usage``),
else from the payload's counts. Its costs were wrong in many versions: they are kept as reported and never used instead
of the price book. A cost of zero is as good as none: it is what LiteLLM writes for a model that it has no price for.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import LEAVES, Call
from transforms.decode import times
from transforms.decode import usage as usages
from transforms.decode.bodies import (
    anthropic_messages,
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_responses,
)
from transforms.decode.content import params
from transforms.decode.context import promote_tags, read_tags
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.exchange import Body, Exchange, parse_json
from transforms.decode.values import count, mapping, name, pico_dollars, string_tags, text, timestamp
from transforms.decode.web import Address, account_of_arn, address, headers

DESCRIBES: Final = "LiteLLM StandardLoggingPayload, of the proxy's and SDK's logging callbacks"
SIGNS: Final[tuple[str, ...]] = ("model_map_information", "call_type")

_BODIES: Final[dict[str, tuple[Body, str]]] = {
    "completion": (openai_chat.BODY, "messages"),
    "text_completion": (openai_completions.BODY, "prompt"),
    "embedding": (openai_embeddings.BODY, "input"),
    "responses": (openai_responses.BODY, "input"),
    "anthropic_messages": (anthropic_messages.BODY, "messages"),
}
_OPERATIONS: Final = {"rerank": "rerank", "image_generation": "image", "image_edit": "image", "transcription": "audio",
                      "speech": "audio"}  # fmt: skip
_PROVIDERS: Final = {
    "azure_ai": "azure",
    "azure_text": "azure",
    "vertex_ai": "vertex",
    "vertex_ai_beta": "vertex",
    "bedrock_converse": "bedrock",
    "text-completion-openai": "openai",
    "ollama_chat": "ollama",
    "together_ai": "together",
    "cohere_chat": "cohere",
    "hosted_vllm": "vllm",
    "fireworks_ai": "fireworks",
    "watsonx_text": "watsonx",
}
_NO_MODEL: Final = frozenset({"list_models", "health_check", "create_file", "retrieve_batch", "create_batch"})


def detect(record: dict[str, Any]) -> bool:
    return "model_map_information" in record or ("call_type" in record and "custom_llm_provider" in record)


def decode(record: dict[str, Any]) -> list[Call]:
    """The call a payload is."""
    get = record.get
    kind = text(get("call_type"))
    plain = kind[1:] if kind.startswith("a") and kind != "anthropic_messages" else kind
    plain = plain.removeprefix("litellm_")
    if plain in _NO_MODEL:
        raise Skipped("control")
    if "count_tokens" in plain or plain == "token_counter":
        raise Skipped("count_tokens")
    response = mapping(parse_json(get("response")))
    body, where = _BODIES.get(plain, (None, ""))
    if body is None and plain not in _OPERATIONS and (not plain or "choices" in response):
        body, where = _BODIES["completion"]

    call = Call()
    hidden = mapping(get("hidden_params"))
    call.api = body.api if body is not None else plain
    call.operation = body.operation if body is not None else _OPERATIONS.get(plain, "chat")
    base = get("api_base") or hidden.get("api_base")
    host = address(base) if isinstance(base, str) else Address()
    provider = text(get("custom_llm_provider")).lower()
    call.provider = _PROVIDERS.get(provider, provider) or host.provider or "unknown"
    call.endpoint_host, call.region, call.region_scope = host.host, host.region, host.region_scope
    call.project, call.account = host.columns.get("project", ""), host.columns.get("account", "")
    call.provider_call_id = name(get("id"))
    call.stream = get("stream") is True
    _who(call, record)
    _when(call, record)

    request = dict(mapping(get("model_parameters")))
    given = parse_json(get("messages"))
    if where and given and given != "redacted-by-litellm":
        request[where] = given["messages"] if type(given) is dict and "messages" in given else given
    x = Exchange(request=request, answer=response, chunks=None, address=host, headers={})
    if body is not None:
        body.ask(call, x)
        if response and get("status") != "failure":
            body.reply(call, x)
        call.provider_call_id = name(get("id")) or call.provider_call_id
        content = call.content
        if content is not None and not content.prompt and not content.token_inputs:
            call.content = None  # prompts are not logged here
    else:
        call.params = params(request)
    _model(call, record, hidden, response)
    _usage(call, record, response)
    if get("status") == "failure":
        _failure(call, record)
    elif call.usage_source == "none" and call.content is None:
        raise Undecodable("unsupported_body", f"call_type {kind!r} reports neither usage nor text", "litellm")
    if get("cache_hit") is True or get("cache_hit") == "True":
        call.gateway_cache_hit = True
    cost = pico_dollars(get("response_cost"))
    if cost and get("status") != "failure":
        call.reported_cost, call.reported_cost_by = cost, "gateway"
    times.settle(call)
    return [call]


def _model(call: Call, record: dict[str, Any], hidden: dict[str, Any], response: dict[str, Any]) -> None:
    sent = text(record.get("model")) or text(hidden.get("litellm_model_name"))
    call.model_requested = name(record.get("model_group")) or name(sent)
    call.model = name(response.get("model")) or name(sent) or call.model_requested
    prefix, slash, rest = call.model.partition("/")
    if slash and prefix == text(record.get("custom_llm_provider")):
        call.model = rest
    call.deployment = call.deployment or name(record.get("model_id"))
    call.account = call.account or account_of_arn(sent)
    tier = name(mapping(hidden.get("additional_headers")).get("service_tier"))
    call.service_tier = call.service_tier or tier


def _who(call: Call, record: dict[str, Any]) -> None:
    metadata = mapping(record.get("metadata"))
    call.trace_id = name(record.get("trace_id"))
    call.end_user = name(record.get("end_user") or metadata.get("user_api_key_end_user_id"))
    call.team = name(metadata.get("user_api_key_team_alias") or metadata.get("user_api_key_team_id"))
    call.api_key_alias = name(metadata.get("user_api_key_alias"))
    call.headers = headers(
        metadata.get("requester_custom_headers"), mapping(record.get("hidden_params")).get("additional_headers")
    )
    tags: dict[str, str] = {}
    string_tags(mapping(metadata.get("requester_metadata")), tags)
    string_tags(mapping(metadata.get("spend_logs_metadata")), tags)
    read_tags(record.get("request_tags"), tags)
    for field, tag in (("user_api_key_user_id", "key_user"), ("user_api_key_org_id", "organization"),
                       ("user_api_key_project_id", "project")):  # fmt: skip
        if metadata.get(field):
            tags.setdefault(tag, name(metadata[field]))
    call.project = name(metadata.get("user_api_key_project_id")) or call.project
    call.account = call.account or name(metadata.get("user_api_key_org_id"))
    if tags:
        promote_tags(call, tags)
    attempts = metadata.get("attempted_retries")
    if type(attempts) is int:
        call.attempt = min(max(attempts, 0), 255)


def _when(call: Call, record: dict[str, Any]) -> None:
    times.start(call, record.get("startTime"))
    times.end(call, record.get("endTime"))
    first = timestamp(record.get("completionStartTime"))
    if first is not None and call.event_time and call.stream and first[0] >= call.event_time:
        call.ttft_ms = (first[0] - call.event_time) / 1000


def _usage(call: Call, record: dict[str, Any], response: dict[str, Any]) -> None:
    """The vendor's own usage object; LiteLLM brings all but Anthropic's into OpenAI's shape."""
    for leaf in LEAVES:
        if leaf in call.__dict__:
            setattr(call, leaf, None)
    call.usage_source, call.usage_quality, call.web_searches = "none", "", None
    call.flags = tuple(flag for flag in call.flags if flag == "tags_cut" or flag == "implausible_time")
    given = mapping(mapping(record.get("metadata")).get("usage_object")) or mapping(response.get("usage"))
    if given:
        if "input_tokens" in given and "cache_read_input_tokens" in given and "prompt_tokens" not in given:
            usages.anthropic(call, given)
        else:
            usages.openai(call, given)
        searches = mapping(given.get("server_tool_use")).get("web_search_requests")
        if searches is not None:
            call.web_searches = count(searches, "usage.web_search_requests")
    if call.usage_source == "none" and record.get("status") != "failure":
        counts = {key: record.get(key) for key in ("prompt_tokens", "completion_tokens", "total_tokens")}
        if any(counts.values()):
            usages.openai(call, counts)
    if call.usage_source != "none":
        call.usage_source = "gateway"


def _failure(call: Call, record: dict[str, Any]) -> None:
    """Failed calls carry the gateway's estimate of the prompt; nobody bills it."""
    call.status = "error"
    error = mapping(record.get("error_information"))
    call.error_type = name(error.get("error_class")) or "error"
    code = error.get("error_code")
    if isinstance(code, int) or (isinstance(code, str) and code.isdigit()):
        call.http_status = min(int(code), 599)
    if "ContentPolicy" in call.error_type:
        call.status = "blocked"
