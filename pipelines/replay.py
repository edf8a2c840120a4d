"""``llm-finops replay-dead``: run dead letters again, after a decoder or a setting was mended.

A letter is run again only from its original record: the bytes at its position of a file whose fingerprint is that of its
segment, or a kept payload, in either case only if they still hash to ``record_hash``. Everything else goes the way of a
run: decode, count, price, write, recompute, with the identity and the time of the first sight. So the same record read
later by a run is the same call, and replaying twice changes nothing.

It holds the state of the store as a run does. The minutes it will touch are dirty before its first insert and clean after
its last: calls, minutes, receipts. A letter is dead as long as its receipt says so, so a replay that was killed finds it
again and does the same once more; a run that comes first finishes what was begun (``sinks.dead_letters.finish_replay``).
"""

from __future__ import annotations

import os
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Final

from pipelines.feeds.folders import known_times
from pipelines.job import Job
from pipelines.joining import join_keys
from pipelines.run import knowing, settle
from pipelines.state import State
from pipelines.stores import refuse_missing
from pipelines.terms import publish_books
from schemas.batch import NO_PARTS, CallBatch, DeadLetter, Ignored, PartRead, RawBatch, RowBatch
from schemas.tables import SEGMENTS
from schemas.telemetry import TALLY
from sinks.clickhouse import Store
from sinks.dead_letters import Letter, Record, calls_of, finish_replay, pages, payloads
from sinks.outlet import Outlet
from sinks.recompute import recompute
from sinks.schema import require_current
from sinks.writer import Writer
from sources.files import SourceError, Split, began_as, plan, read_at
from sources.objects import find as find_objects
from sources.objects import is_address as is_object
from sources.objects import plan as plan_objects
from transforms.decode.batch import record_hash
from transforms.identity import needs_origin
from transforms.steps import tally
from transforms.work import CallWork

CALL: Final = "call"
PART: Final = "part of a call"
IGNORED: Final = "ignored"
STILL_DEAD: Final = "still dead"
GONE: Final = "source gone"
CHANGED: Final = "source changed"
CONFLICT: Final = "conflict"
"""What becomes of a letter. ``conflict``: its record now reads so that a call it has given already would be another
one, or an item is no longer there; it is left as it is."""

_PAYLOADS_AT_ONCE: Final = 500


@dataclass(frozen=True)
class Replayed:
    """What became of the letters: how many, by reason, outcome and reason now. In a dry run, what would.

    ``calls`` and ``spend`` are of the calls that letters became, ``minutes`` how many were replaced.
    """

    letters: dict[tuple[str, str, str], int]
    calls: int
    spend: Decimal
    minutes: int


def replay(job: Job, reasons: Sequence[str] = (), dry_run: bool = False, page: int = 50_000) -> Replayed:
    """Run the living dead letters again, those of ``reasons`` or all.

    Their records are looked for in ``job.paths`` and ``job.objects``, by content; without any, where they were read from.

    Raises:
        sources.files.SourceError: one of ``job.paths`` cannot be read.
        sinks.clickhouse.StoreError: the store refuses, is full, unreachable or has no tables, or another process holds it.
        sinks.outlet.OutletError: the topic of dead letters refuses, is not there or unreachable.
    """
    refuse_missing(job.store.address)
    if job.letters is not None and not dry_run:
        job.letters.check()
    with State(job.store.address, job.work, job.wait_s) as state:
        store = job.store.open()
        require_current(store)
        job = knowing(job, store, dry_run)
        TALLY.clear()
        if not dry_run:
            finish_replay(store, state.dirty())
            publish_books(store, job.goes_by)
        with closing(Outlet(job.letters)) if job.letters else nullcontext() as outlet:
            run = _Replay(job, store, state, dry_run, outlet)
            for letters in pages(store, reasons, page):
                siblings = calls_of(store, letters)
                for segment, some in groupby(letters, key=lambda letter: letter.record.segment):
                    run.segment(segment, list(some), siblings)
                run.land()
        if not dry_run:
            join_keys(job, store, state, run.keys, final=True)
            settle(store, state, state.dirty())
    return Replayed(dict(run.letters), len(run.calls), run.spend, len(run.minutes))


