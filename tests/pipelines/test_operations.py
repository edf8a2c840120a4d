"""What docs/operations.md tells people to do works, and it has a word for whatever doctor may say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from pipelines.doctor import examine
from pipelines.settings import load
from sources.generate import GenerateSettings, write
from tests.pipelines.crashing import job

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")


def test_every_check_of_the_doctor_has_its_section(tmp_path: Path) -> None:
    flags = {"store.to": f"chdb://{tmp_path}/store"}
    found = examine(load(environ={}, flags=flags, folder=tmp_path), lambda _: "asked")
    checks = {re.sub(r" \(.*\)$", "", finding.check) for finding in found}
    checks = {"extra" if check.startswith("extra ") else check for check in checks}
    assert set(re.findall(r"^### (.+)$", PAGE, re.MULTILINE)) == checks


def test_the_lines_that_the_page_explains_are_those_that_are_said() -> None:
    rows = re.findall(r"^\| ([^|]+?) +\|", PAGE.partition("| the line says")[2], re.MULTILINE)
    told = [row for row in rows if row not in ("---", "the line says")]
    assert len(told) > 13
    files = ("sinks/clickhouse.py", "sinks/schema.py", "sinks/owner.py", "pipelines/state.py", "pipelines/doctor/installed.py")
    files += ("pipelines/doctor/configured.py", "pipelines/doctor/reached.py", "sources/kafka/clients.py", "sources/objects/s3.py", "sources/objects/gcs.py", "sinks/outlet.py")
    code = re.sub(r"\{[^}]*\}", "*", "".join((ROOT / file).read_text(encoding="utf-8") for file in files))
    for line in told:
        words = re.sub(r"version N", "version *", line).split("…")[0].strip()
        assert words in code, line


@pytest.mark.parametrize("restored", ["folder", "store only"])
def test_a_backup_that_is_put_back_goes_on_from_there(tmp_path: Path, restored: str) -> None:
    logs, store, backup = tmp_path / "logs", tmp_path / "store", tmp_path / "backup"
    write(GenerateSettings(seed=13, calls=600, hours=4, file_format="jsonl"), tmp_path / "all")
    files = sorted((tmp_path / "all").glob("calls-*"))
    logs.mkdir()
    for file in files[:2]:
        shutil.copy2(file, logs)
    assert job(logs, store)[0] == 0
    shutil.copytree(store, backup, symlinks=True)
    for file in files[2:]:
        shutil.copy2(file, logs)
    code, end = job(logs, store)
    assert code == 0
    if restored == "store only":  # what is remembered beside it is newer then
        shutil.rmtree(backup / "llm-finops")
        shutil.copytree(store / "llm-finops", backup / "llm-finops")
    shutil.rmtree(store)
    backup.rename(store)
    assert job(logs, store) == (0, end)
    assert end.startswith("done []\n")
