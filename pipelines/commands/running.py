"""Read logs: ``run``, and ``replay-dead`` for what could not be read."""

from __future__ import annotations

import shlex
import sys
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from pipelines.commands.options import FORMAT, takes_settings
from pipelines.errors import InputError, Stopped
from pipelines.lines import say
from pipelines.sections import Settings
from pipelines.show import Column, Kind, human_money, show, table_of
from schemas.reasons import DEAD_LETTER_REASONS

READING: Final = ("source", "store", "dead_letters", "decode", "join", "count", "price", "owners")
"""Sections of settings for whatever reads records."""


@click.command(short_help="Read call logs, price each call, land calls and minutes.")
@takes_settings(*READING, "terms", "kafka", "cloud_logging", "pubsub", "windows", "runner", "retention", "metrics", "log")
@FORMAT
@click.option("--again", is_flag=True, help="Read also what was read before.")
@click.option("--follow", is_flag=True, help="Go on reading what comes in, until Ctrl-C or SIGTERM.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.argument("paths", nargs=-1)
def run(settings: Settings, fmt: str, again: bool, follow: bool, quiet: bool, paths: tuple[str, ...]) -> None:
    """Read call logs, price each call, land calls and minutes.

    PATHS are files, folders, globs or - (standard input), like --from; or objects as s3://bucket/folder or gs://bucket/folder,
    topics as kafka://host:9092/topic, logs as logging://projects/P, a subscription as pubsub://projects/P/subscriptions/S.
    Running the same command again goes on where the last run ended: it reads what is new. Ctrl-C ends the run in order, a second
    one at once.
    """
    counts = _run(settings, paths, quiet, again, follow)
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
    say_retention(counts["retention"])
    if counts["state"] == "stopped" and not follow:
        columns.append(Column("left_bytes", Kind.BYTES, "left to read"))
        show(table_of([row], columns, "Stopped", "next: the same command again goes on from here", single=True), fmt)
        raise Stopped("stopped as asked; run the same command again to go on")
    if counts["known_files"] and not counts["records"]:
        note = "nothing new; --again reads everything once more"
    show(table_of([row], columns, "Done", note, single=True), fmt)


def say_retention(changed: Sequence[dict[str, Any]]) -> None:
    """What is kept for another time than before; a new store tells nothing that is the default."""
    for one in changed:
        before, days = (f"{days:,} days" if days else "good" for days in (one["before"], one["days"]))
        click.echo(f"{one['table']} are kept for {days} now, before for {before}", err=True)


def _run(settings: Settings, paths: Sequence[str], quiet: bool, again: bool, follow: bool) -> dict[str, Any]:
    from pipelines.follow import follow as follow_job  # Beam takes seconds to import; --help should not wait for it
    from pipelines.jobs import is_service, job_of
    from pipelines.live import WATCH, Following
    from pipelines.progress import Progress
    from pipelines.run import run as run_job
    from pipelines.stopping import Stopping
    from pipelines.stream import stream as stream_job
    from pipelines.watching import Limits, watched
    from schemas.telemetry import TALLY
    from sources.files import find, spool
    from sources.objects import is_address as is_object

    inputs = [*paths, *settings.source.from_]
    services = [one for one in inputs if is_service(one)]
    objects = [one for one in inputs if is_object(one)]
    _refuse(settings, inputs, services, objects, again, follow)
    with tempfile.TemporaryDirectory(prefix="llm-finops-") as folder:
        named = [one for one in inputs if one != "-" and one not in (*services, *objects)]
        files = [Path(one) for one in named] if follow else find(named) if named else []
        if "-" in inputs:
            files.append(spool(sys.stdin.buffer, Path(folder)))
        job = job_of(settings, files, again, "".join(services), objects)
        asked = settings.metrics
        limits = Limits(asked.stalled_seconds, asked.behind_seconds)
        answers = watched(asked.host, asked.port, limits) if asked.port else nullcontext()
        if follow and job.runner:
            with Stopping() as stopping:
                counts = stream_job(job, stopping.asked, say)
        elif follow:
            with answers, Following(TALLY, WATCH, quiet=quiet) as view, Stopping() as stopping:
                counts = follow_job(job, stopping.asked, view.say)
        else:
            with answers, Progress(TALLY, quiet=quiet), Stopping() as stopping:
                counts = run_job(job, stopping.asked)
    return {**asdict(counts), "calls_per_second": counts.calls_per_second}


def _refuse(
    settings: Settings, inputs: Sequence[str], services: Sequence[str], objects: Sequence[str], again: bool, follow: bool
) -> None:
    """Say in one line what cannot be read together, there, or without an end."""
    from sources import kafka, pubsub

    if not inputs:
        kinds = "files, folders, globs, -, s3:// and gs://, kafka://, logging://, pubsub://"
        raise InputError(f"name the logs to read: llm-finops run --from LOGS ({kinds})")
    if services and len(inputs) > 1:
        raise InputError("one run reads files, or one service: kafka://host:9092/topic,another")
    if objects and len(inputs) > len(objects):
        raise InputError("one run reads files, or objects of stores: s3://bucket/folder gs://bucket/folder")
    if settings.runner.name != "local" and follow and not services:
        raise InputError("--follow on another runner reads topics: --from kafka://host:9092/topic")
    if settings.runner.name != "local" and services and not kafka.is_address(services[0]):
        on_dataflow = follow and pubsub.is_address(services[0])
        if not on_dataflow or settings.runner.name != "DataflowRunner":
            raise InputError(f"{services[0]} is read by the local runner" + (", and followed by Dataflow" if on_dataflow else ""))
    if follow and "-" in inputs:
        raise InputError("--follow goes on reading files, folders, objects or a service; standard input ends by itself")
    if follow and (again or settings.kafka.until or settings.cloud_logging.until):
        raise InputError("--follow goes on from where the last run ended, and has no end: without --again and an until")


@click.command("replay-dead", short_help="Run dead letters again, after a fix.")
@takes_settings(*READING)
@FORMAT
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
    from sources.objects import is_address as is_object

    objects = [one for one in settings.source.from_ if is_object(one)]
    files = find(one for one in settings.source.from_ if one not in objects)
    with Progress(TALLY, quiet=quiet):
        done = replay(job_of(settings, files, objects=objects), reasons, dry_run)
    columns = [Column("reason"), Column("became"), Column("reason_now", title="reason now"), Column("letters", Kind.COUNT)]
    rows = [
        {"reason": reason, "became": became, "reason_now": now, "letters": count}
        for (reason, became, now), count in sorted(done.letters.items())
    ]
    what = "would be" if dry_run else "are"
    note = f"{done.calls:,} calls {what} new, {human_money(done.spend)}; {done.minutes:,} minutes replaced"
    title = "What would become of dead letters" if dry_run else "What became of dead letters"
    show(table_of(rows, columns, title, note), fmt)
