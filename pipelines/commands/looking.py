"""Look at a store: ``summary``, ``reconcile``, ``export``."""

from __future__ import annotations

import shlex
from typing import Final

import click

from pipelines.commands.options import FORMAT, takes_settings
from pipelines.errors import CheckFailed
from pipelines.sections import Settings
from pipelines.show import Column, Format, Kind, show, table_of

_SECTIONS: Final = (
    "totals",
    "team",
    "app",
    "model",
    "cost_center",
    "hour",
    "prompt",
    "price_status",
    "unpriced",
    "dead_letter",
    "ledger",
)


@click.command(short_help="Show where the money went, and how sure it is.")
@takes_settings("store")
@FORMAT
@click.option(
    "--by",
    "only",
    type=click.Choice(_SECTIONS),
    help="Only this table, with every column.",
)
def summary(settings: Settings, fmt: str, only: str | None) -> None:
    """Show where the money went: by team, app, model, hour and prompt, and how sure it is."""
    from pipelines.report import print_report, print_section, print_sections
    from pipelines.stores import open_store

    store = open_store(settings)
    if fmt != Format.TABLE:
        print_sections(store, fmt, only)
    elif only:
        print_section(store, only)
    else:
        print_report(store, _next_commands(settings.store.to))


def _next_commands(to: str) -> list[tuple[str, str]]:
    at = f"--to {shlex.quote(to)}"
    return [
        (f"llm-finops summary {at} --by prompt", "every column of one table"),
        (f"llm-finops reconcile {at}", "prove every figure to the last digit"),
        (f"llm-finops run --from YOUR-LOGS {at}", "the same for your own logs"),
    ]


@click.command(short_help="Prove the ledger, and that minutes equal calls.")
@takes_settings("store")
@FORMAT
@click.option(
    "--repair",
    "mend",
    is_flag=True,
    help="Join calls that are left in parts, recompute minutes that differ from the calls, then check again.",
)
def reconcile(settings: Settings, fmt: str, mend: bool) -> None:
    """Prove the ledger and that minutes equal calls to the last digit. Exits 1 on any difference."""
    from pipelines.stores import open_store
    from sinks.join import due
    from sinks.reconcile import reconcile as prove
    from sinks.reconcile import repair

    store = open_store(settings)
    if mend:
        if due(store):
            from pipelines.jobs import job_of
            from pipelines.joining import join_left
            from pipelines.run import knowing

            joined = join_left(knowing(job_of(settings, ()), store), store)
            click.echo(f"{joined:,} calls joined", err=True)
        repaired = repair(store)
        click.echo(f"{repaired:,} minutes recomputed", err=True)
    proof = prove(store)
    columns = [
        Column("check"),
        Column("law"),
        Column("checked", Kind.COUNT),
        Column("differences", Kind.COUNT),
        Column("holds"),
    ]
    rows = [
        {"check": c.name, "law": c.law, "checked": c.checked, "differences": c.differences, "holds": c.holds}
        for c in proof.checks
    ]
    items = ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in proof.ledger.items())
    show(table_of(rows, columns, "Reconcile", items), fmt)
    if fmt == Format.TABLE:
        for check in proof.checks:
            for example in check.examples:
                wrong = ", ".join(f"{k}={v}" for k, v in example.items() if v not in (0, "", None))
                click.echo(f"{check.name}: {wrong}", err=True)
    if not proof.holds:
        failed = ", ".join(c.name for c in proof.checks if not c.holds)
        hint = "" if mend else "; read the same input again, or try reconcile --repair"
        raise CheckFailed(f"does not hold: {failed}{hint}")


@click.command(short_help="Write a table to Parquet, JSON lines or CSV.")
@takes_settings("store")
@click.argument("table")
@click.option("--out", required=True, help="New file: .parquet, .jsonl, .csv, .jsonl.gz or .csv.gz; - is standard output.")
@click.option("--out-format", type=click.Choice(["parquet", "jsonl", "csv"]), help="What to write, where no name says it.")
@click.option("--from-time", "since", metavar="TIME", help="First instant, ISO 8601, UTC where it names no zone.")
@click.option("--until", metavar="TIME", help="First instant that is no longer wanted.")
@click.option("--tenant", help="Only this tenant.")
@click.option("--where", multiple=True, metavar="KEY=VALUE", help="Only these rows: team=search. Again: any of a key's values.")
@click.option("--columns", multiple=True, metavar="NAMES", help="These columns, in this order, between commas. [default: all]")
@click.option("--force", is_flag=True, help="Replace the file if it is there.")
@click.option("--quiet", is_flag=True, help="No progress, no last line.")
def export(
    settings: Settings,
    table: str,
    out: str,
    out_format: str | None,
    since: str | None,
    until: str | None,
    tenant: str | None,
    where: tuple[str, ...],
    columns: tuple[str, ...],
    force: bool,
    quiet: bool,
) -> None:
    """Write a table to a file, exact and deduplicated; its columns are those of docs/tables.md.

    TABLE is calls, minutes, hours, days, dead-letters, receipts, segments, prices or runs. The file is there whole or not
    at all. Prints rows, bytes and path to standard error.
    """
    from pipelines.export import condition, moment, target
    from pipelines.export import export as write
    from pipelines.stores import open_store
    from sinks.export import select

    selection = select(
        table,
        [name.strip() for some in columns for name in some.split(",") if name.strip()],
        [*map(condition, where), *([("tenant", tenant)] if tenant is not None else [])],
        moment(since) if since else None,
        moment(until) if until else None,
    )
    to = target(out, out_format, force)
    done = write(open_store(settings), selection, to, force, quiet)
    if not quiet:
        click.echo(f"{done.rows:,} row{'s' * (done.rows != 1)}, {done.bytes:,} bytes, {done.target}", err=True)
