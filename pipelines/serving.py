"""``llm-finops serve``, and the front that lets others read an embedded store while a run writes it."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

from pipelines.errors import SettingsError
from pipelines.lines import say
from pipelines.sections import ServeUser, Settings
from pipelines.stopping import Stopping
from sinks import owner
from sinks.clickhouse import StoreAddress, connect, disconnect
from sinks.schema import migrate

if TYPE_CHECKING:
    from sinks.front.rights import User

FIRST_USER: Final = "reader"
"""Who may log in where the configuration names nobody, with a password that is shown once."""


def available() -> bool:
    """What a front needs is installed."""
    return all(find_spec(name) is not None for name in ("chdb", "aiohttp", "lz4"))


def serve(settings: Settings, environ: Mapping[str, str] = os.environ, say: Callable[[str], None] | None = None) -> None:
    """Own the store and answer for it until SIGTERM or Ctrl-C; ``say`` takes lines for a person, stderr if not given.

    Raises:
        SettingsError: the store is a server, or a user's password is not there.
        StoreError: another process owns the store, it cannot be opened, or the port is taken.
    """
    say = say or _to_stderr
    address = StoreAddress.parse(settings.store.to)
    if not address.embedded:
        raise SettingsError(f"{settings.store.to} is a server already; serve owns an embedded store: --to chdb://folder")
    if not available():
        raise SettingsError("serve needs packages that are not installed: pip install 'llm-finops[chdb,serve]'")
    from sinks.front.background import serving
    from sinks.front.limits import Limits
    from sinks.front.rights import Role, User, password_hash
    from sinks.front.server import Door

    wanted = settings.serve
    users = [_user(user, environ) for user in wanted.users]
    shown = ""
    if not users:
        shown = secrets.token_urlsafe(12)
        users = [User(FIRST_USER, Role.READER, password_hash(shown))]
    limits = Limits(wanted.max_seconds, wanted.max_memory, wanted.max_result_rows, wanted.max_result_bytes)
    asked, hurry = threading.Event(), threading.Event()
    with (
        Stopping("queries that run may end, for some seconds", asked.set, hurry.set),
        serving(
            address,
            Door(users, wanted.max_queries, wanted.max_body_bytes),
            limits,
            wanted.host,
            wanted.port,
            wanted.stop_seconds,
            say,
            hurry,
        ) as (host, port),
    ):
        migrate(connect(address))
        disconnect(address)
        names = ", ".join(user.name for user in users)
        say(f"serving {address} on http://{_host(host)}:{port} for {names}; Ctrl-C ends it")
        if shown:
            say(f"no users are configured: {FIRST_USER} reads with the password {shown} until this ends; see docs/serve.md")
        asked.wait()
    say("stopped")


@contextmanager
def answering(address: StoreAddress) -> Iterator[None]:
    """While this process owns an embedded store, let others of the same user use it, where a front is installed.

    Does nothing for a server, a store that somebody else owns, or an engine that is open already.
    """
    if not address.embedded or owner.owned(address.folder) or not available():
        yield
        return
    from sinks.clickhouse import StoreError
    from sinks.front.background import serving
    from sinks.front.server import Door

    with ExitStack() as stack:
        with suppress(StoreError):  # who owns it is for the one who opens the store to say
            stack.enter_context(serving(address, Door((), queries=2)))
        yield


def _user(user: ServeUser, environ: Mapping[str, str]) -> User:
    from sinks.front.rights import Role, User, password_hash

    known = user.password_sha256.lower()
    if user.password_env:
        password = environ.get(user.password_env, "")
        if not password:
            raise SettingsError(f"serve.users: set {user.password_env}, the password of {user.name}")
        known = password_hash(password)
    return User(user.name, Role(user.role), known, user.tenants)


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _to_stderr(line: str) -> None:
    say(line, "serving")
