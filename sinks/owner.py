"""Which process owns an embedded store, and how others of the same operating-system user reach it.

The engine serves one process. It takes a lock beside the store before it opens the engine, and leaves a note that says
who it is; where it also listens on a port, the note, readable only by its own user, says how to log in there.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import fasteners

_FOLDER: Final = "llm-finops"


@dataclass(frozen=True)
class Note:
    """Who owns a store; ``port`` 0: it does not answer others. ``password`` is of this process's life only."""

    who: str
    port: int = 0
    user: str = ""
    password: str = field(default="", repr=False)


_held: dict[str, tuple[fasteners.InterProcessLock, int]] = {}
_guard: Final = threading.RLock()


def take(folder: str) -> Note | None:
    """Become the owner of a store, until as many calls of ``release``; what the owner's note says if there is another.

    Raises:
        OSError: the folder cannot be made or written.
    """
    with _guard:
        if folder in _held:
            lock, count = _held[folder]
            _held[folder] = lock, count + 1
            return None
        _path(folder, "lock").parent.mkdir(parents=True, exist_ok=True)
        lock = fasteners.InterProcessLock(str(_path(folder, "lock")))
        if not lock.acquire(blocking=False):
            return _read(folder)
        _held[folder] = lock, 1
        _write(folder, Note(words(myself())))
        return None


def release(folder: str) -> None:
    """Undo one ``take``; the last one lets others own the store."""
    with _guard:
        lock, count = _held.pop(folder)
        if count > 1:
            _held[folder] = lock, count - 1
            return
        _path(folder, "json").unlink(missing_ok=True)
        lock.release()


def owned(folder: str) -> bool:
    """This process owns the store."""
    return folder in _held


def holder_of(folder: str) -> str:
    """Who owns a store, for a person."""
    return _read(folder).who


def publish(folder: str, port: int, user: str, password: str) -> None:
    """Tell processes of the same user that the owner, this process, answers on a port of this machine; 0: no longer."""
    _write(folder, Note(words(myself()), port, user, password))


def myself() -> dict[str, object]:
    """Who this process is."""
    command = shlex.join([Path(sys.argv[0]).name, *_nameless(sys.argv[1:])])
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return {"pid": os.getpid(), "host": os.uname().nodename, "since": since, "command": command[:200]}


def _nameless(words: Sequence[str]) -> list[str]:
    """A command line that names nobody: who is forgotten must not stay in the file of a process that was killed."""
    if "forget" not in words:
        return list(words)
    names = ("--user", "--tenant")
    shown = [f"{word.partition('=')[0]}=***" if word.startswith(tuple(f"{name}=" for name in names)) else word for word in words]
    return ["***" if before in names else word for before, word in zip(["", *words], shown, strict=False)]


def words(who: Mapping[str, Any]) -> str:
    """What ``myself`` said, for a person."""
    return f"held by process {who['pid']} on {who['host']} since {who['since']}: {who['command']}"


def _path(folder: str, kind: str) -> Path:
    return Path(folder) / _FOLDER / f"owner.{kind}"


def _read(folder: str) -> Note:
    try:
        return Note(**json.loads(_path(folder, "json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # between lock and note, or of another user
        return Note("held by another process")


def _write(folder: str, note: Note) -> None:
    path = _path(folder, "json")
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(note), file)
    new.replace(path)
