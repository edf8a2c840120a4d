"""What tools and response schemas cost, remembered by their JSON: the same ones come with every call of an agent."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial

from transforms.count import rules
from transforms.count.cache import Entry, Space
from transforms.count.families import Family
from transforms.count.messages import pieces_tokens


def tool_set(tools_json: bytes, kind: Family, responses: bool, space: Space) -> Entry:
    """The tool list of a request as ``kind`` of model reads it; ``items`` is the number of its tools."""
    return space.young.get(tools_json) or _remember(tools_json, partial(_tool_set, responses, kind), space)


def response_schema(schema_json: bytes, kind: Family, space: Space) -> Entry:
    """The response schema as ``kind`` of model reads it; ``items`` is the number of tokens of its name."""
    return space.young.get((schema_json,)) or _remember((schema_json,), partial(_schema, kind), space)


def _remember(key: bytes | tuple[bytes], make: Callable[[bytes, Space], Entry], space: Space) -> Entry:
    """The entry under ``key``: tools by their JSON, a response schema by its JSON in a tuple."""
    data = key if isinstance(key, bytes) else key[0]
    found: Entry | None = space.old.get(key)
    if found is None:
        found = make(data, space)
    space.keep(key, found, sys.getsizeof(data))
    return found


def _tool_set(responses: bool, kind: Family, tools_json: bytes, space: Space) -> Entry:
    rendered = rules.render_tools(tools_json, responses)
    if kind.template is not None:
        tokens = space.once(text).tokens if (text := kind.template.tools(tools_json, "")) else 0
    elif kind.dialect is not None:
        tokens = pieces_tokens(kind.dialect.tools(tools_json), space)
    elif kind.stand_in is not None:
        tokens = space.once(rules.declarations(tools_json)).tokens
    else:
        tokens = max(0, space.once(rendered.text).tokens - rendered.discount) if rendered.text else 0
    return Entry(tokens, space.digest(tools_json), len(tools_json), rendered.tools)


def _schema(kind: Family, schema_json: bytes, space: Space) -> Entry:
    shape = rules.render_schema(schema_json)
    name = space.text(shape.name).tokens
    if kind.dialect is not None:
        more = kind.stand_in.schema if kind.stand_in is not None else 0
        tokens = pieces_tokens(kind.dialect.schema(schema_json), space) * (1000 + more) // 1000
    elif kind.stand_in is not None:
        tokens = space.once(rules.schema_body(schema_json)).tokens * (1000 + kind.stand_in.schema) // 1000
    else:
        tokens = space.once(shape.text).tokens
    return Entry(tokens, space.digest(schema_json), len(schema_json), name)
