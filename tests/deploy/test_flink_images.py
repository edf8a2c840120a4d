"""The images of Flink and the job, as far as can be seen without Docker: what they copy is there, enough, and what compose asks for."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

from deploy.flink.archives import FLINK, POM, install
from deploy.flink.options import options
from deploy.flink.settings import conf
from deploy.flink.watchdog import _arguments, settings_of
from deploy.local.kafka import Missing, java

CHECKOUT = Path(__file__).resolve().parents[2]
DOCKERFILE = CHECKOUT / "deploy" / "flink" / "Dockerfile"
COMPOSE = CHECKOUT / "deploy" / "local" / "compose.yaml"


def instructions() -> list[tuple[str, str, list[str]]]:
    """Stage, instruction and words of each, with lines that go on joined and comments left out."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("\\\n", " ")
    found, stage = [], ""
    for line in filter(None, map(str.strip, text.splitlines())):
        name, _, rest = line.partition(" ")
        words = rest.split()
        if name == "FROM":
            assert words[1] == "AS"
            stage = words[2]
        found.append((stage, name, words))
    return found


def bases() -> dict[str, str]:
    return {stage: words[0] for stage, name, words in instructions() if name == "FROM"}


def copies(stage: str) -> list[tuple[list[str], str, str]]:
    """Sources, destination and options of each COPY of a stage."""
    found = []
    for where, name, words in instructions():
        if where == stage and name == "COPY":
            plain = [word for word in words if not word.startswith("--")]
            found.append((plain[:-1], plain[-1], " ".join(word for word in words if word.startswith("--"))))
    return found


def services() -> dict[str, dict[str, Any]]:
    known: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    return {name: service for name, service in known.items() if "build" in service}


def test_only_known_instructions_are_there() -> None:
    """So that this file does not read past what it does not know."""
    assert {name for _, name, _ in instructions()} == {"FROM", "WORKDIR", "COPY", "RUN", "USER"}


def test_what_is_copied_is_there_and_not_kept_out() -> None:
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    wanted = set()
    for stage in bases():
        for sources, _, how in copies(stage):
            if "--from=" in how:
                assert re.search(r"--from=(\S+)", how)[1] in bases()  # type: ignore[index]
            else:
                wanted |= set(sources)
    for source in wanted:
        assert (CHECKOUT / source).exists()
        assert any(source == one or source.startswith(f"{one}/") for one in let_in), source
    assert all(any(source == one or source.startswith(f"{one}/") for source in wanted) for one in let_in)


