"""Ownership rules as written: TOML files, read and checked into rules in their order of precedence."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from schemas.tables import RECORDED, UNALLOCATED
from transforms.decode.scrub import is_secret_name
from transforms.own.rules import EVER, FOREVER, Condition, Owner, Rule

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_VALUE: Final = 512


class RulesError(ValueError):
    """An ownership rule is wrong. The message names the file, the rule, the key and what to do; one line."""


def read_rules(paths: Iterable[Path]) -> tuple[Rule, ...]:
    """The rules of all files in their order of precedence, which does not depend on the order of files or in a file.

    Raises:
        RulesError: a file cannot be read, or says something that is wrong or ambiguous.
    """
    return rules_in((str(path), read_text(path)) for path in paths)


def read_text(path: Path) -> str:
    """The text of a file of rules.

    Raises:
        RulesError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RulesError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RulesError(f"{path}: not valid TOML: {error}") from None


def rules_in(files: Iterable[tuple[str, str]]) -> tuple[Rule, ...]:
    """The rules of files, given as name and text, in their order of precedence.

    Raises:
        RulesError: as ``read_rules``.
    """
    rules: list[Rule] = []
    for place, text in files:
        try:
            data = tomllib.loads(text)
        except ValueError as error:
            raise RulesError(f"{place}: not valid TOML: {error}") from None
        rules += rules_of(data, place)
    return in_order(rules)


