"""The elements that flow: a batch of raw records, and a batch of priced rows.

A source emits ``RawBatch``; decoding, counting and pricing turn it, by way of a ``CallBatch`` that never leaves their step,
into ``RowBatch``, whose members are Arrow record batches with the schemas of ``schemas.tables``. Each batch belongs to one
segment, so a batch alone says where every one of its items came from.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, NamedTuple

import pyarrow as pa

from schemas.call import Call
from schemas.part import Part
from schemas.tables import PARTS


def pubsub_id(number: str) -> str:
    """What identifies a message of Pub/Sub, by its ``messageId``, whatever way it comes."""
    return f"pubsub:{number}"


class DeadLetter(NamedTuple):
    """An item that could not become a call, and why.

    ``position`` and ``item``: see ``RawBatch.positions`` and ``Call.item``. ``reason`` is a code of
    ``schemas.reasons``; ``error`` is one line that carries the offending value; ``payload`` is set only where the
    operator asked to keep payloads, scrubbed of keys.
    """

    position: int
    item: int
    reason: str
    error: str
    format_guess: str
    size: int
    record_hash: int
    payload: str | None = None


class Ignored(NamedTuple):
    """An item that is rightly not a call (a health check, a roll-up span), and why."""

    position: int
    item: int
    reason: str
    record_hash: int


class SegmentEnd(NamedTuple):
    """What a source read between two positions of a segment, counted by the source and not by what came after it."""

    start: int
    end: int
    records: int
    bytes: int


@dataclass(slots=True)
class PartRead:
    """An item that is a part of a call: ``key`` is that of the call, which is no other's. Times are UTC microseconds.

    ``time`` is when its transport had it; until ``deadline``, by the clock, the rest of the call is waited for.
    """

    part: Part
    tenant: str
    key: bytes
    position: int
    item: int
    record_hash: int
    time: int
    deadline: int = 0


@dataclass(slots=True)
class RawBatch:
    """Records as bytes, with their positions in one segment of one source.

    ``segment`` is the transport identity of the segment (16 bytes): for a file its content fingerprint, which survives
    rename, copy and compression. ``origin`` (16 bytes) identifies where undated records without an id come from.
    ``positions`` are decompressed byte offsets (files) or offsets (topics). ``default_time`` is the event time of
    records that carry none, in UTC microseconds. ``rejects`` are records the source refused to hand on (too long,
    cut by a broken archive); they are items of the ledger like any other. ``end`` closes the segment's range.

    A transport that keeps a time for each record gives them as ``times`` (UTC microseconds), with the smallest as
    ``default_time``; one that says things beside a record, as Kafka does, gives these as ``headers``; one that may deliver a
    record again at another position gives what identifies it as ``ids``. Else these are empty. ``read_at`` is the clock's time
    (UTC microseconds) when a source read it whose watermark follows the clock; 0: the watermark follows ``default_time``.
    ``unfinished`` is the position of a record whose end may still come and that is then read again, as the last line of a file
    that grows; -1: there is none.
    """

    source: str
    segment: bytes
    origin: bytes
    default_time: int
    records: list[bytes] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    rejects: list[DeadLetter] = field(default_factory=list)
    bytes_read: int = 0
    end: SegmentEnd | None = None
    times: list[int] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    read_at: int = 0
    unfinished: int = -1


@dataclass(slots=True)
class CallBatch:
    """What a ``RawBatch`` held: calls (with ``content`` until counted), parts of calls, dead letters and ignored items."""

    source: str
    segment: bytes
    origin: bytes
    default_time: int
    calls: list[Call] = field(default_factory=list)
    record_hashes: list[int] = field(default_factory=list)  # one for each call
    dead: list[DeadLetter] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)
    records: int = 0
    bytes_read: int = 0
    end: SegmentEnd | None = None
    times: list[int] = field(default_factory=list)  # one for each call, where the transport keeps them
    read_at: int = 0
    parts: list[PartRead] = field(default_factory=list)


NO_PARTS: Final = pa.RecordBatch.from_pylist([], PARTS.arrow)


@dataclass(slots=True)
class RowBatch:
    """Rows ready to be written, and the minutes they touch (seconds since 1970, multiples of 60).

    ``oldest`` is the smallest event time and ``default_time`` the transport's time, both UTC microseconds; ``read_at``: see
    ``RawBatch``.
    ``records`` and ``bytes_read`` are of the source, ``ignored`` counts items, ``cost_pico`` is what the calls cost
    together, in pico-dollars: for progress only.
    """

    calls: pa.RecordBatch
    receipts: pa.RecordBatch
    dead_letters: pa.RecordBatch
    segments: pa.RecordBatch
    minutes: list[int]
    oldest: int
    default_time: int
    records: int = 0
    bytes_read: int = 0
    ignored: int = 0
    cost_pico: int = 0
    read_at: int = 0
    parts: pa.RecordBatch = field(default_factory=lambda: NO_PARTS)
