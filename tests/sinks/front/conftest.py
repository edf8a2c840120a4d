"""A real ``llm-finops serve`` in a process of its own, with calls of two tenants, and clients of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import clickhouse_connect
import pytest
from clickhouse_connect.driver.client import Client

from sinks.clickhouse import PASSWORD_VARIABLE, Store, StoreAddress, connect
from tests.sinks.samples import NOON, batch, call
from tests.sinks.test_store import write

PASSWORDS = {"reader": "r-secret", "writer": "w-secret", "acme": "a-secret", "none": "n-secret"}
CONFIG = """
[serve]
max_seconds = 20
max_memory = "512 MiB"
max_result_rows = 1_000_000
max_body_bytes = "32 MiB"

[[serve.users]]
name = "reader"
role = "reader"
password_env = "READER"

[[serve.users]]
name = "writer"
role = "writer"
password_env = "WRITER"

[[serve.users]]
name = "acme"
role = "reader"
password_env = "ACME"
tenants = ["acme", "it's"]

[[serve.users]]
name = "none"
role = "reader"
password_env = "NONE"
tenants = ["nobody"]
"""
MAIN = "from pipelines.cli import main; main()"


@dataclass
class Served:
    """A running server: its process, port and store."""

    process: subprocess.Popen[str]
    port: int
    folder: Path
    lines: list[str]

    @property
    def errors(self) -> IO[str]:
        assert self.process.stderr
        return self.process.stderr

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def client(self, user: str = "reader", password: str | None = None, **options: Any) -> Client:
        password = PASSWORDS.get(user, "") if password is None else password
        return clickhouse_connect.get_client(host="127.0.0.1", port=self.port, username=user, password=password, **options)

    def end(self, patience_s: float = 60) -> int:
        """Ask it to end; its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(patience_s)


@contextmanager
def served(folder: Path, config: str = CONFIG, options: Sequence[str] = ()) -> Iterator[Served]:
    """``llm-finops serve`` over a store inside ``folder``, on a free port."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "serve.toml"
    file.write_text(config, encoding="utf-8")
    environ = {**os.environ, **{user.upper(): password for user, password in PASSWORDS.items()}}
    command = [sys.executable, "-c", MAIN, "serve", "--to", f"chdb://{folder / 'store'}", "--port", "0", "--config", str(file)]
    process = subprocess.Popen(
        [*command, *options], env=environ, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=folder
    )
    assert process.stderr
    try:
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+) for ", line)
        assert found, line + process.stderr.read()
        yield Served(process, int(found[1]), folder / "store", [line])
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that the tests of this folder share, with ``CALLS`` in it."""
    with served(tmp_path_factory.mktemp("serve")) as one, pytest.MonkeyPatch.context() as patch:
        patch.setenv(PASSWORD_VARIABLE, PASSWORDS["writer"])
        store = connect(StoreAddress.parse(f"http://writer@127.0.0.1:{one.port}"))
        write(store, batch(CALLS, [1_000_000 * (n + 1) for n in range(len(CALLS))]))
        yield one


CALLS = [
    call(n, NOON + 60 * (n % 5), tenant=("acme", "globex", "it's")[n % 3], team="t", input_fresh=n, app=f"app-{n % 3}")
    for n in range(60)
]
"""Twenty calls each of three tenants; the n-th has n fresh input tokens and costs n + 1 millionths of a dollar."""


@pytest.fixture
def writing(server: Served, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The shared server as our own sinks see it."""
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORDS["writer"])
    return connect(StoreAddress.parse(f"http://writer@127.0.0.1:{server.port}"))


@pytest.fixture
def client(server: Served) -> Callable[..., Client]:
    return server.client
