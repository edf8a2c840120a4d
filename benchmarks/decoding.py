"""Detection and decode of the recorded calls against ``orjson.loads`` of the same bytes, and what detection alone takes.

Two figures: ``decode_record`` is detection and decode, from the bytes of a record to its calls, and nothing else;
``decode_batch`` is the step of the pipeline, which also hashes each record for the ledger, numbers it, and keeps the calls of
400 together. Both are measured as Python and, if ``make compiled`` made it, compiled, which takes a process of its own
(``python -m benchmarks.decoding FILE``). Python and compiled have to give the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from benchmarks.figures import Figure
from schemas.batch import RawBatch
from transforms.decode import FORMATS, DecodeSettings, Format, decode_batch, decode_record
from transforms.decode.batch import record_hash
from transforms.decode.compiled import is_compiled
from transforms.decode.registry import Index

PASSES: Final = 15
PIECE: Final = 400
"""Records timed at a time: short enough that some passes over each are not disturbed by what else the machine does."""

CHECKOUT: Final = Path(__file__).resolve().parents[1]
COMPILED: Final = CHECKOUT / "build" / "compiled"

_SETTINGS: Final = DecodeSettings()


class Decoded(NamedTuple):
    """Seconds of each way over all records; how many calls they held, and a hash of all that was read of them."""

    bare: float
    record: float
    batch: float
    hashed: float
    calls: int
    found: str


def decoding(path: Path) -> Iterator[Figure]:
    lines = path.read_bytes().splitlines()
    assert not is_compiled(), "the decoder of the checkout is to be measured as Python"
    pure, compiled = decoded(lines), _compiled(path)
    if compiled is None:
        print("# decode compiled: skipped, build/compiled is not there (make compiled)", file=sys.stderr)
        yield from _figures("decode", pure, len(lines), "in Python", 0.5)
    else:
        assert (compiled.calls, compiled.found) == (pure.calls, pure.found), "the compiled decoder reads records otherwise"
        yield from _figures("decode", pure, len(lines), "in Python", None)
        yield from _figures("decode_compiled", compiled, len(lines), "compiled, with equal results", 0.5)
    records = [value for value in map(orjson.loads, lines) if isinstance(value, dict)]
    parsed = [records[at : at + PIECE] for at in range(0, len(records), PIECE)]
    for name, forms in (("detect", FORMATS), ("detect_ten_times", (*_more(9), *FORMATS))):
        index = Index(forms)
        (seconds,) = _least(parsed, lambda records, of=index.format_of: [of(one) for one in records])
        yield Figure(f"{name}_ns", seconds / len(lines) * 1e9, "ns/record", f"{len(forms)} formats; part of decode")


def decoded(lines: Sequence[bytes]) -> Decoded:
    """What the decoder of this process makes of the records, and how long it takes."""
    pieces = [list(lines[at : at + PIECE]) for at in range(0, len(lines), PIECE)]
    batches = [RawBatch("corpus", bytes(16), bytes(16), 0, some, list(range(len(some)))) for some in pieces]
    calls, all_found = 0, hashlib.sha256()
    for batch in batches:
        found = decode_batch(batch, _SETTINGS)
        places = {each.position for each in (*found.calls, *found.dead, *found.ignored, *found.parts)}
        assert places == set(batch.positions), "a record has no outcome"
        assert not any(dead.reason == "decoder_error" for dead in found.dead)
        calls += len(found.calls)
        all_found.update(repr(found).encode())
    return Decoded(*_least(batches, _bare, _records, _batch, _hashes), calls, all_found.hexdigest())


def _compiled(path: Path) -> Decoded | None:
    """The same from a process that has the compiled decoder; None where it was not made, or for another Python."""
    places = os.pathsep.join((str(COMPILED), str(CHECKOUT)))
    command = [sys.executable, "-P", "-m", "benchmarks.decoding", str(path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": places})
    found = json.loads(run.stdout)
    return Decoded(*found) if found else None


def _figures(name: str, told: Decoded, records: int, how: str, must: float | None) -> Iterator[Figure]:
    bare, record, batch, hashed, calls, _ = told
    loads = f"orjson.loads of the same bytes ({records:,} recorded calls, least of {PASSES} for each {PIECE} of them)"
    yield Figure(f"{name}_record_vs_orjson", bare / record, "x", f"{loads}; parse, detect and decode, {how}", must)
    batched = "the ledger's SHA-256 of each record, its place, and the calls of a batch kept; garbage collector paused"
    yield Figure(f"{name}_batch_vs_orjson", bare / batch, "x", f"the same; decode_record, {batched}")
    for part, seconds in (("orjson", bare), ("record", record), ("hash", hashed), ("batch", batch)):
        yield Figure(f"{name}_{part}_us", seconds / records * 1e6, "us/record", f"same run; {calls:,} calls")


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


def _batch(batch: RawBatch) -> None:
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


if __name__ == "__main__":
    print(json.dumps(decoded(Path(sys.argv[1]).read_bytes().splitlines()) if is_compiled() else None))
