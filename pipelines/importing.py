"""``llm-finops prices import``: what another price list says differently, and proposals of it to read and approve."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import date
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple

from pipelines.errors import InputError, OutputError
from pipelines.show import Column, Format, show, table_of
from transforms.price import Book, BookError, load_book
from transforms.price.book import NO_PRICE, Key
from transforms.price.entries import Files
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
            yield Compared("new", entry.rate_id, "", None, None, f"the book says {NO_PRICE[-1 - row]}")
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


def print_compared(found: list[Compared], title: str, fmt: str) -> None:
    """What differs; what is the same is only counted."""
    rows = [one._asdict() for one in found if one.kind != "same" or fmt != Format.TABLE]
    counts = Counter({one.kind: 0 for one in found}) + Counter(kind for kind, _ in {(one.kind, one.price) for one in found})
    columns = [Column(name) for name in Compared._fields]
    show(table_of(rows, columns, title, ", ".join(f"{count:,} {kind}" for kind, count in counts.items())), fmt)


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
