"""A local gRPC server for Google's published services: the messages are theirs, what they do is written here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc


class Faults:
    """Errors that calls are to end with, in order, before calls are answered again; and how many calls came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._due: dict[str, list[tuple[grpc.StatusCode, str]]] = {}
        self.calls: dict[str, int] = {}

    def due(self, method: str, code: grpc.StatusCode, text: str = "for the test", times: int = 1) -> None:
        with self._lock:
            self._due.setdefault(method, []).extend([(code, text)] * times)

    def called(self, method: str, context: grpc.ServicerContext) -> None:
        with self._lock:
            self.calls[method] = self.calls.get(method, 0) + 1
            fault = self._due[method].pop(0) if self._due.get(method) else None
        if fault:
            context.abort(*fault)


def unary(do: Callable[..., Any], asked: Any, answer: Any) -> grpc.RpcMethodHandler:
    return grpc.unary_unary_rpc_method_handler(do, asked.deserialize, answer)


def streaming(do: Callable[..., Iterator[Any]], asked: Any, answer: Any) -> grpc.RpcMethodHandler:
    return grpc.stream_stream_rpc_method_handler(do, asked.deserialize, answer)


@contextmanager
def serving(service: str, methods: dict[str, grpc.RpcMethodHandler], tls: tuple[str, str] | None = None, port: int = 0) -> Iterator[int]:
    """Serve these methods of a service, over TLS with a certificate and its key if they are given; the port."""
    server = grpc.server(ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    if tls:
        certificate, key = (text.encode() for text in tls)
        port = server.add_secure_port(f"localhost:{port}", grpc.ssl_server_credentials([(key, certificate)]))
    else:
        port = server.add_insecure_port(f"localhost:{port}")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait(10)
