"""Sections of where calls are read from."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal, cast

from pydantic import (
    AfterValidator,
    ByteSize,
    Field,
    SecretStr,
)

from pipelines.sections.kinds import (
    Allowed,
    Section,
    Size,
    Texts,
    Time,
    Whole,
)


class Source(Section):
    """Where calls are read from."""

    from_: Texts = Field(
        default=(),
        alias="from",
        description="Files, folders and globs to read, of s3://bucket and gs://bucket too; or one of kafka://, logging://, pubsub://.",
    )
    default_time: Time | None = Field(
        default=None, description="Time of calls that carry none; without it the time of their file at first sight."
    )
    max_record_bytes: Size = Field(
        default=ByteSize(16 << 20), ge=1 << 10, le=1 << 30, description="A longer record is a dead letter."
    )
    max_expansion: Whole = Field(
        default=500, ge=1, le=100_000, description="A file that grows past 1 GiB and this many times its size is cut."
    )
    split_bytes: Size = Field(
        default=ByteSize(64 << 20), ge=1 << 16, le=1 << 40, description="A plain file is read in parts of this size."
    )
    list_seconds: Whole = Field(
        default=60, ge=1, le=86_400, description="How often a store of objects is listed with --follow, at most."
    )
    batch_records: Whole = Field(default=1000, ge=1, le=100_000, description="Records that travel together, at most.")
    batch_bytes: Size = Field(
        default=ByteSize(8 << 20),
        ge=1 << 10,
        le=1 << 30,
        description="Size of the records that travel together, at most.",
    )


def _kafka_start(value: str) -> str:
    if value not in ("earliest", "latest", "committed") and datetime.fromisoformat(value).tzinfo is None:
        raise ValueError("a time without its zone")
    return value


def _registry_address(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^@\s]+", value):
        raise ValueError("not the address of a registry")
    return value


class Kafka(Section):
    """How topics are read: `--from kafka://broker:9092/topic`."""

    group: str = Field(default="llm-finops", max_length=249, description="Group that offsets are committed for, as hints.")
    start: Annotated[
        str, AfterValidator(_kafka_start), Allowed("earliest, latest, committed, or a time such as 2025-11-20T00:00:00Z")
    ] = Field(default="earliest", description="Where to begin with a topic that was never read.")
    until: Time | None = Field(
        default=None, description="Read only messages before this time, without --follow; not set: what is there now."
    )
    security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How to connect to the brokers."
    )
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="PLAIN", description="How to log in, with the SASL kinds of security."
    )
    user: str = Field(default="", description="Who logs in.")
    password: Annotated[SecretStr, Allowed("a secret")] | None = Field(default=None, description="Password of the user.")
    ca: str = Field(default="", description="File of the certificates that vouch for the brokers; empty: the system's.")
    certificate: str = Field(default="", description="File of the certificate that this side shows, for mutual TLS.")
    key: str = Field(default="", description="File of the key of that certificate.")
    key_password: Annotated[SecretStr, Allowed("a secret")] | None = Field(default=None, description="Password of the key.")
    check_host: bool = Field(default=True, description="The broker's certificate must have the name of its host.")
    patience_seconds: Whole = Field(
        default=60, ge=1, le=86_400, description="How long to wait for a broker that does not answer; with --follow for ever."
    )
    registry: Annotated[str, AfterValidator(_registry_address), Allowed("https://host:8081")] = Field(
        default="", description="Schema registry that describes values in Avro, JSON or Protobuf."
    )
    registry_user: str = Field(default="", description="Who logs in there.")
    registry_password: Annotated[SecretStr, Allowed("a secret")] | None = Field(default=None, description="Password for it.")
    registry_ca: str = Field(default="", description="Certificates that vouch for the registry; empty: well-known ones.")
    registry_certificate: str = Field(default="", description="File of the certificate that this side shows to the registry.")
    registry_key: str = Field(default="", description="File of the key of that certificate.")

    @property
    def end(self) -> int | None:
        """``until`` in UTC microseconds."""
        return int(self.until.timestamp() * 1_000_000) if self.until else None

    @property
    def begin(self) -> Literal["earliest", "latest", "committed"] | int:
        """``start``, a time in UTC microseconds."""
        if self.start in ("earliest", "latest", "committed"):
            return cast("Literal['earliest', 'latest', 'committed']", self.start)
        return int(datetime.fromisoformat(self.start).timestamp() * 1_000_000)


class CloudLogging(Section):
    """How logs of Google Cloud are read: `--from logging://projects/my-project`."""

    filter: str = Field(default="", max_length=20_000, description="Which entries, in the service's query language; empty: all.")
    start: Time | None = Field(
        default=None, description="Time of receipt to begin with where nothing was read; not set: a day ago."
    )
    until: Time | None = Field(
        default=None, description="Read only what was received before this time, without --follow; not set: what is there now."
    )
    sweep_seconds: Whole = Field(default=10, ge=1, le=3600, description="How often new entries are asked for, with --follow.")
    overlap_seconds: Whole = Field(
        default=300, ge=10, le=86_400, description="How long after its receipt an entry may appear: then its time is read again."
    )
    reads_per_minute: Whole = Field(
        default=45, ge=1, le=10_000, description="Reads of up to 1,000 entries a minute; a project has a quota of 60."
    )
    tail: bool = Field(default=False, description="Also hold a stream open, which brings most entries within seconds.")
    endpoint: str = Field(default="", description="Host and port of the service; empty: the public ones.")
    patience_seconds: Whole = Field(
        default=60, ge=1, le=86_400, description="How long to wait for a service that does not answer; with --follow for ever."
    )


class PubSub(Section):
    """How a subscription is read: `--follow --from pubsub://projects/my-project/subscriptions/name`."""

    max_messages: Whole = Field(
        default=20_000, ge=1, le=1_000_000, description="Messages that a run holds at once, at most, until they are written."
    )
    max_bytes: Size = Field(default=ByteSize(256 << 20), ge=1 << 20, le=1 << 36, description="Their size, at most.")
    patience_seconds: Whole = Field(
        default=60, ge=1, le=86_400, description="How long to wait for a service that does not answer; with --follow for ever."
    )
