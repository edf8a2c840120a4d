"""Files as a source: JSON lines (plain, gzip, zstd) and Parquet, read as streams of micro-batches.

Guarantees: every record of a file comes out exactly once per read, with a position that does not change when the file is
renamed, copied or compressed otherwise (decompressed byte offset; row number in Parquet). A record that cannot be
handed on (too long, cut by a broken archive) comes out as a dead letter in its place. Reading again after a crash
starts at the beginning of the split: downstream is idempotent.

Compression is recognised by content, not by name.
"""

from __future__ import annotations

import glob
import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import IO, Final, cast

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from backports import zstd

from schemas.batch import DeadLetter, RawBatch, SegmentEnd

SUFFIXES: Final = (".jsonl", ".ndjson", ".log", ".gz", ".zst", ".parquet")
"""What a folder is searched for. A file named outright is read whatever its name."""

_HEAD: Final = 64 * 1024
_BLOCK: Final = 1024 * 1024
_VALUE_COLUMNS: Final = ("value", "record", "body", "message", "payload", "line", "json")
_EXPANSION_GRACE: Final = 1024**3


class SourceError(Exception):
    """An input that is missing, unreadable or not what its name says; the message is one line for a person."""


@dataclass(frozen=True)
class FileLimits:
    """How much of a hostile file is taken in.

    A record longer than ``max_record_bytes`` is a dead letter and never held in memory. A compressed file that has
    grown past 1 GiB and more than ``max_expansion`` times its size is cut there, with a dead letter that says so.
    """

    max_record_bytes: int = 16 * 1024 * 1024
    max_expansion: int = 500
    batch_records: int = 1000
    batch_bytes: int = 8 * 1024 * 1024
    split_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True)
class Split:
    """A part of one file that one worker reads: ``[start, end)`` in bytes of a plain file, else the whole of it.

    ``segment`` is the fingerprint of the first 64 KiB of the decompressed content; ``origin`` that of its first
    record. ``default_time`` in UTC microseconds. ``size`` is the number of bytes on disk that the split covers, ``expected``
    the decompressed bytes it seems to hold; only progress depends on it. A file that is followed as it grows carries on the
    ledger's range that begins at ``first``, with its ``records`` and ``bytes`` up to ``start``.
    """

    path: str
    kind: str  # text | gzip | zstd | parquet
    start: int
    end: int | None
    segment: bytes
    origin: bytes
    default_time: int
    size: int
    expected: int
    first: int | None = None
    records: int = 0
    bytes: int = 0

    @property
    def row(self) -> int:
        """Where the ledger's range begins that this split is part of."""
        return self.start if self.first is None else self.first


