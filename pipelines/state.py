"""What a local run remembers between its epochs, and after a crash: what was read to its end, which minutes are dirty.

One SQLite file beside the store, and a lock on it, so that one run at a time writes a store from this machine. The order
of an epoch makes it exact: rows are inserted; the minutes they touched are marked dirty; then, in one transaction, its
splits are done. A crash before that last step leaves too many dirty minutes and an epoch that is read again, which changes
nothing. A minute stops being dirty after it was recomputed.

A split is done if the store's own ledger says so, too, and the file is the one that was read: its path, beginning, size
and time, or, for a plain file that has grown, the lines before its old end; an object of a store is if it still is that
version (``pipelines.standing``). A partition of a topic is read in order, so of it one position is known, which the ledger must
bear out, too.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, replace
from pathlib import Path
from types import TracebackType
from typing import Final

import fasteners

from pipelines.ledger import Ends
from pipelines.standing import WHOLE, Done, ends_lines, in_ledger, is_version, marks, rest_of, stands, tail_of
from sinks.clickhouse import StoreAddress, StoreError, StoreUnavailable
from sinks.owner import myself, words
from sources.files import Split, began_as
from sources.objects import Object
from sources.pieces import Piece
from sources.ranges import Position, Range

_VERSION: Final = 2
_TABLES: Final = f"""
CREATE TABLE IF NOT EXISTS done (
  work BLOB, path TEXT, segment BLOB, start INTEGER, stop INTEGER, size INTEGER, changed INTEGER, tail BLOB,
  PRIMARY KEY (work, path, segment, start)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (
  work BLOB, segment BLOB, source TEXT, next INTEGER, first INTEGER, records INTEGER, bytes INTEGER, began REAL,
  PRIMARY KEY (work, segment)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dirty (minute INTEGER PRIMARY KEY);
CREATE TABLE IF NOT EXISTS waiting (key BLOB PRIMARY KEY, deadline INTEGER) WITHOUT ROWID;
PRAGMA user_version = {_VERSION};
"""


def state_path(address: StoreAddress) -> Path:
    """Where the state of a store is kept: inside an embedded store, else in the user's folder for state."""
    if address.embedded:
        return Path(address.folder) / "llm-finops" / f"{address.database}.sqlite"
    folder = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    digest = hashlib.sha256(str(address).encode()).hexdigest()[:8]
    return folder / "llm-finops" / f"{address.host}-{address.port}-{address.database}-{digest}.sqlite"


class State:
    """The state of one store, held by this process until it is closed.

    ``work`` stands for what decides how a record becomes a call: what was read under another one is not done.

    Raises:
        StoreError: another process holds it (after ``wait_s`` seconds), or the file cannot be written or is newer.
    """

    def __init__(self, address: StoreAddress, work: bytes = b"", wait_s: float = 0) -> None:
        self._address = address
        self._work = work
        self.path = state_path(address)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = fasteners.InterProcessLock(str(self.path) + ".lock")
            held = self._lock.acquire(blocking=wait_s > 0, timeout=wait_s or None)
        except OSError as error:
            raise _failed(self.path, error) from error
        if not held:
            raise StoreError(f"{address}: {holder(address) or 'held by another process'}")
        try:
            self._holder.write_text(json.dumps(myself()), encoding="utf-8")
            self._db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._threads = threading.Lock()
            (found,) = self._db.execute("PRAGMA user_version").fetchone()
            if found > _VERSION:
                raise StoreError(f"{self.path}: written by a newer llm-finops; upgrade, or remove it to read everything again")
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.executescript(_TABLES)
        except (OSError, sqlite3.Error) as error:
            self._lock.release()
            raise _failed(self.path, error) from error
        except StoreError:
            self._lock.release()
            raise

    @property
    def _holder(self) -> Path:
        return self.path.with_suffix(".holder.json")

    def close(self) -> None:
        self._db.close()
        self._holder.unlink(missing_ok=True)
        self._lock.release()

    def __enter__(self) -> State:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    # -- what was read -------------------------------------------------------------------------------------------

    def left(self, splits: Iterable[Split], ends: Ends) -> list[Split]:
        """What is still to be read of ``splits``, in their order."""
        known: dict[tuple[str, bytes], tuple[bytes, list[Done]]] = {}
        left = []
        for split in splits:
            key = (split.path, split.segment)
            if key not in known:
                segment = self._first_seen_as(split, ends)
                known[key] = segment, self._standing(replace(split, segment=segment), ends)
            segment, done = known[key]
            rest = rest_of(split if segment == split.segment else replace(split, segment=segment), done)
            if rest is not None:
                left.append(rest)
        return left

    def unread(self, objects: Iterable[Object], ends: Ends) -> Iterator[Object]:
        """Objects of which something is still to be read, or was read of another version only; in their order."""
        for one in objects:
            whole = False
            at = 0
            for segment, done in self._versions(one.path):
                if is_version(done, one.version) and in_ledger(done, one.path, segment, ends):
                    whole = whole or done.tail.endswith(WHOLE)
                    at = done.stop if done.start <= at < done.stop else at
            if not whole and not 0 < one.version.size <= at:
                yield one

    def read_before(self, paths: Iterable[str]) -> set[str]:
        """Those of these objects' paths of which some version was read."""
        return {path for path in paths if next(self._versions(path), None)}

    def _versions(self, path: str) -> Iterator[tuple[bytes, Done]]:
        with self._threads:
            rows = self._db.execute(
                "SELECT segment, start, stop, size, changed, tail FROM done WHERE work = ? AND path = ? ORDER BY start",
                (self._work, path),
            ).fetchall()
        for segment, *row in rows:
            yield segment, Done._make(row)

    def _standing(self, split: Split, ends: Ends) -> list[Done]:
        """What was read of a file, as far as it is still true, in order."""
        rows = self._db.execute(
            "SELECT start, stop, size, changed, tail FROM done WHERE work = ? AND path = ? AND segment = ? ORDER BY start",
            (self._work, split.path, split.segment),
        )
        return [done for done in map(Done._make, rows) if stands(done, split, ends)]

    def _first_seen_as(self, split: Split, ends: Ends) -> bytes:
        """The segment of a file, which is that of its first read: a short one that grows has another beginning by now."""
        if split.kind != "text" or split.version is not None:
            return split.segment
        rows = self._db.execute(
            "SELECT segment, start, stop, size FROM done WHERE work = ? AND path = ?", (self._work, split.path)
        ).fetchall()
        for segment, start, stop, size in rows if split.segment not in {row[0] for row in rows} else ():
            whole = replace(split, segment=segment)
            grew = stop == 0 and began_as(whole, segment, size)
            if grew or (start == 0 and any(done.start == 0 for done in self._standing(whole, ends))):
                return bytes(segment)
        return split.segment

    def went_on(self, split: Split, ends: Ends, most_bytes: int, rest: int = 0) -> list[Split]:
        """What is still to be read of a plain file that is followed as it grows, in pieces of about ``most_bytes``; and, up to
        ``rest``, a last line that has no end, as a range of its own.

        It keeps the segment it was first seen as, and carries on the ledger's last range until that holds ``most_bytes``. A range
        that the ledger has further than this state knows is read again whole.
        """
        split = replace(split, segment=self._first_seen_as(split, ends))
        done = self._standing(split, ends)
        if not done and split.start == 0:  # so that it is known again, should this process die before it is done
            row = (self._work, split.path, split.segment, 0, 0, split.end, 0, b"")
            self._write(("INSERT OR IGNORE INTO done VALUES (?, ?, ?, ?, ?, ?, ?, ?)", [row]))
        at, last, stop = 0, None, split.end or 0
        for one in done:
            if one.start <= at < one.stop:
                at, last = one.stop, one
        known = sorted((end for key, end in ends.items() if key[:2] == (split.path, split.segment) and end.end > at))
        if known and known[0].start <= at:
            at, last = known[0].start, None
        found = []
        while at < stop:
            held = ends[split.path, split.segment, last.start] if last else None
            young = held is not None and held.bytes < most_bytes
            end = min(stop, at + most_bytes - (held.bytes if held and young else 0))
            piece = replace(split, start=at, end=end, size=end - at, expected=end - at)
            if held and young:
                piece = replace(piece, first=held.start, records=held.records, bytes=held.bytes)
            found.append(piece)
            at, last = end, None
        if stop <= at < rest:
            found.append(replace(split, start=at, end=rest, size=rest - at, expected=rest - at))
        return found

    def done(self, pieces: Collection[Piece], ends: Ends) -> None:
        """Record in one transaction that these pieces, and all their rows, are in the store."""
        known = self.positions()
        ranges = sorted((piece for piece in pieces if isinstance(piece, Range)), key=lambda piece: piece.start)
        for piece in ranges:
            moved = _moved(known.get(piece.segment), piece, ends)
            if moved is not None:
                known[piece.segment] = moved
        read = {piece.segment for piece in ranges}
        self._write(
            ("INSERT OR REPLACE INTO done VALUES (?, ?, ?, ?, ?, ?, ?, ?)", self._of_files(pieces, ends)),
            (
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [(self._work, *astuple(position)) for position in known.values() if position.segment in read],
            ),
        )

    def _of_files(self, pieces: Iterable[Piece], ends: Ends) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = []
        for split in pieces:
            known = ends.get((split.path, split.segment, split.row)) if isinstance(split, Split) else None
            if isinstance(split, Split) and known is not None:
                stop = known.end
                if split.version is not None:
                    rows.append((self._work, split.path, split.segment, split.row, stop, *marks(split)))
                    continue
                stat = os.stat(split.path)
                whole = split.kind == "text" and stop > 0 and ends_lines(split.path, stop)
                tail = tail_of(split, stop) if whole else b""
                rows.append((self._work, split.path, split.segment, split.row, stop, stat.st_size, stat.st_mtime_ns, tail))
        return rows

    def positions(self) -> dict[bytes, Position]:
        """How far each partition was read, by segment."""
        with self._threads:
            rows = self._db.execute(
                "SELECT segment, source, next, first, records, bytes, began FROM positions WHERE work = ?", (self._work,)
            ).fetchall()
        return {position.segment: position for position in (Position(*row) for row in rows)}

    def keep_positions(self, positions: Iterable[Position]) -> None:
        """Record where to go on with partitions: those that were not read yet, or of which less is in the store than thought."""
        rows = [(self._work, *astuple(position)) for position in positions]
        self._write(("INSERT OR REPLACE INTO positions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows))

    def forget_paths(self, named: Callable[[str], bool]) -> int:
        """Forget files whose paths are ``named``, so that no byte of them stays; how many. Those that are still there are read
        again by the next run."""
        with self._threads:
            paths = self._paths(named)
            self._db.execute("PRAGMA secure_delete = ON")
            self._db.executemany("DELETE FROM done WHERE path = ?", [(path,) for path in paths])
            self._db.execute("VACUUM")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return len(paths)

    def count_paths(self, named: Callable[[str], bool]) -> int:
        """How many paths of files are ``named``."""
        with self._threads:
            return len(self._paths(named))

    def _paths(self, named: Callable[[str], bool]) -> list[str]:
        return [path for (path,) in self._db.execute("SELECT DISTINCT path FROM done") if named(path)]

    # -- which minutes are dirty -----------------------------------------------------------------------------------

    def touch(self, minutes: Iterable[int]) -> None:
        """Mark minutes (seconds since 1970) dirty."""
        self._write(("INSERT OR IGNORE INTO dirty VALUES (?)", [(minute,) for minute in minutes]))

    def dirty(self) -> list[int]:
        """Minutes whose calls may have changed since they were recomputed, in order."""
        with self._threads:
            return [minute for (minute,) in self._db.execute("SELECT minute FROM dirty ORDER BY minute")]

    def clean(self, minutes: Iterable[int]) -> None:
        """These minutes were recomputed after their last insert."""
        self._write(("DELETE FROM dirty WHERE minute = ?", [(minute,) for minute in minutes]))

    # -- which calls wait for parts ----------------------------------------------------------------------------------

    def wait(self, keys: Mapping[bytes, int]) -> None:
        """The rest of these calls is waited for, until some time (UTC microseconds)."""
        self._write(("INSERT OR REPLACE INTO waiting VALUES (?, ?)", list(keys.items())))

    def waiting(self, until: int | None = None) -> list[bytes]:
        """Calls whose rest is waited for, in order: those that are waited for no longer than ``until``, or all."""
        with self._threads:
            rows = self._db.execute("SELECT key FROM waiting WHERE ? IS NULL OR deadline <= ? ORDER BY key", (until, until))
            return [key for (key,) in rows]

    def joined(self, keys: Iterable[bytes]) -> None:
        """Nothing of these calls is waited for any more."""
        self._write(("DELETE FROM waiting WHERE key = ?", [(key,) for key in keys]))

    def _write(self, *statements: tuple[str, Sequence[tuple[object, ...]]]) -> None:
        """One transaction: all of it or nothing."""
        try:
            with self._threads:
                self._db.execute("BEGIN IMMEDIATE")
                for sql, rows in statements:
                    self._db.executemany(sql, rows)
                self._db.execute("COMMIT")
        except sqlite3.Error as error:
            raise _failed(self.path, error) from error


def _moved(known: Position | None, piece: Range, ends: Ends) -> Position | None:
    """The position after a piece that was read; None if something before it was not, or the ledger does not have it."""
    if known is not None and known.next not in (piece.start, piece.lost_from):
        return None
    rows = [
        end
        for (path, segment, _), end in ends.items()
        if (path, segment) == (piece.path, piece.segment) and end.start >= piece.first and end.end == piece.end
    ]
    if not rows:
        return None
    row = max(rows)
    began = known.began if known and known.first == row.start and known.records else time.time()
    return Position(piece.segment, piece.path, row.end, row.start, row.records, row.bytes, began)


def _failed(path: Path, error: OSError | sqlite3.Error) -> StoreError:
    """One line that says what a person can do about it."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    if getattr(error, "errno", None) == errno.ENOSPC or "disk is full" in text:
        return StoreUnavailable(f"{path}: the disk of the store is full; free space and run the same command again")
    if isinstance(error, OSError | sqlite3.OperationalError):
        return StoreUnavailable(f"{path}: {text}; the store's folder must be writable")
    return StoreError(f"{path}: {text}; remove it to read everything again")


def holder(address: StoreAddress) -> str | None:
    """Who holds the state of a store, in words; None if nobody says so."""
    try:
        who = json.loads(state_path(address).with_suffix(".holder.json").read_text(encoding="utf-8"))
        return words(who)
    except (OSError, ValueError, KeyError, TypeError):
        return None
