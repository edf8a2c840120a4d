"""The HTTP side: who asks, how many at once, what goes back. One worker thread carries a query from start to end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import secrets
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass, field
from typing import Final

from aiohttp import BodyPartReader, web

from sinks.front.engine import Engine, Result
from sinks.front.errors import (
    ABORTED,
    AUTHENTICATION_FAILED,
    BAD_ARGUMENTS,
    NOT_IMPLEMENTED,
    QUERY_IS_TOO_LARGE,
    TOO_MANY_QUERIES,
    Refused,
    body_of,
    status_of,
)
from sinks.front.limits import MAX_QUERY_BYTES
from sinks.front.reply import (
    CONTENT_TYPES,
    broken_off,
    compressor,
    encoding_for,
    handshake,
    headers_of,
    is_handshake,
    summary,
)
from sinks.front.request import Request, credentials, decompressed, request_of
from sinks.front.rights import Role, User, password_hash

HELD: Final = 4 << 20
"""Bytes of a result that are held back: up to here an error still has a status of its own."""

WAIT_S: Final = 60.0
"""How long a query waits for a free worker, and how long a client may take to accept a piece of a result."""

WAITING: Final = 200
"""Queries that wait at once; more are told so."""

_QUERY_ID: Final = re.compile(r"[\w.:@/+-]{1,128}", re.ASCII)


@dataclass(frozen=True)
class Door:
    """Who is let in, and how much at once.

    ``queries`` of readers, and as many of writers, which do not wait for readers. ``body_bytes``: of one INSERT, before
    and after decompression.
    """

    users: Sequence[User]
    queries: int = 8
    body_bytes: int = 512 << 20

    def user_of(self, name: str, password: str) -> User:
        """The user of a request.

        Raises:
            Refused: unknown user or wrong password; it is not said which.
        """
        known = next((user for user in self.users if user.name == name), None)
        # A hash is compared also for unknown names, so that the time does not tell which exist.
        right = (known or User(name, Role.READER, password_hash(""))).has_password(password)
        if known is None or not right:
            raise Refused(
                AUTHENTICATION_FAILED,
                f"{_shown(name)}: Authentication failed: password is incorrect, or there is no user with such name",
            )
        return known


@dataclass
class _Answer:
    """What a worker hands over: first the result with the bytes held back, then pieces, then None; or an error."""

    loop: asyncio.AbstractEventLoop
    queue: asyncio.Queue[tuple[Result, bytes, bool] | bytes | BaseException | None] = field(
        default_factory=lambda: asyncio.Queue(2)
    )
    gone: bool = False

    def put(self, item: tuple[Result, bytes, bool] | bytes | BaseException | None) -> None:
        """Called by the worker; waits for the client.

        Raises:
            ConnectionError: nobody waits for it any more.
        """
        if self.gone:
            raise ConnectionError("the client is gone")
        waiting = asyncio.run_coroutine_threadsafe(self.queue.put(item), self.loop)
        try:
            waiting.result(WAIT_S)
        except FutureTimeout:
            waiting.cancel()
            raise ConnectionError("the client does not read") from None

    def leave(self) -> None:
        """Called by the handler at its end; lets a worker that waits go on, and notice."""
        self.gone = True
        while not self.queue.empty():
            self.queue.get_nowait()


class Front:
    """The HTTP application over an engine. ``log`` takes one line for each request that is refused."""

    def __init__(self, engine: Engine, door: Door, log: Callable[[str], None] = lambda line: None) -> None:
        self.engine = engine
        self.door = door
        self._log = log
        self._slots = {role: asyncio.Semaphore(door.queries) for role in Role}
        self._waiting = 0
        self._running = 0
        self._closing = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._workers = ThreadPoolExecutor(door.queries * len(Role), "query")
        self._helpers = ThreadPoolExecutor(2, "helper")
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> tuple[str, int]:
        """Listen; the address that was bound, of which ``port`` 0 leaves the choice to the system.

        Raises:
            OSError: the address is in use or not of this machine.
        """
        app = web.Application(client_max_size=self.door.body_bytes)
        app.router.add_get("/ping", self._ping)
        app.router.add_route("*", "/", self._handle)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            handler_cancellation=True,
            auto_decompress=False,
            max_line_size=1 << 20,
            max_field_size=1 << 16,
            shutdown_timeout=5.0,
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError:
            await self._runner.cleanup()
            raise
        bound = self._runner.addresses[0]
        return str(bound[0]), int(bound[1])

    async def stop(self, patience_s: float, hurry: threading.Event) -> None:
        """Take no more queries, let those that run finish for so long or until ``hurry`` is set, then cancel them."""
        self._closing = True
        if self._runner is not None:
            for site in list(self._runner.sites):
                await site.stop()
        end = time.monotonic() + patience_s
        while not (self._idle.is_set() or hurry.is_set()) and time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), 0.2)
        loop = asyncio.get_running_loop()
        while not self._idle.is_set():
            await loop.run_in_executor(self._helpers, self.engine.stop_all)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), 0.5)
        if self._runner is not None:
            await self._runner.cleanup()
        await loop.run_in_executor(None, self._workers.shutdown)
        self._helpers.shutdown()

    async def _ping(self, http: web.Request) -> web.Response:
        return web.Response(text="Ok.\n")

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        began = time.monotonic()
        name, asked = "", None
        query_id = http.query.get("query_id", "")
        query_id = query_id if _QUERY_ID.fullmatch(query_id) else str(uuid.uuid4())
        try:
            if http.method not in ("GET", "HEAD", "POST"):
                raise Refused(NOT_IMPLEMENTED, "only GET and POST are available here")
            if http.method != "POST" and "query" not in http.query and not http.can_read_body:
                return web.Response(text="Ok.\n")
            name, password = credentials(http.headers, http.query)
            user = self.door.user_of(name, password)
            name = user.name
            if self._closing:
                raise Refused(ABORTED, "the server is stopping")
            asked = await self._read(http, user)
            if is_handshake(asked):
                block = handshake(self.engine.version, self.engine.timezone, asked.protocol)
                return web.Response(body=block, headers=self._headers(query_id, "Native"))
            return await self._answer(http, user, asked, query_id, began)
        except Refused as refused:
            word = re.match(r"\s*(\w{1,12})", asked.sql) if asked else None
            kind = f" {word.group(1).upper()}" if word else ""
            status = status_of(refused.code)
            self._log(f"refused{kind} of {_shown(name) or 'nobody'}: code {refused.code}, status {status}, query {query_id}")
            headers = self._headers(query_id, exception_code=str(refused.code))
            response = web.Response(status=status, text=body_of(refused, self.engine.version) + "\n", headers=headers)
            if http.can_read_body and not http.content.at_eof():
                response.force_close()  # what is left of a body that nobody reads would be taken for the next request
            return response

    async def _read(self, http: web.Request, user: User) -> Request:
        most = self.door.body_bytes if user.writes else MAX_QUERY_BYTES
        form: dict[str, str] = {}
        body = b""
        if http.content_type == "multipart/form-data":
            form = await _form(http, most)
        elif http.can_read_body:
            pieces, size = [], 0
            async for piece in http.content.iter_chunked(1 << 20):
                size += len(piece)
                if size > most:
                    raise Refused(QUERY_IS_TOO_LARGE, f"the body has more than {most} bytes")
                pieces.append(piece)
            encoding = http.headers.get("Content-Encoding", "").strip().lower()
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(self._helpers, decompressed, pieces, encoding, most)
        return request_of(http.method, http.query, http.headers, body, form)

    async def _answer(self, http: web.Request, user: User, asked: Request, query_id: str, began: float) -> web.StreamResponse:
        async with self._slot(user.role):
            tag = uuid.uuid4().hex
            answer = _Answer(asyncio.get_running_loop())
            work = answer.loop.run_in_executor(self._workers, self._work, answer, user, asked, tag)
            done = False
            try:
                first = await answer.queue.get()
                if isinstance(first, BaseException):
                    done = True
                    raise first
                assert isinstance(first, tuple)
                result, held, whole = first
                headers = self._headers(query_id, result.format)
                headers["Content-Type"] = CONTENT_TYPES.get(result.format, "text/plain; charset=UTF-8")
                encoding = encoding_for(http.headers.get("Accept-Encoding", "")) if asked.compress else ""
                if whole:
                    done = True
                    headers["X-ClickHouse-Summary"] = summary(_counts(user, result, began))
                    if encoding and held:
                        held = await answer.loop.run_in_executor(self._helpers, _squeezed, held, encoding)
                        headers["Content-Encoding"] = encoding
                    return web.Response(body=held, headers=headers)
                response = await self._stream(http, answer, headers, held, encoding)
                done = True
                return response
            finally:
                answer.leave()
                if not done and not user.writes:
                    # The client is gone: nobody waits for what is still being worked at.
                    answer.loop.run_in_executor(self._helpers, self.engine.stop, tag)
                # The slot is free when the worker is; a client that goes away must not make room for a second query.
                await asyncio.shield(_ended(work, answer))

    async def _stream(
        self, http: web.Request, answer: _Answer, headers: dict[str, str], held: bytes, encoding: str
    ) -> web.StreamResponse:
        tag = secrets.token_hex(8)
        headers["X-ClickHouse-Exception-Tag"] = tag
        squeeze = None
        if encoding:
            headers["Content-Encoding"] = encoding
            squeeze = compressor(encoding)
        response = web.StreamResponse(headers=headers)
        await response.prepare(http)
        piece: bytes | None = held
        while piece is not None:
            await asyncio.wait_for(response.write(squeeze.compress(piece) if squeeze else piece), WAIT_S)
            item = await answer.queue.get()
            if isinstance(item, BaseException):
                refused = item if isinstance(item, Refused) else Refused(1002, type(item).__name__)
                self._log(f"broken off: code {refused.code}")
                last = broken_off(body_of(refused, self.engine.version), tag)
                await response.write(squeeze.compress(last) + squeeze.flush() if squeeze else last)
                await response.write_eof()
                return response
            assert not isinstance(item, tuple)
            piece = item
        if squeeze:
            await response.write(squeeze.flush())
        await response.write_eof()
        return response

    def _work(self, answer: _Answer, user: User, asked: Request, tag: str) -> None:
        """In a worker: carry out the query, hand over what it gives."""
        try:
            for result in self.engine.run(user, asked, tag):
                held, whole = bytearray(), False
                pieces = result.pieces
                while not whole and len(held) < HELD:
                    piece = next(pieces, None)
                    whole = piece is None
                    held += piece or b""
                answer.put((result, bytes(held), whole))
                if not whole:
                    for piece in pieces:
                        answer.put(piece)
            if not whole:
                answer.put(None)
        except ConnectionError:
            pass
        except BaseException as error:
            with contextlib.suppress(ConnectionError):
                answer.put(error)

    @contextlib.asynccontextmanager
    async def _slot(self, role: Role) -> AsyncIterator[None]:
        if self._waiting >= WAITING:
            raise Refused(TOO_MANY_QUERIES, "Too many simultaneous queries wait; try again")
        self._waiting += 1
        try:
            await asyncio.wait_for(self._slots[role].acquire(), WAIT_S)
        except TimeoutError:
            raise Refused(TOO_MANY_QUERIES, f"Too many simultaneous queries: none ended in {WAIT_S:.0f} s") from None
        finally:
            self._waiting -= 1
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()
            self._slots[role].release()

    def _headers(self, query_id: str, output: str = "", exception_code: str = "") -> dict[str, str]:
        return headers_of(
            query_id=query_id,
            format=output,
            timezone=self.engine.timezone,
            server_display_name="llm-finops",
            exception_code=exception_code,
        )


async def _ended(work: asyncio.Future[None], answer: _Answer) -> None:
    while not work.done():
        answer.leave()
        await asyncio.wait([work], timeout=0.2)


async def _form(http: web.Request, most: int) -> dict[str, str]:
    """The fields of a multipart body: a statement and its parameters, where they are too long for a URL."""
    form: dict[str, str] = {}
    size = 0
    async for part in await http.multipart():
        if not isinstance(part, BodyPartReader) or part.filename:
            raise Refused(NOT_IMPLEMENTED, "external tables are not available here")
        content = bytearray()
        while piece := await part.read_chunk(1 << 16):
            size += len(piece)
            if size > most:
                raise Refused(QUERY_IS_TOO_LARGE, f"the body has more than {most} bytes")
            content += piece
        try:
            form[part.name or ""] = content.decode()
        except UnicodeDecodeError:
            raise Refused(BAD_ARGUMENTS, "a field of the form is not UTF-8") from None
    return form


def _counts(user: User, result: Result, began: float) -> Mapping[str, int]:
    hidden = user.restricted  # what was read tells how much there is of other tenants
    return {
        "read_rows": 0 if hidden else result.read_rows,
        "read_bytes": 0 if hidden else result.read_bytes,
        "written_rows": result.written_rows,
        "written_bytes": result.written_bytes,
        "total_rows_to_read": 0,
        "result_rows": result.result_rows or result.written_rows,
        "result_bytes": 0,
        "elapsed_ns": int((time.monotonic() - began) * 1e9),
    }


def _squeezed(data: bytes, encoding: str) -> bytes:
    squeeze = compressor(encoding)
    return squeeze.compress(data) + squeeze.flush()


def _shown(name: str) -> str:
    return name[:64]
