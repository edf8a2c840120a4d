"""A real Kafka broker on this machine, without Docker: fetched by Maven, run by Java; standard library only.

    python deploy/local/kafka.py up|down|status [--folder .services/kafka] [--port 9092]

``up`` starts a broker that goes on when the command has ended. Tests start brokers of their own with :class:`Broker`.
A broker listens on the loopback address alone: its plain listener lets everybody in.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import functools
import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

CHECKOUT = Path(__file__).resolve().parents[2]
POM = Path(__file__).resolve().parent / "kafka" / "pom.xml"
FOLDER = CHECKOUT / ".services" / "kafka"
LIBS = FOLDER / "libs"
JAVA = 17

# One small broker is up in two thirds of the time with the simple compiler and collector.
JVM = ("-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=INFO")
LAPTOP = {"auto.create.topics.enable": "true", "num.partitions": "4"}


class Missing(Exception):
    """What a broker needs and this machine does not have, in one line."""


@functools.cache
def java() -> str:
    """The Java to run, found as Maven finds it."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which(str(Path(home, "bin", "java")) if home else "java")
    if found is None:
        where = f"JAVA_HOME={home} has none" if home else "there is no java on the PATH"
        raise Missing(f"Kafka needs Java {JAVA} or newer: {where}")
    said = subprocess.run([found, "-version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < JAVA:
        first = said.strip().partition("\n")[0]
        raise Missing(f"Kafka needs Java {JAVA} or newer: {found} says {first or 'nothing'}")
    return found


def install(folder: Path = LIBS) -> Path:
    """The folder below ``folder`` with the broker's libraries, which Maven fetches the first time (43 MB).

    It is named by a hash of what is asked for, and is there whole or not at all; processes at once wait for the first.
    """
    java()
    libs = folder / hashlib.sha256(POM.read_bytes()).hexdigest()[:16]
    if libs.is_dir():
        return libs
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder / "lock"):
        if libs.is_dir():
            return libs
        mvn = shutil.which("mvn")
        if mvn is None:
            raise Missing("Kafka needs Maven to be fetched: there is no mvn on the PATH")
        fresh = folder / "new"
        shutil.rmtree(fresh, ignore_errors=True)
        options = ["--batch-mode", "--quiet", "--strict-checksums", "-Dstyle.color=never", "-DincludeScope=runtime"]
        command = [mvn, *options, f"--file={POM}", f"-DoutputDirectory={fresh}", "dependency:copy-dependencies"]
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode or not fresh.is_dir():
            raise RuntimeError(f"Maven could not fetch Kafka:\n{done.stdout.strip()}")
        fresh.rename(libs)
    return libs


@contextlib.contextmanager
def one_at_a_time(lock: Path) -> Iterator[None]:
    """Hold a lock on a file; where the system has none, go on without."""
    with lock.open("a") as handle:
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class Broker:
    """One broker, its own controller, with its data in ``folder``; a context manager.

    ``kill`` and ``start`` again gives the same topics and records at the same address. ``listeners`` adds listeners
    by name, each at a port of its own (``address_of``); ``properties`` are Kafka's and win over ours, so that a test
    of passwords says::

        Broker(folder, listeners={"LOGIN": "SASL_PLAINTEXT"}, scram={"alice": "secret"}, properties={
            "listener.name.login.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "listener.name.login.plain.sasl.jaas.config":
                'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="secret";',
            "listener.name.login.scram-sha-256.sasl.jaas.config":
                "org.apache.kafka.common.security.scram.ScramLoginModule required;",  # and the same for 512
        })

    ``scram`` are users and passwords written when the storage is made, for both SCRAM mechanisms; a test's, for they
    are seen in the list of processes. ``properties`` may be changed between ``stop`` and ``start``.
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        *,
        properties: Mapping[str, str] | None = None,
        listeners: Mapping[str, str] | None = None,
        scram: Mapping[str, str] | None = None,
        libs: Path = LIBS,
        stays: bool = False,
    ) -> None:
        self.folder = folder.resolve()
        self.log = self.folder / "broker.log"
        self.properties = dict(properties or {})
        self._protocols = {"PLAINTEXT": "PLAINTEXT", "CONTROLLER": "PLAINTEXT", **(listeners or {})}
        self._ports = dict(zip(self._protocols, free_ports(len(self._protocols)), strict=True))
        self._ports["PLAINTEXT"] = port or self._ports["PLAINTEXT"]
        self._scram = dict(scram or {})
        self._libs = libs
        self._stays = stays  # a session of its own, which Ctrl-C and a closed terminal do not end
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Host and port of the plain listener."""
        return self.address_of("PLAINTEXT")

    def address_of(self, listener: str) -> str:
        return f"localhost:{self._ports[listener]}"

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self, seconds: float = 120) -> None:
        """Start it and wait until clients can use it; nothing to do where this object has it running."""
        if self.pid:
            return
        if other := running(self.folder):
            raise RuntimeError(f"process {other[0]} is a broker in {self.folder} already")
        libs = install(self._libs)
        for port in self._ports.values():
            if not _free(port):
                raise RuntimeError(f"port {port} is taken by another program")
        self.folder.mkdir(parents=True, exist_ok=True)
        settings = self.folder / "server.properties"
        settings.touch(mode=0o600)  # it may hold passwords
        settings.write_text("".join(f"{name}={_escaped(value)}\n" for name, value in self._settings().items()), encoding="ascii")
        self._format(libs, settings)
        with self.log.open("ab") as log:
            command = [java(), *JVM, "-cp", f"{libs}/*", "kafka.Kafka", str(settings)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=self._stays
            )
        try:
            self._write_note(self._process.pid)
            self._wait(time.monotonic() + seconds)
        except BaseException:
            self.kill()
            raise

    def stop(self, seconds: float = 60) -> None:
        """End it in order, or by force where it takes too long."""
        if self._process:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        self.kill()

    def kill(self) -> None:
        """End it as a crash would."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Broker:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def _settings(self) -> dict[str, str]:
        advertised = [f"{name}://{self.address_of(name)}" for name in self._protocols if name != "CONTROLLER"]
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._ports['CONTROLLER']}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in self._ports.items()),
            "advertised.listeners": ",".join(advertised),
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in self._protocols.items()),
            "log.dirs": str(self.folder / "data"),
            # There is one broker, so nothing can have more copies; and few partitions are created in less time.
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            # A broker that was killed is let in again only when it has been silent for so long; 9 s by default.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            # Kafka goes by the records' own time: logs of last month would be deleted within minutes.
            "log.retention.ms": "-1",
            # Its default alone is a third of the broker's memory.
            "log.cleaner.dedupe.buffer.size": str(16 << 20),
            "auto.create.topics.enable": "false",
            **self.properties,
        }

    def _format(self, libs: Path, settings: Path) -> None:
        """Make the storage, once; one whose making was interrupted is made anew."""
        done = self.folder / "formatted"
        if done.exists():
            return
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [java(), *JVM, "-cp", f"{libs}/*", "kafka.tools.StorageTool", "format"]
        command += [f"--config={settings}", f"--cluster-id={cluster}"]
        for user, password in self._scram.items():
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                command += ["--add-scram", f"{mechanism}=[name={user},password={password}]"]
        with self.log.open("ab") as log:
            ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False)
        if ended.returncode:
            raise RuntimeError(f"the broker's storage could not be made; {self._tail()}")
        done.touch()

    def _write_note(self, pid: int) -> None:
        """Leave what :func:`running` reads, before anything can interrupt this process."""
        fresh = self.folder / "running.new"
        fresh.write_text(json.dumps({"pid": pid, "port": self._ports["PLAINTEXT"]}), encoding="utf-8")
        fresh.replace(self.folder / "running.json")

    def _wait(self, until: float) -> None:
        assert self._process
        while not _answers(self._ports["PLAINTEXT"]):
            if self._process.poll() is not None:
                raise RuntimeError(f"the broker ended with status {self._process.returncode}; {self._tail()}")
            if time.monotonic() > until:
                raise RuntimeError(f"the broker does not answer on {self.address}; {self._tail()}")
            time.sleep(0.1)

    def _tail(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([f"{self.log} ends with:", *lines[-30:]])


def _answers(port: int) -> bool:
    """Whether a broker at this port knows of a live broker, which is itself once clients may create topics.

    It answers before that. The request is Kafka's Metadata, version 7, for no topic; of the answer only the count of
    brokers is read.
    """
    request = struct.pack(">hhihi?", 3, 7, 1, -1, 0, False)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as link:
            link.sendall(struct.pack(">i", len(request)) + request)
            answer = link.makefile("rb").read(16)
    except OSError:
        return False
    return len(answer) == 16 and bool(struct.unpack(">iiii", answer)[3])


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, below those that systems hand to outgoing connections.

    One of the latter could be taken while a killed broker is away, even by a client that tries to reach it.
    """
    system = random.SystemRandom()  # tests seed the common one, and would all get the same ports
    found: set[int] = set()
    while len(found) < count:
        port = system.randrange(20_000, 32_000)
        if _free(port):
            found.add(port)
    return list(found)


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the broker does: a port just left is free
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _escaped(value: str) -> str:
    """A value as a Java properties file has it: in one line, a certificate too, and ASCII."""
    return json.dumps(value)[1:-1]


