"""``llm-finops reprice``: what history costs under another price book, applied as a run of its own, and taken back.

Calls are priced from their stored leaves by the code that priced them first; no text is needed. A run is for a range of time.
Of several over one call the one with the highest number stands, also over what is read again later.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.errors import SettingsError
from pipelines.show import Column, Kind, Table, table_of
from pipelines.state import State
from pipelines.terms import publish_prices
from schemas.tables import CALL_PRICES, MONEY_COLUMNS
from sinks.clickhouse import Store
from sinks.recompute import recompute
from sinks.reconcile import Span, repair
from sinks.reprice import (
    EVERYTHING,
    PriceRun,
    Scope,
    compared,
    contracted,
    follow,
    keep,
    late,
    leaves,
    price_runs,
    put,
    record,
    standing,
    take_back,
)
from sinks.retag import minutes_of, spans
from sinks.retention import closed_before, floors
from transforms.price import Book, load_book
from transforms.price.contracts import contracts_of
from transforms.rows import money_columns
from transforms.terms import Timeline, which

GROUPS: Final = ("day", "provider", "model")
"""What a diff may be by."""

SPAN_ROWS: Final = 250_000
"""Calls of one span, about: some 150 MB. Larger spans than those of owners, for less moves through this process."""

_MAX_RUN: Final = 2**16 - 1
_SUMS: Final = ("calls", "old_cost", "new_cost", "status_changes", "old_unpriced", "new_unpriced")
_FIGURES: Final = (
    Column("calls", Kind.COUNT),
    Column("old_cost", Kind.MONEY),
    Column("new_cost", Kind.MONEY),
    Column("difference", Kind.MONEY),
    Column("status_changes", Kind.COUNT, "change status"),
    Column("old_unpriced", Kind.COUNT, "unpriced before"),
    Column("new_unpriced", Kind.COUNT, "unpriced then"),
)
_SUMMED: Final = pa.decimal128(38, 12)

Progress = Callable[[int], None]
"""Told how many spans of time are done."""


class Prices:
    """Compiled books by the event time from which they hold: one for a what-if, several for what was announced."""

    def __init__(self, terms: Timeline) -> None:
        self._terms = terms
        compiled: dict[Any, Book] = {of: load_book(*of) for of in dict.fromkeys((one.books, one.contracts) for one in terms)}
        self._of = [compiled[one.books, one.contracts] for one in terms]
        self.books = tuple(compiled.values())

    @property
    def contracts(self) -> frozenset[str]:
        """The names of the contracts that are stated."""
        return frozenset(contract.name for one in self._terms for contract in contracts_of(one.contracts))

    @property
    def version(self) -> str:
        """Of the book; of several, a hash of which holds when."""
        if len(self.books) == 1:
            return self.books[0].book_version
        said = [(one.since, book.book_version) for one, book in zip(self._terms, self._of, strict=True)]
        return "terms " + hashlib.blake2b(repr(said).encode(), digest_size=8).hexdigest()

    def price(self, calls: pa.RecordBatch, number: int) -> Iterator[tuple[pa.RecordBatch, dict[str, pa.Array]]]:
        """The calls, apart by the book that they go by, with the columns of their money."""
        from transforms.price import price_batch

        if len(self.books) == 1:
            parts = [(calls, self._of[0])]
        else:
            numbers = which(self._terms, calls.column("event_time").cast(pa.int64()).to_numpy())
            parts = [(calls.filter(pa.array(numbers == n)), self._of[n]) for n in sorted(set(numbers.tolist()))]
        for part, book in parts:
            yield part, money_columns(price_batch(part, book, number))


def unstated(store: Store, prices: Prices, since: int, until: int, scope: Scope = EVERYTHING) -> str:
    """Which calls of a range are under contracts that these prices do not state, in words; empty if none are."""
    lost = {name: calls for name, calls in contracted(store, since, until, scope).items() if name not in prices.contracts}
    return ", ".join(f"{calls:,} calls are under contract {name}" for name, calls in lost.items())


# ---- what it would come to


@dataclass
class Diff:
    """Sums of calls by the values of ``by``: calls, dollars before and then, and how many change their status."""

    by: tuple[str, ...]
    parts: list[pa.Table] = field(default_factory=list)

    def add(self, calls: pa.RecordBatch, money: dict[str, pa.Array]) -> None:
        """Count a batch of calls."""
        columns: dict[str, Any] = {}
        for name in self.by:
            if name == "day":
                columns[name] = calls.column("event_time").cast(pa.timestamp("us")).cast(pa.date32(), safe=False)
            else:
                columns[name] = calls.column(name).cast(pa.string())
        zero = pa.scalar(Decimal(0), _SUMMED)
        was, now = calls.column("old_status").cast(pa.string()), money["price_status"]
        columns["calls"] = pa.repeat(pa.scalar(1, pa.int64()), calls.num_rows)
        columns["old_cost"] = pc.fill_null(calls.column("old_cost").cast(_SUMMED), zero)
        columns["new_cost"] = pc.fill_null(money["cost"].cast(_SUMMED), zero)
        columns["status_changes"] = pc.not_equal(was, now).cast(pa.int64())
        columns["old_unpriced"] = pc.equal(was, "unpriced").cast(pa.int64())
        columns["new_unpriced"] = pc.equal(now, "unpriced").cast(pa.int64())
        self.parts.append(_summed(pa.table(columns), self.by))

    def rows(self) -> list[dict[str, Any]]:
        """One for each group, in order."""
        if not self.parts:
            return []
        found = _summed(pa.concat_tables(self.parts), self.by).sort_by([(name, "ascending") for name in self.by])
        rows: list[dict[str, Any]] = found.to_pylist()
        for row in rows:
            row |= {name: str(row[name]) for name in self.by}
            row["difference"] = row["new_cost"] - row["old_cost"]
        return rows


def _summed(table: pa.Table, by: Sequence[str]) -> pa.Table:
    sums = table.group_by(list(by)).aggregate([(name, "sum") for name in _SUMS])
    found = sums.select([*by, *(f"{name}_sum" for name in _SUMS)]).rename_columns([*by, *_SUMS])
    for name in ("old_cost", "new_cost"):
        found = found.set_column(found.schema.get_field_index(name), name, found[name].cast(_SUMMED))
    return found


def check(
    store: Store,
    prices: Prices,
    over: Sequence[Span],
    by: Sequence[str],
    progress: Progress = lambda _: None,
    scope: Scope = EVERYTHING,
) -> Diff:
    """What the calls of these spans and that scope would cost. Nothing is written."""
    found = Diff(tuple(by))
    for done, span in enumerate(over):
        for batch in leaves(store, span, scope=scope).to_batches():
            for part, money in prices.price(_timed(batch), 0):
                found.add(part, money)
        progress(done + 1)
    return found


def _timed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Calls as the engine hands them out, with their time as pricing reads it."""
    at = batch.schema.get_field_index("event_time")
    return batch.set_column(at, "event_time", batch.column(at).cast(pa.timestamp("us", "UTC")))


