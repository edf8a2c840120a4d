"""Keep a store: ``migrate``, ``serve``, ``doctor``, ``forget``."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from pipelines.commands.options import FORMAT, takes_settings
from pipelines.commands.running import say_retention
from pipelines.errors import CheckFailed, SettingsError
from pipelines.sections import Settings
from pipelines.show import Column, Kind, Table, show


@click.command(short_help="Create or upgrade the tables of a store.")
@takes_settings("store", "retention")
@FORMAT
def migrate(settings: Settings, fmt: str) -> None:
    """Create or upgrade the tables of a store, and keep their rows as long as [retention] says."""
    from pipelines.stores import retention_of, store_settings
    from sinks.retention import keep
    from sinks.schema import migrate as bring

    store = store_settings(settings).open()
    done = bring(store)
    say_retention([asdict(one) for one in keep(store, retention_of(settings))])
    columns = [Column("store"), Column("found", Kind.COUNT, "version found"), Column("now", Kind.COUNT, "version now")]
    show(Table(columns, [[settings.store.to, done.found, done.now]], "Migrated", single=True), fmt)


@click.command(short_help="Answer for an embedded store over HTTP.")
@takes_settings("store", "serve")
def serve(settings: Settings) -> None:
    """Own an embedded store and answer for it over ClickHouse's HTTP interface, to Grafana, clients and other runs.

    Users, and how to connect: docs/serve.md. Ctrl-C or SIGTERM ends it in order.
    """
    from pipelines.serving import serve as answer

    answer(settings)


@click.command()
@takes_settings(
    "source", "kafka", "store", "dead_letters", "decode", "count", "price", "owners", "windows", "runner", "retention"
)
@FORMAT
def doctor(settings: Settings, fmt: str) -> None:
    """Say what is installed, reachable, configured and missing. Exits 1 if something needed is not right."""
    from pipelines.doctor import examine, findings_table, worst
    from pipelines.stores import probe_store

    findings = examine(settings, probe_store)
    show(findings_table(findings), fmt)
    if worst(findings):
        raise CheckFailed("doctor found something to mend")


@click.command(short_help="Anonymise a user, or delete a tenant, and prove it.")
@takes_settings("store")
@FORMAT
@click.option("--user", metavar="ID", help="The end user, as logs name it; - reads it from standard input.")
@click.option("--tenant", metavar="NAME", help="The whole tenant; with --user, only that user of this tenant.")
@click.option("--labels", is_flag=True, help="Also rename teams, apps, templates and the like that name the user.")
@click.option("--keys-destroyed", is_flag=True, help="Keys that are not given are gone: who was hashed with them is nobody.")
@click.option("--dry-run", is_flag=True, help="Only show where it is found.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def forget(
    settings: Settings,
    fmt: str,
    user: str | None,
    tenant: str | None,
    labels: bool,
    keys_destroyed: bool,
    dry_run: bool,
    yes: bool,
) -> None:
    """Anonymise a user, or delete a tenant, everywhere in the store, and prove it.

    A user's calls keep their cost, so every sum stays as it is. Looks into every column of text before and after; exits 1 if
    something is left. Killed, it is finished by running it again. Logs, backups and other copies are not touched.
    """
    from pipelines import forget as forgetting
    from pipelines.stores import open_store

    if user == "-":
        user = sys.stdin.readline().rstrip("\r\n")
    named = [name for name in (user, tenant) if name is not None]
    if not named or not all(name.strip() for name in named):
        raise SettingsError("name whom to forget: --user ID, --tenant NAME, or both")
    if max(map(len, named)) > 256:  # decoders keep no longer ones
        raise SettingsError("an id is longer than 256 characters, at which it was cut when it was read: give the first 256")
    if labels and not user:
        raise SettingsError("--labels is for a user; the labels of a tenant go with its rows")
    store = open_store(settings)
    person = forgetting.person_of(settings, user or "", tenant or "")
    if dry_run or not yes:
        found = forgetting.look(store, person, keys_destroyed)
        show(forgetting.outcome_table(found, False, fmt), fmt)
        if dry_run:
            return
        if not sys.stdin.isatty():
            raise SettingsError("nothing was done: add --yes to forget without being asked")
        click.confirm("This cannot be undone. Forget?", abort=True, err=True)
    done = forgetting.forget(store, person, labels, keys_destroyed, settings.runner.wait_seconds)
    show(forgetting.outcome_table(done, True, fmt), fmt)
    if done.left:
        hint = "" if labels or not user else "; --labels renames labels that hold the id"
        raise CheckFailed(forgetting.left_over(done.left) + hint)
