"""The engine of this process behind ClickHouse's HTTP interface, as far as queries and statements need it: for tests only."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import chdb

_SETTINGS = ("mutations_sync", "allow_nondeterministic_mutations", "materialize_ttl_after_modify")


@contextmanager
def front(folder: str, seen: list[str]) -> Iterator[int]:
    """Serve the engine of ``folder``, which this process has open, on a port of loopback; statements go to ``seen``."""
    connection, lock = chdb.connect(folder), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            given = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            sql = given.get("query") or body
            seen.append(sql)
            parameters = {name.removeprefix("param_"): value for name, value in given.items() if name.startswith("param_")}
            status, answer = 200, b""
            try:
                with lock:
                    for name in _SETTINGS:
                        connection.query(f"SET {name} = {given.get(name, 'DEFAULT')}")
                    answer = connection.query(sql, "TabSeparated", params=parameters).bytes()
            except Exception as error:
                status, answer = 500, str(error).encode()
            self.send_response(status)
            if status != 200:
                self.send_header("X-ClickHouse-Exception-Code", "1")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        connection.close()
