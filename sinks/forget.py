"""Forget a user, who stays in no row, or a tenant, of whom no row stays; and know them again by marks.

A user's calls keep what they cost: every sum stays as it is. What points to the user is emptied. A tenant's rows are
deleted; the receipts of its calls say ``forgotten``, so that every record that was read is still accounted for.

No name gets into a file on the way: what is to go is first found by queries with parameters and noted in a table of its own
as salted hashes and keys; the statements that change rows, which the engine keeps, refer to that table. The salt is secret
and the same each time, so a process killed at any moment is finished by doing all of it again. Nothing else may write
meanwhile (``pipelines.state``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sinks.clickhouse import Store
from sinks.retention import drop_renewed, renew, replaced_parts
from sinks.search import OWN, UNLOGGED, VOCABULARY, Sought, TextColumn, inside, literal, text_columns

WORK: Final = "forgetting"
_SYNC: Final = {"mutations_sync": 2, "allow_nondeterministic_mutations": 1}
_TEXTS: Final = ("source", "payload", "error")
"""Columns that may name a tenant in rows that are not its own."""
_SAID: Final = ("payload", "error")


def forget_user(
    store: Store,
    user: Sought,
    marks: Iterable[bytes],
    salt: bytes,
    personal: Sequence[str],
    personal_tags: Iterable[str],
    labels: bool = False,
) -> None:
    """Empty the ``personal`` columns and tags of a user's calls, and everything that names the user elsewhere.

    ``labels``: also give another name to teams, apps, templates and the like that are named after the user.
    """
    work = _Work(store, user, "user", marks, salt)
    columns = [c for c in work.columns if (labels or not c.label) and c.name not in ("tenant", "tenants")]
    work.note_values(columns)
    of_calls = [c for c in columns if c.table == "calls"]
    named = [work.noted(c) for c in of_calls if c.many or c.name in personal]
    of_parts = [work.noted(c) for c in columns if c.table == "parts" and c.many]
    work.note("call", "call_key", "calls", " OR ".join(["end_user IN {pseudonyms:Array(String)}", *named]))
    work.note("call", "call_key", "parts", " OR ".join(["call['end_user'] IN {pseudonyms:Array(String)}", *of_parts]))
    # Calls in parts are made anew from them, and a part that is still to come may not name the user.
    in_parts = work.among("call", "call_key")
    work.note("other", "call_key", "parts", in_parts)
    work.mark("call", "call_key", "parts", in_parts)
    # Calls that have another user, or none, would not be recognised by the user's mark.
    others = f"{work.among('call', 'call_key')} AND end_user NOT IN {{pseudonyms:Array(String)}}"
    work.note("other", "call_key", "calls", others)
    work.mark("call", "call_key", "calls", others)
    dead = [work.noted(c) for c in columns if c.table == "dead_letters" and c.name in _SAID]
    work.mark("record", _RECORD_MARK, "dead_letters", " OR ".join(dead))
    tags = ", ".join(map(literal, sorted(personal_tags)))
    emptied = [f"{name} = ''" for name in personal]
    other = work.among("other", "call_key")
    emptied += [f"{c.name} = if({other}, map(), {work.cleaned(c, f'k IN ({tags})')})" for c in of_calls if c.many]
    work.change(
        "calls",
        f"UPDATE {', '.join(emptied)}, flags = arrayDistinct(arrayPushBack(flags, 'forgotten'))",
        work.among("call", "call_key"),
    )
    for told in (c for c in columns if c.table == "parts" and c.name == "call"):
        gone = f"k IN ({', '.join(map(literal, personal))}) OR startsWith(k, 'tags.') OR startsWith(k, 'headers.')"
        left = f"mapUpdate({work.cleaned(told, gone)}, map('flags.forgotten', ''))"
        work.change("parts", f"UPDATE call = {left}", work.among("call", "call_key"))
    for table in dict.fromkeys(c.table for c in columns):
        work.rename([c for c in columns if c.table == table and not (table == "calls" and (c.many or c.name in personal))])
    work.end()


def forget_tenant(store: Store, tenant: Sought, marks: Iterable[bytes], salt: bytes) -> None:
    """Delete every row of a tenant. Its receipts stay, as ignored items. Dead letters do not tell whose they are: those of
    segments that the tenant has calls in, and those that name it, lose their text."""
    work = _Work(store, tenant, "tenant", marks, salt)
    owned = [c for c in work.columns if c.name == "tenant"]
    texts = [c for c in work.columns if c.name in _TEXTS]
    lists = [c for c in work.columns if c.name == "tenants"]
    work.note_values([*owned, *texts, *lists])
    mine = work.noted(owned[0])
    work.note("call", "call_key", "calls", mine)
    work.note("call", "call_key", "parts", mine)
    work.note("segment", "segment", "calls", mine)
    silent = [work.noted(c) for c in texts if c.table == "dead_letters" and c.name in _SAID]
    its = " OR ".join([*silent, work.among("segment", "segment")])
    work.mark("record", _RECORD_MARK, "dead_letters", its)
    work.change("dead_letters", "UPDATE payload = if(isNull(payload), payload, 'forgotten'), error = 'forgotten'", its)
    work.change(
        "receipts",
        "UPDATE outcome = 'ignored', reason = 'forgotten', call_key = toFixedString('', 16), minute = toDateTime(0, 'UTC')",
        f"outcome IN ('call', 'joined') AND {work.among('call', 'call_key')}",
    )
    for table in dict.fromkeys(c.table for c in texts):
        work.rename([c for c in texts if c.table == table and c.name == "source"])
    for column in lists:
        work.replace(column)
    for column in sorted(owned, key=lambda c: c.table == "calls"):  # the truth, by which the rest is found, goes last
        work.change(column.table, "DELETE", mine)
    work.end()


def remember(store: Store, kind: str, marks: Iterable[bytes]) -> None:
    """Write down marks of one kind."""
    packed = ", ".join(f"'{mark.hex()}'" for mark in marks)
    if packed:
        bytes_of = f"toFixedString(unhex(arrayJoin([{packed}])), 16)"
        store.command(f"INSERT INTO {store.table('marks')} (kind, mark) SELECT '{kind}', {bytes_of}")


def clean_up(store: Store) -> None:
    """Drop what a process that was killed left behind; also its last statement, which the engine would go on with for ever
    once the notes that it refers to are gone. What that did not do is done again."""
    drop_renewed(store)
    store.command(f"KILL MUTATION WHERE database = '{store.database}' AND NOT is_done AND position(command, '{WORK}') > 0")
    store.command(f"DROP TABLE IF EXISTS {store.table(WORK)} SYNC")


_RECORD_MARK: Final = "concat('record: ', reinterpretAsString(record_hash))"


class _Work:
    """Notes of who is being forgotten: hashes of values that hold the name, keys of rows; and statements that refer to them."""

    def __init__(self, store: Store, sought: Sought, kind: str, marks: Iterable[bytes], salt: bytes) -> None:
        self._store, self._sought = store, sought
        self._table = store.table(WORK)
        clean_up(store)
        # First of all, so that nobody comes back meanwhile.
        remember(store, kind, marks)
        self.columns = [c for c in text_columns(store) if c.table not in OWN and c.name not in VOCABULARY]
        self._tenants = {c.table for c in self.columns if c.name == "tenant"}
        store.command(
            f"CREATE TABLE {self._table} (kind LowCardinality(String), key String) ENGINE = MergeTree ORDER BY (kind, key)"
        )
        store.command(f"INSERT INTO {self._table} VALUES ('salt', '{salt.hex()}')")

    def note_values(self, columns: Sequence[TextColumn]) -> None:
        """Note the values of columns that hold the name; one statement for each table, and way of looking."""
        alike: dict[tuple[str, str], list[TextColumn]] = {}
        for column in columns:
            alike.setdefault((column.table, self._sought.condition("value", column.name)), []).append(column)
        for (table, holds), some in alike.items():
            texts = ", ".join(c.text if c.many else f"[{c.text}]" for c in some)
            self._unlogged(
                f"INSERT INTO {self._table} SELECT DISTINCT 'value', {self._hash('value')}"
                f" FROM (SELECT arrayJoin(arrayConcat({texts})) AS value FROM {self._store.table(table)}"
                f" WHERE {self._scope(table)}) WHERE {holds}"
            )

    def note(self, kind: str, key: str, table: str, where: str) -> None:
        """Note the keys of rows."""
        self._unlogged(
            f"INSERT INTO {self._table} SELECT DISTINCT '{kind}', {key} FROM {self._store.table(table)}"
            f" WHERE ({where}) AND {self._scope(table)}"
        )

    def mark(self, kind: str, mark: str, table: str, where: str) -> None:
        """Have rows recognised when they are read again."""
        self._unlogged(
            f"INSERT INTO {self._store.table('marks')} (kind, mark) SELECT DISTINCT '{kind}', toFixedString({mark}, 16)"
            f" FROM {self._store.table(table)} WHERE ({where}) AND {self._scope(table)}"
        )

    def noted(self, column: TextColumn) -> str:
        """The condition that a column holds a value that was noted."""
        return f"arrayExists(v -> {self._is('v')}, {column.text})" if column.many else self._is(column.text)

    def among(self, kind: str, key: str) -> str:
        """The condition that a row's key was noted."""
        return f"{key} IN (SELECT toFixedString(key, 16) FROM {self._table} WHERE kind = '{kind}')"

    def cleaned(self, column: TextColumn, also: str = "false") -> str:
        """What of a map or an array holds nothing noted; of a map, without the entries of whose name ``k`` ``also`` is true."""
        if column.type.startswith("Map"):
            return f"mapFilter((k, v) -> NOT ({also} OR {self._is('v')} OR {self._is('k')}), {column.name})"
        return f"arrayFilter(v -> NOT {self._is('v')}, {column.name})"

    def replace(self, column: TextColumn) -> None:
        """Put something else in the place of every value of an array that was noted; none is left out."""
        values = f"arrayMap(v -> if({self._is('v')}, 'forgotten', v), {column.name})"
        self.change(column.table, f"UPDATE {column.name} = {values}", self.noted(column))

    def rename(self, columns: Sequence[TextColumn]) -> None:
        """Put something else in the place of every value that was noted: the same for the same, so that sums stay apart."""
        if not columns:
            return
        table = columns[0].table
        where = " OR ".join(self.noted(c) for c in columns)
        values = {c.name: self.cleaned(c) if c.many else f"if({self._is(c.text)}, {self._instead(c)}, {c.name})" for c in columns}
        if any(c.key for c in columns):
            if self._count(table, where):
                new = ", ".join(f"{value} AS {name}" for name, value in values.items())
                source = f"SELECT * FROM {self._store.table(table)} FINAL WHERE ({where}) AND {self._scope(table)}"
                self._store.command(f"INSERT INTO {self._store.table(table)} SELECT * REPLACE ({new}) FROM ({source})")
                self.change(table, "DELETE", where)
        else:
            self.change(table, "UPDATE " + ", ".join(f"{name} = {value}" for name, value in values.items()), where)

    def change(self, table: str, statement: str, where: str) -> None:
        """Update or delete rows, and wait until it is done."""
        if self._count(table, where):
            where = f"({where}) AND {self._scope(table)}"
            self._store.command(f"ALTER TABLE {self._store.table(table)} {statement} WHERE {where}", _SYNC)

    def end(self) -> None:
        """Nothing is left of the notes; nor, where this process is the engine, of the rows as they were."""
        clean_up(self._store)
        if self._store.engine_here:
            for table in dict.fromkeys(column.table for column in self.columns):
                if replaced_parts(self._store, table):
                    renew(self._store, table)

    def _instead(self, column: TextColumn) -> str:
        if column.name in _SAID:
            return "'forgotten'"  # not NULL: below its mask the engine would keep what was there
        return f"concat('forgotten-', lower({self._hash(column.text)}))"

    def _hash(self, text: str) -> str:
        return f"hex(sipHash64(concat((SELECT any(key) FROM {self._table} WHERE kind = 'salt'), toString({text}))))"

    def _is(self, text: str) -> str:
        return f"{self._hash(text)} IN (SELECT key FROM {self._table} WHERE kind = 'value')"

    def _scope(self, table: str) -> str:
        return inside(self._sought) if table in self._tenants else "true"

    def _count(self, table: str, where: str) -> int:
        rows = self._store.rows(f"SELECT count() FROM {self._store.table(table)} WHERE ({where}) AND {self._scope(table)}")
        return int(rows[0][0])

    def _unlogged(self, statement: str) -> None:
        self._store.command(statement + UNLOGGED, parameters=self._sought.parameters)
