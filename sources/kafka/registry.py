"""Values that a schema registry describes: which schema, then Avro, JSON or Protobuf.

The schema is named before the value, by a zero byte and its id in four bytes, or in the header ``__value_schema_id`` of the
message, by a byte 1 and its GUID in sixteen:
https://docs.confluent.io/platform/current/schema-registry/fundamentals/serdes-develop/index.html#wire-format. Values are decoded
here, where they are read, with Confluent's client (the extra ``registry``), and handed on as JSON. Each process asks for a schema
once.
"""

from __future__ import annotations

import base64
import importlib
import io
import os
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import orjson

from sources.files import SourceError
from sources.kafka.settings import REGISTRY_PASSWORD_VARIABLE, KafkaSettings

HEADER: Final = "__value_schema_id"
"""The header of a message that names the schema of its value."""

UNKNOWN_S: Final = 60.0
"""How long an id that the registry does not know is not asked for again."""

_HEAD: Final = 5
_HEAD_OF_GUID: Final = 17
"""Bytes that name a schema: the mark, and its id or GUID. In Protobuf the place of the message among the schema's follows."""

_MOST_PATIENCE_S: Final = 10.0
_MAX_SCHEMAS: Final = 1000
_KNOWN_FILES: Final = ("google/protobuf/", "google/type/", "confluent/")

Decode = Callable[[bytes], bytes]
"""A framed value to JSON. Raises anything for one that is not of its schema."""

_Id = int | str
"""What names a schema: its id, or its GUID as text."""


class Unreadable(Exception):
    """A framed value that cannot be decoded, and why in one line: it becomes a dead letter."""


class Unreachable(SourceError):
    """The registry does not answer; it may later."""


def is_framed(value: bytes) -> bool:
    """Whether a value may be framed: no other that is read begins with a zero byte."""
    return value[:1] == b"\0" and len(value) >= _HEAD


def decoded(value: bytes, settings: KafkaSettings, named: bytes = b"") -> bytes:
    """A framed value as JSON. ``named``: what the header ``HEADER`` says; the value then has nothing before it.

    Raises:
        Unreadable: no registry is set, or its client not installed; it does not know the id; the value is not of its schema;
            the header names no schema.
        Unreachable: the registry does not answer.
        SourceError: it refuses the user or password, or a file of the settings cannot be read.
    """
    schema, head = _schema_of(named or value)
    if not settings.registry:
        if named and _is_json(value):  # as it is, whatever its schema
            return value
        raise Unreadable(f"schema {schema}: set kafka.registry to the address of its schema registry")
    return _registry(settings).decoder(schema, head)(named + value)


def _schema_of(value: bytes) -> tuple[_Id, int]:
    """The schema that these bytes name, and how many of them do."""
    if value[:1] == b"\0" and len(value) >= _HEAD:
        return int.from_bytes(value[1:_HEAD], "big"), _HEAD
    if value[:1] == b"\1" and len(value) >= _HEAD_OF_GUID:
        return str(uuid.UUID(bytes=value[1:_HEAD_OF_GUID])), _HEAD_OF_GUID
    said = value[:20].hex(" ")
    raise Unreadable(f"the header {HEADER} names no schema: 0 and an id of 4 bytes, or 1 and a GUID of 16, not {said}")


def _is_json(value: bytes) -> bool:
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError:
        return False
    return True


