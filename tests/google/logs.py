"""Cloud Logging, as its published interface describes it (google.logging.v2.LoggingServiceV2), for one project.

Entries are shown some time after they are received; lists are in order of the entries' time, in pages; reads have a quota; a tail
brings entries as they are received, except those it suppresses. Who asks must show a token that the service account's key signed.
"""

from __future__ import annotations

import json
import queue
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt
from google.cloud.logging_v2.types import (
    ListLogEntriesRequest,
    ListLogEntriesResponse,
    LogEntry,
    TailLogEntriesRequest,
    TailLogEntriesResponse,
)
from google.protobuf.json_format import ParseDict

from tests.google.serving import Faults, serving, streaming, unary
from tests.kafka.certificates import Authority

PROJECT = "projects/acme"
_COMPARISON = re.compile(r'(\w+)\s*(>=|<=|=|<|>)\s*"([^"]*)"')


@dataclass
class Received:
    """An entry, and when it is shown to those who list."""

    entry: LogEntry
    received: float
    shown: float


@dataclass
class LoggingService:
    """The project's entries, and what is to go wrong. ``per_minute``: reads that the quota allows."""

    per_minute: int = 1000
    faults: Faults = field(default_factory=Faults)
    port: int = 0
    public_key: str = ""
    suppress: int = 0  # entries that the tail leaves out, from now on
    cut: threading.Event = field(default_factory=threading.Event)  # streams that are open end with an error
    refused: int = 0  # reads, because the quota was used up
    reads: list[float] = field(default_factory=list)
    filters: list[str] = field(default_factory=list)
    _entries: list[Received] = field(default_factory=list)
    _tails: list[queue.Queue[LogEntry | None]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, payloads: Sequence[dict[str, Any] | str], shown_after: float = 0.0, log: str = "llm-calls") -> None:
        """Receive entries now, one for each payload, shown so much later; copies of a payload are entries of their own."""
        now = time.time()
        with self._lock:
            for payload in payloads:
                number = len(self._entries)
                entry = LogEntry(log_name=f"{PROJECT}/logs/{log}", insert_id=f"id{number:08}")
                entry.resource.type = "global"
                entry.timestamp = entry.receive_timestamp = datetime.fromtimestamp(now, UTC)
                if isinstance(payload, str):
                    entry.text_payload = payload
                else:
                    ParseDict(payload, entry._pb.json_payload)
                self._entries.append(Received(entry, now, now + shown_after))
                for tail in self._tails:
                    tail.put(entry)

    def show_all(self) -> None:
        """Show every entry from now on."""
        with self._lock:
            for one in self._entries:
                one.shown = 0.0

    def _list(self, asked: ListLogEntriesRequest, context: grpc.ServicerContext) -> ListLogEntriesResponse:
        self._admit(context, asked.resource_names)
        self.faults.called("list", context)
        now = time.time()
        with self._lock:
            self.reads = [at for at in self.reads if at > now - 60]
            self.filters.append(asked.filter)
            if len(self.reads) >= self.per_minute:
                self.refused += 1
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "Quota exceeded for quota metric 'Read requests'")
            self.reads.append(now)
            entries = list(self._entries)
        if asked.order_by != "timestamp asc" or not 0 < asked.page_size <= 1000:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "order_by or page_size")
        try:
            comparisons(asked.filter)
            wanted = [one for one in entries if one.shown <= now and matches(one.entry, asked.filter)]
        except ValueError as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"Unparseable filter: {error}")
        wanted.sort(key=lambda one: (one.entry.timestamp, one.entry.insert_id))
        first = int(asked.page_token or 0)
        page = [one.entry for one in wanted[first : first + asked.page_size]]
        more = first + asked.page_size < len(wanted)
        return ListLogEntriesResponse(entries=page, next_page_token=str(first + asked.page_size) if more else "")

    def _tail(self, asked: Iterator[TailLogEntriesRequest], context: grpc.ServicerContext) -> Iterator[TailLogEntriesResponse]:
        request = next(asked)
        self._admit(context, request.resource_names)
        self.faults.called("tail", context)
        mine: queue.Queue[LogEntry | None] = queue.Queue()
        with self._lock:
            self._tails.append(mine)
        self.cut.clear()
        try:
            while context.is_active():
                if self.cut.is_set():
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the stream was cut")
                try:
                    entry = mine.get(timeout=0.1)
                except queue.Empty:
                    continue
                if entry is None or not matches(entry, request.filter):
                    continue
                if self.suppress:
                    self.suppress -= 1
                    told = TailLogEntriesResponse.SuppressionInfo(reason="RATE_LIMIT", suppressed_count=1)
                    yield TailLogEntriesResponse(suppression_info=[told])
                else:
                    yield TailLogEntriesResponse(entries=[entry])
        finally:
            with self._lock:
                self._tails.remove(mine)

    @property
    def tails(self) -> int:
        return len(self._tails)

    def _admit(self, context: grpc.ServicerContext, resources: Sequence[str]) -> None:
        said = dict(context.invocation_metadata()).get("authorization", "")
        try:
            claims = jwt.decode(said.removeprefix("Bearer "), certs=self.public_key)
        except ValueError as error:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"Request had invalid authentication credentials: {error}")
        assert claims["iss"] == "reader@acme.iam.gserviceaccount.com"
        if list(resources) != [PROJECT]:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, f"Permission denied for all log views of {', '.join(resources)}")

    @contextmanager
    def running(self, tls: tuple[str, str], port: int = 0) -> Iterator[LoggingService]:
        methods = {
            "ListLogEntries": unary(self._list, ListLogEntriesRequest, ListLogEntriesResponse.serialize),
            "TailLogEntries": streaming(self._tail, TailLogEntriesRequest, TailLogEntriesResponse.serialize),
        }
        with serving("google.logging.v2.LoggingServiceV2", methods, tls, port) as self.port:
            yield self


def comparisons(given: str) -> list[tuple[str, str, str]]:
    """The part of the service's query language that is asked here: comparisons, all of which must hold."""
    left = re.sub(r"\s|\(|\)|\bAND\b", "", _COMPARISON.sub("", given))
    if left:
        raise ValueError(left)
    return _COMPARISON.findall(given)


def matches(entry: LogEntry, given: str) -> bool:
    times = {"receiveTimestamp": entry.receive_timestamp, "timestamp": entry.timestamp}
    for name, sign, value in comparisons(given):
        if name in times:
            found: Any = datetime.fromtimestamp(times[name].timestamp(), UTC)
            wanted: Any = datetime.fromisoformat(value)
        else:
            found, wanted = {"logName": entry.log_name, "severity": entry.severity.name}[name], value
        if not {">=": found >= wanted, "<": found < wanted, "=": found == wanted, ">": found > wanted, "<=": found <= wanted}[sign]:
            return False
    return True


@dataclass(frozen=True)
class Account:
    """A service account and the certificates of the service, by which clients know each other."""

    file: Path
    public_key: str
    roots: Path
    tls: tuple[str, str]


def new_key() -> tuple[str, str]:
    """A private key and its public one, as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    return private.decode(), public.decode()


def new_account(folder: Path) -> Account:
    private, public = new_key()
    said = {
        "type": "service_account",
        "project_id": "acme",
        "private_key_id": "1",
        "private_key": private,
        "client_email": "reader@acme.iam.gserviceaccount.com",
        "token_uri": "https://localhost/token",
    }
    file, roots, authority = folder / "account.json", folder / "roots.pem", Authority()
    file.write_text(json.dumps(said))
    roots.write_text(authority.certificate)
    return Account(file, public, roots, authority.issue("logging"))
