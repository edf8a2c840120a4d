"""Which statements are let through: lists of what is allowed, held against the syntax tree that the engine's parser makes.

Nothing is guessed from the text. The tree is that of ``parseQueryToJSON``, which refuses more than one statement and
runs none. What the lists do not name is refused, so a function or a source that a later engine brings is refused too.
Rights proper are the engine's (``rights``); the guard keeps back what the engine would let anybody do: change the role,
read a file with the function ``file``, write one with INTO OUTFILE, look into tables that tell of hidden rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from sinks.front.errors import ACCESS_DENIED, NOT_IMPLEMENTED, READONLY, UNKNOWN_FORMAT, UNKNOWN_FUNCTION, Refused
from sinks.front.limits import TABLE_SETTINGS, Limits, check_clause, names, refuse_setting
from sinks.front.rights import User

Node = dict[str, Any]

_CATEGORIES: Final = frozenset(
    (
        "Aggregate Functions",
        "Arithmetic",
        "Arrays",
        "Bit",
        "Bitmap",
        "Comparison",
        "Conditional",
        "Dates and Times",
        "Distance",
        "Encoding",
        "Financial",
        "Geo",
        "Geo Polygon",
        "Hash",
        "IP Address",
        "JSON",
        "Logical",
        "Map",
        "Mathematical",
        "Null",
        "NumericIndexedVector",
        "QBit",
        "Random Number",
        "Rounding",
        "String",
        "String Replacement",
        "String Search",
        "String Splitting",
        "Time Series",
        "Time Window",
        "Tuple",
        "Type Conversion",
        "URL",
        "UUID",
    )
)
"""Categories of the engine's functions that only compute. Not among them: AI, Dictionary, Machine Learning, Other …"""

_FUNCTIONS: Final = names("""
    bar blockNumber blockSize byteSize countDigits currentDatabase currentQueryID currentUser defaultValueOfArgumentType
    defaultValueOfTypeName digits displayName errorCodeToName finalizeAggregation formatQuery formatQueryOrNull
    formatQuerySingleLine formatQuerySingleLineOrNull formatReadableDecimalSize formatReadableQuantity
    formatReadableSize formatReadableTimeDelta getSubcolumn hasColumnInTable identity ignore indexHint
    initializeAggregation isConstant isDecimalOverflow lowCardinalityIndices lowCardinalityKeys materialize
    minSampleSizeContinuous minSampleSizeConversion neighbor normalizeQuery normalizeQueryKeepNames normalizedQueryHash
    parseReadableSize parseReadableSizeOrNull parseReadableSizeOrZero parseTimeDelta queryID revision
    rowNumberInAllBlocks rowNumberInBlock runningAccumulate runningDifference runningDifferenceStartingWithFirstValue
    throwIf timezone toColumnTypeName toTypeName transform uptime variantElement variantType version visibleWidth
""")
"""Of category Other, those that only compute."""

_SYNTAX: Final = frozenset(("lambda", "exists", "_cast", "viewifpermitted"))
"""Names that the parser itself gives to functions."""

_TABLE_FUNCTIONS: Final = frozenset(
    ("numbers", "numbers_mt", "zeros", "zeros_mt", "values", "generateseries", "generate_series", "null", "view", "primes")
)

_SYSTEM_TABLES: Final = names("""
    aggregate_function_combinators build_options collations columns contributors data_skipping_indices
    data_type_families databases detached_parts disks events formats functions licenses merge_tree_settings
    merges metrics mutations numbers numbers_mt one part_log parts parts_columns processes query_log settings
    table_engines table_functions tables time_zones zeros zeros_mt
""")
_NARROW_SYSTEM_TABLES: Final = names("""
    aggregate_function_combinators collations columns data_type_families databases formats functions numbers numbers_mt
    one settings table_engines table_functions tables time_zones zeros zeros_mt
""")
NARROW: Final = ("tables", "columns", "databases")
"""System tables that a user with tenants sees some columns of."""

_VIRTUAL: Final = re.compile(r"_(part|block|row|sample|partition|disk|data)", re.IGNORECASE)
"""Columns that every table has without naming them, which number rows also of others."""

_NARROW_COLUMNS: Final = names("""
    comment create_table_query database default_expression default_kind engine engine_full is_in_partition_key
    is_in_primary_key is_in_sorting_key name partition_key position primary_key sorting_key table type uuid
""")
"""Columns of ``NARROW`` tables that say nothing about how much of others' data there is; all others of them
are kept back from a user with tenants."""

_SYSTEM_DATABASES: Final = ("system", "information_schema")

