"""Flink in one command: inside the job server, with workers and an embedded store in the process that submits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from deploy.local.kafka import Broker
from sources.generate import GenerateSettings, generate
from tests.flink.test_watchdog import produce
from tests.following import truth, wait
from tests.kafka.topics import new_topic, write
from tests.looking import look

CHECKOUT = Path(__file__).resolve().parents[2]
TOLD_TWICE = 150
"""Calls that two records tell of; of every fifth the second never comes."""


def told(number: int) -> list[bytes]:
    """What Langfuse's SDK sends of a call, when it begins and when it has ended."""
    body = {"id": f"gen-{number}", "startTime": f"2026-03-02T09:{number % 60:02d}:00.250Z", "model": "gpt-4o-2024-08-06"}
    begins = body | {"input": "Is it done?", "metadata": {"team": f"told-{number % 3}"}}
    ended = {"id": f"gen-{number}", "output": "Yes.", "usageDetails": {"input": 100 + number, "output": 3}}
    events = [("generation-create", begins), ("generation-update", ended)]
    return [orjson.dumps({"id": f"{kind}-{number}", "type": kind, "body": said}) for kind, said in events]


def truth_of_told() -> dict[str, dict[tuple[int, str], int]]:
    """Calls and reported tokens by minute and team, by a plain loop."""
    calls: dict[tuple[int, str], int] = {}
    tokens: dict[tuple[int, str], int] = {}
    for number in range(TOLD_TWICE):
        at = 1_772_442_000 + number % 60 * 60, f"told-{number % 3}"  # 2026-03-02 09:00 UTC
        calls[at] = calls.get(at, 0) + 1
        if number % 5:
            tokens[at] = tokens.get(at, 0) + 103 + number
    return {"calls": calls, "tokens": tokens}


@pytest.mark.timeout(400)
def test_one_command_and_ctrl_c_end_in_the_truth(kafka: Broker, flink_libs: Path, tmp_path: Path) -> None:
    records = list(generate(GenerateSettings(seed=79, calls=2000, hours=1, late=0, broken=0.002, undated=0, incidents=False)))
    topic = new_topic(kafka, partitions=2)
    parts = [part for number in range(TOLD_TWICE) for part in told(number)[: 2 if number % 5 else 1]]
    random.Random(79).shuffle(parts)
    write(kafka, topic, parts[::2], 0)
    produce(kafka, topic, records)
    write(kafka, topic, parts[1::2], 1)
    store, environ = f"chdb://{tmp_path / 'store'}", {**os.environ, "PYTHONPATH": str(CHECKOUT), "LLM_FINOPS_JOIN__WAIT_SECONDS": "5"}
    all_records = len(records) + len(parts)
    command = [sys.executable, "-m", "deploy.flink", "--folder", str(tmp_path / "flink"), "run", "--embedded"]
    command += ["--from", f"kafka://{kafka.address}/{topic}", "--to", store, "--format", "json"]
    said = tmp_path / "said.log"
    with said.open("w") as errors:
        run = subprocess.Popen(command, env=environ, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:

        def done() -> bool:
            """By its own proof, which another process may ask for meanwhile: all records, and minutes equal to calls."""
            assert run.poll() is None, said.read_text()
            tool = [sys.executable, "-c", "from pipelines.cli import main; main()", "reconcile", "--to", store, "--format", "json"]
            proof = subprocess.run(tool, env=environ, cwd=CHECKOUT, capture_output=True, text=True, check=False)
            checks: list[dict[str, Any]] = json.loads(proof.stdout or "[]")
            return proof.returncode == 0 and any(check["checked"] == all_records for check in checks)

        wait(done, 240)
        checkpoints = tmp_path / "flink" / "embedded" / "checkpoints"
        wait(lambda: any(checkpoints.rglob("_metadata")), 60)  # one comes every ten seconds
        run.send_signal(signal.SIGINT)
        out, _ = run.communicate(timeout=90)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 0, said.read_text()
    assert json.loads(out)["state"] == "stopped"
    assert any(checkpoints.rglob("_metadata"))  # still on disk, to go on from
    found = look(tmp_path / "store")
    assert found["wrong"] == []
    both, told_of = truth(records), truth_of_told()
    assert {key: found[key] for key in ("calls", "tokens")} == {key: both[key] | told_of[key] for key in both}
    assert found["ledger"]["records"] == all_records
    assert found["ledger"]["joined"] == len(parts)
