"""The embedded engine behind the front: one owner of the store, and a session of its own for each request.

A session is a connection that has taken on the role of its user, with the request's settings; it lives as long as its
request, so nothing a client sets is left for the next one. Opening one takes a fifth of a millisecond, and sessions run
in parallel. chDB releases the GIL while it works.
"""

from __future__ import annotations

import json
import tempfile
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import chdb
import orjson

from sinks.clickhouse import StoreAddress, StoreError, explain
from sinks.front.errors import BAD_ARGUMENTS, Refused, as_refused
from sinks.front.guard import NARROW, Functions, Guard, Statement
from sinks.front.limits import MAX_QUERY_BYTES, NO_SPILL, Limits, check_database, session_settings
from sinks.front.request import Request
from sinks.front.rights import OWNER, User, config_xml, quoted, users_xml

_PIECE: Final = 8 << 20
"""Bytes handed to an insert at a time."""

_BLOCKWISE: Final = frozenset(("Native", "RowBinary", "TabSeparated", "TSV", "CSV", "JSONEachRow"))
"""Formats whose blocks may be put one after another; the others have a head or a foot and are made in one piece."""

_ALWAYS: Final = {
    "max_query_size": str(MAX_QUERY_BYTES),
    # VALUES hold values: an expression could call what the guard keeps from a statement.
    "input_format_values_interpret_expressions": "0",
    "input_format_values_deduce_templates_of_expressions": "0",
}


@dataclass
class Result:
    """What a statement did. ``pieces`` are the bytes of its result, made as they are asked for."""

    format: str = ""
    pieces: Iterator[bytes] = field(default_factory=lambda: iter(()))
    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    result_rows: int = 0


