"""What must answer: inputs, the store, the topic of dead letters, the port of ``llm-finops serve``."""

from __future__ import annotations

import errno
import os
import socket
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import replace

from pipelines.doctor.findings import Finding, Status
from pipelines.errors import one_line
from pipelines.sections import Settings
from pipelines.show import human_bytes

StoreProbe = Callable[[Settings], str]
"""Asks the store: what it found in one line, or an error whose text says what to do."""


def inputs(settings: Settings) -> list[Finding]:
    """Each input names files, and they can be read; or objects or a service, and who has them lets this user read them."""
    from sources import cloud_logging, kafka, pubsub
    from sources.files import find
    from sources.objects import is_address as is_object

    if not settings.source.from_:
        return [Finding("input", Status.ABSENT, "no input is configured", "set source.from or use --from")]
    findings = []
    for pattern in settings.source.from_:
        if pattern == "-":
            findings.append(Finding("input", Status.OK, "standard input"))
            continue
        services = ((kafka, topics), (cloud_logging, logs), (pubsub, subscription))
        if asked := [ask for kind, ask in services if kind.is_address(pattern)]:
            findings.append(asked[0](settings, pattern))
            continue
        if is_object(pattern):
            findings.append(objects(pattern))
            continue
        try:
            files = find([pattern])
        except Exception as error:  # one input's fault is no other's
            findings.append(Finding("input", Status.FAIL, one_line(error, 200), "name files, folders or globs"))
            continue
        closed = [path for path in files if not os.access(path, os.R_OK)]
        if closed:
            detail = f"{pattern}: {len(closed):,} of {len(files):,} files cannot be read, such as {closed[0]}"
            findings.append(Finding("input", Status.FAIL, detail, "give this user the right to read them"))
        else:
            size = human_bytes(sum(path.stat().st_size for path in files))
            findings.append(Finding("input", Status.OK, f"{pattern}: {len(files):,} files, {size}"))
    return findings


def topics(settings: Settings, address: str) -> Finding:
    """The broker answers, and has the topics."""
    from sources.kafka import Topics

    try:
        from pipelines.jobs import kafka_settings  # which imports Beam: only where there are topics

        wanted = replace(kafka_settings(settings, address), patience_s=min(10, settings.kafka.patience_seconds))
        with Topics(wanted) as known:
            logs = known.logs()
    except Exception as error:  # the client raises anything
        fix = "check the address and the settings of kafka; see docs/kafka.md"
        return Finding("input", Status.FAIL, one_line(error, 300), fix)
    missing = sorted(set(wanted.topics) - {log.topic for log in logs})
    if missing:
        return Finding("input", Status.FAIL, f"{wanted}: no such topic: {', '.join(missing)}", "make the topic, or name another")
    held = sum(log.end - log.first for log in logs)
    return Finding("input", Status.OK, f"{wanted}: {len(logs):,} partitions, {held:,} messages")


def logs(settings: Settings, address: str) -> Finding:
    """Cloud Logging answers, and lets this user read the logs."""
    from sources import cloud_logging

    try:
        from pipelines.jobs import logging_settings

        wanted = replace(logging_settings(settings, address), patience_s=min(10, settings.cloud_logging.patience_seconds))
        cloud_logging.probe(wanted, time.time())
    except Exception as error:
        fix = "check the address, the credentials and the filter; see docs/google-cloud.md"
        return Finding("input", Status.FAIL, one_line(error, 300), fix)
    return Finding("input", Status.OK, f"{wanted}: can be read")


def subscription(settings: Settings, address: str) -> Finding:
    """Pub/Sub answers, and has the subscription."""
    from sources import pubsub

    try:
        from pipelines.jobs import pubsub_settings

        wanted = replace(pubsub_settings(settings, address), patience_s=min(10, settings.pubsub.patience_seconds))
        pubsub.probe(wanted)
    except Exception as error:
        fix = "check the address and the credentials; see docs/google-cloud.md"
        return Finding("input", Status.FAIL, one_line(error, 300), fix)
    return Finding("input", Status.OK, f"{wanted}: is there")


def objects(address: str) -> Finding:
    """The store lets this user list the objects, and read one of them."""
    from sources.objects import look

    try:
        count, size, whole = look(address, patience_s=10)
    except Exception as error:  # the clients raise anything
        return Finding("input", Status.FAIL, one_line(error, 300), "check the address and the rights; see docs/objects.md")
    some = "" if whole else "more than "
    return Finding("input", Status.OK, f"{address}: {some}{count:,} objects, {some}{human_bytes(size)}; the first can be read")


def store(settings: Settings, probe: StoreProbe) -> Finding:
    """The store answers, takes writes, and has tables of this version."""
    try:
        return Finding("store", Status.OK, probe(settings))
    except Exception as error:  # drivers raise anything
        return Finding("store", Status.FAIL, one_line(error, 300), "check store.to, the user and the password")


def dead_letters(settings: Settings) -> Finding:
    """The topic that dead letters are sent to is there, and this user may write to it."""
    if not settings.dead_letters.kafka:
        fix = "set dead_letters.kafka to have them in a topic, too"
        return Finding("dead letters", Status.ABSENT, "are written to the store alone", fix)
    try:
        from pipelines.jobs import letters_topic  # which imports Beam: only where there are topics

        wanted = letters_topic(settings)
        assert wanted is not None
        return Finding("dead letters", Status.OK, replace(wanted, patience_s=min(10, wanted.patience_s)).check())
    except Exception as error:  # the client raises anything
        fix = "check dead_letters.kafka and the settings of kafka; see docs/kafka.md"
        return Finding("dead letters", Status.FAIL, one_line(error, 300), fix)


def serving(settings: Settings, environ: Mapping[str, str]) -> Finding:
    """Whom `llm-finops serve` lets in has a password, and it answers at its port, or the port is free."""
    wanted = settings.serve
    if not wanted.users:
        return Finding("serve", Status.ABSENT, "nobody is named who may log in", "name serve.users; see docs/serve.md")
    unset = [user.password_env for user in wanted.users if user.password_env and not environ.get(user.password_env)]
    if unset:
        return Finding("serve", Status.FAIL, f"no password: {', '.join(unset)} not set", "set what serve.users name")
    six = ":" in wanted.host
    where = f"[{wanted.host}]:{wanted.port}" if six else f"{wanted.host}:{wanted.port}"
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((wanted.host, wanted.port))
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            if taken and _pings(where):
                return Finding("serve", Status.OK, f"answers at {where}")
            said = "taken by another program" if taken else error.strerror or str(error)
            return Finding("serve", Status.FAIL, f"{where}: {said}", "choose another serve.host or serve.port")
    return Finding("serve", Status.OK, f"{where} is free, {len(wanted.users):,} users")


def _pings(where: str) -> bool:
    """Whether something answers there as ClickHouse does."""
    try:
        with urllib.request.urlopen(f"http://{where}/ping", timeout=5) as answer:
            return bool(answer.read(16).strip() == b"Ok.")
    except OSError:
        return False
