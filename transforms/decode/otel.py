"""What the attributes of OpenTelemetry say of a call: all generations of its GenAI conventions, and the dialects beside them.

Three generations of the conventions are in use at once (https://github.com/open-telemetry/semantic-conventions-genai), and three
dialects: OpenLLMetry (``llm.usage.*``, ``gen_ai.prompt.0.content``), OpenInference (``llm.token_count.*``), and the AI SDK
(``ai.*``). A column takes the first of its names that says something. Attributes come as plain values by their whole names.

Spans that sum up others (agents, chains, workflows) repeat the usage of the calls below them: they are no calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from schemas.call import Call
from transforms.decode import times
from transforms.decode import usage as usages
from transforms.decode.content import params
from transforms.decode.context import COLUMN_TAGS, promote_tags, read_tags
from transforms.decode.errors import Undecodable
from transforms.decode.exchange import parse_json
from transforms.decode.otel_content import read_content
from transforms.decode.values import count, mapping, milliseconds, name, string_tags
from transforms.decode.web import KNOWN_PROVIDERS, address, provider_of_body

_Attributes = Mapping[str, Any]

ROLL_UP: Final = "roll_up"
OTHER: Final = "not_a_model_call"
TOOL: Final = "tool"
"""Kinds of spans that are no calls; beside them, a kind is the operation of a call. A tool may call models on its own account."""


class Resource(NamedTuple):
    """What many spans share: the attributes of what wrote them, and what of these goes on each call."""

    attributes: dict[str, Any]
    tags: dict[str, str]
    columns: dict[str, str]


class Given(NamedTuple):
    """One span or log record: its attributes, its resource, and the name of the instrumentation that wrote it."""

    attributes: dict[str, Any]
    resource: Resource
    scope: str


# ---- what a span is

_OPERATIONS: Final = {
    "chat": "chat",
    "generate_content": "chat",
    "completion": "chat",  # the name of LiteLLM's function, whose every call is a chat
    "acompletion": "chat",
    "text_completion": "completion",
    "embeddings": "embedding",
    "embedding": "embedding",
    "aembedding": "embedding",
    "rerank": "rerank",
    "arerank": "rerank",
    "image_generation": "image",
    "generate_image": "image",
    "transcription": "audio",
    "speech": "audio",
    "invoke_agent": ROLL_UP,
    "invoke_workflow": ROLL_UP,
    "plan": ROLL_UP,
    "create_agent": OTHER,
    "retrieval": OTHER,
    "execute_tool": TOOL,
}
_KINDS: Final = {
    "LLM": "chat",
    "CHAT_MODEL": "chat",
    "GENERATION": "chat",
    "EMBEDDING": "embedding",
    "AGENT": ROLL_UP,
    "CHAIN": ROLL_UP,
    "WORKFLOW": ROLL_UP,
    "TASK": ROLL_UP,
    "TOOL": TOOL,
}
"""Kinds of OpenInference, OpenLLMetry, MLflow and Langfuse; other kinds (retriever, guardrail, evaluator …) are no calls."""

_KIND_NAMES: Final = ("openinference.span.kind", "mlflow.spanType", "traceloop.span.kind", "langfuse.observation.type")
_REQUEST_TYPES: Final = {"chat": "chat", "completion": "completion", "embedding": "embedding", "rerank": "rerank"} | {
    kind: _OPERATIONS[kind] for kind in ("acompletion", "aembedding", "arerank")
}

_REQUESTED: Final = (
    "gen_ai.request.model",
    "llm.request.model",
    "llm.model_name",
    "embedding.model_name",
    "reranker.model_name",
    "ai.model.id",
    "mlflow.llm.model",
)
_ANSWERED: Final = ("gen_ai.response.model", "llm.response.model", "ai.response.model")
_MODELS: Final = frozenset({*_REQUESTED, *_ANSWERED})

_INPUT: Final = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.usage.prompt_tokens",
    "llm.token_count.prompt",
    "ai.usage.inputTokens",
    "ai.usage.promptTokens",
    "ai.usage.tokens",
)
_OUTPUT: Final = (
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.usage.completion_tokens",
    "llm.token_count.completion",
    "ai.usage.outputTokens",
    "ai.usage.completionTokens",
)
_TOTAL: Final = ("gen_ai.usage.total_tokens", "llm.usage.total_tokens", "llm.token_count.total", "ai.usage.totalTokens")
_CACHE_READ: Final = (
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "llm.usage.cache_read_input_tokens",
    "llm.token_count.prompt_details.cache_read",
    "ai.usage.cachedInputTokens",
)
_CACHE_WRITE: Final = (
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "llm.usage.cache_creation_input_tokens",
    "llm.token_count.prompt_details.cache_write",
)
_REASONING: Final = (
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "llm.usage.reasoning_tokens",
    "llm.token_count.completion_details.reasoning",
    "ai.usage.reasoningTokens",
)
_AUDIO_IN: Final = ("gen_ai.usage.audio.input_tokens", "llm.token_count.prompt_details.audio")
_AUDIO_READ: Final = ("gen_ai.usage.audio.cache_read.input_tokens",)
_IMAGE_IN: Final = ("gen_ai.usage.image.input_tokens",)
_IMAGE_READ: Final = ("gen_ai.usage.image.cache_read.input_tokens",)
_AUDIO_OUT: Final = ("gen_ai.usage.audio.output_tokens", "llm.token_count.completion_details.audio")
_IMAGE_OUT: Final = ("gen_ai.usage.image.output_tokens",)
_USAGE: Final = frozenset({*_INPUT, *_OUTPUT, *_TOTAL})

TELLING: Final = frozenset({"gen_ai.operation.name", "llm.request.type", "ai.operationId", *_KIND_NAMES}) | _MODELS | _USAGE
"""Attributes of which every span of a call has at least one."""


def kind_of(attributes: _Attributes) -> str:
    """The operation of the call that a span or a log record is; else ``ROLL_UP``, ``TOOL`` or ``OTHER``."""
    if TELLING.isdisjoint(attributes):
        return OTHER  # nearly all spans of a service
    said = attributes.get("gen_ai.operation.name")
    if type(said) is str and said.lower() in _OPERATIONS:
        return _OPERATIONS[said.lower()]
    for each in _KIND_NAMES:
        said = attributes.get(each)
        kind = said.upper() if type(said) is str else ""
        if kind and kind != "UNKNOWN":
            if kind == "RERANKER" and each == "openinference.span.kind":
                return "rerank"
            return _KINDS.get(kind, OTHER)
    said = attributes.get("llm.request.type")
    if type(said) is str and said in _REQUEST_TYPES:
        return _REQUEST_TYPES[said]
    said = attributes.get("ai.operationId")
    if type(said) is str and said.startswith("ai."):
        return _of_ai_sdk(said)
    if not _MODELS.isdisjoint(attributes):
        return "chat"
    return ROLL_UP if has_usage(attributes) else OTHER  # no call is without a model


def _of_ai_sdk(operation: str) -> str:
    """``ai.generateText`` sums up its steps, ``ai.generateText.doGenerate`` is one of them."""
    last = operation.rpartition(".")[2]
    if last == "toolCall":
        return TOOL
    if last.startswith("doEmbed"):
        return "embedding"
    return "chat" if last.startswith("do") else ROLL_UP


def has_usage(attributes: _Attributes) -> bool:
    """Whether any tokens are told."""
    return any(attributes.get(each) is not None for each in _USAGE & attributes.keys())


# ---- who, what, when

_TEXTS: Final = (
    ("model_requested", _REQUESTED),
    ("model", _ANSWERED),
    ("provider_call_id", ("gen_ai.response.id", "llm.response.id", "ai.response.id")),
    ("session_id", ("gen_ai.conversation.id", "session.id", "langfuse.session.id")),
    ("end_user", ("user.id", "enduser.id", "langfuse.user.id", "llm.user")),
    ("agent", ("gen_ai.agent.name", "agent.name")),
    ("step", ("traceloop.entity.name", "traceloop.entity.path")),
    ("template", ("gen_ai.prompt.name", "traceloop.prompt.key")),
    ("service_tier_requested", ("openai.request.service_tier", "gen_ai.openai.request.service_tier")),
    ("service_tier", ("openai.response.service_tier", "gen_ai.openai.response.service_tier")),
)
"""Columns, and the attributes that fill them."""

_COLUMNS: Final = frozenset(dict(_TEXTS))

_ENVIRONMENTS: Final = ("deployment.environment.name", "deployment.environment", "langfuse.environment")
_TENANT: Final = "llm_finops.tenant"

_PROVIDERS: Final = {
    "azure.ai.openai": "azure",
    "az.ai.openai": "azure",
    "azure.ai.inference": "azure",
    "az.ai.inference": "azure",
    "azure_openai": "azure",
    "aws.bedrock": "bedrock",
    "aws_bedrock": "bedrock",
    "amazon_bedrock": "bedrock",
    "aws": "bedrock",
    "gcp.vertex_ai": "vertex",
    "vertex_ai": "vertex",
    "vertexai": "vertex",
    "gcp.gemini": "gemini",
    "gcp.gen_ai": "gemini",
    "google": "gemini",
    "google_genai": "gemini",
    "google_generativeai": "gemini",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "x_ai": "xai",
    "ibm.watsonx.ai": "watsonx",
    "together_ai": "together",
    "moonshot_ai": "moonshot",
}
_NO_PROVIDERS: Final = frozenset({"langchain", "llamaindex", "haystack", "crewai", "litellm", "unknown", "_other"})
"""Frameworks that name themselves where the vendor is to be named."""

_ANY_HOST: Final = frozenset({"", "openai", "anthropic"})
"""What is said of the vendor by clients that many vendors can be reached with: the host tells more."""

_CLOUDS: Final = {
    "bedrock": ("aws", "account"),
    "azure": ("azure", "account"),
    "vertex": ("gcp", "project"),
    "gemini": ("gcp", "project"),
}
"""Where a service that runs in a vendor's cloud is likely to have its calls billed."""

