"""LiteLLM's SpendLogs: rows of the table its proxy writes, also by way of Pub/Sub.

A row is brought into the shape of the StandardLoggingPayload, which ``litellm`` reads. Objects are strings of JSON in it, empty
where nothing was stored; ``cache_hit`` is the string None, True or False. The hash of the caller's key is never read.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call
from transforms.decode.errors import Skipped
from transforms.decode.exchange import parse_json
from transforms.decode.formats import litellm
from transforms.decode.values import mapping, name

DESCRIBES: Final = "LiteLLM SpendLogs, rows of its proxy's table"
SIGNS: Final[tuple[str, ...]] = ("spend",)

_EMPTY: Final[tuple[Any, ...]] = ("", "{}", "[]", None, {}, [])
_SAME: Final = (
    "call_type", "custom_llm_provider", "startTime", "endTime", "completionStartTime", "model", "model_group", "model_id",
    "api_base", "end_user", "cache_hit", "prompt_tokens", "completion_tokens", "total_tokens",
)  # fmt: skip


def detect(record: dict[str, Any]) -> bool:
    return "spend" in record and "request_id" in record and ("api_key" in record or "call_type" in record)


def decode(record: dict[str, Any]) -> list[Call]:
    """The call a row is."""
    if record.get("mcp_namespaced_tool_name") and not record.get("total_tokens"):
        raise Skipped("control")  # a tool was called, no model
    metadata = dict(mapping(parse_json(record.get("metadata"))))
    for field, row in (
        ("user_api_key_user_id", "user"),
        ("user_api_key_team_id", "team_id"),
        ("user_api_key_org_id", "organization_id"),
        ("user_api_key_end_user_id", "end_user"),
    ):
        metadata[field] = metadata.get(field) or record.get(row)
    asked = mapping(_stored(record.get("proxy_server_request")))
    asked = mapping(asked.get("body")) or asked
    payload = {field: record.get(field) for field in _SAME} | {
        "id": record.get("request_id"),
        "trace_id": record.get("session_id"),  # which is what the payload calls trace_id
        "metadata": metadata,
        "request_tags": _stored(record.get("request_tags")),
        "messages": _stored(record.get("messages")) or asked.get("messages"),
        "response": _stored(record.get("response")),
        "response_cost": record.get("spend"),
        "status": record.get("status") or metadata.get("status"),
        "error_information": metadata.get("error_information"),
        "model_parameters": {key: value for key, value in asked.items() if key not in ("messages", "model")},
        "stream": asked.get("stream"),
    }
    calls = litellm.decode(payload)
    for call in calls:
        call.request_id = name(record.get("request_id"))
        call.spillover = bool(metadata.get("azure_spillover"))
        call.agent = name(record.get("agent_id"))
    return calls


def _stored(value: Any) -> Any:
    return None if value in _EMPTY else parse_json(value)
