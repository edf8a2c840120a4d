"""Gemini and Vertex: generateContent whole and streamed, live sessions, embeddings, predictions.

Both spellings are read: REST's ``systemInstruction``, and the protobuf's and SDK's ``system_instruction``.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.call import Call, Content, Message, Part
from transforms.decode import usage as usages
from transforms.decode.bodies import reported
from transforms.decode.bodies.reported import body, last_with
from transforms.decode.content import ROLES, arguments_text, content_of, is_redacted, media_part
from transforms.decode.exchange import Body, Exchange
from transforms.decode.history import read_history
from transforms.decode.times import created
from transforms.decode.values import count, dumps, mapping, name, sequence, text

_TRAFFIC: Final = {
    "ON_DEMAND": "standard",
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    "PROVISIONED_THROUGHPUT": "provisioned",
}
_BLOCKED: Final = frozenset({"SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION", "IMAGE_SAFETY", "MODEL_ARMOR"})
_CLIENT_TOOLS: Final = frozenset({"functionDeclarations", "function_declarations"})
_BESIDE: Final = frozenset(
    {"thought", "thoughtSignature", "thought_signature", "videoMetadata", "video_metadata", "mediaResolution", "media_resolution"}
)
"""Fields of a part that say something about its content and are none."""


def _either(given: dict[str, Any], camel: str, snake: str) -> Any:
    value = given.get(camel)
    return given.get(snake) if value is None else value


def _media_kind(mime: object) -> str:
    kind = text(mime).partition("/")[0]
    return kind if kind in ("image", "audio", "video") else "file"


def read_part(given: Any, parts: list[Part], content: Content) -> None:
    """One part of a prompt or an answer: text, thought, file, call of a function and its response; sealed thoughts before it."""
    if type(given) is str:
        parts.append(Part("text", given))
        return
    if type(given) is not dict:
        return
    signature = given.get("thoughtSignature")  # spelled the other way, recorded calls did not count what it seals
    if type(signature) is str:
        parts.append(Part("sealed", signature))
    said = given.get("text")
    if said is not None:
        parts.append(Part("reasoning" if given.get("thought") is True else "text", text(said)))
        return
    inline = _either(given, "inlineData", "inline_data")
    if inline is not None:
        parts.append(media_part(_media_kind(_either(mapping(inline), "mimeType", "mime_type")), mapping(inline).get("data")))
        return
    called = _either(given, "functionCall", "function_call")
    if called is not None:
        parts.append(Part("call", arguments_text(mapping(called).get("args")), name(mapping(called).get("name"))))
        return
    answered = _either(given, "functionResponse", "function_response")
    if answered is not None:
        one = mapping(answered)
        parts.append(Part("result", arguments_text(one.get("response")), name(one.get("name"))))
        for each in sequence(one.get("parts")):  # files that it answered with
            inside: list[Part] = []
            read_part(each, inside, content)
            parts += [part._replace(name=parts[-1].name) for part in inside if part.kind == "media"]
        return
    linked = _either(given, "fileData", "file_data")
    if linked is not None:
        file = mapping(linked)
        parts.append(media_part(_media_kind(_either(file, "mimeType", "mime_type")), _either(file, "fileUri", "file_uri")))
        content.complete = False  # how long it is, is in no log
    elif not _BESIDE.issuperset(given):  # code the vendor ran, and what came of it
        content.complete = False


def read_content(given: Any, content: Content, into: list[Message]) -> None:
    """One entry of ``contents``. Responses of functions become messages of their own, of the role ``tool``."""
    if type(given) is str:
        into.append(Message("user", (Part("text", given),)))
        return
    if type(given) is not dict:
        return
    if "parts" not in given:  # a part alone, as SDKs take it
        parts: list[Part] = []
        read_part(given, parts, content)
        if parts:
            into.append(Message("user", tuple(parts)))
        return
    role = ROLES.get(text(given.get("role")) or "user", "user")
    entries = given["parts"]
    parts = []
    for each in entries if type(entries) is list else (entries,):
        read_part(each, parts, content)
    results = tuple(part for part in parts if part.kind == "result" or (part.kind == "media" and part.name))
    if results:
        into.append(Message("tool", results))
        parts = [part for part in parts if part not in results]
    if parts:
        into.append(Message(role, tuple(parts)))


def _contents(given: Any, content: Content) -> None:
    if type(given) is list:
        read_history(given, read_content, content)
    elif given:
        read_content(given, content, content.prompt)


def _system(given: Any, content: Content) -> None:
    parts: list[Part] = []
    entries = given.get("parts", given) if type(given) is dict else given
    for each in entries if type(entries) is list else (entries,):
        read_part(each, parts, content)
    if parts:
        content.prompt.append(Message("system", tuple(parts)))


def ask(call: Call, x: Exchange) -> None:
    reported.ask(call, x)
    content = content_of(call)
    request = x.request
    for place in (request, mapping(request.get("config"))):  # the SDK keeps all but the contents in ``config``
        system = _either(place, "systemInstruction", "system_instruction")
        if system:
            _system(system, content)
        tools = place.get("tools")
        if tools:
            content.tools_json = dumps(tools)
            for tool in sequence(tools):
                if not _CLIENT_TOOLS.issuperset([key for key, value in mapping(tool).items() if value is not None]):
                    content.complete = False  # a hosted tool: what it returns is put into the prompt unseen
        chosen = mapping(
            _either(mapping(_either(place, "toolConfig", "tool_config")), "functionCallingConfig", "function_calling_config")
        )
        if chosen:
            allowed = sequence(_either(chosen, "allowedFunctionNames", "allowed_function_names"))
            content.tool_choice = name(allowed[0]) if len(allowed) == 1 else name(chosen.get("mode")).lower()
        settings = mapping(_either(place, "generationConfig", "generation_config")) or (place if place is not request else {})
        for key in ("responseJsonSchema", "response_json_schema", "responseSchema", "response_schema", "_responseJsonSchema"):
            if type(settings.get(key)) is dict:
                content.schema_json = dumps(settings[key])
                break
        if _either(place, "cachedContent", "cached_content"):
            content.complete = False  # the vendor holds the beginning of the prompt
        tier = _either(place, "serviceTier", "service_tier")
        if tier:
            call.service_tier_requested = name(tier).lower()
    _contents(request.get("contents"), content)
    if is_redacted(content.prompt):
        content.complete = False


def _reply(call: Call, x: Exchange) -> None:
    chunks = [x.answer] if x.chunks is None else [chunk for chunk in x.chunks if type(chunk) is dict]
    content = content_of(call)
    said: dict[Any, list[Part]] = {}  # by candidate
    searches = 0
    if x.chunks is not None:
        call.stream = True
    for chunk in chunks:
        if not call.provider_call_id:
            call.provider_call_id = name(_either(chunk, "responseId", "response_id"))
        if not call.model:
            call.model = name(_either(chunk, "modelVersion", "model_version"))
        created(call, _either(chunk, "createTime", "create_time"))
        blocked = _either(chunk, "promptFeedback", "prompt_feedback")
        if type(blocked) is dict and (blocked.get("blockReason") or blocked.get("block_reason")):
            call.status = "blocked"
            call.stop_reason = name(_either(blocked, "blockReason", "block_reason"))
        for candidate in sequence(chunk.get("candidates")):
            one = mapping(candidate)
            reason = _either(one, "finishReason", "finish_reason")
            if reason:
                call.stop_reason = name(reason)
                if call.stop_reason in _BLOCKED:
                    call.status = "blocked"
            grounding = _either(one, "groundingMetadata", "grounding_metadata")
            if type(grounding) is dict:
                searches = max(searches, len(sequence(_either(grounding, "webSearchQueries", "web_search_queries"))))
            _candidate(one, said.setdefault(name(one.get("index")), []), content)
    if searches:
        call.web_searches = searches
    for parts in said.values():
        if parts:
            content.output.append(Message("assistant", tuple(parts)))
    if is_redacted(content.output):
        content.complete = False
    for chunk in chunks[::-1]:  # repeated and cumulative: the last one stands
        usage = _either(chunk, "usageMetadata", "usage_metadata")
        if type(usage) is dict:
            usages.gemini(call, usage)
            _tier(call, usage)
            break
    if x.chunks is None or not chunks:
        return
    if not call.stop_reason and call.status == "ok":
        call.status = "incomplete"
    if (x.answer_cut or call.status == "incomplete") and call.usage_quality == "ok":
        call.usage_quality = "partial"  # it was still growing


def _candidate(one: dict[str, Any], parts: list[Part], content: Content) -> None:
    """Add what a candidate, or a chunk of it, says; pieces of one text are put together."""
    inner = mapping(one.get("content")).get("parts")
    for each in inner if type(inner) is list else (inner,):
        before = len(parts)
        read_part(each, parts, content)
        if len(parts) > before and parts[before].kind == "sealed":
            del parts[before]  # of use in the next prompt only
        if len(parts) > before > 0 and parts[-1].kind in ("text", "reasoning") and parts[-2].kind == parts[-1].kind:
            last = parts.pop()
            parts[-1] = Part(last.kind, parts[-1].text + last.text)


def _tier(call: Call, usage: dict[str, Any]) -> None:
    """The tier that served: Vertex' traffic type, the Developer API's tier."""
    traffic = _either(usage, "trafficType", "traffic_type")
    served = _either(usage, "serviceTier", "service_tier")
    if type(traffic) is str and traffic in _TRAFFIC:
        call.service_tier = _TRAFFIC[traffic]
        if traffic == "PROVISIONED_THROUGHPUT":
            call.deployment_type = "ptu"
    elif type(served) is str:
        call.service_tier = name(served).lower()


def _live(call: Call, x: Exchange) -> None:
    """A message of a live session that reports what its turn took. What was said went by before it."""
    answer = x.answer if x.chunks is None else last_with(x, "usageMetadata", "usage_metadata")
    usage = mapping(_either(answer, "usageMetadata", "usage_metadata"))
    usages.gemini(
        call,
        {
            **usage,
            "candidatesTokenCount": _either(usage, "responseTokenCount", "response_token_count"),
            "candidatesTokensDetails": _either(usage, "responseTokensDetails", "response_tokens_details"),
        },
    )
    _tier(call, usage)


def _ask_embeddings(call: Call, x: Exchange) -> None:
    reported.ask(call, x)
    content = content_of(call)
    for each in (x.request, *sequence(x.request.get("requests"))):
        _contents(mapping(each).get("content"), content)
    _contents(x.request.get("contents"), content)  # the SDK's


def _embeddings(call: Call, x: Exchange) -> None:
    usage = _either(x.answer, "usageMetadata", "usage_metadata")
    if type(usage) is dict:
        usages.gemini(call, usage)


def _ask_predict(call: Call, x: Exchange) -> None:
    reported.ask(call, x)
    content = content_of(call)
    for instance in sequence(x.request.get("instances")):
        given = mapping(instance).get("content")
        if type(given) is str:
            content.prompt.append(Message("user", (Part("text", given),)))
        else:
            content.complete = False


def _predict(call: Call, x: Exchange) -> None:
    """Vertex text embeddings count tokens per instance."""
    tokens = None
    for prediction in sequence(x.answer.get("predictions")):
        statistics = mapping(mapping(mapping(prediction).get("embeddings")).get("statistics"))
        counted = count(statistics.get("token_count"), "statistics.token_count")
        if counted is not None:
            tokens = (tokens or 0) + counted
    if tokens is not None:
        usages.plain(call, tokens, 0, "statistics")


def _ask_interactions(call: Call, x: Exchange) -> None:
    reported.ask(call, x)
    content = content_of(call)
    request = x.request
    system = _either(request, "systemInstruction", "system_instruction")
    if system:
        _system(system, content)
    tools = request.get("tools")
    if tools:
        content.tools_json = dumps(tools)
        for tool in sequence(tools):
            if mapping(tool).get("type") != "function":
                content.complete = False
    if request.get("previous_interaction_id") or request.get("agent"):
        content.complete = False  # the vendor puts earlier turns before what the request says
    tier = request.get("service_tier")
    if tier:
        call.service_tier_requested = name(tier)
    given = request.get("input")
    if type(given) is str:
        content.prompt.append(Message("user", (Part("text", given),)))
    for item in sequence(given):
        _read_step(item, content, content.prompt)


def _read_step(item: Any, content: Content, into: list[Message]) -> None:
    """One step of an interaction, or one piece of content that stands for a step."""
    if type(item) is not dict:
        return
    what = text(item.get("type"))
    role = ROLES.get(text(item.get("role")), "assistant" if what == "model_output" else "user")
    parts: list[Part] = []
    if what == "function_call":
        into.append(Message("assistant", (Part("call", arguments_text(item.get("arguments")), name(item.get("name"))),)))
    elif what == "function_result":
        into.append(Message("tool", (Part("result", arguments_text(item.get("result")), name(item.get("name"))),)))
    elif what == "thought":
        parts += [Part("reasoning", text(mapping(each).get("text"))) for each in sequence(item.get("summary"))]
        if parts:
            into.append(Message("assistant", tuple(parts)))
    else:
        inner = item.get("content", item)
        for each in inner if type(inner) is list else (inner,):
            _read_piece(each, parts, content)
        if parts:
            into.append(Message(role, tuple(parts)))


def _read_piece(piece: Any, parts: list[Part], content: Content) -> None:
    given = mapping(piece)
    what = given.get("type")
    if type(piece) is str:
        parts.append(Part("text", piece))
    elif what == "text":
        parts.append(Part("text", text(given.get("text"))))
    elif what in ("image", "audio", "video", "document"):
        parts.append(media_part("file" if what == "document" else str(what), given.get("data") or given.get("uri")))
        if not given.get("data"):
            content.complete = False
    elif what == "function_result":
        parts.append(Part("result", arguments_text(given.get("result")), name(given.get("name"))))
    else:
        content.complete = False


def _interactions(call: Call, x: Exchange) -> None:
    """The figures are disjoint: their total is input, output, thoughts and tool use; cached is part of input."""
    answer = x.answer
    content = content_of(call)
    if x.chunks is not None:
        call.stream = True
        answer = mapping(last_with(x, "interaction").get("interaction"))
        steps = _streamed_steps(x.chunks)
    else:
        steps = sequence(answer.get("steps") or answer.get("outputs"))
    for step in steps:
        _read_step({"role": "model", **mapping(step)}, content, content.output)
    call.provider_call_id = name(answer.get("id"))
    call.model = name(answer.get("model"))
    created(call, answer.get("created"))
    tier = answer.get("service_tier")
    if tier:
        call.service_tier = name(tier)
    status = answer.get("status")
    if status in ("failed", "cancelled", "incomplete"):
        call.status = "error" if status == "failed" else str(status)
    call.stop_reason = name(status)
    usage = mapping(answer.get("usage"))
    if not usage:
        return
    usages.gemini(
        call,
        {
            "promptTokenCount": usage.get("total_input_tokens"),
            "candidatesTokenCount": usage.get("total_output_tokens"),
            "thoughtsTokenCount": usage.get("total_thought_tokens"),
            "cachedContentTokenCount": usage.get("total_cached_tokens"),
            "toolUsePromptTokenCount": usage.get("total_tool_use_tokens"),
            "totalTokenCount": usage.get("total_tokens"),
        },
    )


def _streamed_steps(chunks: list[Any]) -> list[dict[str, Any]]:
    """The steps of a stream: each begins with what it is, its text and arguments follow in deltas."""
    steps: dict[Any, dict[str, Any]] = {}
    said: dict[Any, list[str]] = {}
    for chunk in map(mapping, chunks):
        index = name(chunk.get("index"))
        if chunk.get("event_type") == "step.start":
            steps[index] = dict(mapping(chunk.get("step")))
        elif chunk.get("event_type") == "step.delta" and index in steps:
            delta = mapping(chunk.get("delta"))
            piece = delta.get("text") or delta.get("arguments") or mapping(delta.get("content")).get("text")
            if type(piece) is str:
                said.setdefault(index, []).append(piece)
    for index, pieces in said.items():
        whole = "".join(pieces)
        if steps[index].get("type") == "function_call":
            steps[index]["arguments"] = whole
        elif steps[index].get("type") == "thought":
            steps[index]["summary"] = [{"type": "text", "text": whole}]
        else:
            steps[index]["content"] = [{"type": "text", "text": whole}]
    return list(steps.values())


BODIES: Final[tuple[Body, ...]] = (
    Body("gemini.generate", "chat", "Gemini and Vertex generateContent", True, ask, _reply),
    body("gemini.live", "chat", "Gemini Live: messages that report a turn's usage", _live),
    Body("gemini.embeddings", "embedding", "Gemini and Vertex embedContent", True, _ask_embeddings, _embeddings),
    Body("gemini.interactions", "chat", "Gemini interactions", True, _ask_interactions, _interactions),
    Body("vertex.predict", "embedding", "Vertex predict, for text embeddings", True, _ask_predict, _predict),
)
