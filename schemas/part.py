"""A part of a call whose record came in parts: what is joined before it is a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from schemas.call import Call

OBSERVED: Final = "observed"
"""Role of a record that tells of a whole call which others also tell of."""

PIECES: Final = "pieces"
"""The key under which pieces stand in one record that are put together although nobody tells how many there are."""

OPEN_ENDED: Final = 100_000
"""``Part.of`` of pieces of which nobody tells how many there are; no record is cut into as many."""


@dataclass(slots=True)
class Part:
    """One of the records that tell of one call together.

    ``key`` is the same for all parts of a call, and for no other call of the tenant: by whom it was written, and the id that the
    parts share. ``role`` says which part it is: ``request``, ``response``, ``update`` … The call is whole when all roles of
    ``needs`` are there; with none needed, it is whole from its first part on, and each further one makes it better.

    A part that can be decoded by itself carries what it tells as ``call``. Where two parts tell of the same field, the one of
    the higher ``rank`` stands, of equal ones the later. A record that was cut somewhere in its bytes comes as pieces: ``data`` is
    piece ``number`` (from 0) of ``of``. One behind the other, pieces are a record that is decoded like any other. Where nobody
    tells how many there are, ``of`` is ``OPEN_ENDED``: such pieces are JSON, and are put together as the array ``PIECES``
    of a record as soon as none is missing between the first and the last; what they are is for its format to tell.
    """

    key: str
    role: str
    call: Call | None = None
    needs: tuple[str, ...] = ()
    rank: int = 0
    data: bytes = b""
    number: int = 0
    of: int = 0
    format: str = ""


class Place(NamedTuple):
    """Where a record was read: its source, and the item's place in a segment."""

    source: str
    segment: bytes
    position: int
    item: int


class StoredPart(NamedTuple):
    """A part as the table ``parts`` holds it; see ``schemas.tables`` for its columns.

    ``told``: fields of a call by name, as text (``transforms.join.told``). Times are UTC microseconds; ``day`` is the UTC day
    (days since 1970) on which the row was written. ``size`` is how many bytes it holds of a record that was cut; they themselves
    are read only to be put together.
    """

    key: bytes
    tenant: str
    place: Place
    record_hash: int
    role: str
    rank: int
    number: int
    of: int
    needs: tuple[str, ...]
    format: str
    time: int
    deadline: int
    day: int
    told: dict[str, str]
    size: int = 0


class Standing(NamedTuple):
    """What a joined call keeps of its first write: its time and its place, whatever parts come later."""

    event_time: int
    time_quality: str
    place: Place