_PREFIXED: Final = (
    "traceloop.association.properties.",
    "langfuse.trace.metadata.",
    "langfuse.observation.metadata.",
    "ai.telemetry.metadata.",
)
_LABELS: Final = COLUMN_TAGS - {"service.name", "service_name"}  # one name is enough: ``service``
_OF_RESOURCE: Final = ("service.namespace", "cloud.account.id")
_PROPERTIES: Final = {"session_id": "session_id", "user_id": "end_user", "sessionId": "session_id", "userId": "end_user"}


_FIELDS: Final = {
    **dict(_TEXTS),
    "provider": ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system", "ai.model.provider"),
    "host": ("gen_ai.openai.api_base", "server.address", "url.full"),
    "stream": ("gen_ai.request.stream", "gen_ai.request.is_stream", "llm.is_streaming"),
    "first_chunk": ("gen_ai.response.time_to_first_chunk", "gen_ai.server.time_to_first_token"),
    "reasons": (
        "gen_ai.response.finish_reasons",
        "gen_ai.completion.0.finish_reason",
        "llm.response.finish_reason",
        "llm.finish_reason",
        "ai.response.finishReason",
    ),
    "http_status": ("http.response.status_code", "http.status_code"),
    "input": _INPUT,
    "output": _OUTPUT,
    "total": _TOTAL,
    "cache_read": _CACHE_READ,
    "cache_write": _CACHE_WRITE,
    "reasoning": _REASONING,
    "audio_in": _AUDIO_IN,
    "audio_read": _AUDIO_READ,
    "image_in": _IMAGE_IN,
    "image_read": _IMAGE_READ,
    "audio_out": _AUDIO_OUT,
    "image_out": _IMAGE_OUT,
}
"""What is read of a call, and the attributes that tell it: the first that says anything does."""

