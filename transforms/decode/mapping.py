"""Mappings: a log that no format knows is read by a few lines of TOML that say which of its fields mean what.

A mapping names the keys that give its records away, and an expression (JMESPath, https://jmespath.org) for each field of what
it makes of them: our own event, or a recorded HTTP pair. What it makes goes through the decoder of that format, so there is one
place that validates. ``docs/mapping.md`` describes the files.

``mapping_files`` checks what is written; what it gives is plain text, which goes to workers and into the fingerprint of a run.
``compiled`` makes a decoder of it, once in a process.

Expressions have no loops and no way to call back, each looks at one record, and how many fields, characters and items there may
be is bounded: so is the work for a record.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, NoReturn

import jmespath
import orjson

from schemas.call import LEAVES, TOOL_USES, Call
from schemas.part import Part
from transforms.decode.context import read_tags
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.exchange import parse_json
from transforms.decode.formats import event, http_pair
from transforms.decode.scrub import scrub
from transforms.decode.values import count, milliseconds

MAX_ITEMS: Final = 10_000
"""Calls that one record may hold."""

SKIPPED: Final = "left_out"
"""Reason of records that a mapping skips without naming another."""


class Mapping(NamedTuple):
    """A mapping that was checked: its name, and all it says as JSON with sorted keys."""

    name: str
    said: str


# ---- what a field of what is made may be, and how a value of the log becomes one


_TIME_UNITS: Final = {"s": Decimal(10**6), "ms": Decimal(10**3), "us": Decimal(1), "ns": Decimal("0.001")}
"""In microseconds."""
_DURATION_UNITS: Final = {"s": Decimal(1000), "ms": Decimal(1), "us": Decimal("0.001"), "ns": Decimal("0.000001")}
"""In milliseconds."""
_MONEY_UNITS: Final = {"usd": Decimal(1), "cents": Decimal("0.01"), "micros": Decimal("0.000001")}
"""In dollars."""
UNITS: Final = {"time": _TIME_UNITS, "duration": _DURATION_UNITS, "money": _MONEY_UNITS}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PUT_BY_PEOPLE: Final = frozenset({"user", "api_key_alias"})
"""Fields in which a key stands now and then."""


def _bad(field: str, value: object, why: str) -> NoReturn:
    raise Undecodable("bad_value", f"{field}: {repr(value)[:60]} {why}")


def _text(field: str, value: Any, _: str) -> Any:
    """Numbers and truth values in their JSON spelling; anything else is for the format to refuse."""
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int or type(value) is float:
        return str(value)
    return scrub(value) if field in _PUT_BY_PEOPLE and type(value) is str else value


def _count(field: str, value: Any, _: str) -> Any:
    return count(value, field)


_TRUTH: Final[dict[Any, bool]] = {"true": True, "false": False, "True": True, "False": False, "1": True, "0": False}


def _boolean(field: str, value: Any, _: str) -> Any:
    if type(value) is int and value in (0, 1):
        return bool(value)
    return _TRUTH.get(value, value) if type(value) is str else value


def _decimal(field: str, value: Any) -> Decimal:
    if type(value) not in (int, float, str):
        _bad(field, value, "is not a number")
    try:
        number = Decimal(str(value).strip()[:60])
    except InvalidOperation:
        _bad(field, value, "is not a number")
    if not number.is_finite() or abs(number) > 10**21:
        _bad(field, value, "is out of range")
    return number


def _time(field: str, value: Any, unit: str) -> Any:
    """A time that the format reads by itself; with a unit, a number of such since 1970, as ISO 8601."""
    if not unit:
        return value
    micros = _decimal(field, value) * _TIME_UNITS[unit]
    try:
        moment = _EPOCH + timedelta(microseconds=int(micros))
    except OverflowError:
        _bad(field, value, f"is not a time in {unit} since 1970")
    whole = unit == "s" and micros % 1_000_000 == 0  # then the log is not finer than a second
    return moment.isoformat(timespec="seconds" if whole else "microseconds")


def _duration(field: str, value: Any, unit: str) -> Any:
    number = milliseconds(value)
    if number is None:
        return value
    return float(Decimal(str(number)) * _DURATION_UNITS[unit]) if unit else number


def _number(field: str, value: Any, _: str) -> Any:
    number = milliseconds(value)
    return value if number is None else number


def _money(field: str, value: Any, unit: str) -> Any:
    """Dollars as a decimal text. A cost of zero often means that the logger had no price: it counts as not said."""
    amount = _decimal(field, value) * _MONEY_UNITS[unit or "usd"]
    if abs(amount) < 10**6 and amount != round(amount, 18):
        amount = round(amount, 18)  # a float may have more digits than the event takes, and than anybody pays
    return f"{amount:f}" if amount else None


def _as_it_is(field: str, value: Any, _: str) -> Any:
    return value


_CONVERT: Final[dict[str, Callable[[str, Any, str], Any]]] = {
    "text": _text,
    "count": _count,
    "boolean": _boolean,
    "time": _time,
    "duration": _duration,
    "number": _number,
    "money": _money,
    "any": _as_it_is,
}

_TIMES: Final = {"started_at": "time", "ended_at": "time", "duration_ms": "duration", "ttft_ms": "duration"}
_EVENT_FIELDS: Final = {
    **dict.fromkeys(event.TEXTS, "text"),
    **dict.fromkeys(("operation", "status"), "text"),
    **dict.fromkeys(event.INTEGERS, "count"),
    **dict.fromkeys(event.BOOLEANS, "boolean"),
    **_TIMES,
    "sampling_rate": "number",
    **dict.fromkeys(("messages", "output", "tools", "response_schema", "settings"), "any"),
}
_PAIR_TEXTS: Final = (
    "tenant", "provider", "team", "app", "feature", "environment", "cost_center", "project", "account", "user", "api_key_alias",
    "template", "agent", "step", "trace_id", "span_id", "parent_span_id", "session_id", "request_id", "region", "deployment",
    "deployment_type",
)  # fmt: skip
_PAIR_FIELDS: Final = {
    **dict.fromkeys(("request", "response", "url", "request_headers", "response_headers"), "any"),
    "status": "count",
    **dict.fromkeys(_PAIR_TEXTS, "text"),
    **_TIMES,
    "attempt": "count",
    "sampling_rate": "number",
    **dict.fromkeys(("stream", "batch", "gateway_cache_hit", "spillover"), "boolean"),
}
TAGS: Final = "tags"
TABLES: Final[dict[str, dict[str, dict[str, str]]]] = {
    "event": {"usage": dict.fromkeys(event.USAGE, "count"), "reported_cost": {"usd": "money", "by": "text"}, TAGS: {}},
    "http_pair": {TAGS: {}},
}
"""Fields that are objects, by what is made: the names in them, and their kinds. Tags have any name."""
FIELDS: Final = {"event": _EVENT_FIELDS, "http_pair": _PAIR_FIELDS}
"""Fields that are single values, by what is made, and their kinds."""


# ---- from what was checked to a decoder

_Scope = Any
_Find = Callable[[_Scope], Any]


def _find(expression: str, field: str) -> _Find:
    """What works an expression out. Plain paths, nearly all, need no interpreter."""
    parsed = jmespath.compile(expression)
    path = _plain_path(parsed.parsed)
    if path is not None:
        return partial(_walk, path)
    return partial(_search, parsed, field)


def _plain_path(node: Any) -> tuple[str, ...] | None:
    if node["type"] == "field":
        return (node["value"],)
    if node["type"] == "subexpression":
        steps = [_plain_path(child) for child in node["children"]]
        return None if None in steps else tuple(step for some in steps if some is not None for step in some)
    return None


def _walk(path: tuple[str, ...], scope: _Scope) -> Any:
    for step in path:
        if type(scope) is not dict:
            return None
        scope = scope.get(step)
    return scope


def _search(parsed: Any, field: str, scope: _Scope) -> Any:
    try:
        return parsed.search(scope)
    except Exception as error:  # of the library, or of Python on values the library did not expect
        kind = type(error).__name__
        raise Undecodable("bad_value", f"{field}: {parsed.expression[:80]} cannot be worked out here: {kind}") from None


def _true(value: Any) -> bool:
    """Truth as JMESPath has it: 0 is true."""
    return bool(value) or (type(value) in (int, float) and value is not False)


class _Fill(NamedTuple):
    """How one field is filled."""

    field: str
    find: _Find | None
    constant: Any
    convert: Callable[[str, Any, str], Any]
    unit: str
    values: dict[str, Any] | None
    otherwise: Any
    none: frozenset[str]

    def value(self, scope: _Scope) -> Any:
        if self.find is None:
            return self.constant
        found = self.find(scope)
        if type(found) is str and found in self.none:
            found = None
        if self.values is not None:
            found = self._translated(found)
        return None if found is None else self.convert(self.field, found, self.unit)

    def _translated(self, found: Any) -> Any:
        assert self.values is not None
        said = _text("", found, "") if found is not None else ""
        if type(said) is str and said in self.values:
            return self.values[said]
        return found if self.otherwise is None else self.otherwise


def _fill(field: str, said: dict[str, Any], kind: str, none: frozenset[str]) -> _Fill:
    find = _find(said["path"], field) if "path" in said else None
    convert = _CONVERT[kind]
    return _Fill(field, find, said.get("value"), convert, said.get("unit", ""), said.get("values"), said.get("else"), none)


class Decoder:
    """A mapping, compiled."""

    def __init__(self, given: Mapping) -> None:
        said = orjson.loads(given.said)
        self.name = given.name
        self.describes: str = said.get("describes", "A mapping of the configuration")
        self.authority: int = said["authority"]
        when = said["when"]
        self._keys: tuple[str, ...] = tuple(when.get("keys", ()))
        self._any: tuple[str, ...] = tuple(when.get("any", ()))
        self.signs = self._any or self._keys[:1]
        self._if = _find(when["if"], "when.if") if "if" in when else None
        self._each = _find(said["each"], "each") if "each" in said else None
        self._skip = [(_find(one["if"], "skip"), one["reason"]) for one in said["skip"]]
        self._json: list[str] = said.get("json", [])
        self._event: bool = said["as"] == "event"
        none = frozenset(("", *said.get("none", ())))
        kinds, tables = FIELDS[said["as"]], TABLES[said["as"]]
        self._plain: list[_Fill] = []
        self._tables: list[tuple[str, list[_Fill]]] = []
        self._whole: list[tuple[str, _Find]] = []
        for field, how in said["fields"].items():
            if field not in tables:
                self._plain.append(_fill(field, how, kinds[field], none))
            elif type(how) is str:
                self._whole.append((field, _find(how, field)))
            else:
                names = tables[field]
                fills = [_fill(f"{field}.{name}", one, names.get(name, "text"), none) for name, one in how.items()]
                self._tables.append((field, fills))
        join = said.get("join")
        self._join: dict[str, Any] | None = join
        if join is not None:
            self._key = _find(join["key"], "join.key")
            self._role = _fill("join.role", join["role"], "text", none)

    def detect(self, record: dict[str, Any]) -> bool:
        """Whether the keys are there, and the condition holds."""
        if self._any and self._any[0] not in record and not any(key in record for key in self._any):
            return False
        for key in self._keys:
            if key not in record:
                return False
        try:
            return self._if is None or _true(self._if(record))
        except Undecodable:
            return False

    def decode(self, record: dict[str, Any]) -> list[Call | Part | Undecodable | Skipped]:
        """What the record holds, by the mapping."""
        if self._json:
            record = {**record, **{key: parse_json(record[key]) for key in self._json if key in record}}
        if self._each is None:
            return self._one(record)
        items = self._each(record)
        if type(items) is not list:
            raise Undecodable("bad_value", f"each: {repr(items)[:60]} is not a list", self.name)
        if not items:
            raise Skipped(SKIPPED)
        if len(items) > MAX_ITEMS:
            raise Undecodable("record_too_large", f"each: {len(items)} calls in one record, more than {MAX_ITEMS}", self.name)
        found: list[Call | Part | Undecodable | Skipped] = []
        for item in items:
            try:
                found += self._one({"item": item, "record": record})
            except (Undecodable, Skipped) as problem:
                found.append(problem)
        return found

    def _one(self, scope: _Scope) -> list[Call | Part | Undecodable | Skipped]:
        for condition, reason in self._skip:
            if _true(condition(scope)):
                raise Skipped(reason)
        made = self._made(scope)
        try:
            calls = self._calls_of(made)
        except Undecodable as problem:
            problem.format_guess = self.name
            raise
        if self._join is None:
            return [*calls]
        return self._parts(scope, made, calls)

    def _calls_of(self, made: dict[str, Any]) -> Sequence[Call | Part]:
        if not self._event:
            return http_pair.decode(made)
        made["schema"] = event.SCHEMA
        if self._join is not None:
            made.setdefault("model", "")  # another part may name it
        missing = _complete_totals(made)
        calls = event.decode(made)
        for call in calls:
            if missing:
                _forget_total(call, missing)
            if call.usage_source != "none" and self.authority < 20:
                call.usage_source = "gateway"
        return calls

    def _made(self, scope: _Scope) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for fill in self._plain:
            value = fill.value(scope)
            if value is not None:
                made[fill.field] = value
        for field, find in self._whole:
            value = find(scope)
            if value is not None:
                made[field] = _tags(value) if field == TAGS else value
        for field, fills in self._tables:
            inside = {fill.field.partition(".")[2]: value for fill in fills if (value := fill.value(scope)) is not None}
            if field == TAGS:
                inside = {name: value for name, value in inside.items() if type(value) is str}
            if inside and (field != "reported_cost" or "usd" in inside):
                made[field] = inside
        cost = made.get("reported_cost")
        if type(cost) is dict:
            cost.setdefault("by", "gateway")  # a log's own idea of a cost is no bill
        return made

    def _parts(
        self, scope: _Scope, made: dict[str, Any], calls: Sequence[Call | Part]
    ) -> list[Call | Part | Undecodable | Skipped]:
        """The call as a part; without the id that parts share, it stands for itself."""
        assert self._join is not None
        key, role = self._key(scope), self._role.value(scope)
        key = str(key) if type(key) is int else key
        if type(key) is not str or not key or type(role) is not str:
            return [*calls]
        if len(key) > 256:
            _bad("join.key", key, "is longer than 256 characters")
        call, *others = calls
        if isinstance(call, Part):  # which its own format joins
            return [*calls]
        _only_what_is_told(call, made, self._event)
        whose = f"{self._join.get('group', self.name)}:{key}"
        return [Part(whose, role, call, tuple(self._join.get("needs", ())), self._join.get("rank", 0)), *others]


def _only_what_is_told(call: Call, made: dict[str, Any], is_event: bool) -> None:
    """Take back what a decoder concludes from what is missing: another part may tell it."""
    if "started_at" not in made and not ("ended_at" in made and "duration_ms" in made):
        call.event_time, call.time_quality = 0, ""
    if call.provider == "unknown":
        call.provider = ""
    if not is_event and "response" not in made:
        call.model = ""  # that of the answer
        if "no_answer" in call.flags:
            call.status, call.flags = "ok", tuple(flag for flag in call.flags if flag != "no_answer")


def _tags(value: Any) -> dict[str, str]:
    tags: dict[str, str] = {}
    read_tags(value, tags)
    return tags


def _complete_totals(made: dict[str, Any]) -> str:
    """Our event tells both totals or none. Of one alone the other is put at 0; which, to be made unknown again."""
    usage = made.get("usage")
    if type(usage) is not dict:
        return ""
    for here, other in (("input_total", "output_total"), ("output_total", "input_total")):
        if usage.get(here) is not None and usage.get(other) is None:
            usage[other] = 0
            return "" if other == "output_total" and made.get("operation") in ("embedding", "rerank") else other
    if usage.get("input_total") is None and not usage.keys() & set(LEAVES):
        kept = {name: value for name, value in usage.items() if name in TOOL_USES}
        made.pop("usage")  # parts of totals that are not there tell nothing
        if kept:
            made["usage"] = kept
    return ""


def _forget_total(call: Call, total: str) -> None:
    if total == "output_total":
        call.output_visible = call.vendor_output = None
    else:
        call.input_fresh = call.vendor_input = None
    if call.usage_quality == "ok":
        call.usage_quality = "partial"


@lru_cache(maxsize=256)
def compiled(given: Mapping) -> Decoder:
    """The decoder of a mapping: made once in a process."""
    return Decoder(given)