# ---- runs


def numbered(
    known: Sequence[PriceRun], since: int, until: int, book_version: str, undoes: int = 0, scope: Scope = EVERYTHING
) -> PriceRun:
    """The run that does this: one that is known, to be done again, if nothing was done over it; else the next number.

    Raises:
        SettingsError: there are no numbers left.
    """
    wanted = PriceRun(max((run.number for run in known), default=1) + 1, since, until, book_version, undoes, scope=scope)
    for run in reversed(known):
        if run.does(wanted):
            return run._replace(done=False)
        if run.overlaps(wanted):
            break
    if wanted.number > _MAX_RUN:
        raise SettingsError(f"there were {_MAX_RUN - 1:,} pricings of history already, more than can be told apart")
    return wanted


def apply(
    store: Store,
    prices: Prices,
    since: int,
    until: int,
    by: Sequence[str] = ("day", "model"),
    wait_s: float = 0,
    progress: Progress = lambda _: None,
    rows: int = SPAN_ROWS,
    scope: Scope = EVERYTHING,
) -> tuple[PriceRun, Diff]:
    """Price the calls of a range and a scope by these books; the run, and what it changed.

    Killed at any moment, or where calls came late, it is finished by doing it again. No other run of this machine writes
    the store meanwhile.
    """
    found = Diff(tuple(by))
    with State(store.address, wait_s=wait_s) as state:
        run = numbered(price_runs(store), since, until, prices.version, scope=scope)
        for book in prices.books:
            publish_prices(store, book)

        def figures(span: Span) -> int:
            priced = []
            for batch in leaves(store, span, run.number, scope).to_batches():
                for part, money in prices.price(_timed(batch), run.number):
                    found.add(part, money)
                    priced.append(_figures(part, money, run.number))
            if priced:
                state.touch(minutes_of(store, span))  # before the rows: if this is killed, the next run recomputes them
                keep(store, span, scope)
                put(store, pa.Table.from_batches(priced))
            return sum(batch.num_rows for batch in priced)

        return carry_out(store, state, run, figures, progress, rows), found


