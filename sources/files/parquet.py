"""Records of Parquet files: a column of whole records, or the rows themselves."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from sources.files.archives import HEAD

_VALUE_COLUMNS: Final = ("value", "record", "body", "message", "payload", "line", "json")


def opened(file: str | Path | IO[bytes]) -> pq.ParquetFile:
    """A Parquet file that is read row group by row group: Arrow's pre-buffering would hold all of them at once."""
    return pq.ParquetFile(file, pre_buffer=False)


def value_column(schema: pa.Schema) -> str | None:
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


def records_of(batch: pa.RecordBatch, column: str | None) -> list[bytes]:
    """The records of a batch of rows."""
    if column is not None:
        return [_as_bytes(value) for value in batch.column(column).to_pylist()]
    return [orjson.dumps(row, default=str) for row in batch.to_pylist()]


def _as_bytes(value: object) -> bytes:
    if value is None:
        return b""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def parquet_head(file: Path | IO[bytes]) -> bytes:
    """The first 64 KiB of the first records."""
    with opened(file) as table:
        column = value_column(table.schema_arrow)
        for batch in table.iter_batches(batch_size=64):
            return b"\n".join(records_of(batch, column))[:HEAD]
    return b""
