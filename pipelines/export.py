"""``llm-finops export``: rows of a store to a file that is there whole or not at all, or to standard output."""

from __future__ import annotations

import gzip
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from pipelines.errors import OutputError, SettingsError
from pipelines.lines import say
from sinks.clickhouse import Store
from sinks.export import Form, Selection, write

STANDARD_OUTPUT: Final = "-"
SUFFIXES: Final = {
    ".parquet": (Form.PARQUET, False),
    ".jsonl": (Form.JSONL, False),
    ".csv": (Form.CSV, False),
    ".jsonl.gz": (Form.JSONL, True),
    ".csv.gz": (Form.CSV, True),
}
"""What the end of a file's name says: the form, and whether it is compressed."""

_PROGRESS_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Target:
    """Where to write and what. ``path`` None: standard output."""

    path: Path | None
    form: Form
    compressed: bool = False

    def __str__(self) -> str:
        return "standard output" if self.path is None else str(self.path)


@dataclass(frozen=True)
class Exported:
    """What was written. ``bytes`` as they lie on disk."""

    rows: int
    bytes: int
    target: Target


def target(out: str, form: str | None = None, force: bool = False) -> Target:
    """Where ``--out`` says to write.

    Raises:
        SettingsError: no form can be told, or the file is there and ``force`` is not set.
        OutputError: the folder is missing, or it is no plain file.
    """
    if out == STANDARD_OUTPUT:
        if form is None:
            raise SettingsError(f"--out - needs --out-format {', '.join(Form)}")
        return Target(None, Form(form))
    path = Path(out).expanduser()
    suffix = next((s for s in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(s)), None)
    if suffix is None and form is None:
        raise SettingsError(f"{out}: the name must end in {' '.join(SUFFIXES)}, or --out-format say what to write")
    told, compressed = SUFFIXES[suffix] if suffix else (Form(form or ""), False)
    if form is not None and told != form:
        raise SettingsError(f"{out}: the name says {told}, --out-format says {form}")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: no such folder")
    _refuse(path, force)
    return Target(path, told, compressed)


def _refuse(path: Path, force: bool) -> None:
    if path.exists() and not path.is_file():
        raise OutputError(f"{path}: is no plain file; use --out - for anything else")
    if path.exists() and not force:
        raise SettingsError(f"{path}: is there already; --force replaces it")


def moment(text: str) -> datetime:
    """An ISO 8601 time; UTC where it names no zone, midnight where it names no hour.

    Raises:
        SettingsError: it is none.
    """
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{text!r}: not a time such as 2026-03-02 or 2026-03-02T10:30:00Z") from None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def condition(text: str) -> tuple[str, str]:
    """``key=value`` as a pair.

    Raises:
        SettingsError: it is none.
    """
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise SettingsError(f"--where {text!r}: must be key=value")
    return key, value


def export(store: Store, selection: Selection, to: Target, force: bool = False, quiet: bool = False) -> Exported:
    """Write the rows. A file appears under its name only when it is whole; a failed export leaves nothing.

    Raises:
        OutputError: the disk is full, the folder may not be written.
        sinks.clickhouse.StoreError: the store refuses, is unreachable, or broke off.
    """
    try:
        if to.path is None:
            file = Counted(sys.stdout.buffer)
            rows = _fill(file, store, selection, to, quiet)
            sys.stdout.buffer.flush()
            return Exported(rows, file.count, to)
        with _appearing(to.path, force) as raw:
            file = Counted(raw)
            rows = _fill(file, store, selection, to, quiet)
        return Exported(rows, file.count, to)
    except BrokenPipeError:
        raise  # who reads our output has seen enough
    except OSError as error:
        raise OutputError(f"{to}: cannot be written: {error.strerror or error}") from error


@contextmanager
def _appearing(path: Path, force: bool) -> Iterator[IO[bytes]]:
    """A new file beside ``path`` that takes its name when the block ends well, and is gone when it does not."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # else it would end us without cleaning up
    try:
        with part.open("wb") as raw:
            yield raw
            raw.flush()
            os.fsync(raw.fileno())
        _refuse(path, force)  # somebody may have written it meanwhile
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
        signal.signal(signal.SIGTERM, before)


def _fill(file: Counted, store: Store, selection: Selection, to: Target, quiet: bool) -> int:
    report = _reporter(file, quiet)
    rows = 0
    if to.compressed:
        # Neither name nor time: the same rows give the same bytes.
        with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed:
            for rows in write(store, selection, to.form, packed):
                report(rows)
        return rows
    for rows in write(store, selection, to.form, file):
        report(rows)
    return rows


def _reporter(file: Counted, quiet: bool) -> Callable[[int], None]:
    """A line on standard error every few seconds."""
    shown = time.monotonic()

    def report(rows: int) -> None:
        nonlocal shown
        if not quiet and time.monotonic() - shown >= _PROGRESS_SECONDS:
            shown = time.monotonic()
            say(f"progress: {rows:,} rows, {file.count:,} bytes", "progress", rows=rows, bytes=file.count)

    return report


class Counted:
    """What is written to a file, counted: a pipe cannot say where it stands, and Parquet asks."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.count = 0

    def write(self, data: Any) -> int:
        self._file.write(data)
        size = memoryview(data).nbytes
        self.count += size
        return size

    def tell(self) -> int:
        return self.count

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """Whoever opened the file closes it."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False
