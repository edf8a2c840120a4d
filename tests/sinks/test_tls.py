"""A store over https: a door with TLS in front of a real ``serve``, and what a person is told when it does not fit."""

from __future__ import annotations

import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pipelines.doctor import Status, reached
from pipelines.sections import Settings
from pipelines.sections import Store as StoreSection
from pipelines.stores import probe_store
from sinks.clickhouse import PASSWORD_VARIABLE, Retry, Store, StoreAddress, StoreError, Tls, connect
from tests.kafka.certificates import Authority
from tests.sinks.front.conftest import PASSWORDS, Served, served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("tls")) as one:
        yield one


@contextmanager
def door(server: Served, authority: Authority, folder: Path, own: bool = False) -> Iterator[int]:
    """A port that speaks TLS and passes all on; ``own``: only to clients with a certificate."""
    certificate, key = authority.issue("store")
    for name, text in (("cert", certificate), ("key", key), ("ca", authority.certificate)):
        (folder / f"{name}.pem").write_text(text)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    if own:
        context.load_verify_locations(folder / "ca.pem")
        context.verify_mode = ssl.CERT_REQUIRED

    class Through(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            there = ("127.0.0.1", server.port)
            with (
                suppress(OSError),
                context.wrap_socket(self.request, server_side=True) as near,
                socket.create_connection(there) as far,
            ):
                back = threading.Thread(target=pump, args=(far, near), daemon=True)
                back.start()
                pump(near, far)
                back.join(5)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Through) as doors:
        doors.daemon_threads = True
        threading.Thread(target=doors.serve_forever, daemon=True).start()
        yield int(doors.server_address[1])
        doors.shutdown()


def pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def through(port: int, tls: Tls, host: str = "localhost") -> Store:
    return connect(StoreAddress.parse(f"https://writer@{host}:{port}"), Retry(1), 10, tls)


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, PASSWORDS["writer"])


def test_a_certificate_that_is_vouched_for_is_taken(server: Served, tmp_path: Path) -> None:
    with door(server, Authority(), tmp_path) as port:
        assert through(port, Tls(str(tmp_path / "ca.pem"))).rows("SELECT 1") == [(1,)]


def test_both_sides_may_show_one(server: Served, tmp_path: Path) -> None:
    authority = Authority()
    authority.for_client(tmp_path, own=True)
    ours = [str(tmp_path / f"{name}.pem") for name in ("ca", "ssl_certfile", "ssl_keyfile")]
    with door(server, authority, tmp_path, own=True) as port:
        assert through(port, Tls(*ours)).rows("SELECT 1") == [(1,)]
        with pytest.raises(StoreError, match=r"^https://writer@localhost.*"):
            through(port, Tls(ours[0]))


def test_others_are_refused_in_one_line(server: Served, tmp_path: Path) -> None:
    other = Authority()
    (tmp_path / "other.pem").write_text(other.certificate)
    with door(server, Authority(), tmp_path) as port:
        ours = Tls(str(tmp_path / "ca.pem"))
        for tls, host in ((Tls(str(tmp_path / "other.pem")), "localhost"), (Tls(), "localhost"), (ours, "127.0.0.1")):
            with pytest.raises(StoreError, match=r"no secure connection: .*certificate") as refused:
                through(port, tls, host)
            assert "\n" not in str(refused.value)
    with door(server, Authority(days=-1), tmp_path) as port, pytest.raises(StoreError, match="certificate has expired"):
        through(port, Tls(str(tmp_path / "ca.pem")))
    with pytest.raises(StoreError, match=r"no such file, or it cannot be read; see store\.ca"):
        through(1, Tls(str(tmp_path / "gone.pem")))


def test_the_doctor_goes_the_same_way(server: Served, tmp_path: Path) -> None:
    (tmp_path / "other.pem").write_text(Authority().certificate)
    with door(server, Authority(), tmp_path) as port:
        for ca, status, word in (("ca", Status.OK, "ClickHouse"), ("other", Status.FAIL, "no secure connection: ")):
            asked = StoreSection(to=f"https://writer@localhost:{port}", ca=str(tmp_path / f"{ca}.pem"))
            found = reached.store(Settings(store=asked), probe_store)
            assert found.status is status
            assert word in found.detail
