"""One run of read, decode, count and price into Parquet files: ``python -m benchmarks.second_core LOGS OUT --workers N``.

The engine is left out, so that the figure says what worker processes are worth: with one worker everything happens in this
process, with more they read and price and hand their rows to this one, which writes. Prints seconds and sums as JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines.graph import RowsOfWorkers
from pipelines.run import epochs
from pipelines.workers import Workers, WorkSettings
from schemas.batch import RowBatch
from schemas.tables import CALLS, DEAD_LETTERS, RECEIPTS
from schemas.telemetry import TALLY
from sources.files import FileLimits, find, plan, read
from sources.steps import ReadPieces
from transforms.count import CountSettings
from transforms.decode import DecodeSettings
from transforms.steps import CallsToRows

EPOCH_BYTES = 256 << 20
_TABLES = {"calls": CALLS, "receipts": RECEIPTS, "dead_letters": DEAD_LETTERS}


class WriteParquet(beam.DoFn):  # type: ignore[misc]
    """Write the rows of a bundle, a file for each table."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def start_bundle(self) -> None:
        name = time.time_ns()
        self._files = {
            table: pq.ParquetWriter(f"{self._folder}/{table}-{name}.parquet", schema.arrow) for table, schema in _TABLES.items()
        }

    def process(self, batch: RowBatch) -> Iterator[int]:
        for table, file in self._files.items():
            file.write_batch(getattr(batch, table))
        yield batch.calls.num_rows

    def finish_bundle(self) -> None:
        for file in self._files.values():
            file.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("logs")
    parser.add_argument("out", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--pin", action="store_true", help="stay on one core")
    given = parser.parse_args()
    if given.pin:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    splits = plan(find([given.logs]), FileLimits())
    settings = WorkSettings(partial(read, limits=FileLimits()), DecodeSettings(), CountSettings())
    pool = Workers(given.workers, settings, splits) if given.workers > 1 else None
    began = time.monotonic()
    with pool or nullcontext():
        for first, last in epochs(splits, EPOCH_BYTES):
            pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))
            if pool is None:
                raw = pipeline | ReadPieces(splits[first:last], settings.reader)
                rows = raw | CallsToRows(settings.decode, settings.count)
            else:
                rows = pipeline | RowsOfWorkers(pool, splits[first:last])
            _ = rows | beam.ParDo(WriteParquet(str(given.out)))
            pipeline.run().wait_until_finish()
    ended = time.monotonic()
    calls = pa.concat_tables(pq.read_table(path, columns=["call_key", "cost"]) for path in given.out.glob("calls-*"))
    cost = sum(value for value in calls["cost"].to_pylist() if value is not None)
    started = TALLY.started_at or began
    print(json.dumps({"calls": calls.num_rows, "cost": str(cost), "seconds": ended - started, "startup": started - began}))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
