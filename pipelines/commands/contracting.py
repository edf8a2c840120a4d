"""What contracts save, and what is left of credits: ``contracts``."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import click

from pipelines.commands.options import FORMAT, takes_settings
from pipelines.sections import Settings
from pipelines.show import Column, Format, Kind, show, table_of

_BY: Final = (
    "contract",
    "team",
    "app",
    "feature",
    "environment",
    "cost_center",
    "provider",
    "model",
    "account",
    "project",
    "tenant",
    "credit",
)
_FIGURES: Final = (
    Column("list_cost", Kind.MONEY, "list"),
    Column("contracted_cost", Kind.MONEY, "contracted"),
    Column("credits_used", Kind.MONEY, "credits"),
    Column("effective_cost", Kind.MONEY, "effective"),
    Column("saved", Kind.MONEY),
    Column("saved_share", Kind.SHARE, "saved"),
)
_CREDITS: Final = (
    Column("contract"),
    Column("credit"),
    Column("state"),
    Column("amount", Kind.MONEY),
    Column("used", Kind.MONEY),
    Column("left", Kind.MONEY),
    Column("from"),
    Column("to"),
    Column("cost_a_day", Kind.MONEY, "a day"),
    Column("runs_out", title="runs out"),
)
_SHORT: Final = ("contract", "credit", "amount", "left", "to", "runs_out")
"""Columns of credits where they stand below another table."""

_RUNS_OUT: Final = "runs out: on that day nothing is left, at the mean cost of the week before the last day in the store"


@click.command(short_help="Show list, contracted and effective cost, and what is left of credits.")
@takes_settings("store", "price")
@FORMAT
@click.option("--by", type=click.Choice(_BY), default="contract", show_default=True, help="What a row is; credit: the credits.")
@click.option("--from-time", "since", type=click.DateTime(["%Y-%m-%d"]), help="First day, UTC.")
@click.option("--until", type=click.DateTime(["%Y-%m-%d"]), help="First day that is no longer wanted, UTC.")
def contracts(settings: Settings, fmt: str, by: str, since: datetime | None, until: datetime | None) -> None:
    """Show list, contracted and effective cost side by side, and what is left of credits.

    Contracts are those of the store's terms; of a store without terms, those of the settings. Credits are drawn day by day,
    whichever days are shown, and what they pay of a day is shared in proportion to cost.
    """
    from pipelines import contracting
    from pipelines.stores import open_store

    store = open_store(settings)
    known = contracting.known_contracts(store, settings.price.contracts)
    found = contracting.sums(store, "contract" if by == "credit" else by)
    paid = contracting.drawn(found, known)
    if warning := contracting.not_kept(store, known):
        click.echo(warning, err=True)
    if warning := contracting.not_stated(found, known):
        click.echo(warning, err=True)
    if by != "credit":
        start, end = (None if at is None else int(at.replace(tzinfo=UTC).timestamp()) // 86_400 for at in (since, until))
        rows = contracting.figure_rows(contracting.figures(found, paid, start, end), by, fmt == Format.TABLE)
        columns = [Column("name", title=by.replace("_", " ")), Column("calls", Kind.COUNT), *_FIGURES]
        if fmt == Format.TABLE:
            columns = [column for column in columns if column.name != "saved"]
        else:
            columns.insert(2, Column("unpriced_calls", Kind.COUNT))
        unstated = any(row["credits_used"] is None for row in rows)
        note = "" if known or unstated else "there are no contracts: price.contracts names none"
        if unpriced := rows[-1]["unpriced_calls"] if rows else 0:
            note += f"{'; ' if note else ''}{unpriced:,} of the calls are unpriced, and in no sum"
        show(table_of(rows, columns, f"Cost by {by.replace('_', ' ')}", note), fmt)
    left = contracting.credit_rows(found, known, paid)
    if by == "credit":
        show(table_of(left, _CREDITS, "Credits", _RUNS_OUT if left else ""), fmt)
    elif left and fmt == Format.TABLE:
        click.echo()
        show(table_of(left, [column for column in _CREDITS if column.name in _SHORT], "Credits", _RUNS_OUT), fmt)