class _Registry:
    """Decoders of the schemas of one registry, made when they are first needed."""

    def __init__(self, settings: KafkaSettings) -> None:
        client = _client_class()
        self._settings = settings
        given = _connection(settings)
        try:
            self._client = client(given)
            self._serialized = client(given)  # its own cache: a schema has one form in each
        except (OSError, ValueError) as error:
            raise SourceError(f"{settings.registry}: {_one_line(error)}") from None
        self._lock = threading.Lock()
        self._decoders: dict[_Id, Decode] = {}
        self._unknown: dict[_Id, float] = {}

    def decoder(self, schema: _Id, head: int) -> Decode:
        """What decodes values of a schema, which are named by their first ``head`` bytes."""
        known = self._decoders.get(schema)
        if known is not None:
            return known
        with self._lock:
            if time.monotonic() - self._unknown.get(schema, -UNKNOWN_S) < UNKNOWN_S:
                raise Unreadable(f"schema {schema}: {self._settings.registry} does not know it")
            try:
                known = self._decoder(schema, head)
            except Exception as error:
                raise self._explained(error, schema, "it cannot be used") from error
            if len(self._decoders) >= _MAX_SCHEMAS:
                self._decoders.clear()
            self._decoders[schema] = known
            return known

    def close(self) -> None:
        for client in (self._client, self._serialized):
            with suppress(Exception):
                client.close()

    def _decoder(self, named: _Id, head: int) -> Decode:
        try:
            schema = _asked(self._client, named)
        except (ValueError, TypeError, KeyError, AttributeError):  # what the client makes of an answer that is no schema
            raise SourceError(f"{self._settings.registry}: answers no schema; is it the address of a registry?") from None
        kind = schema.schema_type or "AVRO"
        if kind == "AVRO":
            decode = _avro(self._client)
        elif kind == "PROTOBUF":
            decode = _protobuf(self._serialized, _asked(self._serialized, named, "serialized"))
        elif kind == "JSON":
            decode = _json(head)
        else:
            raise Unreadable(f"schema {named}: its type {kind} is not read")

        def explained(value: bytes) -> bytes:
            try:
                return decode(value)
            except Exception as error:
                raise self._explained(error, named, "the value is not of it") from error

        return explained

    def _explained(self, error: Exception, schema: _Id, wrong: str) -> Exception:
        """What an error of the client or of a decoder means; ``wrong``, if it is not the registry's."""
        from confluent_kafka.schema_registry.error import SchemaRegistryError

        where = self._settings.registry
        if isinstance(error, Unreadable | SourceError):
            return error
        if isinstance(error, SchemaRegistryError):
            return self._refused(error, schema)
        if any(kind.__name__ == "TransportError" for kind in type(error).__mro__):  # of httpx, or httpx2
            said = _one_line(error)
            kind = "no secure connection" if "SSL" in said or "certificate" in said else "unreachable"
            return Unreachable(f"{where}: {kind}: {said}")
        return Unreadable(f"schema {schema}: {wrong}: {_one_line(error)}")

    def _refused(self, error: Any, schema: _Id) -> Exception:
        """What an error means that the registry answers with: https://docs.confluent.io/platform/current/schema-registry/develop/api.html."""
        where, status = self._settings.registry, error.http_status_code
        if status in (401, 403):
            _forget(self._settings)  # the next attempt takes the password that the environment has then
            said = f"user or password refused; set kafka.registry_user and {REGISTRY_PASSWORD_VARIABLE}"
            return SourceError(f"{where}: {said}")
        if status == 404 and error.error_code in (40401, 40402, 40403):
            self._unknown[schema] = time.monotonic()
            return Unreadable(f"schema {schema}: {where} does not know it, or one that it refers to")
        if status == 404 and isinstance(schema, str):  # registries of before there were GUIDs
            self._unknown[schema] = time.monotonic()
            older = "it needs a newer registry, or its address is wrong"
            return Unreadable(f"schema {schema}: {where} has no schemas by GUID; {older}")
        if status == 404:
            return SourceError(f"{where}: answers 404; is it the address of a registry?")
        if status < 500 and status not in (408, 429):
            return Unreadable(f"schema {schema}: {where} refuses: {_one_line(error)}")
        return Unreachable(f"{where}: unreachable: {_one_line(error)}")


def _client_class() -> Any:
    """Confluent's client, which keeps what it is told of a GUID even where the answer does not repeat it."""
    from confluent_kafka.schema_registry import SchemaRegistryClient

    class Client(SchemaRegistryClient):  # type: ignore[misc]
        def __init__(self, given: dict[str, Any]) -> None:
            super().__init__(given)
            self._by_guid: dict[str, Any] = {}

        def get_schema_by_guid(self, guid: str, fmt: str | None = None) -> Any:
            known = self._by_guid.get(guid)
            if known is None:
                if len(self._by_guid) >= _MAX_SCHEMAS:
                    self._by_guid.clear()
                known = self._by_guid[guid] = super().get_schema_by_guid(guid, fmt)
            return known

    return Client


def _asked(client: Any, named: _Id, form: str | None = None) -> Any:
    """A schema of the registry, in one form of its type."""
    return client.get_schema_by_guid(named, form) if isinstance(named, str) else client.get_schema(named, fmt=form)


