"""A batch of raw records to a batch of calls."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat
from typing import Final

from schemas.batch import CallBatch, DeadLetter, Ignored, PartRead, RawBatch
from schemas.call import Call
from schemas.part import OBSERVED, OPEN_ENDED, Part
from transforms.decode.beside import read_beside
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.mapping import Mapping
from transforms.decode.named_tags import NamedTag, take_tags
from transforms.decode.record import decode_record
from transforms.decode.registry import Outcome, index_of
from transforms.decode.scrub import keep_headers, payload, scrub
from transforms.join import observed_key, overlaps, part_key

MAX_ERROR_CHARS = 500
MAX_PIECES: Final = OPEN_ENDED
"""Pieces of one record that are believed."""

_NONE: Final[dict[str, str]] = {}


@dataclass(frozen=True)
class JoinSettings:
    """How calls are joined that several records tell of.

    ``wait_s``: seconds that the rest of a call is waited for. ``overlap``: patterns of sources that see the same calls.
    ``max_bytes``: of a record that was cut into pieces, all of them together.
    """

    wait_s: int = 600
    overlap: tuple[str, ...] = ()
    max_bytes: int = 16 << 20


@dataclass(frozen=True)
class DecodeSettings:
    """``tenant`` of records that name none; whether dead letters keep the record, scrubbed of keys, and how much of it.

    ``max_payload`` is in characters. ``headers`` are the names (lower case) of HTTP headers that calls keep. ``tags`` are taken
    beside those that formats take by themselves. ``mappings`` are those of the configuration, which go before the formats that
    come along.
    """

    tenant: str = "default"
    keep_payloads: bool = False
    max_payload: int = 65_536
    headers: frozenset[str] = frozenset()
    tags: tuple[NamedTag, ...] = ()
    mappings: tuple[Mapping, ...] = ()
    join: JoinSettings = field(default_factory=JoinSettings)


def record_hash(data: bytes) -> int:
    """A 63-bit hash of a record's bytes. SHA-256: processors have instructions for it, which makes it the fastest here."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 1


def decode_batch(raw: RawBatch, settings: DecodeSettings) -> CallBatch:
    """Decode every record of a batch. Each becomes calls, parts of calls, a dead letter or an ignored item; none is lost.

    Outcomes of one record are numbered from 0. Records are decoded one at a time, so that each parsed tree is freed
    before the next is made: a batch of them alive at once costs four times as much in garbage collection.
    """
    batch = CallBatch(
        source=raw.source,
        segment=raw.segment,
        origin=raw.origin,
        default_time=raw.default_time,
        read_at=raw.read_at,
        dead=list(raw.rejects),
        records=len(raw.records) + len(raw.rejects),
        bytes_read=raw.bytes_read,
        end=raw.end,
    )
    with _collector_paused():
        _decode_records(raw, settings, batch)
    return batch


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Parsed JSON has no cycles: looking for them while it is read costs a fifth of the time and frees nothing."""
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


def _decode_records(raw: RawBatch, settings: DecodeSettings, batch: CallBatch) -> None:
    source, segment, tenant, wanted = raw.source, raw.segment, settings.tenant, settings.tags
    calls, hashes, times = batch.calls, batch.record_hashes, batch.times
    beside = raw.headers or repeat(_NONE)
    own, names = raw.times or repeat(0), raw.ids or repeat("")
    index, observed = index_of(settings.mappings), overlaps(source, settings.join.overlap)
    for data, position, headers, time, name in zip(raw.records, raw.positions, beside, own, names, strict=False):
        hashed = record_hash(data)
        told = None
        ended = position != raw.unfinished
        for item, outcome in enumerate(decode_record(data, tenant=tenant, beside=bool(wanted), index=index, ended=ended)):
            if observed and type(outcome) is Call and outcome.provider_call_id:
                outcome = Part(observed_key(outcome), OBSERVED, outcome, rank=outcome.authority, format=outcome.format)
            if type(outcome) is Call:
                outcome.source = source
                outcome.segment = segment
                outcome.position = position
                outcome.item = item
                if headers:
                    read_beside(outcome, headers)
                if name and not outcome.transport_id:
                    outcome.transport_id = name
                if wanted:
                    take_tags(outcome, wanted)
                if "headers" in outcome.__dict__:
                    keep_headers(outcome, settings.headers)
                calls.append(outcome)
                hashes.append(hashed)
                if time:
                    times.append(time)
            elif type(outcome) is Part and _refused(outcome, settings.join.max_bytes) is None:
                part = outcome.call
                if part is not None:
                    part.source, part.segment, part.position, part.item = source, segment, position, item
                    if headers:
                        read_beside(part, headers)
                    if wanted:
                        take_tags(part, wanted)
                    keep_headers(part, settings.headers)
                owner = part.tenant if part is not None else tenant
                at = (part.transport_time if part is not None else 0) or time or raw.default_time
                batch.parts.append(PartRead(outcome, owner, part_key(owner, outcome.key), position, item, hashed, at))
            else:
                told = _put_aside(batch, data, position, item, hashed, outcome, settings, told)


def _refused(part: Part, max_bytes: int) -> Undecodable | None:
    """Why a piece of a record cannot be one; None for other parts."""
    if len(part.data) > max_bytes:
        size = f"a piece of {len(part.data)} bytes, more than join.max_bytes allows for a whole record"
        return Undecodable("record_too_large", size, part.format)
    if (part.of or part.number or part.data) and not 0 <= part.number < part.of <= MAX_PIECES:
        return Undecodable("bad_value", f"piece {part.number} of {part.of}", part.format)
    return None


def _put_aside(
    batch: CallBatch,
    data: bytes,
    position: int,
    item: int,
    hashed: int,
    outcome: Outcome,
    settings: DecodeSettings,
    told: bytes | None,
) -> bytes | None:
    """Add what is no call. What was kept of the record by now is ``told``, and given back: many items of one keep it once."""
    if isinstance(outcome, Part):
        outcome = _refused(outcome, settings.join.max_bytes) or outcome
    if isinstance(outcome, Skipped):
        batch.ignored.append(Ignored(position, item, outcome.reason, hashed))
    elif isinstance(outcome, Undecodable):
        error = " ".join(scrub(outcome.error[: 4 * MAX_ERROR_CHARS]).split())[:MAX_ERROR_CHARS]
        kept, inside = None, outcome.inside or data
        if settings.keep_payloads and inside is not told:
            kept, told = payload(inside, settings.max_payload), inside
        batch.dead.append(DeadLetter(position, item, outcome.reason, error, outcome.format_guess, len(data), hashed, kept))
    return told
