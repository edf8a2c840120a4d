"""The text that vendors make of what a request says: tools, response schemas, tool calls.

None of it is published. The renderings were inferred from recorded calls with vendor-reported usage; how far they hold
is measured in ``tests/count/test_exactness.py`` and told in ``docs/counting.md``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import orjson

MAX_DEPTH: Final = 24
"""Schemas nested deeper are rendered as ``any`` below: hostile input must not exhaust the stack."""

MAX_TYPES: Final = 20_000
"""Types rendered for one tool: a few references that point to each other would unfold without end."""

MAX_NESTED: Final = 200
"""JSON that is nested deeper counts as the text it is: writers give up at 254 (orjson) and near 1,000 (json)."""

SCHEMA_DROPS: Final = frozenset({"required", "additionalProperties", "maxItems", "minItems"})


def parsed(data: bytes | str) -> Any:
    """What JSON says. Raises ``ValueError`` for what is none, or could not be written again."""
    given = orjson.loads(data)
    opened = data.count(b"[") + data.count(b"{") if isinstance(data, bytes) else data.count("[") + data.count("{")
    if opened > MAX_NESTED and _nested(given) > MAX_NESTED:
        raise ValueError("nested too deep")
    return given


def _nested(value: Any) -> int:
    """How deep lists and objects are nested, without recursion."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, (dict, list))]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


class Rendered(NamedTuple):
    """Tools as the model reads them: the text, how many tokens fewer than the text's it costs, how many tools."""

    text: str
    discount: int
    tools: int


def render_tools(tools_json: bytes, responses: bool = False) -> Rendered:
    """The tool list of a chat or Responses request as TypeScript declarations.

    Hosted tools (web search …) have no declaration of their own and are left out. A list that cannot be read is
    rendered as it stands.
    """
    try:
        tools = parsed(tools_json)
    except ValueError:
        tools = None
    if not isinstance(tools, list):
        return Rendered(tools_json.decode("utf-8", "replace"), 0, 1)
    blocks: list[str] = []
    discount = 1
    for tool in tools:
        declared = function_of(tool)
        if declared is None:
            continue
        schema = declared.get("parameters") or declared.get("input_schema") or declared.get("inputSchema") or {}
        if isinstance(schema, dict) and isinstance(schema.get("json"), dict):
            schema = schema["json"]  # Bedrock wraps the schema once more
        schema = schema if isinstance(schema, dict) else {}
        name, comment = str(declared.get("name") or ""), _comment(declared.get("description"))
        properties = schema.get("properties")
        if not isinstance(properties, dict) or not properties:
            blocks.append(f"{comment}type {name} = () => any;\n\n")
            continue
        first = next(iter(properties.values()))
        if isinstance(first, dict) and not first.get("description") and not first.get("title"):
            discount += 1
        body = _properties(schema, _Scope(schema, responses), 0)
        blocks.append(f"{comment}type {name} = (_: {_comments(schema)}{{\n{body}}}) => any;\n\n")
    if not blocks:
        return Rendered("", 0, len(tools))
    text = f"# Tools\n\n## functions\n\nnamespace functions {{\n\n{''.join(blocks)}}} // namespace functions"
    return Rendered(text, discount, len(tools))


def function_of(tool: Any) -> dict[str, Any] | None:
    """The function that an entry of a tool list declares, without what vendors wrap it in; None for hosted tools."""
    if not isinstance(tool, dict):
        return None
    inner = tool.get("function") or tool.get("toolSpec") or tool
    if isinstance(inner, dict) and isinstance(inner.get("name"), str):
        return inner
    return None


class _Scope:
    """The definitions references point to, and how many more types may be rendered."""

    __slots__ = ("definitions", "left", "responses")

    def __init__(self, schema: dict[str, Any], responses: bool) -> None:
        self.responses = responses
        found = schema.get("$defs") or schema.get("definitions")
        self.definitions: dict[str, Any] = found if isinstance(found, dict) else {}
        self.left = MAX_TYPES


