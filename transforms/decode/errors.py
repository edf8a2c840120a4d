"""How a decoder says that a record is no call."""

from __future__ import annotations


class Undecodable(Exception):
    """The record becomes a dead letter.

    ``reason`` is a code of ``schemas.reasons.DEAD_LETTER_REASONS``; ``error`` is one line that names the field and the
    value at fault; ``format_guess`` is the format or wire format it looked like; ``inside`` is the record without its
    envelopes, if it was in any.
    """

    def __init__(self, reason: str, error: str, format_guess: str = "") -> None:
        super().__init__(error)
        self.reason = reason
        self.error = error
        self.format_guess = format_guess
        self.inside = b""


class Skipped(Exception):
    """The record is rightly not a call; ``reason`` is a code of ``schemas.reasons.IGNORED_REASONS``."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
