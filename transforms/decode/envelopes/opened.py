"""What an envelope held, and how its contents are unpacked."""

from __future__ import annotations

import base64
import binascii
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final, NamedTuple

import orjson
from backports import zstd

from schemas.part import Part
from transforms.decode import otlp_wire
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.values import dumps_sorted, plausible, timestamp

MAX_ENVELOPES: Final = 4
"""Envelopes within envelopes that are opened: a log entry in a message is two."""

MAX_INFLATED: Final = 64 << 20
"""Bytes that all compressed contents of one record may grow to together."""

MAX_PACKED: Final = 4
"""Layers of base64, gzip and zstd that are taken off what one envelope holds."""

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_UTF8_MARK: Final = b"\xef\xbb\xbf"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff", b"{\0", b"[\0", b"\0{", b"\0[")
_PADDING: Final = b"\0 \t\r\n"
_NO_NUMBER: Final = re.compile(r"NaN|-?Infinity")
_BASE64: Final = (b"ey", b"ew", b"W", b"H4sI", b"KLUv")
"""How base64 begins of an object, an array, gzip and zstd."""


class Budget:
    """How much one record may still grow: however many envelopes it holds, they share ``MAX_INFLATED`` bytes."""

    left = MAX_INFLATED  # of the class until something is decompressed: every record has a budget, few spend it

    def inflate(self, data: bytes) -> bytes:
        """Gzip or zstd, decompressed; else ``Undecodable`` is raised."""
        kind = "gzip" if data[:2] == _GZIP else "zstd"
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(data)) if kind == "gzip" else zstd.ZstdFile(io.BytesIO(data)) as file:
                found: bytes = file.read(self.left + 1)
        except (OSError, EOFError, zlib.error, zstd.ZstdError) as error:
            raise Undecodable("corrupt_record", f"{kind} of {len(data)} bytes cannot be decompressed: {error}") from None
        if len(found) > self.left:
            raise Undecodable("record_too_large", f"{kind} of {len(data)} bytes grows the record past {MAX_INFLATED}")
        self.left -= len(found)
        return found


class Around(NamedTuple):
    """What is written on the envelopes that a record is out of, ``depth`` of them, and the bytes it was inside."""

    data: bytes
    headers: dict[str, str]
    time: int
    id: str
    depth: int

    @property
    def hash(self) -> int:
        """63 bits, those of ``transforms.decode.batch.record_hash``."""
        return int.from_bytes(hashlib.sha256(self.data).digest()[:8], "big") >> 1


class Opened(NamedTuple):
    """What one envelope held: the record, parsed or as ``bytes``, and what is written on the envelope.

    ``headers`` by lower-case name. ``time`` in UTC microseconds, 0 for none. ``id`` is the same whenever and wherever the same
    record is delivered, and of no other record; empty for none.
    """

    inside: Any
    headers: dict[str, str]
    time: int
    id: str

    def within(self, outer: Around | None, budget: Budget) -> tuple[Any, Around]:
        """The record, parsed, and what is written on this envelope and on those around it: the innermost goes before.

        Raises:
            Undecodable: what it holds is not JSON.
            Skipped: it is empty.
        """
        if type(self.inside) is bytes:
            return parsed(self.inside, budget), self.around(outer, self.inside)
        data = dumps_sorted(self.inside)
        # a payload's keys have no order: each delivery is to be read alike
        return orjson.loads(data), self.around(outer, data)

    def around(self, outer: Around | None, data: bytes) -> Around:
        """What is written on this envelope and on those around it, of the record that is these bytes."""
        if outer is None:
            return Around(data, self.headers, self.time, self.id, 1)
        return Around(data, outer.headers | self.headers, self.time or outer.time, self.id or outer.id, outer.depth + 1)


Held = Opened | Part | Undecodable | Skipped
"""What is in an envelope; one that holds many may have some that cannot be opened, or are no record of anything."""


def parsed(data: bytes, budget: Budget) -> Any:
    """JSON, or a message of OTLP as what its JSON parses to; also in base64 and compressed with gzip or zstd, at most
    ``MAX_PACKED`` layers deep. A byte order mark is left out, and so are zero bytes around it, as rotated files are padded with.

    Raises:
        Undecodable: it is none; or it is too large when it is decompressed.
        Skipped: it is blank.
    """
    for _ in range(MAX_PACKED):
        if data[:2] == _GZIP or data[:4] == _ZSTD:
            data = budget.inflate(data)
        elif data.startswith(_BASE64):
            try:
                data = base64.b64decode(data.strip(), validate=True)
            except binascii.Error:
                break
        else:
            break
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if data[:1] == otlp_wire.FIRST_BYTE and (found := otlp_wire.read_message(data)) is not None:
            return found
        bare = data.removeprefix(_UTF8_MARK).strip(_PADDING)
        if not bare:
            raise Skipped("blank") from None
        if bare[:1] in (b"{", b"[") and bare != data.strip():
            with suppress(orjson.JSONDecodeError):
                return orjson.loads(bare)
        raise Undecodable("not_json", _why(data, error)) from None


def _why(data: bytes, error: orjson.JSONDecodeError) -> str:
    """Why these bytes are no JSON, for a person who may mend what writes them."""
    if data.startswith(_UTF16):
        return "it looks like UTF-16; JSON is UTF-8 (iconv -f UTF-16 -t UTF-8)"
    try:
        data.decode()
    except UnicodeDecodeError as wrong:
        return f"not UTF-8: byte 0x{data[wrong.start]:02x} at {wrong.start:,}"
    found = _NO_NUMBER.match(error.doc, error.pos)
    return f"{found[0]} at {error.pos:,} is no number in JSON; null is what is not known" if found else str(error)


def packed_text(text: str, budget: Budget) -> Any:
    """What a string holds that is base64 of JSON, perhaps compressed; the string itself where it is not."""
    data = text.strip().encode()
    if not data.startswith(_BASE64):
        return text
    try:
        return parsed(data, budget)
    except (Undecodable, Skipped) as problem:
        if problem.reason == "not_json":
            return text
        raise


def decoded(text: Any, what: str, kind: str) -> bytes:
    """The bytes that base64 stands for; an absent value is no bytes.

    Raises:
        Undecodable: ``what`` is not base64; ``kind`` is what it looked like.
    """
    try:
        return base64.b64decode(text or b"", validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise Undecodable("corrupt_record", f"{what} is not base64: {error}", kind) from None


def moment(value: object) -> int:
    """A time that a transport wrote, in UTC microseconds; 0 where it is none, or none that can be."""
    found = timestamp(value)
    return found[0] if found is not None and plausible(found[0]) else 0


def labels(given: Any) -> dict[str, str]:
    """What stands beside a record, by lower-case name: plain values only."""
    if type(given) is not dict:
        return {}
    return {str(name).lower(): str(value) for name, value in given.items() if type(value) in (str, int, float, bool)}


def attributes(given: Any, *keys: str) -> dict[str, str]:
    """Message attributes of the form ``{name: {"Type": …, key: value}}``, of which the text is under one of ``keys``."""
    if not isinstance(given, Mapping):
        return {}
    said = {}
    for name, value in given.items():
        if isinstance(value, Mapping):
            text = next((value[key] for key in keys if isinstance(value.get(key), str)), None)
            if text is not None:
                said[str(name).lower()] = text
    return said
