"""Fixtures every test may use."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import settings

from sinks.clickhouse import Store, StoreAddress, connect, disconnect
from sinks.schema import migrate
from tests.following import Follower
from transforms.decode.compiled import is_compiled

settings.register_profile("untimed", deadline=None)  # a busy machine is no defect
settings.load_profile("untimed")

_CHECKOUT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real calls, traces and wire-format samples, which is not part of the project.

    It is looked for at ``LLM_FINOPS_SHARED``, else beside the checkout. Without it the tests that need it skip; with
    ``CI=true`` its absence is a failure.
    """
    folder = Path(os.environ.get("LLM_FINOPS_SHARED") or _CHECKOUT.parent / "shared")
    if (folder / "data").is_dir():
        return folder
    reason = f"needs the real calls and samples of {folder.name}/ beside the checkout (or LLM_FINOPS_SHARED)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the embedded engine; a process can have only one, so tests share it and use databases of their own."""
    return tmp_path_factory.mktemp("engine")


@contextmanager
def _database(engine: Path) -> Iterator[StoreAddress]:
    address = StoreAddress(folder=str(engine), database=f"t{uuid.uuid4().hex[:12]}")
    yield address
    connect(address).command(f"DROP DATABASE IF EXISTS `{address.database}`")
    disconnect(address)


@pytest.fixture
def address(engine: Path) -> Iterator[StoreAddress]:
    """A database of its own for one test, empty."""
    with _database(engine) as address:
        yield address


@pytest.fixture
def store(address: StoreAddress) -> Store:
    """A store with our tables, empty."""
    store = connect(address)
    migrate(store)
    return store


@pytest.fixture(scope="module")
def module_store(engine: Path) -> Iterator[Store]:
    """A store that the tests of one file share."""
    with _database(engine) as address:
        store = connect(address)
        migrate(store)
        yield store


@pytest.fixture
def followers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Follower], Follower]]:
    """Starts followers, with the state of their stores in the test's folder; none outlives its test."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made: list[Follower] = []

    def start(follower: Follower) -> Follower:
        made.append(follower)
        follower.start()
        return follower

    yield start
    for one in made:
        if one.alive():
            one.kill()


@pytest.fixture
def pure() -> None:
    """For tests that put something of their own in the place of a function of the decoder."""
    if is_compiled():
        pytest.skip("compiled modules call each other without looking at what stands in a function's place")
