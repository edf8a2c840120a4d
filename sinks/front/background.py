"""A front that answers from threads of its own while the caller does something else."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

from sinks import owner
from sinks.clickhouse import StoreAddress, StoreError
from sinks.front.engine import Engine
from sinks.front.limits import Limits
from sinks.front.rights import Role, User, password_hash
from sinks.front.server import Door, Front


@contextlib.contextmanager
def serving(
    address: StoreAddress,
    door: Door,
    limits: Limits | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    patience_s: float = 10,
    log: Callable[[str], None] = lambda line: None,
    hurry: threading.Event | None = None,
) -> Iterator[tuple[str, int]]:
    """Own an embedded store and answer for it while the block runs; the host and port that are listened on.

    ``port`` 0: any that is free. ``patience_s``: how long queries may go on once the block ends, unless ``hurry`` is set.

    Processes of this user on this machine find the way in by the owner's note; it stands for a user of this life only.

    Raises:
        StoreError: another process owns the store, it cannot be opened, or the address cannot be listened on.
    """
    try:
        other = owner.take(address.folder)
    except OSError as error:
        raise StoreError(f"{address}: {error.strerror}; the store's folder must be writable") from error
    if other is not None:
        raise StoreError(f"{address}: {other.who}")
    password = secrets.token_urlsafe(24)
    local = User(f"local-{secrets.token_hex(4)}", Role.WRITER, password_hash(password))
    try:
        users = [*door.users, local]
        with Engine(address, users, limits) as engine, _loop() as loop:
            front = asyncio.run_coroutine_threadsafe(_front(engine, replace(door, users=users), log), loop).result()
            try:
                bound = asyncio.run_coroutine_threadsafe(front.start(host, port), loop).result()
            except OSError as error:
                why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
                raise StoreError(f"{host}:{port}: cannot be listened on: {why}") from error
            try:
                if _local(host):
                    owner.publish(address.folder, bound[1], local.name, password)
                yield bound
            finally:
                owner.publish(address.folder, 0, "", "")
                asyncio.run_coroutine_threadsafe(front.stop(patience_s, hurry or threading.Event()), loop).result()
    finally:
        owner.release(address.folder)


def _local(host: str) -> bool:
    return host in ("127.0.0.1", "localhost", "0.0.0.0", "", "::")


async def _front(engine: Engine, door: Door, log: Callable[[str], None]) -> Front:
    return Front(engine, door, log)


@contextlib.contextmanager
def _loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="front", daemon=True)
    thread.start()
    try:
        yield loop
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
