"""Settings from their sources: defaults, a configuration file, the environment, the command line.

Later sources win: the default, the configuration file (TOML; ``--config``, else ``LLM_FINOPS_CONFIG``, else
``llm-finops.toml`` in the working folder), environment variables ``LLM_FINOPS_SECTION__KEY``, options of the command
line. An unknown key is refused wherever it stands, and a bad value is named with its origin. Secrets come only from the
environment and are masked in every ``repr``.

``describe`` lists the settings for ``--help`` and for the page that ``python -m pipelines.settings PAGE`` writes.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, get_origin

from pydantic import ValidationError

from pipelines.errors import EXIT_CODES, SettingsError
from pipelines.sections import PREFIX, Settings, allowed, default_text, fields, is_secret, is_shown, section_of, types, variable

FILE_NAME: Final = "llm-finops.toml"
CONFIG_VARIABLE: Final = "LLM_FINOPS_CONFIG"

OTHER_VARIABLES: Final = {
    CONFIG_VARIABLE: "Path of the configuration file.",
    "LLM_FINOPS_SHARED": "Only for the tests of this project: folder of recorded calls and samples.",
}
"""Variables with our prefix that are no setting."""

EXAMPLE: Final = """
[source]
from = ["/var/log/llm/*.jsonl.gz"]
max_record_bytes = "32 MiB"

[store]
to = "https://writer@clickhouse.example:8443/llm_finops"  # the password: LLM_FINOPS_STORE__PASSWORD

