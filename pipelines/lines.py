"""Lines on standard error: text for a person, or one JSON object each for a machine.

With ``as_json`` everything that this process writes there becomes JSON: our own lines with their fields, and what libraries,
warnings and tracebacks say as ``text``. No line holds anything of a record: errors name places, sizes and codes.
"""

from __future__ import annotations

import io
import logging
import sys
from datetime import UTC, datetime
from typing import IO, Any, Final

import orjson

from pipelines.text import printable

OURS: Final = ("pipelines", "schemas", "sinks", "sources", "transforms")


def say(text: str, event: str = "note", level: str = "info", file: IO[str] | None = None, **fields: Any) -> None:
    """Write one line. ``event`` and ``fields`` are for machines; ``file`` stands in for standard error.

    Raises:
        OSError: nobody listens any more.
    """
    stream = file or sys.stderr
    if isinstance(stream, JsonLines):
        stream.put(text, event, level, **fields)
    else:
        stream.write(f"{printable(text)}\n")
        stream.flush()


def as_json() -> None:
    """From now on standard error is JSON, one object a line."""
    if isinstance(sys.stderr, JsonLines):
        return
    sys.stderr = JsonLines(sys.stderr)
    root = logging.getLogger()
    root.handlers = [_Handler(sys.stderr)]
    root.setLevel(logging.CRITICAL)  # what Beam logs of an error holds whatever the error was about
    for name in OURS:
        logging.getLogger(name).setLevel(logging.INFO)


class JsonLines(io.TextIOBase):
    """Turns whatever is written to it into objects, a line at a time."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._rest = ""

    def put(self, text: str, event: str, level: str, **fields: Any) -> None:
        """Write one object."""
        known = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "level": level, "event": event, "text": text}
        self._stream.write(orjson.dumps(known | fields, default=str).decode() + "\n")
        self._stream.flush()

    def write(self, text: str) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self.put(line, "line", "info")
        return len(text)

    def flush(self) -> None:
        self._stream.flush()

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"


class _Handler(logging.Handler):
    def __init__(self, stream: JsonLines) -> None:
        super().__init__()
        self._lines = stream

    def filter(self, record: logging.LogRecord) -> bool:
        """Others are heard only if they die: some libraries lower the level of their own loggers."""
        return record.levelno >= logging.CRITICAL or record.name.partition(".")[0] in OURS

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._lines.put(record.getMessage(), "log", record.levelname.lower(), logger=record.name)
        except Exception:
            self.handleError(record)
