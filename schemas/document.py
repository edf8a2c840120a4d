"""The page ``docs/tables.md``, made from the tables themselves: ``python -m schemas.document docs/tables.md``."""

from __future__ import annotations

import sys
from pathlib import Path

from schemas.reasons import DEAD_LETTER_REASONS, IGNORED_REASONS, UNPRICED_REASONS
from schemas.tables import TABLES, Table


def document() -> str:
    """All tables with their columns, then every reason code, as Markdown."""
    lines = [
        "# Tables",
        "",
        "This page is made from the code by `make docs`. `calls` is the truth; `minutes`, `hours`, `days` and `audit_days`",
        "are derived from it and replaced whole. Read replacing tables with `FINAL`.",
        "",
        *(f"- [{table.name}](#{table.name}): {table.doc}" for table in TABLES),
        "",
    ]
    for table in TABLES:
        lines += _section(table)
    lines += ["## Reason codes", ""]
    for title, codes in (
        ("Dead letters", DEAD_LETTER_REASONS),
        ("Ignored items", IGNORED_REASONS),
        ("Unpriced calls", UNPRICED_REASONS),
    ):
        lines += [f"### {title}", "", "| code | meaning |", "| --- | --- |"]
        lines += [f"| `{code}` | {meaning} |" for code, meaning in codes.items()]
        lines.append("")
    return "\n".join(lines)


def _section(table: Table) -> list[str]:
    facts = [f"written by: {table.written_by}", f"order: `{table.order_by}`"]
    if table.partition_by:
        facts.append(f"partition: `{table.partition_by}`")
    if table.version:
        facts.append(f"replaced by: `{table.version}`")
    if table.ages_by:
        facts.append(f"kept: `retention.{table.name}` days by `{table.ages_by}`")
    rows = [f"| `{c.name}` | `{c.type}` | {c.doc} |" for c in table.columns]
    head = ["| column | type | meaning |", "| --- | --- | --- |"]
    return [f"## {table.name}", "", table.doc, "", "; ".join(facts) + ".", "", *head, *rows, ""]


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
