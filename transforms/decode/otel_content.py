"""Prompts and answers in the attributes of a span or log record, in whichever of the ways they are written.

``gen_ai.input.messages`` (JSON in a string, on events an array), one attribute for each field of each message (OpenLLMetry,
OpenInference), the AI SDK's ``ai.prompt.messages``, and events of a span that hold a message each. Texts that attribute limits
cut are no JSON any more: the call is flagged, its content not complete.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from schemas.call import Call, Content, Message, Part
from transforms.decode.bodies.openai_chat import read_message
from transforms.decode.content import ROLES, arguments_text, content_of, is_redacted, media_part
from transforms.decode.exchange import parse_json
from transforms.decode.values import dumps, mapping, name, sequence, text

_Attributes = Mapping[str, Any]

DETAILS: Final = "gen_ai.client.inference.operation.details"
"""The event that tells of a whole call."""

_INPUT: Final = "gen_ai.input.messages"
_OUTPUT: Final = "gen_ai.output.messages"
_SYSTEM: Final = "gen_ai.system_instructions"
_TOOLS: Final = "gen_ai.tool.definitions"
_OUTPUT_REF: Final = f"{_OUTPUT}_ref"
_REFS: Final = frozenset((f"{_INPUT}_ref", _OUTPUT_REF, f"{_SYSTEM}_ref", f"{_TOOLS}_ref"))
"""Where texts are that were uploaded instead of written down: of OpenTelemetry's hook for the completion of calls."""

_ELSEWHERE: Final = _REFS | {"gen_ai.request.previous_response.id"}
"""What says that something of the prompt or the answer is where this record is not."""

OFFLOADED: Final = "body_offloaded"
"""Flag of a call whose texts were put elsewhere."""

_HIDDEN: Final = "__REDACTED__"


def read_content(call: Call, attributes: _Attributes) -> None:
    """Give the call its content; none where the attributes hold none."""
    if _INPUT in attributes or _OUTPUT in attributes or _SYSTEM in attributes or _TOOLS in attributes:
        _messages(call, attributes)
    elif "gen_ai.prompt.0.role" in attributes or "gen_ai.completion.0.role" in attributes:
        _numbered(call, attributes, "gen_ai.prompt.", "gen_ai.completion.", "")
        _declared(call, attributes, "llm.request.functions.")
    elif "llm.input_messages.0.message.role" in attributes or "llm.output_messages.0.message.role" in attributes:
        _numbered(call, attributes, "llm.input_messages.", "llm.output_messages.", "message.")
        _declared(call, attributes, "llm.tools.")
    elif "ai.prompt.messages" in attributes or "ai.response.text" in attributes:
        _ai_sdk(call, attributes)
    if any(attributes.get(ref) for ref in _REFS & attributes.keys()):
        call.flag(OFFLOADED)
    content = call.content
    if content is None:
        return
    if not _ELSEWHERE.isdisjoint(attributes) or is_redacted(content.prompt) or is_redacted(content.output):
        content.complete = False


def answered_elsewhere(attributes: _Attributes) -> bool:
    """Whether there is an answer, which was uploaded."""
    return bool(attributes.get(_OUTPUT_REF))


def read_events(call: Call, events: list[tuple[str, dict[str, Any]]]) -> None:
    """Messages that a span has as events, one each; only where its attributes had none."""
    for what, attributes in events:
        if not what.startswith("gen_ai.") or what == DETAILS:
            continue
        said = parse_json(attributes.get("gen_ai.event.content"))
        given = said if type(said) is dict else dict(attributes)
        if what == "gen_ai.choice":
            content = content_of(call)
            message = mapping(parse_json(given.get("message"))) or given
            content.output.append(read_message({"role": "assistant", **message}, content))
        elif what.endswith(".message"):
            content = content_of(call)
            role = what.removeprefix("gen_ai.").removesuffix(".message")
            content.prompt.append(read_message({"role": role, **given}, content))


def _listed(call: Call, value: Any, flag: str) -> list[Any]:
    """The array, also as JSON in a string; one that was cut is flagged."""
    found = parse_json(value)
    if type(found) is list:
        return found
    if type(found) is dict:
        return [found]
    if value:
        call.flag(flag)
        content_of(call).complete = False
    return []


def _messages(call: Call, attributes: _Attributes) -> None:
    content = content_of(call)
    answers: list[Any] = []
    if _SYSTEM in attributes and (system := _parts(_listed(call, attributes[_SYSTEM], "request_cut"), "text", content)):
        content.prompt.append(Message("system", system))
    if _INPUT in attributes:
        content.prompt += [_message(each, content) for each in _listed(call, attributes[_INPUT], "request_cut")]
    if _OUTPUT in attributes:
        answers = _listed(call, attributes[_OUTPUT], "response_cut")
        content.output += [_message(each, content) for each in answers]
    if _TOOLS in attributes and (tools := _listed(call, attributes[_TOOLS], "request_cut")):
        content.tools_json = dumps(tools)
        if not any(type(each) is dict and ("parameters" in each or "function" in each) for each in tools):
            content.complete = False  # optional fields are left out: the model read more
    if answers and not call.stop_reason:
        call.stop_reason = name(mapping(answers[-1]).get("finish_reason"))


