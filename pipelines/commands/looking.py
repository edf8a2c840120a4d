"""Look at a store: ``summary``, ``reconcile``, ``audit``, ``export``."""

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


_AUDITED_BY: Final = (
    "day",
    "tenant",
    "provider",
    "model",
    "api",
    "side",
    "category",
    "count_quality",
    "endpoint_host",
    "usage_source",
    "counted_with",
)


@click.command(short_help="Compare reported tokens with counted ones; find drift.")
@takes_settings("store")
@FORMAT
@click.option("--from-time", "since", metavar="TIME", help="From the UTC day of this time on, ISO 8601.")
@click.option("--until", metavar="TIME", help="Up to this time; the UTC day that it lies in counts whole.")
@click.option("--tenant", multiple=True, help="Only this tenant. Again: any of these.")
@click.option("--provider", multiple=True, help="Only this provider. Again: any of these.")
@click.option("--model", multiple=True, help="Only this model. Again: any of these.")
@click.option(
    "--by",
    multiple=True,
    type=click.Choice(_AUDITED_BY),
    help="Group the table by this. Again: and by this. [default: provider, model, api, side, category, count_quality]",
)
@click.option("--top", type=click.IntRange(0), default=20, show_default=True, help="Rows of the table for people; 0: all.")
@click.option("--findings", "only_findings", is_flag=True, help="Only the findings.")
@click.option("--stored", is_flag=True, help="Read audit_days as it is; derive no day anew. For a user that may only read.")
def audit(
    settings: Settings,
    fmt: str,
    since: str | None,
    until: str | None,
    tenant: tuple[str, ...],
    provider: tuple[str, ...],
    model: tuple[str, ...],
    by: tuple[str, ...],
    top: int,
    only_findings: bool,
    stored: bool,
) -> None:
    """Compare the tokens that vendors report with those counted from the text, worst dollars first, and name what drifts.

    Brings the table audit_days up to date first, for the days asked for. Exits 1 if there are findings; docs/audit.md says
    what each means.
    """
    from pipelines.audit import DEFAULT_BY, days_between, print_audit
    from pipelines.errors import SettingsError
    from pipelines.export import moment
    from pipelines.stores import open_store
    from sinks.audit import audit_days, refresh
    from transforms.audit import findings

    first, end = days_between(moment(since) if since else None, moment(until) if until else None)
    if first >= end:
        raise SettingsError(f"--from-time {since}: the period ends before it begins")
    store = open_store(settings)
    if not stored:
        refresh(store, first, end)
    chosen = {name: values for name, values in (("tenant", tenant), ("provider", provider), ("model", model)) if values}
    rows = audit_days(store, first, end, chosen)
    found = findings(rows)
    print_audit(rows, found, tuple(dict.fromkeys(by)) or DEFAULT_BY, fmt, only_findings, top)
    if found:
        raise CheckFailed(f"{len(found):,} finding{'s' * (len(found) != 1)}: {', '.join(sorted({one.kind for one in found}))}")


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

    TABLE is calls, minutes, hours, days, audit-days, dead-letters, receipts, segments, prices, runs or charges. The file is there
    whole or not at all. Prints rows, bytes and path to standard error.
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
