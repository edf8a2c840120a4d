"""Price the history of a store anew: what calls cost under every pricing is in ``call_prices``, and ``calls`` follow one.

A span of time goes through three statements, each of which can be done again: the figures of the live run are kept, those
of the new run are written beside them, and rows of ``calls`` are written again with the new figures. The last happens in the
engine, so that the hundred other columns of a call are not moved. Figures are for the version of the row that they were worked
out from: a call that somebody writes meanwhile keeps what it has, and is priced when the run is applied again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final, NamedTuple

import pyarrow as pa

from schemas.call import LEAVES, TOOL_USES
from schemas.tables import CALL_PRICES, CALLS, COSTS, MONEY_COLUMNS, PRICE_RUNS, PRICED_BY
from sinks.clickhouse import Store
from sinks.reconcile import Span
from sinks.search import literal

LIVE: Final = 1
"""The run under which the pipeline prices."""

_READ: Final = (
    *("event_time", "provider", "model", "service_tier", "speed", "region_scope", "batch", "status", "http_status"),
    *("usage_source", "deployment_type", "spillover", "gateway_cache_hit", "reported_cost", "reported_cost_by"),
    *LEAVES,
    *TOOL_USES,
    *("counted_input_error", "counted_output_error"),
    *("tenant", "account", "project"),
)
"""What of a call its price may depend on."""
_KEY: Final = ("minute", "tenant", "call_key")
_KEPT: Final = (*_KEY, "price_run", "figures_of", "follows", "of_version", *MONEY_COLUMNS)
_BULK: Final = {"optimize_on_insert": 0, "max_partitions_per_insert_block": 0}
_DICTIONARIES: Final = " SETTINGS output_format_arrow_low_cardinality_as_dictionary = 1"


class Scope(NamedTuple):
    """Which calls a pricing is held to: those of one of each; none named: of all."""

    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()

    def overlaps(self, other: Scope) -> bool:
        """Whether a call may be of both."""
        return all(not ours or not theirs or set(ours) & set(theirs) for ours, theirs in zip(self, other, strict=True))

    def condition(self) -> str:
        """That a row of ``calls`` is of it, to be put behind others."""
        named = [(name.removesuffix("s"), values) for name, values in self._asdict().items() if values]
        return "".join(f" AND {name} IN ({', '.join(map(literal, values))})" for name, values in named)

    def __str__(self) -> str:
        """In words: ``provider=openai model=gpt-4o``."""
        return " ".join(f"{name.removesuffix('s')}={value}" for name, values in self._asdict().items() for value in values)


EVERYTHING: Final = Scope()


def scope_of(providers: Iterable[str] = (), models: Iterable[str] = (), tenants: Iterable[str] = ()) -> Scope:
    """The scope, the same for the same names in whatever order."""
    return Scope(*(tuple(sorted(set(some))) for some in (providers, models, tenants)))


class PriceRun(NamedTuple):
    """A pricing of the calls from ``since`` to less than ``until`` (seconds since 1970, whole minutes) of a scope.

    ``undoes``: the run whose figures it takes back, else 0. ``done``: it came to its end. ``kind``: book or invoice, by which it
    priced. ``counting``: its figures are not all there, and no call has them.
    """

    number: int
    since: int
    until: int
    book_version: str
    undoes: int = 0
    done: bool = False
    active: bool = True
    started: str = ""
    scope: Scope = EVERYTHING
    kind: str = "book"
    counting: bool = False

    def overlaps(self, other: PriceRun) -> bool:
        """Whether a call may be in both."""
        return self.since < other.until and other.since < self.until and self.scope.overlaps(other.scope)

    def does(self, other: PriceRun) -> bool:
        """Whether it does the same as another."""
        mine, theirs = ((one.since, one.until, one.book_version, one.undoes, one.scope) for one in (self, other))
        return mine == theirs


def price_runs(store: Store) -> list[PriceRun]:
    """All pricings of history but the live one, in order."""
    rows = store.rows(
        "SELECT price_run, toUInt32(since), toUInt32(ifNull(until, toDateTime(0, 'UTC'))), book_version, undoes, state = 'done',"
        f" active, toString(ingested_at, 'UTC'), {', '.join(PRICED_BY)}, kind, state = 'counting'"
        f" FROM {store.table(PRICE_RUNS.name)} FINAL"
        f" WHERE price_run > {LIVE} ORDER BY price_run"
    )
    return [
        PriceRun(n, int(since), int(until), book, undoes, bool(done), bool(active), at, scope_of(*only), kind, bool(early))
        for n, since, until, book, undoes, done, active, at, *only, kind, early in rows
    ]


def record(store: Store, run: PriceRun) -> None:
    """Write down what a run is, and how far it came."""
    times = {"since": datetime.fromtimestamp(run.since, UTC), "until": datetime.fromtimestamp(run.until, UTC)}
    row = {"price_run": run.number, "book_version": run.book_version, "active": run.active, **times, "undoes": run.undoes}
    row["state"] = "done" if run.done else "counting" if run.counting else "running"
    row |= {"kind": run.kind, **{name: list(getattr(run.scope, name)) for name in PRICED_BY}}
    store.insert(PRICE_RUNS.name, pa.Table.from_pylist([row], PRICE_RUNS.arrow))


def leaves(store: Store, span: Span, before_run: int | None = None, scope: Scope = EVERYTHING) -> pa.Table:
    """The calls of a span and a scope with all that prices depend on, and with what they cost now, texts as dictionaries.

    ``before_run``: only calls whose figures are of an earlier run than this, with their keys and versions.
    """
    key = "" if before_run is None else ", minute, call_key, version"
    below = "" if before_run is None else f" AND price_run < {before_run}"
    return store.arrow(
        f"SELECT {', '.join(_READ)}, cost AS old_cost, price_status AS old_status, price_run{key}"
        f" FROM {store.table(CALLS.name)} FINAL WHERE {_inside(span)}{scope.condition()}{below}"
        + (" ORDER BY minute, tenant, call_key" if key else "")
        + _DICTIONARIES
    )


def contracted(store: Store, since: int, until: int, scope: Scope = EVERYTHING) -> dict[str, int]:
    """How many calls of a range and a scope each contract prices now, by its name."""
    where = f"{_inside((since, until - 60))}{scope.condition()} AND contract != ''"
    table = store.table(CALLS.name)
    rows = store.rows(f"SELECT contract, count() FROM {table} FINAL WHERE {where} GROUP BY contract ORDER BY contract")
    return {str(name): int(calls) for name, calls in rows}


def late(store: Store, run: PriceRun) -> int:
    """How many calls of a run's range and scope do not have its figures, nor those of a later one: they came after it."""
    where = f"{_inside((run.since, run.until - 60))}{run.scope.condition()} AND price_run < {run.number}"
    return int(store.rows(f"SELECT count() FROM {store.table(CALLS.name)} FINAL WHERE {where}")[0][0])