def test_versions_are_those_of_the_code() -> None:
    assert bases()["flink"] == f"flink:{FLINK}-java17"
    python = re.fullmatch(r"python:(\d+\.\d+)-slim-bookworm", bases()["workers"])
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert python
    assert python[1] in SpecifierSet(project["requires-python"])
    assert f"Programming Language :: Python :: {python[1]}" in project["classifiers"]
    lock = (CHECKOUT / "requirements.lock").read_text(encoding="utf-8")
    beam = re.search(r"^apache-beam==(\S+)", lock, re.MULTILINE)
    server = re.search(r"<beam.version>(.+)</beam.version>", POM.read_text(encoding="utf-8"))
    assert beam
    assert server
    page = (CHECKOUT / "docs" / "flink.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith("| Beam's job server"))
    assert server[1] in row
    assert f"apache/beam_flink{FLINK.rpartition('.')[0]}_job_server:{beam[1]}" in row


def test_what_is_copied_is_enough(tmp_path: Path) -> None:
    """The watchdog starts from nothing but what the image holds."""
    for sources, to, how in copies("workers"):
        for source in sources if "--from=" not in how else ():
            goal = tmp_path / (to if to != "./" else source)
            goal.parent.mkdir(parents=True, exist_ok=True)
            if (CHECKOUT / source).is_dir():
                shutil.copytree(CHECKOUT / source, goal, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(CHECKOUT / source, goal)
    look = "import deploy.flink.watchdog as w, pipelines, sources; print(w.__file__, pipelines.__file__, sources.__file__)"
    done = subprocess.run([sys.executable, "-c", look], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all(Path(file).is_relative_to(tmp_path) for file in done.stdout.split())


def test_compose_builds_the_images_that_it_names() -> None:
    images = {}
    for service in services().values():
        build = service["build"]
        assert (COMPOSE.parent / build["context"]).resolve() == CHECKOUT
        assert CHECKOUT / build["dockerfile"] == DOCKERFILE
        assert build["target"] in bases()
        assert images.setdefault(service["image"], build["target"]) == build["target"]
    assert images == {"llm-finops-flink": "flink", "llm-finops-workers": "workers"}


def test_each_task_manager_has_workers_on_its_own_loopback_address() -> None:
    known = services()
    managers = [service for service in known.values() if service.get("command") == "taskmanager"]
    pools = [service for service in known.values() if "worker_pool_main" in service["command"]]
    networks = {service["network_mode"] for service in managers}
    assert len(networks) == len(managers) == len(pools) == 2
    assert networks == {service["network_mode"] for service in pools}
    assert all(network.removeprefix("service:") in known for network in networks)
    job = _arguments().parse_args(shlex.split(known["job"]["command"])[3:])
    assert job.parallelism == len(managers)  # each has one slot
    assert conf()["taskmanager.numberOfTaskSlots"] == "1"
    for pool in pools:
        port = re.search(r"--service_port=(\d+)", pool["command"])
        assert port
        assert job.worker_pool == f"localhost:{port[1]}"


def test_the_job_names_what_compose_starts() -> None:
    known = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    job = _arguments().parse_args(shlex.split(known["job"]["command"])[3:])
    settings, _ = settings_of(job.rest_of_it)
    server = dict(word.removeprefix("--").split("=") for word in shlex.split(known["job-server"]["command"]) if "=" in word and word.startswith("--"))
    assert job.rest == f"http://{server['flink-master']}"
    assert server["flink-master"] == "jobmanager:8081"
    assert job.job_endpoint == f"{server['job-host']}:{server['job-port']}" == f"{known['job-server']['hostname']}:8099"
    assert settings.source.from_ == ("kafka://kafka:19092/llm-calls",)
    assert "kafka:19092" in known["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert settings.store.to == f"http://{known['clickhouse']['environment']['CLICKHOUSE_USER']}@clickhouse:8123"
    (jar,) = [f"{to}" for _, to, how in copies("workers") if "--from=job-server" in how]
    assert f"-jar {jar} " in known["job-server"]["command"]
    assert f"--environment_config={job.worker_pool}" in options(job.job_endpoint, job.worker_pool)


def test_folders_that_are_shared_are_made_for_one_user() -> None:
    known = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]
    made = {stage: " ".join(word for where, name, words in instructions() if name == "RUN" and where == stage for word in words) for stage in ("flink", "workers")}
    folders = re.findall(r"file://(/\S+)", known["jobmanager"]["environment"]["FLINK_PROPERTIES"])
    folders.append(re.search(r"--artifacts-dir=(\S+)", known["job-server"]["command"])[1])  # type: ignore[index]
    for folder in folders:
        assert all(f" {folder}" in commands for commands in made.values())
    for name in ("jobmanager", "taskmanager-1", "taskmanager-2", "job-server"):
        assert known[name]["volumes"] == ["flink:/data"]
    assert all("chown -R flink:flink /data" in commands for commands in made.values())


@pytest.mark.parametrize(("part", "asked"), [("jobmanager", "GET_JM_RESOURCE_PARAMS"), ("taskmanager-1", "GET_TM_RESOURCE_PARAMS")])
def test_flink_accepts_the_conf_that_its_image_has(part: str, asked: str, tmp_path: Path) -> None:
    try:
        libs = install() / "flink"
    except Missing as missing:
        pytest.skip(str(missing))
    more = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"][part]["environment"]["FLINK_PROPERTIES"]
    ((source,), _, _) = next(copy for copy in copies("flink") if copy[0][0].endswith("config.yaml"))
    (tmp_path / "config.yaml").write_text((CHECKOUT / source).read_text(encoding="utf-8") + "\n" + more, encoding="utf-8")
    utils = [java(), "-cp", f"{libs}/bin/bash-java-utils.jar:{libs}/lib/*", "org.apache.flink.runtime.util.bash.BashJavaUtils"]
    said = subprocess.run([*utils, asked, "--configDir", str(tmp_path)], capture_output=True, text=True, check=False)
    assert "BASH_JAVA_UTILS_EXEC_RESULT:-Xmx" in said.stdout, said.stdout + said.stderr
