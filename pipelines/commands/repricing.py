"""What history costs under another price book: ``reprice check``, ``apply``, ``undo``, ``list``, ``diff``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from pipelines.commands.options import FORMAT, takes_settings
from pipelines.errors import SettingsError
from pipelines.sections import Settings
from pipelines.show import show

if TYPE_CHECKING:
    from pipelines.reprice import Prices
    from sinks.clickhouse import Store
    from sinks.reprice import Scope

_MINUTES: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M"]
_BY: Final = click.option(
    "--by",
    type=click.Choice(["day", "provider", "model"]),
    multiple=True,
    default=("day", "model"),
    show_default=True,
    help="What the diff is by; may be given several times.",
)
_TERMS: Final = click.option("--terms", "announced", is_flag=True, help="Price by the prices that the store has as terms.")


def _scoped(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options that hold a pricing to some calls."""
    for name in ("tenant", "model", "provider"):
        command = click.option(
            f"--{name}", f"{name}s", multiple=True, metavar="NAME", help=f"Only calls of this {name}, as stored. Repeatable."
        )(command)
    return command


_CONTRACTS: Final = "--price-contracts FILE"
_LAST: Final = 2**32 - 60 - 2**32 % 60


@click.group(short_help="Price history anew: another book, a what-if; apply it, take it back.")
def reprice() -> None:
    """What history costs under another price book, from the tokens that are stored: no text and no log is needed.

    The book is the one of this software, and over it the folders of --price-books, in their order.
    """


@reprice.command()
@takes_settings("store", "price")
@FORMAT
@_TERMS
@_BY
@_scoped
@click.option("--since", type=click.DateTime(_MINUTES), help="Only calls from this time on, UTC: 2026-03-01 or with T08:30.")
@click.option("--before", type=click.DateTime(_MINUTES), help="Only calls before this time, UTC.")
def check(
    settings: Settings,
    fmt: str,
    announced: bool,
    by: tuple[str, ...],
    since: datetime | None,
    before: datetime | None,
    **only: tuple[str, ...],
) -> None:
    """Show what calls would cost, beside what they cost now. Nothing is written."""
    from pipelines import reprice as pricing
    from pipelines.stores import open_store
    from sinks.reprice import scope_of
    from sinks.retag import spans

    store = open_store(settings)
    prices = _prices(store, settings, announced)
    over = spans(store, _seconds(since), _seconds(before), pricing.SPAN_ROWS)
    with _bar(len(over)) as bar:
        scope = scope_of(**only)
        found = pricing.check(store, prices, over, by, lambda done: bar.update(done - bar.pos), scope)
    lost = pricing.unstated(store, prices, _seconds(since) or 0, _seconds(before) or _LAST, scope)
    warning = f"{lost}, which is not stated ({_CONTRACTS}): they are priced without; " if lost else ""
    note = f"{warning}nothing was written"
    show(pricing.diff_table(found.rows(), by, f"Under book {prices.version}{_only(scope)}", note), fmt)


