"""Rules for tests, given as dicts and read by way of TOML, as a person would write them."""

from __future__ import annotations

import json
import tomllib
from datetime import UTC, datetime, timedelta
from typing import Any

from transforms.own import Rule
from transforms.own.files import in_order, rules_of

NOON = 1_748_779_200_000_000
"""2025-06-01 12:00 UTC in microseconds."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def toml_of(rules: list[dict[str, Any]]) -> str:
    """A file of rules. Times (``from``, ``until``) are given in UTC microseconds."""
    return "\n".join("[[rule]]\n" + "".join(f"{key} = {_value(key, value)}\n" for key, value in rule.items()) for rule in rules)


def _value(key: str, value: Any) -> str:
    if key in ("from", "until"):
        return (_EPOCH + timedelta(microseconds=value)).isoformat()
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(name)} = {_value(name, each)}" for name, each in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_value("", each) for each in value) + "]"
    return json.dumps(value)


def _key(name: str) -> str:
    return name if name.replace("_", "").isalnum() else json.dumps(name)


def rules_from(*files: list[dict[str, Any]] | str) -> tuple[Rule, ...]:
    """The rules of files, each a text or a list of rules."""
    rules: list[Rule] = []
    for number, file in enumerate(files):
        text = file if isinstance(file, str) else toml_of(file)
        if text:
            rules += rules_of(tomllib.loads(text), f"owners{number}.toml")
    return in_order(rules)
