"""The compiled decoder, built as an installation builds it, reads every record as the one in Python does."""

from __future__ import annotations

import gzip
import os
import random
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.decode import pool
from tests.decode.mutations import Step, mutate

CHECKOUT = Path(__file__).resolve().parents[2]
MUTATED = 5000
RECORDED = 7000
"""Recorded calls that there are at least."""


def compiler() -> str | None:
    """What is missing to compile an extension; None if nothing is."""
    command = (os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "") or "cc").split()[0]
    if shutil.which(command) is None:
        return f"needs the C compiler `{command}` (Debian: apt install gcc)"
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        return "needs the headers of Python (Debian: apt install python3-dev)"
    return None


def build(folder: Path, asked: str) -> Path:
    """The packages as ``setup.py`` builds them of a copy of the sources; ``asked``: what ``LLM_FINOPS_COMPILE`` says."""
    sources, made = folder / "sources", folder / "made"
    sources.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(CHECKOUT / name, sources)
    for name in ("schemas", "transforms"):
        shutil.copytree(CHECKOUT / name, sources / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    command = [sys.executable, "setup.py", "--quiet", "build", "--build-lib", str(made)]
    run = subprocess.run(command, cwd=sources, env={**os.environ, "LLM_FINOPS_COMPILE": asked}, capture_output=True, text=True)
    assert run.returncode == 0, (run.stdout + run.stderr)[-3000:]
    return made


def outcomes(records: Path, *places: Path) -> dict[str, Any]:
    """What the decoder that is found first in ``places`` reads; sets have the same order in each such process."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places)), "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-P", "-m", "tests.decode.outcomes", str(records)]
    run = subprocess.run(command, capture_output=True, env=variables)
    assert run.returncode == 0, run.stderr.decode()[-3000:]
    found: dict[str, Any] = orjson.loads(run.stdout)
    return found


def mutated(seeds: Sequence[bytes]) -> list[bytes]:
    chance = random.Random(20)

    def step() -> Step:
        return Step(chance.randrange(1000), chance.randrange(10**6), chance.randrange(10**6))

    return [mutate(chance.choice(seeds), [step() for _ in range(1 + chance.randrange(2))]) for _ in range(MUTATED)]


@pytest.mark.timeout(600)
def test_what_is_compiled_reads_all_records_alike(shared: Path, tmp_path: Path) -> None:
    """Types are believed there: a value of another type than is written down would be an error, and only there."""
    if missing := compiler():
        pytest.skip(missing)
    recorded = gzip.decompress((shared / "data" / "calls" / "calls.jsonl.gz").read_bytes()).splitlines()
    samples = [record for path in pool.sample_files(shared) for record in pool.sample_records(path)]
    records = [*recorded, *samples, *mutated(pool.records(shared))]
    file = tmp_path / "records.json"
    file.write_bytes(orjson.dumps([record.hex() for record in records]))
    as_python = outcomes(file, CHECKOUT)
    compiled = outcomes(file, build(tmp_path, "1"), CHECKOUT)
    assert (as_python["compiled"], compiled["compiled"]) == (False, True)
    assert len(recorded) >= RECORDED
    assert len(compiled["outcomes"]) == len(as_python["outcomes"]) == len(records)
    pairs = zip(as_python["outcomes"], compiled["outcomes"], strict=True)
    assert [(place, *pair) for place, pair in enumerate(pairs) if pair[0] != pair[1]] == []


def test_nothing_is_compiled_unless_it_is_asked_for(tmp_path: Path) -> None:
    made = build(tmp_path, "")
    assert (made / "transforms" / "decode" / "record.py").is_file()
    suffixes = {path.suffix for path in made.rglob("*") if path.is_file()}
    assert suffixes <= {".py", ".toml", ".json", ".sql", ".typed"}
