"""The Beam step between a source and a sink: raw records in, priced rows out, one batch to one batch.

The work is in ``transforms.work``; the step only holds it, times it and counts. It has no state, so a batch may be
repeated. Decoding, counting and pricing are one step, so that no text of a prompt ever crosses a boundary of the runner.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import apache_beam as beam

import schemas.coders  # noqa: F401  (registers the coders of the batches)
from schemas.batch import RawBatch, RowBatch
from schemas.telemetry import TALLY, Stage, count, observe
from transforms.count import CountSettings
from transforms.decode import DecodeSettings
from transforms.people import NOBODY, People
from transforms.terms import ALWAYS, TermsNow, Timeline
from transforms.work import CallWork


@dataclass(eq=False)
class CallsToRows(beam.PTransform):  # type: ignore[misc]
    """Raw batches to priced rows. ``terms``: prices and rules, by event time; ``people``: keys of end users.

    A job without end asks for them anew (``now``) before a batch, once ``every_s`` seconds have passed.
    """

    decode: DecodeSettings
    count: CountSettings
    terms: Timeline = ALWAYS
    people: People = NOBODY
    now: TermsNow | None = None
    every_s: float = 0

    def expand(self, raw: beam.PCollection[RawBatch]) -> beam.PCollection[RowBatch]:
        step = CallsToRowsDoFn(self.decode, self.count, self.terms, self.people, self.now, self.every_s)
        return raw | "DecodeCountPrice" >> beam.ParDo(step).with_output_types(RowBatch)


_Key = tuple[DecodeSettings, CountSettings, People]
_idle: dict[_Key, list[CallWork]] = defaultdict(list)
_idle_lock = threading.Lock()


@dataclass(frozen=True)
class Joining:
    """Lends a ``CallWork`` to who joins parts of calls, on the terms that are known by then; the first loan makes it."""

    decode: DecodeSettings
    count: CountSettings
    terms: Timeline = ALWAYS
    people: People = NOBODY
    now: TermsNow | None = None

    @contextmanager
    def __call__(self) -> Iterator[CallWork]:
        key = (self.decode, self.count, self.people)
        with _idle_lock:
            work = _idle[key].pop() if _idle[key] else None
        work = work or CallWork(self.decode, self.count, self.terms, self.people)
        work.take_up(self.terms if self.now is None else self.now())
        try:
            yield work
        finally:
            with _idle_lock:
                _idle[key].append(work)


class CallsToRowsDoFn(beam.DoFn):  # type: ignore[misc]
    """One worker's ``CallWork``. It outlives the pipeline in its process, so that the next epoch starts with warm caches."""

    def __init__(
        self,
        decode: DecodeSettings,
        count: CountSettings,
        terms: Timeline,
        people: People,
        now: TermsNow | None = None,
        every_s: float = 0,
    ) -> None:
        self._key: _Key = (decode, count, people)
        self._terms = terms
        self._now = now
        self._every_s = every_s

    def setup(self) -> None:
        self._stages = {name: Stage(name) for name in ("decode", "count", "price", "rows")}
        self._asked: float | None = None
        with _idle_lock:
            waiting = _idle[self._key]
            self._work = waiting.pop() if waiting else None
        if self._work is None:
            decode, count, people = self._key
            self._work = CallWork(decode, count, self._terms, people)
        self._work.take_up(self._terms)

    def process(self, raw: RawBatch) -> Iterator[RowBatch]:
        assert self._work is not None
        self._ask()
        batch = self._work.rows(raw, self._took)
        tally(batch)
        yield batch

    def _ask(self) -> None:
        """A failure fails the bundle, which the runner repeats: calls are not priced on terms that may be old."""
        assert self._work is not None
        if self._now is not None and (self._asked is None or time.monotonic() - self._asked >= self._every_s):
            asked = time.monotonic()
            if self._work.take_up(self._now()):
                count("terms_changed")
            self._asked = asked

    def teardown(self) -> None:
        if self._work is not None:
            with _idle_lock:
                _idle[self._key].append(self._work)
            self._work = None

    def _took(self, stage: str, items: int, nanoseconds: int) -> None:
        self._stages[stage].took(nanoseconds, items)


def tally(batch: RowBatch) -> None:
    """Add a finished batch to the progress of this process, and to the metrics of its step."""
    count("records_read", batch.records)
    count("bytes_read", batch.bytes_read)
    count("calls", batch.calls.num_rows)
    count("ignored", batch.ignored)
    if batch.calls.num_rows:
        observe("call_age_seconds", time.time() - batch.oldest / 1e6)
    TALLY.records += batch.records
    TALLY.calls += batch.calls.num_rows
    TALLY.bytes += batch.bytes_read
    TALLY.dead += batch.dead_letters.num_rows
    TALLY.ignored += batch.ignored
    for reason, letters in Counter(batch.dead_letters["reason"].to_pylist()).items():
        TALLY.reasons[reason] += letters
        count("dead_letters", letters, of=reason)
    TALLY.cost_pico += batch.cost_pico
