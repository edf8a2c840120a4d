"""Find somebody in a store: which rows of which columns hold an id, its spellings or its pseudonyms.

The search knows nothing of how anybody is forgotten: it asks the engine for every column of text there is, and looks into
each. What it is asked for travels as a parameter of the query, and the queries are not logged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from schemas.names import SHORT, part, pattern
from sinks.clickhouse import Store

UNLOGGED: Final = " SETTINGS log_queries = 0"

_VENDORS: Final = """api operation provider model model_requested deployment_type region region_scope service_tier
    service_tier_requested speed status error_type stop_reason"""
_OURS: Final = """time_quality format usage_source usage_quality flags counted_with count_quality reported_cost_by price_status
    price_reason cost_source rate_id book_version outcome reason role needs format_guess run_id state software kind table side
    category currency providers models"""
VOCABULARY: Final = frozenset(f"{_VENDORS} {_OURS}".split())
"""Columns whose values are words of this software or of vendors: nobody is named there, though a word may be the same."""

OWN: Final = frozenset({"prices", "retention", "marks", "terms", "schema_version"})
"""Tables that hold nothing from any log."""


@dataclass(frozen=True)
class Sought:
    """Who is looked for.

    ``name`` is the id of a user or a tenant. ``pseudonyms`` stand for a user. With ``tenant``, only its rows are meant, where a
    table tells them apart. ``whole``: the name is looked for as a whole value only, but in dead letters.
    """

    name: str
    pseudonyms: tuple[str, ...] = ()
    tenant: str = ""
    whole: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """Of the conditions."""
        words = {"who": self.name, "part": part(self.name), "word": pattern(self.name)}
        return {**words, "pseudonyms": list(self.pseudonyms)}

    def condition(self, text: str, column: str = "") -> str:
        """That an expression of text holds what is looked for."""
        if len(self.name) < SHORT or (self.whole and column not in ("payload", "error", "source")):
            said = f"{text} = {{who:String}}"
        else:
            # Looking for a part of the name first makes the search seven times as fast.
            said = f"(positionCaseInsensitive({text}, {{part:String}}) > 0 AND match({text}, {{word:String}}))"
        return f"({said} OR {text} IN {{pseudonyms:Array(String)}})" if self.pseudonyms else said


@dataclass(frozen=True)
class TextColumn:
    """A column that holds text. ``key``: it is part of the table's sorting key. ``label``: of a small set of values."""

    table: str
    name: str
    type: str
    key: bool

    @property
    def label(self) -> bool:
        return self.type.startswith("LowCardinality")

    @property
    def many(self) -> bool:
        """It holds several texts: a map or an array."""
        return self.type.startswith(("Map", "Array"))

    @property
    def text(self) -> str:
        """Its text as an expression, never NULL; of ``many`` an array of them."""
        if self.type.startswith("Map"):
            return f"arrayConcat(arrayMap(k -> toString(k), mapKeys({self.name})), mapValues({self.name}))"
        if self.many:
            return f"arrayMap(v -> toString(v), {self.name})"
        return f"ifNull(toString({self.name}), '')"

    def holds(self, sought: Sought) -> str:
        """The condition that a row holds what is looked for in this column."""
        if self.many:
            return f"arrayExists(v -> {sought.condition('v')}, {self.text})"
        plain = self.type in ("String", "LowCardinality(String)")  # without a function around it a label is looked at once
        return sought.condition(self.name if plain else self.text, self.name)


@dataclass(frozen=True)
class Found:
    """In how many rows of a column somebody is found. ``kept`` says why that is not about a person, where it is not."""

    table: str
    column: str
    rows: int
    kept: str = ""


def text_columns(store: Store) -> list[TextColumn]:
    """Every column of every table of the store that holds text."""
    rows = store.rows(
        "SELECT c.table, c.name, c.type, c.is_in_sorting_key FROM system.columns AS c"
        " JOIN system.tables AS t ON c.database = t.database AND c.table = t.name"
        " WHERE c.database = {db:String} AND t.engine LIKE '%MergeTree' AND replaceAll(c.type, 'FixedString', '') LIKE '%String%'"
        " ORDER BY c.table, c.position",
        {"db": store.database},
    )
    return [TextColumn(table, name, kind, bool(key)) for table, name, kind, key in rows]


def search(store: Store, sought: Sought) -> list[Found]:
    """Look into every column of text; one entry for each, those with nothing, too."""
    found = []
    columns = text_columns(store)
    tenants = {column.table for column in columns if column.name == "tenant"}
    for table in dict.fromkeys(column.table for column in columns):
        some = [column for column in columns if column.table == table]
        counts = ", ".join(f"countIf({column.holds(sought)})" for column in some)
        where = f" WHERE {inside(sought)}" if table in tenants else ""
        row = store.rows(f"SELECT {counts} FROM {store.table(table)}{where}{UNLOGGED}", sought.parameters)[0]
        found += [Found(table, c.name, int(count), _kept(c, sought)) for c, count in zip(some, row, strict=True)]
    return found


def inside(sought: Sought) -> str:
    """The condition that a row is of the tenant that is meant."""
    return f"tenant = {literal(sought.tenant)}" if sought.tenant else "true"


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _kept(column: TextColumn, sought: Sought) -> str:
    if column.table in OWN:
        return "a table of this software"
    if column.name in VOCABULARY:
        return "a word of vendors or of this software"
    if sought.whole and column.name not in ("tenant", "tenants", "payload", "error", "source"):
        return "of other tenants"
    return ""
