"""HTTP as it is on the wire: what Grafana's plugin does, compression, broken and hostile requests."""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import lz4.frame
import pytest
from backports import zstd

from sinks.clickhouse import Store
from tests.sinks.front.conftest import PASSWORDS, Served

READER = {"X-ClickHouse-User": "reader", "X-ClickHouse-Key": PASSWORDS["reader"]}
WRITER = {"X-ClickHouse-User": "writer", "X-ClickHouse-Key": PASSWORDS["writer"]}


@dataclass
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes


def send(
    server: Served, path: str = "/", body: bytes | None = None, headers: Mapping[str, str] = READER, method: str = "POST"
) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(method, path, body, dict(headers))
        reply = connection.getresponse()
        return Reply(reply.status, dict(reply.getheaders()), reply.read())
    finally:
        connection.close()


def text(data: bytes, at: int) -> tuple[str, int]:
    """A Native string: its length (here below 128) and its bytes."""
    return data[at + 1 : at + 1 + data[at]].decode(), at + 1 + data[at]


def test_the_handshake_of_grafanas_plugin_is_told_revision_0(server: Served) -> None:
    """clickhouse-go decodes this one reply at its own revision: block info, and a byte 0 per column."""
    path = "/?default_format=Native&client_protocol_version=54460&database=llm_finops"
    body = send(server, path, b"SELECT displayName(), version(), revision(), timezone()").body
    assert body[:2] == b"\x01\x00"  # field 1, is_overflows: no
    assert body[2:7] == b"\x02" + struct.pack("<i", -1)  # field 2, bucket_num
    assert body[7:10] == b"\x00\x04\x01"  # end of the fields; 4 columns, 1 row
    at, found = 10, {}
    for _ in range(4):
        name, at = text(body, at)
        kind, at = text(body, at)
        assert body[at] == 0  # no custom serialization
        at += 1
        if kind == "UInt32":
            found[name], at = str(struct.unpack_from("<I", body, at)[0]), at + 4
        else:
            found[name], at = text(body, at)
    assert at == len(body)
    assert found["revision()"] == "0"
    assert found["displayName()"] == "llm-finops"
    assert found["version()"].count(".") >= 2
    assert found["timezone()"]


def test_later_blocks_are_plain_native(server: Served) -> None:
    path = "/?default_format=Native&client_protocol_version=0&max_execution_time=60&query_id=q1"
    reply = send(server, path, b"SELECT 1")
    assert reply.body == b"\x01\x01\x011\x05UInt8\x01"
    assert reply.headers["X-ClickHouse-Query-Id"] == "q1"
    assert reply.headers["X-ClickHouse-Format"] == "Native"
    assert json.loads(reply.headers["X-ClickHouse-Summary"])["result_rows"] == "1"


def test_an_empty_result_has_no_bytes(server: Served) -> None:
    reply = send(server, "/?default_format=Native", b"SELECT number FROM numbers(0)")
    assert (reply.status, reply.body, reply.headers["Content-Length"]) == (200, b"", "0")


def test_pings(server: Served) -> None:
    assert send(server, "/ping", method="GET", headers={}).body == b"Ok.\n"
    assert send(server, "/", method="GET", headers={}).body == b"Ok.\n"


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "lz4"])
def test_replies_are_compressed_where_it_is_asked_for(server: Served, encoding: str) -> None:
    undo = {"gzip": gzip.decompress, "zstd": zstd.decompress, "lz4": lz4.frame.decompress}[encoding]
    for count in (10, 2_000_000 // 8):
        query = f"SELECT number FROM numbers({count})".encode()
        plain = send(server, "/", query, {**READER, "Accept-Encoding": encoding})
        assert "Content-Encoding" not in plain.headers
        packed = send(server, "/?enable_http_compression=1", query, {**READER, "Accept-Encoding": encoding})
        assert packed.headers["Content-Encoding"] == encoding
        assert undo(packed.body) == plain.body
        assert plain.body.count(b"\n") == count


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd", "lz4"])
def test_bodies_may_be_compressed_and_broken_ones_are_refused(server: Served, encoding: str) -> None:
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "zstd": zstd.compress, "lz4": lz4.frame.compress}[encoding]
    headers = {**READER, "Content-Encoding": encoding}
    packed = pack(b"SELECT 'it is here'")
    assert send(server, body=packed, headers=headers).body == b"it is here\n"
    for broken in (packed[:-4], b"nonsense of some length", bytes(4) + packed[4:]):
        reply = send(server, body=broken, headers=headers)
        assert (reply.status, reply.body[:10]) == (400, b"Code: 271."), broken
    parts = pack(b"SELECT 'it ") + pack(b"is here'")
    assert send(server, body=parts, headers=headers).body == b"it is here\n", "frames one after another are one body"
    long = b"SELECT length('" + b"x" * (5 << 20) + b"')"
    assert send(server, body=pack(long), headers=headers).body == b"%d\n" % (5 << 20)


