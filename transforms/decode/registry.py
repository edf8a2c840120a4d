"""The registry of log formats. A format is one module with a ``FORMAT``: its name, its detector, its decoder.

Detection looks at the keys of the parsed record only, in the order of ``formats()``; the first that recognises it decodes
it. To add a format, write its module and its test, and name it in ``formats()``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from schemas.call import Call


@dataclass(frozen=True)
class Format:
    """One log format. ``decode(record, tenant)`` gives its calls, or raises ``Undecodable`` or ``Skip``."""

    name: str
    describes: str
    detect: Callable[[dict[str, Any]], bool]
    decode: Callable[[dict[str, Any], str], list[Call]]


@cache
def formats() -> tuple[Format, ...]:
    """Every format, the most specific first."""
    from transforms.decode import http_pair, litellm_payload, own_event

    return own_event.FORMAT, litellm_payload.FORMAT, http_pair.FORMAT


def table() -> str:
    """The formats as a Markdown table, for the documentation."""
    rows = [f"| `{one.name}` | {one.describes} |" for one in formats()]
    return "\n".join(["| format | what it is |", "| --- | --- |", *rows])
