"""Run the job over bounded input, in this process or on any Beam runner, and keep account of the run.

In this process it runs in epochs: bounded pipelines over some of the pieces, after each of which ``pipelines.state`` knows
what is done. A run that is killed at any moment goes on when the same command is run again: positions, keys and minutes
come out the same, so nothing is counted twice and nothing is lost.
"""

from __future__ import annotations

import gc
import os
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import version
from typing import Any, Final

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipelines.feeds import Feed
from pipelines.feeds.entries import EntriesFeed
from pipelines.feeds.folders import FoldersFeed
from pipelines.feeds.messages import MessagesFeed
from pipelines.feeds.objects import ObjectsFeed
from pipelines.feeds.topics import TopicsFeed
from pipelines.graph import RowsOfWorkers, build
from pipelines.job import Counts, Job
from pipelines.joining import join_keys, join_waiting, lending
from pipelines.ledger import segment_ends
from pipelines.lines import say
from pipelines.serving import answering
from pipelines.state import State
from pipelines.terms import agree, publish_books, read_content, timeline
from pipelines.workers import Workers, WorkSettings
from schemas.tables import RUNS
from schemas.telemetry import TALLY, Stage
from sinks.clickhouse import Store
from sinks.dead_letters import finish_replay
from sinks.forget import remember
from sinks.recompute import recompute
from sinks.retention import Changed, keep
from sinks.schema import migrate
from sinks.steps import KEYS, TOUCHED, RowsToMinutes, RowsToStore
from sources.cloud_logging import LoggingSettings
from sources.kafka import KafkaSettings
from sources.pieces import Piece
from sources.pubsub import PubSubSettings
from sources.steps import READING, Reading, ReadPieces
from transforms.people import People, key_mark
from transforms.steps import CallsToRows
from transforms.work import GC_THRESHOLDS

WORTH_BYTES: Final = 256 << 20
MOST_WORKERS: Final = 8


def run(job: Job, stop: Callable[[], bool] = lambda: False) -> Counts:
    """Read the input of a job, write calls and minutes. ``schemas.telemetry.TALLY`` tells how far it is.

    ``stop`` is asked between pieces; once it says so, the run ends there with everything written proved and in order.

    Raises:
        sources.files.SourceError: an input is missing or unreadable.
        sinks.clickhouse.StoreError: the store refuses, is full or unreachable, or another run holds it.
        sinks.outlet.OutletError: the topic of dead letters refuses, is not there or unreachable.
    """
    began = time.monotonic()
    with opened(job) as (job, store, state, changed), feed_of(job) as feed:
        pieces, known = feed.waiting(store, None if job.again else state)
        TALLY.clear()
        TALLY.total_bytes = sum(piece.expected for piece in pieces)
        if job.terms:
            job = agreed(job, store)
        publish_books(store, job.goes_by)
        alone = isinstance(job.source, LoggingSettings)  # reads are paced by the process that makes them
        workers = 1 if alone else job.workers or _worth(pieces)
        with account(store, job) as row:
            left: Sequence[Piece] = ()
            if state is None:
                _execute(_windowed(job, pieces), job)
            else:
                left = _in_epochs(job, store, state, pieces, workers, stop)
                if not left and (again := feed.replaced(store, state)):
                    TALLY.total_bytes += sum(piece.expected for piece in again)
                    left = _in_epochs(job, store, state, again, 1, stop)
            row.ended("stopped" if left else "done", began)
    return row.counts(
        known_files=known,
        left_bytes=sum(piece.expected for piece in left),
        workers=workers,
        retention=tuple(changed),
    )


@contextmanager
def opened(job: Job) -> Iterator[tuple[Job, Store, State | None, list[Changed]]]:
    """The job as it is to be run, its store, brought up to date, its state (none on other runners), and what changed in how
    long rows are kept. Whatever a run that was killed left to be done first is done."""
    if job.letters is not None:
        job.letters.check()  # now, not when the first of them is written
    held = State(job.store.address, job.work, job.wait_s) if not job.runner else nullcontext()
    with held as state, answering(job.store.address):
        store = job.store.open()
        migrate(store)
        if state is not None and (dirty := state.dirty()):
            finish_replay(store, dirty)
        changed = keep(store, job.retention)
        yield knowing(job, store), store, state, changed