@dataclass
class _Replay:
    """One replay: the letters at hand, what is ready to be written, and what became of those before."""

    job: Job
    store: Store
    state: State
    dry_run: bool
    outlet: Outlet | None = None
    letters: Tally[tuple[str, str, str]] = field(default_factory=Tally)
    calls: set[bytes] = field(default_factory=set)
    spend: Decimal = Decimal(0)
    minutes: set[int] = field(default_factory=set)
    keys: set[bytes] = field(default_factory=set)
    _ready: list[RowBatch] = field(default_factory=list)
    _rows: int = 0
    _bytes: int = 0

    def __post_init__(self) -> None:
        self._work = CallWork(self.job.decode, self.job.count, self.job.goes_by, self.job.people)
        self._known = known_times(self.store)
        self._files = _Files(self.job, self.store, self._known)

    def segment(self, segment: bytes, letters: list[Letter], siblings: dict[Record, set[bytes]]) -> None:
        """Run the letters of one segment again, each from the first file that still holds its record.

        ``siblings``: keys of the calls that records of letters have given already.
        """
        waiting: dict[Record, list[Letter]] = defaultdict(list)
        for letter in letters:
            waiting[letter.record].append(letter)
        files, there = self._files.holding(segment, {letter.source for letter in letters})
        for splits in files:
            if not waiting:
                break
            for raw in read_at(splits, [record.position for record in waiting], self.job.limits):
                self._run(_originals(raw, waiting), waiting, siblings)
        for raw in self._from_payloads(segment, waiting):
            self._run(raw, waiting, siblings, whole_file=False)
        for some in waiting.values():
            self._note(some, CHANGED if files or there else GONE)

    def _from_payloads(self, segment: bytes, waiting: dict[Record, list[Letter]]) -> Iterator[RawBatch]:
        """Records whose payload was kept as it was: scrubbed or cut, it would hash to something else."""
        left = list(waiting)
        for start in range(0, len(left), _PAYLOADS_AT_ONCE):
            kept = payloads(self.store, left[start : start + _PAYLOADS_AT_ONCE])
            for record, text in {record: text for (record, _), text in kept.items()}.items():
                data = text.encode()
                if record_hash(data) == record.record_hash:
                    source, first_sight = waiting[record][0].source, self._known.get(segment, 0)
                    at = record.position  # the file may have gone on there since, and told of the whole record
                    yield RawBatch(source, segment, b"", first_sight, [data], [at], bytes_read=len(data), unfinished=at)

    def _run(
        self,
        raw: RawBatch,
        waiting: dict[Record, list[Letter]],
        siblings: dict[Record, set[bytes]],
        whole_file: bool = True,
    ) -> None:
        """Decode and count records, settle their letters, and make ready what is to be written."""
        batch = self._work.calls(raw, _took)
        outcomes = _outcomes(batch)
        if not whole_file and any(needs_origin(call) or not call.event_time for call in batch.calls):
            return  # neither its key nor its time can be known without its file
        keep: set[tuple[Record, int]] = set()
        new: set[bytes] = set()
        for record, items in outcomes.items():
            letters = waiting.pop(record)
            keys = {now for now in items.values() if isinstance(now, bytes)}
            if siblings.get(record, set()) - keys or any(letter.item not in items for letter in letters):
                self._note(letters, CONFLICT)
                continue
            revived = [letter for letter in letters if not isinstance(items[letter.item], DeadLetter)]
            for letter in letters:
                self._settle(letter, items[letter.item])
            if revived:
                keep |= {(record, item) for item in items}
                new |= keys - siblings.get(record, set()) - self.calls
            else:
                keep |= {(record, letter.item) for letter in letters if _differs(letter, items[letter.item])}
        self._make_ready(_only(batch, keep), new)

    def _settle(self, letter: Letter, now: Now) -> None:
        if isinstance(now, PartRead):
            self._note([letter], PART)
        elif isinstance(now, DeadLetter):
            self._note([letter], STILL_DEAD, now.reason)
        elif isinstance(now, bytes):
            self._note([letter], CALL)
        else:
            self._note([letter], IGNORED, now)

    def _note(self, letters: Iterable[Letter], became: str, now: str = "") -> None:
        for letter in letters:
            self.letters[letter.reason, became, now] += 1

    def _make_ready(self, batch: CallBatch, new: set[bytes]) -> None:
        if not (batch.calls or batch.parts or batch.dead or batch.ignored):
            return
        if batch.dead and not self.dry_run:
            kept = payloads(self.store, {_record(batch, letter) for letter in batch.dead})
            batch.dead = [d._replace(payload=d.payload or kept.get((_record(batch, d), d.item))) for d in batch.dead]
        ready = self._work.priced(batch, _took)
        tally(ready)
        costs = zip(ready.calls.column("call_key").to_pylist(), ready.calls.column("cost").to_pylist(), strict=True)
        self.spend += sum({key: dollars or Decimal(0) for key, dollars in costs if key in new}.values(), Decimal(0))
        self.calls |= new
        if self.dry_run:
            return
        self._ready.append(ready)
        self._rows += ready.receipts.num_rows
        self._bytes += ready.calls.nbytes
        if self._rows >= self.job.store.insert_rows or self._bytes >= self.job.store.insert_bytes:
            self.land()

    def land(self) -> None:
        """Write what is ready: calls, parts and letters, then their minutes, then the receipts that prove all. Parts are
        joined at the end, or by the next run."""
        if not self._ready:
            return
        calls, receipts = Writer(self.store, letters=self.outlet), Writer(self.store)
        for batch in self._ready:
            calls.add(replace(batch, receipts=batch.receipts.slice(0, 0)))
            none = {"calls": batch.calls.slice(0, 0), "dead_letters": batch.dead_letters.slice(0, 0), "parts": NO_PARTS}
            receipts.add(replace(batch, **none))
        touched: set[int] = set().union(*(batch.minutes for batch in self._ready))
        keys = {key for batch in self._ready for key in batch.parts.column("call_key").to_pylist()}
        self.state.wait(dict.fromkeys(keys, 0))
        self.keys |= keys
        self.state.touch(touched)
        calls.flush()
        recompute(self.store, touched)
        receipts.flush()
        self.state.clean(touched)
        self.minutes |= touched
        self._ready, self._rows, self._bytes = [], 0, 0


