"""What a vendor charged: ``invoice show``, ``compare``, ``import``, ``apply``, ``list`` and ``remove``."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipelines.commands.options import FORMAT, takes_settings
from pipelines.errors import CheckFailed, InputError, SettingsError
from pipelines.sections import Settings

if TYPE_CHECKING:
    from pipelines.invoices import Invoice

_FILES = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE…")
_DUPLICATES = click.option("--duplicates", is_flag=True, help="Lines that are there twice, word for word, are meant.")
_SOME_FILES = click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE…]")


@click.group(short_help="What a vendor charged, and why it is not what our calls cost.")
def invoice() -> None:
    """Read FOCUS files (CSV, Parquet) and the costs of OpenAI (JSON, CSV), and compare them with the calls of a store."""


@invoice.command("show")
@takes_settings("price")
@_FILES
@FORMAT
@_DUPLICATES
def show_files(settings: Settings, files: tuple[Path, ...], fmt: str, duplicates: bool) -> None:
    """Show what was read from invoice files: sums by category, and lines. Needs no store."""
    from pipelines.invoices import print_invoice, read_invoices, refuse
    from transforms.invoice import Models
    from transforms.price import load_book

    found = read_invoices(files, Models(load_book(settings.price.books)))
    print_invoice(found, fmt)
    refuse(found, duplicates=duplicates)


@invoice.command("compare")
@takes_settings("store", "price")
@_SOME_FILES
@FORMAT
@click.option("--by", type=click.Choice(["day", "provider", "account", "model"]), help="Sums by one of these. [default: by all]")
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Only this one, as our calls name it. Repeatable.")
@click.option("--account", "accounts", multiple=True, metavar="OURS=THEIRS", help="The invoice's id of an account or project.")
@click.option("--model", "spellings", multiple=True, metavar="OURS=THEIRS", help="The invoice's name of a model.")
@click.option("--from-time", "since", metavar="TIME", help="Only charges that begin at or after it, UTC.")
@click.option("--until", metavar="TIME", help="Only charges that end at or before it, UTC.")
@click.option("--rounding", metavar="DOLLARS", help="What a line may be off. [default: half of the last decimal of its file]")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    metavar="PCT",
    help="Exit 1 if more of what was billed is unexplained.",
)
@_DUPLICATES
def compare_files(
    settings: Settings,
    files: tuple[Path, ...],
    fmt: str,
    by: str | None,
    providers: tuple[str, ...],
    accounts: tuple[str, ...],
    spellings: tuple[str, ...],
    since: str | None,
    until: str | None,
    rounding: str | None,
    tolerance: float,
    duplicates: bool,
) -> None:
    """Compare invoice files with calls, by day, provider, account and model, and say what the difference is made of.

    Without files, what was imported into the store is compared.

    Exits 1 if more than the tolerance is unexplained, or a row of a file could not be read or is there twice.
    """
    from pipelines.charges import stored
    from pipelines.export import condition, moment
    from pipelines.invoices import our_calls, print_comparison, read_invoices, refuse, select
    from pipelines.stores import open_store
    from transforms.invoice import Models, compare
    from transforms.price import load_book

    first, last = moment(since) if since else None, moment(until) if until else None
    names, size = dict(map(condition, accounts)), _dollars(rounding)
    models = Models(load_book(settings.price.books))
    read = read_invoices(files, models) if files else stored(open_store(settings), providers)
    charges = select(read.comparable, providers, first, last)
    if not charges:
        refuse(read)
        raise InputError(_nothing(files, read))
    called = {theirs: ours for ours, theirs in map(condition, spellings)}
    found = compare(charges, our_calls(open_store(settings), charges), models, names, size, called)
    print_comparison(found, read, fmt, by)
    refuse(read, duplicates=duplicates)
    if found.unexplained() * 100 > Decimal(str(tolerance)):
        share = float(found.unexplained() * 100)
        raise CheckFailed(f"unexplained: {share:.3g} % of what was billed, more than {tolerance:g} %")


@invoice.command("import")
@takes_settings("store", "price")
@_FILES
@FORMAT
@click.option("--from-time", "since", metavar="DAY", help="First day that the files are whole for, UTC. [default: of a charge]")
@click.option("--until", metavar="DAY", help="First day that they are not for.")
@click.option("--whole", is_flag=True, help="They are whole for their days, though what is in force has days or projects more.")
@click.option("--currency", "currencies", multiple=True, metavar="CODE", help="Lines may be in it, though others are in force.")
@_DUPLICATES
@click.option("--partial", is_flag=True, help="Import the rest where rows cannot be read; exits 1 all the same.")
def import_files(
    settings: Settings,
    files: tuple[Path, ...],
    fmt: str,
    since: str | None,
    until: str | None,
    whole: bool,
    currencies: tuple[str, ...],
    duplicates: bool,
    partial: bool,
) -> None:
    """Keep the lines of invoice files in the store: what they charge for a provider, account and day stands from now on.

    The files are parts of one export. The same files again change nothing; a corrected export replaces the earlier one. Killed,
    it is finished by running it again.
    """
    from pipelines.charges import import_invoices, outcomes_table
    from pipelines.invoices import MEANT, foreign, left_unread, read_invoices, refuse, repeated
    from pipelines.show import Format, show
    from pipelines.stores import open_store
    from pipelines.text import printable
    from transforms.invoice import Models
    from transforms.price import load_book

    first, last = (_day(text, name) for text, name in ((since, "--from-time"), (until, "--until")))
    if first is not None and last is not None and first >= last:
        raise SettingsError("--from-time must be before --until")
    read = read_invoices(files, Models(load_book(settings.price.books)))
    if read.again and not duplicates:
        raise InputError(f"{'; '.join(repeated(read))}; nothing was imported: {MEANT}")
    if not partial:
        refuse(read, "nothing was imported: mend the file, or --partial imports all else", duplicates)
    if not read.charges:
        refuse(read)
        raise InputError(_nothing(files, read))
    allowed = {code.upper() for code in currencies}
    done = import_invoices(open_store(settings), read, first, last, whole, settings.runner.wait_seconds, allowed)
    show(outcomes_table(done, fmt == Format.TABLE), fmt)
    for note in [*left_unread(read), *foreign(read.charges, "kept, and neither compared nor applied")]:
        click.echo(printable(note), err=True)
    refuse(read, "all else was imported", duplicates)


@invoice.command("apply")
@takes_settings("store", "price")
@FORMAT
@click.option("--check", "only_check", is_flag=True, help="Show what it would come to; nothing is written.")
@click.option("--provider", "providers", multiple=True, metavar="NAME", help="Only this one, as our calls name it. Repeatable.")
@click.option("--account", "accounts", multiple=True, metavar="OURS=THEIRS", help="The invoice's id of an account or project.")
@click.option("--model", "spellings", multiple=True, metavar="OURS=THEIRS", help="The invoice's name of a model.")
@click.option("--from-time", "since", metavar="TIME", help="Only charges that begin at or after it, UTC.")
@click.option("--until", metavar="TIME", help="Only charges that end at or before it, UTC.")
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 100),
    default=1.0,
    show_default=True,
    metavar="PCT",
    help="How far tokens of calls may be above those billed; or dollars apart, where no tokens are.",
)
def apply_invoices(
    settings: Settings,
    fmt: str,
    only_check: bool,
    providers: tuple[str, ...],
    accounts: tuple[str, ...],
    spellings: tuple[str, ...],
    since: str | None,
    until: str | None,
    tolerance: float,
) -> None:
    """Have calls cost what the invoices in force bill for their tokens, as a run that llm-finops reprice undo takes back.

    Calls of which the invoice does not tell keep what they cost, and are named with the reason.
    """
    from pipelines.billing import Billing, apply, billing, billing_table
    from pipelines.charges import stored
    from pipelines.export import condition, moment
    from pipelines.invoices import foreign, select
    from pipelines.show import show
    from pipelines.stores import open_store
    from pipelines.text import printable
    from transforms.invoice import Models
    from transforms.price import load_book

    first, last = moment(since) if since else None, moment(until) if until else None
    names = dict(map(condition, accounts))
    called = {theirs: ours for ours, theirs in map(condition, spellings)}
    models, store = Models(load_book(settings.price.books)), open_store(settings)

    def work() -> Billing:
        charges = select(stored(store, providers).charges, providers, first, last)
        usage = [c for c in charges if c.category == "usage"]
        if not usage:
            raise InputError("no line of usage is in force in the store for these days; see llm-finops invoice import and list")
        if all(c.currency != "USD" for c in usage):
            raise InputError(f"nothing can be applied: {'; '.join(foreign(usage, 'left out'))}; import an export in USD")
        return billing(store, charges, models, Decimal(str(tolerance)) / 100, names, called)

    if only_check:
        found = work()
        show(billing_table(found, "By what was billed", "nothing was written"), fmt)
    else:
        run, found = apply(store, work, settings.runner.wait_seconds)
        title = f"Run {run.number}, {run.book_version}" if run else "By what was billed"
        show(billing_table(found, title, "applied" if run else "no call changes, so there is no run"), fmt)
    for note in [*found.plan.notes, *foreign(found.charges, "not applied")]:
        click.echo(printable(note), err=True)


@invoice.command("list")
@takes_settings("store")
@FORMAT
@click.option("--all", "every", is_flag=True, help="Also those that others replaced, or that were removed or killed.")
def list_imports(settings: Settings, fmt: str, every: bool) -> None:
    """Show the imports in force: provider, account, days, lines and what they bill."""
    from pipelines.charges import imports_table
    from pipelines.show import Format, show
    from pipelines.stores import open_store

    show(imports_table(open_store(settings), every, fmt == Format.TABLE), fmt)


@invoice.command("remove")
@takes_settings("store")
@FORMAT
@click.argument("number", type=click.IntRange(1, 2**32 - 1), metavar="INVOICE")
def remove_import(settings: Settings, fmt: str, number: int) -> None:
    """Take an import out of force. What it replaced stands again; its lines stay readable in the table charges."""
    from pipelines.charges import imports_table, remove
    from pipelines.show import Format, show
    from pipelines.stores import open_store

    store = open_store(settings)
    remove(store, number, settings.runner.wait_seconds)
    show(imports_table(store, False, fmt == Format.TABLE), fmt)


def _day(text: str | None, name: str) -> int | None:
    from pipelines.export import moment

    if text is None:
        return None
    at = int(moment(text).timestamp())
    if at % 86_400 or not 0 <= at < 2**32:
        raise SettingsError(f"{name} {text}: must be a day in UTC, such as 2026-03-01")
    return at


def _dollars(text: str | None) -> Decimal | None:
    try:
        amount = None if text is None else Decimal(text)
    except InvalidOperation:
        amount = Decimal("NaN")
    if amount is not None and not (amount.is_finite() and amount >= 0):
        raise SettingsError(f"--rounding {text}: not an amount of dollars such as 0.005")
    return amount


def _nothing(files: tuple[Path, ...], read: Invoice) -> str:
    from pipelines.invoices import foreign

    named = ", ".join(map(str, files)) or "the store"
    charges, providers = read.charges, {c.provider for c in read.charges}
    if not files and not providers:
        return "no invoice is in force in the store for these providers; see llm-finops invoice import and list"
    if not providers:
        return "; ".join([f"{named}: no charge for a service of models", *read.assumed])
    if all(c.currency != "USD" for c in charges):
        return f"{named}: nothing can be compared: {'; '.join(foreign(charges, 'left out'))}; ask for an export in USD"
    return f"{named}: no charge fits --provider, --from-time and --until; charges are of {', '.join(sorted(providers))}"
