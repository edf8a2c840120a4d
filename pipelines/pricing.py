"""``llm-finops prices``: the price book as people see it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import Any, Final

import click

from pipelines.errors import SettingsError
from pipelines.export import moment
from pipelines.show import Column, Format, Kind, Table, show, show_paragraph, table_of
from transforms.price import Book, BookError, load_book
from transforms.price.check import ERROR, Finding, check_book
from transforms.price.contracts import read_files
from transforms.price.entries import Entry, Files, iso
from transforms.price.fields import EVER, FOREVER
from transforms.price.history import Change, History, entry_row, in_effect, state
from transforms.price.rates import FIELDS

_OVER: Final = "+"
"""Between a book and a folder that is laid over it."""

_PLACE: Final = ("provider", "model", "tier", "scope", "above", "window")
_SHOWN: Final = {
    "input": "in",
    "cache_read": "cache read",
    "cache_write": "write",
    "cache_write_5m": "write 5m",
    "cache_write_1h": "write 1h",
    "output": "out",
}
"""Fields with a column of their own for people; others share one, unless they cost what these do anyway."""
_UNITS: Final = "dollars per million tokens, fees per thousand"
_LIKE: Final = {"tool_use": "input", "image_input": "input", "audio_input": "input", "reasoning": "output"}


def day(text: str | None) -> date | None:
    """A day as an option states it.

    Raises:
        SettingsError: it is none.
    """
    return moment(text).date() if text else None


def micros(text: str) -> int:
    """A time as an option states it, in UTC microseconds."""
    return round(moment(text).timestamp()) * 1_000_000


def books_named(a: str, b: str, alone: bool) -> tuple[list[Entry], list[Entry], str]:
    """The prices of two books, and what they are called; see ``book_named``.

    A folder or file beside the built-in book is laid over it, as own prices are, unless it is to stand ``alone``.
    """
    built_in = next((name for name in (a, b) if _is_built_in(name)), "")
    under = "" if alone or _is_built_in(a) == _is_built_in(b) else built_in
    names = [name if _is_built_in(name) or not under else f"{under}{_OVER}{name}" for name in (a, b)]
    return book_named(names[0]), book_named(names[1]), f"From {names[0]} to {names[1]}"


def _is_built_in(name: str) -> bool:
    return re.fullmatch(r"built-in([@+].*)?", name) is not None


def book_named(name: str) -> list[Entry]:
    """The prices of ``built-in``, of ``built-in@DAY`` as known on that day, of a folder or one file; or of these in one: with
    ``+`` and a folder or file behind them, laid over as own prices are.

    Raises:
        SettingsError, transforms.price.BookError: there is no such book, or it is wrong.
    """
    if not _is_built_in(name):
        return [entry for entry in load_book([_folder(Path(name))]).entries if entry.layer]
    book, *over = name.split(_OVER)
    known_on = book.partition("@")[2] if "@" in book else None
    return in_effect(load_book([_folder(Path(one)) for one in over], known_on=day(known_on)).entries)


def _folder(path: Path) -> Path | Files:
    if not path.exists():
        raise SettingsError(f"{path}: no such folder or file of prices; or name built-in, built-in@2026-11-24")
    if path.is_dir():
        return path
    try:
        return ((path.name, path.read_text(encoding="utf-8")),)
    except (OSError, UnicodeDecodeError) as error:
        raise BookError(f"{path.name}: cannot be read as TOML: {error}") from error


def print_prices(entries: Iterable[Entry], title: str, fmt: str) -> None:
    """A row for each price; for people only the columns that say something."""
    rows = [entry_row(entry) for entry in sorted(entries, key=lambda entry: (entry.provider, entry.model, _in_order(entry)))]
    if fmt != Format.TABLE:
        names = (*_PLACE, "from", "to", *FIELDS, "free", "rate_id", "source", "recorded")
        columns = [Column(name, Kind.COUNT if name == "above" else Kind.TEXT) for name in names]
        show(table_of(rows, columns), fmt)
        return
    shown = [_for_people(row) for row in rows]
    names = ("model", "tier", "band", "from", "to", *_SHOWN.values(), "other")
    columns = [Column(name) for name in names if name == "model" or any(row[name] for row in shown)]
    show(table_of(shown, columns, title, f"{_UNITS}; --format json has every column"), fmt)


def _for_people(row: dict[str, Any]) -> dict[str, Any]:
    band = (f">{row['above']:,}" if row["above"] else "") + (f" {row['window']}" if row["window"] else "")
    fields = {title: row[field] or "" for field, title in _SHOWN.items()}
    others = [f for f in FIELDS if f not in _SHOWN and row[f] and row[f] != row.get(_LIKE.get(f, ""))]
    tier = row["tier"] + (f" {row['scope']}" if row["scope"] else "")
    other = row["free"] or ", ".join(f"{field} {row[field]}" for field in others)
    return {**row, **fields, "model": f"{row['provider']}/{row['model']}", "tier": tier, "band": band.strip(), "other": other}


def print_history(found: History, logged: str, at: int, holds: set[str]) -> None:
    """For people: a model's prices in order and which are in force, then those corrected since, then its names."""
    fmt = Format.TABLE
    how = f"is read as {found.read_as.name!r} of" if found.read_as else "means nothing, though there is the model"
    _print_of_one_model(found.entries, f"{logged!r} at {iso(at)} {how} {found.provider}/{found.model}", at, holds)
    if found.corrected:
        _print_of_one_model(found.corrected, "Corrected since", at, None)
    names = [[name.name, *_span(name.valid_from, name.valid_to), name.recorded or None] for name in found.names]
    sources = dict.fromkeys(entry.free or entry.source for entry in found.entries)
    columns = [Column("name"), Column("from"), Column("to"), Column("recorded")]
    kept = [i for i, _ in enumerate(columns) if i == 0 or any(row[i] for row in names)]
    rows = [[row[i] for i in kept] for row in names]
    show(Table([columns[i] for i in kept], rows, "Names", f"source: {'; '.join(sources)}"), fmt)


