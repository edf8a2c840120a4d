"""A real Flink cluster for the tests that need one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deploy.flink.archives import install
from deploy.local.kafka import Missing
from tests.kafka.conftest import kafka, kafka_libs

__all__ = ["flink_libs", "kafka", "kafka_libs"]


@pytest.fixture(scope="session")
def flink_libs() -> Path:
    """The cluster's archives; fetched once for a checkout.

    Without Java or Maven the tests that need them skip; with ``CI=true`` that is a failure.
    """
    try:
        return install()
    except Missing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))
