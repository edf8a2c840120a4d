"""A real Flink cluster on this machine, without Docker, with what a Beam job in Python needs beside it.

It is a job manager, task managers, Beam's job server and a pool of Python workers, all on the loopback address. Tests start
clusters of their own with :class:`Cluster`, and kill its parts; ``python -m deploy.flink`` starts one that goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from deploy.flink.archives import LIBS, install
from deploy.flink.options import options
from deploy.flink.rest import Rest
from deploy.flink.settings import LOCAL, SMALL_JVM, conf, write_conf
from deploy.local.kafka import CHECKOUT, free_ports, java


class Cluster(Rest):
    """One cluster with its data in ``folder``; a context manager.

    Its parts are ``jobmanager``, ``taskmanager-0`` …, ``job-server`` and ``worker-pool``: each can be killed and started again.
    ``environ`` is what workers find in their environment beside this process's own: passwords are.
    """

    def __init__(
        self,
        folder: Path,
        task_managers: int = 2,
        *,
        rest_port: int = 0,
        environ: Mapping[str, str] | None = None,
        libs: Path = LIBS,
        stays: bool = False,
    ) -> None:
        self.folder = folder.resolve()
        self._libs = libs
        self._stays = stays
        self._environ = dict(environ or {})
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._task_managers = [f"taskmanager-{number}" for number in range(task_managers)]
        ports = free_ports(7)
        self.rest_port = rest_port or ports[0]
        super().__init__(f"http://127.0.0.1:{self.rest_port}")
        self._rpc, self._blob, self._job, self._artifacts, self._expansion, self._pool = ports[1:]

    @property
    def parts(self) -> list[str]:
        return ["jobmanager", *self._task_managers, "worker-pool", "job-server"]

    @property
    def job_endpoint(self) -> str:
        return f"127.0.0.1:{self._job}"

    @property
    def worker_pool(self) -> str:
        return f"127.0.0.1:{self._pool}"

    def options(self, **more: Any) -> list[str]:
        """Options of Beam that submit a job to it: see ``deploy.flink.options``."""
        return options(self.job_endpoint, self.worker_pool, **more)

    def start(self, seconds: float = 120) -> None:
        """Start all of it, and wait until jobs can be submitted."""
        self._conf()
        until = time.monotonic() + seconds
        try:
            for part in self.parts:
                self.start_part(part)
            self.wait_ready(until)
        except BaseException:
            self.stop()
            raise
        note = {name: process.pid for name, process in self._processes.items()}
        addresses = {"rest": self.url, "job_endpoint": self.job_endpoint, "worker_pool": self.worker_pool}
        (self.folder / "running.json").write_text(json.dumps({"parts": note, **addresses}), encoding="utf-8")

    def wait_ready(self, until: float) -> None:
        """Wait until every part answers."""
        for ready in (self._slots, lambda: _listens(self._job), lambda: _listens(self._pool)):
            while not ready():
                for name, process in self._processes.items():
                    if process.poll() is not None:
                        raise RuntimeError(f"{name} ended with status {process.returncode}; {self._tail(name)}")
                if time.monotonic() > until:
                    raise RuntimeError(f"the cluster in {self.folder} is not ready; {self._tail('jobmanager')}")
                time.sleep(0.2)

    def start_part(self, part: str) -> None:
        """Start one part, if it does not run."""
        if part in self._processes and self._processes[part].poll() is None:
            return
        paths = [str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])]
        environ = {**os.environ, **self._environ, "PYTHONPATH": os.pathsep.join(paths)}
        if part == "worker-pool":
            # The pool starts "python": the one that is first on the PATH must be ours, or a job waits for ever.
            environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environ['PATH']}"
            command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main", f"--service_port={self._pool}"]
        elif part == "job-server":
            command = [java(), "-Xmx384m", *SMALL_JVM, *self._java_options()]
            command += ["-jar", str(install(self._libs) / "job-server.jar"), f"--flink-master=127.0.0.1:{self.rest_port}"]
            command += ["--job-host=127.0.0.1", f"--job-port={self._job}"]
            command += [f"--artifact-port={self._artifacts}", f"--expansion-port={self._expansion}"]
            command += [f"--artifacts-dir={self.folder / 'artifacts'}"]
        else:
            command = self._flink(part)
        environ |= {"FLINK_CONF_DIR": str(self._conf_folder), "FLINK_LIB_DIR": str(install(self._libs) / "flink" / "lib")}
        environ |= {"FLINK_PLUGINS_DIR": str(install(self._libs) / "flink" / "plugins")}
        with self._log(part).open("ab") as log:
            self._processes[part] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ,
                cwd=self.folder,
                start_new_session=self._stays or part == "worker-pool",
            )

    def pid(self, part: str) -> int | None:
        """The process of a part, while it runs."""
        process = self._processes.get(part)
        return process.pid if process and process.poll() is None else None

    def workers(self) -> list[int]:
        """Processes of the pool's workers, which run the Python of jobs."""
        return workers_of(self.pid("worker-pool"))

    def kill(self, part: str) -> None:
        """End a part as a crash would. Workers go with their pool."""
        process = self._processes.get(part)
        if process is None:
            return
        if part == "worker-pool":
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()

    def stop(self) -> None:
        for part in reversed(self.parts):
            process = self._processes.get(part)
            if process and process.poll() is None and part != "worker-pool":
                process.terminate()
        for part in reversed(self.parts):
            process = self._processes.get(part)
            if process and part != "worker-pool":
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
            self.kill(part)
        self._processes.clear()
        (self.folder / "running.json").unlink(missing_ok=True)

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    # -- how parts are started ------------------------------------------------------------------------------------

    @property
    def _conf_folder(self) -> Path:
        return self.folder / "conf"

    def _conf(self) -> None:
        """The conf of this cluster: the one beside this file, then what is of this machine."""
        install(self._libs)
        self._conf_folder.mkdir(parents=True, exist_ok=True)
        known = conf() | LOCAL
        known |= {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": str(self._rpc),
            "jobmanager.bind-host": "127.0.0.1",
            "blob.server.port": str(self._blob),
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": str(self.rest_port),
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "state.checkpoints.dir": (self.folder / "checkpoints").as_uri(),
            "state.savepoints.dir": (self.folder / "savepoints").as_uri(),
            "io.tmp.dirs": str(self.folder / "tmp"),
        }
        self._java = known["env.java.opts.all"].split()
        for name in ("tmp", "artifacts"):
            (self.folder / name).mkdir(exist_ok=True)
        write_conf(self._conf_folder, known)
        logging = "rootLogger.level = INFO\nrootLogger.appenderRef.console.ref = Console\nappender.console.name = Console\n"
        logging += "appender.console.type = CONSOLE\nappender.console.layout.type = PatternLayout\n"
        logging += "appender.console.layout.pattern = %d{HH:mm:ss.SSS} %-5p %c{1} %m%n\n"
        (self._conf_folder / "log4j.properties").write_text(logging, encoding="utf-8")

    def _java_options(self) -> list[str]:
        return [*self._java, f"-Djava.io.tmpdir={self.folder / 'tmp'}"]

    def _flink(self, part: str) -> list[str]:
        libs = install(self._libs) / "flink"
        main = "StandaloneSessionClusterEntrypoint" if part == "jobmanager" else "TaskManagerRunner"
        package = "entrypoint" if part == "jobmanager" else "taskexecutor"
        asked = "GET_JM_RESOURCE_PARAMS" if part == "jobmanager" else "GET_TM_RESOURCE_PARAMS"
        utils = [java(), "-cp", f"{libs}/bin/bash-java-utils.jar:{libs}/lib/*"]
        utils += ["org.apache.flink.runtime.util.bash.BashJavaUtils", asked, "--configDir", str(self._conf_folder)]
        said = subprocess.run(utils, capture_output=True, text=True, check=False)
        jvm, given = (*re.findall(r"^BASH_JAVA_UTILS_EXEC_RESULT:(.*)$", said.stdout, re.MULTILINE), "", "")[:2]
        if not jvm:
            raise RuntimeError(f"Flink refuses its conf: {(said.stderr or said.stdout).strip()[-2000:]}")
        log4j = f"-Dlog4j.configurationFile={self._conf_folder / 'log4j.properties'}"
        command = [java(), *jvm.split(), *SMALL_JVM, *self._java_options(), log4j, "-cp", f"{libs}/lib/*"]
        command += [f"org.apache.flink.runtime.{package}.{main}", "--configDir", str(self._conf_folder)]
        if part != "jobmanager":
            command += ["-D", f"taskmanager.resource-id={part}-{time.time_ns()}"]
        return command + given.split()

    def _slots(self) -> bool:
        try:
            return bool(self.rest("/overview")["slots-available"] >= len(self._task_managers))
        except (OSError, ValueError):
            return False

    def _log(self, part: str) -> Path:
        return self.folder / f"{part}.log"

    def _tail(self, part: str) -> str:
        lines = self._log(part).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([f"{self._log(part)} ends with:", *lines[-20:]])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def workers_of(pool: int | None) -> list[int]:
    """Processes that a worker pool has started and that run, the newest last; none where the pool does not run.

    A pool looks after those that have ended only when it starts another: until then they are there, and defunct.
    """
    if pool is None:
        return []
    said = subprocess.run(["ps", "-ax", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=False).stdout
    rows = (line.split() for line in said.splitlines())
    return sorted(int(pid) for pid, parent, state in rows if int(parent) == pool and not state.startswith("Z"))


def running(folder: Path) -> dict[str, Any] | None:
    """What runs of the cluster in a folder: processes by part, and its addresses."""
    try:
        note: dict[str, Any] = json.loads((folder.resolve() / "running.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    note["parts"] = {part: pid for part, pid in note["parts"].items() if _is(pid, part)}
    return note if note["parts"] else None


def _is(pid: int, part: str) -> bool:
    marks = {"jobmanager": "ClusterEntrypoint", "worker-pool": "worker_pool_main", "job-server": "job-server.jar"}
    try:
        said = subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    except OSError:
        return False
    return marks.get(part, "TaskManagerRunner") in said