def _message(given: Any, content: Content) -> Message:
    """One message of the conventions; of other shapes what OpenAI's messages have in common with them."""
    if type(given) is not dict:
        content.complete = False
        return Message("user", ())
    parts = given.get("parts")
    if type(parts) is not list:
        return read_message(given, content)
    said = given.get("role")
    role = ROLES.get(said, "user") if type(said) is str else "user"
    label = name(given.get("name"))
    return Message(role, _parts(parts, "result" if role == "tool" else "text", content), label)


def _parts(given: list[Any], kind: str, content: Content) -> tuple[Part, ...]:
    parts: list[Part] = []
    for each in given:
        if type(each) is str:
            parts.append(Part(kind, each))
            continue
        part = mapping(each)
        what, said = part.get("type"), part.get("content")
        if what == "text" and type(said) is str:
            parts.append(Part(kind, said))
        elif what == "reasoning":
            parts.append(Part("reasoning", text(said)))
        elif what == "tool_call":
            parts.append(Part("call", arguments_text(part.get("arguments")), name(part.get("name"))))
        elif what == "tool_call_response":
            answer = part.get("response", part.get("result"))
            parts.append(Part("result", arguments_text(answer), name(part.get("name"))))
        elif what in ("blob", "uri", "file"):
            parts.append(media_part(_modality(part), said if what == "blob" else part.get("uri")))
            if what == "file":
                content.complete = False
        elif type(said) is str:  # text, and kinds that only one vendor has
            parts.append(Part(kind, said))
        else:
            content.complete = False
    return tuple(parts)


def _modality(part: dict[str, Any]) -> str:
    said = name(part.get("modality")) or name(part.get("mime_type")).partition("/")[0]
    return said if said in ("image", "audio", "video") else "file"


def indexed(attributes: _Attributes, prefix: str) -> list[dict[str, Any]]:
    """``a.0.x``, ``a.0.y``, ``a.1.x`` … as a list of objects, in the order of their numbers."""
    found: dict[int, dict[str, Any]] = {}
    for key, value in attributes.items():
        if key.startswith(prefix):
            number, dot, field = key[len(prefix) :].partition(".")
            if dot and number.isascii() and number.isdigit() and len(number) < 7:
                found.setdefault(int(number), {})[field] = value
    return [found[number] for number in sorted(found)]


def _numbered(call: Call, attributes: _Attributes, prompt: str, answer: str, inside: str) -> None:
    content = content_of(call)
    for prefix, into in ((prompt, content.prompt), (answer, content.output)):
        for fields in indexed(attributes, prefix):
            message = {key.removeprefix(inside): value for key, value in fields.items()}
            into.append(_flat_message(message, content))


def _flat_message(fields: dict[str, Any], content: Content) -> Message:
    """A message whose fields are attributes, as one of OpenAI's."""
    said: Any = fields.get("content")
    if type(said) is str and said.startswith("[{"):  # blocks of content as JSON
        said = parse_json(said)
    if said == _HIDDEN:
        said, content.complete = "", False
    blocks = [_flat_block(each) for each in indexed(fields, "contents.")]
    calls = [
        {
            "function": {
                "name": each.get("name", each.get("tool_call.function.name")),
                "arguments": each.get("arguments", each.get("tool_call.function.arguments")),
            }
        }
        for each in indexed(fields, "tool_calls.")
    ]
    role = fields.get("role")
    message = {"role": role if type(role) is str else "user", "content": blocks or said, "tool_calls": calls or None}
    if fields.get("name"):
        message["name"] = fields["name"]
    return read_message(message, content)


def _flat_block(fields: dict[str, Any]) -> dict[str, Any]:
    what = fields.get("message_content.type")
    if what == "image":
        return {"type": "image_url", "image_url": fields.get("message_content.image.image.url")}
    return {"type": "text", "text": text(fields.get("message_content.text"))}


def _declared(call: Call, attributes: _Attributes, prefix: str) -> None:
    """Tools, one attribute for each field or for each tool."""
    tools: list[Any] = []
    for fields in indexed(attributes, prefix):
        whole = parse_json(fields.get("tool.json_schema"))
        if type(whole) is dict:
            tools.append(whole)
        elif fields.get("name"):
            function = {"name": fields["name"], "description": fields.get("description")}
            function["parameters"] = parse_json(fields.get("parameters"))
            tools.append({"type": "function", "function": {key: value for key, value in function.items() if value}})
    if tools:
        content_of(call).tools_json = dumps(tools)


def _ai_sdk(call: Call, attributes: _Attributes) -> None:
    content = content_of(call)
    for each in _listed(call, attributes.get("ai.prompt.messages"), "request_cut"):
        if type(each) is dict:
            content.prompt.append(read_message(each, content))
    calls = [
        {"function": {"name": each.get("toolName"), "arguments": each.get("input", each.get("args"))}}
        for each in map(mapping, sequence(parse_json(attributes.get("ai.response.toolCalls"))))
    ]
    said = text(attributes.get("ai.response.text"))
    if said or calls:
        content.output.append(read_message({"role": "assistant", "content": said, "tool_calls": calls}, content))
