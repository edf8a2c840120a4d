"""From settings to what a run needs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from pathlib import Path

from pipelines.job import Job, Service
from pipelines.mappings import read_mappings
from pipelines.sections import Settings
from pipelines.stores import retention_of, store_settings
from sinks.outlet import OutletSettings
from sources import cloud_logging, kafka, pubsub
from sources.cloud_logging import LoggingSettings
from sources.files import FileLimits
from sources.kafka import KafkaSettings
from sources.kafka.clients import connected, why
from sources.pubsub import PubSubSettings
from transforms.count import CountSettings
from transforms.decode import DecodeSettings, JoinSettings, named_tag
from transforms.own.files import read_rules
from transforms.people import People


def job_of(
    settings: Settings, paths: Sequence[Path], again: bool = False, service: str = "", objects: Sequence[str] = ()
) -> Job:
    """The run that the settings describe, over these files, objects, or what is at the address of a ``service``.

    ``again``: also over what was read before.

    Raises:
        sources.files.SourceError: the address is not one.
    """
    source, windows = settings.source, settings.windows
    return Job(
        paths=paths,
        store=store_settings(settings),
        limits=limits_of(settings),
        decode=decode_settings(settings),
        count=CountSettings(hash_key=settings.count.key, cache_bytes=settings.count.cache_mib << 20),
        books=settings.price.books,
        contracts=settings.price.contracts,
        owners=read_rules(settings.owners.rules),
        rules=settings.owners.rules,
        watch=settings.terms.watch,
        lead_s=settings.terms.lead_seconds,
        default_time=_micros(source.default_time),
        early_s=windows.early_seconds,
        lateness_s=windows.late_hours * 3600,
        call_s=windows.expected_call_seconds,
        runner="" if settings.runner.name == "local" else settings.runner.name,
        runner_options=settings.runner.options,
        epoch_bytes=settings.runner.epoch_bytes,
        workers=settings.runner.workers,
        again=again,
        retention=retention_of(settings),
        people=People(settings.privacy.keys),
        wait_s=settings.runner.wait_seconds,
        source=service_settings(settings, service) if service else None,
        letters=letters_topic(settings),
        objects=tuple(objects),
        list_s=source.list_seconds,
    )


def limits_of(settings: Settings) -> FileLimits:
    """How much of a hostile file is taken in."""
    source = settings.source
    return FileLimits(
        source.max_record_bytes,
        source.max_expansion,
        source.batch_records,
        source.batch_bytes,
        source.split_bytes,
    )


def decode_settings(settings: Settings) -> DecodeSettings:
    """How records are understood.

    Raises:
        transforms.decode.mapping_files.MappingError: a file of mappings cannot be read, or says something that is wrong.
    """
    given = settings.decode
    return DecodeSettings(
        tenant=given.tenant,
        keep_payloads=given.keep_payloads,
        tags=tuple(map(named_tag, given.tags)),
        mappings=read_mappings(given.mappings),
        join=JoinSettings(settings.join.wait_seconds, settings.join.overlap, settings.join.max_bytes),
    )


def is_service(address: str) -> bool:
    """Whether an input names topics, logs or a subscription of a service rather than files."""
    return any(kind.is_address(address) for kind in (kafka, cloud_logging, pubsub))


def service_settings(settings: Settings, address: str) -> Service:
    """How to read what is at an address.

    Raises:
        sources.files.SourceError: it is not one.
    """
    if kafka.is_address(address):
        return kafka_settings(settings, address)
    if cloud_logging.is_address(address):
        return logging_settings(settings, address)
    return pubsub_settings(settings, address)


def logging_settings(settings: Settings, address: str) -> LoggingSettings:
    """How to read the logs at ``logging://resources``."""
    given, source = settings.cloud_logging, settings.source
    return LoggingSettings(
        cloud_logging.parse(address),
        given.filter,
        _micros(given.start),
        _micros(given.until),
        given.sweep_seconds,
        given.overlap_seconds,
        given.reads_per_minute,
        given.tail,
        given.endpoint,
        source.max_record_bytes,
        source.batch_records,
        source.batch_bytes,
        given.patience_seconds,
    )


def pubsub_settings(settings: Settings, address: str) -> PubSubSettings:
    """How to read the subscription at ``pubsub://projects/P/subscriptions/S``."""
    given, source = settings.pubsub, settings.source
    return PubSubSettings(
        pubsub.parse(address),
        given.max_messages,
        given.max_bytes,
        source.max_record_bytes,
        source.batch_records,
        source.batch_bytes,
        given.patience_seconds,
    )


def _micros(time: datetime | None) -> int | None:
    return int(time.timestamp() * 1_000_000) if time else None


def letters_topic(settings: Settings) -> OutletSettings | None:
    """The topic that dead letters are sent to, if there is one."""
    if not settings.dead_letters.kafka:
        return None
    known = kafka_settings(settings, settings.dead_letters.kafka)
    (topic,) = known.topics
    return OutletSettings(str(known), topic, partial(connected, known), partial(why, known), known.patience_s)


def kafka_settings(settings: Settings, address: str) -> KafkaSettings:
    """How to read the topics at ``kafka://brokers/topics``."""
    brokers, topics = kafka.parse(address)
    given, source = settings.kafka, settings.source
    return KafkaSettings(
        brokers,
        topics,
        given.group,
        given.begin,
        given.security,
        given.mechanism,
        given.user,
        given.ca,
        given.certificate,
        given.key,
        given.check_host,
        source.max_record_bytes,
        source.batch_records,
        source.batch_bytes,
        given.patience_seconds,
        given.end,
        given.registry,
        given.registry_user,
        given.registry_ca,
        given.registry_certificate,
        given.registry_key,
    )
