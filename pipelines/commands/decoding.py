"""See how records are understood: ``decode``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import click

from pipelines.commands.options import FORMAT, takes_settings
from pipelines.errors import InputError
from pipelines.sections import Settings


@click.command(short_help="Show what records become, and what of them gave what.")
@takes_settings("source", "decode")
@FORMAT
@click.option("--explain", "reasons", is_flag=True, help="Show which part of a record gave which value, and what was left over.")
@click.option("--records", type=click.IntRange(1, 10**6), default=20, show_default=True, help="How many records, at most.")
@click.argument("paths", nargs=-1)
def decode(settings: Settings, fmt: str, reasons: bool, records: int, paths: tuple[str, ...]) -> None:
    """Show what records become, and with --explain what of each gave which value; nothing is written.

    PATHS are files, folders, globs or - (standard input), like --from. A file may also be one JSON value over several lines.
    A part of a record is named as the source of a field if the field differs without it, or with another value in it; it is left
    over if nothing does. Texts of prompts are not shown.
    """
    from pipelines.decoding import look, print_explained, print_outcomes
    from pipelines.jobs import decode_settings, is_service, limits_of
    from sources.files import find, spool
    from sources.objects import is_address as is_object

    inputs = paths or settings.source.from_
    if not inputs:
        raise InputError("name the records to look at: llm-finops decode --explain FILE (files, folders, globs, -)")
    for one in inputs:
        if is_service(one) or is_object(one):
            raise InputError(f"{one}: decode looks at files and at standard input; copy some records into a file")
    known = decode_settings(settings)
    with tempfile.TemporaryDirectory(prefix="llm-finops-") as folder:
        named = [one for one in inputs if one != "-"]
        files = find(named) if named else []
        if "-" in inputs:
            files.append(spool(sys.stdin.buffer, Path(folder)))
        looked = look(files, known, limits_of(settings), records, reasons)
        (print_explained if reasons else print_outcomes)(looked, fmt)
