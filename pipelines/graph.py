"""The job: composition only. Source, calls, minutes; and the source of rows that worker processes make."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import apache_beam as beam

from pipelines.workers import Workers
from schemas.batch import RawBatch, RowBatch
from schemas.telemetry import TALLY
from sinks.steps import RowsToMinutes
from sources.pieces import Piece
from sources.steps import Reading
from transforms.steps import CallsToRows, tally


def build(raw: beam.PCollection[RawBatch], calls: CallsToRows, minutes: RowsToMinutes) -> beam.PCollection[int]:
    """Raw batches of any source to recomputed minutes (seconds since 1970). Labels are the job's update contract."""
    return raw | "CallsToRows" >> calls | "RowsToMinutes" >> minutes


@dataclass(eq=False)
class RowsOfWorkers(beam.PTransform):  # type: ignore[misc]
    """Rows of the next pieces as worker processes make them, in order; for runners that share this process only."""

    pool: Workers
    pieces: Sequence[Piece]
    reading: Reading = field(default_factory=Reading)

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[RowBatch]:
        token = uuid.uuid4().hex
        _WAITING[token] = self
        return (
            begin
            | "Pieces" >> beam.Create([token], reshuffle=False)
            | "TakeRows" >> beam.FlatMap(_take).with_output_types(RowBatch)
        )


_WAITING: dict[str, RowsOfWorkers] = {}


def _take(token: str) -> Iterator[RowBatch]:
    work = _WAITING.pop(token)
    for piece in work.pieces:
        rows = work.pool.rows(work.reading.asked)
        if rows is None or not work.reading.begin(piece):
            return
        for batch in rows:
            if TALLY.started_at is None:
                TALLY.started_at = work.pool.started_at
            tally(batch)
            yield batch
