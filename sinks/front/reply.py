"""How an answer looks on the wire: the handshake, headers, compression, an error in the midst of a result."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import lz4.frame
from backports import zstd

from sinks.front.request import Request

_HANDSHAKE: Final = re.compile(
    r"\s*SELECT\s+displayName\(\),\s*version\(\),\s*revision\(\),\s*timezone\(\)\s*;?\s*", re.IGNORECASE
)
_BLOCK_INFO: Final = 51_903
_CUSTOM_SERIALIZATION: Final = 54_454
"""Revisions of the native protocol from which a block has a head, and each column a flag byte."""


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self) -> bytes: ...


class _Lz4:
    """LZ4 frames; the frame is begun with the first bytes."""

    def __init__(self) -> None:
        self._inner = lz4.frame.LZ4FrameCompressor()
        self._begun = b""

    def compress(self, data: bytes) -> bytes:
        head = b"" if self._begun else self._begin()
        return head + bytes(self._inner.compress(data))

    def flush(self) -> bytes:
        head = b"" if self._begun else self._begin()
        return head + bytes(self._inner.flush())

    def _begin(self) -> bytes:
        self._begun = bytes(self._inner.begin())
        return self._begun


_COMPRESSORS: Final[Mapping[str, Callable[[], Compressor]]] = {
    "lz4": _Lz4,
    "zstd": lambda: zstd.ZstdCompressor(1),
    "gzip": lambda: zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS),
}


def encoding_for(accepted: str) -> str:
    """The first ``Content-Encoding`` a client accepts that we have; empty for none."""
    for offer in accepted.split(","):
        name, _, quality = offer.strip().partition(";")
        if name.strip().lower() in _COMPRESSORS and quality.replace(" ", "") not in ("q=0", "q=0.0"):
            return name.strip().lower()
    return ""


def compressor(encoding: str) -> Compressor:
    """A compressor for ``encoding_for``'s answer."""
    return _COMPRESSORS[encoding]()


def is_handshake(request: Request) -> bool:
    """The question with which clickhouse-go begins, whose answer it reads as its own revision of the protocol has it."""
    return request.protocol > 0 and request.default_format == "Native" and bool(_HANDSHAKE.fullmatch(request.sql))


def handshake(version: str, timezone: str, protocol: int) -> bytes:
    """The answer: we speak revision 0, so that every later block is plain Native, as the engine makes it."""
    columns: list[tuple[str, str, str | int]] = [
        ("displayName()", "String", "llm-finops"),
        ("version()", "String", version),
        ("revision()", "UInt32", 0),
        ("timezone()", "String", timezone),
    ]
    return native_row(columns, protocol)


def native_row(columns: Sequence[tuple[str, str, str | int]], protocol: int) -> bytes:
    """A Native block of one row, of String and UInt32 columns (name, type, value), for a client of revision ``protocol``."""
    block = b""
    if protocol >= _BLOCK_INFO:
        # Field 1, is_overflows: no; field 2, bucket_num: none; end of fields.
        block += b"\x01\x00\x02" + struct.pack("<i", -1) + b"\x00"
    block += _varint(len(columns)) + _varint(1)
    for name, kind, value in columns:
        block += _text(name) + _text(kind)
        if protocol >= _CUSTOM_SERIALIZATION:
            block += b"\x00"
        block += _text(value) if isinstance(value, str) else struct.pack("<I", value)
    return block


def _varint(number: int) -> bytes:
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def _text(text: str) -> bytes:
    encoded = text.encode()
    return _varint(len(encoded)) + encoded


def summary(counts: Mapping[str, int]) -> str:
    """``X-ClickHouse-Summary``: every number is a text, as ClickHouse writes them."""
    return json.dumps({name: str(count) for name, count in counts.items()}, separators=(",", ":"))


def broken_off(text: str, tag: str) -> bytes:
    """What follows the bytes already sent of a result that cannot be finished, so that nobody takes it for whole."""
    body = text.encode("utf-8", "replace")
    return b"\r\n__exception__\r\n%s\r\n%s\n%d %s\r\n__exception__\r\n" % (tag.encode(), body, len(body) + 1, tag.encode())


CONTENT_TYPES: Final[Mapping[str, str]] = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8; header=absent",
    "CSVWithNames": "text/csv; charset=UTF-8; header=present",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "TSV": "text/tab-separated-values; charset=UTF-8",
    "Native": "application/octet-stream",
}


def headers_of(**known: Any) -> dict[str, str]:
    """``X-ClickHouse-…`` headers that have a value: ``query_id`` is ``X-ClickHouse-Query-Id``."""
    return {
        f"X-ClickHouse-{name.replace('_', '-').title()}": str(value) for name, value in known.items() if value not in ("", None)
    }
