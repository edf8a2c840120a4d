"""The job: composition only. Source, calls, minutes; and the source of rows that worker processes make."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam

from pipelines.workers import Workers
from schemas.batch import RawBatch, RowBatch
from schemas.telemetry import TALLY
from sinks.steps import RowsToMinutes
from transforms.steps import CallsToRows, tally


def build(raw: beam.PCollection[RawBatch], calls: CallsToRows, minutes: RowsToMinutes) -> beam.PCollection[int]:
    """Raw batches of any source to recomputed minutes (seconds since 1970). Labels are the job's update contract."""
    return raw | "CallsToRows" >> calls | "RowsToMinutes" >> minutes


@dataclass(eq=False)
class RowsOfWorkers(beam.PTransform):  # type: ignore[misc]
    """Rows of the next splits as worker processes make them, in order; for runners that share this process only."""

    pool: Workers
    splits: int

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[RowBatch]:
        token = uuid.uuid4().hex
        _POOLS[token] = self.pool
        splits = begin | "Splits" >> beam.Create([(token, self.splits)], reshuffle=False)
        return splits | "TakeRows" >> beam.FlatMap(_take).with_output_types(RowBatch)


_POOLS: dict[str, Workers] = {}


def _take(work: tuple[str, int]) -> Iterator[RowBatch]:
    token, splits = work
    if TALLY.started_at is None:
        TALLY.started_at = time.monotonic()
    for batch in _POOLS.pop(token).rows(splits):
        tally(batch)
        yield batch
