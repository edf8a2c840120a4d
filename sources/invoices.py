"""Invoice files as rows: CSV (also gzip), Parquet, and the JSON pages of OpenAI's costs endpoint.

What a file is, its content says, not its name. CSV and Parquet are read as streams: memory does not grow with the file. Numbers
come out as they are written, never through a float: CSV as text, JSON and Parquet as Decimal.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sources.files.splits import SourceError

FOCUS: Final = "focus"
OPENAI: Final = "openai"
_NEEDED: Final = {FOCUS: {"billedcost", "chargeperiodstart"}, OPENAI: {"amountvalue", "starttime"}}
_JSON_LIMIT: Final = 1 << 28
"""Bytes of JSON that are read: pages are parsed whole, and a year of them is far below."""


class Row(NamedTuple):
    """``number``: its line in CSV, its number in Parquet and JSON. ``problem``: why it cannot be told which field is which."""

    number: int
    fields: Mapping[str, Any]
    problem: str = ""


class Rows(NamedTuple):
    """The rows of a file of this ``form``. Field names are lower-case without underscores."""

    form: str
    rows: Iterator[Row]


def field_name(column: str) -> str:
    """How a column is asked for: exports differ in case and underscores."""
    return column.strip().replace("_", "").lower()


def read_rows(path: Path) -> Rows:
    """The rows of an invoice file, read as they are asked for.

    Raises:
        SourceError: unreadable, or neither FOCUS nor costs of OpenAI; also in the middle, where a file breaks off.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
        if magic == b"PAR1":
            return _parquet(path)
        text = _text(path, packed=magic[:2] == b"\x1f\x8b")
        first = text.read(4096).lstrip()[:1]
        text.seek(0)
    except (OSError, EOFError) as error:
        raise SourceError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8: {error}") from None
    return Rows(OPENAI, _pages(path, text)) if first in ("{", "[") else _csv(path, text)


def _text(path: Path, packed: bool) -> IO[str]:
    how = gzip.open if packed else open
    return how(path, "rt", encoding="utf-8-sig", newline="")


def _form(path: Path, columns: list[str]) -> str:
    for form, needed in _NEEDED.items():
        if needed <= set(columns):
            twice = sorted({name for name in columns if columns.count(name) > 1 and name})
            if twice:
                raise SourceError(f"{path}: column {twice[0]} is there twice; remove one")
            return form
    raise SourceError(
        f"{path}: no invoice that can be read: FOCUS has columns BilledCost and ChargePeriodStart,"
        " costs of OpenAI amount_value and start_time"
    )


def _csv(path: Path, text: IO[str]) -> Rows:
    head = text.readline()
    delimiter = max(",;\t", key=head.count)
    columns = [field_name(name) for name in next(csv.reader([head], delimiter=delimiter), [])]
    form = _form(path, columns)
    text.seek(0)
    return Rows(form, _csv_rows(path, text, columns, delimiter))


def _csv_rows(path: Path, text: IO[str], columns: list[str], delimiter: str) -> Iterator[Row]:
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    line = 1
    try:
        with text:
            for cells in reader:
                start, line = line, reader.line_num + 1
                if not any(cells) or [field_name(cell) for cell in cells] == columns:
                    continue  # an empty line; the header, also again where files were put together
                if len(cells) != len(columns):
                    yield Row(start, {}, f"{len(cells)} cells, the header has {len(columns)}")
                else:
                    yield Row(start, dict(zip(columns, cells, strict=True)))
    except (csv.Error, OSError, EOFError) as error:
        raise SourceError(f"{path}, line {line}: {error}") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}, after line {line - 1}: not UTF-8: {error}") from None


def _parquet(path: Path) -> Rows:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path}: {str(error).splitlines()[0]}") from None
    columns = [field_name(name) for name in file.schema_arrow.names]
    return Rows(_form(path, columns), _parquet_rows(path, file, columns))


def _parquet_rows(path: Path, file: pq.ParquetFile, columns: list[str]) -> Iterator[Row]:
    number = 0
    try:
        with file:
            for batch in file.iter_batches(10_000):
                values = [column.to_pylist() for column in batch.columns]
                for cells in zip(*values, strict=True):
                    number += 1
                    yield Row(number, {name: _exact(cell) for name, cell in zip(columns, cells, strict=True)})
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{path}, after row {number}: {str(error).splitlines()[0]}") from None


def _exact(cell: Any) -> Any:
    return Decimal(repr(cell)) if isinstance(cell, float) else cell


def _pages(path: Path, text: IO[str]) -> Iterator[Row]:
    """One row for each result of each bucket; pages stand alone, in a list, one after the other, or one a line."""
    number = 0
    try:
        with text:
            said = text.read(_JSON_LIMIT + 1)
    except (OSError, EOFError) as error:
        raise SourceError(f"{path}: {error}") from None
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: not UTF-8: {error}") from None
    if len(said) > _JSON_LIMIT:
        raise SourceError(f"{path}: more than {_JSON_LIMIT >> 20} MB of JSON; cut it into several files")
    for page in _documents(path, said):
        buckets = page.get("data", [page]) if isinstance(page, dict) else None
        if not isinstance(buckets, list) or not all(isinstance(b, dict) and "start_time" in b for b in buckets):
            raise SourceError(f"{path}: JSON, but no page of /v1/organization/costs: it has no buckets with a start_time")
        for bucket in buckets:
            results = bucket.get("results", bucket.get("result"))
            for result in results if isinstance(results, list) else [results]:
                number += 1
                yield Row(number, _flat(bucket, result)) if isinstance(result, dict) else Row(number, {}, "results is no list")


def _documents(path: Path, said: str) -> Iterator[Any]:
    decoder = json.JSONDecoder(parse_float=Decimal, parse_int=Decimal)
    at = 0
    try:
        while at < len(said):
            if said[at].isspace() or said[at] == ",":
                at += 1
                continue
            value, at = decoder.raw_decode(said, at)
            yield from value if isinstance(value, list) else [value]
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path}: not valid JSON: {error}") from None


def _flat(bucket: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    amount = result.get("amount")
    amount = amount if isinstance(amount, dict) else {"value": amount}
    fields = {**{k: v for k, v in bucket.items() if k in ("start_time", "end_time")}, **result}
    fields |= {"amount_value": amount.get("value"), "amount_currency": amount.get("currency")}
    return {field_name(name): value for name, value in fields.items()}