def _comment(text: Any) -> str:
    if not isinstance(text, str) or not (text := text.strip()):
        return ""
    return "".join(f"// {line.strip()}\n" if line.strip() else "//\n" for line in text.split("\n"))


def _literal(value: Any) -> str:
    return orjson.dumps(value).decode()


def _properties(schema: dict[str, Any], scope: _Scope, depth: int) -> str:
    required = schema.get("required")
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    lines: list[str] = []
    for name, value in schema["properties"].items():
        inner = value if isinstance(value, dict) else {}
        default = f" // default: {_literal(inner['default'])}" if "default" in inner else ""
        kind = _type(inner, scope, depth)
        space = "" if kind.startswith("\n") else " "
        lines.append(f"{_comments(inner)}{name}{'' if name in needed else '?'}:{space}{kind},{default}\n")
    return "".join(lines)


def _comments(schema: dict[str, Any]) -> str:
    title, description = _comment(schema.get("title")), _comment(schema.get("description"))
    return f"{title}//\n{description}" if title and description else title or description


def _commented(schema: Any, scope: _Scope, depth: int) -> str:
    """A type that no property stands before: its comments are on lines of their own."""
    kind = _type(schema, scope, depth)
    comments = _comments(schema) if isinstance(schema, dict) else ""
    return f"\n{comments}{kind}" if comments else kind


def _union(choices: Sequence[Any], scope: _Scope, depth: int) -> str:
    kinds = [_commented(choice, scope, depth) for choice in choices]
    if any(kind.startswith("\n") for kind in kinds):
        return "".join(f"\n | {kind}" for kind in kinds)
    return " | ".join(kinds)


def _type(schema: Any, scope: _Scope, depth: int) -> str:
    scope.left -= 1
    if not isinstance(schema, dict) or depth > MAX_DEPTH or scope.left < 0:
        return "any"
    if isinstance(reference := schema.get("$ref"), str):
        return _commented(scope.definitions.get(reference.rsplit("/", 1)[-1]), scope, depth + 6)
    if isinstance(values := schema.get("enum"), list):
        return " | ".join(map(_literal, values))
    if "const" in schema:
        return _literal(schema["const"])
    for union in ("anyOf", "oneOf"):
        if isinstance(choices := schema.get(union), list):
            return _union(choices, scope, depth + 1)
    kind = schema.get("type")
    if isinstance(kind, list):
        if scope.responses:
            return " | ".join([_type({**schema, "type": one}, scope, depth + 1) for one in kind])
        return _union([{**schema, "type": one} for one in kind], scope, depth + 1)
    if kind == "array":
        items = _commented(schema["items"], scope, depth + 1) if schema.get("items") else "any"
        return f"Array<{items}\n>" if items.startswith("\n") else f"{items}[]"
    if kind == "object" or "properties" in schema:
        if not isinstance(schema.get("properties"), dict) or not schema["properties"]:
            return "object"
        return f"{{\n{_properties(schema, scope, depth + 1)}}}"
    plain = {"string": "string", "integer": "number", "number": "number", "boolean": "boolean", "null": "null"}
    return plain.get(kind, "any") if isinstance(kind, str) else "any"


def only_tool(tools_json: bytes) -> str:
    """The name of the only function of a list of one; empty where it is none."""
    try:
        tools = parsed(tools_json)
    except ValueError:
        return ""
    function = function_of(tools[0]) if isinstance(tools, list) and len(tools) == 1 else None
    return str(function["name"]) if function is not None else ""


def functions(tools_json: bytes) -> list[dict[str, Any]]:
    """The functions of a tool list without what vendors wrap them in; hosted tools are left out. None if it cannot be read."""
    try:
        tools = parsed(tools_json)
    except ValueError:
        tools = None
    found: list[Any] = []
    for tool in tools if isinstance(tools, list) else [tools]:
        several = isinstance(tool, dict) and (tool.get("functionDeclarations") or tool.get("function_declarations"))
        found += several if isinstance(several, list) else [function_of(tool)]
    return [one for one in found if isinstance(one, dict)]


