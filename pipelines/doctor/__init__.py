"""What is installed, reachable, configured and missing, each with what to do about it.

A check never raises: what goes wrong in it is its finding. Nothing is changed, except what a check must do to be sure
(the tokenizer tables are put into their cache; the store is asked).
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from pipelines.doctor import configured, installed, reached
from pipelines.doctor.findings import Finding, Status, findings_table, worst
from pipelines.doctor.reached import StoreProbe
from pipelines.errors import one_line
from pipelines.sections import Settings

__all__ = ["Finding", "Status", "examine", "findings_table", "worst"]


def examine(settings: Settings, probe_store: StoreProbe) -> list[Finding]:
    """Every check, in the order a person would mend things."""
    extras = installed.needed_extras(settings)
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("python", lambda: [installed.python_version(sys.version_info[:2], platform.python_version())]),
        ("clock", lambda: [installed.clock(datetime.now(UTC), installed.installed_at())]),
        ("packages", lambda: installed.packages(installed.requirements(), installed.installed_version, extras)),
        ("tokenizer", lambda: [installed.tokenizer_tables(), installed.open_tokenizers(installed.installed_version)]),
        ("decoder", lambda: [installed.decoder()]),
        ("prices", lambda: [configured.price_book(settings)]),
        ("hash key", lambda: [configured.hash_key(settings)]),
        ("user keys", lambda: [configured.user_keys(settings)]),
        ("mappings", lambda: [configured.mappings(settings)]),
        ("owners", lambda: [configured.owners(settings)]),
        ("input", lambda: reached.inputs(settings)),
        ("disk", lambda: installed.disks(settings)),
        ("store", lambda: [reached.store(settings, probe_store)]),
        ("dead letters", lambda: [reached.dead_letters(settings)]),
        ("serve", lambda: [reached.serving(settings, os.environ)]),
    ]
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings += check()
        except Exception as error:  # a check that breaks is a finding like any other
            findings.append(Finding(name, Status.FAIL, one_line(error, 200), "see the message"))
    return findings
