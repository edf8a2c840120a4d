"""Which processes are the workers of a pool."""

from __future__ import annotations

import os
import subprocess
import time

from deploy.flink.cluster import workers_of


def test_a_worker_that_has_ended_is_none_though_its_pool_has_not_looked_after_it() -> None:
    with subprocess.Popen(["sleep", "60"]) as runs, subprocess.Popen(["true"]) as ended:
        while _state(ended.pid)[:1] != "Z":
            time.sleep(0.05)
        found = workers_of(os.getpid())
        runs.kill()
    assert runs.pid in found
    assert ended.pid not in found


def test_a_pool_that_does_not_run_has_no_workers() -> None:
    assert workers_of(None) == []


def _state(pid: int) -> str:
    return subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
