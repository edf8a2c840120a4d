"""Raw records to priced rows: decode, count, own, price, in one go and without Beam.

The text of prompts and answers lives in here only: what comes out holds counts, hashes, usage and money. The same code
runs in a step of a Beam worker and in the worker processes of a local run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import repeat
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from schemas.batch import CallBatch, DeadLetter, PartRead, RawBatch, RowBatch
from schemas.call import Call
from schemas.part import Part, Standing, StoredPart
from transforms import rows
from transforms.count import Counter, CountSettings
from transforms.count.tokenizers import tokenizer
from transforms.decode import DecodeSettings, decode_batch
from transforms.identity import identify, pseudonym
from transforms.join import complete, in_order, merge, names_of, pieces, put_together, whole
from transforms.own import Claims, headers_of, own
from transforms.people import NOBODY, People, anonymise, leave_out
from transforms.price import Book, load_book, price_batch
from transforms.sealed import SEAL_BYTES, Seal, SealError
from transforms.terms import ALWAYS, Timeline, which

LIVE_PRICE_RUN = 1

Took = Callable[[str, int, int], None]
"""Told after each stage: its name, how many items it worked on, nanoseconds."""


GC_THRESHOLDS: Final = (100_000, 50, 100)
"""For ``gc.set_threshold`` where calls are worked on: batches hold tens of thousands of short-lived objects and no cycles,
and looking for those at Python's default pace takes a fifth of the time."""


class _Held(NamedTuple):
    """Terms, compiled."""

    book: Book
    claims: Claims


