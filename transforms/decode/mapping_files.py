"""Mappings as written: TOML files, checked until nothing can be wrong but the records. ``docs/mapping.md`` describes them."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from importlib import resources
from typing import Any, Final, NoReturn

import jmespath
import orjson
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions

from schemas.call import LEAVES, TOOL_USES
from schemas.reasons import IGNORED_REASONS
from transforms.decode.mapping import FIELDS, SKIPPED, TABLES, UNITS, Mapping
from transforms.decode.scrub import is_secret_name

MAX_EXPRESSION: Final = 1000
"""Characters of an expression."""


class MappingError(ValueError):
    """A mapping is wrong. The message names the file, the mapping, the field and what to do; one line."""


_KEYS: Final = ("name", "describes", "when", "as", "each", "skip", "json", "none", "fields", "join", "authority")
_FIELD_KEYS: Final = ("path", "value", "unit", "values", "else")


def mappings_in(files: Iterable[tuple[str, str]]) -> tuple[Mapping, ...]:
    """The mappings of files, given as name and text, in their order: the first that recognises a record reads it.

    Raises:
        MappingError: a file is not TOML, or a mapping says something that is wrong.
    """
    found: dict[str, Mapping] = {}
    for place, text in files:
        try:
            data = tomllib.loads(text)
        except ValueError as error:
            raise MappingError(f"{place}: not valid TOML: {error}") from None
        for one in _tables(data, place):
            if one.name in found:
                raise MappingError(f"{place}: two mappings are named {one.name!r}: give one of them another name")
            found[one.name] = one
    return tuple(found.values())


def built_in() -> tuple[Mapping, ...]:
    """The mappings that come along."""
    folder = resources.files("transforms.decode") / "mappings"
    files = sorted((file.name, file.read_text(encoding="utf-8")) for file in folder.iterdir() if file.name.endswith(".toml"))
    return mappings_in(files)


def _tables(data: dict[str, Any], place: str) -> list[Mapping]:
    for key in data:
        if key != "mapping":
            raise MappingError(f"{place}: unknown key {key}; write [[mapping]] and its keys below")
    tables = data.get("mapping")
    if type(tables) is not list or not tables or any(type(table) is not dict for table in tables):
        raise MappingError(f"{place}: no mapping here: write [[mapping]] and its keys below")
    return [_checked(table, place, number) for number, table in enumerate(tables, 1)]


class _Checker:
    """Refuses what is wrong in one mapping, naming where."""

    def __init__(self, at: str) -> None:
        self.at = at

    def refuse(self, where: str, why: str) -> NoReturn:
        raise MappingError(f"{self.at}: {where}: {why}")

    def keys(self, where: str, table: Any, known: Iterable[str]) -> None:
        if type(table) is not dict:
            self.refuse(where, "must be a table")
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(str(key), list(known), n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}?" if near else f"it may be one of {', '.join(known)}"
                self.refuse(f"{where}.{key}" if where else key, f"is unknown; {hint}")

    def text(self, where: str, value: Any, limit: int = 200) -> None:
        if type(value) is not str or not value.strip() or len(value) > limit:
            self.refuse(where, f"must be a text of 1 to {limit} characters")

    def texts(self, where: str, value: Any, least: int = 1) -> None:
        if type(value) is not list or len(value) < least or any(type(each) is not str for each in value):
            self.refuse(where, "must be a list of texts")

    def expression(self, where: str, value: Any) -> Any:
        """The parsed expression."""
        self.text(where, value, MAX_EXPRESSION)
        try:
            parsed = jmespath.compile(value).parsed
        except JMESPathError as error:
            why = " ".join(str(error).split())[:200]
            self.refuse(where, f"{value!r} is not a JMESPath expression: {why}")
        for node in _nodes(parsed):
            if node["type"] == "function_expression":
                self._function(where, node)
        return parsed

    def _function(self, where: str, node: Any) -> None:
        known = Functions.FUNCTION_TABLE.get(node["value"])
        if known is None:
            near = difflib.get_close_matches(node["value"], list(Functions.FUNCTION_TABLE), n=1)
            self.refuse(where, f"{node['value']}() is no function of JMESPath" + (f"; did you mean {near[0]}?" if near else ""))
        signature, given = known["signature"], len(node["children"])
        many = bool(signature) and signature[-1].get("variadic", False)
        if given < len(signature) or (given > len(signature) and not many):
            self.refuse(where, f"{node['value']}() takes {len(signature)} arguments{' or more' if many else ''}, not {given}")

    def field(self, where: str, given: Any, kind: str) -> dict[str, Any]:
        """How a field is filled, brought into its long form."""
        said = {"path": given} if type(given) is str else given
        if type(said) is not dict:
            self.refuse(where, "must be an expression, or a table with path or value")
        self.keys(where, said, _FIELD_KEYS)
        if ("path" in said) == ("value" in said):
            self.refuse(where, "must have either path, an expression, or value, a constant")
        if "value" in said:
            if len(said) > 1:
                self.refuse(where, "a constant value stands alone")
            if type(said["value"]) not in (str, int, float, bool) and kind != "any":
                self.refuse(f"{where}.value", "must be a text, a number, true or false")
            return said
        parsed = self.expression(where, said["path"])
        if kind == "text":
            for node in _nodes(parsed):
                if node["type"] == "field" and is_secret_name(node["value"]):
                    self.refuse(where, f"reads {node['value']}, which holds a secret; secrets are never kept")
        unit = said.get("unit")
        if unit is not None:
            units = UNITS.get(kind)
            if units is None:
                self.refuse(f"{where}.unit", "only times, durations and money have units")
            if unit not in units:
                self.refuse(f"{where}.unit", f"must be one of {', '.join(units)}")
        if "values" in said:
            if type(said["values"]) is not dict or not said["values"]:
                self.refuse(f"{where}.values", 'must be a table, such as { OK = "ok" }')
        elif "else" in said:
            self.refuse(f"{where}.else", "belongs to values, which is missing")
        return said


def _nodes(parsed: Any) -> Iterable[dict[str, Any]]:
    yield parsed
    for child in parsed.get("children", ()):
        if type(child) is dict:
            yield from _nodes(child)


_NAME: Final = re.compile(r"[A-Za-z0-9][\w.-]{0,59}\Z")


def _checked(table: dict[str, Any], place: str, number: int) -> Mapping:
    name = table.get("name")
    if type(name) is not str or not _NAME.match(name):
        raise MappingError(f"{place}: mapping {number}: name: must be 1 to 60 letters, digits, - and _")
    check = _Checker(f"{place}: mapping {name!r}")
    check.keys("", table, _KEYS)
    made: dict[str, Any] = dict(table)
    if "describes" in table:
        check.text("describes", table["describes"])
    _check_when(check, table.get("when"))
    target = made["as"] = table.get("as", "event")
    if target not in FIELDS:
        check.refuse("as", f"must be one of {', '.join(FIELDS)}")
    if "each" in table:
        check.expression("each", table["each"])
    made["skip"] = _check_skip(check, table.get("skip", []))
    for key in ("json", "none"):
        if key in table:
            check.texts(key, table[key])
    made["fields"] = _check_fields(check, table.get("fields"), target)
    if "join" in table:
        made["join"] = _check_join(check, table["join"])
    rank = table.get("authority", 20 if target == "event" else 30)
    if type(rank) is not int or not 0 <= rank <= 100:
        check.refuse("authority", "must be a whole number of 0 to 100")
    made["authority"] = rank
    try:
        return Mapping(name, orjson.dumps(made, option=orjson.OPT_SORT_KEYS).decode())
    except TypeError as error:
        raise MappingError(f"{check.at}: {error}") from None


def _check_when(check: _Checker, when: Any) -> None:
    if when is None:
        check.refuse("when", 'is missing: name keys that its records have, such as when = { keys = ["ts", "llm_model"] }')
    check.keys("when", when, ("keys", "any", "if"))
    for key in ("keys", "any"):
        if key in when:
            check.texts(f"when.{key}", when[key])
    if "keys" not in when and "any" not in when:
        check.refuse("when", "must name keys (all of them must be there) or any (one of them)")
    if "if" in when:
        check.expression("when.if", when["if"])


def _check_skip(check: _Checker, skip: Any) -> list[dict[str, str]]:
    given = skip if type(skip) is list else [skip]
    made = []
    for one in given:
        said = {"if": one} if type(one) is str else one
        check.keys("skip", said, ("if", "reason"))
        check.expression("skip", said.get("if"))
        reason = said.get("reason", SKIPPED)
        if reason not in IGNORED_REASONS:
            check.refuse("skip.reason", f"must be one of {', '.join(IGNORED_REASONS)}")
        made.append({"if": said["if"], "reason": reason})
    return made


def _check_fields(check: _Checker, fields: Any, target: str) -> dict[str, Any]:
    if fields is None:
        check.refuse("fields", "is missing: write [mapping.fields] and what fills each field below")
    known, tables = FIELDS[target], TABLES[target]
    check.keys("fields", fields, (*known, *tables))
    made: dict[str, Any] = {}
    for field, given in fields.items():
        if field not in tables:
            made[field] = check.field(field, given, known[field])
        elif type(given) is str:
            check.expression(field, given)
            made[field] = given
        else:
            names = tables[field]
            check.keys(field, given, names or list(given if type(given) is dict else ()))
            made[field] = {name: check.field(f"{field}.{name}", one, names.get(name, "text")) for name, one in given.items()}
    if target == "event":
        _check_event(check, fields)
    elif "request" not in fields and "response" not in fields:
        check.refuse("fields", "names neither request nor response")
    return made


def _check_event(check: _Checker, fields: dict[str, Any]) -> None:
    if "model" not in fields:
        check.refuse("fields.model", "is missing: say where the model is named")
    usage = fields.get("usage")
    if type(usage) is dict:
        totals = {"input_total", "output_total"} & usage.keys()
        leaves = usage.keys() & set(LEAVES)
        if totals and leaves:
            check.refuse("usage", f"{min(leaves)} is a leaf and {min(totals)} a total: usage is told by one or the other")
        parts = usage.keys() - set(LEAVES) - totals - set(TOOL_USES)
        if parts and not totals:
            check.refuse("usage", f"{min(parts)} is a part of a total: name input_total and output_total, too")


def _check_join(check: _Checker, join: Any) -> dict[str, Any]:
    check.keys("join", join, ("key", "role", "needs", "group", "rank"))
    if "key" not in join or "role" not in join:
        check.refuse("join", "must have key, an expression for the id that the parts share, and role")
    made = dict(join)
    check.expression("join.key", join["key"])
    made["role"] = check.field("join.role", join["role"], "text")
    if "needs" in join:
        check.texts("join.needs", join["needs"], 0)
    if "group" in join:
        check.text("join.group", join["group"])
    if type(join.get("rank", 0)) is not int:
        check.refuse("join.rank", "must be a whole number")
    return made
