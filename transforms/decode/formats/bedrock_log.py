"""Bedrock's model invocation log: one record for each Converse and InvokeModel, whole or streamed, in S3 or CloudWatch Logs.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-invocation-logging.html. The bodies are read as those of a recorded
call. The record's own counts are what Bedrock states in the headers of an answer, so they stand where no body tells the usage, as
when the bodies were put into S3 for their length.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import quote

from schemas.call import Call
from transforms.decode.errors import Undecodable
from transforms.decode.exchange import parse_json
from transforms.decode.formats import http_pair
from transforms.decode.usage import inconsistent
from transforms.decode.values import count, mapping, name, string_tags, text

DESCRIBES: Final = "Bedrock model invocation log, from S3 or CloudWatch Logs"
SIGNS: Final[tuple[str, ...]] = ("schemaType", "modelId")

_OPERATIONS: Final = {
    "Converse": "converse",
    "ConverseStream": "converse-stream",
    "InvokeModel": "invoke",
    "InvokeModelWithResponseStream": "invoke-with-response-stream",
}
_COUNTS: Final = (
    ("input", "inputTokenCount", "x-amzn-bedrock-input-token-count"),
    ("output", "outputTokenCount", "x-amzn-bedrock-output-token-count"),
    ("input", "cacheReadInputTokenCount", "x-amzn-bedrock-cache-read-input-token-count"),
    ("input", "cacheWriteInputTokenCount", "x-amzn-bedrock-cache-write-input-token-count"),
)


def detect(record: dict[str, Any]) -> bool:
    """By its type; forwarders may drop that, but not the model and the counts."""
    if record.get("schemaType") == "ModelInvocationLog":
        return True
    sent, got = mapping(record.get("input")), mapping(record.get("output"))
    return "modelId" in record and ("inputTokenCount" in sent or "outputTokenCount" in got)


def decode(record: dict[str, Any]) -> list[Call]:
    """The call that a record tells, and one for each other model that was asked within it."""
    sent, got = mapping(record.get("input")), mapping(record.get("output"))
    model = text(record.get("modelId"))
    if not model:
        raise Undecodable("bad_value", f"modelId: {str(record.get('modelId'))[:60]!r} is no model", "bedrock_log")
    said = {field: count(mapping(record.get(side)).get(field), f"{side}.{field}") for side, field, _ in _COUNTS}
    asked: Any = parse_json(sent.get("inputBodyJson"))
    answer: Any = parse_json(got.get("outputBodyJson"))
    if type(answer) is list:  # a stopped stream may end with "[DONE]"
        answer = [chunk for chunk in answer if type(chunk) is dict]
    outcomes = http_pair.decode(_pair(record, model, asked, answer, said))
    calls = [outcome for outcome in outcomes if isinstance(outcome, Call)]
    call = calls[0]
    call.account = name(record.get("accountId")) or call.account
    call.provider_call_id = call.provider_call_id or call.request_id
    _where(call, record)
    if "inputBodyS3Path" in sent or "outputBodyS3Path" in got:
        call.flag("body_offloaded")
        if call.content is not None:
            call.content.complete = False
    if call.usage_source != "none" and len(calls) == 1:
        _check(call, said)
    return calls


def _pair(record: dict[str, Any], model: str, asked: Any, answer: Any, said: dict[str, int | None]) -> dict[str, Any]:
    """The record as the recorded call that it tells of."""
    path = f"model/{quote(model, safe='')}/{_operation(record, asked, answer)}"
    error = name(record.get("errorCode"))
    status = record.get("status")
    pair: dict[str, Any] = {
        "url": f"https://bedrock-runtime.{_host_region(record)}.amazonaws.com/{path}",
        "request": {} if asked is None else asked,
        "response": {"error": {"type": error}} if error else answer,
        "time": record.get("timestamp"),
        "request_id": record.get("requestId"),
        "tags": _tags(record),
        "response_headers": {header: said[field] for _, field, header in _COUNTS if said[field] is not None},
    }
    if type(status) is int or (type(status) is str and status.isdigit()):
        pair["status"] = int(status)
    elif not error:
        pair["status"] = 200
    return pair


def _operation(record: dict[str, Any], asked: Any, answer: Any) -> str:
    """The last part of the address; of a record that does not name its operation, as its bodies look."""
    known = _OPERATIONS.get(text(record.get("operation")))
    if known:
        return known
    if "stopReason" in mapping(answer) or "inferenceConfig" in mapping(asked):
        return "converse"
    return "invoke-with-response-stream" if type(answer) is list else "invoke"


def _host_region(record: dict[str, Any]) -> str:
    region = text(record.get("region"))
    return region if region.replace("-", "").isalnum() else "unknown"


def _where(call: Call, record: dict[str, Any]) -> None:
    """The region that served the call; a call that was routed to another one is not of one region."""
    asked, served = text(record.get("region")), text(record.get("inferenceRegion"))
    call.region = served or asked
    if call.region_scope == "regional" and (not asked or (served and served != asked)):
        call.region_scope = ""


def _tags(record: dict[str, Any]) -> dict[str, str]:
    """What the caller wrote, and who it was: the resource of its ARN, without the name of a role's session."""
    tags: dict[str, str] = {}
    _, found, resource = name(mapping(record.get("identity")).get("arn"), 2048).rpartition(":")
    if found:
        kind, _, rest = resource.partition("/")
        who, slash, session = rest.partition("/")
        if kind == "assumed-role" and slash:
            tags = {"principal": f"{kind}/{who}", "principal_session": session}
        else:
            tags = {"principal": resource}
    string_tags(mapping(record.get("requestMetadata")), tags)
    return tags


def _check(call: Call, said: dict[str, int | None]) -> None:
    """Flag a call whose body tells another usage than the record around it; that of the body stands."""
    fresh = (call.input_fresh, call.input_audio, call.input_image)
    output = (call.output_visible, call.output_reasoning, call.output_audio, call.output_image)
    for field, leaves in (("inputTokenCount", fresh), ("outputTokenCount", output)):
        if said[field] is not None and leaves[0] is not None and said[field] != sum(leaf or 0 for leaf in leaves):
            inconsistent(call, "log_mismatch")