[price]
books = ["prices"]
contracts = ["contracts.toml"]
"""


class Setting(NamedTuple):
    """A setting as ``--help`` and the documentation show it."""

    key: str
    type: str
    default: str
    variable: str
    meaning: str


@dataclass(frozen=True)
class _Given:
    """A value somebody set, and where."""

    value: Any
    origin: str


def describe() -> list[Setting]:
    """Every setting in order."""
    return [
        Setting(key, allowed(field), default_text(field), variable(key), field.description or "")
        for key, field in fields().items()
    ]


def option_help(key: str) -> str:
    """Help text of the command-line option for ``key``: meaning, default, variable."""
    setting = next(setting for setting in describe() if setting.key == key)
    return f"{setting.meaning} [default: {setting.default}; env: {setting.variable}]"


def load(
    config: Path | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    folder: Path | None = None,
) -> Settings:
    """Settings from all sources.

    ``flags`` maps keys such as ``store.to`` to values; None stands for an option that was not given. ``environ`` is the
    process's environment if not given, ``folder`` (where ``llm-finops.toml`` is looked for) the working folder.

    Raises:
        SettingsError: the file cannot be read, a key is unknown, or a value is not allowed; one line.
    """
    environ = os.environ if environ is None else environ
    given: dict[str, _Given] = {}
    path = _config_file(config, environ, folder or Path())
    if path is not None:
        given |= _from_file(path)
    given |= _from_environment(environ)
    given |= {key: _Given(value, "the command line") for key, value in (flags or {}).items() if value is not None}
    for key, value in given.items():
        if key not in fields():
            raise _unknown(key, value.origin)
    return _validate(given)


def _config_file(config: Path | None, environ: Mapping[str, str], folder: Path) -> Path | None:
    named = config or (Path(environ[CONFIG_VARIABLE]) if environ.get(CONFIG_VARIABLE) else None)
    if named is not None:
        return named
    usual = folder / FILE_NAME
    return usual if usual.is_file() else None


def _from_file(path: Path) -> dict[str, _Given]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None
    except ValueError as error:  # also text that is not UTF-8
        raise SettingsError(f"{path}: not valid TOML: {error}") from None
    given: dict[str, _Given] = {}
    for section, values in content.items():
        if section not in Settings.model_fields:
            raise _unknown(section if not isinstance(values, dict) else f"[{section}]", str(path))
        if not isinstance(values, dict):
            raise SettingsError(f"{section} in {path} must be a section: write [{section}] and its keys below")
        given |= {f"{section}.{key}": _Given(value, str(path)) for key, value in values.items()}
    for key in given:
        if key in fields() and is_secret(fields()[key]):
            raise SettingsError(f"{key} in {path}: a secret does not belong into a file; set {variable(key)}")
    return given


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    variables = {variable(key): key for key in fields()}
    given: dict[str, _Given] = {}
    for name, value in sorted(environ.items()):
        if not name.startswith(PREFIX) or name in OTHER_VARIABLES:
            continue
        if name not in variables:
            near = difflib.get_close_matches(name, [*variables, *OTHER_VARIABLES], n=1)
            raise SettingsError(f"unknown environment variable {name}{_perhaps(near)}")
        if value:
            given[variables[name]] = _Given(_listed(variables[name], value), f"environment variable {name}")
    return given


def _listed(key: str, value: str) -> Any:
    """A variable that holds a list: items between commas, or a JSON array where an item has a comma."""
    if get_origin(next(types(fields()[key].annotation, ()))[0]) is not tuple:
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except ValueError as error:
            raise SettingsError(f"environment variable {variable(key)}: not a JSON array: {error}") from None
    return [item.strip() for item in value.split(",") if item.strip()]


def _unknown(key: str, origin: str) -> SettingsError:
    if key.startswith("["):
        known: Iterable[str] = [f"[{section}]" for section in Settings.model_fields]
    else:
        known = fields()
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if not near:  # a right key in the wrong section
        near = [other for other in fields() if other.rpartition(".")[2] == key.rpartition(".")[2]][:1]
    return SettingsError(f"unknown key {key} in {origin}{_perhaps(near)}")


def _perhaps(near: list[str]) -> str:
    return f"; did you mean {near[0]}?" if near else "; see docs/configuration.md"


def _validate(given: Mapping[str, _Given]) -> Settings:
    nested: dict[str, dict[str, Any]] = {}
    for key, value in given.items():
        section, _, name = key.partition(".")
        nested.setdefault(section, {})[name] = value.value
    try:
        return Settings.model_validate(nested)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        section, name, *inside = map(str, problem["loc"])
        key = f"{section}.{name}"
        field, value = fields()[key], given[key]
        shown = f" = {_masked(value.value)}" if is_shown(field) else ""
        message = problem["msg"].removeprefix("Value error, ")
        told = ": ".join([".".join(inside), message]) if inside else message
        reason = f" ({told})" if inside or problem["type"] == "value_error" else ""
        raise SettingsError(f"{key}{shown} in {value.origin}: must be {allowed(field)}{reason}") from None


def _masked(value: object) -> str:
    """The value as it was written, less what may be a password before an @."""
    return re.sub(r":.*@", ":***@", repr(value))[:200]


def document() -> str:
    """The page ``docs/configuration.md``."""
    lines = [
        "# Configuration",
        "",
        "This page is made from the code by `make docs`.",
        "",
        "A value is taken from the first of these that has it: an option of the command line, an environment",
        "variable, the configuration file, the default. The file is the one named by `--config` or",
        f"`{CONFIG_VARIABLE}`, else `{FILE_NAME}` in the working folder; relative paths start at the working folder.",
        "A variable that is empty counts as not set; one that holds a list has its items between commas, or is a JSON",
        "array. A size is a number of bytes or has a unit, such as `8 MiB`. An unknown key or variable, or a value",
        "that is not allowed, ends the command with exit code 2 before anything is done.",
        "",
    ]
    for section, holder in Settings.model_fields.items():
        lines += [f"## [{section}]", "", section_of(holder).__doc__ or "", ""]
        lines += ["| key | allowed | default | variable | meaning |", "| --- | --- | --- | --- | --- |"]
        for setting in describe():
            holds, _, name = setting.key.partition(".")
            if holds == section:
                place = "only the variable" if is_secret(fields()[setting.key]) else f"`{name}`"
                lines.append(f"| {place} | {setting.type} | {setting.default} | `{setting.variable}` | {setting.meaning} |")
        lines.append("")
    lines += ["## An example", "", f"`{FILE_NAME}`:", "", "```toml", *EXAMPLE.strip().splitlines(), "```", ""]
    lines += ["## Other variables", "", "| variable | meaning |", "| --- | --- |"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in OTHER_VARIABLES.items()]
    lines += ["", "## Exit codes", "", "| code | meaning |", "| --- | --- |"]
    lines += [f"| {int(code)} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(document(), encoding="utf-8")
