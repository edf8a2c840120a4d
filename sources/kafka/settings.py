"""Which topics, and how to log in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

from sources.files import SourceError

PASSWORD_VARIABLE: Final = "LLM_FINOPS_KAFKA__PASSWORD"
KEY_PASSWORD_VARIABLE: Final = "LLM_FINOPS_KAFKA__KEY_PASSWORD"
REGISTRY_PASSWORD_VARIABLE: Final = "LLM_FINOPS_KAFKA__REGISTRY_PASSWORD"
"""Environment variables that hold secrets, here and on every worker: they are no part of a job's graph."""


@dataclass(frozen=True)
class KafkaSettings:
    """Which topics of which cluster, how to log in, and how much to take at once.

    ``start`` is where to begin with a topic that was never read: ``earliest``, ``latest``, ``committed`` (by ``group``; the
    earliest where nothing is), or a time in UTC microseconds. A read that ends ends before the first record of the time ``until``
    or a later one, if it is given. ``patience_s``: how long a read waits for a broker that does not
    answer, or for the schema ``registry`` that describes values. Passwords come from the environment of each process.
    """

    brokers: tuple[str, ...]
    topics: tuple[str, ...]
    group: str = "llm-finops"
    start: Literal["earliest", "latest", "committed"] | int = "earliest"
    security: str = "PLAINTEXT"  # PLAINTEXT | SSL | SASL_PLAINTEXT | SASL_SSL
    mechanism: str = ""  # PLAIN | SCRAM-SHA-256 | SCRAM-SHA-512
    user: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    check_host: bool = True
    max_record_bytes: int = 16 << 20
    batch_records: int = 1000
    batch_bytes: int = 8 << 20
    patience_s: float = 60.0
    until: int | None = None
    registry: str = ""
    registry_user: str = ""
    registry_ca: str = ""
    registry_certificate: str = ""
    registry_key: str = ""

    def __str__(self) -> str:
        return f"kafka://{','.join(self.brokers)}/{','.join(self.topics)}"


def is_address(text: str) -> bool:
    """Whether an input names a Kafka cluster rather than files."""
    return text.startswith("kafka://")


def parse(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Brokers and topics of ``kafka://host:9092,host2:9092/topic,topic2``.

    Raises:
        SourceError: a part is missing, or it holds a password.
    """
    url = urlsplit(text)
    if "@" in url.netloc:
        raise SourceError(f"user and password do not belong into the address; set kafka.user and {PASSWORD_VARIABLE}")
    brokers = tuple(broker if ":" in broker else f"{broker}:9092" for broker in url.netloc.split(",") if broker)
    topics = tuple(dict.fromkeys(topic for topic in url.path.strip("/").split(",") if topic))
    if not brokers or not topics:
        raise SourceError(f"{text}: name brokers and topics, for example kafka://localhost:9092/llm-calls")
    return brokers, topics
