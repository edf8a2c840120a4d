"""Rows that the store refuses for what is in them: found by halving, so that one of them keeps no other from being written.

Such a row is refused by a constraint or a view that operators added to the table, or by a value that its column cannot hold.
Its receipt says that it is a dead letter, with the store's words; ``replay-dead`` runs it again. Only calls can be poisoned:
what other tables hold are hashes, codes and positions of ours.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from schemas.tables import CALLS, DEAD_LETTERS
from sinks.clickhouse import Store, StoreError, StoreRefused

REASON: Final = "refused_by_store"
MOST: Final = 100
"""Refused rows of one block. With more of them it is the table that is wrong, not the rows."""

_ITEM: Final = ("segment", "position", "item")
_NO_CALL: Final = bytes(16)


class Refused(NamedTuple):
    """The number of a row, and why the store refuses it."""

    row: int
    why: str


def insert_calls(store: Store, calls: pa.Table) -> list[Refused]:
    """Insert calls; which of them the store refuses, in order. All others are in.

    A block of n rows with k refused ones takes about 2 k log2(n / k) inserts.

    Raises:
        StoreError: for anything else, and if more than ``MOST`` rows are refused.
    """
    refused: list[Refused] = []
    parts = [(0, calls.num_rows)]
    while parts:
        start, size = parts.pop()
        try:
            store.insert(CALLS.name, calls.slice(start, size))
        except StoreRefused as error:
            if size > 1:
                half = size // 2
                parts += [(start + half, size - half), (start, half)]
                continue
            refused.append(Refused(start, str(error)))
            if len(refused) > MOST:
                raise StoreError(f"{error}; {MOST} rows of one block are refused already") from error
    return refused


def as_letters(calls: pa.Table, receipts: pa.Table, refused: list[Refused]) -> tuple[pa.Table, pa.Table]:
    """The receipts, with those of refused calls saying so, and the dead letters of these."""
    rows = calls.take([one.row for one in refused])
    why = {_item(row): one.why for row, one in zip(rows.select(_ITEM).to_pylist(), refused, strict=True)}
    known = {_item(row): row for row in rows.select([*_ITEM, "source", "format"]).to_pylist()}
    items = receipts.select([*_ITEM, "record_hash", "outcome"]).to_pylist()
    at = [number for number, item in enumerate(items) if item["outcome"] == "call" and _item(item) in why]
    letters = [
        {
            **{name: items[number][name] for name in (*_ITEM, "record_hash")},
            "source": known[_item(items[number])]["source"],
            "reason": REASON,
            "format_guess": known[_item(items[number])]["format"],
            "error": why[_item(items[number])],
            "size": 0,
            "payload": None,
        }
        for number in at
    ]
    said = {"outcome": "dead_letter", "reason": REASON, "call_key": _NO_CALL, "minute": 0}
    for name, value in said.items():
        column = receipts.schema.get_field_index(name)
        kind = receipts.schema.field(column)
        values = np.array(receipts[name].to_pylist(), dtype=object)
        values[at] = value
        receipts = receipts.set_column(column, kind, pa.array(values.tolist(), kind.type))
    return receipts, pa.Table.from_pylist(letters, DEAD_LETTERS.arrow)


def _item(row: dict[str, object]) -> tuple[object, ...]:
    return tuple(row[name] for name in _ITEM)