class CallWork:
    """What is expensive to build is built once: tokenizers, compiled price books. Not to be shared between threads.

    Without keys of their own, ``people`` are hashed with the key of the texts.
    """

    def __init__(
        self,
        decode: DecodeSettings,
        count: CountSettings,
        terms: Timeline = ALWAYS,
        people: People = NOBODY,
    ) -> None:
        self._people = people if people.keys else replace(people, keys=((0, count.hash_key),))
        self._decode = decode
        self._count = count
        for name in ("o200k_base", "cl100k_base"):
            tokenizer(name).count("warm")  # loading a table takes half a second: not in the first batch
        self._counter = Counter(count)
        self._terms: Timeline = ()
        self._held: list[_Held | None] = []
        self.take_up(terms)
        self._compiled(len(terms) - 1)  # as a rule those of the first batch

    @cached_property
    def _seal(self) -> Seal:
        return Seal(self._count.hash_key)

    def take_up(self, terms: Timeline) -> bool:
        """Go by these terms from now on, what is compiled of them already is kept; whether they are others than before."""
        if terms == self._terms:
            return False
        known = dict(zip(self._terms, self._held, strict=True))
        self._terms, self._held = terms, [known.get(one) for one in terms]
        self._headers = [headers_of(one.owners) for one in terms]
        every = frozenset[str]().union(*self._headers)
        self._headers_differ = any(some != every for some in self._headers)
        self._decode = replace(self._decode, headers=every)
        return True

    def _compiled(self, number: int) -> _Held:
        held = self._held[number]
        if held is None:
            terms = self._terms[number]
            others = [(one, other) for one, other in zip(self._terms, self._held, strict=True) if other is not None]
            prices = (terms.books, terms.contracts)
            book = next((other.book for one, other in others if (one.books, one.contracts) == prices), None)
            held = self._held[number] = _Held(book or load_book(*prices), Claims(terms.owners))
        return held

    def rows(self, raw: RawBatch, took: Took) -> RowBatch:
        """The rows of a batch of records."""
        return self.priced(self.calls(raw, took), took)

    def calls(self, raw: RawBatch, took: Took) -> CallBatch:
        """What a batch of records holds: calls without text, counted and identified, dead letters, ignored items."""
        clock = time.perf_counter_ns
        began = clock()
        batch = decode_batch(raw, self._decode)
        decoded = clock()
        now = time.time_ns() // 1000
        people = self._people
        times = batch.times or repeat(batch.default_time, len(batch.calls))
        for call, record_hash, time_ in zip(batch.calls, batch.record_hashes, times, strict=True):
            self._counter.count(call)
            identify(call, batch.origin, call.inside_hash or record_hash, call.transport_time or time_, now)
            if people.forgotten:
                anonymise(call, people)
            call.end_user = pseudonym(call.tenant, call.end_user, people.key_at(call.event_time))
        if batch.parts:
            self._ready(batch, now)
        if people.forgotten:
            leave_out(batch, people)
        if self._headers_differ:
            self._keep_headers(batch.calls)
        took("decode", len(raw.records), decoded - began)
        took("count", len(batch.calls), clock() - decoded)
        return batch

    def _ready(self, batch: CallBatch, now: int) -> None:
        """Make of the parts of a batch what is kept of them: counted, without text, each with the key of its call."""
        people = self._people
        for read in batch.parts:
            read.deadline = now + self._decode.join.wait_s * 1_000_000
            if read.part.data:
                read.part.data = self._seal.close(read.part.data, read.key)
            call = read.part.call
            if call is None:
                continue
            self._counter.count(call)
            identify(call, batch.origin, read.record_hash, read.time, now)
            call.call_key = read.key
            if people.forgotten:
                anonymise(call, people)
            call.end_user = pseudonym(call.tenant, call.end_user, people.key_at(call.event_time))

    def joined(self, parts: Mapping[bytes, Sequence[StoredPart]], standing: Mapping[bytes, Standing]) -> RowBatch:
        """The calls that these parts tell of, by key, as rows. ``standing``: see ``transforms.join.merge``."""
        batch = CallBatch("", bytes(16), bytes(16), 0)
        for key, some in parts.items():
            call = merge(some, standing.get(key))
            batch.calls.append(call)
            place = (call.segment, call.position, call.item)
            batch.record_hashes.append(next(part.record_hash for part in some if part.place[1:] == place))
        if self._headers_differ:
            self._keep_headers(batch.calls)
        done = self.priced(batch, _nobody)
        # The batch is of no segment: each receipt lies where its call does.
        at = done.receipts.schema.get_field_index("segment")
        segments = pa.array([call.segment for call in batch.calls], pa.binary(16))
        return replace(done, receipts=done.receipts.set_column(at, done.receipts.schema.field(at), segments))

    def whole(self, some: Sequence[StoredPart]) -> bool:
        """Whether nothing of a call is waited for any more."""
        found = pieces(some)
        return complete(found) if found else whole(some)

    def recomposed(self, some: Sequence[StoredPart], read: Callable[[bytes], Sequence[bytes]]) -> RowBatch:
        """What a record holds that was cut into these pieces: it is read like any other, at the place of the first.

        If pieces are missing, or it is too large, it is a dead letter there. ``read`` gives its sealed pieces by its key.
        """
        first = in_order(some)[0]
        source, segment, position, item = first.place
        found = pieces(some)
        size = sum(max(0, part.size - SEAL_BYTES) for part in found)
        reason, error, rest = "", "", in_order(some)
        if not complete(found):
            reason, error = "incomplete_record", f"pieces {names_of(found)} are there"
        elif size > self._decode.join.max_bytes:
            reason, error = "record_too_large", f"pieces of {size} bytes together, more than join.max_bytes allows"
        else:
            try:
                data = put_together(found, [self._seal.open(piece, first.key) for piece in read(first.key)])
            except SealError:
                reason, error = "incomplete_record", "its pieces were sealed with another count.hash_key"
        if reason:
            letter = DeadLetter(position, item, reason, error, first.format, size, first.record_hash)
            batch, rest = CallBatch(source, segment, bytes(16), first.time, dead=[letter]), rest[1:]
        else:
            raw = RawBatch(source, segment, segment, min(part.time for part in some), [data], [position])
            batch = self.calls(raw, _nobody)
            batch.records = batch.bytes_read = 0  # they were counted as pieces
        done = self.priced(batch, _nobody)
        return replace(done, receipts=pa.concat_batches([done.receipts, *map(_joined_receipt, rest)]))

    def priced(self, batch: CallBatch, took: Took) -> RowBatch:
        """The rows of what ``calls`` found."""
        clock = time.perf_counter_ns
        counted = clock()
        parts = self._by_terms(_unpriced(batch))
        owned = [(own(part, held.claims), held.book) for part, held in parts]
        shaped = clock()
        done = [price_rows(part, book) for part, book in owned]
        paid = clock()
        priced = pa.concat_batches([part for part, _ in done]) if len(done) > 1 else done[0][0]
        result = row_batch(batch, priced, sum(cost for _, cost in done))
        took("price", len(batch.calls), paid - shaped)
        took("rows", len(batch.calls), shaped - counted + clock() - paid)
        return result

    def _by_terms(self, unpriced: pa.RecordBatch) -> list[tuple[pa.RecordBatch, _Held]]:
        """The rows apart by the terms that they go by: as a rule, one part."""
        if len(self._terms) == 1 or not unpriced.num_rows:
            return [(unpriced, self._compiled(len(self._terms) - 1))]
        numbers = which(self._terms, unpriced.column("event_time").cast(pa.int64()).to_numpy())
        found = np.unique(numbers).tolist()
        if len(found) == 1:
            return [(unpriced, self._compiled(found[0]))]
        return [(unpriced.filter(pa.array(numbers == number)), self._compiled(number)) for number in found]

    def _keep_headers(self, calls: list[Call]) -> None:
        """Of the headers that some terms name, each call keeps those that its own terms name."""
        numbers = which(self._terms, np.array([call.event_time for call in calls], np.int64))
        for call, number in zip(calls, numbers.tolist(), strict=True):
            if call.headers:
                named = self._headers[number]
                call.headers = {name: value for name, value in call.headers.items() if name in named} or None


