"""Raw records to priced rows: decode, count, own, price, in one go and without Beam.

The text of prompts and answers lives in here only: what comes out holds counts, hashes, usage and money. The same code
runs in a step of a Beam worker and in the worker processes of a local run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import repeat
from pathlib import Path
from typing import Final

import pyarrow as pa

from schemas.batch import CallBatch, RawBatch, RowBatch
from transforms import rows
from transforms.count import Counter, CountSettings
from transforms.count.tokenizers import tokenizer
from transforms.decode import DecodeSettings, decode_batch
from transforms.identity import identify, pseudonym
from transforms.own import NO_RULES, Claims, Rule, headers_of, own
from transforms.people import NOBODY, People, anonymise, leave_out
from transforms.price import Book, load_book, price_batch

LIVE_PRICE_RUN = 1

Took = Callable[[str, int, int], None]
"""Told after each stage: its name, how many items it worked on, nanoseconds."""


GC_THRESHOLDS: Final = (100_000, 50, 100)
"""For ``gc.set_threshold`` where calls are worked on: batches hold tens of thousands of short-lived objects and no cycles,
and looking for those at Python's default pace takes a fifth of the time."""


class CallWork:
    """What is expensive to build is built once: tokenizers, the compiled price book. Not to be shared between threads.

    ``owners`` are the ownership rules in their order of precedence. Without keys of their own, ``people`` are hashed
    with the key of the texts.
    """

    def __init__(
        self,
        decode: DecodeSettings,
        count: CountSettings,
        books: tuple[Path, ...] = (),
        owners: tuple[Rule, ...] = NO_RULES,
        people: People = NOBODY,
    ) -> None:
        self._people = people if people.keys else replace(people, keys=((0, count.hash_key),))
        self._decode = replace(decode, headers=headers_of(owners))
        self._count = count
        for name in ("o200k_base", "cl100k_base"):
            tokenizer(name).count("warm")  # loading a table takes half a second: not in the first batch
        self._counter = Counter(count)
        self._book = load_book(books)
        self._claims = Claims(owners)

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
        if people.forgotten:
            leave_out(batch, people)
        took("decode", len(raw.records), decoded - began)
        took("count", len(batch.calls), clock() - decoded)
        return batch

    def priced(self, batch: CallBatch, took: Took) -> RowBatch:
        """The rows of what ``calls`` found."""
        clock = time.perf_counter_ns
        counted = clock()
        unpriced = own(rows.call_rows(batch.calls), self._claims)
        shaped = clock()
        priced, cost = price_rows(unpriced, self._book)
        paid = clock()
        result = row_batch(batch, priced, cost)
        took("price", len(batch.calls), paid - shaped)
        took("rows", len(batch.calls), shaped - counted + clock() - paid)
        return result


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
    )
