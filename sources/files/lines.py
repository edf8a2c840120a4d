"""Blocks of text cut into lines, lines into batches."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import accumulate

from schemas.batch import DeadLetter, RawBatch, SegmentEnd
from sources.files.splits import FileLimits, Split


class Batcher:
    """Collects records of a split and cuts them into batches by number and bytes."""

    def __init__(self, split: Split, limits: FileLimits) -> None:
        self._split = split
        self._limits = limits
        self._batch = self._new()
        self.records = 0
        self.bytes = 0

    def _new(self) -> RawBatch:
        s = self._split
        return RawBatch(s.path, s.segment, s.origin, s.default_time)

    def take(self, lines: Sequence[bytes], positions: Sequence[int], unfinished: bool = False) -> Iterator[RawBatch]:
        """Add whole records, or the last line of a file, which may be ``unfinished``; yields each batch that fills."""
        for line, position in zip(lines, positions, strict=True):
            batch = self._batch
            if unfinished and self._split.kind == "text":
                batch.unfinished = position
            batch.records.append(line)
            batch.positions.append(position)
            batch.bytes_read += len(line) + 1
            if len(batch.records) >= self._limits.batch_records or batch.bytes_read >= self._limits.batch_bytes:
                yield self._cut()

    def reject(self, letter: DeadLetter, size: int) -> None:
        self._batch.rejects.append(letter)
        self._batch.bytes_read += size

    def _cut(self) -> RawBatch:
        batch, self._batch = self._batch, self._new()
        self.records += len(batch.records) + len(batch.rejects)
        self.bytes += batch.bytes_read
        return batch

    def finish(self, start: int, end: int) -> RawBatch:
        batch = self._cut()
        split = self._split
        batch.end = SegmentEnd(start, end, split.records + self.records, split.bytes + self.bytes)
        return batch


class Lines:
    """Cuts blocks into lines; a line longer than the limit is hashed and measured, not kept."""

    def __init__(self, max_bytes: int, position: int, end: int | None) -> None:
        self.position = position  # where the unfinished line begins
        self.done = False
        self._max = max_bytes
        self._end = end
        self._carry = b""
        self._long: _LongLine | None = None
        self._break: DeadLetter | None = None

    def feed(self, block: bytes, batcher: Batcher) -> Iterator[RawBatch]:
        if self._long is not None:
            cut = block.find(b"\n")
            if cut < 0:
                self._long.add(block)
                return
            self._long.add(block[:cut])
            self._finish_long(batcher, newline=1)
            block = block[cut + 1 :]
        lines = (self._carry + block).split(b"\n") if self._carry else block.split(b"\n")
        self._carry = lines.pop()
        starts = list(accumulate((len(line) + 1 for line in lines), initial=self.position))
        self.position = starts.pop()
        if self._end is not None and self.position >= self._end:
            # A line belongs to the split it begins in; whatever begins at or after the end is the next split's.
            keep = sum(start < self._end for start in starts)
            self.done = True
            if keep < len(lines):
                self.position = starts[keep]
            lines, starts, self._carry = lines[:keep], starts[:keep], b""
        elif len(self._carry) > self._max:
            self._long = _LongLine(self._carry)
            self._carry = b""
        if lines and max(map(len, lines)) > self._max:
            yield from self._with_long_lines(lines, starts, batcher)
        else:
            yield from batcher.take(lines, starts)

    def _with_long_lines(self, lines: list[bytes], starts: list[int], batcher: Batcher) -> Iterator[RawBatch]:
        for line, start in zip(lines, starts, strict=True):
            if len(line) > self._max:
                batcher.reject(too_large(line, start, self._max), len(line) + 1)
            else:
                yield from batcher.take([line], [start])

    def _finish_long(self, batcher: Batcher, newline: int) -> None:
        assert self._long is not None
        batcher.reject(self._long.letter(self.position, self._max), self._long.size + newline)
        self.position += self._long.size + newline
        self._long = None
        if self._end is not None and self.position >= self._end:
            self.done = True

    def broken(self, letter: DeadLetter) -> None:
        """The archive ends here: what was begun is no whole record."""
        self._break = letter

    def close(self, batcher: Batcher) -> Iterator[RawBatch]:
        if self._break is not None:
            size = self._long.size if self._long else len(self._carry)
            tail = _LongLine(self._carry) if self._long is None else self._long
            letter = self._break._replace(position=self.position, size=size, record_hash=tail.hash())
            batcher.reject(letter, size)
            self.position += max(size, 1)  # the letter lies inside of the range, even if no byte of its record does
        elif self._long is not None:
            self._finish_long(batcher, newline=0)
        elif self._carry and not self.done:
            yield from batcher.take([self._carry], [self.position], unfinished=True)
            self.position += len(self._carry)


class _LongLine:
    """A line too long to keep: its size and hash, grown block by block.

    The hash is that of a record that is kept (``transforms.decode.batch.record_hash``): with a higher limit it is the
    same record.
    """

    def __init__(self, start: bytes) -> None:
        self._hash = hashlib.sha256(start)
        self.size = len(start)

    def add(self, data: bytes) -> None:
        self._hash.update(data)
        self.size += len(data)

    def hash(self) -> int:
        return int.from_bytes(self._hash.digest()[:8], "big") >> 1

    def letter(self, position: int, limit: int) -> DeadLetter:
        error = f"{self.size} bytes, the limit is {limit} (source.max_record_bytes)"
        return DeadLetter(position, 0, "record_too_large", error, "", self.size, self.hash())


def too_large(record: bytes, position: int, limit: int) -> DeadLetter:
    """The dead letter of a whole record that is longer than ``limit`` bytes."""
    return _LongLine(record).letter(position, limit)
