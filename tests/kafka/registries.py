"""A schema registry for tests: the part of its REST interface that readers use, as Confluent documents it.

https://docs.confluent.io/platform/current/schema-registry/develop/api.html: ``GET /schemas/ids/{id}``,
``GET /schemas/guids/{guid}`` and ``GET /subjects/{subject}/versions/{version}``, with errors as JSON; and the wire format of values.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit


class Registry:
    """Schemas by id, by GUID, and by subject and version. ``guids`` is None for one of before there were GUIDs. ``login`` is who may ask, as ``user:password``; ``down`` answers 503 to all."""

    def __init__(self) -> None:
        self.schemas: dict[int, dict[str, Any]] = {}
        self.serialized: dict[int, str] = {}
        self.subjects: dict[tuple[str, int], int] = {}
        self.guids: dict[str, int] | None = {}
        self.login = ""
        self.down = False
        self.asked: Counter[str] = Counter()
        self.address = ""

    def add(self, number: int, schema: str, kind: str = "AVRO", subject: str = "", serialized: bytes = b"", references: Any = ()) -> None:
        """``references``: (name, subject) of first versions. Avro is the type that is not named in answers."""
        self.schemas[number] = {"schema": schema} | ({"schemaType": kind} if kind != "AVRO" else {})
        if references:
            named = [{"name": name, "subject": other, "version": 1} for name, other in references]
            self.schemas[number]["references"] = named
        if serialized:
            self.serialized[number] = base64.b64encode(serialized).decode()
        if subject:
            self.subjects[subject, 1] = number

    def answer(self, url: str, authorization: str) -> tuple[int, dict[str, Any]]:
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        self.asked[path] += 1
        if self.down:
            return 503, {"error_code": 50003, "message": "Error while forwarding the request to the primary"}
        if self.login and authorization != "Basic " + base64.b64encode(self.login.encode()).decode():
            return 401, {"error_code": 401, "message": "Unauthorized"}
        if found := re.fullmatch(r"/schemas/ids/(\d+)", path):
            number = int(found[1])
            if number not in self.schemas:
                return 404, {"error_code": 40403, "message": f"Schema {number} not found"}
            return 200, self._shown(number, query)
        if (found := re.fullmatch(r"/schemas/guids/([0-9a-f-]{36})", path)) and self.guids is not None:
            number = self.guids.get(found[1], -1)
            if number < 0:
                return 404, {"error_code": 40403, "message": f"Schema {found[1]} not found"}
            return 200, self._shown(number, query)
        if found := re.fullmatch(r"/subjects/([^/]+)/versions/(\d+)", path):
            known = self.subjects.get((found[1], int(found[2])))
            if known is None:
                return 404, {"error_code": 40401, "message": f"Subject '{found[1]}' not found."}
            return 200, {"subject": found[1], "version": int(found[2]), "id": known, **self._shown(known, query)}
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _shown(self, number: int, query: dict[str, list[str]]) -> dict[str, Any]:
        known = self.schemas[number]
        return known | {"schema": self.serialized[number]} if query.get("format") == ["serialized"] else known


@contextmanager
def serving(certificate: Path | None = None, key: Path | None = None) -> Iterator[Registry]:
    """A registry that answers at ``address``, with TLS if it is given a certificate and its key."""
    known = Registry()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, said = known.answer(self.path, self.headers.get("Authorization", ""))
            body = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    known.address = f"{'https' if certificate else 'http'}://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield known
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def framed(number: int, data: bytes, indexes: bytes = b"") -> bytes:
    """The wire format: a zero byte, the id as four bytes, of Protobuf the indexes of the message, then the value."""
    return struct.pack(">bI", 0, number) + indexes + data
