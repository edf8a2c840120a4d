"""Who owns a call: effective-dated rules over what its record says. Described for people in ``docs/ownership.md``."""

from transforms.own.claim import Claims, Match, own
from transforms.own.rules import NO_RULES, Owner, Rule, RulesError, headers_of, read_rules

__all__ = [
    "NO_RULES",
    "Claims",
    "Match",
    "Owner",
    "Rule",
    "RulesError",
    "headers_of",
    "own",
    "read_rules",
]
