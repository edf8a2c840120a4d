"""Who owns a call: effective-dated rules over what its record says. Described for people in ``docs/ownership.md``.

``files`` reads rules; workers, which are handed them, do without it and what it imports.
"""

from transforms.own.claim import Claims, Match, own
from transforms.own.rules import NO_RULES, Owner, Rule, headers_of

__all__ = [
    "NO_RULES",
    "Claims",
    "Match",
    "Owner",
    "Rule",
    "headers_of",
    "own",
]
