"""Sections of how calls are understood, priced and written."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import (
    AfterValidator,
    ByteSize,
    Field,
    SecretStr,
)

from pipelines.sections.kinds import (
    DEFAULT_HASH_KEY,
    Address,
    Allowed,
    Files,
    FilesOrFolders,
    Key,
    Paths,
    Runners,
    Section,
    Size,
    TagNames,
    Texts,
    Whole,
)


def _topic_address(value: str) -> str:
    if value and not re.fullmatch(r"kafka://[^/@\s]+/[a-zA-Z0-9._-]{1,249}", value):
        raise ValueError("not the address of one topic")
    return value


class DeadLetters(Section):
    """Where dead letters go besides the store."""

    kafka: Annotated[str, AfterValidator(_topic_address), Allowed("kafka://host:9092/topic")] = Field(
        default="", description="Topic that they are also sent to. How to connect is said by `[kafka]`."
    )


class Store(Section):
    """Where results go."""

    to: Address = Field(default="chdb://llm-finops-store", description="The ClickHouse that calls and minutes are written to.")
    password: Annotated[SecretStr, Allowed("a secret")] | None = Field(default=None, description="Password of the store's user.")
    insert_rows: Whole = Field(default=20_000, ge=1, le=10_000_000, description="Rows of one insert, at most.")
    insert_bytes: Size = Field(default=ByteSize(64 << 20), ge=1 << 16, le=1 << 32, description="Bytes of one insert, at most.")
    insert_seconds: Whole = Field(default=10, ge=1, le=3600, description="How long a row waits for its insert to fill, at most.")
    ca: str = Field(default="", description="File of the certificates that vouch for a server over https; empty: the usual ones.")
    certificate: str = Field(default="", description="File of the certificate that this side shows, for mutual TLS.")
    key: str = Field(default="", description="File of the key of that certificate.")
    retries: Whole = Field(default=5, ge=0, le=100, description="How often a failed insert or query is tried again.")
    timeout_seconds: Whole = Field(default=300, ge=1, le=86_400, description="How long to wait for an answer of the store.")


class Decode(Section):
    """How records are understood."""

    keep_payloads: bool = Field(
        default=False, description="Store the text of dead letters, scrubbed of keys. They may hold prompts."
    )
    tenant: Annotated[str, Allowed("a text of 1 to 200 characters")] = Field(
        default="default", min_length=1, max_length=200, description="Tenant of records that name none."
    )
    tags: TagNames = Field(
        default=(),
        description="More tags to take: KIND:NAME or KIND:NAME=TAG, of header, resource, attribute, baggage, label, metadata.",
    )
    mappings: Files = Field(
        default=(), description="Files of mappings, by which logs of your own are read: see `docs/mapping.md`."
    )


class Join(Section):
    """How calls are joined that several records tell of."""

    wait_seconds: Whole = Field(
        default=600, ge=1, le=86_400, description="How long the rest of a call is waited for before it is shown as partial."
    )
    overlap: Texts = Field(
        default=(),
        description="Sources that see the same calls, such as `kafka:gateway`: each call counts once, as the best one tells it.",
    )
    max_bytes: Size = Field(
        default=ByteSize(16 << 20),
        ge=1 << 10,
        le=1 << 30,
        description="Size of a record that was cut into pieces, all of them together, at most.",
    )


class Count(Section):
    """How tokens are counted."""

    cache_mib: Whole = Field(default=64, ge=0, le=65_536, description="Memory per worker for texts already counted, in MiB.")
    hash_key: Key | None = Field(
        default=None, description="Key of the hashes that stand in for texts. Without it a public one is used."
    )

    @property
    def key(self) -> bytes:
        """The configured hash key, else ``DEFAULT_HASH_KEY``."""
        return self.hash_key.get_secret_value().encode() if self.hash_key else DEFAULT_HASH_KEY


class Price(Section):
    """What calls cost."""

    books: Paths = Field(default=(), description="Folders of own prices, which extend and override the ones that come along.")
    contracts: FilesOrFolders = Field(
        default=(), description="Contracts: negotiated prices, discounts and credits, see `docs/contracts.md`."
    )


class Owners(Section):
    """Who owns a call."""

    rules: Files = Field(default=(), description="Files of ownership rules.")


class Terms(Section):
    """When changed prices and ownership rules hold, and how a run that goes on takes them up."""

    watch: bool = Field(default=True, description="A run that follows takes up files of prices and rules that change.")
    lead_seconds: Whole = Field(
        default=30, ge=1, le=86_400, description="How far ahead of the clock changed prices and rules hold, at the earliest."
    )


class Windows(Section):
    """When a minute is complete."""

    early_seconds: Whole = Field(default=10, ge=1, le=3600, description="How often a minute that is still open is shown.")
    late_hours: Whole = Field(
        default=24, ge=1, le=24 * 365, description="How long a minute waits for late calls in a window of its own."
    )
    expected_call_seconds: Whole = Field(
        default=120, ge=1, le=86_400, description="The longest call to expect: logs are written when a call ends."
    )


class Runner(Section):
    """What executes the job."""

    name: Runners = Field(default="local", description="`local` is this process; the others are Apache Beam's.")
    options: Texts = Field(default=(), description="Options for Apache Beam, such as `--parallelism=4`.")
    workers: Whole = Field(
        default=0, ge=0, le=256, description="Processes that read and price, locally; 0: as many as the input is worth."
    )
    epoch_bytes: Size = Field(
        default=ByteSize(512 << 20),
        ge=1 << 16,
        le=1 << 40,
        description="A local run goes on from the last multiple of about this size that it read.",
    )
    wait_seconds: Whole = Field(
        default=0, ge=0, le=7 * 86_400, description="How long to wait for another run on the store to end."
    )
