"""Files as a feed: what of them was read, the state and the store's ledger agree on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pipelines.feeds import Feed, Standing
from pipelines.ledger import Ends, segment_ends
from pipelines.state import State
from schemas.batch import SegmentEnd
from sinks.clickhouse import Store
from sources.files import FileLimits, SourceError, Split, find, grown, plan

QUIET_S: Final = 5.0
"""A file that nobody wrote to for so long is finished: an archive is read, and so is a last line without its end."""

EPOCH_BYTES: Final = 64 << 20
"""Bytes of one epoch, at most, and of one range of the ledger."""

_LOOK_SHARE: Final = 10
"""Looking for files takes a tenth of the time at most, however many there are."""


class _Seen(NamedTuple):
    """A file when all of it, as far as it could be, had been read."""

    size: int
    changed: int
    finished: bool


class FoldersFeed(Feed):
    """The files that ``patterns`` name. Undated records get ``default_time`` (UTC microseconds), if there is one.

    While they are followed, plain files are read as they grow, up to their last line break; what may still be written to is left
    until it is quiet.
    """

    def __init__(
        self,
        patterns: Sequence[str],
        limits: FileLimits,
        default_time: int | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._patterns = patterns
        self._limits = limits
        self._default_time = default_time
        self._clock = clock
        self._files: list[Path] = []
        self._seen: dict[Path, _Seen] = {}
        self._reading: dict[Path, _Seen] = {}
        self._next_look = 0.0
        self._behind = False
        self._wrong: set[str] = set()

    def waiting(self, store: Store, state: State | None) -> tuple[Sequence[Split], int]:
        splits = plan(find(self._patterns), self._limits, self._default_time, known_times(store))
        paths = {split.path for split in splits}
        if state is not None:
            splits = state.left(splits, segment_ends(store))
        return splits, len(paths) - len({split.path for split in splits})

    def begin(self, store: Store, state: State) -> None:
        self._store, self._state = store, state
        self._known = known_times(store)
        self._ledger = _by_path(segment_ends(store))
        self._seen.clear()
        self._reading.clear()
        self._next_look = 0.0

    def next(self, most: int) -> Sequence[Split]:
        self._look()
        self._reading, self._behind = {}, False
        self._pieces: list[Split] = []
        room = EPOCH_BYTES
        for path in self._files:
            try:
                left, seen = self._left(path)
            except (OSError, SourceError) as error:
                self._say_once(f"{path}: cannot be read: {error.strerror if isinstance(error, OSError) else error}")
                continue
            for piece in left:
                if room > 0:
                    self._pieces.append(piece)
                    room -= piece.expected
                else:
                    self._behind = True
            if self._behind:
                break
            if seen:
                self._reading[path] = seen
        return self._pieces

    def _look(self) -> None:
        """Look for files, now and then: those that vanished are no longer ours."""
        now = time.monotonic()
        if now < self._next_look:
            return
        try:
            self._files = find(self._patterns)
        except SourceError as error:
            self._files = []
            self._say_once(f"{error}; waiting for files")
        else:
            self._wrong = {said for said in self._wrong if not said.endswith("waiting for files")}
        here = set(self._files)
        self._seen = {path: seen for path, seen in self._seen.items() if path in here}
        self._next_look = now + _LOOK_SHARE * (time.monotonic() - now)

    def _left(self, path: Path) -> tuple[Sequence[Split], _Seen | None]:
        """What can be read of a file now, and what it is once that was read; nothing if it did not change."""
        stat = path.stat()
        quiet = self._clock() - stat.st_mtime >= QUIET_S
        seen = self._seen.get(path)
        if seen and seen[:2] == (stat.st_size, stat.st_mtime_ns) and (seen.finished or not quiet):
            return (), None
        ends = self._ledger.get(str(path), {})
        whole = grown(path, self._default_time)
        pieces: list[Split] = []
        if whole is not None:
            pieces = self._state.went_on(whole, ends, EPOCH_BYTES, stat.st_size if quiet else 0)
        elif quiet and stat.st_size:
            pieces = self._state.left(plan([path], self._limits, self._default_time, self._known), ends)
        for piece in pieces:
            self._known.setdefault(piece.segment, piece.default_time)
        return pieces, _Seen(stat.st_size, stat.st_mtime_ns, quiet)

    def _say_once(self, line: str) -> None:
        if line not in self._wrong:
            self._wrong.add(line)
            self._news.append(line)

    def committed(self) -> None:
        self._seen.update(self._reading)
        if self._pieces:
            for path, ends in _by_path(segment_ends(self._store, {piece.segment for piece in self._pieces})).items():
                self._ledger.setdefault(path, {}).update(ends)

    def standing(self) -> Standing:
        return Standing(f"{len(self._files):,} files", None, None if self._behind else self._clock(), self._behind)


def _by_path(ends: Ends) -> dict[str, dict[tuple[str, bytes, int], SegmentEnd]]:
    found: dict[str, dict[tuple[str, bytes, int], SegmentEnd]] = {}
    for key, end in ends.items():
        found.setdefault(key[0], {})[key] = end
    return found


def known_times(store: Store) -> dict[bytes, int]:
    """Event time that undated records of each known segment were given at first sight, in UTC microseconds."""
    rows = store.rows(
        f"SELECT segment, toUnixTimestamp64Micro(min(default_time)) FROM {store.table('segments')} GROUP BY segment"
    )
    return {segment: int(micros) for segment, micros in rows}
