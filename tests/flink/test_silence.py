"""When a job is submitted anew: tables of observations, and what is right to do, said by hand."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.flink.silence import Known, Limits, Place, Seen, judge

LIMITS = Limits(silent_s=100, partition_s=300, pause_s=60, most_pause_s=200, per_hour=3)
Look = tuple[float, list[tuple[int, int]] | None, bool | None]


def looks(rows: Iterable[Look], limits: Limits = LIMITS) -> list[tuple[float, str, str]]:
    """Moment, verdict and cause of each observation: moment, (offset written, records that wait) of each partition, whether a job runs."""
    known, found = Known(0, 0), []
    for at, places, runs in rows:
        seen = Seen(at, None if places is None else {f"kafka:t/{n}": Place(*place) for n, place in enumerate(places)}, runs)
        known, verdict = judge(known, seen, limits)
        found.append((at, verdict.do.value, verdict.cause))
    return found


def wanted(rows: Iterable[Look], limits: Limits = LIMITS) -> list[tuple[float, str, str]]:
    return [one for one in looks(rows, limits) if one[1] != "wait"]


@pytest.mark.parametrize(
    ("rows", "acts"),
    [
        pytest.param([(n * 50, [(n, 10)], True) for n in range(20)], [], id="writes, however much waits"),
        pytest.param([(n * 50, [(7, 0)], True) for n in range(20)], [], id="nothing waits"),
        pytest.param([(0, [(7, 5)], True), (99, [(7, 5)], True), (100, [(7, 5)], True)], [(100, "restart", "silent")], id="silent"),
        pytest.param([(0, [(7, 5)], True), (60, [(7, 9)], True), (110, [(7, 20)], True)], [(110, "restart", "silent")], id="lag grows"),
        pytest.param([(0, [(7, 0)], True), (500, [(7, 0)], True), (510, [(7, 3)], True), (590, [(7, 3)], True), (600, [(7, 3)], True)], [(600, "restart", "silent")], id="silent since something waits, not before"),
        pytest.param([(0, [(7, 5)], True), (90, [(8, 4)], True), (180, [(8, 4)], True), (190, [(8, 4)], True)], [(190, "restart", "silent")], id="silent since it last wrote"),
        pytest.param([(n * 50, [(n, 10), (3, 10)], True) for n in range(8)], [(300, "restart", "partition")], id="one partition stands still"),
        pytest.param([(n * 50, [(n, 10), (3, 0)], True) for n in range(20)], [], id="one partition is empty"),
        pytest.param([(0, [(7, 0)], True), (5, [(7, 0)], False)], [(5, "restart", "gone")], id="no job"),
        pytest.param([(n * 50, [(9 - n, 10)], True) for n in range(9)], [], id="a store that was restored has less: it moves"),
        pytest.param([(n * 50, None, True) for n in range(20)], [], id="nobody knows"),
        pytest.param([(n * 50, [(7, 5)], None) for n in range(20)], [], id="Flink does not answer"),
        pytest.param([(0, [(7, 5)], True), (60, [(7, 5)], True), (360, None, None), (370, [(7, 5)], True), (405, [(7, 5)], True)], [(405, "restart", "silent")], id="silence goes on where it was when nobody knew"),
    ],
)  # fmt: skip
def test_when_it_is_submitted_anew(rows: list[Look], acts: list[tuple[float, str, str]]) -> None:
    assert wanted(rows) == acts


def test_attempts_back_off_and_are_bounded() -> None:
    """A job that never runs: at once, after 60 s, after 120 s more; these three are all until the first is an hour ago (3600).

    Then two are within the hour, so 120 s after it, and again when the one at 180 s has left the hour.
    """
    acts = wanted((float(at), [(7, 5)], False) for at in range(0, 7200, 10))
    restarts = [at for at, do, _ in acts if do == "restart"]
    assert restarts == [0, 60, 180, 3600, 3720, 3840]
    assert {do for at, do, _ in acts if at not in restarts} == {"hold"}


def test_a_job_that_was_submitted_anew_gets_its_time() -> None:
    assert wanted((float(at), [(7, 5)], True) for at in range(0, 400, 10)) == [(100, "restart", "silent"), (200, "restart", "silent"), (300, "hold", "silent"), (310, "hold", "silent"), (320, "restart", "silent")]


@given(st.lists(st.tuples(st.floats(0.1, 500), st.integers(0, 3), st.integers(0, 3), st.booleans(), st.booleans())))
def test_never_more_than_allowed_within_an_hour(steps: list[tuple[float, int, int, bool, bool]]) -> None:
    at, rows = 0.0, list[Look]()
    for after, written, waits, runs, known in steps:
        at += after
        rows.append((at, [(written, waits)] if known else None, runs))
    restarts = [when for when, do, _ in wanted(rows) if do == "restart"]
    assert all(sum(when - 3600 < one <= when for one in restarts) <= LIMITS.per_hour for when in restarts)
    assert all(later - earlier >= LIMITS.pause_s for earlier, later in pairwise(restarts))
