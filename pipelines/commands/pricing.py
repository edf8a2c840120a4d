"""What calls are priced by: ``prices`` and ``explain``."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from pipelines.commands.options import FORMAT, takes_settings
from pipelines.errors import CheckFailed
from pipelines.sections import Settings
from pipelines.show import Format

_AT: Final = click.option("--at", metavar="TIME", help="Time, ISO 8601, UTC where it names no zone. [default: now]")
_KNOWN_ON: Final = click.option("--known-on", metavar="DAY", help="Only what was recorded until then: the book of that day.")
_PROVIDER: Final = click.option("--provider", default="", help="Only this provider.")
_TODAY: Final = click.option("--today", metavar="DAY", help="Take this for today. [default: today]")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


@click.group(short_help="The price book: look, compare, check, import.")
def prices() -> None:
    """What calls are priced by: prices that hold, a model's history, differences, what is odd, other people's lists."""


@prices.command("list")
@takes_settings("price")
@FORMAT
@_PROVIDER
@click.option("--model", default="*", help="Only models that match: claude-*.")
@click.option("--tier", default="", help="Only this tier.")
@_AT
@_KNOWN_ON
def list_(settings: Settings, fmt: str, provider: str, model: str, tier: str, at: str | None, known_on: str | None) -> None:
    """Show the prices that hold at a time."""
    from pipelines.pricing import day, micros, print_prices
    from transforms.price import load_book
    from transforms.price.history import holding

    book = load_book(settings.price.books, known_on=day(known_on))
    found = holding(book, micros(at or _now()), provider, model, tier)
    print_prices(found, f"Prices of book {book.book_version} at {at or 'this moment'}", fmt)


@prices.command("show")
@takes_settings("price")
@FORMAT
@click.argument("model")
@_PROVIDER
@_AT
@_KNOWN_ON
def show_(settings: Settings, fmt: str, model: str, provider: str, at: str | None, known_on: str | None) -> None:
    """Show all prices that a model ever had, and the names that lead to it. MODEL is a name as it stands in logs."""
    from pipelines.pricing import day, history_rows, micros, print_history, print_history_rows
    from transforms.price import load_book
    from transforms.price.history import histories, holding, nearest

    book = load_book(settings.price.books, known_on=day(known_on))
    time = micros(at or _now())
    found = histories(book, model, time, provider)
    if not found:
        near = nearest(book, model, provider)
        perhaps = f"; did you mean {', '.join(near)}?" if near else "; llm-finops prices list shows the models"
        raise CheckFailed(f"{model}: no model of {provider or 'the book'} has this name{perhaps}")
    holds = {entry.rate_id for entry in holding(book, time)}
    if fmt == Format.TABLE:
        for number, one in enumerate(found):
            click.echo() if number else None
            print_history(one, model, time, holds)
    else:
        print_history_rows([row for one in found for row in history_rows(one, time, holds)], fmt)


@prices.command()
@FORMAT
@_PROVIDER
@click.option("--alone", is_flag=True, help="Take a folder or file for a whole book: what it lacks is removed.")
@click.argument("a")
@click.argument("b")
def diff(fmt: str, provider: str, alone: bool, a: str, b: str) -> None:
    """Show in which prices B differs from A: each is built-in, built-in@DAY (as known then), a folder or a file.

    A folder or file beside built-in is laid over it, as own prices are in a run. Several: built-in+FOLDER+FOLDER.
    """
    from pipelines.pricing import books_named, print_changes
    from transforms.price.history import differences

    *books, title = books_named(a, b, alone)
    old, new = ([entry for entry in book if provider in ("", entry.provider)] for book in books)
    print_changes(list(differences(old, new)), title, fmt)


@prices.command()
@takes_settings("price")
@FORMAT
@_TODAY
@click.option("--stale-days", type=click.IntRange(1), default=180, show_default=True, help="Age of a record that is asked about.")
@click.option("--strict", is_flag=True, help="Exit 1 for warnings, too.")
@click.argument("folders", nargs=-1, type=click.Path(path_type=Path))
def check(settings: Settings, fmt: str, today: str | None, stale_days: int, strict: bool, folders: tuple[Path, ...]) -> None:
    """Show what is wrong or odd about FOLDERS of prices, or about the book and own prices of the settings; and what is wrong with
    contracts of the settings. Exits 1 on errors."""
    from pipelines.pricing import day, findings, print_findings

    on = day(today or _now()) or datetime.now(UTC).date()
    found = findings(folders, settings.price.books, settings.price.contracts, on, stale_days)
    print_findings(found, fmt, len(settings.price.contracts))
    errors = sum(one.severity == "error" for one in found)
    looked_at = "prices and contracts" if settings.price.contracts else "prices"
    if errors or (strict and found):
        raise CheckFailed(f"{errors} errors, {len(found) - errors} warnings in {looked_at}")


@prices.command("import")
@takes_settings("price")
@FORMAT
@_PROVIDER
@_TODAY
@click.argument("source", type=click.Choice(["genai-prices", "litellm"]))
@click.option("--file", type=click.Path(path_type=Path), help="The JSON it publishes. [default: that of the installed package]")
@click.option("--out", type=click.Path(path_type=Path), help="New folder for proposed prices, to be read and approved.")
def import_(
    settings: Settings, fmt: str, provider: str, today: str | None, source: str, file: Path | None, out: Path | None
) -> None:
    """Show in what another price list differs from the book. Nothing is taken over: --out writes proposals to read."""
    from pipelines.importing import compare, loadable, print_compared, read, write
    from pipelines.pricing import day, micros
    from transforms.price import load_book
    from transforms.price.imports import as_files

    on = day(today or _now()) or datetime.now(UTC).date()
    label, found = read(source, file)
    proposals, refused = loadable([one for one in found if provider in ("", one.provider)], label, on)
    book = load_book(settings.price.books)
    print_compared(list(compare(book, proposals, refused, label, on, micros(on.isoformat()))), f"{label} against the book", fmt)
    if out:
        files = as_files(proposals, label, on)
        write(files, out)
        click.echo(f"{len(proposals):,} models in {len(files)} files of {out}: read them, then move what is right", err=True)


@click.command(short_help="Show the sum behind one call's cost.")
@takes_settings("store", "price")
@FORMAT
@click.argument("call", required=False)
@_PROVIDER
@click.option("--model", default="", help="Instead of CALL, with --provider: the price of a call that nobody made.")
@click.option("--tier", default="", help="Service tier of such a call.")
@click.option("--account", default="", help="Account that makes it, where contracts tell accounts apart.")
@click.option("--input", "input_", type=click.IntRange(0), help="Its fresh input tokens.")
@click.option("--cache-read", type=click.IntRange(0), help="Its input tokens read from a cache.")
@click.option("--output", type=click.IntRange(0), help="Its output tokens.")
@_AT
def explain(
    settings: Settings,
    fmt: str,
    call: str | None,
    provider: str,
    model: str,
    tier: str,
    account: str,
    input_: int | None,
    cache_read: int | None,
    output: int | None,
    at: str | None,
) -> None:
    """Show the sum behind one call's cost: leaves, rates, where they come from, and whether the store has the same.

    CALL is a call_key, or a provider_call_id, request_id or span_id. Exits 1 if there is none.
    """
    from pipelines.explaining import explain_made_up, explain_stored, print_explained
    from pipelines.pricing import micros
    from pipelines.stores import open_store

    if bool(call) == bool(provider and model):
        raise click.UsageError("name a CALL of the store, or --provider and --model of a call that nobody made")
    if call:
        print_explained(explain_stored(open_store(settings), call, settings.price.books, settings.price.contracts), fmt)
        return
    leaves = {"input_fresh": input_, "input_cache_read": cache_read, "output_visible": output}
    made_up = {"provider": provider, "model": model, "service_tier": tier, "account": account, "event_time": micros(at or _now())}
    made_up |= leaves
    print_explained(explain_made_up(settings.price.books, made_up, settings.price.contracts), fmt)