class Engine:
    """The owner of a store. Safe to use from many threads; ``with`` closes it."""

    def __init__(self, address: StoreAddress, users: Sequence[User], limits: Limits | None = None) -> None:
        """Open the store and make its database if there is none.

        Raises:
            StoreError: another process holds the folder, it cannot be made, or chDB is not installed.
        """
        self.address = address
        self.limits = limits or Limits()
        self._folder = tempfile.TemporaryDirectory(prefix="llm-finops-serve-")
        self._running: set[str] = set()
        self._lock = threading.Lock()
        try:
            self._connection = self._open(users)
            self._owner = chdb.connect(self._connection)
            self._owner.query(f"SET ROLE {OWNER}")
            self._owner.query(f"CREATE DATABASE IF NOT EXISTS `{address.database}`")
            self.functions = self._functions()
            self.version = self._text("SELECT version()")
            self.timezone = self._text("SELECT timezone()")
        except (RuntimeError, OSError) as error:
            self._folder.cleanup()
            raise StoreError(explain(error, address)) from error

    def _open(self, users: Sequence[User]) -> str:
        folder = Path(self._folder.name)
        rights, config = folder / "users.xml", folder / "config.xml"
        rights.write_text(users_xml(users, self.address.database), encoding="utf-8")
        config.write_text(config_xml(str(rights)), encoding="utf-8")
        Path(self.address.folder).mkdir(parents=True, exist_ok=True)
        return f"{self.address.folder}?config-file={config}"

    def _functions(self) -> Functions:
        rows = json.loads(
            self._text(
                "SELECT name, alias_to, categories, is_aggregate, origin FROM system.functions FORMAT JSONCompact",
            )
        )["data"]
        names = self._text("SELECT name FROM system.aggregate_function_combinators").split()
        where = f"database = 'system' AND table IN {NARROW}"
        columns = self._text(f"SELECT name FROM system.columns WHERE {where}").split()
        return Functions.of([(n, a, c, int(i), o) for n, a, c, i, o in rows], names, columns)

    def _text(self, sql: str, parameters: Mapping[str, str] | None = None) -> str:
        return bytes(self._owner.query(sql, "TSVRaw", params=dict(parameters or {})).bytes()).decode().rstrip("\n")

    def close(self) -> None:
        """Close the store. Sessions must have ended."""
        with suppress(Exception):
            self._owner.close()
        self._folder.cleanup()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def ping(self) -> bool:
        """The engine answers."""
        return self._text("SELECT 1") == "1"

    def run(self, user: User, request: Request, tag: str = "") -> Iterator[Result]:
        """Carry out a request; a generator, so that its session ends when the caller is done with the one result.

        ``tag`` names the query for ``stop``.

        Raises:
            Refused: by the guard or by the engine.
        """
        limits = None if user.writes else self.limits
        tag = tag or uuid.uuid4().hex
        try:
            settings = session_settings(request.settings, limits)
            check_database(request.database, self.address.database)
            guard = Guard(user, self.functions, limits, request.parameters, request.read_only)
            statement = self._checked(guard, request)
            if not statement.output_format and request.default_format:
                guard.check_output(request.default_format)
            with self._session(user, request.database, settings, tag) as session:
                if statement.kind == "insert":
                    yield self._insert(session, request)
                else:
                    yield self._query(session, user, request, statement)
        except (RuntimeError, Refused) as error:
            raise as_refused(error, user.name) from None

    def stop(self, tag: str) -> None:
        """Cancel the query that carries this tag, if it runs."""
        with suppress(Exception):
            chosen = f"Settings['log_comment'] = {quoted(tag)}"
            killer = chdb.connect(self._connection)
            try:
                killer.query(f"SET ROLE {OWNER}")
                killer.query(f"KILL QUERY WHERE {chosen} ASYNC")
            finally:
                killer.close()

    def stop_all(self) -> None:
        """Cancel every query that runs."""
        with self._lock:
            running = list(self._running)
        for tag in running:
            self.stop(tag)

    def _checked(self, guard: Guard, request: Request) -> Statement:
        sql = f"{request.sql}\nFORMAT {request.input_format}" if request.input_format else request.sql
        escaped = sql.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r").replace("\0", "\\0")
        parser = chdb.connect(self._connection)
        try:
            parser.query(f"SET ROLE {OWNER}; SET max_query_size = {4 * MAX_QUERY_BYTES}")
            try:
                tree = parser.query("SELECT parseQueryToJSON({q:String})", "TSVRaw", params={"q": escaped}).bytes()
            except RuntimeError as error:
                refused = as_refused(error, guard.user.name)
                if refused.code != BAD_ARGUMENTS or "does not support JSON serialization" not in str(refused):
                    raise Refused(refused.code, str(refused).partition(": In scope SELECT")[0]) from None
                text = parser.query("SELECT formatQuerySingleLine({q:String})", "TSVRaw", params={"q": escaped}).bytes()
                return guard.check_plain(bytes(text).decode().rstrip("\n"))
            return guard.check(orjson.loads(bytes(tree)))
        finally:
            parser.close()

    @contextmanager
    def _session(self, user: User, database: str, settings: Mapping[str, str], tag: str) -> Iterator[Any]:
        values = {**settings, **_ALWAYS, **({} if user.writes else NO_SPILL), "log_comment": tag}
        if user.restricted:
            values["output_format_write_statistics"] = "0"  # how many rows there are of others
        session = chdb.connect(self._connection)
        with self._lock:
            self._running.add(tag)
        try:
            session.query(f"SET ROLE {user.engine_role}")
            session.query("SET " + ", ".join(f"{name} = {quoted(value)}" for name, value in values.items()))
            session.query(f"USE `{(database or self.address.database).replace('`', '``')}`")
            if not user.writes:
                session.query("SET readonly = 2")
            yield session
        finally:
            with self._lock:
                self._running.discard(tag)
            session.close()

    def _insert(self, session: Any, request: Request) -> Result:
        insert = session.send_insert(request.sql, request.input_format)
        try:
            data = memoryview(request.data)
            for start in range(0, len(data), _PIECE):
                insert.append(bytes(data[start : start + _PIECE]))
            done = insert.finish()
        except BaseException:
            with suppress(Exception):
                insert.cancel()
            raise
        return Result(written_rows=done.rows_written, written_bytes=done.bytes_written)

    def _query(self, session: Any, user: User, request: Request, statement: Statement) -> Result:
        output = statement.output_format or request.default_format or "TabSeparated"
        parameters = dict(request.parameters)
        if statement.kind == "select" and output in _BLOCKWISE:
            result = Result(output)
            stream = session.send_query(request.sql, output, params=parameters)
            result.pieces = _blocks(stream, result, user)
            return result
        done = session.query(request.sql, output, params=parameters)
        whole = bytes(done.bytes() or b"")
        return Result(
            "" if statement.kind == "write" else output,
            iter([whole] if whole else []),
            read_rows=done.storage_rows_read(),
            read_bytes=done.storage_bytes_read(),
            written_rows=done.rows_written() if hasattr(done, "rows_written") else 0,
            written_bytes=done.bytes_written() if hasattr(done, "bytes_written") else 0,
            result_rows=done.rows_read(),
        )


def _blocks(stream: Any, result: Result, user: User) -> Iterator[bytes]:
    try:
        for block in stream:
            result.result_rows += block.rows_read()
            result.read_rows = max(result.read_rows, block.storage_rows_read())
            result.read_bytes = max(result.read_bytes, block.storage_bytes_read())
            if piece := bytes(block.bytes()):
                yield piece
    except RuntimeError as error:
        raise as_refused(error, user.name) from None
    finally:
        stream.close()
