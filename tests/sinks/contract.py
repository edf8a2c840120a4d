"""The columns that exports promise: ``python -m tests.sinks.contract`` (part of ``make docs``) adds the new ones.

A consumer's script must not break in silence. So what is removed, renamed or of another type stays in the file as it was,
and fails its test, until ``CHANGELOG.md`` names it as `table.column`.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Final

from sinks.export import EXPORTED, types

PROMISED: Final = Path(__file__).parent / "export_contract.csv"
_CHANGES: Final = Path(__file__).resolve().parents[2] / "CHANGELOG.md"

Contract = dict[tuple[str, str], tuple[str, str]]
"""By table and column: type in Parquet, and what it is in text."""


def promised() -> Contract:
    with PROMISED.open(encoding="utf-8", newline="") as file:
        return {(row["table"], row["column"]): (row["parquet"], row["text"]) for row in csv.DictReader(file)}


def current() -> Contract:
    return {(name, column.name): types(column) for name, table in EXPORTED.items() for column in table.columns}


def broken() -> set[tuple[str, str]]:
    """What was promised, is not so any more, and is not owned up to."""
    changes, now = _CHANGES.read_text(encoding="utf-8"), current()
    return {key for key, kinds in promised().items() if now.get(key) != kinds and "`{}.{}`".format(*key) not in changes}


def main() -> None:
    kept = {key: kinds for key, kinds in promised().items() if key in broken()} if PROMISED.exists() else {}
    with PROMISED.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("table", "column", "parquet", "text"))
        out.writerows((*key, *kinds) for key, kinds in {**current(), **kept}.items())


if __name__ == "__main__":
    main()
