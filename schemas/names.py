"""How an id is written in texts: as it is, as JSON and addresses write it; whatever the case, as a word of its own.

One pattern in two dialects: that of ClickHouse (RE2) to look into a store, that of Python to look into a record. Both take
letters and digits of any script for parts of a word.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Final
from unicodedata import normalize
from urllib.parse import quote

SHORT: Final = 4
"""An id of fewer characters is looked for only where it is the whole value: as a word it is in too many texts."""


def pattern(name: str) -> str:
    """The name as a word, as a pattern of RE2."""
    return "(?i)" + _bounded(name, r"(?:^|[^\pL\pN])", r"(?:$|[^\pL\pN])")


def part(name: str) -> str:
    """The longest part of a name that every spelling leaves as it is: where it is not, the name is not. May be empty."""
    return max(re.findall(r"[A-Za-z0-9_.~-]+", name), key=len, default="")


def named(name: str, text: str) -> bool:
    """Whether a text holds the name; a short name, whether the text is it."""
    return text == name if len(name) < SHORT else _compiled(name).search(text) is not None


@functools.lru_cache(maxsize=256)
def _compiled(name: str) -> re.Pattern[str]:
    return re.compile(_bounded(name, r"(?:^|[\W_])", r"(?:$|[\W_])"), re.IGNORECASE)


def _bounded(name: str, before: str, after: str) -> str:
    # In raw JSON and in addresses a word may follow an escape that ends in a letter or a digit.
    escape = r"\\[nrtbf]|\\u[0-9a-fA-F]{4}|%[0-9a-fA-F]{2}"
    spellings: dict[str, None] = {}
    # An escape hides the case of a letter, and which of several ways an accent is written.
    for text in (name, *(normalize(form, way(name)) for form in ("NFC", "NFD") for way in (str, str.lower, str.upper))):
        spellings |= dict.fromkeys((text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]))
        spellings |= dict.fromkeys(quote(text, safe=safe, errors="replace") for safe in ("", "@"))
    return f"(?:{before}|{escape})(?:{'|'.join(map(_escaped, spellings))}){after}"


def _escaped(text: str) -> str:
    """A pattern for exactly this text; a backslash may be doubled, as in JSON inside JSON."""
    return re.sub(r"[.+*?()|\[\]{}^$]", r"\\\g<0>", text.replace("\\", "\0")).replace("\0", r"\\+")
