"""Which files there are, what they are by their content, and how they are cut into splits."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import IO, Final

import pyarrow as pa
from backports import zstd

from sources.files.archives import HEAD, kind_of, text_head
from sources.files.parquet import opened, parquet_head
from sources.files.splits import SUFFIXES, FileLimits, SourceError, Split, why

_BLOCK: Final = 1024 * 1024


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
            head = parquet_head(path) if kind == "parquet" else text_head(path, kind)
        except (OSError, pa.ArrowInvalid, zstd.ZstdError) as error:
            raise SourceError(f"{path}: cannot be read: {why(error)}") from error
        segment = digest(b"segment", kind.encode() if kind == "parquet" else b"", head)
        origin = origin_of(head)
        time = default_time or (known or {}).get(segment) or stat.st_mtime_ns // 1000
        whole = Split(str(path), kind, 0, None, segment, origin, time, stat.st_size, _expected(path, kind, stat.st_size))
        splits += parts(whole, limits)
    return splits


def parts(whole: Split, limits: FileLimits) -> list[Split]:
    """A plain file cut at ``split_bytes``; anything else as it is."""
    if whole.kind != "text" or whole.size <= limits.split_bytes:
        return [whole]
    starts = range(0, whole.size, limits.split_bytes)
    ends = [min(start + limits.split_bytes, whole.size) for start in starts]
    return [
        replace(whole, start=start, end=end, size=end - start, expected=end - start)
        for start, end in zip(starts, ends, strict=True)
    ]


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
        head = text_head(path, "text")[:end]
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {why(error)}") from error
    if not head:
        return None
    origin = origin_of(head)
    time = default_time or stat.st_mtime_ns // 1000
    return Split(str(path), "text", 0, end, digest(b"segment", b"", head), origin, time, end, end)


def _last_line_end(path: Path, size: int) -> int:
    """Position after the last line break among the first ``size`` bytes."""
    with path.open("rb") as file:
        while size > 0:
            start = max(0, size - HEAD)
            file.seek(start)
            found = file.read(size - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            size = start
    return 0


def began_as(split: Split, segment: bytes, size: int) -> bool:
    """Whether the file of ``split`` is one that has grown since it was read whole as ``segment``, ``size`` bytes long.

    A file of less than 64 KiB has another fingerprint with each line that is added.
    """
    if split.kind == "parquet" or split.version or not 0 < size <= HEAD:
        return False
    try:
        head = text_head(Path(split.path), split.kind)
    except OSError:
        return False
    return len(head) > size and digest(b"segment", b"", head[:size]) == segment


def origin_of(head: bytes) -> bytes:
    """What identifies where undated records without an id come from: the first record of a file that begins like this."""
    return digest(b"origin", b"", head.partition(b"\n")[0])


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        return kind_of(file.read(4))


def digest(*parts: bytes) -> bytes:
    """16 bytes that stand for these."""
    return hashlib.blake2b(b"\0".join(parts), digest_size=16).digest()


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
        with opened(path) as table:
            groups = range(table.metadata.num_row_groups)
            return sum(table.metadata.row_group(n).total_byte_size for n in groups)
    return size
