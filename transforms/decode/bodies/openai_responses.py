"""OpenAI Responses, whole and streamed."""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call, Content, Message, Part
from transforms.decode import usage as usages
from transforms.decode.content import (
    arguments_text,
    chosen_tool,
    content_of,
    index_of,
    is_redacted,
    media_part,
    params,
    role_of,
)
from transforms.decode.exchange import Body, Exchange
from transforms.decode.history import read_history
from transforms.decode.times import created, end
from transforms.decode.values import count, dumps, mapping, name, sequence, text

API: Final = "openai.responses"

_SERVER_STATE: Final = ("previous_response_id", "conversation", "prompt", "context_management")
"""The vendor puts earlier turns or a stored template before what the request says."""

_CLIENT_TOOLS: Final = ("function", "custom")
_STATUSES: Final = {
    "completed": "ok",
    "incomplete": "incomplete",
    "in_progress": "incomplete",
    "queued": "incomplete",
    "failed": "error",
    "cancelled": "cancelled",
}
_WAITING: Final = ("queued", "in_progress")


def ask(call: Call, x: Exchange) -> None:
    request = x.request
    call.model_requested = name(request.get("model"))
    if request.get("stream"):
        call.stream = True
    limit = request.get("max_output_tokens")
    if limit:
        call.max_tokens = count(limit, "max_output_tokens")
    tier = request.get("service_tier")
    if tier:
        call.service_tier_requested = name(tier)
    key = request.get("prompt_cache_key")
    if key:
        call.cache_key = name(key)
    user = request.get("safety_identifier") or request.get("user")
    if user and not call.end_user:
        call.end_user = name(user)
    call.params = params(request)

    content = content_of(call)
    instructions = request.get("instructions")
    if instructions:
        if type(instructions) is str:
            content.prompt.append(Message("system", (Part("text", instructions),)))
        else:
            for item in sequence(instructions):
                read_item(item, content, content.prompt)
    given = request.get("input")
    if type(given) is str:
        content.prompt.append(Message("user", (Part("text", given),)))
    if is_redacted(content.prompt):
        content.complete = False
    if type(given) is list:
        read_history(given, read_item, content)
    tools = request.get("tools")
    if tools:
        content.tools_json = dumps(tools)
        for tool in sequence(tools):
            if mapping(tool).get("type", "function") not in _CLIENT_TOOLS:
                content.complete = False  # a hosted tool: what it returns is put into the prompt unseen
    choice = request.get("tool_choice")
    if choice:
        content.tool_choice = chosen_tool(choice)
    shape = mapping(request.get("text")).get("format")
    if type(shape) is dict and "schema" in shape:
        content.schema_json = dumps(shape)
    for each in _SERVER_STATE:
        if request.get(each):
            content.complete = False
    reasoning = request.get("reasoning")
    if reasoning and mapping(reasoning).get("mode") == "pro":  # several passes, each over more than was asked
        content.complete = False


def read_item(item: Any, content: Content, into: list[Message]) -> None:
    """One item of ``input`` or ``output``."""
    if type(item) is str:
        into.append(Message("user", (Part("text", item),)))
        return
    if type(item) is not dict:
        return
    what = item.get("type")
    if what is None or what == "message":
        role = role_of(item.get("role"), "assistant")
        said = item.get("content")
        if type(said) is str:
            into.append(Message(role, (Part("text", said),) if said else ()))
            return
        parts: list[Part] = []
        for block in sequence(said):
            _read_part(block, parts, content, "text")
        into.append(Message(role, tuple(parts)))
    elif what in ("function_call", "custom_tool_call"):
        arguments = item.get("arguments") if what == "function_call" else item.get("input")
        call = Part("call", arguments_text(arguments), name(item.get("name")), None, bool(item.get("id")))
        into.append(Message("assistant", (call,)))
    elif what in ("function_call_output", "custom_tool_call_output"):
        output = item.get("output")
        if type(output) is list:
            results: list[Part] = []
            for block in output:
                _read_part(block, results, content, "result")
            into.append(Message("tool", tuple(results)))
        else:
            into.append(Message("tool", (Part("result", arguments_text(output)),)))
    elif what == "reasoning":
        thoughts = [
            Part("reasoning", text(mapping(block).get("text")))
            for key in ("summary", "content")
            for block in sequence(item.get(key))
        ]
        if thoughts:
            into.append(Message("assistant", tuple(thoughts)))
        if item.get("encrypted_content"):
            content.complete = False
    else:  # hosted tools, compaction, references: the vendor knows more of them than the log
        content.complete = False


