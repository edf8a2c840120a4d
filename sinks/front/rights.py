"""Users and what they may do, written down as the engine's own roles and row policies.

The embedded engine knows one user. It reads a configuration, though, in which roles can be granted and rows filtered; a
session takes on the role of its user before it sees a statement of theirs. So rows of other tenants, files and other
sources are kept back by the engine itself, however a query is written; the guard keeps a session from changing its role.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final
from xml.sax.saxutils import escape

from schemas.tables import TABLES

OWNER: Final = "owner"
"""The role of the front itself: it makes the database and stops queries."""

TENANT_TABLES: Final = tuple(t.name for t in TABLES if any(c.name == "tenant" for c in t.columns))
"""Tables whose rows belong to a tenant. A user with tenants sees these, filtered, and of our others only the version."""

SHARED_TABLES: Final = ("schema_version",)

_WRITES: Final = (
    "SELECT, INSERT, OPTIMIZE, CREATE DATABASE, CREATE TABLE, ALTER UPDATE, ALTER DELETE, ALTER COLUMN, ALTER INDEX,"
    " ALTER TTL, ALTER ORDER BY, ALTER SETTINGS, ALTER MODIFY COMMENT"
)


class Role(StrEnum):
    """What a user may do: read, or also write what our own sinks write."""

    READER = "reader"
    WRITER = "writer"


@dataclass(frozen=True)
class User:
    """A user. ``tenants`` empty: all. ``password_hash``: SHA-256 in hex; empty: nobody can log in as this user."""

    name: str
    role: Role
    password_hash: str = field(default="", repr=False)
    tenants: tuple[str, ...] = ()

    @property
    def writes(self) -> bool:
        return self.role is Role.WRITER

    @property
    def restricted(self) -> bool:
        """Sees only rows of some tenants."""
        return bool(self.tenants)

    @property
    def engine_role(self) -> str:
        """Name of the user's role in the engine; that of a restricted user is made of all that it allows."""
        if not self.restricted:
            return str(self.role)
        return "tenants_" + hashlib.sha256("\0".join(sorted(self.tenants)).encode()).hexdigest()[:16]

    def has_password(self, password: str) -> bool:
        """Compared in constant time."""
        return hmac.compare_digest(password_hash(password), self.password_hash)


def password_hash(password: str) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(password.encode("utf-8", "surrogateescape")).hexdigest()


def users_xml(users: Sequence[User], database: str) -> str:
    """The engine's ``users_config``: the roles, the one engine user that holds them, and its row policies."""
    restricted = {user.engine_role: user for user in users if user.restricted}
    roles = {
        OWNER: ["ALL ON *.*"],
        str(Role.READER): [f"SELECT ON {database}.*"],
        str(Role.WRITER): [f"{_WRITES} ON {database}.*"],
        **{role: [f"SELECT ON {database}.{table}" for table in (*TENANT_TABLES, *SHARED_TABLES)] for role in restricted},
    }
    lines = ["<clickhouse>", "<profiles><default/></profiles>", "<quotas><default/></quotas>", "<roles>"]
    for role, grants in roles.items():
        queries = "".join(f"<query>{escape(f'GRANT {grant}')}</query>" for grant in grants)
        lines.append(f"<{role}><grants>{queries}</grants></{role}>")
    lines += [
        "</roles>",
        "<users><default>",
        "<password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>",
        f"<grants><query>GRANT {', '.join(roles)}</query></grants>",
        f"<databases><{database}>",
    ]
    if restricted:
        condition = escape(row_filter(list(restricted.values())))
        lines += [f"<{table}><filter>{condition}</filter></{table}>" for table in TENANT_TABLES]
    lines += [
        f"</{database}>",
        # Every session is the engine's one user, so it would show everybody's queries to everybody.
        f"<system><processes><filter>has(currentRoles(), '{OWNER}')</filter></processes></system>",
        "</databases>",
        "</default></users>",
        "</clickhouse>",
    ]
    return "\n".join(lines)


def row_filter(restricted: Sequence[User]) -> str:
    """The condition of a row of a tenant's table: who may see it. It holds for nobody whose role is not in it."""
    seen = [f"hasAny(currentRoles(), ['{OWNER}', '{Role.READER}', '{Role.WRITER}'])"]
    for user in restricted:
        tenants = ", ".join(quoted(tenant) for tenant in user.tenants)
        seen.append(f"(has(currentRoles(), '{user.engine_role}') AND tenant IN ({tenants}))")
    return " OR ".join(seen)


def config_xml(users_file: str) -> str:
    """The engine's ``config-file``."""
    name = "<display_name>llm-finops</display_name>"  # not that of the machine
    return f"<clickhouse><users_config>{escape(users_file)}</users_config>{name}</clickhouse>"


def quoted(text: str) -> str:
    """A string literal of the engine's SQL."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'").replace("\0", "\\0") + "'"
