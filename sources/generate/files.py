"""Traffic as files: one for each hour of the log, and the truth beside them."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from backports import zstd

from sources.generate.records import Record
from sources.generate.settings import HOUR, GenerateSettings, SettingsError, moment
from sources.generate.traffic import generate
from sources.generate.truth import Truth

TRUTH_FILE: Final = "truth.json"

_BLOCK: Final = 256 * 1024
_ROW_GROUP: Final = 8 * 1024 * 1024


def write(settings: GenerateSettings, folder: Path, progress: Callable[[int], None] | None = None) -> dict[str, Any]:
    """Write ``calls-YYYYMMDD-HH.<format>`` for each hour of the log, and ``truth.json``; return the truth.

    Hours are those in which a line is written (UTC), so a late record stands in a later file. What is written after
    the span stands in its last hour. ``progress`` is told the number of records every now and then.

    Raises:
        SettingsError: the folder already holds traffic, or a setting cannot be.
    """
    if (folder / TRUTH_FILE).exists() or any(folder.glob("calls-*")):
        raise SettingsError(f"folder {folder}: already holds generated traffic")
    folder.mkdir(parents=True, exist_ok=True)
    truth = Truth(settings)
    last = (settings.begin + settings.span - 1) // HOUR
    files: list[dict[str, Any]] = []
    hour, writer = -1, None
    total = 0
    try:
        for record in generate(settings):
            due = min(max(hour, record.written // HOUR), last)
            if writer is None or due != hour:
                if writer is not None:
                    files.append(writer.close())
                hour = due
                writer = _Hour(folder, hour, settings.file_format)
            writer.add(record)
            truth.add(record)
            total += 1
            if progress is not None and total % 10_000 == 0:
                progress(total)
    finally:
        if writer is not None:
            files.append(writer.close())
    document = truth.document(files)
    (folder / TRUTH_FILE).write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    return document


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def _compressor(file_format: str) -> _Compressor:
    if file_format == "jsonl.gz":
        return zlib.compressobj(1, zlib.DEFLATED, 31)
    return zstd.ZstdCompressor(level=1) if file_format == "jsonl.zst" else _Plain()


class _Hour:
    """The file of one hour."""

    def __init__(self, folder: Path, hour: int, file_format: str) -> None:
        self._hour = hour
        self._path = folder / f"calls-{moment(hour * HOUR):%Y%m%d-%H}.{file_format}"
        self._held: list[bytes] = []
        self._size = 0
        self._records = 0
        self._raw = 0
        self._parquet: Any = None
        self._out: BinaryIO | None = None
        if file_format == "parquet":
            self._parquet = pq.ParquetWriter(self._path, _SCHEMA, compression="zstd", compression_level=1)
        else:
            self._out = self._path.open("wb")
            # Level 1: logs repeat themselves, and time is better spent on making them.
            self._compressor = _compressor(file_format)

    def add(self, record: Record) -> None:
        self._held.append(record.value)
        self._size += len(record.value) + 1
        self._records += 1
        if self._size >= (_BLOCK if self._parquet is None else _ROW_GROUP):
            self._write()

    def close(self) -> dict[str, Any]:
        """Finish the file: its name, records and bytes without compression (of JSON lines, as if it were such)."""
        self._write()
        if self._out is None:
            self._parquet.close()
        else:
            with self._out:
                self._out.write(self._compressor.flush())
        ended = (self._hour + 1) * HOUR / 1e6
        os.utime(self._path, (ended, ended))  # a log was last written when its hour ended
        return {"name": self._path.name, "records": self._records, "bytes": self._raw}

    def _write(self) -> None:
        if not self._held:
            return
        if self._out is None:
            self._parquet.write_batch(pa.record_batch([pa.array(self._held, pa.binary())], schema=_SCHEMA))
        else:
            self._out.write(self._compressor.compress(b"\n".join([*self._held, b""])))
        self._raw += self._size
        self._held, self._size = [], 0


_SCHEMA: Final = pa.schema([pa.field("value", pa.binary(), nullable=False)])