def declarations(tools_json: bytes) -> str:
    """The functions of a tool list as compact JSON one after the other. A list that cannot be read stands as it is."""
    try:
        readable = isinstance(parsed(tools_json), list)
    except ValueError:
        readable = False
    if not readable:
        return tools_json.decode("utf-8", "replace")
    return "".join(orjson.dumps(one).decode() for one in functions(tools_json))


class Shape(NamedTuple):
    """A response schema as the model reads it, and its name."""

    text: str
    name: str


def schema_body(schema_json: bytes) -> str:
    """The response schema itself as compact JSON, without what vendors wrap it in."""
    try:
        given = parsed(schema_json)
    except ValueError:
        return schema_json.decode("utf-8", "replace")
    inner = given.get("schema") if isinstance(given, dict) else None
    return orjson.dumps(inner if isinstance(inner, dict) else given).decode()


def render_schema(schema_json: bytes) -> Shape:
    """The response schema of a request as the prompt states it: a heading, a comment, compact JSON."""
    try:
        given = parsed(schema_json)
    except ValueError:
        given = None
    if not isinstance(given, dict):
        return Shape(schema_json.decode("utf-8", "replace"), "")
    name = str(given.get("name") or "")
    body = given["schema"] if isinstance(given.get("schema"), dict) else given
    slim = _slim(body, 0)
    return Shape(f"# Response Formats\n\n## {name}\n\n{_comment(given.get('description'))}{orjson.dumps(slim).decode()}", name)


def _slim(schema: Any, depth: int) -> Any:
    """A schema without the keywords the prompt leaves out, and those that are false; the names of properties are not keywords."""
    if depth > MAX_DEPTH:
        return schema
    if isinstance(schema, list):
        return [_slim(item, depth + 1) for item in schema]
    if not isinstance(schema, dict):
        return schema
    slim: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "properties" and isinstance(value, dict):
            slim[key] = {name: _slim(inner, depth + 1) for name, inner in value.items()}
        elif key not in SCHEMA_DROPS and value is not False:
            slim[key] = _slim(value, depth + 1)
    return slim


def compact(arguments: str) -> str:
    """The JSON arguments of a tool call without white space; text that is not JSON stands as it is."""
    try:
        return orjson.dumps(parsed(arguments)).decode()
    except ValueError:
        return arguments


def spaced(arguments: str) -> bool:
    """Whether JSON has blanks behind its colons and commas, and no others.

    Models write none; vendors do where they take a call out of the wrapper call that was written around it, and around others.
    """
    if '": ' not in arguments:
        return False
    try:
        return json.dumps(json.loads(arguments), ensure_ascii=False) == arguments
    except (ValueError, RecursionError):
        return False


def parallel(calls: Sequence[tuple[str, str]]) -> str:
    """Several tool calls (name, JSON arguments) of one turn as the single wrapper call the model reads or writes."""
    uses = ",".join(f'{{"recipient_name":"functions.{name}","parameters":{compact(text)}}}' for name, text in calls)
    return f'{{"tool_uses":[{uses}]}}'


def results(texts: Sequence[str]) -> str:
    """The results of several tool calls of one turn as the single message that the model reads: a list of their texts."""
    return json.dumps(texts, ensure_ascii=False)


def last_run(text: str) -> str:
    """The end of ``text`` from its last ASCII letter or digit on.

    What follows a text can only change the tokens after its last letter or digit, because every pattern of the public
    encodings ends a piece there when white space follows. So the cost of joining is that of joining to this end.
    """
    for position in range(len(text) - 1, -1, -1):
        character = text[position]
        if character.isascii() and character.isalnum():
            return text[position:]
    return text
