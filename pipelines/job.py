"""What a run is asked to do, and what it did."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path

from pipelines.feeds import entries
from pipelines.terms import TermsFiles
from sinks.clickhouse import StoreSettings
from sinks.outlet import OutletSettings
from sinks.retention import DEFAULTS, Changed, Retention
from sources import files, kafka, pubsub
from sources.cloud_logging import LoggingSettings
from sources.files import FileLimits
from sources.kafka import KafkaSettings
from sources.pieces import Reader
from sources.pubsub import PubSubSettings
from transforms.count import CountSettings
from transforms.decode import DecodeSettings
from transforms.own import NO_RULES, Rule
from transforms.people import NOBODY, People
from transforms.terms import Terms, Timeline

Service = KafkaSettings | LoggingSettings | PubSubSettings
"""How to read from a service, by the kind of it."""


@dataclass(frozen=True)
class Job:
    """Everything a run needs: ``paths`` of files to read, or ``objects`` of stores, by their addresses, or another ``source``.

    ``list_s``: how often stores are listed, at most, in seconds, while they are followed.

    ``runner`` empty: in this process, in epochs of about ``epoch_bytes`` read.

    ``workers``: processes that read, decode, count and price; 0: as many as the input is worth. ``again``: read also what
    was read before. ``call_s``: the longest call to expect. ``wait_s``: how long to wait for another run on the store to end.
    ``letters``: the topic that dead letters are also sent to.

    ``owners`` are what the files ``rules`` say. ``terms`` are those that the store keeps account of; without any, ``books``,
    ``contracts`` and ``owners`` hold for all calls. A run that follows watches their files if ``watch``; ``lead_s``: see
    ``pipelines.terms``.
    """

    paths: Sequence[Path]
    store: StoreSettings
    limits: FileLimits = field(default_factory=FileLimits)
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    count: CountSettings = field(default_factory=CountSettings)
    books: tuple[Path, ...] = ()
    owners: tuple[Rule, ...] = NO_RULES
    rules: tuple[Path, ...] = ()
    watch: bool = True
    lead_s: float = 30
    terms: Timeline = ()
    default_time: int | None = None
    early_s: int = 10
    lateness_s: int = 86_400
    call_s: int = 120
    runner: str = ""
    runner_options: tuple[str, ...] = ()
    epoch_bytes: int = 512 << 20
    workers: int = 1
    again: bool = False
    wait_s: float = 0
    retention: Retention = DEFAULTS
    people: People = NOBODY
    source: Service | None = None
    letters: OutletSettings | None = None
    objects: tuple[str, ...] = ()
    list_s: float = 60
    contracts: tuple[Path, ...] = ()

    @property
    def named(self) -> str:
        """The input, for a person."""
        named = [str(self.source)] if self.source else [*map(str, self.paths), *self.objects]
        return ", ".join(named[:3]) + (" …" if len(named) > 3 else "")

    @property
    def files(self) -> TermsFiles:
        """Where prices, rules and contracts are written."""
        return TermsFiles(self.books, self.rules, self.contracts)

    @property
    def goes_by(self) -> Timeline:
        """Prices and rules, by the event time from which they hold."""
        return self.terms or (Terms(self.books, self.owners, contracts=self.contracts),)

    @property
    def reader(self) -> Reader:
        """What reads a piece of the input."""
        if isinstance(self.source, KafkaSettings):
            return partial(kafka.read, settings=self.source)
        if isinstance(self.source, LoggingSettings):
            return partial(entries.read, settings=self.source)
        if isinstance(self.source, PubSubSettings):
            return partial(pubsub.read, settings=self.source)
        return partial(files.read, limits=self.limits)

    @property
    def work(self) -> bytes:
        """Stands for the settings that decide which call a record becomes; keys of end users are none of them."""
        own = (self.decode.mappings,) if self.decode.mappings else ()  # a store of before mappings stays as it is
        said = repr((self.decode.tenant, hashlib.sha256(self.count.hash_key).hexdigest(), *own, *self.decode.join.overlap))
        return hashlib.sha256(said.encode()).digest()[:16]


@dataclass(frozen=True)
class Counts:
    """What a run did. ``seconds``: from the first batch to the last write; ``startup_seconds``: before the first batch.

    ``state``: ``done``, or ``stopped`` if it was asked to before ``left_bytes`` of its input were read. ``known_files``, or
    partitions, were read by an earlier run. ``workers``: processes that read and priced. ``expired`` calls, among the
    ``ignored``, are older than calls are kept. ``retention`` is what changed in how long rows are kept.
    """

    run_id: str
    state: str
    records: int
    calls: int
    dead_letters: int
    ignored: int
    bytes: int
    minutes: int
    spend: Decimal
    seconds: float
    startup_seconds: float
    stage_seconds: dict[str, float]
    known_files: int = 0
    left_bytes: int = 0
    workers: int = 1
    expired: int = 0
    retention: tuple[Changed, ...] = ()

    @property
    def calls_per_second(self) -> float:
        return self.calls / self.seconds if self.seconds else 0.0