def find(patterns: Iterable[str]) -> list[Path]:
    """Files named by folders (searched recursively), globs (``**`` allowed) and paths, sorted, each once.

    Raises:
        SourceError: a pattern matches nothing, or a folder holds no file with one of ``SUFFIXES``.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_dir():
            hits = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
            if not hits:
                raise SourceError(f"{pattern}: the folder holds no file ending in {' '.join(SUFFIXES)}")
        elif path.exists():
            hits = [path]
        else:
            hits = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if os.path.isfile(p))
            if not hits:
                magic = glob.has_magic(pattern)
                raise SourceError(f"{pattern}: " + ("no file matches" if magic else "no such file or folder"))
        found.update(dict.fromkeys(hits))
    return list(found)


def spool(stream: IO[bytes], folder: Path) -> Path:
    """Copy a stream (standard input) to a file in ``folder``, so that it can be read, counted and read again."""
    target = folder / "stdin"
    with target.open("wb") as out:
        while block := stream.read(_BLOCK):
            out.write(block)
    return target


def plan(
    paths: Iterable[Path],
    limits: FileLimits,
    default_time: int | None = None,
    known: dict[bytes, int] | None = None,
) -> list[Split]:
    """Splits of all files, big plain files cut at ``split_bytes``.

    Undated records get ``default_time``; else the time ``known`` for the segment from an earlier read; else the file's
    modification time.

    Raises:
        SourceError: a file cannot be opened or is not the Parquet it claims to be.
    """
    splits: list[Split] = []
    for path in paths:
        try:
            stat = path.stat()
            kind = _kind(path)
            head = _parquet_head(path) if kind == "parquet" else _text_head(path, kind)
        except (OSError, pa.ArrowInvalid, zstd.ZstdError) as error:
            raise SourceError(f"{path}: cannot be read: {_why(error)}") from error
        segment = _digest(b"segment", kind.encode() if kind == "parquet" else b"", head)
        origin = _digest(b"origin", b"", head.partition(b"\n")[0])
        time = default_time or (known or {}).get(segment) or stat.st_mtime_ns // 1000
        whole = Split(str(path), kind, 0, None, segment, origin, time, stat.st_size, _expected(path, kind, stat.st_size))
        if kind != "text" or stat.st_size <= limits.split_bytes:
            splits.append(whole)
            continue
        for start in range(0, stat.st_size, limits.split_bytes):
            end = min(start + limits.split_bytes, stat.st_size)
            splits.append(replace(whole, start=start, end=end, size=end - start, expected=end - start))
    return splits


def grown(path: Path, default_time: int | None = None) -> Split | None:
    """A plain file as far as its lines are finished; None if none is, or if it is an archive.

    Undated records get ``default_time``, else the time when the file was last written to.

    Raises:
        SourceError: it cannot be opened.
    """
    try:
        if _kind(path) != "text":
            return None
        stat = path.stat()
        end = _last_line_end(path, stat.st_size)
        head = _text_head(path, "text")[:end]
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {_why(error)}") from error
    if not head:
        return None
    origin = _digest(b"origin", b"", head.partition(b"\n")[0])
    time = default_time or stat.st_mtime_ns // 1000
    return Split(str(path), "text", 0, end, _digest(b"segment", b"", head), origin, time, end, end)


def _last_line_end(path: Path, size: int) -> int:
    """Position after the last line break among the first ``size`` bytes."""
    with path.open("rb") as file:
        while size > 0:
            start = max(0, size - _HEAD)
            file.seek(start)
            found = file.read(size - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            size = start
    return 0


def read(split: Split, limits: FileLimits) -> Iterator[RawBatch]:
    """Batches of one split in order; the last one carries the ``SegmentEnd``.

    Raises:
        SourceError: the file vanished or can no longer be read.
    """
    try:
        if split.kind == "parquet":
            yield from _read_parquet(split, limits)
        else:
            yield from _read_text(split, limits)
    except (OSError, pa.ArrowException) as error:
        raise SourceError(f"{split.path}: cannot be read: {_why(error)}") from error


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
            chosen = RawBatch(raw.source, raw.segment, raw.origin, raw.default_time)
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


def began_as(split: Split, segment: bytes, size: int) -> bool:
    """Whether the file of ``split`` is one that has grown since it was read whole as ``segment``, ``size`` bytes long.

    A file of less than 64 KiB has another fingerprint with each line that is added.
    """
    if split.kind == "parquet" or not 0 < size <= _HEAD:
        return False
    try:
        head = _text_head(Path(split.path), split.kind)
    except OSError:
        return False
    return len(head) > size and _digest(b"segment", b"", head[:size]) == segment


def _why(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error).splitlines()[0]


def _digest(*parts: bytes) -> bytes:
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        magic = file.read(4)
    if magic[:2] == b"\x1f\x8b":
        return "gzip"
    if magic == b"\x28\xb5\x2f\xfd":
        return "zstd"
    return "parquet" if magic == b"PAR1" else "text"


def _expected(path: Path, kind: str, size: int) -> int:
    """Decompressed size, as far as the file tells: gzip ends with it (modulo 4 GiB), zstd may begin with it."""
    if kind == "gzip":
        with path.open("rb") as file:
            file.seek(max(0, size - 4))
            return max(int.from_bytes(file.read(4), "little"), size)
    if kind == "zstd":
        with path.open("rb") as file:
            return zstd.get_frame_info(file.read(32)).decompressed_size or 4 * size
    if kind == "parquet":
        with pq.ParquetFile(path) as table:
            groups = range(table.metadata.num_row_groups)
            return sum(table.metadata.row_group(n).total_byte_size for n in groups)
    return size


_BROKEN: Final = (EOFError, gzip.BadGzipFile, zlib.error, zstd.ZstdError)


def _open(path: str | Path, kind: str) -> IO[bytes]:
    if kind == "gzip":
        return cast("IO[bytes]", gzip.open(path, "rb"))
    if kind == "zstd":
        return cast("IO[bytes]", zstd.open(path, "rb"))
    return open(path, "rb", buffering=0)


def _text_head(path: Path, kind: str) -> bytes:
    head = b""
    with _open(path, kind) as file:
        try:
            while len(head) < _HEAD and (block := _some(file, _HEAD - len(head))):
                head += block
        except _BROKEN:
            pass  # the reader reports it, at its position
    return head


def _some(file: IO[bytes], size: int) -> bytes:
    """At most ``size`` bytes, as soon as there are any: ``read`` would drop what precedes a break in an archive."""
    data: bytes = file.read1(size) if hasattr(file, "read1") else file.read(size)
    return data


def _blocks(split: Split, limits: FileLimits, file: IO[bytes]) -> Iterator[bytes | DeadLetter]:
    """Decompressed blocks; last, if the archive is broken or a bomb, the dead letter that says so."""
    total = 0
    while True:
        try:
            block = _some(file, _BLOCK)
        except _BROKEN as error:
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


class _Batcher:
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

    def take(self, lines: Sequence[bytes], positions: Sequence[int]) -> Iterator[RawBatch]:
        """Add whole records, yielding each batch that fills."""
        for line, position in zip(lines, positions, strict=True):
            batch = self._batch
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


def _read_text(split: Split, limits: FileLimits) -> Iterator[RawBatch]:
    batcher = _Batcher(split, limits)
    with _open(split.path, split.kind) as file:
        position = split.start
        if split.start:
            position += _skip_partial_line(file, split.start)
        lines = _Lines(limits.max_record_bytes, position, split.end)
        for block in _blocks(split, limits, file) if split.end is None or position < split.end else ():
            if isinstance(block, DeadLetter):
                lines.broken(block)
                break
            yield from lines.feed(block, batcher)
            if lines.done:
                break
        yield from lines.close(batcher)
    yield batcher.finish(split.row, split.end if split.end is not None else max(lines.position, split.start))


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


class _Lines:
    """Cuts blocks into lines; a line longer than the limit is hashed and measured, not kept."""

    def __init__(self, max_bytes: int, position: int, end: int | None) -> None:
        self.position = position  # where the unfinished line begins
        self.done = False
        self._max = max_bytes
        self._end = end
        self._carry = b""
        self._long: _LongLine | None = None
        self._break: DeadLetter | None = None

    def feed(self, block: bytes, batcher: _Batcher) -> Iterator[RawBatch]:
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

    def _with_long_lines(self, lines: list[bytes], starts: list[int], batcher: _Batcher) -> Iterator[RawBatch]:
        for line, start in zip(lines, starts, strict=True):
            if len(line) > self._max:
                batcher.reject(too_large(line, start, self._max), len(line) + 1)
            else:
                yield from batcher.take([line], [start])

    def _finish_long(self, batcher: _Batcher, newline: int) -> None:
        assert self._long is not None
        batcher.reject(self._long.letter(self.position, self._max), self._long.size + newline)
        self.position += self._long.size + newline
        self._long = None
        if self._end is not None and self.position >= self._end:
            self.done = True

    def broken(self, letter: DeadLetter) -> None:
        """The archive ends here: what was begun is no whole record."""
        self._break = letter

    def close(self, batcher: _Batcher) -> Iterator[RawBatch]:
        if self._break is not None:
            size = self._long.size if self._long else len(self._carry)
            tail = _LongLine(self._carry) if self._long is None else self._long
            letter = self._break._replace(position=self.position, size=size, record_hash=tail.hash())
            batcher.reject(letter, size)
            self.position += size
        elif self._long is not None:
            self._finish_long(batcher, newline=0)
        elif self._carry and not self.done:
            yield from batcher.take([self._carry], [self.position])
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
        error = f"{self.size} bytes, the limit is {limit}"
        return DeadLetter(position, 0, "record_too_large", error, "", self.size, self.hash())


def too_large(record: bytes, position: int, limit: int) -> DeadLetter:
    """The dead letter of a whole record that is longer than ``limit`` bytes."""
    return _LongLine(record).letter(position, limit)


def _value_column(schema: pa.Schema) -> str | None:
    """The column that holds whole records, or None if the rows themselves are the records."""
    plain = [
        f.name
        for f in schema
        if pa.types.is_string(f.type)
        or pa.types.is_binary(f.type)
        or pa.types.is_large_string(f.type)
        or pa.types.is_large_binary(f.type)
    ]
    if len(schema) == 1 and plain:
        return str(plain[0])
    return next((name for name in _VALUE_COLUMNS if name in plain), None)


def _parquet_records(batch: pa.RecordBatch, column: str | None) -> list[bytes]:
    if column is not None:
        return [_as_bytes(value) for value in batch.column(column).to_pylist()]
    return [orjson.dumps(row, default=str) for row in batch.to_pylist()]


def _as_bytes(value: object) -> bytes:
    if value is None:
        return b""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def _parquet_head(path: Path) -> bytes:
    with pq.ParquetFile(path) as file:
        column = _value_column(file.schema_arrow)
        for batch in file.iter_batches(batch_size=64):
            return b"\n".join(_parquet_records(batch, column))[:_HEAD]
    return b""


def _read_parquet(split: Split, limits: FileLimits) -> Iterator[RawBatch]:
    batcher = _Batcher(split, limits)
    row = 0
    with pq.ParquetFile(split.path) as file:
        column = _value_column(file.schema_arrow)
        for batch in file.iter_batches(batch_size=min(limits.batch_records, 256)):
            for record in _parquet_records(batch, column):
                if len(record) > limits.max_record_bytes:
                    batcher.reject(too_large(record, row, limits.max_record_bytes), len(record))
                else:
                    yield from batcher.take([record], [row])
                row += 1
    yield batcher.finish(0, row)
