"""The Beam step that reads: pieces in, micro-batches out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import apache_beam as beam

import schemas.coders  # noqa: F401  (registers the coders of the batches)
from schemas.batch import RawBatch
from schemas.telemetry import TALLY, Stage
from sources.pieces import Piece, Reader


@dataclass
class Reading:
    """What an epoch has read in this process. ``asked``: whether to stop; asked between pieces, and while waiting for one."""

    asked: Callable[[], bool] = lambda: False
    pieces: list[Piece] = field(default_factory=list)

    def begin(self, piece: Piece) -> bool:
        """Whether to read this piece; if so, it counts as read."""
        if self.asked():
            return False
        self.pieces.append(piece)
        return True


READING: dict[str, Reading] = {}
"""The epochs of this process, by name; for runners that share it only."""


class ReadPieceDoFn(beam.DoFn):  # type: ignore[misc]
    """Stream the batches of one piece, if the epoch of that ``name`` still wants it."""

    def __init__(self, reader: Reader, name: str = "") -> None:
        self._reader = reader
        self._name = name

    def setup(self) -> None:
        self._stage = Stage("read")

    def process(self, piece: Piece) -> Iterator[RawBatch]:
        if TALLY.started_at is None:
            TALLY.started_at = time.monotonic()
        if self._name and not READING[self._name].begin(piece):
            return
        batches = self._reader(piece)
        while True:
            with self._stage.work(0):
                batch = next(batches, None)
            if batch is None:
                return
            yield batch


@dataclass(eq=False)
class ReadPieces(beam.PTransform):  # type: ignore[misc]
    """Read planned pieces; workers share them. ``name``: of the epoch in ``READING``, if there is one."""

    pieces: Sequence[Piece]
    reader: Reader
    name: str = ""

    def expand(self, begin: beam.pvalue.PBegin) -> beam.PCollection[RawBatch]:
        return (
            begin
            | "Pieces" >> beam.Create(list(self.pieces), reshuffle=False)
            | "SharePieces" >> beam.Reshuffle()
            | "ReadPieces" >> beam.ParDo(ReadPieceDoFn(self.reader, self.name)).with_output_types(RawBatch)
        )
