"""What tools and response schemas cost, remembered by their JSON: the same ones come with every call of an agent."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from transforms.count import rules
from transforms.count.cache import Entry, Space
from transforms.count.families import Family, StandIn


def tool_set(tools_json: bytes, kind: Family, responses: bool, space: Space) -> Entry:
    """The tool list of a request as ``kind`` of model reads it; ``items`` is the number of its tools."""
    return space.young.get(tools_json) or _remember(tools_json, partial(_tool_set, responses, kind.stand_in), space)


def response_schema(schema_json: bytes, kind: Family, space: Space) -> Entry:
    """The response schema as ``kind`` of model reads it; ``items`` is the number of tokens of its name."""
    return space.young.get((schema_json,)) or _remember((schema_json,), partial(_schema, kind.stand_in), space)


def _remember(key: bytes | tuple[bytes], make: Callable[[bytes, Space], Entry], space: Space) -> Entry:
    """The entry under ``key``: tools by their JSON, a response schema by its JSON in a tuple."""
    data = key if isinstance(key, bytes) else key[0]
    found: Entry | None = space.old.get(key)
    if found is None:
        found = make(data, space)
    space.keep(key, found, sys.getsizeof(data))
    return found


def _tool_set(responses: bool, stand_in: StandIn | None, tools_json: bytes, space: Space) -> Entry:
    rendered = rules.render_tools(tools_json, responses)
    if stand_in is not None:
        text = rules.declarations(tools_json)
        tokens = space.once(text).tokens + text.count('"') * stand_in.quotes // 1000
    else:
        tokens = max(0, space.once(rendered.text).tokens - rendered.discount) if rendered.text else 0
    return Entry(tokens, space.digest(tools_json), len(tools_json), rendered.tools)


def _schema(stand_in: StandIn | None, schema_json: bytes, space: Space) -> Entry:
    shape = rules.render_schema(schema_json)
    name = space.text(shape.name).tokens
    if stand_in is not None:
        tokens = space.once(rules.schema_body(schema_json)).tokens * (1000 + stand_in.schema) // 1000
        return Entry(tokens, space.digest(schema_json), len(schema_json), name)
    return Entry(space.once(shape.text).tokens, space.digest(schema_json), len(schema_json), name)
