"""The compose files, as far as can be seen without Docker: their form, and that they name what is there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
LOCAL = DEPLOY / "local" / "compose.yaml"


def _services() -> dict[str, dict[str, Any]]:
    """The services of the local file, each with what it takes over from another file."""
    services: dict[str, dict[str, Any]] = {}
    for name, service in yaml.safe_load(LOCAL.read_text())["services"].items():
        services[name] = {"folder": LOCAL.parent, **service}
        if base := service.get("extends"):
            path = LOCAL.parent / base["file"]
            taken = yaml.safe_load(path.read_text())["services"][base["service"]]
            environment = {**taken["environment"], **service["environment"]}
            services[name] = {**taken, **service, "folder": path.parent, "environment": environment}
    return services


@pytest.mark.parametrize("path", [LOCAL, DEPLOY / "grafana" / "compose.yaml"], ids=str)
def test_a_compose_file_is_of_the_specified_form(path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_services_name_is_there() -> None:
    services = _services()
    flink = {"jobmanager", "job-server", "job", *(f"{part}-{n}" for part in ("pod", "taskmanager", "workers") for n in (1, 2))}
    assert set(services) == {"kafka", "clickhouse", "grafana"} | flink
    volumes = yaml.safe_load(LOCAL.read_text())["volumes"]
    for service in services.values():
        assert set(service.get("depends_on", ())) <= set(services)
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (service["folder"] / source).exists() if source.startswith(".") else source in volumes
    assert services["kafka"]["image"].split(":")[1] in (DEPLOY / "local" / "kafka" / "pom.xml").read_text()
    grafana = services["grafana"]["environment"]
    assert f"127.0.0.1:{grafana['LLM_FINOPS_GRAFANA_PORT']}:{grafana['LLM_FINOPS_GRAFANA_PORT']}" in services["clickhouse"]["ports"]
    assert grafana["LLM_FINOPS_GRAFANA_HOST"] in services
    assert grafana["LLM_FINOPS_GRAFANA_DATABASE"] == services["clickhouse"]["environment"]["CLICKHOUSE_DB"]


def test_grafana_may_only_read() -> None:
    settings = ElementTree.parse(LOCAL.parent / "clickhouse-users.xml")
    (user,) = settings.findall("users/*")
    grafana = _services()["grafana"]["environment"]
    assert user.tag == grafana["LLM_FINOPS_GRAFANA_USER"]
    assert [one.text for one in user.findall("grants/query")] == [f"GRANT SELECT ON {grafana['LLM_FINOPS_GRAFANA_DATABASE']}.*"]
    assert settings.findtext(f"profiles/{user.findtext('profile')}/readonly") == "2"
    password = user.find("password")
    assert password is not None
    assert password.get("from_env") in _services()["clickhouse"]["environment"]


def test_only_this_machine_gets_in_and_no_password_is_in_the_file() -> None:
    services = _services()
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert max(Counter(port.split(":")[1] for port in ports).values()) == 1
    settings = [setting for service in services.values() for setting in service.get("environment", {}).items()]
    secrets = [(name, value) for name, value in settings if "PASSWORD" in name]
    assert len(secrets) == 7
    for name, value in secrets:
        assert re.fullmatch(r"\$\{\w+:\?[\w' ]+\}", value), name