def _took(stage: str, items: int, nanoseconds: int) -> None:
    """How long a stage took is of no interest here."""


class _Files:
    """The files that letters may be found in: those given, or those they were read from."""

    def __init__(self, job: Job, store: Store, known: dict[bytes, int]) -> None:
        self._job = job
        self._store = store
        self._known = known
        self._planned: dict[str, list[Split]] = {}
        for split in self._plan([*map(str, job.paths), *job.objects]):
            self._planned.setdefault(split.path, []).append(split)

    def holding(self, segment: bytes, sources: set[str]) -> tuple[list[list[Split]], bool]:
        """Splits of each file that holds ``segment``, also one that has grown since; and whether a source of it is there,
        whatever it holds now.
        """
        there = False
        if not self._job.paths and not self._job.objects:
            for source in sources - self._planned.keys():
                try:
                    self._planned[source] = self._plan([source])
                except SourceError:
                    self._planned[source] = []
            there = any(os.path.exists(source) or self._planned.get(source) for source in sources)
        files = [splits for splits in self._planned.values() if splits and splits[0].segment == segment]
        if not files:
            names, size = {os.path.basename(source) for source in sources}, self._size(segment)
            files = [
                [replace(split, segment=segment, default_time=self._known.get(segment, split.default_time)) for split in splits]
                for path, splits in self._planned.items()
                if splits and os.path.basename(path) in names and began_as(splits[0], segment, size)
            ]
        return files, there

    def _plan(self, sources: Sequence[str]) -> list[Split]:
        """The time of the first sight stands, above the one that is configured now."""
        limits, default_time = self._job.limits, self._job.default_time
        splits = plan([Path(one) for one in sources if not is_object(one)], limits, default_time, self._known)
        splits += plan_objects(find_objects(one for one in sources if is_object(one)), limits, default_time, self._known)
        return [replace(split, default_time=self._known.get(split.segment, split.default_time)) for split in splits]

    def _size(self, segment: bytes) -> int:
        """Bytes of the segment, as far as it was read; 0 if it never was to its end."""
        sql = (
            f"SELECT max(end) FROM {self._store.table(SEGMENTS.name)} WHERE segment = toFixedString(unhex('{segment.hex()}'), 16)"
        )
        return int(self._store.rows(sql)[0][0])


def _originals(raw: RawBatch, waiting: dict[Record, list[Letter]]) -> RawBatch:
    """Of what was read, the records that are those of the letters, to the byte."""
    chosen = replace(raw, records=[], positions=[], rejects=[])
    for data, position in zip(raw.records, raw.positions, strict=True):
        if Record(raw.segment, position, record_hash(data)) in waiting:
            chosen.records.append(data)
            chosen.positions.append(position)
    chosen.rejects = [d for d in raw.rejects if Record(raw.segment, d.position, d.record_hash) in waiting]
    return chosen


Now = bytes | str | DeadLetter | PartRead
"""What an item is now: the key of a call, the reason it is ignored for, a dead letter, a part of a call."""


def _outcomes(batch: CallBatch) -> dict[Record, dict[int, Now]]:
    """What each item of each record is now."""
    found: dict[Record, dict[int, Now]] = defaultdict(dict)
    for read in batch.parts:
        found[_record(batch, read)][read.item] = read
    for call, hashed in zip(batch.calls, batch.record_hashes, strict=True):
        found[Record(batch.segment, call.position, hashed)][call.item] = call.call_key
    for ignored in batch.ignored:
        found[_record(batch, ignored)][ignored.item] = ignored.reason
    for dead in batch.dead:
        found[_record(batch, dead)][dead.item] = dead
    return found


def _record(batch: CallBatch, item: DeadLetter | Ignored | PartRead) -> Record:
    return Record(batch.segment, item.position, item.record_hash)


def _differs(letter: Letter, now: Now) -> bool:
    """Whether a letter that is dead still would be written otherwise today."""
    assert isinstance(now, DeadLetter)
    return (now.reason, now.error, now.format_guess, now.reason) != (
        letter.reason,
        letter.error,
        letter.format_guess,
        letter.receipt_reason,
    )


def _only(batch: CallBatch, keep: set[tuple[Record, int]]) -> CallBatch:
    """The batch with these items alone."""
    kept = [
        (call, hashed)
        for call, hashed in zip(batch.calls, batch.record_hashes, strict=True)
        if (Record(batch.segment, call.position, hashed), call.item) in keep
    ]
    return replace(
        batch,
        calls=[call for call, _ in kept],
        record_hashes=[hashed for _, hashed in kept],
        dead=[dead for dead in batch.dead if (_record(batch, dead), dead.item) in keep],
        ignored=[ignored for ignored in batch.ignored if (_record(batch, ignored), ignored.item) in keep],
        parts=[read for read in batch.parts if (_record(batch, read), read.item) in keep],
    )