@reprice.command()
@takes_settings("store", "price")
@FORMAT
@_TERMS
@_BY
@_scoped
@click.option("--since", required=True, type=click.DateTime(_MINUTES), help="Calls from this time on, UTC.")
@click.option("--before", required=True, type=click.DateTime(_MINUTES), help="Calls before this time, UTC.")
@click.option("--without-contracts", is_flag=True, help="Also price calls whose contract is not stated, without it.")
def apply(
    settings: Settings,
    fmt: str,
    announced: bool,
    by: tuple[str, ...],
    since: datetime,
    before: datetime,
    without_contracts: bool,
    **only: tuple[str, ...],
) -> None:
    """Give the calls of a range the prices of a book, as a run with a number. What they cost before stays readable.

    Killed, or when calls of the range came late, it is finished by running it again.
    """
    from pipelines import reprice as pricing
    from pipelines.stores import open_store
    from sinks.reprice import scope_of

    scope = scope_of(**only)
    start, end = _seconds(since) or 0, _seconds(before) or 0
    if not 0 <= start < end <= _LAST:
        raise SettingsError("--since must be before --before, both from 1970 to 2106")
    store = open_store(settings)
    prices = _prices(store, settings, announced)
    lost = pricing.unstated(store, prices, max(start, pricing.closed_until(store)), end, scope)
    if lost and not without_contracts:
        fix = f"name its file ({_CONTRACTS}), or say --without-contracts to price them without"
        raise SettingsError(f"{lost}, which is not stated: {fix}")
    with _bar(len(pricing.open_spans(store, start, end))) as bar:
        wait = settings.runner.wait_seconds
        run, found = pricing.apply(store, prices, start, end, by, wait, lambda done: bar.update(done - bar.pos), scope=scope)
    closed = pricing.closed_until(store)
    left = f"; days before {datetime.fromtimestamp(closed, UTC):%Y-%m-%d} are closed and keep theirs" if closed > start else ""
    show(pricing.diff_table(found.rows(), by, f"Run {run.number}, book {run.book_version}{_only(scope)}", f"applied{left}"), fmt)


@reprice.command()
@takes_settings("store")
@FORMAT
@click.argument("price_run", type=click.IntRange(2, 65535))
def undo(settings: Settings, fmt: str, price_run: int) -> None:
    """Give the calls of run PRICE_RUN what they cost before it, to the last digit, as a run of its own."""
    from pipelines import reprice as pricing
    from pipelines.stores import open_store
    from sinks.reprice import price_runs

    store = open_store(settings)
    meant = [one for one in price_runs(store) if one.number == price_run]
    with _bar(sum(len(pricing.open_spans(store, one.since, one.until)) for one in meant)) as bar:
        run = pricing.undo(store, price_run, settings.runner.wait_seconds, lambda done: bar.update(done - bar.pos))
    show(pricing.runs_table(one for one in price_runs(store) if one.number in (price_run, run.number)), fmt)


@reprice.command("list")
@takes_settings("store")
@FORMAT
def listing(settings: Settings, fmt: str) -> None:
    """Show every pricing of history there was, and how many calls came late into each."""
    from pipelines.reprice import late_calls, runs_table
    from pipelines.stores import open_store
    from sinks.reprice import price_runs

    store = open_store(settings)
    runs = price_runs(store)
    show(runs_table(runs, late_calls(store, runs)), fmt)


@reprice.command()
@takes_settings("store")
@FORMAT
@_BY
@click.argument("one", type=click.IntRange(1, 65535))
@click.argument("other", type=click.IntRange(1, 65535))
def diff(settings: Settings, fmt: str, by: tuple[str, ...], one: int, other: int) -> None:
    """Show what the calls that went through two runs cost under each. Run 1 is the live one."""
    from pipelines.reprice import compare, diff_table
    from pipelines.stores import open_store

    rows = compare(open_store(settings), one, other, by)
    show(diff_table(rows, by, f"Run {one} (before) and run {other} (then)"), fmt)


def _prices(store: Store, settings: Settings, announced: bool) -> Prices:
    from pipelines.reprice import Prices
    from pipelines.terms import timeline
    from transforms.price.entries import read_folder
    from transforms.terms import Terms

    if not announced:
        books = tuple(read_folder(folder) for folder in settings.price.books)
        return Prices((Terms(books=books, contracts=tuple(settings.price.contracts)),))
    terms = timeline(store)
    if not terms:
        raise SettingsError(f"{store.address}: no terms were announced; leave --terms away, see llm-finops terms")
    return Prices(terms)


def _only(scope: Scope) -> str:
    return f", only {scope}" if str(scope) else ""


def _seconds(at: datetime | None) -> int | None:
    return int(at.replace(tzinfo=UTC).timestamp()) if at else None


def _bar(length: int) -> Any:
    return click.progressbar(length=length, label="reprice", file=sys.stderr, hidden=not sys.stderr.isatty())
