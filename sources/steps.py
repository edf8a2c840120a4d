"""The Beam step that reads files: splits in, micro-batches out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import apache_beam as beam

import schemas.coders  # noqa: F401  (registers the coders of the batches)
from schemas.batch import RawBatch
from schemas.telemetry import TALLY, Stage
from sources.files import FileLimits, Split, read


@dataclass
class Reading:
    """What an epoch has read in this process. ``asked``: whether to stop; asked between splits, and while waiting for one."""

    asked: Callable[[], bool] = lambda: False
    splits: list[Split] = field(default_factory=list)

    def begin(self, split: Split) -> bool:
        """Whether to read this split; if so, it counts as read."""
        if self.asked():
            return False
        self.splits.append(split)
        return True


READING: dict[str, Reading] = {}
"""The epochs of this process, by name; for runners that share it only."""


class ReadSplitDoFn(beam.DoFn):  # type: ignore[misc]
    """Stream the batches of one split, if the epoch of that ``name`` still wants it."""

    def __init__(self, limits: FileLimits, name: str = "") -> None:
        self._limits = limits
        self._name = name

    def setup(self) -> None:
        self._stage = Stage("read")

    def process(self, split: Split) -> Iterator[RawBatch]:
        if TALLY.started_at is None:
            TALLY.started_at = time.monotonic()
        if self._name and not READING[self._name].begin(split):
            return
        batches = read(split, self._limits)
        while True:
            with self._stage.work(0):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


@dataclass(eq=False)
class ReadFiles(beam.PTransform):  # type: ignore[misc]
    """Read planned splits; workers share them. ``name``: of the epoch in ``READING``, if there is one."""

    splits: Sequence[Split]
    limits: FileLimits = field(default_factory=FileLimits)
    name: str = ""

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[RawBatch]:
        return (
            begin
            | "Splits" >> beam.Create(list(self.splits), reshuffle=False)
            | "ShareSplits" >> beam.Reshuffle()
            | "ReadSplits" >> beam.ParDo(ReadSplitDoFn(self.limits, self.name)).with_output_types(RawBatch)
        )