def feed_of(job: Job) -> Feed:
    """What the job reads."""
    if isinstance(job.source, KafkaSettings):
        return TopicsFeed(job.source)
    if isinstance(job.source, LoggingSettings):
        return EntriesFeed(job.source)
    if isinstance(job.source, PubSubSettings):
        return MessagesFeed(job.source)
    if job.objects:
        return ObjectsFeed(job.objects, job.limits, job.default_time, job.list_s)
    return FoldersFeed([str(path) for path in job.paths], job.limits, job.default_time)


def forgotten(store: Store) -> tuple[tuple[bytes, int], ...]:
    """Marks of who was forgotten, and when (UTC microseconds)."""
    rows = store.rows(
        f"SELECT mark, toUnixTimestamp64Milli(max(marked_at)) * 1000 FROM {store.table('marks')} WHERE kind != 'key'"
        " GROUP BY mark ORDER BY mark"
    )
    return tuple((mark, int(micros)) for mark, micros in rows)


def knowing(job: Job, store: Store, dry_run: bool = False) -> Job:
    """The job with the keys of end users that it is to use, and whom it must not bring back.

    The store remembers by their marks which keys end users are hashed with, so that nobody is looked for with the wrong ones.
    """
    people = job.people if job.people.keys else People(((0, job.count.hash_key),))
    known = {mark for (mark,) in store.rows(f"SELECT mark FROM {store.table('marks')} WHERE kind = 'key'")}
    if not dry_run:
        remember(store, "key", {key_mark(key) for _, key in people.keys} - known)
    return replace(job, people=replace(people, forgotten=forgotten(store)), terms=timeline(store))


def agreed(job: Job, store: Store) -> Job:
    """The job after the store has taken account of what its files of prices and rules say now."""
    if changed := agree(store, read_content(job.files), job.lead_s):
        say(changed)
    return replace(job, terms=timeline(store))


Graph = Callable[[beam.Pipeline], object]


def _windowed(job: Job, pieces: Sequence[Piece]) -> Graph:
    """The whole job in one pipeline, as runners with workers elsewhere execute it."""

    def graph(pipeline: beam.Pipeline) -> object:
        raw = pipeline | "Read" >> ReadPieces(pieces, job.reader)
        minutes = build(
            raw,
            CallsToRows(job.decode, job.count, job.goes_by, job.people),
            RowsToMinutes(job.store, job.early_s, job.lateness_s, job.letters, lending(job), job.decode.join.wait_s),
        )
        return minutes | "CountMinutes" >> beam.Map(_tally_minute)

    return graph


def _in_epochs(
    job: Job, store: Store, state: State, pieces: Sequence[Piece], workers: int, stop: Callable[[], bool]
) -> Sequence[Piece]:
    """Run epoch by epoch in this process; what is left of the pieces if it was stopped.

    A minute is recomputed once an epoch did not touch it, which in logs that are in order of time is soon; the rest at the
    end. Both are proved by the state: a minute is dirty until then.
    """
    known = WorkSettings(job.reader, job.decode, job.count, job.goes_by, job.people)
    pool = Workers(workers, known, pieces) if workers > 1 else None
    with pool or nullcontext():
        for first, last in epochs(pieces, job.epoch_bytes):
            read, touched = epoch(job, store, state, pieces[first:last], stop, pool)
            if len(read) < last - first or (last < len(pieces) and stop()):
                settle(store, state, state.dirty())
                return [piece for piece in pieces[first:] if piece not in read]
            settle(store, state, [minute for minute in state.dirty() if minute not in touched])
    if pool is not None:
        for stage, nanoseconds in pool.took.items():
            TALLY.stage_ns[stage] += nanoseconds
    join_waiting(job, store, state)
    settle(store, state, state.dirty())
    return ()


