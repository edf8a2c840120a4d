"""``make bench``: one line per figure. ``ARGS="--calls 6"`` goes on to 10⁶ calls; ``ARGS="--only NAME"`` measures one part."""

from __future__ import annotations

import argparse
import gzip
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from benchmarks.decoding import decoding
from benchmarks.endurance import SECONDS, endurance
from benchmarks.figures import HEADER, Figure
from benchmarks.flink import task_managers
from benchmarks.kafka import kafka_topics
from benchmarks.loops import bare_loop, check_counters, litellm_loop
from benchmarks.serve import serve_load
from deploy.flink.archives import install as install_flink
from deploy.local.kafka import Missing, install
from sources.generate import GenerateSettings, generate, write

AGENT_RECORDS = 15_000
SINGLES = 4000
PASSES = 3
ONLY_IF_ASKED = ("flink", "endurance")
"""Parts that take minutes to half an hour."""

DOCS = Path(__file__).resolve().parents[1] / "docs"


def shared() -> Path | None:
    """The folder of real calls, if it is beside the checkout."""
    folder = Path(os.environ.get("LLM_FINOPS_SHARED") or Path(__file__).resolve().parents[2] / "shared")
    return folder if (folder / "data").is_dir() else None


def memory() -> str | None:
    """A folder in memory, if the system has one."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def measured(module: str, *words: str, where: str | None = None) -> dict[str, Any]:
    """What a module of ours prints about its work on ``words`` and a folder that it may fill, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=where) as folder:
        command = [sys.executable, "-m", f"benchmarks.{module}", words[0], folder, *words[1:]]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode:
            raise SystemExit(f"{module} {' '.join(words)} failed:\n{run.stderr[-2000:]}")
        found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
        return found


def pipeline(path: Path | str, workers: int = 1, where: str | None = None, batch_records: int = 1000) -> dict[str, Any]:
    """Counts, seconds and peak memory of one run over ``path``, proved by reconcile; its store lies on disk, or ``where``."""
    return measured("one_run", str(path), "--workers", str(workers), "--batch-records", str(batch_records), where=where)


def agent_traffic(folder: Path) -> Path:
    """Records of the agents of generated traffic: tools and growing history, paid again on every step."""
    path = folder / "agents.jsonl"
    settings = GenerateSettings(seed=3, calls=1_000_000, hours=24, broken=0, incidents=False)
    wanted = (r.value for r in generate(settings) if r.facts.app.endswith("-agent"))
    path.write_bytes(b"\n".join(islice(wanted, AGENT_RECORDS)) + b"\n")
    return path


def corpus(folder: Path, times: int) -> Path:
    found = shared()
    assert found is not None
    path = folder / f"corpus-{times}.jsonl"
    with path.open("wb") as target:
        for _ in range(times):
            with gzip.open(found / "data" / "calls" / "calls.jsonl.gz") as source:
                shutil.copyfileobj(source, target)
    return path


def against_bare(name: str, path: Path, must: float | None, goal: float | None, what: str) -> Iterator[Figure]:
    """The pipeline against the bare loop, best of ``PASSES`` each, taken in turn; start-up of the pipeline apart.

    The loop writes nothing, so the store it is compared with lies in memory: file systems differ, and one without a journal
    creates files twenty times slower for minutes after many were deleted, as passes do. A pass on disk is shown apart.
    """
    lines = path.read_bytes().splitlines()
    equal = check_counters(lines)
    bare, ours = [], []
    for _ in range(PASSES):
        bare.append(bare_loop(lines)[0])
        ours.append(pipeline(path, where=memory()))
    on_disk = pipeline(path)
    assert all(run["records"] == len(lines) for run in ours)
    best = min(ours, key=lambda run: float(run["seconds"]))
    loop = f"bare loop of orjson.loads + tiktoken on all texts of {what} ({len(lines):,} records, best of {PASSES})"
    yield Figure(f"{name}_vs_bare", min(bare) / best["seconds"], "x", loop, must, goal)
    yield Figure(f"{name}_vs_bare_disk", min(bare) / on_disk["seconds"], "x", "the same loop; one pass with the store on disk")
    yield Figure(f"{name}_startup", best["startup_seconds"], "s", "shown apart, not part of the ratio")
    yield Figure(f"{name}_calls_per_s", best["calls"] / best["seconds"], "calls/s", "same run; this machine")
    yield Figure(f"{name}_texts_equal", equal, "texts", "counter and tiktoken agree on each distinct text")
    for stage, seconds in best["stage_seconds"].items():
        yield Figure(f"{name}_{stage}_us", seconds / best["calls"] * 1e6, "us/call", "per-stage time of the same run")


