"""Make or update a virtual environment of this checkout from a lock file; standard library only.

    python deploy/local/environment.py runtime|dev|bench

``runtime`` is what running needs, ``dev`` adds what testing needs, both in ``.venv``; ``bench`` is an environment of
its own, ``.venv-bench``, because what we compare with pins other versions. Nothing is done where all is current: a
stamp inside the environment holds a hash of what it was made from. A set-up that was killed is begun anew the next
time, and two at once wait for each other.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LOCKS = {"runtime": "requirements.lock", "dev": "requirements-dev.lock", "bench": "requirements-bench.lock"}
TABLES = ("maxtext",)
FOLDERS = {"runtime": ".venv", "dev": ".venv", "bench": ".venv-bench"}


def main() -> int:
    parser = argparse.ArgumentParser(description="Make or update a virtual environment of this checkout.")
    parser.add_argument("lock", choices=LOCKS)
    parser.add_argument("--strict", action="store_true", help="remake an environment of another Python version")
    options = parser.parse_args()
    with one_at_a_time():
        try:
            Environment(CHECKOUT / FOLDERS[options.lock], options.lock).update(strict=options.strict)
        except subprocess.CalledProcessError as error:
            command = " ".join(map(str, error.cmd[:4]))
            print(f"set-up failed: {command} ... ended with status {error.returncode}", file=sys.stderr)
            return 1
        except OSError as error:
            print(f"set-up failed: {error}", file=sys.stderr)
            return 1
    return 0


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold a lock on the checkout; where the system has none, go on without."""
    try:
        import fcntl

        handle = os.open(CHECKOUT, os.O_RDONLY)
        # Installers inherit the lock: where this process is killed, the next one waits for those that go on.
        os.set_inheritable(handle, True)
        fcntl.flock(handle, fcntl.LOCK_EX)
    except (ImportError, OSError):
        yield
        return
    try:
        yield
    finally:
        os.close(handle)


class Environment:
    """A virtual environment and what it should hold."""

    def __init__(self, folder: Path, lock: str) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        self.stamp = folder / "llm-finops.stamp"
        self.unfinished = folder / "llm-finops.unfinished"
        self.lock = lock

    def update(self, strict: bool) -> None:
        made_from = self._stamped()
        if made_from.get("lock") == "dev" and self.lock == "runtime":
            self.lock = "dev"  # it holds all of runtime: a demo after the tests takes no tools away
        ours = "{}.{}".format(*sys.version_info)
        version = self._usable_version()
        if version and strict and version != ours:
            version = None
        if version and made_from == self._wanted(version):
            return
        started = time.monotonic()
        if not version:
            say(f"making {self.folder.name} with Python {platform.python_version()}")
            shutil.rmtree(self.folder, ignore_errors=True)
            run(base_python(), "-m", "venv", str(self.folder))
            (self.folder / ".gitignore").write_text("*\n", encoding="utf-8")
            version = ours
        self.unfinished.touch()
        self.stamp.unlink(missing_ok=True)
        self._install()
        run(str(self.python), "-c", "import pipelines")
        self.unfinished.unlink()
        fresh = self.stamp.with_suffix(".new")
        fresh.write_text(json.dumps(self._wanted(version), indent=1) + "\n", encoding="utf-8")
        fresh.replace(self.stamp)
        say(f"{self.folder.name} is ready ({self.lock}, {time.monotonic() - started:.0f} s)")

    def _stamped(self) -> dict[str, str]:
        try:
            stamped = json.loads(self.stamp.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stamped if isinstance(stamped, dict) else {}

    def _usable_version(self) -> str | None:
        """Its Python's version, if it was finished and still works (a system upgrade may take its Python away)."""
        if self.unfinished.exists() or not (self.folder / "bin" / "llm-finops").exists():
            return None
        ask = [str(self.python), "-c", "import sys, pipelines; print('{}.{}'.format(*sys.version_info))"]
        try:
            answer = subprocess.run(ask, capture_output=True, check=False, text=True, cwd=self.folder)
        except OSError:
            return None
        return answer.stdout.strip() or None if answer.returncode == 0 else None

    def _wanted(self, version: str) -> dict[str, str]:
        digest = hashlib.sha256()
        for name in (LOCKS[self.lock], "pyproject.toml", "deploy/local/environment.py"):
            digest.update((CHECKOUT / name).read_bytes())
        # Scripts in an environment hold its path: a checkout that was moved needs new ones.
        return {"lock": self.lock, "python": version, "checkout": str(CHECKOUT), "hash": digest.hexdigest()}

    def _install(self) -> None:
        lock = CHECKOUT / LOCKS[self.lock]
        python = str(self.python)
        say(f"installing {LOCKS[self.lock]}")
        if not (self._has_uv(lock) and self._sync_with_uv(lock)):
            say("uv cannot be used here; installing with pip, which takes longer")
            run(*pip(python), "--require-hashes", "--requirement", str(lock))
        self._install_tables(lock)
        # The build backend is in the lock, so that building needs no download of its own.
        run(*pip(python), "--no-deps", "--no-build-isolation", "--editable", str(CHECKOUT))

    def _has_uv(self, lock: Path) -> bool:
        """Put the uv of the lock in place. It installs in a quarter of pip's time."""
        if not (pinned := pin(lock, "uv")):
            return False
        try:
            self._install_pinned(pinned)
        except subprocess.CalledProcessError:
            return False
        return True

    def _install_tables(self, lock: Path) -> None:
        """Packages that the lock keeps for newer Pythons, and of which only files are read, go into an older one as well."""
        for name in TABLES:
            pinned = re.sub(r" *;[^\\\n]*", " ", pin(lock, name), count=1)
            if pinned:
                self._install_pinned(pinned, "--no-deps", "--ignore-requires-python")

    def _install_pinned(self, pinned: str, *options: str) -> None:
        requirement = self.folder / "pinned.txt"
        requirement.write_text(pinned + "\n", encoding="utf-8")
        try:
            run(*pip(str(self.python)), *options, "--require-hashes", "--requirement", str(requirement))
        finally:
            requirement.unlink()

    def _sync_with_uv(self, lock: Path) -> bool:
        uv = str(self.folder / "bin" / "uv")
        sync = [uv, "pip", "sync", "--python", str(self.python), "--require-hashes", "--quiet", str(lock)]
        try:
            run(*sync)
        except (subprocess.CalledProcessError, OSError):
            return False
        return True


def base_python() -> str:
    """The Python behind an active environment: an environment made from one would hang on it."""
    return getattr(sys, "_base_executable", None) or sys.executable


def pin(lock: Path, name: str) -> str:
    """What a lock file says of a package: its version and hashes; empty where it is not in it."""
    found = re.search(rf"^{name}==(?:.*\\\n)*.*", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return found.group() if found else ""


def pip(python: str) -> list[str]:
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    return [python, "-m", "pip", "install", *quiet]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(*command: str) -> None:
    # A Python that is told where to look would look past the new environment.
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    subprocess.run(command, check=True, cwd=CHECKOUT, stdin=subprocess.DEVNULL, env=environ, close_fds=False)


if __name__ == "__main__":
    sys.exit(main())
