"""Keep a job on Flink writing: submit it, watch what the store has of the topics, submit it anew when it stands still.

    python -m deploy.flink.watchdog [--silent-seconds 120] [--parallelism 2] … -- --from kafka://… --to http://…

What follows ``--`` are options of ``llm-finops run``. The cluster is that of ``make flink-up``, or what ``--rest``,
``--job-endpoint`` and ``--worker-pool`` name. A job of the same ``--name`` that runs already is taken over. One that is silent is
stopped with a savepoint, cancelled if that does not answer, and submitted anew without it: so it goes on where the ledger of the
store ends, and what made it hang is not carried on (``deploy.flink.silence`` has the rules).

Ctrl-C or SIGTERM ends the watchdog, and the job that it has submitted.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from deploy.flink.archives import FOLDER
from deploy.flink.cluster import running, workers_of
from deploy.flink.options import NAME, options
from deploy.flink.rest import ENDED, Rest
from deploy.flink.silence import Do, Known, Limits, Place, Seen, Verdict, afresh, judge, waiting
from pipelines.commands.running import run as run_command
from pipelines.errors import ExitCode, InputError, LlmFinopsError
from pipelines.jobs import kafka_settings
from pipelines.ledger import reached, segment_ends
from pipelines.lines import as_json, say
from pipelines.sections import Settings
from pipelines.settings import load
from pipelines.stopping import Stopping
from pipelines.stores import store_settings
from sinks.clickhouse import Retry, StoreError
from sinks.schema import stored_version
from sources.files import SourceError
from sources.kafka import Topics, is_address

T = TypeVar("T")

_ASK_S: Final = 0.5
_CHILD_S: Final = 60.0
TOOL: Final = str(Path(sys.executable).with_name("llm-finops"))


@dataclass(frozen=True)
class Cluster:
    """Where a cluster's REST interface, job server and worker pool are, and how jobs are submitted to it.

    A savepoint is waited for ``savepoint_s``, the end of a cancelled job and the start of a new one for ``patience_s``. A task
    whose worker hangs does not end: after ``free_s`` comes ``free``, which should end the workers. Without it Flink ends the task
    manager after ``task.cancellation.timeout``, and something must start another.
    """

    rest: str
    job_endpoint: str
    worker_pool: str
    name: str = NAME
    parallelism: int = 2
    checkpoint_ms: int = 10_000
    savepoint_s: float = 30
    free: Callable[[], object] | None = None
    free_s: float = 15
    patience_s: float = 300


class Lag:
    """How far the store's ledger is behind the topics that ``settings`` name."""

    def __init__(self, settings: Settings, paths: Sequence[str] = ()) -> None:
        addresses = [*paths, *settings.source.from_]
        if len(addresses) != 1 or not is_address(addresses[0]):
            raise InputError("the watchdog watches topics of one cluster: --from kafka://host:9092/topic")
        self._store = replace(store_settings(settings), retry=Retry(attempts=1))
        if self._store.address.embedded:
            raise InputError("workers of Flink need a store that several processes reach: --to http://host:8123")
        self._topics = Topics(kafka_settings(settings, addresses[0]))
        self._starts: dict[bytes, int] = {}

    def places(self) -> dict[str, Place]:
        """Every partition by its name in the store.

        One that the ledger does not have yet begins where a job begins with it that is submitted when it is first seen here.

        Raises:
            sources.files.SourceError: the broker does not answer or refuses.
            sinks.clickhouse.StoreError: the store does not.
        """
        logs = self._topics.logs()
        store = self._store.open()
        ends = {} if stored_version(store) is None else reached(segment_ends(store, [log.segment for log in logs]))
        read = {log.topic for log in logs if log.segment in ends}
        new = [log for log in logs if log.segment not in self._starts]
        never = [log for log in new if log.topic not in read]
        self._starts |= {log.segment: log.first for log in new} | (self._topics.at_start(never) if never else {})
        at = self._starts | ends
        return {log.source: Place(at[log.segment], max(0, log.end - at[log.segment])) for log in logs}


