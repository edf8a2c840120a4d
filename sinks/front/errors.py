"""Errors as ClickHouse's HTTP interface tells them: a code, a line of text, an HTTP status."""

from __future__ import annotations

import re
from typing import Final

AUTHENTICATION_FAILED: Final = 516
ACCESS_DENIED: Final = 497
READONLY: Final = 164
SETTING_CONSTRAINT_VIOLATION: Final = 452
SYNTAX_ERROR: Final = 62
NOT_IMPLEMENTED: Final = 48
BAD_ARGUMENTS: Final = 36
UNKNOWN_FUNCTION: Final = 46
UNKNOWN_FORMAT: Final = 73
UNKNOWN_DATABASE: Final = 81
UNKNOWN_SETTING: Final = 115
TOO_MANY_QUERIES: Final = 202
QUERY_IS_TOO_LARGE: Final = 307
CANNOT_DECOMPRESS: Final = 271
ABORTED: Final = 236

NAMES: Final = {
    AUTHENTICATION_FAILED: "AUTHENTICATION_FAILED",
    ACCESS_DENIED: "ACCESS_DENIED",
    READONLY: "READONLY",
    SETTING_CONSTRAINT_VIOLATION: "SETTING_CONSTRAINT_VIOLATION",
    SYNTAX_ERROR: "SYNTAX_ERROR",
    NOT_IMPLEMENTED: "NOT_IMPLEMENTED",
    BAD_ARGUMENTS: "BAD_ARGUMENTS",
    UNKNOWN_FUNCTION: "UNKNOWN_FUNCTION",
    UNKNOWN_FORMAT: "UNKNOWN_FORMAT",
    UNKNOWN_DATABASE: "UNKNOWN_DATABASE",
    UNKNOWN_SETTING: "UNKNOWN_SETTING",
    TOO_MANY_QUERIES: "TOO_MANY_SIMULTANEOUS_QUERIES",
    QUERY_IS_TOO_LARGE: "TOO_MANY_BYTES",
    CANNOT_DECOMPRESS: "CANNOT_DECOMPRESS",
    ABORTED: "ABORTED",
}

_STATUS: Final = {
    **dict.fromkeys((192, 193, 194, 497, 512, 516), 403),
    **dict.fromkeys((6, 26, 27, 36, 38, 41, 42, 43, 53, 62, 72, 117, 130, 271, 386, 427, 456, 457), 400),
    **dict.fromkeys((46, 47, 50, 56, 60, 73, 81, 115), 404),
    159: 408,
    307: 413,
    48: 501,
}
"""HTTP status by error code, as ClickHouse has it; 500 for all others."""

_CODE: Final = re.compile(r"Code: (\d+)\. DB::Exception: ")


class Refused(Exception):
    """A request that is not carried out; ``code`` is ClickHouse's."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


def status_of(code: int) -> int:
    """The HTTP status of an error code."""
    return _STATUS.get(code, 500)


def as_refused(error: BaseException, user: str) -> Refused:
    """An error of the engine as one of ours: its code, its text without wrappers, the user's own name in it."""
    if isinstance(error, Refused):
        return error
    text = str(error)
    found = list(_CODE.finditer(text))
    if not found:
        return Refused(1002, text or type(error).__name__)  # UNKNOWN_EXCEPTION
    # The engine repeats "Code: N. DB::Exception:" of the inner error in the outer one.
    last = found[0]
    for more in found[1:]:
        if more.start() != last.end() or more.group(1) != last.group(1):
            break
        last = more
    text = re.sub(r" \(version [\d.]+\)", "", text[last.end() :]).strip()
    text = re.sub(r"(\([A-Z_]+\))(\.?\s*\1)+$", r"\1", text)
    return Refused(int(found[0].group(1)), re.sub(r"^default: ", lambda _: f"{user}: ", text))


def body_of(error: Refused, version: str) -> str:
    """The text that goes back: clients look for ``Code:``, ``DB::Exception`` and the name in brackets."""
    name = NAMES.get(error.code)
    named = "" if name is None or str(error).endswith(f"({name})") else f" ({name})"
    return f"Code: {error.code}. DB::Exception: {error}{named} (version {version})"
