"""Own prices, contracts and ownership rules, from files to the store's table ``terms`` and from there to whatever prices calls.

A store of which a run was ever followed keeps every content there was, with the event time from which it holds, so that a call
comes to the same price and owner whenever it is read. A changed content holds at the earliest from ``lead_s`` seconds ahead of
the clock; who prices calls asks three times as often, and so knows of it before the first call that it is for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson
import pyarrow as pa

from schemas.tables import PRICE_RUNS, PRICED_BY, PRICES
from sinks.clickhouse import Store, StoreSettings
from sinks.terms import Announced, announce, announced, clock, content
from transforms.price import Book, book_rows, load_book
from transforms.price.contracts import Written, read_files
from transforms.price.entries import Folder, read_folder
from transforms.terms import Terms, TermsNow, Timeline, in_order

LOOKS: Final = 3
"""How often within the lead changes are looked for."""

_SECOND: Final = 1_000_000


@dataclass(frozen=True)
class TermsFiles:
    """Where terms are written: folders of own prices, files of ownership rules, files or folders of contracts."""

    books: tuple[Path, ...] = ()
    rules: tuple[Path, ...] = ()
    contracts: tuple[Path, ...] = ()


class Content(NamedTuple):
    """What files of terms said when they were read. File names are kept, folders are not."""

    text: str

    @property
    def fingerprint(self) -> str:
        return hashlib.blake2b(self.text.encode(), digest_size=8).hexdigest()


def read_content(files: TermsFiles) -> Content:
    """What the files say now. Not checked yet: see ``check``.

    Raises:
        transforms.price.BookError: a folder of prices or a file of contracts cannot be read.
        transforms.own.files.RulesError: a file cannot be read.
    """
    from transforms.own.files import read_text  # what it imports is slow, and workers of a local run do without it

    books = [read_folder(folder) for folder in files.books]
    rules = [(path.name, read_text(path)) for path in files.rules]
    said: dict[str, Any] = {"books": books, "rules": rules}
    if files.contracts:  # what was announced without any stays the same content
        said["contracts"] = read_files(files.contracts)
    return Content(orjson.dumps(said).decode())


def check(found: Content) -> None:
    """Make sure that calls can go by it.

    Raises:
        transforms.price.BookError: a price or a contract is wrong; file, entry, field and fix are named.
        transforms.own.files.RulesError: a rule is wrong; the same.
    """
    terms = _parsed(found.text)
    load_book(terms.books, terms.contracts)


def _parsed(text: str) -> Terms:
    from transforms.own.files import rules_in

    said = orjson.loads(text)
    books = tuple(tuple((name, file) for name, file in folder) for folder in said["books"])
    contracts = tuple((name, file) for name, file in said.get("contracts", ()))
    return Terms(books, rules_in((name, file) for name, file in said["rules"]), contracts=(contracts,) if contracts else ())


_PARSED: dict[str, Terms] = {}
"""By fingerprint: what was announced never changes."""


def timeline(store: Store, known: Sequence[Announced] | None = None) -> Timeline:
    """The terms that a store knows; empty if none were ever announced. ``known``: as it told a moment ago.

    Raises:
        transforms.price.BookError, transforms.own.files.RulesError: announced by a version that reads it otherwise.
    """
    found = []
    for one in announced(store) if known is None else known:
        if one.fingerprint not in _PARSED:
            _PARSED[one.fingerprint] = _parsed(content(store, one.fingerprint))
        found.append(replace(_PARSED[one.fingerprint], since=one.since))
    return in_order(found)


def timeline_of(settings: StoreSettings) -> TermsNow:
    """Asks a store for its timeline, in any process."""
    return partial(_ask, settings)


def _ask(settings: StoreSettings) -> Timeline:
    return timeline(settings.open())


def earliest(now: int, lead_s: float) -> int:
    """The event time from which changed terms hold if nobody states another: a whole second, so far ahead of ``now``."""
    return -(-(now + round(lead_s * _SECOND)) // _SECOND) * _SECOND


def in_force(known: Sequence[Announced], now: int) -> Sequence[Announced]:
    """Those that hold now, and those that are to follow."""
    begun = sum(one.since <= now for one in known)
    return known[max(0, begun - 1) :]


def agree(store: Store, found: Content, lead_s: float, begin: bool = False) -> str:
    """Before a run: what its files say is what calls go by from now on, if the store keeps account of it; what changed, in words.

    A store that has no terms yet begins with these if ``begin``, for all time; else its runs go by their own settings.

    Raises:
        transforms.price.BookError, transforms.own.files.RulesError: the files are wrong.
    """
    known = announced(store)
    if not known and not begin:
        return ""
    if not known:
        announce_from(store, found, 0)
        return ""
    now = clock(store)
    if found.fingerprint in {one.fingerprint for one in in_force(known, now)}:
        return ""
    return in_words(announce_from(store, found, earliest(now, lead_s)))


def announce_from(store: Store, found: Content, since: int) -> Announced:
    """Let a content hold for calls from this event time (UTC microseconds) on.

    Raises:
        transforms.price.BookError, transforms.own.files.RulesError: the content is wrong.
    """
    check(found)
    terms = Announced(since, found.fingerprint)
    announce(store, terms, found.text)
    return terms


def publish_book(store: Store, books: tuple[Folder, ...], contracts: tuple[Written, ...] = ()) -> None:
    """Write the compiled prices to ``prices`` once per version, and the live run to ``price_runs``."""
    from transforms.work import LIVE_PRICE_RUN  # tokenizers come with it

    book = load_book(books, contracts)
    publish_prices(store, book)
    live = {"price_run": LIVE_PRICE_RUN, "book_version": book.book_version, "active": True, "since": 0, "until": None}
    live |= {"undoes": 0, "state": "live", "kind": "book", **{name: [] for name in PRICED_BY}}
    known = f"SELECT count() FROM {store.table('price_runs')} WHERE price_run = {LIVE_PRICE_RUN} AND book_version = {{v:String}}"
    if not store.rows(known, {"v": book.book_version})[0][0]:
        store.insert(PRICE_RUNS.name, pa.Table.from_pylist([live], PRICE_RUNS.arrow))


def publish_prices(store: Store, book: Book) -> None:
    """Write a compiled price book to ``prices``, once per version."""
    known = store.rows(f"SELECT count() FROM {store.table('prices')} WHERE book_version = {{v:String}}", {"v": book.book_version})
    if not known[0][0]:
        store.insert(PRICES.name, pa.Table.from_pylist(book_rows(book), PRICES.arrow))


def publish_books(store: Store, terms: Timeline) -> None:
    """Publish every price book that calls may go by."""
    for books, contracts in dict.fromkeys((one.books, one.contracts) for one in terms):
        publish_book(store, books, contracts)


def in_words(terms: Announced) -> str:
    """A line for a person."""
    return f"calls from {instant(terms.since)} on go by changed prices and rules (terms {terms.fingerprint})"


def instant(micros: int) -> str:
    """An event time for a person."""
    return datetime.fromtimestamp(micros / _SECOND, UTC).isoformat().replace("+00:00", "Z") if micros else "always"
