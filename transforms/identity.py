"""What makes a call this call, and when it happened.

The call key is a hash of the call itself, so that the same record read again gets the same key without any look-up, and
an id that is reused or redacted does not merge calls that differ. A record without a time of its own is identified by
all it says. Where it carries no id either, two equal calls cannot be told apart by what they say: then the place it was
read from is part of its identity; or, where the transport identifies what it delivers, and may deliver it twice, that.
"""

from __future__ import annotations

import functools
import hashlib
import operator
from typing import Final

import orjson

from schemas.call import LEAVES, Call

HOUR: Final = 3_600_000_000
"""An hour in microseconds."""

_OWN_TIME: Final = frozenset({"exact", "second"})
_leaves: Final = operator.attrgetter(*LEAVES)


def identify(call: Call, origin: bytes, record_hash: int, default_time: int, now: int, max_future: int = HOUR) -> None:
    """Set ``call.call_key`` (16 bytes), and ``event_time`` and ``time_quality`` where the record's own do not serve.

    ``origin`` and ``record_hash`` (64 bits) are those of the call's batch; times are UTC microseconds. A call without
    a time gets ``default_time`` and the quality ``transport``. A time more than ``max_future`` microseconds after
    ``now`` is flagged ``future_time`` and replaced by ``default_time`` with the quality ``implausible``: it would hold
    windows open. The key depends neither on ``default_time`` nor on ``now``: a redelivery has others. Expects
    ``content_hash`` and the usage leaves to be filled.
    """
    own = call.event_time if call.time_quality in _OWN_TIME else 0
    call.call_key = call_key(call, own, origin, record_hash)
    if own > now + max_future:
        call.flag("future_time")
        call.time_quality = "implausible"
        call.event_time = default_time
    elif own <= 0:
        call.event_time = default_time
        if call.time_quality != "implausible":  # which a decoder says of a time it could not make sense of
            call.time_quality = "transport"


def needs_origin(call: Call) -> bool:
    """Whether the place it was read from is part of the call's key: it has neither an id nor a time of its own.

    Asked of an identified call; one whose time was refused counts as undated, which may be more than is needed.
    """
    return call.time_quality not in _OWN_TIME and not call.provider_call_id and not call.transport_id


def call_key(call: Call, own_time: int, origin: bytes, record_hash: int) -> bytes:
    """The 16-byte key of a call; ``own_time`` is the time its record carries, 0 for none.

    It covers tenant, provider, the provider's id (where there is none, as with embeddings, the ids of the request and its span),
    model, content hash, usage leaves and own time; without such a time
    ``record_hash``, too; and, where there is neither id nor time, the transport's id of the record and the item in it, or the
    place: ``origin``, position and item. The hashed bytes are a JSON array of the fields, from which they could be read back:
    different calls are different bytes.
    """
    said: tuple[object, ...] = (
        call.tenant,
        call.provider,
        call.provider_call_id,
        call.model,
        call.content_hash.hex(),
        *_leaves(call),
        own_time,
    )
    if not call.provider_call_id and (call.request_id or call.span_id):
        said = (*said, call.request_id, call.span_id)
    if own_time <= 0:
        said = (*said, record_hash)
        if not call.provider_call_id:
            place = (call.transport_id,) if call.transport_id else (origin.hex(), call.position)
            said = (*said, *place, call.item if call.transport_item < 0 else call.transport_item)
    try:
        data = orjson.dumps(said)
    except TypeError:  # a lone surrogate or more than 64 bits, which JSON cannot hold; `(` is never the start of JSON
        data = repr(said).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=16, person=b"call_key").digest()


@functools.lru_cache(maxsize=4096)
def pseudonym(tenant: str, user: str, key: bytes) -> str:
    """What stands in for an end user: 32 hex digits, the same for the same user of a tenant under the same key."""
    if not user:
        return ""
    said = orjson.dumps([tenant, user.encode("utf-8", "replace").decode()])
    return hashlib.blake2b(said, digest_size=16, key=key, person=b"end_user").hexdigest()