def running(folder: Path) -> tuple[int, int] | None:
    """Process and port of the broker that runs in a folder; a process of another kind with its old number is none."""
    folder = folder.resolve()
    try:
        note = json.loads((folder / "running.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    command = _command(note["pid"])
    ours = "kafka.Kafka" in command and str(folder / "server.properties") in command
    return (note["pid"], note["port"]) if ours else None


def _command(pid: int) -> str:
    """The command line of a process; of one that ended, even if nobody has waited for it yet, none."""
    if Path("/proc/self/cmdline").exists():
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            return ""
    return subprocess.run(["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout


def up(folder: Path, port: int) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder / "lock"):
        if found := running(folder):
            print(f"Kafka is running already on localhost:{found[1]} (process {found[0]})")
            return 0
        broker = Broker(folder, port, properties=LAPTOP, stays=True)
        print(f"starting Kafka in {folder}", file=sys.stderr, flush=True)
        broker.start()
    print(f"Kafka is up on {broker.address} (process {broker.pid}, log {broker.log})")
    ours, client = (Path(sys.executable).with_name(name) for name in ("llm-finops", "kafka-python"))
    if ours.exists() and client.exists():
        print(f"write:  {client} producer -b {broker.address} -t llm-calls < calls.jsonl")
        print(f"follow: {ours} run --follow --from kafka://{broker.address}/llm-calls --to chdb://store")
    print("end it: " + ("make kafka-down" if folder == FOLDER else f"python deploy/local/kafka.py down --folder {folder}"))
    return 0


def down(folder: Path, seconds: float = 60) -> int:
    until = time.monotonic() + seconds
    was = running(folder)
    while found := running(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(found[0], signal.SIGTERM if time.monotonic() < until else signal.SIGKILL)
        time.sleep(0.2)
    print(f"Kafka is down; its topics are kept in {folder}" if was else "Kafka is not running")
    return 0


def status(folder: Path) -> int:
    found = running(folder)
    if found is None:
        print("Kafka is not running")
        return 1
    pid, port = found
    answers = _answers(port)
    print(f"Kafka is running on localhost:{port} (process {pid})" + ("" if answers else ", but does not answer"))
    return 0 if answers else 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a Kafka broker on this machine.")
    parser.add_argument("action", choices=("up", "down", "status"))
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of its data and log")
    parser.add_argument("--port", type=int, default=9092, help="for up")
    options = parser.parse_args()
    try:
        if options.action == "up":
            return up(options.folder, options.port)
        return down(options.folder) if options.action == "down" else status(options.folder)
    except (Missing, RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