_SELECT: Final = "SelectWithUnionQuery"
_READS: Final = frozenset((_SELECT, "ShowTablesQuery", "ShowColumnsQuery", "ShowIndexesQuery", "ExplainQuery"))
_WRITES: Final = frozenset(("InsertQuery", "CreateQuery", "AlterQuery", "OptimizeQuery", "DeleteQuery"))

_ALTERS: Final = names("""
    ADD_COLUMN ADD_INDEX COMMENT_COLUMN DELETE DROP_COLUMN DROP_INDEX DROP_PARTITION MATERIALIZE_COLUMN MATERIALIZE_INDEX
    MATERIALIZE_TTL MODIFY_COLUMN MODIFY_COMMENT MODIFY_ORDER_BY MODIFY_SETTING MODIFY_TTL REMOVE_TTL RENAME_COLUMN UPDATE
""")
_NOT_CREATED: Final = (
    "is_ordinary_view",
    "is_materialized_view",
    "is_window_view",
    "is_time_series_table",
    "is_dictionary",
    "is_temporary",
    "is_clone_as",
    "attach",
    "has_attach_from_path",
    "attach_from_path",
    "as_table_function",
    "as_table",
    "replace_view",
    "replace_table",
    "create_or_replace",
    "targets",
    "select",
)
"""What a CREATE may not be: more than a plain table or a database."""

_NOT_SHOWN: Final = ("clusters", "cluster", "dictionaries", "merges", "caches", "temporary")
"""What a SHOW TABLES may not be."""

_OUTPUT: Final = re.compile(
    r"Native|RowBinary\w*|TabSeparated\w*|TSV\w*|TSKV|CSV\w*|JSON\w*|NDJSON|Arrow|ArrowStream|Parquet|ORC|Values|Vertical"
    r"|Pretty\w*|Markdown|MD|XML|Null|SQLInsert|MsgPack|Raw\w*|LineAsString\w*|BSONEachRow",
    re.IGNORECASE,
)
_INPUT: Final = re.compile(
    r"Native|RowBinary\w*|TabSeparated\w*|TSV\w*|TSKV|CSV\w*|JSON\w*|NDJSON|Arrow|ArrowStream|Parquet|ORC|Values|MsgPack"
    r"|Raw\w*|LineAsString|BSONEachRow",
    re.IGNORECASE,
)

_NAME: Final = r"(?:`(?:[^`\\]|\\.)+`|\w+)"
_PLAIN: Final = re.compile(
    rf"(?:DESCRIBE TABLE|EXISTS TABLE|EXISTS VIEW|EXISTS DATABASE|SHOW CREATE TABLE|SHOW CREATE DATABASE)"
    rf" (?:({_NAME})\.)?({_NAME})(?: FORMAT (\w+))?"
)
"""Statements that the engine writes no tree for, in the one form the engine itself writes them in."""


@dataclass(frozen=True)
class Functions:
    """The engine's functions by lower-case name: those that are allowed, and all."""

    allowed: frozenset[str]
    known: frozenset[str]
    aggregates: frozenset[str]
    combinators: tuple[str, ...]
    hidden: frozenset[str] = frozenset()
    """Columns of system tables that are kept back from a user with tenants."""

    @classmethod
    def of(
        cls, rows: Iterable[tuple[str, str, str, int, str]], combinators: Iterable[str], columns: Iterable[str] = ()
    ) -> Functions:
        """From ``system.functions``: name, the name it is an alias of, category, is an aggregate, origin.

        ``columns`` are all of the ``NARROW`` tables.
        """
        rows = list(rows)
        fine = {name for name, _, category, _, origin in rows if origin == "System" and category in _CATEGORIES}
        fine |= _FUNCTIONS
        names = {name for name, alias_of, _, _, origin in rows if origin == "System" and (alias_of or name) in fine}
        barred = {name.lower() for name, *_ in rows if name not in names}
        return cls(
            frozenset({name.lower() for name in names} - barred) | _SYNTAX,
            frozenset(name.lower() for name, *_ in rows),
            frozenset(name.lower() for name, _, _, aggregate, _ in rows if aggregate),
            tuple(sorted((c.lower() for c in combinators), key=len, reverse=True)),
            frozenset(columns) - _NARROW_COLUMNS,
        )

    def allows(self, name: str) -> bool:
        """Whether a function may be called, also one with combinators, such as ``sumIfOrNull``."""
        name = name.lower()
        if name in self.allowed:
            return True
        for combinator in self.combinators:
            stem = name.removesuffix(combinator)
            if stem != name and self.allows(stem) and (stem in self.aggregates or stem not in self.known):
                return True
        return False

    def bars(self, name: str) -> bool:
        """Whether it is the name of a function that may not be called."""
        return name.lower() in self.known and not self.allows(name)


