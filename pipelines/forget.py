"""``llm-finops forget``: find a user or a tenant everywhere, have them forgotten, and look again to prove it."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pipelines.sections import DEFAULT_HASH_KEY, Settings
from pipelines.show import Column, Format, Kind, Table, table_of
from pipelines.state import State
from schemas.names import named
from sinks.clickhouse import Store, StoreError
from sinks.forget import clean_up, forget_tenant, forget_user
from sinks.owner import holder_of
from sinks.retention import replaced_parts
from sinks.search import Found, Sought, search
from transforms.identity import pseudonym
from transforms.people import PERSONAL, PERSONAL_TAGS, People, key_mark


@dataclass(frozen=True)
class Outcome:
    """What was found before and what is left, of every column of text; parts of old rows that a server has still to remove."""

    before: list[Found]
    after: list[Found]
    replaced_parts: int = 0

    @property
    def left(self) -> list[Found]:
        """What should not be there any more."""
        return [found for found in self.after if found.rows and not found.kept]


@dataclass(frozen=True)
class Person:
    """Who is to be forgotten: a user (of all tenants, or of one), or with no ``user`` a tenant.

    ``keys`` are all that pseudonyms may have been made with.
    """

    user: str
    tenant: str
    keys: tuple[bytes, ...]

    def sought(self, store: Store) -> Sought:
        """What to look for in a store."""
        if not self.user:
            return Sought(self.tenant, whole=True)
        tenants = [(self.tenant,)] if self.tenant else store.rows(f"SELECT DISTINCT tenant FROM {store.table('calls')}")
        known = {pseudonym(tenant, self.user, key): None for (tenant,) in tenants for key in self.keys}
        return Sought(self.user, tuple(known), self.tenant)

    @property
    def marks(self) -> list[bytes]:
        """By which it is known again."""
        people = People(tuple((0, key) for key in self.keys))
        return list(people.users(self.user, self.tenant) if self.user else people.tenants(self.tenant))

    @property
    def salt(self) -> bytes:
        """A secret of this person that is the same each time."""
        said = repr((self.user, self.tenant)).encode("utf-8", "backslashreplace")
        return hashlib.blake2b(said, digest_size=16, key=self.keys[0], person=b"salt").digest()


def person_of(settings: Settings, user: str, tenant: str) -> Person:
    """Whom the settings' keys know under this name. The key of texts and the public one are among them: they may have been
    used before there were keys of their own."""
    own = [key for _, key in settings.privacy.keys]
    return Person(user, tenant, tuple(dict.fromkeys([*own, settings.count.key, DEFAULT_HASH_KEY])))


def look(store: Store, person: Person, destroyed: bool = False) -> Outcome:
    """Only look."""
    found = [*search(store, person.sought(store)), *([lost_keys(store, person, destroyed)] if person.user else [])]
    return Outcome(found, found)


def lost_keys(store: Store, person: Person, destroyed: bool) -> Found:
    """How many keys the store was written with that are not given: who is hashed under them cannot be found.

    ``destroyed``: nobody has them any more, so that such hashes stand for nobody.
    """
    rows = store.rows(f"SELECT DISTINCT mark FROM {store.table('marks')} WHERE kind = 'key'")
    lost = {mark for (mark,) in rows} - {key_mark(key) for key in person.keys}
    return Found("(keys)", "not given", len(lost), "destroyed, as you say" if destroyed else "")


def forget(store: Store, person: Person, labels: bool = False, destroyed: bool = False, wait_s: float = 0) -> Outcome:
    """Forget a person and prove it. Killed at any moment, it is finished by doing it again.

    ``labels``: see ``sinks.forget``; ``destroyed``: see ``lost_keys``.

    Raises:
        StoreError: another process holds the store, or it refuses.
    """
    if store.address.embedded and not store.engine_here:
        raise StoreError(f"{store.address}: {holder_of(store.address.folder)}; forget needs the store to itself: end that first")
    with State(store.address, wait_s=wait_s) as state:
        clean_up(store)
        sought = person.sought(store)
        before = search(store, sought)
        in_path = functools.partial(named, sought.name)
        paths = state.forget_paths(in_path)
        if person.user:
            forget_user(store, sought, person.marks, person.salt, PERSONAL, PERSONAL_TAGS, labels)
        else:
            forget_tenant(store, sought, person.marks, person.salt)
        after = search(store, sought)
        where = Found("(state)", "path", paths)
        left = state.count_paths(in_path)
    keys = [lost_keys(store, person, destroyed)] if person.user else []
    waiting = 0 if store.engine_here else replaced_parts(store)
    return Outcome([*before, where, *keys], [*after, replace(where, rows=left), *keys], waiting)


def outcome_table(outcome: Outcome, done: bool, fmt: str) -> Table:
    """The proof. For people the columns in which something was or is, for scripts every one."""
    rows: list[dict[str, Any]] = []
    for was, now in zip(outcome.before, outcome.after, strict=True):
        if fmt != Format.TABLE or was.rows or now.rows:
            row = {"table": was.table, "column": was.column, "rows_before": was.rows, "rows_left": now.rows, "kept": now.kept}
            rows.append(row)
    columns = [Column("table"), Column("column"), Column("rows_before", Kind.COUNT, "rows found")]
    if done:
        columns.append(Column("rows_left", Kind.COUNT, "rows left"))
    if fmt != Format.TABLE or any(row["kept"] for row in rows):
        columns.append(Column("kept", title="kept, as it is"))
    return table_of(rows, columns, "Forgotten" if done else "Would be forgotten", _note(outcome, done))


def _note(outcome: Outcome, done: bool) -> str:
    looked = [found for found in outcome.after if not found.table.startswith("(")]
    notes = [f"{len(looked):,} columns of {len({found.table for found in looked}):,} tables searched"]
    if done and not outcome.left:
        notes.append("0 rows left that name or stand for it")
    if outcome.replaced_parts:
        notes.append(f"{outcome.replaced_parts:,} replaced parts are on the server's disk until it removes them, within minutes")
    return "; ".join(notes)


def left_over(left: Sequence[Found]) -> str:
    """What is wrong, in one line."""
    said = ", ".join(f"{found.table}.{found.column} ({found.rows:,} rows)" for found in left if found.table != "(keys)")
    wrong = [f"still there: {said}"] if said else []
    if any(found.table == "(keys)" for found in left):
        wrong.append("a key that the store was written with is not given: nobody hashed with it was found; or --keys-destroyed")
    return "; ".join(wrong)
