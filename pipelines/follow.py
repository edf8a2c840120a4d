"""Follow a source on one machine, with nothing but this process: epoch after epoch, until it is told to stop.

An epoch is a bounded pipeline over pieces that are fixed before it begins. Its rows are written, then its minutes are marked
dirty, then it is recorded as done, as in every local run; so a process that is killed at any moment goes on where its last
epoch ended and comes to the same rows. While the run keeps up, the minutes of an epoch are recomputed with it; while it catches
up, once nothing more of them comes, and at least every ``early_s``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from pipelines import lines
from pipelines.changes import Changes
from pipelines.errors import one_line, waiting_helps
from pipelines.feeds import Feed
from pipelines.job import Counts, Job
from pipelines.joining import join_due
from pipelines.live import WATCH
from pipelines.run import account, epoch, feed_of, opened, settle
from pipelines.state import State
from schemas.telemetry import TALLY
from sinks.clickhouse import Store

EPOCH_RECORDS: Final = 20_000
"""Records of one epoch, at most: with the usual size of a record about what one insert takes."""

PAUSE_S: Final = 0.5
"""The shortest time between the beginnings of two epochs: each of them makes new parts in every table."""

RETRY_S: Final = 5.0
"""How long to wait after a source or the store did not answer."""

_ASK_S: Final = 0.1


def follow(job: Job, stop: Callable[[], bool], say: Callable[[str], None] | None = None) -> Counts:
    """Read a source until ``stop`` says so; then everything that was read is written, and every minute is recomputed. Calls that
    wait for the rest of their parts go on waiting: the next run, or ``reconcile --repair``, writes them.

    ``say`` takes lines for a person. A source or a store that stops answering, or is full, is waited for.

    Raises:
        sources.files.SourceError: at the start, the source cannot be reached or is not there.
        sinks.clickhouse.StoreError: the store refuses, or another run holds it; at the start and the end also if it is full or
            cannot be reached.
    """
    began = time.monotonic()
    WATCH.__init__()  # type: ignore[misc]
    _OPEN.clear()
    with opened(job) as (job, store, state, changed), account(store, job) as row, feed_of(job) as feed:
        assert state is not None
        TALLY.clear()
        changes = Changes(store, job.files, job.lead_s, job.watch)
        feed.begin(store, state)
        _follow(job, feed, changes, store, state, stop, say or lines.say)
        settle(store, state, state.dirty())
        row.ended("stopped", began)
    return row.counts(retention=tuple(changed))


def _follow(
    job: Job,
    feed: Feed,
    changes: Changes,
    store: Store,
    state: State,
    stop: Callable[[], bool],
    say: Callable[[str], None],
) -> None:
    WATCH.source, WATCH.turned = job.named, time.time()
    job = _take_up(job, changes)
    settled, failing = time.monotonic(), ""
    while not stop():
        turn = time.monotonic()
        try:
            if failing:
                feed.begin(store, state)
            if changes.look():
                job = _take_up(job, changes)
                WATCH.terms_changed += 1
            WATCH.terms_wrong = changes.wrong
            pieces = feed.next(EPOCH_RECORDS)
            touched = epoch(job, store, state, pieces)[1] if pieces else set[int]()
            touched |= join_due(job, store, state)
            behind = _look(feed, touched, job.call_s, bool(pieces))
            if not behind or turn - settled >= job.early_s:
                settle(store, state, state.dirty())
                settled = turn
            else:
                settle(store, state, [minute for minute in state.dirty() if minute not in touched])
            feed.committed()
        except Exception as error:
            if not waiting_helps(error):  # the runner hands on what a step raises in an error of its own
                raise
            said = one_line(error)
            if said != failing:
                say(f"{said}; trying again every {RETRY_S:g} s")
            failing = WATCH.failing = said
            _wait(turn + RETRY_S, stop)
            continue
        for line in (*changes.news(), *feed.news()):
            say(line)
        if failing:
            say(f"{job.named}: going on")
            failing = WATCH.failing = ""
        WATCH.turned = time.time()
        if pieces:
            WATCH.epoch_seconds = time.monotonic() - turn
        if not behind:
            _wait(turn + PAUSE_S, stop)


def _take_up(job: Job, changes: Changes) -> Job:
    """The job on the terms that are known, from its next epoch on."""
    newest = changes.known[-1]
    WATCH.terms, WATCH.terms_since = newest.fingerprint, newest.since / 1e6
    return replace(job, terms=changes.timeline)


def _look(feed: Feed, touched: Collection[int], call_s: int, wrote: bool) -> bool:
    """Bring ``WATCH`` up to date after an epoch that touched these minutes, and ``wrote`` rows; whether more waits already.

    The watermark is the time of the oldest record still to come, less the longest expected call: logs are written when calls
    end. It never goes back.
    """
    before, now = WATCH.watermark or 0, feed.standing()
    WATCH.parts, WATCH.lag = now.parts, now.lag
    if not now.lag:
        WATCH.idle_since = None
    elif wrote or WATCH.idle_since is None:
        WATCH.idle_since = time.time()
    WATCH.watermark = max(before, now.expected - call_s if now.expected else 0) or None
    WATCH.late_minutes += sum(minute + 60 <= before for minute in touched)
    _OPEN.update(touched)
    _OPEN.difference_update({minute for minute in _OPEN if minute + 60 <= (WATCH.watermark or 0)})
    WATCH.open_minutes = len(_OPEN)
    return now.behind


_OPEN: Final[set[int]] = set()


def _wait(until: float, stop: Callable[[], bool]) -> None:
    while time.monotonic() < until and not stop():
        time.sleep(_ASK_S)

