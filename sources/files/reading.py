"""Splits read as streams of micro-batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import IO, Final

import pyarrow as pa

from schemas.batch import DeadLetter, RawBatch
from sources.files.archives import BROKEN, some, unpacked
from sources.files.lines import Batcher, Lines, too_large
from sources.files.parquet import opened, records_of, value_column
from sources.files.splits import FileLimits, Gone, Refused, Replaced, SourceError, Split, why

_BLOCK: Final = 1024 * 1024
_EXPANSION_GRACE: Final = 1024**3


def read(split: Split, limits: FileLimits) -> Iterator[RawBatch]:
    """Batches of one split in order; the last one carries the ``SegmentEnd``.

    If an object is replaced meanwhile, that ends where its last whole record does; if it is deleted, a dead letter says so.

    Raises:
        SourceError: the file vanished or can no longer be read.
    """
    try:
        if split.kind == "parquet":
            yield from _read_parquet(split, limits)
        else:
            yield from _read_text(split, limits)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{split.path}: cannot be read: {why(error)}") from error
    except Refused as error:
        raise SourceError(str(error)) from error


def read_at(splits: Iterable[Split], positions: Iterable[int], limits: FileLimits) -> Iterator[RawBatch]:
    """Only what lies at these positions of one file, given its splits. Reads no split without one, and none further
    than its last; positions that nothing begins at are passed over. No batch carries a ``SegmentEnd``.

    Raises:
        SourceError: the file vanished or can no longer be read.
    """
    wanted = set(positions)
    for split in splits:
        inside = [p for p in wanted if p >= split.start and (split.end is None or p < split.end)]
        if not inside:
            continue
        last = max(inside)
        for raw in read(split, limits):
            chosen = RawBatch(raw.source, raw.segment, raw.origin, raw.default_time, unfinished=raw.unfinished)
            for record, position in zip(raw.records, raw.positions, strict=True):
                if position in wanted:
                    chosen.records.append(record)
                    chosen.positions.append(position)
                    chosen.bytes_read += len(record) + 1
            chosen.rejects = [letter for letter in raw.rejects if letter.position in wanted]
            if chosen.records or chosen.rejects:
                yield chosen
            if max([0, *raw.positions[-1:], *(letter.position for letter in raw.rejects)]) >= last:
                break


def _content(split: Split) -> str | IO[bytes]:
    if split.version is None:
        return split.path
    from sources.objects.stores import open_version  # clients of stores: only where there are objects

    return open_version(split.path, split.version)


def _read_text(split: Split, limits: FileLimits) -> Iterator[RawBatch]:
    batcher = Batcher(split, limits)
    lines = Lines(limits.max_record_bytes, split.start, split.end)
    with unpacked(_content(split), split.kind) as file:
        try:
            yield from _whole_lines(split, limits, file, lines, batcher)
        except Replaced:  # what it holds now is a segment of its own, and will be read as that
            yield batcher.finish(split.row, lines.position)
            return
        except Gone:
            lines.broken(_gone_letter(split))
        yield from lines.close(batcher)
    yield batcher.finish(split.row, split.end if split.end is not None else max(lines.position, split.start))


def _whole_lines(split: Split, limits: FileLimits, file: IO[bytes], lines: Lines, batcher: Batcher) -> Iterator[RawBatch]:
    if split.start:
        lines.position += _skip_partial_line(file, split.start)
    for block in _blocks(split, limits, file) if split.end is None or lines.position < split.end else ():
        if isinstance(block, DeadLetter):
            lines.broken(block)
            return
        yield from lines.feed(block, batcher)
        if lines.done:
            return


def _skip_partial_line(file: IO[bytes], start: int) -> int:
    """Move to the first line that begins at or after ``start``; how many bytes that is past ``start``."""
    file.seek(start - 1)
    skipped = -1
    while block := file.read(_BLOCK):
        cut = block.find(b"\n")
        if cut >= 0:
            skipped += cut + 1
            file.seek(start + skipped)
            return skipped
        skipped += len(block)
    return skipped


def _blocks(split: Split, limits: FileLimits, file: IO[bytes]) -> Iterator[bytes | DeadLetter]:
    """Decompressed blocks; last, if the archive is broken or a bomb, the dead letter that says so."""
    total = 0
    while True:
        try:
            block = some(file, _BLOCK)
        except BROKEN as error:
            yield _archive_letter(f"{split.kind} breaks after {total} bytes: {error}")
            return
        if not block:
            return
        total += len(block)
        if split.kind != "text" and total > max(_EXPANSION_GRACE, limits.max_expansion * split.size):
            yield _archive_letter(f"{split.kind} of {split.size} bytes grew past {total} bytes")
            return
        yield block


def _archive_letter(error: str) -> DeadLetter:
    return DeadLetter(0, 0, "broken_archive", error, "", 0, 0)


def _gone_letter(split: Split) -> DeadLetter:
    return DeadLetter(0, 0, "object_gone", f"{split.path} was deleted before all of it was read", "", 0, 0)


def _read_parquet(split: Split, limits: FileLimits) -> Iterator[RawBatch]:
    batcher = Batcher(split, limits)
    row = 0
    try:
        with opened(_content(split)) as file:
            column = value_column(file.schema_arrow)
            for batch in file.iter_batches(batch_size=min(limits.batch_records, 256)):
                for record in records_of(batch, column):
                    if len(record) > limits.max_record_bytes:
                        batcher.reject(too_large(record, row, limits.max_record_bytes), len(record))
                    else:
                        yield from batcher.take([record], [row])
                    row += 1
    except Replaced:
        pass  # as above
    except Gone:
        batcher.reject(_gone_letter(split)._replace(position=row), 0)
        row += 1
    yield batcher.finish(0, row)
