"""What the store's own ledger, ``segments``, says was read: the proof of every position that a run remembers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from schemas.batch import SegmentEnd
from sinks.clickhouse import Store

Ends = Mapping[tuple[str, bytes, int], SegmentEnd]
"""By path, segment and start of a range: where it ended and what it held, as the store's ``segments`` say."""


def segment_ends(store: Store, segments: Iterable[bytes] | None = None) -> Ends:
    """The ranges that the ledger has (only of these ``segments``, if they are given), by path, segment and start."""
    wanted = ", ".join(f"'{one.hex().upper()}'" for one in segments or ()) or "''"
    only = "" if segments is None else f" WHERE hex(segment) IN ({wanted})"
    rows = store.rows(f"SELECT source, segment, start, end, records, bytes FROM {store.table('segments')} FINAL{only}")
    return {(source, segment, start): SegmentEnd(start, *more) for source, segment, start, *more in rows}


def ledger_of(ends: Ends) -> dict[bytes, list[tuple[int, int]]]:
    """Start and end of the ranges of each segment."""
    found: dict[bytes, list[tuple[int, int]]] = {}
    for (_, segment, _), end in ends.items():
        found.setdefault(segment, []).append((end.start, end.end))
    return found


def reached(ends: Ends) -> dict[bytes, int]:
    """The end of the last range of each segment."""
    found: dict[bytes, int] = {}
    for (_, segment, _), end in ends.items():
        found[segment] = max(end.end, found.get(segment, 0))
    return found
