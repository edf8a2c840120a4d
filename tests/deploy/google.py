"""Google's services on this machine, as far as a launch uses them, by their published REST interfaces: Dataflow's jobs (v1b3) and
Cloud Storage's objects (JSON API, v1). The real clients of Beam talk to them."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from crc32c import crc32c


@dataclass
class Google:
    """Jobs that were created, the states that were asked for, and objects by bucket and name.

    ``states`` are those that a job is in, one after the other, each time it is asked for; it stays in the last of them.
    """

    states: Sequence[str] = ("JOB_STATE_RUNNING",)
    port: int = 0
    jobs: list[dict[str, Any]] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    objects: dict[str, bytes] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)
    _looks: int = 0

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def answer(self, method: str, url: str, body: bytes, headers: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, JSON and headers."""
        path, query = urlsplit(url).path, parse_qs(urlsplit(url).query)
        if path.startswith("/v1b3/projects/project/locations/europe-west1/jobs"):
            return self._job(method, path.rpartition("/jobs")[2].strip("/"), body)
        if method == "GET" and (bucket := re.fullmatch(r"/storage/v1/b/([^/]+)", path)):
            return 200, {"kind": "storage#bucket", "id": bucket[1], "name": bucket[1]}, {}
        if method == "GET" and (known := re.fullmatch(r"/storage/v1/b/([^/]+)/o/(.+)", path)):
            name = f"{known[1]}/{unquote(known[2])}"
            return (200 if name in self.objects else 404), {"name": unquote(known[2]), "bucket": known[1]}, {}
        if path.startswith("/upload/storage/v1/b/"):
            bucket = path.split("/")[5]
            if method == "POST":
                name = query["name"][0] if "name" in query else json.loads(body)["name"]
                return 200, {}, {"Location": f"{self.url}/upload/storage/v1/b/{bucket}/o?name={name}"}
            name = f"{bucket}/{query['name'][0]}"
            whole = self.objects[name] = self.objects.get(name, b"") + body
            sums = {
                "md5Hash": base64.b64encode(hashlib.md5(whole).digest()).decode(),
                "crc32c": base64.b64encode(crc32c(whole).to_bytes(4, "big")).decode(),
            }
            return 200, {"name": query["name"][0], "bucket": bucket, "size": str(len(whole)), **sums}, {}
        self.strange.append(f"{method} {url}")
        return 400, {"error": {"code": 400, "message": "this is not known here"}}, {}

    def _job(self, method: str, name: str, body: bytes) -> tuple[int, dict[str, Any], dict[str, str]]:
        if method == "POST":
            self.jobs.append(json.loads(body))
            return 200, {**self.jobs[-1], "id": "job-1", "currentState": "JOB_STATE_PENDING"}, {}
        if method == "PUT":
            self.asked.append(int(json.loads(body)["requestedState"]))
            return 200, {"id": name, "currentState": "JOB_STATE_CANCELLING"}, {}
        state = self.states[min(self._looks, len(self.states) - 1)]
        self._looks += 1
        return 200, {"id": name, "name": "llm-finops", "currentState": state}, {}


@contextmanager
def google(*states: str) -> Iterator[Google]:
    """Both services at one port; see ``Google.states``."""
    there = Google(states or Google.states)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said, headers = there.answer(self.command, self.path, body, self.headers)
            answer = json.dumps(said).encode()
            self.send_response(status)
            for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = _do

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        there.port = int(server.server_address[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield there
        finally:
            server.shutdown()