def _print_of_one_model(entries: Sequence[Entry], title: str, at: int, holds: set[str] | None) -> None:
    """Prices without what is the same in all of them, which stands below once. ``holds`` is None where none is in force."""
    rows = [
        {**_for_people(entry_row(entry)), "state": "" if holds is None else state(entry, at, holds)}
        for entry in sorted(entries, key=_in_order)
    ]
    if all(row["cache_write"] in (None, row["cache_write_5m"]) for row in rows):
        rows = [{**row, "write": ""} for row in rows]  # a write whose life is not named costs what one of five minutes does
    names = ("state", "tier", "band", "from", "to", *_SHOWN.values(), "other", "recorded")
    alike = [name for name in ("other", "recorded") if len({row[name] for row in rows}) == 1 and rows[0][name]]
    columns = [Column(name) for name in names if name not in alike and any(row[name] for row in rows)]
    show(table_of(rows, columns, title, ", ".join([_UNITS, *(f"{name} {rows[0][name]}" for name in alike)])), Format.TABLE)


def history_rows(found: History, at: int, holds: set[str]) -> list[dict[str, Any]]:
    """What JSON and CSV say of a model: a row for each price, with the names that lead to it."""
    names = ", ".join(f"{n.name}" + (f" ({_when(n.valid_from, n.valid_to)})" if n.recorded else "") for n in found.names)
    read_as = found.read_as.name if found.read_as else None
    some = [(entry, False) for entry in sorted(found.entries, key=_in_order)]
    some += [(entry, True) for entry in sorted(found.corrected, key=_in_order)]
    more = {"read_as": read_as, "names": names}
    return [
        {
            **entry_row(entry),
            "corrected": old,
            "holds": not old and entry.rate_id in holds,
            "state": "corrected" if old else state(entry, at, holds),
            **more,
        }
        for entry, old in some
    ]


def print_history_rows(rows: list[dict[str, Any]], fmt: str) -> None:
    """The rows of ``history_rows``, exactly."""
    names = (*_PLACE, "from", "to", *FIELDS, "free", "rate_id", "source", "recorded", "corrected", "holds")
    names = (*names, "state", "read_as", "names")
    show(table_of(rows, [Column(name, Kind.COUNT if name == "above" else Kind.TEXT) for name in names]), fmt)