def _connection(settings: KafkaSettings) -> dict[str, Any]:
    """What Confluent's client is given. Attempts are repeated by who reads, not by the client."""
    files = {
        "ssl.ca.location": ("registry_ca", settings.registry_ca),
        "ssl.certificate.location": ("registry_certificate", settings.registry_certificate),
        "ssl.key.location": ("registry_key", settings.registry_key),
    }
    given: dict[str, Any] = {
        "url": settings.registry,
        "max.retries": 0,
        "timeout": min(settings.patience_s, _MOST_PATIENCE_S),
    }
    for key, (name, file) in files.items():
        if file and not os.access(file, os.R_OK):
            raise SourceError(f"kafka.{name} = {file}: no such file, or it cannot be read")
        if file:
            given[key] = file
    if settings.registry_user:
        given["basic.auth.user.info"] = f"{settings.registry_user}:{os.environ.get(REGISTRY_PASSWORD_VARIABLE, '')}"
    return given


def _avro(client: Any) -> Decode:
    from confluent_kafka.schema_registry.avro import AvroDeserializer

    read = AvroDeserializer(client, conf={"subject.name.strategy": lambda _context, _name: None})
    return lambda value: orjson.dumps(read(value, None), default=_plain)


def _json(head: int) -> Decode:
    """The value as it was written: numbers of any length stay what they are."""
    return lambda value: value[head:]


def _protobuf(client: Any, schema: Any) -> Decode:
    """Messages by the descriptor that the registry serves, so that no generated class is needed."""
    from confluent_kafka.schema_registry.serde import SchemaId
    from google.protobuf import descriptor_pool, json_format, message_factory

    pool = descriptor_pool.DescriptorPool()
    name = "value.proto"
    _add_file(pool, client, schema, name, set())
    file = pool.FindFileByName(name)
    types = list(file.message_types_by_name.values())

    def decode(value: bytes) -> bytes:
        schema_id = SchemaId("PROTOBUF")
        rest: io.BytesIO = schema_id.from_bytes(io.BytesIO(value))
        first, *inner = schema_id.message_indexes
        kind = types[first]
        for index in inner:
            kind = kind.nested_types[index]
        message = message_factory.GetMessageClass(kind).FromString(rest.read())
        text: str = json_format.MessageToJson(message, preserving_proto_field_name=True, indent=None, ensure_ascii=False)
        return text.encode()

    return decode


def _add_file(pool: Any, client: Any, schema: Any, name: str, added: set[str]) -> None:
    """Add a file to the pool, after those that it imports: by the schema's references, or one that comes with a library."""
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    file = FileDescriptorProto.FromString(base64.b64decode(schema.schema_str))
    file.name = name
    added.add(name)
    for reference in schema.references or ():
        if reference.name not in added:
            inner = client.get_version(reference.subject, reference.version, True, "serialized").schema
            _add_file(pool, client, inner, reference.name, added)
    for imported in file.dependency:
        if imported not in added and imported.startswith(_KNOWN_FILES):
            _add_known(pool, imported, added)
    pool.Add(file)


def _add_known(pool: Any, name: str, added: set[str]) -> None:
    from google.protobuf.descriptor_pb2 import FileDescriptorProto

    place = "confluent_kafka.schema_registry." if name.startswith("confluent/") else ""
    known = importlib.import_module(place + name.removesuffix(".proto").replace("/", ".") + "_pb2").DESCRIPTOR
    added.add(name)
    for inner in known.dependencies:
        if inner.name not in added:
            _add_known(pool, inner.name, added)
    file = FileDescriptorProto()
    known.CopyToProto(file)
    file.name = name
    pool.Add(file)


def _plain(value: Any) -> Any:
    """What JSON has no form for: decimals as their digits, bytes as text where they are some, else as base64."""
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, bytes | bytearray):
        try:
            return bytes(value).decode()
        except UnicodeDecodeError:
            return base64.b64encode(value).decode()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


_REGISTRIES: Final[dict[KafkaSettings, _Registry]] = {}
_LOCK: Final = threading.Lock()


def _registry(settings: KafkaSettings) -> _Registry:
    with _LOCK:
        known = _REGISTRIES.get(settings)
        if known is None:
            try:
                known = _Registry(settings)
            except ImportError as missing:
                said = f"{missing.name or 'its client'} is not installed; pip install 'llm-finops[registry]'"
                raise Unreadable(f"a schema of {settings.registry}: {said}") from None
            _REGISTRIES[settings] = known
        return known


def _forget(settings: KafkaSettings) -> None:
    with _LOCK:
        known = _REGISTRIES.pop(settings, None)
    if known is not None:
        known.close()


def hang_up() -> None:
    """Forget every registry of this process."""
    for settings in list(_REGISTRIES):
        _forget(settings)
