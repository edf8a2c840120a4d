"""The Beam step between a source and a sink: raw records in, priced rows out, one batch to one batch.

The work is in ``transforms.work``; the step only holds it, times it and counts. It has no state, so a batch may be
repeated. Decoding, counting and pricing are one step, so that no text of a prompt ever crosses a boundary of the runner.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam

import schemas.coders  # noqa: F401  (registers the coders of the batches)
from schemas.batch import RawBatch, RowBatch
from schemas.telemetry import TALLY, Stage
from transforms.count import CountSettings
from transforms.decode import DecodeSettings
from transforms.own import NO_RULES, Rule
from transforms.people import NOBODY, People
from transforms.work import CallWork


@dataclass(eq=False)
class CallsToRows(beam.PTransform):  # type: ignore[misc]
    """Raw batches to priced rows. ``owners``: rules in their order of precedence; ``people``: keys of end users."""

    decode: DecodeSettings
    count: CountSettings
    books: tuple[Path, ...] = ()
    owners: tuple[Rule, ...] = NO_RULES
    people: People = NOBODY

    def expand(self, raw: beam.PCollection[RawBatch]) -> beam.PCollection[RowBatch]:
        step = CallsToRowsDoFn(self.decode, self.count, self.books, self.owners, self.people)
        return raw | "DecodeCountPrice" >> beam.ParDo(step).with_output_types(RowBatch)


_Key = tuple[DecodeSettings, CountSettings, tuple[Path, ...], tuple[Rule, ...], People]
_idle: dict[_Key, list[CallWork]] = defaultdict(list)
_idle_lock = threading.Lock()


class CallsToRowsDoFn(beam.DoFn):  # type: ignore[misc]
    """One worker's ``CallWork``. It outlives the pipeline in its process, so that the next epoch starts with warm caches."""

    def __init__(
        self, decode: DecodeSettings, count: CountSettings, books: tuple[Path, ...], owners: tuple[Rule, ...], people: People
    ) -> None:
        self._key: _Key = (decode, count, books, owners, people)

    def setup(self) -> None:
        self._stages = {name: Stage(name) for name in ("decode", "count", "price", "rows")}
        with _idle_lock:
            waiting = _idle[self._key]
            self._work = waiting.pop() if waiting else None
        if self._work is None:
            self._work = CallWork(*self._key)

    def process(self, raw: RawBatch) -> Iterator[RowBatch]:
        assert self._work is not None
        batch = self._work.rows(raw, self._took)
        tally(batch)
        yield batch

    def teardown(self) -> None:
        if self._work is not None:
            with _idle_lock:
                _idle[self._key].append(self._work)
            self._work = None

    def _took(self, stage: str, items: int, nanoseconds: int) -> None:
        self._stages[stage].took(nanoseconds, items)


def tally(batch: RowBatch) -> None:
    """Add a finished batch to the progress of this process."""
    TALLY.records += batch.records
    TALLY.calls += batch.calls.num_rows
    TALLY.bytes += batch.bytes_read
    TALLY.dead += batch.dead_letters.num_rows
    TALLY.ignored += batch.ignored
    for reason in batch.dead_letters["reason"].to_pylist():
        TALLY.reasons[reason] += 1
    TALLY.cost_pico += batch.cost_pico
