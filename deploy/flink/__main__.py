"""Flink on this machine, from the command line.

    python -m deploy.flink up|down|status [--folder .services/flink]
    python -m deploy.flink run [--parallelism 2] [--savepoint PATH] --from kafka://… --to http://…
    python -m deploy.flink run --embedded --from kafka://… --to chdb://store

``up`` starts a cluster (``deploy.flink.cluster``) that goes on when the command has ended. ``--embedded`` needs none: Flink then
runs inside the job server, and the workers in the process that submits the job.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
from pathlib import Path

from deploy.flink.archives import FOLDER, LIBS, install
from deploy.flink.cluster import Cluster, running
from deploy.flink.options import NAME, embedded, options
from deploy.flink.rest import Rest
from deploy.flink.settings import MEMORY, SMALL_JVM, conf, write_conf
from deploy.local.kafka import Missing, java, one_at_a_time


def up(folder: Path, port: int, task_managers: int) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder / "lock"):
        if found := running(folder):
            print(f"Flink is running already: {found['rest']} (job server {found['job_endpoint']})")
            return 0
        print(f"starting Flink in {folder}", file=sys.stderr, flush=True)
        cluster = Cluster(folder, task_managers, rest_port=port, stays=True)
        cluster.start()
    print(f"Flink is up: {cluster.url}, job server {cluster.job_endpoint}, worker pool {cluster.worker_pool}")
    print('run:    make flink-run ARGS="--from kafka://localhost:9092/llm-calls --to http://localhost:8123"')
    print("end it: make flink-down")
    return 0


def down(folder: Path) -> int:
    found = running(folder)
    if found is None:
        print("Flink is not running")
        return 0
    for part, pid in found["parts"].items():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM if part != "worker-pool" else signal.SIGKILL)
    until = time.monotonic() + 20
    while (left := running(folder)) is not None:
        for pid in left["parts"].values() if time.monotonic() > until else ():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        time.sleep(0.2)
    (folder / "running.json").unlink(missing_ok=True)
    print(f"Flink is down; checkpoints and savepoints are kept in {folder}")
    return 0


def run(folder: Path, parallelism: int, savepoint: str, given: list[str]) -> int:
    """``llm-finops run --follow`` with the options for this cluster; when it has ended, so is the job that it submitted."""
    found = running(folder)
    if found is None:
        print("Flink is not running: make flink-up", file=sys.stderr)
        return 1
    more = options(found["job_endpoint"], found["worker_pool"], parallelism=parallelism, savepoint=savepoint)
    flink = Rest(found["rest"])
    before = flink.jobs()
    # A session of its own: Ctrl-C comes once, from here.
    follower = subprocess.Popen(_follow("PortableRunner", more, given), start_new_session=True)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: follower.send_signal(number))
    code = follower.wait()
    if left := flink.cancel_new(before, NAME):
        print(f"job {left[0]} does not end: see {found['rest']}", file=sys.stderr)
        return code or 1
    return code


def run_embedded(folder: Path, parallelism: int, savepoint: str, given: list[str], libs: Path = LIBS) -> int:
    """Become ``llm-finops run --follow`` with a Flink of its own; checkpoints, kept when it ends, are in ``folder``."""
    jar = install(libs) / "job-server.jar"
    for name in ("conf", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    known = conf() | MEMORY | {"state.checkpoints.dir": (folder / "checkpoints").as_uri(), "io.tmp.dirs": str(folder / "tmp")}
    known["taskmanager.numberOfTaskSlots"] = str(parallelism)  # there is one task manager
    write_conf(folder / "conf", known)
    os.environ["FLINK_CONF_DIR"] = str(folder / "conf")
    jvm = ["-Xmx768m", *SMALL_JVM, *known["env.java.opts.all"].split(), f"-Djava.io.tmpdir={folder / 'tmp'}"]
    words = _follow("FlinkRunner", embedded(str(jar), java=java(), jvm=jvm, parallelism=parallelism, savepoint=savepoint), given)
    return os.execv(words[0], words)


def _follow(runner: str, more: list[str], given: list[str]) -> list[str]:
    tool = [str(Path(sys.executable).with_name("llm-finops")), "run", "--follow", "--runner-name", runner]
    for option in more:
        tool += ["--runner-options", option]
    return [*tool, *given]


def main() -> int:
    parser = argparse.ArgumentParser(description="Run Flink on this machine.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of its data and logs")
    actions = parser.add_subparsers(dest="action", required=True)
    starts = actions.add_parser("up", help="start a cluster that goes on")
    starts.add_argument("--port", type=int, default=8081, help="of its REST interface and page")
    starts.add_argument("--task-managers", type=int, default=2)
    actions.add_parser("down", help="end it")
    actions.add_parser("status", help="what runs")
    about = "submit the job; all other options go to llm-finops run --follow"
    runs = actions.add_parser("run", help=about, allow_abbrev=False)
    runs.add_argument("--embedded", action="store_true", help="in a Flink of its own, which ends with it: no cluster is needed")
    runs.add_argument("--parallelism", type=int, help="tasks of each step at once: 2, embedded 1")
    runs.add_argument("--savepoint", default="", help="or checkpoint to go on from")
    given, rest = parser.parse_known_args()
    if rest and given.action != "run":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        if given.action == "up":
            return up(given.folder, given.port, given.task_managers)
        if given.action == "down":
            return down(given.folder)
        if given.action == "run":
            rest = [word for word in rest if word != "--"]
            if given.embedded:
                return run_embedded(given.folder.resolve() / "embedded", given.parallelism or 1, given.savepoint, rest)
            return run(given.folder, given.parallelism or 2, given.savepoint, rest)
        found = running(given.folder)
        print("Flink is not running" if found is None else json.dumps(found))
        return 0 if found else 1
    except (Missing, RuntimeError, OSError, urllib.error.URLError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
