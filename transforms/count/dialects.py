"""How Claude and Gemini write tools, calls, results and response schemas: texts to be counted, and tokens beside them.

None of it is published; only what Gemini 3 does is, for FunctionGemma. The forms were found on recorded calls
(docs/counting.md). Texts are joined by line feeds before they are counted: one is a token of its own, whatever stands
beside it.
"""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson

from transforms.count.rules import MAX_DEPTH, MAX_TYPES, functions, parsed, schema_body


class Pieces(NamedTuple):
    """Texts, and the tokens of what stands around and between them."""

    texts: list[str]
    more: int

    @property
    def text(self) -> str:
        """All texts that are not empty; one line feed between any two."""
        return "\n".join(filter(None, self.texts))

    @property
    def around(self) -> int:
        """What has to be added to the tokens of ``text``."""
        return self.more - max(0, sum(map(bool, self.texts)) - 1)


class Dialect(NamedTuple):
    """How tools and what they answer are written.

    ``tools`` reads a tool list, ``schema`` a response schema. Tokens: ``call`` and ``result`` around a call of the
    history and around what came of it, ``several`` more where a message has more than one result, ``key`` at each key
    of arguments and results. Where a call is the answer: ``answer`` around it, ``answer_first`` more at the first,
    ``answer_key`` at each key, ``forced`` fewer where it had to be one. ``unsure``: tokens by which a response schema
    makes a count less sure.

    ``verbatim``: results stand as they are, not as keys and values, and so does what is inside of an argument.
    ``streamed``: thoughts of the turn are read again, where a function's result goes back, only if the answer is
    streamed. ``muses``: visible reasoning of the history is read, as other texts are.
    """

    tools: Callable[[bytes], Pieces]
    schema: Callable[[bytes], Pieces]
    call: int = 0
    result: int = 0
    key: int = 0
    answer: int = 0
    answer_key: int = 0
    answer_first: int = 0
    forced: int = 0
    several: int = 0
    unsure: int = 0
    verbatim: bool = False
    streamed: bool = False
    muses: bool = True


def values(data: str, deep: bool = True) -> tuple[Pieces, int]:
    """The keys and values of JSON text, and how many keys there are. Text that is not JSON stands as it is.

    Not ``deep``: those of the outermost object, and what is in it as JSON.
    """
    if not data:
        return Pieces([], 0), 0
    try:
        given = parsed(data)
    except ValueError:
        return Pieces([data], 0), 0
    if not deep and isinstance(given, dict):
        nested = [one if isinstance(one, str) else json.dumps(one, ensure_ascii=False) for one in given.values()]
        return Pieces([*given, *nested], 0), len(given)
    texts: list[str] = []
    keys = _leaves(given, texts, 0)
    return Pieces(texts, 0), keys


def _leaves(value: Any, texts: list[str], depth: int) -> int:
    if depth > MAX_DEPTH:
        return 0
    if isinstance(value, dict):
        keys = len(value)
        for key, inner in value.items():
            texts.append(key)
            keys += _leaves(inner, texts, depth + 1)
        return keys
    if isinstance(value, list):
        return sum([_leaves(inner, texts, depth + 1) for inner in value])
    texts.append(value if isinstance(value, str) else orjson.dumps(value).decode())
    return 0


def thought_tokens(signature: str) -> int:
    """Tokens of the thoughts that a signature seals, judged by its length: four bytes for each, after those of its records.

    0 for the texts that Google lets stand in for a signature; -1 where it has been replaced by another text.
    """
    try:
        sealed = b64decode(signature.replace("-", "+").replace("_", "/") + "==")
    except (Base64Error, ValueError):
        sealed = b""
    if len(sealed) < _LEAST_SEALED:
        return 0 if signature in _NO_THOUGHTS or sealed.decode("ascii", "replace") in _NO_THOUGHTS else -1
    return max(0, len(sealed) - _HEAD - _RECORD * _records(sealed)) * 100 // 395


_LEAST_SEALED: Final = 60
"""Bytes that a signature of thoughts has at least."""
_NO_THOUGHTS: Final = frozenset({"", "skip_thought_signature_validator", "context_engineering_is_the_way_to_go"})
_HEAD: Final = 28
_RECORD: Final = 32


def _records(data: bytes) -> int:
    """How many records a signature has: one, or those of the pieces it was streamed in."""
    at = records = 0
    while at < len(data):
        length, shift, at = 0, 0, at + 1
        while at < len(data):
            length |= (data[at] & 127) << shift
            shift, at = shift + 7, at + 1
            if data[at - 1] < 128:
                break
        at += length
        records += 1
    return records if at == len(data) else 1


