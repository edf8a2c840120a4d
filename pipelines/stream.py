"""Follow topics, on Dataflow also a subscription, on a Beam runner with workers elsewhere. Here the job is only submitted and
watched."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.runner import PipelineState

from pipelines.changes import Changes
from pipelines.graph import build
from pipelines.job import Counts, Job
from pipelines.joining import join_left, lending
from pipelines.ledger import ledger_of, segment_ends
from pipelines.run import account, opened
from pipelines.terms import LOOKS, timeline_of
from schemas.telemetry import TALLY
from sinks.clickhouse import StoreSettings, StoreUnavailable
from sinks.reconcile import repair
from sinks.steps import RowsToMinutes
from sources.files import SourceError
from sources.kafka import KafkaSettings
from sources.kafka.streaming import ReadTopics
from sources.pubsub import PubSubSettings
from sources.pubsub.streaming import ReadMessages
from sources.ranges import Ledger
from transforms.steps import CallsToRows

_ASK_S: Final = 1.0


def stream(job: Job, stop: Callable[[], bool], say: Callable[[str], None]) -> Counts:
    """Submit the job, and wait until it ends or ``stop`` says so: then it is cancelled. In the launcher of a Dataflow template
    the job is only described, and nothing is waited for.

    It goes on where the ledger of the store ends, or, given a savepoint, where that was taken. What a job that was cancelled has
    written without recomputing its minutes is made good first.

    Raises:
        sources.files.SourceError: the job failed, or its runner does not answer.
        sinks.clickhouse.StoreError: the store refuses, is full or unreachable.
    """
    began = time.monotonic()
    with opened(job) as (job, store, _, changed), account(store, job) as row:
        TALLY.clear()
        changes = Changes(store, job.files, job.lead_s, job.watch)
        job = replace(job, terms=changes.timeline)
        if joined := join_left(job, store):
            say(f"{joined:,} calls joined that an earlier job had left in parts")
        if mended := repair(store):
            say(f"{mended:,} minutes recomputed that an earlier job had left")
        with runner_answers(job):
            with ctrl_c_kept():
                result = streaming(job).run()
            if not getattr(result, "has_job", True):
                say(f"{job.named}: described for {job.runner}; who launches the template submits it")
                row.ended("submitted", began)
                return row.counts(retention=tuple(changed))
            say(f"{job.named}: submitted to {job.runner}; Ctrl-C cancels the job")
            while not PipelineState.is_terminal(result.state):
                if stop():
                    result.cancel()
                    break
                _look(changes, say)
                time.sleep(_ASK_S)
            if result.state == PipelineState.FAILED:
                raise SourceError(f"{job.named}: the job failed; its runner says why")
        row.ended("stopped", began)
    return row.counts(retention=tuple(changed))


@contextmanager
def runner_answers(job: Job) -> Iterator[None]:
    """Say in one line that the runner's job server has gone or refuses; the job may run all the same.

    Raises:
        sources.files.SourceError: it does.
    """
    try:
        yield
    except grpc.RpcError as error:
        said = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)
        raise SourceError(f"{job.named}: the job server of {job.runner} does not answer ({said}); the job may run on") from None


@contextmanager
def ctrl_c_kept() -> Iterator[None]:
    """Undo what the block does to Ctrl-C: Beam ends a job server that it has started at once, before its job can be cancelled."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is not before:
            signal.signal(signal.SIGINT, before)


def _look(changes: Changes, say: Callable[[str], None]) -> None:
    """Announce changed prices and rules, once the store is there; workers ask it for them by themselves."""
    try:
        changes.look()
    except StoreUnavailable:
        return
    for line in changes.news():
        say(line)


def streaming(job: Job) -> beam.Pipeline:
    """The whole job as one unbounded pipeline. The labels of its steps are part of its checkpoints."""
    options = PipelineOptions(["--streaming", *job.runner_options], save_main_session=False)
    pipeline = beam.Pipeline(runner=job.runner, options=options)
    raw = pipeline | _reading(job)
    build(
        raw,
        CallsToRows(job.decode, job.count, job.goes_by, job.people, timeline_of(job.store), job.lead_s / LOOKS),
        RowsToMinutes(
            job.store,
            job.early_s,
            job.lateness_s,
            job.letters,
            replace(lending(job), now=timeline_of(job.store)),
            job.decode.join.wait_s,
        ),
    )
    return pipeline


def _reading(job: Job) -> beam.PTransform:
    if isinstance(job.source, PubSubSettings):
        return "ReadMessages" >> ReadMessages(job.source)
    assert isinstance(job.source, KafkaSettings)
    return "ReadTopics" >> ReadTopics(job.source, partial(ledger_in, job.store), job.call_s)


def ledger_in(store: StoreSettings, segments: Sequence[bytes]) -> Ledger:
    """The ranges that a store has of some segments."""
    return ledger_of(segment_ends(store.open(), segments))
