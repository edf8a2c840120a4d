"""Kong AI Gateway's logs, of its http, file and Kafka plugins: one object for a request of a client, with an object in ``ai`` for
each plugin that asked a model (https://developer.konghq.com/ai-gateway/ai-audit-log-reference/).

One request may have asked models more often than the client did. Targets that the proxy tried before the one whose answer the
client got stand in ``tried_targets``, in order: each is a call that failed, whose usage nobody tells. So is the embedding that a
semantic cache made of the prompt. Versions 3.6 to 3.8 write ``prompt_token``. A cost of 0 means that no price was configured.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from transforms.decode import times
from transforms.decode import usage as usages
from transforms.decode.context import promote_tags
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.scrub import scrub
from transforms.decode.values import count, mapping, milliseconds, name, pico_dollars, sequence, string_tags, text
from transforms.decode.web import address, provider_of_body

DESCRIBES: Final = "Kong AI Gateway, of its http, file and Kafka logs; a call for each time a model was asked, texts are not read"
SIGNS: Final[tuple[str, ...]] = ("latencies",)

_MOST_TARGETS: Final = 64
_OPERATIONS: Final = {
    "embeddings": "embedding",
    "embedding": "embedding",
    "completion": "completion",
    "completions": "completion",
    "rerank": "rerank",
}
_PARTS: Final = ("prompt_tokens_details", "completion_tokens_details")

_Json = dict[str, Any]


def detect(record: _Json) -> bool:
    return "latencies" in record and "started_at" in record


def decode(record: _Json) -> list[Call]:
    """The calls of a request: of each plugin those of the targets that failed, in order, its own, and its cache's.

    Raises:
        Skipped: no plugin asked a model.
        Undecodable: a count of tokens is impossible.
    """
    calls: list[Call] = []
    for plugin in mapping(record.get("ai")).values():
        said = mapping(plugin)
        if name(mapping(said.get("meta")).get("request_model")) or name(mapping(said.get("meta")).get("response_model")):
            calls += _failed(record, said)
            calls.append(_answered(record, said))
        cache = mapping(said.get("cache")) or said
        if name(cache.get("embeddings_model")):
            calls.append(_embedded(record, cache, len(calls)))
    if not calls:
        raise Skipped("left_out")
    return calls


def _of_request(record: _Json, provider: str, model: str, number: str = "") -> Call:
    """A call with what the log tells of the client's request. ``number`` tells it from others of the same request."""
    call = Call()
    request = name(mapping(record.get("request")).get("id"))
    call.request_id = request
    call.provider_call_id = f"{request}:{number}" if request and number else request
    call.provider = provider.lower() or provider_of_body("", model, {})
    call.model = call.model_requested = model
    call.operation = "chat"
    call.api_key_alias = scrub(name(mapping(record.get("consumer")).get("username")))
    times.start(call, record.get("started_at"))
    tags: dict[str, str] = {}
    labels = {
        "workspace": record.get("workspace_name"),
        "route": mapping(record.get("route")).get("name"),
        "kong_service": mapping(record.get("service")).get("name"),
    }
    string_tags({tag: said for tag, said in labels.items() if said != ""}, tags)
    if tags:
        promote_tags(call, tags)
    return call


def _answered(record: _Json, said: _Json) -> Call:
    """The call whose answer the client got, or a cache's answer in its place."""
    meta, usage = mapping(said.get("meta")), mapping(said.get("usage"))
    asked, answered = name(meta.get("request_model")), name(meta.get("response_model"))
    call = _of_request(record, name(meta.get("provider_name")), answered or asked)
    call.model_requested = asked or answered
    call.operation = _OPERATIONS.get(text(meta.get("operation_name")), "chat")
    targets = _targets(said)
    if targets:
        _where(call, targets[-1])
    call.attempt = len(targets) if len(targets) > 1 else 0
    call.duration_ms = milliseconds(mapping(record.get("latencies")).get("request"))
    call.stream = meta.get("request_mode") == "stream"
    if call.stream:
        call.ttft_ms = milliseconds(usage.get("time_to_first_token"))
    times.settle(call)
    status = mapping(record.get("response")).get("status")
    call.http_status = _status(record.get("upstream_status") if status is None else status)
    call.status = "error" if call.http_status >= 400 else "ok"
    call.gateway_cache_hit = mapping(said.get("cache")).get("cache_status") == "Hit"
    _usage(call, usage)
    return call


def _usage(call: Call, usage: _Json) -> None:
    given: _Json = {side: mapping(usage.get(side)) for side in _PARTS}
    given["total_tokens"] = usage.get("total_tokens")
    for side in ("prompt", "completion"):
        value = usage.get(f"{side}_tokens")
        given[f"{side}_tokens"] = usage.get(f"{side}_token") if value is None else value
    usages.openai(call, given)
    if call.usage_source != "none":
        call.usage_source = "gateway"
    call.reported_cost = pico_dollars(usage.get("cost")) or None
    if call.reported_cost is not None:
        call.reported_cost_by = "gateway"


def _targets(said: _Json) -> list[_Json]:
    return [mapping(target) for target in sequence(said.get("tried_targets"))[:_MOST_TARGETS]]


def _failed(record: _Json, said: _Json) -> list[Call]:
    """The targets before the last: the next is tried only where one fails. The balancer's tries tell how, if they are as many."""
    targets = _targets(said)
    tries = sequence(record.get("tries"))
    calls = []
    for number, target in enumerate(targets[:-1]):
        meta = mapping(said.get("meta"))
        model = name(target.get("model")) or name(meta.get("request_model")) or name(meta.get("response_model"))
        call = _of_request(record, name(target.get("provider")) or name(meta.get("provider_name")), model, str(number + 1))
        call.operation = _OPERATIONS.get(text(meta.get("operation_name")), "chat")
        _where(call, target)
        call.attempt, call.status, call.error_type = number + 1, "error", "failover"
        if len(tries) == len(targets):
            call.http_status = _status(mapping(tries[number]).get("code"))
        times.settle(call)
        calls.append(call)
    return calls


def _where(call: Call, target: _Json) -> None:
    """Where a target is: its host; the vendor is what Kong says it is."""
    where = address(text(target.get("host"))).columns
    call.__dict__.update({column: value for column, value in where.items() if column not in ("provider", "stream")})


def _embedded(record: _Json, cache: _Json, number: int) -> Call:
    """The embedding of a prompt that a semantic cache looked for: the vendor bills it, the log tells no tokens of it."""
    model = name(cache.get("embeddings_model"))
    call = _of_request(record, name(cache.get("embeddings_provider")), model, f"embedding-{number}")
    call.operation = "embedding"
    call.duration_ms = milliseconds(cache.get("embeddings_latency"))
    times.settle(call)
    return call


def _status(value: Any) -> int:
    """An HTTP status, also as text; of several (Nginx lists those of all tries) the last. 0 for none."""
    last = text(value).replace(":", ",").split(",")[-1].strip() if type(value) is str else value
    try:
        return min(count(last or None, "status") or 0, 599)
    except Undecodable:
        return 0
