"""End users: under which key each is hashed, and who was forgotten.

A pseudonym is made with the key that holds at the time of the call, so that a record read again after a key was replaced
gets the pseudonym it had. The key is no part of a call's identity: call keys and hashes of texts are made with another one.

Who was forgotten is known by marks only: keyed hashes of users and tenants, keys of calls, hashes of records. What bears
such a mark is anonymised, or left out, when its log is read again. Calls from after a user or tenant was forgotten are new
ones, and stay.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import orjson

from schemas.batch import CallBatch, DeadLetter, Ignored, PartRead
from schemas.call import Call
from schemas.names import named

PERSONAL: Final = (
    "end_user",
    "session_id",
    "trace_id",
    "span_id",
    "parent_span_id",
    "request_id",
    "provider_call_id",
    "cache_key",
)
"""Fields of a call that are emptied when its user is forgotten."""

PERSONAL_TAGS: Final = frozenset(
    {"user", "user_id", "end_user", "session_id", "conversation_id", "trace_id", "parent_span_id", "request_id"}
)
"""Tags that go with them."""

FORGOTTEN: Final = "forgotten"
"""Flag of a call whose user was forgotten; reason of a call whose tenant was."""


@dataclass(frozen=True)
class People:
    """``keys``: each with the first instant it holds (UTC microseconds), in order of time; the first one holds before, too.

    ``forgotten``: marks of users, tenants, calls and records, and when they were set (UTC microseconds).
    """

    keys: tuple[tuple[int, bytes], ...] = ()
    forgotten: tuple[tuple[bytes, int], ...] = ()

    @functools.cached_property
    def marked(self) -> dict[bytes, int]:
        """When each mark was set."""
        return dict(self.forgotten)

    def __repr__(self) -> str:
        return f"People({len(self.keys)} keys, {len(self.forgotten)} forgotten)"

    def key_at(self, time: int) -> bytes:
        """The key of a call at ``time``, in UTC microseconds."""
        held = self.keys[0][1]
        for since, key in self.keys[1:]:
            if since > time:
                break
            held = key
        return held

    def knows(self, marks: Iterator[bytes], time: int) -> bool:
        """Whether one of the marks is of somebody who was forgotten after ``time``, in UTC microseconds."""
        return any(self.marked.get(mark, -1) >= time for mark in marks)

    def users(self, user: str, tenant: str = "") -> Iterator[bytes]:
        """Marks of a user under every key; without a tenant, of the user of that name of whatever tenant."""
        return (_mark(key, "user", tenant, user) for _, key in self.keys)

    def tenants(self, tenant: str) -> Iterator[bytes]:
        """Marks of a tenant under every key."""
        return (_mark(key, "tenant", tenant, "") for _, key in self.keys)


NOBODY: Final = People()


def record_mark(record_hash: int) -> bytes:
    """Mark of a record by the hash of its bytes."""
    return b"record: " + record_hash.to_bytes(8, "little")


def key_mark(key: bytes) -> bytes:
    """Mark of a key, from which it cannot be had."""
    return hashlib.blake2b(digest_size=16, key=key, person=b"key").digest()


@functools.lru_cache(maxsize=16_384)
def _mark(key: bytes, kind: str, tenant: str, user: str) -> bytes:
    said = orjson.dumps([kind, *(text.encode("utf-8", "replace").decode() for text in (tenant, user))])
    return hashlib.blake2b(said, digest_size=16, key=key, person=b"forgotten").digest()


def leave_out(batch: CallBatch, people: People) -> None:
    """Take calls of forgotten tenants, and parts of such, out of a batch; text out of dead letters that named such."""
    gone = [people.knows(people.tenants(call.tenant), call.event_time) for call in batch.calls]
    if any(gone):
        items = list(zip(batch.calls, batch.record_hashes, gone, strict=True))
        batch.ignored += [Ignored(call.position, call.item, FORGOTTEN, hashed) for call, hashed, out in items if out]
        batch.calls = [call for call, _, out in items if not out]
        batch.record_hashes = [hashed for _, hashed, out in items if not out]
    for read in [read for read in batch.parts if people.knows(people.tenants(read.tenant), _time_of(read))]:
        batch.parts.remove(read)
        batch.ignored.append(Ignored(read.position, read.item, FORGOTTEN, read.record_hash))
    batch.dead = [_silent(letter) if record_mark(letter.record_hash) in people.marked else letter for letter in batch.dead]


def _time_of(read: PartRead) -> int:
    return read.part.call.event_time if read.part.call is not None else read.time


def _silent(letter: DeadLetter) -> DeadLetter:
    return letter._replace(payload=None if letter.payload is None else FORGOTTEN, error=FORGOTTEN)


def anonymise(call: Call, people: People) -> None:
    """Empty what points to the user of a call, if that is a forgotten one. Expects the user in the clear, key and time."""
    user, time = call.end_user, call.event_time
    own = bool(user) and (people.knows(people.users(user, call.tenant), time) or people.knows(people.users(user), time))
    if not own and call.call_key not in people.marked:
        return
    for name in PERSONAL:
        call.__dict__.pop(name, None)
    # A call of somebody else named a forgotten user somewhere; by its mark alone nobody can tell where.
    call.tags = _nameless(call.tags, user) if own else None
    call.headers = _nameless(call.headers, user) if own else None
    call.flag(FORGOTTEN)


def _nameless(said: dict[str, str] | None, user: str) -> dict[str, str] | None:
    kept = {
        key: value
        for key, value in (said or {}).items()
        if key not in PERSONAL_TAGS and not named(user, value) and not named(user, key)
    }
    return kept or None
