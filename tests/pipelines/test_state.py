"""What counts as read before: by hand-made files, against what is really in them."""

from __future__ import annotations

import gzip
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from pipelines.run import epochs
from pipelines.state import State, holder, state_path
from schemas.batch import SegmentEnd
from sinks.clickhouse import StoreAddress, StoreError
from sources.files import FileLimits, Split, plan, read
from sources.ranges import Position, Range

LIMITS = FileLimits(split_bytes=1000)


@pytest.fixture
def place(tmp_path: Path) -> StoreAddress:
    return StoreAddress(folder=str(tmp_path / "store"))


def lines(first: int, last: int) -> bytes:
    return b"".join(b'{"n": %d, "pad": "%s"}\n' % (n, b"x" * 40) for n in range(first, last))


def take(place: StoreAddress, path: Path, ends: dict[tuple[str, bytes, int], int], work: bytes = b"") -> list[bytes]:
    """Read what is left of a file, as a run does; the records that came out."""
    with State(place, work) as state:
        left = state.left(plan([path], LIMITS), ends)
        records = []
        for split in left:
            for batch in read(split, LIMITS):
                records += batch.records
                if batch.end is not None:
                    ends[split.path, split.segment, split.start] = batch.end
        state.done(left, ends)
    return records


@pytest.mark.parametrize("first", [5, 100])  # one split, and several
def test_only_what_was_appended_is_read(place: StoreAddress, tmp_path: Path, first: int) -> None:
    path, ends = tmp_path / "a.jsonl", {}
    path.write_bytes(lines(0, first))
    assert b"\n".join(take(place, path, ends)) + b"\n" == lines(0, first)
    assert take(place, path, ends) == []
    os.utime(path, (1, 1))
    assert take(place, path, ends) == []
    if first > 50:  # the beginning, which names the file, does not change by then
        with path.open("ab") as file:
            file.write(lines(first, 1500))
        assert set(take(place, path, ends)) | set(lines(0, first).splitlines()) == set(lines(0, 1500).splitlines())


def test_a_long_file_grows(place: StoreAddress, tmp_path: Path) -> None:
    path, ends = tmp_path / "a.jsonl", {}
    path.write_bytes(lines(0, 2000))
    assert len(take(place, path, ends)) == 2000
    with path.open("ab") as file:
        file.write(lines(2000, 2100))
    assert b"\n".join(take(place, path, ends)) + b"\n" == lines(2000, 2100)


def test_a_line_that_was_read_half_written_is_read_again(place: StoreAddress, tmp_path: Path) -> None:
    path, ends = tmp_path / "a.jsonl", {}
    whole = lines(0, 2000)
    path.write_bytes(whole + b'{"n": 20')
    assert take(place, path, ends)[-1] == b'{"n": 20'
    assert take(place, path, ends) == []
    path.write_bytes(whole + b'{"n": 2000}\n')
    assert take(place, path, ends)[-1] == b'{"n": 2000}'


def test_a_file_with_another_past_is_read_whole(place: StoreAddress, tmp_path: Path) -> None:
    path, ends = tmp_path / "a.jsonl", {}
    path.write_bytes(lines(0, 2000))
    take(place, path, ends)
    changed = bytearray(lines(0, 2100))
    at = len(lines(0, 1990)) + 20
    changed[at : at + 1] = b"y"
    path.write_bytes(bytes(changed))
    again = take(place, path, ends)
    assert lines(1990, 1999).splitlines()[-1] in again
    assert changed[len(lines(0, 1990)) :].splitlines()[0] in again


def test_an_archive_is_read_again_if_it_changed(place: StoreAddress, tmp_path: Path) -> None:
    path, ends = tmp_path / "a.jsonl.gz", {}
    path.write_bytes(gzip.compress(lines(0, 50)))
    assert len(take(place, path, ends)) == 50
    assert take(place, path, ends) == []
    path.write_bytes(gzip.compress(lines(0, 50)) + gzip.compress(lines(50, 60)))
    assert len(take(place, path, ends)) == 60


def test_what_the_store_does_not_know_is_read_again(place: StoreAddress, tmp_path: Path) -> None:
    path, ends = tmp_path / "a.jsonl", {}
    path.write_bytes(lines(0, 50))
    take(place, path, ends)
    assert len(take(place, path, {})) == 50  # an older backup of the store, or a new one
    assert len(take(place, path, ends, work=b"another tenant")) == 50


def test_dirty_minutes_stay_until_they_are_clean(place: StoreAddress) -> None:
    with State(place) as state:
        state.touch({60, 120})
        state.touch({120, 0})
        state.clean([60])
    with State(place) as state:
        assert state.dirty() == [0, 120]


