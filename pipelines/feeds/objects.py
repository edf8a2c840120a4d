"""Objects of a store as a feed: what of them was read, the state and the store's ledger agree on."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from pipelines.feeds import Feed, Standing
from pipelines.feeds.folders import EPOCH_BYTES, known_times
from pipelines.ledger import segment_ends
from pipelines.state import State
from sinks.clickhouse import Store
from sources.files import FileLimits, Split, Version
from sources.objects import Object, find, plan

EPOCH_OBJECTS: Final = 500
"""Objects of one epoch, at most, while they are followed."""

_LIST_SHARE: Final = 10
"""Listing takes a tenth of the time at most, however many objects there are."""


class ObjectsFeed(Feed):
    """The objects that ``addresses`` name. Undated records get ``default_time`` (UTC microseconds), if there is one.

    Every listing is whole: an object may appear in any folder at any time, and no order of its keys says that it will not. While
    objects are followed they are listed every ``list_s`` seconds at most.
    """

    def __init__(
        self,
        addresses: Sequence[str],
        limits: FileLimits,
        default_time: int | None,
        list_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__()
        self._addresses = addresses
        self._limits = limits
        self._default_time = default_time
        self._list_s = list_s
        self._clock = clock
        self._wanted: dict[str, Version] = {}
        self._known: dict[bytes, int] = {}
        self._seen: set[bytes] = set()
        self._queue: deque[Object] = deque()
        self._reading: list[Object] = []
        self._refused: list[tuple[Object, str]] = []
        self._pieces: Sequence[Split] = ()
        self._next_list = 0.0
        self._listed: float | None = None
        self._said: set[str] = set()

    def waiting(self, store: Store, state: State | None) -> tuple[Sequence[Split], int]:
        self._known = known_times(store)
        listed = list(self._find())
        if state is None:
            return self._plan(store, None, listed), 0
        ends = segment_ends(store)
        unread = list(state.unread(listed, ends))
        self._wanted = dict(unread)
        return state.left(self._plan(store, state, unread), ends), len(listed) - len(unread)

    def replaced(self, store: Store, state: State) -> Sequence[Split]:
        """What the store holds now in place of objects that were waiting: another version, to be read as well."""
        if not self._wanted:
            return ()
        listed = self._find(lambda line: None)
        again = [one for one in listed if self._wanted.get(one.path, one.version) != one.version]
        return self._left(store, state, self._plan(store, state, again))

    def _find(self, nothing: Callable[[str], None] | None = None) -> Iterator[Object]:
        """The objects, each once."""
        found: set[str] = set()
        for one in find(self._addresses, nothing):
            if len(self._addresses) == 1:
                yield one
            elif one.path not in found:
                found.add(one.path)
                yield one

    def _plan(
        self, store: Store, state: State | None, objects: Sequence[Object], refused: list[tuple[Object, str]] | None = None
    ) -> list[Split]:
        paths = [one.path for one in objects]
        sights = _first_sights(store, paths if state is None else state.read_before(paths))
        return plan(objects, self._limits, self._default_time, self._known, sights, refused)

    def _left(self, store: Store, state: State, splits: Sequence[Split]) -> list[Split]:
        return state.left(splits, segment_ends(store, {split.segment for split in splits})) if splits else []

    def begin(self, store: Store, state: State) -> None:
        self._store, self._state = store, state
        self._known = known_times(store)
        self._queue.extendleft(reversed(self._reading))
        self._reading = []

    def next(self, most: int) -> Sequence[Split]:
        self._list()
        room = EPOCH_BYTES
        while self._queue and room > 0 and len(self._reading) < EPOCH_OBJECTS:
            self._reading.append(self._queue.popleft())
            room -= self._reading[-1].version.size
        refused: list[tuple[Object, str]] = []
        planned = self._plan(self._store, self._state, self._reading, refused)
        self._pieces = self._left(self._store, self._state, planned)
        for piece in self._pieces:
            self._known.setdefault(piece.segment, piece.default_time)
        if refused:
            self._refused += refused
            self._reading = [one for one in self._reading if one not in {left_out for left_out, _ in refused}]
            self._say_once(f"{refused[0][1]}; {len(refused):,} objects are left out, and tried again")
        return self._pieces

    def _list(self) -> None:
        """List the objects, now and then, once all that was found before is read."""
        now = time.monotonic()
        if now < self._next_list or self._queue:
            return
        began, first = self._clock(), self._listed is None
        seen: set[bytes] = set()
        found = self._unseen(self._find(lambda line: self._say_once(f"{line}; waiting for objects")), seen)
        new = list(self._state.unread(found, segment_ends(self._store)) if first else found)
        self._queue.extend([one for one, _ in self._refused if _mark(one) in seen])
        self._queue.extend(new)
        self._seen, self._listed, self._refused = seen, began, []
        self._next_list = now + max(self._list_s, _LIST_SHARE * (time.monotonic() - now))

    def _unseen(self, objects: Iterable[Object], seen: set[bytes]) -> Iterator[Object]:
        """Those that the last listing did not have; all are added to ``seen``."""
        for one in objects:
            mark = _mark(one)
            seen.add(mark)
            if mark not in self._seen:
                yield one

    def _say_once(self, line: str) -> None:
        if line not in self._said:
            self._said.add(line)
            self._news.append(line)

    def committed(self) -> None:
        self._reading, self._pieces = [], ()

    def standing(self) -> Standing:
        """What comes is listed first: nothing older than the last listing is still unknown."""
        behind = bool(self._queue)
        return Standing(f"{len(self._seen):,} objects", None, None if behind else self._listed, behind)


def _mark(one: Object) -> bytes:
    """Stands for an object and its version, in less memory."""
    return hashlib.blake2b(repr(one).encode(), digest_size=16).digest()


def _first_sights(store: Store, paths: Iterable[str], at_once: int = 500) -> dict[str, int]:
    """Event time that undated records were given when the first version at each of these paths was read, in UTC microseconds."""
    found: dict[str, int] = {}
    left = iter(sorted(paths))
    while some := list(islice(left, at_once)):
        rows = store.rows(
            f"SELECT source, toUnixTimestamp64Micro(min(default_time)) FROM {store.table('segments')}"
            " WHERE source IN ({paths:Array(String)}) GROUP BY source",
            {"paths": some},
        )
        found.update((source, int(micros)) for source, micros in rows)
    return found
