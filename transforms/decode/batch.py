"""A batch of raw records to a batch of calls."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from typing import Final

from schemas.batch import CallBatch, DeadLetter, Ignored, RawBatch
from schemas.call import Call
from schemas.part import Part
from transforms.decode.beside import read_beside
from transforms.decode.errors import Skipped, Undecodable
from transforms.decode.mapping import Mapping
from transforms.decode.named_tags import NamedTag, take_tags
from transforms.decode.registry import Outcome, decode_record, index_of
from transforms.decode.scrub import keep_headers, payload, scrub

MAX_ERROR_CHARS = 500
_NONE: Final[dict[str, str]] = {}


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


def record_hash(data: bytes) -> int:
    """A 63-bit hash of a record's bytes. SHA-256: processors have instructions for it, which makes it the fastest here."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big") >> 1


def decode_batch(raw: RawBatch, settings: DecodeSettings) -> CallBatch:
    """Decode every record of a batch. Each becomes calls, a dead letter or an ignored item; none is lost.

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
    index = index_of(settings.mappings)
    for data, position, headers, time, name in zip(raw.records, raw.positions, beside, own, names, strict=False):
        hashed = record_hash(data)
        for item, outcome in enumerate(decode_record(data, tenant=tenant, beside=bool(wanted), index=index)):
            if outcome.__class__ is Call:
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
            else:
                _put_aside(batch, data, position, item, hashed, outcome, settings)


def _put_aside(
    batch: CallBatch, data: bytes, position: int, item: int, hashed: int, outcome: Outcome, settings: DecodeSettings
) -> None:
    if isinstance(outcome, Part):
        outcome = Undecodable("split_record", f"a part ({outcome.role}) of {outcome.key}: parts are not joined", outcome.format)
    if isinstance(outcome, Skipped):
        batch.ignored.append(Ignored(position, item, outcome.reason, hashed))
    elif not isinstance(outcome, Call):
        error = " ".join(scrub(outcome.error[: 4 * MAX_ERROR_CHARS]).split())[:MAX_ERROR_CHARS]
        kept = payload(outcome.inside or data, settings.max_payload) if settings.keep_payloads else None
        batch.dead.append(DeadLetter(position, item, outcome.reason, error, outcome.format_guess, len(data), hashed, kept))
