"""Flink in one command: inside the job server, with workers and an embedded store in the process that submits."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deploy.local.kafka import Broker
from sources.generate import GenerateSettings, generate
from tests.flink.test_watchdog import produce
from tests.following import truth, wait
from tests.kafka.topics import new_topic
from tests.looking import look

CHECKOUT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(400)
def test_one_command_and_ctrl_c_end_in_the_truth(kafka: Broker, flink_libs: Path, tmp_path: Path) -> None:
    records = list(generate(GenerateSettings(seed=79, calls=2000, hours=1, late=0, broken=0.002, undated=0, incidents=False)))
    topic = new_topic(kafka, partitions=2)
    produce(kafka, topic, records)
    store, environ = f"chdb://{tmp_path / 'store'}", {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-m", "deploy.flink.cluster", "--folder", str(tmp_path / "flink"), "run", "--embedded"]
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
            return proof.returncode == 0 and any(check["checked"] == len(records) for check in checks)

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
    assert {key: found[key] for key in ("calls", "tokens")} == truth(records)
    assert found["ledger"]["records"] == len(records)