def _read_part(block: Any, parts: list[Part], content: Content, kind: str) -> None:
    if type(block) is not dict:
        return
    what = block.get("type")
    if what in ("input_text", "output_text", "text"):
        parts.append(Part(kind, text(block.get("text"))))
    elif what == "refusal":
        parts.append(Part(kind, text(block.get("refusal"))))
    elif what in ("input_image", "output_image"):
        image = block.get("image_url")
        if not image:
            content.complete = False
        parts.append(media_part("image", image, block.get("detail")))
    elif what == "input_file":
        if not block.get("file_data"):
            content.complete = False
        parts.append(media_part("file", block.get("file_data") or block.get("file_url"), "", block.get("filename")))
    elif what == "input_audio":
        parts.append(media_part("audio", mapping(block.get("input_audio")).get("data")))
    elif what in ("reasoning_text", "summary_text"):
        parts.append(Part("reasoning", text(block.get("text"))))
    else:
        content.complete = False


def reply(call: Call, x: Exchange) -> None:
    answer = x.answer
    if x.chunks is not None:
        call.stream = True
        answer = _last_response(x.chunks)
    call.provider_call_id = name(answer.get("id"))
    model = answer.get("model")
    if model:
        call.model = name(model)
    tier = answer.get("service_tier")
    if tier:
        call.service_tier = name(tier)
    created(call, answer.get("created_at"))
    completed = answer.get("completed_at")
    if completed and call.end_time is None:
        end(call, completed)
    status = answer.get("status")
    if status:
        call.status = _STATUSES.get(status, "ok") if type(status) is str else "ok"
        call.stop_reason = name(mapping(answer.get("incomplete_details")).get("reason") or status)
        if call.stop_reason == "content_filter":
            call.status = "blocked"
    error = answer.get("error")
    if type(error) is dict and call.status == "error":
        call.error_type = name(error.get("code") or error.get("type"))
    background = answer.get("background")
    if background or (status in _WAITING and background is None and x.chunks is None):
        x.polled = name(status) if status in _WAITING else "final"
    content = content_of(call)
    output = answer.get("output")
    if output:
        searches = files = 0
        for item in sequence(output):
            read_item(item, content, content.output)
            kind = item.get("type") if type(item) is dict else ""
            searches += kind == "web_search_call"
            files += kind == "file_search_call"
            _mark(item, content)
        if searches:
            call.web_searches = searches
        if files:
            call.file_searches = files
    if x.chunks is not None:
        if not content.output:
            _from_deltas(content, x.chunks)
        if not status or status in _WAITING:
            call.status = "incomplete"
    usage = answer.get("usage")
    if type(usage) is dict:
        usages.openai(call, usage)


def _mark(item: Any, content: Content) -> None:
    """Note what an item of an answer says beside its texts."""
    if type(item) is not dict:
        return
    content.reasoned |= item.get("type") == "reasoning"
    if item.get("type") == "message":
        blocks = sequence(item.get("content"))
        content.refused |= any(type(block) is dict and block.get("type") == "refusal" for block in blocks)


def _last_response(chunks: list[Any]) -> dict[str, Any]:
    """The last full response object of a stream: only that one has the usage and the tier that served."""
    for chunk in chunks[::-1]:
        if type(chunk) is dict:
            response = chunk.get("response")
            if type(response) is dict:
                return response
    return {}


def _from_deltas(content: Content, chunks: list[Any]) -> None:
    """The answer of a stream whose last response holds none: finished items, and the text of those cut off."""
    finished: set[Any] = set()
    texts: dict[Any, list[str]] = {}
    calls: dict[Any, list[str]] = {}
    names: dict[Any, str] = {}
    for chunk in chunks:
        if type(chunk) is not dict:
            continue
        what = chunk.get("type")
        if what == "response.output_text.delta" or what == "response.refusal.delta":
            texts.setdefault(index_of(chunk.get("output_index")), []).append(text(chunk.get("delta")))
        elif what == "response.function_call_arguments.delta":
            calls.setdefault(index_of(chunk.get("output_index")), []).append(text(chunk.get("delta")))
        elif what == "response.output_item.added":
            names[index_of(chunk.get("output_index"))] = name(mapping(chunk.get("item")).get("name"))
        elif what == "response.output_item.done":
            finished.add(index_of(chunk.get("output_index")))
            read_item(chunk.get("item"), content, content.output)
            _mark(chunk.get("item"), content)
    for index, pieces in texts.items():
        if index not in finished:
            content.output.append(Message("assistant", (Part("text", "".join(pieces)),)))
    for index, pieces in calls.items():
        if index not in finished:
            content.output.append(Message("assistant", (Part("call", "".join(pieces), names.get(index, "")),)))


BODY: Final[Body] = Body(API, "chat", "OpenAI Responses", True, ask, reply)
