"""Join parts of calls in a local run: what is whole after each epoch, the rest once nobody waits for it any more.

The state remembers which calls wait. A call is written before its minutes are marked dirty, and these before it waits no longer;
so a run that is killed in between joins it again, which changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from contextlib import closing, nullcontext

from pipelines.job import Job
from pipelines.state import State
from sinks.clickhouse import Store
from sinks.join import due, join
from sinks.outlet import Outlet
from sinks.steps import tally_joined
from transforms.steps import Joining


def join_keys(job: Job, store: Store, state: State, keys: Collection[bytes], final: bool = False) -> set[int]:
    """Join these calls, as far as they are whole, or all of them if ``final``; the minutes they are in, which are dirty then."""
    if not keys:
        return set()
    with lending(job)() as work, closing(Outlet(job.letters)) if job.letters else nullcontext() as outlet:
        done = join(store, keys, work, final, outlet)
    tally_joined(done)
    state.touch(done.minutes)
    state.wait(done.waiting)
    state.joined(set(keys) - done.waiting.keys())
    return done.minutes


def join_due(job: Job, store: Store, state: State) -> set[int]:
    """Join the calls whose rest was waited for long enough, by the clock."""
    return join_keys(job, store, state, state.waiting(time.time_ns() // 1000), final=True)


def join_waiting(job: Job, store: Store, state: State) -> set[int]:
    """Join all calls that wait: nothing more comes."""
    return join_keys(job, store, state, state.waiting(), final=True)


def lending(job: Job) -> Joining:
    """What joins parts as the job prices calls."""
    return Joining(job.decode, job.count, job.goes_by, job.people)


def join_left(job: Job, store: Store) -> int:
    """Join what should have been joined by now, by what the store holds; how many calls. Their minutes differ then, until they
    are repaired."""
    keys = due(store)
    if not keys:
        return 0
    with lending(job)() as work:
        return join(store, keys, work, final=True).calls