def real_corpus(folder: Path) -> Iterator[Figure]:
    if shared() is None:
        print("# corpus: skipped, the real calls are not beside the checkout (LLM_FINOPS_SHARED)", file=sys.stderr)
        return
    yield from against_bare("corpus", corpus(folder, 5), 1.0, 1.5, "real calls, read five times over")
    yield from against_bare("corpus_once", corpus(folder, 1), None, None, "real calls, read once: fixed costs weigh")


def decode(folder: Path) -> Iterator[Figure]:
    if shared() is None:
        print("# decode: skipped, the real calls are not beside the checkout (LLM_FINOPS_SHARED)", file=sys.stderr)
        return
    yield from decoding(corpus(folder, 1))


def agents(folder: Path) -> Iterator[Figure]:
    path = agent_traffic(folder)
    yield from against_bare("agents", path, 1.5, 3.0, "generated agent traffic")
    try:
        import litellm  # noqa: F401
    except ImportError:
        print("# litellm: skipped, it is not installed (make bench installs it)", file=sys.stderr)
        return
    lines = path.read_bytes().splitlines()[: AGENT_RECORDS // 4]
    seconds, done = litellm_loop(lines)
    best = min((pipeline(path, where=memory()) for _ in range(PASSES)), key=lambda run: float(run["seconds"]))
    theirs, ours = seconds / done, best["seconds"] / best["calls"]
    what = f"litellm.token_counter + cost_per_token per call ({done:,} calls)"
    yield Figure("agents_vs_litellm", theirs / ours, "x", what, 4.0, 6.0)


def batches_of_one(folder: Path) -> Iterator[Figure]:
    """What it costs where a source hands on single records, as Dataflow does from Pub/Sub, and nobody puts them together."""
    path = folder / "single.jsonl"
    path.write_bytes(b"".join(agent_traffic(folder).read_bytes().splitlines(keepends=True)[:SINGLES]))
    single, many = (min(pipeline(path, batch_records=size)["seconds"] for _ in range(PASSES)) for size in (1, 1000))
    what = f"the time in batches of up to 1,000 ({SINGLES:,} agents' records, best of {PASSES})"
    yield Figure("batches_of_one", single / many, "x", what)


def second_core(folder: Path) -> Iterator[Figure]:
    """Two worker processes against one process on one core, rows to Parquet; taken in turn, the best of each."""
    if len(os.sched_getaffinity(0)) < 2:
        print("# second core: skipped, there is but one", file=sys.stderr)
        return
    logs = folder / "logs-cores"
    write(GenerateSettings(seed=5, calls=100_000, hours=24), logs)
    one, two = [], []
    for _ in range(PASSES):
        one.append(measured("second_core", str(logs), "--pin"))
        two.append(measured("second_core", str(logs), "--workers", "2"))
    assert len({(run["calls"], run["cost"]) for run in one + two}) == 1
    alone, both = (min(run["seconds"] for run in runs) for runs in (one, two))
    what = f"one process pinned to one core ({one[0]['calls']:,} calls, Parquet sink, start-up apart, best of {PASSES})"
    yield Figure("second_core", alone / both, "x", what, 1.7)
    yield Figure("second_core_startup", min(run["startup"] for run in two), "s", "shown apart, not part of the ratio")


def repricing(folder: Path) -> Iterator[Figure]:
    """History priced anew, against the pipeline that priced it first in the same process; one core's pipeline, start-up apart."""
    logs = folder / "logs-reprice"
    write(GenerateSettings(seed=5, calls=100_000, hours=24), logs)
    run = measured("repricing", str(logs))
    calls, pipelines = run["calls"], run["pipeline_calls_per_s"]
    for name, must in (("check", 10.0), ("apply", 10.0), ("undo", None)):
        speed = calls / run[f"{name}_seconds"]
        what = f"calls/s of the pipeline in the same run, one process, the store on disk ({calls:,} calls)"
        yield Figure(f"reprice_{name}_vs_pipeline", speed / pipelines, "x", what, must)
        yield Figure(f"reprice_{name}_calls_per_s", speed, "calls/s", "same run; this machine")


def topics(folder: Path) -> Iterator[Figure]:
    try:
        install()
    except Missing as missing:
        print(f"# kafka: skipped: {missing}", file=sys.stderr)
        return
    yield from kafka_topics(folder, pipeline)


def flink(folder: Path) -> Iterator[Figure]:
    try:
        install()
        install_flink()
    except Missing as missing:
        print(f"# flink: skipped: {missing}", file=sys.stderr)
        return
    yield from task_managers(folder)


def steady(folder: Path, seconds: int) -> Iterator[Figure]:
    try:
        install()
    except Missing as missing:
        print(f"# endurance: skipped: {missing}", file=sys.stderr)
        return
    yield from endurance(folder, DOCS / "endurance.svg", seconds)


def scaling(folder: Path, sizes: Sequence[int]) -> Iterator[Figure]:
    """Time and peak memory from 10⁴ calls on; each size against the one before. Workers as a run takes them by itself."""
    before: dict[str, Any] | None = None
    for calls in sizes:
        logs = folder / f"logs-{calls}"
        write(GenerateSettings(seed=5, calls=calls, hours=24), logs)
        run = pipeline(logs, workers=0)
        yield Figure(f"scale_{calls}_s", run["seconds"], "s", f"{run['calls']:,} calls, start-up apart")
        yield Figure(f"scale_{calls}_cpu", run["cpu_seconds"], "s", "processor time of all processes, start-up included")
        yield Figure(f"scale_{calls}_peak", run["peak_mib"], "MiB", "peak resident memory, engine and workers included")
        if before:
            more = run["calls"] / before["calls"]
            ratio = run["seconds"] / before["seconds"] * 10 / more
            yield Figure(f"scale_{calls}_time_ratio", ratio, "x", "10x the calls: times the time", 10.5, at_most=True)
            yield Figure(
                f"scale_{calls}_memory_ratio",
                run["peak_mib"] / before["peak_mib"],
                "x",
                "10x the calls: times the memory (caches, blocks and merges are at their full size from 10⁶ on)",
                1.15 if calls > 1_000_000 else None,
                at_most=True,
            )
        before = run
        shutil.rmtree(logs)


def main() -> int:
    parts: dict[str, Callable[[Path], Iterator[Figure]]] = {
        "corpus": real_corpus,
        "decode": decode,
        "agents": agents,
        "batches_of_one": batches_of_one,
        "second_core": second_core,
        "reprice": repricing,
        "serve": serve_load,
        "kafka": topics,
        "flink": flink,
        "endurance": lambda folder: steady(folder, arguments.seconds),
        "scaling": lambda folder: scaling(folder, [10**power for power in range(4, arguments.calls + 1)]),
    }
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("--calls", type=int, default=5, help="scaling goes up to 10 to this power; 6: ten minutes, 7: an hour")
    parser.add_argument("--seconds", type=int, default=SECONDS, help="of endurance")
    parser.add_argument("--only", choices=tuple(parts), help="measure only this")
    arguments = parser.parse_args()
    missed = 0
    print(HEADER)
    with tempfile.TemporaryDirectory(prefix="llm-finops-bench-") as folder:
        for name, part in parts.items():
            if arguments.only == name or (arguments.only is None and name not in ONLY_IF_ASKED):
                for figure in part(Path(folder)):
                    print(figure.line(), flush=True)
                    missed += figure.reached == "MISSED"
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
