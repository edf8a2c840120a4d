"""TensorZero's rows: one ModelInference for each attempt of a provider that succeeded, which is what is billed.

The vendor's bodies stand in it as strings, streams as chunks one below the other; the columns hold input and output alone.
ChatInference and JsonInference sum ModelInferences up, so they carry no money. Labels are theirs alone; as one of them may stand
for several ModelInferences, they are read where whoever exports the rows has put them beside each.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from schemas.part import Part
from transforms.decode import usage as usages
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.exchange import parse_json
from transforms.decode.formats import event, http_pair
from transforms.decode.values import mapping, name, string_tags

DESCRIBES: Final = "TensorZero rows: ModelInference is a call; ChatInference and JsonInference sum calls up and are ignored"
SIGNS: Final[tuple[str, ...]] = ("model_provider_name", "variant_name")

_KEY: Final = "tensorzero::api_key_public_id"
_PROVIDERS: Final = {
    "aws_bedrock": "bedrock",
    "google_ai_studio_gemini": "gemini",
    "gcp_vertex_gemini": "vertex",
    "gcp_vertex_anthropic": "vertex",
    "hyperbolic": "hyperbolic",
    "tgi": "self_hosted",
    "sglang": "self_hosted",
}


def detect(record: dict[str, Any]) -> bool:
    if "model_provider_name" in record:
        return "inference_id" in record
    return "episode_id" in record and "function_name" in record


def decode(record: dict[str, Any]) -> list[Call | Part]:
    """The calls of a row."""
    if "model_provider_name" not in record:
        raise Skipped("roll_up")
    get = record.get
    tags = _tags(record)
    provider = name(get("model_provider_name")).lower()
    around = {
        "provider": _PROVIDERS.get(provider, provider),
        "duration_ms": get("response_time_ms"),
        "ttft_ms": get("ttft_ms"),
        "started_at": get("timestamp"),
        "gateway_cache_hit": get("cached") is True,
        "request_id": name(get("inference_id")),
        "span_id": name(get("id")),
        "trace_id": name(get("inference_id")),
        "session_id": name(get("episode_id")),
        "api_key_alias": tags.get(_KEY, ""),
        "tags": tags,
    }
    outcomes: list[Call | Part]
    try:
        outcomes = http_pair.decode({"request": get("raw_request"), "response": get("raw_response"), **around})
    except Undecodable as problem:  # bodies that are not kept or not read: the columns tell what there is
        if problem.reason == "bad_value" or get("input_tokens") is None:
            raise
        model = name(get("model_name")).rpartition("::")[2]
        outcomes = [*event.decode({"schema": event.SCHEMA, "model": model, **around})]
    call = outcomes[0].call if isinstance(outcomes[0], Part) else outcomes[0]
    if call is not None:
        call.model_requested = call.model_requested or name(get("model_name")).rpartition("::")[2]
        call.model = call.model or call.model_requested
        call.stop_reason = call.stop_reason or name(get("finish_reason"))
        if call.usage_source == "none" and call.status in ("ok", "incomplete"):
            usages.openai(call, {"prompt_tokens": get("input_tokens"), "completion_tokens": get("output_tokens")})
            if call.usage_source != "none":
                call.usage_source = "gateway"
                call.status = "ok"
                call.flags = tuple(flag for flag in call.flags if flag != "no_answer")
    return outcomes


def _tags(record: dict[str, Any]) -> dict[str, str]:
    """The labels of its inference that stand beside a row: an object, or one as a string."""
    tags: dict[str, str] = {}
    string_tags(mapping(parse_json(record.get("tags"))), tags)
    string_tags({"function": record.get("function_name"), "variant": record.get("variant_name")}, tags)
    return tags
