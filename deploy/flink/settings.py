"""How Flink is configured here: what is beside this file for every cluster, and what a small machine adds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

CONF: Final = Path(__file__).resolve().parent / "conf" / "config.yaml"

MEMORY: Final = {
    "taskmanager.memory.managed.size": "64m",
    "taskmanager.memory.network.min": "48m",
    "taskmanager.memory.network.max": "48m",
}
LOCAL: Final = MEMORY | {
    "jobmanager.memory.process.size": "768m",
    "taskmanager.memory.process.size": "1024m",
    "taskmanager.memory.jvm-metaspace.size": "192m",
    "jobmanager.memory.jvm-metaspace.size": "192m",
    # A part that was killed is missed soon.
    "heartbeat.interval": "1000",
    "heartbeat.timeout": "6000",
    "restart-strategy.exponential-delay.max-backoff": "5 s",
}
SMALL_JVM: Final = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


def conf() -> dict[str, str]:
    """The conf beside this file."""
    return dict(re.findall(r"^([a-z][\w.-]+): (.+)$", CONF.read_text(encoding="utf-8"), re.MULTILINE))


def write_conf(folder: Path, known: Mapping[str, str]) -> None:
    """Write a conf as Flink reads it from ``FLINK_CONF_DIR``."""
    lines = [f"{key}: {json.dumps(value) if '=' in value else value}\n" for key, value in known.items()]
    (folder / "config.yaml").write_text("".join(lines), encoding="utf-8")