_FIELD_OF: Final = {attribute: (rank, field) for field, names in _FIELDS.items() for rank, attribute in enumerate(names)}

_Told = dict[str, tuple[int, str, Any]]
"""Of a field: the rank and the name of the attribute that tells it, and what it says."""


def _told(attributes: _Attributes) -> _Told:
    """The fields that attributes tell, in one look at them: there are four times as many names as a span has attributes."""
    found: _Told = {}
    for key in attributes.keys() & _FIELD_OF.keys():
        value = attributes[key]
        if value is None or value == "":
            continue
        rank, field = _FIELD_OF[key]
        have = found.get(field)
        if have is None or rank < have[0]:
            found[field] = (rank, key, value)
    return found


def _value(told: _Told, field: str) -> Any:
    have = told.get(field)
    return None if have is None else have[2]


def first(attributes: _Attributes, names: tuple[str, ...]) -> Any:
    """What the first of the names says that says anything; else None."""
    for each in names:
        value = attributes.get(each)
        if value is not None and value != "":
            return value
    return None


def resource_of(attributes: dict[str, Any]) -> Resource:
    """A resource, by its attributes."""
    tags, columns = _labels(attributes)
    string_tags({"service": attributes.get("service.name"), **{key: attributes.get(key) for key in _OF_RESOURCE}}, tags)
    columns["environment"] = name(first(attributes, _ENVIRONMENTS))
    columns["tenant"] = name(attributes.get(_TENANT))
    return Resource(attributes, tags, {column: said for column, said in columns.items() if said})


