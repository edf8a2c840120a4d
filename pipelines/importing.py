"""``llm-finops prices import``: what another price list says differently, and proposals of it to read and approve."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import date
from importlib import import_module
from pathlib import Path
from textwrap import TextWrapper
from typing import Any, Final, NamedTuple

import click

from pipelines.errors import InputError, OutputError
from pipelines.show import Column, Format, console, show, table_of
from pipelines.text import printable
from transforms.price import Book, BookError, load_book
from transforms.price.book import NO_PRICE, Key
from transforms.price.entries import Entry, Files
from transforms.price.history import FIELD_OF
from transforms.price.imports import LITELLM, ListError, Proposal, Refused, as_files, read_list

_INSTALLED: Final = "model_prices_and_context_window_backup.json"


class Compared(NamedTuple):
    """One price of a list against the book: ``kind`` is same, changed, new, not in theirs, or not mapped."""

    kind: str
    price: str
    field: str
    ours: str | None
    theirs: str | None
    reason: str


def read(source: str, file: Path | None) -> tuple[str, list[Proposal | Refused]]:
    """What a list says, and what it is called as a source.

    Raises:
        InputError: it cannot be read, or is not of this source.
    """
    path = file or Path(f"the installed {source}")
    try:
        return f"{source}, {path.name}", list(read_list(source, file.read_text(encoding="utf-8") if file else _installed(source)))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except ListError as error:
        raise InputError(f"{path}: {error}; name the JSON file that {source} publishes with --file") from None


def _installed(source: str) -> str:
    """The list that an installed package brings along: LiteLLM as its JSON, genai-prices as objects of the same shape."""
    try:
        package = import_module("litellm" if source == LITELLM else "genai_prices.data")
    except ImportError:
        raise InputError(f"{source} is not installed; name its JSON file with --file") from None
    if source == LITELLM:
        return (Path(str(package.__file__)).parent / _INSTALLED).read_text(encoding="utf-8")
    providers = [{"id": one.id, "models": list(map(_as_json, one.models))} for one in package.providers]
    return json.dumps(providers, default=str)  # a price becomes its text, a date its day


def _as_json(value: Any) -> Any:
    if isinstance(value, list):
        return [_as_json(one) for one in value]
    if not hasattr(value, "__dict__"):
        return value
    return {name.rstrip("_"): _as_json(one) for name, one in vars(value).items() if one is not None}


def loadable(found: list[Proposal | Refused], label: str, today: date) -> tuple[list[Proposal], list[Refused]]:
    """The proposals that make valid files, and those that do not, with what loading says of them."""
    kept: dict[tuple[str, str], Proposal] = {}
    refused = [one for one in found if isinstance(one, Refused)]
    taken: set[tuple[str, str]] = set()
    for one in found:
        if isinstance(one, Refused):
            continue
        spellings = {(one.provider, name.lower()) for name in (one.model, *one.names)}
        if spellings & taken:
            refused.append(Refused(one.provider, one.model, "its name or another name of it is a model of the list already"))
            continue
        try:
            load_book([as_files([one], label, today)], built_in=False)
        except BookError as error:
            refused.append(Refused(one.provider, one.model, str(error).partition(": ")[2] or str(error)))
            continue
        taken |= spellings
        kept[one.provider, one.model] = one
    return list(kept.values()), refused


def compare(
    book: Book, proposals: list[Proposal], refused: list[Refused], label: str, today: date, at: int
) -> Iterator[Compared]:
    """Each proposed price that holds at a time (UTC microseconds) beside what the book says then, looked up as for a call."""
    theirs = load_book([as_files(proposals, label, today)], built_in=False) if proposals else None
    seen: set[str] = set()
    told: set[tuple[str, str, str]] = set()  # what differs under several names of the list is told once
    for entry in theirs.entries if theirs else ():
        if not entry.valid_from <= at < entry.valid_to:
            continue
        row = book.plan(Key(entry.provider, entry.model, entry.tier, entry.scope)).row(at, entry.above + 1)
        if row < 0:
            for field, figure in _figures(entry):
                yield Compared("new", entry.rate_id, field, None, figure, f"the book says {NO_PRICE[-1 - row]}")
            continue
        ours = book.entries[row]
        seen.add(f"{ours.provider}/{ours.model}")
        fields = [unit for unit in entry.listed if unit not in entry.like and entry.listed[unit] != ours.listed.get(unit)]
        for unit in fields:
            if (what := (ours.rate_id, unit, entry.listed[unit])) not in told:
                told.add(what)
                had = ours.listed.get(unit) or ours.free or None
                yield Compared("changed", entry.rate_id, FIELD_OF[unit], had, entry.listed[unit], "")
        if not fields:
            yield Compared("same", entry.rate_id, "", None, None, "")
    covered = {one.provider for one in proposals}
    for name in sorted({f"{e.provider}/{e.model}" for e in book.entries if e.provider in covered} - seen):
        yield Compared("not in theirs", name, "", None, None, "")
    for one in refused:
        yield Compared("not mapped", f"{one.provider}/{one.model}", "", None, None, one.reason)


def _figures(entry: Entry) -> Iterator[tuple[str, str]]:
    """What a price states, by field, without what is only billed like another one."""
    if entry.free:
        yield "free", entry.free
    for unit, figure in entry.listed.items():
        if unit not in entry.like:
            yield FIELD_OF[unit], figure


_TITLES: Final = {
    "changed": "Changed",
    "new": "New: not in the book",
    "not in theirs": "Not in theirs",
    "not mapped": "Not mapped: it cannot be said in the book",
}


def print_compared(found: list[Compared], title: str, fmt: str) -> None:
    """What differs, for people in a table for each kind; what is the same is only counted."""
    counts = Counter({one.kind: 0 for one in found}) + Counter(kind for kind, _ in {(one.kind, one.price) for one in found})
    said = ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
    if fmt != Format.TABLE:
        show(table_of([one._asdict() for one in found], [Column(name) for name in Compared._fields]), fmt)
        return
    click.echo(f"{title}: {said or 'nothing to compare'}")
    for kind, heading in _TITLES.items():
        rows = [one for one in found if one.kind == kind]
        if not rows:
            continue
        click.echo(f"\n{heading}")
        if kind == "changed":
            columns = [Column(name) for name in ("price", "field", "ours", "theirs")]
            show(table_of([one._asdict() for one in rows], columns))
            continue
        prices: dict[str, list[Compared]] = {}
        for one in rows:
            prices.setdefault(one.price, []).append(one)
        for price, some in prices.items():  # names are long and figures many: no columns hold both
            click.echo(f"  {printable(price)}" + "".join(f"\n      {line}" for line in _below(some)))


def _below(some: list[Compared]) -> Iterator[str]:
    """What stands below the name of a price: its figures, and why it is there."""
    figures = ", ".join(f"{one.field} {one.theirs}" for one in some if one.theirs is not None)
    whole = TextWrapper(console(sys.stdout).width - 6, break_long_words=False, break_on_hyphens=False)
    for text in (figures, some[0].reason):
        yield from whole.wrap(printable(text))


def write(files: Files, folder: Path) -> None:
    """Write proposals into a new or empty folder.

    Raises:
        OutputError: it cannot be written, or holds prices already.
    """
    if folder.exists() and any(folder.glob("*.toml")):
        raise OutputError(f"{folder}: holds files of prices already; name a new folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files:
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}") from None
