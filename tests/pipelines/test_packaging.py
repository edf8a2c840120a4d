"""What a fresh clone and a built wheel depend on: package data, lock files, the search for a Python."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]


def test_every_data_file_of_a_package_is_in_the_wheel() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    globs = project["tool"]["setuptools"]["package-data"]["*"]
    patterns = [re.compile(re.escape(glob).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*") + "$") for glob in globs]
    for package in ("pipelines", "schemas", "sinks", "sources", "transforms"):
        assert (CHECKOUT / package / "py.typed").exists()
        for path in (CHECKOUT / package).rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                inside = path.relative_to(CHECKOUT / package).as_posix()
                assert any(pattern.match(inside) for pattern in patterns), f"{path} would be left out"
        for folder in (CHECKOUT / package).rglob("*/"):
            if any(folder.glob("*.py")):
                assert (folder / "__init__.py").exists(), f"{folder} is no package and would be left out"


def test_locks_hold_every_dependency_pinned_with_hashes_and_name_no_place() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    extras, groups = project["project"]["optional-dependencies"], project["dependency-groups"]
    asked = [*project["project"]["dependencies"], *extras["chdb"], *extras["fast"], *extras["serve"], *groups["setup"]]
    for lock, more in (("", []), ("-dev", groups["dev"]), ("-bench", groups["bench"])):
        text = (CHECKOUT / f"requirements{lock}.lock").read_text()
        pins = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
        for requirement in (*asked, *more):
            name = re.split(r"[<>=\[ ]", requirement)[0].lower().replace("_", "-").replace(".", "-")
            assert name in pins, f"{name} is not in requirements{lock}.lock: run `make lock`"
        assert text.count("--hash=sha256:") >= len(pins)
        assert not re.search(r"://|--index|--find-links|^-e |@ |/opt/|/home/|/root/", text, re.MULTILINE)


class Machine:
    """A machine whose only Pythons are the fake ones of ``bin``: they answer the version and show their arguments."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        dirname = shutil.which("dirname")
        assert dirname
        (self.bin / "dirname").symlink_to(dirname)

    def add(self, name: str, version: str, status: int) -> None:
        script = self.bin / name
        script.write_text(f'#!/bin/sh\nif [ "$1" = -c ]; then echo {version}; exit {status}; fi\necho {name} "$@"\n')
        script.chmod(0o755)

    def setup(self, python: str = "") -> tuple[int, str]:
        done = subprocess.run(
            ["/bin/sh", str(CHECKOUT / "deploy/local/setup.sh"), "runtime"],
            env={"PATH": str(self.bin), "PYTHON": python},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return done.returncode, (done.stdout + done.stderr).strip()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_newest_supported_python_is_used(machine: Machine) -> None:
    machine.add("python3.13", "", 127)  # a shim whose version is not installed
    machine.add("python3.12", "3.12.1", 0)
    machine.add("python3.11", "3.11.7", 0)
    machine.add("python3", "3.14.0", 3)
    assert machine.setup() == (0, "python3.12 deploy/local/environment.py runtime")


def test_a_named_python_is_used_and_no_other(machine: Machine) -> None:
    machine.add("python3.12", "3.12.1", 0)
    machine.add("mine", "3.11.7", 0)
    machine.add("old", "3.9.2", 3)
    assert machine.setup("mine") == (0, "mine deploy/local/environment.py runtime --strict")
    assert machine.setup("old") == (2, "llm-finops needs Python 3.11, 3.12 or 3.13; PYTHON=old is Python 3.9.2")
    assert machine.setup("gone") == (2, "llm-finops needs Python 3.11, 3.12 or 3.13; PYTHON=gone does not run")


def test_other_versions_are_refused_in_one_line_that_names_them(machine: Machine) -> None:
    assert "; found none. " in machine.setup()[1]
    machine.add("python3", "3.10.12", 3)
    machine.add("python", "2.7.18", 3)
    status, said = machine.setup()
    assert status == 2
    assert said.startswith("llm-finops needs Python 3.11, 3.12 or 3.13; found python3 is 3.10.12, python is 2.7.18. Install one")
    assert "\n" not in said


def test_a_python_without_venv_is_named_with_the_remedy(machine: Machine) -> None:
    machine.add("python3", "3.11.2", 4)
    status, said = machine.setup()
    assert status == 2
    assert "found 3.11.2, but without its venv and ensurepip modules (Debian: apt install python3.11-venv)" in said
