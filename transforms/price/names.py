"""Model names as they stand in logs, brought to the names that price lists use."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NamedTuple

GEO_PREFIX: Final = re.compile(r"^(us-gov|us|eu|apac|jp|au|ca|sa|global)\.(?=[a-z0-9]+\.)")
"""Prefix of a Bedrock inference profile, which names where the call may be served: us.anthropic.claude-…"""

_RESOURCE: Final = re.compile(r"^(?:projects/[^/]+/locations/[^/]+/)?(?:publishers/[^/]+/)?models/")


class Name(NamedTuple):
    """Spellings to look up, the likeliest first, and the region scope the name itself tells (empty: none)."""

    spellings: tuple[str, ...]
    scope: str


def normalise(model: str, prefixes: Iterable[str]) -> Name:
    """What to look up for a model as logged.

    Case, spaces, resource paths (``models/``, ``publishers/google/models/``, the path of an ARN) and ``@`` before a
    version do not matter. ``prefixes`` are routing prefixes that may stand before the name (``openai/gpt-4o``). The
    prefix ``ft:`` of a fine-tuned model stays: it has prices of its own.
    """
    name = model.strip().lower()
    if name.startswith("arn:"):
        name = name.rpartition("/")[2]
    name = _RESOURCE.sub("", name).replace("@", "-")
    spellings = [name]
    head, slash, rest = name.partition("/")
    if slash and head in prefixes:
        spellings.append(rest)
        name = rest
    geo = GEO_PREFIX.match(name)
    if geo:
        spellings.append(name[geo.end() :])
        return Name(tuple(spellings), geo[1])
    return Name(tuple(spellings), "")


def pattern_regex(pattern: str) -> re.Pattern[str]:
    """The regular expression of a name pattern: ``*`` is any text, ``#`` one digit, all else itself."""
    return re.compile("".join({"*": ".*", "#": "[0-9]"}.get(c, re.escape(c)) for c in pattern))


def is_pattern(name: str) -> bool:
    """Whether a name of the book is a pattern, not a plain name."""
    return "*" in name or "#" in name


def literal_length(pattern: str) -> int:
    """How specific a pattern is: its characters that match only themselves."""
    return sum(c not in "*#" for c in pattern)