def read_call(call: Call, given: Given) -> None:
    """Write on a call what its attributes tell, other than when it was and how its span ended. ``operation`` is to be set.

    Raises:
        Undecodable: a count is impossible.
    """
    attributes, resource = given.attributes, given.resource
    told, columns = _told(attributes), call.__dict__
    for column in _COLUMNS & told.keys():
        columns[column] = name(told[column][2])
    call.model_requested = call.model_requested or call.model
    call.model = call.model or call.model_requested
    _who_answers(call, told, attributes)
    call.tenant = name(attributes.get(_TENANT))
    call.environment = name(first(attributes, _ENVIRONMENTS))
    _tags(call, attributes, resource)
    _bill(call, resource.attributes)
    settings = _settings(attributes)
    _request(call, told, attributes, settings)
    _outcome(call, told, attributes)
    read_usage(call, told, given.scope)
    _texts(call, attributes, settings)


def beside(given: Given) -> dict[str, Any]:
    """What of a span only configured tags look at."""
    return {"resource": given.resource.attributes, "attribute": given.attributes}


def _who_answers(call: Call, told: _Told, attributes: _Attributes) -> None:
    said = _value(told, "provider")
    vendor = said.strip().lower() if type(said) is str else ""
    if "ai.model.provider" in attributes:  # of the AI SDK: openai.responses, google.generative-ai
        vendor = vendor if vendor in _PROVIDERS else vendor.partition(".")[0]
    vendor = "" if vendor in _NO_PROVIDERS else _PROVIDERS.get(vendor, vendor)
    host = _value(told, "host")
    if type(host) is str:
        port = attributes.get("server.port")
        where = address(host if port is None or "/" in host or str(port) in ("443", "80") else f"{host}:{name(port)}")
        call.__dict__.update({key: value for key, value in where.columns.items() if key not in ("provider", "stream")})
        if vendor in _ANY_HOST and where.provider in KNOWN_PROVIDERS:
            vendor = where.provider
    call.provider = name(vendor) or provider_of_body("", call.model, {})


def _bill(call: Call, resource: _Attributes) -> None:
    """The account or project that a service runs in is the one it calls with, where nothing else is said."""
    cloud, column = _CLOUDS.get(call.provider, ("", ""))
    if cloud and resource.get("cloud.provider") == cloud and not getattr(call, column):
        setattr(call, column, name(resource.get("cloud.account.id")))


def _labels(attributes: _Attributes) -> tuple[dict[str, str], dict[str, str]]:
    """Tags among attributes, and columns that are filled by what is no tag but stands among them: users, sessions."""
    named = _LABELS & attributes.keys()
    tags: dict[str, str] = {}
    columns: dict[str, str] = {}
    if named:
        string_tags({key: attributes[key] for key in sorted(named)}, tags)
    for key, value in attributes.items():
        if key.startswith(_PREFIXED):
            short = key[len(next(filter(key.startswith, _PREFIXED))) :]
            column = _PROPERTIES.get(short)
            if column:
                columns[column] = columns.get(column) or name(value)
            if column != "end_user":
                string_tags({short: value}, tags)
    return tags, columns


def _tags(call: Call, attributes: _Attributes, resource: Resource) -> None:
    """Labels of the span, then of its resource; names that have a column fill it."""
    tags, columns = _labels(attributes)
    if "metadata" in attributes:
        string_tags(mapping(parse_json(attributes["metadata"])), tags)
    for each in ("tag.tags", "langfuse.trace.tags"):
        if each in attributes:
            read_tags(parse_json(attributes[each]), tags)
    if "traceloop.workflow.name" in attributes:
        string_tags({"workflow": attributes["traceloop.workflow.name"]}, tags)
    for key, said in resource.tags.items():
        tags.setdefault(key, said)
    for column, said in (columns | resource.columns if columns else resource.columns).items():
        if not getattr(call, column):
            setattr(call, column, columns.get(column) or said)
    if tags:
        promote_tags(call, tags)


def _request(call: Call, told: _Told, attributes: _Attributes, settings: dict[str, Any]) -> None:
    stream = _value(told, "stream")
    call.stream = stream is True or stream == "true"
    seconds = milliseconds(_value(told, "first_chunk"))
    wait = milliseconds(attributes.get("ai.response.msToFirstChunk")) if seconds is None else seconds * 1000
    if wait is not None:
        call.ttft_ms, call.stream = wait, True
    limit = name(settings.get("max_tokens") or settings.get("max_completion_tokens"))
    if limit.isascii() and limit.isdigit() and len(limit) < 10:
        call.max_tokens = int(limit)


def _texts(call: Call, attributes: _Attributes, settings: dict[str, Any]) -> None:
    """Settings and texts. What cannot be read of them costs a call with usage neither its money nor its place."""
    try:
        call.params = params(settings)
        read_content(call, attributes)
    except Undecodable:
        call.content = None
        call.flag("content_unreadable")


