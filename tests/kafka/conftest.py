"""A real broker for the tests that need one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.kafka import Broker, Missing, install
from tests.kafka.certificates import Authority

PLAIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="it\'s \\\\ secret";'
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@pytest.fixture(scope="session")
def kafka_libs() -> Path:
    """The broker's libraries, for tests that start one of their own; fetched once for a checkout.

    Without Java or Maven the tests that need them skip; with ``CI=true`` that is a failure.
    """
    try:
        return install()
    except Missing as missing:
        if os.environ.get("CI") == "true":
            pytest.fail(str(missing))
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def kafka(kafka_libs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker, started. The tests of a process share it, so they use topics and groups of their own."""
    with Broker(tmp_path_factory.mktemp("kafka")) as broker:
        yield broker


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def guarded(kafka_libs: Path, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker with listeners for passwords, with TLS, with both, with the client's certificate, and with one that expired."""
    properties = {
        "listener.name.login.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.login.plain.sasl.jaas.config": PLAIN,
        "listener.name.login.scram-sha-256.sasl.jaas.config": SCRAM,
        "listener.name.login.scram-sha-512.sasl.jaas.config": SCRAM,
        "listener.name.safe.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.safe.plain.sasl.jaas.config": PLAIN,
        **authority.for_broker("SAFE"),
        **authority.for_broker("TLS"),
        **authority.for_broker("MUTUAL"),
        **Authority(days=-1).for_broker("EXPIRED"),
        "listener.name.mutual.ssl.client.auth": "required",
        "message.max.bytes": str(64 << 20),
        "log.initial.task.delay.ms": "500",
        "log.retention.check.interval.ms": "500",
    }
    listeners = {"LOGIN": "SASL_PLAINTEXT", "TLS": "SSL", "MUTUAL": "SSL", "EXPIRED": "SSL", "SAFE": "SASL_SSL"}
    folder = tmp_path_factory.mktemp("guarded")
    with Broker(folder, properties=properties, listeners=listeners, scram={"bob": "scrambled"}) as broker:
        yield broker
