"""What a check found, and the report of all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipelines.show import Column, Table


class Status(StrEnum):
    """``fail`` keeps something asked for from working; ``absent`` is optional and not there."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    ABSENT = "absent"



@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; ``fix`` is empty where there is nothing to do."""

    check: str
    status: Status
    detail: str
    fix: str = ""


def worst(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that must be mended: those that failed."""
    return [finding for finding in findings if finding.status is Status.FAIL]


def findings_table(findings: Sequence[Finding]) -> Table:
    """The report."""
    counts = {status: sum(finding.status is status for finding in findings) for status in Status}
    note = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    columns = [Column("check"), Column("status"), Column("detail"), Column("fix")]
    return Table(columns, [[f.check, str(f.status), f.detail, f.fix] for f in findings], "Doctor", note)