def epoch(
    job: Job,
    store: Store,
    state: State,
    pieces: Sequence[Piece],
    stop: Callable[[], bool] = lambda: False,
    pool: Workers | None = None,
) -> tuple[set[Piece], set[int]]:
    """Read these pieces, or those before ``stop`` said so, and record them as done; which those are, and the minutes touched."""
    keeper, touched, keys = uuid.uuid4().hex, set[int](), set[bytes]()

    def keep(minutes: set[int]) -> None:
        touched.update(minutes)
        state.touch(minutes)

    def graph(pipeline: beam.Pipeline) -> object:
        if pool is None:
            raw = pipeline | "Read" >> ReadPieces(pieces, job.reader, keeper)
            rows = raw | "CallsToRows" >> CallsToRows(job.decode, job.count, job.goes_by, job.people)
        else:
            rows = pipeline | "RowsOfWorkers" >> RowsOfWorkers(pool, pieces, READING[keeper])
        return rows | "RowsToStore" >> RowsToStore(job.store, keeper, job.letters)

    TOUCHED[keeper], TOUCHED[keeper + KEYS], READING[keeper] = keep, keys.update, Reading(stop)
    try:
        _execute(graph, job)
    finally:
        read = set(READING.pop(keeper).pieces)
        del TOUCHED[keeper], TOUCHED[keeper + KEYS]
    touched |= join_keys(job, store, state, keys)
    state.done(read, segment_ends(store, {piece.segment for piece in read}))
    return read, touched


def epochs(pieces: Sequence[Piece], size: int) -> Iterator[tuple[int, int]]:
    """Cut pieces into runs of about ``size`` expected bytes, one piece at least: first and last index of each."""
    first = held = 0
    for index, piece in enumerate(pieces):
        if held and held + piece.expected > size:
            yield first, index
            first, held = index, 0
        held += piece.expected
    if held or first < len(pieces):
        yield first, len(pieces)


def _worth(pieces: Sequence[Piece]) -> int:
    """How many workers pay for their start-up: one for each core if there is work for more than some seconds."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    small = len(pieces) < 2 or sum(piece.expected for piece in pieces) < WORTH_BYTES
    return 1 if small else min(cores, len(pieces), MOST_WORKERS)


def settle(store: Store, state: State, minutes: Sequence[int]) -> None:
    """Recompute minutes that the state has as dirty."""
    if minutes:
        with Stage("recompute").work(len(minutes)):
            recompute(store, minutes)
        state.clean(minutes)
        TALLY.minutes += len(minutes)


def _execute(graph: Graph, job: Job) -> None:
    """Run one pipeline to its end."""
    before = gc.get_threshold()
    gc.set_threshold(*GC_THRESHOLDS)
    options = PipelineOptions([*job.runner_options], save_main_session=False)
    pipeline = beam.Pipeline(runner=job.runner or FnApiRunner(), options=options)
    graph(pipeline)
    try:
        pipeline.run().wait_until_finish()
    finally:
        gc.set_threshold(*before)


def _tally_minute(minute: int) -> None:
    TALLY.minutes += 1


def _seconds(began: float) -> tuple[float, float]:
    """Seconds worked, and seconds of start-up before the first batch."""
    now = time.monotonic()
    first = TALLY.started_at or now
    return now - first, first - began


@contextmanager
def account(store: Store, job: Job) -> Iterator[_Account]:
    """Keep the row of ``runs``, also for a run that fails."""
    row = _Account(store, job, uuid.uuid4().hex)
    row.write("running")
    try:
        yield row
    except BaseException as error:
        row.write("interrupted" if isinstance(error, KeyboardInterrupt) else "failed", quiet=True)
        raise


@dataclass
class _Account:
    """The row of ``runs``: written at the start, and again, replacing it, at the end."""

    store: Store
    job: Job
    run_id: str
    state: str = "running"
    seconds: float = 0
    startup_seconds: float = 0
    started: datetime = field(default_factory=lambda: datetime.now(UTC))

    def ended(self, state: str, began: float) -> None:
        """The run, which ``began`` at this monotonic second, has ended."""
        self.state = state
        self.seconds, self.startup_seconds = _seconds(began)
        self.write(state, self.seconds)

    def counts(self, **more: Any) -> Counts:
        """What the run did, by the tally of this process."""
        return Counts(
            self.run_id,
            self.state,
            TALLY.records,
            TALLY.calls,
            TALLY.dead,
            TALLY.ignored,
            TALLY.bytes,
            TALLY.minutes,
            Decimal(TALLY.cost_pico).scaleb(-12),
            round(self.seconds, 3),
            round(self.startup_seconds, 3),
            {name: round(ns / 1e9, 3) for name, ns in TALLY.stage_ns.items()},
            expired=TALLY.expired,
            **more,
        )

    def write(self, state: str, seconds: float | None = None, quiet: bool = False) -> None:
        row = {
            "run_id": self.run_id,
            "started_at": self.started,
            "ended_at": None if state == "running" else datetime.now(UTC),
            "state": state,
            "source": self.job.named,
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
