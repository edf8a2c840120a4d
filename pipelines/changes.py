"""While a run goes on: files of prices and rules that change are announced, and what was announced is taken up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pipelines.errors import one_line
from pipelines.terms import (
    LOOKS,
    TermsFiles,
    agree,
    announce_from,
    check,
    earliest,
    in_words,
    publish_books,
    read_content,
    timeline,
)
from sinks.clickhouse import Store
from sinks.terms import Announced, announced, clock
from transforms.own.files import RulesError
from transforms.price import BookError
from transforms.terms import Timeline

Stamp = tuple[tuple[str, int, int], ...]
"""Path, size and time of the last change of each file."""


class Changes:
    """Looks at files and at the store ``LOOKS`` times within ``lead_s`` seconds, however often it is asked.

    Files count as changed when they have the same size and time in two looks one after the other, so that none is read that is
    still being written; what they say must be right, or everything stays as it is and ``wrong`` says why. ``watch`` false: only
    what others announce is taken up. Beginning, it agrees with the store on what the files say.

    ``known`` are the terms as of the last look, ``timeline`` what calls go by since; their price books are published.

    Raises:
        transforms.price.BookError, transforms.own.files.RulesError: the files are wrong from the beginning.
    """

    def __init__(
        self,
        store: Store,
        files: TermsFiles,
        lead_s: float,
        watch: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._files = files
        self._lead_s = lead_s
        self._watch = watch
        self._clock = clock
        self._next_look = clock() + lead_s / LOOKS
        self._stamp = self._before = stamp(files)
        found = read_content(files)
        self._fingerprint = found.fingerprint
        said = agree(store, found, lead_s, begin=True)
        self._news = [said] if said else []
        self.known = announced(store)
        self.timeline: Timeline = ()
        self._go_by(self.known)
        self.wrong = ""

    def look(self) -> Timeline | None:
        """The timeline, if it is another one than at the last look.

        Raises:
            sinks.clickhouse.StoreError: the store does not answer, or refuses.
        """
        if self._clock() < self._next_look:
            return None
        if self._watch:
            self._look_at_files()
        known = announced(self._store)
        changed = known != self.known
        if changed:
            self._go_by(known)
            self._news += [in_words(one) for one in known if one not in self.known]
            self.known = known
        self._next_look = self._clock() + self._lead_s / LOOKS  # not if it failed: then nobody knows what holds now
        return self.timeline if changed else None

    def _go_by(self, known: Sequence[Announced]) -> None:
        found = timeline(self._store, known)
        publish_books(self._store, tuple(one for one in found if one not in self.timeline))
        self.timeline = found

    def _look_at_files(self) -> None:
        before, self._before = self._before, stamp(self._files)
        if self._before != before or self._before == self._stamp:
            return
        try:
            found = read_content(self._files)
            if found.fingerprint != self._fingerprint:
                check(found)
        except (BookError, RulesError) as error:
            self._stamp = before
            self.wrong = f"changed prices and rules are wrong, and those before them stay: {one_line(error)}"
            self._news.append(self.wrong)
            return
        if stamp(self._files) != before:  # changed while it was read
            return
        if found.fingerprint not in (self._fingerprint, self.known[-1].fingerprint):
            announce_from(self._store, found, earliest(clock(self._store), self._lead_s))
        self._stamp, self._fingerprint, self.wrong = before, found.fingerprint, ""

    def news(self) -> Sequence[str]:
        """Lines for a person, each once."""
        said, self._news = self._news, []
        return said


def stamp(files: TermsFiles) -> Stamp:
    """What tells that files have changed, without reading them; a file that is not there has no stamp."""
    found = []
    folders = [*files.books, *(path for path in files.contracts if path.is_dir())]
    within = [path for folder in folders for path in sorted(folder.glob("*.toml"))]
    for path in [*within, *files.rules, *(path for path in files.contracts if path not in folders)]:
        try:
            stat = path.stat()
        except OSError:
            continue
        found.append((str(path), stat.st_size, stat.st_mtime_ns))
    return tuple(found)
