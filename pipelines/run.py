"""Run the job over bounded files, in this process or on any Beam runner, and keep account of the run.

A run that is killed at any moment is repaired by running the same command again: positions, keys and minutes come out the
same, so nothing is counted twice and nothing is lost.
"""

from __future__ import annotations

import gc
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines.job import build
from schemas.tables import PRICE_RUNS, PRICES, RUNS
from schemas.telemetry import TALLY
from sinks.clickhouse import Store, StoreSettings
from sinks.schema import migrate
from sinks.steps import RowsToMinutes
from sources.files import FileLimits, Split, plan
from sources.steps import ReadFiles
from transforms.count import CountSettings
from transforms.decode import DecodeSettings
from transforms.price import book_rows, load_book
from transforms.steps import CallsToRows
from transforms.work import LIVE_PRICE_RUN


@dataclass(frozen=True)
class Job:
    """Everything a run needs. ``runner`` empty: Beam's direct runner in this process."""

    paths: Sequence[Path]
    store: StoreSettings
    limits: FileLimits = field(default_factory=FileLimits)
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    count: CountSettings = field(default_factory=CountSettings)
    books: tuple[Path, ...] = ()
    default_time: int | None = None
    early_s: int = 10
    lateness_s: int = 86_400
    runner: str = ""
    runner_options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Counts:
    """What a run did. ``seconds``: from the first batch to the last write; ``startup_seconds``: before the first batch."""

    run_id: str
    state: str
    records: int
    calls: int
    dead_letters: int
    ignored: int
    bytes: int
    minutes: int
    spend: Decimal
    seconds: float
    startup_seconds: float
    stage_seconds: dict[str, float]

    @property
    def calls_per_second(self) -> float:
        return self.calls / self.seconds if self.seconds else 0.0


def run(job: Job) -> Counts:
    """Read ``job.paths``, write calls and minutes. ``schemas.telemetry.TALLY`` tells how far it is.

    Raises:
        sources.files.SourceError: an input is missing or unreadable.
        sinks.clickhouse.StoreError: the store refuses, is full or unreachable.
    """
    began = time.monotonic()
    store = job.store.open()
    migrate(store)
    splits = plan(job.paths, job.limits, job.default_time, known_times(store))
    TALLY.clear()
    TALLY.total_bytes = sum(split.expected for split in splits)
    account = _Account(store, job, uuid.uuid4().hex)
    publish_book(store, job.books)
    account.write("running")
    try:
        minutes = _execute(job, splits)
    except BaseException as error:
        account.write("interrupted" if isinstance(error, KeyboardInterrupt) else "failed", quiet=True)
        raise
    seconds, startup = _seconds(began)
    account.write("done", seconds)
    return Counts(
        account.run_id,
        "done",
        TALLY.records,
        TALLY.calls,
        TALLY.dead,
        TALLY.ignored,
        TALLY.bytes,
        minutes,
        Decimal(TALLY.cost_pico).scaleb(-12),
        round(seconds, 3),
        round(startup, 3),
        {name: round(ns / 1e9, 3) for name, ns in TALLY.stage_ns.items()},
    )


def known_times(store: Store) -> dict[bytes, int]:
    """Event time that undated records of each known segment were given at first sight, in UTC microseconds."""
    rows = store.rows(
        f"SELECT segment, toUnixTimestamp64Micro(min(default_time)) FROM {store.table('segments')} GROUP BY segment"
    )
    return {segment: int(micros) for segment, micros in rows}


def publish_book(store: Store, books: tuple[Path, ...]) -> None:
    """Write the compiled price book to ``prices`` once per version, and the live run to ``price_runs``."""
    book = load_book(books)
    known = store.rows(f"SELECT count() FROM {store.table('prices')} WHERE book_version = {{v:String}}", {"v": book.book_version})
    if known[0][0]:
        return
    store.insert(PRICES.name, pa.Table.from_pylist(book_rows(book), PRICES.arrow))
    live = {"price_run": LIVE_PRICE_RUN, "book_version": book.book_version, "active": True}
    store.insert(PRICE_RUNS.name, pa.Table.from_pylist([live], PRICE_RUNS.arrow))


def _execute(job: Job, splits: Sequence[Split]) -> int:
    """Run the pipeline to its end; the number of minutes it recomputed in this process."""
    before = gc.get_threshold()
    # Batches hold tens of thousands of short-lived objects and no cycles: collecting them young is wasted work.
    gc.set_threshold(100_000, 50, 100)
    options = PipelineOptions([*job.runner_options], save_main_session=False)
    pipeline = beam.Pipeline(runner=job.runner or FnApiRunner(), options=options)
    raw = pipeline | "ReadFiles" >> ReadFiles(splits, job.limits)
    minutes = build(
        raw,
        CallsToRows(job.decode, job.count, job.books),
        RowsToMinutes(job.store, job.early_s if job.runner else 0, job.lateness_s),
    )
    _ = minutes | "CountMinutes" >> beam.Map(_tally_minute)
    try:
        pipeline.run().wait_until_finish()
    finally:
        gc.set_threshold(*before)
    return TALLY.minutes


def _tally_minute(minute: int) -> None:
    TALLY.minutes += 1


def _seconds(began: float) -> tuple[float, float]:
    """Seconds worked, and seconds of start-up before the first batch."""
    now = time.monotonic()
    first = TALLY.started_at or now
    return now - first, first - began


@dataclass
class _Account:
    """The row of ``runs``: written at the start, and again, replacing it, at the end."""

    store: Store
    job: Job
    run_id: str
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def write(self, state: str, seconds: float | None = None, quiet: bool = False) -> None:
        row = {
            "run_id": self.run_id,
            "started_at": self.started,
            "ended_at": None if state == "running" else datetime.now(UTC),
            "state": state,
            "source": ", ".join(map(str, self.job.paths[:3])) + (" …" if len(self.job.paths) > 3 else ""),
            "records": TALLY.records,
            "calls": TALLY.calls,
            "dead_letters": TALLY.dead,
            "ignored": TALLY.ignored,
            "bytes": TALLY.bytes,
            "seconds": seconds,
            "software": version("llm-finops"),
        }
        try:
            self.store.insert(RUNS.name, pa.Table.from_pylist([row], RUNS.arrow))
        except Exception:
            if not quiet:  # the failure that ended the run is the one to report
                raise
