"""A ClickHouse store: a server over HTTP(S), or chDB, the same engine inside this process. One code for both.

Guarantees: an insert is retried with back-off while the store is unreachable or asks to wait, and carries a token made
of its rows, so that a retry after a lost answer is not written twice where the server deduplicates; where it does not,
the replacing tables make the second write harmless. Errors that no retry can cure are raised at once, in one line.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple
from urllib.parse import unquote, urlsplit

import clickhouse_connect
import pyarrow as pa
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError
from urllib3.exceptions import HTTPError

from sinks import owner

DATABASE: Final = "llm_finops"
INSERT_ROWS: Final = 20_000
"""Rows of one insert: blocks of 50,000 save no time and hold a seventh more memory."""

INSERT_BYTES: Final = 64 << 20
"""Bytes of one insert, at most: rows may carry long labels."""

INSERT_SECONDS: Final = 10.0
"""Seconds that a row waits for its block to fill, at most, while more come; what is waited for longer ends with its bundle."""

STREAM_ROWS: Final = 2048
"""Rows of a block that the embedded engine streams. It holds some blocks of every part of a table that is read in order:
with its own blocks of 65,000 rows of ``calls``, gigabytes; smaller blocks than these take more time for little less memory."""

PASSWORD_VARIABLE: Final = "LLM_FINOPS_STORE__PASSWORD"
"""Environment variable that holds the store's password, here and on every worker: it is no part of a job's graph."""

# ClickHouse error codes that pass by themselves: too many parts or queries, timeouts, replica in read-only mode,
# memory pressure, a server that starts or stops or ends its queries. https://clickhouse.com/docs/operations/system-tables/errors
_PASSING: Final = {159, 164, 202, 203, 209, 210, 236, 241, 242, 252, 285, 319, 394, 425, 774, 999}
# What a row can be refused for: it does not parse, fit its column or keep a constraint, or a view throws on it.
_ROW_REFUSED: Final = {6, 26, 27, 38, 41, 53, 69, 70, 72, 117, 131, 321, 349, 395, 407, 469}
_UNWRITABLE: Final = re.compile("Operation not permitted|Permission denied|Read-only file system")
_PARTITIONS: Final = "max_partitions_per_insert_block"


class StoreError(Exception):
    """The store cannot be reached, refuses, or is full; the message is one line for a person."""


class StoreUnavailable(StoreError):
    """The store cannot be reached, is busy, full or read-only: it may be there again without anybody changing the job."""


class StoreRefused(StoreError):
    """The store refuses a block for what is in its rows."""


@dataclass(frozen=True)
class StoreAddress:
    """Where the store is: ``chdb:///folder`` or ``http[s]://[user@]host[:port][/database]``.

    The password is never part of an address that is shown, stored or logged.
    """

    folder: str = ""
    host: str = ""
    port: int = 0
    secure: bool = False
    user: str = ""
    database: str = DATABASE

    @classmethod
    def parse(cls, text: str) -> StoreAddress:
        """Read an address.

        Raises:
            StoreError: the scheme is unknown, or a part is missing.
        """
        try:
            url = urlsplit(text)
            port = url.port
        except ValueError as error:
            raise StoreError(f"{text}: not an address: {error}") from None
        if url.scheme == "chdb":
            folder = unquote(url.netloc + url.path)
            if not folder or folder == "/":
                raise StoreError(f"{text}: name a folder, for example chdb:///var/lib/llm-finops or chdb://store")
            return cls(folder=os.path.abspath(os.path.expanduser(folder)))
        if url.scheme in ("http", "https", "clickhouse", "clickhouses"):
            if not url.hostname:
                raise StoreError(f"{text}: name a host, for example http://localhost:8123")
            if url.password:
                raise StoreError(f"put the password into {PASSWORD_VARIABLE}, not into the address")
            secure = url.scheme in ("https", "clickhouses")
            database = url.path.strip("/") or DATABASE
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", database):
                raise StoreError(f"{text}: {database!r} is no database name")
            return cls("", url.hostname, port or (8443 if secure else 8123), secure, url.username or "default", database)
        raise StoreError(f"{text}: unknown store; use chdb:///folder, http://host:8123 or https://host:8443")

    @property
    def embedded(self) -> bool:
        return bool(self.folder)

    def __str__(self) -> str:
        if self.embedded:
            return f"chdb://{self.folder}"
        return f"{'https' if self.secure else 'http'}://{self.user}@{self.host}:{self.port}/{self.database}"


class Tls(NamedTuple):
    """Files of a connection over https: who vouches for the server (else the usual ones), and what this side shows of itself.

    With a certificate of its own, and no password, a client logs in by the certificate, as ClickHouse lets it.
    """

    ca: str = ""
    certificate: str = ""
    key: str = ""

    def given(self, password: str) -> dict[str, Any]:
        """What the client is told."""
        known = {"ca_cert": self.ca, "client_cert": self.certificate, "client_cert_key": self.key}
        known["tls_mode"] = "strict" if password else ""
        return {"verify": True, **{name: file for name, file in known.items() if file}}


@dataclass(frozen=True)
class Retry:
    """Back-off: ``attempts`` tries, doubling from ``first_s`` up to ``longest_s`` seconds, with jitter."""

    attempts: int = 6
    first_s: float = 0.5
    longest_s: float = 20.0

    def pause(self, attempt: int) -> float:
        return float(min(self.longest_s, self.first_s * 2**attempt) * random.uniform(0.5, 1.0))


class Store:
    """An open store. Methods are safe to call from several threads, one query at a time."""

    def __init__(
        self,
        address: StoreAddress,
        client: Client,
        retry: Retry,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.address = address
        self.database = address.database
        self._client = client
        self._retry = retry
        self._sleep = sleep
        self._lock = threading.RLock()

    @property
    def engine_here(self) -> bool:
        """The engine works in this process; else a server does, or another process that owns the embedded store."""
        return owner.owned(self.address.folder)

    def table(self, name: str) -> str:
        """Quoted name of one of our tables, for SQL."""
        return f"`{self.database}`.`{name}`"

    def command(self, sql: str, settings: Mapping[str, Any] | None = None, parameters: Mapping[str, Any] | None = None) -> Any:
        """Run a statement that returns no rows (or one value)."""
        given = dict(parameters) if parameters else None
        return self._try(lambda: self._client.command(sql, parameters=given, settings=dict(settings or {})))

    def rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows of a query, Decimals exact."""
        result = self._try(lambda: self._client.query(sql, parameters=dict(parameters or {})))
        return [tuple(row) for row in result.result_rows]

    def named_rows(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """Rows of a query as dicts by column name."""
        result = self._try(lambda: self._client.query(sql, parameters=dict(parameters or {})))
        return [dict(zip(result.column_names, row, strict=True)) for row in result.result_rows]

    def arrow(self, sql: str) -> pa.Table:
        """Result of a query as an Arrow table."""
        return self._try(lambda: self._client.query_arrow(sql))

    def stream(self, sql: str) -> Iterator[pa.RecordBatch]:
        """Result of a query in blocks, as they come: one consistent state of the tables, never held whole.

        Raises:
            StoreError: refused, unreachable, or broken off in the middle; what came before is then not the whole.
        """
        blocks = _embedded_stream(self.address, sql) if self.engine_here else self._server_stream(sql)
        while True:
            try:
                block = next(blocks, None)
            except (ClickHouseError, OSError, HTTPError, pa.ArrowException) as error:
                raise failed(error, self.address) from error
            if block is None:
                return
            yield block

    def _server_stream(self, sql: str) -> Iterator[pa.RecordBatch]:
        with self._try(lambda: self._client.query_arrow_stream(sql)) as batches:
            yield from batches

    def insert(self, table: str, rows: pa.Table) -> None:
        """Insert rows; see the module for what a retry and a repetition do.

        Raises:
            StoreRefused: what is in a row is refused; none was written.
            StoreError: the store refuses, is full, or stays unreachable.
        """
        if not rows.num_rows:
            return
        settings: dict[str, Any] = {
            "optimize_on_insert": 0,  # replacing happens in merges and FINAL; 3x faster here
            _PARTITIONS: 0,  # a back-fill may span years
            "insert_deduplication_token": f"{table}-{fingerprint(rows)}",
        }
        self._try(lambda: self._client.insert_arrow(table, rows, database=self.database, settings=settings))

    def close(self) -> None:
        with self._lock:
            self._client.close()

    def _try(self, do: Callable[[], Any]) -> Any:
        for attempt in range(self._retry.attempts):
            try:
                with self._lock:
                    return do()
            except (ClickHouseError, OSError) as error:
                if attempt + 1 == self._retry.attempts or not _passes(error):
                    raise failed(error, self.address) from error
                self._sleep(self._retry.pause(attempt))
        raise AssertionError("a retry allows at least one attempt")


def _embedded_stream(address: StoreAddress, sql: str) -> Iterator[pa.RecordBatch]:
    """The client holds Arrow of the embedded engine whole; a connection of the engine's own streams it."""
    import chdb

    connection = chdb.connect(os.path.realpath(address.folder))
    try:
        result = connection.send_query(f"{sql} SETTINGS max_block_size = {STREAM_ROWS}, read_in_order_use_buffering = 0", "Arrow")
        try:
            yield from result.record_batch(rows_per_batch=STREAM_ROWS)
        finally:
            result.close()
    except (RuntimeError, chdb.ChdbError) as error:
        raise DatabaseError(str(error)) from error
    finally:
        connection.close()


def fingerprint(rows: pa.Table) -> str:
    """Hash of rows and their order, so that equal tokens mean equal rows."""
    digest = hashlib.sha256()
    for batch in rows.combine_chunks().to_batches():  # no copy of what is in one piece
        digest.update(batch.serialize())  # IPC, so that a slice is not taken for the whole it shares its buffers with
    return digest.hexdigest()[:32]


def error_code(error: BaseException) -> int | None:
    """ClickHouse's error code in an exception, if it carries one."""
    code = getattr(error, "code", None)
    if isinstance(code, int):
        return code
    found = re.search(r"(?:Code: |code: ?)(\d+)", str(error))
    return int(found.group(1)) if found else None


def _passes(error: Exception) -> bool:
    code = error_code(error)
    if code is not None:
        return code in _PASSING
    text = str(error).lower()
    return any(sign in text for sign in ("connection", "timed out", "timeout", "remote end closed", "max retries"))


def failed(error: Exception, address: StoreAddress) -> StoreError:
    """What to raise for ``error``, in one line: something else where waiting may help."""
    full = "No space left" in str(error) or error_code(error) == 243
    kind = StoreUnavailable if full or _passes(error) or (address.embedded and _UNWRITABLE.search(str(error))) else StoreError
    return (StoreRefused if error_code(error) in _ROW_REFUSED else kind)(explain(error, address))


def explain(error: Exception, address: StoreAddress) -> str:
    """One line that says what a person can do about ``error``."""
    code, text = error_code(error), str(error)
    if "No space left" in text or code == 243:
        return f"{address}: the disk of the store is full; free space and run the same command again"
    if address.embedded and _UNWRITABLE.search(text):
        return f"{address}: the store's folder must be writable, and what is in it"
    if code in (516, 192, 193, 194):
        return f"{address}: user or password refused; set {PASSWORD_VARIABLE}"
    if code == 164:
        return f"{address}: the user may not write; grant it the writer role"
    if code == 497:
        return f"{address}: the user may not do this: {_first_line(text.partition('DB::Exception: ')[2] or text)}"
    if code in (242, 774):
        return f"{address}: the table is read-only on the server"
    if "Cannot lock file" in text or code == 76 or "initializing EmbeddedServer" in text:
        return f"{address}: cannot be opened: another process holds it (a running job or a summary), or it is no store"
    if code is None and (why := re.search(r"CERTIFICATE_VERIFY_FAILED\] (.*?)(?: \(_ssl|'\)|\)\)|$)|(\w+ alert [\w ]+)", text)):
        return f"{address}: no secure connection: {_first_line(why[1] or why[2])}"
    if code is None and _passes(error):
        return f"{address}: unreachable: {_first_line(_why(text))}"
    return f"{address}: {_first_line(text)}"


def _why(text: str) -> str:
    """The reason at the heart of what the HTTP client says, which begins with the whole URL of the query."""
    found = re.search(r"""Caused by \w+\(["'](?:<[^>]*>|\w+\([^)]*\)): (.*?)["']\)""", text)
    return found[1] if found else text.partition(" with url")[0]


def _first_line(text: str) -> str:
    return re.sub(r"\s+", " ", text.strip())[:300]


_embedded: dict[StoreAddress, Store] = {}
_embedded_lock = threading.Lock()


def connect(address: StoreAddress, retry: Retry | None = None, timeout_s: int = 300, tls: Tls | None = None) -> Store:
    """Open a store. The embedded engine is opened once per process and folder, and shared.

    Where another process owns the folder and answers for it, as ``serve`` does, the store goes through that process.

    Raises:
        StoreError: unreachable, refused, or the folder cannot be made or is in use.
    """
    retry = retry or Retry()
    if not address.embedded:
        password = os.environ.get(PASSWORD_VARIABLE, "")
        return Store(address, _server_client(address, password, timeout_s, retry, tls or Tls()), retry)
    with _embedded_lock:
        store = _embedded.get(address)
        if store is None:
            store = _embedded[address] = Store(address, _embedded_client(address, timeout_s, retry), retry)
        return store


def disconnect(address: StoreAddress) -> None:
    """Close the shared embedded engine of ``address``, so that another folder or process can open one."""
    with _embedded_lock:
        store = _embedded.pop(address, None)
        if store is not None:
            store.close()
            if owner.owned(address.folder):
                owner.release(address.folder)


def _server_client(address: StoreAddress, password: str, timeout_s: int, retry: Retry, tls: Tls | None = None) -> Client:
    for file in tls or ():
        if file and not os.access(file, os.R_OK):
            raise StoreError(f"{file}: no such file, or it cannot be read; see store.ca, store.certificate and store.key")
    for attempt in range(retry.attempts):
        try:
            return clickhouse_connect.get_client(
                host=address.host,
                port=address.port,
                username=address.user,
                password=password,
                secure=address.secure,
                autogenerate_session_id=False,
                send_receive_timeout=timeout_s,
                **(tls.given(password) if tls and address.secure else {}),
            )
        except (ClickHouseError, OSError) as error:
            if attempt + 1 == retry.attempts or not _passes(error):
                raise failed(error, address) from error
            time.sleep(retry.pause(attempt))
    raise AssertionError("a retry allows at least one attempt")


def _embedded_client(address: StoreAddress, timeout_s: int, retry: Retry) -> Client:
    try:
        other = owner.take(address.folder)
    except OSError as error:
        raise StoreError(f"{address}: {error.strerror}; the store's folder must be writable") from error
    if other is not None:
        if not other.port:
            raise StoreError(f"{address}: {other.who}")
        door = replace(address, folder="", host="127.0.0.1", port=other.port, user=other.user)
        return _server_client(door, other.password, timeout_s, retry)
    try:
        return _engine(address)
    except BaseException:
        owner.release(address.folder)
        raise


def _engine(address: StoreAddress) -> Client:
    if not os.access(address.folder, os.W_OK):  # the engine would say so in many lines of its own
        raise StoreError(f"{address}: the store's folder must be writable")
    try:
        return clickhouse_connect.get_client(dsn=f"chdb://{address.folder}")
    except ImportError as error:
        raise StoreError("the embedded store needs the chdb extra: pip install 'llm-finops[chdb]'") from error
    except (ClickHouseError, OSError, RuntimeError) as error:
        raise StoreError(explain(error, address)) from error


@dataclass(frozen=True)
class StoreSettings:
    """How workers open the store. The password comes from each worker's environment."""

    address: StoreAddress
    retry: Retry = field(default_factory=Retry)
    timeout_s: int = 300
    insert_rows: int = INSERT_ROWS
    insert_bytes: int = INSERT_BYTES
    insert_seconds: float = INSERT_SECONDS
    tls: Tls = field(default_factory=lambda: Tls())

    def open(self) -> Store:
        return connect(self.address, self.retry, self.timeout_s, self.tls)
