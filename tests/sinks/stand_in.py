"""The embedded engine behind ClickHouse's HTTP interface: as much of it as clickhouse-connect needs for queries."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import chdb


@contextmanager
def serving(engine: Path, cut: int | None = None) -> Iterator[int]:
    """Serve the engine of a folder on a free port. ``cut``: a stream of Arrow breaks off after so many bytes."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_POST(self) -> None:
            asked = parse_qs(urlsplit(self.path).query)
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            sql = body or asked["query"][0]
            form = sql.rpartition("FORMAT ")[2].split()[0] if "FORMAT " in sql else asked.get("default_format", ["TSV"])[0]
            connection = chdb.connect(str(engine.resolve()))
            try:
                answer = bytes(connection.query(sql, form).bytes() or b"")
                self.send_response(200)
            except Exception as error:
                answer = str(error).encode()
                self.send_response(500)
                self.send_header("X-ClickHouse-Exception-Code", "47")
            finally:
                connection.close()
            self.send_header("X-ClickHouse-Format", form)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            broken = cut is not None and form == "ArrowStream"
            for start in range(0, len(answer), 8192):
                if broken and start + 8192 > (cut or 0):
                    self.close_connection = True
                    return
                chunk = answer[start : start + 8192]
                self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")

        do_GET = do_POST

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()
