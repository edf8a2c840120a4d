"""From settings to what a run needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipelines.run import Job
from pipelines.sections import Settings
from pipelines.stores import retention_of, store_settings
from sources.files import FileLimits
from sources.kafka import KafkaSettings, parse
from transforms.count import CountSettings
from transforms.decode import DecodeSettings
from transforms.own.files import read_rules
from transforms.people import People


def job_of(settings: Settings, paths: Sequence[Path], again: bool = False, topics: str = "") -> Job:
    """The run that the settings describe, over these files or the topics at this address; ``again``: also over what was read
    before.

    Raises:
        sources.files.SourceError: the address is not one.
    """
    source, windows = settings.source, settings.windows
    return Job(
        paths=paths,
        store=store_settings(settings),
        limits=FileLimits(
            source.max_record_bytes,
            source.max_expansion,
            source.batch_records,
            source.batch_bytes,
            source.split_bytes,
        ),
        decode=DecodeSettings(tenant=settings.decode.tenant, keep_payloads=settings.decode.keep_payloads),
        count=CountSettings(hash_key=settings.count.key, cache_bytes=settings.count.cache_mib << 20),
        books=settings.price.books,
        owners=read_rules(settings.owners.rules),
        default_time=int(source.default_time.timestamp() * 1_000_000) if source.default_time else None,
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
        source=kafka_settings(settings, topics) if topics else None,
    )


def kafka_settings(settings: Settings, address: str) -> KafkaSettings:
    """How to read the topics at ``kafka://brokers/topics``."""
    brokers, topics = parse(address)
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
    )
