"""The settings themselves: sections, keys, what each may be, its default and its meaning.

``pipelines.settings`` fills them from their sources.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

PREFIX: Final = "LLM_FINOPS_"
HASH_KEY_VARIABLE: Final = "LLM_FINOPS_HASH_KEY"
PASSWORD_VARIABLE: Final = "LLM_FINOPS_STORE__PASSWORD"

DEFAULT_HASH_KEY: Final = b"llm-finops: no hash key was configured"
"""Used where no key is set, so that hashes stay equal from run to run. It is public: with it anyone can test whether a
guessed text is behind a hash, so ``doctor`` warns about it."""

Runners = Literal["local", "PrismRunner", "FlinkRunner", "PortableRunner", "DataflowRunner"]


@dataclass(frozen=True)
class _Allowed:
    """What a value may be, in words; for types that do not say it by themselves. ``shown``: no error hides it."""

    words: str
    shown: bool = True


def _one_is_a_list(value: object) -> object:
    return [value] if isinstance(value, str | Path) else value


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("not a number")
    return value


def _written_time(value: object) -> object:
    """A bare number is refused: 20251120 would be taken for seconds since 1970."""
    if isinstance(value, int | float) or (isinstance(value, str) and "-" not in value[1:]):
        raise ValueError("not a time")
    return value


def _store_address(value: str) -> str:
    scheme, mark, rest = value.partition("://")
    if not mark or not rest or scheme not in ("chdb", "http", "https", "clickhouse", "clickhouses"):
        raise ValueError("not the address of a store")
    if scheme != "chdb" and ":" in rest.rpartition("@")[0]:
        raise ValueError(f"a password does not belong here; set {PASSWORD_VARIABLE}")
    return value


def _tag_names(value: tuple[str, ...]) -> tuple[str, ...]:
    if value:
        from transforms.decode.named_tags import named_tag  # with all decoders, which reading settings does not need
    for each in value:
        named_tag(each)
    return value


def _hash_key(value: SecretStr) -> SecretStr:
    if not 16 <= len(value.get_secret_value().encode()) <= 64:
        raise ValueError("a key has 16 to 64 bytes")
    return value


def _dated_keys(text: str) -> tuple[tuple[int, bytes], ...]:
    """``KEY`` or ``DATE=KEY`` between commas or spaces, in order of time."""
    found: dict[int, bytes] = {}
    for item in re.split(r"[\s,]+", text.strip()):
        dated = re.fullmatch(r"(\d{4}-\d\d-\d\d)=(.*)", item)
        at = int(datetime.fromisoformat(dated[1]).replace(tzinfo=UTC).timestamp()) * 1_000_000 if dated else 0
        key = (dated[2] if dated else item).encode()
        if not 16 <= len(key) <= 64:
            raise ValueError("a key has 16 to 64 bytes, without commas and spaces")
        if at in found:
            raise ValueError("two keys hold from the same date" if dated else "only one key may be without a date")
        found[at] = key
    return tuple(sorted(found.items()))


def _pseudonym_keys(value: SecretStr) -> SecretStr:
    _dated_keys(value.get_secret_value())
    return value


Texts = Annotated[tuple[str, ...], BeforeValidator(_one_is_a_list), _Allowed("a list of texts")]
TagNames = Annotated[Texts, AfterValidator(_tag_names), _Allowed("a list of KIND:NAME or KIND:NAME=TAG")]
Paths = Annotated[tuple[Path, ...], BeforeValidator(_one_is_a_list), _Allowed("a list of folders")]
Files = Annotated[tuple[Path, ...], BeforeValidator(_one_is_a_list), _Allowed("a list of files")]
Whole = Annotated[int, BeforeValidator(_no_bool)]
Size = Annotated[ByteSize, BeforeValidator(_no_bool)]
Time = Annotated[AwareDatetime, BeforeValidator(_written_time), _Allowed("a time with its zone, such as 2025-11-20T00:00:00Z")]
Address = Annotated[str, AfterValidator(_store_address), _Allowed("chdb://folder or http[s]://[user@]host[:port][/database]")]
Key = Annotated[SecretStr, AfterValidator(_hash_key), _Allowed("a secret of 16 to 64 bytes")]

Keys = Annotated[SecretStr, AfterValidator(_pseudonym_keys), _Allowed("KEY, or KEY,DATE=KEY,… with keys of 16 to 64 bytes")]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, hide_input_in_errors=True)


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


def _topic_address(value: str) -> str:
    if value and not re.fullmatch(r"kafka://[^/@\s]+/[a-zA-Z0-9._-]{1,249}", value):
        raise ValueError("not the address of one topic")
    return value


def _registry_address(value: str) -> str:
    if value and not re.fullmatch(r"https?://[^@\s]+", value):
        raise ValueError("not the address of a registry")
    return value


class Kafka(Section):
    """How topics are read: `--from kafka://broker:9092/topic`."""

    group: str = Field(default="llm-finops", max_length=249, description="Group that offsets are committed for, as hints.")
    start: Annotated[
        str, AfterValidator(_kafka_start), _Allowed("earliest, latest, committed, or a time such as 2025-11-20T00:00:00Z")
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
    password: Annotated[SecretStr, _Allowed("a secret")] | None = Field(default=None, description="Password of the user.")
    ca: str = Field(default="", description="File of the certificates that vouch for the brokers; empty: the system's.")
    certificate: str = Field(default="", description="File of the certificate that this side shows, for mutual TLS.")
    key: str = Field(default="", description="File of the key of that certificate.")
    key_password: Annotated[SecretStr, _Allowed("a secret")] | None = Field(default=None, description="Password of the key.")
    check_host: bool = Field(default=True, description="The broker's certificate must have the name of its host.")
    patience_seconds: Whole = Field(
        default=60, ge=1, le=86_400, description="How long to wait for a broker that does not answer; with --follow for ever."
    )
    registry: Annotated[str, AfterValidator(_registry_address), _Allowed("https://host:8081")] = Field(
        default="", description="Schema registry that describes values in Avro, JSON or Protobuf."
    )
    registry_user: str = Field(default="", description="Who logs in there.")
    registry_password: Annotated[SecretStr, _Allowed("a secret")] | None = Field(default=None, description="Password for it.")
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


class DeadLetters(Section):
    """Where dead letters go besides the store."""

    kafka: Annotated[str, AfterValidator(_topic_address), _Allowed("kafka://host:9092/topic")] = Field(
        default="", description="Topic that they are also sent to. How to connect is said by `[kafka]`."
    )


class Store(Section):
    """Where results go."""

    to: Address = Field(default="chdb://llm-finops-store", description="The ClickHouse that calls and minutes are written to.")
    password: Annotated[SecretStr, _Allowed("a secret")] | None = Field(default=None, description="Password of the store's user.")
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
    tenant: Annotated[str, _Allowed("a text of 1 to 200 characters")] = Field(
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


class Metrics(Section):
    """How a run is watched: `/metrics` for Prometheus, `/health`."""

    host: str = Field(default="127.0.0.1", min_length=1, description="Address that a run answers at.")
    port: Whole = Field(default=0, ge=0, le=65_535, description="Port that a run answers at; 0: it does not.")
    stalled_seconds: Whole = Field(
        default=120, ge=1, le=86_400, description="A run that follows is not well when nothing was done for so long."
    )
    behind_seconds: Whole = Field(
        default=900, ge=1, le=30 * 86_400, description="Nor when more waits and the watermark is older than this."
    )


class Log(Section):
    """What is written to standard error."""

    format: Literal["text", "json"] = Field(default="text", description="Lines for a person, or one JSON object each.")


class ServeUser(Section):
    """A user of ``llm-finops serve``, as the configuration names it."""

    name: str = Field(min_length=1, max_length=64, pattern=r"^[^:\s]+$")
    role: Literal["reader", "writer"]
    password_env: str = Field(default="", pattern=r"^([A-Za-z_]\w*)?$")
    password_sha256: str = Field(default="", pattern=r"^([0-9a-fA-F]{64})?$", repr=False)
    tenants: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _makes_sense(self) -> ServeUser:
        if bool(self.password_env) == bool(self.password_sha256):
            raise ValueError(f"{self.name} needs one of password_env and password_sha256")
        if self.password_env.startswith(PREFIX):
            raise ValueError(f"{self.name}: variables {PREFIX}… are settings; choose another for its password")
        if "tenants" in self.model_fields_set and not self.tenants:
            raise ValueError(f"{self.name}: name the tenants, or leave them out for all")
        if self.tenants and self.role != "reader":
            raise ValueError(f"{self.name}: only a reader is held to tenants")
        return self


def _distinct(users: tuple[ServeUser, ...]) -> tuple[ServeUser, ...]:
    if len({user.name for user in users}) != len(users):
        raise ValueError("two users have one name")
    return users


Users = Annotated[
    tuple[ServeUser, ...],
    AfterValidator(_distinct),
    _Allowed("a list of users, see [serve.md](serve.md)", shown=False),
]


class Serve(Section):
    """Who `llm-finops serve` lets in, and how much a query of a reader may use."""

    host: str = Field(default="127.0.0.1", min_length=1, max_length=255, description="Address to listen on.")
    port: Whole = Field(default=8123, ge=0, le=65_535, description="Port to listen on; 0: any that is free.")
    users: Users = Field(default=(), description="Who may log in, with which role.")
    max_seconds: Whole = Field(default=60, ge=1, le=86_400, description="How long a query of a reader may take.")
    max_memory: Size = Field(
        default=ByteSize(2 << 30), ge=1 << 20, le=1 << 40, description="Memory that a query of a reader may use."
    )
    max_result_rows: Whole = Field(default=10_000_000, ge=1, le=10**12, description="Rows of one result, at most.")
    max_result_bytes: Size = Field(
        default=ByteSize(1 << 30), ge=1 << 10, le=1 << 40, description="Size of one result in memory, at most."
    )
    max_queries: Whole = Field(default=8, ge=1, le=1000, description="Queries of readers at once, and of writers; more wait.")
    max_body_bytes: Size = Field(default=ByteSize(512 << 20), ge=1 << 20, le=1 << 36, description="Size of one insert, at most.")
    stop_seconds: Whole = Field(
        default=10, ge=0, le=3600, description="How long queries may go on once the server is told to stop."
    )



Days = Annotated[int, BeforeValidator(_no_bool), Field(ge=0, le=3650)]


class Retention(Section):
    """For how many days rows are kept, by table, after the day they belong to; 0: for good."""

    calls: Days = Field(default=0, description="Calls, by their event time. Minutes older than this are closed.")
    receipts: Days = Field(default=90, description="Receipts, by when they were written.")
    dead_letters: Days = Field(default=90, description="Dead letters, by when they were written.")
    minutes: Days = Field(default=0, description="Sums by minute; no shorter than calls.")
    hours: Days = Field(default=0, description="Sums by hour; no shorter than minutes.")
    days: Days = Field(default=0, description="Sums by day; no shorter than hours.")
    runs: Days = Field(default=400, description="What runs read, by their start.")
    parts: Days = Field(default=2, description="Parts of calls, by when they were written: how late a part may come.")

    @field_validator("minutes", "hours", "days")
    @classmethod
    def _no_shorter(cls, value: int, info: ValidationInfo) -> int:
        below = {"minutes": "calls", "hours": "minutes", "days": "hours"}[str(info.field_name)]
        days = info.data.get(below, 0)
        if value and (not days or value < days):
            raise ValueError(f"{below} are kept {f'{days:,} days' if days else 'for good'}, and what is made of them no shorter")
        return value


class Privacy(Section):
    """How people are kept out of the store."""

    pseudonym_keys: Keys | None = Field(
        default=None,
        description="Keys of the hashes that stand in for end users: one, or several with the date from which each holds.",
    )

    @property
    def keys(self) -> tuple[tuple[int, bytes], ...]:
        """Each key with its first instant in UTC microseconds; the first one stands for all time before it, too."""
        return _dated_keys(self.pseudonym_keys.get_secret_value()) if self.pseudonym_keys else ()


class Settings(Section):
    """All settings; see ``load``."""

    source: Source = Source()
    kafka: Kafka = Kafka()
    cloud_logging: CloudLogging = CloudLogging()
    pubsub: PubSub = PubSub()
    store: Store = Store()
    dead_letters: DeadLetters = DeadLetters()
    decode: Decode = Decode()
    join: Join = Join()
    count: Count = Count()
    price: Price = Price()
    owners: Owners = Owners()
    terms: Terms = Terms()
    windows: Windows = Windows()
    runner: Runner = Runner()
    metrics: Metrics = Metrics()
    log: Log = Log()
    serve: Serve = Serve()
    retention: Retention = Retention()
    privacy: Privacy = Privacy()


def fields() -> dict[str, FieldInfo]:
    """Every setting by its key, such as ``store.to``."""
    return {
        f"{section}.{field.alias or name}": field
        for section, holder in Settings.model_fields.items()
        for name, field in section_of(holder).model_fields.items()
    }


def section_of(field: FieldInfo) -> type[BaseModel]:
    """The model of a section."""
    assert isinstance(field.annotation, type)
    assert issubclass(field.annotation, BaseModel)
    return field.annotation


def variable(key: str) -> str:
    """The environment variable of a key."""
    return HASH_KEY_VARIABLE if key == "count.hash_key" else PREFIX + key.replace(".", "__").upper()


def is_secret(field: FieldInfo) -> bool:
    """It comes only from the environment and is never shown."""
    return SecretStr in {kind for kind, _ in types(field.annotation, ())}


def types(annotation: Any, marks: tuple[Any, ...]) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """The types an annotation is made of, each with its marks, without ``Annotated``, ``None`` and unions."""
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        yield from types(inner, (*marks, *more))
    elif origin in (Union, UnionType):
        for part in get_args(annotation):
            yield from types(part, marks)
    elif annotation is not type(None):
        yield annotation, marks


def allowed(field: FieldInfo) -> str:
    """What a value may be, in words."""
    kind, marks = next(types(field.annotation, tuple(field.metadata)))
    if words := _words(field):
        return words.words
    if kind is bool:
        return "true or false"
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    if kind is str:
        return "a text"
    low = next(mark.ge for mark in marks if hasattr(mark, "ge"))
    high = next(mark.le for mark in marks if hasattr(mark, "le"))
    if kind is ByteSize:
        return f"a size from {_size(low)} to {_size(high)}"
    return f"a whole number from {low:,} to {high:,}"


def is_shown(field: FieldInfo) -> bool:
    """Its value may be in an error: it holds no secret, nor the hash of one."""
    words = _words(field)
    return not is_secret(field) and (words is None or words.shown)


def is_table(field: FieldInfo) -> bool:
    """It is a list of tables, which has its place in the file (or a variable, as JSON) and not on a command line."""
    return field.annotation is not None and "ServeUser" in str(field.annotation)


def _words(field: FieldInfo) -> _Allowed | None:
    _, marks = next(types(field.annotation, tuple(field.metadata)))
    return next((mark for mark in marks if isinstance(mark, _Allowed)), None)


def default_text(field: FieldInfo) -> str:
    """The default as a person would write it."""
    value = field.default
    if value in (None, (), ""):
        return "none"
    if isinstance(value, ByteSize):
        return _size(value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:_}" if isinstance(value, int) and value >= 10_000 else str(value)


def _size(number: Any) -> str:
    return ByteSize(int(number)).human_readable(separator=" ").replace(".0 ", " ")
