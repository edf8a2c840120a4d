"""``llm-finops decode``: what records of files would become, and what of them gave what; nothing is written."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

import orjson

from pipelines.show import Column, Format, Kind, Table, as_csv, show, table_of
from schemas.batch import DeadLetter
from schemas.call import LEAVES
from sources.files import FileLimits, plan, read
from sources.files.archives import text_head, unpacked
from transforms.decode import DecodeSettings
from transforms.decode.explain import MAX_DECODES, Explained, LeftOver, View, explain, shown
from transforms.decode.scrub import scrub

_INPUT: Final = tuple(leaf for leaf in LEAVES if leaf.startswith("input"))
_OUTPUT: Final = tuple(leaf for leaf in LEAVES if leaf.startswith("output"))
_MOST_PATHS: Final = 3
"""Parts of a record that are named for a field, for people; JSON names all."""


@dataclass(frozen=True)
class Looked:
    """A record, by the file and the position it stands at, and what was found out about it."""

    file: str
    position: int
    found: Explained


def look(
    files: Iterable[Path], settings: DecodeSettings, limits: FileLimits, most: int, reasons: bool = False
) -> Iterator[Looked]:
    """The first ``most`` records of files, one by one; with ``reasons``, also what of each gave what.

    Raises:
        sources.files.SourceError: a file cannot be read.
    """
    limits = replace(limits, batch_records=min(limits.batch_records, most))
    left = most
    for file in files:
        for position, record in _records(file, limits):
            if not left:
                return
            left -= 1
            if isinstance(record, DeadLetter):
                view = {"outcome": "dead letter", "reason": record.reason, "error": record.error}
                yield Looked(str(file), position, Explained((), (view,)))
            else:
                tries = MAX_DECODES if reasons else 1
                yield Looked(str(file), position, explain(record, settings.tenant, settings.mappings, tries))


def _records(file: Path, limits: FileLimits) -> Iterator[tuple[int, bytes | DeadLetter]]:
    splits = plan([file], limits)
    whole = _one_value(file, splits[0].kind, limits.max_record_bytes)
    if whole is not None:
        yield 0, whole
        return
    for split in splits:
        for batch in read(split, limits):
            yield from zip(batch.positions, batch.records, strict=True)
            yield from ((letter.position, letter) for letter in batch.rejects)


def _one_value(file: Path, kind: str, most: int) -> bytes | None:
    """The content of a file that is one JSON value written over several lines, as examples are; None for lines of JSON."""
    if kind == "parquet" or _is_json(text_head(file, kind).lstrip().partition(b"\n")[0]):
        return None
    try:
        with unpacked(file, kind) as stream:
            content = stream.read(most + 1)
    except Exception:  # whatever is wrong with it is told by who reads it in order
        return None
    return content if len(content) <= most and _is_json(content) else None


def _is_json(data: bytes) -> bool:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        return False
    return True


# ---- how it is shown

_OUTCOMES: Final = (
    Column("file"),
    Column("position", Kind.COUNT),
    Column("read_as", title="read as"),
    Column("outcome"),
    Column("provider"),
    Column("model"),
    Column("input", Kind.COUNT),
    Column("output", Kind.COUNT),
    Column("says"),
)


def print_outcomes(looked: Iterable[Looked], fmt: str, file: IO[str] | None = None) -> None:
    """A row for each outcome."""
    rows = [_row(one, view) for one in looked for view in one.found.outcomes]
    show(table_of(rows, _OUTCOMES, "What records become", "--explain shows what of each record gave what"), fmt, file)


def _row(one: Looked, view: View) -> dict[str, Any]:
    what = "reason" in view and ": ".join(shown("", view[name]) for name in ("reason", "error") if view.get(name))
    return {
        "file": one.file,
        "position": one.position,
        "read_as": one.found.routes[0] if len(one.found.routes) == 1 else view.get("format") or None,
        "outcome": view["outcome"],
        "provider": view.get("provider"),
        "model": view.get("model"),
        "input": _sum(view, _INPUT),
        "output": _sum(view, _OUTPUT),
        "says": what or ", ".join(view.get("flags", ())) or None,
    }


def _sum(view: View, leaves: tuple[str, ...]) -> int | None:
    known = [view[leaf] for leaf in leaves if leaf in view]
    return sum(known) if known else None


def print_explained(looked: Iterable[Looked], fmt: str, file: IO[str] | None = None) -> None:
    """For each record its fields and where each came from, then what was left over."""
    file = file or sys.stdout
    if fmt == Format.JSON:
        file.write(orjson.dumps([_as_object(one) for one in looked], option=orjson.OPT_APPEND_NEWLINE).decode())
    elif fmt == Format.CSV:
        file.write(as_csv(_as_rows(looked)))
    else:
        number = 0
        for number, one in enumerate(looked, 1):
            if number > 1:
                file.write("\n")
            for table in _tables(one):
                show(table, fmt, file)
        if not number:
            file.write("no records: there is nothing in these files\n")
    file.flush()


def _fields(found: Explained) -> list[tuple[str, str, list[str]]]:
    """Every field of the outcome, its value, and the parts of the record that gave it."""
    sources = found.from_where()
    names = list(sources)
    for number, view in enumerate(found.outcomes):
        prefix = f"[{number}]." if len(found.outcomes) > 1 else ""
        names += [prefix + name for name in view if prefix + name not in sources]
    return [(name, found.value(name), sources.get(name, [])) for name in names]


def _as_object(one: Looked) -> dict[str, Any]:
    found = one.found
    return {
        "file": one.file,
        "position": one.position,
        "read_as": found.routes,
        "outcomes": [view["outcome"] for view in found.outcomes],
        "fields": [{"field": name, "value": value, "from": paths} for name, value, paths in _fields(found)],
        "sources": [{"path": each.path, "removed": each.removed, "altered": each.altered} for each in found.sources],
        "left_over": [{"path": left.path, "kind": left.kind, "size": left.size} for left in found.left_over],
        "decodes": found.decodes,
        "unseen": found.unseen,
    }


def _as_rows(looked: Iterable[Looked]) -> Table:
    names = ("field", "value", "path", "left_over")
    columns = [Column("file"), Column("position", Kind.COUNT), *map(Column, names)]
    rows: list[list[Any]] = []
    for one in looked:
        at = [one.file, one.position]
        rows += [[*at, name, value, path or None, False] for name, value, paths in _fields(one.found) for path in paths or [""]]
        rows += [[*at, None, None, left.path, True] for left in one.found.left_over]
    return Table(columns, rows)


def _tables(one: Looked) -> Iterator[Table]:
    found = one.found
    became = ", ".join(view["outcome"] for view in found.outcomes[:10]) + (" …" if len(found.outcomes) > 10 else "")
    title = f"{one.file} at {one.position:,}: {', '.join(found.routes) or 'of no known format'}, {became}"
    rows = [[name, value, _few(paths)] for name, value, paths in _fields(found) if value != "-" or name == "outcome"]
    yield Table([Column("field"), Column("value"), Column("path", title="from")], rows, title)
    said = [left for left in found.left_over if left.kind != "null" and left.size]
    silent = len(found.left_over) - len(said)
    note = f"and {silent} that are null or empty" if silent else ""
    if found.unseen:
        note += f"{'; ' if note else ''}{found.unseen} parts were not looked at: {found.decodes:,} decodes are the limit"
    if said or note:
        columns = [Column("path", title="left over"), Column("kind"), Column("size")]
        yield Table(columns, [[left.path, left.kind, _size(left)] for left in said], note=note)


def _few(paths: list[str]) -> str:
    """The first parts, by their paths."""
    more = len(paths) - _MOST_PATHS
    return scrub(", ".join(paths[:_MOST_PATHS])) + (f" and {more} more" if more > 0 else "")


def _size(left: LeftOver) -> str:
    if left.kind == "text":
        return f"{left.size:,} characters"
    return f"{left.size:,} items" if left.kind in ("object", "list") else ""