def test_one_run_at_a_time_and_it_says_who(place: StoreAddress) -> None:
    code = (
        "import sys; from pipelines.state import State; from sinks.clickhouse import StoreAddress\n"
        "with State(StoreAddress(folder=sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    other = subprocess.Popen(
        [sys.executable, "-c", code, place.folder], env=environ, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert other.stdin
    assert other.stdout
    assert other.stdout.readline() == "held\n"
    with pytest.raises(StoreError, match=rf"held by process {other.pid} on .* since 20.*: -c"):
        State(place)
    with pytest.raises(StoreError, match=f"held by process {other.pid}"):
        State(place, wait_s=0.2)
    other.kill()
    other.wait()
    with State(place, wait_s=30):  # the lock of a dead process is free
        assert f"process {os.getpid()} " in (holder(place) or "")
    assert holder(place) is None


def test_a_newer_or_broken_state_is_refused_in_one_line(place: StoreAddress) -> None:
    path = state_path(place)
    with State(place):
        pass
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer llm-finops"):
        State(place)
    path.write_bytes(b"no database at all, but long enough to be looked at " * 100)
    with pytest.raises(StoreError, match="remove it to read everything again"):
        State(place)
    path.unlink()
    State(place).close()


def test_states_of_servers_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    paths = {
        state_path(StoreAddress.parse(text))
        for text in ("http://a", "https://a", "http://b", "http://a/other", "http://me@a", "http://a:9000")
    }
    assert len(paths) == 6
    assert all(path.is_relative_to(tmp_path) for path in paths)


@pytest.mark.parametrize("sizes", [[], [5], [5, 5, 5], [100, 1, 1], [0, 0], [3, 9, 2, 8]])
def test_epochs_cover_every_split_once_in_order(sizes: list[int]) -> None:
    splits = [Split("", "text", 0, None, b"", b"", 0, 0, size) for size in sizes]
    cut = list(epochs(splits, 10))
    assert [index for first, last in cut for index in range(first, last)] == list(range(len(sizes)))
    assert all(last - first == 1 or sum(sizes[first:last]) <= 10 for first, last in cut)


# -- positions of topics -------------------------------------------------------------------------------------------


def part(start: int, end: int, first: int, lost_from: int | None = None) -> Range:
    return Range("kafka:calls/0", b"s" * 16, start, end, first, lost_from=lost_from)


def row(first: int, end: int, records: int) -> dict[tuple[str, bytes, int], SegmentEnd]:
    return {("kafka:calls/0", b"s" * 16, first): SegmentEnd(first, end, records, 10 * records)}


def where(place: StoreAddress, *pieces: Range, ends: dict[tuple[str, bytes, int], SegmentEnd], work: bytes = b"") -> tuple[int, int, int] | None:
    with State(place, work) as state:
        state.done(pieces, ends)
    with State(place, work) as state:  # as another process finds it
        known = state.positions().get(b"s" * 16)
        return known and (known.next, known.first, known.records)


def test_a_position_moves_with_what_is_in_the_ledger(place: StoreAddress) -> None:
    assert where(place, part(0, 10, 0), ends={}) is None  # rows are not in
    assert where(place, part(0, 10, 0), ends=row(0, 10, 9)) == (10, 0, 9)
    assert where(place, part(10, 15, 0), ends=row(0, 15, 12)) == (15, 0, 12)
    assert where(place, part(15, 20, 15), ends=row(0, 15, 12) | row(15, 20, 5)) == (20, 15, 5)
    assert where(place, part(15, 20, 15), ends=row(15, 20, 5), work=b"other") == (20, 15, 5)


def test_a_position_does_not_jump_over_what_was_not_read(place: StoreAddress) -> None:
    assert where(place, part(0, 10, 0), ends=row(0, 10, 10)) == (10, 0, 10)
    later = row(20, 30, 10)
    assert where(place, part(20, 30, 20), ends=later) == (10, 0, 10)
    both = later | row(10, 20, 10)
    assert where(place, part(20, 30, 20), part(10, 20, 10), ends=both) == (30, 20, 10)  # in whatever order they ended


def test_a_position_moves_over_a_gap_that_is_told(place: StoreAddress) -> None:
    assert where(place, part(0, 10, 0), ends=row(0, 10, 10)) == (10, 0, 10)
    assert where(place, part(40, 50, 40, lost_from=10), ends=row(40, 50, 10)) == (50, 40, 10)
    in_the_middle = row(50, 50, 0) | row(70, 80, 10)
    assert where(place, part(50, 80, 50), ends=in_the_middle) == (80, 70, 10)


def test_where_to_begin_is_kept(place: StoreAddress) -> None:
    with State(place) as state:
        state.keep_positions([Position(b"s" * 16, "kafka:calls/0", 7, 7)])
    assert where(place, part(7, 9, 7), ends=row(7, 9, 2)) == (9, 7, 2)
