"""Local stores of objects, spoken to by the vendors' own clients: moto's S3, and an emulator of Cloud Storage."""

from __future__ import annotations

import logging
import re
import threading
from functools import partial
from http.server import HTTPServer
from typing import Any, Protocol
from urllib.parse import unquote
from urllib.request import Request, urlopen

import boto3
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers.buckets import create_bucket
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)

BUCKET = "llm-logs"


class Server(Protocol):
    """A store with one bucket. ``environ`` leads clients to it; ``seen`` has what it was asked, as ``GET /path?query``;
    ``failures``: what matches is answered with this status and body instead, each once."""

    scheme: str
    environ: dict[str, str]
    seen: list[str]
    failures: list[tuple[str, int, bytes]]

    def put(self, key: str, data: bytes) -> None: ...
    def delete(self, key: str) -> None: ...
    def stop(self) -> None: ...


class _Seen:
    """A WSGI application that notes what is asked, and answers with ``failures`` first."""

    def __init__(self, app: Any, seen: list[str], failures: list[tuple[str, int, bytes]]) -> None:
        self._app, self._seen, self._failures = app, seen, failures

    def __call__(self, environ: dict[str, Any], start: Any) -> Any:
        asked = f"{environ['REQUEST_METHOD']} {environ.get('RAW_URI') or environ['PATH_INFO'] + '?' + environ['QUERY_STRING']}"
        self._seen.append(asked)
        for failure in self._failures:
            if re.search(failure[0], asked):
                self._failures.remove(failure)
                start(f"{failure[1]} Failed", [("Content-Type", "application/xml"), ("Content-Length", str(len(failure[2])))])
                return [failure[2]]
        return self._app(environ, start)


class S3Server:
    """moto's S3."""

    scheme = "s3"

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.failures: list[tuple[str, int, bytes]] = []
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        running: Any = self._server._server
        running.app = _Seen(running.app, self.seen, self.failures)
        host, port = self._server.get_host_and_port()
        self.environ = {
            "AWS_ENDPOINT_URL_S3": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            region_name="us-east-1",
            aws_access_key_id="testing",
            aws_secret_access_key="testing",
        )
        with urlopen(Request(f"http://{host}:{port}/moto-api/reset", method="POST")) as answer:  # all of a process have one memory
            assert answer.status == 200
        self.client.create_bucket(Bucket=BUCKET)

    def put(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=data)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=BUCKET, Key=key)

    def stop(self) -> None:
        self._server.stop()


class GcsServer:
    """The emulator of Cloud Storage. It keeps one generation of an object, but would answer for any: it is made to refuse the
    others, as the published definition of ``objects.get`` has it."""

    scheme = "gs"

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.failures: list[tuple[str, int, bytes]] = []
        kept = Storage(use_memory_fs=True)
        create_bucket(BUCKET, kept)
        server = self

        class Handler(RequestHandler):  # type: ignore[misc]
            def do_GET(self) -> None:
                server.seen.append(f"GET {self.path}")
                for failure in server.failures:
                    if re.search(failure[0], self.path):
                        server.failures.remove(failure)
                        return self._refuse(failure[1], failure[2])
                asked = re.fullmatch(r"/download/storage/v1/b/([^/]+)/o/([^?]+)\?(?:.*&)?generation=(\d+).*", self.path)
                if asked:
                    try:
                        held = kept.get_file_obj(asked[1], unquote(asked[2]))["generation"]
                    except NotFound:
                        held = ""
                    if held != asked[3]:
                        return self._refuse(404, b"No such object")
                return super().do_GET()

            def _refuse(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = HTTPServer(("127.0.0.1", 0), partial(Handler, kept))
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.environ = {"STORAGE_EMULATOR_HOST": endpoint}
        client = storage.Client("test", AnonymousCredentials(), client_options={"api_endpoint": endpoint})
        self.bucket = client.bucket(BUCKET)

    def put(self, key: str, data: bytes) -> None:
        self.bucket.blob(key).upload_from_string(data, "application/json")

    def delete(self, key: str) -> None:
        self.bucket.blob(key).delete()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
