"""Which dead letters are dead still, and what is known about them.

A row of ``dead_letters`` is never taken back. What became of its item is said by the item's receipt, which a later read
or a replay replaces: a letter is dead as long as its receipt says so. Whoever shows dead letters reads ``living``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import orjson
import pyarrow as pa
from clickhouse_connect.driver.binding import format_str

from schemas.tables import CALLS, DEAD_LETTERS, RECEIPTS
from sinks.clickhouse import Store
from sinks.outlet import Message

KEY: Final = "segment, position, item, record_hash"
"""What identifies an item in ``dead_letters`` and ``receipts``."""

_RECORD: Final = "segment, position, record_hash"
_KEYS_PER_QUERY: Final = 500
_MINUTES_PER_QUERY: Final = 20_000


class Record(NamedTuple):
    """What identifies a record, which may hold several items."""

    segment: bytes
    position: int
    record_hash: int


class Letter(NamedTuple):
    """A dead letter as it is stored, without its payload; ``receipt_reason`` is the reason that its receipt gives."""

    record: Record
    item: int
    source: str
    reason: str
    format_guess: str
    error: str
    receipt_reason: str


def messages(letters: pa.Table) -> list[Message]:
    """Rows of ``dead_letters`` as JSON messages for other programs, each keyed by what identifies its item.

    A payload is there only if payloads are kept, scrubbed as in the table, and the topic takes a message that long.
    """
    return [_message(row) for row in letters.to_pylist()]


def _message(row: dict[str, Any]) -> Message:
    told = {
        "id": f"{row['segment'].hex()}-{row['position']}-{row['item']}-{row['record_hash']:016x}",
        **row,
        "segment": row["segment"].hex(),
        "record_hash": f"{row['record_hash']:016x}",  # JSON's numbers are exact in most programs up to 2^53
    }
    headers = (("content-type", b"application/json"), ("reason", row["reason"].encode()))
    smaller = b"" if row["payload"] is None else orjson.dumps({**told, "payload": None})
    return Message(told["id"].encode(), orjson.dumps(told), headers, smaller)


def living(store: Store) -> str:
    """Dead letters that no later read or replay has turned into something else, as a subquery with their columns."""
    return f"(SELECT * FROM {store.table(DEAD_LETTERS.name)} FINAL WHERE ({KEY}) IN (SELECT {KEY} FROM {_receipts(store)}))"


def _receipts(store: Store) -> str:
    # Those of letters first, by their key: letters are few, receipts as many as calls.
    letters, receipts = store.table(DEAD_LETTERS.name), store.table(RECEIPTS.name)
    return f"(SELECT * FROM {receipts} FINAL WHERE ({KEY}) IN (SELECT {KEY} FROM {letters}) AND outcome = 'dead_letter')"


def pages(store: Store, reasons: Sequence[str] = (), size: int = 50_000) -> Iterator[list[Letter]]:
    """Living letters in the order of segment and position, about ``size`` at a time; a record is never divided.

    Each page is asked for when it is wanted: what became of the letters of one page does not disturb the next.
    """
    chosen = f" AND reason IN ({', '.join(map(format_str, reasons))})" if reasons else ""
    after = ""
    while True:
        rows = store.rows(
            f"SELECT {_RECORD}, item, source, d.reason, format_guess, error, r.reason"
            f" FROM (SELECT * FROM {living(store)} WHERE 1{chosen}{after}) AS d"
            f" INNER JOIN (SELECT {KEY}, reason FROM {_receipts(store)}) AS r USING ({KEY})"
            f" ORDER BY {_RECORD} LIMIT {size} WITH TIES"
        )
        if not rows:
            return
        page = [Letter(Record(*row[:3]), *row[3:]) for row in rows]
        after = f" AND ({_RECORD}) > {_literal(page[-1].record)}"
        yield page


def calls_of(store: Store, page: Sequence[Letter]) -> dict[Record, set[bytes]]:
    """Keys of the calls that other items of the page's records have become; records without any are left out."""
    span = f"({_RECORD}) >= {_literal(page[0].record)} AND ({_RECORD}) <= {_literal(page[-1].record)}"
    rows = store.rows(
        f"SELECT {_RECORD}, call_key FROM {store.table(RECEIPTS.name)} FINAL"
        f" WHERE ({_RECORD}) IN (SELECT {_RECORD} FROM {living(store)} WHERE {span}) AND outcome = 'call'"
    )
    found: dict[Record, set[bytes]] = {}
    for *record, key in rows:
        found.setdefault(Record(*record), set()).add(key)
    return found


def payloads(store: Store, records: Iterable[Record]) -> dict[tuple[Record, int], str]:
    """Payloads by record and item, of those that were kept."""
    found: dict[tuple[Record, int], str] = {}
    for some in _chunks(records):
        rows = store.rows(
            f"SELECT {_RECORD}, item, payload FROM {store.table(DEAD_LETTERS.name)} FINAL"
            f" WHERE ({_RECORD}) IN ({', '.join(map(_literal, some))}) AND isNotNull(payload)"
        )
        found |= {(Record(*record), item): payload for *record, item, payload in rows}
    return found


def finish_replay(store: Store, minutes: Sequence[int]) -> None:
    """Write the receipts that a replay did not come to, because it was killed, of its calls in these minutes.

    Such a call has no receipt and lies where a living letter does; the letter becomes that call. Where two records were
    read from one place, the next replay tells which it was. Doing it again changes nothing.
    """
    receipts, calls = store.table(RECEIPTS.name), store.table(CALLS.name)
    for start in range(0, len(minutes), _MINUTES_PER_QUERY):
        some = ", ".join(map(str, minutes[start : start + _MINUTES_PER_QUERY]))
        store.command(
            f"INSERT INTO {receipts} ({KEY}, outcome, reason, call_key, minute)"
            " SELECT c.segment, c.position, c.item, d.hashed, 'call', '', c.call_key, c.minute"
            f" FROM (SELECT segment, position, item, call_key, minute FROM {calls} FINAL WHERE minute IN ({some})"
            f" AND call_key NOT IN (SELECT call_key FROM {receipts}"
            f" WHERE (outcome = 'call' AND minute IN ({some})) OR outcome = 'joined')) AS c"
            " INNER JOIN (SELECT segment, position, any(record_hash) AS hashed"
            f" FROM {living(store)} GROUP BY segment, position HAVING uniqExact(record_hash) = 1) AS d USING (segment, position)"
        )


def _literal(record: Record) -> str:
    return f"(toFixedString(unhex('{record.segment.hex()}'), 16), {record.position}, {record.record_hash})"


def _chunks(records: Iterable[Record]) -> Iterator[list[Record]]:
    rest = iter(records)
    while some := list(islice(rest, _KEYS_PER_QUERY)):
        yield some
