"""The Beam steps between a source and a sink: decode, count, price. Each maps one batch to one batch.

The work is in pure functions of the packages beside this module; a step only holds what is expensive to build
(tokenizers, the compiled price book), times its work and counts. Steps have no state, so a batch may be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import apache_beam as beam
import pyarrow as pa

import schemas.coders  # noqa: F401  (registers the coders of the batches)
from schemas.batch import CallBatch, RawBatch, RowBatch
from schemas.telemetry import TALLY, Stage
from transforms import rows
from transforms.count import Counter, CountSettings
from transforms.count.tokenizers import tokenizer
from transforms.decode import DecodeSettings, decode_batch
from transforms.identity import identify, pseudonym
from transforms.price import Book, load_book, price_batch

LIVE_PRICE_RUN = 1


class DecodeDoFn(beam.DoFn):  # type: ignore[misc]
    """Raw records to canonical calls, dead letters and ignored items."""

    def __init__(self, settings: DecodeSettings) -> None:
        self._settings = settings

    def setup(self) -> None:
        self._stage = Stage("decode")

    def process(self, raw: RawBatch) -> Iterator[CallBatch]:
        with self._stage.work(len(raw.records)):
            batch = decode_batch(raw, self._settings)
        yield batch


class CountDoFn(beam.DoFn):  # type: ignore[misc]
    """Count every text, drop it, and give each call its key and time."""

    def __init__(self, settings: CountSettings) -> None:
        self._settings = settings

    def setup(self) -> None:
        self._stage = Stage("count")
        for name in ("o200k_base", "cl100k_base"):
            tokenizer(name).count("warm")  # loading a table takes half a second: not in the first batch
        self._counter = Counter(self._settings)

    def process(self, batch: CallBatch) -> Iterator[CallBatch]:
        with self._stage.work(len(batch.calls)):
            now = time.time_ns() // 1000
            for call, record_hash in zip(batch.calls, batch.record_hashes, strict=True):
                self._counter.count(call)
                identify(call, batch.origin, record_hash, batch.default_time, now)
                call.end_user = pseudonym(call.tenant, call.end_user, self._settings.hash_key)
        yield batch


class PriceDoFn(beam.DoFn):  # type: ignore[misc]
    """Counted calls to priced rows."""

    def __init__(self, books: tuple[Path, ...]) -> None:
        self._books = books

    def setup(self) -> None:
        self._stage = Stage("price")
        self._rows = Stage("rows")
        self._book = load_book(self._books)

    def process(self, batch: CallBatch) -> Iterator[RowBatch]:
        with self._rows.work(len(batch.calls)):
            unpriced = rows.call_rows(batch.calls)
        with self._stage.work(len(batch.calls)):
            priced, cost = price_rows(unpriced, self._book)
        with self._rows.work(0):
            result = row_batch(batch, priced)
        tally(batch, cost)
        yield result


def price_rows(unpriced: pa.RecordBatch, book: Book, price_run: int = LIVE_PRICE_RUN) -> tuple[pa.RecordBatch, int]:
    """Rows of ``transforms.rows.UNPRICED`` with their money, and the dollars of them all in pico-dollars."""
    money = price_batch(unpriced, book, price_run)
    return rows.with_money(unpriced, money, price_run), int(money.cost[~money.null].sum(dtype=object) or 0)


def row_batch(batch: CallBatch, priced: pa.RecordBatch) -> RowBatch:
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
    )


def tally(batch: CallBatch, cost: int) -> None:
    """Add a finished batch to the progress of this process."""
    TALLY.records += batch.records
    TALLY.calls += len(batch.calls)
    TALLY.bytes += batch.bytes_read
    TALLY.dead += len(batch.dead)
    TALLY.ignored += len(batch.ignored)
    TALLY.cost_pico += cost


@dataclass(eq=False)
class CallsToRows(beam.PTransform):  # type: ignore[misc]
    """Raw batches to priced rows: decode, count, price, fused into one worker step."""

    decode: DecodeSettings
    count: CountSettings
    books: tuple[Path, ...] = ()

    def expand(self, raw: beam.PCollection[RawBatch]) -> beam.PCollection[RowBatch]:
        return (
            raw
            | "DecodeRecords" >> beam.ParDo(DecodeDoFn(self.decode)).with_output_types(CallBatch)
            | "CountTokens" >> beam.ParDo(CountDoFn(self.count)).with_output_types(CallBatch)
            | "PriceCalls" >> beam.ParDo(PriceDoFn(self.books)).with_output_types(RowBatch)
        )
