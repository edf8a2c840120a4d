"""Who owns a call: ``owners check`` and ``owners apply``."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Final

import click

from pipelines.commands.options import FORMAT, takes_settings
from pipelines.errors import CheckFailed, SettingsError
from pipelines.sections import Settings
from pipelines.show import show

_MINUTES: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M"]


@click.group(short_help="Who owns a call: check ownership rules, apply them.")
def owners() -> None:
    """Who owns the calls: see what the ownership rules cover, and give history the owners they name now."""


@owners.command()
@takes_settings("store", "owners")
@FORMAT
@click.option("--by", "only", type=click.Choice(["coverage", "rules", "conflicts", "unallocated"]), help="Only this table.")
@click.option(
    "--max-unallocated", type=click.FloatRange(0, 100), metavar="PCT", help="Exit 1 if more of the dollars is unallocated."
)
def check(settings: Settings, fmt: str, only: str | None, max_unallocated: float | None) -> None:
    """Show coverage, dead rules, conflicts and the largest unallocated groups, under the rules as they are now."""
    from pipelines.owners import coverage, print_check
    from pipelines.stores import open_store
    from transforms.own.files import read_rules

    rules = read_rules(settings.owners.rules)
    found = coverage(open_store(settings), rules)
    print_check(found, fmt, only)
    if max_unallocated is not None and found.exceeds(max_unallocated):
        raise CheckFailed(f"unallocated: {found.unallocated_share()}, more than {max_unallocated:g} %")


@owners.command()
@takes_settings("store", "owners")
@FORMAT
@click.option("--dry-run", is_flag=True, help="Only show what would move, in calls and dollars.")
@click.option("--since", type=click.DateTime(_MINUTES), help="Only calls from this time on, UTC: 2026-03-01 or with T08:30.")
@click.option("--before", type=click.DateTime(_MINUTES), help="Only calls before this time, UTC.")
def apply(settings: Settings, fmt: str, dry_run: bool, since: datetime | None, before: datetime | None) -> None:
    """Give history the owners that the rules name now. Dollars stay; whose they are changes.

    Killed, it is finished by running it again; running it twice changes nothing more.
    """
    from pipelines import owners as tagging
    from pipelines.stores import open_store
    from sinks.retag import spans
    from transforms.own.files import read_rules

    if not settings.owners.rules:
        raise SettingsError("name the ownership rules: --owners-rules FILE, or [owners] rules in the configuration")
    rules = read_rules(settings.owners.rules)
    store = open_store(settings)
    start, end = (int(at.replace(tzinfo=UTC).timestamp()) if at else None for at in (since, before))
    over = spans(store, start, end)
    with click.progressbar(length=len(over), label="owners", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:

        def progress(done: int) -> None:
            bar.update(done - bar.pos)

        if dry_run:
            found = tagging.moves(store, rules, over, progress)
        else:
            found = tagging.apply(store, rules, over, settings.runner.wait_seconds, progress)
    show(tagging.moves_table(found, not dry_run, fmt), fmt)
