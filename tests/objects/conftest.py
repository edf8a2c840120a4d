"""A store of objects for each test, and this process led to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from sources.objects.stores import store_of
from tests.objects.servers import BUCKET, GcsServer, S3Server, Server


@pytest.fixture(params=["s3", "gs"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Each of the stores in turn."""
    yield from _serving({"s3": S3Server, "gs": GcsServer}[request.param](), monkeypatch)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    yield from _serving(S3Server(), monkeypatch)


def _serving(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name, value in server.environ.items():
        monkeypatch.setenv(name, value)
    store_of.cache_clear()
    yield server
    server.stop()
    store_of.cache_clear()


@pytest.fixture
def url(server: Server) -> Callable[[str], str]:
    """The address of a key in the bucket."""
    return lambda key: f"{server.scheme}://{BUCKET}/{key}"
