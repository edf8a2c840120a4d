"""Java archives that a Flink on this machine needs: Flink's come from PyPI, Beam's job server is built with Maven.

Where this differs from production, docs/flink.md says.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from deploy.local.kafka import CHECKOUT, Missing, java, one_at_a_time

FLINK: Final = "1.19.3"
POM: Final = Path(__file__).resolve().parent / "job-server" / "pom.xml"
FOLDER: Final = CHECKOUT / ".services" / "flink"
LIBS: Final = FOLDER / "libs"


def install(folder: Path = LIBS) -> Path:
    """The folder with ``flink/`` (PyPI's archives) and ``job-server.jar``, fetched the first time (235 MB and 150 MB).

    It is named by a hash of what is asked for, and is there whole or not at all; processes at once wait for the first.
    """
    java()
    asked = hashlib.sha256(POM.read_bytes() + FLINK.encode()).hexdigest()[:16]
    libs = folder / asked
    if libs.is_dir():
        return libs
    folder.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(folder / "lock"):
        if libs.is_dir():
            return libs
        mvn = shutil.which("mvn")
        if mvn is None:
            raise Missing("Flink needs Maven for Beam's job server: there is no mvn on the PATH")
        fresh = folder / "new"
        shutil.rmtree(fresh, ignore_errors=True)
        (fresh / "job-server").mkdir(parents=True)
        shutil.copy(POM, fresh / "job-server" / "pom.xml")
        uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
        pip = [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
        _fetch([*pip, "--quiet", "--no-deps", "--target", str(fresh / "pypi"), f"apache-flink-libraries=={FLINK}"], "Flink")
        quiet = ["--batch-mode", "--quiet", "--strict-checksums", "-Dstyle.color=never"]
        _fetch([mvn, *quiet, f"--file={fresh / 'job-server' / 'pom.xml'}", "package"], "Beam's job server")
        (fresh / "pypi" / "pyflink").rename(fresh / "flink")
        (fresh / "job-server" / "target" / "job-server.jar").rename(fresh / "job-server.jar")
        shutil.rmtree(fresh / "job-server")
        shutil.rmtree(fresh / "pypi")
        fresh.rename(libs)
    return libs


def _fetch(command: list[str], what: str) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{what} could not be fetched:\n{done.stdout.strip()}")
