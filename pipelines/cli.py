"""The command line. Each command gathers settings, calls one function and shows what it returns."""

from __future__ import annotations

import logging
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import click

from pipelines.errors import CheckFailed, InputError, SettingsError, Stopped, fail
from pipelines.sections import Settings, fields, is_secret, is_table
from pipelines.settings import load, option_help
from pipelines.show import Column, Format, Kind, Table, human_money, show, table_of
from schemas.reasons import DEAD_LETTER_REASONS

_FORMAT: Final = click.option(
    "--format",
    "fmt",
    type=click.Choice([str(f) for f in Format]),
    default="table",
    show_default=True,
    help="How to print.",
)
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
_MINUTES: Final = ["%Y-%m-%d", "%Y-%m-%dT%H:%M"]
_FLAGS: Final = {"source.from": "--from", "store.to": "--to", "serve.host": "--host", "serve.port": "--port"}


def flag(key: str) -> str:
    """The option of a setting: ``--from`` and ``--to`` are short, others are ``--section-key``."""
    return _FLAGS.get(key) or "--" + key.replace(".", "-").replace("_", "-")


def takes_settings(*sections: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the options of these sections, and pass what they add up to as ``settings``."""
    shown = {key: field for key, field in fields().items() if not is_secret(field) and not is_table(field)}
    keys = [key for key in shown if key.partition(".")[0] in sections]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(config: Path | None, **given: Any) -> Any:
            flags = {key: given.pop(_parameter(key)) for key in keys}
            flags = {key: value or None if isinstance(value, tuple) else value for key, value in flags.items()}
            return command(settings=load(config, flags=flags), **given)

        wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
        wrapped.__click_params__ = list(getattr(command, "__click_params__", []))  # type: ignore[attr-defined]
        for key in reversed(keys):
            annotation = str(fields()[key].annotation)
            many = "tuple" in annotation
            option = click.option(flag(key), _parameter(key), default=None, multiple=many, help=option_help(key))
            wrapped = option(wrapped)
        return click.option("--config", type=click.Path(path_type=Path), help="Configuration file (TOML).")(wrapped)

    return decorate


def _parameter(key: str) -> str:
    return key.replace(".", "__")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("llm-finops"))
def cli() -> None:
    """What LLM calls cost, why, and what to do about it: from the call logs you already have.

    Settings come from defaults, a TOML file, the environment and options, in this order. Exit codes: 0 it worked, 1 a
    check found something, 2 wrong usage or configuration, 3 input missing or unreadable or output file not writable,
    4 store unreachable, refusing or full, 70 a defect, 130 interrupted.
    """


@cli.command()
@takes_settings("source", "store", "decode", "count", "price", "owners", "windows", "runner", "retention")
@_FORMAT
@click.option("--again", is_flag=True, help="Read also what was read before.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.argument("paths", nargs=-1)
def run(settings: Settings, fmt: str, again: bool, quiet: bool, paths: tuple[str, ...]) -> None:
    """Read call logs, price each call, land calls and minutes.

    PATHS are files, folders, globs or - (standard input), like --from. Running the same command again goes on where the
    last run ended: it reads what is new. Ctrl-C ends the run in order, a second one at once.
    """
    counts = _run(settings, paths, quiet, again)
    columns = [
        Column("records", Kind.COUNT),
        Column("calls", Kind.COUNT),
        Column("dead_letters", Kind.COUNT),
        Column("ignored", Kind.COUNT),
        Column("known_files", Kind.COUNT, "files read before"),
        Column("minutes", Kind.COUNT, "minutes replaced"),
        Column("spend", Kind.MONEY),
        Column("bytes", Kind.BYTES),
        Column("seconds", Kind.SECONDS),
        Column("startup_seconds", Kind.SECONDS, "start-up"),
        Column("calls_per_second", Kind.NUMBER, "calls per second"),
        Column("state"),
        Column("store"),
        Column("run_id"),
    ]
    row = {**counts, "store": settings.store.to}
    note = f"next: llm-finops summary --to {shlex.quote(settings.store.to)}"
    if counts["expired"]:
        columns.append(Column("expired", Kind.COUNT, "of these too old to keep"))
        click.echo(
            f"{counts['expired']:,} calls are older than calls are kept (retention.calls = {settings.retention.calls}):"
            " they are ignored, and their minutes stay as they are",
            err=True,
        )
    _say_retention(counts["retention"])
    if counts["state"] == "stopped":
        columns.append(Column("left_bytes", Kind.BYTES, "left to read"))
        show(table_of([row], columns, "Stopped", "next: the same command again goes on from here", single=True), fmt)
        raise Stopped("stopped as asked; run the same command again to go on")
    if counts["known_files"] and not counts["records"]:
        note = "nothing new; --again reads everything once more"
    show(table_of([row], columns, "Done", note, single=True), fmt)


def _say_retention(changed: Sequence[dict[str, Any]]) -> None:
    """What is kept for another time than before; a new store tells nothing that is the default."""
    for one in changed:
        before, days = (f"{days:,} days" if days else "good" for days in (one["before"], one["days"]))
        click.echo(f"{one['table']} are kept for {days} now, before for {before}", err=True)


def _run(settings: Settings, paths: Sequence[str], quiet: bool, again: bool) -> dict[str, Any]:
    from pipelines.jobs import job_of  # Beam takes seconds to import; --help should not wait for it
    from pipelines.progress import Progress
    from pipelines.run import run as run_job
    from pipelines.stopping import Stopping
    from schemas.telemetry import TALLY
    from sources.files import find, spool

    inputs = [*paths, *settings.source.from_]
    if not inputs:
        raise InputError("name the logs to read: llm-finops run --from LOGS (files, folders, globs or -)")
    with tempfile.TemporaryDirectory(prefix="llm-finops-") as folder:
        named = [one for one in inputs if one != "-"]
        files = find(named) if named else []
        if "-" in inputs:
            files.append(spool(sys.stdin.buffer, Path(folder)))
        job = job_of(settings, files, again)
        with Progress(TALLY, quiet=quiet), Stopping() as stopping:
            counts = run_job(job, stopping.asked)
    return {**asdict(counts), "calls_per_second": counts.calls_per_second}


@cli.command()
@takes_settings("store")
@_FORMAT
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


@cli.command()
@takes_settings("store")
@_FORMAT
@click.option("--repair", "mend", is_flag=True, help="Recompute minutes that differ from the calls, then check again.")
def reconcile(settings: Settings, fmt: str, mend: bool) -> None:
    """Prove the ledger and that minutes equal calls to the last digit. Exits 1 on any difference."""
    from pipelines.stores import open_store
    from sinks.reconcile import reconcile as prove
    from sinks.reconcile import repair

    store = open_store(settings)
    if mend:
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


@cli.command()
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


@cli.command("replay-dead")
@takes_settings("source", "store", "decode", "count", "price", "owners")
@_FORMAT
@click.option("--reason", "reasons", multiple=True, type=click.Choice(list(DEAD_LETTER_REASONS)), help="Only these letters.")
@click.option("--dry-run", is_flag=True, help="Say what would become of them; nothing is written.")
@click.option("--quiet", is_flag=True, help="No progress.")
def replay_dead(settings: Settings, fmt: str, reasons: tuple[str, ...], dry_run: bool, quiet: bool) -> None:
    """Run dead letters again, after a decoder or a setting was mended.

    Their records are looked for in --from, by content, or else where they were read from. Only what is the original to the
    byte is run. Running it twice changes nothing.
    """
    from pipelines.jobs import job_of
    from pipelines.progress import Progress
    from pipelines.replay import replay
    from schemas.telemetry import TALLY
    from sources.files import find

    with Progress(TALLY, quiet=quiet):
        done = replay(job_of(settings, find(settings.source.from_)), reasons, dry_run)
    columns = [Column("reason"), Column("became"), Column("reason_now", title="reason now"), Column("letters", Kind.COUNT)]
    rows = [
        {"reason": reason, "became": became, "reason_now": now, "letters": count}
        for (reason, became, now), count in sorted(done.letters.items())
    ]
    what = "would be" if dry_run else "are"
    note = f"{done.calls:,} calls {what} new, {human_money(done.spend)}; {done.minutes:,} minutes replaced"
    title = "What would become of dead letters" if dry_run else "What became of dead letters"
    show(table_of(rows, columns, title, note), fmt)


@cli.command()
@takes_settings("store", "retention")
@_FORMAT
def migrate(settings: Settings, fmt: str) -> None:
    """Create or upgrade the tables of a store, and keep their rows as long as [retention] says."""
    from pipelines.stores import retention_of, store_settings
    from sinks.retention import keep
    from sinks.schema import migrate as bring

    store = store_settings(settings).open()
    done = bring(store)
    _say_retention([asdict(one) for one in keep(store, retention_of(settings))])
    columns = [Column("store"), Column("found", Kind.COUNT, "version found"), Column("now", Kind.COUNT, "version now")]
    show(Table(columns, [[settings.store.to, done.found, done.now]], "Migrated", single=True), fmt)


@cli.command()
@takes_settings("store", "serve")
def serve(settings: Settings) -> None:
    """Own an embedded store and answer for it over ClickHouse's HTTP interface, to Grafana, clients and other runs.

    Users, and how to connect: docs/serve.md. Ctrl-C or SIGTERM ends it in order.
    """
    from pipelines.serving import serve as answer

    answer(settings)


@cli.command()
@takes_settings("source", "store", "decode", "count", "price", "owners", "windows", "runner", "retention")
@_FORMAT
def doctor(settings: Settings, fmt: str) -> None:
    """Say what is installed, reachable, configured and missing. Exits 1 if something needed is not right."""
    from pipelines.doctor import examine, findings_table, worst
    from pipelines.stores import probe_store

    findings = examine(settings, probe_store)
    show(findings_table(findings), fmt)
    if worst(findings):
        raise CheckFailed("doctor found something to mend")


@cli.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder for the logs and truth.json.")
@click.option("--calls", type=click.IntRange(1), default=60_000, show_default=True, help="About how many calls.")
@click.option("--hours", type=float, default=24.0, show_default=True, help="Length of the traffic.")
@click.option("--start", type=click.DateTime(["%Y-%m-%d"]), default="2026-03-02", show_default=True, help="First day, UTC.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same bytes.")
@click.option("--file-format", default="jsonl.gz", show_default=True, help="jsonl, jsonl.gz, jsonl.zst or parquet.")
@click.option("--calm", is_flag=True, help="No incidents.")
@_FORMAT
def generate(out: Path, calls: int, hours: float, start: datetime, seed: int, file_format: str, calm: bool, fmt: str) -> None:
    """Write realistic LLM traffic in real wire formats, with the truth about it in truth.json.

    Several teams, apps and vendors, agents with tools, other languages, retries, cache reads; and records that are
    duplicated, late or broken, and labelled incidents, as real logs have them.
    """
    from sources.generate import TRUTH_FILE, GenerateSettings, write
    from sources.generate import SettingsError as WrongTraffic

    try:
        wanted = GenerateSettings(
            seed=seed, start=start.date(), hours=hours, calls=calls, incidents=not calm, file_format=file_format
        )
        with click.progressbar(length=calls, label="generating", file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
            truth = write(wanted, out, lambda count: bar.update(count - bar.pos))
    except WrongTraffic as error:
        raise SettingsError(str(error)) from None
    columns = [
        Column("records", Kind.COUNT),
        Column("calls", Kind.COUNT),
        Column("files", Kind.COUNT),
        Column("bytes", Kind.BYTES),
        Column("folder"),
        Column("truth"),
    ]
    files = truth["files"]
    row = {
        "records": truth["records"]["total"],
        "calls": truth["calls"],
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in out.glob("calls-*")),
        "folder": str(out),
        "truth": str(out / TRUTH_FILE),
    }
    show(table_of([row], columns, "Generated", single=True), fmt)


@cli.command()
@click.option("--folder", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Where to put it.")
@click.option("--calls", type=click.IntRange(1, 10**8), default=60_000, show_default=True, help="About how many calls.")
@click.option("--seed", type=int, default=1, show_default=True, help="Seed of the traffic.")
@click.pass_context
def demo(context: click.Context, folder: Path, calls: int, seed: int) -> None:
    """Generate a day of traffic, run the job over it, prove the result and show it."""
    import shutil

    logs, to = folder / "logs", f"chdb://{folder / 'store'}"
    for old in (logs, folder / "store"):
        shutil.rmtree(old, ignore_errors=True)
    at = ["--to", to]
    for step in (
        ["generate", "--out", str(logs), "--calls", str(calls), "--seed", str(seed)],
        ["run", "--from", str(logs / "*.jsonl.gz"), *at],
        ["reconcile", *at],
        ["summary", *at],
    ):
        click.secho(f"\n$ llm-finops {shlex.join(step)}", bold=True)
        cli.main(step, standalone_mode=False)


@cli.group()
def owners() -> None:
    """Who owns the calls: see what the ownership rules cover, and give history the owners they name now."""


@owners.command()
@takes_settings("store", "owners")
@_FORMAT
@click.option("--by", "only", type=click.Choice(["coverage", "rules", "conflicts", "unallocated"]), help="Only this table.")
@click.option(
    "--max-unallocated", type=click.FloatRange(0, 100), metavar="PCT", help="Exit 1 if more of the dollars is unallocated."
)
def check(settings: Settings, fmt: str, only: str | None, max_unallocated: float | None) -> None:
    """Show coverage, dead rules, conflicts and the largest unallocated groups, under the rules as they are now."""
    from pipelines.owners import coverage, print_check
    from pipelines.stores import open_store
    from transforms.own import read_rules

    rules = read_rules(settings.owners.rules)
    found = coverage(open_store(settings), rules)
    print_check(found, fmt, only)
    if max_unallocated is not None and found.exceeds(max_unallocated):
        raise CheckFailed(f"unallocated: {found.unallocated_share()}, more than {max_unallocated:g} %")


@owners.command()
@takes_settings("store", "owners")
@_FORMAT
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
    from transforms.own import read_rules

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


@cli.command()
@takes_settings("store")
@_FORMAT
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


def main() -> None:
    """Entry point: every error is one line and an exit code."""
    # Beam logs the traceback of what it raises again; a person gets the one line that `fail` prints.
    logging.basicConfig(level=logging.CRITICAL, format="%(message)s")
    try:
        cli.main(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(fail(KeyboardInterrupt()))
    except BaseException as error:
        if isinstance(error, SystemExit):
            raise
        sys.exit(fail(error))
