"""``llm-finops reprice`` in processes that are killed: ``python -m tests.pipelines.repricing FOLDER SEED KILLS``.

Each command is a process of its own, forked from this one, which has imported all and opened nothing: a start costs little. Prints
a line for each step: what the store holds after a command that nobody killed, ``killed`` or ``ended`` for one that was to be.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pipelines.reprice
from pipelines.cli import cli
from pipelines.errors import SettingsError
from schemas.tables import CALL_PRICES
from sinks.clickhouse import Store, StoreAddress, connect
from sinks.reconcile import reconcile
from sinks.reprice import price_runs
from sinks.schema import migrate
from tests.own.test_history import everything, read, records
from tests.pipelines.test_reprice import END, START, book

CALLS = 160
_CHANGES = ("of_version", "written_at")  # with every write


def scenario(folder: Path, seed: int, kills: int) -> list[str]:
    """The lines of ``main``, from a process of its own."""
    words = [sys.executable, "-m", "tests.pipelines.repricing", str(folder), str(seed), str(kills)]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    done = subprocess.run(words, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def main(folder: Path, seed: int, kills: int) -> None:
    chance = random.Random(seed)
    pipelines.reprice.SPAN_ROWS = CALLS // 4
    for name, text in book("up"):
        (folder / name).write_text(text)
    since, before = (f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M}" for at in (START, END))
    apply = ["apply", "--price-books", str(folder), "--since", since, "--before", before]
    undo = ["undo", "2"]
    quiet, store = (StoreAddress(folder=str(folder / name)) for name in ("quiet", "store"))
    _say(quiet, _fill)
    writes = [_say(quiet, _command(command)) for command in (apply, undo)]
    _say(store, _fill)
    for command, count in zip((apply, undo), writes, strict=True):
        for _ in range(kills):
            print(_killed(store, _command(command), chance.randrange(1, count)), flush=True)
        _say(store, _command(command))


def _command(words: Sequence[str]) -> Callable[[StoreAddress], None]:
    def run(address: StoreAddress) -> None:
        try:
            cli.main(["reprice", *words, "--to", str(address)], standalone_mode=False)
        except SettingsError as error:
            if "taken back already" not in str(error):  # the kill came when all was done
                raise

    return run


def _fill(address: StoreAddress) -> None:
    migrate(connect(address))
    read(connect(address), records(4, CALLS), ())


def _say(address: StoreAddress, command: Callable[[StoreAddress], None]) -> int:
    """Let the command end, print what the store holds, and return how often it wrote."""
    counted, count = os.pipe()
    pid = os.fork()
    if not pid:
        wrote = [0]
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), _writing(wrote):
            command(address)
        print(_held_by(address), flush=True)
        os.write(count, str(wrote[0]).encode())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    os.close(count)
    with open(counted, encoding="utf-8") as told:
        return int(told.read())


@contextmanager
def _writing(wrote: list[int], stop_at: int = 0) -> Iterator[None]:
    """Count the writes of this process to the store; before one of them it stands still, for another process to kill it."""
    real = {name: getattr(Store, name) for name in ("command", "insert")}

    def counting(name: str) -> Callable[..., Any]:
        def write(*given: Any, **named: Any) -> Any:
            wrote[0] += 1
            if wrote[0] == stop_at:
                os.kill(os.getpid(), signal.SIGSTOP)
            return real[name](*given, **named)

        return write

    for name in real:
        setattr(Store, name, counting(name))
    yield
    for name, method in real.items():
        setattr(Store, name, method)


def _held_by(address: StoreAddress) -> str:
    store = connect(address)
    kept = f"SELECT * EXCEPT ({', '.join(_CHANGES)}) FROM {store.table(CALL_PRICES.name)} FINAL ORDER BY ALL"
    runs = [(run.number, run.done, run.active, run.undoes) for run in price_runs(store)]
    wrong = [check.name for check in reconcile(store).checks if not check.holds]
    return repr((wrong, runs, everything(store), store.rows(kept)))


def _killed(address: StoreAddress, command: Callable[[StoreAddress], None], write: int) -> str:
    """Kill the command with -9 before one of its writes; ``ended`` if it has fewer, since one before it had done some."""
    pid = os.fork()
    if not pid:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), _writing([0], write):
            command(address)
        os._exit(0)
    _, how = os.waitpid(pid, os.WUNTRACED)
    if not os.WIFSTOPPED(how):
        return "ended"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "killed"


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
