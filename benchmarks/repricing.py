"""Pricing history anew against the pipeline, in one process: ``python -m benchmarks.repricing LOGS FOLDER`` prints JSON."""

from __future__ import annotations

import argparse
import json
import logging
import time
from pathlib import Path

from pipelines.job import Job
from pipelines.reprice import SPAN_ROWS, Prices, apply, check, undo
from pipelines.run import run
from sinks.clickhouse import StoreAddress, StoreSettings, connect
from sinks.reconcile import reconcile
from sinks.retag import spans
from sources.files import FileLimits, find
from transforms.terms import Terms

WHAT_IF = """
providers = ["openai"]
source = "a what-if"
recorded = 2025-01-01

[[model]]
model = "gpt-4o-2024-08-06"
prices = [{ input = "5", cache_read = "2.5", output = "20" }]
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("logs")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    address = StoreAddress(folder=str(given.folder / "store"))
    counts = run(Job(find([given.logs]), StoreSettings(address), FileLimits(), workers=1))
    store = connect(address)
    calls = int(store.rows(f"SELECT count() FROM {store.table('calls')} FINAL")[0][0])
    found = {"calls": calls, "pipeline_calls_per_s": counts.calls / counts.seconds}
    prices = Prices((Terms(books=((("openai.toml", WHAT_IF),),)),))
    over = spans(store, rows=SPAN_ROWS)
    since, until = over[0][0], over[-1][1] + 60

    def timed(name: str, began: float) -> None:
        found[f"{name}_seconds"] = time.perf_counter() - began

    for _ in range(3):  # the best of three
        began = time.perf_counter()
        would = check(store, prices, over, ("day", "model"))
        seconds = time.perf_counter() - began
        found["check_seconds"] = min(seconds, found.get("check_seconds", seconds))
    began = time.perf_counter()
    done, changed = apply(store, prices, since, until)
    timed("apply", began)
    assert changed.rows() == would.rows()
    began = time.perf_counter()
    undo(store, done.number)
    timed("undo", began)
    proof = reconcile(store)
    assert proof.holds, [one for one in proof.checks if not one.holds]
    print(json.dumps(found))


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    main()
