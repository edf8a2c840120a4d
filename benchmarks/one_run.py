"""One run of the job in a process of its own, for honest time and memory: ``python -m benchmarks.one_run LOGS STORE``."""

from __future__ import annotations

import json
import logging
import resource
import sys
from dataclasses import asdict
from pathlib import Path

from pipelines.run import Job, run
from sinks.clickhouse import StoreAddress, StoreSettings, connect
from sinks.reconcile import reconcile
from sources.files import find


def main(logs: str, folder: str) -> None:
    address = StoreAddress(folder=str(Path(folder) / "store"))
    counts = run(Job(find([logs]), StoreSettings(address)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    proof = reconcile(connect(address))
    assert proof.holds, [check for check in proof.checks if not check.holds]
    print(json.dumps({**asdict(counts), "peak_mib": peak}, default=str))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main(*sys.argv[1:])