def keep(store: Store, span: Span, scope: Scope = EVERYTHING) -> None:
    """Keep what the calls of a span and a scope cost under the live run. Figures of other runs are kept since they were made."""
    money = ", ".join(MONEY_COLUMNS)
    store.command(
        f"INSERT INTO {store.table(CALL_PRICES.name)} ({', '.join(_KEPT)})"
        f" SELECT {', '.join(_KEY)}, price_run, price_run, 0, version, {money} FROM {store.table(CALLS.name)} FINAL"
        f" WHERE {_inside(span)}{scope.condition()} AND price_run = {LIVE}",
        _BULK,
    )


def worked_out(store: Store, span: Span, number: int) -> int:
    """How many calls of a span have figures of this run."""
    table = store.table(CALL_PRICES.name)
    return int(store.rows(f"SELECT count() FROM {table} FINAL WHERE {_inside(span)} AND price_run = {number}")[0][0])


def costs(store: Store, day: int, provider: str) -> pa.Table:
    """The calls of a provider on a UTC day (its first second) that cost something, with their keys and what they cost."""
    names = ", ".join((*_KEY, "version", "price_run", "account", "project", "model", *(name for name, _ in COSTS), "list_cost"))
    return store.arrow(
        f"SELECT {names} FROM {store.table(CALLS.name)} FINAL"
        f" WHERE {_inside((day, day + 86_340))} AND provider = {literal(provider)}"
        " AND price_status NOT IN ('unpriced', 'not_billed') AND cost > 0 ORDER BY minute, tenant, call_key"
    )


def put(store: Store, figures: pa.Table) -> None:
    """Write the figures of a run, rows of ``call_prices``."""
    store.insert(CALL_PRICES.name, figures)