def undo(store: Store, number: int, wait_s: float = 0, progress: Progress = lambda _: None, rows: int = SPAN_ROWS) -> PriceRun:
    """Give the calls of a run the figures of before it, as a run of its own. Calls that came later keep what they have.

    Raises:
        SettingsError: there is no such run, others stand over it, or it was taken back.
    """
    with State(store.address, wait_s=wait_s) as state:
        known = price_runs(store)
        meant = next((run for run in known if run.number == number), None)
        if meant is None:
            raise SettingsError(f"there is no run {number}; see llm-finops reprice list")
        refuse_undo(known, meant)
        run = numbered(known, meant.since, meant.until, meant.book_version, number, meant.scope)
        run = run._replace(kind=meant.kind)

        def figures(span: Span) -> int:
            some = standing(store, span, number)
            if some:
                state.touch(minutes_of(store, span))
                take_back(store, span, run)
            return some

        run = carry_out(store, state, run, figures, progress, rows)
        record(store, meant._replace(active=False))
        return run


def refuse_undo(known: Sequence[PriceRun], meant: PriceRun) -> None:
    """Refuse to take back a run that others stand over, or that is none that can be.

    Raises:
        SettingsError: it says why, and what can be done.
    """
    if meant.undoes:
        raise SettingsError(f"run {meant.number} took back run {meant.undoes}: to have that again, apply its book again")
    if not meant.active:
        raise SettingsError(f"run {meant.number} was taken back already")
    over = [run.number for run in known if run.number > meant.number and run.active and not run.undoes and run.overlaps(meant)]
    if over:
        raise SettingsError(f"run {over[-1]} stands over run {meant.number}: first llm-finops reprice undo {over[-1]}")


def carry_out(
    store: Store, state: State, run: PriceRun, figures: Callable[[Span], int], progress: Progress, rows: int
) -> PriceRun:
    """Have calls follow a run, span by span. ``figures`` writes the run's figures of a span; how many there are."""
    record(store, run)
    for done, span in enumerate(open_spans(store, run.since, run.until, rows)):
        if figures(span):
            follow(store, span, run.number)
            minutes = minutes_of(store, span)
            recompute(store, minutes)
            state.clean(minutes)
        else:
            repair(store, span)  # it may have been killed before the minutes were right
        progress(done + 1)
    run = run._replace(done=True)
    record(store, run)
    return run


def open_spans(store: Store, since: int, until: int, rows: int = SPAN_ROWS) -> list[Span]:
    """The minutes of a range that hold calls and are not closed, cut into spans."""
    return spans(store, max(since, closed_until(store)), until, rows)


def closed_until(store: Store) -> int:
    """Before which instant (seconds since 1970) calls keep their figures: their days are closed, see ``sinks.retention``."""
    return closed_before(floors(store), "calls", "minutes", "call_prices")