class _Scope:
    """The definitions that references point to, and how many more types are looked at."""

    __slots__ = ("definitions", "left")

    def __init__(self, schema: dict[str, Any]) -> None:
        self.left = MAX_TYPES
        found = schema.get("$defs") or schema.get("definitions")
        self.definitions: dict[str, Any] = found if isinstance(found, dict) else {}

    def enter(self, schema: Any, depth: int) -> tuple[dict[str, Any], int]:
        """What ``schema`` says, a reference followed, and how deep that is; nothing where it goes too deep or too wide."""
        self.left -= 1
        if isinstance(schema, dict) and isinstance(reference := schema.get("$ref"), str):
            schema, depth = self.definitions.get(reference.rsplit("/", 1)[-1]), depth + 6
        return (schema, depth + 1) if isinstance(schema, dict) and depth <= MAX_DEPTH and self.left > 0 else ({}, MAX_DEPTH)


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _properties(schema: dict[str, Any]) -> dict[str, Any]:
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}


def _list(value: Any) -> list[str]:
    return [one if isinstance(one, str) else orjson.dumps(one).decode() for one in value] if isinstance(value, list) else []


# Texts alone: names, descriptions, types, choices, what is required.


def texts_of_tools(tools_json: bytes) -> Pieces:
    """The texts of the functions. Parameters that are given as a JSON schema are not read."""
    texts: list[str] = []
    more = 0
    for function in functions(tools_json):
        texts += [_string(function.get("name")), _string(function.get("description"))]
        parameters = function.get("parameters")
        if isinstance(parameters, dict):
            more += _texts(parameters, texts, _Scope(parameters), 0)
    return Pieces(texts, more)


def _texts(schema: Any, texts: list[str], scope: _Scope, depth: int) -> int:
    """Add the texts of a schema; a type's name is one token, whatever the type."""
    given, depth = scope.enter(schema, depth)
    texts += [_string(given.get("description")), *_list(given.get("enum")), *_list(given.get("required"))]
    more = 1 if given.get("type") else 0
    if "default" in given:
        _leaves(given["default"], texts, depth)
    for name, inner in _properties(given).items():
        texts.append(name)
        more += _texts(inner, texts, scope, depth)
    if "items" in given:
        more += _texts(given["items"], texts, scope, depth)
    if isinstance(several := given.get("anyOf"), list):
        more += sum([_texts(one, texts, scope, depth) for one in several])
    return more


def texts_of_schema(schema_json: bytes) -> Pieces:
    """The texts of a response schema in the vendor's own form, whose types are in capitals; a JSON schema is not read."""
    try:
        schema = parsed(schema_json)
    except ValueError:
        return Pieces([], 0)
    texts: list[str] = []
    if not isinstance(schema, dict) or not _string(schema.get("type")).isupper():
        return Pieces(texts, 0)
    return Pieces(texts, _texts(schema, texts, _Scope(schema), 0))


def no_schema(schema_json: bytes) -> Pieces:
    """A schema that the answer is held to, and that is no part of the prompt."""
    return Pieces([], 0)


# Python: each function as a signature and a docstring that tells its arguments.

_FUNCTION: Final = 18
_ARGUMENT: Final = 9
_CLASS: Final = 31


def python_of_tools(tools_json: bytes) -> Pieces:
    """The functions as declarations in Python."""
    texts: list[str] = []
    more = 0
    for function in functions(tools_json):
        described = _string(function.get("description"))
        texts += [" " + _string(function.get("name")), described]
        # The docstring is indented: a token for each line that was not.
        more += _FUNCTION + sum(1 for line in described.split("\n")[1:] if line and not line[0].isspace())
        parameters = _parameters(function)
        more += _arguments(parameters, texts, _Scope(parameters), 0)
    return Pieces(texts, more)


def _parameters(function: dict[str, Any]) -> dict[str, Any]:
    for name in ("parameters", "parametersJsonSchema", "parameters_json_schema", "input_schema", "inputSchema"):
        found = function.get(name)
        if isinstance(found, dict):
            return found["json"] if isinstance(found.get("json"), dict) else found
    return {}


def _arguments(schema: dict[str, Any], texts: list[str], scope: _Scope, depth: int) -> int:
    """Arguments: a name stands in the signature and in the docstring."""
    required = schema.get("required")
    needed = {name for name in required if isinstance(name, str)} if isinstance(required, list) else set()
    more = 0
    for name, value in _properties(schema).items():
        given, below = scope.enter(value, depth)
        texts += [name, name]
        more += _ARGUMENT
        if "default" in given:
            more += 2
            _leaves(given["default"], texts, 0)
        elif name not in needed:
            more += 4  # | None = None
        if described := _string(given.get("description")):
            texts.append(" " + described)
            more -= 1
        more += _python_type(given, texts, scope, below)
    return more