def take_back(store: Store, span: Span, run: PriceRun) -> None:
    """Make the figures of a run that undoes another: those that each call had before."""
    money = ", ".join(f"before.{name}" for name in MONEY_COLUMNS)
    store.command(
        f"INSERT INTO {store.table(CALL_PRICES.name)} ({', '.join(_KEPT)})"
        f" SELECT now.minute, now.tenant, now.call_key, {run.number}, before.figures_of, before.follows, now.version, {money}"
        f" FROM ({_standing(store, span, run.undoes)}) AS now"
        f" JOIN (SELECT * FROM {store.table(CALL_PRICES.name)} FINAL WHERE {_inside(span)}) AS before"
        f" ON {_same('now', 'before')} AND now.follows = before.price_run",
        _BULK,
    )


def standing(store: Store, span: Span, number: int) -> int:
    """How many calls of a span cost now what this run says."""
    return int(store.rows(f"SELECT count() FROM ({_standing(store, span, number)})")[0][0])


def _standing(store: Store, span: Span, number: int) -> str:
    keys = ", ".join(f"call.{name} AS {name}" for name in _KEY)
    return (
        f"SELECT {keys}, call.version AS version, priced.follows AS follows"
        f" FROM (SELECT {', '.join(_KEY)}, price_run, version FROM {store.table(CALLS.name)} FINAL"
        f" WHERE {_inside(span)} AND price_run >= {number}) AS call"
        f" JOIN (SELECT {', '.join(_KEY)}, price_run, follows FROM {store.table(CALL_PRICES.name)} FINAL"
        f" WHERE {_inside(span)} AND figures_of = {number}) AS priced"
        f" ON {_same('call', 'priced')} AND call.price_run = priced.price_run"
    )


def follow(store: Store, span: Span, number: int) -> None:
    """Write the calls of a span again with the figures of a run, where they have older ones."""
    names = CALLS.arrow.names
    taken = {*MONEY_COLUMNS, "price_run"}
    picked = ", ".join(f"{'priced' if name in taken else 'call'}.{name}" for name in names)
    others = ", ".join(name for name in names if name not in taken)
    store.command(
        f"INSERT INTO {store.table(CALLS.name)} ({', '.join(names)}) SELECT {picked}"
        f" FROM (SELECT {others}, version FROM {store.table(CALLS.name)} FINAL"
        f" WHERE {_inside(span)} AND price_run < {number}) AS call"
        f" JOIN (SELECT {', '.join(_KEPT)} FROM {store.table(CALL_PRICES.name)} FINAL"
        f" WHERE {_inside(span)} AND price_run = {number}) AS priced"
        f" ON {_same('call', 'priced')} AND call.version = priced.of_version",
        _BULK,
    )


def compared(store: Store, one: int, other: int, span: Span, by: Iterable[str]) -> list[dict[str, object]]:
    """What the calls that went through two runs cost under each: ``old_cost``, ``new_cost``, calls, changes of status.

    ``by``: of ``day`` and columns of calls.
    """
    groups = [("toDate(call.minute)" if name == "day" else f"call.{name}", name) for name in by]
    picked = ", ".join(f"toString({expression}) AS `{name}`" for expression, name in groups)
    names = ", ".join(f"`{name}`" for _, name in groups)
    prices = f"SELECT {', '.join(_KEY)}, cost, price_status FROM {store.table(CALL_PRICES.name)} FINAL WHERE {_inside(span)}"
    money = "toDecimal128(ifNull({}.cost, 0), 12)"
    return store.named_rows(
        f"SELECT {picked}, toInt64(count()) AS calls, sum({money.format('a')}) AS old_cost, sum({money.format('b')}) AS new_cost,"
        " new_cost - old_cost AS difference, toInt64(countIf(a.price_status != b.price_status)) AS status_changes,"
        " toInt64(countIf(a.price_status = 'unpriced')) AS old_unpriced,"
        " toInt64(countIf(b.price_status = 'unpriced')) AS new_unpriced"
        f" FROM ({prices} AND price_run = {one}) AS a JOIN ({prices} AND price_run = {other}) AS b USING ({', '.join(_KEY)})"
        f" JOIN (SELECT {', '.join(_KEY)}, provider, model FROM {store.table(CALLS.name)} FINAL WHERE {_inside(span)}) AS call"
        f" ON {_same('a', 'call')} GROUP BY {names} ORDER BY {names}"
    )


def _inside(span: Span) -> str:
    return f"minute BETWEEN toDateTime({span[0]}, 'UTC') AND toDateTime({span[1]}, 'UTC')"


def _same(one: str, other: str) -> str:
    return " AND ".join(f"{one}.{name} = {other}.{name}" for name in _KEY)
