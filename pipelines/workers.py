"""Worker processes of a local run: they read, decode, count and price; this process owns the state and the store.

A worker writes the rows of a piece to a file (Arrow inside pickles, a tenth of what it read) and says so; the owner takes
the files in the order of the pieces, so that the result is that of one process. How far workers run ahead is bounded, and
none outlives its owner. Nothing here imports Beam: a worker starts in a second and takes 200 MB less.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path
from time import perf_counter_ns
from types import TracebackType
from typing import Final

from schemas.batch import RowBatch
from sources.pieces import Piece, Reader
from transforms.count import CountSettings
from transforms.decode import DecodeSettings
from transforms.people import NOBODY, People
from transforms.terms import ALWAYS, Timeline
from transforms.work import GC_THRESHOLDS, CallWork

_STOP: Final = "stop"
"""File beside the rows that tells workers that nobody waits for them any more."""

_ASK_S: Final = 0.2
"""How often to ask whether to stop while a piece is being worked on."""


class WorkerDied(Exception):
    """A worker process was killed, most often for want of memory."""


@dataclass(frozen=True)
class WorkSettings:
    """What a worker needs to know."""

    reader: Reader
    decode: DecodeSettings
    count: CountSettings
    terms: Timeline = ALWAYS
    people: People = NOBODY


@dataclass(frozen=True)
class _Done:
    """The rows of a piece, in a file; when its work began (monotonic seconds), and how long each stage took, in nanoseconds."""

    path: str
    began: float
    took: dict[str, int]


class Workers:
    """``count`` worker processes at work on ``pieces``; to be used as a context manager."""

    def __init__(self, count: int, settings: WorkSettings, pieces: Iterable[Piece]) -> None:
        self._ahead = 2 * count
        self._folder = tempfile.TemporaryDirectory(prefix="llm-finops-rows-")
        self._pool = ProcessPoolExecutor(count, get_context("spawn"), _start, (settings,))
        self._todo = enumerate(pieces)
        self._waiting: deque[Future[_Done]] = deque()
        self.took: dict[str, int] = defaultdict(int)
        self.started_at: float | None = None
        """When the first piece began to be read, in monotonic seconds; before that, workers start."""

    def rows(self, stop: Callable[[], bool] = lambda: False) -> Iterator[RowBatch] | None:
        """The rows of the next piece, batch by batch; None once ``stop`` says so, which is asked while it waits.

        Raises:
            sources.files.SourceError: what it reads from vanished or can no longer be read.
            WorkerDied: a worker was killed.
        """
        try:
            self._send()
            while not wait([self._waiting[0]], timeout=_ASK_S).done:
                if stop():
                    return None
            done = self._waiting.popleft().result()
            self._send()
        except BrokenProcessPool as error:
            raise WorkerDied(
                "a worker process was killed, most often for want of memory;"
                " run the same command again, with fewer --runner-workers"
            ) from error
        if self.started_at is None:
            self.started_at = done.began
        for stage, nanoseconds in done.took.items():
            self.took[stage] += nanoseconds
        return _batches(done.path)

    def _send(self) -> None:
        """Keep the workers busy, at most so far ahead."""
        while len(self._waiting) <= self._ahead and (one := next(self._todo, None)):
            self._waiting.append(self._pool.submit(_work, one[1], str(Path(self._folder.name) / str(one[0]))))

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        (Path(self._folder.name) / _STOP).touch()
        self._pool.shutdown(cancel_futures=True)
        self._folder.cleanup()


_settings: WorkSettings
_work_of_process: CallWork


def _start(settings: WorkSettings) -> None:
    global _settings, _work_of_process
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the owner decides what it means
    threading.Thread(target=_die_with_the_owner, daemon=True).start()
    gc.set_threshold(*GC_THRESHOLDS)
    _settings = settings
    _work_of_process = CallWork(settings.decode, settings.count, settings.terms, settings.people)


def _die_with_the_owner() -> None:
    owner = parent_process()
    if owner is not None:
        owner.join()
        os._exit(1)


def _work(piece: Piece, path: str) -> _Done:
    took: dict[str, int] = defaultdict(int)
    started = time.monotonic()

    def add(stage: str, items: int, nanoseconds: int) -> None:
        took[stage] += nanoseconds

    stopped = Path(path).with_name(_STOP)
    with open(path, "wb") as out:
        batches = _settings.reader(piece)
        while True:
            began = perf_counter_ns()
            raw = next(batches, None)
            took["read"] += perf_counter_ns() - began
            if raw is None or os.path.exists(stopped):
                return _Done(path, started, dict(took))
            pickle.dump(_work_of_process.rows(raw, add), out, protocol=5)


def _batches(path: str) -> Iterator[RowBatch]:
    with open(path, "rb") as file:
        os.unlink(path)
        end = os.fstat(file.fileno()).st_size
        while file.tell() < end:
            yield pickle.load(file)