class Figures:
    """What the watchdog counts, for Prometheus."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        about = "Jobs that were submitted anew, by cause."
        self.restarts = Counter("llm_finops_watchdog_restarts", about, ["cause"], registry=self.registry)
        self.lag = Gauge("llm_finops_watchdog_lag_records", "Records that wait.", registry=self.registry)
        about = "For how long nothing was written while records wait."
        self.silent = Gauge("llm_finops_watchdog_silent_seconds", about, registry=self.registry)
        self.blind = Gauge("llm_finops_watchdog_blind", "1 while store, broker or Flink do not answer.", registry=self.registry)


class Watchdog:
    """One job on one cluster, and what is known of it. ``given`` are the options of ``llm-finops run``."""

    def __init__(self, cluster: Cluster, limits: Limits, places: Callable[[], Mapping[str, Place]], given: Sequence[str]) -> None:
        self.figures = Figures()
        self._cluster, self._limits, self._places, self._given = cluster, limits, places, given
        self._flink = Rest(cluster.rest)
        now = time.monotonic()
        self._known = Known(now, now)
        self._child: subprocess.Popen[bytes] | None = None
        self._before: set[str] = set()
        self._said = ""

    def begin(self) -> None:
        """Take over the job that runs, or submit one.

        Raises:
            OSError: Flink does not answer.
            RuntimeError: the job does not start.
        """
        if found := self._running():
            say(f"watching job {found[0]}, which runs already", "watching", job=found[0])
        else:
            self._submit()

    def look(self) -> Verdict:
        """Observe once, and do what is to be done."""
        seen = self._seen()
        self._known, verdict = judge(self._known, seen, self._limits)
        self.figures.blind.set(int(seen.places is None))
        if seen.places is not None:
            self.figures.lag.set(waiting(seen.places))
        self.figures.silent.set(self._known.silent_s())
        if verdict.do is Do.RESTART:
            self._restart(verdict)
        elif verdict.do is Do.HOLD:
            held = f"{verdict.why}; submitted anew {len(self._known.restarts)} times within an hour, which did not help"
            self._say_once(f"held {verdict.not_before}", f"{held}: again in {verdict.not_before - seen.at:.0f} s", "held")
        elif seen.places is not None:
            self._said = ""
        return verdict

    def end(self) -> None:
        """End the job that was submitted here."""
        if self._child is not None:
            self._child.terminate()
            self._reap()
            with suppress(OSError):  # of a cluster that is no more there is nothing to cancel
                self._flink.cancel_new(self._before, self._cluster.name)

    def _seen(self) -> Seen:
        try:
            places, runs = self._places(), bool(self._running())
        except (SourceError, StoreError, OSError) as error:
            self._say_once(f"blind {error}", f"nothing is known of the job: {error}", "blind")
            return Seen(time.monotonic())
        return Seen(time.monotonic(), places, runs)

    def _running(self) -> list[str]:
        return [job for job, state in self._flink.jobs(self._cluster.name).items() if state not in ENDED]

    def _begun(self) -> str:
        """The job that was submitted, once all its tasks run: until then no silence is counted."""
        return next((job for job in self._running() if job not in self._before and self._flink.works(job)), "")

    def _restart(self, verdict: Verdict) -> None:
        self.figures.restarts.labels(verdict.cause).inc()
        count = len(self._known.restarts)
        text = f"{verdict.why}: submitting anew, restart {count} within an hour"
        say(text, "restart", "warning", cause=verdict.cause, count=count)
        try:
            for job in self._running():
                self._stop(job)
            if self._child is not None:
                self._reap()
            self._submit()
        except (OSError, RuntimeError) as error:
            say(f"the job was not submitted anew: {error}", "restart_failed", "error")

    def _stop(self, job: str) -> None:
        """End a job: in order if it answers, else at once."""
        try:
            path = self._flink.stop_with_savepoint(job, self._cluster.savepoint_s)
            say(f"job {job} ended with savepoint {path}", "stopped", job=job, savepoint=path)
        except (OSError, RuntimeError) as error:
            say(f"job {job} does not stop in order ({error}): cancelling it", "cancelled", job=job)
            with suppress(OSError):  # it may have ended meanwhile
                self._flink.cancel(job)
        free, ends = self._cluster.free, time.monotonic() + self._cluster.free_s
        while free is not None and job in self._running():
            if time.monotonic() > ends:
                say(f"job {job} does not end: its workers are ended", "freed", "warning", job=job)
                free()
                break
            time.sleep(_ASK_S)
        self._wait(lambda: job not in self._running(), f"job {job} does not end")

    def _submit(self) -> None:
        """Start ``llm-finops run --follow``, which submits the job, and wait until it runs."""
        self._before, known = set(self._flink.jobs()), self._cluster
        more: dict[str, Any] = {"parallelism": known.parallelism, "checkpoint_ms": known.checkpoint_ms, "name": known.name}
        words = [TOOL, "run", "--follow", "--runner-name", "PortableRunner"]
        for option in options(known.job_endpoint, known.worker_pool, **more):
            words += ["--runner-options", option]
        # A group of its own: Ctrl-C is for the watchdog alone, which passes it on.
        self._child = child = subprocess.Popen(
            [*words, *self._given], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
        )

        def begun() -> str:
            if child.poll() is not None:
                raise RuntimeError(f"it does not run: llm-finops run ended with status {child.poll()}")
            return self._begun()

        started = self._wait(begun, "the job does not start")
        self._known = afresh(self._known, time.monotonic())
        say(f"watching job {started}", "watching", job=started)

    def _wait(self, until: Callable[[], T], otherwise: str) -> T:
        """What ``until`` gives when that is true."""
        end = time.monotonic() + self._cluster.patience_s
        while not (found := until()):
            if time.monotonic() > end:
                raise RuntimeError(f"{otherwise} within {self._cluster.patience_s:.0f} s")
            time.sleep(_ASK_S)
        return found

    def _reap(self) -> None:
        """Wait for the process that submitted the job; it ends with it."""
        assert self._child is not None
        try:
            self._child.wait(_CHILD_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None

    def _say_once(self, what: str, text: str, event: str) -> None:
        if what != self._said:
            say(text, event, "warning")
        self._said = what


def settings_of(given: Iterable[str]) -> tuple[Settings, tuple[str, ...]]:
    """Settings and paths as ``llm-finops run`` takes them from these options, the environment and the configuration file."""
    context = run_command.make_context("llm-finops run", list(given))
    flags = {key.replace("__", "."): value or None for key, value in context.params.items() if "__" in key}
    return load(context.params["config"], flags=flags), context.params["paths"]


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Keep a job on Flink writing.")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the cluster that make flink-up has started")
    parser.add_argument("--rest", help="another cluster: its REST interface, http://host:8081")
    parser.add_argument("--job-endpoint", help="its job server, host:8099")
    parser.add_argument("--worker-pool", default="localhost:50000", help="as its task managers reach it")
    parser.add_argument("--name", default=NAME, help="of the job")
    parser.add_argument("--parallelism", type=int, default=2)
    known = Limits()
    parser.add_argument("--every", type=float, default=5, help="seconds between looks")
    parser.add_argument("--silent-seconds", type=float, default=known.silent_s, help="nothing written while records wait")
    parser.add_argument("--partition-seconds", type=float, default=known.partition_s, help="the same of one partition")
    parser.add_argument("--pause-seconds", type=float, default=known.pause_s, help="after a restart; doubles with each")
    parser.add_argument("--most-pause-seconds", type=float, default=known.most_pause_s, help="up to this")
    parser.add_argument("--restarts-per-hour", type=int, default=known.per_hour)
    parser.add_argument("--savepoint-seconds", type=float, default=Cluster.savepoint_s, help="for a silent job to end in order")
    parser.add_argument("--free", help="command that ends workers which hang; those of make flink-up are known")
    parser.add_argument("--metrics-port", type=int, default=0, help="answer Prometheus there")
    parser.add_argument("--metrics-host", default="127.0.0.1", help="the address to do so on")
    parser.add_argument("rest_of_it", nargs="*", metavar="-- --from … --to …", help="options of llm-finops run")
    return parser


def _cluster(given: argparse.Namespace) -> Cluster:
    more: dict[str, Any] = {"name": given.name, "parallelism": given.parallelism, "savepoint_s": given.savepoint_seconds}
    if given.free:
        more["free"] = partial(subprocess.run, given.free, shell=True, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    if given.rest and given.job_endpoint:
        return Cluster(given.rest.rstrip("/"), given.job_endpoint, given.worker_pool, **more)
    if given.rest or given.job_endpoint:
        raise InputError("another cluster is named by --rest and --job-endpoint")
    found = running(given.folder)
    if found is None:
        raise InputError("Flink is not running: make flink-up")
    more.setdefault("free", partial(_end_workers, found["parts"].get("worker-pool")))
    return Cluster(found["rest"], found["job_endpoint"], found["worker_pool"], **more)


def _end_workers(pool: int | None) -> None:
    for pid in workers_of(pool):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def main() -> int:
    given = _arguments().parse_args()
    try:
        settings, paths = settings_of(given.rest_of_it)
        if settings.log.format == "json":
            as_json()
        limits = Limits(
            given.silent_seconds,
            given.partition_seconds,
            given.pause_seconds,
            given.most_pause_seconds,
            given.restarts_per_hour,
        )
        lag = Lag(settings, paths)
        dog = Watchdog(_cluster(given), limits, lag.places, given.rest_of_it)
        if given.metrics_port:
            start_http_server(given.metrics_port, given.metrics_host, dog.figures.registry)
        with Stopping("the job is cancelled") as stopping:
            try:
                dog.begin()
                while not stopping.asked():
                    dog.look()
                    time.sleep(given.every)
            finally:
                dog.end()
    except LlmFinopsError as error:
        say(str(error), "failed", "error")
        return int(error.exit_code)
    except click.ClickException as error:
        say(error.format_message(), "failed", "error")
        return int(ExitCode.USAGE)
    except (SourceError, StoreError, RuntimeError, OSError) as error:
        say(str(error), "failed", "error")
        return 1
    except KeyboardInterrupt:
        return int(ExitCode.INTERRUPTED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