def in_order(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Rules by rank. Of those of one rank the first by name goes before; ``owners check`` shows where they clash."""
    ordered = sorted(rules, key=lambda rule: (rule.rank, rule.name))
    named: dict[str, Rule] = {}
    for rule in ordered:
        twin = named.setdefault(rule.name, rule)
        if twin is not rule:
            places = " and ".join(dict.fromkeys((twin.place, rule.place)))
            raise RulesError(f"two rules are named {rule.name!r}, in {places}: give one of them another name")
    return tuple(ordered)


# ---- what a file may say


def _moment(value: object) -> object:
    """A date (midnight UTC) or a time with its zone, in UTC microseconds."""
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone; write Z after it for UTC")
        return (value - _EPOCH) // timedelta(microseconds=1)
    if isinstance(value, date):
        return (datetime.combine(value, time(), UTC) - _EPOCH) // timedelta(microseconds=1)
    raise ValueError(f"{value!r} is not a date; write it without quotes: 2026-03-01")


def _texts(value: object) -> object:
    some = [value] if isinstance(value, str) else value
    if not isinstance(some, list) or not some or not all(isinstance(text, str) for text in some):
        raise ValueError(f"{value!r} is neither a text nor a list of texts")
    if any(len(text) > _MAX_VALUE or text.count("*") > 8 for text in some):
        raise ValueError(f"a text may have {_MAX_VALUE} characters and 8 of *")
    return tuple(some)


def _word(value: object) -> object:
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_VALUE:
        raise ValueError(f"{value!r} is not a text of 1 to {_MAX_VALUE} characters")
    return value


Texts = Annotated[tuple[str, ...], BeforeValidator(_texts)]
Word = Annotated[str, BeforeValidator(_word)]
Moment = Annotated[int, BeforeValidator(_moment)]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class WhenTable(_Table):
    """What a call must be: all of these. team, app and the like are what its record says."""

    tenant: Texts | None = None
    team: Texts | None = None
    app: Texts | None = None
    service: Texts | None = None
    feature: Texts | None = None
    environment: Texts | None = None
    cost_center: Texts | None = None
    api_key_alias: Texts | None = None
    project: Texts | None = None
    account: Texts | None = None
    provider: Texts | None = None
    model: Texts | None = None
    model_requested: Texts | None = None
    deployment: Texts | None = None
    deployment_type: Texts | None = None
    endpoint_host: Texts | None = None
    region: Texts | None = None
    operation: Texts | None = None
    template: Texts | None = None
    agent: Texts | None = None
    step: Texts | None = None
    source: Texts | None = None
    tags: dict[str, Texts] = Field(default_factory=dict)
    headers: dict[str, Texts] = Field(default_factory=dict)

    def conditions(self) -> tuple[Condition, ...]:
        """The conditions by the columns they look at."""
        names = self.model_fields_set - {"tags", "headers", "service"}
        found = [Condition(f"recorded_{name}" if name in RECORDED else name, getattr(self, name)) for name in names]
        found += [Condition("tags.service", self.service)] if self.service else []
        found += [Condition(f"tags.{name}", values) for name, values in self.tags.items()]
        found += [Condition(f"headers.{name.lower()}", values) for name, values in self.headers.items()]
        return tuple(sorted(found, key=lambda condition: condition.field))


class PeriodTable(_Table):
    """Who owns the calls, and from when until when."""

    team: Word | None = None
    app: Word | None = None
    feature: Word | None = None
    environment: Word | None = None
    cost_center: Word | None = None
    from_: Moment | None = Field(default=None, alias="from")
    until: Moment | None = None


class RuleTable(PeriodTable):
    """One ``[[rule]]``: its owner on the spot, or a ``history`` of owners."""

    name: Word
    when: WhenTable
    priority: int = Field(default=0, ge=-1000, le=1000)
    override: bool = False
    history: list[PeriodTable] | None = None


class FileTable(_Table):
    """A file of rules."""

    rule: list[RuleTable] = Field(default_factory=list)


def rules_of(data: dict[str, Any], place: str) -> list[Rule]:
    """The rules of one parsed file, as they stand in it.

    Raises:
        RulesError: a key is unknown, a value is not allowed, or a history has a gap or an overlap.
    """
    try:
        table = FileTable.model_validate(data)
    except ValidationError as error:
        raise RulesError(_problem(error, data, place)) from None
    if not table.rule:
        raise RulesError(f"{place}: no rule here: write [[rule]] and its keys below")
    return [_rule(rule, place) for rule in table.rule]


def _rule(table: RuleTable, place: str) -> Rule:
    at = f"{place}: rule {table.name!r}"
    conditions = table.when.conditions()
    if not conditions and table.when.model_fields_set:  # when = {} is how to mean every call
        raise RulesError(f"{at}: when: names no condition")
    for header in table.when.headers:
        if is_secret_name(header):
            raise RulesError(f"{at}: when.headers.{header}: holds a secret, which is never kept; match on api_key_alias")
    lowered = [name.lower() for name in table.when.headers]
    if len(set(lowered)) < len(lowered):
        raise RulesError(f"{at}: when.headers: one header is named twice; case does not matter in their names")
    if table.history is None:
        periods: Sequence[PeriodTable] = [table]
    else:
        periods = table.history
        on_the_spot = sorted(table.model_fields_set & (set(RECORDED) | {"from_", "until"}))
        if on_the_spot:
            key = on_the_spot[0].rstrip("_")
            raise RulesError(f"{at}: {key} stands beside history: put it into each period of the history")
        if not periods:
            raise RulesError(f"{at}: history: is empty; state at least one period")
    owners = _periods(periods, at)
    named = any(condition.field == "recorded_team" and "" not in condition.values for condition in conditions)
    for owner in owners:
        if not any(owner.said):
            raise RulesError(f"{at}: names no owner: state at least one of {', '.join(RECORDED)}")
        if not owner.team and not named:
            raise RulesError(f"{at}: team is missing: state it, or match on the team that records name (when.team)")
        if owner.team.casefold() == UNALLOCATED:
            raise RulesError(f"{at}: team: {owner.team!r} stands for what nobody claims; a rule cannot claim for it")
    return Rule(table.name, conditions, owners, table.priority, table.override, place)


def _periods(tables: Sequence[PeriodTable], at: str) -> tuple[Owner, ...]:
    """Owners in order of time, each bound that is left out taken from the neighbour."""
    starts = [table.from_ for table in tables]
    ends = [table.until for table in tables]
    for number in range(1, len(tables)):
        end, start = ends[number - 1], starts[number]
        first, second = f"period {number}", f"period {number + 1}"
        if start is None and end is None:
            raise RulesError(f"{at}: history: say when {second} begins (from): {first} has no until")
        if start is not None and end is not None and start != end:
            fault = "leave a gap" if end < start else "overlap"
            raise RulesError(
                f"{at}: history: {first} and {second} {fault}: until {iso(end)}, from {iso(start)};"
                " they must be equal (a pause is made by two rules)"
            )
        bound = start if start is not None else end
        ends[number - 1] = starts[number] = bound
    owners = []
    for number, (table, start, end) in enumerate(zip(tables, starts, ends, strict=True), 1):
        begin, stop = EVER if start is None else start, FOREVER if end is None else end
        if stop <= begin:
            which = f"history: period {number}: " if len(tables) > 1 else ""
            raise RulesError(f"{at}: {which}until {iso(stop)} must be later than from {iso(begin)}")
        said = {name: getattr(table, name) or "" for name in RECORDED}
        owners.append(Owner(**said, start=begin, end=stop))
    return tuple(owners)


def iso(micros: int) -> str:
    """A time in UTC as it would be written in a file."""
    moment = _EPOCH + timedelta(microseconds=micros)
    return f"{moment:%Y-%m-%d}" if moment.time() == time() else moment.isoformat().replace("+00:00", "Z")


def _problem(error: ValidationError, data: dict[str, Any], place: str) -> str:
    """The first thing that is wrong, in one line: file, rule, key, what to do."""
    problems = error.errors(include_url=False)
    # A misspelt key is what its missing namesake is about.
    problem = next((each for each in problems if each["type"] == "extra_forbidden"), problems[0])
    steps = list(problem["loc"])
    where, model = _walk(steps, data, place)
    key = ".".join(str(step) for step in steps if not isinstance(step, int))
    key = key.removeprefix("rule.").removeprefix("history.")
    if problem["type"] == "extra_forbidden":
        known = [field.alias or name for name, field in model.model_fields.items()]
        near = difflib.get_close_matches(str(steps[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else f"it may be one of {', '.join(known)}"
        return f"{where}: unknown key {key}; {hint}"
    if problem["type"] == "missing":
        return f"{where}: {key} is missing"
    if problem["type"] == "model_type":
        return f'{where}: {key} must be a table, such as when = {{ api_key_alias = "search-*" }}'
    said = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {key}: {said}"


def _walk(steps: list[int | str], data: dict[str, Any], place: str) -> tuple[str, type[BaseModel]]:
    """Which rule a path in the file leads to, and the table that its last key stands in."""
    where, model = place, FileTable
    found: Any = data
    kind: type[BaseModel] = model
    for step in steps[:-1]:
        try:
            found = found[step]
        except (KeyError, IndexError, TypeError):
            break
        if isinstance(step, int):
            if kind is FileTable:
                kind = RuleTable
                name = found.get("name") if isinstance(found, dict) else None
                where = f"{place}: rule {name!r}" if isinstance(name, str) else f"{place}: rule {step + 1}"
            else:
                kind = PeriodTable
                where += f": history: period {step + 1}"
        elif step == "when":
            kind = WhenTable
    return where, kind


CONDITIONS: Final = tuple(WhenTable.model_fields)
"""Keys of ``when``."""