def _in_order(entry: Entry) -> tuple[Any, ...]:
    window = entry.window.name if entry.window else ""
    return (entry.tier != "standard", entry.tier, entry.scope, entry.valid_from, window, entry.above, entry.recorded)


def _span(start: int, end: int) -> tuple[str | None, str | None]:
    return (None if start == EVER else iso(start), None if end == FOREVER else iso(end))


def _when(start: int, end: int) -> str:
    return " to ".join(side or "…" for side in _span(start, end))


def print_changes(changes: Sequence[Change], title: str, fmt: str) -> None:
    """A row for each field of a price in which two books differ."""
    rows = [{**change._asdict(), "ratio": change.ratio} for change in changes]
    if fmt == Format.TABLE:
        rows = [{**row, "ratio": f"{row['ratio'].normalize():f}" if row["ratio"] is not None else None} for row in rows]
    counts = ", ".join(
        f"{len({c.rate_id for c in changes if c.kind == kind}):,} {kind}" for kind in ("changed", "added", "removed")
    )
    columns = [Column("kind"), Column("rate_id", title="price"), *map(Column, ("field", "old", "new", "ratio"))]
    show(table_of(rows, columns, title, counts), fmt)


def findings(
    folders: Sequence[Path], own: Sequence[Path], contracts: Sequence[Path], today: date, stale_days: int
) -> list[Finding]:
    """What is odd about these folders, or about the built-in book and the folders of the settings if none are named; and what is
    wrong with contracts over them all."""
    found: list[Finding] = []
    for some in [[folder] for folder in folders] or [list(own)]:
        try:
            book: Book = load_book([_folder(path) for path in some])
        except (BookError, SettingsError) as error:
            found.append(_refused(str(error)))
            continue
        places = {entry.place for entry in book.entries if entry.layer}
        places |= {rule.place for provider in book.providers for rule in book.names(provider) if rule.layer}
        places |= {one.place for provider in book.providers for one in book.confirmed(provider) if one.layer}
        found += [one for one in check_book(book, today, stale_days) if not folders or one.place in places]
    if contracts:
        refused = [_refused(said) for said in _wrong_contracts([*own, *folders], contracts)]
        found = [one for one in refused if one not in found] + found
    return found


def _wrong_contracts(books: Sequence[Path], contracts: Sequence[Path]) -> list[str]:
    """What loading says of contracts: of each file alone, and of all of them together if each is right."""
    try:
        layers = [_folder(path) for path in books]
        load_book(layers)
    except (BookError, SettingsError) as error:
        return [str(error)]
    said: list[str] = []
    files: list[Files] = []
    for path in contracts:
        try:
            files += [(one,) for one in read_files([path])]
        except BookError as error:
            said.append(str(error))
    for some in [*([one] for one in files), files]:
        try:
            if some is not files or not said:
                load_book(layers, some)
        except BookError as error:
            said.append(str(error))
    return said


def _refused(text: str) -> Finding:
    place, _, said = text.partition(": ")
    field = re.search(r'field "(\w+)"', text)
    said, _, fix = said.partition("; ")
    said = said.removeprefix(f'field "{field[1]}": ' if field else "")
    return Finding(ERROR, "refused", place, field[1] if field else "", said, fix or "mend it as said: nothing of it is loaded")


def print_findings(found: Sequence[Finding], fmt: str, contracts: int = 0) -> None:
    """A row for each finding; for people a paragraph, since places and fixes are too long for columns, and what was looked at."""
    errors = sum(one.severity == ERROR for one in found)
    counts = f"{errors:,} errors, {len(found) - errors:,} warnings"
    if fmt == Format.TABLE:
        for one in found:
            about = f'{one.place}, field "{one.field}"' if one.field else one.place
            show_paragraph(f"{one.severity}, {one.check}: {about}", one.finding, f"fix: {one.fix}")
        click.echo(counts + (f" in prices and {contracts:,} files or folders of contracts" if contracts else ""))
        return
    rows = [{**one._asdict(), **dict(zip(("file", "entry"), _parts(one.place), strict=True))} for one in found]
    columns = [Column(name) for name in ("severity", "check", "file", "entry", "field", "finding", "fix")]
    show(table_of(rows, columns), fmt)


def _parts(place: str) -> tuple[str, str]:
    file, _, entry = place.partition(", ")
    return file, entry
