"""A batch of raw records to calls, dead letters and ignored items. Nothing a record holds can stop a worker.

Records are decoded one at a time, so that each parsed tree is freed before the next is made: keeping a batch of them
alive makes parsing four times dearer through garbage collection.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any, Final

import orjson

from schemas.batch import CallBatch, DeadLetter, Ignored, RawBatch
from schemas.call import Call
from transforms.decode.registry import formats
from transforms.decode.values import Skip, Undecodable

PAYLOAD_LIMIT: Final = 64 * 1024

_SECRETS: Final = (
    (
        re.compile(
            rb'(?i)("[^"]*(?:authorization|api[-_]?key|secret|password|access_token|x-goog-api-key)[^"]*"\s*:\s*")'
            rb'(?:[^"\\]|\\.)*'
        ),
        rb"\1***",
    ),
    (re.compile(rb"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"), rb"\1 ***"),
    (re.compile(rb"\b(?:sk|pk|rk|gsk|xai|key|sess)[-_][\w-]{12,}"), rb"***"),
    (re.compile(rb"\bAIza[\w-]{20,}|\bAKIA[0-9A-Z]{12,}|\beyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]*"), rb"***"),
    (re.compile(rb"(?i)([?&](?:key|api[-_]?key|token|sig|signature)=)[^&\s\"\\]+"), rb"\1***"),
)


@dataclass(frozen=True)
class DecodeSettings:
    """``tenant`` of records that name none; whether dead letters keep their payload, scrubbed and cut."""

    tenant: str = "default"
    keep_payloads: bool = False


def decode_batch(raw: RawBatch, settings: DecodeSettings) -> CallBatch:
    """Decode every record of ``raw``; each becomes calls, one dead letter or one ignored item."""
    batch = CallBatch(
        raw.source,
        raw.segment,
        raw.origin,
        raw.default_time,
        dead=list(raw.rejects),
        bytes_read=raw.bytes_read,
        end=raw.end,
    )
    batch.records = len(raw.records) + len(raw.rejects)
    for data, position in zip(raw.records, raw.positions, strict=True):
        record_hash = hash_of(data)
        for item, outcome in enumerate(decode_record(data, settings.tenant)):
            if isinstance(outcome, Call):
                outcome.source, outcome.segment = raw.source, raw.segment
                outcome.position, outcome.item = position, item
                batch.calls.append(outcome)
                batch.record_hashes.append(record_hash)
            elif isinstance(outcome, Skip):
                batch.ignored.append(Ignored(position, item, outcome.reason, record_hash))
            else:
                payload = scrub(data) if settings.keep_payloads else None
                error = scrub(str(outcome).encode("utf-8", "replace"))[:500]
                batch.dead.append(
                    DeadLetter(
                        position, item, outcome.reason, error, outcome.format_guess, len(data), record_hash, payload
                    )
                )
    return batch


def hash_of(data: bytes) -> int:
    """63-bit hash of a record's bytes."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 1


def decode_record(data: bytes, tenant: str = "default") -> list[Call | Undecodable | Skip]:
    """What one record holds: at least one outcome. An array is fanned out; its items are numbered from 0."""
    if not data or data.isspace():
        return [Skip("blank")]
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        return [Undecodable("not_json", f"{error.msg} at byte {error.pos}")]
    if isinstance(record, list):
        return [outcome for item in record for outcome in _decode(item, tenant)] or [Skip("blank")]
    return _decode(record, tenant)


def _decode(record: Any, tenant: str) -> list[Call | Undecodable | Skip]:
    if record.__class__ is not dict:
        return [Undecodable("not_an_object", f"a JSON {type(record).__name__}, not an object")]
    guess = ""
    try:
        for one in formats():
            if one.detect(record):
                guess = one.name
                calls = one.decode(record, tenant)
                for call in calls:
                    call.tenant = call.tenant or tenant
                    call.format = call.format or one.name
                return list(calls)
    except (Undecodable, Skip) as outcome:
        if isinstance(outcome, Undecodable):
            outcome.format_guess = outcome.format_guess or guess
        return [outcome]
    except Exception as error:  # a defect of a decoder must cost one dead letter, not a worker
        return [Undecodable("decoder_error", f"{type(error).__name__}: {error}", guess)]
    keys = ", ".join(sorted(map(str, record))[:12])
    return [Undecodable("unknown_format", f"no format has the keys {keys}"[:400])]


def scrub(data: bytes) -> str:
    """Text of a payload without keys, tokens and signatures, cut to ``PAYLOAD_LIMIT`` bytes."""
    cut = data[:PAYLOAD_LIMIT]
    for pattern, replacement in _SECRETS:
        cut = pattern.sub(replacement, cut)
    return cut.decode("utf-8", "replace")
