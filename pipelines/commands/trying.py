"""Try it out: ``generate`` traffic, and ``demo``."""

from __future__ import annotations

import shlex
import sys
from datetime import datetime
from pathlib import Path

import click

from pipelines.commands.options import FORMAT
from pipelines.errors import SettingsError
from pipelines.show import Column, Kind, show, table_of


@click.command(short_help="Write realistic traffic, with the truth about it.")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="New folder for the logs and truth.json.")
@click.option("--calls", type=click.IntRange(1), default=60_000, show_default=True, help="About how many calls.")
@click.option("--hours", type=float, default=24.0, show_default=True, help="Length of the traffic.")
@click.option("--start", type=click.DateTime(["%Y-%m-%d"]), default="2026-03-02", show_default=True, help="First day, UTC.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same bytes.")
@click.option("--file-format", default="jsonl.gz", show_default=True, help="jsonl, jsonl.gz, jsonl.zst or parquet.")
@click.option("--calm", is_flag=True, help="No incidents.")
@FORMAT
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


@click.command(short_help="A day of traffic: generated, priced, proved, shown.")
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
        context.find_root().command.main(step, standalone_mode=False)