@dataclass(frozen=True)
class Statement:
    """A statement that was let through, and the format of its result, if it names one."""

    kind: Literal["select", "show", "insert", "write"]
    """``insert``: rows follow the statement. ``write``: any other that writes. ``show``: any other that reads."""

    output_format: str = ""


@dataclass(frozen=True)
class Guard:
    """The rules for one request: who asks, with which limits, and the values of its parameters."""

    user: User
    functions: Functions
    limits: Limits | None
    parameters: Mapping[str, str]
    read_only: bool = False
    """The request may not write whoever asks, as one by GET."""

    def check(self, tree: Node) -> Statement:
        """Let a statement through.

        Raises:
            Refused: with the engine's own code for such a thing.
        """
        kind = str(tree.get("type"))
        if kind in _WRITES:
            self._check_write(kind, tree)
        elif kind not in _READS:
            raise self._denied(f"statement {kind.removesuffix('Query')} is not available here")
        if kind.startswith("Show"):
            # What it is made of by the engine is not in the tree: a condition could ask for columns that are kept back.
            if tree.get("where_expression") and self.user.restricted:
                raise self._denied("SHOW with WHERE is not available here")
            for what in _NOT_SHOWN:
                if tree.get(what):
                    raise self._denied(f"SHOW {what.upper()} is not available here")
        if kind == "ExplainQuery":
            if self.user.restricted:
                raise self._denied("EXPLAIN tells of rows of other tenants")
            if (tree.get("query") or {}).get("type", _SELECT) != _SELECT:
                raise self._denied("only a SELECT is explained here")
            self._walk({key: value for key, value in tree.items() if key != "settings"})
        else:
            self._walk(tree)
        if kind == "InsertQuery" and not tree.get("select"):
            self._format(str(tree.get("format", "")), _INPUT)
            return Statement("insert")
        output = self._format(str((tree.get("format_ast") or {}).get("name", "")), _OUTPUT)
        return Statement("write" if kind in _WRITES else "select" if kind == _SELECT else "show", output)

    def check_plain(self, text: str) -> Statement:
        """Let a statement through that has no tree. ``text`` is as the engine's formatter writes it.

        Raises:
            Refused: it is not one of the few of that kind that are allowed.
        """
        found = _PLAIN.fullmatch(text)
        if found is None:
            first = " ".join(re.findall(r"\w+", text)[:2]).upper()
            raise self._denied(f"statement {first} is not available here")
        database, name, output = (part.strip("`") if part else "" for part in found.groups())
        self._check_name([database, name] if database else [name])
        return Statement("show", self._format(output, _OUTPUT))

    def check_output(self, name: str) -> str:
        """A format of results.

        Raises:
            Refused: unknown, or one that needs files or speaks another protocol.
        """
        return self._format(name, _OUTPUT)

    def _format(self, name: str, allowed: re.Pattern[str]) -> str:
        if name and not allowed.fullmatch(name):
            raise Refused(UNKNOWN_FORMAT, f"Format {name} is not available here")
        return name

    def _check_write(self, kind: str, tree: Node) -> None:
        if not self.user.writes or self.read_only:
            raise Refused(READONLY, f"{self.user.name}: Cannot execute query in readonly mode")
        if kind == "InsertQuery" and (tree.get("table_function") or tree.get("infile")):
            raise self._denied("rows go into tables only")
        if kind == "CreateQuery":
            for what in _NOT_CREATED:
                if tree.get(what):
                    raise self._denied(f"CREATE with {what.removeprefix('is_').replace('_', ' ')} is not available here")
            engine = ((tree.get("storage") or {}).get("engine") or {}).get("name", "")
            if tree.get("table") and not str(engine).endswith("MergeTree"):
                raise self._denied("only tables of the MergeTree family are made here")
            if not tree.get("table") and tree.get("storage"):
                raise self._denied("only plain databases are made here")
        if kind == "AlterQuery":
            if tree.get("alter_object", "TABLE") != "TABLE":
                raise self._denied("only tables are altered here")
            for command in _children(tree.get("command_list")):
                if command.get("command_type") not in _ALTERS:
                    raise self._denied(f"ALTER {command.get('command_type')} is not available here")

    def _walk(self, tree: Node) -> None:
        narrow = False
        names: list[list[str]] = []
        stars = False
        for key, node in _nodes(tree):
            kind = str(node.get("type", ""))
            if node.get("out_file") or node.get("infile"):
                raise self._denied("files are not read or written")
            if kind == "Function":
                self._check_function(key, node)
            if node.get("func_name") is not None:
                self._check_called(str(node["func_name"]))
            if kind == "SetQuery" or "changes" in node:
                self._check_settings(node)
            parts: list[str] = []
            if kind in ("Identifier", "TableIdentifier"):
                parts = self._parts(node)
                names.append(parts)
                narrow = self._check_name(parts) or narrow
                if self.user.restricted and any(_VIRTUAL.match(part) for part in parts):
                    raise self._denied(f"column {parts[-1]} is not shown here")
                if len(parts) == 1 and self.functions.bars(parts[0]):
                    # arrayMap(file, …): the name of a function may stand where a lambda is expected.
                    raise self._denied(f"function {parts[0]} is not available here")
            # Ways to a column that do not name it.
            stars = stars or kind.endswith("Asterisk") or "Matcher" in kind or bool(node.get("is_natural"))
            stars = stars or "column_aliases" in node or (kind == "Identifier" and self._is_narrow(parts))
            names.append([str(node.get("alias", ""))])
            if kind in ("TTLElement",) and node.get("destination_name"):
                raise self._denied("disks and volumes are not available here")
        if narrow and self.user.restricted:
            self._check_columns(names, stars)

    def _check_function(self, key: str, node: Node) -> None:
        name = str(node.get("name", ""))
        if key == "engine":
            return  # checked with its CREATE
        if key == "table_function":
            if name.lower() not in _TABLE_FUNCTIONS:
                raise self._denied(f"table function {name} is not available here")
            return
        self._check_called(name)

    def _check_called(self, name: str) -> None:
        if self.functions.allows(name):
            return
        if name.lower() in self.functions.known or name.lower() in _TABLE_FUNCTIONS:
            raise self._denied(f"function {name} is not available here")
        raise Refused(UNKNOWN_FUNCTION, f"Function with name `{name}` does not exist here")

    def _check_settings(self, node: Node) -> None:
        strange = set(node) - {"type", "is_standalone", "changes", "children"}
        if strange or not isinstance(node.get("changes", []), list):
            raise Refused(NOT_IMPLEMENTED, "only plain settings are available here: SETTINGS name = value")
        for change in node.get("changes", []):
            name, value = str(change.get("name")), change.get("value")
            if name in TABLE_SETTINGS:
                continue
            if not isinstance(value, dict) or isinstance(value.get("value"), dict | list):
                raise refuse_setting(name)
            check_clause(name, value.get("value"), self.limits)

    def _parts(self, node: Node) -> list[str]:
        """The parts of a name, with its parameters filled in."""
        parts = [str(part) for part in node.get("name_parts") or [node.get("name", "")]]
        values = iter([self.parameters.get(str(p.get("name")), "") for p in _children(node)])
        return [part or next(values, "") for part in parts]

    def _check_name(self, parts: list[str]) -> bool:
        """Whether it is a system table of which some columns are kept back.

        Raises:
            Refused: it is a system table that is not shown.
        """
        parts = [piece for part in parts for piece in part.split(".")]
        if len(parts) < 2 or parts[0].lower() not in _SYSTEM_DATABASES:
            return False
        allowed = _NARROW_SYSTEM_TABLES if self.user.restricted else _SYSTEM_TABLES
        if parts[0] != "system" and self.user.restricted:
            raise self._denied(f"table {'.'.join(parts[:2])} is not shown here")
        if parts[0] == "system" and parts[1] not in allowed:
            raise self._denied(f"table {'.'.join(parts[:2])} is not shown here")
        return self._is_narrow(parts)

    def _is_narrow(self, parts: list[str]) -> bool:
        return parts[:1] == ["system"] and len(parts) > 1 and parts[1] in NARROW

    def _check_columns(self, names: list[list[str]], stars: bool) -> None:
        if stars:
            raise self._denied("name the columns of system tables that you need")
        for hidden in (part for parts in names for part in parts if part in self.functions.hidden):
            raise self._denied(f"column {hidden} of system tables is not shown here")

    def _denied(self, why: str) -> Refused:
        return Refused(ACCESS_DENIED, f"{self.user.name}: Not enough privileges: {why}")


def _children(node: Any) -> list[Node]:
    return [child for child in (node or {}).get("children", []) if isinstance(child, dict)]


def _nodes(tree: Node) -> Iterator[tuple[str, Node]]:
    """Every node, with the key that it stands under in the node above; that of a list for its members."""
    rest: list[tuple[str, Any]] = [("", tree)]
    while rest:
        key, value = rest.pop()
        if isinstance(value, dict):
            yield key, value
            rest += value.items()
        elif isinstance(value, list):
            rest += [(key, item) for item in value]
