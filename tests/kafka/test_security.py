"""How the source logs in, and what it says when it is not let in: one line that a person can act on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deploy.local.kafka import Broker
from sources.files import SourceError
from sources.kafka import KEY_PASSWORD_VARIABLE, PASSWORD_VARIABLE, KafkaSettings, Topics, hang_up, read
from sources.ranges import plan
from tests.kafka.certificates import Authority
from tests.kafka.topics import new_topic, write


def take(wanted: KafkaSettings) -> list[bytes]:
    try:
        with Topics(wanted) as topics:
            return [value for piece in plan(topics.logs(), {}, {}, 0) for batch in read(piece, wanted) for value in batch.records]
    finally:
        hang_up()


@pytest.fixture
def topic(guarded: Broker) -> str:
    topic = new_topic(guarded)
    write(guarded, topic, [b"one", b"two"])
    return topic


def wanted(broker: Broker, listener: str, topic: str, **more: Any) -> KafkaSettings:
    return KafkaSettings((broker.address_of(listener),), (topic,), patience_s=3, **more)


@pytest.mark.parametrize(
    ("mechanism", "user", "password"),
    [("PLAIN", "alice", "it's \\ secret"), ("SCRAM-SHA-256", "bob", "scrambled"), ("SCRAM-SHA-512", "bob", "scrambled")],
)
def test_passwords(
    guarded: Broker, topic: str, monkeypatch: pytest.MonkeyPatch, mechanism: str, user: str, password: str
) -> None:
    login = wanted(guarded, "LOGIN", topic, security="SASL_PLAINTEXT", mechanism=mechanism, user=user)
    monkeypatch.setenv(PASSWORD_VARIABLE, password)
    assert take(login) == [b"one", b"two"]
    monkeypatch.setenv(PASSWORD_VARIABLE, "wrong-one")
    with pytest.raises(SourceError, match=f"user or password refused; set kafka.user and {PASSWORD_VARIABLE}") as refused:
        take(login)
    assert "wrong-one" not in str(refused.value)
    assert "wrong-one" not in repr(login)


def test_certificates(guarded: Broker, topic: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = authority.for_client(tmp_path, own=True)
    ca, shown = own["ssl_cafile"], {"certificate": own["ssl_certfile"], "key": own["ssl_keyfile"]}
    assert take(wanted(guarded, "TLS", topic, security="SSL", ca=ca)) == [b"one", b"two"]
    assert take(wanted(guarded, "MUTUAL", topic, security="SSL", ca=ca, **shown)) == [b"one", b"two"]
    monkeypatch.setenv(PASSWORD_VARIABLE, "it's \\ secret")
    assert take(wanted(guarded, "SAFE", topic, security="SASL_SSL", user="alice", ca=ca)) == [b"one", b"two"]
    assert KEY_PASSWORD_VARIABLE.startswith("LLM_FINOPS_")


def test_a_certificate_that_nobody_should_trust(guarded: Broker, topic: str, authority: Authority, tmp_path: Path) -> None:
    ca = authority.for_client(tmp_path, own=False)["ssl_cafile"]
    (tmp_path / "other").mkdir()
    other = Authority().for_client(tmp_path / "other", own=False)["ssl_cafile"]
    for listener, trusted in (("TLS", other), ("EXPIRED", ca)):
        with pytest.raises(SourceError, match=r"no secure connection: .*certificate") as refused:
            take(wanted(guarded, listener, topic, security="SSL", ca=trusted))
        assert "\n" not in str(refused.value)


def test_a_client_without_the_certificate_it_needs(guarded: Broker, topic: str, authority: Authority, tmp_path: Path) -> None:
    ca = authority.for_client(tmp_path, own=False)["ssl_cafile"]
    with pytest.raises(SourceError, match=r"^kafka://[^\n]+$"):
        take(wanted(guarded, "MUTUAL", topic, security="SSL", ca=ca))


def test_a_file_that_is_not_there(guarded: Broker, topic: str) -> None:
    with pytest.raises(SourceError, match=r"no such file|No such file") as refused:
        take(wanted(guarded, "TLS", topic, security="SSL", ca="/no/such/ca.pem"))
    assert "/no/such/ca.pem" in str(refused.value)