def _unpriced(batch: CallBatch) -> pa.RecordBatch:
    """The rows of a batch's calls. One with a value that no column has becomes a dead letter, not the end of the work."""
    try:
        return rows.call_rows(batch.calls)
    except (pa.ArrowException, OverflowError):
        kept = []
        for call, record_hash in zip(batch.calls, batch.record_hashes, strict=True):
            try:
                rows.call_rows([call])
            except (pa.ArrowException, OverflowError) as defect:
                error = f"{type(defect).__name__}: {defect}"
                batch.dead.append(DeadLetter(call.position, call.item, "decoder_error", error, call.format, 0, record_hash))
            else:
                kept.append((call, record_hash))
        batch.calls = [call for call, _ in kept]
        batch.record_hashes = [record_hash for _, record_hash in kept]
        return rows.call_rows(batch.calls)


def price_rows(unpriced: pa.RecordBatch, book: Book, price_run: int = LIVE_PRICE_RUN) -> tuple[pa.RecordBatch, int]:
    """Rows of ``transforms.rows.UNPRICED`` with their money, and the dollars of them all in pico-dollars."""
    money = price_batch(unpriced, book, price_run)
    return rows.with_money(unpriced, money, price_run), int(money.cost[~money.null].sum(dtype=object) or 0)


def row_batch(batch: CallBatch, priced: pa.RecordBatch, cost_pico: int) -> RowBatch:
    """Everything about a batch that is written down."""
    return RowBatch(
        calls=priced,
        receipts=rows.receipts(batch),
        dead_letters=rows.dead_letters(batch),
        segments=rows.segment_ends(batch),
        minutes=rows.minutes_of(batch.calls),
        oldest=min((call.event_time for call in batch.calls), default=batch.default_time),
        default_time=batch.default_time,
        records=batch.records,
        bytes_read=batch.bytes_read,
        ignored=len(batch.ignored),
        cost_pico=cost_pico,
        read_at=batch.read_at,
        parts=rows.part_rows(batch),
    )


def _joined_receipt(part: StoredPart) -> pa.RecordBatch:
    """The receipt of a part, whatever it said before."""
    source, segment, position, item = part.place
    read = PartRead(Part("", part.role), part.tenant, part.key, position, item, part.record_hash, part.time)
    return rows.receipts(CallBatch(source, segment, bytes(16), 0, parts=[read]))


def _nobody(stage: str, items: int, nanoseconds: int) -> None:
    """How long it took is of no interest."""