def _python_type(given: dict[str, Any], texts: list[str], scope: _Scope, depth: int) -> int:
    """Tokens beyond those of ``str``."""
    if choices := _list(given.get("enum")):
        texts += choices
        return 2 * len(choices) - 1
    if "items" in given:
        inner, depth = scope.enter(given["items"], depth)
        return 2 + _python_type(inner, texts, scope, depth)
    if isinstance(several := given.get("anyOf"), list):
        entered = [scope.enter(one, depth) for one in several]
        return sum([2 + _python_type(inner, texts, scope, below) for inner, below in entered]) - 2
    if isinstance(kinds := given.get("type"), list):
        return 2 * (len(kinds) - 1)
    if _properties(given):  # a class of its own, declared before
        return _CLASS + _arguments(given, texts, scope, depth)
    return 0


# Declarations with marks around each text.


def declared_tools(tools_json: bytes) -> Pieces:
    """The functions as FunctionGemma's template declares them."""
    texts: list[str] = []
    more = 0
    for function in functions(tools_json):
        texts.append(_string(function.get("name")))
        more += 13
        if described := _string(function.get("description")):
            texts.append(described)
            more += 5  # description : <escape> … <escape> ,
        parameters = _parameters(function)
        scope = _Scope(parameters)
        if described := _string(parameters.get("description")):
            texts.append(described)
            more += 5
        more += _declared(parameters, texts, scope, 0)
    return Pieces(texts, more)


def _declared(schema: dict[str, Any], texts: list[str], scope: _Scope, depth: int) -> int:
    """``properties:{name:{…},…},required:[…],`` without the type that follows."""
    if not _properties(schema):
        return 0
    more = 2  # properties :{
    for name, value in _properties(schema).items():
        given, below = scope.enter(value, depth)
        texts.append(name)
        more += 2 + _declared_type(given, texts, scope, below)  # :{ },
    if needed := _list(schema.get("required")):
        texts += needed
        more += 3 + 3 * len(needed) - 1  # required :[ <escape> … <escape> , … ],
    return more


def _declared_type(given: dict[str, Any], texts: list[str], scope: _Scope, depth: int) -> int:
    more = 5  # type : <escape> STRING <escape>
    for key in ("title", "description"):
        if said := _string(given.get(key)):
            texts.append(said)
            more += 5
    if choices := _list(given.get("enum")):
        texts += choices
        more += 3 + 3 * len(choices) - 1
    if "items" in given:
        inner, below = scope.enter(given["items"], depth)
        more += 4 + _declared_type(inner, texts, scope, below)
    if isinstance(several := given.get("anyOf"), list):
        for one in several:
            inner, below = scope.enter(one, depth)
            more += 3 + _declared_type(inner, texts, scope, below)
    return more + _declared(given, texts, scope, depth)


# JSON, with a blank after colons and commas.


def json_of_tools(tools_json: bytes) -> Pieces:
    """Each function as an object of its description, if it has one, its name and its parameters."""
    texts: list[str] = []
    for function in functions(tools_json):
        said = {"description": described} if (described := function.get("description")) else {}
        given = {**said, "name": function.get("name"), "parameters": _parameters(function)}
        texts.append(json.dumps(given, ensure_ascii=False))
    return Pieces(texts, 6 * len(texts))


def json_of_schema(schema_json: bytes) -> Pieces:
    """The response schema itself, without what vendors wrap it in."""
    return Pieces([spaced(schema_body(schema_json))], 0)


def spaced(data: str) -> str:
    """JSON with a blank after colons and commas; what is not JSON stands as it is."""
    try:
        return json.dumps(parsed(data), ensure_ascii=False)
    except ValueError:
        return data


TEXTS: Final = Dialect(texts_of_tools, texts_of_schema, muses=False)
"""Gemini to 2.0, and all on Vertex: of everything the texts alone are counted."""
PYTHON: Final = Dialect(python_of_tools, no_schema, call=6, result=6, key=3, answer=7, answer_key=3, streamed=True)
"""Gemini 2.5 on its own API."""
DECLARED: Final = Dialect(declared_tools, no_schema, call=2, result=3, key=4, answer=7, answer_key=3)
"""Gemini 3 on its own API."""
JSON: Final = Dialect(
    json_of_tools, json_of_schema, call=23, result=16, key=13, answer=16, answer_key=15, answer_first=16, forced=15, several=31,
    unsure=12, verbatim=True, streamed=True,
)  # fmt: skip
"""Claude."""