def _figures(calls: pa.RecordBatch, money: dict[str, pa.Array], number: int) -> pa.RecordBatch:
    """Rows of ``call_prices``."""
    count = calls.num_rows
    minute = calls.column("minute")
    columns: dict[str, Any] = {
        "minute": (minute.cast(pa.int64()) if pa.types.is_integer(minute.type) else minute).cast(pa.timestamp("s", "UTC")),
        "tenant": calls.column("tenant").cast(pa.string()),
        "call_key": calls.column("call_key").cast(pa.binary(16)),
        "price_run": pa.repeat(pa.scalar(number, pa.uint16()), count),
        "figures_of": pa.repeat(pa.scalar(number, pa.uint16()), count),
        "follows": calls.column("price_run"),
        "of_version": calls.column("version"),
        **{name: money[name] for name in MONEY_COLUMNS},
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in CALL_PRICES.arrow.names], schema=CALL_PRICES.arrow)


# ---- for people and scripts


def diff_table(rows: Iterable[dict[str, Any]], by: Sequence[str], title: str, note: str = "") -> Table:
    """Dollars before and then. The note says the totals."""
    found = list(rows)
    old, new = (sum((row[name] for row in found), Decimal(0)) for name in ("old_cost", "new_cost"))
    calls = sum(row["calls"] for row in found)
    total = f"{calls:,} calls: ${old:,.6f} before, ${new:,.6f} then ({new - old:+,.6f})" if calls else "no calls"
    return table_of(found, [*map(Column, by), *_FIGURES], title, "; ".join(filter(None, (total, note))))


def _state(run: PriceRun) -> str:
    if not run.active:
        return "killed: no call has it" if run.counting else "undone"
    return "done" if run.done else "running or killed"


def late_calls(store: Store, runs: Iterable[PriceRun]) -> dict[int, int]:
    """How many calls came late into runs that are done and stand, by their numbers; invoices say nothing of single calls."""
    closed = closed_until(store)
    done = [run for run in runs if run.done and run.active and not run.undoes and run.kind == "book"]
    return {run.number: late(store, run._replace(since=max(run.since, closed))) for run in done}


def runs_table(runs: Iterable[PriceRun], came_late: Mapping[int, int] | None = None) -> Table:
    """All runs, and how many calls came late into each."""
    from pipelines.terms import instant

    rows = [
        {
            "price_run": run.number,
            "state": _state(run),
            "since": instant(run.since * 1_000_000),
            "until": instant(run.until * 1_000_000),
            "book_version": run.book_version,
            "kind": run.kind,
            "only": str(run.scope),
            "late": (came_late or {}).get(run.number),
            "undoes": run.undoes or None,
            "written_at": run.started,
        }
        for run in runs
    ]
    columns = [Column("price_run", Kind.COUNT), Column("state"), Column("since"), Column("until"), Column("book_version")]
    columns += [Column("kind"), Column("only"), Column("late", Kind.COUNT), Column("undoes", Kind.COUNT), Column("written_at")]
    note = "run 1 is the live one" if rows else "history was never priced anew"
    if any((came_late or {}).values()):
        note += "; calls that came late go by the live book until the run is applied again"
    return table_of(rows, columns, "Pricings of history", note)


def compare(store: Store, one: int, other: int, by: Sequence[str]) -> list[dict[str, Any]]:
    """What the calls that went through both runs cost under each. Run 1 is the live one.

    Raises:
        SettingsError: there is no such run.
    """
    known = {run.number: run for run in price_runs(store)}
    for number in (one, other):
        if number != 1 and number not in known:
            raise SettingsError(f"there is no run {number}; see llm-finops reprice list")
    found = Diff(tuple(by))
    ranges = [known[number] for number in (one, other) if number in known]
    since, until = max((run.since for run in ranges), default=0), min((run.until for run in ranges), default=0)
    for span in spans(store, since, until, SPAN_ROWS) if ranges else []:
        rows = compared(store, one, other, span, by)
        if rows:
            table = pa.Table.from_pylist([{name: row[name] for name in (*by, *_SUMS)} for row in rows], _schema(by))
            found.parts.append(table)
    return found.rows()


def _schema(by: Sequence[str]) -> pa.Schema:
    kinds = {name: _SUMMED if name.endswith("cost") else pa.int64() for name in _SUMS}
    return pa.schema([*((name, pa.string()) for name in by), *kinds.items()])
