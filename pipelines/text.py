"""Text from logs and settings made safe for a terminal."""

from __future__ import annotations

import re
from typing import Final

# Control characters (escape sequences among them), line and paragraph separators, marks that reorder what is shown, and
# lone surrogates, which no encoding can write.
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def printable(text: str) -> str:
    """``text`` on one line, with what would steer a terminal written as an escape such as ``\\x1b``."""
    return _UNPRINTABLE.sub(lambda found: repr(found.group())[1:-1], text)
