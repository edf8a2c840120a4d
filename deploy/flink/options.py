"""Options of Beam with which the job is submitted to Flink: in one place, for every way to submit it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

NAME: Final = "llm-finops"
"""The name of the job, unless it is given another."""


def options(
    job_endpoint: str,
    worker_pool: str,
    *,
    parallelism: int = 1,
    checkpoint_ms: int = 10_000,
    bundle_ms: int = 500,
    savepoint: str = "",
    name: str = NAME,
) -> list[str]:
    """For a cluster behind the job server at ``job_endpoint``, with Python workers of the pool at ``worker_pool``.

    A bundle ends after ``bundle_ms``: then its rows are written. ``savepoint``: a savepoint or checkpoint to go on from.
    """
    known = [
        f"--job_endpoint={job_endpoint}",
        "--environment_type=EXTERNAL",
        f"--environment_config={worker_pool}",
        *for_flink(parallelism, checkpoint_ms, bundle_ms),
        f"--job_name={name}",
    ]
    return [*known, f"--savepoint_path={savepoint}"] if savepoint else known


def embedded(
    job_server_jar: str,
    *,
    java: str = "java",
    jvm: Sequence[str] = (),
    parallelism: int = 1,
    checkpoint_ms: int = 10_000,
    bundle_ms: int = 500,
    savepoint: str = "",
    name: str = NAME,
) -> list[str]:
    """For a Flink inside the job server of this machine, with workers in the process that submits: needs Java, and no cluster.

    ``jvm`` are options of the job server's ``java``.
    """
    known = [
        "--flink_master=[local]",
        f"--flink_job_server_jar={job_server_jar}",
        f"--job_server_java_launcher={java}",
        *(f"--job_server_jvm_property={option}" for option in jvm),
        "--environment_type=LOOPBACK",
        *for_flink(parallelism, checkpoint_ms, bundle_ms),
        f"--job_name={name}",
    ]
    return [*known, f"--savepoint_path={savepoint}"] if savepoint else known


def for_flink(parallelism: int, checkpoint_ms: int, bundle_ms: int) -> list[str]:
    """What Flink's runner is told in any case; their defaults are off, or one.

    Without ``--finish_bundle_before_checkpointing`` a checkpoint that comes while the first bundle is open parks its output for
    ever: the job is RUNNING and reads nothing. Beam for Python does not know the option and warns; it takes effect.
    """
    return [
        f"--parallelism={parallelism}",
        f"--checkpointing_interval={checkpoint_ms}",
        "--externalized_checkpoints_enabled",
        "--retain_externalized_checkpoints_on_cancellation",
        "--finish_bundle_before_checkpointing",
        "--max_bundle_size=100000",
        f"--max_bundle_time_mills={bundle_ms}",
        "--sdk_worker_parallelism=1",
        "--state_cache_size=64",
    ]
