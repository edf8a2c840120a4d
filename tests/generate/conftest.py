"""One run of three working days and a weekend's edge, shared by the tests that look at files."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pytest

from sources.generate import GenerateSettings, write

# Anomalies are more frequent than by default, so that a small run has enough of each to judge; by this seed, each incident
# has calls.
SETTINGS = GenerateSettings(
    seed=5, start=date(2026, 3, 4), days=3, calls=9000, broken=0.01, late=0.02, duplicates=0.02, redacted_ids=0.01
)


@dataclass
class Run:
    folder: Path
    truth: dict[str, Any]
    lines: list[bytes]

    def parsed(self) -> list[dict[str, Any]]:
        """The records that are JSON objects, each once, in the order of the log."""
        found = []
        for line in dict.fromkeys(self.lines):
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(value, dict):
                found.append(value)
        return found


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("traffic")
    write(SETTINGS, folder)
    lines: list[bytes] = []
    for path in sorted(folder.glob("calls-*.jsonl.gz")):
        lines += gzip.decompress(path.read_bytes()).splitlines()
    return Run(folder, orjson.loads((folder / "truth.json").read_bytes()), lines)
