"""The Beam step that reads files: splits in, micro-batches out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import apache_beam as beam

import schemas.coders  # noqa: F401  (registers the coders of the batches)
from schemas.batch import RawBatch
from schemas.telemetry import TALLY, Stage
from sources.files import FileLimits, Split, read


class ReadSplitDoFn(beam.DoFn):  # type: ignore[misc]
    """Stream the batches of one split."""

    def __init__(self, limits: FileLimits) -> None:
        self._limits = limits

    def setup(self) -> None:
        self._stage = Stage("read")

    def process(self, split: Split) -> Iterator[RawBatch]:
        if TALLY.started_at is None:
            TALLY.started_at = time.monotonic()
        batches = read(split, self._limits)
        while True:
            with self._stage.work(0):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


@dataclass(eq=False)
class ReadFiles(beam.PTransform):  # type: ignore[misc]
    """Read planned splits; workers share them."""

    splits: Sequence[Split]
    limits: FileLimits = field(default_factory=FileLimits)

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[RawBatch]:
        return (
            begin
            | "Splits" >> beam.Create(list(self.splits), reshuffle=False)
            | "ShareSplits" >> beam.Reshuffle()
            | "ReadSplits" >> beam.ParDo(ReadSplitDoFn(self.limits)).with_output_types(RawBatch)
        )
