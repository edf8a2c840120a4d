"""What a client sent, made plain: the statement, the data that follow it, settings, parameters and who asks."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import lz4.frame
from backports import zstd

from sinks.front.errors import (
    AUTHENTICATION_FAILED,
    BAD_ARGUMENTS,
    CANNOT_DECOMPRESS,
    NOT_IMPLEMENTED,
    QUERY_IS_TOO_LARGE,
    SYNTAX_ERROR,
    Refused,
)
from sinks.front.limits import MAX_QUERY_BYTES, TRANSPORT

_PIECE: Final = 1 << 20


@dataclass(frozen=True)
class Request:
    """One statement as a client asks for it. ``settings`` are those of the URL, not checked yet.

    ``input_format`` is set where data follow an INSERT; ``sql`` is then the statement without its FORMAT or VALUES.
    """

    sql: str
    input_format: str = ""
    data: bytes = field(default=b"", repr=False)
    database: str = ""
    default_format: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    query_id: str = ""
    protocol: int = 0
    compress: bool = False
    read_only: bool = False


def credentials(headers: Mapping[str, str], arguments: Mapping[str, str]) -> tuple[str, str]:
    """User and password: HTTP Basic, or ``X-ClickHouse-User`` and ``X-ClickHouse-Key``. Without any: no user.

    Raises:
        Refused: a header cannot be read, or a password is in the URL, which proxies write into logs.
    """
    if "password" in arguments:
        raise Refused(AUTHENTICATION_FAILED, "a password does not belong into the URL; use HTTP Basic")
    if "X-ClickHouse-User" in headers:
        return headers["X-ClickHouse-User"], headers.get("X-ClickHouse-Key", "")
    scheme, _, encoded = headers.get("Authorization", "").partition(" ")
    if not scheme:
        return arguments.get("user", ""), ""
    if scheme.lower() != "basic":
        raise Refused(AUTHENTICATION_FAILED, "only HTTP Basic authentication is available here")
    try:
        name, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise Refused(AUTHENTICATION_FAILED, "the Authorization header cannot be read") from None
    return name, password


def request_of(
    method: str, arguments: Mapping[str, str], headers: Mapping[str, str], body: bytes, form: Mapping[str, str]
) -> Request:
    """Put a request together. ``body`` is decompressed; ``form`` are the fields of a multipart body.

    Raises:
        Refused: no statement, one that is no text, or a parameter that is not available.
    """
    given = {**arguments, **form}
    if given.get("compress") == "1" or given.get("decompress") == "1":
        raise Refused(NOT_IMPLEMENTED, "ClickHouse's own compression is not available here; use Content-Encoding")
    if any(name.endswith(("_format", "_types", "_structure")) and name[:-7].startswith("_ext") for name in given):
        raise Refused(NOT_IMPLEMENTED, "external tables are not available here")
    sql, input_format, data = _statement(given.get("query", "").encode("utf-8", "surrogateescape"), body)
    return Request(
        sql=sql,
        input_format=input_format,
        data=data,
        database=given.get("database") or headers.get("X-ClickHouse-Database", ""),
        default_format=given.get("default_format") or headers.get("X-ClickHouse-Format", ""),
        settings={k: v for k, v in given.items() if k not in TRANSPORT and not k.startswith("param_")},
        parameters={k.removeprefix("param_"): v for k, v in given.items() if k.startswith("param_")},
        query_id=given.get("query_id", ""),
        protocol=_whole(given.get("client_protocol_version", "0"), "client_protocol_version"),
        compress=given.get("enable_http_compression", "0") in ("1", "true"),
        read_only=method != "POST",
    )


def _whole(text: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Refused(BAD_ARGUMENTS, f"{name} must be a whole number")
    return int(text)


def _statement(query: bytes, body: bytes) -> tuple[str, str, bytes]:
    """The statement, and format and data of an INSERT; these follow it in one body or are a body of their own."""
    text = query + b"\n" + body if query and body else query or body
    if not text.strip(b" \t\r\n;"):
        raise Refused(SYNTAX_ERROR, "Syntax error: Empty query")
    cut = insert_cut(text)
    statement = text if cut is None else text[: cut[0]]
    if len(statement) > MAX_QUERY_BYTES:
        raise Refused(SYNTAX_ERROR, f"Max query size exceeded: a statement has at most {MAX_QUERY_BYTES} bytes")
    try:
        sql = statement.decode()
    except UnicodeDecodeError:
        raise Refused(BAD_ARGUMENTS, "the statement is not UTF-8") from None
    return (sql, "", b"") if cut is None else (sql, cut[1], text[cut[2] :])


_SKIPPED: Final = rb"\s+|--[^\n]*|\#[ !][^\n]*|/\*.*?\*/"
_TOKEN: Final = re.compile(
    rb"(?P<skipped>" + _SKIPPED + rb")"
    rb"|(?P<quoted>'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\"|`(?:[^`\\]|\\.)*`)"
    rb"|(?P<word>[A-Za-z_][A-Za-z0-9_]*)"
    rb"|(?P<other>.)",
    re.DOTALL,
)


def insert_cut(text: bytes) -> tuple[int, str, int] | None:
    """Where the statement of an INSERT ends, the format of its data and where these begin; None if it is anything else.

    It only finds where to cut: what is before the cut goes through the engine's parser like any statement, and what is
    behind it is never taken for SQL.
    """
    depth, words, at, format_at = 0, 0, 0, 0
    previous = b""
    while at < len(text) and (token := _TOKEN.match(text, at)) is not None:
        start, at = at, token.end()
        if token["other"] in (b"(", b")"):
            depth += 1 if token["other"] == b"(" else -1
        if not token["word"]:
            continue
        word = token["word"].upper()
        words += 1
        if words == 1 and word != b"INSERT":
            return None
        if depth == 0 and words > 2:
            if word in (b"SELECT", b"WITH", b"FROM"):
                return None
            if word == b"VALUES":
                return start, "Values", at
            if previous == b"FORMAT":
                # One line end, or one blank, parts the name of the format from the data.
                gap = re.compile(rb"[ \t]*\r?\n|[ \t;]*$|[ ]|").match(text, at)
                return format_at, token["word"].decode(), gap.end() if gap else at
        format_at = start
        previous = word
    return None


def decompressed(pieces: Iterable[bytes], encoding: str, most: int) -> bytes:
    """A body, undone of its ``Content-Encoding``, as far as ``most`` bytes.

    Raises:
        Refused: unknown encoding, broken, cut off, or larger than that.
    """
    if encoding not in ("", "identity", *_DECODERS):
        raise Refused(NOT_IMPLEMENTED, f"Content-Encoding {encoding[:32]} is not available here; use gzip, zstd or lz4")
    decode = _Frames(_DECODERS[encoding]) if encoding in _DECODERS else None
    whole = bytearray()
    try:
        for piece in pieces:
            rest = piece
            while rest or (decode is not None and decode.pending):
                if decode is None:
                    part, rest = rest, b""
                else:
                    part, rest = decode.feed(rest), b""
                if len(whole) + len(part) > most:
                    raise Refused(QUERY_IS_TOO_LARGE, f"the body has more than {most} bytes")
                whole += part
        if decode is not None and whole and not decode.finished:
            raise Refused(CANNOT_DECOMPRESS, f"the {encoding} body is cut off")
    except (zlib.error, RuntimeError, zstd.ZstdError, EOFError) as error:
        raise Refused(CANNOT_DECOMPRESS, f"the {encoding} body is broken: {error}") from None
    return bytes(whole)


class _Inflate:
    """zlib's decompressor with the interface that those of LZ4 and Zstandard have."""

    def __init__(self, window: int) -> None:
        self._inner = zlib.decompressobj(window)
        self._full = False

    def decompress(self, data: bytes, most: int) -> bytes:
        made = self._inner.decompress(self._inner.unconsumed_tail + data, most)
        self._full = len(made) == most
        return made

    @property
    def needs_input(self) -> bool:
        return not (self._full or self._inner.unconsumed_tail)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data


class _Frames:
    """Decompress frames, or members, one after another, in pieces of at most ``_PIECE`` bytes: a bomb is noticed early."""

    def __init__(self, new: Callable[[], Any]) -> None:
        self._new, self._inner = new, new()

    def feed(self, data: bytes) -> bytes:
        if self._inner.eof:
            data = self._inner.unused_data + data
            self._inner = self._new()
        made: bytes = self._inner.decompress(data, _PIECE)
        return made

    @property
    def pending(self) -> bool:
        """There is output left that needs no more input."""
        return bool(self._inner.unused_data) if self._inner.eof else not self._inner.needs_input

    @property
    def finished(self) -> bool:
        return bool(self._inner.eof) and not self._inner.unused_data


_DECODERS: Final[Mapping[str, Callable[[], Any]]] = {
    "gzip": lambda: _Inflate(16 + zlib.MAX_WBITS),
    "deflate": lambda: _Inflate(zlib.MAX_WBITS),
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
}
