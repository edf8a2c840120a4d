"""Detection and decode of the recorded calls against ``orjson.loads`` of the same bytes, and what detection alone takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import orjson

from benchmarks.figures import Figure
from schemas.batch import RawBatch
from transforms.decode import FORMATS, DecodeSettings, Format, decode_batch, decode_record
from transforms.decode.batch import record_hash
from transforms.decode.registry import Index

PASSES: Final = 15
PIECE: Final = 400
"""Records timed at a time: short enough that some passes over each are not disturbed by what else the machine does."""

_SETTINGS: Final = DecodeSettings()


def decoding(lines: Sequence[bytes]) -> Iterator[Figure]:
    pieces = [list(lines[at : at + PIECE]) for at in range(0, len(lines), PIECE)]
    batches = [RawBatch("corpus", bytes(16), bytes(16), 0, some, list(range(len(some)))) for some in pieces]
    items = 0
    for batch in batches:
        found = decode_batch(batch, _SETTINGS)
        places = {each.position for each in (*found.calls, *found.dead, *found.ignored, *found.parts)}
        assert places == set(batch.positions), "a record has no outcome"
        assert not any(dead.reason == "decoder_error" for dead in found.dead)
        items += len(found.calls)
    bare, whole, record, hashed = _least(batches, _bare, _whole, _records, _hashes)
    what = f"orjson.loads of the same bytes ({len(lines):,} recorded calls, least of {PASSES} for each {PIECE} of them)"
    yield Figure("decode_vs_orjson", bare / whole, "x", what, 0.5)
    yield Figure("decode_record_vs_orjson", bare / record, "x", "the same; without the ledger's hash of each record and batches")
    for name, seconds in (("orjson", bare), ("decode", whole), ("decode_record", record), ("decode_hash", hashed)):
        yield Figure(f"{name}_us", seconds / len(lines) * 1e6, "us/record", f"same run; {items:,} calls")
    parsed = [[value for value in map(orjson.loads, some) if isinstance(value, dict)] for some in pieces]
    for name, forms in (("detect", FORMATS), ("detect_ten_times", (*_more(9), *FORMATS))):
        index = Index(forms)
        (seconds,) = _least(parsed, lambda records, of=index.format_of: [of(one) for one in records])
        yield Figure(f"{name}_ns", seconds / len(lines) * 1e9, "ns/record", f"{len(forms)} formats; part of decode")


def _least(pieces: Sequence[Any], *works: Callable[[Any], object]) -> list[float]:
    """Seconds of each work over all pieces, taken in turn: the least of all passes over each piece, added up."""
    best = [[float("inf")] * len(pieces) for _ in works]
    for _ in range(PASSES):
        for number, piece in enumerate(pieces):
            for least, work in zip(best, works, strict=True):
                began = time.perf_counter()
                work(piece)
                least[number] = min(least[number], time.perf_counter() - began)
    return [sum(least) for least in best]


def _bare(batch: RawBatch) -> None:
    for data in batch.records:
        orjson.loads(data)


def _whole(batch: RawBatch) -> None:
    decode_batch(batch, _SETTINGS)


def _records(batch: RawBatch) -> None:
    for data in batch.records:
        decode_record(data)


def _hashes(batch: RawBatch) -> None:
    for data in batch.records:
        record_hash(data)


def _more(times: int) -> list[Format]:
    """Formats that no record has, as many for each one there is; one in three shares a key with it, as gateways' do."""
    found = []
    for number in range(times):
        for form in FORMATS:
            own = f"{form.signs[0]}_{number}"
            signs = (own, form.signs[0]) if number % 3 == 0 else (own,)
            found.append(Format(f"{form.name}_{number}", "", signs, lambda record, own=own: own in record, form.decode, 0))  # type: ignore[misc]
    return found
