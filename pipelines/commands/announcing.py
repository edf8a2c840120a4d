"""What calls cost and who owns them, from when on: ``terms show`` and ``terms announce``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import click

from pipelines.commands.options import FORMAT, takes_settings
from pipelines.sections import Settings
from pipelines.show import Column, Kind, show, table_of

_TIMES: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


@click.group(short_help="Prices and rules that a store keeps account of: show them, announce others.")
def terms() -> None:
    """Own prices, contracts and ownership rules, with the event time from which calls go by them."""


@terms.command("show")
@takes_settings("store")
@FORMAT
def show_terms(settings: Settings, fmt: str) -> None:
    """Show which prices and rules hold from when on."""
    from pipelines.stores import open_store
    from pipelines.terms import instant, timeline
    from sinks.terms import announced
    from transforms.price import load_book

    store = open_store(settings)
    known = announced(store)
    rows = [
        {
            "since": instant(one.since),
            "terms": one.fingerprint,
            "book_version": (book := load_book(held.books, held.contracts)).book_version,
            "books": len(held.books),
            "contracts": len(book.contracts),
            "rules": len(held.owners),
        }
        for one, held in zip(known, timeline(store, known), strict=True)
    ]
    columns = [
        Column("since", title="calls from"),
        Column("terms"),
        Column("book_version", title="price book"),
        Column("books", Kind.COUNT, "own folders"),
        Column("contracts", Kind.COUNT),
        Column("rules", Kind.COUNT),
    ]
    note = "the first ones hold before, too" if rows else "none: each run goes by its own settings, until one follows its input"
    show(table_of(rows, columns, "Terms", note), fmt)


@terms.command()
@takes_settings("store", "price", "owners", "terms")
@click.option("--from", "since", type=click.DateTime(_TIMES), help="Event time, UTC: 2026-03-01 or with T08:30.")
def announce(settings: Settings, since: datetime | None) -> None:
    """Let the prices and rules of the settings hold for calls from an event time on.

    Without --from it is terms.lead_seconds ahead of the clock. Runs that go on, here or on Flink, take them up by themselves.
    Calls that were read before stay as they are until they are read again.
    """
    from pipelines.stores import store_settings
    from pipelines.terms import TermsFiles, announce_from, earliest, in_words, publish_book, read_content
    from sinks.schema import migrate
    from sinks.terms import announced, clock

    found = read_content(TermsFiles(settings.price.books, settings.owners.rules, settings.price.contracts))
    store = store_settings(settings).open()
    migrate(store)
    soonest = earliest(clock(store), settings.terms.lead_seconds)
    at = soonest if since is None else int(since.replace(tzinfo=UTC).timestamp()) * 1_000_000
    first = not announced(store)
    said = in_words(announce_from(store, found, at))
    publish_book(store, settings.price.books, settings.price.contracts)
    click.echo(said)
    if first:
        click.echo("the store had no terms: these hold for all time before, too, until earlier ones are announced", err=True)
    if at < soonest:
        click.echo("calls from then on that are in the store already stay as they are, until they are read again", err=True)
