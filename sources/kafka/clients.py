"""Clients of kafka-python: how they are made, and what their errors mean to a person."""

from __future__ import annotations

import logging
import os
from collections import deque
from contextlib import suppress
from typing import Any, Final

from sources.files import SourceError
from sources.kafka.settings import KEY_PASSWORD_VARIABLE, PASSWORD_VARIABLE, KafkaSettings


class _Heard(logging.Handler):
    """What kafka-python says of its connections: why it was not let in, its errors do not tell, and it tries again in silence."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: deque[str] = deque(maxlen=50)

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(Exception):
            self.said.append(record.getMessage())


_heard: Final = _Heard()


def listen() -> None:
    """Hear the client's warnings, which nobody else is to be shown; forget those of before."""
    logger = logging.getLogger("kafka")
    if _heard not in logger.handlers:
        logger.addHandler(_heard)
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    _heard.said.clear()


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """What every client of kafka-python is given."""
    given: dict[str, Any] = {
        "bootstrap_servers": list(settings.brokers),
        "client_id": "llm-finops",
        "security_protocol": settings.security,
        "bootstrap_timeout_ms": int(min(settings.patience_s, 30) * 1000),
    }
    if settings.security.startswith("SASL"):
        given |= {
            "sasl_mechanism": settings.mechanism or "PLAIN",
            "sasl_plain_username": settings.user,
            "sasl_plain_password": os.environ.get(PASSWORD_VARIABLE, ""),
        }
    if settings.security.endswith("SSL"):
        for name, file in (("ca", settings.ca), ("certificate", settings.certificate), ("key", settings.key)):
            if file and not os.access(file, os.R_OK):
                raise SourceError(f"kafka.{name} = {file}: no such file, or it cannot be read")
        given |= {
            "ssl_check_hostname": settings.check_host,
            "ssl_cafile": settings.ca or None,
            "ssl_certfile": settings.certificate or None,
            "ssl_keyfile": settings.key or None,
            "ssl_password": os.environ.get(KEY_PASSWORD_VARIABLE) or None,
        }
    return given


def connected(settings: KafkaSettings) -> dict[str, Any]:
    """What a client of others is given; its warnings are heard from now on, so that ``why`` can tell what they mean."""
    listen()
    return connection(settings)


def why(settings: KafkaSettings, error: Exception) -> str:
    """What to tell a person of an error of such a client."""
    return str(error if isinstance(error, SourceError) else explained(error, settings))


def refuse_errors(topic: str, code: int) -> None:
    """A topic that is not there has no partitions; any other error is the broker's word."""
    from kafka import errors

    if code and code != errors.UnknownTopicOrPartitionError.errno:
        raise errors.for_code(code)(topic)


def explained(error: Exception, settings: KafkaSettings) -> SourceError:
    """One line that says what a person can do about ``error``."""
    from kafka import errors

    said = one_line(error)
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and len(chain) < 8:
        if not isinstance(cause, Exception):
            break
        chain.append(cause)
    lost = isinstance(error, errors.KafkaTimeoutError | errors.KafkaConnectionError)
    told = [f"{type(each).__name__}: {each}" for each in chain] + (list(reversed(_heard.said)) if lost else [])
    if any("SaslAuthenticationFailed" in line for line in told):
        said = f"user or password refused; set kafka.user and {PASSWORD_VARIABLE}"
    elif settings.security == "SASL_PLAINTEXT" and any("socket disconnected" in line for line in told):
        # A broker may close the connection before its refusal is read.
        said = f"the broker hung up, most likely user or password refused; set kafka.user and {PASSWORD_VARIABLE}"
    elif tls := next((line for line in told if "SSL" in line or "certificate" in line.lower()), ""):
        said = f"no secure connection: {one_line(tls)}"
    elif any(isinstance(each, errors.AuthorizationError) for each in chain):
        said = f"not allowed: {said}"
    elif any(isinstance(each, errors.KafkaTimeoutError | errors.KafkaConnectionError | OSError) for each in chain):
        refused = next((line.partition("failed: ")[2] for line in told if "Connection failed: " in line), "")
        said = f"unreachable: {one_line(refused) if refused else said}"
    return SourceError(f"{settings}: {said}")


def one_line(said: BaseException | str) -> str:
    text = said if isinstance(said, str) else f"{type(said).__name__}: {said}"
    return " ".join(text.split())[:300]
