"""The tail: entries as they are received, by a stream that is held open. A hint: what it misses, the sweeps bring."""

from __future__ import annotations

import hashlib
import queue
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

from schemas.batch import RawBatch
from sources.cloud_logging.clients import client_of
from sources.cloud_logging.entries import identity
from sources.cloud_logging.seen import SEEN
from sources.cloud_logging.settings import LoggingSettings
from sources.cloud_logging.sweeping import put
from sources.files import SourceError
from sources.google import explained
from sources.held import Held, Shelf

ROOM: Final = 20_000
"""Entries that wait here at most; more are left to the sweeps."""

_AGAIN_S: Final = (1.0, 60.0)
"""How long to wait before the stream is opened again: at first, and at most."""

_BUFFER_S: Final = 1
"""How long the service holds entries to bring them into order."""


class Tail:
    """A stream of entries, opened again whenever it is cut. ``say`` takes lines for a person, from another thread."""

    def __init__(self, settings: LoggingSettings, say: Callable[[str], None]) -> None:
        self._settings = settings
        self._say = say
        self._entries: queue.Queue[Any] = queue.Queue(ROOM)
        self._ended = threading.Event()
        self._over = threading.Event()
        self._client: Any = None
        self.lost: Counter[str] = Counter()  # entries that the tail did not bring, by reason
        digest = hashlib.blake2b(repr((settings.resources, settings.filter)).encode(), digest_size=16, person=b"tail").digest()
        self.segment = digest
        self.shelf = Shelf(settings.source, digest)
        self._thread = threading.Thread(target=self._run, daemon=True, name="tail")
        self._thread.start()

    def take(self, most: int) -> Held | None:
        """What came in meanwhile, held; None if nothing did."""
        found: list[Any] = []
        with suppress(queue.Empty):
            while len(found) < most:
                found.append(self._entries.get_nowait())
        return self.shelf.hold(lambda start: self._batches(found, start)) if found else None

    def _batches(self, entries: Sequence[Any], start: int) -> list[RawBatch]:
        batches = [RawBatch(self._settings.source, self.segment, self.segment, 0)]
        SEEN.begin(self.segment, start)[1].update(map(identity, entries))
        for position, entry in enumerate(entries, start):
            batch = batches[-1]
            if batch.bytes_read > self._settings.batch_bytes or len(batch.positions) >= self._settings.batch_records:
                batches.append(batch := RawBatch(self._settings.source, self.segment, self.segment, 0))
            put(batch, entry, position, self._settings.max_record_bytes)
        return batches

    def _run(self) -> None:
        pause, said = _AGAIN_S[0], ""
        while not self._ended.is_set():
            try:
                for response in self._responses():
                    pause, said = _AGAIN_S[0], ""
                    self._take_in(response)
                problem = "the service ended the stream"
            except SourceError as error:
                problem = str(error)
            except Exception as error:
                problem = str(explained(error, str(self._settings)))
            if self._ended.is_set():
                return
            if problem != said:
                self._say(f"tail: {problem}; the sweeps go on without it")
                said = problem
            self._ended.wait(pause)
            pause = min(2 * pause, _AGAIN_S[1])

    def _responses(self) -> Iterator[Any]:
        from google.cloud.logging_v2.types import TailLogEntriesRequest
        from google.protobuf.duration_pb2 import Duration

        asked = TailLogEntriesRequest(
            resource_names=list(self._settings.resources),
            filter=self._settings.filter,
            buffer_window=Duration(seconds=_BUFFER_S),
        )

        def requests(over: threading.Event) -> Iterator[Any]:
            yield asked
            over.wait()  # the stream is open for as long as its requests have not ended

        self._over = threading.Event()
        try:
            with client_of(self._settings) as self._client:
                # The client's own retry would hand the same, used up, requests to a new stream.
                yield from self._client.tail_log_entries(requests=requests(self._over), retry=None, timeout=None)
        finally:
            self._over.set()

    def _take_in(self, response: Any) -> None:
        for told in response.suppression_info:
            self.lost[told.reason.name.lower()] += told.suppressed_count
        for entry in response.entries:
            try:
                self._entries.put_nowait(entry)
            except queue.Full:
                self.lost["no_room"] += 1

    def close(self) -> None:
        """Hang up. The client waits for the first entry in a call that only the end of its connection ends."""
        self._ended.set()
        self._over.set()
        with suppress(Exception):
            self._client.transport.close()
        self._thread.join(5)
