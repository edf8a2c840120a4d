"""How chat templates of open models write tools and calls, where recorded calls bear it out to the token."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from transforms.count.rules import MAX_DEPTH, function_of, parsed


class Template(NamedTuple):
    """The tools of a prompt, in tokens and text.

    ``tools`` writes a tool list, or only the one tool that must be called; where none may be, nothing is written. ``around``:
    tokens around the list; ``chosen``: beside its name, of a call that has been begun for the model; ``result``: around what a
    tool answered, whose name is not told.
    """

    tools: Callable[[bytes, str], str]
    around: int
    chosen: int
    result: int


def names_tool(tools_json: bytes, choice: str) -> bool:
    """Whether ``choice`` is the name of a tool in the list."""
    return bool(choice) and any(one["name"] == choice for one in _functions(tools_json))


def mistral_tools(tools_json: bytes, only: str) -> str:
    """``[AVAILABLE_TOOLS]``: a JSON list, each schema with its type first, then properties and what is required of them."""
    functions = _functions(tools_json)
    if not functions:
        return ""
    listed = [
        {
            "type": "function",
            "function": {
                "name": one["name"],
                "description": one.get("description") or "",
                "parameters": _type_first(one.get("parameters"), 0),
            },
        }
        for one in [one for one in functions if one["name"] == only] or functions
    ]
    return json.dumps(listed, ensure_ascii=False)


def _functions(tools_json: bytes) -> list[dict[str, Any]]:
    try:
        tools = parsed(tools_json)
    except ValueError:
        return []
    return [found for tool in tools if (found := function_of(tool)) is not None] if isinstance(tools, list) else []


_FIRST: Final = ("type", "properties", "required")


def _type_first(schema: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        return None
    if isinstance(schema, list):
        return [_type_first(one, depth + 1) for one in schema]
    if not isinstance(schema, dict):
        return schema
    ordered = {key: schema[key] for key in _FIRST if key in schema} | schema
    return {
        key: {name: _type_first(one, depth + 1) for name, one in value.items()}
        if key == "properties" and isinstance(value, dict)
        else _type_first(value, depth + 1)
        for key, value in ordered.items()
    }


MISTRAL: Final = Template(mistral_tools, around=2, chosen=2, result=2)
