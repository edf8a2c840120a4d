"""Follow topics on one machine: one short bounded pipeline after the other, each recorded before the next begins.

An epoch reads what has come in since the last one, in ranges of offsets that are fixed before it begins. Its rows are written,
then its minutes are marked dirty, then its positions are recorded, as in every local run; so a process that is killed at any
moment goes on where its last epoch ended and comes to the same rows. While the run keeps up, the minutes of an epoch are
recomputed with it; while it catches up, once nothing more of them comes, and at least every ``early_s``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final

from pipelines.errors import ExitCode, exit_code, one_line
from pipelines.live import WATCH
from pipelines.run import Counts, Job, account, epoch, opened, publish_book, settle
from pipelines.state import State, reached, segment_ends
from pipelines.text import printable
from pipelines.topics import begin, refuse_missing, standing
from schemas.telemetry import TALLY
from sinks.clickhouse import Store
from sources.kafka import LAST_READ, KafkaSettings, Log, Position, Topics, hang_up, plan

EPOCH_RECORDS: Final = 20_000
"""Records of one epoch, at most: with the usual size of a record about what one insert takes."""

PAUSE_S: Final = 0.5
"""The shortest time between the beginnings of two epochs: each of them makes new parts in every table."""

RETRY_S: Final = 5.0
"""How long to wait after a broker did not answer."""

_ASK_S: Final = 0.1


def follow(job: Job, stop: Callable[[], bool], say: Callable[[str], None] | None = None) -> Counts:
    """Read topics until ``stop`` says so; then everything that was read is written, and every minute is recomputed.

    ``say`` takes lines for a person. A broker that does not answer, or a topic that goes away, is waited for.

    Raises:
        sources.files.SourceError: at the start, the broker cannot be reached or a topic is not there.
        sinks.clickhouse.StoreError: the store refuses, is full or unreachable, or another run holds it.
    """
    began, wanted = time.monotonic(), job.kafka
    WATCH.__init__()  # type: ignore[misc]
    _OPEN.clear()
    assert wanted is not None
    with opened(job) as (job, store, state, changed), account(store, job) as row, Topics(wanted) as topics:
        assert state is not None
        TALLY.clear()
        publish_book(store, job.books)
        logs = topics.logs()
        refuse_missing(wanted, logs)
        state.keep_positions(standing(state, store).values())
        _first_positions(topics, logs, state)
        try:
            _follow(job, wanted, topics, store, state, stop, say or _to_stderr)
        finally:
            hang_up()
        settle(store, state, state.dirty())
        row.ended("stopped", began)
    return row.counts(retention=tuple(changed))


def _follow(
    job: Job,
    wanted: KafkaSettings,
    topics: Topics,
    store: Store,
    state: State,
    stop: Callable[[], bool],
    say: Callable[[str], None],
) -> None:
    WATCH.source = str(wanted)
    settled, silent, gone = time.monotonic(), False, set[str]()
    written = reached(segment_ends(store, state.positions()))
    told: dict[bytes, Position] = {}
    while not stop():
        turn = time.monotonic()
        try:
            logs = topics.logs()
            _first_positions(topics, logs, state)
            missing = set(wanted.topics) - {log.topic for log in logs}
            for topic in sorted(missing - gone):
                say(f"{wanted}: the topic {topic} is gone; waiting for it")
            gone = missing
            positions = state.positions()
            pieces = plan(logs, positions, {}, time.time(), EPOCH_RECORDS, written)
            touched = epoch(job, store, state, pieces)[1] if pieces else set[int]()
            if silent:
                say(f"{wanted}: there again")
            silent = False
            _look(logs, state, touched, job.call_s)
        except Exception as error:
            if exit_code(error) != ExitCode.INPUT:  # the runner hands on what a step raises in an error of its own
                raise
            if not silent:
                say(f"{one_line(error)}; trying again every {RETRY_S:g} s")
            silent = True
            _wait(turn + RETRY_S, stop)
            continue
        behind = sum(piece.end - piece.start for piece in pieces) >= EPOCH_RECORDS
        if not behind or turn - settled >= job.early_s:
            settle(store, state, state.dirty())
            settled = turn
        else:
            settle(store, state, [minute for minute in state.dirty() if minute not in touched])
        positions = state.positions()
        news = [positions[log.segment] for log in logs if positions.get(log.segment) != told.get(log.segment)]
        if topics.commit(news):
            told.update((known.segment, known) for known in news)
        if pieces:
            WATCH.epoch_seconds = time.monotonic() - turn
        if not behind:
            _wait(turn + PAUSE_S, stop)


def _look(logs: Sequence[Log], state: State, touched: Collection[int], call_s: int) -> None:
    """Bring ``WATCH`` up to date after an epoch that touched these minutes.

    The watermark is the time of the last record that was read, less the longest expected call: logs are written when calls
    end. A partition with nothing left to read holds it back by no more than that from now.
    """
    before, positions = WATCH.watermark, state.positions()
    now, marks = time.time(), []
    for log in logs:
        known = positions.get(log.segment)
        waiting = known is None or known.next < log.end
        marks.append(LAST_READ.get(log.segment, 0) / 1e6 if waiting else now)
    WATCH.partitions = len(logs)
    WATCH.lag = sum(max(0, log.end - (positions[log.segment].next if log.segment in positions else log.first)) for log in logs)
    WATCH.watermark = max(before or 0, min(marks, default=now) - call_s) or None
    WATCH.late_minutes += sum(minute + 60 <= (before or 0) for minute in touched)
    _OPEN.update(touched)
    _OPEN.difference_update({minute for minute in _OPEN if minute + 60 <= (WATCH.watermark or 0)})
    WATCH.open_minutes = len(_OPEN)


_OPEN: Final[set[int]] = set()


def _first_positions(topics: Topics, logs: list[Log], state: State) -> None:
    """Record where to begin with partitions that are new, so that it is the same place after a crash."""
    known = state.positions()
    new = [log for log in logs if log.segment not in known]
    if new:
        starts = begin(topics, logs, known)
        state.keep_positions(Position(log.segment, log.source, starts[log.segment], starts[log.segment]) for log in new)


def _wait(until: float, stop: Callable[[], bool]) -> None:
    while time.monotonic() < until and not stop():
        time.sleep(_ASK_S)


def _to_stderr(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)