def _settings(attributes: _Attributes) -> dict[str, Any]:
    begin = "gen_ai.request."
    settings = {
        key[len(begin) :]: value for key, value in attributes.items() if key.startswith(begin) and key not in _NO_SETTINGS
    }
    if "llm.invocation_parameters" in attributes:
        settings = {**mapping(parse_json(attributes["llm.invocation_parameters"])), **settings}
    return settings


_NO_SETTINGS: Final = frozenset({"gen_ai.request.model", "gen_ai.request.stream", "gen_ai.request.is_stream"})


_FILTERED: Final = frozenset({"content_filter", "content-filter", "safety", "guardrail_intervened"})


def _outcome(call: Call, told: _Told, attributes: _Attributes) -> None:
    reasons = _value(told, "reasons")
    if type(reasons) is str and reasons[:1] == "[":  # attributes that are labels are lists in strings
        reasons = parse_json(reasons)
    call.stop_reason = name(next((each for each in reasons if each), "") if type(reasons) is list else reasons)
    if call.stop_reason.lower() in _FILTERED:
        call.status = "blocked"
    kind = attributes.get("error.type")
    if kind is not None:
        failed(call, name(kind))
    status = _value(told, "http_status")
    if status is not None and str(status).isdecimal():
        call.http_status = min(int(str(status)[:4]), 599)


def failed(call: Call, kind: str) -> None:
    """The call ended in an error of this kind; a kind that is a number is an HTTP status."""
    call.status = "blocked" if kind == "content_filter" else "error"
    call.error_type = call.error_type or kind or "error"
    if kind.isdecimal() and len(kind) == 3:
        call.http_status = min(int(kind), 599)


def ended(call: Call, start: Any, end: Any) -> None:
    """When it was."""
    times.start(call, start)
    times.end(call, end)
    times.settle(call)


# ---- usage

_EXCLUDE_CACHE: Final = frozenset({"opentelemetry.instrumentation.bedrock"})
"""Instrumentations whose input leaves out what a cache served or stored; the conventions want it inside."""

_EXCLUDE_REASONING: Final = frozenset(
    {"opentelemetry.instrumentation.google_generativeai", "opentelemetry.instrumentation.vertexai"}
)
"""Instrumentations whose output leaves out reasoning."""


def _count(told: _Told, field: str) -> int | None:
    have = told.get(field)
    return None if have is None else count(have[2], have[1])


def read_usage(call: Call, told: _Told, scope: str) -> None:
    """Tokens as the conventions have them: input with what caches served and stored, output with reasoning.

    Where an instrumentation is known to leave a part out, or the figures can mean nothing else (the cached part exceeds the
    whole, or the total holds it beside), the part is added before the leaves are split. What the attributes say stays in the
    ``vendor_*`` columns.
    """
    prompt, output, total = _count(told, "input"), _count(told, "output"), _count(told, "total")
    if prompt is None and output is None and total is None:
        return
    read, write, reasoning = _count(told, "cache_read"), _count(told, "cache_write"), _count(told, "reasoning")
    scope = scope.removesuffix(".v1")
    cached, thought = (read or 0) + (write or 0), reasoning or 0
    whole_in, whole_out = prompt, output
    if prompt is not None and cached:
        told_apart = total is not None and total == prompt + (output or 0) + cached
        impossible = cached > prompt and call.provider in ("anthropic", "bedrock", "vertex")
        if scope in _EXCLUDE_CACHE or told_apart or impossible:
            whole_in = prompt + cached
            if scope not in _EXCLUDE_CACHE:
                call.flag("input_excludes_cache")
    if output is not None and thought and scope in _EXCLUDE_REASONING:
        whole_out = output + thought
    sums = ((prompt or 0) + (output or 0), (whole_in or 0) + (whole_out or 0), (whole_in or 0) + (output or 0))
    changed = whole_in != prompt or whole_out != output
    usages.openai(
        call,
        {
            "prompt_tokens": whole_in,
            "completion_tokens": whole_out,
            "total_tokens": None if changed and total in sums else total,
            "prompt_tokens_details": {
                "cached_tokens": read,
                "cache_write_tokens": write,
                "audio_tokens": _uncached(told, "audio_in", "audio_read"),
                "image_tokens": _uncached(told, "image_in", "image_read"),
            },
            "completion_tokens_details": {
                "reasoning_tokens": reasoning,
                "audio_tokens": _count(told, "audio_out"),
                "image_tokens": _count(told, "image_out"),
            },
        },
    )
    call.vendor_input, call.vendor_output, call.vendor_total = prompt, output, total


def _uncached(told: _Told, all_of: str, cached: str) -> int | None:
    tokens = _count(told, all_of)
    return None if tokens is None else max(tokens - (_count(told, cached) or 0), 0)