def test_bodies_are_limited_before_and_after_they_are_unpacked(server: Served) -> None:
    bomb = gzip.compress(b" " * (64 << 20))
    assert len(bomb) < 1 << 20
    for headers, body in (
        ({**READER, "Content-Encoding": "gzip"}, bomb),
        ({**WRITER, "Content-Encoding": "gzip"}, bomb),
        ({**READER, "Content-Encoding": "zstd"}, zstd.compress(b" " * (64 << 20))),
        (READER, b"SELECT 1" + b" " * (20 << 20)),
    ):
        reply = send(server, body=body, headers=headers)
        assert (reply.status, reply.body[:10]) == (413, b"Code: 307."), reply


def test_requests_that_are_no_queries(server: Served) -> None:
    for body, headers, status, code in (
        (b"", READER, 400, 62),
        (b" ;; \n", READER, 400, 62),
        (b"\xff\xfe\x00", READER, 400, 36),
        (b"SELECT 1\0; SELECT 2", READER, 400, 62),
        (b"SELECT 1", {**READER, "Content-Encoding": "rot13"}, 501, 48),
    ):
        reply = send(server, body=body, headers=headers)
        assert (reply.status, reply.body.split(b".")[0]) == (status, b"Code: %d" % code), (body, reply.body)
    assert send(server, "/?client_protocol_version=x", b"SELECT 1").body.startswith(b"Code: 36.")
    assert send(server, "/?compress=1", b"SELECT 1").body.startswith(b"Code: 48.")
    assert send(server, "/?default_format=Nonsense", b"SELECT 1").body.startswith(b"Code: 73.")
    assert send(server, "/?database=nowhere", b"SELECT 1").body.startswith(b"Code: 81.")
    assert send(server, "/?database=system", b"SELECT 1").body.startswith(b"Code: 497.")
    assert send(server, "/?role=owner", b"SELECT count() FROM calls FINAL").body == b"60\n"
    assert send(server, method="DELETE").status == 501
    assert send(server, "/play", method="GET").status == 404
    assert send(server, "/../../etc/passwd", method="GET").status == 404


def test_a_get_never_writes(server: Served, writing: Store) -> None:
    path = "/?query=INSERT%20INTO%20llm_finops.runs%20(run_id)%20SELECT%20%27get%27"
    assert send(server, path, method="GET", headers=WRITER).body.startswith(b"Code: 164.")
    assert writing.rows("SELECT count() FROM runs WHERE run_id = 'get'") == [(0,)]
    assert send(server, "/?query=SELECT%207", method="GET").body == b"7\n"


def test_headers_cannot_be_injected(server: Served) -> None:
    for wanted in ("a%0d%0aX-Evil:%201", "%00", "x" * 5000, "a%0aSet-Cookie:%20b"):
        reply = send(server, f"/?query_id={wanted}", b"SELECT 1")
        assert reply.status == 200
        assert "X-Evil" not in reply.headers
        assert "Set-Cookie" not in reply.headers
        assert len(reply.headers["X-ClickHouse-Query-Id"]) == 36
    reply = send(server, "/?default_format=CSV%0d%0aX-Evil:%201", b"SELECT 1")
    assert "X-Evil" not in reply.headers


def test_a_web_page_reaches_nothing(server: Served) -> None:
    """Nothing without a password; and no reply that a page of another origin may read, also under a name of its own."""
    for extra in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}, {"Host": f"evil.example:{server.port}"}):
        assert send(server, body=b"SELECT 1", headers=extra).status == 403
    reply = send(server, method="OPTIONS", headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "POST"})
    assert not any(name.lower().startswith("access-control") for name in reply.headers)
    assert "WWW-Authenticate" not in send(server, body=b"SELECT 1", headers={}).headers, "a browser is not asked to keep one"


def test_nonsense_on_the_socket_harms_nobody(server: Served) -> None:
    for noise in (b"\x00" * 100, b"GET / HTTP/9.9\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", b"A" * 100_000):
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as raw:
            try:
                raw.sendall(noise)
                raw.shutdown(socket.SHUT_WR)
                answer = raw.recv(4096)
            except OSError:
                continue
            assert b"Traceback" not in answer
            assert not answer or b" 400 " in answer.split(b"\r\n")[0]
    assert send(server, body=b"SELECT 1").body == b"1\n"


def test_an_unread_body_is_not_the_next_request(server: Served) -> None:
    inner = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
    body = inner * 1000
    reply = send(server, body=body, headers={"X-ClickHouse-User": "reader", "X-ClickHouse-Key": "wrong"})
    assert reply.status == 403
    assert reply.body.count(b"Code: 516") == 1
