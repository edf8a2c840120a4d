"""A part of a call whose record came in parts: what is joined before it is a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.call import Call

OBSERVED: Final = "observed"
"""Role of a record that tells of a whole call which others also tell of."""


@dataclass(slots=True)
class Part:
    """One of the records that tell of one call together.

    ``key`` is the same for all parts of a call, and for no other call of the tenant: by whom it was written, and the id that the
    parts share. ``role`` says which part it is: ``request``, ``response``, ``update`` … The call is whole when all roles of
    ``needs`` are there; with none needed, it is whole from its first part on, and each further one makes it better.

    A part that can be decoded by itself carries what it tells as ``call``. Where two parts tell of the same field, the one of
    the higher ``rank`` stands, of equal ones the later. A record that was cut somewhere in its bytes comes as pieces: ``data`` is
    piece ``number`` (from 0) of ``of``. One behind the other, pieces are a record that is decoded like any other.
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
