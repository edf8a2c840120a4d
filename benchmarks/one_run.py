"""One run of the job in a process of its own, for honest time and memory: ``python -m benchmarks.one_run LOGS FOLDER``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
from dataclasses import asdict
from pathlib import Path

from pipelines.job import Job
from pipelines.run import run
from sinks.clickhouse import StoreAddress, StoreSettings, connect
from sinks.reconcile import reconcile
from sources.files import FileLimits, find
from sources.kafka import KafkaSettings, is_address, parse


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("logs")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch-records", type=int, default=FileLimits().batch_records)
    given = parser.parse_args()
    address = StoreAddress(folder=str(given.folder / "store"))
    if is_address(given.logs):
        job = Job((), StoreSettings(address), workers=given.workers, source=KafkaSettings(*parse(given.logs)))
    else:
        limits = FileLimits(batch_records=given.batch_records)
        job = Job(find([given.logs]), StoreSettings(address), limits, workers=given.workers)
    counts = run(job)
    used = os.times()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    workers = counts.workers if counts.workers > 1 else 0
    peak += workers * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # of the largest: an upper bound
    proof = reconcile(connect(address))
    assert proof.holds, [check for check in proof.checks if not check.holds]
    spent = used.user + used.system + used.children_user + used.children_system
    print(json.dumps({**asdict(counts), "peak_mib": peak / 1024, "cpu_seconds": spent}, default=str))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
